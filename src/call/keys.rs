//! Keys become an answer: by number, by a terminator, or by a pause.

use crate::dialplan::KeyRule;

/// What a key did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyStep {
    /// It is no key, or it says nothing here.
    Ignored,
    /// More may come.
    More,
    /// The answer is complete.
    Done(String),
}

/// Collects the keys of one answer.
#[derive(Debug, Clone)]
pub struct Keys {
    rule: KeyRule,
    pressed: String,
}

impl Keys {
    /// None pressed yet.
    pub fn new(rule: KeyRule) -> Self {
        Keys { rule, pressed: String::new() }
    }

    /// Whether keys are listened to at all.
    pub fn wanted(&self) -> bool {
        self.rule.max > 0
    }

    /// Whether an answer has begun.
    pub fn begun(&self) -> bool {
        !self.pressed.is_empty()
    }

    /// The pause that completes the answer, in milliseconds: 300..=20000.
    pub fn gap_ms(&self) -> u32 {
        self.rule.gap_ms.clamp(300, 20_000)
    }

    /// A key was pressed.
    pub fn press(&mut self, key: char) -> KeyStep {
        if !self.wanted() || !matches!(key, '0'..='9' | '*' | '#' | 'A'..='D') {
            return KeyStep::Ignored;
        }
        if self.rule.terminator == Some(key) {
            if self.pressed.is_empty() && self.rule.min > 0 {
                return KeyStep::Ignored;
            }
            return KeyStep::Done(std::mem::take(&mut self.pressed));
        }
        self.pressed.push(key);
        if self.pressed.len() >= usize::from(self.rule.max) { KeyStep::Done(self.take()) } else { KeyStep::More }
    }

    /// The pause after a key is over: what was pressed is the answer, even when it is too short.
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.pressed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(min: u8, max: u8, terminator: Option<char>) -> Keys {
        Keys::new(KeyRule { min, max, terminator, gap_ms: 3000 })
    }

    fn press(keys: &mut Keys, all: &str) -> Vec<KeyStep> {
        all.chars().map(|k| keys.press(k)).collect()
    }

    #[test]
    fn an_answer_is_complete_at_its_length_or_its_terminator() {
        let done = |s: &str| KeyStep::Done(s.into());
        assert_eq!(press(&mut keys(1, 1, None), "3"), vec![done("3")]);
        assert_eq!(press(&mut keys(4, 4, Some('#')), "38")[1], KeyStep::More);
        assert_eq!(press(&mut keys(1, 8, Some('#')), "38#")[2], done("38"));
        assert_eq!(press(&mut keys(1, 8, Some('#')), "#")[0], KeyStep::Ignored);
        assert_eq!(press(&mut keys(1, 1, None), "#"), vec![done("#")]);
    }

    #[test]
    fn keys_that_are_not_awaited_say_nothing() {
        assert_eq!(press(&mut keys(0, 0, None), "1"), vec![KeyStep::Ignored]);
        assert_eq!(press(&mut keys(1, 1, None), "x中"), vec![KeyStep::Ignored, KeyStep::Ignored]);
    }

    #[test]
    fn a_pause_gives_what_there_is() {
        let mut k = keys(4, 4, None);
        press(&mut k, "12");
        assert!(k.begun());
        assert_eq!(k.take(), "12");
        assert!(!k.begun());
    }
}
