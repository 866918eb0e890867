//! The bundled Mandarin recogniser: chooses among what the grammar holds, or rejects.
//!
//! # Confidence
//!
//! Whole phrases and digit strings: the log ratio to the best unconstrained path, per unit. Fragments: the log ratio
//! to free syllables less a fixed price of a fragment, per unit. Both pass through a logistic curve whose middle (0.5)
//! is the rejection threshold, so confidence rises strictly with the ratio and `accepted` is `confidence >= 0.5` of
//! the best reading. It says how well the sound fits the reading, not how far the next reading is: compare the first
//! two of the n-best for that. Digit strings have so many near neighbours that theirs is besides multiplied by the
//! reading's share among its neighbours, and they are accepted on the fit alone: whoever acts on digits below 0.9 or
//! so should read them back.

use super::am::{AcousticModel, PosteriorStream};
use super::decode::digits::{DigitString, digit_strings};
use super::decode::forward::Scorer;
use super::decode::spot::{self, Found};
use super::decode::syllables::{FreeLoop, free_loop};
use super::decode::tree::PrefixTree;
use super::decode::{Frames, NEVER};
use super::reading;
use super::timer::Timer;
use super::units::Syllable;
use crate::speech::{DigitSpan, Grammar, Hypothesis, Phrase, Recognizer, RecognizerStream, SpeechError, Transcript};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Name in records.
pub const NAME: &str = "zongji-am1";
/// Readings given back.
const NBEST: usize = 5;
/// The longest utterance that is looked at; what comes later is ignored (60 s).
const LONGEST: usize = 60 * 8000;
/// Grammars kept ready.
const COMPILED: usize = 256;

/// What is taken off the blank for phrases, digits and free syllables.
const PHRASE_BIAS: f32 = 1.0;
const DIGIT_BIAS: f32 = 0.0;
const LOOP_BIAS: f32 = 0.5;
/// Rejection threshold and slope of whole phrases, log ratio per unit. Between the best for our own and espeak's
/// voices (-3.0: 2 % equal error from quiet to 8 dB of noise) and what unknown people need (-4.0). Comparing with
/// free syllables instead changes nothing: they reach the best unconstrained path.
const PHRASE_CURVE: Curve = Curve { middle: -3.5, width: 0.7 };
/// The same for digit strings: any ten units fit some digits better than a fixed phrase would.
const DIGIT_CURVE: Curve = Curve { middle: -2.5, width: 0.6 };
/// The same for fragments, against free syllables.
const SPOT_CURVE: Curve = Curve { middle: -1.6, width: 0.35 };
/// What a fragment costs whatever its length: short ones fit somewhere by chance.
const SPOT_PRICE: f32 = 1.5;
/// A phrase of at least this many units may also stand amid other speech.
const SPOTTED_PHRASE: usize = 5;
/// How much the scores of neighbouring digit strings overstate their difference (frames are not independent).
const DIGIT_SPREAD: f32 = 2.0;
/// A confidence that is never enough: speech that is in no grammar, its pinyin alone.
const UNKNOWN: f32 = 0.1;

/// A logistic curve from log ratio per unit to confidence.
#[derive(Debug, Clone, Copy)]
struct Curve {
    middle: f32,
    width: f32,
}

impl Curve {
    fn at(self, per_unit: f32) -> f32 {
        1.0 / (1.0 + (-(per_unit - self.middle) / self.width).exp())
    }
}

/// The recogniser, shared by all calls.
pub struct MandarinRecogniser {
    model: Arc<AcousticModel>,
    inventory: Arc<[Syllable]>,
    compiled: Mutex<Vec<(Weak<Grammar>, Arc<Compiled>)>>,
}

impl MandarinRecogniser {
    /// `inventory`: the syllables of the language, for what is in no grammar.
    pub fn new(model: AcousticModel, inventory: Vec<Syllable>) -> Self {
        MandarinRecogniser { model: Arc::new(model), inventory: inventory.into(), compiled: Mutex::new(Vec::new()) }
    }

    fn compile(&self, grammar: &Arc<Grammar>) -> Arc<Compiled> {
        let weak = Arc::downgrade(grammar);
        let lock = || self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = lock().iter().find(|(w, _)| w.ptr_eq(&weak)) {
            return Arc::clone(known);
        }
        // Outside the lock: another call may be doing the same, which costs less than waiting.
        let fresh = Arc::new(Compiled::new(grammar));
        let mut all = lock();
        all.retain(|(w, _)| w.strong_count() > 0);
        if all.len() >= COMPILED {
            all.remove(0);
        }
        all.push((weak, Arc::clone(&fresh)));
        fresh
    }
}

impl Recognizer for MandarinRecogniser {
    fn name(&self) -> &str {
        NAME
    }

    fn open(&self, grammar: Arc<Grammar>) -> Result<Box<dyn RecognizerStream>, SpeechError> {
        Ok(Box::new(Stream {
            grammar: self.compile(&grammar),
            inventory: Arc::clone(&self.inventory),
            posteriors: PosteriorStream::new(Arc::clone(&self.model)),
            samples: 0,
            compute_us: 0,
        }))
    }
}

/// A phrase as labels.
struct Entry {
    text: String,
    labels: Vec<u8>,
    pinyin: Vec<String>,
    weight: f32,
}

/// A grammar as labels. What cannot be pronounced with Mandarin syllables (English words) is not in it.
struct Compiled {
    phrases: Entries,
    fragments: Entries,
    digits: Option<DigitSpan>,
}

/// Entries, and their common beginnings.
struct Entries {
    list: Vec<Entry>,
    tree: PrefixTree,
}

impl Entries {
    fn new(list: Vec<Entry>) -> Self {
        let tree = PrefixTree::new(list.iter().map(|e| e.labels.as_slice()));
        Entries { list, tree }
    }
}

impl Compiled {
    fn new(grammar: &Grammar) -> Self {
        let entries = |list: &[Phrase]| list.iter().filter_map(Entry::new).collect::<Vec<_>>();
        let phrases = entries(&grammar.phrases);
        let mut fragments = entries(&grammar.fragments);
        // At an open question a phrase may also stand amid other speech ("喂你好我要查订单啊").
        if !fragments.is_empty() {
            let known: Vec<Vec<u8>> = fragments.iter().map(|f| f.labels.clone()).collect();
            let long = |p: &Entry| p.labels.len() >= SPOTTED_PHRASE && !known.contains(&p.labels);
            fragments.extend(entries(&grammar.phrases).into_iter().filter(long));
        }
        Compiled { phrases: Entries::new(phrases), fragments: Entries::new(fragments), digits: grammar.digits }
    }
}

impl Entry {
    fn new(phrase: &Phrase) -> Option<Self> {
        let syllables = reading::syllables(&phrase.text)?;
        if syllables.is_empty() {
            return None;
        }
        Some(Entry {
            text: phrase.text.clone(),
            labels: syllables.iter().flat_map(|s| s.labels()).collect(),
            pinyin: syllables.iter().map(|s| s.pinyin()).collect(),
            weight: phrase.weight,
        })
    }
}

struct Stream {
    grammar: Arc<Compiled>,
    inventory: Arc<[Syllable]>,
    posteriors: PosteriorStream,
    samples: usize,
    compute_us: u64,
}

impl RecognizerStream for Stream {
    fn feed(&mut self, pcm: &[i16]) -> Result<(), SpeechError> {
        let timer = Timer::start();
        let room = LONGEST.saturating_sub(self.samples).min(pcm.len());
        self.samples += room;
        self.posteriors.feed(&pcm[..room])?;
        self.compute_us += timer.us();
        Ok(())
    }

    fn finish(&mut self) -> Result<Transcript, SpeechError> {
        let timer = Timer::start();
        let posteriors = self.posteriors.finish()?;
        let (nbest, accepted) = decode(&posteriors, &self.grammar, &self.inventory);
        Ok(Transcript {
            accepted,
            nbest,
            engine: NAME.to_owned(),
            audio_ms: (self.samples / 8) as u32,
            compute_us: self.compute_us + timer.us(),
        })
    }
}

/// A reading, and how well it fits (0.5 is the threshold); its confidence may be lower.
struct Reading {
    hypothesis: Hypothesis,
    fit: f32,
}

impl Reading {
    fn new(text: String, pinyin: Vec<String>, fit: f32) -> Self {
        Reading { hypothesis: Hypothesis { text, pinyin, confidence: fit }, fit }
    }
}

/// All readings of an utterance, best first, and whether the best is to be accepted.
fn decode(posteriors: &[f32], grammar: &Compiled, inventory: &[Syllable]) -> (Vec<Hypothesis>, bool) {
    let frames = Frames::new(posteriors, PHRASE_BIAS);
    if frames.spoken() < 2 {
        return (Vec::new(), false);
    }
    let mut out = phrase_readings(&frames, &grammar.phrases);
    if let Some(span) = grammar.digits {
        out.extend(digit_readings(&Frames::new(posteriors, DIGIT_BIAS), span));
    }
    if !grammar.fragments.list.is_empty() {
        let frames = Frames::new(posteriors, LOOP_BIAS);
        let free = free_loop(&frames, inventory, 0.0);
        out.extend(open_readings(&frames, &free, &grammar.fragments));
        if !free.path.is_empty() {
            let pinyin = free.path.iter().map(|s| s.syllable.pinyin()).collect();
            out.push(Reading::new(String::new(), pinyin, UNKNOWN));
        }
    }
    out.sort_by(|a, b| b.fit.total_cmp(&a.fit));
    let accepted = out.first().is_some_and(|r| r.fit >= 0.5);
    let mut nbest: Vec<Hypothesis> = Vec::new();
    for r in out {
        if nbest.len() < NBEST && nbest.iter().all(|h| h.text != r.hypothesis.text) {
            nbest.push(r.hypothesis);
        }
    }
    (nbest, accepted)
}

fn phrase_readings(frames: &Frames, phrases: &Entries) -> Vec<Reading> {
    let scores = Scorer::new(frames).scores(&phrases.tree);
    let mut scored: Vec<(f32, &Entry)> = scores
        .into_iter()
        .zip(&phrases.list)
        .map(|(score, e)| (score + e.weight, e))
        .filter(|(score, _)| *score > NEVER / 2.0)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.truncate(NBEST);
    let to_reading = |(score, e): (f32, &Entry)| {
        Reading::new(e.text.clone(), e.pinyin.clone(), PHRASE_CURVE.at(score / e.labels.len() as f32))
    };
    in_order(scored.into_iter().map(to_reading).collect())
}

fn digit_readings(frames: &Frames, span: DigitSpan) -> Vec<Reading> {
    let found = digit_strings(frames, span, NBEST);
    let best = found.first().map_or(0.0, |d| d.score);
    let weight = |d: &DigitString| ((d.score - best) / DIGIT_SPREAD).exp();
    let all: f32 = found.iter().map(weight).sum();
    let to_reading = |d: DigitString| {
        let share = weight(&d) / all;
        let mut reading = Reading::new(d.digits, d.pinyin, DIGIT_CURVE.at(d.score / d.units as f32));
        reading.hypothesis.confidence *= share;
        reading
    };
    in_order(found.into_iter().map(to_reading).collect())
}

/// Readings come ordered by total score; the ratio per unit may order a longer runner-up before the winner.
/// No reading fits better than those before it.
fn in_order(mut readings: Vec<Reading>) -> Vec<Reading> {
    let mut most = 1.0f32;
    for r in &mut readings {
        most = most.min(r.fit);
        r.hypothesis.confidence *= most / r.fit.max(f32::MIN_POSITIVE);
        r.fit = most;
    }
    readings
}

/// The best set of fragments; then, for each of its members, the set without it. None of those fits better than the
/// best set, however well the rest fits per unit.
fn open_readings(frames: &Frames, free: &FreeLoop, fragments: &Entries) -> Vec<Reading> {
    let prices: Vec<(f32, usize)> = fragments.list.iter().map(|e| (SPOT_PRICE - e.weight, e.labels.len())).collect();
    let found = spot::occurrences(frames, free, &fragments.tree, &prices, SPOT_CURVE.middle);
    let fragments = &fragments.list;
    let best = spot::best_set(&found);
    let mut out = Vec::new();
    if best.is_empty() {
        return out;
    }
    out.push(reading_of(&best, free, fragments));
    let mut others: Vec<Vec<Found>> = best
        .iter()
        .map(|taken| spot::best_set(&found.iter().filter(|f| *f != taken).cloned().collect::<Vec<_>>()))
        .filter(|set| !set.is_empty())
        .collect();
    let gain = |set: &[Found]| set.iter().map(|f| f.gain).sum::<f32>();
    others.sort_by(|a, b| gain(b).total_cmp(&gain(a)));
    out.extend(others.iter().map(|set| reading_of(set, free, fragments)));
    in_order(out)
}

fn reading_of(set: &[Found], free: &FreeLoop, fragments: &[Entry]) -> Reading {
    let text: Vec<&str> = set.iter().map(|f| fragments[f.fragment].text.as_str()).collect();
    // The free syllables, with those that a fragment covers replaced by the fragment's own.
    let mut pinyin: Vec<(usize, String)> = free
        .path
        .iter()
        .filter(|s| !set.iter().any(|f| f.from <= (s.from + s.to) / 2 && (s.from + s.to) / 2 <= f.to))
        .map(|s| (s.from, s.syllable.pinyin()))
        .collect();
    for f in set {
        pinyin.extend(fragments[f.fragment].pinyin.iter().map(|p| (f.from, p.clone())));
    }
    pinyin.sort_by_key(|(at, _)| *at);
    let units: usize = set.iter().map(|f| fragments[f.fragment].labels.len()).sum();
    let ratio = set.iter().map(|f| f.gain).sum::<f32>() + SPOT_CURVE.middle * units as f32;
    let pinyin = pinyin.into_iter().map(|(_, p)| p).collect();
    Reading::new(text.join(" "), pinyin, SPOT_CURVE.at(ratio / units as f32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::builtin;

    fn hear(grammar: Grammar, pcm: &[i16]) -> Transcript {
        let recogniser = builtin::recogniser().expect("the built-in recogniser");
        let mut stream = recogniser.open(Arc::new(grammar)).expect("opened");
        stream.feed(pcm).expect("fed");
        stream.finish().expect("finished")
    }

    #[test]
    fn silence_and_no_sound_are_nothing_heard() {
        for pcm in [vec![], vec![0; 100], vec![0; 16000]] {
            let grammar = Grammar { digits: Some(DigitSpan { min: 1, max: 11 }), ..Grammar::of(["订单", "对"]) };
            let heard = hear(grammar, &pcm);
            assert!(!heard.accepted, "{heard:?}");
            assert_eq!(heard.audio_ms as usize, pcm.len() / 8);
        }
    }

    #[test]
    fn a_grammar_it_cannot_pronounce_is_no_fault() {
        let heard = hear(Grammar::of(["check my order", "", "VIP"]), &[1000; 8000]);
        assert!(heard.nbest.is_empty() && !heard.accepted);
        assert!(hear(Grammar::default(), &[1000; 8000]).nbest.is_empty());
    }

    #[test]
    fn a_grammar_is_compiled_once_while_it_lives() {
        let recogniser = builtin::recogniser().expect("the built-in recogniser");
        let grammar = Arc::new(Grammar::of(["订单"]));
        let (a, b) = (recogniser.compile(&grammar), recogniser.compile(&grammar));
        assert!(Arc::ptr_eq(&a, &b));
        drop(grammar);
        let kept: Vec<_> = (0..COMPILED + 10).map(|_| Arc::new(Grammar::of(["订单"]))).collect();
        for g in &kept {
            recogniser.compile(g);
        }
        assert!(recogniser.compiled.lock().expect("no panic").len() <= COMPILED);
    }

    #[test]
    fn confidence_rises_with_the_ratio_and_its_middle_is_the_threshold() {
        for curve in [PHRASE_CURVE, DIGIT_CURVE, SPOT_CURVE] {
            assert!((curve.at(curve.middle) - 0.5).abs() < 1e-6);
            assert!(curve.at(-8.0) < curve.at(-2.0) && curve.at(-2.0) < curve.at(0.0));
            assert!(curve.at(0.0) > 0.95 && curve.at(-1e30) >= 0.0);
        }
    }
}
