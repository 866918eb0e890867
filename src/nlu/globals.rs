//! Phrases that every listening node understands: a person, once more, slower, stop, anger, danger.
//!
//! Found by text and by toneless pinyin (专人工 and 转人公 are 转人工). The phrases are in `rules/globals.txt`.

use super::emotion::{self, Emotion};
use super::negation::negated;
use super::normalise::{fold, normalise};
use super::pinyin::toneless;
use super::rules;
use std::sync::OnceLock;

const PHRASES: &str = include_str!("../../rules/globals.txt");

/// What a global phrase asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Meta {
    /// "冒烟了", "我被骗了": danger to people or money right now. Wins over all others.
    Emergency,
    /// "转人工"
    Human,
    /// "说慢一点"
    Slower,
    /// "再说一遍"
    Repeat,
    /// "算了"
    Cancel,
    /// The caller is angry.
    Angry,
}

impl Meta {
    /// All, in the order in which they win.
    pub const ALL: [Meta; 6] = [Meta::Emergency, Meta::Human, Meta::Slower, Meta::Repeat, Meta::Cancel, Meta::Angry];

    /// The name in dialplans and rules (`emergency`, `human`, …).
    pub const fn name(self) -> &'static str {
        match self {
            Meta::Emergency => "emergency",
            Meta::Human => "human",
            Meta::Slower => "slower",
            Meta::Repeat => "repeat",
            Meta::Cancel => "cancel",
            Meta::Angry => "angry",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Meta> {
        Meta::ALL.into_iter().find(|m| m.name() == name)
    }
}

/// One phrase: how it must be found.
struct Phrase {
    text: &'static str,
    pinyin: Vec<String>,
    /// Only as the whole utterance.
    whole: bool,
    /// Also by sound.
    by_sound: bool,
}

struct Group {
    meta: Meta,
    phrases: Vec<Phrase>,
    /// Texts that rule the group out.
    not: Vec<&'static str>,
}

fn groups() -> &'static [Group] {
    static READ: OnceLock<Vec<Group>> = OnceLock::new();
    READ.get_or_init(|| {
        let sections = rules::sections(PHRASES);
        let group = |meta: Meta| {
            let mut g = Group { meta, phrases: Vec::new(), not: Vec::new() };
            for line in sections.get(meta.name()).into_iter().flatten() {
                if let Some(no) = line.strip_prefix('!') {
                    g.not.push(no);
                    continue;
                }
                let text = line.trim_start_matches(['=', '~']);
                let marks = &line[..line.len() - text.len()];
                g.phrases.push(Phrase {
                    text,
                    pinyin: toneless(text),
                    whole: marks.contains('='),
                    by_sound: marks.contains('~'),
                });
            }
            g
        };
        Meta::ALL.into_iter().map(group).collect()
    })
}

/// The global phrase in an utterance, if any. `pinyin` may be empty: it is then made from the text.
pub fn detect(text: &str, pinyin: &[String]) -> Option<Meta> {
    let folded = fold(text);
    let calm = normalise(text);
    let own = if pinyin.is_empty() { toneless(&calm) } else { pinyin.to_vec() };
    groups()
        .iter()
        .find(|g| {
            let ruled_out = g.not.iter().any(|n| folded.contains(n));
            !ruled_out && g.phrases.iter().any(|p| hears(p, g.meta, &folded, &calm, &own))
        })
        .map(|g| g.meta)
        .or_else(|| (emotion::assess(text) == Emotion::StronglyNegative).then_some(Meta::Angry))
}

/// The danger phrases alone: these are obeyed even where a node takes free speech.
pub fn is_emergency(text: &str, pinyin: &[String]) -> bool {
    detect(text, pinyin) == Some(Meta::Emergency)
}

fn hears(p: &Phrase, meta: Meta, folded: &str, calm: &str, pinyin: &[String]) -> bool {
    if p.whole {
        return folded == p.text || calm == p.text || (p.by_sound && !p.pinyin.is_empty() && pinyin == p.pinyin);
    }
    let in_text = folded
        .match_indices(p.text)
        .any(|(i, _)| whole_word(folded, i, p.text) && !(can_be_negated(meta) && negated(&folded[..i])));
    in_text || (p.by_sound && p.pinyin.len() >= 2 && sounds(pinyin, p, meta))
}

fn sounds(pinyin: &[String], p: &Phrase, meta: Meta) -> bool {
    let n = p.pinyin.len();
    (0..pinyin.len().saturating_sub(n - 1)).any(|i| {
        let before = &pinyin[i.saturating_sub(3)..i];
        let no = ["bu", "mei", "bie"].iter().any(|w| before.iter().any(|b| b == w));
        pinyin[i..i + n] == p.pinyin[..] && !(no && can_be_negated(meta))
    })
}

/// "没有冒烟", "不要转人工". What is itself a refusal (不用了, 别再打了) is not looked at this way.
fn can_be_negated(meta: Meta) -> bool {
    matches!(meta, Meta::Emergency | Meta::Human | Meta::Angry)
}

fn whole_word(text: &str, at: usize, word: &str) -> bool {
    let letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    !word.is_ascii() || (!letter(text[..at].chars().next_back()) && !letter(text[at + word.len()..].chars().next()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(t: &str) -> Option<Meta> {
        detect(t, &[])
    }

    #[test]
    fn a_person_is_asked_for_in_many_words_and_homophones() {
        for t in [
            "转人工",
            "我要人工服务",
            "找个真人",
            "别跟我说机器人",
            "接客服",
            "人工",
            "给我接个人",
            "叫你们客服来",
            "我不想跟机器说话",
            "转接坐席",
            "麻烦人工客服",
            "专人工",
            "转人公",
            "赚人工",
            "转任工",
            "talk to a person",
            "agent please",
            "operator",
            "I want to speak to a representative",
            "get me a human",
            "我要找人工",
        ] {
            assert_eq!(d(t), Some(Meta::Human), "{t}");
        }
        for t in [
            "不要转人工",
            "我不要人工",
            "不用转人工",
            "不需要人工服务",
            "人工智能是什么",
            "你是人工智能吗",
            "做人工流产",
            "我想查订单",
            "人工费多少钱",
        ] {
            assert_eq!(d(t), None, "{t}");
        }
    }

    #[test]
    fn danger_is_heard_everywhere_and_wins() {
        for t in [
            "冰箱冒烟了",
            "家里漏电",
            "漏水了快派人来",
            "着火了",
            "有人触电",
            "我被骗了",
            "不想活了",
            "我要自杀",
            "转人工，冒烟了",
            "洗衣机起火了",
            "冒言了",
            "漏店了",
            "燃气泄漏",
            "家里煤气漏了",
            "插座打火花",
            "爆炸了",
            "it's on fire",
            "there is smoke",
        ] {
            assert_eq!(d(t), Some(Meta::Emergency), "{t}");
        }
        for t in [
            "煤气灶打不着火",
            "重度清洁",
            "订单重复了",
            "电视声音太小",
            "我的卡被盗刷了",
            "扣得太快了",
            "没有冒烟",
            "不是漏电",
            "出点问题了",
            "我想找货",
            "火锅",
            "没漏水",
            "煤气没漏",
            "漏水的水管什么时候发货",
            "防漏电插座什么时候发货",
        ] {
            assert_eq!(d(t), None, "{t}");
        }
    }

    #[test]
    fn the_other_globals() {
        for (t, m) in [
            ("再说一遍", Meta::Repeat),
            ("没听清", Meta::Repeat),
            ("你说什么", Meta::Repeat),
            ("请重复一下", Meta::Repeat),
            ("刚才说的啥", Meta::Repeat),
            ("啊什么", Meta::Repeat),
            ("能大声点吗", Meta::Repeat),
            ("再说一变", Meta::Repeat),
            ("没听轻", Meta::Repeat),
            ("请重付一下", Meta::Repeat),
            ("pardon", Meta::Repeat),
            ("说慢一点", Meta::Slower),
            ("你说得太快了", Meta::Slower),
            ("算了", Meta::Cancel),
            ("不办了", Meta::Cancel),
            ("回到主菜单", Meta::Cancel),
            ("蒜了", Meta::Cancel),
            ("不半了", Meta::Cancel),
            ("回到主采单", Meta::Cancel),
            ("退出", Meta::Cancel),
            ("我要找律师", Meta::Angry),
            ("我非常生气", Meta::Angry),
        ] {
            assert_eq!(d(t), Some(m), "{t}");
        }
        for t in ["取消订单", "取消预约", "返回的货收到了吗", "算一下运费", "对", "不是", "退出来的钱", ""]
        {
            assert_eq!(d(t), None, "{t}");
        }
    }

    #[test]
    fn names_go_there_and_back() {
        for m in Meta::ALL {
            assert_eq!(Meta::from_name(m.name()), Some(m));
        }
    }
}
