//! What a browser needs to find its way to a leg: STUN and TURN servers, with credentials that end by themselves.
//!
//! A TURN server believes who knows the password that its secret makes of a name, and the name says until when
//! (coturn's `use-auth-secret`, draft-uberti-behave-turn-rest-00). So a seat is given nothing that lasts, and the server
//! need not know seats.

use super::time;
use crate::sip::{Account, HttpDigest, Known};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use rand::RngExt;
use sha1::Sha1;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Which servers browsers are told.
#[derive(Clone, Default)]
pub struct RelaySettings {
    /// `stun:host:port`.
    pub stun: Vec<String>,
    /// `turn:host:port?transport=udp`, `turns:host:port`.
    pub turn: Vec<String>,
    /// What the TURN servers know, too.
    pub secret: String,
    /// How long credentials hold, in seconds.
    pub ttl_s: u32,
}

/// One entry of an `RTCConfiguration`'s `iceServers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceServer {
    /// Addresses.
    pub urls: Vec<String>,
    /// Name and password, of a TURN server.
    pub login: Option<(String, String)>,
}

/// What a seat is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relayed {
    /// The servers, and how many seconds their credentials hold.
    Servers(Vec<IceServer>, u32),
    /// Who asks is unknown: a value for WWW-Authenticate.
    Challenge(String),
    /// Too many wrong passwords from there.
    Banned,
}

/// Tells seats the servers.
pub struct Relays {
    settings: RelaySettings,
    door: Mutex<HttpDigest>,
}

impl Relays {
    /// For the seats whose passwords these are, in the realm of their phones.
    pub fn new(settings: RelaySettings, realm: &str, seats: &[Account]) -> Relays {
        let key: [u8; 32] = rand::rng().random();
        Relays { settings, door: Mutex::new(HttpDigest::new(key, realm, seats)) }
    }

    /// Answers a request with this Authorization header, method and path.
    pub fn ask(&self, authorization: Option<&str>, request: (&str, &str), source: IpAddr) -> Relayed {
        let mut door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        match door.check(authorization, request, source, time::now(), rand::rng().random()) {
            Known::User(user) => Relayed::Servers(self.servers(&user, time::utc().0 / 1000), self.settings.ttl_s),
            Known::Challenge(challenge) => Relayed::Challenge(challenge),
            Known::Banned => Relayed::Banned,
        }
    }

    /// The servers for a user, at a second of UTC.
    fn servers(&self, user: &str, now_s: i64) -> Vec<IceServer> {
        let s = &self.settings;
        let mut servers = Vec::new();
        if !s.stun.is_empty() {
            servers.push(IceServer { urls: s.stun.clone(), login: None });
        }
        if !s.turn.is_empty() {
            let name = format!("{}:{user}", now_s + i64::from(s.ttl_s));
            let password = password(&s.secret, &name);
            servers.push(IceServer { urls: s.turn.clone(), login: Some((name, password)) });
        }
        servers
    }
}

/// Base64 of HMAC-SHA1 over the name, as the draft has it.
fn password(secret: &str, name: &str) -> String {
    match <Hmac<Sha1> as KeyInit>::new_from_slice(secret.as_bytes()) {
        Ok(mut mac) => {
            mac.update(name.as_bytes());
            STANDARD.encode(mac.finalize().into_bytes())
        }
        Err(_) => String::new(), // no length of key is wrong for HMAC
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relays() -> Relays {
        let settings = RelaySettings {
            stun: vec!["stun:192.0.2.1:3478".into()],
            turn: vec!["turn:192.0.2.1:3478?transport=udp".into()],
            secret: "north".into(),
            ttl_s: 600,
        };
        Relays::new(settings, "zongji", &[Account { user: "8001".into(), password: "geheim".into() }])
    }

    /// `printf '1433895918:ninefingers' | openssl dgst -sha1 -hmac north -binary | base64`
    #[test]
    fn a_password_is_what_openssl_makes_of_the_secret() {
        assert_eq!(password("north", "1433895918:ninefingers"), "jy8hTxmOO7UtEKXqSkSlvakPVYA=");
    }

    #[test]
    fn a_seats_credentials_name_it_and_their_end() {
        let servers = relays().servers("8001", 1_700_000_000);
        assert_eq!(servers[0], IceServer { urls: vec!["stun:192.0.2.1:3478".into()], login: None });
        let (name, password) = servers[1].login.clone().unwrap();
        assert_eq!((name.as_str(), password.len()), ("1700000600:8001", 28));
    }

    #[test]
    fn who_proves_nothing_gets_a_challenge() {
        let got = relays().ask(None, ("GET", "/ice-servers"), [192, 0, 2, 9].into());
        assert!(matches!(got, Relayed::Challenge(c) if c.contains("realm=\"zongji\"") && c.contains("SHA-256")));
    }
}
