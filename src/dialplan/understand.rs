//! What an utterance means where it was said, and what can be said there.
//!
//! The best reading is judged completely first, then, only when it means nothing, others that are nearly as sure.
//! Order of trust inside a reading: danger; the closed answers of the node and a demand for a person; rules of intents;
//! other global phrases. Last comes the classifier, which weighs all readings. A model only names an intent: the flow
//! decides.

use super::hotline::Thresholds;
use super::language::{self, Verdict};
use super::model::SlotType;
use super::reply::{AnswerKind, Choice, Listen};
use super::set::FlowSet;
use super::understood::{Emotion, Global, Meaning, Understood};
use super::value::Value;
use crate::speech::{DigitSpan, Grammar, Hypothesis, Phrase, Transcript};
use std::collections::{BTreeMap, BTreeSet};

/// Readings that may decide alone.
const MAX_READINGS: usize = 3;
/// A reading beside the best may decide when it is at least this share as sure.
const NEAR: f32 = 0.75;
/// Distance, in logits of confidence, that a choice must keep from a reading that names another one.
const CHOICE_MARGIN: f32 = 0.3;
/// Likeness of syllables from which a choice is taken as said.
const LIKE: f32 = 0.74;
/// Phrases and fragments of a grammar, at most.
const MAX_PHRASES: usize = 2000;

/// Global phrases a recogniser should expect everywhere.
const GLOBALS: [&str; 22] = [
    "转人工",
    "人工",
    "人工服务",
    "人工客服",
    "转人工客服",
    "找个真人",
    "接人工",
    "再说一遍",
    "没听清",
    "你说什么",
    "请重复一下",
    "说慢一点",
    "慢一点",
    "算了",
    "不办了",
    "取消",
    "返回",
    "冒烟了",
    "漏电了",
    "漏水了",
    "着火了",
    "我被骗了",
];
/// Weight of what may be said anywhere, beside a node's own answers.
const ASIDE: f32 = -0.4;
/// Weight of another business in the middle of one.
const DIGRESSION: f32 = -1.2;

impl FlowSet {
    /// What an utterance means where this listened.
    pub fn understand(&self, listen: &Listen, heard: &Transcript) -> Understood {
        let t = self.hotline().thresholds;
        let Some(best) = heard.nbest.first() else { return Understood::no_match("", 0.0) };
        let mut u = Understood::no_match(best.text.as_str(), best.confidence);
        let empty = language::norm(&best.text).is_empty() && best.pinyin.is_empty();
        if !heard.accepted || empty || best.confidence < t.confidence {
            return u;
        }
        u.emotion = language::emotion(&best.text);
        if u.emotion == Emotion::Neutral && language::global(&best.text, &best.pinyin) == Some(Global::Angry) {
            u.emotion = Emotion::StronglyNegative;
        }
        let decided = deciding(heard, t.confidence).find_map(|h| self.decided(listen, h, heard, t, &mut u.candidates));
        u.meaning = match decided {
            Some(meaning) => meaning,
            None if narrative(listen) => Meaning::Text,
            None => self.learnt(listen, heard, t, &mut u.candidates),
        };
        if let Meaning::Intent(intent) = &u.meaning {
            u.slots = self.slots_along(intent, &best.text);
        }
        if listen.kind == AnswerKind::Choice && listen.secret {
            u.candidates = heard_choices(listen, heard);
        }
        u
    }

    /// What one reading means by itself: global phrases, the node's own closed answers, rules of intents.
    fn decided(
        &self,
        listen: &Listen,
        h: &Hypothesis,
        heard: &Transcript,
        t: Thresholds,
        candidates: &mut Vec<(String, f32)>,
    ) -> Option<Meaning> {
        let global = language::global(&h.text, &h.pinyin);
        if global == Some(Global::Emergency) {
            return Some(Meaning::Global(Global::Emergency));
        }
        if let Some(c) = exact_choice(listen, &h.text) {
            candidates.push((c.name.clone(), 1.0));
            let clear = listen.kind != AnswerKind::Choice || stands_apart(listen, h, c, heard);
            return Some(if clear { named(listen, &c.name) } else { Meaning::NoMatch });
        }
        let ruled = self.intents.by_rule(h, &listen.intents);
        // "我要转人工投诉": the flows' own rules (`not:`) may give even a demand for a person to a business.
        let business = listen.kind == AnswerKind::Open && ruled.as_deref().is_some_and(|i| !self.is_human(i));
        if global == Some(Global::Human) && !business {
            return Some(Meaning::Global(Global::Human));
        }
        if let Some(m) = self.answer(listen, h, heard, candidates) {
            return Some(m);
        }
        if let Some(intent) = ruled {
            candidates.push((intent.clone(), 1.0));
            let (others, _) = self.intents.by_learning(heard, &listen.intents, t);
            candidates.extend(others.into_iter().take(5).filter(|c| c.0 != intent));
            return Some(Meaning::Intent(intent));
        }
        match global {
            Some(g @ (Global::Repeat | Global::Slower)) => Some(Meaning::Global(g)),
            Some(Global::Cancel) if !narrative(listen) => Some(Meaning::Global(Global::Cancel)),
            _ => None,
        }
    }

    fn answer(
        &self,
        listen: &Listen,
        h: &Hypothesis,
        heard: &Transcript,
        candidates: &mut Vec<(String, f32)>,
    ) -> Option<Meaning> {
        match listen.kind {
            AnswerKind::Open => None,
            AnswerKind::Digits { min, max } => {
                let digits = language::digits(&h.text, min, max)?;
                Some(slot_value(listen, digits))
            }
            AnswerKind::YesNo => {
                let said = language::yes_no(&h.text, &h.pinyin);
                let choice = near_choice(listen, h).filter(|_| said != Some(true));
                match (choice, said) {
                    (Some((c, score)), _) => {
                        candidates.push((c.name.clone(), score));
                        Some(Meaning::Choice(c.name.clone()))
                    }
                    (None, said) => said.map(Meaning::YesNo),
                }
            }
            AnswerKind::Choice => {
                if let Some((c, score)) = near_choice(listen, h) {
                    candidates.push((c.name.clone(), score));
                    let clear = stands_apart(listen, h, c, heard);
                    return clear.then(|| Meaning::Choice(c.name.clone())).or(Some(Meaning::NoMatch));
                }
                if listen.keys.max < 4 || listen.keys.min < 4 {
                    return None;
                }
                let digits = language::digits(&h.text, listen.keys.min, listen.keys.max)?;
                let own = listen.choices.iter().find(|c| c.value.as_text().is_some_and(|v| v.ends_with(&digits)));
                Some(match own {
                    Some(c) => Meaning::Choice(c.name.clone()),
                    None => slot_value(listen, digits),
                })
            }
        }
    }

    /// What the classifier makes of all readings, when none decides alone.
    fn learnt(
        &self,
        listen: &Listen,
        heard: &Transcript,
        t: Thresholds,
        candidates: &mut Vec<(String, f32)>,
    ) -> Meaning {
        let (scores, verdict) = self.intents.by_learning(heard, &listen.intents, t);
        candidates.extend(scores.into_iter().take(5));
        let best = heard.nbest.first();
        match verdict {
            Verdict::Sure(intent) => Meaning::Intent(intent),
            Verdict::Either(a, b) if listen.kind == AnswerKind::Open => Meaning::Clarify(a, b),
            _ if best.and_then(|h| language::global(&h.text, &h.pinyin)) == Some(Global::Angry) => {
                Meaning::Global(Global::Angry)
            }
            _ => Meaning::NoMatch,
        }
    }

    /// Order numbers said along with an intent.
    fn slots_along(&self, intent: &str, text: &str) -> BTreeMap<String, Value> {
        let mut slots = BTreeMap::new();
        let Some(flow) = self.flow_of(intent) else { return slots };
        for def in &self.flows()[flow].slots {
            if def.kind == SlotType::OrderRef
                && let Some(number) = language::order_number(text)
            {
                slots.insert(def.name.clone(), Value::Text(number));
            }
        }
        slots
    }

    /// What can be said where this listens, for the recogniser.
    pub fn grammar(&self, listen: &Listen) -> Grammar {
        let mut g = Builder::default();
        if !listen.speech {
            return Grammar::default();
        }
        for c in &listen.choices {
            c.say.iter().for_each(|s| g.phrase(s, 0.0));
        }
        let mut digits = None;
        match listen.kind {
            AnswerKind::YesNo => {
                language::yes_no_phrases().for_each(|s| g.phrase(s, 0.0));
                for s in listen.choices.iter().filter_map(|c| c.say.first()) {
                    g.phrase(&format!("不是,是{s}"), ASIDE);
                    g.phrase(&format!("不对,{s}"), ASIDE);
                }
            }
            AnswerKind::Digits { min, max } => digits = Some(DigitSpan { min, max }),
            AnswerKind::Choice if listen.keys.min >= 4 => {
                digits = Some(DigitSpan { min: listen.keys.min, max: listen.keys.max });
            }
            AnswerKind::Choice => {}
            AnswerKind::Open => self.open_grammar(listen, &mut g),
        }
        if listen.kind != AnswerKind::Open {
            for intent in listen.intents.iter().filter_map(|i| self.intent(i)) {
                intent.keywords.iter().for_each(|k| g.phrase(&k.text, DIGRESSION));
            }
        }
        GLOBALS.iter().for_each(|s| g.phrase(s, ASIDE));
        Grammar { phrases: g.phrases, fragments: g.fragments, digits, ..Grammar::default() }
    }

    /// Words that a prompt asks the caller to say where it listens, and that the grammar there does not hold: words
    /// in quotes anywhere, and at a yes/no question what follows 说 ("请说要,不转请说不用").
    pub fn unheard(&self, listen: &Listen, prompt: &str) -> Vec<String> {
        let grammar = self.grammar(listen);
        let known = |w: &str| grammar.phrases.iter().chain(&grammar.fragments).any(|p| p.text == w);
        let mut words = quoted(prompt);
        if listen.kind == AnswerKind::YesNo {
            words.extend(after_say(prompt));
        }
        words.retain(|w| !known(w));
        words
    }

    fn open_grammar(&self, listen: &Listen, g: &mut Builder) {
        for intent in listen.intents.iter().filter_map(|i| self.intent(i)) {
            for s in &intent.examples {
                g.phrase(&s.text, 0.0);
            }
            for k in &intent.keywords {
                g.phrase(&k.text, 0.0);
                g.fragment(&k.text, 0.0);
            }
            self.fragments(&intent.name).iter().for_each(|l| g.fragment(l, ASIDE));
            if let Some(spoken) = &intent.spoken {
                g.fragment(spoken, 0.0);
            }
        }
        if !listen.intents.is_empty() {
            ["转人工", "人工", "人工服务"].iter().for_each(|s| g.fragment(s, ASIDE));
        }
    }
}

/// Free speech that is taken as it is.
fn narrative(listen: &Listen) -> bool {
    listen.kind == AnswerKind::Open && listen.intents.is_empty()
}

/// The readings that may decide, best first: the best one; then those that are sure enough themselves, nearly as sure
/// as the best, and more than a part of it.
fn deciding(heard: &Transcript, least: f32) -> impl Iterator<Item = &Hypothesis> {
    let near = move |h: &&Hypothesis| {
        let best = &heard.nbest[0];
        h.confidence >= least.max(best.confidence * NEAR) && !part_of(&h.text, &best.text)
    };
    heard.nbest.iter().take(1).chain(heard.nbest.iter().take(MAX_READINGS).skip(1).filter(near))
}

/// Whether every fragment of `text` is in `whole` too.
fn part_of(text: &str, whole: &str) -> bool {
    !text.is_empty() && text.split(' ').all(|w| whole.contains(w))
}

/// Whether a choice is clearly surer than any reading that names another one.
fn stands_apart(listen: &Listen, h: &Hypothesis, choice: &Choice, heard: &Transcript) -> bool {
    let logit = |c: f32| {
        let c = c.clamp(1e-6, 1.0 - 1e-6);
        (c / (1.0 - c)).ln()
    };
    let other = |r: &&Hypothesis| near_choice(listen, r).is_some_and(|(c, _)| c.name != choice.name);
    heard
        .nbest
        .iter()
        .filter(|r| !std::ptr::eq(*r, h))
        .find(other)
        .is_none_or(|r| logit(h.confidence) - logit(r.confidence) >= CHOICE_MARGIN)
}

/// At the opening question a choice is a business.
fn named(listen: &Listen, name: &str) -> Meaning {
    if listen.kind == AnswerKind::Open || listen.node == "clarify" {
        Meaning::Intent(name.to_string())
    } else {
        Meaning::Choice(name.to_string())
    }
}

fn slot_value(listen: &Listen, digits: String) -> Meaning {
    let slot = listen.slot.clone().unwrap_or_else(|| "digits".into());
    Meaning::Slots(BTreeMap::from([(slot, Value::Text(digits))]))
}

/// The choices that the readings name, each with the recogniser's confidence, best first: for who knows which one is right
/// and asks how near it came.
fn heard_choices(listen: &Listen, heard: &Transcript) -> Vec<(String, f32)> {
    let mut found: Vec<(String, f32)> = Vec::new();
    for h in &heard.nbest {
        if let Some(c) = exact_choice(listen, &h.text).or_else(|| near_choice(listen, h).map(|(c, _)| c))
            && !found.iter().any(|(name, _)| *name == c.name)
        {
            found.push((c.name.clone(), h.confidence));
        }
    }
    found
}

fn exact_choice<'a>(listen: &'a Listen, text: &str) -> Option<&'a Choice> {
    let text = language::norm(text);
    let same = |s: &String| language::norm(s) == text;
    listen.choices.iter().find(|c| !text.is_empty() && c.say.iter().any(same))
}

/// The choice named in an utterance: by words, else by sound. One that is negated ("不是公司") does not count; two
/// equally good ones are none.
fn near_choice<'a>(listen: &'a Listen, h: &Hypothesis) -> Option<(&'a Choice, f32)> {
    let text = language::norm(&h.text);
    let own = Said { sounds: language::sounds(&text), exact: language::exact_sounds(&text), text };
    let mut scored: Vec<(&Choice, f32)> = listen
        .choices
        .iter()
        .filter_map(|c| {
            let best = c.say.iter().map(|s| own.score(&language::norm(s))).fold(0.0f32, f32::max);
            (best >= LIKE).then_some((c, best))
        })
        .collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1));
    match scored[..] {
        [(c, best), ..] if scored.len() == 1 || scored[1].1 < best => Some((c, best.min(1.0))),
        _ => None,
    }
}

/// An utterance as words, as syllables, and as syllables that a telephone line keeps apart.
struct Said {
    text: String,
    exact: Vec<String>,
    sounds: Vec<String>,
}

impl Said {
    /// How surely `say` was said. What is longer wins ("不满意" over "满意").
    fn score(&self, say: &str) -> f32 {
        let length = say.chars().count();
        if length == 0 {
            return 0.0;
        }
        if self.text == say {
            return 2.0;
        }
        let bonus = length as f32 * 0.01;
        if length >= 2
            && let Some(at) = self.text.rfind(say)
        {
            return if language::negated(&self.text[..at]) { 0.0 } else { 1.0 + bonus };
        }
        let sound = language::sounds(say);
        if sound.len() < 2 || self.text.contains('不') {
            return 0.0;
        }
        if self.exact.len() <= sound.len() + 6 {
            if language::contains_sounds(&self.exact, &language::exact_sounds(say)) {
                return 0.95 + bonus;
            }
            if language::contains_sounds(&self.sounds, &sound) {
                return 0.9 + bonus;
            }
        }
        if sound.len() >= 3 { language::likeness(&self.sounds, &sound) } else { 0.0 }
    }
}

#[derive(Default)]
struct Builder {
    phrases: Vec<Phrase>,
    fragments: Vec<Phrase>,
    seen: BTreeSet<(bool, String)>,
}

impl Builder {
    fn phrase(&mut self, text: &str, weight: f32) {
        if self.phrases.len() < MAX_PHRASES
            && let Some(text) = self.fresh(text, false)
        {
            self.phrases.push(Phrase { text, weight });
        }
    }

    /// A key fragment: two to five syllables.
    fn fragment(&mut self, text: &str, weight: f32) {
        if (2..=5).contains(&text.chars().count())
            && self.fragments.len() < MAX_PHRASES
            && let Some(text) = self.fresh(text, true)
        {
            self.fragments.push(Phrase { text, weight });
        }
    }

    /// The words alone, when they are hanzi and new.
    fn fresh(&mut self, text: &str, fragment: bool) -> Option<String> {
        let words: String = text.chars().filter(|c| c.is_alphanumeric()).collect();
        let hanzi = !words.is_empty() && words.chars().all(is_hanzi);
        (hanzi && self.seen.insert((fragment, words.clone()))).then_some(words)
    }
}

/// Short runs of hanzi in quotes.
fn quoted(prompt: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (open, close) in [('“', '”'), ('「', '」'), ('‘', '’'), ('"', '"'), ('\'', '\'')] {
        let mut rest = prompt;
        while let Some((_, after)) = rest.split_once(open) {
            let Some((word, tail)) = after.split_once(close) else { break };
            found.push(word.to_string());
            rest = tail;
        }
    }
    found.retain(|w| (1..=8).contains(&w.chars().count()) && w.chars().all(is_hanzi));
    found
}

/// "请说对,或者不对。" → 对, 不对.
fn after_say(prompt: &str) -> Vec<String> {
    let sentences = prompt.split(['。', '?', '？', '!', '！', ';', '；']);
    let said = sentences.filter_map(|s| s.split_once('说')).flat_map(|(_, said)| said.split([',', '，', '、', '说']));
    let mut found = Vec::new();
    for piece in said {
        // "是或者不是" is two words; "不转请" leads up to the next 说
        let piece = piece.trim().trim_start_matches("或者").trim_start_matches('或');
        for word in piece.split("或者").flat_map(|p| p.split('或')) {
            let words = (1..=4).contains(&word.chars().count()) && word.chars().all(is_hanzi);
            if words && !word.ends_with('请') && !word.starts_with('按') {
                found.push(word.to_string());
            }
        }
    }
    found
}

fn is_hanzi(c: char) -> bool {
    ('\u{3400}'..='\u{9fff}').contains(&c)
}

/// Runs of hanzi in a pattern that every match must hold one of: not those that may be left out.
pub(super) fn literals(pattern: &str) -> Vec<String> {
    let chars: Vec<char> = pattern.chars().collect();
    let (mut found, mut open, mut run): (Vec<String>, Vec<usize>, String) = Default::default();
    for (i, &c) in chars.iter().enumerate() {
        if is_hanzi(c) {
            run.push(c);
            continue;
        }
        if matches!(c, '?' | '*' | '{') {
            run.pop(); // the last character may be missing
        }
        if !run.is_empty() {
            found.push(std::mem::take(&mut run));
        }
        match c {
            '(' => open.push(found.len()),
            ')' => {
                let from = open.pop().unwrap_or(0);
                if matches!(chars.get(i + 1), Some('?' | '*')) {
                    found.truncate(from);
                }
            }
            '[' => break, // characters to choose from are no words
            _ => {}
        }
    }
    if !run.is_empty() {
        found.push(run);
    }
    found.retain(|l| l.chars().count() >= 2);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_of_a_pattern_are_what_must_be_heard() {
        assert_eq!(literals("(查|看|问)(一下)?.{0,6}(订单|单子)"), ["订单", "单子"]);
        assert_eq!(literals("转?人工(客服|服务)?"), ["人工"]);
        assert!(literals("[一二三]四五").is_empty());
        assert!(literals(")))((").is_empty());
    }

    use super::super::machine::{Run, Session};
    use super::super::reply::{Await, Input};
    use super::super::set::shipped;

    fn open() -> Listen {
        let mut run = Run::new(shipped(), Session::default());
        match run.step(Input::Start).then {
            Await::Listen(l) => *l,
            other => panic!("{other:?}"),
        }
    }

    fn meaning(text: &str) -> Meaning {
        shipped().understand(&open(), &Transcript::typed(text)).meaning
    }

    #[test]
    fn an_opening_sentence_names_its_business_and_brings_its_number() {
        let cases = [
            ("查订单", "order_query"),
            ("我想看看我那个冰箱到哪了", "order_query"),
            ("麻烦帮我改一下收货的地址", "change_address"),
            ("我要投诉你们的快递员", "complaint"),
            ("茶订单", "order_query"),
            ("我要退货", "other_business"),
        ];
        for (text, intent) in cases {
            assert_eq!(meaning(text), Meaning::Intent(intent.into()), "{text}");
        }
        let u = shipped().understand(&open(), &Transcript::typed("查尾号三八二六的订单"));
        assert_eq!(u.slots.get("order_ref"), Some(&Value::text("3826")));
        assert_eq!(meaning("给我转人工客服"), Meaning::Global(Global::Human));
        assert_eq!(meaning("今天天气怎么样"), Meaning::NoMatch);
        assert_eq!(meaning(""), Meaning::NoMatch);
    }

    #[test]
    fn what_the_recogniser_rejects_is_not_guessed_at() {
        let mut heard = Transcript::typed("查订单");
        heard.accepted = false;
        assert_eq!(shipped().understand(&open(), &heard).meaning, Meaning::NoMatch);
        let mut heard = Transcript::typed("查订单");
        heard.nbest[0].confidence = 0.1;
        assert_eq!(shipped().understand(&open(), &heard).meaning, Meaning::NoMatch);
        assert_eq!(shipped().understand(&open(), &Transcript::default()).meaning, Meaning::NoMatch);
    }

    #[test]
    fn a_sound_without_words_is_understood_by_its_pinyin() {
        let pinyin: Vec<String> = ["wo", "yao", "tou", "su"].map(String::from).into();
        let h = Hypothesis { text: String::new(), pinyin, confidence: 0.8 };
        let heard = Transcript { nbest: vec![h], accepted: true, ..Transcript::default() };
        assert_eq!(shipped().understand(&open(), &heard).meaning, Meaning::Intent("complaint".into()));
    }

    #[test]
    fn a_grammar_holds_what_the_node_can_hear() {
        let g = shipped().grammar(&open());
        let fragment = |t: &str| g.fragments.iter().any(|p| p.text == t);
        assert!(fragment("查订单") && fragment("改地址") && fragment("投诉") && fragment("转人工"));
        assert!(fragment("订单") && !fragment("不对") && !fragment("东西"));
        assert!(g.fragments.iter().all(|p| (2..=5).contains(&p.text.chars().count())));
        assert!(g.phrases.iter().any(|p| p.text == "我想查一下订单" && p.weight == 0.0));
        assert!(g.phrases.iter().any(|p| p.text == "再说一遍" && p.weight < 0.0));
        assert!(g.phrases.iter().all(|p| p.text.chars().all(|c| c as u32 >= 0x3400)));
        let mut keys_only = open();
        keys_only.speech = false;
        assert_eq!(shipped().grammar(&keys_only), Grammar::default());
    }

    fn readings(list: &[(&str, f32)]) -> Transcript {
        let one = |(text, confidence): &(&str, f32)| Hypothesis {
            text: (*text).into(),
            pinyin: language::exact_sounds(text),
            confidence: *confidence,
        };
        Transcript { nbest: list.iter().map(one).collect(), accepted: true, ..Transcript::default() }
    }

    fn yes_no() -> Listen {
        Listen { kind: AnswerKind::YesNo, intents: Vec::new(), choices: Vec::new(), node: "q".into(), ..open() }
    }

    #[test]
    fn a_far_weaker_reading_does_not_overrule_a_sure_one() {
        let digits = Listen { kind: AnswerKind::Digits { min: 4, max: 4 }, slot: Some("last4".into()), ..yes_no() };
        let repeat = Meaning::Global(Global::Repeat);
        type Case<'a> = (Listen, &'a [(&'a str, f32)], Meaning);
        let cases: [Case<'_>; 5] = [
            (yes_no(), &[("没听清", 0.99), ("没问题", 0.001)], repeat.clone()),
            (yes_no(), &[("再说一遍", 0.98), ("错了", 0.001)], repeat.clone()),
            (digits.clone(), &[("再说一遍", 0.97), ("3510", 0.02), ("3510", 0.9)], repeat),
            // a second reading counts when the first means nothing and it is about as sure
            (yes_no(), &[("三八二六", 0.8), ("是的", 0.75)], Meaning::YesNo(true)),
            (yes_no(), &[("三八二六", 0.9), ("是的", 0.5)], Meaning::NoMatch),
        ];
        for (listen, heard, meaning) in cases {
            assert_eq!(shipped().understand(&listen, &readings(heard)).meaning, meaning, "{heard:?}");
        }
    }

    #[test]
    fn a_part_of_the_best_reading_decides_nothing() {
        let heard = readings(&[("转人工 投诉", 0.9), ("转人工", 0.89), ("投诉", 0.88)]);
        assert_eq!(shipped().understand(&open(), &heard).meaning, Meaning::Intent("complaint".into()));
        assert_eq!(meaning("我要转人工投诉"), Meaning::Intent("complaint".into()));
        assert_eq!(meaning("不查订单了转人工"), Meaning::Global(Global::Human));
    }

    #[test]
    fn two_choices_too_close_to_tell_apart_are_none() {
        let choice = |n: &str| Choice { name: n.into(), say: vec![n.into()], key: None, value: Value::text(n) };
        let listen =
            Listen { kind: AnswerKind::Choice, choices: vec![choice("张小明"), choice("张小敏")], ..yes_no() };
        let means = |list: &[(&str, f32)]| shipped().understand(&listen, &readings(list)).meaning;
        assert_eq!(means(&[("张小明", 0.97), ("张小敏", 0.6)]), Meaning::Choice("张小明".into()));
        assert_eq!(means(&[("张小明", 0.97), ("张小敏", 0.969)]), Meaning::NoMatch);
        assert_eq!(means(&[("章小铭", 0.97)]), Meaning::Choice("张小明".into()));
    }

    #[test]
    fn the_words_a_prompt_asks_for_can_be_heard() {
        let unheard = |listen: &Listen, prompt: &str| shipped().unheard(listen, prompt);
        for prompt in [
            "现在转投诉专席请说要,不转请说不用。",
            "没听清,是冰箱这一单吗?请说是或者不是。",
            "请说对,或者不对。",
            "您可以说“需要”、“要的”、“是啊”或“正确”。",
        ] {
            assert!(unheard(&yes_no(), prompt).is_empty(), "{prompt}: {:?}", unheard(&yes_no(), prompt));
        }
        assert_eq!(unheard(&yes_no(), "请说“芝麻开门”。"), ["芝麻开门"]);
        assert_eq!(unheard(&yes_no(), "要请说芝麻,不要请说不要。"), ["芝麻"]);
    }
}
