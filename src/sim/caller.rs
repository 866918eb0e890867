//! A person on the phone: speaks, presses, interrupts, is silent, holds, hangs up at any moment.

use super::Dice;
use crate::call::{Call, CallInput, Phase, State};
use crate::ids::Leg;

/// Sample value of somebody speaking; see [`super::SimVad`].
pub const VOICE: i16 = 4000;

/// How one caller behaves, in chances per mille and tick unless said otherwise.
#[derive(Debug)]
pub struct Caller {
    dice: Dice,
    /// To speak when it is his turn.
    talkative: u64,
    /// To press when it is his turn.
    presses: u64,
    /// To interrupt: one tick in so many.
    interrupts: u64,
    /// To hang up: one tick in so many.
    patience: u64,
    holds: bool,
    speaking: u32,
    held: u32,
    burst_lost: u32,
    /// Sound stops for ever at this tick.
    dies_at: Option<u64>,
    ticks: u64,
}

/// What a caller does in 20 ms.
pub struct Deed {
    /// What the call is told, if anything.
    pub input: Option<CallInput>,
    /// His sound; `None` when the packet is lost.
    pub voice: Option<bool>,
}

impl Caller {
    /// Somebody.
    pub fn new(mut dice: Dice) -> Self {
        let dies_at = dice.chance(8).then(|| dice.between(0, 800));
        Caller {
            talkative: *dice.pick(&[0, 5, 15, 40]),
            presses: *dice.pick(&[0, 5, 20]),
            interrupts: *dice.pick(&[40, 200, 1000, 100_000]),
            patience: *dice.pick(&[300, 1500, 5000, 20_000]),
            holds: dice.chance(150),
            dice,
            speaking: 0,
            held: 0,
            burst_lost: 0,
            dies_at,
            ticks: 0,
        }
    }

    /// The next 20 ms.
    pub fn tick(&mut self, call: &Call) -> Deed {
        self.ticks += 1;
        let input = self.act(call);
        let dead = self.dies_at.is_some_and(|t| self.ticks > t);
        if self.burst_lost == 0 && self.dice.one_in(300) {
            self.burst_lost = self.dice.between(1, 15) as u32;
        }
        self.burst_lost = self.burst_lost.saturating_sub(1);
        self.speaking = self.speaking.saturating_sub(1);
        let lost = dead || self.held > 0 || self.burst_lost > 0;
        Deed { input, voice: (!lost).then_some(self.speaking > 0) }
    }

    fn act(&mut self, call: &Call) -> Option<CallInput> {
        if self.dice.one_in(self.patience) {
            let lost = self.dice.one_in(10);
            return Some(if lost { CallInput::CallerLost } else { CallInput::HungUp(Leg::Caller) });
        }
        if self.held > 0 {
            self.held -= 1;
            return (self.held == 0).then_some(CallInput::Hold { leg: Leg::Caller, held: false });
        }
        if self.holds && self.dice.one_in(400) {
            self.held = self.dice.between(1, 300) as u32;
            return Some(CallInput::Hold { leg: Leg::Caller, held: true });
        }
        if self.dice.one_in(60_000) {
            return Some(CallInput::Terminate);
        }
        let his_turn = call.phase() == Phase::Listening && call.state() == State::Talking;
        let speak = if his_turn { self.dice.chance(self.talkative) } else { self.dice.one_in(self.interrupts) };
        if self.speaking == 0 && speak {
            self.speaking = *self.dice.pick(&[2, 4, 8, 12, 30, 60, 250]);
        }
        let press = if his_turn { self.dice.chance(self.presses) } else { self.dice.one_in(self.interrupts * 3) };
        press.then(|| {
            let key = *self.dice.pick(&['0', '1', '2', '5', '9', '*', '#', 'A', '中']);
            CallInput::Key { leg: Leg::Caller, key }
        })
    }
}
