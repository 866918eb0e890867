//! The DTLS association of a leg (RFC 6347, RFC 5764): made for its keys, proved by the fingerprint of the description.

use super::identity::{Identity, fingerprint_of};
use super::srtp::{PROFILES, Srtp};
use super::{Dropped, THROUGH};
use crate::clock::Mono;
use bytes::BytesMut;
use rtc::dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::shared::TransportProtocol;
use rtc::shared::error::Error;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// An unanswered flight is sent again after this.
const FLIGHT: Duration = Duration::from_millis(250);
/// A handshake that is not done after this is begun anew.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How often it is begun, so that nobody makes us do it for ever.
const MAX_HANDSHAKES: u32 = 8;
/// Datagrams that one handshake may take: the library keeps what it cannot read yet.
const MAX_DATAGRAMS: u32 = 200;
/// Datagrams kept until there is an address to send them to.
const MAX_WAITING: usize = 16;
/// Longest message that goes unfragmented: WireGuard, PPPoE and TURN take their share of 1500.
const MTU: usize = 1200;

/// One association. The library tells associations by address; ours is told by being this leg's, and so may move.
pub(super) struct Dtls {
    identity: Arc<Identity>,
    config: Arc<HandshakeConfig>,
    is_client: bool,
    endpoint: Endpoint,
    /// When the handshake under way began.
    begun: Option<Mono>,
    handshakes: u32,
    datagrams: u32,
    /// It has given keys, once at least.
    keyed: bool,
    done: bool,
}

impl std::fmt::Debug for Dtls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let role = if self.is_client { "client" } else { "server" };
        write!(f, "Dtls({role}, done: {})", self.done)
    }
}

impl Dtls {
    /// An association with whoever owns the certificate of one of these SHA-256 fingerprints.
    pub fn new(identity: Arc<Identity>, is_client: bool, fingerprints: &[String]) -> Option<Dtls> {
        let (crypto, wanted) = (identity.crypto.clone(), fingerprints.to_vec());
        let verify = move |certificates: &[Vec<u8>], _: &[_]| {
            let shown = certificates.first().and_then(|der| fingerprint_of(&*crypto, der));
            match shown.is_some_and(|f| wanted.iter().any(|w| w.eq_ignore_ascii_case(&f))) {
                true => Ok(()),
                false => Err(Error::ErrNoMatchingCertificateFingerprint),
            }
        };
        let config = ConfigBuilder::default()
            .with_crypto_provider(identity.crypto.clone())
            .with_certificates(vec![identity.certificate.clone()])
            .with_srtp_protection_profiles(PROFILES.to_vec())
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_insecure_skip_verify(true) // of chains: the fingerprint is what is verified
            .with_verify_peer_certificate(Some(Arc::new(verify)))
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .with_flight_interval(FLIGHT)
            .with_mtu(MTU)
            .build(is_client, None)
            .ok()?;
        let config = Arc::new(config);
        let server = (!is_client).then(|| config.clone());
        let endpoint = Endpoint::new(THROUGH, TransportProtocol::UDP, server);
        let (begun, handshakes, datagrams) = (None, 0, 0);
        Some(Dtls { identity, config, is_client, endpoint, begun, handshakes, datagrams, keyed: false, done: false })
    }

    /// As client, says hello once there is somebody to say it to.
    pub fn begin(&mut self, now: Mono) {
        if self.is_client && self.begun.is_none() && !self.done && self.handshakes < MAX_HANDSHAKES {
            self.handshakes += 1;
            (self.begun, self.datagrams) = (Some(now), 0);
            // It fails without a certificate or a cipher, which were there when the configuration was built.
            let _made_sure_of_in_new =
                self.endpoint.connect(self.identity.instant(now), THROUGH, self.config.clone(), None);
        }
    }

    /// Whether it waits for the peer's first hello, or its repetition.
    pub fn awaits_hello(&self) -> bool {
        !self.is_client && !self.keyed
    }

    /// Takes a datagram; gives the keys when it was the handshake's last.
    pub fn receive(&mut self, now: Mono, datagram: &[u8]) -> Result<Option<Srtp>, Dropped> {
        if !is_sound(datagram) || self.is_client && self.begun.is_none() && !self.done {
            return Err(Dropped::Handshake); // of the second kind: nothing was asked yet
        }
        if !self.done {
            if self.begun.is_none() {
                if self.handshakes >= MAX_HANDSHAKES || !is_hello(datagram) {
                    return Err(Dropped::Handshake);
                }
                self.handshakes += 1;
                (self.begun, self.datagrams) = (Some(now), 0);
            }
            self.datagrams += 1;
            if self.datagrams > MAX_DATAGRAMS {
                return Err(Dropped::Handshake);
            }
        }
        let at = self.identity.instant(now);
        let events = self.endpoint.read(at, THROUGH, None, BytesMut::from(datagram));
        let mut keys = None;
        for event in events.map_err(|_| Dropped::Handshake)? {
            match event {
                EndpointEvent::HandshakeComplete => {
                    let state = self.endpoint.get_connection_state(THROUGH);
                    keys = state.and_then(|s| Srtp::from_handshake(s, self.identity.clone()));
                    (self.done, self.begun) = (keys.is_some(), None);
                    self.keyed |= self.done;
                }
                // Its keys stay good: a call ends by its signalling. Another handshake may follow, of its own.
                EndpointEvent::PeerClosed if self.keyed => (self.done, self.begun) = (self.is_client, None),
                _ => {} // there is no application data in DTLS-SRTP
            }
        }
        Ok(keys)
    }

    /// Repeats what went unanswered; begins anew what is stuck.
    pub fn timeout(&mut self, now: Mono) {
        let at = self.identity.instant(now);
        if self.endpoint.poll_timeout(&THROUGH).is_some_and(|due| due <= at) {
            let _too_often_already = self.endpoint.handle_timeout(THROUGH, at);
        }
        if self.begun.is_some_and(|b| now.since(b) >= HANDSHAKE) {
            self.endpoint.stop(at, THROUGH);
            while self.endpoint.poll_transmit().is_some() {} // no farewell: the peer may be in the middle of it
            self.begun = None;
            self.begin(now);
        }
    }

    /// Moves what is to be sent to a queue, from which the oldest falls out: while there is nobody to send to it is
    /// repeated anyway. Whether there was anything.
    pub fn hand_out(&mut self, waiting: &mut VecDeque<BytesMut>) -> bool {
        let mut any = false;
        while let Some(datagram) = self.endpoint.poll_transmit().map(|t| t.message) {
            if waiting.len() >= MAX_WAITING {
                waiting.pop_front();
            }
            waiting.push_back(datagram);
            any = true;
        }
        any
    }
}

const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Bytes before a record's content (RFC 6347, 4.1).
const RECORD_HEADER: usize = 13;

/// Whether a datagram may be shown to the library. In the clear anybody can write what he likes, and alerts and data in the
/// clear would end an association, or make it end the peer's: nothing but a handshake needs to be (RFC 6347, 4.1.2.7).
fn is_sound(datagram: &[u8]) -> bool {
    let (mut rest, mut some) = (datagram, false);
    while let Some((header, after)) = rest.split_at_checked(RECORD_HEADER) {
        let &[kind, _, _, epoch_high, epoch_low, .., high, low] = header else { return false };
        let Some((content, next)) = after.split_at_checked(usize::from(u16::from_be_bytes([high, low]))) else {
            return false;
        };
        let in_the_clear = (epoch_high, epoch_low) == (0, 0);
        let harmless = kind == HANDSHAKE_RECORD || kind == CHANGE_CIPHER_SPEC && content == [1];
        if in_the_clear && !harmless {
            return false;
        }
        (rest, some) = (next, true);
    }
    some && rest.is_empty()
}

/// Whether a datagram begins with a client's hello, in the clear.
pub(super) fn is_hello(datagram: &[u8]) -> bool {
    let head = (datagram.first(), datagram.get(3..5), datagram.get(RECORD_HEADER));
    head == (Some(&HANDSHAKE_RECORD), Some(&[0, 0]), Some(&CLIENT_HELLO))
}
