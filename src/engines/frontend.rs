//! Sound to features, sample by sample as it arrives: 32 log-mel energies every 10 ms, mean removed online,
//! nine frames stacked every 30 ms. Feeding in pieces gives exactly what feeding at once gives.

use realfft::{RealFftPlanner, RealToComplex, num_complex::Complex32};
use std::collections::VecDeque;
use std::sync::Arc;

/// Mel bands.
pub const MELS: usize = 32;
/// Values of one network input row: nine frames.
pub const ROW: usize = 9 * MELS;
/// Frames that make one row's step (30 ms).
const GROUP: usize = 3;
const WINDOW: usize = 200;
const HOP: usize = 80;
const FFT: usize = 256;
const BINS: usize = FFT / 2 + 1;
/// Zeros before the first sample, so that frame t is centred on 10 ms * t + 5 ms.
const LEAD: usize = 60;
/// The training's mean counts as this many frames already heard.
const PRIOR: f64 = 80.0;
const SCALE: f64 = 0.4;

/// What all streams share: window, filters, transform, the training's mean.
pub struct FrontEnd {
    window: Vec<f32>,
    /// For each band its first bin and its weights.
    bands: Vec<(usize, Vec<f32>)>,
    fft: Arc<dyn RealToComplex<f32>>,
    mean: [f64; MELS],
}

impl FrontEnd {
    /// `mean` is the average log-mel vector of the training set.
    pub fn new(mean: [f32; MELS]) -> Self {
        let window = (0..WINDOW)
            .map(|i| (0.5 - 0.5 * (2.0 * std::f64::consts::PI * i as f64 / WINDOW as f64).cos()) as f32)
            .collect();
        FrontEnd {
            window,
            bands: mel_bands(),
            fft: RealFftPlanner::new().plan_fft_forward(FFT),
            mean: mean.map(f64::from),
        }
    }

    fn log_mel(&self, samples: &[f32], work: &mut Work) -> [f32; MELS] {
        work.time.fill(0.0);
        for ((out, s), w) in work.time.iter_mut().zip(samples).zip(&self.window) {
            *out = s * w;
        }
        let done = self.fft.process_with_scratch(&mut work.time, &mut work.spectrum, &mut work.scratch);
        debug_assert!(done.is_ok(), "buffers are made to measure");
        for (p, c) in work.power.iter_mut().zip(&work.spectrum) {
            *p = c.norm_sqr();
        }
        let mut out = [0.0; MELS];
        for (o, (first, weights)) in out.iter_mut().zip(&self.bands) {
            let energy: f32 = weights.iter().zip(&work.power[*first..]).map(|(w, p)| w * p).sum();
            *o = (energy + 1e-6).ln();
        }
        out
    }
}

struct Work {
    time: Vec<f32>,
    spectrum: Vec<Complex32>,
    scratch: Vec<Complex32>,
    power: [f32; BINS],
}

/// One utterance on its way to features.
pub struct FeatureStream {
    front: Arc<FrontEnd>,
    work: Work,
    samples: VecDeque<f32>,
    sum: [f64; MELS],
    frames: usize,
    group: Vec<f32>,
    /// The last two whole groups.
    before: [Vec<f32>; 2],
}

impl FeatureStream {
    /// Begins an utterance.
    pub fn new(front: Arc<FrontEnd>) -> Self {
        let work = Work {
            time: front.fft.make_input_vec(),
            spectrum: front.fft.make_output_vec(),
            scratch: front.fft.make_scratch_vec(),
            power: [0.0; BINS],
        };
        let empty = || vec![0.0; GROUP * MELS];
        FeatureStream {
            front,
            work,
            samples: VecDeque::from(vec![0.0; LEAD]),
            sum: [0.0; MELS],
            frames: 0,
            group: Vec::with_capacity(GROUP * MELS),
            before: [empty(), empty()],
        }
    }

    /// Takes samples and appends the rows that are now complete ([`ROW`] values each) to `rows`.
    pub fn feed(&mut self, pcm: &[i16], rows: &mut Vec<f32>) {
        self.samples.extend(pcm.iter().map(|&s| f32::from(s) / 32768.0));
        while self.samples.len() >= WINDOW {
            let frame = self.front.log_mel(&self.samples.make_contiguous()[..WINDOW], &mut self.work);
            self.samples.drain(..HOP);
            self.push(&frame, rows);
        }
    }

    /// Ends the utterance: the last rows, their future taken as zeros.
    pub fn finish(&mut self, rows: &mut Vec<f32>) {
        self.feed(&[0; WINDOW], rows);
        if self.frames >= GROUP {
            self.emit(&vec![0.0; GROUP * MELS], rows);
        }
    }

    fn push(&mut self, frame: &[f32; MELS], rows: &mut Vec<f32>) {
        self.frames += 1;
        let count = PRIOR + self.frames as f64;
        for ((x, sum), mean) in frame.iter().zip(&mut self.sum).zip(&self.front.mean) {
            *sum += f64::from(*x);
            self.group.push((SCALE * (f64::from(*x) - (PRIOR * mean + *sum) / count)) as f32);
        }
        if self.group.len() < GROUP * MELS {
            return;
        }
        let group = std::mem::replace(&mut self.group, Vec::with_capacity(GROUP * MELS));
        if self.frames > GROUP {
            self.emit(&group, rows);
        }
        self.before.swap(0, 1);
        self.before[1] = group;
    }

    /// The row of the newest whole group, `next` being the one after it.
    fn emit(&self, next: &[f32], rows: &mut Vec<f32>) {
        rows.extend_from_slice(&self.before[0]);
        rows.extend_from_slice(&self.before[1]);
        rows.extend_from_slice(next);
    }
}

/// Triangles evenly spaced on the mel scale between 120 and 3700 Hz.
fn mel_bands() -> Vec<(usize, Vec<f32>)> {
    let mel = |f: f64| 1127.0 * (1.0 + f / 700.0).ln();
    let hz = |m: f64| 700.0 * ((m / 1127.0).exp() - 1.0);
    let (low, high) = (mel(120.0), mel(3700.0));
    let edge: Vec<f64> = (0..MELS + 2).map(|i| hz(low + (high - low) * i as f64 / (MELS + 1) as f64)).collect();
    let bin_hz = |b: usize| b as f64 * 4000.0 / (BINS - 1) as f64;
    (0..MELS)
        .map(|i| {
            let mut weights: Vec<f64> = (0..BINS)
                .map(|b| {
                    let f = bin_hz(b);
                    let rise = (f - edge[i]) / (edge[i + 1] - edge[i]);
                    let fall = (edge[i + 2] - f) / (edge[i + 2] - edge[i + 1]);
                    rise.min(fall).max(0.0)
                })
                .collect();
            // A narrow low band may fall between two bins: lift the nearest one.
            if weights.iter().sum::<f64>() < 0.5 {
                let near = |b: &usize| (bin_hz(*b) - edge[i + 1]).abs();
                if let Some(b) = (0..BINS).min_by(|a, b| near(a).total_cmp(&near(b))) {
                    weights[b] += 0.5;
                }
            }
            let first = weights.iter().position(|w| *w > 0.0).unwrap_or(0);
            let last = weights.iter().rposition(|w| *w > 0.0).unwrap_or(0);
            (first, weights[first..=last].iter().map(|w| *w as f32).collect())
        })
        .collect()
}
