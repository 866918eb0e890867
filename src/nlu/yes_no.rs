//! Yes or no. Negation decides ("没错" and "没问题" agree, "不是" and "不用了" refuse); silence of both is `None`.

use super::normalise::normalise;
use super::pinyin::toneless;
use super::rules;
use std::sync::OnceLock;

const WORDS: &str = include_str!("../../rules/yes_no.txt");

/// One phrase of the list.
struct Entry {
    text: &'static str,
    pinyin: Vec<String>,
    /// Yes, no, or neither (对不起, 是不是): listed so that shorter words inside it are not seen.
    verdict: Option<bool>,
    /// Counts only as the whole utterance.
    whole: bool,
    /// A recogniser should expect it.
    spoken: bool,
}

fn words() -> &'static [Entry] {
    static READ: OnceLock<Vec<Entry>> = OnceLock::new();
    READ.get_or_init(|| {
        let sections = rules::sections(WORDS);
        let mut entries = Vec::new();
        for (name, verdict) in [("yes", Some(true)), ("no", Some(false)), ("neither", None)] {
            for line in sections.get(name).into_iter().flatten() {
                let text = line.trim_start_matches(['=', '-']);
                let marks = &line[..line.len() - text.len()];
                let spoken = verdict.is_some() && !marks.contains('-');
                entries.push(Entry { text, pinyin: toneless(text), verdict, whole: marks.contains('='), spoken });
            }
        }
        // the longest first, so that 不是 is seen before 是 and 没问题 before 没
        entries.sort_by_key(|e| std::cmp::Reverse(e.text.chars().count()));
        entries
    })
}

/// Phrases of consent and refusal that a recogniser should expect after a yes/no question.
pub fn spoken() -> impl Iterator<Item = &'static str> {
    words().iter().filter(|e| e.spoken).map(|e| e.text)
}

/// `Some(true)` for consent, `Some(false)` for refusal, `None` when `text` says neither or asks something.
///
/// When both are said the last one counts ("对，不对，不是这个"), except that an utterance that begins with a
/// refusal is a refusal ("不是，是那个").
pub fn parse(text: &str) -> Option<bool> {
    let text = normalise(text);
    if let Some(e) = words().iter().find(|e| e.text == text) {
        return e.verdict;
    }
    let (found, beside) = scan_text(&text);
    decide(&found).filter(|yes| !yes || !taken_back(&beside))
}

/// Words beside a consent that make it none: a question, a doubt, a wish to wait ("好的等一下", "是家里吗").
fn taken_back(beside: &str) -> bool {
    let doubts = rules::sections(WORDS).remove("unless").unwrap_or_default();
    beside.ends_with(['吗', '么']) || doubts.iter().any(|d| beside.contains(d))
}

/// As [`parse`], and when the text decides nothing, by its pinyin (a recogniser writes 事的 for 是的).
/// `pinyin` may be empty: it is then made from the text.
pub fn parse_heard(text: &str, pinyin: &[String]) -> Option<bool> {
    parse(text).or_else(|| {
        let text = normalise(text);
        if words().iter().any(|e| e.verdict.is_none() && e.text == text) {
            return None;
        }
        let own = if pinyin.is_empty() { toneless(&text) } else { pinyin.to_vec() };
        parse_pinyin(&own)
    })
}

fn decide(found: &[bool]) -> Option<bool> {
    Some(*found.first()? && *found.last()?)
}

/// Consent or refusal by sound alone: the whole utterance must be made of such phrases.
fn parse_pinyin(pinyin: &[String]) -> Option<bool> {
    let mut rest = pinyin;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let hit = words().iter().find(|e| !e.pinyin.is_empty() && rest.starts_with(&e.pinyin))?;
        found.push(hit.verdict?);
        rest = &rest[hit.pinyin.len()..];
    }
    decide(&found)
}

/// The verdicts of the phrases in `text`, in order, and what stands beside them. A phrase in the middle of a sentence counts only when it refuses
/// and is longer than one character ("我说的不是这个"); consent stands at the beginning, at the end or alone.
fn scan_text(text: &str) -> (Vec<bool>, String) {
    let english = text.is_ascii();
    let asks = ["什么", "怎么", "吗", "哪", "几", "多少", "谁", "how", "what", "when", "where", "why"]
        .iter()
        .any(|w| text.contains(w));
    let mut found = Vec::new();
    let mut beside = String::new();
    let mut rest = text;
    let mut chain = true; // nothing but such phrases so far
    while !rest.is_empty() {
        let hit = words().iter().filter(|e| !e.whole && e.text.is_ascii() == english).find(|e| {
            rest.strip_prefix(e.text)
                .is_some_and(|after| !english || !after.starts_with(|c: char| c.is_ascii_alphabetic() || c == '\''))
        });
        let step = match hit {
            Some(e) => {
                let long = e.text.len() > 3;
                let counts = match e.verdict {
                    Some(true) => chain || (long && !asks && e.text.len() == rest.len()),
                    Some(false) => chain || (long && !asks),
                    None => false,
                };
                if let (true, Some(v)) = (counts, e.verdict) {
                    found.push(v);
                }
                chain &= counts;
                e.text.len()
            }
            None if english => {
                chain = false;
                rest.find(' ').map_or(rest.len(), |i| i + 1)
            }
            None => {
                chain = false;
                rest.chars().next().map_or(1, char::len_utf8)
            }
        };
        if hit.is_none_or(|e| e.verdict.is_none()) {
            beside.push_str(&rest[..step]);
        }
        rest = &rest[step..];
        rest = rest.strip_prefix(' ').unwrap_or(rest);
    }
    (found, beside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consent_is_heard() {
        for t in [
            "对",
            "是的",
            "没错",
            "好的",
            "可以",
            "嗯",
            "行",
            "就是这个",
            "对对对",
            "确认",
            "是这个",
            "没问题",
            "嗯嗯",
            "对的没错",
            "是",
            "要",
            "好",
            "好啊",
            "可以的",
            "没错就是这个",
            "不错",
            "OK",
            "yes please",
            "sure",
            "yeah that's right",
            "对，就是这一单",
            "是是是",
            "好的谢谢",
            "需要",
            "那就这样吧",
            "没毛病",
            "中",
            "没有问题",
            "没有错",
            "没什么问题",
        ] {
            assert_eq!(parse(t), Some(true), "{t}");
        }
    }

    #[test]
    fn refusal_is_heard_and_what_is_neither_is_not_guessed() {
        for t in [
            "不对",
            "不是",
            "错了",
            "不是这个",
            "没有",
            "不要",
            "不行",
            "你搞错了",
            "重新来",
            "我说的不是这个",
            "不是那一单",
            "改一下",
            "不用了",
            "不可以",
            "不好",
            "不用",
            "no",
            "no thanks",
            "not that one",
            "不是，是另一个",
            "不需要",
            "别",
            "对不对，不对",
            "不确认",
            "没有了",
            "算了不要了",
        ] {
            assert_eq!(parse(t), Some(false), "{t}");
        }
        for t in [
            "",
            "三八二六",
            "我想查订单",
            "今天天气怎么样",
            "对不起",
            "不知道",
            "订单",
            "now",
            "什么",
            "什么时候可以到",
            "是不是",
            "好多天了",
            "我的订单是什么时候到",
            "我要改地址",
        ] {
            assert_eq!(parse(t), None, "{t}");
        }
    }

    #[test]
    fn consent_with_a_question_a_doubt_or_another_word_behind_it_is_none() {
        for t in [
            "对吗",
            "是吗",
            "好吗",
            "行吗",
            "是家里吗",
            "是这个地址吗",
            "好的等一下",
            "好的等等",
            "是有点问题",
            "确认一下再说",
            "行程变了",
            "好烦啊",
            "没错但是我想改公司",
            "对不过我还没想好",
            "yes but wait",
        ] {
            assert_eq!(parse_heard(t, &[]), None, "{t}");
        }
        for t in ["对改到公司", "好的谢谢你", "是的没问题", "可以麻烦你了", "行改吧", "对嘛", "是公司"]
        {
            assert_eq!(parse_heard(t, &[]), Some(true), "{t}");
        }
    }

    #[test]
    fn homophones_decide_by_sound() {
        for t in ["队", "事的", "可已", "队队队"] {
            assert_eq!(parse_heard(t, &[]), Some(true), "{t}");
        }
        for t in ["不队", "不事"] {
            assert_eq!(parse_heard(t, &[]), Some(false), "{t}");
        }
        assert_eq!(parse_heard("茶叶", &[]), None);
        assert_eq!(parse_heard("", &["bu".into(), "shi".into()]), Some(false));
    }
}
