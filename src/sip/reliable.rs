//! Reliable provisional responses (RFC 3262): which one waits for its PRACK, and which one we acknowledge.

use crate::clock::Mono;
use std::collections::VecDeque;
use std::time::Duration;

/// Provisional responses that may wait for the one before them to be acknowledged.
const MAX_WAITING: usize = 4;
/// Branches of a forked call whose responses are followed.
const MAX_BRANCHES: usize = 8;

/// How the caller takes provisional responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Reliability {
    /// It does not know of PRACK.
    #[default]
    Unknown,
    /// It said `Supported: 100rel`, or required it.
    Wanted,
}

#[derive(Debug)]
struct Open<R> {
    rseq: u32,
    /// None until it has gone out.
    response: Option<R>,
    described: bool,
    interval: Duration,
    due: Mono,
    until: Mono,
}

/// What we have sent of a call that came in; `R` is a response.
#[derive(Debug)]
pub(super) struct Sent<R> {
    pub reliability: Reliability,
    next: u32,
    open: Option<Open<R>>,
    /// The one that was open when the final response went out: its PRACK is welcome all the same.
    late: Option<u32>,
    /// Session descriptions (or none) of those that wait.
    waiting: VecDeque<Option<String>>,
    /// A description of ours was acknowledged: an offer is answered, and the other side may make one of its own.
    pub agreed: bool,
}

impl<R> Default for Sent<R> {
    fn default() -> Self {
        let (open, late, waiting) = (None, None, VecDeque::new());
        Sent { reliability: Reliability::Unknown, next: 1, open, late, waiting, agreed: false }
    }
}

/// What to do with a provisional response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Send it as it is.
    Plain,
    /// Send it with this RSeq.
    Reliable(u32),
    /// It waits its turn, or is dropped because too many do.
    Later,
}

/// What the time has brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Overdue<R> {
    /// Send this again.
    Again(R),
    /// Nobody acknowledged it in 64*T1: the call is refused (section 3).
    GiveUp,
}

impl<R: Clone> Sent<R> {
    /// The first RSeq, 1 to 2^31 - 1 (section 3).
    pub fn begin(&mut self, first: u32) {
        self.next = (first >> 1).max(1);
    }

    /// A provisional response is to go out.
    pub fn way(&mut self, sdp: Option<&str>) -> Way {
        match (self.reliability, &self.open) {
            (Reliability::Unknown, _) => Way::Plain,
            (Reliability::Wanted, None) => {
                let rseq = self.next;
                self.next = self.next.wrapping_add(1).max(1);
                let (described, zero) = (sdp.is_some(), Mono(0));
                let interval = Duration::ZERO;
                self.open = Some(Open { rseq, response: None, described, interval, due: zero, until: zero });
                Way::Reliable(rseq)
            }
            (Reliability::Wanted, Some(_)) => {
                if self.waiting.len() < MAX_WAITING {
                    self.waiting.push_back(sdp.map(String::from));
                }
                Way::Later
            }
        }
    }

    /// It went out.
    pub fn sent(&mut self, rseq: u32, response: R, now: Mono, t1: Duration) {
        if let Some(open) = self.open.as_mut().filter(|o| o.rseq == rseq) {
            let response = Some(response);
            *open = Open { response, interval: t1, due: now + t1, until: now + t1 * 64, ..*open };
        }
    }

    /// Whether the final response must wait: a description of ours is not acknowledged yet.
    pub fn holds_the_answer(&self) -> bool {
        self.open.as_ref().is_some_and(|o| o.described)
    }

    /// A PRACK came; false when it acknowledges nothing of ours.
    pub fn acknowledged(&mut self, rseq: u32) -> bool {
        if let Some(open) = self.open.take_if(|o| o.rseq == rseq) {
            self.agreed |= open.described;
            return true;
        }
        self.late.take_if(|l| *l == rseq).is_some()
    }

    /// The next one that waited.
    pub fn next_waiting(&mut self) -> Option<Option<String>> {
        if self.open.is_some() { None } else { self.waiting.pop_front() }
    }

    /// The final response went out: nothing is repeated any more.
    pub fn stop(&mut self) {
        self.late = self.open.take().map(|o| o.rseq).or(self.late);
        self.waiting.clear();
    }

    /// When something is to be done.
    pub fn due(&self) -> Option<Mono> {
        self.open.as_ref().filter(|o| o.response.is_some()).map(|o| o.due.min(o.until))
    }

    /// What is to be done now.
    pub fn overdue(&mut self, now: Mono) -> Option<Overdue<R>> {
        let open = self.open.as_mut().filter(|o| o.response.is_some() && now >= o.due.min(o.until))?;
        if now >= open.until {
            self.stop();
            return Some(Overdue::GiveUp);
        }
        open.interval *= 2;
        open.due = now + open.interval;
        open.response.clone().map(Overdue::Again)
    }
}

/// What we have acknowledged of a call we placed: the last RSeq of each branch, by To-tag.
#[derive(Debug, Default)]
pub(super) struct Received(Vec<(String, u32)>);

impl Received {
    /// Whether a reliable response is the next of its branch (section 4). A repeated one and one out of order are not
    /// acknowledged.
    pub fn is_next(&mut self, to_tag: &str, rseq: u32) -> bool {
        let known = self.0.len();
        match self.0.iter_mut().find(|(tag, _)| tag == to_tag) {
            Some((_, last)) if rseq == last.wrapping_add(1) => {
                *last = rseq;
                true
            }
            Some(_) => false,
            None if known < MAX_BRANCHES => {
                self.0.push((to_tag.to_string(), rseq));
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T1: Duration = Duration::from_millis(500);

    fn wanted() -> Sent<&'static str> {
        let mut sent = Sent { reliability: Reliability::Wanted, ..Sent::default() };
        sent.begin(20);
        sent
    }

    #[test]
    fn it_is_repeated_at_doubling_times_and_given_up_after_64_t1() {
        let mut sent = wanted();
        assert_eq!(sent.way(None), Way::Reliable(10));
        sent.sent(10, "180", Mono(0), T1);
        let mut at = Vec::new();
        while let Some(due) = sent.due() {
            match sent.overdue(due) {
                Some(Overdue::Again("180")) => at.push(due.as_ms()),
                other => {
                    assert_eq!((other, due.as_ms()), (Some(Overdue::GiveUp), 32_000));
                }
            }
        }
        assert_eq!(at, [500, 1500, 3500, 7500, 15_500, 31_500]);
    }

    #[test]
    fn the_next_one_waits_for_the_prack_of_the_one_before_it() {
        let mut sent = wanted();
        assert_eq!(sent.way(Some("v=0")), Way::Reliable(10));
        assert!(sent.holds_the_answer(), "from the moment it is made");
        sent.sent(10, "183", Mono(0), T1);
        assert_eq!(sent.way(None), Way::Later);
        assert_eq!(sent.next_waiting(), None);
        assert!(sent.holds_the_answer() && !sent.acknowledged(9) && !sent.agreed);
        assert!(sent.acknowledged(10) && sent.agreed && !sent.holds_the_answer());
        assert!(!sent.acknowledged(10), "only once");
        assert_eq!(sent.next_waiting(), Some(None));
        assert_eq!(sent.way(None), Way::Reliable(11));
    }

    #[test]
    fn a_prack_that_crosses_the_answer_is_welcome() {
        let mut sent = wanted();
        let _ = sent.way(None);
        sent.sent(10, "180", Mono(0), T1);
        sent.stop();
        assert_eq!(sent.due(), None);
        assert!(sent.acknowledged(10) && !sent.acknowledged(10));
    }

    #[test]
    fn a_caller_who_does_not_know_of_it_gets_plain_responses() {
        let mut sent: Sent<()> = Sent::default();
        assert_eq!((sent.way(None), sent.way(Some("v=0"))), (Way::Plain, Way::Plain));
    }

    #[test]
    fn responses_are_acknowledged_in_order_for_each_branch() {
        let mut received = Received::default();
        let next = [("a", 7), ("a", 7), ("a", 9), ("a", 8), ("b", 3), ("a", 9), ("b", 2)];
        assert_eq!(next.map(|(tag, rseq)| received.is_next(tag, rseq)), [true, false, false, true, true, true, false]);
        for i in 0..100 {
            received.is_next(&format!("t{i}"), 1);
        }
        assert!(received.0.len() <= MAX_BRANCHES);
    }
}
