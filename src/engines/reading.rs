//! What the recogniser needs of the text front end: the syllables of a phrase.

use super::units::Syllable;
use crate::speech::text::phrases;

/// The syllables of a phrase without tones; nothing when it is not Mandarin (English words). Numbers are read out and
/// Latin letters amid hanzi spelled, as a voice would.
pub fn syllables(phrase: &str) -> Option<Vec<Syllable>> {
    let hanzi = |c: char| ('\u{4e00}'..='\u{9fff}').contains(&c);
    if phrase.chars().any(char::is_alphabetic) && !phrase.chars().any(hanzi) {
        return None;
    }
    phrases(phrase).iter().flat_map(|p| &p.syllables).map(|s| Syllable::from_parts(s.initial, s.last)).collect()
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
        assert_eq!(pinyin("VIP客户").as_deref(), Some("wei ai pi ke hu"));
        assert_eq!(pinyin("check order"), None);
        assert_eq!(pinyin("……").as_deref(), Some(""));
    }
}
