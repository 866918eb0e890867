//! The one shape that live sound has inside the engine.

/// Samples per second of all live audio.
pub const SAMPLE_RATE: u32 = 8000;
/// Samples in a frame.
pub const FRAME_SAMPLES: usize = 160;
/// Milliseconds in a frame.
pub const FRAME_MS: u64 = 20;

/// 20 ms of 8 kHz mono sound, 16-bit linear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioFrame {
    /// Position of the first sample on the leg's media clock, in samples since the leg's start.
    pub at: u64,
    /// The samples.
    pub pcm: [i16; FRAME_SAMPLES],
}

impl AudioFrame {
    /// Silence at a position.
    pub const fn silence(at: u64) -> Self {
        AudioFrame { at, pcm: [0; FRAME_SAMPLES] }
    }

    /// Milliseconds of the first sample on the leg's media clock.
    pub const fn at_ms(&self) -> u64 {
        self.at / 8
    }

    /// Root mean square of the samples, 0..=32768.
    pub fn rms(&self) -> f32 {
        let sum: f64 = self.pcm.iter().map(|&s| f64::from(s) * f64::from(s)).sum();
        (sum / FRAME_SAMPLES as f64).sqrt() as f32
    }
}
