//! The jitter buffer: packets of any length in, one 20 ms frame a tick out.
//!
//! Samples are decoded into a ring, at the place their timestamp gives them, with a bit each that says
//! "here". Order, duplicates and packet lengths then need no further thought: the play position only moves
//! forward, so nothing is played twice or out of order.
//!
//! How far the play position stays behind (the delay) follows the jitter of the last five seconds, between
//! 20 and 200 ms. When the buffer runs dry the position waits (the packet may be late, not lost) and the
//! delay grows by just as much as was needed; it shrinks again by leaving out quiet frames.
//!
//! G.711 is decoded as it comes, being without memory; packets of other codecs hold their place and are decoded in their
//! order just before they are played (`coded`). All places are counted in samples of 8 kHz.

use super::coded::{Coded, Piece, What};
use crate::audio::conceal::{BLOCK, Concealer};
use crate::audio::{Coding, FRAME_SAMPLES, Law, Noise};
use crate::clock::Mono;

/// Samples the ring holds: half a second.
const RING: usize = 4096;
const WORDS: usize = RING / 64;
/// Samples in a millisecond.
const PER_MS: i64 = 8;
const FRAME: i64 = FRAME_SAMPLES as i64;
/// Delay at the start, least and most, in samples.
const START_DELAY: i64 = 40 * PER_MS;
const LEAST_DELAY: i64 = 20 * PER_MS;
const MOST_DELAY: i64 = 200 * PER_MS;
/// Packets whose transit times are remembered: five seconds of 20 ms packets.
const WINDOW: usize = 256;
/// Packets after which the delay is thought over.
const RETHINK: u32 = 32;
/// The buffer is cut down at once when it holds more than this.
const MOST_HELD: i64 = 400 * PER_MS;
/// Waiting longer than this for a packet is a pause of the peer, not jitter.
const PAUSE: i64 = 1000 * PER_MS;
/// Least time between two changes of the delay.
const ADAPT_MS: u64 = 100;
/// Mean absolute sample below which a frame is quiet enough to be left out or repeated (about -45 dBm0).
const QUIET: u32 = 100;
/// Longest packet, in samples: 120 ms.
pub const LONGEST: usize = crate::audio::codec::LONGEST;

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// In its place.
    Kept,
    /// Its place had been played already.
    Late,
    /// All of it was there already.
    Duplicate,
    /// Its timestamp fits nothing; believed when the next one agrees.
    Odd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing there.
    Idle,
    /// Waits for the delay to be reached.
    Filling,
    /// A frame each tick.
    Playing,
}

/// What is heard where the peer fell silent and sends nothing.
#[derive(Debug)]
enum Comfort {
    /// The codec knows.
    Codec,
    /// Noise as described (RFC 3389).
    Described(Noise),
}

/// Counters of one stream, in samples where not said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JitterCounts {
    /// Packets whose place had been played already.
    pub late: u64,
    /// Packets that were there already, by their place.
    pub duplicates: u64,
    /// Audible samples that were made up.
    pub concealed: u64,
    /// Quiet samples left out to shorten the delay.
    pub left_out: u64,
    /// Times the stream was followed to another timestamp.
    pub resyncs: u64,
}

/// One direction's buffer.
#[derive(Debug)]
pub struct JitterBuffer {
    ring: Box<[i16; RING]>,
    here: [u64; WORDS],
    state: State,
    /// Something of this stream has been placed: what lies before `play` is past, even after a pause.
    begun: bool,
    /// Extended timestamp of the next sample to play.
    play: i64,
    /// Extended timestamp after the newest sample.
    end: i64,
    /// The last timestamp, short and extended, in ticks of the stream's clock.
    last: Option<(u32, i64)>,
    /// Ticks of that clock in a sample.
    ticks: i64,
    /// Packets that wait for their turn, of a codec with memory.
    coded: Option<Box<Coded>>,
    /// From where on the peer is silent.
    comfort: Option<(i64, Comfort)>,
    /// Samples made up while waiting at `play`.
    waited: i64,
    /// The odd packet before: the timestamp that would follow it.
    odd: Option<u32>,
    transit: Transit,
    conceal: Concealer,
    last_quiet: bool,
    adapted: Mono,
    counts: JitterCounts,
}

impl Default for JitterBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl JitterBuffer {
    /// An empty buffer; the only allocation it ever makes for G.711.
    pub fn new() -> Self {
        JitterBuffer {
            ring: Box::new([0; RING]),
            here: [0; WORDS],
            state: State::Idle,
            begun: false,
            play: 0,
            end: 0,
            last: None,
            ticks: 1,
            coded: None,
            comfort: None,
            waited: 0,
            odd: None,
            transit: Transit::new(),
            conceal: Concealer::after_silence(),
            last_quiet: true,
            adapted: Mono(0),
            counts: JitterCounts::default(),
        }
    }

    /// Forgets the stream (another source begins); counters and the sound to fade out stay.
    pub fn restart(&mut self) {
        self.here = [0; WORDS];
        self.state = State::Idle;
        self.begun = false;
        self.last = None;
        self.waited = 0;
        self.odd = None;
        self.transit = Transit::new();
        self.comfort = None;
        if let Some(coded) = &mut self.coded {
            coded.restart();
        }
        self.conceal.jump();
    }

    /// Counters so far.
    pub fn counts(&self) -> JitterCounts {
        self.counts
    }

    /// The delay aimed at, in milliseconds.
    pub fn target_ms(&self) -> u32 {
        (self.transit.target / PER_MS) as u32
    }

    /// Takes a G.711 packet of 1 to [`LONGEST`] codes.
    pub fn insert(&mut self, now: Mono, timestamp: u32, law: Law, codes: &[u8]) -> Placed {
        if self.coded.is_some() {
            self.leave_codec();
        }
        let start = match self.place(now, timestamp, codes.len()) {
            Ok(start) => start,
            Err(placed) => return placed,
        };
        let from = start.max(self.play);
        let length = codes.len() as i64;
        self.decode(from, law, &codes[(from - start) as usize..]);
        self.occupy(from, start + length);
        Placed::Kept
    }

    /// Takes a packet of another codec, which holds that many samples, 1 to [`LONGEST`].
    pub fn insert_coded(
        &mut self,
        now: Mono,
        timestamp: u32,
        coding: Coding,
        (payload, samples): (&[u8], usize),
    ) -> Placed {
        if self.coded.as_ref().is_none_or(|c| c.coding() != coding) {
            self.leave_codec();
            self.set_clock(coding.ticks());
            self.coded = Coded::new(coding).map(Box::new);
        }
        let start = match self.place(now, timestamp, samples) {
            Ok(start) => start,
            Err(placed) => return placed,
        };
        let Some(coded) = &mut self.coded else { return Placed::Odd };
        if coded.is_past(start) {
            self.counts.late += 1;
            return Placed::Late;
        }
        if !coded.keep(start, samples as i64, payload) {
            return Placed::Odd;
        }
        self.occupy(start.max(self.play), start + samples as i64);
        Placed::Kept
    }

    /// Takes a description of noise (RFC 3389): from its place on, silence is not loss.
    pub fn insert_noise(&mut self, timestamp: u32, payload: &[u8]) -> Placed {
        let Some(noise) = Noise::of(payload) else { return Placed::Odd };
        let Some(start) = self.locate(timestamp, FRAME_SAMPLES) else { return Placed::Odd };
        if start < self.play && start < self.end {
            self.counts.late += 1;
            return Placed::Late;
        }
        if self.state == State::Idle && !(self.begun && start < self.play) {
            (self.play, self.end) = (start, start);
            self.begun = true;
        }
        let noise = match &self.comfort {
            Some((_, Comfort::Described(before))) => noise.after(before),
            _ => noise,
        };
        self.comfort = Some((start, Comfort::Described(noise)));
        Placed::Kept
    }

    /// The place of a packet whose samples are wanted, or what becomes of one that is not.
    fn place(&mut self, now: Mono, timestamp: u32, samples: usize) -> Result<i64, Placed> {
        let length = samples as i64;
        let Some(start) = self.locate(timestamp, samples) else { return Err(Placed::Odd) };
        self.transit.packet(self::samples(now) - start);
        if self.state == State::Idle && !(self.begun && start < self.play) {
            (self.play, self.end) = (start, start);
            self.begun = true;
            self.state = State::Filling;
        } else if self.state == State::Filling && start < self.play && self.end - start <= RING as i64 {
            // Overtaken by its followers before anything was played.
            self.play = start;
        }
        if start + length <= self.play {
            self.counts.late += 1;
            self.transit.rethink();
            return Err(Placed::Late);
        }
        let from = start.max(self.play);
        if self.all_here(from, (start + length - from) as usize) {
            self.counts.duplicates += 1;
            return Err(Placed::Duplicate);
        }
        Ok(start)
    }

    /// Samples lie there now.
    fn occupy(&mut self, from: i64, to: i64) {
        self.mark(from, (to - from) as usize, true);
        self.end = self.end.max(to);
        if self.end - self.play > MOST_HELD {
            self.leave_out(self.end - self.play - self.transit.target);
        }
    }

    /// The packets of the codec so far are decoded, and G.711 may follow.
    fn leave_codec(&mut self) {
        self.render(self.end);
        self.coded = None;
        self.set_clock(1);
    }

    /// A stream on another clock is another stream.
    fn set_clock(&mut self, ticks: u32) {
        if self.ticks != i64::from(ticks) {
            self.ticks = i64::from(ticks);
            self.restart();
        }
    }

    /// Decodes the packets whose turn comes before `to`.
    fn render(&mut self, to: i64) {
        let Some(mut coded) = self.coded.take() else { return };
        while let Some(piece) = coded.next(to) {
            self.lay(&piece);
        }
        self.coded = Some(coded);
    }

    /// Puts decoded samples into their place, but for those that were left out.
    fn lay(&mut self, piece: &Piece<'_>) {
        let past = (self.play - piece.at).clamp(0, piece.pcm.len() as i64);
        let (from, pcm) = (piece.at + past, &piece.pcm[past as usize..]);
        let here = piece.what != What::Void;
        if here {
            let at = index(from);
            let (first, second) = pcm.split_at(pcm.len().min(RING - at));
            self.ring[at..at + first.len()].copy_from_slice(first);
            self.ring[..second.len()].copy_from_slice(second);
        }
        self.mark(from, pcm.len(), here);
        match piece.what {
            What::Made if self.comfort.is_none() => self.counts.concealed += pcm.len() as u64,
            What::Noise => self.comfort = Some((piece.at + piece.pcm.len() as i64, Comfort::Codec)),
            What::Sound | What::Made | What::Void => {}
        }
    }

    /// The next 20 ms. Call once per tick.
    pub fn pull(&mut self, now: Mono, out: &mut [i16; FRAME_SAMPLES]) {
        if self.state == State::Filling && self.delay(now) >= self.transit.target {
            self.state = State::Playing;
        }
        if self.state != State::Playing {
            self.make_up(out);
            return;
        }
        if self.end <= self.play {
            self.wait(out);
            return;
        }
        self.skip_what_waiting_covered();
        self.adapt(now);
        if self.stretches(now) {
            self.adapted = now;
            self.make_up(out);
            return;
        }
        self.render(self.play + FRAME);
        for half in out.as_chunks_mut::<BLOCK>().0 {
            self.play_block(half);
        }
        self.last_quiet = is_quiet(out);
    }

    /// Extended timestamp of a packet; none if it fits nothing known.
    fn locate(&mut self, timestamp: u32, length: usize) -> Option<i64> {
        let Some((last, extended)) = self.last else {
            let ticks = (1 << 32) + i64::from(timestamp);
            self.last = Some((timestamp, ticks));
            return Some(ticks.div_euclid(self.ticks));
        };
        let ticks = extended + i64::from(timestamp.wrapping_sub(last) as i32);
        let start = ticks.div_euclid(self.ticks);
        let fits = start + length as i64 - self.play <= RING as i64 && start > self.play - PAUSE;
        if !fits {
            // Running dry (a pause of the peer, a clock set anew) the stream is followed at once; otherwise
            // only when a second packet says the same.
            let agreed = self.odd.is_some_and(|o| i64::from(timestamp.wrapping_sub(o)) <= LONGEST as i64 * self.ticks);
            let dry = self.state == State::Idle || (self.state == State::Playing && self.waited > 0);
            if !agreed && !dry {
                self.odd = Some(timestamp.wrapping_add(length as u32 * self.ticks as u32));
                return None;
            }
            self.follow(start);
        }
        self.odd = None;
        // A packet from the past must not move the reference back, or half-range differences could add up.
        if ticks > extended || !fits {
            self.last = Some((timestamp, ticks));
        }
        Some(start)
    }

    /// Gives up what is buffered and begins anew at `start`.
    fn follow(&mut self, start: i64) {
        match &mut self.comfort {
            // After a silence the stream goes on wherever it does.
            Some((from, _)) => *from = start,
            None if self.state != State::Idle => self.counts.resyncs += 1,
            None => {}
        }
        if let Some(coded) = &mut self.coded {
            coded.jump();
        }
        self.here = [0; WORDS];
        self.state = State::Idle;
        self.waited = 0;
        (self.play, self.end) = (start, start);
        self.conceal.jump();
    }

    /// How long after its (quickest possible) arrival the next sample would be played.
    fn delay(&self, now: Mono) -> i64 {
        samples(now) - self.play - self.transit.least
    }

    /// Nothing is there: makes sound up and stays in place, because the packet may still come.
    fn wait(&mut self, out: &mut [i16; FRAME_SAMPLES]) {
        self.make_up(out);
        self.waited += FRAME;
        if self.waited > PAUSE {
            self.state = State::Idle;
            self.waited = 0;
        }
    }

    /// After waiting: as much of a gap as the waiting has already filled is not filled again.
    fn skip_what_waiting_covered(&mut self) {
        if self.waited > 0 {
            let gap = self.first_here() - self.play;
            self.advance(gap.min(self.waited));
            self.waited = 0;
        }
    }

    /// Leaves a frame out when the delay is longer than need be: a quiet one, or any if it is far too long.
    fn adapt(&mut self, now: Mono) {
        let excess = self.delay(now) - self.transit.target;
        if excess <= FRAME || self.end - self.play < 3 * FRAME || now.ms_since(self.adapted) < ADAPT_MS {
            return;
        }
        if self.last_quiet || excess > 100 * PER_MS {
            self.adapted = now;
            self.leave_out(FRAME);
        }
    }

    /// Whether the delay is too short by a frame and the moment good to lengthen it: a quiet one, or one whose
    /// sound is missing anyway (and may yet come).
    fn stretches(&self, now: Mono) -> bool {
        let lack = self.transit.target - self.delay(now);
        let good = self.last_quiet || !self.all_here(self.play, FRAME_SAMPLES);
        lack >= FRAME && good && now.ms_since(self.adapted) >= ADAPT_MS
    }

    fn leave_out(&mut self, count: i64) {
        self.advance(count);
        self.counts.left_out += count as u64;
        self.conceal.jump();
    }

    fn play_block(&mut self, out: &mut [i16; BLOCK]) {
        if self.all_here(self.play, BLOCK) {
            let at = index(self.play);
            let first = BLOCK.min(RING - at);
            out[..first].copy_from_slice(&self.ring[at..at + first]);
            out[first..].copy_from_slice(&self.ring[..BLOCK - first]);
            self.conceal.good(out);
            if self.comfort.as_ref().is_some_and(|(from, _)| self.play >= *from) {
                self.comfort = None;
            }
        } else {
            self.make_up_block(out);
        }
        self.advance(BLOCK as i64);
    }

    fn make_up(&mut self, out: &mut [i16; FRAME_SAMPLES]) {
        for half in out.as_chunks_mut::<BLOCK>().0 {
            self.make_up_block(half);
        }
    }

    fn make_up_block(&mut self, out: &mut [i16; BLOCK]) {
        if let Some((from, comfort)) = &mut self.comfort
            && self.play >= *from
        {
            let made = match comfort {
                Comfort::Codec => self.coded.as_mut().is_some_and(|c| c.noise(out)),
                Comfort::Described(noise) => {
                    noise.fill(out);
                    true
                }
            };
            if made {
                return self.conceal.good(out);
            }
        }
        if self.conceal.audible() && self.last.is_some() && self.state == State::Playing {
            self.counts.concealed += BLOCK as u64;
        }
        self.conceal.lost(out);
    }

    fn advance(&mut self, count: i64) {
        self.mark(self.play, count as usize, false);
        self.play += count;
    }

    fn decode(&mut self, from: i64, law: Law, codes: &[u8]) {
        let at = index(from);
        let first = codes.len().min(RING - at);
        law.decode_into(&codes[..first], &mut self.ring[at..]);
        law.decode_into(&codes[first..], &mut self.ring[..]);
    }

    /// The first place at or after `play` that holds a sample; `end` if none does.
    fn first_here(&self) -> i64 {
        let mut at = self.play;
        while at < self.end {
            let bit = index(at) % 64;
            let word = self.here[index(at) / 64] >> bit;
            if word != 0 {
                return at + i64::from(word.trailing_zeros());
            }
            at += 64 - bit as i64;
        }
        self.end
    }

    fn all_here(&self, from: i64, length: usize) -> bool {
        words(from, length).all(|(word, mask)| self.here[word] & mask == mask)
    }

    fn mark(&mut self, from: i64, length: usize, here: bool) {
        for (word, mask) in words(from, length.min(RING)) {
            if here {
                self.here[word] |= mask;
            } else {
                self.here[word] &= !mask;
            }
        }
    }
}

/// A moment on an 8 kHz clock.
fn samples(now: Mono) -> i64 {
    (now.0 / 125) as i64
}

fn index(at: i64) -> usize {
    at as usize % RING
}

fn is_quiet(pcm: &[i16; FRAME_SAMPLES]) -> bool {
    pcm.iter().map(|s| u32::from(s.unsigned_abs())).sum::<u32>() < QUIET * FRAME_SAMPLES as u32
}

/// The words and masks of a stretch of the bit map.
fn words(from: i64, length: usize) -> impl Iterator<Item = (usize, u64)> {
    let (mut at, mut left) = (index(from), length);
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let (word, bit) = (at / 64, at % 64);
        let count = left.min(64 - bit);
        let mask = (u64::MAX >> (64 - count)) << bit;
        left -= count;
        at = (at + count) % RING;
        Some((word, mask))
    })
}

/// Transit times (arrival minus timestamp) of the last packets, and the delay they ask for.
#[derive(Debug)]
struct Transit {
    times: [i64; WINDOW],
    count: u32,
    /// The least of them: a packet that met no queue.
    least: i64,
    target: i64,
}

impl Transit {
    fn new() -> Self {
        Transit { times: [0; WINDOW], count: 0, least: 0, target: START_DELAY }
    }

    fn packet(&mut self, transit: i64) {
        if self.count > 0 && (transit - self.least).abs() > PAUSE {
            // The peer's clock was set anew: what was measured says nothing about what follows.
            let target = self.target;
            *self = Transit { target, ..Transit::new() };
        }
        self.times[self.count as usize % WINDOW] = transit;
        self.least = if self.count == 0 { transit } else { self.least.min(transit) };
        self.count = self.count.wrapping_add(1).max(1);
        if self.count.is_multiple_of(RETHINK) {
            self.rethink();
        }
    }

    /// The delay that 99 of 100 packets would have needed, and a frame.
    fn rethink(&mut self) {
        let times = &self.times[..(self.count as usize).min(WINDOW)];
        let mut least = i64::MAX;
        let mut most = [i64::MIN; 3];
        for &time in times {
            least = least.min(time);
            if time > most[2] {
                most[2] = time;
                most.sort_unstable_by(|a, b| b.cmp(a));
            }
        }
        // One packet in a hundred may come late; with few packets known, none.
        let longest = most[(times.len() / 100).min(2)];
        self.least = least;
        let asked = longest - least + FRAME;
        let floor = if times.len() < 100 { START_DELAY } else { LEAST_DELAY };
        self.target = asked.clamp(floor, MOST_DELAY);
    }
}

#[cfg(test)]
#[path = "jitter_tests.rs"]
mod tests;
