//! Layer 5. SIP: sockets, who may ask, transactions and dialogs.
//!
//! ```text
//! socket -> gate (framing, sanity, admission, registrar, "is it ours?") -> transaction -> dialog -> SipEvent -> application
//!        <- answers without a transaction
//! ```
//!
//! [`SipAgent`] is the whole interface. Nothing reaches a transaction that has not been checked before (`sanity`), by
//! whatever connection it came. A message is taken in one go, on the task that read it; who waits for an answer waits on a
//! task of its own. Session descriptions pass as text.

mod admission;
mod agent;
mod alive;
mod answers;
mod arriving;
mod asking;
pub mod bare;
mod calls;
pub mod certificate;
mod compose;
mod counters;
mod dial;
mod dialog;
mod digest;
mod event;
#[cfg(test)]
mod fuzz;
mod gate;
mod http;
mod hub;
mod identity;
mod inside;
mod locate;
mod newcomers;
mod options;
mod refer;
mod refused;
mod register;
mod registrar;
mod reliable;
mod reply;
mod routing;
mod sanity;
mod session_timer;
mod settings;
mod sockets;
mod stream;
mod time;
mod timed;
mod tls;
pub mod trace;
mod transactions;
mod transport;
mod udp;
mod uri;
mod websocket;
mod wire;

pub use agent::SipAgent;
pub use counters::SipCounters;
pub use dial::Dial;
pub use event::{DialogId, EndWhy, ReinviteId, SipError, SipEvent};
pub use http::{HttpDigest, Known};
pub use identity::{Diversion, Identity};
pub use locate::{Found, Names, Naptr, Resolver, Srv, in_order, lot};
pub use refer::ReferLimits;
pub use refused::RefusedFor;
pub use register::{Credential, Kept};
pub use registrar::Contact;
pub use settings::{Account, Listeners, Network, Served, SipSettings, TlsFiles, TrunkPeer};
pub use transport::Transport;
pub use uri::{is_server, numeric_host};
