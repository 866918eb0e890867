//! When silence is told (RFC 3389) instead of sent.

use crate::audio::noise::level_of;

/// Fainter than this is silence, in dB below overload: well under the voice of a person who speaks low.
const QUIET: u8 = 58;
/// Silence that is still sent, in samples: 200 ms, so that no word's end is cut.
const HANGOVER: usize = 1600;
/// Time between two descriptions of the same silence, in samples: half a second. Address translation stays open, and a
/// peer sees that we are there.
const AGAIN: usize = 4000;

/// What becomes of a stretch of sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tell {
    /// It is sent.
    Sound,
    /// Its level is told.
    Noise(u8),
    /// Nothing is sent.
    Nothing,
}

/// Follows what is said.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Silence {
    /// Samples of silence so far.
    quiet: usize,
    /// Of them, samples since it was told.
    told: Option<usize>,
}

impl Silence {
    /// The next stretch.
    pub fn judge(&mut self, pcm: &[i16]) -> Tell {
        let level = level_of(pcm);
        if level < QUIET {
            *self = Silence::default();
            return Tell::Sound;
        }
        self.quiet += pcm.len();
        if self.quiet <= HANGOVER {
            return Tell::Sound;
        }
        match &mut self.told {
            Some(since) if *since + pcm.len() < AGAIN => {
                *since += pcm.len();
                Tell::Nothing
            }
            told => {
                *told = Some(0);
                Tell::Noise(level)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_after_a_while_and_then_twice_a_second() {
        let mut silence = Silence::default();
        let (loud, quiet) = ([3000; 160], [3; 160]);
        let mut judged =
            |pcm: &[i16; 160], times: usize| -> Vec<Tell> { (0..times).map(|_| silence.judge(pcm)).collect() };
        assert!(judged(&loud, 5).iter().all(|t| *t == Tell::Sound));
        let told = judged(&quiet, 110);
        assert!(told[..10].iter().all(|t| *t == Tell::Sound), "the end of a word");
        let at: Vec<usize> = (0..110).filter(|&n| matches!(told[n], Tell::Noise(81))).collect();
        assert_eq!(at, [10, 35, 60, 85]);
        assert_eq!(told.iter().filter(|t| **t == Tell::Nothing).count(), 96);
        assert_eq!(judged(&loud, 1), [Tell::Sound]);
        assert_eq!(judged(&quiet, 1), [Tell::Sound], "from the beginning again");
    }
}
