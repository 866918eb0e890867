//! Legs of every codec over a network, in virtual time.

use super::receiver::{Carried, Ignored, Received};
use super::{RtpSession, RtpView, coding};
use crate::audio::detect::{power, tone_power};
use crate::audio::noise::level_of;
use crate::audio::{AudioFrame, Tone, ToneGenerator};
use crate::clock::Mono;
use crate::sdp::{Codec, Extras, Formats, MediaPlan};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::net::SocketAddr;

const A: &str = "192.0.2.1:4000";
const B: &str = "192.0.2.2:5000";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn plan(remote: &str, codec: Codec) -> MediaPlan {
    let remote = at(remote);
    MediaPlan {
        srtp: None,
        remote,
        remote_rtcp: SocketAddr::new(remote.ip(), remote.port() + 1),
        codec,
        payload_type: codec.static_payload_type(),
        dtmf_pt: Some(101),
        receive: Formats {
            pcma: Some(8),
            pcmu: Some(0),
            g722: Some(9),
            g729: Some(18),
            opus: Some(111),
            noise: Some(13),
            events: Some(101),
            wide_events: Some(102),
        },
        extras: Extras { fec: true, ..Extras::default() },
        ptime_ms: 20,
        we_send: true,
        we_receive: true,
        held_by_remote: false,
    }
}

fn session(plan: MediaPlan, seed: u64) -> RtpSession {
    let signalling = plan.remote.ip();
    RtpSession::new(plan, signalling, seed, Mono(0))
}

fn pair(codec: Codec) -> (RtpSession, RtpSession) {
    (session(plan(B, codec), 1), session(plan(A, codec), 2))
}

fn built_in() -> Vec<Codec> {
    Codec::ALL.into_iter().filter(|c| coding(*c).is_built_in()).collect()
}

fn tick(n: u64) -> Mono {
    Mono::from_ms(1000 + n * 20)
}

fn sent(from: &mut RtpSession, now: Mono, frame: &AudioFrame) -> Vec<Vec<u8>> {
    let (mut out, mut packets) = (Vec::new(), Vec::new());
    let mut more = from.push(now, frame, &mut out).is_some();
    while more {
        packets.push(out.clone());
        more = from.push_more(&mut out).is_some();
    }
    packets
}

/// A tone from one to the other over a network that loses and shakes; what was heard.
fn talk(a: &mut RtpSession, b: &mut RtpSession, ticks: u64, loss: f64, jitter_ms: f64) -> Vec<i16> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut tone = ToneGenerator::new(Tone::sine(500.0, 8000.0));
    let mut wire: Vec<(Mono, Vec<u8>)> = Vec::new();
    let mut heard = Vec::new();
    for n in 0..ticks {
        for packet in sent(a, tick(n), &tone.frame(0)) {
            if !rng.random_bool(loss) {
                let late = (rng.random_range(0.0..=jitter_ms) * 1000.0) as u64;
                wire.push((Mono(tick(n).0 + late), packet));
            }
        }
        wire.sort_by_key(|w| w.0);
        let arrived = wire.iter().take_while(|w| w.0 <= tick(n)).count();
        for (when, packet) in wire.drain(..arrived) {
            b.receive(when, at(A), &packet);
        }
        heard.extend(b.pull(tick(n)).pcm);
    }
    heard
}

#[test]
fn every_codec_is_heard_at_every_packet_length() {
    for codec in built_in() {
        for ptime_ms in [10, 20, 40, 60] {
            let with = |remote| MediaPlan { ptime_ms, ..plan(remote, codec) };
            let (mut a, mut b) = (session(with(B), 1), session(with(A), 2));
            let heard = talk(&mut a, &mut b, 250, 0.0, 0.0);
            let body = &heard[160 * 50..];
            assert!(tone_power(body, 500.0) > 0.8 * power(body), "{codec:?} {ptime_ms} ms");
            assert!((0.5..2.0).contains(&(power(body) / 32.0e6)), "{codec:?} {ptime_ms} ms: {}", power(body));
            let stats = b.stats();
            assert_eq!(
                (stats.lost, stats.late, stats.concealed_ms, stats.resyncs),
                (0, 0, 0, 0),
                "{codec:?} {ptime_ms} ms"
            );
            assert_eq!(stats.packets_in, 250 * 20 / u64::from(ptime_ms));
            assert!(ptime_ms != 20 || stats.jitter_ms < 1.0, "{codec:?}: {}", stats.jitter_ms);
        }
    }
}

/// Seconds of sound at 5 % loss and 40 ms of jitter: every 20 ms of it is as loud as the rest, and no step between two
/// samples is far steeper than the tone's own.
#[test]
fn at_5_percent_loss_every_codec_goes_on() {
    for codec in built_in() {
        let (mut a, mut b) = pair(codec);
        let heard = talk(&mut a, &mut b, 1000, 0.05, 40.0);
        let body = &heard[160 * 60..];
        let loudness: Vec<f32> = body.chunks(160).map(|f| power(f) / 32.0e6).collect();
        let faint = loudness.iter().filter(|l| **l < 0.25).count();
        let steepest = body.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().unwrap();
        eprintln!(
            "{codec:?}: {faint} of {} frames faint, steepest step {steepest}, {:?} ms made up",
            loudness.len(),
            b.stats().concealed_ms
        );
        // A sine of 500 Hz and amplitude 8000 steps by 3000 at most.
        // Codecs of speech let a tone fade in a lost packet, and G.729 takes another to come back.
        let (most_faint, most_steep) = match codec {
            Codec::G729 => (130, 7000),
            Codec::Opus => (80, 7000),
            _ => (10, 6000),
        };
        assert!(faint <= most_faint, "{codec:?}: {faint} frames are faint");
        assert!(steepest < most_steep, "{codec:?}: a click of {steepest}");
        assert!(b.stats().concealed_ms > 300, "{codec:?}");
    }
}

#[test]
fn packets_out_of_order_are_decoded_in_order() {
    for codec in built_in() {
        let (mut a, mut b) = pair(codec);
        let mut tone = ToneGenerator::new(Tone::sine(500.0, 8000.0));
        let mut packets: Vec<Vec<u8>> = (0..200).flat_map(|n| sent(&mut a, tick(n), &tone.frame(0))).collect();
        packets.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
        let mut heard = Vec::new();
        for (n, packet) in packets.iter().enumerate() {
            b.receive(tick(n as u64), at(A), packet);
            heard.extend(b.pull(tick(n as u64)).pcm);
        }
        let body = &heard[160 * 50..];
        assert!(tone_power(body, 500.0) > 0.8 * power(body), "{codec:?}");
        assert_eq!((b.stats().concealed_ms, b.stats().lost), (0, 0), "{codec:?}");
    }
}

#[test]
fn opus_runs_on_a_clock_of_48_khz() {
    if !coding(Codec::Opus).is_built_in() {
        return crate::skip::skipped("built without opus");
    }
    let events = |remote| MediaPlan {
        dtmf_pt: Some(102),
        extras: Extras { event_clock: 48_000, ..Extras::default() },
        ..plan(remote, Codec::Opus)
    };
    let (mut a, mut b) = (session(events(B), 1), session(events(A), 2));
    let first = sent(&mut a, tick(0), &AudioFrame::silence(0));
    let second = sent(&mut a, tick(1), &AudioFrame::silence(0));
    let stamp = |packets: &[Vec<u8>]| RtpView::parse(&packets[0]).unwrap().timestamp();
    assert_eq!(stamp(&second).wrapping_sub(stamp(&first)), 960);
    // A pause of ours shows in it too.
    let later = sent(&mut a, tick(11), &AudioFrame::silence(0));
    assert_eq!(stamp(&later).wrapping_sub(stamp(&second)), 9600);
    a.send_key('5');
    let mut keys = Vec::new();
    let mut longest = 0;
    for n in 12..40 {
        for packet in sent(&mut a, tick(n), &AudioFrame::silence(0)) {
            let view = RtpView::parse(&packet).unwrap();
            if view.payload_type() == 102 {
                longest = longest.max(u16::from_be_bytes([view.payload()[2], view.payload()[3]]));
            }
            if let Received::Key(key) = b.receive(tick(n), at(A), &packet) {
                keys.push(key);
            }
        }
    }
    assert_eq!((keys, longest), (vec!['5'], 4800), "100 ms on that clock");
}

#[test]
fn legs_of_one_codec_are_relayed_untouched() {
    for codec in built_in() {
        let (mut caller, mut other) = pair(codec);
        let (mut seat, mut out) = (session(plan(A, codec), 3), Vec::new());
        let mut tone = ToneGenerator::new(Tone::sine(500.0, 8000.0));
        let mut before = None;
        for n in 0..50 {
            for packet in sent(&mut caller, tick(n), &tone.frame(0)) {
                assert_eq!(other.receive(tick(n), at(A), &packet), Received::Audio);
                let view = RtpView::parse(&packet).unwrap();
                let carried = other.carries(&view).unwrap();
                assert_eq!(carried, Carried::Sound(coding(codec)));
                assert!(seat.relay(tick(n), &view, carried, &mut out).is_some());
                let passed = RtpView::parse(&out).unwrap();
                assert_eq!(passed.payload(), view.payload(), "{codec:?}");
                let step = before.replace(passed.timestamp()).map(|b: u32| passed.timestamp().wrapping_sub(b));
                assert!(step.is_none_or(|s| s == codec.clock() / 50), "{codec:?}: {step:?}");
            }
        }
        let own = sent(&mut seat, tick(50), &AudioFrame::silence(0));
        let step = RtpView::parse(&own[0]).unwrap().timestamp().wrapping_sub(before.unwrap());
        assert_eq!(step, codec.clock() / 50, "{codec:?}: what follows is ours");
        let foreign = if codec == Codec::Pcma { Codec::Pcmu } else { Codec::Pcma };
        let (mut strange, _) = pair(foreign);
        let packet = &sent(&mut strange, tick(51), &AudioFrame::silence(0))[0];
        let view = RtpView::parse(packet).unwrap();
        let carried = other.carries(&view).unwrap();
        assert_eq!(seat.relay(tick(51), &view, carried, &mut out), None, "{codec:?} takes no {foreign:?}");
    }
}

#[test]
fn a_peer_may_change_between_the_codecs_we_offered() {
    let (_, mut b) = pair(Codec::Pcma);
    let mut heard = Vec::new();
    let mut n = 0;
    for codec in built_in().into_iter().chain(built_in()) {
        let (mut a, _) = pair(codec);
        let mut tone = ToneGenerator::new(Tone::sine(500.0, 8000.0));
        for _ in 0..50 {
            for mut packet in sent(&mut a, tick(n), &tone.frame(0)) {
                // One stream: its numbers go on, in the clock of the codec of the moment.
                packet[2..4].copy_from_slice(&(n as u16).to_be_bytes());
                packet[4..8].copy_from_slice(&(n as u32 * codec.clock() / 50).to_be_bytes());
                packet[8..12].fill(7);
                b.receive(tick(n), at(A), &packet);
            }
            heard = b.pull(tick(n)).pcm.to_vec();
            n += 1;
        }
        assert!(tone_power(&heard, 500.0) > 10.0e6, "{codec:?} is heard after another");
    }
}

fn described(level: u8, sequence: u16, timestamp: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 13];
    packet.extend(sequence.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend([7, 7, 7, 7, level]);
    packet
}

#[test]
fn a_description_of_noise_is_heard_as_noise_and_ends_with_the_next_word() {
    for codec in [Codec::Pcma, Codec::G722] {
        let (mut a, mut b) = pair(codec);
        let mut tone = ToneGenerator::new(Tone::sine(500.0, 8000.0));
        let mut heard = Vec::new();
        for n in 0..300u64 {
            let mut packets = sent(&mut a, tick(n), &tone.frame(0));
            let stamp = n as u32 * 160;
            for packet in &mut packets {
                packet[4..8].copy_from_slice(&stamp.to_be_bytes());
                packet[8..12].fill(7);
                let number = if n < 100 { n } else { n.saturating_sub(150) + 3 };
                packet[2..4].copy_from_slice(&(number as u16).to_be_bytes());
            }
            // Three seconds of silence between two words, told at their beginning and twice more.
            match n {
                100 | 150 | 200 => packets = vec![described(50, (100 + (n - 100) / 50) as u16, stamp)],
                101..250 => packets.clear(),
                _ => {}
            }
            for packet in &packets {
                assert_eq!(b.receive(tick(n), at(A), packet), Received::Audio, "{codec:?} {n}");
            }
            heard.extend(b.pull(tick(n)).pcm);
        }
        let silence = &heard[110 * 160..249 * 160];
        for part in silence.chunks(1600) {
            assert!(level_of(part).abs_diff(50) <= 2, "{codec:?}: -{} dBov", level_of(part));
        }
        assert!(tone_power(&heard[280 * 160..], 500.0) > 28.0e6 * 0.8, "{codec:?}");
        let stats = b.stats();
        assert_eq!((stats.concealed_ms, stats.resyncs), (0, 0), "{codec:?}: silence is no loss");
    }
}

#[test]
fn with_comfort_noise_agreed_silence_costs_two_packets_a_second() {
    for codec in [Codec::Pcmu, Codec::G722] {
        let with =
            |remote| MediaPlan { extras: Extras { noise_pt: Some(13), ..Extras::default() }, ..plan(remote, codec) };
        let (mut a, mut b) = (session(with(B), 1), session(with(A), 2));
        let mut tone = ToneGenerator::new(Tone::sine(500.0, 8000.0));
        let (mut heard, mut count) = (Vec::new(), 0);
        for n in 0..200 {
            let frame = if (50..150).contains(&n) { AudioFrame { at: 0, pcm: [20; 160] } } else { tone.frame(0) };
            for packet in sent(&mut a, tick(n), &frame) {
                count += u32::from((60..150).contains(&n));
                if n == 150 {
                    assert!(RtpView::parse(&packet).unwrap().marker(), "a talkspurt begins");
                }
                b.receive(tick(n), at(A), &packet);
            }
            heard.extend(b.pull(tick(n)).pcm);
        }
        assert!((3..6).contains(&count), "{count} packets in 1.8 s of silence");
        assert!(level_of(&heard[80 * 160..140 * 160]).abs_diff(64) <= 2, "{}", level_of(&heard[80 * 160..140 * 160]));
        assert!(tone_power(&heard[170 * 160..], 500.0) > 25.0e6, "{codec:?}: the tone is back");
        assert_eq!((b.stats().lost, b.stats().concealed_ms, b.stats().resyncs), (0, 0, 0), "{codec:?}");
    }
}

#[test]
fn opus_may_leave_silence_out_and_nothing_is_taken_for_loss() {
    if !coding(Codec::Opus).is_built_in() {
        return crate::skip::skipped("built without opus");
    }
    let with = |remote| MediaPlan { extras: Extras { dtx: true, ..Extras::default() }, ..plan(remote, Codec::Opus) };
    let (mut a, mut b) = (session(with(B), 1), session(with(A), 2));
    let mut tone = ToneGenerator::new(Tone::sine(500.0, 8000.0));
    let (mut heard, mut quiet) = (Vec::new(), 0);
    for n in 0..300 {
        let frame = if (50..250).contains(&n) { AudioFrame::silence(0) } else { tone.frame(0) };
        for packet in sent(&mut a, tick(n), &frame) {
            quiet += u32::from((50..250).contains(&n));
            b.receive(tick(n), at(A), &packet);
        }
        heard.extend(b.pull(tick(n)).pcm);
    }
    assert!(quiet < 60, "{quiet} packets in four seconds of silence");
    assert!(tone_power(&heard[280 * 160..], 500.0) > 15.0e6, "the tone is back");
    assert_eq!(b.stats().lost, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_payload_of_any_type_makes_a_leg_panic(
        packets in proptest::collection::vec(
            (any::<u8>(), 0..12u16, any::<u32>(), proptest::collection::vec(any::<u8>(), 0..200)), 0..80,
        ),
        near: bool,
    ) {
        let (_, mut b) = pair(Codec::Pcma);
        let mut out = Vec::new();
        let types = [8, 0, 9, 18, 111, 13, 101, 102];
        let mut sequence = 0u16;
        for (n, (which, step, stamp, payload)) in packets.iter().enumerate() {
            sequence = sequence.wrapping_add(*step);
            let stamp = if near { n as u32 * 160 + stamp % 500 } else { *stamp };
            let mut packet = vec![0x80, types[usize::from(*which) % types.len()]];
            packet.extend(sequence.to_be_bytes());
            packet.extend(stamp.to_be_bytes());
            packet.extend([7; 4]);
            packet.extend(payload);
            b.receive(tick(n as u64 / 2), at(A), &packet);
            if let Ok(view) = RtpView::parse(&packet) && let Some(carried) = b.carries(&view) {
                b.relay(tick(n as u64 / 2), &view, carried, &mut out);
            }
            if n % 2 == 0 {
                b.pull(tick(n as u64 / 2));
                b.rtcp_due(tick(n as u64 * 100), &mut out);
            }
        }
        prop_assert_eq!(b.stats().ignored(Ignored::PayloadType), 0);
    }
}
