//! Seats: which one is called for a transfer, and what becomes of its leg.

use super::hotline::Seat;
use super::line::{SeatLine, accepted};
use super::outbound::Role;
use super::outward::OUT;
use super::secure::{self, AskWhere};
use super::shard::{NewLeg, ShardCommand};
use super::switchboard::{Dialled, Switchboard};
use super::time::{now, utc};
use super::trunks::Way;
use crate::call::{CallInput, LegFailure, TransferStage};
use crate::dialplan::{TransferOrder, TransferResult};
use crate::ids::{CallId, Leg};
use crate::sdp;
use crate::sip::trace::Role as LegRole;
use crate::sip::{Contact, Dial, DialogId, SipError};
use crate::store::{NewTransfer, WriteJob};
use rand::RngExt;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Before a seat's user, in the place of a queue: that seat and no other.
pub(super) const ONE: &str = "seat:";

/// Where a seat can be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reach {
    pub uri: String,
    pub source: Option<SocketAddr>,
    pub transport: Option<crate::sip::Transport>,
}

/// Whether an order names no queue but whom to call: a SIP address, or a telephone number by a trunk.
fn is_address(queue: &str) -> bool {
    ["sip:", "sips:", TEL, OUT].iter().any(|scheme| queue.starts_with(scheme))
}

/// A number that is called by a trunk.
pub(super) const TEL: &str = "tel:";

/// Which seats are on a call, and in which order they were last called.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// And on how many.
    busy: HashMap<String, u32>,
    called: HashMap<String, u64>,
    count: u64,
}

impl Roster {
    /// A registered, free seat of the queue that has not been tried: one with the skill asked for before others, of
    /// those the one called longest ago.
    pub fn choose(
        &self,
        seats: &[Seat],
        (queue, skill): (&str, Option<&str>),
        tried: &[String],
        reach: impl Fn(&str) -> Option<Reach>,
    ) -> Result<(String, Reach), LegFailure> {
        if let Some(user) = queue.strip_prefix(ONE) {
            let seat = reach(user).filter(|_| seats.iter().any(|s| s.user == user)).ok_or(LegFailure::Nobody)?;
            let had = tried.iter().any(|t| t == user) || self.busy.contains_key(user);
            return if had { Err(LegFailure::Busy) } else { Ok((user.to_owned(), seat)) };
        }
        if is_address(queue) {
            let again = tried.iter().any(|t| t == queue);
            let reach = Reach { uri: queue.to_owned(), source: None, transport: None };
            return if again { Err(LegFailure::Nobody) } else { Ok((queue.to_owned(), reach)) };
        }
        let serves = |s: &&Seat| s.queues.is_empty() || s.queues.iter().any(|q| q == queue);
        let there: Vec<(&Seat, Reach)> =
            seats.iter().filter(serves).filter_map(|s| Some((s, reach(&s.user)?))).collect();
        let nobody = there.is_empty();
        let free = there.into_iter().filter(|(s, _)| !tried.contains(&s.user) && !self.busy.contains_key(&s.user));
        let lacks = |s: &Seat| skill.is_some_and(|wanted| !s.skills.iter().any(|k| k == wanted));
        match free.min_by_key(|(s, _)| (lacks(s), self.called.get(&s.user).copied().unwrap_or(0))) {
            Some((seat, reach)) => Ok((seat.user.clone(), reach)),
            None if nobody => Err(LegFailure::Nobody),
            None => Err(LegFailure::Busy),
        }
    }

    /// A seat is being called: it is busy from now on.
    pub fn take(&mut self, user: &str) {
        if is_address(user) {
            return; // an address, not one of our seats: it may take many calls
        }
        self.count += 1;
        self.engage(user);
        self.called.insert(user.to_owned(), self.count);
    }

    /// A seat is on a call, whoever called whom.
    pub fn engage(&mut self, user: &str) {
        *self.busy.entry(user.to_owned()).or_default() += 1;
    }

    /// A seat's call is over.
    pub fn free(&mut self, user: &str) {
        if let Some(calls) = self.busy.get_mut(user) {
            *calls -= 1;
            if *calls == 0 {
                self.busy.remove(user);
            }
        }
    }
}

/// What a final status of the seat's phone means.
pub(super) const fn failure_of(code: u16) -> LegFailure {
    match code {
        486 | 600 | 603 => LegFailure::Busy,
        408 | 480 | 487 => LegFailure::NoAnswer,
        other => LegFailure::Failed(other),
    }
}

/// The same for the seat that handed the caller on.
const fn status_of(failure: LegFailure) -> u16 {
    match failure {
        LegFailure::Busy => 486,
        LegFailure::NoAnswer => 480,
        LegFailure::Nobody => 404,
        LegFailure::Failed(code) => code,
    }
}

/// The same as the flow is told by the call machine.
const fn result_of(failure: LegFailure) -> TransferResult {
    match failure {
        LegFailure::Busy => TransferResult::Busy,
        LegFailure::NoAnswer | LegFailure::Failed(_) => TransferResult::Timeout,
        LegFailure::Nobody => TransferResult::Closed,
    }
}

/// A seat that is to be called.
pub(super) struct Trying {
    pub user: String,
    pub reach: Reach,
    pub ways: VecDeque<Way>,
    pub order: TransferOrder,
    /// Users and addresses that could not be had for this order.
    pub tried: Vec<String>,
    /// The dialog that the phone shall end for this one.
    pub replaces: Option<DialogId>,
}

impl Switchboard {
    /// The call wants a seat.
    pub(super) fn dial_seat(&mut self, call: CallId, order: TransferOrder) {
        self.hang_up(call, Leg::Seat); // none is left by now, unless something went wrong
        self.end_transfer(call); // the last one's, when its seat hands the caller on
        let Some(line) = self.lines.get_mut(&call) else { return };
        line.orders += 1;
        line.seat_failure = TransferResult::Timeout;
        if line.hotline && !line.outward {
            let transfer = NewTransfer {
                seq: line.transfer.as_ref().map_or(1, |t| t.seq + 1),
                queue: order.queue.clone(),
                skill: order.skill.clone(),
                warm: order.warm,
                briefing: order.briefing.shown.clone(),
                seat: None,
                asked_at: utc(),
                bridged_at: None,
                returned_at: None,
                result: None,
            };
            line.transfer = Some(transfer.clone());
            self.write(WriteJob::Transfer(call, Box::new(transfer)));
        }
        self.next_seat(call, order, Vec::new(), None);
    }

    /// Calls the next seat that can be had; without one the call is told why the last one was not, or why none is.
    pub(super) fn next_seat(
        &mut self,
        call: CallId,
        order: TransferOrder,
        tried: Vec<String>,
        last: Option<LegFailure>,
    ) {
        if let Err(failure) = self.try_seat(call, order, tried) {
            let failure = last.unwrap_or(failure);
            if let Some(line) = self.lines.get_mut(&call) {
                line.seat_failure = result_of(failure);
            }
            self.handed_on(call, status_of(failure));
            self.tell_seat(call, CallInput::SeatFailed(failure));
        }
    }

    fn try_seat(&mut self, call: CallId, order: TransferOrder, tried: Vec<String>) -> Result<(), LegFailure> {
        let (agent, seats) = (&self.p.agent, &self.p.settings.seats);
        let reach = |user: &str| {
            // Newest last; a phone that failed gives way to the user's others.
            let left = |c: &Contact| !tried.contains(&c.target());
            if let Some(contact) = agent.contacts(user).into_iter().rfind(left) {
                let (source, transport) = (Some(contact.source), Some(contact.transport));
                return Some(Reach { uri: contact.target(), source, transport });
            }
            let phone = seats.iter().find(|s| s.user == user)?.phone.as_ref()?;
            let uri = format!("{TEL}{phone}");
            (!tried.contains(&uri)).then_some(Reach { uri, source: None, transport: None })
        };
        let attended = self.lines.get_mut(&call).and_then(|l| l.attended.take());
        let (user, reach, replaces) = match attended {
            Some((user, reach, dialog)) => (user, reach, Some(dialog)),
            None => {
                let wanted = (order.queue.as_str(), order.skill.as_deref());
                let (user, reach) = self.roster.choose(seats, wanted, &tried, reach)?;
                (user, reach, None)
            }
        };
        let refer = self.lines.get(&call).and_then(|line| self.refer_to(line, &reach.uri));
        let ways = match reach.uri.strip_prefix(TEL) {
            Some(number) => match self.ways_out(call, &user, number, refer.is_some()) {
                Ok(ways) => ways,
                Err(failure) => {
                    return self
                        .try_seat(call, order, tried.into_iter().chain([reach.uri]).collect())
                        .map_err(|_| failure);
                }
            },
            None => match reach.uri.strip_prefix(OUT) {
                Some(number) => self.ways_for(call, number)?,
                None => VecDeque::new(),
            },
        };
        self.roster.take(&user);
        let trying = Trying { user, reach, ways, order, tried, replaces };
        match refer {
            Some(target) => {
                self.ask_to_refer(call, trying, target);
                Ok(())
            }
            None => self.place_seat(call, trying),
        }
    }

    /// Calls a seat that was chosen; it is free again where that cannot be done.
    pub(super) fn place_seat(&mut self, call: CallId, trying: Trying) -> Result<(), LegFailure> {
        let user = trying.user.clone();
        let outside = trying.reach.uri.starts_with(TEL);
        self.call_seat(call, trying).inspect_err(|_| {
            self.roster.free(&user);
            if outside {
                self.outbound().over(Role::Flow, &user);
            }
        })
    }

    /// Every way to a number outside, if it may be called. `refer`: there need be none, the caller's trunk is asked first.
    fn ways_out(&mut self, call: CallId, user: &str, number: &str, refer: bool) -> Result<VecDeque<Way>, LegFailure> {
        let number = self.outbound().begin(Role::Flow, user, number, now()).map_err(|_| LegFailure::Failed(403))?;
        match self.ways_for(call, &number) {
            Err(_) if refer => Ok(VecDeque::new()),
            Err(failure) => {
                self.outbound().over(Role::Flow, user);
                Err(failure)
            }
            ways => ways,
        }
    }

    /// Every way to a number outside that may be called.
    fn ways_for(&mut self, call: CallId, number: &str) -> Result<VecDeque<Way>, LegFailure> {
        let ways: VecDeque<Way> = self.p.trunks.ways(number, now(), &mut self.p.rng).into();
        if ways.is_empty() {
            tracing::warn!("a number outside was to be called, and no [[trunk]] takes calls out");
            self.no_way_out(call, number);
            return Err(LegFailure::Failed(503));
        }
        Ok(ways)
    }

    /// A seat's leg is over: it is free again, and so is what its call used.
    pub(super) fn release(&mut self, seat: &mut SeatLine) {
        self.roster.free(&seat.user);
        if seat.address.starts_with(TEL) {
            self.outbound().over(Role::Flow, &seat.user);
        }
        if let Some(way) = &seat.way {
            self.p.trunks.over(way);
        }
        let sockets = seat.sockets.take();
        self.rest(sockets);
    }

    /// Sends the INVITE for a seat, by the next of its ways where it is reached by a trunk.
    fn call_seat(&mut self, call: CallId, trying: Trying) -> Result<(), LegFailure> {
        let Trying { user, reach, mut ways, order, tried, replaces } = trying;
        let way = ways.pop_front();
        if way.is_none() && (reach.uri.starts_with(TEL) || reach.uri.starts_with(OUT)) {
            return Err(LegFailure::Failed(503)); // no trunk calls out
        }
        let trunk = way.as_ref().and_then(|w| self.p.trunks.get(w.trunk)).cloned();
        let Some(line) = self.lines.get(&call) else { return Err(LegFailure::Failed(481)) };
        let (codec, from, hops, outward) = (line.codec, line.from.clone(), line.hops, line.outward);
        let sockets = self.p.ports.take(now()).map_err(|e| {
            tracing::warn!(%call, "no seat can be called: {e}");
            LegFailure::Failed(503)
        })?;
        let source = reach.source.map(|s| s.ip());
        let mut caps = self.capabilities(source.unwrap_or(IpAddr::from([127, 0, 0, 1])), sockets.port, codec);
        let wanted = trunk.as_ref().map(|t| t.codecs.clone()).unwrap_or_default();
        if !wanted.is_empty() {
            caps.codecs = wanted;
        }
        let web = reach.transport.is_some_and(crate::sip::Transport::is_web);
        let side = web.then(|| self.side(&caps, source.unwrap_or(caps.addr))).flatten();
        let offer = secure::offer(side.as_ref(), sdp::offer(&caps));
        let dial = Dial {
            to: way.as_ref().map_or_else(|| reach.uri.clone(), |w| w.uri.clone()),
            from: trunk.as_ref().and_then(|t| t.number_shown(outward)).unwrap_or_else(|| from.expose().into()),
            display: trunk.is_none().then(|| format!("{from} {}", order.queue)),
            sdp: offer.to_string(),
            // A carrier has no use for our name of the call.
            headers: if trunk.is_some() { vec![] } else { vec![("X-Zongji-Call".into(), call.to_string())] },
            credential: trunk.as_ref().and_then(|t| t.credential.clone()),
            patience: way.as_ref().map(|w| Duration::from_millis(w.patience_ms.into())),
            destination: reach.source.or(way.as_ref().and_then(|w| w.at.map(|(at, _)| at))),
            // UDP is not insisted on: an offer too long for a datagram may go by TCP.
            transport: reach
                .transport
                .or(way.as_ref().and_then(|w| w.at.map(|(_, by)| by).filter(|by| by.is_stream()))),
            seat: (!is_address(&user) && trunk.is_none()).then(|| user.clone()),
            replaces,
            hops: Some(hops),
        };
        if let Some(way) = &way {
            self.p.trunks.begun(way);
        }
        let ask = self.ask_where(side.as_ref(), &sockets);
        let attempt = self.dial(call, dial, ask);
        if let Some(line) = self.lines.get_mut(&call) {
            let (dialog, asked, sockets) = (None, None, Some(sockets));
            let (answered, rang) = (false, false);
            let described = None;
            let seat = SeatLine {
                user,
                address: reach.uri,
                dialog,
                attempt,
                caps,
                offer,
                side,
                described,
                asked,
                way,
                ways,
                rang,
                sockets,
                source,
                order,
                tried,
                answered,
            };
            line.seat = Some(seat);
        }
        Ok(())
    }

    /// Looking an address up, opening a TCP connection and asking a STUN server take time: that is a task's work.
    fn dial(&mut self, call: CallId, mut dial: Dial, ask: Option<AskWhere>) -> u64 {
        self.attempts += 1;
        self.dialling += 1;
        let (attempt, agent, done) = (self.attempts, self.p.agent.clone(), self.dialled.0.clone());
        tokio::spawn(async move {
            let mut mapped = None;
            if let Some(ask) = ask {
                (dial.sdp, mapped) = ask.add_to(dial.sdp).await;
            }
            let result = agent.dial(dial).await;
            if let Err(lost) = done.send(Dialled { call, attempt, mapped, result }).await
                && let Ok(dialog) = lost.0.result
            {
                agent.hangup(dialog).await; // the switchboard has stopped
            }
        });
        attempt
    }

    /// The INVITE to a seat is out, or could not be sent.
    pub(super) fn dialled(&mut self, Dialled { call, attempt, mapped, result }: Dialled) {
        self.dialling = self.dialling.saturating_sub(1);
        let seat = self.lines.get_mut(&call).and_then(|l| l.seat.as_mut()).filter(|s| s.attempt == attempt);
        match (result, seat) {
            (Ok(dialog), Some(seat)) => {
                seat.dialog = Some(dialog);
                if let (Some(side), Some(at)) = (seat.side.as_mut(), mapped) {
                    side.mapped(at);
                }
                self.dialogs.insert(dialog, (call, Leg::Seat));
                let role = if seat.way.is_some() { LegRole::Trunk } else { LegRole::Seat };
                self.p.agent.trace_leg(dialog, call, role);
                self.replay(dialog);
            }
            (Ok(dialog), None) => self.end_dialog(dialog),
            (Err(e), Some(_)) => {
                tracing::warn!(%call, "a seat could not be called: {e}");
                let busy = matches!(e, SipError::Busy);
                self.leg_failed(call, if busy { 503 } else { 408 });
                if !busy && self.next_way(call) {
                    return;
                }
                self.seat_lost(call, LegFailure::Failed(if busy { 503 } else { 500 }));
            }
            (Err(_), None) => {}
        }
        if self.dialling == 0 {
            self.early.clear();
        }
    }

    /// A seat took the call.
    pub(super) fn seat_answered(&mut self, dialog: DialogId, body: Option<&str>) {
        let Some(&(call, Leg::Seat)) = self.dialogs.get(&dialog) else { return };
        let seed = self.p.rng.random();
        let Some(line) = self.lines.get_mut(&call) else { return };
        let Some(seat) = line.seat.as_mut() else { return };
        let Some((plan, secured)) = secure::accept_leg(&mut seat.side, &seat.offer, body) else {
            self.dialogs.remove(&dialog);
            self.end_dialog(dialog);
            self.leg_failed(call, 488);
            self.seat_lost(call, LegFailure::Failed(488));
            return;
        };
        seat.caps.srtp.agreed(plan.srtp.as_ref(), rand::fill);
        seat.answered = true;
        let outside = seat.way.is_some() || is_address(&seat.user);
        let signalling = seat.source.unwrap_or(plan.remote.ip());
        match seat.sockets.take() {
            Some(sockets) => {
                let leg = Box::new(NewLeg { sockets, plan, signalling, seed, secured });
                line.shard.send(ShardCommand::SeatLeg { call, order: line.orders, leg, early: false, outside });
            }
            // It had early media: its leg is there, and the answer may describe another place.
            None => {
                let signalling = Some(signalling);
                line.shard.send(ShardCommand::Replan { call, leg: Leg::Seat, plan, signalling, secured });
            }
        }
        self.tell_seat(call, CallInput::SeatAnswered);
        self.handed_on(call, 200);
    }

    /// An address that is called (a trunk, another exchange) has early media: the caller hears its ringback or
    /// announcement instead of ours. It never counts as answered.
    pub(super) fn seat_sounds(&mut self, dialog: DialogId, body: Option<&str>) {
        let Some(&(call, Leg::Seat)) = self.dialogs.get(&dialog) else { return };
        let seed = self.p.rng.random();
        let Some(line) = self.lines.get_mut(&call) else { return };
        let Some(seat) = line.seat.as_mut().filter(|s| !s.answered && (s.way.is_some() || is_address(&s.user))) else {
            return;
        };
        // Browsers are seats, and their phones are silent until they answer.
        let Some(plan) = body.filter(|_| seat.side.is_none()).and_then(|b| accepted(&seat.offer, Some(b))) else {
            return;
        };
        let signalling = seat.source.unwrap_or(plan.remote.ip());
        let order = line.orders;
        line.shard.send(match seat.sockets.take() {
            Some(sockets) => {
                let leg = Box::new(NewLeg { sockets, plan, signalling, seed, secured: None });
                ShardCommand::SeatLeg { call, order, leg, early: true, outside: true }
            }
            // Another branch of the call sounds now.
            None => ShardCommand::Replan { call, leg: Leg::Seat, plan, signalling: Some(signalling), secured: None },
        });
        self.pass_early_media(call);
    }

    /// A seat that is busy or does not answer: the next one, or the call is told.
    pub(super) fn seat_failed(&mut self, dialog: DialogId, code: u16) {
        if let Some((call, Leg::Seat)) = self.dialogs.remove(&dialog) {
            self.leg_failed(call, code);
            if matches!(code, 408 | 500 | 502 | 503 | 504) && self.next_way(call) {
                return;
            }
            self.seat_lost(call, failure_of(code));
        }
    }

    /// A trunk's server did not take the call: the next one is tried. False when there is none, or when the telephone
    /// rang already.
    fn next_way(&mut self, call: CallId) -> bool {
        let Some(line) = self.lines.get_mut(&call) else { return false };
        let Some(way) = line.seat.as_ref().filter(|s| !s.rang).and_then(|s| s.way.clone()) else { return false };
        self.p.trunks.failed(&way, now());
        let Some(mut seat) = line.seat.take_if(|s| !s.ways.is_empty()) else { return false };
        self.p.trunks.over(&way);
        let sockets = seat.sockets.take();
        self.rest(sockets);
        let reach = Reach { uri: seat.address, source: None, transport: None };
        let (user, order) = (seat.user.clone(), seat.order.clone());
        let trying = Trying {
            user: seat.user,
            reach,
            ways: seat.ways,
            order: seat.order,
            tried: seat.tried.clone(),
            replaces: None,
        };
        let outside = trying.reach.uri.starts_with(TEL);
        if let Err(failure) = self.call_seat(call, trying) {
            self.roster.free(&user);
            if outside {
                self.outbound().over(Role::Flow, &user);
            }
            self.next_seat(call, order, seat.tried.into_iter().chain([user]).collect(), Some(failure));
        }
        true
    }

    /// A seat whose dialog is over or never was: the next one, or the call is told.
    pub(super) fn seat_lost(&mut self, call: CallId, why: LegFailure) {
        let Some(mut seat) = self.lines.get_mut(&call).and_then(|l| l.seat.take()) else { return };
        if seat.sockets.is_none()
            && let Some(line) = self.lines.get(&call)
        {
            line.shard.send(ShardCommand::SeatGone { call, order: line.orders });
        }
        self.release(&mut seat);
        // A person who is busy or does not answer is so on all his phones.
        seat.tried.push(if matches!(why, LegFailure::Failed(_)) { seat.address } else { seat.user });
        self.next_seat(call, seat.order, seat.tried, Some(why));
    }

    /// A seat hung up.
    pub(super) fn seat_left(&mut self, call: CallId) {
        self.end_supervisor(call);
        if let Some(line) = self.lines.get_mut(&call)
            && let Some(mut seat) = line.seat.take()
        {
            line.seat_failure = TransferResult::Busy;
            self.release(&mut seat);
        }
        self.tell_seat(call, CallInput::HungUp(Leg::Seat));
    }

    /// Tells the call something of the seat it has now.
    pub(super) fn tell_seat(&self, call: CallId, input: CallInput) {
        if let Some(line) = self.lines.get(&call) {
            line.shard.send(ShardCommand::Seat { call, order: line.orders, input });
        }
    }

    /// The transfer's row follows its stages.
    pub(super) fn follow_transfer(&mut self, call: CallId, stage: TransferStage) {
        let Some(line) = self.lines.get_mut(&call) else { return };
        let seat = line.seat.as_ref().map(|s| s.user.clone());
        let Some(transfer) = &mut line.transfer else { return };
        match stage {
            // Comes before its order: the row is still the last transfer's.
            TransferStage::Dialling => return,
            TransferStage::Bridged => transfer.bridged_at = Some(utc()),
            TransferStage::Returned => {
                transfer.returned_at = Some(utc());
                transfer.result = Some(TransferResult::Connected);
            }
            TransferStage::Failed => transfer.result = Some(line.seat_failure),
            TransferStage::Ringing | TransferStage::Briefing => {}
        }
        transfer.seat = seat.or(transfer.seat.take());
        let row = Box::new(transfer.clone());
        self.write(WriteJob::Transfer(call, row));
    }

    /// The call ended while caller and seat were joined, the usual end of a good transfer, or while the caller waited.
    pub(super) fn end_transfer(&mut self, call: CallId) {
        let taken_over = self.lines.get(&call).is_some_and(|l| l.taken_over);
        if let Some(transfer) = self.lines.get_mut(&call).and_then(|l| l.transfer.as_mut())
            && transfer.result.is_none()
        {
            let joined = transfer.bridged_at.is_some() || taken_over;
            transfer.result = Some(if joined { TransferResult::Connected } else { TransferResult::Cancelled });
            let row = Box::new(transfer.clone());
            self.write(WriteJob::Transfer(call, row));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats() -> Vec<Seat> {
        let seat = |user: &str, queues: &[&str]| Seat {
            user: user.into(),
            password: String::new(),
            queues: queues.iter().map(|q| (*q).to_owned()).collect(),
            skills: vec![format!("skill of {user}")],
            phone: None,
        };
        vec![seat("8001", &[]), seat("8002", &["sales"]), seat("8003", &["care"])]
    }

    fn at_home(user: &str) -> Option<Reach> {
        Some(Reach { uri: format!("sip:{user}@127.0.0.1"), source: None, transport: None })
    }

    fn chosen(roster: &Roster, queue: &str, tried: &[&str]) -> Result<String, LegFailure> {
        let tried: Vec<String> = tried.iter().map(|t| (*t).to_owned()).collect();
        roster.choose(&seats(), (queue, None), &tried, at_home).map(|(user, _)| user)
    }

    #[test]
    fn the_seat_called_longest_ago_is_called_even_if_it_never_answers() {
        let mut roster = Roster::default();
        let mut order = Vec::new();
        for _ in 0..4 {
            let user = chosen(&roster, "sales", &[]).unwrap();
            roster.take(&user);
            roster.free(&user);
            order.push(user);
        }
        assert_eq!(order, ["8001", "8002", "8001", "8002"]);
    }

    #[test]
    fn a_seat_with_the_skill_comes_first_and_others_before_none() {
        let mut roster = Roster::default();
        let chosen = |r: &Roster| r.choose(&seats(), ("sales", Some("skill of 8002")), &[], at_home).map(|(u, _)| u);
        assert_eq!(chosen(&roster).unwrap(), "8002");
        roster.take("8002");
        assert_eq!(chosen(&roster).unwrap(), "8001");
    }

    #[test]
    fn busy_and_tried_seats_are_passed_over_and_nobody_is_not_busy() {
        let mut roster = Roster::default();
        roster.take("8001");
        assert_eq!(chosen(&roster, "care", &[]).unwrap(), "8003");
        assert_eq!(chosen(&roster, "care", &["8003"]), Err(LegFailure::Busy));
        roster.free("8001");
        assert_eq!(chosen(&roster, "care", &["8003"]).unwrap(), "8001");
        assert_eq!(roster.choose(&seats(), ("care", None), &[], |_| None), Err(LegFailure::Nobody));
    }

    #[test]
    fn an_address_is_called_once_for_each_order_by_any_number_of_calls() {
        let mut roster = Roster::default();
        roster.take("sip:x@h");
        assert_eq!(chosen(&roster, "sip:x@h", &[]).unwrap(), "sip:x@h");
        assert!(chosen(&roster, "sip:x@h", &["sip:x@h"]).is_err());
    }

    #[test]
    fn one_seat_asked_for_by_name_is_called_or_nobody_is() {
        let mut roster = Roster::default();
        assert_eq!(chosen(&roster, "seat:8002", &[]).unwrap(), "8002");
        assert_eq!(chosen(&roster, "seat:9999", &[]), Err(LegFailure::Nobody));
        roster.engage("8002");
        roster.take("8002");
        roster.free("8002");
        assert_eq!(chosen(&roster, "seat:8002", &[]), Err(LegFailure::Busy), "on one of two calls still");
        roster.free("8002");
        assert_eq!(chosen(&roster, "seat:8002", &["8002"]), Err(LegFailure::Busy));
    }

    #[test]
    fn the_record_says_what_the_flow_was_told() {
        assert_eq!(result_of(failure_of(486)), TransferResult::Busy);
        assert_eq!(result_of(failure_of(480)), TransferResult::Timeout);
        assert_eq!(result_of(failure_of(500)), TransferResult::Timeout);
        assert_eq!(result_of(LegFailure::Nobody), TransferResult::Closed);
    }
}
