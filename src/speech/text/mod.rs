//! From written text to what a voice says: the one text front end of all voices.
//!
//! `¥12.50，尾号3826` -> [`normalise`] -> 十二元五角，尾号三八二六 -> [`phrases`] -> phrases of syllables with tones
//! as spoken (sandhi applied), word ends and pauses.

/// Which reading of texts this is. Raise it when a text is read differently than before: prompts kept on disk are then
/// made anew.
pub const READING: u32 = 2;

pub mod digits;
#[cfg(test)]
mod golden;
mod letters;
mod normalise;
mod phrases;
mod sandhi;

pub use normalise::normalise;
pub use phrases::{SpokenPhrase, ToneSyllable, phrases, warm};
