//! Whisper (whisper.cpp) for operators who have a ggml file: any language, any words, but seconds of computing.

use super::resample::{resample, to_float};
use super::timer::Timer;
use crate::speech::{Grammar, Hypothesis, Lang, Recognizer, RecognizerStream, SpeechError, Transcript};
use std::path::Path;
use std::sync::Arc;
use whisper_rs::{FullParams, SamplingStrategy, WhisperContext, WhisperContextParameters};

/// Longest utterance (whisper's own window).
const LONGEST: usize = 30 * 8000;
/// Shorter input than this is refused by the library.
const SHORTEST_16K: usize = 16000 + 1600;
/// Words of the grammar given as a hint; its prompt holds 224 tokens.
const HINTS: usize = 40;
/// Probability of "no speech" above which nothing was said.
const NO_SPEECH: f32 = 0.6;

/// A loaded ggml model.
pub struct Whisper {
    context: Arc<WhisperContext>,
    name: String,
    threads: i32,
    /// Steps of 20 ms that the encoder looks at; 0 is all of its 30 s.
    window: i32,
}

/// The window of the first try at load: its result does not matter, and the whole would take seconds.
const TRY: i32 = 64;

impl Whisper {
    /// Loads a ggml file; `threads` compute one utterance (at least 1).
    pub fn load(file: &Path, threads: u32) -> Result<Self, SpeechError> {
        // Its log goes to stderr otherwise, dozens of lines a load.
        whisper_rs::install_logging_hooks();
        let unusable = |why: String| SpeechError::Unusable {
            model: file.display().to_string(),
            why,
            mend: "give a whole ggml file of whisper.cpp, or none to use the built-in recogniser".into(),
        };
        let size = std::fs::metadata(file).map_err(|e| unusable(e.to_string()))?.len();
        if size < 1024 {
            return Err(unusable(format!("{size} bytes are too few for a model")));
        }
        let context = WhisperContext::new_with_params(file, WhisperContextParameters::default())
            .map_err(|e| unusable(format!("it is no whisper.cpp model: {e}")))?;
        let stem = file.file_stem().and_then(|s| s.to_str()).unwrap_or("model");
        let name = format!("whisper-{}", stem.trim_start_matches("ggml-"));
        let mut whisper =
            Whisper { context: Arc::new(context), name, threads: threads.clamp(1, 64) as i32, window: TRY };
        // A file can have a header and a vocabulary and nothing to compute with: find out now, not in a call.
        whisper.transcribe(&vec![0.0; SHORTEST_16K], &Grammar::default()).map_err(|e| unusable(e.to_string()))?;
        whisper.window = 0;
        Ok(whisper)
    }

    fn transcribe(&self, sound: &[f32], grammar: &Grammar) -> Result<Vec<Hypothesis>, SpeechError> {
        let failed = |e: whisper_rs::WhisperError| SpeechError::Failed { model: self.name.clone(), why: e.to_string() };
        let mut state = self.context.create_state().map_err(failed)?;
        let mut params = FullParams::new(SamplingStrategy::Greedy { best_of: 1 });
        params.set_language(Some(match grammar.lang {
            Lang::Zh => "zh",
            Lang::En => "en",
        }));
        params.set_n_threads(self.threads);
        params.set_no_context(true);
        params.set_single_segment(true);
        params.set_no_timestamps(true);
        params.set_suppress_blank(true);
        params.set_print_special(false);
        params.set_print_progress(false);
        params.set_print_realtime(false);
        params.set_print_timestamps(false);
        params.set_audio_ctx(self.window);
        params.set_initial_prompt(&hint(grammar));
        state.full(params, sound).map_err(failed)?;
        let (mut text, mut sum, mut tokens) = (String::new(), 0.0f32, 0usize);
        for segment in state.as_iter() {
            if segment.no_speech_probability() > NO_SPEECH {
                continue;
            }
            text.push_str(&segment.to_str_lossy().map_err(failed)?);
            for i in 0..segment.n_tokens() {
                if let Some(token) = segment.get_token(i) {
                    sum += token.token_probability();
                    tokens += 1;
                }
            }
        }
        let text = text.trim().to_owned();
        if text.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Hypothesis { text, pinyin: Vec::new(), confidence: (sum / tokens.max(1) as f32).clamp(0.0, 1.0) }])
    }
}

/// Some of the words that are awaited, as text that might have come before.
fn hint(grammar: &Grammar) -> String {
    let words = grammar.phrases.iter().chain(&grammar.fragments).map(|p| p.text.as_str());
    // A NUL would make the library panic.
    words.take(HINTS).collect::<Vec<_>>().join("，").replace('\0', "")
}

impl Recognizer for Whisper {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self, grammar: Arc<Grammar>) -> Result<Box<dyn RecognizerStream>, SpeechError> {
        let whisper = Whisper {
            context: Arc::clone(&self.context),
            name: self.name.clone(),
            threads: self.threads,
            window: self.window,
        };
        Ok(Box::new(Stream { whisper, grammar, pcm: Vec::new() }))
    }
}

struct Stream {
    whisper: Whisper,
    grammar: Arc<Grammar>,
    pcm: Vec<i16>,
}

impl RecognizerStream for Stream {
    fn feed(&mut self, pcm: &[i16]) -> Result<(), SpeechError> {
        let room = LONGEST.saturating_sub(self.pcm.len()).min(pcm.len());
        self.pcm.extend_from_slice(&pcm[..room]);
        Ok(())
    }

    fn finish(&mut self) -> Result<Transcript, SpeechError> {
        let timer = Timer::start();
        let failed = |why: String| SpeechError::Failed { model: self.whisper.name.clone(), why };
        let mut sound = resample(&to_float(&self.pcm), 8000, 16000).map_err(failed)?;
        if sound.len() < SHORTEST_16K {
            sound.resize(SHORTEST_16K, 0.0);
        }
        let nbest = self.whisper.transcribe(&sound, &self.grammar)?;
        Ok(Transcript {
            accepted: nbest.first().is_some_and(|h| h.confidence >= 0.5),
            nbest,
            engine: self.whisper.name.clone(),
            audio_ms: (self.pcm.len() / 8) as u32,
            compute_us: timer.us(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech::Phrase;

    #[test]
    fn a_file_that_is_no_model_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ggml-bad.bin");
        assert!(Whisper::load(&path, 1).err().expect("missing").to_string().contains("ggml-bad.bin"));
        std::fs::write(&path, [7u8; 4096]).expect("written");
        let error = Whisper::load(&path, 1).err().expect("broken").to_string();
        assert!(error.contains("ggml-bad.bin") && error.contains("built-in"), "{error}");
    }

    #[test]
    fn a_model_without_weights_is_refused_politely() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../shared/data/models/asr/whisper_stub/for-tests-ggml-tiny.bin");
        if !path.exists() {
            crate::skip::skipped(format_args!("no {}", path.display()));
            return;
        }
        match Whisper::load(&path, 1) {
            Ok(mut whisper) => {
                whisper.window = TRY;
                // Weights of nothing: whatever it hears must come back as a transcript, not as a crash.
                let mut stream = whisper.open(Arc::new(Grammar::of(["订单"]))).expect("opened");
                stream.feed(&[0; 8000]).expect("fed");
                assert!(stream.finish().is_ok_and(|t| t.engine.starts_with("whisper-")));
            }
            Err(error) => assert!(error.to_string().contains("for-tests-ggml-tiny"), "{error}"),
        }
    }

    #[test]
    fn the_hint_holds_the_grammars_words_and_no_nul() {
        let mut grammar = Grammar::of(["订单", "退\0款"]);
        grammar.fragments = vec![Phrase { text: "地址".into(), weight: 0.0 }];
        assert_eq!(hint(&grammar), "订单，退款，地址");
        assert!(hint(&Grammar::of((0..500).map(|i| i.to_string()))).len() < 400);
    }
}
