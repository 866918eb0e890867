//! Who we are to browsers: a certificate of our own, known by its fingerprint in our descriptions (RFC 8122).

use rtc::crypto::{HashAlgorithm, RTCCryptoProvider, default_provider};
use rtc::dtls::crypto::Certificate;
use std::sync::Arc;
use std::time::Instant;

use crate::clock::Mono;

/// Letters that names and passwords of ICE are made of (RFC 8839, 5.4), 64 of them.
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A certificate for the life of the program, and the system's randomness behind the keys made with it.
pub struct Identity {
    pub(super) certificate: Certificate,
    pub(super) crypto: Arc<dyn RTCCryptoProvider>,
    /// SHA-256 of the certificate, as `AB:CD:...`.
    pub(super) fingerprint: String,
    /// One moment on both clocks: the DTLS library counts in the system's.
    anchor: (Mono, Instant),
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.fingerprint)
    }
}

/// Name and password of one side of an ICE session.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `a=ice-ufrag`.
    pub ufrag: String,
    /// `a=ice-pwd`.
    pub pwd: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.ufrag)
    }
}

impl Identity {
    /// Makes a certificate. `anchor` is one moment on our clock and on the system's.
    ///
    /// # Errors
    ///
    /// In words, when the system gives no randomness or no key.
    pub fn new(anchor: (Mono, Instant)) -> Result<Identity, String> {
        let crypto = default_provider().map_err(|e| e.to_string())?;
        let certificate = Certificate::generate_self_signed(["zongji".to_owned()], crypto.crypto())
            .map_err(|e| format!("no certificate for browsers: {e}"))?;
        let der = certificate.certificate.first().map(|c| c.as_ref().to_vec()).unwrap_or_default();
        let fingerprint = fingerprint_of(&*crypto, &der).ok_or("no SHA-256 for the certificate of browser legs")?;
        Ok(Identity { certificate, crypto, fingerprint, anchor })
    }

    /// A moment on the system's clock.
    pub(super) fn instant(&self, at: Mono) -> Instant {
        self.anchor.1 + at.since(self.anchor.0)
    }

    /// A name and a password nobody can guess (48 and 144 bits).
    pub(super) fn credentials(&self) -> Credentials {
        Credentials { ufrag: self.letters(8), pwd: self.letters(24) }
    }

    /// A number nobody can guess.
    pub(super) fn number(&self) -> u64 {
        let mut bytes = [0; 8];
        // Only fails where the system has no randomness at all; `new` would have failed there.
        let _made_sure_of_in_new = self.crypto.random().fill(&mut bytes);
        u64::from_ne_bytes(bytes)
    }

    fn letters(&self, count: usize) -> String {
        let mut bytes = vec![0; count];
        let _made_sure_of_in_new = self.crypto.random().fill(&mut bytes);
        bytes.iter().map(|b| char::from(ICE_CHARS[usize::from(b % 64)])).collect()
    }
}

/// SHA-256 of a certificate, as descriptions write it.
pub(super) fn fingerprint_of(crypto: &dyn RTCCryptoProvider, der: &[u8]) -> Option<String> {
    let hash = crypto.crypto().hash(HashAlgorithm::Sha256, der).ok()?;
    Some(hash.iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::sdp::{Capabilities, Codec, Direction, Srtp};
    use std::net::SocketAddr;

    /// What an end at this address can do.
    pub(in crate::browser) fn caps(at: SocketAddr) -> Capabilities {
        Capabilities {
            addr: at.ip(),
            port: at.port(),
            rtcp_port: at.port() + 1,
            codecs: vec![Codec::Pcma],
            telephone_event: true,
            dtx: false,
            direction: Direction::SendRecv,
            session_id: 1,
            session_version: 1,
            srtp: Srtp::off(),
        }
    }

    /// An identity whose clocks agree that it is second 100.
    #[allow(clippy::disallowed_methods)] // the library counts in this clock; what is measured is only differences
    pub(in crate::browser) fn identity() -> Arc<Identity> {
        Arc::new(Identity::new((Mono::from_ms(100_000), Instant::now())).expect("a certificate"))
    }

    #[test]
    fn names_and_passwords_are_long_enough_and_never_the_same() {
        let identity = identity();
        let (a, b) = (identity.credentials(), identity.credentials());
        assert_ne!(a, b);
        assert_eq!((a.ufrag.len(), a.pwd.len()), (8, 24));
        assert!(a.pwd.bytes().all(|c| ICE_CHARS.contains(&c)));
        assert!(!format!("{a:?}").contains(&a.pwd), "a password is never printed");
    }

    #[test]
    fn the_fingerprint_is_sha_256_in_pairs_of_digits() {
        let identity = identity();
        let pairs: Vec<&str> = identity.fingerprint.split(':').collect();
        assert_eq!(pairs.len(), 32);
        assert!(pairs.iter().all(|p| p.len() == 2 && u8::from_str_radix(p, 16).is_ok()));
    }
}
