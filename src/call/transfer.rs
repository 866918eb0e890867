//! The way to a person: call a seat, brief it, join the two; any failure brings the caller back to the flow.

use super::life::{Signal, Stage, State};
use super::machine::Call;
use super::mouth::Role;
use super::settings::{ms, secs};
use super::timer::Timer;
use super::turn::Awaiting;
use super::{CallEvent, CallInput, CallOutput, LegFailure, TransferStage};
use crate::clock::Mono;
use crate::dialplan::{Input, TransferOrder, TransferResult};
use crate::ids::Leg;
use std::time::Duration;

/// Longest and shortest ring, in milliseconds.
const RING_MS: (u32, u32) = (1000, 120_000);
/// For the fade of the last sound before two legs are joined.
const JOIN: Duration = Duration::from_millis(40);
/// The key with which a waiting caller goes back to the flow. Not `0`: that asks for the person who is being called.
const BACK_KEY: char = '*';

/// A transfer on its way.
#[derive(Debug)]
pub struct Transfer {
    warm: bool,
    decided: Mono,
    bridged: Option<Mono>,
    /// No seat has spoken with the caller before.
    first: bool,
}

impl Call {
    /// The flow wants a person.
    pub(super) fn begin_transfer(&mut self, now: Mono, order: TransferOrder) {
        self.turn.awaiting = Awaiting::Person;
        self.transfer = Some(Transfer { warm: order.warm, decided: now, bridged: None, first: !self.tally.bridged });
        if !self.mouth.busy() {
            let text = self.settings.phrases.prompt(&self.settings.phrases.connecting, false);
            self.say(now, Leg::Caller, text, Role::Answer);
        }
        let ring = ms(order.ring_ms.clamp(RING_MS.0, RING_MS.1));
        let briefing = order.warm.then(|| order.briefing.clone());
        self.seat_mouth.freeze(now, true);
        self.enter(now, State::Transferring(Stage::Dialling));
        self.timers.set(Timer::State, now + ring);
        self.put(CallOutput::DialSeat { order });
        if let Some(briefing) = briefing {
            // Ordered now, so that the seat hears it the moment it answers.
            self.say(now, Leg::Seat, briefing, Role::Answer);
        }
    }

    /// The seat hands the caller on: it goes, and the caller waits for the next one.
    pub(super) fn hand_on(&mut self, now: Mono, order: TransferOrder) {
        self.relay(false);
        self.held.seat = false;
        self.mouth.stop();
        self.seat_mouth.stop();
        self.put(CallOutput::Hangup(Leg::Seat));
        let bridged = self.transfer.take().and_then(|t| {
            self.event(CallEvent::Transfer { stage: TransferStage::Returned, ms: now.ms_since(t.decided) as u32 });
            t.bridged
        });
        if let Some(since) = bridged {
            self.talk_until = self.talk_until + now.since(since);
        }
        self.begin_transfer(now, order);
    }

    /// What happens when a stage begins.
    pub(super) fn enter_stage(&mut self, now: Mono, stage: Stage) {
        match stage {
            Stage::Dialling => {
                self.tone_frames = 0;
                self.transfer_event(now, TransferStage::Dialling);
            }
            Stage::Ringing => self.transfer_event(now, TransferStage::Ringing),
            Stage::Briefing => {
                self.tone_frames = 0;
                self.timers.set(Timer::State, now + ms(self.settings.briefing_ms));
                self.seat_mouth.freeze(now, false);
                if self.transfer.as_ref().is_some_and(|t| t.warm) {
                    self.transfer_event(now, TransferStage::Briefing);
                }
            }
            Stage::Joining => {
                self.mouth.stop();
                self.seat_mouth.stop();
                self.timers.set(Timer::State, now + JOIN);
            }
        }
    }

    /// Caller and seat hear each other.
    pub(super) fn enter_bridge(&mut self, now: Mono) {
        self.tally.bridged = true;
        self.timers.set(Timer::State, now + secs(self.settings.max_bridge_s));
        if let Some(transfer) = &mut self.transfer {
            transfer.bridged = Some(now);
        }
        self.transfer_event(now, TransferStage::Bridged);
        self.relay(true);
    }

    /// Joins or parts the legs, when that changes anything. Nobody is joined while a leg holds.
    pub(super) fn relay(&mut self, wanted: bool) {
        let joined = wanted && !self.held.any();
        if joined != self.joined {
            self.joined = joined;
            self.tone_frames = 0;
            self.put(CallOutput::Bridge(joined));
        }
    }

    /// The way to the seat is over: the flow is told and talks on.
    pub(super) fn come_back(&mut self, now: Mono, why: Option<&CallInput>) {
        // Also after an answer: it may have been a machine's, with a busy tone after it.
        let nobody = matches!(why, Some(CallInput::SeatFailed(_)));
        let bridged = self.transfer.take().and_then(|t| {
            let spoke = t.bridged.is_some() && !nobody;
            let stage = if spoke { TransferStage::Returned } else { TransferStage::Failed };
            self.event(CallEvent::Transfer { stage, ms: now.ms_since(t.decided) as u32 });
            self.tally.bridged &= !(nobody && t.first);
            t.bridged
        });
        let result = match why {
            Some(CallInput::SeatFailed(failure)) => result_of(*failure),
            _ if bridged.is_some() => TransferResult::Connected,
            Some(CallInput::HungUp(_)) => TransferResult::Busy,
            Some(CallInput::Key { .. }) => TransferResult::Cancelled,
            _ => TransferResult::Timeout,
        };
        if !matches!(why, Some(CallInput::SeatFailed(_) | CallInput::HungUp(_))) {
            self.put(CallOutput::Hangup(Leg::Seat));
        }
        self.relay(false);
        self.held.seat = false;
        self.mouth.stop();
        self.seat_mouth.stop();
        if let Some(since) = bridged {
            // Time with a seat does not count against the time with us.
            self.talk_until = self.talk_until + now.since(since);
        }
        self.enter(now, State::Talking);
        self.step(now, Input::Transfer(result));
    }

    /// A key on the way to a seat: the caller may go back, the seat may skip the briefing.
    pub(super) fn key_in_transfer(&mut self, now: Mono, stage: Stage, leg: Leg, key: char) {
        match (leg, stage) {
            (Leg::Caller, Stage::Dialling | Stage::Ringing) => {
                // Whatever else is pressed now may be somebody's number.
                self.event(CallEvent::Key(if key == BACK_KEY || key == '0' { key } else { '*' }));
                if key == BACK_KEY {
                    self.come_back(now, Some(&CallInput::Key { leg, key }));
                }
            }
            (Leg::Seat, Stage::Briefing) => self.seat_mouth.stop(),
            _ => {}
        }
    }

    /// The briefing has been heard.
    pub(super) fn settle_briefing(&mut self, now: Mono) {
        if !self.seat_mouth.busy() {
            self.apply(now, Signal::Drained, None);
        }
    }

    fn transfer_event(&mut self, now: Mono, stage: TransferStage) {
        let since = self.transfer.as_ref().map_or(now, |t| t.decided);
        self.event(CallEvent::Transfer { stage, ms: now.ms_since(since) as u32 });
    }
}

/// A leg's failure as the flow knows it.
const fn result_of(failure: LegFailure) -> TransferResult {
    match failure {
        LegFailure::Busy => TransferResult::Busy,
        LegFailure::NoAnswer | LegFailure::Failed(_) => TransferResult::Timeout,
        LegFailure::Nobody => TransferResult::Closed,
    }
}
