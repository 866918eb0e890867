//! Phrases: the units of synthesis. Sound can start with the first one.

use super::digits::spell_digits;
use super::letters;
use super::normalise::normalise;
use super::sandhi::{self, Spoken};
use crate::nlu::{pinyin, words};

/// A phrase without punctuation is cut when longer than this many syllables.
const LONGEST: usize = 14;
/// Pause where a long phrase was cut, in milliseconds.
const CUT_PAUSE_MS: u16 = 60;

/// One syllable as a voice needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToneSyllable {
    /// One of [`pinyin::INITIALS`].
    pub initial: Option<&'static str>,
    /// The final, one of [`pinyin::FINALS`].
    pub last: &'static str,
    /// 1..=4, 5 is neutral; tone changes applied.
    pub tone: u8,
    /// Whether a word ends here.
    pub word_end: bool,
}

/// A phrase between two pauses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpokenPhrase {
    /// What is said; never empty.
    pub syllables: Vec<ToneSyllable>,
    /// The same as normalised text, without punctuation.
    pub text: String,
    /// Silence after it, in milliseconds.
    pub pause_ms: u16,
    /// Whether it ends with a question mark.
    pub question: bool,
}

/// The pause a punctuation mark stands for, in milliseconds.
fn pause(c: char) -> Option<u16> {
    Some(match c {
        '，' => 220,
        '。' | '？' | '！' => 420,
        '、' => 120,
        '；' => 300,
        '：' => 250,
        _ => return None,
    })
}

/// Loads the dictionaries now (some hundred milliseconds), so that the first caller does not wait for them.
pub fn warm() {
    let _ = phrases("您好");
}

/// The phrases of a text, ready for a Mandarin voice. Latin words are spelled in letters' names; text in which
/// nothing can be said gives no phrase.
pub fn phrases(text: &str) -> Vec<SpokenPhrase> {
    // Text without hanzi keeps its digits for an English voice; here they are said all the same ("VIP 88").
    let text: String = normalise(text)
        .chars()
        .map(|c| if c.is_ascii_digit() { spell_digits(c.encode_utf8(&mut [0; 4])) } else { c.to_string() })
        .collect();
    let mut out: Vec<SpokenPhrase> = Vec::new();
    let mut now = String::new();
    for c in text.chars() {
        let Some(ms) = pause(c) else {
            now.push(c);
            continue;
        };
        let spoken = syllables(&now);
        if spoken.is_empty() {
            // several marks in a row: the longest pause counts
            if let Some(last) = out.last_mut() {
                last.pause_ms = last.pause_ms.max(ms);
                last.question |= c == '？';
            }
        } else {
            emit(&mut out, spoken, ms, c == '？');
        }
        now.clear();
    }
    emit(&mut out, syllables(&now), 0, false);
    out
}

/// Cuts a phrase where it is too long, applies tone changes and appends it.
fn emit(out: &mut Vec<SpokenPhrase>, spoken: Vec<(Spoken, String)>, pause_ms: u16, question: bool) {
    let mut rest = &spoken[..];
    while !rest.is_empty() {
        let n = if rest.len() > LONGEST { cut(rest) } else { rest.len() };
        let (head, tail) = rest.split_at(n);
        let mut s: Vec<Spoken> = head.iter().map(|x| x.0).collect();
        sandhi::apply(&mut s);
        let last = tail.is_empty();
        let syllables: Vec<ToneSyllable> = s
            .iter()
            .filter_map(|s| {
                let (initial, last) = pinyin::split(s.base)?;
                Some(ToneSyllable { initial, last, tone: s.tone, word_end: s.word_end })
            })
            .collect();
        if !syllables.is_empty() {
            out.push(SpokenPhrase {
                syllables,
                text: head.iter().map(|x| x.1.as_str()).collect(),
                pause_ms: if last { pause_ms } else { CUT_PAUSE_MS },
                question: last && question,
            });
        }
        rest = tail;
    }
}

/// Where to cut a phrase that is too long: at the word border nearest to equal parts, not before a particle and
/// not inside a number.
fn cut(s: &[(Spoken, String)]) -> usize {
    let parts = s.len().div_ceil(LONGEST);
    let want = s.len().div_ceil(parts);
    let good = |n: usize| {
        let next = s[n].0.hanzi;
        let before = s[n - 1].0.hanzi;
        let particle = next.is_some_and(|c| "的了吗呢吧着过们地得么".contains(c));
        let number =
            |c: Option<char>| c.is_some_and(|c| "零一二两三四五六七八九十百千万亿点幺年月日号元角分".contains(c));
        let inside_number = number(before) && number(next);
        s[n - 1].0.word_end && !particle && !inside_number && !leans_on_next(before)
    };
    let limit = LONGEST.min(s.len() - 1);
    (2..=limit).filter(|n| good(*n)).min_by_key(|n| n.abs_diff(want)).unwrap_or(limit)
}

/// Words that lean on what follows: 请, 把, 在 … no cut after them.
fn leans_on_next(c: Option<char>) -> bool {
    c.is_some_and(|c| "请把在给为您我你和或与是不被将从向对跟按说这那每第".contains(c))
}

/// The syllables of text without punctuation, each with the text it stands for.
fn syllables(text: &str) -> Vec<(Spoken, String)> {
    let mut out: Vec<(Spoken, String)> = Vec::new();
    let ends = words::ends(text);
    let mut latin = String::new();
    let flush = |latin: &mut String, out: &mut Vec<(Spoken, String)>| {
        let read = letters::read(latin);
        let n = read.len();
        for (i, (base, tone)) in read.into_iter().enumerate() {
            let said = if i == 0 { std::mem::take(latin) } else { String::new() };
            out.push((Spoken { hanzi: None, base, tone, word_end: i + 1 == n }, said));
        }
        latin.clear();
    };
    for (i, (c, reading)) in pinyin::annotate(text).into_iter().enumerate() {
        match reading {
            Some(s) => {
                flush(&mut latin, &mut out);
                let word_end = ends.get(i).copied().unwrap_or(true);
                out.push((Spoken { hanzi: Some(c), base: s.base, tone: s.tone, word_end }, c.to_string()));
            }
            None if c.is_ascii_alphabetic() || (c == '-' && !latin.is_empty()) => latin.push(c),
            None => flush(&mut latin, &mut out),
        }
    }
    flush(&mut latin, &mut out);
    if let Some(last) = out.last_mut() {
        last.0.word_end = true;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn punctuation_gives_pauses_and_questions() {
        let p = phrases("好的，您要退款吗？？……再见");
        let seen: Vec<_> = p.iter().map(|p| (p.text.as_str(), p.pause_ms, p.question)).collect();
        assert_eq!(seen, [("好的", 220, false), ("您要退款吗", 420, true), ("再见", 0, false)]);
        assert!(phrases("").is_empty());
        assert!(phrases("？，。").is_empty());
    }

    #[test]
    fn long_phrases_are_cut_between_words() {
        let p = phrases("您可以说查订单查物流申请退款修改收货地址预约上门安装或者直接说转人工服务");
        assert!(p.len() >= 3, "{p:?}");
        let all: String = p.iter().map(|p| p.text.as_str()).collect();
        assert_eq!(all, "您可以说查订单查物流申请退款修改收货地址预约上门安装或者直接说转人工服务");
        for p in &p {
            assert!(p.syllables.len() <= LONGEST && p.syllables.len() >= 2, "{}", p.text);
            assert!(!p.text.starts_with(['的', '了', '吗']));
            assert!(p.syllables.last().is_some_and(|s| s.word_end));
        }
    }

    #[test]
    fn letters_are_spelled_and_words_end_where_they_should() {
        let p = phrases("VIP客户");
        assert_eq!(p[0].text, "VIP客户");
        let s: Vec<_> = p[0].syllables.iter().map(|s| (s.last, s.word_end)).collect();
        assert_eq!(s, [("uei", false), ("ai", false), ("i", true), ("e", false), ("u", true)]);
    }

    #[test]
    fn digits_beside_letters_alone_are_not_lost() {
        assert_eq!(phrases("VIP 88")[0].text, "VIP八八");
    }

    #[test]
    fn numbers_reach_the_voice_as_syllables() {
        let p = phrases("尾号3126，金额¥12.50。");
        assert_eq!(p[0].text, "尾号三幺二六");
        assert_eq!(p[1].text, "金额十二元五角");
    }

    proptest::proptest! {
        #[test]
        fn every_syllable_is_one_the_models_know(text in "[您的订单尾号ABCxyz一不老李好，。？0-9¥%.-]{0,60}|\\PC{0,30}") {
            for p in phrases(&text) {
                proptest::prop_assert!(!p.syllables.is_empty());
                for s in p.syllables {
                    proptest::prop_assert!((1..=5).contains(&s.tone));
                    proptest::prop_assert!(pinyin::unit_id(s.last).is_some());
                }
            }
        }
    }
}
