//! Speech without models, for tests and the simulator: what is heard is written down beforehand, what is spoken is a
//! tone, what is loud is speech. Deterministic.

use super::{
    Grammar, Hypothesis, Recognizer, RecognizerStream, SpeechError, SpeechRequest, Synthesizer, Transcript, Vad,
};
use crate::audio::AudioFrame;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// What a scripted recogniser hears.
enum Script {
    /// Transcripts in order, one an utterance; then nothing is heard.
    InOrder(Arc<Mutex<VecDeque<Result<Transcript, SpeechError>>>>),
    /// This text, wherever the grammar holds it.
    Always(String),
}

/// A recogniser that hears what it was told.
pub struct ScriptedRecogniser {
    script: Script,
}

impl ScriptedRecogniser {
    /// Hears these, one an utterance, in the order the utterances end; then nothing.
    pub fn in_order(heard: impl IntoIterator<Item = Result<Transcript, SpeechError>>) -> Self {
        ScriptedRecogniser { script: Script::InOrder(Arc::new(Mutex::new(heard.into_iter().collect()))) }
    }

    /// Hears these texts, one an utterance, each for certain.
    pub fn texts<S: Into<String>>(heard: impl IntoIterator<Item = S>) -> Self {
        Self::in_order(heard.into_iter().map(|t| Ok(Transcript::typed(t))))
    }

    /// The caller says this each time: heard for certain where the grammar holds it (whole, or one of its fragments),
    /// rejected elsewhere. Digits count where the grammar awaits as many.
    pub fn saying(text: impl Into<String>) -> Self {
        ScriptedRecogniser { script: Script::Always(text.into()) }
    }
}

impl Recognizer for ScriptedRecogniser {
    fn name(&self) -> &str {
        "scripted"
    }

    fn open(&self, grammar: Arc<Grammar>) -> Result<Box<dyn RecognizerStream>, SpeechError> {
        let next = match &self.script {
            Script::InOrder(queue) => Next::Queue(Arc::clone(queue)),
            Script::Always(text) => Next::Fixed(hear(text, &grammar)),
        };
        Ok(Box::new(ScriptedStream { next, samples: 0 }))
    }
}

enum Next {
    Queue(Arc<Mutex<VecDeque<Result<Transcript, SpeechError>>>>),
    Fixed(Transcript),
}

struct ScriptedStream {
    next: Next,
    samples: usize,
}

impl RecognizerStream for ScriptedStream {
    fn feed(&mut self, pcm: &[i16]) -> Result<(), SpeechError> {
        self.samples += pcm.len();
        Ok(())
    }

    fn finish(&mut self) -> Result<Transcript, SpeechError> {
        let heard = match &self.next {
            Next::Queue(queue) => {
                queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(Ok(Transcript::default()))
            }
            Next::Fixed(transcript) => Ok(transcript.clone()),
        };
        let audio_ms = u32::try_from(self.samples / 8).unwrap_or(u32::MAX);
        heard.map(|t| Transcript { engine: "scripted".into(), audio_ms, ..t })
    }
}

fn hear(text: &str, grammar: &Grammar) -> Transcript {
    let whole = grammar.phrases.iter().any(|p| p.text == text);
    let digits = grammar.digits.is_some_and(|d| {
        let n = text.chars().count();
        text.chars().all(|c| c.is_ascii_digit()) && (usize::from(d.min)..=usize::from(d.max)).contains(&n)
    });
    if whole || digits {
        return Transcript::typed(text);
    }
    let parts: Vec<&str> =
        grammar.fragments.iter().map(|f| f.text.as_str()).filter(|f| !f.is_empty() && text.contains(f)).collect();
    if !parts.is_empty() {
        return Transcript::typed(parts.join(" "));
    }
    let unsure = Hypothesis { text: text.to_owned(), pinyin: Vec::new(), confidence: 0.1 };
    Transcript { nbest: vec![unsure], accepted: false, ..Transcript::default() }
}

/// A voice that hums: 80 ms for each letter or digit, a phrase at a time, silence at the marks between.
#[derive(Debug, Clone)]
pub struct ToneVoice {
    /// Hz at pitch 1.0.
    pub hz: f32,
    /// Peak, 0..=32767.
    pub level: f32,
}

impl Default for ToneVoice {
    fn default() -> Self {
        ToneVoice { hz: 400.0, level: 8000.0 }
    }
}

impl Synthesizer for ToneVoice {
    fn name(&self) -> &str {
        "tone"
    }

    fn speak(&self, request: &SpeechRequest, sink: &mut dyn FnMut(Vec<i16>) -> bool) -> Result<(), SpeechError> {
        const LETTER: f32 = 640.0;
        const PAUSE: usize = 800;
        for phrase in request.text.split(['，', '。', '？', '！', ',', '.', '?', '!']) {
            let letters = phrase.chars().filter(|c| c.is_alphanumeric()).count();
            if letters == 0 {
                continue;
            }
            let samples = (letters as f32 * LETTER / request.rate.clamp(0.5, 2.0)) as usize;
            let step = self.hz * request.pitch * std::f32::consts::TAU / 8000.0;
            let hum = (0..samples).map(|i| (self.level * (i as f32 * step).sin()) as i16);
            if !sink(hum.chain(std::iter::repeat_n(0, PAUSE)).collect()) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Hears speech in every frame louder than a threshold.
#[derive(Debug, Clone, Copy)]
pub struct EnergyVad {
    /// RMS of a frame, 0..=32768.
    pub threshold: f32,
}

impl Default for EnergyVad {
    fn default() -> Self {
        EnergyVad { threshold: 500.0 }
    }
}

impl Vad for EnergyVad {
    fn speech(&mut self, frame: &AudioFrame) -> f32 {
        if frame.rms() > self.threshold { 1.0 } else { 0.0 }
    }

    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech::{DigitSpan, Lang, Phrase};

    fn utterance(r: &dyn Recognizer, grammar: Grammar) -> Result<Transcript, SpeechError> {
        let mut s = r.open(Arc::new(grammar))?;
        s.feed(&[0; 1600])?;
        s.finish()
    }

    #[test]
    fn transcripts_come_in_order_and_then_silence() {
        let error = SpeechError::Failed { model: "x".into(), why: "y".into() };
        let r = ScriptedRecogniser::in_order([Ok(Transcript::typed("订单")), Err(error.clone())]);
        let first = utterance(&r, Grammar::default()).expect("heard");
        assert_eq!((first.text(), first.audio_ms, first.engine.as_str()), ("订单", 200, "scripted"));
        assert_eq!(utterance(&r, Grammar::default()), Err(error));
        assert!(!utterance(&r, Grammar::default()).expect("nothing").accepted);
    }

    #[test]
    fn a_fixed_text_is_heard_only_where_the_grammar_holds_it() {
        let r = ScriptedRecogniser::saying("我要改地址");
        assert!(utterance(&r, Grammar::of(["我要改地址", "订单"])).expect("heard").accepted);
        assert!(!utterance(&r, Grammar::of(["订单"])).expect("heard").accepted);
        let fragments = ["改", "地址", "退款"].map(|t| Phrase { text: t.into(), weight: 0.0 }).to_vec();
        assert_eq!(utterance(&r, Grammar { fragments, ..Grammar::default() }).expect("heard").text(), "改 地址");
        let digits = Grammar { digits: Some(DigitSpan { min: 4, max: 6 }), ..Grammar::default() };
        assert!(utterance(&ScriptedRecogniser::saying("1234"), digits.clone()).expect("heard").accepted);
        assert!(!utterance(&ScriptedRecogniser::saying("123"), digits).expect("heard").accepted);
    }

    #[test]
    fn a_tone_is_as_long_as_its_text_and_counts_as_speech() {
        let request = |text: &str| SpeechRequest {
            text: text.into(),
            lang: Lang::Zh,
            rate: 1.0,
            pitch: 1.0,
            audio: None,
            personal: false,
        };
        let mut parts = Vec::new();
        ToneVoice::default()
            .speak(&request("您好，请稍等。"), &mut |p| {
                parts.push(p);
                true
            })
            .expect("spoken");
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [2 * 640 + 800, 3 * 640 + 800]);
        let mut frame = AudioFrame::silence(0);
        let mut vad = EnergyVad::default();
        assert_eq!(vad.speech(&frame), 0.0);
        frame.pcm.copy_from_slice(&parts[0][..160]);
        assert_eq!(vad.speech(&frame), 1.0);
    }
}
