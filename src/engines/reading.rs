//! What the models need of the text front end: the syllables of a phrase.

use super::units::Syllable;
use pinyin::ToPinyin;

/// A syllable with its tone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToneSyllable {
    /// Name of the initial.
    pub initial: Option<&'static str>,
    /// Name of the final.
    pub last: &'static str,
    /// 1-4, 5 is neutral.
    pub tone: u8,
    /// Last of its word.
    pub word_end: bool,
}

/// The syllables of a phrase without tones; nothing when part of it cannot be said in Mandarin.
pub fn syllables(text: &str) -> Option<Vec<Syllable>> {
    text.chars()
        .filter(|c| !c.is_whitespace() && !c.is_ascii_punctuation() && !"，。？！、；：".contains(*c))
        .map(|c| Syllable::from_pinyin(c.to_pinyin()?.plain()))
        .collect()
}

/// A phrase between punctuation marks.
#[derive(Debug, Clone, PartialEq)]
pub struct SpokenPhrase {
    /// Its syllables.
    pub syllables: Vec<ToneSyllable>,
    /// Silence after it.
    pub pause_ms: u16,
    /// Whether a question mark ends it.
    pub question: bool,
}

/// Cuts a text into phrases.
pub fn phrases(text: &str) -> Vec<SpokenPhrase> {
    let mut out = Vec::new();
    let mut now = Vec::new();
    for c in text.chars().chain(['。']) {
        let pause_ms = match c {
            '，' => 220,
            '。' | '？' | '！' => 420,
            _ => {
                if let Some(p) = c.to_pinyin()
                    && let Some((initial, last)) = super::units::split(p.plain())
                {
                    let tone = p.with_tone_num_end().chars().last().and_then(|c| c.to_digit(10)).unwrap_or(5) as u8;
                    now.push(ToneSyllable { initial, last, tone, word_end: false });
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
