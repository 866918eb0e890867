//! Seats that come by HTTP prove themselves as they do in SIP: a digest (RFC 7616) of the same password, and the same ban
//! for who guesses.

use super::admission::Admission;
use super::registrar::Registrar;
use super::settings::Account;
use crate::clock::Mono;
use std::net::IpAddr;

/// Requests of one source within 2 s, as many as a floor of browsers that all start at once makes.
const PER_2S: u32 = 60;

/// Knows seats' passwords for another protocol than SIP.
pub struct HttpDigest {
    registrar: Registrar,
    admission: Admission,
}

/// What an Authorization header is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It proves that this user asks.
    User(String),
    /// Nothing: a value for WWW-Authenticate, to answer by.
    Challenge(String),
    /// The source failed too often: refused for five minutes. Or it asks too often: refused for a second.
    Banned,
}

impl HttpDigest {
    /// `key` must be secret and new with each start; `realm` is that of the seats' phones.
    pub fn new(key: [u8; 32], realm: &str, accounts: &[Account]) -> HttpDigest {
        HttpDigest { registrar: Registrar::new(key, realm.to_owned(), accounts), admission: Admission::new(PER_2S) }
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
        if !self.admission.admit(source, now) {
            return Known::Banned;
        }
        match self.registrar.vouch(authorization, request, source, now, random) {
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

    #[test]
    fn the_hosts_of_one_network_guess_together_and_a_crowd_of_others_does_not_hide_them() {
        let mut door = door();
        let guess = |door: &mut HttpDigest, source: IpAddr, ms: u64| {
            let now = Mono::from_ms(ms);
            let Known::Challenge(challenge) = door.check(None, PATH, source, now, ms) else { return Known::Banned };
            let answer = respond(&challenge, PATH.0, PATH.1, "8001", "falsch", "cc").expect("an algorithm we know");
            door.check(Some(&answer), PATH, source, now, ms + 1)
        };
        let host = |n: u128| IpAddr::V6((0x2001_0db8_u128 << 96 | n).into());
        let banned = (0..40).filter(|n| guess(&mut door, host(*n), *n as u64) == Known::Banned).count();
        assert_eq!(banned, 30, "ten guesses of the network, whoever makes them");
        // As many single failures as are kept, and then one who goes on.
        for n in 0..5000u32 {
            guess(&mut door, IpAddr::V4(n.wrapping_add(0x0A00_0000).into()), 1000 + u64::from(n) / 10);
        }
        let tries: Vec<Known> = (0..11).map(|n| guess(&mut door, HERE, 2000 + n)).collect();
        assert_eq!(tries.last(), Some(&Known::Banned));
        assert_eq!(guess(&mut door, host(99), 2020), Known::Banned, "who is banned is not forgotten for others");
    }

    #[test]
    fn who_asks_without_end_is_not_answered() {
        let mut door = door();
        let answered = (0..500).filter(|n| door.check(None, PATH, HERE, Mono::from_ms(1), *n) != Known::Banned).count();
        assert_eq!(answered, PER_2S as usize);
    }
}
