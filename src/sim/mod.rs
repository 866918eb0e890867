//! Layer 6. A whole hotline in one thread from one seed: callers, seats, virtual time; no tokio.
//!
//! Same seed, same call: a failing seed is a reproduction. `run(seed)` plays one random call through
//! [`crate::call::Call`] and watches everything it puts out; `run_with` does the same with a flow of the caller's
//! choosing.

mod caller;
mod dice;
mod flow;
mod watch;
mod world;

pub use dice::Dice;
pub use flow::RandomFlow;
pub use watch::Seen;
pub use world::{Report, SimVad, run, run_traced, run_with};
