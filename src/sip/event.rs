//! What an agent tells and what can go wrong.

use std::net::SocketAddr;

/// One dialog of an agent; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialogId(pub u64);

/// One re-INVITE (or UPDATE with a body) waiting for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReinviteId(pub u64);

/// Something that happened. For each dialog exactly one of [`SipEvent::Cancelled`], [`SipEvent::Bye`],
/// [`SipEvent::Failed`] and [`SipEvent::Ended`] comes, and it comes last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SipEvent {
    /// Somebody calls. Answer with `ring`, `answer` or `reject`; a 100 Trying goes out by itself when that takes over 200 ms.
    Invite {
        /// The call.
        dialog: DialogId,
        /// User part of From: the caller's number as he gives it (proves nothing).
        from_user: String,
        /// Display name of From.
        from_display: Option<String>,
        /// User part of the Request-URI: the number dialled.
        to_user: String,
        /// Where it came from.
        source: SocketAddr,
        /// What it came by.
        transport: super::Transport,
        /// What it says of who calls.
        identity: Box<super::Identity>,
        /// The offer; `None`: we make the offer in the 200 and the answer comes with the ACK.
        sdp: Option<String>,
        /// Call-ID header.
        call_id: String,
        /// The seat that called: it proved its password. `None`: a caller from outside.
        seat: Option<String>,
        /// The dialog this call takes the place of (RFC 3891); only a seat may ask for that.
        replaces: Option<DialogId>,
        /// Hops that are left for a call that follows from this one.
        hops: u8,
    },
    /// The caller confirmed our 200.
    Ack {
        /// The call.
        dialog: DialogId,
        /// Answer to our late offer.
        sdp: Option<String>,
    },
    /// The caller gave up before we answered.
    Cancelled {
        /// The call.
        dialog: DialogId,
    },
    /// The other side hung up.
    Bye {
        /// The call.
        dialog: DialogId,
    },
    /// The other side changes the session (hold, resume, new address). Answer with `answer_reinvite`.
    Reinvite {
        /// The call.
        dialog: DialogId,
        /// Name for the answer.
        request: ReinviteId,
        /// The offer; `None`: we make it, the answer comes as [`SipEvent::Ack`].
        sdp: Option<String>,
        /// Where it came from: media of a caller who moved comes from there too.
        source: SocketAddr,
    },
    /// A seat wants the other party of its call to be with somebody else (RFC 3515). Answer with `answer_refer`.
    Refer {
        /// The seat's dialog.
        dialog: DialogId,
        /// Name for the answer.
        request: ReinviteId,
        /// The seat; it proved its password.
        seat: String,
        /// User part of Refer-To.
        to_user: String,
        /// Attended: the dialog of the seat's other call, whose other party shall be joined.
        replaces: Option<DialogId>,
    },
    /// A text from a seat (RFC 3428); answered already. Lost when nobody reads events.
    Message {
        /// The call it came in, if any.
        dialog: Option<DialogId>,
        /// The seat; it proved its password.
        seat: String,
        /// User part of the Request-URI.
        to_user: String,
        /// The text, at most 4096 bytes.
        text: String,
    },
    /// SIP INFO; answered already.
    Info {
        /// The call.
        dialog: DialogId,
        /// The key (`0-9 * # A-D`), when it carried one.
        key: Option<char>,
        /// Whether the call is to be recorded, when it said so (`Record: on`, `Record: off`, as desk phones send).
        record: Option<bool>,
    },
    /// A call we placed rings or has early media (180-199).
    Progress {
        /// The call.
        dialog: DialogId,
        /// Status code.
        code: u16,
        /// Early media.
        sdp: Option<String>,
    },
    /// A call we placed was answered; the ACK is sent.
    Answered {
        /// The call.
        dialog: DialogId,
        /// The answer.
        sdp: Option<String>,
    },
    /// A call we placed was refused or reached nobody (408).
    Failed {
        /// The call.
        dialog: DialogId,
        /// Status code.
        code: u16,
        /// Reason phrase.
        reason: String,
    },
    /// A call ended by us, or because the other side went silent.
    Ended {
        /// The call.
        dialog: DialogId,
        /// Why.
        why: EndWhy,
    },
    /// A phone registered, refreshed, or ran out.
    Registered {
        /// Its user.
        user: String,
        /// Contacts it has now.
        contacts: usize,
    },
}

/// Why a call ended that no message of the other side ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndWhy {
    /// `hangup` or `shutdown`.
    HungUp,
    /// `reject`.
    Rejected,
    /// Our 200 was never confirmed.
    NoAck,
    /// The other side did not refresh the session in time (RFC 4028), or does not answer any more.
    Expired,
}

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SipError {
    /// The port is in use.
    #[error(
        "SIP port {port}/{transport} on {address} is taken by another program: stop it (`ss -lnp | grep :{port}` \
         shows which), or bind another port"
    )]
    PortTaken {
        /// Address asked for.
        address: std::net::IpAddr,
        /// Port asked for.
        port: u16,
        /// `udp`, `tcp`, `tls`, `ws` or `wss`.
        transport: &'static str,
    },
    /// The folder of the traces cannot be used.
    #[error("SIP traces cannot be kept in {0}: {1}; give another [trace] dir, or set [trace] on = false")]
    Trace(std::path::PathBuf, String),
    /// The address cannot be bound.
    #[error("cannot open SIP sockets on {0}: {1}")]
    Bind(SocketAddr, String),
    /// A certificate or key that cannot be used.
    #[error("TLS file {0}: {1}")]
    Certificate(std::path::PathBuf, String),
    /// A SIP address that cannot be read or found.
    #[error("`{0}` is no address to call: {1}")]
    BadAddress(String, &'static str),
    /// No connection could be opened.
    #[error("no connection to {0} over {1}: {2}")]
    Unreachable(SocketAddr, &'static str, String),
    /// All lines are taken, or the agent is going down.
    #[error("all lines are taken")]
    Busy,
    /// The dialog is over or never was.
    #[error("this call is over")]
    Gone,
    /// The other side refused.
    #[error("refused with {0}")]
    Refused(u16),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// TLS cannot be set up on this machine.
    #[error("TLS: {0}")]
    Tls(String),
}
