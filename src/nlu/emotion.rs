//! How the caller sounds, from words: a lexicon with negation and intensifiers. Prosody is judged elsewhere.

use super::normalise::fold;
use super::rules;
use std::sync::OnceLock;

const LEXICON: &str = include_str!("../../rules/emotion.txt");

/// How the caller sounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Emotion {
    /// Nothing special.
    #[default]
    Neutral,
    /// Displeased.
    Negative,
    /// Angry, or speaking of lawyers, media, authorities.
    StronglyNegative,
}

struct Lexicon {
    /// Word and weight, longest first. Weights: 1 displeased, 3 strong, negative: friendly.
    words: Vec<(&'static str, f32)>,
    negations: Vec<&'static str>,
    intensifiers: Vec<&'static str>,
}

fn lexicon() -> &'static Lexicon {
    static READ: OnceLock<Lexicon> = OnceLock::new();
    READ.get_or_init(|| {
        let s = rules::sections(LEXICON);
        let list = |name: &str| s.get(name).cloned().unwrap_or_default();
        let mut words = Vec::new();
        for (section, weight) in [("negative", 1.0), ("strong", 3.0), ("friendly", -1.0), ("neutral", 0.0)] {
            words.extend(list(section).into_iter().map(|w| (w, weight)));
        }
        words.sort_by_key(|(w, _)| std::cmp::Reverse(w.len()));
        Lexicon { words, negations: list("negation"), intensifiers: list("intensifier") }
    })
}

/// The mood of one utterance.
pub fn assess(text: &str) -> Emotion {
    match score(text) {
        s if s >= 3.0 => Emotion::StronglyNegative,
        s if s >= 1.0 => Emotion::Negative,
        _ => Emotion::Neutral,
    }
}

/// How displeased an utterance is: 0 not at all, from 1 displeased, from 3 strongly; negative when friendly.
pub fn score(text: &str) -> f32 {
    let lex = lexicon();
    let text = fold(text);
    let mut total = 0.0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let Some((word, weight)) = lex.words.iter().find(|(w, _)| rest.starts_with(w) && whole_word(&text, at, w))
        else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        let before = last_chars(&text[..at], 4);
        let negated = lex.negations.iter().any(|n| before.contains(n));
        let stressed = lex.intensifiers.iter().any(|i| before.ends_with(i) || rest[word.len()..].starts_with(i));
        total += match (negated, stressed) {
            (true, _) if *weight < 0.0 => 1.0, // 不满意, 不好
            (true, _) => 0.0,                  // 不是投诉
            (false, true) => weight * 1.5,
            (false, false) => *weight,
        };
        at += word.len();
    }
    total
}

/// Latin words count only whole.
fn whole_word(text: &str, at: usize, word: &str) -> bool {
    let letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    !word.is_ascii() || (!letter(text[..at].chars().next_back()) && !letter(text[at + word.len()..].chars().next()))
}

fn last_chars(text: &str, n: usize) -> &str {
    let start = text.char_indices().rev().nth(n - 1).map_or(0, |(i, _)| i);
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moods_are_told_from_words() {
        for t in [
            "再不解决我打一二三一五",
            "我要找律师告你们",
            "我要找媒体曝光",
            "骗子公司",
            "我非常生气，太差了",
            "你们就是骗人的",
            "受不了了，态度恶劣",
            "12315",
            "this is a scam, I will sue you",
        ] {
            assert_eq!(assess(t), Emotion::StronglyNegative, "{t} {}", score(t));
        }
        for t in [
            "我要投诉",
            "我已经打了第三次了，太差劲了",
            "太慢了",
            "怎么还没到",
            "不满意",
            "我不满意",
            "态度很差",
            "烦死了吧",
            "这都第几次了",
            "this is terrible",
        ] {
            assert_eq!(assess(t), Emotion::Negative, "{t} {}", score(t));
        }
        for t in [
            "我想查一下订单",
            "不是投诉",
            "我不是要投诉",
            "没生气",
            "谢谢你，很满意",
            "好的",
            "没问题",
            "冰箱坏了",
            "不着急",
            "机器一直报警",
            "滚筒洗衣机多少钱",
            "支持多媒体吗",
            "我想找理财经理",
            "",
            "where is my order",
        ] {
            assert_eq!(assess(t), Emotion::Neutral, "{t} {}", score(t));
        }
    }
}
