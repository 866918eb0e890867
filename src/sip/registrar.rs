//! Phones that register with us (RFC 3261 section 10.3).

use super::admission::network;
use super::digest::{Digester, Proof};
use super::refused::RefusedFor;
use super::routing::reachable;
use super::sanity::{Refusal, cseq};
use super::settings::Account;
use super::transport::Transport;
use super::uri::{Host, SipUri, escape_user};
use super::wire::{NameAddr, Start, Wire, split_outside};
use crate::clock::Mono;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Contacts of one user; a fourth pushes out the one that expires first.
const MAX_CONTACTS: usize = 3;
/// Longest and default time of a registration, s.
const MAX_EXPIRES: u32 = 3600;
/// Shortest, s; asking for less gets 423.
const MIN_EXPIRES: u32 = 30;
/// OPTIONS in a row that a phone may leave unanswered.
const MAX_UNANSWERED: u8 = 3;
/// Failures of one source within a minute before it is refused for five.
const MAX_FAILURES: u32 = 10;
/// Sources whose failures are counted.
const MAX_SOURCES: usize = 4096;

/// Where a registered phone can be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// The address it gave.
    pub uri: String,
    /// Where its REGISTER came from: send there (it may sit behind address translation).
    pub source: SocketAddr,
    /// What it came by; on the connection it opened, if that is one.
    pub transport: Transport,
    /// When the registration ends.
    pub expires_at: Mono,
    call_id: String,
    cseq: u32,
    /// Call-ID of the OPTIONS it has not answered yet, and how many went unanswered.
    probe: Option<String>,
    unanswered: u8,
}

impl Contact {
    /// The address to call: the given one, or the registered user at the source where the given host cannot be sent
    /// to. All that follows the INVITE (CANCEL, ACK, BYE) goes by this address too.
    pub fn target(&self) -> String {
        let Ok(given) = SipUri::parse(&self.uri) else { return self.uri.clone() };
        // A datagram from another port of the same host was sent through address translation.
        let port = given.port.unwrap_or(self.transport.default_port());
        let translated =
            !self.transport.is_stream() && given.host == Host::Ip(self.source.ip()) && port != self.source.port();
        if reachable(&given.host, self.source.ip()) && !translated {
            return self.uri.clone();
        }
        let user = given.user.map(|n| format!("{}@", escape_user(&n))).unwrap_or_default();
        let transport = self.transport.param();
        format!("sip:{user}{}{transport}", self.source)
    }
}

/// What a round of OPTIONS is to do.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Whom to ask, with which Call-ID.
    pub ask: Vec<(Contact, String)>,
    /// Users who lost contacts that did not answer, and how many they keep.
    pub lost: Vec<(String, usize)>,
}

/// What a REGISTER led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Registered {
    /// The answer.
    pub answer: Refusal,
    /// User whose contacts changed or were refreshed, and how many there are now.
    pub user: Option<(String, usize)>,
    /// The asker had no right password.
    pub refused: bool,
}

/// Accounts, their contacts, and who failed too often.
pub(super) struct Registrar {
    digester: Digester,
    accounts: HashMap<String, String>,
    bindings: HashMap<String, Vec<Contact>>,
    /// By source; hosts of one IPv6 network are one.
    failures: HashMap<IpAddr, (u32, Mono)>,
}

impl Registrar {
    /// `key` is the secret of the nonces.
    pub fn new(key: [u8; 32], realm: String, accounts: &[Account]) -> Registrar {
        Registrar {
            digester: Digester::new(key, realm),
            accounts: accounts.iter().map(|a| (a.user.clone(), a.password.clone())).collect(),
            bindings: HashMap::new(),
            failures: HashMap::new(),
        }
    }

    /// Handles a sound REGISTER. `random` goes into the nonce.
    pub fn register(
        &mut self,
        wire: &Wire,
        source: SocketAddr,
        transport: Transport,
        now: Mono,
        random: u64,
    ) -> Registered {
        let plain = |answer: Refusal| Registered { answer, user: None, refused: false };
        let to = wire.get("to").and_then(NameAddr::parse).and_then(|a| SipUri::parse(&a.uri).ok());
        let Some(aor) = to.and_then(|u| u.user) else {
            return plain(Refusal::new(400, "To is no user here"));
        };
        if self.banned(source.ip(), now) {
            let answer = Refusal::new(403, "Too many failures").because(RefusedFor::Banned);
            return Registered { answer, user: None, refused: true };
        }
        let user = match self.prove(wire, &["authorization"], source.ip(), now) {
            Proof::Right(user) => user,
            Proof::Stale => return self.unproved(source.ip(), now, random, true),
            Proof::Wrong => {
                let mut challenge = self.unproved(source.ip(), now, random, false);
                // A first REGISTER has no password yet: that refuses nothing.
                challenge.answer.why = wire.get("authorization").map(|_| RefusedFor::WrongPassword);
                return challenge;
            }
        };
        self.forgive(source.ip());
        if user != aor {
            return plain(Refusal::new(403, "Not your address"));
        }
        match self.update(&user, wire, source, transport, now) {
            Ok(()) => {
                let answer = self.listing(&user, now);
                let count = self.contacts(&user, now).len();
                Registered { answer, user: Some((user, count)), refused: false }
            }
            Err(refusal) => plain(refusal),
        }
    }

    /// Whether a user may register: he has a phone of ours.
    pub fn has_account(&self, user: &str) -> bool {
        self.accounts.contains_key(user)
    }

    /// The seat that a request other than REGISTER proves to come from, or what to answer: a challenge (407, RFC 3261
    /// section 22.3), or 403 to a source that failed too often.
    pub fn authenticate(&mut self, wire: &Wire, source: IpAddr, now: Mono, random: u64) -> Result<String, Refusal> {
        if self.banned(source, now) {
            return Err(Refusal::new(403, "Too many failures").because(RefusedFor::Banned));
        }
        let tried = wire.get("proxy-authorization").or(wire.get("authorization")).is_some();
        let stale = match self.prove(wire, &["proxy-authorization", "authorization"], source, now) {
            Proof::Right(user) => {
                self.forgive(source);
                return Ok(user);
            }
            proof => proof == Proof::Stale,
        };
        let challenges = self.digester.challenge(source, now, random, stale);
        let mut refusal = Refusal::new(407, "Proxy Authentication Required");
        refusal.why = (tried && !stale).then_some(RefusedFor::WrongPassword);
        Err(challenges.into_iter().fold(refusal, |r, c| r.with("Proxy-Authenticate", c)))
    }

    /// The user that an Authorization value of another protocol proves to come from; else a challenge, or nothing for a
    /// source that failed too often.
    pub fn vouch(
        &mut self,
        header: Option<&str>,
        request: (&str, &str),
        source: IpAddr,
        now: Mono,
        random: u64,
    ) -> Result<String, Option<String>> {
        if self.banned(source, now) {
            return Err(None);
        }
        let book = |u: &str| self.accounts.get(u).cloned();
        let proof = header.map(|h| self.digester.check(h, request, source, now, book));
        match proof {
            Some(Proof::Right(user)) => {
                self.forgive(source);
                return Ok(user);
            }
            Some(Proof::Wrong) => self.failed(source, now),
            Some(Proof::Stale) | None => {}
        }
        let [strong, _] = self.digester.challenge(source, now, random, proof == Some(Proof::Stale));
        Err(Some(strong))
    }

    fn prove(&mut self, wire: &Wire, headers: &[&str], source: IpAddr, now: Mono) -> Proof {
        let mut best = Proof::Wrong;
        let mut tried = false;
        let Start::Request { method, uri, .. } = &wire.start else { return best };
        // A phone may send several; one for our realm is enough, and only the first few are looked at.
        for header in headers.iter().flat_map(|h| wire.all(h)).take(3) {
            tried = true;
            let book = |u: &str| self.accounts.get(u).cloned();
            match self.digester.check(header, (method, uri), source, now, book) {
                Proof::Wrong => {}
                better => {
                    best = better;
                    break;
                }
            }
        }
        if tried && best == Proof::Wrong {
            self.failed(source, now);
        }
        best
    }

    fn unproved(&self, source: IpAddr, now: Mono, random: u64, stale: bool) -> Registered {
        let [strong, old] = self.digester.challenge(source, now, random, stale);
        let answer = Refusal::new(401, "Unauthorized").with("WWW-Authenticate", strong).with("WWW-Authenticate", old);
        Registered { answer, user: None, refused: true }
    }

    fn failed(&mut self, source: IpAddr, now: Mono) {
        let source = network(source);
        if !self.failures.contains_key(&source) && self.failures.len() >= MAX_SOURCES {
            self.tidy(now);
            // Who has been quiet longest goes, and of two such one that is not banned.
            let least = self.failures.iter().min_by_key(|(_, (n, since))| (*n >= MAX_FAILURES, *since));
            if let Some(source) = least.map(|(s, _)| *s).filter(|_| self.failures.len() >= MAX_SOURCES) {
                self.failures.remove(&source);
            }
        }
        let entry = self.failures.entry(source).or_insert((0, now));
        if entry.0 < MAX_FAILURES && now.since(entry.1) > Duration::from_secs(60) {
            *entry = (0, now);
        }
        entry.0 += 1;
        if entry.0 == MAX_FAILURES {
            entry.1 = now;
        }
    }

    fn forgive(&mut self, source: IpAddr) {
        self.failures.remove(&network(source));
    }

    fn banned(&mut self, source: IpAddr, now: Mono) -> bool {
        match self.failures.get(&network(source)) {
            Some((n, since)) if *n >= MAX_FAILURES => {
                let still = now.since(*since) < Duration::from_secs(300);
                if !still {
                    self.forgive(source);
                }
                still
            }
            _ => false,
        }
    }

    fn update(
        &mut self,
        user: &str,
        wire: &Wire,
        source: SocketAddr,
        transport: Transport,
        now: Mono,
    ) -> Result<(), Refusal> {
        let bad = |reason: &str| Refusal::new(400, reason);
        let default = wire.get("expires").and_then(|v| v.parse::<u32>().ok()).unwrap_or(MAX_EXPIRES);
        let (number, _) = cseq(wire).ok_or_else(|| bad("Bad CSeq"))?;
        let call_id = wire.get("call-id").unwrap_or_default().to_string();
        let mut asked = Vec::new();
        for header in wire.all("contact") {
            for value in split_outside(header, b',').ok_or_else(|| bad("Bad Contact"))? {
                asked.push(value.trim());
            }
        }
        let held = self.bindings.entry(user.to_string()).or_default();
        held.retain(|c| c.expires_at > now);
        if held.iter().any(|c| c.call_id == call_id && c.cseq >= number) && !asked.is_empty() {
            return Err(Refusal::new(500, "CSeq did not rise").because(RefusedFor::OldRequest));
        }
        if asked.contains(&"*") {
            if asked.len() > 1 || default != 0 {
                return Err(bad("* stands alone and with Expires: 0"));
            }
            held.clear();
            return Ok(());
        }
        let mut new = held.clone();
        for value in asked {
            let contact = NameAddr::parse(value).ok_or_else(|| bad("Bad Contact"))?;
            let scheme = SipUri::parse(&contact.uri).map_err(|_| bad("Contact is no SIP address"))?.scheme;
            if scheme == "tel" {
                return Err(bad("Contact is no SIP address"));
            }
            let seconds = contact.param("expires").and_then(|e| e.parse().ok()).unwrap_or(default).min(MAX_EXPIRES);
            new.retain(|c| c.uri != contact.uri);
            if seconds == 0 {
                continue;
            }
            if seconds < MIN_EXPIRES {
                return Err(Refusal::new(423, "Interval Too Brief").with("Min-Expires", MIN_EXPIRES.to_string()));
            }
            let expires_at = now + Duration::from_secs(seconds.into());
            let (uri, call_id, probe, unanswered) = (contact.uri, call_id.clone(), None, 0);
            new.push(Contact { uri, source, transport, expires_at, call_id, cseq: number, probe, unanswered });
        }
        while new.len() > MAX_CONTACTS {
            let first = new.iter().enumerate().min_by_key(|(_, c)| c.expires_at).map_or(0, |(i, _)| i);
            new.remove(first);
        }
        *held = new;
        Ok(())
    }

    fn listing(&self, user: &str, now: Mono) -> Refusal {
        let mut answer = Refusal::new(200, "OK");
        for c in self.contacts(user, now) {
            let left = c.expires_at.since(now).as_secs();
            answer = answer.with("Contact", format!("<{}>;expires={left}", c.uri));
        }
        answer
    }

    /// Contacts of a user that have not expired, newest last.
    pub fn contacts(&self, user: &str, now: Mono) -> Vec<Contact> {
        self.bindings.get(user).into_iter().flatten().filter(|c| c.expires_at > now).cloned().collect()
    }

    /// Whether a phone that is registered now sends from there.
    pub fn is_registered_from(&self, source: SocketAddr) -> bool {
        self.bindings.values().flatten().any(|c| c.source == source)
    }

    /// Whether some phone that is registered now is at that address.
    pub fn is_registered_at(&self, source: IpAddr) -> bool {
        self.bindings.values().flatten().any(|c| c.source.ip() == source)
    }

    /// The next round of OPTIONS: every phone on UDP is asked, and who has not answered three in a row is no longer
    /// there.
    pub fn probe(&mut self, now: Mono, call_id: impl Fn() -> String) -> Round {
        let mut round = Round::default();
        for (user, held) in &mut self.bindings {
            let before = held.len();
            held.retain_mut(|c| {
                c.unanswered = c.unanswered.saturating_add(u8::from(c.probe.is_some()));
                c.unanswered < MAX_UNANSWERED
            });
            if held.len() != before {
                round.lost.push((user.clone(), held.len()));
            }
            for contact in held.iter_mut().filter(|c| !c.transport.is_stream() && c.expires_at > now) {
                let id = call_id();
                contact.probe = Some(id.clone());
                round.ask.push((contact.clone(), id));
            }
        }
        round
    }

    /// A connection ended: who came by it cannot be called any more. Users who lost contacts, and how many they keep.
    pub fn flow_lost(&mut self, transport: Transport, peer: SocketAddr) -> Vec<(String, usize)> {
        let mut changed = Vec::new();
        for (user, held) in &mut self.bindings {
            let before = held.len();
            // A TCP phone with an address of its own may be connected to again; a browser never.
            let own = |c: &Contact| !c.transport.is_web() && c.target() == c.uri;
            held.retain(|c| (c.transport, c.source) != (transport, peer) || own(c));
            if held.len() != before {
                changed.push((user.clone(), held.len()));
            }
        }
        changed
    }

    /// A response to an OPTIONS of ours. Any will do: who refuses it is there too.
    pub fn answered(&mut self, call_id: &str) -> bool {
        let asked = self.bindings.values_mut().flatten().find(|c| c.probe.as_deref() == Some(call_id));
        asked.is_some_and(|contact| {
            (contact.probe, contact.unanswered) = (None, 0);
            true
        })
    }

    /// Forgets what is over; returns the users who lost contacts by it and how many they keep.
    pub fn tidy(&mut self, now: Mono) -> Vec<(String, usize)> {
        self.digester.forget_old(now);
        self.failures.retain(|_, (_, since)| now.since(*since) < Duration::from_secs(300));
        let mut changed = Vec::new();
        self.bindings.retain(|user, held| {
            let before = held.len();
            held.retain(|c| c.expires_at > now);
            if held.len() != before {
                changed.push((user.clone(), held.len()));
            }
            !held.is_empty()
        });
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::super::digest::answer;
    use super::*;

    const HERE: &str = "192.0.2.7:5060";

    fn registrar() -> Registrar {
        let account = |u: &str| Account { user: u.into(), password: "geheim".into() };
        Registrar::new([1; 32], "zongji".into(), &[account("8001"), account("8002"), account("user")])
    }

    struct Phone {
        user: &'static str,
        to: &'static str,
        cseq: u32,
    }

    impl Phone {
        /// Sends a REGISTER and, when challenged, a second one with `password`.
        fn send(&mut self, r: &mut Registrar, more: &str, password: &str, ms: u64) -> Registered {
            let first = self.once(r, more, "", ms);
            if first.answer.code != 401 {
                return first;
            }
            let challenge = &first.answer.headers[0].1;
            let nonce = challenge.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap();
            let auth = answer("SHA-256", self.user, "zongji", password, nonce, "sip:z", 1);
            self.once(r, more, &format!("Authorization: {auth}\r\n"), ms + 1)
        }

        fn once(&mut self, r: &mut Registrar, more: &str, auth: &str, ms: u64) -> Registered {
            self.cseq += 1;
            let text = format!(
                "REGISTER sip:z SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:{}@z>;tag=1\r\n\
                 To: <sip:{}@z>\r\nCall-ID: c\r\nCSeq: {} REGISTER\r\n{more}{auth}\r\n",
                self.user, self.to, self.cseq
            );
            let wire = Wire::parse(text.as_bytes()).unwrap();
            r.register(&wire, HERE.parse().unwrap(), Transport::Udp, Mono::from_ms(ms), ms)
        }
    }

    fn phone(user: &'static str) -> Phone {
        Phone { user, to: user, cseq: 0 }
    }

    #[test]
    fn a_phone_behind_address_translation_is_called_where_it_registered_from() {
        let contact = |uri: &str, transport| Contact {
            uri: uri.into(),
            source: "203.0.113.7:40000".parse().unwrap(),
            transport,
            expires_at: Mono(0),
            call_id: String::new(),
            cseq: 1,
            probe: None,
            unanswered: 0,
        };
        assert_eq!(contact("sip:8001@198.51.100.2:5062", Transport::Udp).target(), "sip:8001@198.51.100.2:5062");
        assert_eq!(contact("sip:8001@203.0.113.7", Transport::Udp).target(), "sip:8001@203.0.113.7:40000");
        assert_eq!(contact("sip:8001@203.0.113.7", Transport::Tcp).target(), "sip:8001@203.0.113.7");
        assert_eq!(contact("sip:8001@10.0.0.9:5060", Transport::Udp).target(), "sip:8001@203.0.113.7:40000");
        assert_eq!(
            contact("sip:8001@phone.local", Transport::Tcp).target(),
            "sip:8001@203.0.113.7:40000;transport=tcp"
        );
    }

    #[test]
    fn a_phone_with_its_password_is_bound_refreshed_and_let_go() {
        let mut r = registrar();
        let mut p = phone("8001");
        let ok = p.send(&mut r, "Contact: <sip:8001@10.0.0.2:5062>\r\nExpires: 120\r\n", "geheim", 0);
        assert_eq!((ok.answer.code, ok.user), (200, Some(("8001".into(), 1))));
        assert!(ok.answer.headers[0].1.starts_with("<sip:8001@10.0.0.2:5062>;expires=120"));
        assert_eq!(r.contacts("8001", Mono::from_ms(1000))[0].source, HERE.parse::<SocketAddr>().unwrap());
        assert_eq!(r.contacts("8001", Mono::from_ms(121_000)).len(), 0, "it expires");
        let gone = p.send(&mut r, "Contact: *\r\nExpires: 0\r\n", "geheim", 2000);
        assert_eq!((gone.answer.code, gone.user), (200, Some(("8001".into(), 0))));
    }

    #[test]
    fn nobody_registers_for_another_nor_without_the_password() {
        let mut r = registrar();
        let contact = "Contact: <sip:x@10.0.0.2>\r\n";
        let mut thief = Phone { user: "8001", to: "8002", cseq: 0 };
        assert_eq!(thief.send(&mut r, contact, "geheim", 0).answer.code, 403);
        let (wrong, unknown) =
            (phone("8001").send(&mut r, contact, "x", 10), phone("777").send(&mut r, contact, "x", 10));
        assert_eq!(wrong.answer.code, 401);
        assert_eq!(wrong, unknown, "a stranger cannot tell which users exist");
        assert!(r.contacts("8002", Mono(0)).is_empty() && r.contacts("8001", Mono(0)).is_empty());
    }

    #[test]
    fn a_guesser_is_shut_out_for_five_minutes() {
        let mut r = registrar();
        let mut p = phone("8001");
        let contact = "Contact: <sip:x@10.0.0.2>\r\n";
        let codes: Vec<u16> = (0..12).map(|i| p.send(&mut r, contact, "guess", i * 100).answer.code).collect();
        assert_eq!(codes[..10], [401; 10]);
        assert_eq!(codes[10..], [403; 2]);
        assert_eq!(p.send(&mut r, contact, "geheim", 200_000).answer.code, 403, "even with the right one");
        assert_eq!(p.send(&mut r, contact, "geheim", 310_000).answer.code, 200);
    }

    #[test]
    fn a_fourth_contact_pushes_out_the_first_to_expire_and_short_times_are_refused() {
        let mut r = registrar();
        let mut p = phone("8001");
        for (i, s) in [300, 100, 200, 400].iter().enumerate() {
            let c = format!("Contact: <sip:8001@10.0.0.{i}>;expires={s}\r\n");
            assert_eq!(p.send(&mut r, &c, "geheim", i as u64 * 10).answer.code, 200);
        }
        let uris: Vec<String> = r.contacts("8001", Mono::from_ms(50)).into_iter().map(|c| c.uri).collect();
        assert_eq!(uris, ["sip:8001@10.0.0.0", "sip:8001@10.0.0.2", "sip:8001@10.0.0.3"]);
        let brief = p.send(&mut r, "Contact: <sip:8001@10.0.0.9>;expires=5\r\n", "geheim", 60);
        assert_eq!(brief.answer.code, 423);
        assert_eq!(p.send(&mut r, "Contact: *, <sip:a@b>\r\nExpires: 0\r\n", "geheim", 70).answer.code, 400);
    }

    #[test]
    fn contact_parameters_and_uri_parameters_keep_their_places() {
        // RFC 4475 cparam01, cparam02, regescrt, escnull.
        let bind = |c: &str| {
            let mut r = registrar();
            assert_eq!(phone("user").send(&mut r, c, "geheim", 100).answer.code, 200, "{c}");
            r.contacts("user", Mono::from_ms(200)).into_iter().map(|c| c.uri).collect::<Vec<_>>()
        };
        assert_eq!(bind("Contact: sip:+1972@gw1.example.net;unknownparam\r\n"), ["sip:+1972@gw1.example.net"]);
        assert_eq!(
            bind("Contact: <sip:+1972@gw1.example.net;unknownparam>\r\n"),
            ["sip:+1972@gw1.example.net;unknownparam"]
        );
        assert_eq!(bind("M: <sip:user@example.com?Route=%3Csip:s%3E>\r\n"), ["sip:user@example.com?Route=%3Csip:s%3E"]);
        let two = bind("Contact: <sip:%00@host5.example.com>\r\nContact: <sip:%00%00@host5.example.com>\r\n");
        assert_eq!(two, ["sip:%00@host5.example.com", "sip:%00%00@host5.example.com"]);
    }
}
