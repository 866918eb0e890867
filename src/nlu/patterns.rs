//! Patterns of intents: regular expressions on text and phrases by sound. High precision: a match decides alone.

use super::normalise::normalise;
use super::pinyin::toneless;
use regex::Regex;

/// One rule of an intent, as a dialplan writes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PatternRule {
    /// The intent.
    pub label: String,
    /// A regular expression on the normalised text; empty: only `sounds` count.
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
    pattern: Option<Regex>,
    not: Vec<Regex>,
    sounds: Vec<Vec<String>>,
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

    /// The intent that patterns alone decide: exactly one must match, and be in `scope` when there is one.
    pub fn decide(&self, text: &str, pinyin: &[String], scope: Option<&[String]>) -> Option<&str> {
        let mut hits =
            self.matches(text, pinyin).into_iter().filter(|l| scope.is_none_or(|s| s.iter().any(|x| x == l)));
        hits.next().filter(|_| hits.next().is_none())
    }
}

impl Rule {
    fn matches(&self, text: &str, pinyin: &[String]) -> bool {
        if self.not.iter().any(|n| n.is_match(text)) {
            return false;
        }
        self.pattern.as_ref().is_some_and(|p| p.is_match(text))
            || self.sounds.iter().any(|s| pinyin.windows(s.len()).any(|w| w == s))
    }
}

fn compile(rule: &PatternRule) -> Result<Rule, PatternError> {
    let regex =
        |p: &String| {
            regex::RegexBuilder::new(p).case_insensitive(true).size_limit(SIZE_LIMIT).build().map_err(|e| {
                PatternError::BadPattern { label: rule.label.clone(), pattern: p.clone(), why: e.to_string() }
            })
        };
    let pattern = if rule.pattern.is_empty() { None } else { Some(regex(&rule.pattern)?) };
    if pattern.as_ref().is_some_and(|p| p.is_match("")) {
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
    fn a_bad_rule_says_which_and_why() {
        assert!(matches!(Patterns::new(&[rule("x", "(", &[], &[])]), Err(PatternError::BadPattern { .. })));
        assert!(matches!(Patterns::new(&[rule("x", "a*", &[], &[])]), Err(PatternError::MatchesAll { .. })));
    }
}
