//! The models that are part of the program, so that one file is a whole hotline.

use super::manifest::Models;
use super::recogniser::MandarinRecogniser;
use super::voice::MandarinVoice;
use crate::speech::SpeechError;

/// The manifest that describes them.
pub const MANIFEST: &str = include_str!("../../models/manifest.toml");

/// Every file of the manifest, by its path there.
pub const FILES: [(&str, &[u8]); 6] = [
    ("asr-first/am.int8.onnx", include_bytes!("../../models/asr-first/am.int8.onnx")),
    ("asr-first/front.json", include_bytes!("../../models/asr-first/front.json")),
    ("asr-first/syls.json", include_bytes!("../../models/asr-first/syls.json")),
    ("tts-first/voice_enc.onnx", include_bytes!("../../models/tts-first/voice_enc.onnx")),
    ("tts-first/voice_dec.onnx", include_bytes!("../../models/tts-first/voice_dec.onnx")),
    ("tts-first/stats.json", include_bytes!("../../models/tts-first/stats.json")),
];

/// The built-in recogniser.
pub fn recogniser() -> Result<MandarinRecogniser, SpeechError> {
    Models::builtin()?.recogniser()
}

/// The built-in Mandarin voice.
pub fn voice() -> Result<MandarinVoice, SpeechError> {
    Models::builtin()?.voice()
}
