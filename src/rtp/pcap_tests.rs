//! Captures of other people's equipment. They lie outside the tree (`../shared`): without them these tests
//! say so and pass.

use super::receiver::{Ignored, Received};
use super::{RtpSession, RtpView, rtcp};
use crate::audio::detect::{power, tone_power};
use crate::clock::Mono;
use crate::sdp::{Codec, Formats, MediaPlan};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// A UDP datagram of a capture.
struct Datagram {
    at: Mono,
    from: SocketAddr,
    payload: Vec<u8>,
}

fn capture(name: &str) -> Option<Vec<Datagram>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let tried = ["../shared", "../../shared"].map(|up| root.join(up).join("data/calls/pcap").join(name));
    match tried.iter().find_map(|path| std::fs::read(path).ok()) {
        Some(bytes) => Some(datagrams(&bytes)),
        None => {
            crate::skip::skipped(format_args!(
                "no capture {name} under ../shared/data/calls/pcap: this test proved nothing"
            ));
            None
        }
    }
}

/// Classic little-endian pcap, Ethernet (1) or Linux cooked (113), IPv4 and UDP.
fn datagrams(bytes: &[u8]) -> Vec<Datagram> {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(word(0), 0xA1B2_C3D4, "a little-endian pcap file");
    let link = if word(20) == 113 { 16 } else { 14 };
    let (mut at, mut found) = (24, Vec::new());
    let mut start = None;
    while at + 16 <= bytes.len() {
        let micros = u64::from(word(at)) * 1_000_000 + u64::from(word(at + 4));
        let length = word(at + 8) as usize;
        let Some(packet) = bytes.get(at + 16..at + 16 + length) else { break };
        at += 16 + length;
        let Some(ip) = packet.get(link..).filter(|ip| ip.len() > 28 && ip[0] >> 4 == 4 && ip[9] == 17) else {
            continue;
        };
        let udp = &ip[usize::from(ip[0] & 15) * 4..];
        let short = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
        let end = usize::from(short(4)).min(udp.len());
        let host = IpAddr::from([ip[12], ip[13], ip[14], ip[15]]);
        let begun = *start.get_or_insert(micros);
        found.push(Datagram {
            at: Mono(micros - begun + 1_000_000),
            from: SocketAddr::new(host, short(0)),
            payload: udp[8.min(end)..end].to_vec(),
        });
    }
    found
}

/// Plays a capture's packets from its first sender into a leg; returns the leg, what was heard and the keys.
fn played(capture: &[Datagram], codec: Codec) -> (RtpSession, Vec<i16>, String) {
    let peer = capture[0].from;
    let plan = MediaPlan {
        remote: peer,
        remote_rtcp: SocketAddr::new(peer.ip(), peer.port() + 1),
        codec,
        payload_type: codec.static_payload_type(),
        dtmf_pt: Some(101),
        receive: Formats { pcma: Some(8), pcmu: Some(0), events: Some(101), ..Formats::default() },
        extras: Default::default(),
        ptime_ms: 20,
        we_send: true,
        we_receive: true,
        held_by_remote: false,
        srtp: None,
    };
    let mut leg = RtpSession::new(plan, peer.ip(), 1, Mono(0));
    let (mut heard, mut keys) = (Vec::new(), String::new());
    let mut queue = capture.iter().peekable();
    let end = capture.last().unwrap().at.0 + 300_000;
    for now in (1_000_000..end).step_by(20_000).map(Mono) {
        while let Some(d) = queue.next_if(|d| d.at <= now) {
            if d.from.port() == peer.port() + 1 {
                leg.receive_rtcp(d.at, d.from, &d.payload);
            } else if let Received::Key(key) = leg.receive(d.at, d.from, &d.payload) {
                keys.push(key);
            }
        }
        heard.extend(leg.pull(now).pcm);
    }
    (leg, heard, keys)
}

#[test]
fn sipp_keys_are_told_once_each() {
    for (file, key) in
        "0123456789".chars().map(|k| (k.to_string(), k)).chain([("star".into(), '*'), ("pound".into(), '#')])
    {
        let Some(capture) = capture(&format!("sipp_dtmf_2833_{file}.pcap")) else { return };
        let (leg, _, keys) = played(&capture, Codec::Pcma);
        assert_eq!(keys, key.to_string());
        // Its three end packets carry one sequence number.
        assert_eq!(leg.stats().ignored(Ignored::Duplicate), 2, "{key}");
    }
}

#[test]
fn an_asterisk_call_with_keys_is_heard_and_its_keys_told_once() {
    let Some(capture) = capture("asterisk_ulaw-2013785496_rtp_rfc4733.pcap") else { return };
    let (leg, _, keys) = played(&capture, Codec::Pcmu);
    assert_eq!(keys, "2013785496");
    let stats = leg.stats();
    assert_eq!((stats.late, stats.resyncs, stats.lost), (0, 0, 0), "{stats:?}");
    assert_eq!(stats.packets_in, 974);
}

#[test]
fn packets_of_40_ms_are_cut_into_frames_without_a_gap() {
    let Some(capture) = capture("asterisk_40ms_alaw.pcap") else { return };
    assert!(capture.iter().all(|d| RtpView::parse(&d.payload).unwrap().payload().len() == 320));
    let (leg, heard, _) = played(&capture, Codec::Pcma);
    let stats = leg.stats();
    // A trunk over the open Internet: a few packets may come late.
    assert_eq!(stats.packets_in, 826);
    assert!(stats.late <= 8 && stats.concealed_ms <= 500 && stats.resyncs == 0, "{stats:?}");
    assert!(heard.len() >= 826 * 320);
}

#[test]
fn a_milliwatt_test_tone_keeps_its_level_and_pitch() {
    let Some(capture) = capture("freeswitch_milliwatt.pcmu.rtp.pcap") else { return };
    let (leg, heard, _) = played(&capture, Codec::Pcmu);
    let body = &heard[8000..24_000];
    assert!(tone_power(body, 1000.0).max(tone_power(body, 1004.0)) > 0.9 * power(body), "{:?}", leg.stats());
    assert_eq!((leg.stats().resyncs, leg.stats().lost), (0, 0));
}

#[test]
fn packets_of_30_ms_from_sipp_are_heard() {
    let Some(capture) = capture("sipp_g711a.pcap") else { return };
    let (leg, _, _) = played(&capture, Codec::Pcma);
    let stats = leg.stats();
    assert_eq!((stats.packets_in, stats.resyncs), (236, 0), "{stats:?}");
    assert!(stats.concealed_ms <= 200, "{stats:?}");
}

#[test]
fn malformed_reports_are_dropped_and_sound_goes_on() {
    let Some(capture) = capture("asterisk_crash-27382_malformed_rtcp.pcap") else { return };
    let (leg, _, _) = played(&capture, Codec::Pcmu);
    assert_eq!(leg.stats().packets_in, 274);
    // Whatever of a report is believed, no cut of it may make the reader panic.
    for report in capture.iter().filter(|d| d.payload.get(1).is_some_and(|k| (200..=206).contains(k))) {
        for length in 0..report.payload.len() {
            let _ = rtcp::parse(&report.payload[..length]);
        }
    }
}

#[test]
fn no_seed_of_a_fuzzer_and_no_cut_of_one_makes_a_leg_panic() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    for kind in ["fuzz-rtp", "fuzz-rtcp"] {
        let tried = ["../shared", "../../shared"].map(|up| root.join(up).join("data/sip/fuzz-seeds/pjsip").join(kind));
        let Some(seeds) = tried.iter().find_map(|path| std::fs::read_dir(path).ok()) else {
            crate::skip::skipped(format_args!(
                "no {kind} under ../shared/data/sip/fuzz-seeds: this test proved nothing"
            ));
            return;
        };
        for seed in seeds {
            let bytes = std::fs::read(seed.unwrap().path()).unwrap();
            for length in 0..bytes.len().min(300) {
                let capture = [Datagram {
                    at: Mono(1_000_000),
                    from: "192.0.2.1:4000".parse().unwrap(),
                    payload: bytes[..length].to_vec(),
                }];
                played(&capture, Codec::Pcma);
                let _ = rtcp::parse(&bytes[..length]);
            }
        }
    }
}

#[test]
fn several_reports_in_one_datagram_are_read() {
    let Some(capture) = capture("ndpi_rtcp_multiple_pkts_in_the_same_datagram.pcap") else { return };
    let heard: Vec<_> = capture.iter().map(|d| rtcp::parse(&d.payload).unwrap()).collect();
    assert_eq!(heard.iter().filter(|h| h.sender.is_some()).count(), 3);
    assert!(heard.iter().any(|h| !h.blocks.is_empty()));
}
