//! The CTC forward score: the summed probability of all ways to say a sequence of units in the given time.

use super::tree::PrefixTree;
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

    /// Log score of each phrase of the tree relative to the best unconstrained path; [`NEVER`] when it cannot be said
    /// in this time.
    ///
    /// Works on plain probabilities: relative to the best path they stay in `f64`'s range down to e^-700, and what
    /// lies below is no candidate. That saves the logarithm in the innermost loop.
    pub fn scores(&self, tree: &PrefixTree) -> Vec<f32> {
        // Of each node: its unit, and the blank after it. What comes before the first unit is the root's blank.
        let (mut sound, mut gap) = (vec![0.0f64; tree.len()], vec![0.0f64; tree.len()]);
        let mut root = 1.0f64;
        for (t, p) in self.linear.chunks_exact(UNITS).enumerate() {
            let blank = p[usize::from(BLANK)];
            // Children first, so that their parents' values of the frame before are still there to be read.
            for n in (0..tree.len()).rev() {
                let (before, skip) = match tree.parent(n) {
                    None => (root, 0.0),
                    Some(up) if tree.repeats(n) => (gap[up], 0.0),
                    Some(up) => (gap[up], sound[up]),
                };
                gap[n] = (gap[n] + sound[n]) * blank;
                sound[n] = (sound[n] + before + skip) * p[tree.unit(n)];
            }
            // Sound may begin with the first frame, so the root is there before it.
            root = if t == 0 { blank } else { root * blank };
        }
        let said = !self.linear.is_empty();
        let score = |end: Option<usize>| match end.map(|n| sound[n] + gap[n]) {
            Some(total) if said && total > 0.0 => total.ln() as f32,
            _ => NEVER,
        };
        tree.ends().map(score).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{labels, posteriors};
    use super::*;

    /// The score of one phrase.
    fn score(scorer: &Scorer, labels: &[u8]) -> f32 {
        scorer.scores(&PrefixTree::new([labels]))[0]
    }

    #[test]
    fn the_spoken_phrase_scores_best_and_near_zero() {
        let said = labels("cha ding dan");
        let scorer = Scorer::new(&Frames::new(&posteriors(&said, 0.9), 1.0));
        let right = score(&scorer, &said);
        assert!(right > -1.0, "{right}");
        assert!(score(&scorer, &labels("cha ding dai")) < right - 3.0);
        assert!(score(&scorer, &labels("zhuan ren gong")) < right - 10.0);
    }

    #[test]
    fn a_phrase_longer_than_the_sound_is_impossible() {
        let scorer = Scorer::new(&Frames::new(&posteriors(&labels("a"), 0.9), 0.0));
        assert_eq!(score(&scorer, &labels("zhuan ren gong zhuan ren gong")), NEVER);
        assert_eq!(score(&scorer, &[]), NEVER);
        assert_eq!(score(&Scorer::new(&Frames::new(&[], 0.0)), &labels("a")), NEVER);
    }

    #[test]
    fn a_doubled_unit_needs_a_blank_between() {
        // One long 'a' must not pass for 'a a'.
        let a = labels("a");
        let held = [posteriors(&a, 0.99)[UNITS..3 * UNITS].to_vec()].concat();
        let scorer = Scorer::new(&Frames::new(&held, 0.0));
        assert!(score(&scorer, &a) > -0.5);
        assert!(score(&scorer, &labels("a a")) < -4.0);
    }

    #[test]
    fn phrases_with_a_common_beginning_score_as_each_alone() {
        let said = labels("zhang xiao ming");
        let scorer = Scorer::new(&Frames::new(&posteriors(&said, 0.7), 1.0));
        let list: Vec<Vec<u8>> =
            ["zhang xiao ming", "zhang xiao hong", "zhang xiao", "wang xiao ming", "a a", "zhang xiao ming ming"]
                .map(labels)
                .into();
        let together = scorer.scores(&PrefixTree::new(list.iter().map(Vec::as_slice)));
        let alone: Vec<f32> = list.iter().map(|l| score(&scorer, l)).collect();
        assert_eq!(together, alone);
        assert!(together.iter().skip(1).all(|s| *s < together[0]));
    }
}
