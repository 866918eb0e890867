//! What was heard: how much of it is a tone, and how loud.

use std::path::Path;
use zongji::audio::detect::{power, tone_power};

/// Power of a tone that is surely one, and of sound that is not near silence.
const LOUD: f32 = 1e6;

/// Milliseconds in which a tone sounds, in steps of 20.
pub fn ms_of(pcm: &[i16], hz: f32) -> usize {
    pcm.chunks(160).filter(|f| tone_power(f, hz) > LOUD).count() * 20
}

/// How much of a second is a tone, in the second where it is most; seconds near silence do not count.
pub fn share(heard: &[i16], hz: f32) -> f32 {
    let loud = heard.chunks_exact(8000).filter(|second| power(second) > LOUD);
    loud.map(|second| tone_power(second, hz) / power(second)).fold(0.0, f32::max)
}

/// Power of a tone in the second where it is loudest, and the share of that second's sound that it is.
pub fn loudest(heard: &[i16], hz: f32) -> (f32, f32) {
    let seconds = heard.chunks_exact(8000).map(|s| (tone_power(s, hz), tone_power(s, hz) / power(s).max(1.0)));
    seconds.fold((0.0, 0.0), |best, s| if s.0 > best.0 { s } else { best })
}

/// The caller's side of a recording.
pub fn callers_side(recording: impl AsRef<Path>) -> Vec<i16> {
    let mut wav = hound::WavReader::open(recording).expect("a recording");
    wav.samples::<i16>().step_by(2).map(|s| s.expect("a sample")).collect()
}
