//! The gate: every message passes it before the SIP library hears of it.
//!
//! In order: is it SIP at all, is it sound ([`super::sanity`]), does it belong to a call of ours, may its sender
//! ask, is there a line free. What fails is answered from here without any state, or not at all.

use super::admission::Admission;
use super::calls::{Calls, Kind};
use super::counters::{Counters, bump};
use super::digest::hex;
use super::event::{DialogId, SipEvent};
use super::identity::Identity;
use super::registrar::{Contact, Registrar, Round};
use super::reply::{canonical, stateless};
use super::sanity::{ALLOW, Refusal, Verdict, check, cseq};
use super::settings::{Served, SipSettings};
use super::transport::Transport;
use super::uri::SipUri;
use super::wire::{NameAddr, Start, Via, Wire, split_outside};
use crate::clock::Mono;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// Requests inside its calls a source may send per 2 s: far more than people make, far less than a flood.
const INSIDE_PER_2S: u32 = 400;
/// Answers to REGISTER kept for retransmissions.
const MAX_ANSWERS: usize = 4096;

/// What becomes of a message.
pub(super) enum Outcome {
    /// Hand these bytes to the SIP library. `call` was let in with them: end it if the library will not have it.
    Pass { bytes: Vec<u8>, call: Option<DialogId> },
    /// Send this back to where the message came from; `close` ends a stream.
    Reply { bytes: Vec<u8>, close: bool, event: Option<SipEvent> },
    /// Nothing; `close` ends a stream.
    Drop { close: bool },
}

/// Checks and the state they need.
pub(super) struct Gate {
    pub settings: SipSettings,
    pub counters: Counters,
    served: Mutex<Served>,
    draining: AtomicBool,
    secret: [u8; 32],
    state: Mutex<State>,
}

struct State {
    admission: Admission,
    inside: Admission,
    registrar: Registrar,
    calls: Calls,
    answers: HashMap<(SocketAddr, String), (Vec<u8>, Mono)>,
}

/// A locked mutex even if a holder panicked: what it guards is maps, whole after every statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Gate {
    pub fn new(settings: SipSettings, secret: [u8; 32]) -> Gate {
        let linger = settings.t1 * 64;
        let nonce_key: [u8; 32] = Sha256::digest([&secret[..], b"nonce"].concat()).into();
        let state = State {
            admission: Admission::new(settings.requests_per_2s),
            inside: Admission::new(INSIDE_PER_2S.max(settings.requests_per_2s)),
            registrar: Registrar::new(nonce_key, settings.realm.clone(), &settings.accounts),
            calls: Calls::new(linger),
            answers: HashMap::new(),
        };
        Gate {
            served: Mutex::new(settings.users.clone()),
            counters: Counters::default(),
            draining: AtomicBool::new(false),
            secret,
            state: Mutex::new(state),
            settings,
        }
    }

    /// Runs `f` on the list of calls.
    pub fn calls<R>(&self, f: impl FnOnce(&mut Calls) -> R) -> R {
        f(&mut lock(&self.state).calls)
    }

    /// Contacts of a registered user.
    pub fn contacts(&self, user: &str, now: Mono) -> Vec<Contact> {
        lock(&self.state).registrar.contacts(user, now)
    }

    /// A connection ended: users who lost contacts by it, and how many they keep.
    pub fn flow_lost(&self, transport: Transport, peer: SocketAddr) -> Vec<(String, usize)> {
        lock(&self.state).registrar.flow_lost(transport, peer)
    }

    /// The next round of OPTIONS to registered phones.
    pub fn probe(&self, now: Mono, call_id: impl Fn() -> String) -> Round {
        let round = lock(&self.state).registrar.probe(now, call_id);
        self.counters.silent_phones.fetch_add(round.lost.len() as u64, Relaxed);
        round
    }

    /// Changes which numbers are served.
    pub fn serve(&self, served: Served) {
        *lock(&self.served) = served;
    }

    /// From now on no new calls; OPTIONS says 503.
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Whether new calls are refused.
    pub fn draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Forgets what is over; returns users whose registrations ran out and what they have left.
    pub fn tidy(&self, now: Mono) -> Vec<(String, usize)> {
        let mut state = lock(&self.state);
        state.calls.tidy(now);
        state.admission.forget_idle(now);
        state.inside.forget_idle(now);
        state.answers.retain(|_, (_, at)| now.since(*at) < Duration::from_secs(32));
        state.registrar.tidy(now)
    }

    /// Judges one message. `random` feeds nonces and jitter.
    pub fn inspect(&self, data: &[u8], source: SocketAddr, transport: Transport, now: Mono, random: u64) -> Outcome {
        bump(if transport.is_stream() { &self.counters.streamed } else { &self.counters.datagrams });
        let Ok(wire) = Wire::parse(data) else {
            bump(&self.counters.dropped);
            return Outcome::Drop { close: true };
        };
        let outcome = match check(&wire) {
            // `sips:` promises that nobody on the way could read it (RFC 5630 section 4).
            Verdict::Ok if !transport.is_secure() && wants_tls(&wire) => {
                Err(Some(Refusal::new(416, "sips only under TLS")))
            }
            Verdict::Drop => Err(None),
            Verdict::Reply(refusal) => {
                // Answering garbage is a service too: an unknown sender gets only so much of it.
                let allowed = self.settings.trusts(source.ip()) || lock(&self.state).admission.admit(source.ip(), now);
                bump(if allowed { &self.counters.malformed } else { &self.counters.limited });
                return if allowed {
                    self.refuse(&wire, source, refusal)
                } else {
                    Outcome::Drop { close: refusal.close }
                };
            }
            Verdict::Ok => match &wire.start {
                Start::Response { .. } => self.response(&wire, source, transport),
                Start::Request { method, .. } => self.request(&wire, method, source, transport, now, random),
            },
        };
        match outcome {
            Ok(passed) => passed,
            Err(Some(refusal)) => self.refuse(&wire, source, refusal),
            Err(None) => {
                bump(&self.counters.dropped);
                Outcome::Drop { close: false }
            }
        }
    }

    /// A stateless answer to bytes the SIP library refused after all.
    pub fn refuse_bytes(&self, data: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
        let wire = Wire::parse(data).ok().filter(|w| !matches!(w.method(), "" | "ACK"))?;
        bump(&self.counters.malformed);
        Some(stateless(&wire, source, &self.tag(&wire), &self.settings.user_agent, &Refusal::new(400, "Bad Request")))
    }

    fn refuse(&self, wire: &Wire, source: SocketAddr, refusal: Refusal) -> Outcome {
        let bytes = stateless(wire, source, &self.tag(wire), &self.settings.user_agent, &refusal);
        Outcome::Reply { bytes, close: refusal.close, event: None }
    }

    /// A To-tag that a retransmission gets again without our remembering it.
    fn tag(&self, wire: &Wire) -> String {
        let mut hash = Sha256::new();
        hash.update(self.secret);
        for name in ["call-id", "from", "via", "cseq"] {
            hash.update(wire.get(name).unwrap_or_default().as_bytes());
            hash.update([0]);
        }
        hex(&hash.finalize()[..8])
    }

    fn pass(
        &self,
        wire: &Wire,
        source: SocketAddr,
        transport: Transport,
        call: Option<DialogId>,
    ) -> Result<Outcome, Option<Refusal>> {
        match canonical(wire, source, transport) {
            Some(bytes) => {
                bump(&self.counters.passed);
                Ok(Outcome::Pass { bytes, call })
            }
            None if matches!(wire.method(), "" | "ACK") => Err(None),
            None => {
                bump(&self.counters.malformed);
                Err(Some(Refusal::new(400, "Control characters")))
            }
        }
    }

    fn response(&self, wire: &Wire, source: SocketAddr, transport: Transport) -> Result<Outcome, Option<Refusal>> {
        let call_id = wire.get("call-id").unwrap_or_default();
        if super::alive::is_probe(call_id) {
            lock(&self.state).registrar.answered(call_id);
            return Ok(Outcome::Drop { close: false });
        }
        let (known, trusted) = {
            let calls = &lock(&self.state).calls;
            (calls.knows(call_id), calls.may_answer(call_id, source, &realms(wire)))
        };
        if !known {
            return Err(None);
        }
        let challenge = matches!(wire.start, Start::Response { code: 401 | 407, .. });
        if challenge && !trusted {
            bump(&self.counters.foreign_challenges);
            // Without its challenge the library has nothing to answer, and the call fails.
            let mut bare = wire.clone();
            bare.headers.retain(|(n, _)| !n.ends_with("-authenticate"));
            return self.pass(&bare, source, transport, None);
        }
        self.pass(wire, source, transport, None)
    }

    fn request(
        &self,
        wire: &Wire,
        method: &str,
        source: SocketAddr,
        transport: Transport,
        now: Mono,
        random: u64,
    ) -> Result<Outcome, Option<Refusal>> {
        let ids = Ids::of(wire).ok_or(None)?;
        let mut state = lock(&self.state);
        let inside = state.calls.has_dialog(&ids.call_id, &ids.to_tag);
        let begun = state.calls.has_incoming(&ids.call_id, &ids.from_tag, ids.number);
        let ours = match method {
            // A CANCEL and the ACK of a refusal carry the INVITE's From-tag and number.
            "ACK" | "CANCEL" => begun || inside,
            "INVITE" if ids.to_tag.is_empty() => begun,
            _ => inside,
        };
        let trusted = self.settings.trusts(source.ip());
        if ours {
            let allowed = trusted || state.inside.admit(source.ip(), now);
            drop(state);
            if !allowed {
                bump(&self.counters.limited);
                return Ok(Outcome::Drop { close: false });
            }
            return self.pass(wire, source, transport, None);
        }
        if method == "ACK" {
            return Err(None);
        }
        // From here on it is new to us, and counted.
        if !trusted && !state.admission.admit(source.ip(), now) {
            bump(&self.counters.limited);
            return Ok(Outcome::Drop { close: false });
        }
        match method {
            "OPTIONS" if ids.to_tag.is_empty() => Err(Some(self.options(random))),
            "REGISTER" => Ok(self.register(&mut state, wire, source, transport, now, random)),
            "INVITE" if ids.to_tag.is_empty() => {
                self.new_call(&mut state, wire, &ids, source, random).map_err(Some).and_then(|call| {
                    drop(state);
                    let passed = self.pass(wire, source, transport, Some(call));
                    if passed.is_err() {
                        self.calls(|c| c.end(call, now));
                    }
                    passed
                })
            }
            _ => {
                bump(&self.counters.no_dialog);
                Err(Some(Refusal::new(481, "Call/Transaction Does Not Exist")))
            }
        }
    }

    fn options(&self, random: u64) -> Refusal {
        bump(&self.counters.options);
        if self.draining() {
            return Refusal::new(503, "Going down").with("Retry-After", retry_after(random));
        }
        Refusal::new(200, "OK")
            .with("Allow", ALLOW)
            .with("Accept", "application/sdp")
            .with("Accept-Encoding", "identity")
    }

    fn new_call(
        &self,
        state: &mut State,
        wire: &Wire,
        ids: &Ids,
        source: SocketAddr,
        random: u64,
    ) -> Result<DialogId, Refusal> {
        let trunk = self.settings.trunk(source.ip()).map(String::from);
        let known = trunk.is_some() || self.settings.trusts(source.ip()) || state.registrar.is_registered_from(source);
        if !self.settings.open && !known {
            bump(&self.counters.strangers);
            return Err(Refusal::new(403, "No trunk has this address"));
        }
        if self.draining() || state.calls.active() >= self.settings.max_calls {
            bump(&self.counters.busy);
            return Err(Refusal::new(503, "All lines are taken").with("Retry-After", retry_after(random)));
        }
        let user = request_user(wire).unwrap_or_default();
        if !lock(&self.served).serves(&user) {
            bump(&self.counters.unknown_user);
            return Err(Refusal::new(404, "Not Found"));
        }
        let kind = Kind::In {
            peer_tag: ids.from_tag.clone(),
            cseq: ids.number,
            dialled: user,
            identity: Box::new(Identity::of(wire, trunk)),
            adopted: false,
        };
        Ok(state.calls.add(&ids.call_id, kind, None))
    }

    fn register(
        &self,
        state: &mut State,
        wire: &Wire,
        source: SocketAddr,
        transport: Transport,
        now: Mono,
        random: u64,
    ) -> Outcome {
        let branch = Via::all(wire).and_then(|v| v.first().map(|v| v.branch().to_string())).unwrap_or_default();
        let ids =
            format!("{branch} {} {}", wire.get("call-id").unwrap_or_default(), wire.get("cseq").unwrap_or_default());
        let key = (source, ids);
        if let Some((bytes, _)) = state.answers.get(&key) {
            return Outcome::Reply { bytes: bytes.clone(), close: false, event: None };
        }
        let done = state.registrar.register(wire, source, transport, now, random);
        let bytes = stateless(wire, source, &self.tag(wire), &self.settings.user_agent, &done.answer);
        if done.refused {
            bump(&self.counters.unauthorized);
        } else if state.answers.len() < MAX_ANSWERS {
            state.answers.insert(key, (bytes.clone(), now));
        }
        let event = done.user.map(|(user, contacts)| {
            bump(&self.counters.registered);
            SipEvent::Registered { user, contacts }
        });
        Outcome::Reply { bytes, close: false, event }
    }
}

/// Seconds to wait, spread over 1-10 so that the refused do not all come back at once.
pub(super) fn retry_after(random: u64) -> String {
    (1 + random % 10).to_string()
}

/// User part of the Request-URI, escapes resolved.
fn request_user(wire: &Wire) -> Option<String> {
    match &wire.start {
        Start::Request { uri, .. } => SipUri::parse(uri).ok()?.user,
        Start::Response { .. } => None,
    }
}

/// Whether the Request-URI is a `sips:` one.
fn wants_tls(wire: &Wire) -> bool {
    matches!(&wire.start, Start::Request { uri, method, .. }
        if method != "ACK" && uri.get(..5).is_some_and(|s| s.eq_ignore_ascii_case("sips:")))
}

fn realms(wire: &Wire) -> Vec<String> {
    let challenges = wire.all("www-authenticate").chain(wire.all("proxy-authenticate"));
    let realm = |c: &str| {
        let (_, fields) = c.split_once(' ')?;
        split_outside(fields, ',')?.into_iter().find_map(|f| {
            let (name, value) = f.split_once('=')?;
            name.trim().eq_ignore_ascii_case("realm").then(|| value.trim().trim_matches('"').to_string())
        })
    };
    // A challenge we cannot read has a realm nobody configured.
    challenges.map(|c| realm(c).unwrap_or_default()).collect()
}

/// What identifies a request.
struct Ids {
    call_id: String,
    from_tag: String,
    to_tag: String,
    number: u32,
}

impl Ids {
    fn of(wire: &Wire) -> Option<Ids> {
        let tag = |name| Some(NameAddr::parse(wire.get(name)?)?.tag().unwrap_or_default().to_string());
        let mut from_tag = tag("from")?;
        if from_tag.is_empty() {
            from_tag = super::reply::OLD_TAG.trim_start_matches(";tag=").to_string();
        }
        Some(Ids { call_id: wire.get("call-id")?.to_string(), from_tag, to_tag: tag("to")?, number: cseq(wire)?.0 })
    }
}

/// The address this machine would use to send to `peer` (no packet leaves).
pub(super) fn local_ip_for(peer: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if peer.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = std::net::UdpSocket::bind(any).ok()?;
    socket.connect(peer).ok()?;
    socket.local_addr().ok().map(|a| a.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FAR: &str = "198.51.100.9:5060";

    fn gate(max_calls: usize) -> Gate {
        let users = Served::from_list(["400".to_string()]);
        Gate::new(SipSettings { max_calls, users, ..SipSettings::default() }, [3; 32])
    }

    fn message(method: &str, user: &str, n: u32, to: &str) -> String {
        format!(
            "{method} sip:{user}@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{n}\r\nFrom: <sip:a@h>;tag=f{n}\r\n\
             To: <sip:400@h>{to}\r\nCall-ID: call{n}\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
        )
    }

    fn code(outcome: Outcome) -> u16 {
        match outcome {
            Outcome::Pass { .. } => 0,
            Outcome::Drop { .. } => 1,
            Outcome::Reply { bytes, .. } => String::from_utf8_lossy(&bytes)[8..11].parse().unwrap(),
        }
    }

    fn send(g: &Gate, text: &str, ms: u64) -> u16 {
        code(g.inspect(text.as_bytes(), FAR.parse().unwrap(), Transport::Udp, Mono::from_ms(ms), 4))
    }

    #[test]
    fn a_call_takes_a_line_and_the_next_one_is_sent_away_with_a_time_to_come_back() {
        let g = gate(1);
        assert_eq!(send(&g, &message("INVITE", "400", 1, ""), 0), 0);
        assert_eq!(send(&g, &message("INVITE", "400", 1, ""), 1), 0, "its retransmission passes");
        let full =
            g.inspect(message("INVITE", "400", 2, "").as_bytes(), FAR.parse().unwrap(), Transport::Udp, Mono(0), 4);
        let Outcome::Reply { bytes, .. } = full else { panic!("an answer") };
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("SIP/2.0 503") && text.contains("Retry-After: 5\r\n"), "{text}");
        let (id, ..) = g.calls(|c| c.adopt("call1", "f1", 1)).unwrap();
        g.calls(|c| c.end(id, Mono(0)));
        assert_eq!(send(&g, &message("INVITE", "400", 3, ""), 2), 0);
    }

    #[test]
    fn what_belongs_to_no_call_is_turned_away() {
        let g = gate(9);
        assert_eq!(send(&g, &message("INVITE", "999", 1, ""), 0), 404);
        assert_eq!(send(&g, &message("BYE", "400", 2, ";tag=x"), 0), 481);
        assert_eq!(send(&g, &message("INVITE", "400", 3, ";tag=x"), 0), 481);
        assert_eq!(send(&g, &message("CANCEL", "400", 4, ""), 0), 481);
        assert_eq!(send(&g, &message("ACK", "400", 5, ";tag=x"), 0), 1);
        assert_eq!(send(&g, &message("OPTIONS", "999", 6, ""), 0), 200);
        let stray = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>;tag=2\r\n\
            Call-ID: stray\r\nCSeq: 1 INVITE\r\n\r\n";
        assert_eq!(send(&g, stray, 0), 1);
        assert_eq!(g.calls(|c| c.active()), 0);
        g.drain();
        assert_eq!(send(&g, &message("OPTIONS", "400", 7, ""), 0), 503);
        assert_eq!(send(&g, &message("INVITE", "400", 8, ""), 0), 503);
    }

    #[test]
    fn a_stranger_who_asks_too_often_is_not_answered_but_his_call_goes_on() {
        let g = gate(9);
        assert_eq!(send(&g, &message("INVITE", "400", 1, ""), 0), 0);
        let answered = (0..200).filter(|n| send(&g, &message("OPTIONS", "400", 10 + n, ""), 1) == 200).count();
        assert_eq!(answered, 15);
        let garbage = message("OPTIONS", "400", 7, "").replace("CSeq: 1", "CSeq: -1");
        assert_eq!(send(&g, &garbage, 1), 1, "nor are his mistakes");
        assert_eq!(send(&g, &message("CANCEL", "400", 1, ""), 1), 0);
        assert_eq!(g.counters.snapshot().limited, 186);
    }

    #[test]
    fn a_challenge_of_a_stranger_loses_its_teeth() {
        let g = gate(9);
        let pin = crate::sip::calls::Pin { server: "192.0.2.1".parse().unwrap(), realm: None, secret: true };
        g.calls(|c| c.add("mine", Kind::Out, Some(pin)));
        let challenge = "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP h;branch=z9\r\nFrom: <sip:a@h>;tag=1\r\n\
            To: <sip:b@h>;tag=2\r\nCall-ID: mine\r\nCSeq: 1 INVITE\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n\r\n";
        let from =
            |source: &str| match g.inspect(challenge.as_bytes(), source.parse().unwrap(), Transport::Udp, Mono(0), 0) {
                Outcome::Pass { bytes, .. } => String::from_utf8(bytes).unwrap().contains("authenticate"),
                _ => panic!("it should pass"),
            };
        assert!(from("192.0.2.1:5060"));
        assert!(!from("192.0.2.66:5060"));
        assert_eq!(g.counters.snapshot().foreign_challenges, 1);
    }

    #[test]
    fn even_inside_a_call_a_flood_is_cut() {
        let g = gate(9);
        let invite = message("INVITE", "400", 1, "");
        let passed = (0..2000).filter(|_| send(&g, &invite, 1) == 0).count();
        assert_eq!(passed as u32, 1 + INSIDE_PER_2S);
    }

    proptest! {
        #[test]
        fn no_bytes_change_more_than_a_counter(data in proptest::collection::vec(any::<u8>(), 0..600)) {
            let g = gate(9);
            let outcome = g.inspect(&data, FAR.parse().unwrap(), Transport::Udp, Mono(0), 0);
            prop_assert_eq!(code(outcome), 1);
            prop_assert_eq!(g.calls(|c| c.active()), 0);
            prop_assert_eq!(g.counters.snapshot().dropped, 1);
        }
    }
}
