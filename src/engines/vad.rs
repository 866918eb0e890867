//! Voice activity by `earshot`: a small network at 16 kHz, behind an energy gate.

use crate::audio::{AudioFrame, FRAME_SAMPLES};
use crate::speech::Vad;
use earshot::Detector;

/// Below this RMS (of 32768; -66 dB) a frame is silence, whatever is in it.
const FLOOR: f32 = 16.0;
/// Quiet frames before the network rests.
const PATIENCE: u32 = 5;
/// Samples the network takes at once (16 ms at 16 kHz).
const CHUNK: usize = 256;
/// Taps of the interpolating half-band filter, on each side of the new sample.
const HALF: usize = 6;
/// Its odd coefficients (a Hann-windowed sinc; the even ones are zero and one).
const TAPS: [f32; HALF] = half_band();

/// `sin(pi(k+1/2))/(pi(k+1/2))` is (-1)^k/(pi(k+1/2)); the window is Hann over 2*HALF half samples.
const fn half_band() -> [f32; HALF] {
    // cos^2(pi (k + 1/2) / (2 HALF)), k = 0..6, since `cos` is not const.
    let window = [0.982_963, 0.853_553_4, 0.629_409_5, 0.370_590_5, 0.146_446_6, 0.017_037_1];
    let mut taps = [0.0; HALF];
    let mut sum = 0.0;
    let mut k = 0;
    while k < HALF {
        let sign = if k % 2 == 0 { 1.0 } else { -1.0 };
        taps[k] = sign * window[k] / (std::f32::consts::PI * (k as f32 + 0.5));
        sum += 2.0 * taps[k];
        k += 1;
    }
    k = 0;
    while k < HALF {
        taps[k] /= sum;
        k += 1;
    }
    taps
}

/// The detector of one leg.
pub struct EarshotVad {
    detector: Box<Detector>,
    /// The last `2 * HALF` samples at 8 kHz.
    tail: [f32; 2 * HALF],
    /// Samples at 16 kHz that do not fill a chunk yet.
    waiting: Vec<f32>,
    score: f32,
    quiet: u32,
}

impl Default for EarshotVad {
    fn default() -> Self {
        Self::new()
    }
}

impl EarshotVad {
    /// A fresh detector.
    pub fn new() -> Self {
        EarshotVad {
            detector: Box::new(Detector::default()),
            tail: [0.0; 2 * HALF],
            waiting: Vec::with_capacity(2 * CHUNK),
            score: 0.0,
            quiet: PATIENCE,
        }
    }

    /// Appends a frame at twice the rate: every sample, and one interpolated after it.
    fn upsample(&mut self, pcm: &[i16; FRAME_SAMPLES]) {
        let mut x = [0.0f32; FRAME_SAMPLES + 2 * HALF];
        x[..2 * HALF].copy_from_slice(&self.tail);
        for (o, s) in x[2 * HALF..].iter_mut().zip(pcm) {
            *o = f32::from(*s) / 32768.0;
        }
        for i in HALF..FRAME_SAMPLES + HALF {
            let between: f32 = TAPS.iter().enumerate().map(|(k, c)| c * (x[i - k] + x[i + 1 + k])).sum();
            self.waiting.push(x[i]);
            self.waiting.push(between.clamp(-1.0, 1.0));
        }
        self.tail.copy_from_slice(&x[FRAME_SAMPLES..]);
    }
}

impl Vad for EarshotVad {
    fn speech(&mut self, frame: &AudioFrame) -> f32 {
        if frame.rms() < FLOOR {
            self.quiet = self.quiet.saturating_add(1);
            if self.quiet > PATIENCE {
                return 0.0;
            }
            if self.quiet == PATIENCE {
                // Silence cleans the memory too, so that speech begins on a fresh page.
                self.reset();
                return 0.0;
            }
        } else {
            self.quiet = 0;
        }
        self.upsample(&frame.pcm);
        let whole = self.waiting.len() / CHUNK * CHUNK;
        // The higher of the chunks that end in this frame: 16 ms of speech in a frame is speech.
        let mut best: Option<f32> = None;
        for chunk in self.waiting[..whole].chunks_exact(CHUNK) {
            let p = self.detector.predict_f32(chunk).clamp(0.0, 1.0);
            best = Some(best.map_or(p, |b: f32| b.max(p)));
        }
        self.waiting.drain(..whole);
        self.score = best.unwrap_or(self.score);
        self.score
    }

    fn reset(&mut self) {
        self.detector.reset();
        self.tail = [0.0; 2 * HALF];
        self.waiting.clear();
        self.score = 0.0;
        self.quiet = PATIENCE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::builtin;
    use crate::speech::{Lang, SpeechRequest, Synthesizer};

    fn frames(pcm: &[i16]) -> Vec<AudioFrame> {
        pcm.as_chunks::<FRAME_SAMPLES>()
            .0
            .iter()
            .enumerate()
            .map(|(i, c)| AudioFrame { at: i as u64 * 160, pcm: *c })
            .collect()
    }

    fn speech() -> Vec<i16> {
        let request = SpeechRequest {
            text: "我要查订单".into(),
            lang: Lang::Zh,
            rate: 1.0,
            pitch: 1.0,
            audio: None,
            personal: false,
        };
        let mut out = Vec::new();
        builtin::voice()
            .expect("a voice")
            .speak(&request, &mut |p| {
                out.extend(p);
                true
            })
            .expect("spoken");
        out
    }

    fn share(vad: &mut EarshotVad, pcm: &[i16]) -> f32 {
        let all: Vec<f32> = frames(pcm).iter().map(|f| vad.speech(f)).collect();
        assert!(all.iter().all(|p| (0.0..=1.0).contains(p)));
        all.iter().filter(|p| **p > 0.5).count() as f32 / all.len() as f32
    }

    #[test]
    fn speech_is_speech_and_noise_is_not() {
        let mut vad = EarshotVad::new();
        assert_eq!(share(&mut vad, &[0; 8000]), 0.0);
        let said = speech();
        let voiced = &said[..said.len() - 3400];
        assert!(share(&mut vad, voiced) > 0.6);
        vad.reset();
        let mut seed = 1u32;
        let hiss: Vec<i16> = (0..16000)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((seed >> 16) as i32 - 32768) as i16 / 100
            })
            .collect();
        assert!(share(&mut vad, &hiss) < 0.1);
    }

    #[test]
    fn speech_after_silence_is_noticed_at_once() {
        let mut vad = EarshotVad::new();
        share(&mut vad, &[0; 8000]);
        let said = speech();
        let first = frames(&said).iter().position(|f| vad.speech(f) > 0.5).expect("noticed");
        assert!(first < 12, "{first} frames late");
    }

    #[test]
    fn doubling_the_rate_keeps_a_tone() {
        let mut vad = EarshotVad::new();
        let tone: Vec<i16> =
            (0..1600).map(|i| (8000.0 * (i as f32 * 1000.0 * std::f32::consts::TAU / 8000.0).sin()) as i16).collect();
        for f in frames(&tone) {
            vad.upsample(&f.pcm);
        }
        let out = vad.waiting.clone();
        assert_eq!(out.len(), 3200);
        for (i, s) in out.iter().enumerate().skip(100) {
            let want =
                8000.0 / 32768.0 * ((i as f32 / 2.0 - HALF as f32) * 1000.0 * std::f32::consts::TAU / 8000.0).sin();
            assert!((s - want).abs() < 0.003, "{i}: {s} {want}");
        }
    }
}
