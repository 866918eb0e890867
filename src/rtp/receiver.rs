//! One direction in: which datagrams count, what they are, and how the stream does (RFC 3550, A.1, A.3, A.8).

use super::jitter::{JitterBuffer, Placed};
use super::packet::{RtpError, RtpView};
use super::quality::{LossTrack, Losses};
use super::source::SourceLatch;
use super::telephone_event::EventReceiver;
use crate::audio::{Coding, FRAME_SAMPLES, Law};
use crate::clock::Mono;
use crate::sdp::{Codec, Formats, MediaPlan};
use std::net::{IpAddr, SocketAddr};

/// A sequence number this far ahead or behind is no loss or reordering but a new start (RFC 3550, A.1).
const MOST_AHEAD: u16 = 3000;
/// How long packets of a source that was left count as stragglers.
const STRAGGLERS_MS: u64 = 2000;

/// What a datagram turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Sound, now in the buffer, or a description of silence.
    Audio,
    /// A key, at its first packet.
    Key(char),
    /// Nothing to act on.
    Ignored(Ignored),
}

impl Received {
    /// Whether the packet belongs to the stream and may be relayed: sound (also what came too late for our own
    /// ear) and all packets of keys.
    pub fn is_media(self) -> bool {
        matches!(self, Received::Audio | Received::Key(_) | Received::Ignored(Ignored::KeyGoesOn | Ignored::Late))
    }
}

/// Why a datagram was not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// No RTP packet.
    Malformed,
    /// From another address than the peer's.
    Stranger,
    /// RTCP on the RTP port.
    Rtcp,
    /// A payload type that our description gave no meaning.
    PayloadType,
    /// Empty, or longer than 120 ms.
    Length,
    /// Seen before.
    Duplicate,
    /// Its place had been played already.
    Late,
    /// A timestamp or sequence number out of all order.
    Odd,
    /// A straggler of a source that was left.
    OldSource,
    /// Another packet of a key already told.
    KeyGoesOn,
    /// We put the peer on hold.
    NotReceiving,
    /// On an encrypted leg: not made with the peer's key. However many come, the call goes on.
    Unauthentic,
}

impl Ignored {
    /// Every reason, in the order of [`Ignored::index`].
    pub const ALL: [Ignored; 12] = [
        Ignored::Malformed,
        Ignored::Stranger,
        Ignored::Rtcp,
        Ignored::PayloadType,
        Ignored::Length,
        Ignored::Duplicate,
        Ignored::Late,
        Ignored::Odd,
        Ignored::OldSource,
        Ignored::KeyGoesOn,
        Ignored::NotReceiving,
        Ignored::Unauthentic,
    ];

    /// Whether the datagram was no part of the peer's stream at all.
    pub const fn is_foreign(self) -> bool {
        matches!(self, Ignored::Malformed | Ignored::Stranger | Ignored::PayloadType | Ignored::Unauthentic)
    }

    /// Place in a table of counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// A name for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Ignored::Malformed => "malformed",
            Ignored::Stranger => "stranger",
            Ignored::Rtcp => "rtcp",
            Ignored::PayloadType => "payload_type",
            Ignored::Length => "length",
            Ignored::Duplicate => "duplicate",
            Ignored::Late => "late",
            Ignored::Odd => "odd",
            Ignored::OldSource => "old_source",
            Ignored::KeyGoesOn => "key_goes_on",
            Ignored::NotReceiving => "not_receiving",
            Ignored::Unauthentic => "unauthentic",
        }
    }
}

/// Order of sequence numbers of one source.
#[derive(Debug, Clone, Copy)]
struct Source {
    ssrc: u32,
    /// Highest extended sequence number.
    highest: u64,
    /// The first one.
    base: u64,
    /// Which of the 128 numbers up to `highest` have come; bit 0 is `highest`.
    seen: u128,
    received: u64,
    /// The number that would follow an odd one.
    odd: Option<u16>,
    /// RFC 3550 interarrival jitter, in ticks times 16.
    jitter16: u32,
    transit: Option<u32>,
    /// Expected and received at the last report.
    reported: (u64, u64),
}

enum Order {
    New,
    Duplicate,
    Odd,
}

impl Source {
    fn new(ssrc: u32, sequence: u16) -> Self {
        // One cycle up, so that packets from before the first one still have a number.
        let first = 65536 + u64::from(sequence);
        Source {
            ssrc,
            highest: first,
            base: first,
            seen: 1,
            received: 1,
            odd: None,
            jitter16: 0,
            transit: None,
            reported: (0, 0),
        }
    }

    fn expected(&self) -> u64 {
        self.highest - self.base + 1
    }

    fn lost(&self) -> i64 {
        self.expected() as i64 - self.received as i64
    }

    fn order(&mut self, sequence: u16) -> Order {
        let ahead = sequence.wrapping_sub(self.highest as u16);
        let behind = ahead.wrapping_neg();
        if ahead == 0 {
            return Order::Duplicate;
        }
        if ahead < MOST_AHEAD {
            self.highest += u64::from(ahead);
            self.seen = self.seen.checked_shl(u32::from(ahead)).unwrap_or(0) | 1;
        } else if behind < 128 {
            let bit = 1u128 << behind;
            if self.seen & bit != 0 {
                return Order::Duplicate;
            }
            self.seen |= bit;
            self.base = self.base.min(self.highest - u64::from(behind));
        } else if self.odd == Some(sequence) {
            // Two in a row from elsewhere: the peer has begun anew without saying so.
            *self = Source { jitter16: self.jitter16, ..Source::new(self.ssrc, sequence) };
            return Order::New;
        } else {
            self.odd = Some(sequence.wrapping_add(1));
            return Order::Odd;
        }
        self.odd = None;
        self.received += 1;
        Order::New
    }

    /// RFC 3550, A.8; `ticks` of the clock in a sample.
    fn arrival(&mut self, now: Mono, timestamp: u32, ticks: u32) {
        let transit = ((now.0 * u64::from(ticks) / 125) as u32).wrapping_sub(timestamp);
        if let Some(last) = self.transit {
            let difference = (transit.wrapping_sub(last) as i32).unsigned_abs();
            // A pause or a clock set anew is no jitter.
            if difference < 8000 * ticks {
                self.jitter16 = self.jitter16 + difference - ((self.jitter16 + 8) >> 4);
            }
        }
        self.transit = Some(transit);
    }
}

/// What a report says about the stream we receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reception {
    /// Who sends it.
    pub ssrc: u32,
    /// Lost since the last report, of 256.
    pub fraction_lost: u8,
    /// Lost in all, never negative here.
    pub lost: u32,
    /// Highest extended sequence number.
    pub highest: u32,
    /// Interarrival jitter in ticks of the stream's clock.
    pub jitter: u32,
}

/// Counters of the direction in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceiverCounts {
    /// RTP packets that counted (by source and payload type).
    pub packets: u64,
    /// Their bytes, headers included.
    pub bytes: u64,
    /// Lost in sources that were left.
    pub lost_before: u64,
    /// Keys told.
    pub keys: u64,
    /// Datagrams ignored, by [`Ignored::index`].
    pub ignored: [u64; Ignored::ALL.len()],
    /// When the last packet that counted came.
    pub last_packet: Option<Mono>,
}

/// The receiving half of a leg.
#[derive(Debug)]
pub struct Receiver {
    latch: SourceLatch,
    source: Option<Source>,
    left: Option<(u32, Mono)>,
    buffer: JitterBuffer,
    events: EventReceiver,
    /// Of events whose sender gives them an SSRC of their own.
    event_source: Option<Source>,
    formats: Formats,
    receives: bool,
    /// Ticks of the sound's clock in a sample.
    ticks: u32,
    losses: LossTrack,
    counts: ReceiverCounts,
}

/// How a codec's sound is coded.
pub fn coding(codec: Codec) -> Coding {
    match codec {
        Codec::Pcma => Coding::G711(Law::A),
        Codec::Pcmu => Coding::G711(Law::Mu),
        Codec::G722 => Coding::G722,
        Codec::G729 => Coding::G729,
        Codec::Opus => Coding::Opus,
    }
}

impl Receiver {
    /// Ready for what `plan` agreed on.
    pub fn new(plan: &MediaPlan, signalling: IpAddr, now: Mono) -> Self {
        Receiver {
            latch: SourceLatch::new(plan.remote, signalling, now),
            source: None,
            left: None,
            buffer: JitterBuffer::new(),
            events: EventReceiver::new(),
            event_source: None,
            formats: plan.receive,
            receives: plan.we_receive,
            ticks: 1,
            losses: LossTrack::default(),
            counts: ReceiverCounts::default(),
        }
    }

    /// A new agreement.
    pub fn replan(&mut self, plan: &MediaPlan, signalling: IpAddr, now: Mono) {
        self.latch.redescribe(plan.remote, signalling, now);
        self.formats = plan.receive;
        self.receives = plan.we_receive;
    }

    /// Takes a datagram from the RTP port.
    pub fn receive(&mut self, now: Mono, from: SocketAddr, datagram: &[u8]) -> Received {
        let received = self.judge(now, from, datagram);
        match received {
            Received::Ignored(why) => {
                self.counts.ignored[why.index()] += 1;
                if let (Ignored::Late, Ok(packet)) = (why, RtpView::parse(datagram)) {
                    self.losses.late(packet.sequence());
                }
            }
            Received::Key(_) => self.counts.keys += 1,
            Received::Audio => {}
        }
        received
    }

    /// Counts a datagram that was not even looked into.
    pub(super) fn ignore(&mut self, why: Ignored) -> Received {
        self.counts.ignored[why.index()] += 1;
        Received::Ignored(why)
    }

    fn judge(&mut self, now: Mono, from: SocketAddr, datagram: &[u8]) -> Received {
        let packet = match RtpView::parse(datagram) {
            Ok(packet) => packet,
            Err(RtpError::Rtcp) => return Received::Ignored(Ignored::Rtcp),
            Err(_) => return Received::Ignored(Ignored::Malformed),
        };
        let Some(carried) = self.carries(&packet) else {
            return Received::Ignored(Ignored::PayloadType);
        };
        // Only a packet that makes sense may teach us an address.
        if !self.latch.admit(from, now) {
            return Received::Ignored(Ignored::Stranger);
        }
        let followed = match carried {
            Carried::Sound(_) | Carried::Noise => self.follow_source(now, &packet),
            Carried::Event => self.follow_events(now, &packet),
        };
        if let Err(why) = followed {
            return Received::Ignored(why);
        }
        self.counts.packets += 1;
        self.counts.bytes += datagram.len() as u64;
        self.counts.last_packet = Some(now);
        // Keys under a number of their own are no part of the sound.
        if self.source.is_some_and(|s| s.ssrc == packet.ssrc()) {
            self.losses.came(packet.ssrc(), packet.sequence());
        }
        if !self.receives {
            return Received::Ignored(Ignored::NotReceiving);
        }
        match carried {
            Carried::Sound(coding) => self.sound(now, &packet, coding),
            Carried::Noise => placed(self.buffer.insert_noise(packet.timestamp(), packet.payload())),
            Carried::Event => {
                let key = self.events.packet(now, packet.timestamp(), packet.marker(), packet.payload());
                key.map_or(Received::Ignored(Ignored::KeyGoesOn), Received::Key)
            }
        }
    }

    fn sound(&mut self, now: Mono, packet: &RtpView<'_>, coding: Coding) -> Received {
        let payload = packet.payload();
        let Some(samples) = coding.samples(payload) else { return Received::Ignored(Ignored::Length) };
        self.ticks = coding.ticks();
        if let Some(source) = &mut self.source {
            source.arrival(now, packet.timestamp(), self.ticks);
        }
        placed(match coding {
            Coding::G711(law) => self.buffer.insert(now, packet.timestamp(), law, payload),
            coding => self.buffer.insert_coded(now, packet.timestamp(), coding, (payload, samples)),
        })
    }

    /// What a packet carries by its payload type; none if our description gave that no meaning. An offer of ours
    /// lists several codecs, and then the peer may send any of them (RFC 3264, 6.1).
    pub fn carries(&self, packet: &RtpView<'_>) -> Option<Carried> {
        let f = &self.formats;
        match Some(packet.payload_type()) {
            pt if pt == f.pcma => Some(Carried::Sound(Coding::G711(Law::A))),
            pt if pt == f.pcmu => Some(Carried::Sound(Coding::G711(Law::Mu))),
            pt if pt == f.g722 => Some(Carried::Sound(Coding::G722)),
            pt if pt == f.g729 => Some(Carried::Sound(Coding::G729)),
            pt if pt == f.opus => Some(Carried::Sound(Coding::Opus)),
            pt if pt == f.events || pt == f.wide_events => Some(Carried::Event),
            pt if pt == f.noise => Some(Carried::Noise),
            _ => None,
        }
    }

    /// Sequence numbers; a new SSRC from the latched address begins a new stream.
    fn follow_source(&mut self, now: Mono, packet: &RtpView<'_>) -> Result<(), Ignored> {
        let ssrc = packet.ssrc();
        match &mut self.source {
            Some(source) if source.ssrc == ssrc => match source.order(packet.sequence()) {
                Order::New => Ok(()),
                Order::Duplicate => Err(Ignored::Duplicate),
                Order::Odd => Err(Ignored::Odd),
            },
            current => {
                if is_straggler(self.left, ssrc, now) {
                    return Err(Ignored::OldSource);
                }
                if let Some(old) = current {
                    self.counts.lost_before += old.lost().max(0) as u64;
                    self.left = Some((old.ssrc, now));
                    self.events = EventReceiver::new();
                    self.event_source = None;
                    self.buffer.restart();
                }
                *current = Some(Source::new(ssrc, packet.sequence()));
                Ok(())
            }
        }
    }

    /// Events of the sound's SSRC share its numbers. Others have numbers of their own and begin no new stream of
    /// sound: some senders give their keys an SSRC apart.
    fn follow_events(&mut self, now: Mono, packet: &RtpView<'_>) -> Result<(), Ignored> {
        let ssrc = packet.ssrc();
        if self.source.is_some_and(|s| s.ssrc == ssrc) {
            return self.follow_source(now, packet);
        }
        if is_straggler(self.left, ssrc, now) {
            return Err(Ignored::OldSource);
        }
        match &mut self.event_source {
            Some(source) if source.ssrc == ssrc => match source.order(packet.sequence()) {
                Order::New => Ok(()),
                Order::Duplicate => Err(Ignored::Duplicate),
                Order::Odd => Err(Ignored::Odd),
            },
            other => {
                *other = Some(Source::new(ssrc, packet.sequence()));
                Ok(())
            }
        }
    }

    /// The next 20 ms. Call once per tick.
    pub fn pull(&mut self, now: Mono, out: &mut [i16; FRAME_SAMPLES]) {
        self.buffer.pull(now, out);
    }

    /// What the next report shall say, if anything was received.
    pub fn report(&mut self) -> Option<Reception> {
        let source = self.source.as_mut()?;
        let (expected, received) = (source.expected(), source.received);
        let asked = expected.saturating_sub(source.reported.0);
        let came = received.saturating_sub(source.reported.1);
        source.reported = (expected, received);
        let missing = asked.saturating_sub(came) * 256;
        let fraction_lost = missing.checked_div(asked).unwrap_or(0).min(255) as u8;
        Some(Reception {
            ssrc: source.ssrc,
            fraction_lost,
            // 24 bits signed on the wire; more losses than packets cannot be reported as such.
            lost: source.lost().clamp(0, 0x7F_FFFF) as u32,
            highest: (source.highest - 65536) as u32,
            jitter: source.jitter16 >> 4,
        })
    }

    /// Packets lost so far.
    pub fn lost(&self) -> u64 {
        self.counts.lost_before + self.source.map_or(0, |s| s.lost().max(0) as u64)
    }

    /// What became of the packets so far, those too late to be played among the missing.
    pub fn losses(&self) -> Losses {
        self.losses.so_far()
    }

    /// Interarrival jitter in milliseconds.
    pub fn jitter_ms(&self) -> f32 {
        self.source.map_or(0.0, |s| s.jitter16 as f32 / 128.0 / self.ticks as f32)
    }

    /// Counters so far.
    pub fn counts(&self) -> &ReceiverCounts {
        &self.counts
    }

    /// The buffer's side of it.
    pub fn buffer(&self) -> &JitterBuffer {
        &self.buffer
    }

    /// Whose packets count.
    pub fn latch(&self) -> &SourceLatch {
        &self.latch
    }
}

fn placed(placed: Placed) -> Received {
    match placed {
        Placed::Kept => Received::Audio,
        Placed::Late => Received::Ignored(Ignored::Late),
        Placed::Duplicate => Received::Ignored(Ignored::Duplicate),
        Placed::Odd => Received::Ignored(Ignored::Odd),
    }
}

/// What an RTP packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// Sound, coded like this.
    Sound(Coding),
    /// A description of noise (RFC 3389).
    Noise,
    /// A telephone event.
    Event,
}

/// Whether a packet comes late from a source that was left.
fn is_straggler(left: Option<(u32, Mono)>, ssrc: u32, now: Mono) -> bool {
    left.is_some_and(|(left, when)| left == ssrc && now.ms_since(when) < STRAGGLERS_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_are_counted_across_their_wrap() {
        let mut source = Source::new(1, 65530);
        let mut n = 65530u16;
        for step in [1u16, 1, 2, 1, 4, 1, 1] {
            n = n.wrapping_add(step);
            assert!(matches!(source.order(n), Order::New));
        }
        assert_eq!((source.expected(), source.received, source.lost()), (12, 8, 4));
        assert!(matches!(source.order(n), Order::Duplicate));
        assert!(matches!(source.order(n.wrapping_sub(3)), Order::New), "a late one fills its gap");
        assert!(matches!(source.order(n.wrapping_sub(3)), Order::Duplicate));
        assert_eq!(source.lost(), 3);
        assert!(matches!(source.order(65529), Order::New), "one from before the first");
        assert_eq!(source.lost(), 3);
    }

    #[test]
    fn a_peer_that_begins_anew_is_followed_at_its_second_packet() {
        let mut source = Source::new(1, 100);
        assert!(matches!(source.order(40_000), Order::Odd));
        assert!(matches!(source.order(101), Order::New));
        assert!(matches!(source.order(40_001), Order::Odd), "forgotten in between");
        assert!(matches!(source.order(40_002), Order::New));
        assert_eq!(source.lost(), 0);
    }

    #[test]
    fn the_table_of_reasons_has_one_place_for_each() {
        for (i, why) in Ignored::ALL.into_iter().enumerate() {
            assert_eq!(why.index(), i, "{}", why.name());
        }
    }
}
