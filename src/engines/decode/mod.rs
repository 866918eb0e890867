//! From posteriors to words. Every score is measured against the best unconstrained path through the same
//! posteriors, so 0.0 is perfect and a score divided by its number of units compares across lengths.
//!
//! - [`forward`]: how well whole phrases fit (CTC forward score).
//! - [`digits`]: the best digit strings of an allowed length.
//! - [`syllables`]: free syllables, the measure of "any speech", and the pinyin of what is in no grammar.
//! - [`spot`]: fragments anywhere in an utterance, free syllables around them.
//! - [`tree`]: phrases and fragments by their common beginnings; both scores walk it.

pub mod digits;
pub mod forward;
pub mod spot;
pub mod syllables;
pub mod tree;

use super::units::{BLANK, UNITS};

/// Worse than any path that matters, without the traps of infinity.
pub const NEVER: f32 = -1e30;

/// Posteriors made ready for decoding: blank made less likely by a bias, every frame relative to its best unit.
pub struct Frames {
    log: Vec<f32>,
}

impl Frames {
    /// `posteriors` are log values, [`UNITS`] a frame; `blank_bias` is taken off the blank's (CTC likes blank too
    /// well: about 1 serves phrase lists, 0 to 0.5 serves loops).
    pub fn new(posteriors: &[f32], blank_bias: f32) -> Self {
        let mut log = posteriors.to_vec();
        for frame in log.chunks_exact_mut(UNITS) {
            frame[usize::from(BLANK)] -= blank_bias;
            let best = frame.iter().copied().fold(f32::MIN, f32::max);
            frame.iter_mut().for_each(|p| *p -= best);
        }
        Frames { log }
    }

    /// Number of frames of 30 ms.
    pub fn len(&self) -> usize {
        self.log.len() / UNITS
    }

    /// Whether there is nothing to decode.
    pub fn is_empty(&self) -> bool {
        self.log.is_empty()
    }

    /// The units' log values of a frame, the best of them 0.
    pub fn frame(&self, t: usize) -> &[f32] {
        &self.log[t * UNITS..(t + 1) * UNITS]
    }

    /// Frames where something other than blank is best: the length of what was spoken.
    pub fn spoken(&self) -> usize {
        self.log.chunks_exact(UNITS).filter(|f| f[usize::from(BLANK)] < 0.0).count()
    }
}

#[cfg(test)]
pub(crate) mod fake {
    //! Posteriors made by hand.
    use super::*;

    /// Each label holds for two frames and is followed by a blank one; the rest of the probability is spread evenly.
    pub fn posteriors(labels: &[u8], sure: f32) -> Vec<f32> {
        let mut out = Vec::new();
        let mut push = |unit: u8| {
            let rest = ((1.0 - sure) / (UNITS - 1) as f32).ln();
            let mut frame = [rest; UNITS];
            frame[usize::from(unit)] = sure.ln();
            out.extend_from_slice(&frame);
        };
        push(BLANK);
        for l in labels {
            push(*l);
            push(*l);
            push(BLANK);
        }
        out
    }

    /// Labels of pinyin syllables.
    pub fn labels(pinyin: &str) -> Vec<u8> {
        use crate::engines::units::Syllable;
        pinyin.split(' ').flat_map(|s| Syllable::from_pinyin(s).expect("pinyin").labels()).collect()
    }
}
