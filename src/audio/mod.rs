//! Layer 1. Sound as samples: 8 kHz mono frames of 20 ms and what is done to them.

pub mod codec;
pub mod conceal;
pub mod detect;
pub mod dtmf;
#[cfg(test)]
mod dtmf_tests;
pub mod echo;
pub mod fax;
pub mod frame;
pub mod g711;
pub mod g722;
#[cfg(feature = "g729")]
pub mod g729;
pub mod halfband;
pub mod mix;
pub mod noise;
#[cfg(feature = "opus")]
pub mod opus;
pub mod progress;
pub mod resample;
pub mod tone;
pub mod wav;

pub use codec::{Coding, Decoded, Decoder, Encoder, EncoderOptions};
pub use conceal::Concealer;
pub use detect::tone_power;
pub use dtmf::DtmfDetector;
pub use echo::EchoGuard;
pub use fax::{FaxDetector, FaxTone};
pub use frame::{AudioFrame, FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE};
pub use g711::Law;
pub use mix::Mixer;
pub use noise::Noise;
pub use progress::{Progress, ProgressDetector};
pub use resample::Resampler;
pub use tone::{Tone, ToneGenerator};
