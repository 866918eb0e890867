//! What a certificate file says of itself (RFC 5280), for a check before callers find out: its dates and names. Whether
//! it may be trusted is the other side's judgement.

use std::net::IpAddr;
use std::sync::Arc;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, InconsistentKeys, crypto};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What stands in one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// First second in which it holds, since 1970 UTC.
    pub not_before: i64,
    /// Last second in which it holds, since 1970 UTC.
    pub not_after: i64,
    /// Host names and addresses it is for: subject alternative names, else the common name.
    pub names: Vec<String>,
    /// Who it is for and who signed it, in DER.
    subject: Vec<u8>,
    issuer: Vec<u8>,
}

/// A chain and its key, judged together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The certificates in the order of the file.
    pub certificates: Vec<Certificate>,
    /// Whether the key belongs to the first; none if the kind of key does not tell.
    pub key_fits: Option<bool>,
}

/// Why a chain cannot be used at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The certificate file is no PEM with a certificate in it.
    #[error("no certificate in PEM form in it")]
    NoCertificate,
    /// A certificate in it is broken: the number says which, from 1.
    #[error("certificate {0} in it cannot be read")]
    Broken(usize),
    /// The key file holds no usable private key.
    #[error("no usable private key in PEM form in it: {0}")]
    NoKey(String),
}

impl Certificate {
    /// Reads DER.
    pub fn read(der: &[u8]) -> Option<Certificate> {
        let (_, read) = X509Certificate::from_der(der).ok()?;
        let alternative = read.subject_alternative_name().ok().flatten();
        let names = alternative.into_iter().flat_map(|names| &names.value.general_names);
        let mut names: Vec<String> = names.filter_map(name_of).collect();
        if names.is_empty() {
            let common = read.subject().iter_common_name().next();
            names.extend(common.and_then(|name| name.as_str().ok()).map(str::to_owned));
        }
        Some(Certificate {
            not_before: read.validity().not_before.timestamp(),
            not_after: read.validity().not_after.timestamp(),
            names,
            subject: read.subject().as_raw().to_vec(),
            issuer: read.issuer().as_raw().to_vec(),
        })
    }

    /// Whether it was signed by its own key, as far as the names tell.
    pub fn is_self_signed(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whole days that it still holds at `now` (seconds since 1970); negative when it is over.
    pub fn days_left(&self, now: i64) -> i64 {
        (self.not_after - now).div_euclid(86_400)
    }

    /// Whether it is for this host: a name, with `*` for one label, or an address.
    pub fn covers(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.names.iter().any(|name| {
            let name = name.to_ascii_lowercase();
            name == host
                || name.strip_prefix("*.").is_some_and(|n| host.split_once('.').is_some_and(|(_, rest)| rest == n))
        })
    }
}

impl Chain {
    /// Reads both files' contents.
    pub fn read(certificates: &[u8], key: &[u8]) -> Result<Chain, CertificateError> {
        let ders: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(certificates).filter_map(Result::ok).collect();
        if ders.is_empty() {
            return Err(CertificateError::NoCertificate);
        }
        let mut read = Vec::new();
        for (n, der) in ders.iter().enumerate() {
            read.push(Certificate::read(der).ok_or(CertificateError::Broken(n + 1))?);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| CertificateError::NoKey(e.to_string()))?;
        let signer =
            crypto::ring::sign::any_supported_type(&key).map_err(|e| CertificateError::NoKey(e.to_string()))?;
        let key_fits = match CertifiedKey::new(ders, Arc::clone(&signer)).keys_match() {
            Ok(()) => Some(true),
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Some(false),
            Err(_) => None,
        };
        Ok(Chain { certificates: read, key_fits })
    }

    /// Each certificate after the first signs the one before it. Else the number, from 1, of the first out of order.
    pub fn out_of_order(&self) -> Option<usize> {
        self.certificates
            .windows(2)
            .position(|pair| match pair {
                [this, next] => this.issuer != next.subject,
                _ => false,
            })
            .map(|n| n + 2)
    }
}

/// A host name or an address; the other kinds name no server.
fn name_of(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from).ok();
            v4.or_else(|| <[u8; 16]>::try_from(*bytes).map(IpAddr::from).ok()).map(|ip| ip.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, CertifiedIssuer, KeyPair, date_time_ymd};

    fn made(names: &[&str], until: (i32, u8, u8)) -> (String, String, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names.iter().map(|n| (*n).to_string()).collect::<Vec<_>>()).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem(), certificate.der().to_vec())
    }

    #[test]
    fn dates_names_and_key_are_read() {
        let (pem, key, _) = made(&["pbx.example.com", "*.lines.example.com", "192.0.2.7"], (2031, 5, 4));
        let chain = Chain::read(pem.as_bytes(), key.as_bytes()).unwrap();
        let first = &chain.certificates[0];
        assert_eq!(chain.key_fits, Some(true));
        assert_eq!(first.days_left(date_time_ymd(2031, 4, 4).unix_timestamp()), 30);
        assert!(first.days_left(date_time_ymd(2031, 5, 5).unix_timestamp()) < 0);
        assert!(first.covers("PBX.example.com") && first.covers("a.lines.example.com") && first.covers("192.0.2.7"));
        assert!(!first.covers("a.b.lines.example.com") && !first.covers("example.com"));
        assert!(first.is_self_signed() && chain.out_of_order().is_none());
    }

    #[test]
    fn somebody_elses_key_does_not_fit() {
        let ((pem, _, _), (_, key, _)) = (made(&["a.example"], (2031, 1, 1)), made(&["b.example"], (2031, 1, 1)));
        assert_eq!(Chain::read(pem.as_bytes(), key.as_bytes()).unwrap().key_fits, Some(false));
        assert_eq!(Chain::read(b"", key.as_bytes()), Err(CertificateError::NoCertificate));
        assert!(matches!(Chain::read(pem.as_bytes(), b"x"), Err(CertificateError::NoKey(_))));
    }

    #[test]
    fn a_chain_in_the_wrong_order_is_seen() {
        let mut root = CertificateParams::new(Vec::new()).unwrap();
        root.distinguished_name.push(rcgen::DnType::CommonName, "the root");
        root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["pbx.example.com".into()]).unwrap().signed_by(&key, &root).unwrap();
        let (leaf, root) = (leaf.pem(), root.pem());
        let right = Chain::read(format!("{leaf}{root}").as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        assert_eq!((right.out_of_order(), right.key_fits), (None, Some(true)));
        let stranger = made(&["x.example"], (2031, 1, 1)).0;
        let wrong = Chain::read(format!("{leaf}{stranger}").as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        assert_eq!(wrong.out_of_order(), Some(2));
        assert!(!right.certificates[0].is_self_signed() && right.certificates[1].is_self_signed());
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _nothing_to_say = Certificate::read(&bytes);
        }

        #[test]
        fn no_changed_byte_breaks_the_reader(at in 0usize..400, byte in any::<u8>()) {
            let mut der = made(&["a.example"], (2031, 1, 1)).2;
            if let Some(b) = der.get_mut(at) {
                *b = byte;
            }
            let _nothing_to_say = Certificate::read(&der);
        }
    }
}
