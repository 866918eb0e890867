//! What the call's recording may not hold: card numbers, PINs and what else a flow or a seat says is nobody's to keep.
//!
//! The file stays as long as the call: both sides are silent in it while it is shaded, and an event says from where to
//! where and who wanted it.

use super::life::State;
use super::machine::Call;
use super::settings::{ms, secs};
use super::timer::Timer;
use super::turn::Awaiting;
use super::{CallEvent, CallOutput};
use crate::audio::FRAME_MS;
use crate::clock::Mono;
use crate::ids::Leg;

/// How long silence goes on after the answer: the last key's tone still sounds, and what was said last still arrives.
const TAIL_MS: u32 = 1000;
/// A seat that forgets to go on loses no more of the recording than this, in seconds.
const SEAT_LIMIT_S: u32 = 600;
/// The seat's keys: this one, then 5 to pause and 6 to go on.
const CODE: char = '*';
const OFF: char = '5';
const ON: char = '6';
/// The second key must follow within this, in milliseconds.
const CODE_MS: u64 = 3000;

/// Who wants the recording silent, and for how long.
#[derive(Debug, Default)]
pub struct Shade {
    on: bool,
    /// Who wanted it so.
    by: Option<Leg>,
    /// The flow awaits something that is not recorded.
    asked: bool,
    /// The silence after that.
    tail: Option<Mono>,
    pub(super) seat: SeatPause,
}

/// A seat's pause of the recording, by its keys or its phone's record key: of the call it talks in, or of its own call
/// outside.
#[derive(Debug, Default)]
pub struct SeatPause {
    /// It is on; until then at most.
    until: Option<Mono>,
    /// When the seat pressed [`CODE`].
    code: Option<Mono>,
}

impl SeatPause {
    /// The seat wants the recording to go on, or to be silent.
    pub fn record(&mut self, now: Mono, on: bool) {
        self.until = (!on).then(|| now + secs(SEAT_LIMIT_S));
    }

    /// A key of the seat while it talks with somebody.
    pub fn key(&mut self, now: Mono, key: char) {
        let code = self.code.take().is_some_and(|at| now.ms_since(at) <= CODE_MS);
        match key {
            CODE => self.code = Some(now),
            OFF if code => self.record(now, false),
            ON if code => self.record(now, true),
            _ => {}
        }
    }

    /// Whether the recording is silent for the seat's sake: it ends by itself, and with the talk.
    pub fn settle(&mut self, now: Mono, bridged: bool) -> bool {
        self.until = self.until.filter(|until| bridged && now < *until);
        self.until.is_some()
    }
}

impl Shade {
    /// Takes what the flow awaits now. A silence that has run out ends.
    fn settle(&mut self, now: Mono, asked: bool, bridged: bool) -> bool {
        if self.asked && !asked {
            self.tail = Some(now + ms(TAIL_MS));
        }
        self.asked = asked;
        self.tail = self.tail.filter(|until| !asked && now < *until);
        let seat = self.seat.settle(now, bridged);
        self.asked || self.tail.is_some() || seat
    }

    /// When it changes by itself.
    fn until(&self) -> Option<Mono> {
        self.tail.into_iter().chain(self.seat.until).min()
    }
}

impl Call {
    /// Tells the recording when it is to be silent and when to go on.
    pub(super) fn settle_shade(&mut self, now: Mono) {
        let asked = match &self.turn.awaiting {
            Awaiting::Answer(l) => l.listen.unrecorded && self.state == State::Talking,
            _ => false,
        };
        let by = self.shade.seat.until.map(|_| Leg::Seat);
        let shaded = self.shade.settle(now, asked, self.state == State::Bridged);
        match self.shade.until() {
            Some(until) => self.timers.set(Timer::Shade, until),
            None => self.timers.clear(Timer::Shade),
        }
        if shaded != self.shade.on && !self.is_finished() {
            self.shade.on = shaded;
            if shaded {
                self.shade.by = by;
            }
            // The frame that the leg has just given is in the file already.
            let at_ms = if self.heard_any { self.caller_ms + FRAME_MS } else { 0 };
            self.put(CallOutput::Record(!shaded));
            self.event(CallEvent::Recording { on: !shaded, by: self.shade.by, at_ms });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_outlasts_the_answer_and_a_seat_cannot_forget_it_for_ever() {
        let mut shade = Shade::default();
        let at = Mono::from_ms;
        assert!(!shade.settle(at(0), false, false) && shade.until().is_none());
        assert!(shade.settle(at(10), true, false) && shade.until().is_none(), "as long as the flow waits");
        assert!(shade.settle(at(5000), false, false) && shade.until() == Some(at(6000)));
        assert!(shade.settle(at(5500), true, false) && shade.until().is_none(), "asked again");
        assert!(shade.settle(at(7000), false, false) && !shade.settle(at(8000), false, false));
        shade.seat.until = Some(at(9000));
        assert!(shade.settle(at(8500), false, true) && !shade.settle(at(9000), false, true));
        shade.seat.until = Some(at(20_000));
        assert!(!shade.settle(at(9500), false, false), "the seat is gone");
    }
}
