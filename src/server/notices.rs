//! Notices: what callers hear before an answer, and instead of one, where nobody is charged for it: out of hours, or at
//! a number that is no longer in use.

use super::hotline::TestRoute;
use super::routes::{Listening, RouteKind};
use super::shard::ShardCommand;
use super::switchboard::Switchboard;
use super::time::utc;
use crate::call::CallInput;
use crate::clock::UtcMs;
use crate::ids::CallId;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Names of the days, Monday first.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// Hours on some days of the week, in China Standard Time: `mon-fri 09:00-18:00`, `sat 10:00-16:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// First and last day, Monday is 0; the last may come before the first (`sat-mon`).
    days: (u8, u8),
    /// Minutes since midnight, from and to; at most 24:00, which is 1440.
    minutes: (u16, u16),
}

impl FromStr for Hours {
    type Err = ();

    fn from_str(text: &str) -> Result<Hours, ()> {
        let (days, hours) = text.trim().split_once(' ').ok_or(())?;
        let day = |d: &str| DAYS.iter().position(|n| n.eq_ignore_ascii_case(d)).map(|n| n as u8).ok_or(());
        let (first, last) = days.split_once('-').unwrap_or((days, days));
        let (from, to) = hours.trim().split_once('-').ok_or(())?;
        let minutes = (minute(from)?, minute(to)?);
        if minutes.0 >= minutes.1 {
            return Err(());
        }
        Ok(Hours { days: (day(first)?, day(last)?), minutes })
    }
}

/// Minutes since midnight of `09:30`.
fn minute(text: &str) -> Result<u16, ()> {
    let (hour, minute) = text.trim().split_once(':').ok_or(())?;
    let two = |s: &str| if s.len() == 2 { s.parse::<u16>().map_err(|_| ()) } else { Err(()) };
    let (hour, minute) = (two(hour)?, two(minute)?);
    let all = hour * 60 + minute;
    if minute < 60 && all <= DAY { Ok(all) } else { Err(()) }
}

impl Hours {
    /// Whether a moment lies in them.
    pub fn hold(&self, at: UtcMs) -> bool {
        let minutes = at.0.div_euclid(60_000) + 8 * 60;
        let minute = minutes.rem_euclid(i64::from(DAY)) as u16;
        // The first of January 1970 was a Thursday.
        let day = (minutes.div_euclid(i64::from(DAY)) + 3).rem_euclid(7) as u8;
        let (first, last) = self.days;
        let on = if first <= last { (first..=last).contains(&day) } else { day >= first || day <= last };
        on && (self.minutes.0..self.minutes.1).contains(&minute)
    }
}

/// Longest wait for a PRACK of early sound: what is sent without any proof is over by then.
const PROOF: Duration = Duration::from_secs(3);

/// What callers hear instead of the hotline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The numbers dialled; empty: all.
    pub numbers: Vec<String>,
    /// When the hotline is open, and the notice is not played; empty: never.
    pub open: Vec<Hours>,
    /// What is played: a WAV file.
    pub file: PathBuf,
}

impl Notice {
    /// The way of a call to `to` that hears it.
    fn route(&self, to: &str) -> TestRoute {
        TestRoute {
            user: to.to_owned(),
            kind: RouteKind::Notice,
            listening: Listening::Keys,
            file: Some(self.file.clone()),
            target: String::new(),
            record: false,
        }
    }
}

impl Switchboard {
    /// The way of a call that is not for the hotline now: to another seat from one, to a notice from anybody else.
    pub(super) fn instead(&self, seat: Option<&str>, to: &str) -> Option<TestRoute> {
        match seat {
            Some(_) => self.inside(to),
            None => instead(&self.p.settings.notices, to),
        }
    }

    /// Finds out whether the caller is where our early sound goes, and tells the call. A connection shows it, and so does
    /// a PRACK; the call's RTP is looked at by its shard.
    pub(super) fn prove(&self, call: CallId) {
        let Some(line) = self.lines.get(&call) else { return };
        if line.connected {
            return self.tell(call, CallInput::Established);
        }
        let (agent, dialog, shard) = (self.p.agent.clone(), line.dialog, line.shard.clone());
        tokio::spawn(async move {
            if agent.progress_acknowledged(dialog, PROOF).await {
                shard.send(ShardCommand::Input { call, input: CallInput::Established });
            }
        });
    }
}

/// The way of a call to `to` now, where a notice stands in the hotline's place.
fn instead(notices: &[Notice], to: &str) -> Option<TestRoute> {
    let at = utc();
    let meant = |n: &&Notice| n.numbers.is_empty() || n.numbers.iter().any(|m| m == to);
    let closed = |n: &&Notice| !n.open.iter().any(|h| h.hold(at));
    notices.iter().filter(meant).find(closed).map(|n| n.route(to))
}

/// Ways that stand for all notices, so that their sound is read at the start.
pub(super) fn routes(notices: &[Notice]) -> impl Iterator<Item = TestRoute> + '_ {
    notices.iter().map(|n| n.route("notice"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday, 3 August 2026, 09:00 in China.
    const MONDAY: i64 = 1_785_718_800_000;
    const HOUR: i64 = 3_600_000;

    #[test]
    fn hours_hold_on_their_days_from_the_first_minute_to_the_last() {
        let hours: Hours = "mon-fri 09:00-18:00".parse().unwrap();
        let hold = |h: &Hours, after: i64| h.hold(UtcMs(MONDAY + after));
        assert!(hold(&hours, 0) && !hold(&hours, -1) && hold(&hours, 9 * HOUR - 1) && !hold(&hours, 9 * HOUR));
        assert!(hold(&hours, 4 * 24 * HOUR) && !hold(&hours, 5 * 24 * HOUR), "Friday, not Saturday");
        let over: Hours = "Sun-Mon 00:00-24:00".parse().unwrap();
        assert!(hold(&over, 0) && hold(&over, -24 * HOUR) && !hold(&over, 24 * HOUR));
    }

    #[test]
    fn what_is_no_hours_is_refused() {
        for wrong in [
            "",
            "mon",
            "mon 9:00-18:00",
            "mon 09:00",
            "mon 18:00-09:00",
            "mon-xxx 09:00-18:00",
            "mon 09:60-10:00",
            "mon 09:00-24:01",
        ] {
            assert!(wrong.parse::<Hours>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_notice_without_hours_always_stands_and_only_for_its_numbers() {
        let notice = |open: &[&str]| Notice {
            numbers: vec!["400".into()],
            open: open.iter().map(|h| h.parse().unwrap()).collect(),
            file: "closed.wav".into(),
        };
        assert_eq!(instead(&[notice(&[])], "400").unwrap().kind, RouteKind::Notice);
        assert!(instead(&[notice(&[])], "401").is_none());
        assert!(instead(&[notice(&["mon-sun 00:00-24:00"])], "400").is_none(), "always open");
    }
}
