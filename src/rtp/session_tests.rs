//! Two legs that talk over a network, in virtual time.

use super::*;
use crate::audio::detect::{dtmf_key, power, tone_power};
use crate::audio::{Law, Tone, ToneGenerator};
use crate::sdp::{Codec, Extras, Formats};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const A: &str = "192.0.2.1:4000";
const B: &str = "192.0.2.2:5000";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn plan(remote: &str) -> MediaPlan {
    let remote = at(remote);
    MediaPlan {
        remote,
        remote_rtcp: SocketAddr::new(remote.ip(), remote.port() + 1),
        codec: Codec::Pcma,
        payload_type: 8,
        dtmf_pt: Some(101),
        receive: Formats { pcma: Some(8), events: Some(101), ..Formats::default() },
        extras: Extras::default(),
        ptime_ms: 20,
        we_send: true,
        we_receive: true,
        held_by_remote: false,
        srtp: None,
    }
}

fn session(plan: MediaPlan, seed: u64) -> RtpSession {
    let signalling = plan.remote.ip();
    RtpSession::new(plan, signalling, seed, Mono(0))
}

fn tick(n: u64) -> Mono {
    Mono::from_ms(1000 + n * 20)
}

/// All packets of one tick.
fn sent(from: &mut RtpSession, now: Mono, frame: &AudioFrame) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut packets = Vec::new();
    if from.push(now, frame, &mut out).is_some() {
        packets.push(out.clone());
        while from.push_more(&mut out).is_some() {
            packets.push(out.clone());
        }
    }
    packets
}

/// `ticks` of a tone from one to the other, no network between; returns what was heard and the keys.
fn talk(from: &mut RtpSession, to: &mut RtpSession, ticks: u64) -> (Vec<i16>, String) {
    let mut tone = ToneGenerator::new(Tone::sine(500.0, 8000.0));
    let (mut heard, mut keys) = (Vec::new(), String::new());
    for n in 0..ticks {
        for packet in sent(from, tick(n), &tone.frame(0)) {
            if let Received::Key(key) = to.receive(tick(n), at(A), &packet) {
                keys.push(key);
            }
        }
        heard.extend(to.pull(tick(n)).pcm);
    }
    (heard, keys)
}

#[test]
fn what_is_said_is_heard_at_every_packet_length() {
    for (ptime_ms, packets) in [(10, 400), (20, 200), (30, 133), (40, 100), (50, 80), (60, 66)] {
        for codec in [Codec::Pcma, Codec::Pcmu] {
            let receive = Formats { pcma: Some(8), pcmu: Some(0), ..Formats::default() };
            let agreed = |remote| MediaPlan {
                ptime_ms,
                codec,
                payload_type: codec.static_payload_type(),
                receive,
                ..plan(remote)
            };
            let (mut a, mut b) = (session(agreed(B), 1), session(agreed(A), 2));
            let (heard, _) = talk(&mut a, &mut b, 200);
            let body = &heard[160 * 20..];
            assert!(tone_power(body, 500.0) > 0.98 * power(body), "{ptime_ms} ms {codec:?}");
            assert!((power(body) / 32.0e6 - 1.0).abs() < 0.05);
            let stats = b.stats();
            assert_eq!((stats.packets_in, stats.lost, stats.concealed_ms), (packets, 0, 0), "{ptime_ms} ms");
            assert_eq!(stats.bytes_in, a.stats().bytes_out);
        }
    }
}

#[test]
fn the_packets_of_a_stream_follow_each_other() {
    for ptime_ms in [10, 20, 30, 40, 60] {
        let mut a = session(MediaPlan { ptime_ms, ..plan(B) }, 77);
        let mut packets = Vec::new();
        (0..60).for_each(|n| packets.extend(sent(&mut a, tick(n), &AudioFrame::silence(0))));
        let views: Vec<RtpView> = packets.iter().map(|p| RtpView::parse(p).unwrap()).collect();
        assert!(views[0].marker() && views[1..].iter().all(|v| !v.marker()));
        for pair in views.windows(2) {
            assert_eq!(pair[0].payload().len(), usize::from(ptime_ms) * 8);
            assert_eq!(pair[1].sequence(), pair[0].sequence().wrapping_add(1));
            assert_eq!(pair[1].timestamp(), pair[0].timestamp().wrapping_add(u32::from(ptime_ms) * 8));
        }
    }
}

#[test]
fn a_peer_of_10_ms_packets_is_served_even_without_push_more() {
    let mut a = session(MediaPlan { ptime_ms: 10, ..plan(B) }, 77);
    let mut out = Vec::new();
    let mut samples = 0;
    for n in 0..100 {
        assert!(a.push(tick(n), &AudioFrame::silence(0), &mut out).is_some());
        samples += out.len() - 12;
    }
    assert_eq!(samples, 100 * 160 - 80);
}

#[test]
fn strangers_are_counted_and_never_heard() {
    let mut b = session(plan(A), 2);
    let mut a = session(plan(B), 1);
    for n in 0..100 {
        for packet in sent(&mut a, tick(n), &ToneGenerator::new(Tone::sine(500.0, 8000.0)).frame(0)) {
            let received = b.receive(tick(n), at("198.51.100.66:4000"), &packet);
            assert_eq!(received, Received::Ignored(Ignored::Stranger));
        }
        assert_eq!(power(&b.pull(tick(n)).pcm), 0.0);
    }
    assert_eq!(b.stats().ignored(Ignored::Stranger), 100);
    assert_eq!((b.stats().packets_in, b.stats().last_packet, b.destination()), (0, None, at(A)));
}

#[test]
fn a_phone_behind_translation_is_answered_where_it_sends_from() {
    let mut b = RtpSession::new(plan("192.168.1.7:4000"), "203.0.113.9".parse().unwrap(), 5, Mono(0));
    let mut a = session(plan(B), 1);
    let packet = &sent(&mut a, tick(0), &AudioFrame::silence(0))[0];
    assert_eq!(b.receive(tick(0), at("203.0.113.9:61000"), packet), Received::Audio);
    let mut out = Vec::new();
    assert_eq!(b.push(tick(0), &AudioFrame::silence(0), &mut out), Some(at("203.0.113.9:61000")));
    assert_eq!(b.goodbye(tick(1), &mut out), Some(at("203.0.113.9:61001")));
}

#[test]
fn keys_arrive_once_and_sound_goes_on_between_them() {
    for ptime_ms in [10, 20, 30, 60] {
        let agreed = |remote| MediaPlan { ptime_ms, ..plan(remote) };
        let (mut a, mut b) = (session(agreed(B), 1), session(agreed(A), 2));
        "1155#*0".chars().for_each(|k| a.send_key(k));
        let (heard, keys) = talk(&mut a, &mut b, 150);
        assert_eq!(keys, "1155#*0", "{ptime_ms} ms");
        assert!(tone_power(&heard[160 * 120..], 500.0) > 25.0e6, "{ptime_ms} ms");
        assert_eq!((a.stats().keys_out, b.stats().keys_in), (7, 7));
        assert_eq!((b.stats().late, b.stats().resyncs), (0, 0), "{ptime_ms} ms");
    }
}

#[test]
fn where_events_are_unknown_keys_are_sent_as_tones() {
    let agreed = |remote| MediaPlan { dtmf_pt: None, ..plan(remote) };
    let (mut a, mut b) = (session(agreed(B), 1), session(agreed(A), 2));
    "7#".chars().for_each(|k| a.send_key(k));
    let mut heard = Vec::new();
    for n in 0..40 {
        for packet in sent(&mut a, tick(n), &AudioFrame::silence(0)) {
            assert_eq!(b.receive(tick(n), at(A), &packet), Received::Audio);
        }
        heard.extend(b.pull(tick(n)).pcm);
    }
    let mut keys: Vec<char> = heard.chunks(320).filter_map(dtmf_key).collect();
    keys.dedup();
    assert_eq!(keys, ['7', '#']);
}

#[test]
fn on_hold_nothing_is_sent_and_afterwards_the_clock_is_right() {
    let (mut a, mut b) = (session(plan(B), 1), session(plan(A), 2));
    talk(&mut a, &mut b, 50);
    let mut out = Vec::new();
    a.push(tick(50), &AudioFrame::silence(0), &mut out).unwrap();
    let before = RtpView::parse(&out).unwrap().timestamp();
    a.replan(MediaPlan { we_send: false, held_by_remote: true, ..plan(B) }, at(B).ip(), tick(51));
    for n in 51..151 {
        assert_eq!(a.push(tick(n), &AudioFrame::silence(0), &mut out), None);
    }
    a.replan(plan(B), at(B).ip(), tick(151));
    assert_eq!(a.push(tick(151), &AudioFrame::silence(0), &mut out), Some(at(B)));
    let after = RtpView::parse(&out).unwrap();
    assert!(after.marker());
    assert_eq!(after.timestamp().wrapping_sub(before), 101 * 160);
}

#[test]
fn while_we_hold_the_peer_its_sound_is_dropped() {
    let mut b = session(MediaPlan { we_receive: false, ..plan(A) }, 2);
    let mut a = session(plan(B), 1);
    let packet = &sent(&mut a, tick(0), &AudioFrame::silence(0))[0];
    assert_eq!(b.receive(tick(0), at(A), packet), Received::Ignored(Ignored::NotReceiving));
    assert_eq!(b.stats().last_packet, Some(tick(0)), "but it lives");
}

#[test]
fn silence_on_the_wire_is_visible() {
    let (mut a, mut b) = (session(plan(B), 1), session(plan(A), 2));
    assert_eq!(b.stats().silent_for(tick(0)), None);
    talk(&mut a, &mut b, 10);
    assert_eq!(b.stats().silent_for(tick(259)), Some(Duration::from_secs(5)));
}

#[test]
fn a_new_source_from_the_same_address_is_heard_at_once() {
    let (mut a, mut b) = (session(plan(B), 1), session(plan(A), 2));
    talk(&mut a, &mut b, 50);
    let straggler = sent(&mut a, tick(50), &AudioFrame::silence(0)).remove(0);
    let mut restarted = session(plan(B), 99);
    let mut tone = ToneGenerator::new(Tone::sine(700.0, 8000.0));
    let mut heard = Vec::new();
    for n in 50..100 {
        for packet in sent(&mut restarted, tick(n), &tone.frame(0)) {
            assert_eq!(b.receive(tick(n), at(A), &packet), Received::Audio);
        }
        heard.extend(b.pull(tick(n)).pcm);
    }
    assert_eq!(b.receive(tick(100), at(A), &straggler), Received::Ignored(Ignored::OldSource));
    assert!(tone_power(&heard[160 * 10..], 700.0) > 28.0e6);
}

#[test]
fn relayed_packets_keep_their_sound_their_gaps_and_our_numbers() {
    let (mut caller, mut seat) = (session(plan(B), 1), session(MediaPlan { dtmf_pt: Some(96), ..plan(A) }, 2));
    let mut out = Vec::new();
    seat.push(tick(0), &AudioFrame::silence(0), &mut out).unwrap();
    let own = RtpView::parse(&out).unwrap();
    let (ssrc, first, start) = (own.ssrc(), own.sequence(), own.timestamp());
    caller.send_key('5');
    let mut relayed = Vec::new();
    for n in 1..30u64 {
        for packet in sent(&mut caller, tick(n), &AudioFrame { at: 0, pcm: [n as i16 * 100; 160] }) {
            // The fifteenth packet is lost on its way to us.
            if n != 15 {
                let view = RtpView::parse(&packet).unwrap();
                let carried = caller.carries(&view).unwrap();
                assert_eq!(seat.relay(tick(n), &view, carried, &mut out), Some(at(A)));
                let ours = RtpView::parse(&out).unwrap();
                assert_eq!((ours.payload(), ours.ssrc()), (view.payload(), ssrc));
                assert_eq!(ours.payload_type(), if view.payload_type() == 101 { 96 } else { 8 });
                relayed.push((ours.sequence().wrapping_sub(first), ours.timestamp().wrapping_sub(start)));
            }
        }
    }
    let sequences: Vec<u16> = relayed.iter().map(|r| r.0).collect();
    assert_eq!(sequences, (1..30).filter(|&n| n != 15).collect::<Vec<u16>>());
    assert_eq!(relayed[10].1, 160 * 11, "sound goes on where our own clock was");
    seat.push(tick(30), &AudioFrame::silence(0), &mut out).unwrap();
    let own = RtpView::parse(&out).unwrap();
    assert_eq!((own.sequence().wrapping_sub(first), own.timestamp().wrapping_sub(start)), (30, 160 * 30));
    assert!(own.marker());
}

#[test]
fn reports_measure_loss_and_round_trip() {
    let (mut a, mut b) = (session(plan(B), 1), session(plan(A), 2));
    let mut out = Vec::new();
    for n in 0..1500 {
        // Every fifth packet to b is lost; reports take 30 ms each way.
        for packet in sent(&mut a, tick(n), &AudioFrame::silence(0)) {
            if n % 5 != 2 {
                b.receive(tick(n), at(A), &packet);
            }
        }
        sent(&mut b, tick(n), &AudioFrame::silence(0));
        let later = tick(n) + Duration::from_millis(30);
        if a.rtcp_due(tick(n), &mut out) == Some(at("192.0.2.2:5001")) {
            b.receive_rtcp(later, at("192.0.2.1:4001"), &out);
        }
        if b.rtcp_due(tick(n), &mut out) == Some(at("192.0.2.1:4001")) {
            a.receive_rtcp(later, at("192.0.2.2:5001"), &out);
        }
    }
    let (loss, rtt) = (a.stats().remote_loss.unwrap(), a.stats().rtt_ms.unwrap());
    assert!((0.17..0.23).contains(&loss), "{loss}");
    assert!((59.0..61.0).contains(&rtt), "{rtt}");
    assert_eq!(b.stats().lost, 300);
    b.receive_rtcp(tick(1500), at("198.51.100.66:4001"), &out);
    b.receive_rtcp(tick(1500), at("192.0.2.1:4001"), b"\x80\xC8junk");
    assert_eq!((b.stats().rtcp_dropped, b.stats().goodbye), (2, false));
    a.goodbye(tick(1501), &mut out).unwrap();
    b.receive_rtcp(tick(1501), at("192.0.2.1:4001"), &out);
    assert!(b.stats().goodbye);
}

#[test]
fn only_payload_types_of_our_description_are_heard() {
    let mut b = session(plan(A), 2);
    let datagram =
        |payload_type: u8, n: u8| [&[0x80, payload_type, 0, n, 0, 0, 0, n, 0, 0, 0, 7][..], &[0x55; 160]].concat();
    for (n, payload_type) in [0u8, 13, 96].into_iter().enumerate() {
        let received = b.receive(tick(0), at(A), &datagram(payload_type, n as u8));
        assert_eq!(received, Received::Ignored(Ignored::PayloadType), "{payload_type}");
    }
    assert_eq!(b.receive(tick(0), at(A), &datagram(8, 3)), Received::Audio);
    let offered = Formats { pcma: Some(8), pcmu: Some(0), events: Some(101), ..Formats::default() };
    let mut offerer = session(MediaPlan { receive: offered, dtmf_pt: Some(96), ..plan(A) }, 2);
    assert_eq!(offerer.receive(tick(0), at(A), &datagram(0, 0)), Received::Audio);
}

#[test]
fn keys_come_on_our_type_and_go_out_on_the_peers() {
    let ours = Formats { pcma: Some(8), pcmu: Some(0), events: Some(101), ..Formats::default() };
    let (mut a, mut b) = (session(plan(B), 1), session(MediaPlan { dtmf_pt: Some(96), receive: ours, ..plan(A) }, 2));
    a.send_key('5');
    assert_eq!(talk(&mut a, &mut b, 30).1, "5");
    b.send_key('6');
    let out = sent(&mut b, tick(30), &AudioFrame::silence(0));
    assert_eq!(RtpView::parse(&out[0]).unwrap().payload_type(), 96);
}

#[test]
fn keys_with_an_ssrc_of_their_own_are_heard_and_cost_no_sound() {
    let (mut sound, mut keys) = (session(plan(B), 1), session(plan(B), 9));
    let mut b = session(plan(A), 2);
    let mut tone = ToneGenerator::new(Tone::sine(500.0, 8000.0));
    let (mut heard, mut pressed) = (Vec::new(), String::new());
    for n in 0..150 {
        if [0, 40, 60].contains(&n) {
            keys.send_key('4');
        }
        let events: Vec<_> = sent(&mut keys, tick(n), &AudioFrame::silence(0))
            .into_iter()
            .filter(|p| RtpView::parse(p).unwrap().payload_type() == 101)
            .collect();
        for packet in events.into_iter().chain(sent(&mut sound, tick(n), &tone.frame(0))) {
            match b.receive(tick(n), at(A), &packet) {
                Received::Key(key) => pressed.push(key),
                Received::Audio | Received::Ignored(Ignored::KeyGoesOn) => {}
                other => panic!("{other:?}"),
            }
        }
        heard.extend(b.pull(tick(n)).pcm);
    }
    assert_eq!(pressed, "444");
    let body = &heard[160 * 20..];
    assert!(tone_power(body, 500.0) > 0.98 * power(body));
    assert_eq!((b.stats().lost, b.stats().resyncs, b.stats().concealed_ms), (0, 0, 0));
}

#[test]
fn sound_of_the_other_curve_is_not_passed_on() {
    let both = Formats { pcma: Some(8), pcmu: Some(0), events: Some(101), ..Formats::default() };
    let (caller, mut seat) = (session(MediaPlan { receive: both, ..plan(B) }, 1), session(plan(A), 2));
    let mu = [&[0x80, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7][..], &[0xff; 160]].concat();
    let view = RtpView::parse(&mu).unwrap();
    let carried = caller.carries(&view).unwrap();
    assert_eq!(carried, Carried::Sound(Coding::G711(Law::Mu)));
    assert_eq!(seat.relay(tick(0), &view, carried, &mut Vec::new()), None);
}

#[test]
fn reports_of_the_learned_peer_are_signs_of_life_and_a_goodbye_is_none() {
    let (mut a, mut b) = (session(plan(B), 1), session(plan(A), 2));
    let mut out = Vec::new();
    let report = (0..600).find(|n| a.rtcp_due(tick(*n), &mut out).is_some()).map(|_| out.clone()).unwrap();
    assert!(b.receive_rtcp(tick(0), at("192.0.2.1:4001"), &report));
    assert_eq!(b.stats().last_report, None, "nothing was learned yet");
    talk(&mut a, &mut b, 5);
    assert!(b.receive_rtcp(tick(9), at("192.0.2.1:4001"), &report));
    assert!(!b.receive_rtcp(tick(20), at("198.51.100.66:4001"), &report));
    assert_eq!(b.stats().last_report, Some(tick(9)));
    a.goodbye(tick(30), &mut out).unwrap();
    assert!(b.receive_rtcp(tick(30), at("192.0.2.1:4001"), &out));
    assert_eq!(b.stats().last_report, Some(tick(9)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_datagram_makes_a_session_panic(
        datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..40), rtp: bool
    ) {
        let mut b = session(plan(A), 2);
        let mut out = Vec::new();
        for (n, datagram) in datagrams.iter().enumerate() {
            let mut datagram = datagram.clone();
            if rtp && datagram.len() > 12 {
                datagram[0] = 0x80;
                datagram[1] = [8, 101, 0, 13][n % 4];
                datagram[8..12].fill(7);
            }
            b.receive(tick(n as u64), at(A), &datagram);
            b.receive_rtcp(tick(n as u64), at(A), &datagram);
            b.pull(tick(n as u64));
            b.rtcp_due(tick(n as u64 * 500), &mut out);
        }
    }

    #[test]
    fn every_key_is_heard_once_under_loss_and_reordering(seed: u64, keys in "[0-9*#A-D]{1,10}") {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut a, mut b) = (session(plan(B), seed), session(plan(A), seed ^ 1));
        keys.chars().for_each(|k| a.send_key(k));
        // 5 % loss, up to 60 ms of delay, 5 % twice.
        let mut wire: Vec<(Mono, Vec<u8>)> = Vec::new();
        for n in 0..150 {
            for packet in sent(&mut a, tick(n), &AudioFrame::silence(0)) {
                for _ in 0..=u32::from(rng.random_bool(0.05)) {
                    if !rng.random_bool(0.05) {
                        let delay = Duration::from_micros(rng.random_range(0..60_000));
                        wire.push((tick(n) + delay, packet.clone()));
                    }
                }
            }
        }
        wire.sort_by_key(|w| w.0);
        let heard: String = wire
            .iter()
            .filter_map(|(now, packet)| match b.receive(*now, at(A), packet) {
                Received::Key(key) => Some(key),
                _ => None,
            })
            .collect();
        prop_assert_eq!(heard, keys);
    }
}
