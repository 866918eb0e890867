//! Patterns of intents: regular expressions on text and phrases by sound. High precision: a match decides alone.

use super::normalise::normalise;
use super::pinyin::{annotate, toneless};
use regex::Regex;

/// One rule of an intent, as a dialplan writes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PatternRule {
    /// The intent.
    pub label: String,
    /// A regular expression on the normalised text and, its hanzi read as syllables, on pinyin; empty: only `sounds`
    /// count.
    pub pattern: String,
    /// Expressions any of which rules the rule out.
    pub not: Vec<String>,
    /// Phrases in hanzi, found by toneless pinyin (专人工 for 转人工).
    pub sounds: Vec<String>,
}

/// A rule that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The expression is malformed or too large.
    #[error("intent {label}: pattern {pattern:?} is no regular expression: {why}")]
    BadPattern {
        /// The intent.
        label: String,
        /// The expression.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// It matches everything, and would decide every utterance.
    #[error("intent {label}: pattern {pattern:?} matches any utterance; make it say what it is about")]
    MatchesAll {
        /// The intent.
        label: String,
        /// The expression.
        pattern: String,
    },
}

struct Rule {
    label: String,
    pattern: Option<Both>,
    not: Vec<Both>,
    sounds: Vec<Vec<String>>,
}

/// An expression on text, and the same on syllables where it has hanzi only.
struct Both {
    text: Regex,
    sound: Option<Regex>,
}

impl Both {
    /// By text, or by at least two syllables: one alone (退, 推, 腿) says too little.
    fn is_match(&self, text: &str, spelled: &str) -> bool {
        let long = |m: regex::Match| m.as_str().matches('<').count() >= 2;
        self.text.is_match(text) || self.sound.as_ref().is_some_and(|s| s.find(spelled).is_some_and(long))
    }
}

/// `<cha><ding><dan>`.
fn spelled(pinyin: &[String]) -> String {
    pinyin.iter().map(|p| format!("<{p}>")).collect()
}

/// A pattern on hanzi as one on spelled syllables; `None` where it holds anything else that must be there (letters,
/// digits, negated sets).
fn sounded(pattern: &str) -> Option<String> {
    let mut out = String::new();
    let mut set = false;
    let mut braces = false;
    let mut members: Vec<String> = Vec::new();
    for (c, reading) in annotate(pattern) {
        match (c, reading) {
            (_, Some(s)) if set => members.push(format!("<{}>", s.base)),
            (_, Some(s)) => out.push_str(&format!("(?:<{}>)", s.base)),
            ('[', _) if !set => set = true,
            (']', _) if set && !members.is_empty() => {
                out.push_str(&format!("(?:{})", members.join("|")));
                members.clear();
                set = false;
            }
            (_, None) if set => return None,
            ('.', _) => out.push_str("(?:<[a-z]+>)"),
            ('{' | '}', _) => {
                braces = c == '{';
                out.push(c);
            }
            ('0'..='9' | ',', _) if braces => out.push(c),
            ('(' | ')' | '|' | '?' | '*' | '+' | '^' | '$', _) => out.push(c),
            _ => return None,
        }
    }
    Some(out)
}

/// Compiled rules.
#[derive(Default)]
pub struct Patterns {
    rules: Vec<Rule>,
}

/// An expression may compile to at most this many bytes.
const SIZE_LIMIT: usize = 1 << 20;

impl Patterns {
    /// Compiles rules; the first bad one is the error.
    pub fn new(rules: &[PatternRule]) -> Result<Patterns, PatternError> {
        let rules = rules.iter().map(compile).collect::<Result<_, _>>()?;
        Ok(Patterns { rules })
    }

    /// The intents whose rules match, each once, in order of the rules. `pinyin` may be empty: it is then made
    /// from the text.
    pub fn matches(&self, text: &str, pinyin: &[String]) -> Vec<&str> {
        let text = normalise(text);
        let own = if pinyin.is_empty() { toneless(&text) } else { pinyin.to_vec() };
        let mut found: Vec<&str> = Vec::new();
        for r in &self.rules {
            if !found.contains(&r.label.as_str()) && r.matches(&text, &own) {
                found.push(&r.label);
            }
        }
        found
    }

    /// The intents that a `not` of theirs forbids. `pinyin` may be empty: it is then made from the text.
    pub fn ruled_out(&self, text: &str, pinyin: &[String]) -> Vec<&str> {
        let text = normalise(text);
        let spelled = if pinyin.is_empty() { spelled(&toneless(&text)) } else { spelled(pinyin) };
        let mut found: Vec<&str> = Vec::new();
        for r in &self.rules {
            if !found.contains(&r.label.as_str()) && r.not.iter().any(|n| n.is_match(&text, &spelled)) {
                found.push(&r.label);
            }
        }
        found
    }

    /// The intent that patterns alone decide: exactly one must match, and be in `scope` when there is one.
    pub fn decide(&self, text: &str, pinyin: &[String], scope: Option<&[String]>) -> Option<&str> {
        let mut hits =
            self.matches(text, pinyin).into_iter().filter(|l| scope.is_none_or(|s| s.iter().any(|x| x == l)));
        hits.next().filter(|_| hits.next().is_none())
    }
}

impl Rule {
    fn matches(&self, text: &str, pinyin: &[String]) -> bool {
        let spelled = spelled(pinyin);
        if self.not.iter().any(|n| n.is_match(text, &spelled)) {
            return false;
        }
        self.pattern.as_ref().is_some_and(|p| p.is_match(text, &spelled))
            || self.sounds.iter().any(|s| pinyin.windows(s.len()).any(|w| w == s))
    }
}

fn compile(rule: &PatternRule) -> Result<Rule, PatternError> {
    let build = |p: &str| regex::RegexBuilder::new(p).case_insensitive(true).size_limit(SIZE_LIMIT).build();
    let regex = |p: &String| {
        let text = build(p).map_err(|e| PatternError::BadPattern {
            label: rule.label.clone(),
            pattern: p.clone(),
            why: e.to_string(),
        })?;
        Ok(Both { text, sound: sounded(p).and_then(|s| build(&s).ok()) })
    };
    let pattern = if rule.pattern.is_empty() { None } else { Some(regex(&rule.pattern)?) };
    if pattern.as_ref().is_some_and(|p| p.text.is_match("")) {
        return Err(PatternError::MatchesAll { label: rule.label.clone(), pattern: rule.pattern.clone() });
    }
    let not = rule.not.iter().map(regex).collect::<Result<_, _>>()?;
    let sounds = rule.sounds.iter().map(|s| toneless(s)).filter(|s| !s.is_empty()).collect();
    Ok(Rule { label: rule.label.clone(), pattern, not, sounds })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(label: &str, pattern: &str, not: &[&str], sounds: &[&str]) -> PatternRule {
        let own = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
        PatternRule { label: label.into(), pattern: pattern.into(), not: own(not), sounds: own(sounds) }
    }

    #[test]
    fn one_match_decides_and_two_do_not() {
        let p = Patterns::new(&[
            rule("refund", "退(款|货|钱)", &["进度|到账"], &["退款"]),
            rule("progress", "进度|到账", &[], &[]),
            rule("order", "查.{0,4}订单", &[], &["查订单"]),
        ])
        .unwrap();
        assert_eq!(p.decide("我要退款", &[], None), Some("refund"));
        assert_eq!(p.decide("我要腿款", &[], None), Some("refund"));
        assert_eq!(p.decide("退款什么时候到账", &[], None), Some("progress"));
        assert_eq!(p.decide("查订单，我要退款", &[], None), None);
        assert_eq!(p.decide("查订单，我要退款", &[], Some(&["order".to_owned()])), Some("order"));
        assert_eq!(p.decide("", &["tui".into(), "kuan".into()], None), Some("refund"));
        assert_eq!(p.decide("你好", &[], None), None);
    }

    #[test]
    fn patterns_and_what_forbids_them_are_found_by_sound() {
        let p = Patterns::new(&[rule("order", "(查|看).{0,4}订?单子?", &["投诉|[举检]报"], &[])]).unwrap();
        let sound = |s: &str| s.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(p.decide("", &sound("wo xiang cha yi xia ding dan"), None), Some("order"));
        assert_eq!(p.decide("茶一下定单", &[], None), Some("order"));
        assert_eq!(p.decide("查订单", &sound("cha ding dan tou su"), None), None);
        assert_eq!(p.decide("查订单", &sound("cha ding dan ju bao"), None), None);
        assert_eq!(p.decide("", &sound("cha yi xia"), None), None);
        assert_eq!(sounded("尾号\\d+"), None);
        assert_eq!(sounded("[^一二]单"), None);
    }

    #[test]
    fn a_bad_rule_says_which_and_why() {
        assert!(matches!(Patterns::new(&[rule("x", "(", &[], &[])]), Err(PatternError::BadPattern { .. })));
        assert!(matches!(Patterns::new(&[rule("x", "a*", &[], &[])]), Err(PatternError::MatchesAll { .. })));
    }
}
