//! Adding sounds without wrapping round.

use super::{AudioFrame, FRAME_SAMPLES};

/// Adds frames in 32 bits and clips once at the end, so that the order of adding does not matter.
#[derive(Debug, Clone)]
pub struct Mixer {
    sum: [i32; FRAME_SAMPLES],
}

impl Default for Mixer {
    fn default() -> Self {
        Mixer { sum: [0; FRAME_SAMPLES] }
    }
}

impl Mixer {
    /// An empty mix.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds samples as they are; at most a frame of them.
    pub fn add(&mut self, pcm: &[i16]) {
        for (sum, &sample) in self.sum.iter_mut().zip(pcm) {
            *sum += i32::from(sample);
        }
    }

    /// Adds samples at a loudness (1.0 = as they are).
    pub fn add_scaled(&mut self, pcm: &[i16], gain: f32) {
        let gain = q12(gain);
        for (sum, &sample) in self.sum.iter_mut().zip(pcm) {
            *sum += (i32::from(sample) * gain) >> 12;
        }
    }

    /// The mix, clipped to 16 bits.
    pub fn finish(&self, at: u64) -> AudioFrame {
        AudioFrame { at, pcm: self.sum.map(clip) }
    }
}

/// The sum of two frames, at the first one's position.
pub fn mix(a: &AudioFrame, b: &AudioFrame) -> AudioFrame {
    let mut out = *a;
    for (to, &sample) in out.pcm.iter_mut().zip(&b.pcm) {
        *to = to.saturating_add(sample);
    }
    out
}

/// Scales samples in place, moving evenly from one loudness to another (no click when ducking).
pub fn ramp(pcm: &mut [i16], from: f32, to: f32) {
    let step = (to - from) / pcm.len().max(1) as f32;
    for (i, sample) in pcm.iter_mut().enumerate() {
        *sample = (f32::from(*sample) * (from + step * (i as f32 + 1.0))) as i16;
    }
}

fn q12(gain: f32) -> i32 {
    (gain.clamp(0.0, 8.0) * 4096.0) as i32
}

fn clip(sum: i32) -> i16 {
    sum.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constant(value: i16) -> AudioFrame {
        AudioFrame { at: 320, pcm: [value; FRAME_SAMPLES] }
    }

    #[test]
    fn a_loud_sum_clips_instead_of_wrapping() {
        assert_eq!(mix(&constant(30000), &constant(30000)).pcm, [i16::MAX; FRAME_SAMPLES]);
        assert_eq!(mix(&constant(-30000), &constant(-30000)).pcm, [i16::MIN; FRAME_SAMPLES]);
    }

    #[test]
    fn a_mixer_clips_only_the_end_result() {
        let mut mixer = Mixer::new();
        for value in [30000, 30000, -30000] {
            mixer.add(&[value; FRAME_SAMPLES]);
        }
        mixer.add_scaled(&[1000; FRAME_SAMPLES], 0.5);
        assert_eq!(mixer.finish(7), AudioFrame { at: 7, pcm: [30500; FRAME_SAMPLES] });
    }

    #[test]
    fn a_ramp_ends_at_its_target() {
        let mut pcm = [10000i16; FRAME_SAMPLES];
        ramp(&mut pcm, 1.0, 0.25);
        assert_eq!(pcm[FRAME_SAMPLES - 1], 2500);
        assert!(pcm.windows(2).all(|w| w[1] <= w[0]) && pcm[0] > 9900);
    }
}
