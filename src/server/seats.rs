//! Seats that are called: by which ways, and what becomes of the leg.

use super::callee::Reach;
use super::line::{SeatLine, accepted};
use super::outbound::Role;
use super::outward::ANONYMOUS;
use super::secure::{self, AskWhere};
use super::shard::{NewLeg, ShardCommand};
use super::switchboard::{Dialled, Switchboard};
use super::time::{now, utc};
use super::trunks::Way;
use crate::call::{CallInput, EndReason, Facts, LegFailure, TransferStage, Why};
use crate::dialplan::{TransferOrder, TransferResult};
use crate::ids::{CallId, Leg};
use crate::pii::Pii;
use crate::sdp;
use crate::sip::trace::Role as LegRole;
use crate::sip::{Contact, Dial, DialogId, SipError};
use crate::store::{NewTransfer, WriteJob};
use rand::RngExt;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

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
        if line.has_record && !line.outward {
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
                return Some(Reach::from(&contact));
            }
            let phone = seats.iter().find(|s| s.user == user)?.phone.as_ref()?;
            Some(Reach::telephone(phone)).filter(|reach| !tried.contains(&reach.name()))
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
        let refer = self.lines.get(&call).and_then(|line| self.refer_to(line, &reach));
        let ways = match &reach {
            Reach::Number { role: Role::Flow, number } => match self.ways_out(call, &user, number, refer.is_some()) {
                Ok(ways) => ways,
                Err(failure) => {
                    return self
                        .try_seat(call, order, tried.into_iter().chain([reach.name()]).collect())
                        .map_err(|_| failure);
                }
            },
            Reach::Number { role: Role::Seat, number } => self.ways_for(call, number)?,
            Reach::Phone { .. } | Reach::Address(_) => VecDeque::new(),
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
        let (user, reach) = (trying.user.clone(), trying.reach.clone());
        self.call_seat(call, trying).inspect_err(|_| self.let_go(&user, &reach))
    }

    /// Who was called, or was to be, is free again, and the call no longer counts for its rule.
    pub(super) fn let_go(&mut self, user: &str, reach: &Reach) {
        self.roster.free(user);
        if matches!(reach, Reach::Number { role: Role::Flow, .. }) {
            self.outbound().over(Role::Flow, user);
        }
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
        self.let_go(&seat.user, &seat.reach);
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
        if way.is_none() && matches!(reach, Reach::Number { .. }) {
            return Err(LegFailure::Failed(503)); // no trunk calls out
        }
        let trunk = way.as_ref().and_then(|w| self.p.trunks.get(w.trunk)).cloned();
        let Some(line) = self.lines.get(&call) else { return Err(LegFailure::Failed(481)) };
        let (codec, hops, outward) = (line.codec, line.hops, line.outward);
        let from = if line.origin.private { Pii::new(ANONYMOUS) } else { line.from.clone() };
        let sockets = self.p.ports.take(now()).map_err(|e| {
            tracing::warn!(%call, "no seat can be called: {e}");
            LegFailure::Failed(503)
        })?;
        let phone = reach.phone();
        let source = phone.map(|(source, _)| source.ip());
        let mut caps = self.capabilities(source.unwrap_or(IpAddr::from([127, 0, 0, 1])), sockets.port, codec);
        let wanted = trunk.as_ref().map(|t| t.codecs.clone()).unwrap_or_default();
        if !wanted.is_empty() {
            caps.codecs = wanted;
        }
        let web = phone.is_some_and(|(_, transport)| transport.is_web());
        let side = web.then(|| self.side(&caps, source.unwrap_or(caps.addr))).flatten();
        let offer = secure::offer(side.as_ref(), sdp::offer(&caps));
        let dial = Dial {
            to: way.as_ref().map_or_else(|| reach.name(), |w| w.uri.clone()),
            from: trunk.as_ref().and_then(|t| t.number_shown(outward)).unwrap_or_else(|| from.expose().into()),
            display: trunk.is_none().then(|| format!("{from} {}", order.queue)),
            sdp: offer.to_string(),
            // A carrier has no use for our name of the call.
            headers: if trunk.is_some() { vec![] } else { vec![("X-Zongji-Call".into(), call.to_string())] },
            credential: trunk.as_ref().and_then(|t| t.credential.clone()),
            patience: way.as_ref().map(|w| Duration::from_millis(w.patience_ms.into())),
            destination: phone.map(|(source, _)| source).or(way.as_ref().and_then(|w| w.at.map(|(at, _)| at))),
            // UDP is not insisted on: an offer too long for a datagram may go by TCP.
            transport: phone
                .map(|(_, transport)| transport)
                .or(way.as_ref().and_then(|w| w.at.map(|(_, by)| by).filter(|by| by.is_stream()))),
            seat: phone.map(|_| user.clone()),
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
                reach,
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
        let phone = seat.reach.phone();
        let outside = phone.is_none();
        let signalling = phone.map_or(plan.remote.ip(), |(source, _)| source.ip());
        match seat.sockets.take() {
            Some(sockets) => {
                let (leg, order) = (Box::new(NewLeg { sockets, plan, signalling, seed, secured }), line.orders);
                let given = |leg| ShardCommand::SeatLeg { call, order, leg, early: false, outside };
                if !self.give_leg(call, leg, given) {
                    return self.seat_unheard(call, dialog);
                }
            }
            // An UPDATE has changed what that answer said.
            None if seat.described.is_some() => {}
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
        let Some(seat) = line.seat.as_mut().filter(|s| !s.answered && s.reach.phone().is_none()) else { return };
        // Browsers are seats, and their phones are silent until they answer.
        let Some(plan) = body.filter(|_| seat.side.is_none()).and_then(|b| accepted(&seat.offer, Some(b))) else {
            return;
        };
        let (signalling, order) = (plan.remote.ip(), line.orders);
        match seat.sockets.take() {
            Some(sockets) => {
                let leg = Box::new(NewLeg { sockets, plan, signalling, seed, secured: None });
                let given = |leg| ShardCommand::SeatLeg { call, order, leg, early: true, outside: true };
                if !self.give_leg(call, leg, given) {
                    return self.seat_unheard(call, dialog);
                }
            }
            // Another branch of the call sounds now.
            None => {
                let (leg, signalling) = (Leg::Seat, Some(signalling));
                line.shard.send(ShardCommand::Replan { call, leg, plan, signalling, secured: None });
            }
        }
        self.pass_early_media(call);
    }

    /// No media thread took a seat's leg: its call is of no use.
    fn seat_unheard(&mut self, call: CallId, dialog: DialogId) {
        self.dialogs.remove(&dialog);
        self.end_dialog(dialog);
        self.leg_failed_as(call, |_| EndReason::of(Why::NoMediaThread, &Facts::default()));
        self.seat_lost(call, LegFailure::Failed(503));
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
        let (user, order) = (seat.user.clone(), seat.order.clone());
        let trying = Trying {
            user: seat.user,
            reach: seat.reach,
            ways: seat.ways,
            order: seat.order,
            tried: seat.tried.clone(),
            replaces: None,
        };
        if let Err(failure) = self.place_seat(call, trying) {
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
        seat.tried.push(if matches!(why, LegFailure::Failed(_)) { seat.reach.name() } else { seat.user });
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
        let taken_over = self.lines.get(&call).is_some_and(|l| l.taken_over.is_some());
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

    #[test]
    fn the_record_says_what_the_flow_was_told() {
        assert_eq!(result_of(failure_of(486)), TransferResult::Busy);
        assert_eq!(result_of(failure_of(480)), TransferResult::Timeout);
        assert_eq!(result_of(failure_of(500)), TransferResult::Timeout);
        assert_eq!(result_of(LegFailure::Nobody), TransferResult::Closed);
    }
}
