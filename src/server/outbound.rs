//! Toll fraud: who may call which numbers outside, how many, and the alarm when somebody tries more.
//!
//! Nothing goes out unless a rule allows it. A caller never calls out: what he types is no number to dial.

use crate::clock::Mono;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Time that a cap per hour looks back.
const HOUR: Duration = Duration::from_secs(3600);
/// How long a refusal stays among the problems that people are shown.
const ALARM: Duration = Duration::from_secs(600);
/// Longest number, digits (ITU-T E.164 has 15; prefixes for carriers come on top).
const LONGEST: usize = 20;

/// On whose behalf a call goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A dialplan's transfer.
    Flow,
    /// A seat's phone that dials outside.
    Seat,
}

impl Role {
    /// As in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Flow => "flow",
            Role::Seat => "seat",
        }
    }
}

/// What a role may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whose rule.
    pub role: Role,
    /// Beginnings of numbers allowed, written as at home (`010`, `13`) or with `+` abroad.
    pub allow: Vec<String>,
    /// Beginnings refused even so.
    pub deny: Vec<String>,
    /// Calls at once, for each user.
    pub at_once: u32,
    /// Calls within an hour, for each user.
    pub per_hour: u32,
}

/// Why a call does not go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Denied {
    /// Not digits, or too many.
    #[error("this is no telephone number")]
    NoNumber,
    /// No rule allows it.
    #[error("no [[outbound]] rule allows this number for this role")]
    NotAllowed,
    /// Too many at once.
    #[error("this user has as many calls out as [[outbound]] at_once allows")]
    AtOnce,
    /// Too many within an hour.
    #[error("this user has called out as often this hour as [[outbound]] per_hour allows")]
    PerHour,
}

impl Denied {
    /// Every reason.
    pub const ALL: [Denied; 4] = [Denied::NoNumber, Denied::NotAllowed, Denied::AtOnce, Denied::PerHour];

    /// The reason in Chinese.
    pub const fn chinese(self) -> &'static str {
        match self {
            Denied::NoNumber => "这不是电话号码",
            Denied::NotAllowed => "没有允许该角色呼叫此号码的 [[outbound]] 规则",
            Denied::AtOnce => "并发呼出数已达 [[outbound]] at_once 上限",
            Denied::PerHour => "一小时内的呼出数已达 [[outbound]] per_hour 上限",
        }
    }

    /// A word for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Denied::NoNumber => "no_number",
            Denied::NotAllowed => "not_allowed",
            Denied::AtOnce => "at_once",
            Denied::PerHour => "per_hour",
        }
    }
}

/// A number as it is written at home: without `+86` or `0086`; one abroad with `+`. None for what is no number:
/// anything but ASCII digits, also when escaped or written in other scripts.
pub fn national(number: &str) -> Option<String> {
    let (plus, digits) = number.strip_prefix('+').map_or((false, number), |d| (true, d));
    let sound = (3..=LONGEST).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    if !sound {
        return None;
    }
    let abroad = match (plus, digits.strip_prefix("00")) {
        (true, _) => Some(digits),
        (false, rest) => rest,
    };
    Some(match abroad {
        Some(rest) => rest.strip_prefix("86").map_or_else(|| format!("+{rest}"), at_home),
        None => digits.to_string(),
    })
}

/// A number of this country without its code, as it is dialled here: a landline with the 0 of its area.
fn at_home(number: &str) -> String {
    let mobile = number.len() == 11 && number.starts_with('1') && !number.starts_with("10");
    let service = ["400", "800", "95", "96"].iter().any(|s| number.starts_with(s));
    if mobile || service { number.to_string() } else { format!("0{number}") }
}

#[derive(Debug, Default)]
struct Use {
    now: u32,
    begun: VecDeque<Mono>,
}

/// The rules, what has been used of them, and what was refused.
#[derive(Debug, Default)]
pub struct Outbound {
    rules: Vec<Rule>,
    used: HashMap<(Role, String), Use>,
    refused: [u64; Denied::ALL.len()],
    alarm: Option<(Mono, String)>,
}

impl Outbound {
    /// With these rules; without any, nothing goes out.
    pub fn new(rules: Vec<Rule>) -> Outbound {
        Outbound { rules, ..Outbound::default() }
    }

    /// Lets a call out, which [`Outbound::over`] must end; or says why not, and raises the alarm.
    ///
    /// # Errors
    /// What forbids it.
    pub fn begin(&mut self, role: Role, user: &str, number: &str, at: Mono) -> Result<String, Denied> {
        let judged = self.judge(role, user, number, at);
        match &judged {
            Ok(_) => {
                let used = self.used.entry((role, user.to_string())).or_default();
                used.now += 1;
                used.begun.push_back(at);
            }
            Err(why) => {
                self.refused[Denied::ALL.iter().position(|d| d == why).unwrap_or_default()] += 1;
                let who = format!("{} {user}", role.name());
                tracing::error!("a call out was refused: {who}: {why}");
                self.alarm = Some((at, format!("a call out was refused ({who}): {why}; is somebody misusing it?")));
            }
        }
        judged
    }

    fn judge(&mut self, role: Role, user: &str, number: &str, at: Mono) -> Result<String, Denied> {
        let number = national(number).ok_or(Denied::NoNumber)?;
        let begins = |with: &String| !with.is_empty() && number.starts_with(with.as_str());
        let allows = |r: &&Rule| r.role == role && r.allow.iter().any(begins) && !r.deny.iter().any(begins);
        let Some(rule) = self.rules.iter().find(allows) else { return Err(Denied::NotAllowed) };
        let used = self.used.entry((role, user.to_string())).or_default();
        while used.begun.front().is_some_and(|b| at.since(*b) >= HOUR) {
            used.begun.pop_front();
        }
        if used.now >= rule.at_once {
            return Err(Denied::AtOnce);
        }
        if used.begun.len() >= rule.per_hour as usize {
            return Err(Denied::PerHour);
        }
        Ok(number)
    }

    /// A call that went out has ended.
    pub fn over(&mut self, role: Role, user: &str) {
        if let Some(used) = self.used.get_mut(&(role, user.to_string())) {
            used.now = used.now.saturating_sub(1);
        }
    }

    /// How many were refused, by reason.
    pub fn refused(&self) -> impl Iterator<Item = (Denied, u64)> + '_ {
        Denied::ALL.into_iter().zip(self.refused)
    }

    /// The last refusal, as long as it is news.
    pub fn alarm(&self, now: Mono) -> Option<&str> {
        self.alarm.as_ref().filter(|(at, _)| now.since(*at) < ALARM).map(|(_, what)| what.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(role: Role) -> Rule {
        Rule { role, allow: vec!["010".into(), "13".into()], deny: vec!["0109".into()], at_once: 2, per_hour: 3 }
    }

    #[test]
    fn nothing_goes_out_unless_a_rule_of_the_role_allows_it() {
        assert_eq!(Outbound::new(vec![]).begin(Role::Seat, "8001", "01012345678", Mono(0)), Err(Denied::NotAllowed));
        let mut out = Outbound::new(vec![rule(Role::Flow)]);
        assert_eq!(out.begin(Role::Seat, "8001", "01012345678", Mono(0)), Err(Denied::NotAllowed));
        assert_eq!(out.begin(Role::Flow, "hotline", "+861012345678", Mono(0)).unwrap(), "01012345678");
        out.over(Role::Flow, "hotline");
        assert_eq!(out.begin(Role::Flow, "hotline", "008613800138000", Mono(0)).unwrap(), "13800138000");
        assert_eq!(out.begin(Role::Flow, "hotline", "0109123", Mono(0)), Err(Denied::NotAllowed));
        assert!(out.alarm(Mono::from_ms(599_000)).is_some() && out.alarm(Mono::from_ms(601_000)).is_none());
    }

    #[test]
    fn a_cap_trips_on_the_call_after_the_last_allowed_one() {
        let mut out = Outbound::new(vec![rule(Role::Seat)]);
        let mut call = |ms| out.begin(Role::Seat, "8001", "13800138000", Mono::from_ms(ms)).map(|_| ());
        assert_eq!((call(0), call(1), call(2)), (Ok(()), Ok(()), Err(Denied::AtOnce)));
        out.over(Role::Seat, "8001");
        out.over(Role::Seat, "8001");
        let mut call = |ms| out.begin(Role::Seat, "8001", "13800138000", Mono::from_ms(ms)).map(|_| ());
        assert_eq!((call(3), call(4)), (Ok(()), Err(Denied::PerHour)));
        assert_eq!(call(3_600_000), Ok(()), "the first one is an hour old");
        assert_eq!(out.refused().map(|(_, n)| n).collect::<Vec<_>>(), [0, 0, 1, 1]);
    }

    #[test]
    fn five_hundred_disguises_of_premium_and_foreign_numbers_do_not_get_out() {
        let mut out = Outbound::new(vec![Rule { per_hour: u32::MAX, at_once: u32::MAX, ..rule(Role::Seat) }]);
        let bases =
            ["900123456", "0088213123", "0044900123", "+1900555", "+882131", "16812345", "00992", "1601", "+8688"];
        let dress: [fn(&str) -> String; 12] = [
            |n| n.to_string(),
            |n| n.replace('+', "%2b"),
            |n| format!("{n};phone-context=+1"),
            |n| format!("tel:{n}"),
            |n| format!("13{}@{n}", "8"),
            |n| format!(" {n}"),
            |n| format!("00{}", n.trim_start_matches('+')),
            |n| format!("+{}", n.trim_start_matches('0')),
            |n| n.chars().map(|c| c.to_digit(10).and_then(|d| char::from_u32(0xFF10 + d)).unwrap_or(c)).collect(),
            |n| n.chars().map(|c| c.to_digit(10).and_then(|d| char::from_u32(0x660 + d)).unwrap_or(c)).collect(),
            |n| format!("{n}\r\nTo: <sip:13800138000@h>"),
            |n| format!("{n}%00"),
        ];
        let mut tried = 0;
        for base in bases {
            for dressed in dress {
                for tail in ["", "1", "55", "#", ",,1"] {
                    let target = format!("{}{tail}", dressed(base));
                    assert!(out.begin(Role::Seat, "8001", &target, Mono(0)).is_err(), "{target} got out");
                    tried += 1;
                }
            }
        }
        assert!(tried >= 500);
    }

    proptest! {
        #[test]
        fn what_goes_out_is_digits_that_a_rule_begins(text in "\\PC{0,24}") {
            let mut out = Outbound::new(vec![rule(Role::Seat)]);
            if let Ok(number) = out.begin(Role::Seat, "x", &text, Mono(0)) {
                prop_assert!(number.bytes().all(|b| b.is_ascii_digit()));
                prop_assert!(number.starts_with("010") || number.starts_with("13"));
            }
        }
    }
}
