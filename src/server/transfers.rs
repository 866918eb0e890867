//! Transfers that a seat asks for by its own phone: handing the caller on, and taking another phone's place.

use super::hotline::TestRoute;
use super::line::SeatLine;
use super::routes::{Listening, RouteKind};
use super::seats::{ONE, Reach};
use super::secure;
use super::shard::{NewLeg, ShardCommand};
use super::switchboard::{Located, Switchboard};
use super::time::now;
use crate::call::CallInput;
use crate::dialplan::{Prompt, TransferOrder};
use crate::ids::{CallId, Leg};
use crate::sdp;
use crate::sip::DialogId;
use crate::sip::trace::Role;
use crate::speech::Lang;
use rand::RngExt;
use std::net::IpAddr;

/// How long the next seat's phone rings, ms.
const RING_MS: u32 = 30_000;

impl Switchboard {
    /// The route of a call from one seat to another.
    pub(super) fn inside(&self, to: &str) -> Option<TestRoute> {
        self.p.settings.seats.iter().any(|s| s.user == to).then(|| TestRoute {
            user: to.to_owned(),
            kind: RouteKind::Inside,
            listening: Listening::Keys,
            file: None,
            target: format!("{ONE}{to}"),
            record: false,
        })
    }

    /// A seat hands its caller on: to another seat or a queue, nowhere else. `Err`: the status that refuses it.
    pub(super) fn refer(
        &mut self,
        dialog: DialogId,
        seat: &str,
        to: &str,
        replaces: Option<DialogId>,
    ) -> Result<(), u16> {
        let Some(&(call, Leg::Seat)) = self.dialogs.get(&dialog) else { return Err(403) };
        let attended = match replaces {
            Some(other) => Some(self.consulted(other, seat).ok_or(403u16)?),
            None => None,
        };
        let queue = match &attended {
            Some((user, ..)) => format!("{ONE}{user}"),
            None => self.transfer_target(to).filter(|q| *q != format!("{ONE}{seat}")).ok_or(403u16)?,
        };
        let line = self.lines.get_mut(&call).ok_or(481u16)?;
        let Some(mine) = line.seat.as_mut().filter(|s| s.answered && line.referrer.is_none()) else { return Err(491) };
        // It hears what becomes of its transfer; the media, and its place in the call, go now.
        line.referrer = mine.dialog.take();
        line.attended = attended;
        self.dialogs.remove(&dialog);
        let text = String::new();
        let briefing = Prompt { shown: text.clone(), text, audio: None, rate: 1.0, barge_in: false, lang: Lang::Zh };
        let order = TransferOrder { queue, skill: None, warm: false, briefing, ring_ms: RING_MS };
        self.tell_seat(call, CallInput::HandOn(Box::new(order)));
        Ok(())
    }

    /// What a number means as the target of a transfer: one of our seats, or a queue that a seat serves.
    fn transfer_target(&self, to: &str) -> Option<String> {
        let seats = &self.p.settings.seats;
        if seats.iter().any(|s| s.user == to) {
            return Some(format!("{ONE}{to}"));
        }
        seats.iter().any(|s| s.queues.iter().any(|q| q == to)).then(|| to.to_owned())
    }

    /// The seat at the far end of a seat's own call, and the dialog with it.
    fn consulted(&self, dialog: DialogId, seat: &str) -> Option<(String, Reach, DialogId)> {
        let &(call, Leg::Caller) = self.dialogs.get(&dialog)? else { return None };
        let line = self.lines.get(&call).filter(|l| l.seat_calling.as_deref() == Some(seat))?;
        let there = line.seat.as_ref().filter(|s| s.answered)?;
        let contact = self.p.agent.contacts(&there.user).into_iter().rfind(|c| c.target() == there.address)?;
        let reach = Reach { uri: contact.target(), source: Some(contact.source), transport: Some(contact.transport) };
        Some((there.user.clone(), reach, there.dialog?))
    }

    /// Tells the seat that handed the caller on what became of it; with a final status its dialog ends.
    pub(super) fn handed_on(&mut self, call: CallId, code: u16) {
        let Some(dialog) = self.lines.get_mut(&call).and_then(|l| l.referrer.take()) else { return };
        let agent = self.p.agent.clone();
        tokio::spawn(async move { agent.refer_over(dialog, code).await });
    }

    /// A seat's phone takes the place of the phone that a call is with now (RFC 3891). `Err`: the status that refuses it.
    pub(super) fn take_place(
        &mut self,
        dialog: DialogId,
        old: DialogId,
        seat: Option<String>,
        source: IpAddr,
        body: Option<&str>,
    ) -> Result<(), u16> {
        let user = seat.ok_or(403u16)?;
        let Some(&(call, Leg::Seat)) = self.dialogs.get(&old) else { return Err(481) };
        let line = self.lines.get(&call).ok_or(481u16)?;
        if line.outward {
            return Err(403); // the other leg is no seat's: it is the number that a seat called
        }
        let (codec, orders) = (line.codec, line.orders);
        if !line.seat.as_ref().is_some_and(|s| s.answered) {
            return Err(481);
        }
        let sockets = self.p.ports.take(now()).map_err(|_| 503u16)?;
        let mut caps = self.capabilities(source, sockets.port, codec);
        let mut side = self.side_of_caller(body, false, &caps, source);
        let agreed = body.ok_or(488u16).and_then(|b| secure::answer_leg(&mut side, &mut caps, b));
        let (answer, plan, secured) = match agreed {
            Ok(agreed) => agreed,
            Err(code) => {
                self.rest(Some(sockets));
                return Err(code);
            }
        };
        let ask = self.ask_where(side.as_ref(), &sockets);
        let seed = self.p.rng.random();
        let Some(line) = self.lines.get_mut(&call) else { return Err(481) };
        let Some(before) = line.seat.take() else { return Err(481) };
        let leg = Box::new(NewLeg { sockets, plan, signalling: source, seed, secured });
        let begin = ShardCommand::SeatLeg { call, order: orders, leg, early: false, outside: false };
        let shard = line.shard.clone();
        line.seat = Some(SeatLine {
            user: user.clone(),
            dialog: Some(dialog),
            offer: sdp::offer(&caps),
            caps,
            side,
            described: Some(answer.clone()),
            asked: None,
            sockets: None,
            source: Some(source),
            ..before
        });
        self.roster.free(&before.user);
        self.roster.engage(&user);
        self.dialogs.remove(&old);
        self.dialogs.insert(dialog, (call, Leg::Seat));
        self.p.agent.trace_leg(dialog, call, Role::Seat);
        self.end_dialog(old);
        let (agent, told) = (self.p.agent.clone(), self.located.0.clone());
        let Some(ask) = ask else {
            shard.send(begin);
            tokio::spawn(async move { agent.answer(dialog, answer).await });
            return Ok(());
        };
        tokio::spawn(async move {
            let (answer, mapped) = ask.add_to(answer).await;
            // The media thread reads the socket from now on.
            shard.send(begin);
            let _shutting_down = told.send(Located { call, leg: Leg::Seat, mapped, route: None }).await;
            agent.answer(dialog, answer).await;
        });
        Ok(())
    }
}
