//! Layer 5. Legs over DTLS-SRTP, most of them browsers' (WebRTC): ICE, DTLS and SRTP around the RTP of a leg, without
//! sockets or clocks.
//!
//! A leg's road: [`Negotiator`] writes and reads what a description says of transport beside its codecs (RFC 8839, 8842,
//! 8843); what both sides agreed on, an [`Agreed`], makes a [`Transport`], which sits between the leg's one socket and its
//! [`crate::rtp::RtpSession`]. Datagrams go in, plain RTP and RTCP come out, and the other way round; time is a parameter.
//! STUN, DTLS and SRTP are those of the `rtc` crates; the ICE agent is our own, because a leg has one socket, one component
//! and an adversary.
//!
//! A phone that does DTLS-SRTP without ICE (RFC 5763) is a leg of this kind too: it is taken to be where its description
//! says. It must share one port for RTP and RTCP, as browsers do.
//!
//! Without the cargo feature `webrtc` the same names are there and no such leg can be made.

#[cfg(feature = "webrtc")]
mod description;
#[cfg(feature = "webrtc")]
mod dtls;
#[cfg(all(test, feature = "webrtc"))]
mod fuzz;
#[cfg(feature = "webrtc")]
mod ice;
#[cfg(feature = "webrtc")]
mod identity;
#[cfg(not(feature = "webrtc"))]
mod off;
#[cfg(feature = "webrtc")]
mod path;
#[cfg(feature = "webrtc")]
mod srtp;
#[cfg(feature = "webrtc")]
mod stun;
#[cfg(feature = "webrtc")]
mod transport;

#[cfg(feature = "webrtc")]
pub use description::{Agreed, Negotiator, obstacle, with_mapped};
#[cfg(feature = "webrtc")]
pub use identity::Identity;
#[cfg(not(feature = "webrtc"))]
pub use off::{Agreed, Identity, Negotiator, Transport, obstacle, with_mapped};
#[cfg(feature = "webrtc")]
pub use transport::Transport;

use crate::sdp::{Media, NegotiationError, Session};
use std::net::SocketAddr;

/// Where a leg's plan says that its sound goes, when a [`Transport`] decides it: a name for "through the transport" that
/// nothing is ever sent to.
pub const THROUGH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

/// What came of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    /// RTP or RTCP of the peer, in the buffer that was given.
    Media,
    /// Something of the transport's own.
    Handled,
    /// Not used.
    Dropped(Dropped),
}

/// Why a datagram was not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// Neither STUN nor DTLS nor RTP (RFC 7983), or cut short.
    Malformed,
    /// STUN that does not know our password, or answers nothing we asked.
    Unproven,
    /// From an address that has not proved to be the peer.
    Stranger,
    /// Media before the keys are there.
    Early,
    /// Media whose authentication failed, or a replay.
    Forged,
    /// DTLS that its association could not use, or too much of it.
    Handshake,
}

impl Dropped {
    /// All reasons, in the order of [`Dropped::index`].
    pub const ALL: [Dropped; 6] =
        [Dropped::Malformed, Dropped::Unproven, Dropped::Stranger, Dropped::Early, Dropped::Forged, Dropped::Handshake];

    /// A number from 0, for counters.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Why an offer over DTLS-SRTP cannot be taken, whatever its codecs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// RTCP would need a second port (RFC 5761).
    #[error(
        "it has no a=rtcp-mux: switch on RTCP multiplexing in the phone, RTCP on a port of its own is not supported here"
    )]
    NoMux,
    /// Nothing to know the peer's certificate by (RFC 8122), or only by a broken hash.
    #[error("it has no a=fingerprint of SHA-256")]
    NoFingerprint,
    /// Nowhere to send to.
    #[error("it has neither ICE nor a numeric address")]
    NoPlace,
    /// Credentials of ICE that are none (RFC 8839, 5.4).
    #[error("of a=ice-ufrag and a=ice-pwd one is missing, too short or too long")]
    BadIce,
    /// Who says hello stays open (RFC 8842, 5).
    #[error("its a=setup is neither active, passive nor actpass")]
    BadSetup,
    /// The cargo feature is off.
    #[error("this program was built without it (cargo feature webrtc)")]
    NotBuilt,
}

impl Obstacle {
    /// The same in Chinese.
    pub const fn zh(self) -> &'static str {
        match self {
            Obstacle::NoMux => "对方没有 a=rtcp-mux：请在话机上启用 RTCP 复用，本机不支持 RTCP 单独占用端口",
            Obstacle::NoFingerprint => "对方没有 SHA-256 的 a=fingerprint",
            Obstacle::NoPlace => "对方既没有 ICE，也没有数字地址",
            Obstacle::BadIce => "a=ice-ufrag 与 a=ice-pwd 缺少其一，或长度不对",
            Obstacle::BadSetup => "a=setup 不是 active、passive 或 actpass",
            Obstacle::NotBuilt => "本程序编译时未包含此功能（cargo feature webrtc）",
        }
    }
}

impl From<Obstacle> for NegotiationError {
    fn from(why: Obstacle) -> NegotiationError {
        NegotiationError::NotAcceptable(why.to_string())
    }
}

/// How a transport does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransportStats {
    /// The peer's address that media goes to now.
    pub selected: Option<SocketAddr>,
    /// How often that address changed after the first.
    pub moves: u32,
    /// Whether the peer still consents to be sent to (RFC 7675).
    pub consented: bool,
    /// Whether the keys are there.
    pub secured: bool,
    /// Datagrams not used, by [`Dropped::index`].
    pub dropped: [u64; Dropped::ALL.len()],
}

impl TransportStats {
    /// How often a reason occurred.
    pub fn dropped(&self, why: Dropped) -> u64 {
        self.dropped[why.index()]
    }
}

/// Whether a description is that of a browser, or of a phone with DTLS-SRTP: an audio stream runs over it.
pub fn is_over_dtls(description: &Session) -> bool {
    stream(description).is_some()
}

/// Whether a stream runs over DTLS-SRTP (RFC 5764), as it is named or, by older peers, implied.
fn runs_over_dtls(description: &Session, media: &Media) -> bool {
    let named = matches!(media.protocol.as_str(), "UDP/TLS/RTP/SAVPF" | "UDP/TLS/RTP/SAVP" | "RTP/SAVPF");
    named && media.attribute("fingerprint").or_else(|| description.attribute("fingerprint")).is_some()
}

/// The stream of such a description that is ours: the first audio one over DTLS-SRTP that is not refused.
fn stream(description: &Session) -> Option<usize> {
    description.media.iter().position(|m| m.kind == "audio" && m.port != 0 && runs_over_dtls(description, m))
}
