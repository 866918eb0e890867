//! What an utterance meant at the node that listened.

use super::Value;
use std::collections::BTreeMap;

/// How the caller sounds, from words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Emotion {
    /// Nothing special.
    #[default]
    Neutral,
    /// Displeased.
    Negative,
    /// Angry, or speaking of lawyers, media, authorities.
    StronglyNegative,
}

/// Utterances that every listening node understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Global {
    /// "转人工"
    Human,
    /// "再说一遍"
    Repeat,
    /// "算了"
    Cancel,
    /// "说慢一点"
    Slower,
    /// The caller is angry.
    Angry,
    /// "冒烟了", "我被骗了"
    Emergency,
    /// Another business of the hotline, in the middle of this one.
    Digress,
}

/// The meaning of an utterance.
#[derive(Debug, Clone, PartialEq)]
pub enum Meaning {
    /// A business of the hotline (a flow's intent), sure enough to act.
    Intent(String),
    /// Two businesses, too close to choose: ask which.
    Clarify(String, String),
    /// One of the node's choices, by name.
    Choice(String),
    /// An answer to a yes/no question.
    YesNo(bool),
    /// Slot values found in the utterance.
    Slots(BTreeMap<String, Value>),
    /// A global phrase.
    Global(Global),
    /// Speech taken as it is (a narrative).
    Text,
    /// Nothing usable.
    NoMatch,
}

/// An utterance, understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Understood {
    /// The words it rests on.
    pub text: String,
    /// The recogniser's confidence in them, 0.0..=1.0.
    pub confidence: f32,
    /// What they mean here.
    pub meaning: Meaning,
    /// Slot values that came along with an intent or a choice ("查尾号三八二六的订单").
    pub slots: BTreeMap<String, Value>,
    /// Intents or choices that were weighed, best first, with scores 0.0..=1.0.
    pub candidates: Vec<(String, f32)>,
    /// How the caller sounds.
    pub emotion: Emotion,
}

impl Understood {
    /// An utterance that meant nothing.
    pub fn no_match(text: impl Into<String>, confidence: f32) -> Self {
        Understood {
            text: text.into(),
            confidence,
            meaning: Meaning::NoMatch,
            slots: BTreeMap::new(),
            candidates: Vec::new(),
            emotion: Emotion::Neutral,
        }
    }
}
