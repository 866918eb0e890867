//! Requests that belong to no call yet: who may make one, register, or send a text, and who has proved to be a seat.

use super::admission::{Rate, network};
use super::calls::{Kind, SeatEnd};
use super::counters::bump;
use super::event::{DialogId, SipEvent};
use super::gate::{Gate, Ids, MAX_ANSWERS, Outcome, State, lock, retry_after};
use super::identity::Identity;
use super::refused::RefusedFor;
use super::reply::stateless;
use super::sanity::Refusal;
use super::settings::SipSettings;
use super::transport::Transport;
use super::uri::SipUri;
use super::wire::{NameAddr, Start, Via, Wire};
use crate::clock::Mono;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// How fast new calls may come: a trunk's flood must not cost the others theirs.
pub(super) struct Rates {
    trunks: HashMap<String, Rate>,
    ours: Rate,
    others: Rate,
}

impl Rates {
    pub(super) fn new(settings: &SipSettings) -> Rates {
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

impl Gate {
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
    pub(super) fn entitled(
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
    pub(super) fn message(
        &self,
        state: &mut State,
        wire: &Wire,
        source: SocketAddr,
        (now, random): (Mono, u64),
    ) -> Outcome<'static> {
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

    pub(super) fn new_call(
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
        let counted = (!known).then(|| network(source.ip()));
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

    pub(super) fn register(
        &self,
        state: &mut State,
        wire: &Wire,
        source: SocketAddr,
        transport: Transport,
        now: Mono,
        random: u64,
    ) -> Outcome<'static> {
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
pub(super) fn request_user(wire: &Wire) -> Option<String> {
    match &wire.start {
        Start::Request { uri, .. } => SipUri::parse(uri).ok()?.user,
        Start::Response { .. } => None,
    }
}
