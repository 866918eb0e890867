//! Crypto lines as RFC 4568 and phones write them, and what two sides agree on.

use super::*;
use crate::sdp::{self, Capabilities, Codec, Direction, MediaPlan, Session};
use proptest::prelude::*;

/// The first key of RFC 4568, 9.2.
const RFC: &str = "inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR";

fn value(rest: &str) -> String {
    format!("1 AES_CM_128_HMAC_SHA1_80 {rest}")
}

#[test]
fn the_lines_of_the_rfc_are_read() {
    let line = parse(&value(&format!("{RFC}|2^20|1:32"))).unwrap();
    assert_eq!((line.tag, line.suite, line.mki), (1, Suite::AesCm80, 32));
    assert_eq!(line.key.0[..4], [0x3d, 0x2d, 0x6e, 0x40]);
    assert_eq!(written(1, line.suite, &line.key).value.unwrap(), value(RFC));
    for harmless in [
        value(RFC),
        value(&format!("{RFC}|2^48")),
        value(&format!("{RFC}|1048576")),
        value(&format!("{RFC}|1:4")),
        value(&format!("{RFC} WSH=128 -NEW=1")),
        format!("007 aes_cm_128_hmac_sha1_32 {}", RFC.replace("inline", "INLINE")),
    ] {
        assert!(parse(&harmless).is_ok(), "{harmless}");
    }
}

#[test]
fn what_cannot_be_done_says_why() {
    use CryptoError::*;
    for (text, why) in [
        ("", Form),
        ("1 AES_CM_128_HMAC_SHA1_80", Form),
        (&format!("x AES_CM_128_HMAC_SHA1_80 {RFC}"), Form),
        (&format!("1 AEAD_AES_256_GCM {RFC}"), Suite("AEAD_AES_256_GCM".into())),
        (&value("inline:short"), Key),
        (&value("uri:https://keys.example"), Key),
        (&value(&RFC.replace('P', "*")), Key),
        (&value(&format!("{RFC};{RFC}")), ManyKeys),
        (&value(&format!("{RFC}|2^99")), Lifetime),
        (&value(&format!("{RFC}|0")), Lifetime),
        (&value(&format!("{RFC}|1:200")), Mki),
        (&value(&format!("{RFC}|x:1")), Mki),
        (&value(&format!("{RFC} KDR=1")), Parameter("KDR=1".into())),
        (&value(&format!("{RFC} UNENCRYPTED_SRTP")), Parameter("UNENCRYPTED_SRTP".into())),
        (&value(&format!("{RFC} UNENCRYPTED_SRTCP")), Parameter("UNENCRYPTED_SRTCP".into())),
        (&value(&format!("{RFC} UNAUTHENTICATED_SRTP")), Parameter("UNAUTHENTICATED_SRTP".into())),
    ] {
        assert_eq!(parse(text), Err(why), "{text}");
    }
}

#[test]
fn a_key_prints_nothing_of_itself() {
    let shown = format!("{:?}", parse(&value(RFC)).unwrap());
    assert!(!shown.contains("61") && shown.contains("Key(…)"), "{shown}");
}

/// Keys that differ in every draw.
fn counting(from: u8) -> impl FnMut(&mut [u8]) {
    let mut next = from;
    move |bytes| {
        bytes.fill(next);
        next = next.wrapping_add(1);
    }
}

fn side(policy: SrtpPolicy, port: u16) -> Capabilities {
    Capabilities {
        dtx: false,
        addr: "192.0.2.9".parse().unwrap(),
        port,
        rtcp_port: port + 1,
        codecs: vec![Codec::Pcma],
        telephone_event: true,
        direction: Direction::SendRecv,
        session_id: 7,
        session_version: 1,
        srtp: Srtp::new(policy, counting(port as u8)),
    }
}

fn over(protocol: &str, more: &str) -> Session {
    let text = format!(
        "v=0\r\no=- 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\nm=audio 5004 {protocol} 8\r\n{more}"
    );
    sdp::parse(text.as_bytes()).unwrap()
}

fn line(tag: u32, suite: Suite, byte: u8) -> String {
    written(tag, suite, &Key([byte; KEY_BYTES])).to_string()
}

fn answered(offer: &Session, policy: SrtpPolicy) -> Result<(Session, MediaPlan), String> {
    sdp::answer(offer, &side(policy, 40000)).map_err(|e| e.to_string())
}

#[test]
fn an_encrypted_offer_gets_the_first_suite_we_can_do_under_its_tag() {
    let gcm = format!("a=crypto:1 AEAD_AES_128_GCM {RFC}\r\n");
    let offer = over("RTP/SAVP", &(gcm + &line(4, Suite::AesCm32, 0x55) + &line(5, Suite::AesCm80, 0x66)));
    let (answer, plan) = answered(&offer, SrtpPolicy::Optional).unwrap();
    let media = &answer.media[0];
    assert_eq!(media.protocol, "RTP/SAVP");
    let ours = parse(media.attribute("crypto").unwrap()).unwrap();
    assert_eq!((ours.tag, ours.suite), (4, Suite::AesCm32));
    let p = plan.srtp.unwrap();
    assert_eq!((p.suite, p.ours, p.theirs.0), (Suite::AesCm32, ours.key, [0x55; KEY_BYTES]));
    assert_eq!(lines(media).count(), 1);
}

#[test]
fn each_policy_takes_what_it_says() {
    use SrtpPolicy::*;
    let key = line(1, Suite::AesCm80, 1);
    for (protocol, lines, policy, expected) in [
        ("RTP/AVP", "", Off, Ok(false)),
        ("RTP/AVP", "", Optional, Ok(false)),
        ("RTP/AVP", "", Required, Err("only encrypted")),
        ("RTP/AVP", key.as_str(), Off, Ok(false)),
        ("RTP/AVP", &key, Optional, Ok(true)),
        ("RTP/AVPF", &key, Required, Ok(true)),
        ("RTP/AVP", "a=crypto:1 X inline:y\r\n", Optional, Ok(false)),
        ("RTP/AVP", "a=crypto:1 X inline:y\r\n", Required, Err("suite X")),
        ("RTP/SAVP", &key, Off, Err("RTP/SAVP")),
        ("RTP/SAVP", "", Optional, Err("no a=crypto")),
        ("RTP/SAVPF", &key, Optional, Ok(true)),
        ("RTP/SAVP", &key, Required, Ok(true)),
        ("UDP/TLS/RTP/SAVPF", &key, Optional, Err("UDP/TLS")),
    ] {
        let got = answered(&over(protocol, lines), policy);
        match expected {
            Ok(encrypted) => {
                let (answer, plan) = got.unwrap_or_else(|e| panic!("{protocol} {policy:?}: {e}"));
                assert_eq!(plan.srtp.is_some(), encrypted, "{protocol} {policy:?}");
                assert_eq!(answer.media[0].protocol, protocol);
                assert_eq!(answer.media[0].attribute("crypto").is_some(), encrypted);
            }
            Err(why) => {
                let said = got.expect_err(&format!("{protocol} {policy:?}"));
                assert!(said.contains(why), "{protocol} {policy:?}: {said}");
            }
        }
    }
}

#[test]
fn a_stream_that_cannot_be_had_gives_way_to_the_next() {
    let both = over("RTP/SAVP", "a=crypto:1 X inline:y\r\nm=audio 5006 RTP/AVP 8\r\n");
    let (answer, plan) = answered(&both, SrtpPolicy::Optional).unwrap();
    assert_eq!((answer.media[0].port, plan.remote.port(), plan.srtp), (0, 5006, None));
}

#[test]
fn our_own_offers_are_plain_unless_encryption_is_required() {
    for (policy, protocol, count) in
        [(SrtpPolicy::Off, "RTP/AVP", 0), (SrtpPolicy::Optional, "RTP/AVP", 0), (SrtpPolicy::Required, "RTP/SAVP", 2)]
    {
        let offer = sdp::offer(&side(policy, 40000));
        assert_eq!((offer.media[0].protocol.as_str(), lines(&offer.media[0]).count()), (protocol, count));
    }
    let ours = sdp::offer(&side(SrtpPolicy::Required, 40000));
    let (answer, theirs) = sdp::answer(&ours, &side(SrtpPolicy::Optional, 40050)).unwrap();
    let (here, there) = (sdp::accept(&ours, &answer).unwrap().srtp.unwrap(), theirs.srtp.unwrap());
    assert_eq!((here.ours, here.theirs, here.suite), (there.theirs, there.ours, there.suite));
    assert_ne!(here.ours, here.theirs);
}

#[test]
fn an_answer_that_lost_the_key_or_invents_one_is_no_agreement() {
    let ours = sdp::offer(&side(SrtpPolicy::Required, 40000));
    let said = |more: &str| sdp::accept(&ours, &over("RTP/SAVP", more)).unwrap_err().to_string();
    assert!(said("").contains("no key"));
    assert!(said(&line(9, Suite::AesCm80, 1)).contains("none of those"));
    assert!(said(&line(1, Suite::AesCm32, 1)).contains("none of those"));
    assert!(said(&(line(1, Suite::AesCm80, 1) + &line(2, Suite::AesCm32, 1))).contains("several"));
    assert!(sdp::accept(&ours, &over("RTP/AVP", "")).is_err(), "answered without encryption");
    let plain = sdp::offer(&side(SrtpPolicy::Optional, 40000));
    assert!(sdp::accept(&plain, &over("RTP/SAVP", &line(1, Suite::AesCm80, 1))).is_err());
    assert_eq!(sdp::accept(&plain, &over("RTP/AVP", &line(1, Suite::AesCm80, 1))).unwrap().srtp, None);
}

#[test]
fn a_peer_that_keeps_its_key_keeps_ours_and_a_new_one_brings_a_new_one() {
    let mut caps = side(SrtpPolicy::Optional, 40000);
    let mut fresh = counting(200);
    let mut agree = |byte: u8| {
        let offer = over("RTP/SAVP", &line(1, Suite::AesCm80, byte));
        let plan = sdp::answer(&offer, &caps).unwrap().1.srtp.unwrap();
        caps.srtp.agreed(Some(&plan), &mut fresh);
        plan.ours
    };
    let first = agree(1);
    assert_eq!(agree(1), first, "hold");
    let second = agree(2);
    assert_ne!(second, first, "the peer changed its key");
    assert_eq!(agree(2), second);
    let third = agree(3);
    assert!(third != second && third != first);
}

#[test]
fn an_offer_within_a_dialog_keeps_transport_and_keys() {
    let caps = side(SrtpPolicy::Required, 40000);
    let (described, plan) = sdp::answer(&over("RTP/SAVP", &line(3, Suite::AesCm32, 9)), &caps).unwrap();
    let again = sdp::offer_again(&caps, &described);
    assert_eq!(again.media[0].protocol, "RTP/SAVP");
    assert_eq!(lines(&again.media[0]).collect::<Vec<_>>(), lines(&described.media[0]).collect::<Vec<_>>());
    let next = sdp::accept(&again, &over("RTP/SAVP", &line(3, Suite::AesCm32, 9))).unwrap();
    assert_eq!(next.srtp, plan.srtp);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[ -~]{0,120}") {
        let _ = parse(&text);
        let _ = parse(&value(&format!("inline:{text}")));
    }

    #[test]
    fn what_is_written_is_read_back(key: [u8; 30], tag in 0..=TAG_MOST, weak: bool) {
        let suite = if weak { Suite::AesCm32 } else { Suite::AesCm80 };
        let text = written(tag, suite, &Key(key)).value.unwrap();
        prop_assert_eq!(parse(&text), Ok(Crypto { tag, suite, key: Key(key), mki: 0 }));
    }
}
