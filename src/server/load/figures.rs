//! What a stage of a load test showed, and what it means: pure.

use std::collections::BTreeMap;

/// Buckets of a histogram, each a tenth of a millisecond.
const BUCKETS: usize = 5000;

/// Durations up to half a second, to a tenth of a millisecond; longer ones count as that.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u32>,
    all: u64,
    most_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: vec![0; BUCKETS], all: 0, most_us: 0 }
    }
}

impl Histogram {
    /// One more.
    pub fn add(&mut self, us: u64) {
        let bucket = (us / 100).min(BUCKETS as u64 - 1) as usize;
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.all += 1;
        self.most_us = self.most_us.max(us);
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.all
    }

    /// Milliseconds below which this share of them lies (the upper end of its bucket); 0 for none.
    pub fn at(&self, share: f64) -> f64 {
        let wanted = (self.all as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (n, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                return ((n as f64 + 1.0) / 10.0).min(self.most());
            }
        }
        self.most()
    }

    /// The longest, in milliseconds.
    pub fn most(&self) -> f64 {
        self.most_us as f64 / 1000.0
    }
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figures {
    /// Calls asked for.
    pub asked: usize,
    /// Calls that stood throughout.
    pub calls: usize,
    /// Seconds measured.
    pub seconds: f64,
    /// INVITE to 200: median and 99th percentile, ms.
    pub setup_ms: [f64; 2],
    /// Calls refused, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Calls that got no answer.
    pub unanswered: u64,
    /// Calls that the hotline ended though nobody had hung up.
    pub dropped: u64,
    /// RTP packets that came.
    pub packets: u64,
    /// RTP packets that did not, by sequence numbers.
    pub lost: u64,
    /// How far from 20 ms after the one before packets came, ms: median, 99th percentile, most.
    pub pacing_ms: [f64; 3],
    /// From one leg of a bridge to the other, ms: median and 99th percentile.
    pub delay_ms: Option<[f64; 2]>,
    /// From a caller's last word to the answer's first sound, ms: median and 95th percentile.
    pub reply_ms: Option<[f64; 2]>,
    /// Replies that were timed; none where callers do not speak.
    pub replies: Option<u64>,
    /// CPU seconds of the hotline for each minute of each call.
    pub cpu_per_call_minute: f64,
    /// Memory of the hotline for each call, KiB.
    pub kb_per_call: f64,
    /// Share of the cores it may use that the hotline used, 0..=1.
    pub server_busy: f64,
    /// Share of a core that the generator's busiest thread used.
    pub generator_busy: f64,
    /// 99th percentile of how late the generator was with itself, ms.
    pub generator_late_ms: f64,
}

/// What was not clean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// Packets were late: 99th percentile of the pacing deviation above 5 ms.
    Late,
    /// Packets were missing: more than one in 2,000.
    Lost,
    /// Calls were refused or not answered.
    Refused,
    /// Calls took more than a second to be answered (99th percentile).
    Slow,
    /// Calls broke off.
    Dropped,
    /// Callers waited more than 2.5 s for a reply (95th percentile), or got none at all.
    SlowReply,
}

/// What was in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Nothing: the most that was tried went well.
    NotReached,
    /// The hotline's cores.
    Cpu,
    /// The load generator itself: the hotline may take more.
    Generator,
    /// Lines, ports or files: refusals while the cores were not busy.
    Refusals,
    /// None of these can be shown: something else on the machine.
    Unclear,
}

/// A busy share above which cores count as used up.
const USED_UP: f64 = 0.85;
/// The generator later than this with itself is no judge of others, ms.
const OWN_LATE_MS: f64 = 3.0;

/// What was not clean in a stage.
pub fn flaws(f: &Figures) -> Vec<Flaw> {
    let mut found = Vec::new();
    let mut when = |is: bool, flaw| {
        if is {
            found.push(flaw);
        }
    };
    when(f.pacing_ms[1] > 5.0, Flaw::Late);
    when(f.lost * 2000 > f.packets + f.lost, Flaw::Lost);
    when(!f.refused.is_empty() || f.unanswered > 0 || f.calls < f.asked, Flaw::Refused);
    when(f.setup_ms[1] > 1000.0, Flaw::Slow);
    when(f.dropped > 0, Flaw::Dropped);
    when(f.replies == Some(0) || f.reply_ms.is_some_and(|r| r[1] > 2500.0), Flaw::SlowReply);
    found
}

/// What was in the way of a stage that was not clean.
pub fn limit(f: &Figures) -> Limit {
    let found = flaws(f);
    if found.is_empty() {
        return Limit::NotReached;
    }
    // What the generator measures late when it is late with itself says nothing of the server.
    let own = f.generator_late_ms > OWN_LATE_MS || f.generator_busy > USED_UP;
    if f.server_busy > USED_UP {
        return Limit::Cpu;
    }
    if own {
        return Limit::Generator;
    }
    if !f.refused.is_empty() {
        return Limit::Refusals;
    }
    Limit::Unclear
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean() -> Figures {
        Figures {
            asked: 100,
            calls: 100,
            seconds: 5.0,
            setup_ms: [2.0, 9.0],
            packets: 25_000,
            pacing_ms: [0.1, 1.2, 4.0],
            server_busy: 0.3,
            generator_busy: 0.2,
            generator_late_ms: 0.4,
            ..Figures::default()
        }
    }

    #[test]
    fn each_flaw_is_found_by_its_own_figure() {
        assert!(flaws(&clean()).is_empty());
        let with = |change: fn(&mut Figures)| {
            let mut f = clean();
            change(&mut f);
            flaws(&f)
        };
        assert_eq!(with(|f| f.pacing_ms[1] = 5.1), [Flaw::Late]);
        assert_eq!(with(|f| f.lost = 13), [Flaw::Lost]);
        assert_eq!(with(|f| f.lost = 12), []);
        assert_eq!(with(|f| f.calls = 99), [Flaw::Refused]);
        assert_eq!(with(|f| f.setup_ms[1] = 1001.0), [Flaw::Slow]);
        assert_eq!(with(|f| f.dropped = 1), [Flaw::Dropped]);
        assert_eq!(with(|f| f.reply_ms = Some([900.0, 2600.0])), [Flaw::SlowReply]);
        assert_eq!(with(|f| f.replies = Some(0)), [Flaw::SlowReply], "nobody was answered: nothing was tried");
    }

    #[test]
    fn a_late_generator_is_not_put_down_to_the_server() {
        let late = Figures { pacing_ms: [1.0, 12.0, 40.0], ..clean() };
        assert_eq!(limit(&late), Limit::Unclear);
        assert_eq!(limit(&Figures { generator_late_ms: 8.0, ..late.clone() }), Limit::Generator);
        assert_eq!(limit(&Figures { generator_busy: 0.97, ..late.clone() }), Limit::Generator);
        assert_eq!(limit(&Figures { server_busy: 0.96, ..late }), Limit::Cpu);
        assert_eq!(limit(&Figures { refused: [(503, 7)].into(), ..clean() }), Limit::Refusals);
        assert_eq!(limit(&clean()), Limit::NotReached);
    }

    #[test]
    fn a_histogram_knows_its_shares() {
        let mut h = Histogram::default();
        assert_eq!((h.at(0.5), h.most()), (0.0, 0.0));
        (1..=100u64).for_each(|ms| h.add(ms * 1000 - 50));
        assert!((h.at(0.5) - 50.0).abs() < 0.2 && (h.at(0.99) - 99.0).abs() < 0.2, "{}", h.at(0.5));
        h.add(10_000_000);
        assert_eq!((h.at(1.0), h.most(), h.count()), (500.0, 10_000.0, 101));
    }
}
