//! SRTP and SRTCP (RFC 3711) around a leg's packets, with keys from the session description.
//!
//! The crate `webrtc-srtp` encrypts and checks. What it leaves open is shut here: it would keep a state for every
//! source number that a stranger makes up, take reports that are not encrypted without checking them, and measure
//! header extensions by what they hold and not by what they take.

use super::packet;
use crate::sdp::Protection;
use crate::sdp::crypto::{Key, Suite};
use bytes::Bytes;
use webrtc_srtp::context::Context;
use webrtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use webrtc_srtp::protection_profile::ProtectionProfile;

/// Packets behind the newest that may still come, once each: as many as the receiver tells apart.
const WINDOW: usize = 128;
/// Sources under one key of the peer: one a call is usual, a PBX that plays from many files takes a few.
const MOST_SOURCES: usize = 64;
/// Unknown sources tried before what the trials left behind is thrown away.
const MOST_TRIALS: u32 = 64;
/// Bytes of the index that a report carries behind its text, and of the tag behind that.
const RTCP_INDEX: usize = 4;
const RTCP_TAG: usize = 10;

/// Why a datagram could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealed {
    /// Not made with the peer's key, or changed on the way.
    Forged,
    /// Opened before, or older than the window of packets that are told apart.
    Replayed,
}

/// Both directions of a leg.
pub struct Srtp {
    agreed: Protection,
    out: Context,
    inward: Opener,
    /// Under the peer's key of before, until the first packet under the new one has come.
    before: Option<Opener>,
}

impl std::fmt::Debug for Srtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Srtp").field("agreed", &self.agreed).finish_non_exhaustive()
    }
}

impl Srtp {
    /// With fresh contexts; none if the crate refuses the keys, which are of the right length by their type.
    pub fn new(agreed: Protection) -> Option<Self> {
        Some(Srtp {
            out: context(agreed.suite, &agreed.ours)?,
            inward: Opener::new(agreed.suite, &agreed.theirs, agreed.their_mki)?,
            before: None,
            agreed,
        })
    }

    /// A new agreement. A direction whose key stays goes on in its context, because a context begun anew under the same
    /// key would repeat the key stream; a new key begins a new one.
    pub fn replan(&mut self, next: Protection) -> Option<()> {
        let now = self.agreed;
        if (next.suite, next.ours) != (now.suite, now.ours) {
            self.out = context(next.suite, &next.ours)?;
        }
        if (next.suite, next.theirs, next.their_mki) != (now.suite, now.theirs, now.their_mki) {
            let fresh = Opener::new(next.suite, &next.theirs, next.their_mki)?;
            self.before = Some(std::mem::replace(&mut self.inward, fresh));
        }
        self.agreed = next;
        Some(())
    }

    /// Encrypts an RTP packet in place. False: it could not be, and must not be sent.
    pub fn protect_rtp(&mut self, packet: &mut Vec<u8>) -> bool {
        let Some((header, _)) = header_of(packet) else { return false };
        replaced(packet, self.out.encrypt_rtp_with_header(packet, &header).ok())
    }

    /// Encrypts a compound RTCP datagram in place. False: it could not be, and must not be sent.
    pub fn protect_rtcp(&mut self, packet: &mut Vec<u8>) -> bool {
        let sealed = self.out.encrypt_rtcp(packet).ok();
        replaced(packet, sealed)
    }

    /// The RTP packet within a datagram.
    pub fn open_rtp(&mut self, datagram: &[u8]) -> Result<Bytes, Sealed> {
        self.open(|opener| opener.rtp(datagram))
    }

    /// The compound RTCP datagram within one.
    pub fn open_rtcp(&mut self, datagram: &[u8]) -> Result<Bytes, Sealed> {
        self.open(|opener| opener.rtcp(datagram))
    }

    fn open(&mut self, mut by: impl FnMut(&mut Opener) -> Result<Bytes, Sealed>) -> Result<Bytes, Sealed> {
        let opened = by(&mut self.inward);
        match (&opened, &mut self.before) {
            (Err(Sealed::Forged), Some(before)) => by(before),
            (Ok(_), Some(_)) => {
                self.before = None;
                opened
            }
            _ => opened,
        }
    }
}

fn replaced(packet: &mut Vec<u8>, sealed: Option<Bytes>) -> bool {
    packet.clear();
    let Some(sealed) = sealed else { return false };
    packet.extend_from_slice(&sealed);
    true
}

fn profile(suite: Suite) -> ProtectionProfile {
    match suite {
        Suite::AesCm80 => ProtectionProfile::Aes128CmHmacSha1_80,
        Suite::AesCm32 => ProtectionProfile::Aes128CmHmacSha1_32,
    }
}

/// A context for sending, or for receiving without memory of what came.
fn context(suite: Suite, key: &Key) -> Option<Context> {
    Context::new(key.master(), key.salt(), profile(suite), None, None).ok()
}

/// One direction in.
struct Opener {
    suite: Suite,
    key: Key,
    /// Bytes of the key identifier between packet and tag.
    mki: usize,
    /// Sees packets of known sources only.
    known: Context,
    sources: Vec<u32>,
    reporters: Vec<u32>,
    /// Sees the first packet of each source: made anew after some failures, so that made-up numbers take no memory.
    trial: Context,
    trials: u32,
    /// A packet without its key identifier.
    scratch: Vec<u8>,
}

impl Opener {
    fn new(suite: Suite, key: &Key, mki: u8) -> Option<Self> {
        let windows = (srtp_replay_protection(WINDOW), srtcp_replay_protection(WINDOW));
        Some(Opener {
            known: Context::new(key.master(), key.salt(), profile(suite), Some(windows.0), Some(windows.1)).ok()?,
            trial: context(suite, key)?,
            suite,
            key: *key,
            mki: usize::from(mki),
            sources: Vec::new(),
            reporters: Vec::new(),
            trials: 0,
            scratch: Vec::new(),
        })
    }

    fn rtp(&mut self, datagram: &[u8]) -> Result<Bytes, Sealed> {
        let scratch = std::mem::take(&mut self.scratch);
        let (scratch, cut) = self.without_identifier(datagram, self.rtp_tag(), scratch);
        let opened = self.rtp_within(if cut { &scratch[..] } else { datagram });
        self.scratch = scratch;
        opened
    }

    fn rtp_within(&mut self, packet: &[u8]) -> Result<Bytes, Sealed> {
        let (header, start) = header_of(packet).ok_or(Sealed::Forged)?;
        if packet.len() < start + self.rtp_tag() {
            return Err(Sealed::Forged);
        }
        if !self.sources.contains(&header.ssrc) {
            self.admit(
                header.ssrc,
                |s| &mut s.sources,
                |trial| trial.decrypt_rtp_with_header(packet, &header).is_ok(),
            )?;
        }
        self.known.decrypt_rtp_with_header(packet, &header).map_err(reason)
    }

    fn rtcp(&mut self, datagram: &[u8]) -> Result<Bytes, Sealed> {
        let scratch = std::mem::take(&mut self.scratch);
        let (scratch, cut) = self.without_identifier(datagram, RTCP_TAG, scratch);
        let opened = self.rtcp_within(if cut { &scratch[..] } else { datagram });
        self.scratch = scratch;
        opened
    }

    fn rtcp_within(&mut self, packet: &[u8]) -> Result<Bytes, Sealed> {
        let index = packet.len().checked_sub(RTCP_INDEX + RTCP_TAG).filter(|&at| at >= 8).ok_or(Sealed::Forged)?;
        // Not encrypted by its own word: the crate would believe it without a look at its tag.
        if packet[index] & 0x80 == 0 {
            return Err(Sealed::Forged);
        }
        let ssrc = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
        if !self.reporters.contains(&ssrc) {
            self.admit(ssrc, |s| &mut s.reporters, |trial| trial.decrypt_rtcp(packet).is_ok())?;
        }
        self.known.decrypt_rtcp(packet).map_err(reason)
    }

    /// A source becomes known by a packet made with the key.
    fn admit(
        &mut self,
        ssrc: u32,
        list: fn(&mut Self) -> &mut Vec<u32>,
        opens: impl FnOnce(&mut Context) -> bool,
    ) -> Result<(), Sealed> {
        self.trials += 1;
        if self.trials > MOST_TRIALS {
            self.trials = 0;
            self.trial = context(self.suite, &self.key).ok_or(Sealed::Forged)?;
        }
        if !opens(&mut self.trial) || list(self).len() >= MOST_SOURCES {
            return Err(Sealed::Forged);
        }
        list(self).push(ssrc);
        Ok(())
    }

    fn rtp_tag(&self) -> usize {
        match self.suite {
            Suite::AesCm80 => 10,
            Suite::AesCm32 => 4,
        }
    }

    /// Cuts the key identifier out: what is authenticated ends before it, and there is only one key. True if `scratch`
    /// holds the packet now.
    fn without_identifier(&self, datagram: &[u8], tag: usize, mut scratch: Vec<u8>) -> (Vec<u8>, bool) {
        let end = datagram.len().checked_sub(self.mki + tag).filter(|_| self.mki > 0);
        let Some(end) = end else { return (scratch, false) };
        scratch.clear();
        scratch.extend_from_slice(&datagram[..end]);
        scratch.extend_from_slice(&datagram[end + self.mki..]);
        (scratch, true)
    }
}

fn reason(e: webrtc_srtp::Error) -> Sealed {
    use webrtc_srtp::Error::{SrtcpSsrcDuplicated, SrtpSsrcDuplicated};
    match e {
        SrtpSsrcDuplicated(..) | SrtcpSsrcDuplicated(..) => Sealed::Replayed,
        _ => Sealed::Forged,
    }
}

/// What the crate needs to know of a header, and where the payload begins. It measures a header by its fields; here the
/// words between the fixed part and the payload (sources, extension) are all given as sources, so that it is as long as
/// on the wire.
fn header_of(packet: &[u8]) -> Option<(rtp::header::Header, usize)> {
    let start = packet::payload_start(packet).ok()?;
    let word = |at: usize| u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
    let header = rtp::header::Header {
        version: 2,
        sequence_number: u16::from_be_bytes([packet[2], packet[3]]),
        ssrc: word(8),
        csrc: vec![0; (start - packet::HEADER) / 4],
        ..Default::default()
    };
    Some((header, start))
}

#[cfg(test)]
#[path = "srtp_tests.rs"]
mod tests;
