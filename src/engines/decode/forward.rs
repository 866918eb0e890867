//! The CTC forward score: the summed probability of all ways to say a sequence of units in the given time.

use super::{Frames, NEVER};
use crate::engines::units::{BLANK, UNITS};

/// Probabilities relative to each frame's best, for many phrases to be scored against.
pub struct Scorer {
    linear: Vec<f64>,
}

impl Scorer {
    /// Prepares an utterance.
    pub fn new(frames: &Frames) -> Self {
        Scorer { linear: frames.log.iter().map(|l| f64::from(*l).exp()).collect() }
    }

    /// Log score of a phrase relative to the best unconstrained path; [`NEVER`] when it cannot be said in this time.
    ///
    /// Works on plain probabilities: relative to the best path they stay in `f64`'s range down to e^-700, and what
    /// lies below is no candidate. That saves the logarithm in the innermost loop.
    pub fn score(&self, labels: &[u8]) -> f32 {
        if labels.is_empty() || self.linear.is_empty() {
            return NEVER;
        }
        let states = 2 * labels.len() + 1;
        let mut now = vec![0.0f64; states];
        for (t, p) in self.linear.chunks_exact(UNITS).enumerate() {
            let blank = p[usize::from(BLANK)];
            if t == 0 {
                now[0] = blank;
                now[1] = p[usize::from(labels[0])];
                continue;
            }
            // Downwards, so that the values of the frame before are still there to be read.
            for k in (0..labels.len()).rev() {
                let s = 2 * k + 1;
                now[s + 1] = (now[s + 1] + now[s]) * blank;
                let skip = if k > 0 && labels[k] != labels[k - 1] { now[s - 2] } else { 0.0 };
                now[s] = (now[s] + now[s - 1] + skip) * p[usize::from(labels[k])];
            }
            now[0] *= blank;
        }
        let total = now[states - 1] + now[states - 2];
        if total > 0.0 { total.ln() as f32 } else { NEVER }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{labels, posteriors};
    use super::*;

    #[test]
    fn the_spoken_phrase_scores_best_and_near_zero() {
        let said = labels("cha ding dan");
        let scorer = Scorer::new(&Frames::new(&posteriors(&said, 0.9), 1.0));
        let right = scorer.score(&said);
        assert!(right > -1.0, "{right}");
        assert!(scorer.score(&labels("cha ding dai")) < right - 3.0);
        assert!(scorer.score(&labels("zhuan ren gong")) < right - 10.0);
    }

    #[test]
    fn a_phrase_longer_than_the_sound_is_impossible() {
        let scorer = Scorer::new(&Frames::new(&posteriors(&labels("a"), 0.9), 0.0));
        assert_eq!(scorer.score(&labels("zhuan ren gong zhuan ren gong")), NEVER);
        assert_eq!(scorer.score(&[]), NEVER);
        assert_eq!(Scorer::new(&Frames::new(&[], 0.0)).score(&labels("a")), NEVER);
    }

    #[test]
    fn a_doubled_unit_needs_a_blank_between() {
        // One long 'a' must not pass for 'a a'.
        let a = labels("a");
        let held = [posteriors(&a, 0.99)[UNITS..3 * UNITS].to_vec()].concat();
        let scorer = Scorer::new(&Frames::new(&held, 0.0));
        assert!(scorer.score(&a) > -0.5);
        assert!(scorer.score(&labels("a a")) < -4.0);
    }
}
