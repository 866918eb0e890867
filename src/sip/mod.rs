//! Layer 5. The SIP library at arm's length.
//!
//! ```text
//! socket -> gate (framing, sanity, admission, registrar, "is it ours?") -> canonical bytes -> rsipstack
//!        <- answers without a transaction                                   dialogs -> SipEvent -> application
//! ```
//!
//! [`SipAgent`] is the whole interface. Nothing the library parses has not been checked and rewritten before
//! (`sanity`, `reply::canonical`); nothing it says reaches the application but as a [`SipEvent`].
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
mod dialogs;
mod digest;
mod event;
mod gate;
mod hub;
mod inside;
mod registrar;
mod reply;
mod sanity;
mod settings;
mod sockets;
mod tcp;
mod time;
mod udp;
mod uri;
mod wire;

pub use agent::{Credential, Dial, SipAgent};
pub use counters::SipCounters;
pub use event::{DialogId, EndWhy, ReinviteId, SipError, SipEvent};
pub use registrar::Contact;
pub use settings::{Account, Network, Served, SipSettings};
