//! What a certificate file says of itself (RFC 5280), for a check before callers find out: read from DER by hand, as far
//! as dates and names go. Whether it may be trusted is the other side's judgement.

use std::sync::Arc;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, InconsistentKeys, crypto};

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
        let (certificate, _) = element(der, 0x30)?;
        let (mut rest, _) = element(certificate, 0x30)?;
        if rest.first() == Some(&0xA0) {
            rest = element(rest, 0xA0)?.1; // version
        }
        rest = element(rest, 0x02)?.1; // serial number
        rest = element(rest, 0x30)?.1; // algorithm
        let (issuer, after) = element(rest, 0x30)?;
        let (validity, after) = element(after, 0x30)?;
        let (subject, after) = element(after, 0x30)?;
        let (_key, mut after) = element(after, 0x30)?;
        let (not_before, second) = moment(validity)?;
        let (not_after, _) = moment(second)?;
        let mut names = Vec::new();
        while let Some((&tag, _)) = after.split_first() {
            let (inner, next) = element(after, tag)?;
            if tag == 0xA3 {
                names = alternative_names(element(inner, 0x30)?.0).unwrap_or_default();
            }
            after = next;
        }
        if names.is_empty() {
            names.extend(common_name(subject));
        }
        Some(Certificate { not_before, not_after, names, subject: subject.to_vec(), issuer: issuer.to_vec() })
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

/// Content of the element at the beginning, which must have this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.split_first()?;
    if first != tag {
        return None;
    }
    let (&short, mut rest) = rest.split_first()?;
    let length = match short {
        0..=0x7F => usize::from(short),
        0x81..=0x83 => {
            let (bytes, after) = rest.split_at_checked(usize::from(short & 0x0F))?;
            rest = after;
            bytes.iter().fold(0, |n, b| (n << 8) | usize::from(*b))
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// A UTCTime or GeneralizedTime at the beginning, in seconds since 1970, and what follows (RFC 5280, 4.1.2.5).
fn moment(der: &[u8]) -> Option<(i64, &[u8])> {
    let &tag = der.first()?;
    let (text, rest) = element(der, tag)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, text) = match tag {
        0x17 => {
            let (year, text) = text.split_at_checked(2)?;
            let year: i32 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text)
        }
        0x18 => {
            let (year, text) = text.split_at_checked(4)?;
            (year.parse().ok()?, text)
        }
        _ => return None,
    };
    let pair = |n: usize| text.get(n * 2..n * 2 + 2).and_then(|t| t.parse::<u8>().ok());
    let month = time::Month::try_from(pair(0)?).ok()?;
    let date = time::Date::from_calendar_date(year, month, pair(1)?).ok()?;
    let at = date.with_hms(pair(2)?, pair(3)?, pair(4)?).ok()?.assume_utc();
    Some((at.unix_timestamp(), rest))
}

/// Names of the extension 2.5.29.17.
fn alternative_names(mut extensions: &[u8]) -> Option<Vec<String>> {
    const OID: [u8; 3] = [0x55, 0x1D, 0x11];
    while !extensions.is_empty() {
        let (extension, next) = element(extensions, 0x30)?;
        extensions = next;
        let (oid, mut value) = element(extension, 0x06)?;
        if oid != OID {
            continue;
        }
        if value.first() == Some(&0x01) {
            value = element(value, 0x01)?.1; // critical
        }
        let (mut list, _) = element(element(value, 0x04)?.0, 0x30)?;
        let mut names = Vec::new();
        while let Some(&tag) = list.first() {
            let (name, next) = element(list, tag)?;
            list = next;
            match (tag, name.len()) {
                (0x82, _) => names.extend(std::str::from_utf8(name).ok().map(str::to_owned)),
                (0x87, 4) => {
                    names.extend(<[u8; 4]>::try_from(name).ok().map(|ip| std::net::IpAddr::from(ip).to_string()))
                }
                (0x87, 16) => {
                    names.extend(<[u8; 16]>::try_from(name).ok().map(|ip| std::net::IpAddr::from(ip).to_string()))
                }
                _ => {}
            }
        }
        return Some(names);
    }
    None
}

/// The attribute 2.5.4.3 of a name.
fn common_name(mut subject: &[u8]) -> Option<String> {
    while !subject.is_empty() {
        let (set, next) = element(subject, 0x31)?;
        subject = next;
        let (pair, _) = element(set, 0x30)?;
        let (oid, value) = element(pair, 0x06)?;
        if oid == [0x55, 0x04, 0x03] {
            let text = element(value, *value.first()?)?.0;
            return std::str::from_utf8(text).ok().map(str::to_owned);
        }
    }
    None
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
