//! Sounds that are made, not spoken: ringback, the music of waiting, the tone before a recording.
//!
//! Every frequency here is a multiple of 50 Hz, so 20 ms hold whole periods and one table of a frame serves for ever.

use crate::audio::{AudioFrame, FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE};
use std::f32::consts::TAU;
use std::sync::{Arc, LazyLock};

/// What the caller hears while nobody speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// A distant phone rings: 450 Hz, 1 s on, 4 s off (the Chinese ringback, ITU-T E.180), soft.
    Ringback,
    /// Please hold: a slow soft chime.
    Waiting,
}

const RING: usize = 0;
/// Frequencies of the tables: the ringback, then the chime's notes.
const HERTZ: [u32; 5] = [450, 400, 500, 600, 800];
/// Peak of a table.
const PEAK: f32 = 3000.0;
/// Milliseconds of one note of the chime.
const NOTE_MS: u64 = 600;
/// The chime: table numbers, one note each; 0 is a rest.
const CHIME: [usize; 12] = [1, 2, 3, 4, 3, 2, 0, 1, 3, 2, 1, 0];

static TABLES: LazyLock<[[i16; FRAME_SAMPLES]; HERTZ.len()]> = LazyLock::new(|| HERTZ.map(table));

/// The tone before a recording: 1000 Hz, 300 ms, then 100 ms of silence.
pub static BEEP: LazyLock<Arc<[i16]>> = LazyLock::new(|| {
    let wave = table(1000);
    let loud = wave.iter().cycle().take(FRAME_SAMPLES * 15).copied();
    loud.chain(std::iter::repeat_n(0, FRAME_SAMPLES * 5)).collect()
});

fn table(hertz: u32) -> [i16; FRAME_SAMPLES] {
    std::array::from_fn(|n| (PEAK * (TAU * (hertz * n as u32) as f32 / SAMPLE_RATE as f32).sin()) as i16)
}

/// The frame of a piece of music (not empty) that is played again and again.
pub fn music(pcm: &[i16], at: u64, frames: u64) -> AudioFrame {
    let mut frame = AudioFrame::silence(at);
    let from = (frames % pcm.len() as u64) as usize * FRAME_SAMPLES % pcm.len();
    for (to, sample) in frame.pcm.iter_mut().zip(pcm[from..].iter().chain(pcm.iter().cycle())) {
        *to = *sample;
    }
    frame
}

impl Tone {
    /// The frame of this tone that begins `elapsed_ms` after the tone's start.
    pub fn frame(self, at: u64, elapsed_ms: u64) -> AudioFrame {
        let mut frame = AudioFrame::silence(at);
        let tables = &*TABLES;
        match self {
            Tone::Ringback if elapsed_ms % 5000 < 1000 => frame.pcm = tables[RING],
            Tone::Ringback => {}
            Tone::Waiting => {
                let note = CHIME[(elapsed_ms / NOTE_MS) as usize % CHIME.len()];
                if note != 0 {
                    let from = gain(elapsed_ms % NOTE_MS);
                    let to = gain(elapsed_ms % NOTE_MS + FRAME_MS);
                    for (n, (out, wave)) in frame.pcm.iter_mut().zip(&tables[note]).enumerate() {
                        let level = from + (to - from) * n as i32 / FRAME_SAMPLES as i32;
                        *out = (i32::from(*wave) * level / 256) as i16;
                    }
                }
            }
        }
        frame
    }
}

/// Loudness within a note, 0..=256: swells for 60 ms, then dies away.
fn gain(ms: u64) -> i32 {
    let ms = ms.min(NOTE_MS) as i32;
    if ms < 60 { ms * 160 / 60 } else { (NOTE_MS as i32 - ms) * 160 / (NOTE_MS as i32 - 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ringback_is_a_second_on_and_four_off() {
        let heard: Vec<bool> = (0..10).map(|s| Tone::Ringback.frame(0, s * 1000 + 20).rms() > 100.0).collect();
        assert_eq!(heard, [true, false, false, false, false, true, false, false, false, false]);
    }

    #[test]
    fn waiting_is_never_silent_for_longer_than_a_second() {
        let (mut quiet, mut longest) = (0, 0);
        for n in 0..1000 {
            quiet = if Tone::Waiting.frame(0, n * 20).rms() > 20.0 { 0 } else { quiet + 20 };
            longest = longest.max(quiet);
        }
        assert!(longest <= 1000, "{longest} ms of silence");
    }

    #[test]
    fn notes_begin_and_end_without_a_click() {
        let mut last = 0i32;
        for n in 0..2000u64 {
            for sample in Tone::Waiting.frame(0, n * 20).pcm {
                assert!((i32::from(sample) - last).abs() < 1500, "a jump at {} ms", n * 20);
                last = i32::from(sample);
            }
        }
    }
}
