//! Session timers (RFC 4028): a call whose other end vanished without a word is found out and ended.

use super::wire::Wire;
use crate::clock::Mono;
use std::time::Duration;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Asked {
    /// Session-Expires, s.
    pub interval: Option<u32>,
    /// Who shall refresh, when it says so: `true` the one who asks.
    pub asker_refreshes: Option<bool>,
    /// Min-SE, s.
    pub min: u32,
    /// `Supported: timer`.
    pub supported: bool,
}

/// Cuts a Session-Expires value: seconds, and whether `refresher=uac`.
fn expires(value: &str) -> Option<(u32, Option<bool>)> {
    let mut parts = value.split(';').map(str::trim);
    let seconds = parts.next()?.parse().ok()?;
    let refresher = parts.find_map(|p| {
        let (name, value) = p.split_once('=')?;
        name.trim().eq_ignore_ascii_case("refresher").then(|| value.trim().eq_ignore_ascii_case("uac"))
    });
    Some((seconds, refresher))
}

impl Asked {
    /// What a request asks for. Who requires an extension supports it.
    pub fn in_request(request: &Wire) -> Asked {
        let supported = request.lists("supported", "timer") || request.lists("require", "timer");
        Asked::of(request.get("session-expires"), request.get("min-se"), supported)
    }

    /// From the headers of a request: Session-Expires, Min-SE, and whether `timer` is supported.
    pub fn of(session_expires: Option<&str>, min_se: Option<&str>, supported: bool) -> Asked {
        let found = session_expires.and_then(expires);
        let min = min_se.and_then(|v| v.split(';').next()?.trim().parse().ok()).unwrap_or(0);
        Asked { interval: found.map(|f| f.0), asker_refreshes: found.and_then(|f| f.1), min, supported }
    }

    /// The Min-SE to refuse with (422), when the time asked for is too short for us (section 9).
    pub fn too_brief(&self, min: u32) -> Option<u32> {
        (self.supported && self.interval.is_some_and(|s| s < min)).then_some(min)
    }

    /// What we agree to in our 2xx, and its Session-Expires value. `None`: the other side knows no timers.
    pub fn accept(&self, (longest, min): (u32, u32), now: Mono) -> Option<(Session, String)> {
        if !self.supported && self.interval.is_none() {
            return None;
        }
        let interval = self.interval.unwrap_or(longest).min(longest).max(self.min).max(min);
        let theirs = self.supported && self.asker_refreshes.unwrap_or(true);
        let session = Session { interval, ours: !theirs, since: now, refreshing: false };
        Some((session, format!("{interval};refresher={}", if theirs { "uac" } else { "uas" })))
    }
}

/// What is agreed for a dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Session {
    /// Seconds without a refresh after which it is over.
    pub interval: u32,
    /// We refresh.
    pub ours: bool,
    /// Last refresh.
    pub since: Mono,
    /// Our refresh is under way, or failed.
    pub refreshing: bool,
}

/// What a session's timer wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wants {
    /// A refresh by us.
    Refresh,
    /// Its end.
    End,
}

impl Session {
    /// What the 2xx to a request of ours says; `None`: no timer.
    pub fn of_answer(session_expires: Option<&str>, now: Mono) -> Option<Session> {
        let (interval, refresher) = session_expires.and_then(expires)?;
        // Without the parameter it is ours: somebody must (section 7.2).
        Some(Session { interval: interval.max(1), ours: refresher.unwrap_or(true), since: now, refreshing: false })
    }

    /// When it wants something, and what (section 10).
    pub fn due(&self) -> (Mono, Wants) {
        let whole = Duration::from_secs(self.interval.into());
        match self.ours && !self.refreshing {
            true => (self.since + whole / 2, Wants::Refresh),
            false => (self.since + (whole - (whole / 3).min(Duration::from_secs(32))), Wants::End),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: (u32, u32) = (1800, 90);

    #[test]
    fn the_shorter_time_wins_but_never_below_what_either_side_bears() {
        let of = |se: Option<&str>, min: Option<&str>| Asked::of(se, min, true).accept(OURS, Mono(0)).unwrap();
        assert_eq!(of(Some("600"), None).1, "600;refresher=uac");
        assert_eq!(of(Some("7200"), None).1, "1800;refresher=uac");
        assert_eq!(of(Some("7200;refresher=uas"), Some("3600")).1, "3600;refresher=uas");
        assert_eq!(of(None, None).1, "1800;refresher=uac");
        assert!(of(Some("600;refresher=uas"), None).0.ours && !of(Some("600"), None).0.ours);
    }

    #[test]
    fn who_knows_no_timer_is_not_asked_to_refresh() {
        assert_eq!(Asked::of(None, None, false).accept(OURS, Mono(0)), None);
        let (session, value) = Asked::of(Some("600"), None, false).accept(OURS, Mono(0)).unwrap();
        assert_eq!((session.ours, value.as_str()), (true, "600;refresher=uas"), "a proxy asked");
        assert_eq!(Asked::of(Some("60"), None, false).too_brief(90), None);
        assert_eq!(Asked::of(Some("60"), None, true).too_brief(90), Some(90));
    }

    #[test]
    fn a_refresh_is_due_at_half_time_and_the_end_before_the_time_is_over() {
        let session = |value| Session::of_answer(Some(value), Mono(0)).unwrap();
        assert_eq!(session("1800;refresher=uac").due(), (Mono::from_ms(900_000), Wants::Refresh));
        assert_eq!(session("1800;refresher=uas").due(), (Mono::from_ms(1_768_000), Wants::End));
        assert_eq!(session("90;refresher=uas").due(), (Mono::from_ms(60_000), Wants::End));
        let failed = Session { refreshing: true, ..session("90;refresher=uac") };
        assert_eq!(failed.due(), (Mono::from_ms(60_000), Wants::End));
        assert_eq!(Session::of_answer(None, Mono(0)), None);
        assert_eq!(Session::of_answer(Some("never"), Mono(0)), None);
    }
}
