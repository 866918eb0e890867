//! 8 kHz to 16 kHz and back by a half-band filter of 47 taps: for codecs whose frames are too short for the blocks of
//! the FFT resampler. Passes up to 3.5 kHz, 47 dB down from 4.6 kHz on, 1.4 ms late.

/// Taps on one side of the middle: every second one, the others are zero.
const SIDE: usize = 12;
/// Samples that lie before the newest one in the filter.
const PAST: usize = 2 * SIDE - 1;
/// Samples of 8 kHz handled at a time.
const BLOCK: usize = 80;

/// The taps at the distances 1, 3, ... 23 from the middle, whose own tap is 1/2.
type Taps = [f32; SIDE];

/// An ideal half-band filter under a Kaiser window (beta 4.5).
fn taps() -> Taps {
    let bessel = |x: f64| {
        (1..25)
            .fold((1.0, 1.0), |(sum, term), k| {
                let term = term * (x / 2.0 / f64::from(k)).powi(2);
                (sum + term, term)
            })
            .0
    };
    let (beta, reach) = (4.5, (2 * SIDE) as f64);
    let ideal: [f64; SIDE] = std::array::from_fn(|m| {
        let distance = (2 * m + 1) as f64;
        let window = bessel(beta * (1.0 - (distance / reach).powi(2)).sqrt()) / bessel(beta);
        (std::f64::consts::FRAC_PI_2 * distance).sin() / (std::f64::consts::PI * distance) * window
    });
    // Both sides and the middle add up to one: silence and direct current keep their level.
    let sum: f64 = ideal.iter().sum::<f64>() * 2.0;
    ideal.map(|tap| (tap * 0.5 / sum) as f32)
}

/// The filter over a window of 24 samples, the middle between the twelfth and the next.
fn filtered(taps: &Taps, window: &[f32]) -> f32 {
    let (before, after) = window.split_at(SIDE);
    taps.iter().zip(before.iter().rev().zip(after)).map(|(tap, (a, b))| tap * (a + b)).sum()
}

/// 8 kHz in, 16 kHz out.
#[derive(Debug, Clone)]
pub struct Doubler {
    taps: Taps,
    past: [f32; PAST],
}

impl Default for Doubler {
    fn default() -> Self {
        Doubler { taps: taps(), past: [0.0; PAST] }
    }
}

impl Doubler {
    /// Hands the doubled sound to `give`, up to 160 samples at a time.
    pub fn push(&mut self, pcm: &[i16], mut give: impl FnMut(&[i16])) {
        for chunk in pcm.chunks(BLOCK) {
            let mut line = [0.0; PAST + BLOCK];
            line[..PAST].copy_from_slice(&self.past);
            line[PAST..].iter_mut().zip(chunk).for_each(|(to, &s)| *to = f32::from(s));
            let mut made = [0; 2 * BLOCK];
            for (window, pair) in line.windows(PAST + 1).zip(made.as_chunks_mut::<2>().0).take(chunk.len()) {
                *pair = [clip(2.0 * filtered(&self.taps, window)), clip(window[SIDE])];
            }
            self.past.copy_from_slice(&line[chunk.len()..chunk.len() + PAST]);
            give(&made[..2 * chunk.len()]);
        }
    }
}

/// 16 kHz in, 8 kHz out.
#[derive(Debug, Clone)]
pub struct Halver {
    taps: Taps,
    /// Every second sample: those the filter weighs, and those that pass it in the middle.
    past: [f32; PAST],
    middle: [f32; SIDE],
}

impl Default for Halver {
    fn default() -> Self {
        Halver { taps: taps(), past: [0.0; PAST], middle: [0.0; SIDE] }
    }
}

impl Halver {
    /// Halves `pcm` into `out`: as many samples as fit, half of what is there.
    pub fn push(&mut self, pcm: &[i16], out: &mut [i16]) {
        for (chunk, out) in pcm.chunks(2 * BLOCK).zip(out.chunks_mut(BLOCK)) {
            let pairs = chunk.as_chunks::<2>().0;
            let mut line = [0.0; PAST + BLOCK];
            let mut middle = [0.0; SIDE + BLOCK];
            line[..PAST].copy_from_slice(&self.past);
            middle[..SIDE].copy_from_slice(&self.middle);
            for (i, pair) in pairs.iter().enumerate() {
                (line[PAST + i], middle[SIDE + i]) = (f32::from(pair[0]), f32::from(pair[1]));
            }
            for ((window, middle), to) in line.windows(PAST + 1).zip(middle).zip(out).take(pairs.len()) {
                *to = clip(0.5 * middle + filtered(&self.taps, window));
            }
            self.past.copy_from_slice(&line[pairs.len()..pairs.len() + PAST]);
            self.middle.copy_from_slice(&middle[pairs.len()..pairs.len() + SIDE]);
        }
    }
}

fn clip(sample: f32) -> i16 {
    sample.round().clamp(-32768.0, 32767.0) as i16
}

#[cfg(test)]
mod tests {
    use super::super::detect::{power, tone_power};
    use super::*;

    fn sine(hz: f64, rate: f64, n: usize) -> Vec<i16> {
        (0..n).map(|i| ((i as f64 * std::f64::consts::TAU * hz / rate).sin() * 8000.0) as i16).collect()
    }

    fn doubled(pcm: &[i16], piece: usize) -> Vec<i16> {
        let (mut doubler, mut out) = (Doubler::default(), Vec::new());
        pcm.chunks(piece).for_each(|p| doubler.push(p, |made| out.extend_from_slice(made)));
        out
    }

    fn halved(pcm: &[i16], piece: usize) -> Vec<i16> {
        let mut halver = Halver::default();
        pcm.chunks(piece)
            .flat_map(|p| {
                let mut out = vec![0; p.len() / 2];
                halver.push(p, &mut out);
                out
            })
            .collect()
    }

    #[test]
    fn speech_passes_both_ways_at_its_level() {
        for hz in [100.0, 300.0, 1000.0, 2500.0, 3400.0] {
            let back = halved(&doubled(&sine(hz, 8000.0, 1600), 160), 320);
            let level = tone_power(&back[200..1400], hz as f32) / 32.0e6;
            assert!((level - 1.0).abs() < 0.05, "{hz} Hz: {level}");
        }
    }

    #[test]
    fn what_does_not_fit_below_4_khz_is_47_decibels_down() {
        for hz in [4600.0, 5000.0, 6000.0, 7500.0] {
            let out = halved(&sine(hz, 16_000.0, 3200), 320);
            assert!(power(&out[100..1500]) < 32.0e6 / 5.0e4, "{hz} Hz left {}", power(&out[100..1500]));
        }
        // The mirror image of 3 kHz lies at 5 kHz, that is 2.5 kHz for a meter that takes it for 8 kHz sound.
        let image = tone_power(&doubled(&sine(3000.0, 8000.0, 1600), 160)[200..3000], 2500.0);
        assert!(image < 32.0e6 / 5.0e4, "{image}");
    }

    #[test]
    fn pieces_of_any_length_give_the_same_as_the_whole() {
        let pcm = sine(700.0, 8000.0, 1001);
        let whole = doubled(&pcm, pcm.len());
        for piece in [1, 7, 80, 333] {
            assert_eq!(doubled(&pcm, piece), whole);
            assert_eq!(halved(&whole, piece * 2), halved(&whole, whole.len()));
        }
    }
}
