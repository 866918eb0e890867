//! Layer 2. Understanding of text: normalise, pinyin, intents, answers.
//!
//! Everything works on text *and* on toneless pinyin, because a recogniser writes homophones (专人工 for 转人工).
//! Pure: word lists come from `rules/` at compile time.

pub mod digits;
pub mod emotion;
pub mod features;
pub mod globals;
pub mod intent;
#[cfg(test)]
mod measure;
pub mod name;
pub mod negation;
pub mod normalise;
pub mod numbers;
pub mod order_ref;
pub mod patterns;
pub mod phone;
pub mod pinyin;
pub mod policy;
pub mod rules;
pub mod spell;
pub mod words;
pub mod yes_no;

pub use emotion::Emotion;
pub use globals::Meta;
pub use intent::{Classifier, Example, Reading};
pub use normalise::normalise;
pub use patterns::{PatternRule, Patterns};
pub use policy::{Decision, Policy};
