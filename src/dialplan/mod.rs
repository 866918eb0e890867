//! Layer 3. Call flows an administrator can read: format, checks, and a machine that steps through them.
//!
//! The machine is pure: [`machine::Run::step`] takes an [`Input`] and gives a [`Reply`] (what to say, what to
//! await); who speaks, listens and acts is no business of this room.
//!
//! The road of a set: text → [`parse`] → [`model`] and [`hotline`] → [`check`] → [`FlowSet`] → [`Run`] for each call.
//! [`FlowSet::understand`] and [`FlowSet::grammar`] are the two sides of a [`Listen`]; [`flowtest`] runs the tests
//! that stand inside the files.

pub mod actions;
pub mod check;
pub mod expr;
pub mod flowtest;
pub mod hotline;
mod language;
pub mod machine;
pub mod model;
pub mod office;
pub mod parse;
pub mod problem;
pub mod prompt;
pub mod reply;
pub mod set;
mod understand;
pub mod understood;
pub mod value;

pub use machine::{Counters, Run, Session};
pub use model::Level;
pub use problem::{Problem, Severity};
pub use reply::{
    ActionCall, AnswerKind, Await, Choice, Input, KeyRule, Listen, Outcome, Pause, Prompt, Reply, TicketDraft, Trace,
    TransferOrder, TransferResult,
};
pub use set::{FlowSet, SourceFile, embedded};
pub use understood::{Emotion, Global, Meaning, Understood};
pub use value::Value;
