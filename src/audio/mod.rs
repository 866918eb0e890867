//! Layer 1. Sound as samples: 8 kHz mono frames of 20 ms and what is done to them.

pub mod conceal;
pub mod detect;
pub mod dtmf;
#[cfg(test)]
mod dtmf_tests;
pub mod fax;
pub mod frame;
pub mod g711;
pub mod mix;
pub mod progress;
pub mod resample;
pub mod tone;
pub mod wav;

pub use conceal::Concealer;
pub use detect::tone_power;
pub use dtmf::DtmfDetector;
pub use fax::{FaxDetector, FaxTone};
pub use frame::{AudioFrame, FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE};
pub use g711::Law;
pub use mix::Mixer;
pub use progress::{Progress, ProgressDetector};
pub use resample::Resampler;
pub use tone::{Tone, ToneGenerator};
