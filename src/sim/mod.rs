//! Layer 6. Calls in one thread from one seed: caller, seat, back office, network, virtual time; no tokio.
//!
//! Same seed, same call: a failing seed is a reproduction. [`run`] plays one random call through
//! [`crate::call::Call`] with a flow that answers anything, [`run_flows`] with real dialplans and their real
//! understanding; both watch everything the call puts out. One call at a time: what calls do to each other (ports,
//! seats, admission) is seen over sockets, not here.

mod business;
mod caller;
mod dice;
mod flow;
mod watch;
mod world;

pub use dice::Dice;
pub use flow::RandomFlow;
pub use watch::Seen;
pub use world::{Report, SimVad, run, run_flows, run_flows_traced, run_traced};
