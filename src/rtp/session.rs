//! One leg's media: everything between a socket and the tick.
//!
//! The shard's contract: hand every datagram to [`RtpSession::receive`] (or `receive_rtcp`) as it comes; once
//! per 20 ms call [`RtpSession::pull`], then [`RtpSession::push`] (and [`RtpSession::push_more`] until it says
//! none), then [`RtpSession::rtcp_due`]; send what these give. While two legs are bridged, call
//! [`RtpSession::relay`] on the other leg for each packet that [`Received::is_media`], instead of pull and push.

use super::Mixed;
use super::packet::{RtpView, is_rtcp};
use super::quality::Quality;
use super::receiver::{Carried, Ignored, Received, Receiver};
use super::rtcp::{self, Reporter, Sent};
use super::sender::Sender;
use super::srtp::{Sealed, Srtp};
use crate::audio::{AudioFrame, Coding, FRAME_SAMPLES};
use crate::clock::Mono;
use crate::sdp::MediaPlan;
use bytes::Bytes;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How a leg's media does.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stats {
    /// RTP packets received (from the peer, of an agreed type).
    pub packets_in: u64,
    /// Their bytes, RTP headers included.
    pub bytes_in: u64,
    /// RTP packets sent, relayed ones included.
    pub packets_out: u64,
    /// Their bytes, RTP headers included.
    pub bytes_out: u64,
    /// Packets that never came, by sequence number.
    pub lost: u64,
    /// Packets that came after their place had been played.
    pub late: u64,
    /// Packets seen before.
    pub duplicates: u64,
    /// Interarrival jitter (RFC 3550).
    pub jitter_ms: f32,
    /// Delay the jitter buffer aims at.
    pub delay_ms: u32,
    /// Round trip by the peer's reports.
    pub rtt_ms: Option<f32>,
    /// Share of our packets that the peer reports lost, 0..=1.
    pub remote_loss: Option<f32>,
    /// Sound made up for lost or late packets.
    pub concealed_ms: u64,
    /// Times the stream was followed to another timestamp.
    pub resyncs: u64,
    /// Keys received.
    pub keys_in: u64,
    /// Keys sent.
    pub keys_out: u64,
    /// Keys not sent because too many waited.
    pub keys_refused: u64,
    /// Datagrams not used, by [`Ignored::index`].
    pub ignored: [u64; Ignored::ALL.len()],
    /// RTCP datagrams dropped: malformed, or from a stranger.
    pub rtcp_dropped: u64,
    /// When the last RTP packet from the peer came: compare it with the clock to see one-way silence.
    pub last_packet: Option<Mono>,
    /// When the last report (RTCP) of the peer that our sound was learned from came.
    pub last_report: Option<Mono>,
    /// The peer ended its stream (RTCP BYE).
    pub goodbye: bool,
    /// How the peer's sound is heard here; none before a second of it came.
    pub heard: Option<Quality>,
    /// How our sound is heard at the peer, by its reports.
    pub told: Option<Quality>,
}

impl Stats {
    /// How often a reason occurred.
    pub fn ignored(&self, why: Ignored) -> u64 {
        self.ignored[why.index()]
    }

    /// How long the peer has been silent on the wire at `now`; none if nothing ever came.
    pub fn silent_for(&self, now: Mono) -> Option<Duration> {
        self.last_packet.map(|last| now.since(last))
    }
}

/// The media of one leg.
#[derive(Debug)]
pub struct RtpSession {
    plan: MediaPlan,
    receiver: Receiver,
    sender: Sender,
    reporter: Reporter,
    /// Encrypts and opens, where that was agreed.
    srtp: Option<Srtp>,
    /// Sequence number of our first packet.
    first: u16,
    /// The packet that was opened last.
    opened: Bytes,
    /// Where the peer's reports come from, if another port than described.
    rtcp_source: Option<SocketAddr>,
    rtcp_dropped: u64,
    last_report: Option<Mono>,
    /// Samples pulled so far.
    position: u64,
}

impl RtpSession {
    /// A leg as agreed. `signalling_source` is the host the peer's SIP messages come from; `seed` decides
    /// SSRC, first sequence number and timestamp, so it must not be guessable.
    pub fn new(plan: MediaPlan, signalling_source: IpAddr, seed: u64, now: Mono) -> Self {
        let mut numbers = Mixed::new(seed);
        let sender = Sender::new(&plan, &mut numbers);
        RtpSession {
            receiver: Receiver::new(&plan, signalling_source, now),
            first: sender.sequence(),
            sender,
            reporter: Reporter::new(numbers, now),
            srtp: plan.srtp.and_then(Srtp::new),
            opened: Bytes::new(),
            plan,
            rtcp_source: None,
            rtcp_dropped: 0,
            last_report: None,
            position: 0,
        }
    }

    // --- getters

    /// What was agreed.
    pub fn plan(&self) -> &MediaPlan {
        &self.plan
    }

    /// Where sound goes: the learned address, or the described one.
    pub fn destination(&self) -> SocketAddr {
        self.receiver.latch().latched().unwrap_or(self.plan.remote)
    }

    /// How the leg does.
    pub fn stats(&self) -> Stats {
        let (counts, buffer, sent) = (self.receiver.counts(), self.receiver.buffer(), self.sender.counts());
        let played = buffer.counts();
        let rtt_ms = self.reporter.round_trip().map(|r| r.as_secs_f32() * 1000.0);
        Stats {
            packets_in: counts.packets,
            bytes_in: counts.bytes,
            packets_out: sent.packets,
            bytes_out: sent.bytes,
            lost: self.receiver.lost(),
            late: played.late,
            duplicates: counts.ignored[Ignored::Duplicate.index()],
            jitter_ms: self.receiver.jitter_ms(),
            delay_ms: buffer.target_ms(),
            rtt_ms,
            remote_loss: self.reporter.remote().map(|b| f32::from(b.fraction_lost) / 256.0),
            concealed_ms: played.concealed / 8,
            resyncs: played.resyncs,
            keys_in: counts.keys,
            keys_out: sent.keys,
            keys_refused: sent.keys_refused,
            ignored: counts.ignored,
            rtcp_dropped: self.rtcp_dropped,
            last_packet: counts.last_packet,
            last_report: self.last_report,
            goodbye: self.reporter.said_goodbye(),
            heard: Quality::here(self.plan.codec, self.receiver.losses(), buffer.target_ms(), rtt_ms),
            told: self.told(rtt_ms),
        }
    }

    /// By the peer's last report. What it expected is counted from our first packet: a relayed stream has gaps of its
    /// own, which it counts as lost, and so do its listeners.
    fn told(&self, rtt_ms: Option<f32>) -> Option<Quality> {
        let report = self.reporter.remote()?;
        let expected = u64::from(report.highest.wrapping_sub(u32::from(self.first)).wrapping_add(1));
        // A peer that counts its turns in another way is believed in what it says of the last seconds.
        let odd = expected > 2 * self.sender.counts().packets + 1000 || i64::from(report.lost) > expected as i64;
        let (lost, expected) = if odd { (i32::from(report.fraction_lost), 256) } else { (report.lost, expected) };
        let clock = if self.plan.codec.name() == "opus" { 48.0 } else { 8.0 };
        Quality::there(self.plan.codec, lost, expected, report.jitter as f32 / clock, rtt_ms)
    }

    // --- commands

    /// A new agreement (re-INVITE, UPDATE), signalled from this host: streams and counters go on.
    pub fn replan(&mut self, plan: MediaPlan, signalling_source: IpAddr, now: Mono) {
        self.receiver.replan(&plan, signalling_source, now);
        self.sender.replan(&plan);
        self.srtp = match (self.srtp.take(), plan.srtp) {
            (Some(mut srtp), Some(next)) => srtp.replan(next).map(|()| srtp),
            (_, next) => next.and_then(Srtp::new),
        };
        if plan.remote_rtcp != self.plan.remote_rtcp {
            self.rtcp_source = None;
        }
        self.plan = plan;
    }

    /// Queues a key to be sent as RFC 4733 events, or as tones where the peer knows none. What is no key, or
    /// one too many, is counted and dropped.
    pub fn send_key(&mut self, key: char) {
        self.sender.key(key);
    }

    /// Whether a key is being sent or waits; it goes out with [`RtpSession::push`].
    pub fn has_keys(&self) -> bool {
        self.sender.has_keys()
    }

    /// How the sound that goes to the peer is coded.
    pub fn coding(&self) -> Coding {
        self.sender.coding()
    }

    // --- in

    /// What a packet from the peer carries; none if our description gave its payload type no meaning.
    pub fn carries(&self, packet: &RtpView<'_>) -> Option<Carried> {
        self.receiver.carries(packet)
    }

    /// Takes a datagram from the RTP port.
    pub fn receive(&mut self, now: Mono, from: SocketAddr, datagram: &[u8]) -> Received {
        let opened = match self.open(now, from, datagram) {
            Ok(opened) => opened,
            Err(why) => return self.receiver.ignore(why),
        };
        let received = self.receiver.receive(now, from, opened.as_deref().unwrap_or(datagram));
        self.opened = opened.unwrap_or_default();
        if received == Received::Ignored(Ignored::Rtcp) {
            self.receive_rtcp(now, from, datagram);
        }
        received
    }

    /// The RTP packet within a datagram that [`RtpSession::receive`] took last: what may be relayed.
    pub fn opened<'a>(&'a self, datagram: &'a [u8]) -> &'a [u8] {
        if self.srtp.is_some() { &self.opened } else { datagram }
    }

    /// The packet within a datagram of an encrypted leg; none where nothing is encrypted, and for reports. Strangers
    /// are sent away before they cost a calculation, and nobody's address is learned by what is not authentic.
    fn open(&mut self, now: Mono, from: SocketAddr, datagram: &[u8]) -> Result<Option<Bytes>, Ignored> {
        if self.plan.srtp.is_none() || is_rtcp(datagram) {
            return Ok(None);
        }
        if !self.receiver.latch().would_admit(from, now) {
            return Err(Ignored::Stranger);
        }
        match self.srtp.as_mut().map(|s| s.open_rtp(datagram)) {
            Some(Ok(packet)) => Ok(Some(packet)),
            Some(Err(Sealed::Replayed)) => Err(Ignored::Duplicate),
            Some(Err(Sealed::Forged)) | None => Err(Ignored::Unauthentic),
        }
    }

    /// Takes a datagram from the RTCP port. False for one that is malformed or a stranger's.
    pub fn receive_rtcp(&mut self, now: Mono, from: SocketAddr, datagram: &[u8]) -> bool {
        let Some(heard) = self.heard(from, datagram) else {
            self.rtcp_dropped += 1;
            return false;
        };
        let latch = self.receiver.latch();
        if latch.latched().is_some() && heard.goodbyes.is_empty() {
            self.last_report = Some(now);
        }
        self.reporter.heard(now, self.sender.ssrc(), &heard);
        self.rtcp_source.get_or_insert(from);
        true
    }

    /// A report of the peer, opened where it must be.
    fn heard(&mut self, from: SocketAddr, datagram: &[u8]) -> Option<rtcp::Heard> {
        if !self.receiver.latch().admits_host(from.ip()) {
            return None;
        }
        match (self.plan.srtp, &mut self.srtp) {
            (None, _) => rtcp::parse(datagram).ok(),
            (Some(_), srtp) => rtcp::parse(&srtp.as_mut()?.open_rtcp(datagram).ok()?).ok(),
        }
    }

    /// The next 20 ms of the peer's sound; silence where there is none. Call once per tick.
    pub fn pull(&mut self, now: Mono) -> AudioFrame {
        let mut frame = AudioFrame::silence(self.position);
        self.position += FRAME_SAMPLES as u64;
        self.receiver.pull(now, &mut frame.pcm);
        frame
    }

    // --- out

    /// Takes the 20 ms of the tick that is due at `now`, whenever it is served: a late tick is no gap, one that is
    /// never pushed is one. Gives where to send `out`, or none: the packet is not full yet, or
    /// we must not send.
    pub fn push(&mut self, now: Mono, frame: &AudioFrame, out: &mut Vec<u8>) -> Option<SocketAddr> {
        let to = self.sends_to()?;
        (self.sender.push(now, frame, out) && self.protect(out)).then_some(to)
    }

    /// A further packet of the same tick, which only a peer that asks for 10 ms packets gets. Where it is never
    /// called, that peer gets 20 ms.
    pub fn push_more(&mut self, out: &mut Vec<u8>) -> Option<SocketAddr> {
        let to = self.sends_to()?;
        (self.sender.push_more(out) && self.protect(out)).then_some(to)
    }

    /// Passes on a packet of another leg that carries what this peer understands: our SSRC and offsets, payload
    /// untouched.
    pub fn relay(
        &mut self,
        now: Mono,
        packet: &RtpView<'_>,
        carried: Carried,
        out: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        let to = self.sends_to()?;
        (self.sender.relay(now, packet, carried, out) && self.protect(out)).then_some(to)
    }

    /// Writes our report when one is due (every 2.5 to 7.5 s).
    pub fn rtcp_due(&mut self, now: Mono, out: &mut Vec<u8>) -> Option<SocketAddr> {
        if !self.reporter.is_due(now) {
            return None;
        }
        self.report(now, false, out)
    }

    /// Writes the last report, with a goodbye, for the leg's end.
    pub fn goodbye(&mut self, now: Mono, out: &mut Vec<u8>) -> Option<SocketAddr> {
        self.report(now, true, out)
    }

    fn report(&mut self, now: Mono, bye: bool, out: &mut Vec<u8>) -> Option<SocketAddr> {
        let to = self.reports_to()?;
        let counts = self.sender.counts();
        let sent = Sent {
            ssrc: self.sender.ssrc(),
            timestamp: self.sender.timestamp_at(now),
            packets: counts.packets,
            payload: counts.payload,
        };
        let reception = self.receiver.report();
        self.reporter.write(now, sent, reception, bye, out);
        match (self.plan.srtp, &mut self.srtp) {
            (None, _) => Some(to),
            (Some(_), srtp) => srtp.as_mut()?.protect_rtcp(out).then_some(to),
        }
    }

    /// Encrypts a packet where that was agreed. False: it must not be sent.
    fn protect(&mut self, packet: &mut Vec<u8>) -> bool {
        match (self.plan.srtp, &mut self.srtp) {
            (None, _) => true,
            (Some(_), srtp) => srtp.as_mut().is_some_and(|s| s.protect_rtp(packet)),
        }
    }

    fn sends_to(&mut self) -> Option<SocketAddr> {
        let to = self.destination();
        if self.plan.we_send && to.port() != 0 && !to.ip().is_unspecified() {
            return Some(to);
        }
        self.sender.pause();
        None
    }

    /// Reports go where the peer's come from; else, if its sound comes through address translation, to the
    /// port after; else where it said.
    fn reports_to(&self) -> Option<SocketAddr> {
        let latched = self.receiver.latch().latched();
        let to = match (self.rtcp_source, latched) {
            (Some(source), _) => source,
            (None, Some(l)) if l.ip() != self.plan.remote_rtcp.ip().to_canonical() => {
                SocketAddr::new(l.ip(), l.port().checked_add(1)?)
            }
            _ => self.plan.remote_rtcp,
        };
        (!to.ip().is_unspecified() && to.port() != 0).then_some(to)
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
