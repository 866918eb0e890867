//! What a recogniser heard.

/// One reading of an utterance.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hypothesis {
    /// The words; fragments of an open utterance are joined by spaces.
    pub text: String,
    /// Toneless pinyin, one entry a syllable; may hold more than `text` (syllables around a fragment), may be empty.
    pub pinyin: Vec<String>,
    /// How sure, 0.0..=1.0.
    pub confidence: f32,
}

/// The result of one utterance.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Transcript {
    /// Readings, best first; empty when nothing was heard.
    pub nbest: Vec<Hypothesis>,
    /// False when even the best reading is to be rejected (noise, speech outside the grammar).
    pub accepted: bool,
    /// Which engine heard it.
    pub engine: String,
    /// Length of the utterance in milliseconds.
    pub audio_ms: u32,
    /// Time spent computing, in microseconds.
    pub compute_us: u64,
}

impl Transcript {
    /// A certain transcript of known text: typed input, tests, channels that are text already.
    pub fn typed(text: impl Into<String>) -> Self {
        let best = Hypothesis { text: text.into(), pinyin: Vec::new(), confidence: 1.0 };
        Transcript { nbest: vec![best], accepted: true, engine: "text".into(), ..Transcript::default() }
    }

    /// The best reading's words, or nothing.
    pub fn text(&self) -> &str {
        self.nbest.first().map_or("", |h| h.text.as_str())
    }
}
