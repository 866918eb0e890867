//! Figures from what came: clock drift, evenness, quality. Pure: moments and samples in, numbers out.

use crate::audio::detect::{power, tone_power};
use crate::rtp::RtpView;

/// Packets of a stream that are kept for its figures: 20 minutes of 20 ms.
const MOST: usize = 60_000;
/// A tone is there where this share of a window's power is at its frequency.
const TONE_SHARE: f32 = 0.2;
/// Quieter than this (mean power) is silence.
const SILENCE: f32 = 2000.0;
/// Samples of a window in which a tone is looked for: 100 ms.
const WINDOW: usize = 800;

/// How another clock runs against ours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// Parts per million; positive: the other clock is faster.
    pub ppm: f64,
    /// Standard error of that.
    pub error_ppm: f64,
    /// Seconds looked at.
    pub seconds: f64,
}

/// The slope of `y` over `x` (both in seconds) against 1, by least squares; none with under 50 points or 3 s.
pub fn drift(points: &[(f64, f64)]) -> Option<Drift> {
    let n = points.len() as f64;
    let (first, last) = (points.first()?, points.last()?);
    let seconds = last.0 - first.0;
    if points.len() < 50 || seconds < 3.0 {
        return None;
    }
    let mean = |f: fn(&(f64, f64)) -> f64| points.iter().map(f).sum::<f64>() / n;
    let (mx, my) = (mean(|p| p.0), mean(|p| p.1));
    let sxx: f64 = points.iter().map(|p| (p.0 - mx).powi(2)).sum();
    let sxy: f64 = points.iter().map(|p| (p.0 - mx) * (p.1 - my)).sum();
    let slope = sxy / sxx;
    let residual: f64 = points.iter().map(|p| (p.1 - my - slope * (p.0 - mx)).powi(2)).sum();
    let error = (residual / (n - 2.0) / sxx).sqrt();
    Some(Drift { ppm: (slope - 1.0) * 1e6, error_ppm: error * 1e6, seconds })
}

/// Mean opinion score of G.711 with concealment by the E-model (ITU-T G.107 with Ie = 0, Bpl = 25.1 of G.113),
/// 1.0 to 4.5; `delay_ms` one way, mouth to ear.
pub fn mos(delay_ms: f64, loss: f64) -> f64 {
    let late = if delay_ms > 177.3 { 0.11 * (delay_ms - 177.3) } else { 0.0 };
    let loss = loss.clamp(0.0, 1.0) * 100.0;
    let r = (93.2 - 0.024 * delay_ms - late - 95.0 * loss / (loss + 25.1)).clamp(0.0, 100.0);
    (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).clamp(1.0, 4.5)
}

/// The value below which this share of them lies; 0 for none. Sorts.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let at = (values.len() as f64 * share).ceil() as usize;
    values.get(at.saturating_sub(1).min(values.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// The share of a recording's 100 ms windows in which a tone is heard, 0..=1.
pub fn tone_share(pcm: &[i16], hz: f32) -> f32 {
    share(pcm, |window| {
        let all = power(window);
        all > SILENCE && tone_power(window, hz) > TONE_SHARE * all
    })
}

/// The share of a recording's 100 ms windows in which anything is heard.
pub fn sound_share(pcm: &[i16]) -> f32 {
    share(pcm, |window| power(window) > SILENCE)
}

fn share(pcm: &[i16], is_it: impl Fn(&[i16]) -> bool) -> f32 {
    let windows = pcm.chunks_exact(WINDOW);
    let all = windows.len().max(1) as f32;
    windows.filter(|w| is_it(w)).count() as f32 / all
}

/// When the packets of one stream came, and what they said of their time.
#[derive(Debug, Clone, Default)]
pub struct Arrivals {
    ssrc: Option<u32>,
    first: (u64, u32),
    /// Microseconds and samples since the first one.
    points: Vec<(u64, u32)>,
    payload: usize,
}

impl Arrivals {
    /// A packet came at this moment, in microseconds. A new source begins anew.
    pub fn came(&mut self, at_us: u64, packet: &RtpView<'_>) {
        if self.ssrc != Some(packet.ssrc()) {
            let first = (at_us, packet.timestamp());
            *self = Arrivals { ssrc: Some(packet.ssrc()), first, ..Arrivals::default() };
        }
        self.payload = packet.payload().len();
        if self.points.len() < MOST {
            let samples = packet.timestamp().wrapping_sub(self.first.1);
            self.points.push((at_us.saturating_sub(self.first.0), samples));
        }
    }

    /// The sender's clock against ours.
    pub fn drift(&self) -> Option<Drift> {
        let behind = |p: &&(u64, u32)| p.1 < u32::MAX / 2; // a straggler from before the first
        let seconds = |p: &(u64, u32)| (p.0 as f64 / 1e6, f64::from(p.1) / 8000.0);
        drift(&self.points.iter().filter(behind).map(seconds).collect::<Vec<_>>())
    }

    /// How far from their time packets came one after the other, in milliseconds: 50th and 99th percentile, and most.
    pub fn unevenness(&self) -> [f64; 3] {
        let step = |pair: &[(u64, u32)]| match pair {
            [a, b] => {
                let due = f64::from(b.1.wrapping_sub(a.1) as i32) / 8.0;
                Some(((b.0 as f64 - a.0 as f64) / 1000.0 - due).abs()).filter(|_| (1.0..=60.0).contains(&due))
            }
            _ => None,
        };
        let mut steps: Vec<f64> = self.points.windows(2).filter_map(step).collect();
        [percentile(&mut steps, 0.5), percentile(&mut steps, 0.99), percentile(&mut steps, 1.0)]
    }

    /// Milliseconds of sound in the last packet, as G.711.
    pub fn packet_ms(&self) -> usize {
        self.payload / 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{Tone, ToneGenerator};
    use crate::rtp::packet::Header;

    /// Small even noise without a generator: the same each time.
    fn jitter(n: u64) -> u64 {
        n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54 // 0..1024 µs
    }

    fn stream(ppm: f64, packets: u64) -> Arrivals {
        let mut arrivals = Arrivals::default();
        let mut bytes = Vec::new();
        for n in 0..packets {
            let header = Header {
                marker: n == 0,
                payload_type: 8,
                sequence: n as u16,
                timestamp: (n as u32).wrapping_mul(160).wrapping_add(u32::MAX - 5000),
                ssrc: 7,
            };
            header.write(&mut bytes);
            bytes.extend([0xD5; 160]);
            let at = 5_000_000.0 + n as f64 * 20_000.0 / (1.0 + ppm / 1e6);
            arrivals.came(at as u64 + jitter(n), &RtpView::parse(&bytes).unwrap());
        }
        arrivals
    }

    #[test]
    fn a_fast_and_a_slow_clock_are_told_from_a_right_one_through_jitter() {
        for ppm in [-300.0, 0.0, 80.0, 1000.0] {
            let d = stream(ppm, 600).drift().unwrap();
            assert!((d.ppm - ppm).abs() < 4.0 * d.error_ppm + 2.0, "{ppm}: {d:?}");
            assert!(d.error_ppm < 10.0 && d.seconds > 11.0, "{d:?}");
        }
        assert!(stream(0.0, 100).drift().is_none(), "two seconds tell nothing");
    }

    #[test]
    fn evenness_is_measured_against_what_the_timestamps_say() {
        let [p50, p99, most] = stream(0.0, 600).unevenness();
        assert!(p50 < 0.7 && p99 <= most && most < 1.1, "{p50} {p99} {most}");
        assert_eq!(stream(0.0, 10).packet_ms(), 20);
    }

    #[test]
    fn quality_follows_the_e_model() {
        assert!((mos(20.0, 0.0) - 4.40).abs() < 0.03, "{}", mos(20.0, 0.0));
        assert!((mos(150.0, 0.01) - 4.2).abs() < 0.1, "{}", mos(150.0, 0.01));
        // G.107, Annex B: R = 50 is a score of 2.6.
        assert!((mos(50.0, 0.2) - 2.57).abs() < 0.02, "{}", mos(50.0, 0.2));
        assert!(mos(400.0, 0.0) < 3.8 && mos(2000.0, 1.0) >= 1.0);
    }

    #[test]
    fn a_tone_is_found_in_the_share_of_time_in_which_it_sounds() {
        let mut pcm = vec![0i16; 8000];
        ToneGenerator::new(Tone::sine(560.0, 4000.0)).fill(&mut pcm[..4000]);
        assert_eq!(tone_share(&pcm, 560.0), 0.5);
        assert_eq!((tone_share(&pcm, 1800.0), sound_share(&pcm)), (0.0, 0.5));
        assert_eq!(tone_share(&[], 560.0), 0.0);
    }

    #[test]
    fn a_percentile_is_a_value_that_was_there() {
        let mut values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!([0.5, 0.99, 1.0].map(|q| percentile(&mut values, q)), [2.0, 4.0, 4.0]);
        assert_eq!(percentile(&mut [], 0.5), 0.0);
    }
}
