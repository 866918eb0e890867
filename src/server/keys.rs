//! Keys of a leg. Some phones send each key twice, in the RTP stream (RFC 4733) and by SIP INFO: one press is one key.

use crate::clock::Mono;
use std::collections::VecDeque;

/// The two messages of one press are not further apart: INFO often comes when the key is released.
const TOGETHER_MS: u64 = 1000;
/// Presses remembered; nobody presses faster.
const MOST: usize = 16;

/// By which way a key came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Rtp,
    Info,
    /// As tones in the sound of a leg that agreed on no telephone events.
    Sound,
}

/// The last presses, each waiting for its twin of the other way.
#[derive(Debug, Default)]
pub(super) struct Keys {
    alone: VecDeque<(Way, char, Mono)>,
}

impl Keys {
    /// Whether this is a press not heard of yet.
    pub fn is_new(&mut self, way: Way, key: char, now: Mono) -> bool {
        self.alone.retain(|(_, _, at)| now.ms_since(*at) < TOGETHER_MS);
        if let Some(twin) = self.alone.iter().position(|(w, k, _)| *w != way && *k == key) {
            self.alone.remove(twin);
            return false;
        }
        if self.alone.len() == MOST {
            self.alone.pop_front();
        }
        self.alone.push_back((way, key, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_press_that_comes_both_ways_counts_once_and_two_presses_count_twice() {
        let mut keys = Keys::default();
        let at = Mono::from_ms;
        assert!(keys.is_new(Way::Rtp, '1', at(0)));
        assert!(!keys.is_new(Way::Info, '1', at(180)), "its twin");
        assert!(keys.is_new(Way::Rtp, '1', at(400)) && keys.is_new(Way::Rtp, '1', at(600)), "pressed again, twice");
        assert!(!keys.is_new(Way::Info, '1', at(620)) && !keys.is_new(Way::Info, '1', at(800)));
        assert!(keys.is_new(Way::Info, '2', at(900)) && !keys.is_new(Way::Rtp, '2', at(950)), "in any order");
        assert!(keys.is_new(Way::Info, '3', at(2000)) && keys.is_new(Way::Rtp, '3', at(3200)), "too far apart");
        assert!(keys.is_new(Way::Sound, '6', at(3300)) && !keys.is_new(Way::Info, '6', at(3350)), "heard and told");
        for n in 0..100 {
            keys.is_new(Way::Rtp, '5', at(4000 + n));
        }
        assert_eq!(keys.alone.len(), MOST);
    }
}
