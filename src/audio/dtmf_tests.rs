//! Keys in the sound: what ITU-T Q.24 asks of a detector, and speech that must not talk it into keys.

use super::{DtmfDetector, Law, Tone, ToneGenerator, wav};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::{Path, PathBuf};

const KEYS: &str = "0123456789*#ABCD";
/// A sine of full scale (ITU-T G.711).
const FULL_SCALE_DBM0: f32 = 3.17;

/// How a key is played: levels in dBm0 for each tone, frequencies off by a part, silence and tones in samples.
#[derive(Debug, Clone, Copy)]
struct Played {
    key: char,
    row_dbm0: f32,
    column_dbm0: f32,
    row_off: f32,
    column_off: f32,
    before: usize,
    length: usize,
}

impl Played {
    fn new(key: char) -> Self {
        let (row_off, column_off) = (0.0, 0.0);
        Played { key, row_dbm0: -10.0, column_dbm0: -10.0, row_off, column_off, before: 400, length: 640 }
    }

    fn add_to(self, pcm: &mut Vec<i16>) {
        let [low, high] = Tone::key(self.key).unwrap().hz;
        let (low, high) = (low * (1.0 + self.row_off), high * (1.0 + self.column_off));
        let amplitude = |dbm0: f32| 32767.0 * 10f32.powf((dbm0 - FULL_SCALE_DBM0) / 20.0);
        let (a, b) = (amplitude(self.row_dbm0), amplitude(self.column_dbm0));
        pcm.extend(std::iter::repeat_n(0, self.before));
        pcm.extend((0..self.length).map(|n| {
            let sum = a * (radians(low) * n as f32).sin() + b * (radians(high) * n as f32 + 1.0).sin();
            sum.clamp(-32768.0, 32767.0) as i16
        }));
    }
}

/// Radians that a frequency turns in one sample.
fn radians(hz: f32) -> f32 {
    std::f32::consts::TAU * hz / 8000.0
}

/// Through A-law, as on a line, in frames.
fn heard(pcm: &[i16]) -> String {
    let mut detector = DtmfDetector::new();
    let (mut codes, mut decoded) = (Vec::new(), Vec::new());
    Law::A.encode(pcm, &mut codes);
    Law::A.decode(&codes, &mut decoded);
    decoded.resize(pcm.len() + 800, 0);
    decoded.chunks(160).filter_map(|frame| detector.push(frame)).collect()
}

fn heard_key(played: Played) -> String {
    let mut pcm = Vec::new();
    played.add_to(&mut pcm);
    heard(&pcm)
}

#[test]
fn forty_milliseconds_are_a_key_and_twenty_are_none() {
    for key in KEYS.chars() {
        for before in (400..560).step_by(7) {
            let played = Played { before, ..Played::new(key) };
            assert_eq!(heard_key(Played { length: 320, ..played }), key.to_string(), "40 ms, after {before}");
            assert_eq!(heard_key(Played { length: 160, ..played }), "", "20 ms of {key}, after {before}");
        }
    }
}

#[test]
fn the_columns_may_be_four_decibels_louder_and_eight_softer_than_the_rows() {
    for key in KEYS.chars() {
        for (twist, taken) in [(4.0, true), (-8.0, true), (8.0, false), (-13.0, false)] {
            let (row_dbm0, column_dbm0) = if twist > 0.0 { (-10.0 - twist, -10.0) } else { (-10.0, -10.0 + twist) };
            let got = heard_key(Played { row_dbm0, column_dbm0, ..Played::new(key) });
            assert_eq!(got == key.to_string(), taken, "{key} at {twist} dB: {got:?}");
        }
    }
}

#[test]
fn frequencies_may_be_one_and_a_half_percent_off_and_not_three_and_a_half() {
    for key in KEYS.chars() {
        for (row_off, column_off) in [(0.015, 0.015), (-0.015, 0.015), (0.015, -0.015), (-0.015, -0.015)] {
            let played = Played { row_off, column_off, length: 400, ..Played::new(key) };
            assert_eq!(heard_key(played), key.to_string(), "{row_off} {column_off}");
        }
        for (row_off, column_off) in [(0.035, 0.0), (-0.035, 0.0), (0.0, 0.035), (0.0, -0.035)] {
            assert_eq!(
                heard_key(Played { row_off, column_off, ..Played::new(key) }),
                "",
                "{key} {row_off} {column_off}"
            );
        }
    }
}

#[test]
fn levels_from_thirty_four_below_to_loud_are_heard_and_very_soft_ones_are_not() {
    for key in KEYS.chars() {
        for (dbm0, taken) in [(-34.0, true), (-25.0, true), (-4.0, true), (-45.0, false)] {
            let got = heard_key(Played { row_dbm0: dbm0, column_dbm0: dbm0, ..Played::new(key) });
            assert_eq!(got == key.to_string(), taken, "{key} at {dbm0} dBm0: {got:?}");
        }
    }
}

#[test]
fn a_break_of_ten_milliseconds_is_one_press_and_of_forty_two() {
    for (gap, presses) in [(80, 1), (160, 1), (320, 2), (480, 2)] {
        let mut pcm = Vec::new();
        Played { length: 480, ..Played::new('5') }.add_to(&mut pcm);
        Played { before: gap, length: 480, ..Played::new('5') }.add_to(&mut pcm);
        assert_eq!(heard(&pcm).len(), presses, "{gap} samples apart");
    }
}

#[test]
fn a_fast_row_of_keys_is_heard_whole_at_fifteen_decibels_over_noise() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let dialled: String = (0..300).map(|_| KEYS.as_bytes()[rng.random_range(0..16)] as char).collect();
    let mut pcm = Vec::new();
    for key in dialled.chars() {
        // 50 ms on, 50 ms off: ten keys a second.
        let off = |rng: &mut ChaCha8Rng| rng.random_range(-0.01..0.01);
        let (row_off, column_off) = (off(&mut rng), off(&mut rng));
        let row_dbm0 = -10.0 + rng.random_range(-3.0..4.0);
        Played { row_off, column_off, row_dbm0, before: 400, length: 400, ..Played::new(key) }.add_to(&mut pcm);
    }
    // Each tone about 7000 high: 15 dB below is a noise of 880 RMS.
    for sample in &mut pcm {
        let noise: f32 = (0..12).map(|_| rng.random_range(-0.5f32..0.5)).sum();
        *sample = sample.saturating_add((noise * 880.0) as i16);
    }
    assert_eq!(heard(&pcm), dialled);
}

#[test]
fn progress_tones_sines_and_noise_are_no_keys() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let mut pcm = vec![0; 8000 * 5];
    for tone in [Tone::busy(), Tone::ringback(), Tone::sine(1000.0, 9000.0), Tone::sine(697.0, 9000.0)] {
        ToneGenerator::new(tone).fill(&mut pcm);
        assert_eq!(heard(&pcm), "");
    }
    let pcm: Vec<i16> = (0..8000 * 60).map(|_| rng.random_range(-9000..9000)).collect();
    assert_eq!(heard(&pcm), "");
}

#[test]
fn our_own_generator_is_understood_key_by_key() {
    for key in KEYS.chars() {
        let mut pcm = vec![0; 1600];
        ToneGenerator::new(Tone::key(key).unwrap()).fill(&mut pcm);
        assert_eq!(heard(&pcm), key.to_string());
    }
}

proptest! {
    /// Any sound at any split: the same keys, and never a panic.
    #[test]
    fn how_the_sound_is_cut_does_not_matter(pcm in prop::collection::vec(any::<i16>(), 0..4000), at in 1usize..160) {
        let (mut whole, mut cut) = (DtmfDetector::new(), DtmfDetector::new());
        let a: String = pcm.chunks(160).filter_map(|f| whole.push(f)).collect();
        let b: String = pcm.chunks(at).filter_map(|f| cut.push(f)).collect();
        prop_assert_eq!(a, b);
    }
}

fn shared() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    ["../shared", "../../shared"].map(|up| root.join(up).join("data")).into_iter().find(|d| d.is_dir())
}

fn wavs(folder: &Path, into: &mut Vec<PathBuf>) {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    found.sort();
    for path in found {
        if path.is_dir() {
            wavs(&path, into);
        } else if path.extension().is_some_and(|e| e == "wav") {
            into.push(path);
        }
    }
}

/// Keys heard in files, by file, and their minutes of sound.
fn keys_in(files: &[PathBuf]) -> (Vec<(String, String)>, f64) {
    let (mut found, mut samples) = (Vec::new(), 0usize);
    for path in files {
        let Some(pcm) = std::fs::File::open(path).ok().and_then(|f| wav::read(std::io::BufReader::new(f)).ok()) else {
            continue;
        };
        samples += pcm.len();
        let keys = heard(&pcm);
        if !keys.is_empty() {
            found.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), keys));
        }
    }
    (found, samples as f64 / 8000.0 / 60.0)
}

#[test]
fn speech_talks_off_less_than_once_in_ten_minutes() {
    let Some(data) = shared() else {
        return crate::skip::skipped("no ../shared/data: no speech to test talk-off with");
    };
    let mut files = Vec::new();
    for folder in ["speech", "calls/prompts", "calls/noise"] {
        wavs(&data.join(folder), &mut files);
    }
    let (found, minutes) = keys_in(&files);
    let keys: usize = found.iter().map(|(_, keys)| keys.len()).sum();
    println!("{keys} false keys in {minutes:.1} minutes of speech: {found:?}");
    assert!(minutes > 5.0, "{minutes} minutes");
    assert!((keys as f64) < minutes / 10.0, "{found:?}");
}

#[test]
fn recorded_keys_are_heard_as_what_they_are() {
    let Some(data) = shared() else {
        return crate::skip::skipped("no ../shared/data: no recorded keys");
    };
    let mut files = Vec::new();
    wavs(&data.join("calls/dtmf"), &mut files);
    assert_eq!(files.len(), 12);
    let (found, _) = keys_in(&files);
    for (name, keys) in &found {
        let named = name.trim_start_matches("pipecat_dtmf-").trim_end_matches(".wav");
        let wanted = match named {
            "pound" => "#",
            "star" => "*",
            digit => digit,
        };
        assert_eq!(keys, wanted, "{name}");
    }
    assert_eq!(found.len(), 12, "{found:?}");
}
