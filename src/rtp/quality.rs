//! How a stream sounds, estimated from its packets by the E-model (ITU-T G.107) in its usual short form: loss, how it
//! comes in bursts, delay and codec. Loudness, noise and echo are taken as good.

use crate::sdp::Codec;

/// Numbers behind the newest within which a packet may still come.
const WINDOW: u32 = 128;
/// A jump of the numbers that is no loss but a new beginning (as the receiver sees it).
const MOST_AHEAD: i16 = 3000;
/// Packets below which nothing is said: a second of them.
const LEAST: u64 = 50;
/// The rating of a perfect line of this kind (G.107, all defaults).
const BEST: f32 = 93.2;
/// A delay that the peer does not report, in milliseconds: its jitter buffer holds at least so much.
const PEER_BUFFER_MS: f32 = 40.0;

/// An estimate of how one direction of a leg sounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// Share of packets that could not be played, 0..=1: lost, or too late.
    pub loss: f32,
    /// How much longer the gaps are than if packets were lost by chance; 1 for chance.
    pub burst: f32,
    /// One way, in milliseconds: half the round trip (where one is known) and the jitter buffer.
    pub delay_ms: f32,
    /// Transmission rating, 0..=93.2: 80 is good, below 50 nearly everybody complains.
    pub r: f32,
    /// Mean opinion score, 1..=4.41.
    pub mos: f32,
}

impl Quality {
    /// By what was measured.
    pub fn new(codec: Codec, loss: f32, burst: f32, delay_ms: f32) -> Self {
        let r = rating(codec, loss, burst, delay_ms);
        Quality { loss, burst, delay_ms, r, mos: mos(r) }
    }

    /// Of the peer's sound as it is played here; none before a second of it has come.
    pub(super) fn here(codec: Codec, losses: Losses, buffer_ms: u32, rtt_ms: Option<f32>) -> Option<Self> {
        let delay_ms = buffer_ms as f32 + rtt_ms.unwrap_or(0.0) / 2.0;
        (losses.expected >= LEAST).then(|| Quality::new(codec, losses.share(), losses.burst(), delay_ms))
    }

    /// Of our sound as the peer plays it, by its reports: so many lost of so many. What comes too late there is not
    /// reported, and its jitter buffer is taken to hold twice the jitter.
    pub(super) fn there(codec: Codec, lost: i32, expected: u64, jitter_ms: f32, rtt_ms: Option<f32>) -> Option<Self> {
        let delay_ms = PEER_BUFFER_MS.max(2.0 * jitter_ms) + rtt_ms.unwrap_or(0.0) / 2.0;
        let share = (lost.max(0) as f32 / expected.max(1) as f32).min(1.0);
        (expected >= LEAST).then(|| Quality::new(codec, share, 1.0, delay_ms))
    }
}

/// Transmission rating R = 93.2 - Id - Ie,eff. Of the delay's impairment the short form of Cole and Rosenbluth.
pub fn rating(codec: Codec, loss: f32, burst: f32, delay_ms: f32) -> f32 {
    let (ie, bpl) = impairment(codec);
    let ppl = loss.clamp(0.0, 1.0) * 100.0;
    let effective = if ppl > 0.0 { ie + (95.0 - ie) * ppl / (ppl / burst.max(1.0) + bpl) } else { ie };
    let delay = 0.024 * delay_ms + 0.11 * (delay_ms - 177.3).max(0.0);
    (BEST - delay - effective).clamp(0.0, BEST)
}

/// Mean opinion score of a rating (G.107, annex B).
pub fn mos(r: f32) -> f32 {
    let r = r.clamp(0.0, 100.0);
    (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).clamp(1.0, 4.5)
}

/// What a codec costs without loss (Ie), and how it bears loss (Bpl): G.113, appendix I, with concealment. By its name,
/// so that one whose figures are not given there counts as G.711.
fn impairment(codec: Codec) -> (f32, f32) {
    match codec.name() {
        "G729" => (11.0, 19.0),
        _ => (0.0, 25.1),
    }
}

/// What became of a stream's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Losses {
    /// Packets there should have been.
    pub expected: u64,
    /// Those that could not be played.
    pub missing: u64,
    /// Gaps: rows of missing packets.
    pub gaps: u64,
}

impl Losses {
    /// 0..=1
    pub fn share(&self) -> f32 {
        self.missing as f32 / self.expected.max(1) as f32
    }

    /// Mean length of a gap over what chance would make of the same share (G.107, BurstR); at least 1.
    pub fn burst(&self) -> f32 {
        if self.gaps == 0 {
            return 1.0;
        }
        let (length, by_chance) = (self.missing as f32 / self.gaps as f32, 1.0 / (1.0 - self.share()).max(0.01));
        (length / by_chance).max(1.0)
    }

    fn packet(&mut self, played: bool, before: bool) {
        self.expected += 1;
        self.missing += u64::from(!played);
        self.gaps += u64::from(!played && before);
    }
}

/// Follows sequence numbers, reordered as they come, and counts what is missing among them once it can come no more.
#[derive(Debug, Clone, Copy)]
pub struct LossTrack {
    ssrc: Option<u32>,
    newest: u16,
    /// Bit n: the packet n before the newest was played.
    played: u128,
    /// How many bits mean something.
    filled: u32,
    settled: Losses,
    /// The last settled one was played.
    before: bool,
}

impl Default for LossTrack {
    fn default() -> Self {
        LossTrack { ssrc: None, newest: 0, played: 0, filled: 0, settled: Losses::default(), before: true }
    }
}

impl LossTrack {
    /// A packet of the stream came in time, as far as is known.
    pub fn came(&mut self, ssrc: u32, sequence: u16) {
        let ahead = sequence.wrapping_sub(self.newest) as i16;
        if self.ssrc != Some(ssrc) || ahead.unsigned_abs() > MOST_AHEAD.unsigned_abs() {
            self.settled = self.so_far();
            *self = LossTrack { settled: self.settled, ssrc: Some(ssrc), newest: sequence, ..LossTrack::default() };
            (self.played, self.filled) = (1, 1);
        } else if ahead > 0 {
            for _ in 0..ahead {
                self.advance();
            }
            self.newest = sequence;
            self.played |= 1;
        } else if let behind @ 0..WINDOW = u32::from(ahead.unsigned_abs()) {
            self.played |= 1 << behind;
            self.filled = self.filled.max(behind + 1);
        }
    }

    /// It came too late to be played.
    pub fn late(&mut self, sequence: u16) {
        let behind = u32::from(self.newest.wrapping_sub(sequence));
        if behind < WINDOW {
            self.played &= !(1 << behind);
        }
    }

    fn advance(&mut self) {
        if self.filled == WINDOW {
            let played = self.played >> (WINDOW - 1) != 0;
            self.settled.packet(played, self.before);
            self.before = played;
        } else {
            self.filled += 1;
        }
        self.played <<= 1;
    }

    /// All until now: what is missing among the newest may be on its way, but that is a handful.
    pub fn so_far(&self) -> Losses {
        let (mut losses, mut before) = (self.settled, self.before);
        for bit in (0..self.filled).rev() {
            let played = self.played >> bit & 1 != 0;
            losses.packet(played, before);
            before = played;
        }
        losses
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng, seq::SliceRandom};
    use rand_chacha::ChaCha8Rng;

    fn near(a: f32, b: f32, within: f32) -> bool {
        (a - b).abs() <= within
    }

    /// Worked by hand from the formula, one-way delay 150 ms, G.711 with concealment.
    #[test]
    fn the_rating_is_that_of_the_published_figures() {
        let table = [
            (0.0, 90.0, 4.33),
            (0.01, 86.0, 4.23),
            (0.03, 79.0, 4.0),
            (0.05, 74.0, 3.77),
            (0.1, 63.0, 3.23),
            (0.2, 47.0, 2.44),
        ];
        for (loss, r, score) in table {
            let q = Quality::new(Codec::Pcma, loss, 1.0, 150.0);
            assert!(near(q.r, r, 1.0) && near(q.mos, score, 0.05), "{loss}: {q:?}");
        }
        for (r, score) in [(93.2, 4.41), (90.0, 4.34), (80.0, 4.03), (70.0, 3.6), (60.0, 3.1), (50.0, 2.58), (0.0, 1.0)]
        {
            assert!(near(mos(r), score, 0.01), "{r}: {}", mos(r));
        }
    }

    #[test]
    fn bursts_and_long_delays_cost_more() {
        let chance = Quality::new(Codec::Pcma, 0.1, 1.0, 100.0);
        assert!(Quality::new(Codec::Pcma, 0.1, 4.0, 100.0).r < chance.r - 5.0);
        assert!(Quality::new(Codec::Pcma, 0.1, 1.0, 400.0).r < chance.r - 25.0);
        assert_eq!(Quality::new(Codec::Pcma, 1.0, 50.0, 5000.0).mos, 1.0);
    }

    #[test]
    fn gaps_are_counted_over_the_wrap_and_late_packets_are_missing() {
        let mut track = LossTrack::default();
        let mut n = 65_000u16;
        for i in 0..2000u32 {
            n = n.wrapping_add(1);
            // Two in a row of every twenty.
            if i % 20 != 7 && i % 20 != 8 {
                track.came(1, n);
            }
            if i % 20 == 15 {
                track.late(n);
            }
        }
        let losses = track.so_far();
        assert_eq!((losses.expected, losses.missing, losses.gaps), (2000, 300, 200));
        assert!(near(losses.burst(), 1.5 * 0.85, 0.01), "{}", losses.burst());
    }

    #[test]
    fn another_source_or_a_new_beginning_is_no_loss() {
        let mut track = LossTrack::default();
        for (ssrc, first) in [(1, 100u16), (2, 9000), (2, 40_000), (2, 100)] {
            (0..100).for_each(|i| track.came(ssrc, first + i));
        }
        assert_eq!(track.so_far(), Losses { expected: 400, missing: 0, gaps: 0 });
    }

    #[test]
    fn loss_by_chance_has_a_burst_ratio_of_one_and_bursts_have_their_length() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut measure = |stay: f64, enter: f64| {
            let (mut track, mut bad) = (LossTrack::default(), false);
            for n in 0..100_000u32 {
                bad = rng.random_bool(if bad { stay } else { enter });
                if !bad {
                    track.came(1, n as u16);
                }
            }
            track.so_far()
        };
        let chance = measure(0.1, 0.1);
        assert!(near(chance.share(), 0.1, 0.005) && near(chance.burst(), 1.0, 0.02), "{chance:?}");
        // Gaps of four on average.
        let bursts = measure(0.75, 0.25 / 9.0);
        assert!(near(bursts.share(), 0.1, 0.01) && near(bursts.burst(), 3.6, 0.2), "{bursts:?}");
    }

    proptest! {
        #[test]
        fn what_is_counted_does_not_depend_on_the_order_within_the_window(
            seed: u64, first: u16, lost in proptest::collection::vec(any::<bool>(), 300)
        ) {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut track = LossTrack::default();
            let numbers: Vec<u32> = (0..300u32).filter(|n| *n % 60 == 0 || *n == 299 || !lost[*n as usize]).collect();
            let mut shuffled = numbers.clone();
            // The first stays first, or its place would be unknown.
            for block in shuffled[1..].chunks_mut(40) {
                block.shuffle(&mut rng);
            }
            shuffled.iter().for_each(|n| track.came(7, first.wrapping_add(*n as u16)));
            let gaps = numbers.windows(2).filter(|w| w[1] != w[0] + 1).count() as u64;
            let missing = 300 - numbers.len() as u64;
            prop_assert_eq!(track.so_far(), Losses { expected: 300, missing, gaps });
        }

        #[test]
        fn no_numbers_make_it_panic(packets in proptest::collection::vec((0u32..3, any::<u16>(), any::<bool>()), 0..200)) {
            let mut track = LossTrack::default();
            for (ssrc, sequence, late) in packets {
                if late { track.late(sequence) } else { track.came(ssrc, sequence) }
            }
            let losses = track.so_far();
            prop_assert!(losses.missing <= losses.expected && losses.gaps <= losses.missing);
            let q = Quality::new(Codec::Pcmu, losses.share(), losses.burst(), 100.0);
            prop_assert!((1.0..=4.5).contains(&q.mos) && (0.0..=93.2).contains(&q.r));
        }
    }
}
