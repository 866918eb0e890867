//! Transfers that a seat asks for by its own phone: handing the caller on, and taking another phone's place.

use super::callee::{Reach, one_seat};
use super::hotline::TestRoute;
use super::line::SeatLine;
use super::ports::MediaSockets;
use super::routes::{Listening, RouteKind};
use super::secure;
use super::shard::{NewLeg, ShardCommand};
use super::switchboard::{Located, Switchboard};
use super::time::now;
use crate::call::CallInput;
use crate::dialplan::{Prompt, TransferOrder};
use crate::ids::{CallId, Leg};
use crate::sdp;
use crate::sip::trace::Role;
use crate::sip::{Contact, DialogId, Transport};
use crate::speech::Lang;
use rand::RngExt;
use std::collections::VecDeque;
use std::net::SocketAddr;

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
            target: one_seat(to),
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
            Some((user, ..)) => one_seat(user),
            None => self.transfer_target(to).filter(|q| *q != one_seat(seat)).ok_or(403u16)?,
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
            return Some(one_seat(to));
        }
        seats.iter().any(|s| s.queues.iter().any(|q| q == to)).then(|| to.to_owned())
    }

    /// The seat at the far end of a seat's own call, and the dialog with it.
    fn consulted(&self, dialog: DialogId, seat: &str) -> Option<(String, Reach, DialogId)> {
        let &(call, Leg::Caller) = self.dialogs.get(&dialog)? else { return None };
        let line = self.lines.get(&call).filter(|l| l.seat_calling.as_deref() == Some(seat))?;
        let there = line.seat.as_ref().filter(|s| s.answered)?;
        let reach =
            self.p.agent.contacts(&there.user).iter().map(Reach::from).rfind(|r| r.name() == there.reach.name())?;
        Some((there.user.clone(), reach, there.dialog?))
    }

    /// Tells the seat that handed the caller on what became of it; with a final status its dialog ends.
    pub(super) fn handed_on(&mut self, call: CallId, code: u16) {
        let Some(dialog) = self.lines.get_mut(&call).and_then(|l| l.referrer.take()) else { return };
        let agent = self.p.agent.clone();
        tokio::spawn(async move { agent.refer_over(dialog, code).await });
    }

    /// The phone of a seat that calls from there; one that is not registered is where it calls from.
    fn phone_of(&self, user: &str, (source, transport): (SocketAddr, Transport)) -> Reach {
        let contacts = self.p.agent.contacts(user);
        let at = |fits: &dyn Fn(&Contact) -> bool| contacts.iter().rfind(|c| fits(c)).map(Reach::from);
        at(&|c| c.source == source).or_else(|| at(&|c| c.source.ip() == source.ip())).unwrap_or_else(|| Reach::Phone {
            contact: format!("sip:{user}@{source}"),
            source,
            transport,
        })
    }

    /// A seat's phone takes the place of the phone that a call is with now (RFC 3891). `Err`: the status that refuses it.
    pub(super) fn take_place(
        &mut self,
        dialog: DialogId,
        old: DialogId,
        seat: Option<String>,
        (at, transport): (SocketAddr, Transport),
        body: Option<&str>,
    ) -> Result<(), u16> {
        let (user, source) = (seat.ok_or(403u16)?, at.ip());
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
        let leg = Box::new(NewLeg { sockets, plan, signalling: source, seed, secured });
        let picked = PickedUp { dialog, order: orders, leg, answer: answer.clone() };
        let picked = match &ask {
            Some(_) => Some(picked), // the socket is asked from first: the media thread would read the answer
            None => {
                if self.pick_up(call, picked).is_some() {
                    return Err(503);
                }
                None
            }
        };
        let Some(mut before) = self.lines.get_mut(&call).and_then(|l| l.seat.take()) else { return Err(481) };
        self.release(&mut before); // its trunk and its rule too, where it was a telephone outside
        let reach = self.phone_of(&user, (at, transport));
        let Some(line) = self.lines.get_mut(&call) else { return Err(481) };
        line.seat = Some(SeatLine {
            user: user.clone(),
            reach,
            way: None,
            ways: VecDeque::new(),
            dialog: Some(dialog),
            offer: sdp::offer(&caps),
            caps,
            side,
            described: Some(answer.clone()),
            asked: None,
            sockets: None,
            ..before
        });
        self.roster.engage(&user);
        self.dialogs.remove(&old);
        self.dialogs.insert(dialog, (call, Leg::Seat));
        self.p.agent.trace_leg(dialog, call, Role::Seat);
        self.end_dialog(old);
        if let (Some(ask), Some(picked)) = (ask, picked) {
            let told = self.located.0.clone();
            tokio::spawn(async move {
                let (answer, mapped) = ask.add_to(picked.answer.clone()).await;
                let picked = Some(PickedUp { answer, ..picked });
                let _shutting_down = told.send(Located { call, leg: Leg::Seat, mapped, route: None, picked }).await;
            });
        }
        Ok(())
    }

    /// Gives the sound of a phone that picks a call up to the call, and answers it; its dialog where there was no room.
    pub(super) fn pick_up(&mut self, call: CallId, picked: PickedUp) -> Option<DialogId> {
        let PickedUp { dialog, order, leg, answer } = picked;
        let given = |leg| ShardCommand::SeatLeg { call, order, leg, early: false, outside: false };
        if !self.give_leg(call, leg, given) {
            return Some(dialog);
        }
        let agent = self.p.agent.clone();
        tokio::spawn(async move { agent.answer(dialog, answer).await });
        None
    }
}

/// A seat's phone that takes another's place, before its media.
pub(super) struct PickedUp {
    dialog: DialogId,
    order: u32,
    leg: Box<NewLeg>,
    answer: String,
}

impl PickedUp {
    /// What is left of one whose call has gone.
    pub fn into_sockets(self) -> MediaSockets {
        self.leg.sockets
    }
}
