//! The beat of a media shard: when each sub-tick was due, whenever it is served.

use crate::clock::Mono;
use std::time::Duration;

/// Sub-ticks in 20 ms.
pub(super) const PHASES: u64 = 4;
/// Length of a sub-tick.
pub(super) const SUB_TICK: Duration = Duration::from_micros(20_000 / PHASES);
/// Sub-ticks that are made up after a standstill.
const MOST: u64 = PHASES * 10;

/// Counts sub-ticks. Outgoing media goes by the time a tick was due: served late, it is still the next 20 ms of
/// sound; only a tick that is never served is a gap.
#[derive(Debug)]
pub(super) struct Pace {
    due: Mono,
}

impl Pace {
    /// Begins at `now`; the first sub-tick is due one length later.
    pub fn new(now: Mono) -> Self {
        Pace { due: now }
    }

    /// So many sub-ticks have become due: how many of them to serve now. A late thread makes them up, so that no
    /// call's media clock falls behind; one that stood still does not shoot a second of packets out at once. What is
    /// left out is a multiple of 20 ms, the same for each call.
    pub fn expired(&mut self, count: u64) -> u64 {
        let left_out = count.saturating_sub(MOST).next_multiple_of(PHASES);
        self.due = self.due + SUB_TICK * u32::try_from(left_out).unwrap_or(u32::MAX);
        count.saturating_sub(left_out)
    }

    /// The next sub-tick is served: when it was due.
    pub fn tick(&mut self) -> Mono {
        self.due = self.due + SUB_TICK;
        self.due
    }

    /// When the sub-tick being served was due.
    pub fn due(&self) -> Mono {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::AudioFrame;
    use crate::rtp::{RtpSession, RtpView};
    use crate::sdp::{Codec, Formats, MediaPlan};

    /// (marker, samples since the packet before) of a call served when so many sub-ticks had become due at once.
    fn packets(expired: &[u64]) -> Vec<(bool, u32)> {
        let plan = MediaPlan {
            remote: ([127, 0, 0, 1], 4000).into(),
            remote_rtcp: ([127, 0, 0, 1], 4001).into(),
            codec: Codec::Pcma,
            payload_type: 8,
            dtmf_pt: None,
            receive: Formats { pcma: Some(8), ..Formats::default() },
            extras: Default::default(),
            ptime_ms: 20,
            we_send: true,
            we_receive: true,
            held_by_remote: false,
            srtp: None,
        };
        let start = Mono::from_ms(1000);
        let (mut rtp, mut pace) = (RtpSession::new(plan, [127, 0, 0, 1].into(), 1, start), Pace::new(start));
        let (mut phase, mut out, mut last, mut seen) = (0, Vec::new(), None, Vec::new());
        for &count in expired {
            for _ in 0..pace.expired(count) {
                let due = pace.tick();
                phase = (phase + 1) % PHASES;
                if phase == 0 && rtp.push(due, &AudioFrame::silence(0), &mut out).is_some() {
                    let view = RtpView::parse(&out).unwrap();
                    let step = last.map_or(0, |l| view.timestamp().wrapping_sub(l));
                    last = Some(view.timestamp());
                    seen.push((view.marker(), step));
                }
            }
        }
        seen
    }

    #[test]
    fn late_ticks_are_made_up_without_a_gap() {
        let seen = packets(&[1, 1, 1, 1, 1, 1, 1, 1, 37, 1, 1, 1, 4, 4]);
        assert_eq!(seen.len(), 14);
        assert_eq!(seen[0], (true, 0));
        assert!(seen[1..].iter().all(|p| *p == (false, 160)), "{seen:?}");
    }

    #[test]
    fn ticks_left_out_are_a_gap_that_the_timestamps_show() {
        let seen = packets(&[4, 4, 80, 4]);
        assert_eq!(seen[1], (false, 160));
        assert_eq!(seen[2], (true, 160 * 11), "40 of the 80 sub-ticks are left out");
        assert_eq!(seen.len(), 2 + 10 + 1);
        assert!(seen[3..].iter().all(|p| *p == (false, 160)), "{seen:?}");
    }
}
