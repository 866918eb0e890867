//! The bundled Mandarin voice: a phrase's syllables to rows, two networks, frames, sound. Phrase by phrase, so that
//! the first one is heard while the next is made.

use super::level::levelled;
use super::onnx::{Graph, ModelBytes};
use super::units::{FINALS, INITIALS};
use super::vocoder::{CEPSTRA, Vocoder, VoiceFrame};
use crate::speech::text::{ToneSyllable, phrases};
use crate::speech::{SpeechError, SpeechRequest, Synthesizer};
use rten::NodeId;
use rten_tensor::NdTensor;

/// Name in records.
pub const NAME: &str = "zongji-zh1";
/// Values of one output frame: cepstra, log pitch, voicing, aperiodicity.
const FRAME: usize = CEPSTRA + 3;
/// Width of the encoder's output.
const HIDDEN: usize = 192;
/// Values that place a frame inside its state and unit.
const PLACE: usize = 9;
/// Durations are the training speaker's times this: isolated words are spoken slower than sentences.
const PACE: f32 = 0.85;
/// The phrase's last syllable is shortened by this.
const LAST: f32 = 0.85;
/// The row of silence.
const SILENCE: f32 = 1.0;
/// Row numbers: 0 padding, 1 silence, initials, finals.
const FIRST_INITIAL: usize = 2;
const FIRST_FINAL: usize = FIRST_INITIAL + INITIALS.len();
/// No unit sounds longer than this many half frames (2 s): a guard, not a limit that speech meets.
const LONGEST_STATE: f32 = 400.0;
/// Syllables of one synthesis; longer phrases are cut.
const LONGEST_PHRASE: usize = 24;

/// One unit as the encoder takes it: unit, tone, tone before, tone after, first, last, length class.
type Row = [f32; 7];

/// The statistics that turn network output into physical values.
#[derive(Debug, Clone)]
pub struct Stats {
    mean: [f32; FRAME],
    std: [f32; FRAME],
}

impl Stats {
    /// From the model's `stats.json`: `{"mean": [33 numbers], "std": [33 numbers]}`.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        #[derive(serde::Deserialize)]
        struct Raw {
            mean: Vec<f32>,
            std: Vec<f32>,
        }
        let raw: Raw = serde_json::from_slice(json).map_err(|e| e.to_string())?;
        let fit =
            |v: Vec<f32>| <[f32; FRAME]>::try_from(v).map_err(|v| format!("{} values instead of {FRAME}", v.len()));
        Ok(Stats { mean: fit(raw.mean)?, std: fit(raw.std)? })
    }
}

/// The voice, shared by all calls.
pub struct MandarinVoice {
    encoder: Graph,
    decoder: Graph,
    nodes: Nodes,
    stats: Stats,
    vocoder: Vocoder,
    sound: String,
}

struct Nodes {
    rows: NodeId,
    h_out: NodeId,
    durations: NodeId,
    h_in: NodeId,
    unit: NodeId,
    place: NodeId,
    frames: NodeId,
}

impl MandarinVoice {
    /// Loads both networks; the names appear in errors. `made_of` names the files' content: with other files the voice
    /// sounds different.
    pub fn load(
        encoder: (&str, ModelBytes),
        decoder: (&str, ModelBytes),
        stats: Stats,
        made_of: &str,
    ) -> Result<Self, SpeechError> {
        let sound = format!("{NAME} {made_of} read {}", crate::speech::text::READING);
        let encoder = Graph::load(encoder.0, encoder.1)?;
        let decoder = Graph::load(decoder.0, decoder.1)?;
        let nodes = Nodes {
            rows: encoder.node("rows")?,
            h_out: encoder.node("h")?,
            durations: encoder.node("logdur")?,
            h_in: decoder.node("h")?,
            unit: decoder.node("pi")?,
            place: decoder.node("ff")?,
            frames: decoder.node("y")?,
        };
        Ok(MandarinVoice { encoder, decoder, nodes, stats, vocoder: Vocoder::new(), sound })
    }

    /// Sound of one phrase at 8 kHz, not yet levelled. `rate` and `pitch` as in [`SpeechRequest`].
    pub fn phrase(&self, syllables: &[ToneSyllable], manner: Manner) -> Result<Vec<f32>, SpeechError> {
        let rows = rows(syllables);
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let (hidden, log_durations) = self.encode(&rows)?;
        let durations = durations(&rows, &log_durations, PACE / manner.rate);
        let placed = Placed::new(&durations);
        let output = self.decode(hidden, &placed)?;
        let frames = self.frames(&rows, &placed, &output, syllables.len(), manner);
        Ok(self.vocoder.render(&frames, 1))
    }

    fn encode(&self, rows: &[Row]) -> Result<(Vec<f32>, Vec<[f32; 3]>), SpeechError> {
        let n = rows.len();
        let input = NdTensor::from_data([1, n, 7], rows.concat());
        let outputs = [self.nodes.h_out, self.nodes.durations];
        let mut out = self.encoder.run(vec![(self.nodes.rows, input.into())], &outputs)?;
        let (Some(durations), Some(hidden)) = (out.pop(), out.pop()) else {
            return Err(self.encoder.failed(&"too few outputs"));
        };
        let (hs, hidden) = hidden.into_shape_vec::<f32, 3>().map_err(|e| self.encoder.failed(&e))?;
        let (ds, durations) = durations.into_shape_vec::<f32, 3>().map_err(|e| self.encoder.failed(&e))?;
        if hs != [1, n, HIDDEN] || ds != [1, n, 3] {
            return Err(self.encoder.failed(&format!("outputs are {hs:?} and {ds:?}")));
        }
        Ok((hidden, durations.as_chunks::<3>().0.to_vec()))
    }

    fn decode(&self, hidden: Vec<f32>, placed: &Placed) -> Result<Vec<f32>, SpeechError> {
        let t = placed.unit.len();
        let h = NdTensor::from_data([1, hidden.len() / HIDDEN, HIDDEN], hidden);
        let unit = NdTensor::from_data([t], placed.unit.iter().map(|u| *u as i32).collect::<Vec<_>>());
        let place = NdTensor::from_data([t, PLACE], placed.place.concat());
        let inputs =
            vec![(self.nodes.h_in, h.into()), (self.nodes.unit, unit.into()), (self.nodes.place, place.into())];
        let mut out = self.decoder.run(inputs, &[self.nodes.frames])?;
        let value = out.pop().ok_or_else(|| self.decoder.failed(&"no output"))?;
        let (shape, data) = value.into_shape_vec::<f32, 2>().map_err(|e| self.decoder.failed(&e))?;
        if shape != [t, 2 * FRAME] {
            return Err(self.decoder.failed(&format!("output is {shape:?}")));
        }
        Ok(data)
    }

    /// Network output to vocoder frames, two of 5 ms for each placed one of 10 ms.
    fn frames(
        &self,
        rows: &[Row],
        placed: &Placed,
        output: &[f32],
        syllables: usize,
        manner: Manner,
    ) -> Vec<VoiceFrame> {
        let total = output.len() / FRAME;
        // The pitch sinks by some two semitones over a statement, less over a short phrase, hardly over a question.
        let slope = (syllables as f32 / 6.0).min(1.0) * if manner.question { 0.3 } else { 1.0 };
        let mut out = Vec::with_capacity(total);
        for (i, raw) in output.chunks_exact(FRAME).enumerate() {
            let value = |k: usize| raw[k] * self.stats.std[k] + self.stats.mean[k];
            let x = if total > 1 { i as f32 / (total - 1) as f32 } else { 0.0 };
            let semitones = (0.8 - 2.3 * x) * slope;
            let centre = self.stats.mean[CEPSTRA];
            let log_f0 = centre + (value(CEPSTRA) - centre) * 0.9 + semitones * std::f32::consts::LN_2 / 12.0;
            let voiced = raw_is_voiced(raw[CEPSTRA + 1], &rows[placed.unit[i / 2]], placed.place[i / 2][4]);
            let f0 = if voiced { (log_f0.exp() * manner.pitch).clamp(50.0, 800.0) } else { 0.0 };
            let cepstra = std::array::from_fn(value);
            out.push(VoiceFrame { cepstra, f0, aperiodicity: value(CEPSTRA + 2).min(0.0) });
        }
        out
    }
}

/// How a phrase is to be spoken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Manner {
    /// Speed, 1.0 normal.
    pub rate: f32,
    /// Pitch, 1.0 normal.
    pub pitch: f32,
    /// Whether it is a question.
    pub question: bool,
}

/// Voicing by the network, and through the body of every final: creaky third tones were analysed as unvoiced.
fn raw_is_voiced(voicing: f32, row: &Row, through_unit: f32) -> bool {
    let third = row[1] == 3.0;
    let in_body = through_unit > 0.12 && through_unit < if third { 0.92 } else { 0.8 };
    let in_final = row[0] >= FIRST_FINAL as f32;
    voicing > 0.0 || (in_final && in_body && voicing > if third { -99.0 } else { -3.0 })
}

/// Silence, the units of each syllable, silence.
fn rows(syllables: &[ToneSyllable]) -> Vec<Row> {
    let (Some(first), Some(last)) = (syllables.first(), syllables.last()) else { return Vec::new() };
    let class = syllables.len().min(4) as f32;
    let tone = |s: Option<&ToneSyllable>| s.map_or(0.0, |s| f32::from(s.tone));
    let mut out = vec![[SILENCE, 0.0, 0.0, tone(Some(first)), 0.0, 0.0, class]];
    for (k, s) in syllables.iter().enumerate() {
        let before = tone(k.checked_sub(1).and_then(|i| syllables.get(i)));
        let after = tone(syllables.get(k + 1));
        let (is_first, is_last) = (f32::from(u8::from(k == 0)), f32::from(u8::from(k + 1 == syllables.len())));
        let row = |unit: usize| [unit as f32, tone(Some(s)), before, after, is_first, is_last, class];
        let initial = s.initial.and_then(|n| INITIALS.iter().position(|i| *i == n));
        out.extend(initial.map(|i| row(FIRST_INITIAL + i)));
        out.extend(FINALS.iter().position(|f| *f == s.last).map(|f| row(FIRST_FINAL + f)));
    }
    out.push([SILENCE, 0.0, tone(Some(last)), 0.0, 0.0, 0.0, class]);
    out
}

/// Half frames (5 ms) of each unit's three states; `pace` scales them, consonants less than vowels.
fn durations(rows: &[Row], log_durations: &[[f32; 3]], pace: f32) -> Vec<[usize; 3]> {
    let n = rows.len();
    let scale = |k: usize, row: &Row| {
        if k == 0 || k + 1 == n {
            return 0.5;
        }
        let consonant = (row[0] as usize) < FIRST_FINAL;
        let base = if consonant { pace.powf(0.7) } else { pace };
        if row[5] > 0.0 { base * LAST } else { base }
    };
    rows.iter()
        .zip(log_durations)
        .enumerate()
        .map(|(k, (row, d))| {
            d.map(|d| (d.exp_m1() * scale(k, row)).round_ties_even().clamp(1.0, LONGEST_STATE) as usize)
        })
        .collect()
}

/// For every frame of 10 ms: its unit, and where in state and unit it lies.
struct Placed {
    unit: Vec<usize>,
    place: Vec<[f32; PLACE]>,
}

impl Placed {
    fn new(durations: &[[usize; 3]]) -> Self {
        let states: Vec<usize> = durations.iter().flatten().copied().collect();
        let total: usize = states.iter().sum();
        let (mut unit, mut place) = (Vec::new(), Vec::new());
        let (mut state, mut state_from, mut unit_from) = (0, 0, 0);
        for t in (0..total.saturating_sub(1)).step_by(2) {
            while t >= state_from + states[state] {
                state_from += states[state];
                state += 1;
                if state % 3 == 0 {
                    unit_from = state_from;
                }
            }
            let u = state / 3;
            let (long, unit_long) = (states[state] as f32, durations[u].iter().sum::<usize>() as f32);
            let (into, unit_into) = ((t + 1 - state_from) as f32, (t + 1 - unit_from) as f32);
            let mut p = [0.0; PLACE];
            p[state % 3] = 1.0;
            p[3] = into / long;
            p[4] = unit_into / unit_long;
            p[5] = long.ln_1p() - 1.5;
            p[6] = unit_long.ln_1p() - 2.5;
            p[7] = (unit_into / 20.0).min(2.0);
            p[8] = ((unit_long - unit_into) / 20.0).min(2.0);
            unit.push(u);
            place.push(p);
        }
        Placed { unit, place }
    }
}

impl Synthesizer for MandarinVoice {
    fn name(&self) -> &str {
        NAME
    }

    fn sound(&self) -> &str {
        &self.sound
    }

    fn speak(&self, request: &SpeechRequest, sink: &mut dyn FnMut(Vec<i16>) -> bool) -> Result<(), SpeechError> {
        let manner =
            |question| Manner { rate: request.rate.clamp(0.5, 2.0), pitch: request.pitch.clamp(0.5, 2.0), question };
        for phrase in phrases(&request.text) {
            let parts = phrase.syllables.chunks(LONGEST_PHRASE);
            let last = parts.len();
            for (i, part) in parts.enumerate() {
                let mut sound = levelled(self.phrase(part, manner(phrase.question))?);
                if i + 1 == last {
                    sound.resize(sound.len() + 8 * usize::from(phrase.pause_ms), 0);
                }
                if !sink(sound) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::builtin;
    use serde_json::Value;

    fn golden() -> Value {
        serde_json::from_str(include_str!("../../tests/golden/voice.json")).expect("golden values")
    }

    fn numbers(v: &Value) -> Vec<f32> {
        v.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number") as f32).collect()
    }

    fn near(ours: &[f32], theirs: &[f32], by: f32, what: &str) {
        assert_eq!(ours.len(), theirs.len(), "{what}");
        for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
            assert!((a - b).abs() <= by, "{what}[{i}]: {a}, the reference has {b}");
        }
    }

    /// 您好请稍等, as in `tests/golden/make.py`.
    fn syllables() -> Vec<ToneSyllable> {
        [("n", "in", 2), ("h", "ao", 3), ("q", "ing", 2), ("sh", "ao", 1), ("d", "eng", 3)]
            .map(|(i, l, tone)| ToneSyllable { initial: Some(i), last: l, tone, word_end: false })
            .to_vec()
    }

    #[test]
    fn rows_durations_and_places_are_the_references() {
        let golden = golden();
        let rows = rows(&syllables());
        let theirs: Vec<f32> = golden["rows"].as_array().expect("rows").iter().flat_map(numbers).collect();
        near(&rows.concat(), &theirs, 0.0, "rows");
        let voice = builtin::voice().expect("the built-in voice");
        let (_, log) = voice.encode(&rows).expect("encoded");
        let durations = durations(&rows, &log, PACE);
        let theirs: Vec<f32> = golden["durations"].as_array().expect("durations").iter().flat_map(numbers).collect();
        let ours: Vec<f32> = durations.iter().flatten().map(|d| *d as f32).collect();
        near(&ours, &theirs, 0.0, "durations");
        let placed = Placed::new(&durations);
        let units: Vec<f32> = placed.unit.iter().map(|u| *u as f32).collect();
        near(&units, &numbers(&golden["pi"]), 0.0, "units");
        for (at, want) in numbers(&golden["place_at"]).iter().zip(golden["place"].as_array().expect("places")) {
            near(&placed.place[*at as usize], &numbers(want), 1e-4, "place");
        }
    }

    #[test]
    fn frames_are_the_references() {
        let golden = golden();
        let voice = builtin::voice().expect("the built-in voice");
        let rows = rows(&syllables());
        let (hidden, log) = voice.encode(&rows).expect("encoded");
        let placed = Placed::new(&durations(&rows, &log, PACE));
        let out = voice.decode(hidden, &placed).expect("decoded");
        for (at, want) in numbers(&golden["net_at"]).iter().zip(golden["net"].as_array().expect("frames")) {
            let at = *at as usize;
            // The reference runs on 16-bit weights, the graphs on 32.
            near(&out[at * FRAME..(at + 1) * FRAME], &numbers(want), 0.02, "network");
        }
        let manner = Manner { rate: 1.0, pitch: 1.0, question: false };
        let frames = voice.frames(&rows, &placed, &out, 5, manner);
        let f0: Vec<f32> = frames.iter().map(|f| f.f0).collect();
        near(&f0, &numbers(&golden["f0"]), 1.0, "pitch");
        for (at, want) in numbers(&golden["cepstra_at"]).iter().zip(golden["cepstra"].as_array().expect("cepstra")) {
            near(&frames[*at as usize].cepstra, &numbers(want), 0.03, "cepstra");
        }
    }

    fn say(text: &str, rate: f32, pitch: f32) -> Vec<Vec<i16>> {
        let request = SpeechRequest {
            text: text.into(),
            lang: crate::speech::Lang::Zh,
            rate,
            pitch,
            audio: None,
            personal: false,
        };
        let mut out = Vec::new();
        let voice = builtin::voice().expect("the built-in voice");
        voice
            .speak(&request, &mut |pcm| {
                out.push(pcm);
                true
            })
            .expect("spoken");
        out
    }

    #[test]
    fn a_prompt_comes_phrase_by_phrase_at_an_even_level() {
        let parts = say("您好，请稍等。", 1.0, 1.0);
        assert_eq!(parts.len(), 2);
        for part in &parts {
            let loud = part.iter().map(|s| i32::from(*s).abs()).max().unwrap_or(0);
            assert!((5000..=31800).contains(&loud), "peak {loud}");
        }
        let tail = &parts[1][parts[1].len() - 800..];
        assert!(tail.iter().all(|s| *s == 0), "a pause ends the sentence");
    }

    #[test]
    fn rate_shortens_and_a_sink_that_has_enough_stops_it() {
        let length = |p: Vec<Vec<i16>>| p.iter().map(Vec::len).sum::<usize>() as f32;
        let (slow, fast) = (length(say("请稍等", 0.7, 1.0)), length(say("请稍等", 1.4, 1.0)));
        assert!(fast < 0.75 * slow, "{fast} {slow}");
        let request = SpeechRequest {
            text: "您好，请稍等。".into(),
            lang: crate::speech::Lang::Zh,
            rate: 1.0,
            pitch: 1.0,
            audio: None,
            personal: false,
        };
        let mut parts = 0;
        let voice = builtin::voice().expect("the built-in voice");
        voice
            .speak(&request, &mut |_| {
                parts += 1;
                false
            })
            .expect("spoken");
        assert_eq!(parts, 1);
    }

    #[test]
    fn nothing_to_say_is_silence() {
        assert!(say("", 1.0, 1.0).is_empty());
        assert!(say("，。", 1.0, 1.0).iter().all(|p| p.iter().all(|s| *s == 0)));
    }
}
