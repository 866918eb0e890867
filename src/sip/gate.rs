//! The gate: every message passes it before anything else hears of it.
//!
//! In order: is it SIP at all, is it sound ([`super::sanity`]), does it belong to a call of ours, may its sender
//! ask, is there a line free. What fails is answered from here without any state, or not at all.

use super::admission::Admission;
use super::calls::Calls;
use super::counters::{Counters, bump};
use super::digest::hex;
use super::event::{DialogId, SipEvent};
use super::newcomers::Rates;
use super::refused::RefusedFor;
use super::registrar::{Contact, Registrar, Round};
use super::reply::stateless;
use super::sanity::{ALLOW, Refusal, SUPPORTED, Verdict, check, cseq};
use super::session_timer::Asked;
use super::settings::{Served, SipSettings};
use super::trace::Tracer;
use super::transport::Transport;
use super::wire::{Start, Wire, split_outside, tag_of};
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
pub(super) const MAX_ANSWERS: usize = 4096;

/// What becomes of a message.
pub(super) enum Outcome<'d> {
    /// It is sound, and somebody's. `call` is the line that a new call was let in with.
    Pass { wire: Box<Wire<'d>>, call: Option<DialogId> },
    /// Send this back to where the message came from; `close` ends a stream. `why`: it refuses the message.
    Reply { bytes: Vec<u8>, close: bool, event: Option<Box<SipEvent>>, why: Option<RefusedFor> },
    /// Nothing; `close` ends a stream.
    Drop { close: bool, why: Option<RefusedFor> },
}

impl Outcome<'_> {
    /// Why the message was refused, if it was.
    pub fn why(&self) -> Option<RefusedFor> {
        match self {
            Outcome::Pass { .. } => None,
            Outcome::Reply { why, .. } | Outcome::Drop { why, .. } => *why,
        }
    }
}

/// What is right about a message.
enum Judged {
    /// It passes, a new call by its line.
    Passes(Option<DialogId>),
    /// All is done that it wants.
    Done(Outcome<'static>),
}

/// What does not pass.
enum Stop {
    /// It is answered so.
    Answer(Refusal),
    /// It is not answered.
    Silence(RefusedFor),
}

/// Checks and the state they need.
pub(super) struct Gate {
    pub settings: SipSettings,
    pub counters: Counters,
    /// Takes a copy of what comes and goes.
    pub tracer: Tracer,
    pub(super) served: Mutex<Served>,
    draining: AtomicBool,
    secret: [u8; 32],
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) admission: Admission,
    pub(super) inside: Admission,
    pub(super) rates: Rates,
    pub(super) registrar: Registrar,
    pub(super) calls: Calls,
    pub(super) answers: HashMap<(SocketAddr, String), (Vec<u8>, Mono)>,
}

/// A locked mutex even if a holder panicked: what it guards is maps, whole after every statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Gate {
    pub fn new(settings: SipSettings, tracer: Tracer, secret: [u8; 32]) -> Gate {
        let linger = settings.t1 * 64;
        let nonce_key: [u8; 32] = Sha256::digest([&secret[..], b"nonce"].concat()).into();
        let state = State {
            admission: Admission::new(settings.requests_per_2s),
            rates: Rates::new(&settings),
            inside: Admission::new(INSIDE_PER_2S.max(settings.requests_per_2s)),
            registrar: Registrar::new(nonce_key, settings.realm.clone(), &settings.accounts),
            calls: Calls::new(linger),
            answers: HashMap::new(),
        };
        Gate {
            served: Mutex::new(settings.users.clone()),
            counters: Counters::default(),
            tracer,
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
    pub fn inspect<'d>(
        &self,
        data: &'d [u8],
        source: SocketAddr,
        transport: Transport,
        now: Mono,
        random: u64,
    ) -> Outcome<'d> {
        bump(if transport.is_stream() { &self.counters.streamed } else { &self.counters.datagrams });
        let Ok(mut wire) = Wire::parse(data) else {
            bump(&self.counters.dropped);
            return self.silence(RefusedFor::NotSip, "", source, now, true);
        };
        let outcome = match check(&wire) {
            // `sips:` promises that nobody on the way could read it (RFC 5630 section 4).
            Verdict::Ok if !transport.is_secure() && wants_tls(&wire) => {
                Err(Stop::Answer(Refusal::new(416, "sips only under TLS")))
            }
            Verdict::Drop => Err(Stop::Silence(RefusedFor::Broken)),
            Verdict::Reply(refusal) => {
                // Answering garbage is a service too: an unknown sender gets only so much of it.
                let allowed = self.settings.trusts(source.ip()) || lock(&self.state).admission.admit(source.ip(), now);
                bump(if allowed { &self.counters.malformed } else { &self.counters.limited });
                return if allowed {
                    self.refuse(&wire, source, now, refusal)
                } else {
                    self.silence(RefusedFor::Limited, wire.method(), source, now, refusal.close)
                };
            }
            Verdict::Ok => match &wire.start {
                Start::Response { .. } => self.response(&mut wire, source),
                Start::Request { method, .. } => self.request(&wire, method, source, transport, now, random),
            },
        };
        match outcome {
            Ok(Judged::Passes(call)) => {
                bump(&self.counters.passed);
                Outcome::Pass { wire: Box::new(wire), call }
            }
            Ok(Judged::Done(outcome)) => outcome,
            Err(Stop::Answer(refusal)) => self.refuse(&wire, source, now, refusal),
            Err(Stop::Silence(why)) => {
                bump(if why == RefusedFor::Limited { &self.counters.limited } else { &self.counters.dropped });
                self.silence(why, wire.method(), source, now, false)
            }
        }
    }

    /// No answer, but it is counted.
    fn silence(&self, why: RefusedFor, detail: &str, source: SocketAddr, now: Mono, close: bool) -> Outcome<'static> {
        self.counters.refused.note(why, source.ip(), detail, now);
        Outcome::Drop { close, why: Some(why) }
    }

    pub(super) fn refuse(&self, wire: &Wire, source: SocketAddr, now: Mono, refusal: Refusal) -> Outcome<'static> {
        let bytes = stateless(wire, source, &self.tag(wire), &self.settings.user_agent, &refusal);
        self.count(&refusal, wire, source, now);
        Outcome::Reply { bytes, close: refusal.close, event: None, why: refusal.why }
    }

    pub(super) fn count(&self, answer: &Refusal, wire: &Wire, source: SocketAddr, now: Mono) {
        if let Some(why) = answer.why {
            let detail = format!("{} answered {} {}", wire.method(), answer.code, answer.reason);
            self.counters.refused.note(why, source.ip(), &detail, now);
        }
    }

    /// A To-tag that a retransmission gets again without our remembering it.
    pub(super) fn tag(&self, wire: &Wire) -> String {
        let mut hash = Sha256::new();
        hash.update(self.secret);
        for name in ["call-id", "from", "via", "cseq"] {
            hash.update(wire.get(name).unwrap_or_default().as_bytes());
            hash.update([0]);
        }
        hex(&hash.finalize()[..8])
    }

    fn response(&self, wire: &mut Wire, source: SocketAddr) -> Result<Judged, Stop> {
        let call_id = wire.get("call-id").unwrap_or_default();
        if super::alive::is_probe(call_id) {
            lock(&self.state).registrar.answered(call_id);
            return Ok(Judged::Done(Outcome::Drop { close: false, why: None }));
        }
        let (known, trusted, inside) = {
            let calls = &lock(&self.state).calls;
            (calls.knows(call_id), calls.may_answer(call_id, source, &realms(wire)), calls.is_inside(call_id))
        };
        if !known {
            return Err(Stop::Silence(RefusedFor::Stray));
        }
        let challenge = matches!(wire.start, Start::Response { code: 401 | 407, .. });
        if challenge && !trusted {
            bump(&self.counters.foreign_challenges);
            // Without its challenge there is nothing to answer, and the request is refused.
            wire.headers.retain(|(n, _)| !n.ends_with("-authenticate"));
            if let (true, Start::Response { code, .. }) = (inside, &mut wire.start) {
                *code = 403;
            }
        }
        Ok(Judged::Passes(None))
    }

    /// Refuses a session that is to be refreshed too often (RFC 4028 section 9).
    pub(super) fn too_brief(&self, wire: &Wire, method: &str) -> Result<(), Refusal> {
        let min = Asked::in_request(wire)
            .too_brief(self.settings.session_min_s)
            .filter(|_| matches!(method, "INVITE" | "UPDATE"));
        min.map_or(Ok(()), |min| Err(Refusal::new(422, "Session Interval Too Small").with("Min-SE", min.to_string())))
    }

    fn request(
        &self,
        wire: &Wire,
        method: &str,
        source: SocketAddr,
        transport: Transport,
        now: Mono,
        random: u64,
    ) -> Result<Judged, Stop> {
        let ids = Ids::of(wire).ok_or(Stop::Silence(RefusedFor::Broken))?;
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
            let entitled = match method {
                "REFER" | "MESSAGE" if allowed => self.entitled(&mut state, wire, &ids, (source.ip(), now, random)),
                _ => Ok(()),
            };
            drop(state);
            entitled.map_err(Stop::Answer)?;
            if !allowed {
                return Err(Stop::Silence(RefusedFor::Limited));
            }
            self.too_brief(wire, method).map_err(Stop::Answer)?;
            return Ok(Judged::Passes(None));
        }
        if method == "ACK" {
            return Err(Stop::Silence(RefusedFor::Stray));
        }
        // From here on it is new to us, and counted.
        if !trusted && !state.admission.admit(source.ip(), now) {
            return Err(Stop::Silence(RefusedFor::Limited));
        }
        match method {
            "OPTIONS" if ids.to_tag.is_empty() => Err(Stop::Answer(self.options(random))),
            "MESSAGE" if ids.to_tag.is_empty() => {
                Ok(Judged::Done(self.message(&mut state, wire, source, (now, random))))
            }
            "REGISTER" => Ok(Judged::Done(self.register(&mut state, wire, source, transport, now, random))),
            "INVITE" if ids.to_tag.is_empty() => {
                let let_in = self.new_call(&mut state, wire, &ids, source, (now, random));
                let_in.map(|call| Judged::Passes(Some(call))).map_err(Stop::Answer)
            }
            _ => {
                bump(&self.counters.no_dialog);
                Err(Stop::Answer(Refusal::new(481, "Call/Transaction Does Not Exist")))
            }
        }
    }

    fn options(&self, random: u64) -> Refusal {
        bump(&self.counters.options);
        if self.draining() {
            return Refusal::new(503, "Going down")
                .because(RefusedFor::Draining)
                .with("Retry-After", retry_after(random));
        }
        Refusal::new(200, "OK")
            .with("Allow", ALLOW)
            .with("Accept", "application/sdp")
            .with("Accept-Encoding", "identity")
            .with("Supported", SUPPORTED)
    }
}

/// Seconds to wait, spread over 1-10 so that the refused do not all come back at once.
pub(super) fn retry_after(random: u64) -> String {
    (1 + random % 10).to_string()
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
        split_outside(fields, b',')?.into_iter().find_map(|f| {
            let (name, value) = f.split_once('=')?;
            name.trim().eq_ignore_ascii_case("realm").then(|| value.trim().trim_matches('"').to_string())
        })
    };
    // A challenge we cannot read has a realm nobody configured.
    challenges.map(|c| realm(c).unwrap_or_default()).collect()
}

/// What identifies a request.
pub(super) struct Ids {
    pub(super) call_id: String,
    pub(super) from_tag: String,
    pub(super) to_tag: String,
    pub(super) number: u32,
}

impl Ids {
    fn of(wire: &Wire) -> Option<Ids> {
        let tag = |name| Some(tag_of(wire.get(name)?).unwrap_or_default().to_string());
        Some(Ids {
            call_id: wire.get("call-id")?.to_string(),
            from_tag: tag("from")?,
            to_tag: tag("to")?,
            number: cseq(wire)?.0,
        })
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
#[path = "gate_tests.rs"]
mod tests;
