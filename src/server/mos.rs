//! How calls sounded, for `GET /metrics`: estimated opinion scores of the legs that have ended.

use super::metrics::MetricsText;
use crate::rtp::Stats;
use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds, the scores of R = 50, 60, 70, 80 and 90: nearly all, many, some dissatisfied; satisfied; very.
const BOUNDS: [f64; 5] = [2.58, 3.10, 3.60, 4.03, 4.34];

/// A histogram of scores.
#[derive(Debug, Default)]
struct Scores {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// In thousandths.
    sum: AtomicU64,
}

impl Scores {
    fn add(&self, score: f32) {
        let bucket = BOUNDS.iter().position(|b| f64::from(score) <= *b).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add((score * 1000.0) as u64, Ordering::Relaxed);
    }
}

/// Scores of both directions.
#[derive(Debug, Default)]
pub(super) struct MosFigures {
    heard: Scores,
    told: Scores,
}

impl MosFigures {
    /// A leg has ended.
    pub fn add(&self, stats: &Stats) {
        if let Some(q) = stats.heard {
            self.heard.add(q.mos);
        }
        if let Some(q) = stats.told {
            self.told.add(q.mos);
        }
    }

    /// Writes both histograms.
    pub fn write(&self, text: MetricsText) -> MetricsText {
        [("heard here", "zongji_mos_in", &self.heard), ("reported by the peer", "zongji_mos_out", &self.told)]
            .into_iter()
            .fold(text, |text, (what, name, scores)| {
                let counts: Vec<u64> = scores.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
                let sum = scores.sum.load(Ordering::Relaxed) as f64 / 1000.0;
                let help = format!("Opinion scores (MOS, E-model) of legs that have ended, {what}.");
                text.histogram(name, &help, &BOUNDS, &counts, sum)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::quality::Quality;
    use crate::sdp::Codec;

    #[test]
    fn each_leg_is_counted_in_its_band_and_the_buckets_add_up() {
        let figures = MosFigures::default();
        for loss in [0.0, 0.04, 0.2] {
            let heard = Some(Quality::new(Codec::Pcma, loss, 1.0, 100.0));
            figures.add(&Stats { heard, ..Stats::default() });
        }
        figures.add(&Stats::default());
        let text = figures.write(MetricsText::new()).finish();
        let count = |line: &str| text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse::<f64>().ok()).unwrap();
        assert_eq!(count("zongji_mos_in_count"), 3.0);
        assert_eq!(count("zongji_mos_in_bucket{le=\"2.58\"}"), 1.0);
        assert_eq!(count("zongji_mos_in_bucket{le=\"4.03\"}"), 2.0);
        assert_eq!(count("zongji_mos_in_bucket{le=\"+Inf\"}"), 3.0);
        assert!((count("zongji_mos_in_sum") - 10.9).abs() < 0.3, "{text}");
        assert_eq!(count("zongji_mos_out_count"), 0.0);
    }
}
