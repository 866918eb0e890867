//! Descriptions of a browser (Chromium's, shortened) and ours.

use super::super::identity::tests::{self, identity};
use super::super::is_over_dtls;
use super::*;
use crate::sdp::Codec;

const OFFER: &str = "v=0\r\no=- 46 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=msid-semantic: WMS\r\n\
m=audio 9 UDP/TLS/RTP/SAVPF 111 0 8 110 126\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
a=candidate:1 1 udp 2113937151 192.0.2.7 54321 typ host generation 0\r\n\
a=candidate:2 1 udp 2113937150 0d1e.local 54322 typ host generation 0\r\n\
a=candidate:3 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active\r\n\
a=ice-ufrag:Abcd\r\na=ice-pwd:0123456789abcdefghijklmn\r\na=ice-options:trickle\r\n\
a=fingerprint:sha-256 AA:BB\r\na=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\n\
a=rtpmap:111 opus/48000/2\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:110 telephone-event/48000\r\n\
a=rtpmap:126 telephone-event/8000\r\n\
m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=rtpmap:96 VP8/90000\r\n";

fn caps() -> Capabilities {
    let codecs = vec![Codec::Pcma, Codec::Pcmu];
    Capabilities { codecs, ..tests::caps("10.0.0.1:4000".parse().unwrap()) }
}

fn side() -> Negotiator {
    Negotiator::new(&identity(), vec!["10.0.0.1:4000".parse().unwrap(), "192.168.0.1:4000".parse().unwrap()])
}

fn parsed(text: &str) -> Session {
    sdp::parse(text.as_bytes()).unwrap()
}

#[test]
fn a_browsers_offer_is_answered_with_one_codec_and_our_transport() {
    let offer = parsed(OFFER);
    assert!(is_over_dtls(&offer));
    let (answer, plan, agreed) = side().answer(&offer, &caps()).unwrap();
    assert_eq!((plan.codec, plan.payload_type, plan.dtmf_pt, plan.remote), (Codec::Pcma, 8, Some(126), THROUGH));
    assert!(plan.we_send && plan.we_receive && !plan.held_by_remote);
    assert_eq!(agreed.remotes.len(), 1, "over UDP, by number");
    assert_eq!((agreed.role, agreed.is_client, agreed.restarted), (Role::Controlled, false, false));
    assert_eq!(agreed.fingerprints, ["AA:BB"]);
    // As it will be read.
    let answer = parsed(&answer.to_string());
    assert_eq!(answer.attribute("group"), Some("BUNDLE 0"));
    let audio = &answer.media[0];
    assert_eq!((audio.protocol.as_str(), audio.port), ("UDP/TLS/RTP/SAVPF", 4000));
    for (name, value) in [("setup", "passive"), ("mid", "0"), ("rtcp-mux", ""), ("ice-ufrag", &agreed.both.local.ufrag)]
    {
        assert_eq!(audio.attribute(name), Some(value), "{name}");
    }
    let candidates: Vec<_> = audio.attributes.iter().filter(|a| a.name == "candidate").collect();
    assert_eq!(candidates.len(), 2);
    assert!(audio.attribute("candidate").unwrap().ends_with("10.0.0.1 4000 typ host"));
    assert_eq!(answer.media[1].port, 0, "no video");
}

#[test]
fn our_offer_and_its_answer_agree_on_both_sides() {
    let (mut ours, mut theirs) = (side(), side());
    let offer = ours.offer(sdp::offer(&caps()));
    let (answer, plan, b) = theirs.answer(&parsed(&offer.to_string()), &caps()).unwrap();
    let (own, a) = ours.accept(&offer, &parsed(&answer.to_string())).unwrap();
    assert_eq!(own.codec, plan.codec);
    assert_eq!((a.role, b.role), (Role::Controlling, Role::Controlled));
    assert_eq!((a.is_client, b.is_client), (true, false));
    assert_eq!((&a.both.local, &a.both.remote), (&b.both.remote, &b.both.local));
    assert_eq!(a.remotes.len(), 2);
}

#[test]
fn new_credentials_are_a_restart_and_the_same_again_are_not() {
    let mut side = side();
    let (_, _, first) = side.answer(&parsed(OFFER), &caps()).unwrap();
    let (_, _, again) = side.answer(&parsed(OFFER), &caps()).unwrap();
    assert!(!again.restarted && again.both == first.both);
    let (_, _, anew) = side.answer(&parsed(&OFFER.replace("ufrag:Abcd", "ufrag:Efgh")), &caps()).unwrap();
    assert!(anew.restarted && anew.both.local != first.both.local);
    assert_eq!(anew.is_client, first.is_client);
}

#[test]
fn a_held_browser_is_known_by_its_direction_not_by_its_address() {
    let (_, plan, _) = side().answer(&parsed(&OFFER.replace("a=sendrecv", "a=inactive")), &caps()).unwrap();
    assert!(plan.held_by_remote && !plan.we_send);
}

#[test]
fn what_cannot_be_proved_or_shared_is_refused() {
    let without = |line: &str| {
        assert!(OFFER.contains(line));
        side().answer(&parsed(&OFFER.replace(line, "")), &caps()).map(|_| ()).unwrap_err().to_string()
    };
    assert!(without("a=rtcp-mux\r\n").contains("rtcp-mux"));
    assert!(without("a=ice-pwd:0123456789abcdefghijklmn\r\n").contains("ice-pwd"));
    let sha1 = OFFER.replace("sha-256", "sha-1");
    assert!(side().answer(&parsed(&sha1), &caps()).is_err());
    let opus_only = OFFER.replace("SAVPF 111 0 8 110 126", "SAVPF 110");
    assert!(side().answer(&parsed(&opus_only), &caps()).is_err());
    assert!(!is_over_dtls(&parsed(&OFFER.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"))));
}

#[test]
fn the_address_a_stun_server_saw_is_one_more_candidate() {
    let offer = side().offer(sdp::offer(&caps())).to_string();
    let with = with_mapped(&offer, "203.0.113.5:6000".parse().unwrap());
    let audio = &parsed(&with).media[0];
    let values: Vec<_> = audio.attributes.iter().filter(|a| a.name == "candidate").collect();
    assert_eq!(values.len(), 3);
    assert!(with.contains("203.0.113.5 6000 typ srflx raddr 10.0.0.1 rport 4000\r\na=rtcp-mux"), "{with}");
    assert_eq!(with_mapped(&offer, "10.0.0.1:4000".parse().unwrap()), offer, "no address twice");
    assert_eq!(with_mapped("v=0", "203.0.113.5:6000".parse().unwrap()), "v=0");
}

#[test]
fn once_told_the_address_stands_in_every_description_of_a_leg_that_does_ice() {
    let mut own = side();
    own.mapped("203.0.113.5:6000".parse().unwrap());
    let seen = "a=candidate:99 1 UDP 1694498815 203.0.113.5 6000 typ srflx raddr 10.0.0.1 rport 4000\r\n";
    assert!(own.offer(sdp::offer(&caps())).to_string().contains(seen));
    let (answer, _, _) = own.answer(&parsed(OFFER), &caps()).unwrap();
    let told = answer.to_string();
    assert!(told.contains(seen) && own.does_ice(), "{told}");
    assert_eq!(with_mapped(&told, "203.0.113.5:6000".parse().unwrap()), told);
    let (answer, _, _) = own.answer(&parsed(PHONE), &caps()).unwrap();
    assert!(!answer.to_string().contains("candidate") && !own.does_ice());
}

#[test]
fn what_of_a_transport_cannot_be_done_is_told_apart_from_codecs() {
    let told = |offer: String| obstacle(&parsed(&offer));
    assert_eq!((told(OFFER.into()), told(PHONE.into())), (None, None));
    assert_eq!(told(PHONE.replace("a=rtcp-mux\r\n", "")), Some(Obstacle::NoMux));
    assert_eq!(told(OFFER.replace("sha-256", "sha-1")), Some(Obstacle::NoFingerprint));
    assert_eq!(told(PHONE.replace("192.0.2.9\r\nt=", "phone.example\r\nt=")), Some(Obstacle::NoPlace));
    assert_eq!(told(OFFER.replace("a=ice-ufrag:Abcd", "a=ice-ufrag:Ab")), Some(Obstacle::BadIce));
    assert_eq!(told(OFFER.replace("actpass", "holdconn")), Some(Obstacle::BadSetup));
    let plain = PHONE.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP").replace("a=rtcp-mux\r\n", "");
    assert_eq!(told(plain), None, "that is no offer over DTLS-SRTP");
}

#[test]
fn keys_in_descriptions_are_for_others_whatever_the_policy() {
    let mut strict = caps();
    strict.srtp = sdp::Srtp::new(sdp::SrtpPolicy::Required, |key: &mut [u8]| key.fill(7));
    let (mut ours, mut theirs) = (side(), side());
    let offer = ours.offer(sdp::offer(&strict));
    assert!(!offer.to_string().contains("a=crypto"), "{offer}");
    let (answer, plan, _) = theirs.answer(&offer, &strict).unwrap();
    assert!(plan.srtp.is_none() && !answer.to_string().contains("a=crypto"));
    assert!(ours.accept(&offer, &answer).unwrap().0.srtp.is_none());
}

/// A phone's, as baresip writes it.
const PHONE: &str = "v=0\r\no=- 46 2 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\na=setup:actpass\r\n\
a=fingerprint:SHA-256 AA:BB\r\nm=audio 7286 UDP/TLS/RTP/SAVPF 8 101\r\na=rtpmap:8 PCMA/8000\r\n\
a=rtpmap:101 telephone-event/8000\r\na=rtcp-mux\r\na=sendrecv\r\n";

#[test]
fn a_phone_without_ice_is_where_its_description_says_and_is_answered_without_ice() {
    let mut side = side();
    let (answer, plan, agreed) = side.answer(&parsed(PHONE), &caps()).unwrap();
    assert_eq!((plan.codec, plan.remote), (Codec::Pcma, THROUGH));
    assert_eq!(agreed.described, Some("192.0.2.9:7286".parse().unwrap()));
    let audio = &answer.media[0];
    let of = |name| audio.attribute(name);
    assert_eq!((of("setup"), of("rtcp-mux")), (Some("passive"), Some("")));
    assert_eq!((of("ice-ufrag"), of("ice-pwd"), of("candidate"), of("end-of-candidates")), (None, None, None, None));
    let again = side.offer(sdp::offer(&caps()));
    assert_eq!(again.media[0].attribute("ice-ufrag"), None, "nor does a later offer of ours speak of it");
    let held = PHONE.replace("c=IN IP4 192.0.2.9", "c=IN IP4 0.0.0.0");
    let (_, _, agreed) = side.answer(&parsed(&held), &caps()).unwrap();
    assert!(!agreed.restarted);
    for wrong in [PHONE.replace("a=rtcp-mux\r\n", ""), PHONE.replace("192.0.2.9\r\nt=", "phone.example\r\nt=")] {
        assert!(side.answer(&parsed(&wrong), &caps()).is_err(), "{wrong}");
    }
    let half = PHONE.replace("a=setup", "a=ice-ufrag:Abcd\r\na=setup");
    assert!(side.answer(&parsed(&half), &caps()).is_err());
}
