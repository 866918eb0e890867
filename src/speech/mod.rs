//! Layer 3. What a speech model is to the rest: traits, grammars, transcripts, endpointing.

pub mod grammar;
pub mod text;
pub mod traits;
pub mod transcript;

pub use grammar::{DigitSpan, Grammar, Phrase};
pub use traits::{Lang, Recognizer, RecognizerStream, SpeechError, SpeechRequest, Synthesizer, Vad};
pub use transcript::{Hypothesis, Transcript};
