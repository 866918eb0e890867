//! The only door of this room to `nlu`: what flows need of language, in this room's words.

use super::hotline::Thresholds;
use super::understood::{Emotion, Global};
use crate::nlu::{self, Classifier, Decision, Example, PatternRule, Patterns, Policy, Reading, pinyin};
use crate::speech::{Hypothesis, Transcript};

/// Seed of the classifier's training: the same set gives the same scores.
const SEED: u64 = 20_261_120;
/// Readings of an utterance that the classifier weighs.
const MAX_READINGS: usize = 5;
/// Longest text looked at, in characters: no one says more in one breath.
const MAX_CHARS: usize = 300;

/// One form for the many ways to write the same; nothing but words and digits.
pub fn norm(text: &str) -> String {
    let short: String = text.chars().take(MAX_CHARS).collect();
    nlu::normalise(&short).chars().filter(|c| !c.is_whitespace()).collect()
}

/// Toneless pinyin under which what telephone lines confuse is equal.
pub fn sounds(text: &str) -> Vec<String> {
    pinyin::toneless(text).iter().map(|s| pinyin::fuzzy(s)).collect()
}

/// Toneless pinyin as it is written.
pub fn exact_sounds(text: &str) -> Vec<String> {
    pinyin::toneless(text)
}

/// Whether `part` is said somewhere in `text`, by its words or (two syllables and more) by its sound.
pub fn contains(text: &str, part: &str) -> bool {
    let part = norm(part);
    if part.is_empty() {
        return false;
    }
    let text = norm(text);
    if text.contains(&part) {
        return true;
    }
    contains_sounds(&sounds(&text), &sounds(&part))
}

/// Whether the syllables of `part` (two at least) stand together in `whole`.
pub fn contains_sounds(whole: &[String], part: &[String]) -> bool {
    part.len() >= 2 && whole.windows(part.len()).any(|w| w == part)
}

/// Likeness of two strings of syllables, 0.0..=1.0.
pub fn likeness(a: &[String], b: &[String]) -> f32 {
    let longest = a.len().max(b.len());
    if longest == 0 || longest > 64 {
        return 0.0;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    1.0 - row[b.len()] as f32 / longest as f32
}

/// Ways to agree and to refuse that a recogniser should expect.
pub fn yes_no_phrases() -> impl Iterator<Item = &'static str> {
    nlu::yes_no::spoken()
}

/// Yes, no, or neither.
pub fn yes_no(text: &str, heard: &[String]) -> Option<bool> {
    nlu::yes_no::parse_heard(text, heard)
}

/// Whether what comes before a word takes it back ("不是" before "公司").
pub fn negated(before: &str) -> bool {
    nlu::negation::negated(before)
}

/// The digits said, when there are this many.
pub fn digits(text: &str, min: u8, max: u8) -> Option<String> {
    nlu::digits::parse_len(text, usize::from(min), usize::from(max))
}

/// The order meant by number: last four digits or the whole number.
pub fn order_number(text: &str) -> Option<String> {
    use nlu::order_ref::{OrderRef, parse};
    match parse(text, &[])? {
        OrderRef::Tail(digits) | OrderRef::Full(digits) => Some(digits),
        _ => None,
    }
}

/// How the caller sounds, from the words.
pub fn emotion(text: &str) -> Emotion {
    match nlu::emotion::assess(text) {
        nlu::Emotion::StronglyNegative => Emotion::StronglyNegative,
        nlu::Emotion::Negative => Emotion::Negative,
        _ => Emotion::Neutral,
    }
}

/// A phrase that every node understands.
pub fn global(text: &str, heard: &[String]) -> Option<Global> {
    nlu::globals::detect(text, heard).map(|m| match m {
        nlu::Meta::Emergency => Global::Emergency,
        nlu::Meta::Human => Global::Human,
        nlu::Meta::Slower => Global::Slower,
        nlu::Meta::Repeat => Global::Repeat,
        nlu::Meta::Cancel => Global::Cancel,
        nlu::Meta::Angry => Global::Angry,
    })
}

/// Patterns and key words of an intent.
pub struct Rule<'a> {
    /// The intent.
    pub intent: &'a str,
    /// A regular expression that decides alone; may be empty.
    pub pattern: &'a str,
    /// Expressions that forbid it.
    pub not: Vec<String>,
    /// Key words, found by sound too.
    pub keywords: Vec<String>,
}

/// The intents of a set: rules, and what was learnt from examples.
pub struct Intents {
    rules: Patterns,
    learnt: Classifier,
}

/// What the intents make of an utterance.
pub enum Verdict {
    /// Sure enough to act.
    Sure(String),
    /// One of two.
    Either(String, String),
    /// None.
    Unknown,
}

impl Intents {
    /// Learns from rules and from pairs of label and text. A rule that cannot be used gives its message.
    pub fn train(rules: &[Rule<'_>], examples: Vec<(String, String)>) -> Result<Intents, String> {
        let rules: Vec<PatternRule> = rules
            .iter()
            .map(|r| PatternRule {
                label: r.intent.to_string(),
                pattern: r.pattern.to_string(),
                not: r.not.clone(),
                sounds: r.keywords.clone(),
            })
            .collect();
        let rules = Patterns::new(&rules).map_err(|e| e.to_string())?;
        let examples: Vec<Example> = examples.into_iter().map(|(label, text)| Example { label, text }).collect();
        Ok(Intents { rules, learnt: Classifier::train(&examples, SEED) })
    }

    /// The intent that rules alone decide.
    pub fn by_rule(&self, heard: &Hypothesis, scope: &[String]) -> Option<String> {
        self.rules.decide(&norm(&heard.text), &heard.pinyin, Some(scope)).map(str::to_string)
    }

    /// Scores of the labels in scope that no `not` forbids, best first, and what they amount to.
    pub fn by_learning(&self, heard: &Transcript, scope: &[String], t: Thresholds) -> (Vec<(String, f32)>, Verdict) {
        let texts: Vec<String> = heard.nbest.iter().take(MAX_READINGS).map(|h| norm(&h.text)).collect();
        let readings: Vec<Reading<'_>> = heard
            .nbest
            .iter()
            .zip(&texts)
            .map(|(h, text)| Reading {
                text,
                pinyin: &h.pinyin[..h.pinyin.len().min(MAX_CHARS)],
                weight: h.confidence.clamp(0.01, 1.0),
            })
            .collect();
        let mut scores = self.learnt.classify(&readings, Some(scope));
        if let Some(best) = heard.nbest.first() {
            let out = self.rules.ruled_out(&norm(&best.text), &best.pinyin);
            scores.retain(|(label, _)| !out.contains(&label.as_str()));
        }
        let policy = Policy { act: t.act, margin: t.margin, clarify: t.clarify, second: t.second };
        let verdict = match policy.decide(&scores) {
            Decision::Act(a) => Verdict::Sure(a),
            Decision::Clarify(a, b) => Verdict::Either(a, b),
            Decision::Reprompt => Verdict::Unknown,
        };
        (scores, verdict)
    }
}

impl std::fmt::Debug for Intents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intents").finish_non_exhaustive()
    }
}

/// 3126 → 三幺二六.
pub fn spell_digits(text: &str) -> String {
    nlu::spell::spell_digits(text)
}

/// Cents → 三百五十元五角.
pub fn spell_money(cents: i64) -> String {
    nlu::spell::spell_money(cents)
}

/// The date that a text begins with.
fn date_in(text: &str) -> Option<time::Date> {
    let mut parts = text.get(..10).unwrap_or(text).split('-').map(|p| p.parse::<i32>().ok());
    let (y, m, d) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() {
        return None;
    }
    date_of((y, u8::try_from(m).ok()?, u8::try_from(d).ok()?))
}

fn date_of((y, m, d): (i32, u8, u8)) -> Option<time::Date> {
    time::Date::from_calendar_date(y, time::Month::try_from(m).ok()?, d).ok()
}

/// `2026-11-22` → 今天, 明天, 后天 or 十一月二十二日 (with the year when it is another); no date stays as it is.
pub fn spell_date(text: &str, today: (i32, u8, u8)) -> String {
    let Some(that) = date_in(text) else { return text.to_string() };
    match date_of(today).map(|t| (that - t).whole_days()) {
        Some(0) => "今天".into(),
        Some(1) => "明天".into(),
        Some(2) => "后天".into(),
        Some(-1) => "昨天".into(),
        _ => {
            let year = if that.year() == today.0 { 0 } else { that.year() };
            nlu::spell::spell_date(year, that.month().into(), that.day())
        }
    }
}

/// Hour and minute of `14:30`.
fn time_in(text: &str) -> Option<(u8, u8)> {
    let mut parts = text.split(':').map(|p| p.parse::<u8>().ok());
    match (parts.next()??, parts.next()??) {
        (h @ 0..=23, m @ 0..=59) => Some((h, m)),
        _ => None,
    }
}

/// `14:30` → 下午两点半; no time stays as it is.
pub fn spell_time(text: &str) -> String {
    time_in(text).map_or_else(|| text.to_string(), |(h, m)| nlu::spell::spell_time(h, m))
}

/// Cents → `350.50 yuan`, `42 yuan`.
pub fn english_money(cents: i64) -> String {
    let (yuan, rest) = (cents / 100, (cents % 100).abs());
    if rest == 0 { format!("{yuan} yuan") } else { format!("{yuan}.{rest:02} yuan") }
}

/// `2026-11-22` → today, tomorrow, yesterday or November 22 (with the year when it is another); no date stays as it is.
pub fn english_date(text: &str, today: (i32, u8, u8)) -> String {
    let Some(that) = date_in(text) else { return text.to_string() };
    match date_of(today).map(|t| (that - t).whole_days()) {
        Some(0) => "today".into(),
        Some(1) => "tomorrow".into(),
        Some(-1) => "yesterday".into(),
        _ if that.year() == today.0 => format!("{} {}", that.month(), that.day()),
        _ => format!("{} {}, {}", that.month(), that.day(), that.year()),
    }
}

/// `14:30` → `2:30 PM`; no time stays as it is.
pub fn english_time(text: &str) -> String {
    match time_in(text) {
        Some((h, m)) => {
            format!("{}:{m:02} {}", if h % 12 == 0 { 12 } else { h % 12 }, if h < 12 { "AM" } else { "PM" })
        }
        None => text.to_string(),
    }
}

/// An address in the parts in which it is read out: after each 省 市 区 县 镇 路 街 号 … a pause; 88号 → 八十八号.
pub fn address_segments(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let (mut part, mut number) = (String::new(), String::new());
    for c in text.chars().take(120) {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        flush_number(&mut part, &mut number);
        part.push(c);
        let long = part.chars().count() >= 3;
        if long && "省市区县镇乡路街道巷号栋幢座楼层村".contains(c) || ",, 、".contains(c) {
            let whole = std::mem::take(&mut part);
            let whole = whole.trim_matches([',', ',', ' ', '、']);
            if !whole.is_empty() {
                parts.push(whole.to_string());
            }
        }
    }
    flush_number(&mut part, &mut number);
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// House numbers up to three digits are read as numbers, longer ones digit by digit.
fn flush_number(part: &mut String, number: &mut String) {
    let spoken = match number.len() {
        0 => return,
        1..=3 => nlu::spell::spell_int(number.parse().unwrap_or(0)),
        _ => spell_digits(number),
    };
    part.push_str(&spoken);
    number.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_near_or_by_month_and_day() {
        let today = (2026, 12, 31);
        assert_eq!(spell_date("2027-01-01", today), "明天");
        assert_eq!(spell_date("2026-11-22", today), "十一月二十二日");
        assert_eq!(spell_date("2027-03-02", today), "二零二七年三月二日");
        assert_eq!(spell_time("14:30"), "下午两点半");
        for odd in ["2026-13-40", "soon", "", "2026-02-30", "二零二六年"] {
            assert_eq!(spell_date(odd, today), odd);
        }
    }

    #[test]
    fn an_address_is_read_in_parts() {
        let parts = address_segments("北京市朝阳区建国路88号国贸大厦1503室");
        assert_eq!(parts, ["北京市", "朝阳区", "建国路", "八十八号", "国贸大厦幺五零三室"]);
    }

    #[test]
    fn a_part_is_found_by_words_and_by_sound() {
        assert!(contains("我要茶订单啊", "查订单"));
        assert!(!contains("我要查快递", "查订单"));
        assert!(likeness(&sounds("改到公司"), &sounds("改到公私")) > 0.99);
    }
}

#[cfg(test)]
mod measure {
    use super::super::set::{OUT_OF_SCOPE, shipped};
    use super::*;
    use crate::nlu::intent::{Classifier, Example, Reading};

    /// Candidates for every shipped example, from a classifier that did not see it.
    fn held_out() -> Vec<(String, Vec<(String, f32)>)> {
        let set = shipped();
        let intents = set.flows().iter().flat_map(|f| &f.intents);
        let own = intents.flat_map(|i| i.examples.iter().map(|s| (i.name.as_str(), s.text.as_str())));
        let all: Vec<Example> = own
            .chain(set.hotline().oos.iter().map(|s| (OUT_OF_SCOPE, s.text.as_str())))
            .map(|(label, text)| Example { label: label.into(), text: text.into() })
            .collect();
        let mut out = Vec::new();
        for fold in 0..20 {
            let held = |i: usize| i % 20 == fold;
            let train: Vec<Example> =
                all.iter().enumerate().filter(|(i, _)| !held(*i)).map(|(_, e)| e.clone()).collect();
            let c = Classifier::train(&train, 1);
            let asked = all.iter().enumerate().filter(|(i, _)| held(*i));
            out.extend(asked.map(|(_, e)| (e.label.clone(), c.classify(&[Reading::of(&e.text)], None))));
        }
        out
    }

    /// The classifier alone, without the flows' rules: what a hotline acts on is nearly always right, small talk is never
    /// acted on.
    #[test]
    fn the_thresholds_in_use_act_rightly_on_the_shipped_flows() {
        let t = Thresholds::default();
        let policy = Policy { act: t.act, margin: t.margin, clarify: t.clarify, second: t.second };
        let (mut acts, mut right, mut asks, mut small_talk) = (0, 0, 0, 0);
        let all = held_out();
        for (label, candidates) in &all {
            match policy.decide(candidates) {
                Decision::Act(l) => {
                    acts += 1;
                    right += usize::from(l == *label);
                    small_talk += usize::from(label == OUT_OF_SCOPE);
                }
                Decision::Clarify(..) => asks += 1,
                Decision::Reprompt => {}
            }
        }
        let precision = right as f32 / acts as f32;
        println!("{} examples: acts {acts}, right {right} ({precision:.3}), asks which of two {asks}", all.len());
        assert_eq!(small_talk, 0);
        assert!(precision >= 0.94 && acts * 2 >= all.len(), "{precision} of {acts}");
    }
}
