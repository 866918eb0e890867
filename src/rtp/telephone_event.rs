//! Keys as telephone events (RFC 4733): told at their first packet, once each; sent at 20 ms steps.

use crate::clock::Mono;
use std::collections::VecDeque;

/// Keys by event code.
const KEYS: &[u8; 16] = b"0123456789*#ABCD";
/// Keys waiting to be sent at most.
pub const MAX_QUEUED: usize = 64;
/// Steps of 20 ms that a key sounds: 100 ms.
const STEPS: u16 = 5;
/// Times the end of a key is sent (RFC 4733, 2.5.1.4).
const ENDS: u16 = 3;
/// Steps from the end of a key (its first end packet) to the next one: 100 ms, packets of the end included.
const GAP: u16 = 5;
/// Samples in a step.
const STEP: u16 = 160;
/// How far a segment of a long key may be off, in ticks: two steps of the quicker clock, 48 kHz.
const SLACK: u16 = 2 * 6 * STEP;
/// Loudness told to the peer: -10 dBm0.
const VOLUME: u8 = 10;

/// The payload of one event packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Event code; 0-15 are keys.
    pub code: u8,
    /// The event is over.
    pub end: bool,
    /// Power, -dBm0, 0..=63.
    pub volume: u8,
    /// Samples since the event's timestamp.
    pub duration: u16,
}

impl Event {
    /// Reads the first event of a payload.
    pub fn parse(payload: &[u8]) -> Option<Event> {
        let [code, flags, high, low, ..] = *payload else { return None };
        let duration = u16::from_be_bytes([high, low]);
        Some(Event { code, end: flags & 0x80 != 0, volume: flags & 0x3F, duration })
    }

    /// As four bytes.
    pub fn bytes(self) -> [u8; 4] {
        let [high, low] = self.duration.to_be_bytes();
        [self.code, (u8::from(self.end) << 7) | (self.volume & 0x3F), high, low]
    }

    /// The key, if it is one.
    pub fn key(self) -> Option<char> {
        KEYS.get(usize::from(self.code)).map(|&k| char::from(k))
    }
}

/// Event code of a key.
pub fn code_of(key: char) -> Option<u8> {
    KEYS.iter().position(|&k| char::from(k) == key.to_ascii_uppercase()).map(|p| p as u8)
}

/// An event already told.
#[derive(Debug, Clone, Copy)]
struct Told {
    timestamp: u32,
    code: u8,
    duration: u16,
    ended: bool,
    seen: Mono,
}

/// Tells keys apart from the packets that repeat them. An event is known by its timestamp and code, so
/// that neither the marker nor the first or last packet is needed.
#[derive(Debug, Clone, Default)]
pub struct EventReceiver {
    /// The last events, the newest last.
    told: [Option<Told>; 8],
}

impl EventReceiver {
    /// Knows of no event.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next event packet (duplicates by sequence number already dropped): its key, if it is the
    /// first packet of a new one.
    pub fn packet(&mut self, now: Mono, timestamp: u32, marker: bool, payload: &[u8]) -> Option<char> {
        let event = Event::parse(payload)?;
        let key = event.key()?;
        let same = self.told.iter_mut().flatten().find(|t| {
            t.code == event.code && (t.timestamp == timestamp || continues(t, timestamp, marker, event, now))
        });
        if let Some(told) = same {
            // A sender whose clock stands still between keys: only its marker and the pause tell a second press.
            let again = told.ended && marker && !event.end && now.ms_since(told.seen) > 150;
            told.timestamp = timestamp;
            told.duration = if again { event.duration } else { told.duration.max(event.duration) };
            told.ended = if again { false } else { told.ended | event.end };
            told.seen = now;
            return again.then_some(key);
        }
        self.told.rotate_left(1);
        self.told[7] =
            Some(Told { timestamp, code: event.code, duration: event.duration, ended: event.end, seen: now });
        Some(key)
    }
}

/// Whether a packet with another timestamp goes on with an event that has not ended: the next segment of
/// one longer than 8 s (RFC 4733, 2.5.1.3), or a sender that moves the timestamp with every packet.
fn continues(told: &Told, timestamp: u32, marker: bool, event: Event, now: Mono) -> bool {
    if marker || (told.ended && !event.end) || now.ms_since(told.seen) > 200 {
        return false;
    }
    let ahead = timestamp.wrapping_sub(told.timestamp);
    let segment = told.duration >= u16::MAX - SLACK && ahead.abs_diff(u32::from(told.duration)) <= u32::from(SLACK);
    let creeping = event.duration > told.duration && ahead <= 4 * u32::from(event.duration - told.duration);
    segment || creeping
}

/// An event packet to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPacket {
    /// First packet of a key.
    pub marker: bool,
    /// Timestamp of the key's beginning.
    pub timestamp: u32,
    /// What.
    pub event: Event,
}

/// What an event sender wants in a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Sound may flow.
    Sound,
    /// This packet instead of sound.
    Event(EventPacket),
}

#[derive(Debug, Clone, Copy)]
struct Sending {
    code: u8,
    timestamp: u32,
    /// Steps done.
    step: u16,
}

/// Sends queued keys, one packet a tick.
#[derive(Debug, Clone, Default)]
pub struct EventSender {
    queue: VecDeque<u8>,
    sending: Option<Sending>,
}

impl EventSender {
    /// With room for its whole queue.
    pub fn new() -> Self {
        EventSender { queue: VecDeque::with_capacity(MAX_QUEUED), sending: None }
    }

    /// Queues a key; false if it is none, or the queue is full.
    pub fn queue(&mut self, key: char) -> bool {
        let Some(code) = code_of(key).filter(|_| self.queue.len() < MAX_QUEUED) else { return false };
        self.queue.push_back(code);
        true
    }

    /// Whether nothing is queued or under way.
    pub fn idle(&self) -> bool {
        self.queue.is_empty() && self.sending.is_none()
    }

    /// Whether a key is under way (the next turn must not be skipped).
    pub fn busy(&self) -> bool {
        self.sending.is_some()
    }

    /// Takes the next key out of the queue, to be sounded in-band.
    pub fn take(&mut self) -> Option<char> {
        self.queue.pop_front().map(|code| char::from(KEYS[usize::from(code)]))
    }

    /// The next tick, whose sound would have this timestamp.
    pub fn turn(&mut self, timestamp: u32) -> Turn {
        if self.sending.is_none() {
            let Some(code) = self.queue.pop_front() else { return Turn::Sound };
            self.sending = Some(Sending { code, timestamp, step: 0 });
        }
        let Some(sending) = &mut self.sending else { return Turn::Sound };
        sending.step += 1;
        let step = sending.step;
        let (code, timestamp) = (sending.code, sending.timestamp);
        if step >= STEPS + GAP {
            self.sending = None;
        }
        if step >= STEPS + ENDS {
            return Turn::Sound;
        }
        let event = Event { code, end: step >= STEPS, volume: VOLUME, duration: step.min(STEPS) * STEP };
        Turn::Event(EventPacket { marker: step == 1, timestamp, event })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng, seq::SliceRandom};

    /// All packets of keys sent at a steady tick, with the tick each was sent at.
    fn sent(keys: &str) -> Vec<(u64, EventPacket)> {
        let mut sender = EventSender::new();
        keys.chars().for_each(|k| assert!(sender.queue(k)));
        let mut packets = Vec::new();
        for tick in 0.. {
            if sender.idle() {
                break;
            }
            if let Turn::Event(packet) = sender.turn(4_294_960_000u32.wrapping_add(160 * tick)) {
                packets.push((u64::from(tick), packet));
            }
        }
        packets
    }

    fn told(receiver: &mut EventReceiver, packets: &[(u64, EventPacket)]) -> String {
        packets
            .iter()
            .filter_map(|(tick, p)| receiver.packet(Mono::from_ms(tick * 20), p.timestamp, p.marker, &p.event.bytes()))
            .collect()
    }

    #[test]
    fn a_key_is_sent_as_rfc_4733_says() {
        let packets = sent("5");
        let durations: Vec<u16> = packets.iter().map(|(_, p)| p.event.duration).collect();
        assert_eq!(durations, [160, 320, 480, 640, 800, 800, 800]);
        assert_eq!(packets.iter().filter(|(_, p)| p.event.end).count(), 3);
        assert!(packets[0].1.marker && packets[1..].iter().all(|(_, p)| !p.marker));
        assert!(packets.iter().all(|(_, p)| p.timestamp == packets[0].1.timestamp));
    }

    #[test]
    fn keys_are_100_ms_long_and_100_ms_apart() {
        let starts: Vec<u64> = sent("1122").iter().filter(|(_, p)| p.marker).map(|(tick, _)| *tick).collect();
        assert_eq!(starts, [0, 10, 20, 30]);
    }

    #[test]
    fn a_key_is_told_at_its_first_packet_and_only_then() {
        let packets = sent("0123456789*#ABCD");
        let mut receiver = EventReceiver::new();
        assert_eq!(told(&mut receiver, &packets[..1]), "0");
        assert_eq!(told(&mut receiver, &packets[1..]), "123456789*#ABCD");
    }

    #[test]
    fn a_lost_start_or_a_lost_end_still_gives_one_key() {
        let packets = sent("77");
        for lost in 0..7 {
            assert_eq!(told(&mut EventReceiver::new(), &packets[lost..]), "77", "first {lost} lost");
            assert_eq!(told(&mut EventReceiver::new(), &packets[..14 - lost]), "77", "last {lost} lost");
        }
        let mut ends_lost = packets.clone();
        ends_lost.retain(|(_, p)| !p.event.end && !p.marker);
        assert_eq!(told(&mut EventReceiver::new(), &ends_lost), "77");
    }

    #[test]
    fn a_key_held_for_nine_seconds_is_one_key() {
        let mut receiver = EventReceiver::new();
        let mut keys = String::new();
        for step in 1..450u32 {
            let (segment, within) = ((step - 1) / 409, (step - 1) % 409 + 1);
            let event = Event { code: 3, end: false, volume: 10, duration: (within * 160) as u16 };
            let timestamp = segment * 409 * 160;
            keys.extend(receiver.packet(Mono::from_ms(u64::from(step) * 20), timestamp, step == 1, &event.bytes()));
        }
        assert_eq!(keys, "3");
    }

    #[test]
    fn a_sender_that_moves_the_timestamp_within_a_key_is_understood() {
        let mut receiver = EventReceiver::new();
        let mut keys = String::new();
        for step in 1..8u16 {
            let event = Event { code: 9, end: step > 5, volume: 10, duration: step * 160 };
            let timestamp = u32::from(step) * 160;
            keys.extend(receiver.packet(Mono::from_ms(u64::from(step) * 20), timestamp, step == 1, &event.bytes()));
        }
        assert_eq!(keys, "9");
    }

    #[test]
    fn a_sender_whose_clock_stands_still_is_understood() {
        let mut receiver = EventReceiver::new();
        let mut keys = String::new();
        for (press, start) in [(0, 0u64), (1, 400)] {
            for step in 1..8u16 {
                let event = Event { code: 4, end: step > 5, volume: 10, duration: step.min(5) * 160 };
                let now = Mono::from_ms(start + u64::from(step) * 20);
                keys.extend(receiver.packet(now, 8000, step == 1, &event.bytes()));
            }
            assert_eq!(keys.len(), press + 1);
        }
    }

    #[test]
    fn flash_and_short_payloads_are_no_key() {
        let mut receiver = EventReceiver::new();
        assert_eq!(receiver.packet(Mono(0), 1, true, &[16, 10, 0, 160]), None);
        assert_eq!(receiver.packet(Mono(0), 2, true, &[5, 10, 0]), None);
        assert_eq!(receiver.packet(Mono(0), 3, true, &[]), None);
    }

    #[test]
    fn the_queue_has_an_end() {
        let mut sender = EventSender::new();
        assert_eq!((0..1000).filter(|_| sender.queue('1')).count(), MAX_QUEUED);
        assert!(!EventSender::new().queue('x'));
    }

    proptest! {
        #[test]
        fn every_key_is_told_once_under_loss_and_reordering(seed: u64, keys in "[0-9*#]{1,12}") {
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            // 5 % loss, and each packet up to 60 ms late.
            let mut packets = sent(&keys);
            packets.retain(|_| !rng.random_bool(0.05));
            packets.shuffle(&mut rng);
            let mut late: Vec<(u64, EventPacket)> = packets;
            late.iter_mut().for_each(|(tick, _)| *tick += rng.random_range(0..4));
            late.sort_by_key(|(tick, _)| *tick);
            prop_assert_eq!(told(&mut EventReceiver::new(), &late), keys);
        }
    }
}
