//! Packets of a codec with memory (G.722, G.729, Opus): kept until their turn, then decoded one after the other. What is
//! missing in between is made up by the codec itself, where it can: it knows more than the samples tell.

use crate::audio::codec::LONGEST;
use crate::audio::{Coding, Decoded, Decoder, FRAME_SAMPLES};
use std::collections::VecDeque;

/// Packets kept at most: more than the buffer's half second holds at 2.5 ms each.
const MOST: usize = 256;
/// Samples made up in a row at most: 60 ms. A longer gap is a pause, or was waited through.
const MOST_MADE: i64 = 480;
const FRAME: i64 = FRAME_SAMPLES as i64;

/// A packet that waits.
#[derive(Debug)]
struct Kept {
    start: i64,
    length: i64,
    payload: Vec<u8>,
}

/// What a piece of the stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Decoded.
    Sound,
    /// Decoded, and the sender is silent after it.
    Noise,
    /// Made up for what is missing.
    Made,
    /// Nothing could be made of it.
    Void,
}

/// The next samples of the stream.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    pub at: i64,
    pub pcm: &'a [i16],
    pub what: What,
}

/// The packets of one stream and their decoder.
#[derive(Debug)]
pub(super) struct Coded {
    decoder: Decoder,
    /// By their place, the earliest first.
    kept: VecDeque<Kept>,
    /// Emptied payloads, so that a packet costs no allocation.
    spare: Vec<Vec<u8>>,
    /// Up to where the decoder has run.
    done: Option<i64>,
    /// Samples made up in a row.
    made: i64,
    pcm: Box<[i16; LONGEST]>,
}

impl Coded {
    /// For a stream that begins. None when the codec cannot be had.
    pub fn new(coding: Coding) -> Option<Coded> {
        let decoder = Decoder::new(coding).ok()?;
        let (kept, spare) = (VecDeque::with_capacity(16), Vec::with_capacity(16));
        Some(Coded { decoder, kept, spare, done: None, made: 0, pcm: Box::new([0; LONGEST]) })
    }

    pub fn coding(&self) -> Coding {
        self.decoder.coding()
    }

    /// Another sender begins: nothing of the one before counts.
    pub fn restart(&mut self) {
        self.jump();
        if let Ok(decoder) = Decoder::new(self.coding()) {
            self.decoder = decoder;
        }
    }

    /// The stream goes on elsewhere.
    pub fn jump(&mut self) {
        while let Some(kept) = self.kept.pop_front() {
            self.spare.push(kept.payload);
        }
        self.done = None;
    }

    /// Whether the decoder has run past this place: what belongs there comes too late.
    pub fn is_past(&self, start: i64) -> bool {
        self.done.is_some_and(|done| start < done)
    }

    /// Keeps a packet; false when too many wait.
    pub fn keep(&mut self, start: i64, length: i64, payload: &[u8]) -> bool {
        if self.kept.len() >= MOST {
            return false;
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(payload);
        let later = self.kept.iter().rev().take_while(|k| k.start > start).count();
        self.kept.insert(self.kept.len() - later, Kept { start, length, payload: bytes });
        true
    }

    /// The noise of a sender that fell silent: goes on where the decoder is. False when it has none.
    pub fn noise(&mut self, out: &mut [i16]) -> bool {
        self.decoder.conceal(None, out)
    }

    /// The next piece that begins before `to`; none when the decoder is there, or nothing is known of what follows.
    pub fn next(&mut self, to: i64) -> Option<Piece<'_>> {
        let next = self.kept.front()?;
        let at = *self.done.get_or_insert(next.start);
        if at >= to {
            return None;
        }
        match next.start - at {
            gap @ 1.. => Some(self.gap(at, gap)),
            _ => self.decode(at),
        }
    }

    /// A piece for what is missing before the next packet.
    fn gap(&mut self, at: i64, gap: i64) -> Piece<'_> {
        let step = self.decoder.step() as i64;
        let length = gap.min(FRAME);
        let whole = length - length % step;
        let next = self.kept.front().filter(|_| gap == whole).map(|k| k.payload.as_slice());
        // Past the limit only the end is made up, which the next packet may hold a copy of.
        let wanted = whole > 0 && (self.made < MOST_MADE || next.is_some());
        let made = wanted && self.decoder.conceal(next, &mut self.pcm[..whole as usize]);
        let (length, what) = match (made, whole > 0) {
            (true, _) => (whole, What::Made),
            (false, true) => (whole, What::Void),
            (false, false) => (length, What::Void),
        };
        self.made += if made { length } else { 0 };
        self.done = Some(at + length);
        Piece { at, pcm: &self.pcm[..length as usize], what }
    }

    /// The piece of the next packet.
    fn decode(&mut self, at: i64) -> Option<Piece<'_>> {
        let kept = self.kept.pop_front()?;
        let end = kept.start + kept.length;
        let pcm = &mut self.pcm[..(kept.length as usize).min(LONGEST)];
        // One that overlaps what is done already is nothing that a decoder could go on with.
        let what = if kept.start < at { Decoded::Nothing } else { self.decoder.decode(&kept.payload, pcm) };
        let what = match what {
            Decoded::Sound => What::Sound,
            Decoded::Noise => What::Noise,
            Decoded::Nothing => What::Void,
        };
        self.spare.push(kept.payload);
        self.made = 0;
        self.done = Some(at.max(end));
        let length = (at.max(end) - at).min(kept.length) as usize;
        Some(Piece { at, pcm: &self.pcm[..length], what })
    }
}
