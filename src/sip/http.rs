//! Seats that come by HTTP prove themselves as they do in SIP: a digest (RFC 7616) of the same password, and the same ban
//! for who guesses.

use super::registrar::Registrar;
use super::settings::Account;
use crate::clock::Mono;
use std::net::IpAddr;

/// Knows seats' passwords for another protocol than SIP.
pub struct HttpDigest(Registrar);

/// What an Authorization header is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It proves that this user asks.
    User(String),
    /// Nothing: a value for WWW-Authenticate, to answer by.
    Challenge(String),
    /// The source failed too often: refused for five minutes.
    Banned,
}

impl HttpDigest {
    /// `key` must be secret and new with each start; `realm` is that of the seats' phones.
    pub fn new(key: [u8; 32], realm: &str, accounts: &[Account]) -> HttpDigest {
        HttpDigest(Registrar::new(key, realm.to_owned(), accounts))
    }

    /// Judges a request by its Authorization header, method and path. `random` goes into the nonce of a challenge.
    pub fn check(
        &mut self,
        authorization: Option<&str>,
        request: (&str, &str),
        source: IpAddr,
        now: Mono,
        random: u64,
    ) -> Known {
        match self.0.vouch(authorization, request, source, now, random) {
            Ok(user) => Known::User(user),
            Err(Some(challenge)) => Known::Challenge(challenge),
            Err(None) => Known::Banned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::digest::respond;
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));
    const PATH: (&str, &str) = ("GET", "/ice-servers");

    fn door() -> HttpDigest {
        let account = Account { user: "8001".into(), password: "geheim".into() };
        HttpDigest::new([7; 32], "zongji", &[account])
    }

    fn ask(door: &mut HttpDigest, user: &str, password: &str, ms: u64) -> Known {
        let now = Mono::from_ms(ms);
        let Known::Challenge(challenge) = door.check(None, PATH, HERE, now, ms) else { return Known::Banned };
        let answer = respond(&challenge, PATH.0, PATH.1, user, password, "cc").expect("an algorithm we know");
        door.check(Some(&answer), PATH, HERE, now, ms + 1)
    }

    #[test]
    fn a_seat_is_known_by_its_password_and_nobody_else_is() {
        let mut door = door();
        assert_eq!(ask(&mut door, "8001", "geheim", 1), Known::User("8001".into()));
        assert!(matches!(ask(&mut door, "8001", "falsch", 2), Known::Challenge(_)));
        assert!(matches!(ask(&mut door, "9999", "no such user", 3), Known::Challenge(_)));
    }

    #[test]
    fn who_guesses_ten_times_is_refused_for_five_minutes() {
        let mut door = door();
        for n in 0..10 {
            assert!(matches!(ask(&mut door, "8001", "falsch", n), Known::Challenge(_)), "{n}");
        }
        assert_eq!(ask(&mut door, "8001", "geheim", 20), Known::Banned);
        assert_eq!(ask(&mut door, "8001", "geheim", 320_000), Known::User("8001".into()));
    }
}
