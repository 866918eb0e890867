//! What the models need of the text front end: the syllables of a phrase.

use super::units::{Syllable, split};
use crate::nlu::pinyin::annotate;

/// How the digits are read one by one.
const DIGITS: [&str; 10] = ["ling", "yi", "er", "san", "si", "wu", "liu", "qi", "ba", "jiu"];

/// The syllables of a phrase without tones; nothing when part of it is not Mandarin (English words, letters).
/// Digits are read one by one; marks and spaces are passed over.
pub fn syllables(text: &str) -> Option<Vec<Syllable>> {
    let mut out = Vec::new();
    for (c, reading) in annotate(text) {
        match (reading, c.to_digit(10)) {
            (Some(s), _) => out.push(Syllable::from_pinyin(s.base)?),
            (None, Some(d)) => out.push(Syllable::from_pinyin(DIGITS[d as usize])?),
            (None, None) if c.is_alphanumeric() => return None,
            (None, None) => {}
        }
    }
    Some(out)
}

/// A syllable with its tone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToneSyllable {
    /// Name of the initial.
    pub initial: Option<&'static str>,
    /// Name of the final.
    pub r#final: &'static str,
    /// 1-4, 5 is neutral.
    pub tone: u8,
    /// Last of its word.
    pub word_end: bool,
}

/// A phrase between punctuation marks.
#[derive(Debug, Clone, PartialEq)]
pub struct SpokenPhrase {
    /// Its syllables.
    pub syllables: Vec<ToneSyllable>,
    /// Silence after it.
    pub pause_ms: u32,
    /// Whether a question mark ends it.
    pub question: bool,
}

/// Cuts a text into phrases.
pub fn phrases(text: &str) -> Vec<SpokenPhrase> {
    let mut out = Vec::new();
    let mut now = Vec::new();
    for (c, reading) in annotate(text).into_iter().chain([('。', None)]) {
        let pause_ms = match c {
            '，' => 220,
            '。' | '？' | '！' => 420,
            _ => {
                if let Some(s) = reading
                    && let Some((initial, last)) = split(s.base)
                {
                    now.push(ToneSyllable { initial, r#final: last, tone: s.tone, word_end: false });
                }
                continue;
            }
        };
        if !now.is_empty() {
            out.push(SpokenPhrase { syllables: std::mem::take(&mut now), pause_ms, question: c == '？' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_mandarin_cannot_be_heard() {
        let pinyin = |t: &str| syllables(t).map(|s| s.iter().map(|s| s.pinyin()).collect::<Vec<_>>().join(" "));
        assert_eq!(pinyin("我要，查订单。").as_deref(), Some("wo yao cha ding dan"));
        assert_eq!(pinyin("第2个").as_deref(), Some("di er ge"));
        assert_eq!(pinyin("银行").as_deref(), Some("yin hang"));
        assert_eq!(pinyin("check order"), None);
        assert_eq!(pinyin("VIP客户"), None);
        assert_eq!(pinyin("……").as_deref(), Some(""));
    }
}
