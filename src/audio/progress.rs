//! What the network plays to a caller instead of a person: ringing, busy, congestion, or music, told apart on a leg we
//! have dialled. Nothing of this is an answer: only a 200 is, and even after one a busy tone means that nobody is there.

use super::detect::{power, tone_power};
use super::{AudioFrame, FRAME_SAMPLES};

/// What is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The other phone rings.
    Ringing,
    /// The line is busy.
    Busy,
    /// The network has no way through, or has let go of the call.
    Congestion,
    /// Speech or music that is no tone: an announcement, a colour ring, or a person.
    Sound,
}

impl Progress {
    /// Whether the call has failed, before an answer or after one.
    pub const fn is_failure(self) -> bool {
        matches!(self, Progress::Busy | Progress::Congestion)
    }
}

/// Frequencies that sound in progress tones: China 450, Europe 425, North America 440 + 480 (ringing), 480 + 620 (busy).
const HERTZ: [f32; 5] = [425.0, 450.0, 440.0, 480.0, 620.0];
/// Part of a frame's sound that tones must be.
const SHARE: f32 = 0.75;
/// Softest tone: -43 dBm0, as power.
const WEAKEST: f32 = 14_000.0;
/// Frames a tone may lack (a lost packet) without ending.
const HOLES: u32 = 1;
/// Equal bursts with equal pauses in a row that make a verdict.
const BURSTS: u32 = 3;
/// Frames of other sound in the last four seconds that make it speech or music.
const SOUNDING: u32 = 50;
const WINDOW: u32 = 200;

/// Which country's tone a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One frequency, 425 or 450 Hz: the rhythm tells.
    Single,
    /// 440 + 480 Hz.
    RingingUs,
    /// 480 + 620 Hz.
    BusyUs,
}

/// What two frames hold: 20 ms alone cannot tell frequencies 40 Hz apart.
fn kind(pcm: &[i16]) -> Option<Kind> {
    let all = power(pcm);
    if all < WEAKEST {
        return None;
    }
    let p = HERTZ.map(|hz| tone_power(pcm, hz) / all);
    let pair = |a: f32, b: f32| a > 0.2 && b > 0.2 && a + b > SHARE;
    match p {
        [.., high, higher] if pair(high, higher) => Some(Kind::BusyUs),
        [.., lower, high, _] if pair(lower, high) && p[1] < SHARE => Some(Kind::RingingUs),
        [eu, cn, ..] if eu.max(cn) > SHARE => Some(Kind::Single),
        _ => None,
    }
}

/// Listens to a leg we have dialled.
#[derive(Debug, Clone)]
pub struct ProgressDetector {
    /// The frame before, and this one.
    pcm: [i16; 2 * FRAME_SAMPLES],
    /// The tone that sounds or sounded last, and its frames.
    tone: Option<(Kind, u32)>,
    /// Frames since it sounded.
    off: u32,
    /// The last burst that is over: frames on, frames off after it.
    burst: Option<(Kind, u32)>,
    /// Bursts in a row of one rhythm, and that rhythm's verdict.
    row: Option<(Progress, u32)>,
    /// Frames of other sound in this window of [`WINDOW`], and frames of it.
    other: u32,
    frames: u32,
}

impl Default for ProgressDetector {
    fn default() -> Self {
        let pcm = [0; 2 * FRAME_SAMPLES];
        ProgressDetector { pcm, tone: None, off: 0, burst: None, row: None, other: 0, frames: 0 }
    }
}

impl ProgressDetector {
    /// One that has heard nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes 20 ms; gives a verdict whenever one is complete, so the same one may come again. Ringing is known after its
    /// first whole burst, busy and congestion after three.
    pub fn push(&mut self, frame: &AudioFrame) -> Option<Progress> {
        self.pcm.copy_within(FRAME_SAMPLES.., 0);
        self.pcm[FRAME_SAMPLES..].copy_from_slice(&frame.pcm);
        let heard = kind(&self.pcm);
        let other = heard.is_none() && power(&frame.pcm) >= WEAKEST * 4.0;
        match (heard, self.tone) {
            (Some(kind), Some((last, on))) if kind == last && self.off <= HOLES => {
                self.tone = Some((kind, on + self.off + 1));
                self.off = 0;
            }
            (Some(kind), _) => {
                let verdict = self.begin(kind);
                (self.tone, self.off) = (Some((kind, 1)), 0);
                return verdict.or_else(|| self.sound(other));
            }
            (None, _) => self.off = self.off.saturating_add(1),
        }
        let ended = self.off == HOLES + 1;
        if ended && let Some((kind, on)) = self.tone {
            self.burst = Some((kind, on));
            if ringing_burst(kind, on) {
                self.row = None;
                return Some(Progress::Ringing);
            }
        }
        self.sound(other)
    }

    /// A burst begins: the one before it, with the pause between, has a rhythm.
    fn begin(&mut self, kind: Kind) -> Option<Progress> {
        let rhythm = self.burst.take().filter(|b| b.0 == kind).and_then(|(_, on)| rhythm(kind, on, self.off));
        self.row = rhythm.map(|now| match self.row {
            Some((last, count)) if last == now => (now, count + 1),
            _ => (now, 1),
        });
        self.row.filter(|(_, count)| *count >= BURSTS).map(|(verdict, _)| verdict)
    }

    fn sound(&mut self, other: bool) -> Option<Progress> {
        self.frames += 1;
        self.other += u32::from(other);
        let enough = self.other >= SOUNDING;
        if enough || self.frames >= WINDOW {
            (self.other, self.frames) = (0, 0);
        }
        if enough {
            self.row = None;
        }
        enough.then_some(Progress::Sound)
    }
}

/// Ringing is told from its burst: 0.8 to 2.2 s (China and Europe 1 s, North America 2 s).
const fn ringing_burst(kind: Kind, on: u32) -> bool {
    match kind {
        Kind::Single => on >= 43 && on <= 60,
        Kind::RingingUs => on >= 43 && on <= 110,
        Kind::BusyUs => false,
    }
}

/// Frames on and off to a verdict: China 0.35/0.35 busy and 0.7/0.7 congestion; Europe 0.5/0.5 and 0.25/0.25 or 0.2/0.2;
/// North America 0.5/0.5 and 0.25/0.25.
fn rhythm(kind: Kind, on: u32, off: u32) -> Option<Progress> {
    if on.abs_diff(off) > 4 {
        return None;
    }
    match (kind, on) {
        (Kind::RingingUs, _) => None,
        (_, 8..=14) => Some(Progress::Congestion),
        (_, 15..=28) => Some(Progress::Busy),
        (Kind::Single, 32..=39) => Some(Progress::Congestion),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Tone, ToneGenerator};
    use super::*;
    use rand::{RngExt, SeedableRng};

    fn tone(hz: [f32; 2], on_ms: u32, off_ms: u32) -> Tone {
        Tone { hz, amplitude: 3000.0, on_ms, off_ms, repeats: true }
    }

    /// The verdicts in `seconds`, each once in a row, and when the first came.
    fn verdicts(tone: Tone, seconds: u64, noise: i16) -> (Vec<Progress>, u64) {
        let (mut generator, mut detector) = (ToneGenerator::new(tone), ProgressDetector::new());
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let (mut found, mut first) = (Vec::new(), 0);
        for n in 0..seconds * 50 {
            let mut frame = generator.frame(n * FRAME_SAMPLES as u64);
            frame.pcm.iter_mut().for_each(|s| *s = s.saturating_add(rng.random_range(-noise..=noise)));
            if let Some(verdict) = detector.push(&frame) {
                first = if found.is_empty() { n * 20 } else { first };
                found.push(verdict);
            }
        }
        found.dedup();
        (found, first)
    }

    #[test]
    fn each_tone_of_three_countries_is_what_it_means() {
        use Progress::{Busy, Congestion, Ringing};
        for (hz, on, off, wanted) in [
            ([450.0, 0.0], 350, 350, Busy),
            ([450.0, 0.0], 700, 700, Congestion),
            ([450.0, 0.0], 1000, 4000, Ringing),
            ([425.0, 0.0], 500, 500, Busy),
            ([425.0, 0.0], 250, 250, Congestion),
            ([425.0, 0.0], 1000, 4000, Ringing),
            ([480.0, 620.0], 500, 500, Busy),
            ([480.0, 620.0], 250, 250, Congestion),
            ([440.0, 480.0], 2000, 4000, Ringing),
        ] {
            for noise in [0, 200] {
                let (found, first) = verdicts(tone(hz, on, off), 20, noise);
                assert_eq!(found, [wanted], "{hz:?} {on}/{off}");
                assert!(first < 6000, "{hz:?} {on}/{off}: known after {first} ms");
            }
        }
    }

    #[test]
    fn music_is_neither_an_answer_nor_a_failure() {
        let mut detector = ProgressDetector::new();
        let scale = [300.0, 392.0, 450.0, 523.0, 660.0, 450.0, 784.0, 350.0];
        let mut found = Vec::new();
        for n in 0..3000usize {
            let mut frame = ToneGenerator::new(Tone::sine(scale[n / 15 % 8], 4000.0)).frame(0);
            let above = ToneGenerator::new(Tone::sine(scale[n / 15 % 8] * 2.5, 3000.0)).frame(0);
            frame.pcm.iter_mut().zip(above.pcm).for_each(|(a, b)| *a += b);
            found.extend(detector.push(&frame));
        }
        assert!(!found.is_empty() && found.iter().all(|f| *f == Progress::Sound), "{found:?}");
        assert!(!Progress::Sound.is_failure() && !Progress::Ringing.is_failure());
    }

    #[test]
    fn silence_dial_tone_and_keys_say_nothing() {
        for quiet in [Tone::sine(450.0, 4000.0), Tone::sine(450.0, 0.0), tone([450.0, 0.0], 100, 900)] {
            assert_eq!(verdicts(quiet, 20, 0).0, [], "{quiet:?}");
        }
    }
}
