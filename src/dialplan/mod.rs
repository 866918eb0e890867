//! Layer 3. Call flows an administrator can read: format, checks, and a machine that steps through them.
//!
//! The machine is pure: [`machine::Run::step`] takes an [`Input`] and gives a [`Reply`] (what to say, what to
//! await); who speaks, listens and acts is no business of this room.

pub mod reply;
pub mod understood;
pub mod value;

pub use reply::{
    ActionCall, AnswerKind, Await, Choice, Input, KeyRule, Listen, Outcome, Pause, Prompt, Reply, TicketDraft, Trace,
    TransferOrder, TransferResult,
};
pub use understood::{Emotion, Global, Meaning, Understood};
pub use value::Value;
pub mod parse;
pub mod problem;
