//! Layer 2. RTP (RFC 3550) without sockets: bytes and moments in, frames and bytes out.
//!
//! A datagram's road in: [`source`] (is it from the peer?) -> [`packet`] (a view) -> [`receiver`] (counted,
//! keys apart) -> [`jitter`] (one copy: decoded into its place; what a codec with memory sent is kept and decoded in its
//! turn) -> a frame per tick. The road out: a frame
//! per tick -> [`sender`] -> a datagram. [`session`] is both, with [`rtcp`].

mod coded;
pub mod jitter;
pub mod packet;
pub mod quality;
pub mod receiver;
pub mod rtcp;
pub mod sender;
pub mod session;
mod silence;
pub mod source;
pub mod srtp;
pub mod telephone_event;

pub use packet::{RtpError, RtpView};
pub use quality::Quality;
pub use receiver::{Carried, Ignored, Received, coding};
pub use session::{RtpSession, Stats};

#[cfg(test)]
mod codec_tests;
#[cfg(test)]
mod pcap_tests;

/// A small generator of well mixed numbers (SplitMix64) for SSRCs, first sequence numbers and report times:
/// the seed decides them all.
#[derive(Debug, Clone)]
pub(crate) struct Mixed(u64);

impl Mixed {
    pub(crate) fn new(seed: u64) -> Self {
        Mixed(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
