//! One direction out: frames and keys become packets on a steady clock; another leg's packets are passed on.

use super::Mixed;
use super::packet::{HEADER, Header, RtpView};
use super::receiver::{Carried, coding};
use super::silence::{Silence, Tell};
use super::telephone_event::{Event, EventSender, Turn};
use crate::audio::{AudioFrame, Coding, Encoder, EncoderOptions, FRAME_SAMPLES, Tone, ToneGenerator};
use crate::clock::Mono;
use crate::sdp::MediaPlan;

/// Samples in 10 ms.
const TEN_MS: usize = 80;
/// Without a tick for so long, time has passed that the timestamps must show.
const MISSED: u64 = 30;

/// Counters of the direction out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SenderCounts {
    /// Packets sent.
    pub packets: u64,
    /// Their bytes, headers included.
    pub bytes: u64,
    /// Payload bytes only, as RTCP counts.
    pub payload: u64,
    /// Keys begun.
    pub keys: u64,
    /// Keys refused because too many were waiting.
    pub keys_refused: u64,
}

/// How a relayed stream's numbers become ours.
#[derive(Debug, Clone, Copy)]
struct Relay {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    last: u32,
}

/// The sending half of a leg.
#[derive(Debug)]
pub struct Sender {
    ssrc: u32,
    /// Of the next packet.
    sequence: u16,
    /// Of the first sample in `waiting`, or of the next frame.
    timestamp: u32,
    payload_type: u8,
    event_type: Option<u8>,
    /// Ticks of the events' clock in a sample.
    event_ticks: u16,
    noise_type: Option<u8>,
    coding: Coding,
    options: EncoderOptions,
    /// None when the codec could not be had: then nothing is sent.
    encoder: Option<Encoder>,
    silence: Silence,
    /// Samples per packet.
    length: usize,
    /// Samples not sent yet.
    waiting: Vec<i16>,
    /// The next sound packet begins a talkspurt.
    spurt: bool,
    last_tick: Option<Mono>,
    events: EventSender,
    inband: Option<ToneGenerator>,
    relay: Option<Relay>,
    counts: SenderCounts,
}

impl Sender {
    /// SSRC, first sequence number and timestamp come from the seed.
    pub(super) fn new(plan: &MediaPlan, numbers: &mut Mixed) -> Self {
        let (coding, options) = (coding(plan.codec), options(plan));
        Sender {
            ssrc: numbers.next() as u32,
            // From the lower half: encrypted, a peer that misses the first packets before a wrap would count its turns
            // wrongly for ever (RFC 3711, 3.3.1).
            sequence: numbers.next() as u16 & 0x7FFF,
            timestamp: numbers.next() as u32,
            payload_type: plan.payload_type,
            event_type: plan.dtmf_pt,
            event_ticks: event_ticks(plan),
            noise_type: plan.extras.noise_pt,
            coding,
            options,
            encoder: Encoder::new(coding, options).ok(),
            silence: Silence::default(),
            length: length(plan),
            waiting: Vec::with_capacity(8 * TEN_MS),
            spurt: true,
            last_tick: None,
            events: EventSender::new(),
            inband: None,
            relay: None,
            counts: SenderCounts::default(),
        }
    }

    /// A new agreement; the stream goes on.
    pub fn replan(&mut self, plan: &MediaPlan) {
        let (coding, options) = (coding(plan.codec), options(plan));
        if (coding, options) != (self.coding, self.options) {
            self.drop_waiting();
            (self.coding, self.options) = (coding, options);
            self.encoder = Encoder::new(coding, options).ok();
        }
        self.payload_type = plan.payload_type;
        self.event_type = plan.dtmf_pt;
        self.event_ticks = event_ticks(plan);
        self.noise_type = plan.extras.noise_pt;
        self.length = length(plan);
    }

    /// Our source number.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The next packet's number.
    pub fn sequence(&self) -> u16 {
        self.sequence
    }

    /// Timestamp that a sample sent at `now` would have, for reports.
    pub fn timestamp_at(&self, now: Mono) -> u32 {
        let since = self.last_tick.map_or(0, |last| now.since(last).as_micros() as u64 / 125);
        self.timestamp.wrapping_add(self.ticks(self.waiting.len())).wrapping_add(self.ticks(since as usize))
    }

    /// Counters so far.
    pub fn counts(&self) -> SenderCounts {
        self.counts
    }

    /// Queues a key; false if it is none, or too many wait.
    pub fn key(&mut self, key: char) -> bool {
        let queued = self.events.queue(key);
        self.counts.keys_refused += u64::from(!queued);
        queued
    }

    /// Whether a key is being sent or waits: then the tick must push.
    pub fn has_keys(&self) -> bool {
        !self.events.idle() || self.inband.is_some()
    }

    /// The frame of the tick that is due at `now` (whenever it is served). True if `out` now holds a packet.
    pub fn push(&mut self, now: Mono, frame: &AudioFrame, out: &mut Vec<u8>) -> bool {
        self.keep_time(now);
        self.relay = None;
        if self.waiting.is_empty() && !self.events.idle() {
            if self.event_type.is_none() {
                self.begin_inband();
            } else if let Some(sent) = self.event(out) {
                return sent;
            }
        }
        match &mut self.inband {
            Some(tone) => {
                let mut pcm = [0; FRAME_SAMPLES];
                tone.fill(&mut pcm);
                if tone.ended() {
                    self.inband = None;
                }
                self.waiting.extend_from_slice(&pcm);
            }
            None => self.waiting.extend_from_slice(&frame.pcm),
        }
        self.flush(out)
    }

    /// A further packet of the same tick (10 ms packets): true if `out` now holds it.
    pub fn push_more(&mut self, out: &mut Vec<u8>) -> bool {
        self.length < FRAME_SAMPLES && self.flush(out)
    }

    /// How the sound we send is coded.
    pub fn coding(&self) -> Coding {
        self.coding
    }

    /// Samples as ticks of the stream's clock.
    fn ticks(&self, samples: usize) -> u32 {
        (samples as u32).wrapping_mul(self.coding.ticks())
    }

    /// Passes on a packet of another leg. Gaps and order of its sequence numbers and timestamps stay visible; only
    /// their offsets are ours. False for what this peer would not understand: sound of another codec, and events or
    /// noise where it knows none.
    pub fn relay(&mut self, now: Mono, packet: &RtpView<'_>, carried: Carried, out: &mut Vec<u8>) -> bool {
        let understood = match carried {
            Carried::Sound(coding) if coding == self.coding => {
                Some((self.payload_type, coding.samples(packet.payload()).unwrap_or(0)))
            }
            Carried::Sound(_) => None,
            Carried::Noise => self.noise_type.map(|pt| (pt, 0)),
            Carried::Event => self.event_type.map(|pt| (pt, 0)),
        };
        let Some((payload_type, samples)) = understood else { return false };
        let fresh = match self.relay {
            // The same stream, without a jump of more than two seconds.
            Some(relay) if relay.ssrc == packet.ssrc() => {
                (packet.timestamp().wrapping_sub(relay.last) as i32).unsigned_abs() > self.ticks(16_000)
            }
            _ => true,
        };
        if fresh {
            self.keep_time(now);
            self.drop_waiting();
            self.relay = Some(Relay {
                ssrc: packet.ssrc(),
                sequence: self.sequence.wrapping_sub(packet.sequence()),
                timestamp: self.timestamp.wrapping_sub(packet.timestamp()),
                last: packet.timestamp(),
            });
        }
        let Some(relay) = &mut self.relay else { return false };
        relay.last = packet.timestamp();
        let header = Header {
            marker: packet.marker() || fresh,
            payload_type,
            sequence: packet.sequence().wrapping_add(relay.sequence),
            timestamp: packet.timestamp().wrapping_add(relay.timestamp),
            ssrc: self.ssrc,
        };
        header.write(out);
        out.extend_from_slice(packet.payload());
        // What we send ourselves afterwards follows the newest packet passed on.
        let next = header.sequence.wrapping_add(1);
        if (next.wrapping_sub(self.sequence) as i16) > 0 || fresh {
            self.sequence = next;
            self.timestamp = header.timestamp.wrapping_add(self.ticks(samples));
            self.last_tick = Some(now);
            self.spurt = true;
        }
        self.count(out.len());
        true
    }

    /// Nothing is sent from here on for a while (hold): what waits is old then.
    pub fn pause(&mut self) {
        self.drop_waiting();
        self.spurt = true;
        self.relay = None;
    }

    /// Timestamps follow the clock across ticks that were left out.
    fn keep_time(&mut self, now: Mono) {
        if let Some(last) = self.last_tick {
            let gone = now.ms_since(last);
            if gone >= MISSED {
                self.drop_waiting();
                // One frame is what the last tick itself accounted for, if it was a tick of ours.
                let missed = if self.relay.is_some() { gone } else { gone.saturating_sub(20) };
                self.timestamp = self.timestamp.wrapping_add(self.ticks((missed * 8) as usize));
                self.spurt = true;
            }
        }
        self.last_tick = Some(now);
    }

    fn drop_waiting(&mut self) {
        self.timestamp = self.timestamp.wrapping_add(self.ticks(self.waiting.len()));
        self.waiting.clear();
    }

    fn begin_inband(&mut self) {
        if self.inband.is_none() {
            self.inband = self.events.take().and_then(Tone::key).map(ToneGenerator::new);
            self.counts.keys += u64::from(self.inband.is_some());
        }
    }

    /// The tick's event packet; none if sound flows in it.
    fn event(&mut self, out: &mut Vec<u8>) -> Option<bool> {
        let Turn::Event(packet) = self.events.turn(self.timestamp) else { return None };
        let header = Header {
            marker: packet.marker,
            payload_type: self.event_type?,
            sequence: self.sequence,
            timestamp: packet.timestamp,
            ssrc: self.ssrc,
        };
        header.write(out);
        let duration = packet.event.duration.saturating_mul(self.event_ticks);
        out.extend_from_slice(&Event { duration, ..packet.event }.bytes());
        self.counts.keys += u64::from(packet.marker);
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(self.ticks(FRAME_SAMPLES));
        self.count(out.len());
        Some(true)
    }

    /// Sends one packet of what waits, if there is enough for one.
    fn flush(&mut self, out: &mut Vec<u8>) -> bool {
        if self.waiting.len() < self.length {
            return false;
        }
        // Whoever does not call `push_more` still keeps up: what piles up goes in one packet.
        let length = if self.waiting.len() > self.length + FRAME_SAMPLES - TEN_MS && self.length < FRAME_SAMPLES {
            FRAME_SAMPLES
        } else {
            self.length
        };
        let header = Header {
            marker: self.spurt,
            payload_type: self.payload_type,
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
        };
        header.write(out);
        let sent = self.payload(header, length, out);
        self.waiting.copy_within(length.., 0);
        self.waiting.truncate(self.waiting.len() - length);
        self.timestamp = self.timestamp.wrapping_add(self.ticks(length));
        if sent {
            self.sequence = self.sequence.wrapping_add(1);
            self.count(out.len());
        }
        sent
    }

    /// Writes what the next samples become; false when nothing is sent. The packet after silence begins a talkspurt.
    fn payload(&mut self, header: Header, length: usize, out: &mut Vec<u8>) -> bool {
        let pcm = &self.waiting[..length];
        let tell = self.noise_type.map_or(Tell::Sound, |_| self.silence.judge(pcm));
        let sent = match (tell, self.noise_type) {
            (Tell::Noise(level), Some(payload_type)) => {
                Header { marker: false, payload_type, ..header }.write(out);
                out.push(level);
                true
            }
            (Tell::Nothing, _) => false,
            _ => self.encoder.as_mut().is_some_and(|e| e.encode(pcm, out)),
        };
        self.spurt = !sent || tell != Tell::Sound;
        sent
    }

    fn count(&mut self, length: usize) {
        self.counts.packets += 1;
        self.counts.bytes += length as u64;
        self.counts.payload += (length - HEADER) as u64;
    }
}

fn options(plan: &MediaPlan) -> EncoderOptions {
    EncoderOptions { fec: plan.extras.fec, dtx: plan.extras.dtx }
}

fn event_ticks(plan: &MediaPlan) -> u16 {
    (plan.extras.event_clock / 8000).clamp(1, 6) as u16
}

fn length(plan: &MediaPlan) -> usize {
    usize::from((plan.ptime_ms / 10).clamp(1, 6)) * TEN_MS
}
