//! Digest authentication of those who ask us (RFC 3261 section 22, RFC 8760 for SHA-256).
//!
//! A nonce is made of time, chance and a keyed hash over both and the asker's address: nothing is stored until
//! a right answer comes back, and then only the highest count seen for it.

use super::uri::SipUri;
use super::wire::split_outside;
use crate::clock::Mono;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;
use std::collections::HashMap;
use std::net::IpAddr;

/// A nonce is good this long, ms.
const NONCE_MS: u64 = 60_000;
/// Nonces whose count is remembered.
const MAX_NONCES: usize = 16_384;

/// Judgement of an Authorization header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proof {
    /// The user proved the password.
    Right(String),
    /// The password is right but the nonce is used up or old: challenge again with `stale=true`.
    Stale,
    /// Nothing usable, wrong user or wrong password.
    Wrong,
}

/// Makes challenges and checks answers.
pub(super) struct Digester {
    key: [u8; 32],
    realm: String,
    counts: HashMap<String, (u32, Mono)>,
}

impl Digester {
    /// `key` must be secret and new with each start.
    pub fn new(key: [u8; 32], realm: String) -> Digester {
        let realm = realm.replace(['"', '\\', '\r', '\n'], "");
        Digester { key, realm, counts: HashMap::new() }
    }

    /// The two values that challenge (WWW-Authenticate of a 401, Proxy-Authenticate of a 407), the stronger first.
    /// `random` makes nonces differ.
    pub fn challenge(&self, source: IpAddr, now: Mono, random: u64, stale: bool) -> [String; 2] {
        let nonce = self.nonce(source, now.as_ms(), random);
        let stale = if stale { ", stale=true" } else { "" };
        ["SHA-256", "MD5"].map(|algorithm| {
            format!("Digest realm=\"{}\", nonce=\"{nonce}\", qop=\"auth\", algorithm={algorithm}{stale}", self.realm)
        })
    }

    fn nonce(&self, source: IpAddr, ms: u64, random: u64) -> String {
        let head = format!("{ms:012x}{random:016x}");
        let mut mac = match <Hmac<Sha256> as KeyInit>::new_from_slice(&self.key) {
            Ok(mac) => mac,
            Err(_) => return String::new(), // no length of key is wrong for HMAC
        };
        mac.update(head.as_bytes());
        mac.update(source.to_string().as_bytes());
        let tag = mac.finalize().into_bytes();
        format!("{head}{}", hex(&tag[..16]))
    }

    /// Whether we made this nonce for this source, and whether it is still fresh.
    fn known(&self, nonce: &str, source: IpAddr, now: Mono) -> Option<bool> {
        let ms = u64::from_str_radix(nonce.get(..12)?, 16).ok()?;
        let random = u64::from_str_radix(nonce.get(12..28)?, 16).ok()?;
        let ours = self.nonce(source, ms, random);
        same(ours.as_bytes(), nonce.as_bytes()).then(|| now.as_ms().saturating_sub(ms) <= NONCE_MS)
    }

    /// Checks an Authorization value for a request (its method and Request-URI). `password` gives a user's password;
    /// the work is the same for one nobody has.
    pub fn check(
        &mut self,
        header: &str,
        (method, request_uri): (&str, &str),
        source: IpAddr,
        now: Mono,
        password: impl Fn(&str) -> Option<String>,
    ) -> Proof {
        let Some(fields) = fields(header) else { return Proof::Wrong };
        let get = |n: &str| fields.get(n).map(String::as_str).unwrap_or_default();
        let (user, nonce, nc) = (get("username"), get("nonce"), get("nc"));
        let known = password(user);
        let secret = known.clone().unwrap_or_else(|| "no such user".into());
        let algorithm = if get("algorithm").is_empty() { "MD5" } else { get("algorithm") };
        let Some(hash) = hasher(algorithm) else { return Proof::Wrong };
        let a1 = hash(&format!("{user}:{}:{secret}", self.realm));
        let a2 = hash(&format!("{method}:{}", get("uri")));
        let want = hash(&format!("{a1}:{nonce}:{nc}:{}:auth:{a2}", get("cnonce")));
        let right = same(want.as_bytes(), get("response").to_ascii_lowercase().as_bytes());
        let fits = get("realm") == self.realm
            && get("qop") == "auth"
            && !get("cnonce").is_empty()
            && same_resource(get("uri"), request_uri);
        let fresh = self.known(nonce, source, now);
        if !(right && known.is_some() && fits) {
            return Proof::Wrong;
        }
        let Some(count) = u32::from_str_radix(nc, 16).ok().filter(|_| nc.len() == 8) else { return Proof::Wrong };
        match fresh {
            Some(true) if self.rises(nonce, count, now) => Proof::Right(user.to_string()),
            // Not our nonce, too old, or a count seen before: a replay gets nothing but a new challenge.
            _ => Proof::Stale,
        }
    }

    fn rises(&mut self, nonce: &str, count: u32, now: Mono) -> bool {
        if !self.counts.contains_key(nonce) && self.counts.len() >= MAX_NONCES {
            self.forget_old(now);
            if self.counts.len() >= MAX_NONCES {
                return false;
            }
        }
        let last = self.counts.entry(nonce.to_string()).or_insert((0, now));
        let rises = count > last.0;
        if rises {
            last.0 = count;
        }
        rises
    }

    /// Drops counts of nonces that are no longer good.
    pub fn forget_old(&mut self, now: Mono) {
        self.counts.retain(|_, (_, at)| now.ms_since(*at) <= NONCE_MS + 1000);
    }
}

/// Whether an answer was made for this request and not for another one (RFC 7616 section 3.4.6). Parameters do not
/// count: phones leave `;transport=tcp` out of one of the two.
fn same_resource(named: &str, request_uri: &str) -> bool {
    let parts = |text: &str| SipUri::parse(text).map(|u| (u.scheme, u.user, u.host, u.port.unwrap_or(5060)));
    named == request_uri || matches!((parts(named), parts(request_uri)), (Ok(a), Ok(b)) if a == b)
}

/// `Digest a=b, c="d"` as lower-case names and unquoted values; `None` for another scheme.
fn fields(header: &str) -> Option<HashMap<String, String>> {
    let (scheme, rest) = header.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("digest") {
        return None;
    }
    let mut out = HashMap::new();
    for part in split_outside(rest, b',')? {
        let (name, value) = part.split_once('=')?;
        let value = value.trim();
        let plain = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
        if out.insert(name.trim().to_ascii_lowercase(), plain.replace("\\", "")).is_some() {
            return None; // a field given twice is a trick
        }
    }
    Some(out)
}

fn hasher(algorithm: &str) -> Option<fn(&str) -> String> {
    match algorithm.to_ascii_uppercase().as_str() {
        "MD5" => Some(|s| hex(&Md5::digest(s.as_bytes()))),
        "SHA-256" => Some(|s| hex(&Sha256::digest(s.as_bytes()))),
        _ => None,
    }
}

/// Our answer to somebody's challenge (RFC 7616 section 3.4.1), with qop=auth where it is offered, else as RFC 2069
/// has it. None for an algorithm or form we do not know.
pub(super) fn respond(
    challenge: &str,
    method: &str,
    uri: &str,
    user: &str,
    password: &str,
    cnonce: &str,
) -> Option<String> {
    let fields = fields(challenge)?;
    let (realm, nonce) = (fields.get("realm")?, fields.get("nonce")?);
    let algorithm = fields.get("algorithm").map_or("MD5", String::as_str);
    let hash = hasher(algorithm)?;
    let a1 = hash(&format!("{user}:{realm}:{password}"));
    let a2 = hash(&format!("{method}:{uri}"));
    let qop = fields.get("qop").is_some_and(|q| q.split(',').any(|q| q.trim() == "auth"));
    let (response, tail) = if qop {
        let tail = format!(", qop=auth, nc=00000001, cnonce=\"{cnonce}\"");
        (hash(&format!("{a1}:{nonce}:00000001:{cnonce}:auth:{a2}")), tail)
    } else {
        (hash(&format!("{a1}:{nonce}:{a2}")), String::new())
    };
    let opaque = fields.get("opaque").map_or(String::new(), |o| format!(", opaque=\"{o}\""));
    Some(format!(
        "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{response}\", \
         algorithm={algorithm}{tail}{opaque}"
    ))
}

/// Digest response for a client or a test (RFC 7616 section 3.4.1, qop=auth).
#[cfg(test)]
pub(super) fn answer(
    algorithm: &str,
    user: &str,
    realm: &str,
    password: &str,
    nonce: &str,
    uri: &str,
    nc: u32,
) -> String {
    let hash = hasher(algorithm).expect("an algorithm we know");
    let a1 = hash(&format!("{user}:{realm}:{password}"));
    let a2 = hash(&format!("REGISTER:{uri}"));
    let response = hash(&format!("{a1}:{nonce}:{nc:08x}:cc:auth:{a2}"));
    format!(
        "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{response}\", \
         algorithm={algorithm}, qop=auth, nc={nc:08x}, cnonce=\"cc\""
    )
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut s, b| {
        s.push(char::from_digit(u32::from(b >> 4), 16).unwrap_or('0'));
        s.push(char::from_digit(u32::from(b & 15), 16).unwrap_or('0'));
        s
    })
}

/// Equality in a time that depends on the lengths only.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0u8, |d, (x, y)| d | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    fn nonce_of(challenge: &str) -> String {
        challenge.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap().to_string()
    }

    fn check(d: &mut Digester, header: &str, source: IpAddr, ms: u64) -> Proof {
        let book = |u: &str| (u == "8001").then(|| "geheim".to_string());
        d.check(header, ("REGISTER", "sip:z"), source, Mono::from_ms(ms), book)
    }

    #[test]
    fn an_answer_made_for_another_address_proves_nothing() {
        assert!(same_resource("sip:8002@192.0.2.1", "sip:8002@192.0.2.1:5060;transport=tcp"));
        assert!(!same_resource("sip:8002@192.0.2.1", "sip:8003@192.0.2.1"));
        assert!(!same_resource("sip:z:5070", "sip:z") && !same_resource("", "sip:z") && !same_resource("*", "sip:z"));
        let mut d = Digester::new([7; 32], "zongji".into());
        let nonce = nonce_of(&d.challenge(HERE, Mono::from_ms(5), 1, false)[0]);
        let stolen = answer("SHA-256", "8001", "zongji", "geheim", &nonce, "sip:elsewhere", 1);
        assert_eq!(check(&mut d, &stolen, HERE, 10), Proof::Wrong);
    }

    #[test]
    fn the_right_password_passes_once_with_each_algorithm() {
        for algorithm in ["MD5", "SHA-256"] {
            let mut d = Digester::new([7; 32], "zongji".into());
            let nonce = nonce_of(&d.challenge(HERE, Mono::from_ms(5), 1, false)[0]);
            let h = answer(algorithm, "8001", "zongji", "geheim", &nonce, "sip:z", 1);
            assert_eq!(check(&mut d, &h, HERE, 1000), Proof::Right("8001".into()));
            assert_eq!(check(&mut d, &h, HERE, 1001), Proof::Stale, "a replay");
            let next = answer(algorithm, "8001", "zongji", "geheim", &nonce, "sip:z", 2);
            assert_eq!(check(&mut d, &next, HERE, 1002), Proof::Right("8001".into()));
            let back = answer(algorithm, "8001", "zongji", "geheim", &nonce, "sip:z", 1);
            assert_eq!(check(&mut d, &back, HERE, 1003), Proof::Stale, "the count must rise");
        }
    }

    #[test]
    fn our_own_answer_to_a_challenge_passes() {
        let mut d = Digester::new([7; 32], "zongji".into());
        for challenge in d.challenge(HERE, Mono::from_ms(5), 1, false) {
            let h = respond(&challenge, "REGISTER", "sip:z", "8001", "geheim", "cc").unwrap();
            assert_eq!(check(&mut d, &h, HERE, 1000), Proof::Right("8001".into()), "{h}");
            d = Digester::new([7; 32], "zongji".into());
        }
        assert!(respond("Digest realm=\"r\", nonce=\"n\", algorithm=X", "INVITE", "sip:z", "u", "p", "c").is_none());
    }

    #[test]
    fn old_foreign_and_forged_nonces_and_wrong_passwords_do_not_pass() {
        let mut d = Digester::new([7; 32], "zongji".into());
        let nonce = nonce_of(&d.challenge(HERE, Mono::from_ms(0), 1, false)[0]);
        let good = answer("SHA-256", "8001", "zongji", "geheim", &nonce, "sip:z", 1);
        assert_eq!(check(&mut d, &good, HERE, 60_001), Proof::Stale, "too old");
        assert_eq!(check(&mut d, &good, "192.0.2.8".parse().unwrap(), 10), Proof::Stale, "another source");
        let forged = answer("SHA-256", "8001", "zongji", "geheim", &"0".repeat(60), "sip:z", 1);
        assert_eq!(check(&mut d, &forged, HERE, 10), Proof::Stale);
        let wrong = answer("SHA-256", "8001", "zongji", "falsch", &nonce, "sip:z", 1);
        assert_eq!(check(&mut d, &wrong, HERE, 10), Proof::Wrong);
        let nobody = answer("SHA-256", "9999", "zongji", "no such user", &nonce, "sip:z", 1);
        assert_eq!(check(&mut d, &nobody, HERE, 10), Proof::Wrong);
        assert_eq!(check(&mut d, "NoOneKnowsThisScheme opaque-data=here", HERE, 10), Proof::Wrong);
        assert_eq!(check(&mut d, &good, HERE, 20), Proof::Right("8001".into()), "and the real one still does");
    }
}
