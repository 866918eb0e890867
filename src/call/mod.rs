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

pub mod event;
pub mod input;
pub mod output;

pub use event::{CallEvent, CallRecord, EndReason, HungUpBy, Timings, TransferStage, Turn};
pub use input::{CallInput, Heard, LegFailure};
pub use output::CallOutput;
