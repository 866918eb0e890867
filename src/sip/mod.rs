//! Layer 5. The SIP library at arm's length.
//!
//! ```text
//! socket -> gate (framing, sanity, admission, registrar, "is it ours?") -> canonical bytes -> rsipstack
//!        <- answers without a transaction                                   dialogs -> SipEvent -> application
//! ```
//!
//! [`SipAgent`] is the whole interface. Nothing reaches the library's transactions that has not been checked and
//! rewritten before (`sanity`, `reply::canonical`), by whatever connection it came; nothing it says reaches the application but as a [`SipEvent`].
//! Session descriptions pass as text.
//!
//! The library logs whole messages at level `info`: keep `rsipstack` at `warn` or below in log filters.

mod admission;
mod agent;
mod alive;
pub mod bare;
mod calls;
pub mod certificate;
mod counters;
mod dial;
mod dialogs;
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
mod mend;
mod newcomers;
mod on_the_wire;
mod options;
mod refer;
mod refused;
mod register;
mod registrar;
mod reliable;
mod reply;
mod sanity;
mod session_timer;
mod settings;
mod sockets;
mod stream;
mod time;
mod timed;
mod tls;
pub mod trace;
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
