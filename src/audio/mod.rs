//! Layer 1. Sound as samples: 8 kHz mono frames of 20 ms and what is done to them.

pub mod frame;

pub use frame::{AudioFrame, FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE};
