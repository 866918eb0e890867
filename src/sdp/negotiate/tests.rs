//! Offers as phones, trunks and PBXs write them, and what we make of them.

use super::*;
use crate::sdp::parse;

fn ours() -> Capabilities {
    Capabilities {
        addr: "192.0.2.9".parse().unwrap(),
        port: 40000,
        rtcp_port: 40001,
        codecs: vec![Codec::Pcma, Codec::Pcmu],
        telephone_event: true,
        dtx: false,
        direction: Direction::SendRecv,
        session_id: 77,
        session_version: 1,
        srtp: crate::sdp::Srtp::off(),
    }
}

fn described(media: &str) -> Session {
    let body = format!("v=0\r\no=- 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n{media}");
    parse(body.as_bytes()).unwrap()
}

fn planned(media: &str) -> MediaPlan {
    answer(&described(media), &ours()).unwrap().1
}

fn refusal(media: &str) -> String {
    answer(&described(media), &ours()).unwrap_err().to_string()
}

#[test]
fn a_usual_offer_gets_our_preferred_codec_and_keys() {
    let offer = described(
        "m=audio 5004 RTP/AVP 0 8 18 96\r\na=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-16\r\na=ptime:20\r\na=sendrecv\r\n",
    );
    let (answer, plan) = answer(&offer, &ours()).unwrap();
    assert_eq!(
        plan,
        MediaPlan {
            remote: "198.51.100.7:5004".parse().unwrap(),
            remote_rtcp: "198.51.100.7:5005".parse().unwrap(),
            codec: Codec::Pcma,
            payload_type: 8,
            dtmf_pt: Some(96),
            receive: Formats { pcma: Some(8), events: Some(96), ..Formats::default() },
            extras: Extras::default(),
            ptime_ms: 20,
            we_send: true,
            we_receive: true,
            held_by_remote: false,
            srtp: None,
        }
    );
    assert_eq!(
        answer.to_string(),
        "v=0\r\no=- 77 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8 96\r\n\
         a=ptime:20\r\na=maxptime:60\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-15\r\n\
         a=sendrecv\r\n"
    );
}

#[test]
fn other_streams_are_refused_in_their_place() {
    let offer = described(
        "m=video 6000 RTP/AVP 96\r\na=mid:v\r\nm=audio 5002 RTP/SAVP 8\r\nm=audio 5004 RTP/AVP 8\r\nm=audio 5008 RTP/AVP 8\r\nm=image 7000 udptl t38\r\n",
    );
    let (answer, plan) = answer(&offer, &ours()).unwrap();
    assert_eq!(plan.remote.port(), 5004);
    let lines: Vec<(&str, u16)> = answer.media.iter().map(|m| (m.kind.as_str(), m.port)).collect();
    assert_eq!(lines, [("video", 0), ("audio", 0), ("audio", 40000), ("audio", 0), ("image", 0)]);
    assert_eq!(answer.media[0].attribute("mid"), Some("v"));
    assert_eq!(answer.media[4].formats, ["t38"]);
    assert!(parse(answer.to_string().as_bytes()).is_ok());
}

#[test]
fn hold_is_understood_in_all_its_forms() {
    let sendonly = planned("m=audio 5004 RTP/AVP 8\r\na=sendonly\r\n");
    assert_eq!((sendonly.we_send, sendonly.we_receive, sendonly.held_by_remote), (false, true, true));
    let inactive = planned("m=audio 5004 RTP/AVP 8\r\na=inactive\r\n");
    assert_eq!((inactive.we_send, inactive.we_receive, inactive.held_by_remote), (false, false, true));
    let recvonly = planned("m=audio 5004 RTP/AVP 8\r\na=recvonly\r\n");
    assert_eq!((recvonly.we_send, recvonly.we_receive, recvonly.held_by_remote), (true, false, false));
    let old = planned("m=audio 5004 RTP/AVP 8\r\nc=IN IP4 0.0.0.0\r\n");
    assert_eq!((old.we_send, old.we_receive, old.held_by_remote), (false, true, true));
    let (answer, _) = answer(&described("m=audio 5004 RTP/AVP 8\r\na=sendonly\r\n"), &ours()).unwrap();
    assert_eq!(answer.media[0].direction(), Some(Direction::RecvOnly));
}

#[test]
fn we_can_put_the_peer_on_hold() {
    let ours = Capabilities { direction: Direction::SendOnly, ..ours() };
    let plan = accept(&offer(&ours), &described("m=audio 5004 RTP/AVP 8\r\na=recvonly\r\n")).unwrap();
    assert_eq!((plan.we_send, plan.we_receive, plan.held_by_remote), (true, false, false));
}

#[test]
fn the_peer_decides_how_long_our_packets_are() {
    for (lines, expected) in [
        ("", 20),
        ("a=ptime:30\r\n", 30),
        ("a=ptime:10\r\n", 10),
        ("a=ptime:40\r\na=maxptime:20\r\n", 20),
        ("a=ptime:200\r\n", 60),
        ("a=ptime:5\r\n", 10),
        ("a=ptime:35.5\r\n", 30),
        ("a=ptime:x\r\na=maxptime:150\r\n", 20),
        ("a=maxptime:10\r\n", 10),
        ("a=ptime:nan\r\n", 20),
    ] {
        assert_eq!(planned(&format!("m=audio 5004 RTP/AVP 8\r\n{lines}")).ptime_ms, expected, "{lines}");
    }
}

#[test]
fn a_payload_type_means_what_its_rtpmap_says() {
    let dynamic = planned("m=audio 5004 RTP/AVP 18 97\r\na=rtpmap:97 pcmu/8000/1\r\n");
    assert_eq!((dynamic.codec, dynamic.payload_type), (Codec::Pcmu, 97));
    assert!(refusal("m=audio 5004 RTP/AVP 8\r\na=rtpmap:8 PCMA/16000\r\n").contains("PCMA, PCMU"));
    let other_rate = planned("m=audio 5004 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/48000\r\n");
    assert_eq!(other_rate.dtmf_pt, None);
}

#[test]
fn rtcp_goes_to_the_port_named_but_to_no_other_host() {
    let plan = planned("m=audio 5004 RTP/AVP 8\r\na=rtcp:53020 IN IP4 203.0.113.66\r\n");
    assert_eq!(plan.remote_rtcp, "198.51.100.7:53020".parse::<SocketAddr>().unwrap());
    let far = planned("m=audio 65535 RTP/AVP 8\r\n");
    assert_eq!(far.remote_rtcp.port(), 65535);
}

#[test]
fn ipv6_works_both_ways() {
    let ours = Capabilities { addr: "2001:db8::9".parse().unwrap(), rtcp_port: 45000, ..ours() };
    let offer = described("m=audio 5004 RTP/AVP 8\r\nc=IN IP6 2001:db8::7\r\n");
    let (answer, plan) = answer(&offer, &ours).unwrap();
    assert_eq!(plan.remote, "[2001:db8::7]:5004".parse::<SocketAddr>().unwrap());
    assert!(answer.to_string().contains("c=IN IP6 2001:db8::9\r\n"));
    assert_eq!(answer.media[0].attribute("rtcp"), Some("45000"));
}

#[test]
fn what_cannot_be_done_is_refused_with_a_reason() {
    assert!(refusal("").contains("no audio"));
    assert!(refusal("m=video 5004 RTP/AVP 96\r\n").contains("no audio"));
    assert!(refusal("m=audio 5004 RTP/AVP 18 9\r\n").contains("PCMA, PCMU"));
    assert!(refusal("m=audio 5004 RTP/SAVP 8\r\n").contains("RTP/SAVP"));
    assert!(refusal("m=audio 5004 RTP/AVP 8\r\nc=IN IP4 239.1.2.3\r\n").contains("unicast"));
    assert!(refusal("m=audio 5004 RTP/AVP 8\r\nc=IN IP4 239.1.2.3/127\r\n").contains("unicast"));
    assert!(refusal("m=audio 5004 RTP/AVP 8\r\nc=IN IP4 phone.example\r\n").contains("phone.example"));
    assert!(refusal("m=audio 0 RTP/AVP 8\r\n").contains("port 0"));
}

#[test]
fn our_own_offer_is_answered_and_accepted() {
    let offer = offer(&ours());
    let theirs = Capabilities {
        addr: "198.51.100.7".parse().unwrap(),
        port: 5004,
        rtcp_port: 5005,
        codecs: vec![Codec::Pcmu],
        ..ours()
    };
    let parsed = parse(offer.to_string().as_bytes()).unwrap();
    assert_eq!(parsed, offer);
    let (answer, their_plan) = answer(&parsed, &theirs).unwrap();
    let plan = accept(&offer, &answer).unwrap();
    assert_eq!((plan.codec, plan.payload_type, plan.dtmf_pt), (Codec::Pcmu, 0, Some(101)));
    assert_eq!((plan.remote, their_plan.remote.port()), ("198.51.100.7:5004".parse().unwrap(), 40000));
}

#[test]
fn in_an_answer_the_peers_order_of_codecs_counts() {
    let plan = accept(&offer(&ours()), &described("m=audio 5004 RTP/AVP 0 8\r\n")).unwrap();
    assert_eq!((plan.codec, plan.payload_type, plan.dtmf_pt), (Codec::Pcmu, 0, None));
}

#[test]
fn a_refused_or_strange_answer_is_no_agreement() {
    for media in ["m=audio 0 RTP/AVP 8\r\n", "", "m=video 5004 RTP/AVP 8\r\n", "m=audio 5004 RTP/AVP 18\r\n"] {
        assert!(accept(&offer(&ours()), &described(media)).is_err(), "{media}");
    }
    let only_a = Capabilities { codecs: vec![Codec::Pcma], ..ours() };
    assert!(accept(&offer(&only_a), &described("m=audio 5004 RTP/AVP 0\r\n")).is_err(), "never offered");
}

#[test]
fn the_version_rises_only_when_something_changed() {
    let first = offer(&ours());
    let mut same = offer(&Capabilities { session_version: 9, ..ours() });
    carry_version(&first, &mut same);
    assert_eq!(same.origin.version, "1");
    let mut held = offer(&Capabilities { direction: Direction::SendOnly, ..ours() });
    carry_version(&first, &mut held);
    assert_eq!(held.origin.version, "2");
}

/// Seeds of another project's fuzzer, outside the tree.
#[test]
fn no_seed_of_a_fuzzer_and_no_cut_of_one_makes_us_panic() {
    let root = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let tried = ["../shared", "../../shared"].map(|up| root.join(up).join("data/sip/fuzz-seeds/pjsip/fuzz-sdp"));
    let Some(seeds) = tried.iter().find_map(|path| std::fs::read_dir(path).ok()) else {
        crate::skip::skipped("no ../shared/data/sip/fuzz-seeds/pjsip/fuzz-sdp: this test proved nothing");
        return;
    };
    let mut read = 0;
    for seed in seeds {
        let bytes = std::fs::read(seed.unwrap().path()).unwrap();
        for length in (0..=bytes.len()).rev().take(400) {
            if let Ok(session) = parse(&bytes[..length]) {
                read += 1;
                let _ = answer(&session, &ours());
                let _ = accept(&offer(&ours()), &session);
                assert_eq!(parse(session.to_string().as_bytes()), Ok(session));
            }
        }
    }
    assert!(read > 0, "some seeds are whole descriptions");
}

#[test]
fn we_receive_on_the_types_we_offered_and_send_on_those_of_the_answer() {
    let body = "m=audio 5004 RTP/AVP 98 96\r\na=rtpmap:98 PCMU/8000\r\na=rtpmap:96 telephone-event/8000\r\n";
    let plan = accept(&offer(&ours()), &described(body)).unwrap();
    assert_eq!((plan.codec, plan.payload_type, plan.dtmf_pt), (Codec::Pcmu, 98, Some(96)));
    assert_eq!(plan.receive, Formats { pcma: Some(8), pcmu: Some(0), events: Some(101), ..Formats::default() });
    let answered = planned("m=audio 5004 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n");
    assert_eq!(answered.receive, Formats { pcma: Some(8), events: Some(101), ..Formats::default() });
}

#[test]
fn an_offer_within_a_dialog_keeps_every_stream_in_its_place() {
    let first = described(
        "m=video 6000 RTP/AVP 96\r\na=mid:v\r\nm=audio 5004 RTP/AVP 8\r\na=mid:a\r\nm=image 7000 udptl t38\r\n",
    );
    let (previous, _) = answer(&first, &ours()).unwrap();
    let again = offer_again(&ours(), &previous);
    let lines: Vec<(&str, u16)> = again.media.iter().map(|m| (m.kind.as_str(), m.port)).collect();
    assert_eq!(lines, [("video", 0), ("audio", 40000), ("image", 0)]);
    assert_eq!(again.media[1].formats, ["8", "0", "101"], "the whole choice again");
    assert_eq!((again.media[0].attribute("mid"), again.media[1].attribute("mid")), (Some("v"), Some("a")));
    let theirs = described("m=video 0 RTP/AVP 96\r\nm=audio 5006 RTP/AVP 8\r\nm=image 0 udptl t38\r\n");
    assert_eq!(accept(&again, &theirs).unwrap().remote.port(), 5006);
    assert_eq!(offer_again(&ours(), &offer(&ours())), offer(&ours()));
}

fn all() -> Capabilities {
    Capabilities { codecs: vec![Codec::Pcma, Codec::Pcmu, Codec::G722, Codec::Opus, Codec::G729], ..ours() }
}

fn planned_by(ours: &Capabilities, media: &str) -> (String, MediaPlan) {
    let (answer, plan) = answer(&described(media), ours).unwrap();
    (answer.media[0].to_string(), plan)
}

#[test]
fn every_codec_is_offered_with_its_clock_and_parameters_and_taken_back() {
    let offer = offer(&all());
    let text = offer.to_string();
    assert!(text.contains("m=audio 40000 RTP/AVP 8 0 9 111 18 101 102\r\n"), "{text}");
    for line in [
        "a=rtpmap:9 G722/8000",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 useinbandfec=1",
        "a=rtpmap:18 G729/8000",
        "a=fmtp:18 annexb=no",
        "a=rtpmap:101 telephone-event/8000",
        "a=rtpmap:102 telephone-event/48000",
    ] {
        assert!(text.contains(&format!("{line}\r\n")), "{line} in {text}");
    }
    for codec in all().codecs {
        let theirs = Capabilities { port: 5004, rtcp_port: 5005, codecs: vec![codec], ..ours() };
        let (answer, their_plan) = answer(&parse(text.as_bytes()).unwrap(), &theirs).unwrap();
        let plan = accept(&offer, &answer).unwrap();
        assert_eq!((plan.codec, their_plan.codec), (codec, codec));
        assert_eq!(plan.payload_type, codec.static_payload_type());
        let events = if codec == Codec::Opus { (Some(102), 48_000) } else { (Some(101), 8000) };
        assert_eq!((plan.dtmf_pt, plan.extras.event_clock), events, "{codec:?}");
        assert_eq!(plan.extras.fec, codec == Codec::Opus);
        assert_eq!((plan.extras.noise_pt, plan.extras.dtx), (None, false), "{codec:?}");
        assert_eq!((plan.receive.g722, plan.receive.opus, plan.receive.g729), (Some(9), Some(111), Some(18)));
    }
}

#[test]
fn our_order_decides_and_dynamic_types_stay_as_the_peer_named_them() {
    let chrome = "m=audio 5004 RTP/AVP 96 9 0 8 110 126\r\na=rtpmap:96 opus/48000/2\r\n\
        a=fmtp:96 minptime=10;useinbandfec=1\r\na=rtpmap:110 telephone-event/48000\r\na=rtpmap:126 telephone-event/8000\r\n";
    assert_eq!(planned_by(&all(), chrome).1.codec, Codec::Pcma, "G.711 unless another is preferred");
    let opus_first = Capabilities { codecs: vec![Codec::Opus, Codec::Pcma], ..ours() };
    let (answer, plan) = planned_by(&opus_first, chrome);
    assert_eq!(
        (plan.codec, plan.payload_type, plan.dtmf_pt, plan.extras.event_clock),
        (Codec::Opus, 96, Some(110), 48_000)
    );
    assert!(plan.extras.fec);
    assert!(answer.starts_with("m=audio 40000 RTP/AVP 96 110\r\n"), "{answer}");
    assert!(answer.contains("a=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\n"), "{answer}");
    assert_eq!((plan.receive.opus, plan.receive.wide_events, plan.receive.events), (Some(96), Some(110), None));
    // Beside Opus many phones know events at 8 kHz only.
    let linphone = "m=audio 5004 RTP/AVP 96 101\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n";
    let plan = planned_by(&opus_first, linphone).1;
    assert_eq!((plan.dtmf_pt, plan.extras.event_clock, plan.extras.fec), (Some(101), 8000, false));
    assert!(answer_fails(&opus_first, "m=audio 5004 RTP/AVP 96\r\na=rtpmap:96 opus/48000\r\n"), "Opus is always /2");
    assert!(answer_fails(&opus_first, "m=audio 5004 RTP/AVP 111\r\n"), "and says so");
    let plan = planned_by(&opus_first, "m=audio 5004 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\na=ptime:30\r\n").1;
    assert_eq!(plan.ptime_ms, 20, "it has no frames of 30 ms");
}

fn answer_fails(ours: &Capabilities, media: &str) -> bool {
    answer(&described(media), ours).is_err()
}

#[test]
fn silence_is_told_only_where_both_sides_say_so() {
    let dtx = Capabilities { dtx: true, ..all() };
    let with_noise = "m=audio 5004 RTP/AVP 8 13\r\n";
    assert_eq!(planned_by(&all(), with_noise).1.extras.noise_pt, None, "we do not");
    assert_eq!(planned_by(&dtx, "m=audio 5004 RTP/AVP 8\r\n").1.extras.noise_pt, None, "they do not");
    let (answer, plan) = planned_by(&dtx, with_noise);
    assert_eq!((plan.extras.noise_pt, plan.receive.noise), (Some(13), Some(13)));
    assert!(answer.starts_with("m=audio 40000 RTP/AVP 8 13\r\n") && answer.contains("a=rtpmap:13 CN/8000"), "{answer}");
    let offer = offer(&dtx);
    assert!(offer.to_string().contains(" 18 13 101 102\r\n"), "{offer}");
    assert_eq!(accept(&offer, &described(with_noise)).unwrap().extras.noise_pt, Some(13));
    assert_eq!(accept(&offer, &described("m=audio 5004 RTP/AVP 8\r\n")).unwrap().extras.noise_pt, None);
    // G.729 has noise of its own, allowed unless somebody forbids it.
    let g729 = |ours: &Capabilities, more: &str| {
        let (answer, plan) = planned_by(ours, &format!("m=audio 5004 RTP/AVP 18 13\r\n{more}"));
        assert_eq!(plan.extras.noise_pt, None);
        (plan.extras.dtx, answer.contains("annexb=yes"), answer.contains("annexb=no"))
    };
    assert_eq!(g729(&dtx, ""), (true, true, false));
    assert_eq!(g729(&dtx, "a=fmtp:18 annexb=no\r\n"), (false, false, true));
    assert_eq!(g729(&all(), "a=fmtp:18 annexb=yes\r\n"), (false, false, true));
}

proptest::proptest! {
    #[test]
    fn no_formats_and_parameters_make_us_panic(
        formats in "( ?[0-9]{1,4}){0,8}",
        map in "[0-9]{0,3} ?[a-zA-Z0-9/-]{0,20}",
        fmtp in "[0-9]{0,3} ?[a-z0-9=; ]{0,30}",
        dtx: bool,
    ) {
        let body = format!("v=0\r\no=- 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n\
            m=audio 5004 RTP/AVP{formats}\r\na=rtpmap:{map}\r\na=fmtp:{fmtp}\r\n");
        if let Ok(session) = parse(body.as_bytes()) {
            let ours = Capabilities { dtx, ..all() };
            if let Ok((answer, plan)) = answer(&session, &ours) {
                proptest::prop_assert!(plan.payload_type < 128);
                proptest::prop_assert!(accept(&session, &answer).is_ok(), "{}", answer);
            }
            let _either = accept(&offer(&ours), &session);
        }
    }
}
