//! What was said over SIP in each call: taken at the gate, masked, kept for a while, shown as a ladder or a capture.
//!
//! ```text
//! gate, sockets ──copy──▶ bounded queue ──▶ thread `sip-trace`: gather by call ──at the end──▶ mask ──▶ one file per call
//! ```
//!
//! Signalling only copies bytes into the queue and never waits: what finds no room is counted and lost. Nothing comes to
//! disk that [`mask`] has not gone over. Masking and writing are most of the cost, and where so many calls end that a
//! trace would be gone within a minute, those of ordinary calls are spared it.

mod file;
mod keep;
mod ladder;
mod mask;
mod pcap;
mod shelf;
mod tracer;

pub use file::BadTrace;
pub use ladder::{Lang, formats, ladder, sdp_summary};
pub use mask::{call_id as masked_call_id, message as masked};
pub use pcap::pcap;
pub use shelf::{Found, Shelf};
pub use tracer::TraceFigures;
pub(super) use tracer::Tracer;

use super::transport::Transport;
use std::net::SocketAddr;
use std::path::PathBuf;

/// How much is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceSettings {
    /// Folder of the files.
    pub dir: PathBuf,
    /// Calls kept; the oldest go first. Refused messages that never became a call get a quarter of that besides.
    pub calls: usize,
    /// Bytes kept in all, in the same way.
    pub bytes: u64,
}

/// Which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To us.
    In,
    /// From us.
    Out,
}

/// A message as it was tapped: in memory only.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Raw {
    at: u64,
    way: Way,
    carrier: Option<Transport>,
    remote: Option<SocketAddr>,
    why: Option<super::refused::RefusedFor>,
    bytes: Vec<u8>,
}

/// A trace whose messages and Call-IDs are not masked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Gathered {
    id: String,
    refused: bool,
    began: u64,
    ending: Ending,
    lost: u32,
    legs: Vec<(Role, String)>,
    messages: Vec<Raw>,
}

/// What the other side of a leg is to the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Who called us.
    Caller,
    /// A seat's phone that we called.
    Seat,
    /// A trunk that we called through.
    Trunk,
    /// A supervisor who listens.
    Supervisor,
}

impl Role {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Caller => "caller",
            Role::Seat => "seat",
            Role::Trunk => "trunk",
            Role::Supervisor => "supervisor",
        }
    }

    fn named(name: &str) -> Option<Role> {
        [Role::Caller, Role::Seat, Role::Trunk, Role::Supervisor].into_iter().find(|r| r.name() == name)
    }
}

/// One leg of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegTrace {
    /// Who is at its other end.
    pub role: Role,
    /// Its Call-ID, masked as in the messages.
    pub call_id: String,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Microseconds since 1970 UTC.
    pub at: u64,
    /// Which way.
    pub way: Way,
    /// Over what.
    pub carrier: Transport,
    /// Our address.
    pub local: SocketAddr,
    /// The other side's.
    pub remote: SocketAddr,
    /// The word of the reason it was refused for, when it was.
    pub refused: Option<String>,
    /// The message, masked.
    pub bytes: Vec<u8>,
}

/// How a call ended, as its trace says it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ending {
    /// The caller's number, masked.
    pub from: String,
    /// The number dialled, masked where it is somebody's.
    pub to: String,
    /// Q.850 cause.
    pub cause: u16,
    /// Why, in English.
    pub why: String,
    /// Why, in Chinese.
    pub why_zh: String,
}

/// Everything of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The call's id; one of its own for what was refused before it was a call.
    pub id: String,
    /// Whether it was refused before it was a call.
    pub refused: bool,
    /// First message, microseconds since 1970 UTC.
    pub began: u64,
    /// How it ended.
    pub ending: Ending,
    /// Messages that are missing here because there was no room.
    pub lost: u32,
    /// Its legs, in the order in which they began.
    pub legs: Vec<LegTrace>,
    /// Its messages, in order.
    pub messages: Vec<Seen>,
}

impl Trace {
    /// The leg that a message belongs to.
    fn leg_of(&self, seen: &Seen) -> Option<&LegTrace> {
        let wire = super::wire::Wire::parse(&seen.bytes).ok()?;
        let call_id = wire.get("call-id")?;
        self.legs.iter().find(|l| l.call_id == call_id)
    }
}
