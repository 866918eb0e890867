//! Layer 4. One call, one machine: a value that a media shard drives.
//!
//! The contract, in six steps (no clock, socket or thread inside):
//!
//! 1. make a [`machine::Call`] for an admitted INVITE;
//! 2. every 20 ms give it the caller's frame with `hear` and take the frame to send with `speak`;
//! 3. give it everything else that happens with `handle(now, CallInput)`;
//! 4. call `timeout(now)` when `deadline()` has come;
//! 5. after each of these, drain `poll_output()` and carry it out;
//! 6. the last output is [`CallOutput::Finished`]; then drop it.

pub mod cdr;
pub mod ear;
pub mod event;
pub mod flow;
pub mod input;
pub mod judge;
pub mod keys;
pub mod life;
mod listen;
pub mod machine;
pub mod mouth;
pub mod output;
pub mod settings;
pub mod shade;
pub mod supervise;
mod talk;
#[cfg(test)]
mod tests;
pub mod timer;
pub mod tone;
pub mod transfer;
pub mod turn;
pub mod why;

pub use event::{CallEvent, CallRecord, EndReason, HungUpBy, Timings, TransferStage, Turn};
pub use flow::Flow;
pub use input::{CallInput, Heard, LegFailure};
pub use life::{Stage, State};
pub use machine::Call;
pub use output::CallOutput;
pub use settings::{CallSettings, Phrases};
pub use supervise::Supervision;
pub use turn::Phase;
pub use why::{Facts, Why};
