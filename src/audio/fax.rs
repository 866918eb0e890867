//! Fax machines by their tones (ITU-T T.30): one that calls sends 1100 Hz for half a second every three seconds and a half
//! (CNG); one that is called answers with 2100 Hz for 2.6 to 4 s (CED).

use super::AudioFrame;
use super::detect::{power, tone_power};

/// Which tone was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaxTone {
    /// A fax machine that calls (CNG).
    Calling,
    /// A fax machine that answers (CED); modems and some echo switches send it too.
    Answering,
}

/// CNG: 1100 Hz, give or take 38 (T.30, 4.1.1).
const CNG: [f32; 3] = [1070.0, 1100.0, 1130.0];
/// CED: 2100 Hz, give or take 15 (T.30, 4.1.2).
const CED: [f32; 1] = [2100.0];
/// Part of a frame's sound that the tone must be.
const SHARE: f32 = 0.75;
/// Softest tone: -43 dBm0, as power.
const WEAKEST: f32 = 14_000.0;
/// Length of one CNG burst, in frames: 0.5 s give or take 15 %, and a frame at either end.
const BURST: std::ops::RangeInclusive<u32> = 20..=31;
/// Silence between two bursts, in frames: 3 s give or take 15 %.
const PAUSE: std::ops::RangeInclusive<u32> = 122..=178;
/// CED is known after this many frames (1.5 s): nobody whistles so steadily.
const CED_FRAMES: u32 = 75;
/// Frames without the tone inside it that a lost packet may cost.
const HOLES: u32 = 2;

/// A tone that lasts.
#[derive(Debug, Clone, Copy, Default)]
struct Lasting {
    /// Frames of it, holes included.
    on: u32,
    /// Frames since it was heard.
    off: u32,
}

impl Lasting {
    /// Takes a frame; gives the length of a tone that has just ended.
    fn push(&mut self, there: bool) -> Option<u32> {
        if there {
            self.on = if self.off > HOLES { 1 } else { self.on + self.off + 1 };
            self.off = 0;
            return None;
        }
        self.off = self.off.saturating_add(1);
        (self.off == HOLES + 1).then_some(self.on)
    }
}

/// Listens for a fax machine. Tells once.
#[derive(Debug, Clone, Default)]
pub struct FaxDetector {
    cng: Lasting,
    ced: Lasting,
    /// A burst that was long enough has been heard.
    burst: bool,
    told: bool,
}

impl FaxDetector {
    /// One that has heard nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes 20 ms. A calling machine is known at its second burst (after about four seconds), an answering one after
    /// one and a half seconds.
    pub fn push(&mut self, frame: &AudioFrame) -> Option<FaxTone> {
        if self.told {
            return None;
        }
        let all = power(&frame.pcm);
        let is = |hz: &[f32]| all >= WEAKEST && hz.iter().any(|&hz| tone_power(&frame.pcm, hz) >= SHARE * all);
        let heard = self.calling(is(&CNG)).or_else(|| self.answering(is(&CED)));
        self.told = heard.is_some();
        heard
    }

    fn calling(&mut self, there: bool) -> Option<FaxTone> {
        let paused = self.cng.off;
        let ended = self.cng.push(there);
        if let Some(length) = ended {
            let right = BURST.contains(&length);
            if right && self.burst {
                return Some(FaxTone::Calling);
            }
            self.burst = right;
        }
        // The second burst must come after its pause, not sooner and not later.
        if self.burst && there && self.cng.on == 1 && !PAUSE.contains(&paused) || self.cng.off > *PAUSE.end() {
            self.burst = false;
        }
        None
    }

    fn answering(&mut self, there: bool) -> Option<FaxTone> {
        self.ced.push(there);
        (there && self.ced.on >= CED_FRAMES).then_some(FaxTone::Answering)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FRAME_SAMPLES, Tone, ToneGenerator};
    use super::*;
    use rand::{RngExt, SeedableRng};

    fn tone(hz: f32, on_ms: u32, off_ms: u32) -> Tone {
        Tone { hz: [hz, 0.0], amplitude: 3000.0, on_ms, off_ms, repeats: true }
    }

    /// When something is told, in milliseconds, and what.
    fn told(tone: Tone, seconds: u64, mut change: impl FnMut(u64, &mut AudioFrame)) -> Option<(u64, FaxTone)> {
        let (mut generator, mut detector) = (ToneGenerator::new(tone), FaxDetector::new());
        let mut found = None;
        for n in 0..seconds * 50 {
            let mut frame = generator.frame(n * FRAME_SAMPLES as u64);
            change(n, &mut frame);
            if let Some(what) = detector.push(&frame) {
                assert!(found.is_none(), "told twice");
                found = Some((n * 20, what));
            }
        }
        found
    }

    #[test]
    fn a_calling_machine_is_known_at_its_second_burst() {
        for (hz, on, off) in [(1100.0, 500, 3000), (1064.0, 440, 3400), (1136.0, 570, 2600)] {
            let (at, what) = told(tone(hz, on, off), 15, |_, _| {}).unwrap_or_else(|| panic!("{hz} {on} {off}"));
            assert_eq!(what, FaxTone::Calling);
            assert!((3000..5000).contains(&at), "{at} ms");
        }
    }

    #[test]
    fn an_answering_machine_is_known_within_two_seconds_and_through_a_lost_packet() {
        for hz in [2088.0, 2100.0, 2112.0] {
            let (at, what) = told(tone(hz, 3000, 1000), 5, |n, f| {
                if n == 20 {
                    f.pcm.fill(0);
                }
            })
            .unwrap();
            assert!(what == FaxTone::Answering && at < 2000, "{at}");
        }
    }

    #[test]
    fn other_tones_are_no_fax() {
        for other in [
            tone(1100.0, 200, 200),
            tone(1100.0, 1000, 1000),
            tone(1000.0, 500, 3000),
            tone(1200.0, 500, 3000),
            tone(2100.0, 900, 900),
            tone(2040.0, 3000, 1000),
            Tone::ringback(),
            Tone::busy(),
            Tone::sine(1100.0, 4000.0),
        ] {
            assert_eq!(told(other, 20, |_, _| {}), None, "{other:?}");
        }
    }

    #[test]
    fn noise_and_a_burst_in_speech_are_no_fax() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let noisy = |_: u64, f: &mut AudioFrame| f.pcm.iter_mut().for_each(|s| *s = rng.random_range(-8000..8000));
        assert_eq!(told(tone(1100.0, 500, 3000), 60, noisy), None);
        let once = |n: u64, f: &mut AudioFrame| {
            if n > 30 {
                f.pcm.fill(0);
            }
        };
        assert_eq!(told(tone(1100.0, 500, 3000), 60, once), None, "one burst alone");
    }
}
