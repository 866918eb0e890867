//! Layer 6. Sockets, threads and tasks: what turns the rooms below into a running hotline.
//!
//! ```text
//! SIP sockets -> sip::SipAgent -> switchboard (one task) <-> shards (threads, 5 ms sub-ticks) <-> RTP sockets
//!                                   |        ^                  |        ^
//!                                   v        |                  v        |
//!                               store, bus, writer        inference and voice workers
//! ```
//!
//! A frame lives and dies in its shard. Utterances go to the inference workers in chunks; prompts come back whole
//! phrases at a time; everything else goes through the switchboard.

mod arrivals;
mod back_office;
pub mod bus;
mod callee;
pub mod disk;
mod ends;
pub mod hotline;
pub mod inference;
mod keys;
mod line;
pub mod load;
mod metrics;
mod mos;
pub mod notices;
pub mod outbound;
mod outward;
mod pace;
pub mod phone;
pub mod ports;
pub mod probe;
pub mod recorder;
mod referring;
pub mod relays;
mod renegotiation;
mod roster;
pub mod routes;
mod seats;
mod secure;
pub mod shard;
pub mod sound;
pub mod stun;
mod supervisors;
pub mod switchboard;
pub mod time;
mod toned;
mod transfers;
pub mod trunks;
pub mod voices;
mod why;

pub use bus::{Bus, Notice};
pub use hotline::{Hotline, HotlineSettings, StartError};
pub use metrics::MetricsText;
pub use supervisors::Supervisor;
