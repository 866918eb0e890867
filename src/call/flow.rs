//! What a call needs of a dialplan: something that answers one input with one reply.

use crate::dialplan::{Input, Outcome, Reply};

/// A flow being run for one call. It may answer anything; the call keeps its own limits.
pub trait Flow: Send {
    /// Takes one input and says what to speak and what to await.
    fn step(&mut self, input: Input) -> Reply;
    /// What the record counts.
    fn counters(&self) -> FlowCounters;
    /// How the business would stand if the caller hung up now; `None`: as the call itself sees it.
    fn outcome_if_left(&self) -> Option<Outcome> {
        None
    }
}

/// What a flow has counted so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FlowCounters {
    /// Caller steps used.
    pub steps: u8,
    /// Retries.
    pub retries: u8,
    /// Verification questions.
    pub verify_questions: u8,
    /// Flows entered, in order.
    pub flows: Vec<String>,
}
