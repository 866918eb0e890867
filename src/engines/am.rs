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
