//! Every deadline of a call on one screen.

use crate::clock::Mono;

/// What a call may be waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// The state's own limit (ringing, ACK, whole call, seat's ring, briefing, last words).
    State,
    /// The silence between the last word and BYE.
    Tail,
    /// No frame of the caller for too long.
    Media,
    /// The caller holds us for too long.
    Hold,
    /// Nobody says or presses anything.
    NoInput,
    /// A pause between keys completes the answer.
    KeyGap,
    /// The recogniser does not answer.
    Recogniser,
    /// An action or a ticket does not come back.
    Act,
    /// Something takes long: say so.
    Filler,
    /// The longest recording.
    Record,
    /// The call's recording goes on after a silence.
    Shade,
}

impl Timer {
    /// All of them.
    pub const ALL: [Timer; 11] = [
        Timer::State,
        Timer::Tail,
        Timer::Media,
        Timer::Hold,
        Timer::NoInput,
        Timer::KeyGap,
        Timer::Recogniser,
        Timer::Act,
        Timer::Filler,
        Timer::Record,
        Timer::Shade,
    ];
}

/// The table of running timers.
#[derive(Debug, Default)]
pub struct Timers {
    at: [Option<Mono>; Timer::ALL.len()],
}

impl Timers {
    /// Starts (or restarts) a timer.
    pub fn set(&mut self, timer: Timer, at: Mono) {
        self.at[timer as usize] = Some(at);
    }

    /// Stops a timer.
    pub fn clear(&mut self, timer: Timer) {
        self.at[timer as usize] = None;
    }

    /// Stops all but the named ones.
    pub fn clear_except(&mut self, keep: &[Timer]) {
        for timer in Timer::ALL {
            if !keep.contains(&timer) {
                self.clear(timer);
            }
        }
    }

    /// Whether a timer runs.
    pub fn is_set(&self, timer: Timer) -> bool {
        self.at[timer as usize].is_some()
    }

    /// The next moment at which one fires.
    pub fn next(&self) -> Option<Mono> {
        self.at.iter().flatten().min().copied()
    }

    /// Takes the earliest timer that is due.
    pub fn take_due(&mut self, now: Mono) -> Option<Timer> {
        let due = Timer::ALL.into_iter().filter(|&t| self.at[t as usize].is_some_and(|at| at <= now));
        let first = due.min_by_key(|&t| self.at[t as usize])?;
        self.clear(first);
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_once_and_in_order() {
        let mut timers = Timers::default();
        timers.set(Timer::Record, Mono::from_ms(30));
        timers.set(Timer::State, Mono::from_ms(50));
        timers.set(Timer::Act, Mono::from_ms(20));
        timers.set(Timer::Act, Mono::from_ms(40));
        assert_eq!(timers.next(), Some(Mono::from_ms(30)));
        assert_eq!(timers.take_due(Mono::from_ms(29)), None);
        let now = Mono::from_ms(60);
        let fired: Vec<_> = std::iter::from_fn(|| timers.take_due(now)).collect();
        assert_eq!(fired, vec![Timer::Record, Timer::Act, Timer::State]);
        assert_eq!(timers.next(), None);
    }
}
