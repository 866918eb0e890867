//! The doors through which models are used. All calls block; worker threads are the asynchronous boundary.

use super::{Grammar, Transcript};
use crate::audio::AudioFrame;
use std::sync::Arc;

/// Languages the hotline speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Lang {
    /// Mandarin.
    #[default]
    Zh,
    /// English.
    En,
}

/// Decides frame by frame whether somebody speaks. Stateful: one per leg.
pub trait Vad: Send {
    /// Probability of speech (0.0..=1.0) in this frame, given those before it.
    fn speech(&mut self, frame: &AudioFrame) -> f32;
    /// Forgets what came before.
    fn reset(&mut self);
}

/// A speech recogniser, shared by all calls.
pub trait Recognizer: Send + Sync {
    /// Short name for records and logs.
    fn name(&self) -> &str;
    /// Begins one utterance. Several may run side by side.
    fn open(&self, grammar: Arc<Grammar>) -> Result<Box<dyn RecognizerStream>, SpeechError>;
}

/// One utterance being recognised.
pub trait RecognizerStream: Send {
    /// Takes the next samples (8 kHz, 16 bit, any number of them).
    fn feed(&mut self, pcm: &[i16]) -> Result<(), SpeechError>;
    /// Ends the utterance and gives what was heard.
    fn finish(&mut self) -> Result<Transcript, SpeechError>;
}

/// What is to be spoken, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct SpeechRequest {
    /// Plain text, punctuation included, placeholders already filled.
    pub text: String,
    /// Language of the text.
    pub lang: Lang,
    /// Speed: 1.0 as the voice was made, 0.8 slower, range 0.5..=2.0.
    pub rate: f32,
    /// Pitch: 1.0 as the voice was made, range 0.5..=2.0.
    pub pitch: f32,
    /// A recorded prompt that wins over synthesis when the file exists (path under the prompts folder).
    pub audio: Option<String>,
    /// It holds somebody's name, number or address: its sound is kept nowhere.
    pub personal: bool,
}

/// A voice, shared by all calls.
pub trait Synthesizer: Send + Sync {
    /// Short name for records and logs.
    fn name(&self) -> &str;
    /// Names the sound in the prompt cache's key: another voice, other model files or another way to read a text give
    /// another one.
    fn sound(&self) -> &str {
        self.name()
    }
    /// Speaks a request phrase by phrase: `sink` gets each phrase's samples (8 kHz, 16 bit, the pause after it
    /// included) as soon as it is ready and says whether to go on.
    fn speak(&self, request: &SpeechRequest, sink: &mut dyn FnMut(Vec<i16>) -> bool) -> Result<(), SpeechError>;
}

/// Why a model gave nothing. An input the dialplan answers, never a reason to end a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpeechError {
    /// The model's file is missing or broken.
    #[error("model {model} cannot be used: {why}; {mend}")]
    Unusable {
        /// Which model or file.
        model: String,
        /// What is wrong.
        why: String,
        /// What to do about it.
        mend: String,
    },
    /// The model failed on this input.
    #[error("{model} failed: {why}")]
    Failed {
        /// Which model.
        model: String,
        /// What happened.
        why: String,
    },
}
