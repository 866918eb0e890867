//! Streams over good and bad networks, in virtual time.

use super::*;
use crate::audio::detect::{power, tone_power};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const LAW: Law = Law::A;

/// A packet on its way: arrival in microseconds, timestamp, codes.
type Packet = (u64, u32, Vec<u8>);

/// A tone of 500 Hz at a place of the stream.
fn tone(at: u32) -> i16 {
    ((f64::from(at) * std::f64::consts::TAU / 16.0).sin() * 8000.0) as i16
}

/// `seconds` of packets of `ms`, each delayed by `delay(n)` ms; first timestamp `first`.
fn stream(seconds: u32, ms: u32, first: u32, mut delay: impl FnMut(u32) -> Option<f64>) -> Vec<Packet> {
    let length = ms * 8;
    let mut packets: Vec<Packet> = (0..seconds * 1000 / ms)
        .filter_map(|n| {
            let arrival = f64::from(n * ms) + 20.0 + delay(n)?;
            let codes = (0..length).map(|i| LAW.encode_sample(tone(n * length + i))).collect();
            Some(((arrival * 1000.0) as u64 + 1_000_000, first.wrapping_add(n * length), codes))
        })
        .collect();
    packets.sort_by_key(|p| p.0);
    packets
}

/// Plays packets at a 20 ms tick of phase `phase` (microseconds); returns the sound.
fn play(buffer: &mut JitterBuffer, packets: &[Packet], ticks: u64, phase: u64) -> Vec<i16> {
    let mut packets = packets.iter().peekable();
    let mut sound = Vec::new();
    for tick in 0..ticks {
        let now = 1_000_000 + tick * 20_000 + phase;
        while let Some((arrival, timestamp, codes)) = packets.next_if(|p| p.0 <= now) {
            buffer.insert(Mono(*arrival), *timestamp, LAW, codes);
        }
        let mut frame = [0; FRAME_SAMPLES];
        buffer.pull(Mono(now), &mut frame);
        sound.extend(frame);
    }
    sound
}

/// Milliseconds of silence before the sound.
fn lead_ms(sound: &[i16]) -> usize {
    sound.iter().position(|&s| s.unsigned_abs() > 1000).unwrap_or(sound.len()) / 8
}

#[test]
fn a_good_network_gives_every_sample_after_about_40_ms() {
    for ms in [10, 20, 30, 40, 60] {
        for phase in [0, 7_000, 19_000] {
            let mut buffer = JitterBuffer::new();
            let sound = play(&mut buffer, &stream(4, ms, u32::MAX - 8000, |_| Some(0.0)), 195, phase);
            let lead = lead_ms(&sound);
            assert!((60..=82).contains(&lead), "{ms} ms packets: {lead} ms, 20 of them on the way");
            assert_eq!(buffer.counts().concealed, 0, "{ms} ms packets, {:?}", buffer.counts());
            let start = sound.iter().position(|&s| s.unsigned_abs() > 200).unwrap();
            let clean = &sound[start + 160..start + 160 + 20_000];
            assert!(tone_power(clean, 500.0) > 0.98 * power(clean), "{ms} ms packets");
            assert_eq!(buffer.counts().late + buffer.counts().duplicates, 0);
        }
    }
}

#[test]
fn lost_packets_are_made_up_and_the_delay_stays() {
    let mut buffer = JitterBuffer::new();
    let lossy = stream(10, 20, 0, |n| (n % 10 != 7).then_some(0.0));
    let sound = play(&mut buffer, &lossy, 490, 3_000);
    let body = &sound[2000..60_000];
    assert!(tone_power(body, 500.0) > 0.9 * power(body), "the tone goes on");
    assert!(power(body) > 0.9 * 32.0e6 * 0.95);
    let concealed = buffer.counts().concealed / 8;
    assert!((900..=1000).contains(&concealed), "one packet in ten of 10 s: {concealed} ms");
    assert_eq!(buffer.counts().late, 0);
}

#[test]
fn jitter_of_100_ms_loses_less_than_one_packet_in_a_hundred() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut buffer = JitterBuffer::new();
    let packets = stream(60, 20, 5, |_| Some(rng.random_range(0.0..100.0)));
    play(&mut buffer, &packets, 2990, 11_000);
    let counts = buffer.counts();
    assert!(counts.late * 100 <= packets.len() as u64, "{counts:?} of {}", packets.len());
    assert!((100..=140).contains(&buffer.target_ms()), "{} ms", buffer.target_ms());
}

#[test]
fn loud_sound_that_keeps_arriving_out_of_order_gets_its_longer_delay() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let mut buffer = JitterBuffer::new();
    let packets = stream(10, 10, 5, |_| Some(rng.random_range(0.0..85.0)));
    play(&mut buffer, &packets, 100, 3_000);
    let start = buffer.counts();
    let rest: Vec<Packet> = packets.into_iter().filter(|p| p.0 > 3_000_000).collect();
    let mut queue = rest.iter().peekable();
    for tick in 100..490u64 {
        let now = 1_003_000 + tick * 20_000;
        while let Some(p) = queue.next_if(|p| p.0 <= now) {
            buffer.insert(Mono(p.0), p.1, LAW, &p.2);
        }
        buffer.pull(Mono(now), &mut [0; FRAME_SAMPLES]);
    }
    let late = buffer.counts().late - start.late;
    assert!(late <= 16, "{late} of 800 packets after the first two seconds: {:?}", buffer.counts());
}

#[test]
fn the_delay_shrinks_again_when_the_network_is_calm() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut buffer = JitterBuffer::new();
    // Ten bad seconds, then thirty good ones; the sound is silence, which may be shortened.
    let mut packets = stream(40, 20, 0, |n| Some(if n < 500 { rng.random_range(0.0..120.0) } else { 0.0 }));
    packets.iter_mut().for_each(|p| p.2.fill(LAW.silence()));
    play(&mut buffer, &packets, 520, 0);
    assert!(buffer.target_ms() > 100);
    let rest: Vec<Packet> = packets.into_iter().filter(|p| p.0 > 1_000_000 + 520 * 20_000).collect();
    let mut now = 0;
    let mut rest = rest.iter().peekable();
    for tick in 520..1990u64 {
        now = 1_000_000 + tick * 20_000;
        while let Some(p) = rest.next_if(|p| p.0 <= now) {
            buffer.insert(Mono(p.0), p.1, LAW, &p.2);
        }
        buffer.pull(Mono(now), &mut [0; FRAME_SAMPLES]);
    }
    assert!(buffer.target_ms() <= 40, "{}", buffer.target_ms());
    assert!(buffer.delay(Mono(now)) <= 80 * PER_MS, "{} samples", buffer.delay(Mono(now)));
}

#[test]
fn a_stall_of_300_ms_loses_no_speech() {
    let mut buffer = JitterBuffer::new();
    // Packets 100 to 114 all arrive when the last of them is sent.
    let packets = stream(6, 20, 0, |n| Some(if (100..115).contains(&n) { f64::from(114 - n) * 20.0 } else { 0.0 }));
    play(&mut buffer, &packets, 290, 5_000);
    assert_eq!(buffer.counts().late, 0, "{:?}", buffer.counts());
    assert_eq!(buffer.counts().resyncs, 0);
}

#[test]
fn a_pause_without_packets_is_followed_by_sound_in_time() {
    let mut buffer = JitterBuffer::new();
    // Silence suppression: two seconds without packets, the timestamps go on.
    let packets = stream(6, 20, 99, |n| (!(100..200).contains(&n)).then_some(0.0));
    let sound = play(&mut buffer, &packets, 290, 5_000);
    assert!(power(&sound[2400 * 8..3900 * 8]) < 10.0);
    let again = 4000 + lead_ms(&sound[4000 * 8..]);
    assert!((4060..=4085).contains(&again), "{again}");
    assert_eq!(buffer.counts().late, 0);
}

#[test]
fn a_packet_from_before_a_pause_is_not_played_after_it() {
    let mut buffer = JitterBuffer::new();
    let packets = stream(1, 20, 0, |n| (n != 48).then_some(0.0));
    play(&mut buffer, &packets, 120, 5_000);
    assert_eq!(buffer.state, State::Idle);
    let old = stream(1, 20, 0, |_| Some(0.0)).remove(48);
    assert_eq!(buffer.insert(Mono(3_500_000), old.1, LAW, &old.2), Placed::Late);
}

#[test]
fn a_jump_of_the_timestamp_is_followed() {
    for jump in [50_000_000u32, 3_000_000_000, 20_000] {
        let mut buffer = JitterBuffer::new();
        let mut packets = stream(6, 20, 0, |_| Some(0.0));
        for (n, p) in packets.iter_mut().enumerate() {
            if n >= 150 {
                p.1 = p.1.wrapping_add(jump);
            }
        }
        let sound = play(&mut buffer, &packets, 290, 5_000);
        assert_eq!(buffer.counts().resyncs, 1, "jump {jump}");
        assert!(tone_power(&sound[3300 * 8..5700 * 8], 500.0) > 30.0e6, "jump {jump}");
    }
}

#[test]
fn one_mad_timestamp_changes_nothing() {
    let mut buffer = JitterBuffer::new();
    let mut packets = stream(4, 20, 0, |_| Some(0.0));
    packets[100].1 = 0x7777_7777;
    play(&mut buffer, &packets, 190, 5_000);
    assert_eq!(buffer.counts().resyncs, 0);
    assert_eq!(buffer.counts().concealed, 160);
}

#[test]
fn a_drifting_clock_is_followed_both_ways() {
    for drift in [-0.001, 0.001] {
        let mut buffer = JitterBuffer::new();
        let mut packets = stream(120, 20, 0, |n| Some(100.0 + f64::from(n) * 20.0 * drift));
        packets.iter_mut().enumerate().filter(|(n, _)| n % 50 < 25).for_each(|(_, p)| p.2.fill(LAW.silence()));
        play(&mut buffer, &packets, 5980, 5_000);
        let counts = buffer.counts();
        assert!(counts.late <= 3 && counts.resyncs == 0, "drift {drift}: {counts:?}");
        assert!(counts.concealed / 8 <= 200, "drift {drift}: {counts:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every packet carries its own number in all its samples, so that what is heard can be traced.
    #[test]
    fn nothing_is_played_twice_or_out_of_order(
        seed: u64, first: u32, ms in proptest::sample::select(vec![10u32, 20, 30, 40, 60]),
        loss in 0.0f64..0.3, jitter in 0.0f64..200.0, duplicates in 0.0f64..0.3, phase in 0u64..20_000,
    ) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut packets: Vec<Packet> = Vec::new();
        // A number is two levels, each for half of every block: the high one above zero, the low one below, so
        // that a block that begins in the middle of another (what was left out is no multiple) is not misread.
        let levels = |sign: i32| (0..=255u8).filter(|&c| i32::from(LAW.decode_sample(c)) * sign > 2000).collect::<Vec<u8>>();
        let (above, below) = (levels(1), levels(-1));
        for n in 0..600u32 {
            for copy in 0..=u32::from(rng.random_bool(duplicates)) {
                if !rng.random_bool(loss) {
                    let arrival = f64::from(n * ms) + rng.random_range(0.0..=jitter) + f64::from(copy);
                    let codes = [above[n as usize / below.len()], below[n as usize % below.len()]];
                    let codes = (0..ms as usize * 8).map(|i| codes[i / 40 % 2]).collect();
                    packets.push(((arrival * 1000.0) as u64 + 1_000_000, first.wrapping_add(n * ms * 8), codes));
                }
            }
        }
        packets.sort_by_key(|p| p.0);
        let mut buffer = JitterBuffer::new();
        let (mut newest, mut played) = (0usize, vec![0u32; 700]);
        let mut queue = packets.iter().peekable();
        for tick in 0..(600 * u64::from(ms) / 20 + 30) {
            let now = 1_000_000 + tick * 20_000 + phase;
            while let Some(p) = queue.next_if(|p| p.0 <= now) {
                buffer.insert(Mono(p.0), p.1, LAW, &p.2);
            }
            let concealed = buffer.counts().concealed;
            let mut frame = [0; FRAME_SAMPLES];
            buffer.pull(Mono(now), &mut frame);
            if buffer.counts().concealed != concealed {
                continue;
            }
            for block in frame.chunks(BLOCK) {
                let level = |levels: &[u8], half: &[i16]| {
                    levels.iter().position(|&c| half.iter().all(|&s| s == LAW.decode_sample(c)))
                };
                let numbers = (level(&above, &block[..40]), level(&below, &block[40..]));
                let (Some(high), Some(low)) = numbers else { continue };
                let number = high * below.len() + low;
                prop_assert!(number >= newest, "packet {number} heard after {newest}");
                newest = number;
                played[newest] += 1;
                prop_assert!(played[newest] <= ms / 10, "packet {newest} was played twice");
            }
        }
        let blocks: u32 = played.iter().sum();
        prop_assert!(loss > 0.1 || jitter > 50.0 || blocks > 200, "{blocks} blocks were heard");
        let counts = buffer.counts();
        // Half a second lost in a row is followed like a jump; that needs heavy loss.
        prop_assert!(loss > 0.1 || counts.resyncs == 0, "{:?}", counts);
    }
}
