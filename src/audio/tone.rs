//! Tones made rather than played: keys, call progress, test sines.

use super::{AudioFrame, FRAME_SAMPLES, SAMPLE_RATE};

/// Row frequencies of the key pad in Hz (ITU-T Q.23).
pub const DTMF_ROWS: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
/// Column frequencies of the key pad in Hz (ITU-T Q.23).
pub const DTMF_COLUMNS: [f32; 4] = [1209.0, 1336.0, 1477.0, 1633.0];
/// Keys by row and column.
pub const DTMF_KEYS: [[char; 4]; 4] =
    [['1', '2', '3', 'A'], ['4', '5', '6', 'B'], ['7', '8', '9', 'C'], ['*', '0', '#', 'D']];

/// Amplitude of each tone of a key: about -10 dBm0 a tone, so that both together stay clear of clipping.
const KEY_AMPLITUDE: f32 = 7000.0;
/// Amplitude of call progress tones: about -13 dBm0.
const PROGRESS_AMPLITUDE: f32 = 5000.0;

/// What to sound: one or two frequencies, on and off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tone {
    /// Frequencies in Hz, 0 < f < 4000; 0 for none.
    pub hz: [f32; 2],
    /// Peak of each frequency, 0..=16000.
    pub amplitude: f32,
    /// Milliseconds of sound.
    pub on_ms: u32,
    /// Milliseconds of silence after it; with 0 the sound does not stop.
    pub off_ms: u32,
    /// Whether on and off repeat.
    pub repeats: bool,
}

impl Tone {
    /// A key in-band: 100 ms on, 60 ms off, once. None for what is not on the pad.
    pub fn key(key: char) -> Option<Tone> {
        let key = key.to_ascii_uppercase();
        let (row, column) =
            (0..4).find_map(|row| (0..4).find(|&column| DTMF_KEYS[row][column] == key).map(|c| (row, c)))?;
        let hz = [DTMF_ROWS[row], DTMF_COLUMNS[column]];
        Some(Tone { hz, amplitude: KEY_AMPLITUDE, on_ms: 100, off_ms: 60, repeats: false })
    }

    /// Ringback as heard in China (GF 002): 450 Hz, 1 s on, 4 s off.
    pub const fn ringback() -> Tone {
        Tone { hz: [450.0, 0.0], amplitude: PROGRESS_AMPLITUDE, on_ms: 1000, off_ms: 4000, repeats: true }
    }

    /// Busy as heard in China: 450 Hz, 350 ms on, 350 ms off.
    pub const fn busy() -> Tone {
        Tone { hz: [450.0, 0.0], amplitude: PROGRESS_AMPLITUDE, on_ms: 350, off_ms: 350, repeats: true }
    }

    /// A lasting sine, for tests and line checks.
    pub const fn sine(hz: f32, amplitude: f32) -> Tone {
        Tone { hz: [hz, 0.0], amplitude, on_ms: 1000, off_ms: 0, repeats: true }
    }
}

/// Makes a [`Tone`] sample by sample; goes on where it left off.
#[derive(Debug, Clone)]
pub struct ToneGenerator {
    tone: Tone,
    /// Samples made so far.
    made: u64,
    oscillators: [Oscillator; 2],
}

impl ToneGenerator {
    /// A generator at the tone's start.
    pub fn new(tone: Tone) -> Self {
        let oscillators = tone.hz.map(|hz| Oscillator::new(hz, tone.amplitude));
        ToneGenerator { tone, made: 0, oscillators }
    }

    /// Whether a tone that does not repeat has ended, its silence included.
    pub fn ended(&self) -> bool {
        !self.tone.repeats && self.made >= self.samples(self.tone.on_ms) + self.samples(self.tone.off_ms)
    }

    /// Overwrites `out` with what comes next.
    pub fn fill(&mut self, out: &mut [i16]) {
        let on = self.samples(self.tone.on_ms);
        let off = self.samples(self.tone.off_ms);
        for sample in out {
            let place = if self.tone.repeats { self.made % (on + off).max(1) } else { self.made };
            let sounds = if self.tone.repeats && off == 0 { true } else { place < on };
            if sounds {
                if place == 0 && off > 0 {
                    self.oscillators = self.tone.hz.map(|hz| Oscillator::new(hz, self.tone.amplitude));
                }
                let sum: f64 = self.oscillators.iter_mut().map(Oscillator::next).sum();
                *sample = sum.clamp(-32768.0, 32767.0) as i16;
            } else {
                *sample = 0;
            }
            self.made += 1;
        }
    }

    /// The next 20 ms.
    pub fn frame(&mut self, at: u64) -> AudioFrame {
        let mut frame = AudioFrame { at, pcm: [0; FRAME_SAMPLES] };
        self.fill(&mut frame.pcm);
        frame
    }

    fn samples(&self, ms: u32) -> u64 {
        u64::from(ms) * u64::from(SAMPLE_RATE) / 1000
    }
}

/// A sine by the recursion y[n] = 2 cos(w) y[n-1] - y[n-2]: two operations a sample.
#[derive(Debug, Clone)]
struct Oscillator {
    factor: f64,
    last: f64,
    before: f64,
}

impl Oscillator {
    fn new(hz: f32, amplitude: f32) -> Self {
        let turn = std::f64::consts::TAU * f64::from(hz) / f64::from(SAMPLE_RATE);
        let amplitude = f64::from(amplitude);
        Oscillator { factor: 2.0 * turn.cos(), last: -turn.sin() * amplitude, before: -(2.0 * turn).sin() * amplitude }
    }

    fn next(&mut self) -> f64 {
        let now = self.factor * self.last - self.before;
        self.before = self.last;
        self.last = now;
        now
    }
}

#[cfg(test)]
mod tests {
    use super::super::detect::{dtmf_key, power, tone_power};
    use super::*;

    #[test]
    fn every_key_sounds_as_itself() {
        for key in "0123456789*#ABCD".chars() {
            let mut pcm = [0; 1280];
            let mut generator = ToneGenerator::new(Tone::key(key).unwrap());
            generator.fill(&mut pcm);
            assert_eq!(dtmf_key(&pcm[..800]), Some(key));
            assert!(pcm[800..].iter().all(|&s| s == 0), "{key} stops after 100 ms");
            assert!(generator.ended());
        }
        assert!(Tone::key('x').is_none());
    }

    #[test]
    fn ringback_sounds_one_second_in_five() {
        let mut generator = ToneGenerator::new(Tone::ringback());
        let loud: Vec<bool> = (0..500).map(|i| power(&generator.frame(i * 160).pcm) > 1.0e6).collect();
        for (i, &loud) in loud.iter().enumerate() {
            assert_eq!(loud, i % 250 < 50, "frame {i}");
        }
    }

    #[test]
    fn a_sine_keeps_its_level_for_ten_minutes() {
        let mut generator = ToneGenerator::new(Tone::sine(1004.0, 8000.0));
        let mut frame = generator.frame(0);
        for i in 1..30_000 {
            frame = generator.frame(i * 160);
        }
        let power = tone_power(&frame.pcm, 1004.0);
        assert!((power / 32.0e6 - 1.0).abs() < 0.1, "{power}");
    }
}
