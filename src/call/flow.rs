//! What a call needs of a dialplan: something that answers one input with one reply.

use crate::dialplan::{Counters, Input, Outcome, Reply, Run};

/// A flow being run for one call. It may answer anything; the call keeps its own limits.
pub trait Flow: Send {
    /// Takes one input and says what to speak and what to await.
    fn step(&mut self, input: Input) -> Reply;
    /// What the record counts.
    fn counters(&self) -> Counters;
    /// Flows entered, in order.
    fn flows(&self) -> &[String];
    /// What went wrong inside it since the last call of this, in words; the call goes on and writes it down.
    fn take_troubles(&mut self) -> Vec<String> {
        Vec::new()
    }
    /// How the business would stand if the caller hung up now; `None`: as the call itself sees it.
    fn outcome_if_left(&self) -> Option<Outcome> {
        None
    }
}

impl Flow for Run {
    fn step(&mut self, input: Input) -> Reply {
        Run::step(self, input)
    }

    fn counters(&self) -> Counters {
        Run::counters(self)
    }

    fn flows(&self) -> &[String] {
        Run::flows(self)
    }

    fn take_troubles(&mut self) -> Vec<String> {
        Run::take_troubles(self)
    }

    fn outcome_if_left(&self) -> Option<Outcome> {
        Some(self.outcome_on_hangup())
    }
}
