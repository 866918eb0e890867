//! Encrypted packets between two legs, as the standard's own vectors and other people's keys have them.

use super::super::receiver::{Ignored, Received};
use super::super::{RtpSession, RtpView};
use super::*;
use crate::audio::detect::{power, tone_power};
use crate::audio::{AudioFrame, Tone, ToneGenerator};
use crate::clock::Mono;
use crate::sdp::{Codec, Formats, MediaPlan};
use proptest::prelude::*;
use std::net::SocketAddr;
use std::time::Duration;

const A: &str = "192.0.2.1:4000";
const B: &str = "192.0.2.2:5000";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn keys(suite: Suite, ours: u8, theirs: u8) -> Protection {
    Protection { suite, ours: Key([ours; 30]), theirs: Key([theirs; 30]), their_mki: 0 }
}

fn plan(remote: &str, srtp: Option<Protection>) -> MediaPlan {
    let remote = at(remote);
    MediaPlan {
        extras: Default::default(),
        remote,
        remote_rtcp: SocketAddr::new(remote.ip(), remote.port() + 1),
        codec: Codec::Pcma,
        payload_type: 8,
        dtmf_pt: Some(101),
        receive: Formats { pcma: Some(8), pcmu: None, events: Some(101), ..Formats::default() },
        ptime_ms: 20,
        we_send: true,
        we_receive: true,
        held_by_remote: false,
        srtp,
    }
}

fn session(remote: &str, srtp: Option<Protection>, seed: u64) -> RtpSession {
    RtpSession::new(plan(remote, srtp), at(remote).ip(), seed, Mono(0))
}

/// Two ends of one encrypted stream.
fn pair(suite: Suite) -> (RtpSession, RtpSession) {
    (session(B, Some(keys(suite, 1, 2)), 11), session(A, Some(keys(suite, 2, 1)), 12))
}

fn tick(n: u64) -> Mono {
    Mono::from_ms(1000 + n * 20)
}

fn packet(from: &mut RtpSession, n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    from.push(tick(n), &AudioFrame { at: 0, pcm: [1000; 160] }, &mut out).expect("a packet");
    out
}

/// What libsrtp 2.5.0 makes of its own test packets (test/srtp_driver.c, `srtp_validate`), tags of 80 and 32 bits.
#[test]
fn the_reference_packets_of_libsrtp_are_made_and_opened_bit_for_bit() {
    let key = hex("e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6");
    let key = Key(key.try_into().unwrap());
    let plain = hex("800f1234decafbadcafebabeabababababababababababababababab");
    let report = hex("81c8000bcafebabeabababababababababababababababab");
    let sealed_report = hex("81c8000bcafebabe7128035be487b9bdbef89041f977a5a880000001993e08cd54d6c1230798");
    for (suite, sealed) in [
        (Suite::AesCm80, "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb"),
        (Suite::AesCm32, "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc"),
    ] {
        let mut srtp = Srtp::new(Protection { suite, ours: key, theirs: key, their_mki: 0 }).unwrap();
        assert_eq!(srtp.open_rtp(&hex(sealed)).unwrap(), plain);
        assert_eq!(srtp.open_rtcp(&sealed_report).unwrap(), report);
        let (mut packet, mut rtcp) = (plain.clone(), report.clone());
        assert!(srtp.protect_rtp(&mut packet) && srtp.protect_rtcp(&mut rtcp));
        assert_eq!((packet, rtcp), (hex(sealed), sealed_report.clone()), "{suite:?}");
    }
}

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes().as_chunks::<2>().0.iter().map(|[a, b]| nibble(*a) << 4 | nibble(*b)).collect()
}

fn nibble(c: u8) -> u8 {
    char::from(c).to_digit(16).unwrap() as u8
}

#[test]
fn what_is_said_is_heard_and_nobody_else_can_read_it() {
    for suite in Suite::ALL {
        let (mut a, mut b) = pair(suite);
        let mut tone = ToneGenerator::new(Tone::sine(500.0, 8000.0));
        let (mut heard, mut keys, mut out) = (Vec::new(), String::new(), Vec::new());
        a.send_key('7');
        for n in 0..200 {
            if a.push(tick(n), &tone.frame(0), &mut out).is_some() {
                let wire = out.len() - if suite == Suite::AesCm80 { 10 } else { 4 };
                assert!(wire == 172 || wire == 16, "{wire}");
                if let Received::Key(key) = b.receive(tick(n), at(A), &out) {
                    keys.push(key);
                }
                let view = RtpView::parse(b.opened(&out)).unwrap();
                assert_ne!(view.payload(), &out[12..12 + view.payload().len()]);
            }
            heard.extend(b.pull(tick(n)).pcm);
        }
        let body = &heard[160 * 20..];
        assert!(tone_power(body, 500.0) > 0.98 * power(body) && power(body) > 30.0e6, "{suite:?}");
        assert_eq!((keys.as_str(), b.stats().ignored(Ignored::Unauthentic)), ("7", 0));
    }
}

#[test]
fn forged_packets_are_counted_and_teach_no_address_however_many_come() {
    let (mut a, mut b) = pair(Suite::AesCm80);
    let mut stranger = session(B, Some(keys(Suite::AesCm80, 9, 2)), 5);
    let mut plain = session(B, None, 6);
    let other_port = "192.0.2.1:4444";
    for n in 0..400 {
        let forged = packet(&mut stranger, n);
        assert_eq!(b.receive(tick(n), at(other_port), &forged), Received::Ignored(Ignored::Unauthentic));
        let plain = packet(&mut plain, n);
        assert_eq!(b.receive(tick(n), at(A), &plain), Received::Ignored(Ignored::Unauthentic));
    }
    assert_eq!((b.stats().ignored(Ignored::Unauthentic), b.stats().packets_in), (800, 0));
    assert_eq!(b.destination(), at(A), "the described address still");
    // The peer itself, behind another port of its host, is learned all the same.
    assert_eq!(b.receive(tick(1), at("192.0.2.1:4002"), &packet(&mut a, 1)), Received::Audio);
    assert_eq!(b.destination(), at("192.0.2.1:4002"));
    let far = packet(&mut a, 2);
    assert_eq!(b.receive(tick(2), at("198.51.100.9:4000"), &far), Received::Ignored(Ignored::Stranger));
}

#[test]
fn a_packet_changed_in_any_bit_is_refused_and_the_right_one_is_taken_after_it() {
    for suite in Suite::ALL {
        let (mut a, mut b) = pair(suite);
        let good = packet(&mut a, 0);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let got = b.receive(tick(0), at(A), &bad);
            let refused = [Ignored::Unauthentic, Ignored::Malformed, Ignored::Rtcp].map(Received::Ignored);
            assert!(refused.contains(&got), "bit {bit}: {got:?}");
        }
        for cut in 0..good.len() {
            assert_ne!(b.receive(tick(0), at(A), &good[..cut]), Received::Audio, "{cut} bytes");
        }
        assert_eq!(b.receive(tick(0), at(A), &good), Received::Audio);
    }
}

#[test]
fn a_packet_sent_again_is_a_duplicate_and_old_ones_cannot_be_played_back() {
    let (mut a, mut b) = pair(Suite::AesCm80);
    let packets: Vec<Vec<u8>> = (0..300).map(|n| packet(&mut a, n)).collect();
    for (n, p) in packets.iter().enumerate() {
        assert_eq!(b.receive(tick(n as u64), at(A), p), Received::Audio);
    }
    for p in &packets {
        assert_eq!(b.receive(tick(300), at(A), p), Received::Ignored(Ignored::Duplicate));
    }
}

#[test]
fn the_stream_goes_on_over_the_wrap_of_its_numbers_with_loss_on_the_way() {
    let (mut a, mut b) = pair(Suite::AesCm32);
    let mut taken = 0;
    for n in 0..140_000u64 {
        let p = packet(&mut a, n);
        if n % 7 != 3 {
            taken += u32::from(b.receive(tick(n), at(A), &p) == Received::Audio);
            b.pull(tick(n));
        }
    }
    assert_eq!((taken, b.stats().ignored(Ignored::Unauthentic)), (120_000, 0));
}

#[test]
fn made_up_sources_leave_nothing_behind_and_shut_nobody_out() {
    let (mut a, mut b) = pair(Suite::AesCm80);
    b.receive(tick(0), at(A), &packet(&mut a, 0));
    let mut forged = packet(&mut a, 1);
    for ssrc in 0..5000u32 {
        forged[8..12].copy_from_slice(&ssrc.to_be_bytes());
        assert_eq!(b.receive(tick(1), at(A), &forged), Received::Ignored(Ignored::Unauthentic));
    }
    assert_eq!(b.receive(tick(2), at(A), &packet(&mut a, 2)), Received::Audio);
    let mut opener = Opener::new(Suite::AesCm80, &Key([1; 30]), 0).unwrap();
    for ssrc in 0..5000u32 {
        forged[8..12].copy_from_slice(&ssrc.to_be_bytes());
        assert!(opener.rtp(&forged).is_err());
    }
    assert!(opener.sources.is_empty() && opener.trials <= MOST_TRIALS);
}

#[test]
fn hold_keeps_the_keys_and_a_new_key_takes_over_from_the_old() {
    let (mut a, mut b) = pair(Suite::AesCm80);
    let first: Vec<Vec<u8>> = (0..10).map(|n| packet(&mut a, n)).collect();
    for (n, p) in first[..8].iter().enumerate() {
        assert_eq!(b.receive(tick(n as u64), at(A), p), Received::Audio);
    }
    let held = MediaPlan { we_send: false, held_by_remote: true, ..plan(A, Some(keys(Suite::AesCm80, 2, 1))) };
    b.replan(held, at(A).ip(), tick(8));
    assert_eq!(b.receive(tick(8), at(A), &first[7]), Received::Ignored(Ignored::Duplicate), "the same context");
    b.replan(plan(A, Some(keys(Suite::AesCm80, 2, 3))), at(A).ip(), tick(8));
    assert_eq!(b.receive(tick(8), at(A), &first[8]), Received::Audio, "still on its way under the old key");
    a.replan(plan(B, Some(keys(Suite::AesCm80, 3, 2))), at(B).ip(), tick(10));
    assert_eq!(b.receive(tick(10), at(A), &packet(&mut a, 10)), Received::Audio);
    assert_eq!(b.receive(tick(10), at(A), &first[9]), Received::Ignored(Ignored::Unauthentic), "the old one is over");
}

#[test]
fn reports_are_encrypted_and_one_that_says_it_is_not_is_refused() {
    let (mut a, mut b) = pair(Suite::AesCm32);
    for n in 0..20 {
        b.receive(tick(n), at(A), &packet(&mut a, n));
    }
    let mut out = Vec::new();
    a.goodbye(tick(20), &mut out).unwrap();
    assert!(crate::rtp::rtcp::parse(&out).is_err() || !out.windows(4).any(|w| w == [0x81, 203, 0, 1]));
    // The same report, not encrypted: by nobody's key.
    let mut plain = session(B, None, 3);
    let mut naked = Vec::new();
    plain.goodbye(tick(20), &mut naked).unwrap();
    let mut unsealed = naked.clone();
    unsealed.extend_from_slice(&[0, 0, 0, 1]);
    unsealed.extend_from_slice(&[0; 10]);
    for forged in [naked, unsealed] {
        assert!(!b.receive_rtcp(tick(20), at("192.0.2.1:4001"), &forged));
    }
    assert!(!b.stats().goodbye);
    assert!(b.receive_rtcp(tick(20), at("192.0.2.1:4001"), &out));
    assert!(b.stats().goodbye);
    assert!(!b.receive_rtcp(tick(20), at("192.0.2.1:4001"), &out), "once");
    assert_eq!(b.stats().rtcp_dropped, 3);
}

#[test]
fn an_encrypted_leg_is_relayed_to_a_plain_one_and_back_untouched() {
    let (mut phone, mut caller) = pair(Suite::AesCm80);
    let mut seat = session("192.0.2.7:6000", None, 30);
    let (mut out, mut back) = (Vec::new(), Vec::new());
    for n in 0..100 {
        let sealed = packet(&mut phone, n);
        assert_eq!(caller.receive(tick(n), at(A), &sealed), Received::Audio);
        let view = RtpView::parse(caller.opened(&sealed)).unwrap();
        let carried = caller.carries(&view).unwrap();
        assert_eq!(seat.relay(tick(n), &view, carried, &mut out), Some(at("192.0.2.7:6000")));
        assert_eq!(RtpView::parse(&out).unwrap().payload(), view.payload());
        // And the other way: what the seat sends is encrypted for the phone.
        let plain = RtpView::parse(&out).unwrap();
        let carried = seat.carries(&plain).unwrap();
        assert_eq!(caller.relay(tick(n), &plain, carried, &mut back), Some(at(A)));
        assert_eq!(phone.receive(tick(n), at(B), &back), Received::Audio);
        assert_eq!(RtpView::parse(phone.opened(&back)).unwrap().payload(), plain.payload());
    }
}

#[test]
fn header_extensions_and_sources_are_left_readable_and_measured_right() {
    let mut srtp = Srtp::new(keys(Suite::AesCm80, 1, 1)).unwrap();
    // Two sources, a one-byte extension whose elements end before its words do, padding.
    let mut plain = vec![0xB2, 8, 0, 1, 0, 0, 0, 9, 0, 0, 0, 7, 1, 1, 1, 1, 2, 2, 2, 2];
    plain.extend([0xBE, 0xDE, 0, 2, 0x10, 0xAA, 0, 0, 0, 0, 0, 0]);
    plain.extend([0x55; 20]);
    plain.extend([0, 0, 0, 4]);
    let mut sealed = plain.clone();
    assert!(srtp.protect_rtp(&mut sealed));
    assert_eq!(sealed[..32], plain[..32], "headers");
    assert_ne!(sealed[32..56], plain[32..]);
    assert_eq!(srtp.open_rtp(&sealed).unwrap(), plain);
    assert_eq!(RtpView::parse(&plain).unwrap().payload(), [0x55; 20]);
}

#[test]
fn a_key_identifier_in_the_packets_is_stepped_over() {
    let sealing = keys(Suite::AesCm80, 1, 1);
    let mut peer = Srtp::new(sealing).unwrap();
    let mut here = Srtp::new(Protection { their_mki: 2, ..sealing }).unwrap();
    for n in 0..50u8 {
        let plain = [&[0x80, 8, 0, n, 0, 0, 0, n, 0, 0, 0, 7][..], &[0x55; 160]].concat();
        let mut sealed = plain.clone();
        assert!(peer.protect_rtp(&mut sealed));
        let tag = sealed.split_off(sealed.len() - 10);
        sealed.extend([0, 1]);
        sealed.extend(tag);
        assert_eq!(here.open_rtp(&sealed).unwrap(), plain);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_datagram_makes_an_encrypted_leg_panic(
        datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..40), rtp: bool, mki in 0u8..5
    ) {
        let keys = Protection { their_mki: mki, ..keys(Suite::AesCm80, 2, 1) };
        let mut b = session(A, Some(keys), 2);
        for (n, datagram) in datagrams.iter().enumerate() {
            let mut datagram = datagram.clone();
            if rtp && datagram.len() > 12 {
                datagram[0] = [0x80, 0x90, 0xB3, 0x8F][n % 4];
                datagram[1] = [8, 101, 200, 201][n % 4];
            }
            prop_assert!(!b.receive(tick(n as u64), at(A), &datagram).is_media());
            prop_assert!(!b.receive_rtcp(tick(n as u64), at(A), &datagram));
            b.pull(tick(n as u64));
        }
    }
}

#[test]
fn reordered_and_lost_packets_are_opened_like_others() {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(4);
    let (mut a, mut b) = pair(Suite::AesCm80);
    let mut wire: Vec<(Mono, Vec<u8>)> = Vec::new();
    for n in 0..2000 {
        let p = packet(&mut a, n);
        if !rng.random_bool(0.2) {
            wire.push((tick(n) + Duration::from_micros(rng.random_range(0..200_000)), p));
        }
    }
    wire.sort_by_key(|w| w.0);
    for (now, p) in &wire {
        b.receive(*now, at(A), p);
    }
    assert_eq!((b.stats().ignored(Ignored::Unauthentic), b.stats().packets_in), (0, wire.len() as u64));
}
