//! The acoustic model: features to log posteriors of the 60 units every 30 ms, computed while the caller speaks.
//!
//! The network has no state. Each new stretch is computed with the rows before it that can still matter
//! ([`LEFT`]) and those after it that already do ([`RIGHT`]), so that pieces give what the whole would give
//! (up to the rounding of its 8-bit arithmetic); when the caller stops, only the tail is left to compute.

use super::frontend::{FeatureStream, FrontEnd, MELS, ROW};
use super::onnx::{Graph, ModelBytes};
use super::units::UNITS;
use crate::speech::SpeechError;
use rten::NodeId;
use rten_tensor::NdTensorView;
use std::sync::Arc;

/// Rows of history the network can see (0.78 s).
pub const LEFT: usize = 26;
/// Rows of future the network can see (0.21 s, and 50 ms inside the rows).
pub const RIGHT: usize = 7;
/// New rows that are worth a run (0.3 s).
const STEP: usize = 10;
/// The network's shifted layers need at least this many rows; a shorter utterance (a click) gets silent ones after it.
const FEWEST: usize = 8;

/// The network and its front end, shared by all calls.
pub struct AcousticModel {
    graph: Graph,
    input: NodeId,
    output: NodeId,
    front: Arc<FrontEnd>,
}

impl AcousticModel {
    /// `mean`: the training's average log-mel vector.
    pub fn load(name: &str, network: ModelBytes, mean: [f32; MELS]) -> Result<Self, SpeechError> {
        let graph = Graph::load(name, network)?;
        let (input, output) = (graph.node("x")?, graph.node("logp")?);
        Ok(AcousticModel { graph, input, output, front: Arc::new(FrontEnd::new(mean)) })
    }

    /// Log posteriors of `rows` ([`ROW`] values each), [`UNITS`] values a row.
    fn run(&self, rows: &[f32]) -> Result<Vec<f32>, SpeechError> {
        let n = rows.len() / ROW;
        if n < FEWEST {
            let mut padded = rows.to_vec();
            padded.resize(FEWEST * ROW, 0.0);
            let mut out = self.run(&padded)?;
            out.truncate(n * UNITS);
            return Ok(out);
        }
        let x = NdTensorView::from_data([1, n, ROW], rows);
        let mut out = self.graph.run(vec![(self.input, x.into())], &[self.output])?;
        let value = out.pop().ok_or_else(|| self.graph.failed(&"no output"))?;
        let (shape, data) = value.into_shape_vec::<f32, 3>().map_err(|e| self.graph.failed(&e))?;
        if shape != [1, n, UNITS] {
            return Err(self.graph.failed(&format!("output is {shape:?}, not [1, {n}, {UNITS}]")));
        }
        Ok(data)
    }
}

/// One utterance on its way to posteriors.
pub struct PosteriorStream {
    model: Arc<AcousticModel>,
    features: FeatureStream,
    /// Rows from number `first` on; older ones are no longer needed.
    rows: Vec<f32>,
    first: usize,
    /// Log posteriors so far, [`UNITS`] a row.
    out: Vec<f32>,
}

impl PosteriorStream {
    /// Begins an utterance.
    pub fn new(model: Arc<AcousticModel>) -> Self {
        let features = FeatureStream::new(Arc::clone(&model.front));
        PosteriorStream { model, features, rows: Vec::new(), first: 0, out: Vec::new() }
    }

    /// Takes samples; computes when enough have come.
    pub fn feed(&mut self, pcm: &[i16]) -> Result<(), SpeechError> {
        self.features.feed(pcm, &mut self.rows);
        while self.known() >= self.done() + STEP + RIGHT {
            self.compute(STEP)?;
        }
        Ok(())
    }

    /// Ends the utterance and gives all log posteriors, [`UNITS`] values for every 30 ms.
    pub fn finish(&mut self) -> Result<Vec<f32>, SpeechError> {
        self.features.finish(&mut self.rows);
        let rest = self.known() - self.done();
        if rest > 0 {
            self.compute(rest)?;
        }
        Ok(std::mem::take(&mut self.out))
    }

    fn known(&self) -> usize {
        self.first + self.rows.len() / ROW
    }

    fn done(&self) -> usize {
        self.out.len() / UNITS
    }

    fn compute(&mut self, new: usize) -> Result<(), SpeechError> {
        let done = self.done();
        let from = done.saturating_sub(LEFT).max(self.first);
        let to = (done + new + RIGHT).min(self.known());
        let part = &self.rows[(from - self.first) * ROW..(to - self.first) * ROW];
        let log = self.model.run(part)?;
        self.out.extend_from_slice(&log[(done - from) * UNITS..(done - from + new) * UNITS]);
        let keep = (done + new).saturating_sub(LEFT).max(self.first);
        self.rows.drain(..(keep - self.first) * ROW);
        self.first = keep;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::decode::{Frames, forward::Scorer, tree::PrefixTree};
    use crate::engines::manifest::Models;
    use serde_json::Value;

    fn golden() -> Value {
        serde_json::from_str(include_str!("../../tests/golden/am.json")).expect("golden values")
    }

    fn numbers(v: &Value) -> Vec<f32> {
        v.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number") as f32).collect()
    }

    /// The waveform of `tests/golden/make.py`.
    fn waveform() -> Vec<i16> {
        let mut seed = 1u32;
        (0..16000)
            .map(|i| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noise = f64::from(seed >> 16) / 65536.0 - 0.5;
                let t = f64::from(i) / 8000.0;
                let gate = if (i / 1600) % 3 > 0 { 1.0 } else { 0.1 };
                let tau = 2.0 * std::f64::consts::PI;
                let tones = 0.5 * (tau * (180.0 * t + 40.0 * t * t)).sin()
                    + 0.3 * (tau * (700.0 * t + 300.0 * t * t)).sin()
                    + 0.2 * (tau * 2400.0 * t).sin();
                (9000.0 * (gate * tones + 0.1 * noise) + 0.5).floor() as i16
            })
            .collect()
    }

    fn model() -> Arc<AcousticModel> {
        Models::builtin().expect("a manifest").acoustic_model().expect("the built-in model").into()
    }

    fn posteriors(model: &Arc<AcousticModel>, chunk: usize) -> Vec<f32> {
        let mut stream = PosteriorStream::new(Arc::clone(model));
        for part in waveform().chunks(chunk) {
            stream.feed(part).expect("fed");
        }
        stream.finish().expect("finished")
    }

    #[test]
    fn features_and_posteriors_are_the_references() {
        let (golden, model) = (golden(), model());
        let mut features = FeatureStream::new(Arc::clone(&model.front));
        let mut rows = Vec::new();
        features.feed(&waveform(), &mut rows);
        features.finish(&mut rows);
        assert_eq!(rows.len() / ROW, golden["rows"].as_u64().expect("a count") as usize);
        let pick = numbers(&golden["pick"]);
        for (at, want) in pick.iter().zip(golden["features"].as_array().expect("features")) {
            let ours = &rows[*at as usize * ROW..(*at as usize + 1) * ROW];
            for (a, b) in ours.iter().zip(numbers(want)) {
                assert!((a - b).abs() < 1e-3, "row {at}: {a}, the reference has {b}");
            }
        }
        let whole = model.run(&rows).expect("run");
        for (at, want) in pick.iter().zip(golden["posteriors"].as_array().expect("posteriors")) {
            for (u, b) in numbers(want).into_iter().enumerate() {
                let a = whole[*at as usize * UNITS + u].exp();
                assert!((a - b).abs() < 0.03, "frame {at} unit {u}: {a}, the reference has {b}");
            }
        }
        // The decoder's score agrees as well, up to the offset of the best path.
        let scorer = Scorer::new(&Frames::new(&whole, 1.0));
        let best = golden["best_path"].as_f64().expect("a score") as f32;
        let units = golden["phrase_units"].as_array().expect("units");
        for (labels, want) in units.iter().zip(numbers(&golden["phrase_scores"])) {
            let labels: Vec<u8> = numbers(labels).into_iter().map(|u| u as u8).collect();
            let ours = scorer.scores(&PrefixTree::new([labels.as_slice()]))[0];
            assert!(
                (ours - (want - best)).abs() < 0.02 * (want - best).abs(),
                "{ours}, the reference has {}",
                want - best
            );
        }
    }

    #[test]
    fn pieces_of_any_size_give_what_the_whole_gives() {
        let model = model();
        let whole = posteriors(&model, usize::MAX);
        for chunk in [1, 160, 777, 2400] {
            let pieces = posteriors(&model, chunk);
            assert_eq!(pieces.len(), whole.len());
            let apart = whole.iter().zip(&pieces).map(|(a, b)| (a.exp() - b.exp()).abs()).fold(0.0, f32::max);
            assert!(apart < 0.05, "chunks of {chunk}: {apart}");
        }
    }

    #[test]
    fn little_sound_gives_little_and_none_gives_almost_none() {
        let model = model();
        for n in [0, 1, 79, 80, 239, 240, 500] {
            let mut stream = PosteriorStream::new(Arc::clone(&model));
            stream.feed(&vec![0; n]).expect("fed");
            assert_eq!(stream.finish().expect("finished").len() / UNITS, ((n + 60) / 80 + 1) / 3, "{n} samples");
        }
    }
}
