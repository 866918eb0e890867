//! Tickets (工单): their numbers, priorities and the times that are promised with them.

use super::calendar::date_compact;
use crate::clock::UtcMs;

/// The state a ticket is born in.
pub const TICKET_NEW: &str = "new";

/// A ticket's number, told to the caller: the day in China and a count within it, `20261120-0007`. From the ten
/// thousandth ticket of a day on the count grows longer, so no two are alike.
pub fn ticket_number(at: UtcMs, count_of_day: u32) -> String {
    format!("{}-{count_of_day:04}", date_compact(at))
}

/// What is read to the caller of a ticket's number: its last four characters.
pub fn ticket_tail(no: &str) -> &str {
    let cut = no.char_indices().rev().nth(3).map_or(0, |(i, _)| i);
    &no[cut..]
}

/// How urgent a ticket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// Safety, stolen money, lost cards.
    P0,
    /// Complaints, account security.
    P1,
    /// Refunds, repairs, changed deliveries.
    P2,
    /// The rest.
    P3,
}

impl Priority {
    /// `P0` …
    pub const fn name(self) -> &'static str {
        match self {
            Priority::P0 => "P0",
            Priority::P1 => "P1",
            Priority::P2 => "P2",
            Priority::P3 => "P3",
        }
    }

    /// From its name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Priority::P0, Priority::P1, Priority::P2, Priority::P3].into_iter().find(|p| p.name() == name.trim())
    }

    /// What is promised when the flow promises nothing of its own.
    pub const fn promise(self) -> Promise {
        let (first_min, resolve_h) = match self {
            Priority::P0 => (5, 4),
            Priority::P1 => (2 * 60, 24),
            Priority::P2 => (4 * 60, 24),
            Priority::P3 => (8 * 60, 72),
        };
        Promise { first_ms: first_min * 60_000, resolve_ms: resolve_h * 3_600_000 }
    }
}

/// A service-level promise: milliseconds from the ticket's birth to the first answer and to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    /// To the first answer (首响).
    pub first_ms: i64,
    /// To the end (闭环).
    pub resolve_ms: i64,
}

impl Promise {
    /// Reads what a flow promises: `首响2h/闭环24h`, `首响5分钟/闭环4小时`. What it leaves out, or what cannot be read,
    /// is taken from `default`; an answer is never due after the end.
    pub fn from_text(text: &str, default: Promise) -> Promise {
        let first_ms = duration_after(text, "首响").unwrap_or(default.first_ms);
        let resolve_ms = duration_after(text, "闭环").unwrap_or(default.resolve_ms);
        Promise { first_ms: first_ms.min(resolve_ms), resolve_ms }
    }

    /// When the first answer is due.
    pub fn first_due(self, born: UtcMs) -> UtcMs {
        UtcMs(born.0.saturating_add(self.first_ms))
    }

    /// When the end is due.
    pub fn resolve_due(self, born: UtcMs) -> UtcMs {
        UtcMs(born.0.saturating_add(self.resolve_ms))
    }
}

/// The duration behind a word: a whole number and a unit; at most a year.
fn duration_after(text: &str, word: &str) -> Option<i64> {
    let rest = text.split_once(word)?.1.trim_start();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let n: i64 = digits.parse().ok()?;
    let unit = rest[digits.len()..].trim_start();
    let ms = if unit.starts_with("min") || unit.starts_with('分') {
        60_000
    } else if unit.starts_with('h') || unit.starts_with("小时") {
        3_600_000
    } else if unit.starts_with('d') || unit.starts_with('天') {
        86_400_000
    } else {
        return None;
    };
    n.checked_mul(ms).filter(|&all| all > 0 && all <= 366 * 86_400_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOON: UtcMs = UtcMs(1_795_147_200_000); // 2026-11-20T12:00 in China

    #[test]
    fn a_number_is_the_day_and_a_count() {
        assert_eq!(ticket_number(NOON, 7), "20261120-0007");
        assert_eq!(ticket_tail("20261120-0007"), "0007");
        assert_eq!(ticket_number(NOON, 12_345), "20261120-12345");
        assert_eq!(ticket_tail("7"), "7");
    }

    #[test]
    fn promises_follow_the_priority_unless_the_flow_says_otherwise() {
        let p1 = Priority::P1.promise();
        assert_eq!((p1.first_ms, p1.resolve_ms), (7_200_000, 86_400_000));
        assert_eq!(Promise::from_text("首响4h/闭环24h", Priority::P3.promise()).first_ms, 4 * 3_600_000);
        assert_eq!(Promise::from_text("首响5分钟/闭环4小时", p1), Priority::P0.promise());
        assert_eq!(Promise::from_text("尽快", p1), p1);
        assert_eq!(Promise::from_text("首响99999999999999999999h", p1), p1);
        assert_eq!(Promise::from_text("首响3天/闭环1天", p1).first_ms, 86_400_000, "never after the end");
        assert_eq!(Priority::P0.promise().first_due(NOON), UtcMs(NOON.0 + 300_000));
    }

    proptest! {
        #[test]
        fn two_tickets_never_share_a_number(a in 0u32..200_000, b in 0u32..200_000, d in 0i64..4000) {
            let later = UtcMs(NOON.0 + d * 86_400_000);
            prop_assert_eq!(ticket_number(NOON, a) == ticket_number(later, b), a == b && d == 0);
        }

        #[test]
        fn any_promise_text_gives_a_promise_in_order(s in "\\PC{0,30}") {
            let p = Promise::from_text(&s, Priority::P2.promise());
            prop_assert!(p.first_ms > 0 && p.first_ms <= p.resolve_ms);
        }
    }
}
