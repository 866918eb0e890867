//! Frames to sound: harmonics of the pitch with minimum phase, plus noise shaped like the same envelope.
//!
//! The envelope of a 5 ms frame is 30 mel-cepstra of log amplitude on 257 bins (0-4000 Hz). The phase of the
//! minimum-phase filter is linear in the log amplitude, so it is a fixed matrix times the cepstra, too.

use realfft::num_complex::{Complex, Complex32};
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};
use std::f64::consts::PI;
use std::sync::Arc;

/// Cepstra of a frame.
pub const CEPSTRA: usize = 30;
/// Samples of a frame (5 ms).
pub const HOP: usize = 40;
const BINS: usize = 257;
const NOISE_WINDOW: usize = 160;
const NOISE_FFT: usize = 256;
const NOISE_BINS: usize = NOISE_FFT / 2 + 1;
const RATE: f64 = 8000.0;
/// Harmonics fade out over the last 200 Hz before this.
const TOP_HZ: f64 = 3950.0;

/// One frame of 5 ms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VoiceFrame {
    /// Log-amplitude cepstra.
    pub cepstra: [f32; CEPSTRA],
    /// Pitch in Hz; 0 is unvoiced.
    pub f0: f32,
    /// Share of noise at 3 kHz in dB, at most 0.
    pub aperiodicity: f32,
}

/// The fixed matrices and transforms.
pub struct Vocoder {
    /// Log amplitude and phase of each bin per cepstrum.
    amplitude: Vec<[f32; CEPSTRA]>,
    phase: Vec<[f32; CEPSTRA]>,
    window: Vec<f32>,
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
}

/// A frame's curves over the 257 bins.
struct Curves {
    /// Log amplitude.
    log: Vec<f32>,
    phase: Vec<f32>,
    /// Share of noise in the amplitude, 0..=1.
    noise: Vec<f32>,
}

impl Default for Vocoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Vocoder {
    /// Computes the matrices (once; a few milliseconds).
    pub fn new() -> Self {
        let mel = |f: f64| 1127.0 * (1.0 + f / 700.0).ln();
        let top = mel(RATE / 2.0);
        let angle = |bin: usize| mel(bin as f64 * (RATE / 2.0) / (BINS - 1) as f64) / top * PI;
        let amplitude: Vec<[f32; CEPSTRA]> =
            (0..BINS).map(|b| std::array::from_fn(|k| (angle(b) * k as f64).cos() as f32)).collect();
        let mut planner = RealFftPlanner::new();
        Vocoder {
            phase: minimum_phase(|b, k| (angle(b) * k as f64).cos()),
            amplitude,
            window: (0..NOISE_WINDOW)
                .map(|i| (0.5 - 0.5 * (2.0 * PI * i as f64 / NOISE_WINDOW as f64).cos()) as f32)
                .collect(),
            forward: planner.plan_fft_forward(NOISE_FFT),
            inverse: planner.plan_fft_inverse(NOISE_FFT),
        }
    }

    /// Sound of `frames`, [`HOP`] samples each; `seed` chooses the noise.
    pub fn render(&self, frames: &[VoiceFrame], seed: u64) -> Vec<f32> {
        let curves: Vec<Curves> = frames.iter().map(|f| self.curves(f)).collect();
        let mut out = harmonics(frames, &curves);
        self.add_noise(&curves, seed, &mut out);
        out
    }

    fn curves(&self, frame: &VoiceFrame) -> Curves {
        let dot = |row: &[f32; CEPSTRA]| row.iter().zip(&frame.cepstra).map(|(a, b)| a * b).sum::<f32>();
        let floor = frame.aperiodicity.clamp(-60.0, -1e-6);
        let noise_at = |bin: usize| {
            if frame.f0 <= 0.0 {
                return 1.0;
            }
            let hz = bin as f32 * 4000.0 / (BINS - 1) as f32;
            let db =
                if hz < 3000.0 { -60.0 + (floor + 60.0) * hz / 3000.0 } else { floor - floor * (hz - 3000.0) / 5000.0 };
            10f32.powf(db / 20.0)
        };
        Curves {
            log: self.amplitude.iter().map(dot).collect(),
            phase: self.phase.iter().map(dot).collect(),
            noise: (0..BINS).map(noise_at).collect(),
        }
    }

    /// White noise through each frame's envelope: 20 ms Hann windows every 5 ms, overlapped and added.
    fn add_noise(&self, curves: &[Curves], seed: u64, out: &mut [f32]) {
        let total = curves.len() * HOP;
        let white = gaussian(seed, total + 320);
        let mut mixed = vec![0.0f32; total + 320];
        let mut time = self.forward.make_input_vec();
        let mut spectrum = self.forward.make_output_vec();
        let mut shaped = self.inverse.make_output_vec();
        for (k, c) in curves.iter().enumerate() {
            let at = k * HOP;
            time.fill(0.0);
            for ((t, w), e) in time.iter_mut().zip(&self.window).zip(&white[at..]) {
                *t = w * e;
            }
            let ok = self.forward.process(&mut time, &mut spectrum);
            debug_assert!(ok.is_ok(), "buffers are made to measure");
            for (b, s) in spectrum.iter_mut().enumerate().take(NOISE_BINS) {
                *s *= c.log[2 * b].exp() * c.noise[2 * b] / NOISE_FFT as f32;
            }
            spectrum[0].im = 0.0;
            spectrum[NOISE_BINS - 1].im = 0.0;
            let ok = self.inverse.process(&mut spectrum, &mut shaped);
            debug_assert!(ok.is_ok(), "buffers are made to measure");
            for (m, s) in mixed[at..].iter_mut().zip(&shaped) {
                *m += s;
            }
        }
        let scale = 1.0 / 1.5f32.sqrt();
        for (o, m) in out.iter_mut().zip(&mixed[60..]) {
            *o += m * scale;
        }
    }
}

/// The phase matrix: the imaginary part of the transform of each column's folded (causal) cepstrum.
fn minimum_phase(log_amplitude: impl Fn(usize, usize) -> f64) -> Vec<[f32; CEPSTRA]> {
    const N: usize = 512;
    let mut out = vec![[0.0f32; CEPSTRA]; BINS];
    let mut planner = realfft::RealFftPlanner::<f64>::new();
    let (forward, inverse) = (planner.plan_fft_forward(N), planner.plan_fft_inverse(N));
    for k in 0..CEPSTRA {
        let mut even: Vec<Complex<f64>> = (0..BINS).map(|b| Complex::new(log_amplitude(b, k), 0.0)).collect();
        let mut folded = vec![0.0f64; N];
        let ok = inverse.process(&mut even, &mut folded);
        debug_assert!(ok.is_ok(), "buffers are made to measure");
        for (i, q) in folded.iter_mut().enumerate() {
            *q *= match i {
                0 | 256 => 1.0,
                1..256 => 2.0,
                _ => 0.0,
            } / N as f64;
        }
        let mut spectrum = forward.make_output_vec();
        let ok = forward.process(&mut folded, &mut spectrum);
        debug_assert!(ok.is_ok(), "buffers are made to measure");
        for (row, s) in out.iter_mut().zip(&spectrum) {
            row[k] = s.im as f32;
        }
    }
    out
}

/// Amplitude and phase of every harmonic of every frame, at most `count` each.
struct Partials {
    count: usize,
    amplitude: Vec<f32>,
    phase: Vec<f32>,
}

fn partials(frames: &[VoiceFrame], curves: &[Curves], f0: &[f64]) -> Partials {
    let lowest = f0.iter().copied().fold(f64::MAX, f64::min);
    let count = (3900.0 / lowest) as usize;
    let mut p = Partials { count, amplitude: vec![0.0; count * frames.len()], phase: vec![0.0; count * frames.len()] };
    for (t, (frame, c)) in frames.iter().zip(curves).enumerate() {
        let gain = 2.0 * (f0[t] / RATE).sqrt();
        for h in 0..count {
            let hz = (h + 1) as f64 * f0[t];
            let bin = (hz / 4000.0 * 256.0).clamp(0.0, 255.999);
            let (b, r) = (bin as usize, (bin - bin.floor()) as f32);
            let at = |curve: &[f32]| curve[b] * (1.0 - r) + curve[b + 1] * r;
            let i = t * count + h;
            p.phase[i] = at(&c.phase);
            let fade = ((TOP_HZ - hz) / 200.0).clamp(0.0, 1.0) as f32;
            if frame.f0 > 0.0 && fade > 0.0 {
                p.amplitude[i] = at(&c.log).exp() * (1.0 - at(&c.noise).powi(2)).max(0.0).sqrt() * gain as f32 * fade;
            }
        }
    }
    p
}

/// The voiced part: amplitude and phase of every harmonic run straight from frame to frame.
fn harmonics(frames: &[VoiceFrame], curves: &[Curves]) -> Vec<f32> {
    let mut out = vec![0.0f32; frames.len() * HOP];
    if frames.len() < 2 || frames.iter().all(|f| f.f0 <= 0.0) {
        return out;
    }
    let log_f0 = bridged_log_f0(frames);
    let f0: Vec<f64> = log_f0.iter().map(|l| l.exp()).collect();
    let p = partials(frames, curves, &f0);
    // Where sample n lies between frame centres; the ends hold the first and last frame.
    let last = frames.len() as f64 - 1.001;
    let place = |n: usize| {
        let j = ((n as f64 - (HOP / 2) as f64) / HOP as f64).clamp(0.0, last);
        (j as usize, j - j.floor())
    };
    let pitch = |n: usize| {
        let j = ((n as f64 - (HOP / 2) as f64) / HOP as f64).clamp(0.0, frames.len() as f64 - 1.0);
        let k = (j as usize).min(frames.len() - 2);
        (log_f0[k] + (log_f0[k + 1] - log_f0[k]) * (j - k as f64)).exp()
    };
    let mut phi = 0.0f64;
    let mut n = 0;
    while n < out.len() {
        let (k, _) = place(n);
        let mut end = n + 1;
        while end < out.len() && place(end).0 == k {
            end += 1;
        }
        segment(&p, k, n..end, &place, &pitch, &mut phi, &mut out);
        n = end;
    }
    out
}

/// The samples between two frame centres. Each harmonic is a rotating number: harmonic h of phase `phi` is the
/// (h+1)-th power of e^{i phi}, and its own phase moves on by a fixed angle a sample.
fn segment(
    p: &Partials,
    k: usize,
    samples: std::ops::Range<usize>,
    place: &dyn Fn(usize) -> (usize, f64),
    pitch: &dyn Fn(usize) -> f64,
    phi: &mut f64,
    out: &mut [f32],
) {
    let (a0, a1) = (&p.amplitude[k * p.count..(k + 1) * p.count], &p.amplitude[(k + 1) * p.count..(k + 2) * p.count]);
    let (q0, q1) = (&p.phase[k * p.count..(k + 1) * p.count], &p.phase[(k + 1) * p.count..(k + 2) * p.count]);
    let sounding = (0..p.count).rev().find(|h| a0[*h] > 0.0 || a1[*h] > 0.0).map_or(0, |h| h + 1);
    let mut own: Vec<Complex32> = Vec::with_capacity(sounding);
    let mut turn: Vec<Complex32> = Vec::with_capacity(sounding);
    let start = place(samples.start).1 as f32;
    for h in 0..sounding {
        own.push(Complex32::cis(q0[h] * (1.0 - start) + q1[h] * start));
        turn.push(Complex32::cis((q1[h] - q0[h]) / HOP as f32));
    }
    let mut before = start;
    for n in samples {
        *phi = (*phi + 2.0 * PI * pitch(n) / RATE) % (2.0 * PI);
        let r = place(n).1 as f32;
        let moves = r > before;
        before = r;
        let one = Complex32::new(phi.cos() as f32, phi.sin() as f32);
        let mut power = one;
        let mut sum = 0.0f32;
        for h in 0..sounding {
            if moves {
                own[h] *= turn[h];
            }
            sum += (a0[h] * (1.0 - r) + a1[h] * r) * (power.re * own[h].re - power.im * own[h].im);
            power *= one;
        }
        out[n] += sum;
    }
}

/// Log pitch of every frame, drawn straight across unvoiced stretches.
fn bridged_log_f0(frames: &[VoiceFrame]) -> Vec<f64> {
    let known: Vec<(usize, f64)> =
        frames.iter().enumerate().filter(|(_, f)| f.f0 > 0.0).map(|(t, f)| (t, f64::from(f.f0).ln())).collect();
    let mut next = 0;
    (0..frames.len())
        .map(|t| {
            while next < known.len() && known[next].0 < t {
                next += 1;
            }
            match (next.checked_sub(1).and_then(|i| known.get(i)), known.get(next)) {
                (_, Some((at, v))) if *at == t => *v,
                (Some((a, va)), Some((b, vb))) => va + (vb - va) * (t - a) as f64 / (b - a) as f64,
                (Some((_, v)), None) | (None, Some((_, v))) => *v,
                (None, None) => 5.3,
            }
        })
        .collect()
}

/// Normal noise from a counter-free generator (splitmix64 and Box-Muller): cheap, seeded, the same everywhere.
fn gaussian(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    };
    let mut out = Vec::with_capacity(n + 1);
    while out.len() < n {
        let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
        let angle = 2.0 * std::f32::consts::PI * uniform();
        out.push(radius * angle.cos());
        out.push(radius * angle.sin());
    }
    out.truncate(n);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden() -> serde_json::Value {
        serde_json::from_str(include_str!("../../tests/golden/vocoder.json")).expect("golden values")
    }

    fn numbers(v: &serde_json::Value) -> Vec<f32> {
        v.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number") as f32).collect()
    }

    /// The frames of `tests/golden/make.py`.
    fn frame(t: usize) -> VoiceFrame {
        let tf = t as f64;
        let cepstra = std::array::from_fn(|k| {
            let kf = k as f64;
            (if k == 0 { -3.0 + 0.05 * tf } else { 1.2 * (0.7 * kf + 0.11 * tf).cos() / (1.0 + kf) }) as f32
        });
        let f0 = if [0, 1, 11, 12, 13, 23].contains(&t) { 0.0 } else { 190.0 + 3.0 * t as f32 };
        VoiceFrame { cepstra, f0, aperiodicity: -14.0 + 0.3 * t as f32 }
    }

    #[test]
    fn the_voiced_part_is_the_references_sample_by_sample() {
        let frames: Vec<VoiceFrame> = (0..24).map(frame).collect();
        let vocoder = Vocoder::new();
        let curves: Vec<Curves> = frames.iter().map(|f| vocoder.curves(f)).collect();
        let ours = harmonics(&frames, &curves);
        let theirs = numbers(&golden()["harmonic"]);
        assert_eq!(ours.len(), theirs.len());
        let power = |x: &mut dyn Iterator<Item = f32>| x.map(|v| f64::from(v * v)).sum::<f64>();
        let signal = power(&mut theirs.iter().copied());
        let error = power(&mut ours.iter().zip(&theirs).map(|(a, b)| a - b));
        assert!(signal > 0.1, "the reference is not silent");
        assert!(error < 1e-4 * signal, "error {:.1} dB", 10.0 * (error / signal).log10());
    }

    #[test]
    fn the_noise_part_has_the_references_spectrum() {
        let mut one = frame(5);
        one.f0 = 0.0;
        one.aperiodicity = -10.0;
        let sound = Vocoder::new().render(&vec![one; 600], 7);
        let fft = RealFftPlanner::<f32>::new().plan_fft_forward(256);
        let mut power = [0.0f32; 129];
        for part in sound[800..800 + 256 * 88].chunks_exact(256) {
            let hann = |i: usize| 0.5 - 0.5 * (2.0 * std::f32::consts::PI * i as f32 / 255.0).cos();
            let mut time: Vec<f32> = part.iter().enumerate().map(|(i, x)| x * hann(i)).collect();
            let mut spectrum = fft.make_output_vec();
            fft.process(&mut time, &mut spectrum).expect("a transform");
            for (p, s) in power.iter_mut().zip(&spectrum) {
                *p += s.norm_sqr() / 88.0;
            }
        }
        for (i, want) in numbers(&golden()["noise_bands_db"]).into_iter().enumerate() {
            let mean = power[1 + 16 * i..17 + 16 * i].iter().sum::<f32>() / 16.0;
            let db = 10.0 * mean.log10();
            assert!((db - want).abs() < 1.0, "band {i}: {db:.1} dB, the reference has {want:.1}");
        }
    }

    #[test]
    fn odd_frames_do_no_harm() {
        let vocoder = Vocoder::new();
        assert!(vocoder.render(&[], 1).is_empty());
        assert_eq!(vocoder.render(&[frame(5)], 1).len(), HOP);
        let wild = VoiceFrame { cepstra: [0.0; CEPSTRA], f0: 3999.0, aperiodicity: 5.0 };
        assert!(vocoder.render(&[wild; 3], 1).iter().all(|s| s.is_finite()));
    }
}
