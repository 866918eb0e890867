//! From written text to what a voice says: the one text front end of all voices.
//!
//! `¥12.50，尾号3826` -> [`normalise`] -> 十二元五角，尾号三八二六 -> [`phrases`] -> phrases of syllables with tones
//! as spoken (sandhi applied), word ends and pauses.

pub mod digits;
#[cfg(test)]
mod golden;
mod letters;
mod normalise;
mod phrases;
mod sandhi;

pub use normalise::normalise;
pub use phrases::{SpokenPhrase, ToneSyllable, phrases, warm};
