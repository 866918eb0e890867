//! What can be heard at a point of a dialplan: the recogniser chooses among this, or rejects.

use super::Lang;

/// A phrase the caller may say.
#[derive(Debug, Clone, PartialEq)]
pub struct Phrase {
    /// The words (hanzi, or English words).
    pub text: String,
    /// Added to its log score: 0.0 as likely as any, negative less likely.
    pub weight: f32,
}

/// How many digits in a row may be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigitSpan {
    /// At least.
    pub min: u8,
    /// At most.
    pub max: u8,
}

/// Everything that can be heard at one listening node.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Grammar {
    /// Language of the phrases.
    pub lang: Lang,
    /// Whole utterances.
    pub phrases: Vec<Phrase>,
    /// Key fragments that may stand anywhere in an utterance, with unknown speech around them
    /// (an open question: "… 改 地址 …").
    pub fragments: Vec<Phrase>,
    /// A digit string, when one is awaited.
    pub digits: Option<DigitSpan>,
}

impl Grammar {
    /// A closed list of whole utterances.
    pub fn of<S: Into<String>>(phrases: impl IntoIterator<Item = S>) -> Self {
        let phrases = phrases.into_iter().map(|t| Phrase { text: t.into(), weight: 0.0 }).collect();
        Grammar { phrases, ..Grammar::default() }
    }
}
