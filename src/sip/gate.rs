//! The gate: every message passes it before the SIP library hears of it.
//!
//! In order: is it SIP at all, is it sound ([`super::sanity`]), does it belong to a call of ours, may its sender
//! ask, is there a line free. What fails is answered from here without any state, or not at all.

use super::admission::{Admission, Rate};
use super::calls::{Calls, Kind, SeatEnd};
use super::counters::{Counters, bump};
use super::digest::hex;
use super::event::{DialogId, SipEvent};
use super::identity::Identity;
use super::refused::RefusedFor;
use super::registrar::{Contact, Registrar, Round};
use super::reply::{canonical, stateless, tokens};
use super::sanity::{ALLOW, Refusal, SUPPORTED, Verdict, check, cseq};
use super::session_timer::Asked;
use super::settings::{Served, SipSettings};
use super::trace::Tracer;
use super::transport::Transport;
use super::uri::SipUri;
use super::wire::{MAX_HEAD, NameAddr, Start, Via, Wire, split_outside};
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
    /// Send this back to where the message came from; `close` ends a stream. `why`: it refuses the message.
    Reply { bytes: Vec<u8>, close: bool, event: Option<Box<SipEvent>>, why: Option<RefusedFor> },
    /// Nothing; `close` ends a stream.
    Drop { close: bool, why: Option<RefusedFor> },
}

impl Outcome {
    /// Why the message was refused, if it was.
    pub fn why(&self) -> Option<RefusedFor> {
        match self {
            Outcome::Pass { .. } => None,
            Outcome::Reply { why, .. } | Outcome::Drop { why, .. } => *why,
        }
    }
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
    served: Mutex<Served>,
    draining: AtomicBool,
    secret: [u8; 32],
    state: Mutex<State>,
}

struct State {
    admission: Admission,
    inside: Admission,
    rates: Rates,
    registrar: Registrar,
    calls: Calls,
    answers: HashMap<(SocketAddr, String), (Vec<u8>, Mono)>,
}

/// How fast new calls may come: a trunk's flood must not cost the others theirs.
struct Rates {
    trunks: HashMap<String, Rate>,
    ours: Rate,
    others: Rate,
}

impl Rates {
    fn new(settings: &SipSettings) -> Rates {
        let rate = || Rate::new(settings.calls_per_s);
        let trunks = settings.trunks.iter().map(|t| (t.name.clone(), rate())).collect();
        Rates { trunks, ours: rate(), others: rate() }
    }

    fn of(&mut self, trunk: Option<&str>, ours: bool) -> &mut Rate {
        match trunk.and_then(|name| self.trunks.get_mut(name)) {
            Some(rate) => rate,
            None if ours => &mut self.ours,
            None => &mut self.others,
        }
    }
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
    pub fn inspect(&self, data: &[u8], source: SocketAddr, transport: Transport, now: Mono, random: u64) -> Outcome {
        bump(if transport.is_stream() { &self.counters.streamed } else { &self.counters.datagrams });
        let Ok(wire) = Wire::parse(data) else {
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
                Start::Response { .. } => self.response(&wire, source, transport),
                Start::Request { method, .. } => self.request(&wire, method, source, transport, now, random),
            },
        };
        match outcome {
            Ok(passed) => passed,
            Err(Stop::Answer(refusal)) => self.refuse(&wire, source, now, refusal),
            Err(Stop::Silence(why)) => {
                bump(if why == RefusedFor::Limited { &self.counters.limited } else { &self.counters.dropped });
                self.silence(why, wire.method(), source, now, false)
            }
        }
    }

    /// No answer, but it is counted.
    fn silence(&self, why: RefusedFor, detail: &str, source: SocketAddr, now: Mono, close: bool) -> Outcome {
        self.counters.refused.note(why, source.ip(), detail, now);
        Outcome::Drop { close, why: Some(why) }
    }

    /// A stateless answer to bytes the SIP library refused after all.
    pub fn refuse_bytes(&self, data: &[u8], source: SocketAddr, now: Mono) -> Option<Vec<u8>> {
        let wire = Wire::parse(data).ok().filter(|w| !matches!(w.method(), "" | "ACK"))?;
        bump(&self.counters.malformed);
        self.counters.refused.note(RefusedFor::Library, source.ip(), wire.method(), now);
        Some(stateless(&wire, source, &self.tag(&wire), &self.settings.user_agent, &Refusal::new(400, "Bad Request")))
    }

    fn refuse(&self, wire: &Wire, source: SocketAddr, now: Mono, refusal: Refusal) -> Outcome {
        let bytes = stateless(wire, source, &self.tag(wire), &self.settings.user_agent, &refusal);
        self.count(&refusal, wire, source, now);
        Outcome::Reply { bytes, close: refusal.close, event: None, why: refusal.why }
    }

    fn count(&self, answer: &Refusal, wire: &Wire, source: SocketAddr, now: Mono) {
        if let Some(why) = answer.why {
            let detail = format!("{} answered {} {}", wire.method(), answer.code, answer.reason);
            self.counters.refused.note(why, source.ip(), &detail, now);
        }
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
    ) -> Result<Outcome, Stop> {
        let passed = match canonical(wire, source, transport) {
            // The canonical form of a head at the limit may be longer than the limit.
            Some(bytes) if bytes.len() - wire.body().len() > MAX_HEAD => Err(Refusal::new(513, "Message Too Large")),
            Some(bytes) => Ok(bytes),
            None => Err(Refusal::new(400, "Control characters")),
        };
        match passed {
            Ok(bytes) => {
                bump(&self.counters.passed);
                Ok(Outcome::Pass { bytes, call })
            }
            Err(_) if matches!(wire.method(), "" | "ACK") => Err(Stop::Silence(RefusedFor::Broken)),
            Err(refusal) => {
                bump(&self.counters.malformed);
                Err(Stop::Answer(refusal))
            }
        }
    }

    fn response(&self, wire: &Wire, source: SocketAddr, transport: Transport) -> Result<Outcome, Stop> {
        let call_id = wire.get("call-id").unwrap_or_default();
        if super::alive::is_probe(call_id) {
            lock(&self.state).registrar.answered(call_id);
            return Ok(Outcome::Drop { close: false, why: None });
        }
        let (known, trusted) = {
            let calls = &lock(&self.state).calls;
            (calls.knows(call_id), calls.may_answer(call_id, source, &realms(wire)))
        };
        if !known {
            return Err(Stop::Silence(RefusedFor::Stray));
        }
        let challenge = matches!(wire.start, Start::Response { code: 401 | 407, .. });
        if challenge && !trusted {
            bump(&self.counters.foreign_challenges);
            // Without its challenge the library has nothing to answer, and the call fails.
            let mut bare = wire.clone();
            bare.headers.retain(|(n, _)| !n.ends_with("-authenticate"));
            return self.pass(&bare, source, transport, None);
        }
        let renumbered = self.renumbered(wire, call_id);
        let wire = renumbered.as_ref().unwrap_or(wire);
        let passed = self.pass(wire, source, transport, None);
        let escaped = wire.get("contact").is_some_and(|c| c.contains('%'));
        if let (Ok(Outcome::Pass { bytes, .. }), true, Start::Response { code: 200..=299, .. }) =
            (&passed, escaped, &wire.start)
        {
            self.note_target(bytes, call_id);
        }
        passed
    }

    /// A response with the number the library knows its request by, where that is another one.
    fn renumbered<'w>(&self, wire: &Wire<'w>, call_id: &str) -> Option<Wire<'w>> {
        let (number, method) = cseq(wire).filter(|(_, method)| method != "PRACK")?;
        let from = NameAddr::parse(wire.get("from")?)?;
        let known = lock(&self.state).calls.in_the_library(call_id, from.tag()?, number)?;
        let mut changed = wire.clone();
        let header = changed.headers.iter_mut().find(|(name, _)| name == "cseq")?;
        header.1 = format!("{known} {method}");
        Some(changed)
    }

    /// Refuses a session that is to be refreshed too often (RFC 4028 section 9).
    fn too_brief(&self, wire: &Wire, method: &str) -> Result<(), Refusal> {
        let supported =
            tokens(wire, "supported").chain(tokens(wire, "require")).any(|t| t.eq_ignore_ascii_case("timer"));
        let asked = Asked::of(wire.get("session-expires"), wire.get("min-se"), supported);
        let min = asked.too_brief(self.settings.session_min_s).filter(|_| matches!(method, "INVITE" | "UPDATE"));
        min.map_or(Ok(()), |min| Err(Refusal::new(422, "Session Interval Too Small").with("Min-SE", min.to_string())))
    }

    /// The library escapes an escaped user again when it writes the ACK: [`super::hub::Mend`] needs what was said.
    fn note_target(&self, canonical: &[u8], call_id: &str) -> Option<()> {
        let wire = Wire::parse(canonical).ok()?;
        let contact = NameAddr::parse(wire.get("contact")?)?;
        let to = NameAddr::parse(wire.get("to")?)?;
        lock(&self.state).calls.aim(call_id, to.tag()?, &contact.uri);
        Some(())
    }

    fn request(
        &self,
        wire: &Wire,
        method: &str,
        source: SocketAddr,
        transport: Transport,
        now: Mono,
        random: u64,
    ) -> Result<Outcome, Stop> {
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
            return self.pass(wire, source, transport, None);
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
            "MESSAGE" if ids.to_tag.is_empty() => Ok(self.message(&mut state, wire, source, (now, random))),
            "REGISTER" => Ok(self.register(&mut state, wire, source, transport, now, random)),
            "INVITE" if ids.to_tag.is_empty() => {
                self.new_call(&mut state, wire, &ids, source, (now, random)).map_err(Stop::Answer).and_then(|call| {
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

    /// The seat a request comes from: one whose From is a seat's address must prove it, whoever may forge it.
    ///
    /// Who has no phone registered here is not told which names are seats': without a password to show he is nobody in
    /// particular, and with a wrong one he is challenged whether the name exists or not.
    fn seat_of(
        &self,
        state: &mut State,
        wire: &Wire,
        (source, now, random): (IpAddr, Mono, u64),
    ) -> Result<Option<String>, Refusal> {
        if self.settings.trunk(source).is_some() {
            return Ok(None); // a carrier's caller may have a short number that is also a seat's name
        }
        let from = wire.get("from").and_then(NameAddr::parse).and_then(|a| SipUri::parse(&a.uri).ok());
        let stranger = !self.settings.trusts(source) && !state.registrar.is_registered_at(source);
        let shows = wire.get("proxy-authorization").or(wire.get("authorization")).is_some();
        let user = from.and_then(|u| u.user);
        let is_seat = user.as_deref().is_some_and(|u| state.registrar.has_account(u));
        let asked = if stranger { shows } else { is_seat };
        let Some(user) = user.filter(|_| asked) else { return Ok(None) };
        let proved = state.registrar.authenticate(wire, source, now, random);
        if !matches!(&proved, Ok(p) if *p == user) {
            bump(&self.counters.unauthorized);
        }
        match proved? {
            proved if proved == user => Ok(Some(user)),
            _ => Err(Refusal::new(403, "Not your address")),
        }
    }

    /// Only a seat may transfer a call or send a text inside one, and it proves its password once in each dialog.
    fn entitled(
        &self,
        state: &mut State,
        wire: &Wire,
        ids: &Ids,
        (source, now, random): (IpAddr, Mono, u64),
    ) -> Result<(), Refusal> {
        let id = state.calls.find(&ids.call_id, &ids.to_tag);
        let seat = id.and_then(|id| state.calls.seat(id).map(|seat| (id, seat)));
        let Some((id, seat)) = seat else { return Err(self.not_allowed("Not a seat's call")) };
        if seat.proved {
            return Ok(());
        }
        let user = state.registrar.authenticate(wire, source, now, random).inspect_err(|_| {
            bump(&self.counters.unauthorized);
        })?;
        if user != seat.user {
            return Err(self.not_allowed("Not your call"));
        }
        state.calls.set_seat(id, SeatEnd { user, proved: true });
        Ok(())
    }

    fn not_allowed(&self, reason: &str) -> Refusal {
        bump(&self.counters.not_allowed);
        Refusal::new(403, reason)
    }

    /// A text outside any call: from a registered seat only.
    fn message(&self, state: &mut State, wire: &Wire, source: SocketAddr, (now, random): (Mono, u64)) -> Outcome {
        let key = (source, branch_and_number(wire));
        if let Some((bytes, _)) = state.answers.get(&key) {
            return Outcome::Reply { bytes: bytes.clone(), close: false, event: None, why: None };
        }
        let seat = match self.seat_of(state, wire, (source.ip(), now, random)) {
            Ok(seat) => seat.filter(|s| !state.registrar.contacts(s, now).is_empty()),
            Err(refusal) => return self.refuse(wire, source, now, refusal),
        };
        let Some(seat) = seat else { return self.refuse(wire, source, now, self.not_allowed("Seats only")) };
        let bytes = stateless(wire, source, &self.tag(wire), &self.settings.user_agent, &Refusal::new(200, "OK"));
        if state.answers.len() < MAX_ANSWERS {
            state.answers.insert(key, (bytes.clone(), now));
        }
        let text = String::from_utf8_lossy(wire.body()).into_owned();
        let to_user = request_user(wire).unwrap_or_default();
        let event = Some(Box::new(SipEvent::Message { dialog: None, seat, to_user, text }));
        Outcome::Reply { bytes, close: false, event, why: None }
    }

    fn new_call(
        &self,
        state: &mut State,
        wire: &Wire,
        ids: &Ids,
        source: SocketAddr,
        (now, random): (Mono, u64),
    ) -> Result<DialogId, Refusal> {
        let trunk = self.settings.trunk(source.ip()).map(String::from);
        let known = trunk.is_some() || self.settings.trusts(source.ip()) || state.registrar.is_registered_from(source);
        if !self.settings.open && !known {
            bump(&self.counters.strangers);
            return Err(Refusal::new(403, "No trunk has this address").because(RefusedFor::Stranger));
        }
        let counted = (!known).then(|| super::admission::network(source.ip()));
        if !state.rates.of(trunk.as_deref(), known).admit(now) {
            bump(&self.counters.too_fast);
            let refusal = Refusal::new(503, "Too many calls a second").because(RefusedFor::TooFast);
            return Err(refusal.with("Retry-After", retry_after(random)));
        }
        if counted.is_some_and(|from| state.calls.of_source(from) >= self.settings.calls_per_source) {
            bump(&self.counters.crowded);
            let refusal = Refusal::new(503, "Too many calls of yours").because(RefusedFor::Crowded);
            return Err(refusal.with("Retry-After", retry_after(random)));
        }
        if self.draining() || state.calls.active() >= self.settings.max_calls {
            bump(&self.counters.busy);
            let why = if self.draining() { RefusedFor::Draining } else { RefusedFor::Full };
            let refusal = Refusal::new(503, "All lines are taken").because(why);
            return Err(refusal.with("Retry-After", retry_after(random)));
        }
        self.too_brief(wire, "INVITE")?;
        if state.calls.has_dialog(&ids.call_id, &ids.from_tag) {
            bump(&self.counters.loops);
            return Err(Refusal::new(482, "Loop Detected"));
        }
        let seat = self.seat_of(state, wire, (source.ip(), now, random))?;
        if wire.get("replaces").is_some() && seat.is_none() {
            return Err(self.not_allowed("Replaces is for seats"));
        }
        let user = request_user(wire).unwrap_or_default();
        let inside = seat.is_some() && state.registrar.has_account(&user);
        let outside = seat.is_some() && self.settings.seats_dial_out && is_number(&user);
        if !inside && !outside && !lock(&self.served).serves(&user) {
            bump(&self.counters.unknown_user);
            return Err(Refusal::new(404, "Not Found"));
        }
        let kind = Kind::In {
            peer_tag: ids.from_tag.clone(),
            cseq: ids.number,
            dialled: user,
            identity: Box::new(Identity::of(wire, trunk)),
            counted,
            adopted: false,
        };
        let id = state.calls.add(&ids.call_id, kind, None);
        if let Some(user) = seat {
            state.calls.set_seat(id, SeatEnd { user, proved: true });
        }
        Ok(id)
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
        let key = (source, branch_and_number(wire));
        if let Some((bytes, _)) = state.answers.get(&key) {
            return Outcome::Reply { bytes: bytes.clone(), close: false, event: None, why: None };
        }
        let done = state.registrar.register(wire, source, transport, now, random);
        let bytes = stateless(wire, source, &self.tag(wire), &self.settings.user_agent, &done.answer);
        self.count(&done.answer, wire, source, now);
        if done.refused {
            bump(&self.counters.unauthorized);
        } else if state.answers.len() < MAX_ANSWERS {
            state.answers.insert(key, (bytes.clone(), now));
        }
        let event = done.user.map(|(user, contacts)| {
            bump(&self.counters.registered);
            Box::new(SipEvent::Registered { user, contacts })
        });
        Outcome::Reply { bytes, close: false, event, why: done.answer.why }
    }
}

/// Seconds to wait, spread over 1-10 so that the refused do not all come back at once.
pub(super) fn retry_after(random: u64) -> String {
    (1 + random % 10).to_string()
}

/// What a retransmission has in common with its request.
fn branch_and_number(wire: &Wire) -> String {
    let branch = Via::all(wire).and_then(|v| v.first().map(|v| v.branch().to_string())).unwrap_or_default();
    format!("{branch} {} {}", wire.get("call-id").unwrap_or_default(), wire.get("cseq").unwrap_or_default())
}

/// Whether a user part is a telephone number.
fn is_number(user: &str) -> bool {
    let digits = user.strip_prefix('+').unwrap_or(user);
    digits.len() >= 3 && digits.bytes().all(|b| b.is_ascii_digit())
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
        Gate::new(SipSettings { max_calls, users, ..SipSettings::default() }, Tracer::default(), [3; 32])
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
    fn a_stranger_learns_from_no_method_and_no_number_which_names_are_seats() {
        let account = super::super::settings::Account { user: "8001".into(), password: "geheim".into() };
        let users = Served::from_list(["400".to_string()]);
        let g = Gate::new(
            SipSettings { accounts: vec![account], users, ..SipSettings::default() },
            Tracer::default(),
            [3; 32],
        );
        let guess = "Authorization: Digest username=\"NAME\", realm=\"zongji\", nonce=\"0\", uri=\"sip:h\", \
                     response=\"0\", qop=auth, nc=00000001, cnonce=\"c\"\r\n";
        let mut n = 0;
        for method in ["INVITE", "MESSAGE", "REGISTER", "OPTIONS"] {
            for dialled in ["NAME", "400", "999", "*1NAME"] {
                for proof in ["", guess] {
                    let answers = ["8001", "7001"].map(|name| {
                        n += 1;
                        let text = message(method, dialled, n, "").replace("sip:a@h", "sip:NAME@h");
                        let text =
                            text.replace("sip:400@h>", if method == "REGISTER" { "sip:NAME@h>" } else { "sip:400@h>" });
                        let text =
                            text.replace("Content-Length", &format!("{proof}Content-Length")).replace("NAME", name);
                        let from = std::net::SocketAddr::from(([198, 51, 100, n as u8], 5060));
                        code(g.inspect(text.as_bytes(), from, Transport::Udp, Mono::from_ms(u64::from(n) * 1000), 4))
                    });
                    assert_eq!(answers[0], answers[1], "{method} {dialled} {proof}");
                }
            }
        }
    }

    #[test]
    fn no_line_break_of_another_kind_smuggles_a_header_in() {
        let good = message("INVITE", "400", 1, "");
        assert_eq!(send(&gate(9), &good, 0), 0);
        let places = ["CSeq: 1 INVITE", "branch=z9hG4bK1", "Call-ID: call1", "sip:a@h", "tag=f1", "sip:400@h SIP"];
        for place in places {
            for smuggled in ["\nX-Mine: 1", "\rX-Mine: 1", "\r\n folded\nX-Mine: 1", "\r\n\tfolded\rX-Mine: 1\r\n more"]
            {
                let text = good.replacen(place, &format!("{place}{smuggled}"), 1);
                let outcome = gate(9).inspect(text.as_bytes(), FAR.parse().unwrap(), Transport::Udp, Mono(0), 4);
                assert_ne!(code(outcome), 0, "{text:?}");
            }
        }
    }

    #[test]
    fn a_head_that_grows_beyond_what_is_read_when_it_is_rewritten_is_too_large() {
        let fit = MAX_HEAD - message("INVITE", "400", 1, "").len();
        let sent =
            |longer: usize| message("INVITE", "400", 1, "").replace("z9hG4bK", &"z9hG4bK".repeat(1 + longer / 7));
        let g = gate(9);
        assert_eq!(send(&g, &sent(fit), 0), 513, "it takes a line and gives it back");
        assert_eq!(g.calls(|c| c.active()), 0);
        assert_eq!(send(&g, &sent(fit - 1000), 0), 0);
        let ack = sent(fit).replace("INVITE", "ACK");
        assert_eq!(send(&g, &ack, 0), 1, "an ACK is never answered");
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
