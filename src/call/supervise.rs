//! How a supervisor takes part in a call between a caller and a seat.

use crate::ids::Leg;

/// What a supervisor does in somebody else's call. He always hears both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supervision {
    /// Nobody hears him.
    Listen,
    /// The seat hears him, the caller does not.
    Whisper,
    /// Both hear him.
    Barge,
}

impl Supervision {
    /// What a key of his asks for: 1 to listen, 2 to whisper, 3 to speak in.
    pub const fn of_key(key: char) -> Option<Supervision> {
        match key {
            '1' => Some(Supervision::Listen),
            '2' => Some(Supervision::Whisper),
            '3' => Some(Supervision::Barge),
            _ => None,
        }
    }

    /// What a number dialled asks for, and which seat it is about: `*1`, `*2` or `*3` before the seat's user.
    pub fn of_number(number: &str) -> Option<(Supervision, &str)> {
        let rest = number.strip_prefix('*')?;
        let key = rest.chars().next()?;
        let seat = &rest[key.len_utf8()..];
        Some((Supervision::of_key(key)?, seat)).filter(|_| !seat.is_empty())
    }

    /// Whether a leg hears him.
    pub const fn heard_by(self, leg: Leg) -> bool {
        match leg {
            Leg::Caller => matches!(self, Supervision::Barge),
            Leg::Seat => matches!(self, Supervision::Whisper | Supervision::Barge),
            Leg::Supervisor => false,
        }
    }

    /// A word for records.
    pub const fn name(self) -> &'static str {
        match self {
            Supervision::Listen => "listen",
            Supervision::Whisper => "whisper",
            Supervision::Barge => "barge",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_says_how_and_at_which_seat() {
        assert_eq!(Supervision::of_number("*18001"), Some((Supervision::Listen, "8001")));
        assert_eq!(Supervision::of_number("*38001"), Some((Supervision::Barge, "8001")));
        for no in ["", "*", "*1", "*4", "*48001", "18001", "*é8001", "8001"] {
            assert_eq!(Supervision::of_number(no), None, "{no}");
        }
    }

    #[test]
    fn only_who_speaks_in_is_heard_by_the_caller() {
        let heard = |s: Supervision| (s.heard_by(Leg::Caller), s.heard_by(Leg::Seat), s.heard_by(Leg::Supervisor));
        assert_eq!(heard(Supervision::Listen), (false, false, false));
        assert_eq!(heard(Supervision::Whisper), (false, true, false));
        assert_eq!(heard(Supervision::Barge), (true, true, false));
    }
}
