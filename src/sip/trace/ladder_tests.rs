use super::super::{Ending, LegTrace};
use super::*;
use crate::sip::transport::Transport;

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 203.0.113.7\r\ns=-\r\nc=IN IP4 203.0.113.7\r\nt=0 0\r\n\
    m=audio 40000 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";

fn seen(at: u64, way: Way, remote: &str, first: &str, call_id: &str, method: &str, body: &str) -> Seen {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    let bytes = format!("{first}\r\nCall-ID: {call_id}\r\nCSeq: 1 {method}\r\n{kind}\r\n{body}").into_bytes();
    let local = "192.0.2.1:5060".parse().unwrap();
    Seen {
        at: 5_000_000 + at,
        way,
        carrier: Transport::Udp,
        local,
        remote: remote.parse().unwrap(),
        refused: None,
        bytes,
    }
}

/// A call with a transfer, a repeated INVITE and a message that was refused.
fn transferred() -> Trace {
    use Way::{In, Out};
    let (caller, seat) = ("203.0.113.7:5060", "198.51.100.20:5062");
    let mut stray = seen(70_000, In, caller, "BYE sip:400@192.0.2.1 SIP/2.0", "c1", "BYE", "");
    stray.refused = Some("no_dialog".into());
    let invite = |at| seen(at, In, caller, "INVITE sip:400@192.0.2.1 SIP/2.0", "c1", "INVITE", SDP);
    let messages = vec![
        invite(0),
        seen(412, Out, caller, "SIP/2.0 100 Trying", "c1", "INVITE", ""),
        invite(500_120),
        seen(501_000, Out, caller, "SIP/2.0 200 OK", "c1", "INVITE", &SDP.replace("203.0.113.7", "192.0.2.1")),
        seen(540_000, In, caller, "ACK sip:400@192.0.2.1 SIP/2.0", "c1", "ACK", ""),
        seen(9_000_000, Out, seat, "INVITE sip:8001@198.51.100.20:5062 SIP/2.0", "s1", "INVITE", SDP),
        seen(9_200_000, In, seat, "SIP/2.0 486 Busy Here", "s1", "INVITE", ""),
        seen(9_201_000, Out, seat, "ACK sip:8001@198.51.100.20:5062 SIP/2.0", "s1", "ACK", ""),
        Seen { at: 24_070_000, ..stray },
        seen(125_000_000, Out, caller, "BYE sip:138****8000@203.0.113.7 SIP/2.0", "c1", "BYE", ""),
        seen(125_010_000, In, caller, "SIP/2.0 200 OK", "c1", "BYE", ""),
    ];
    let leg = |role, id: &str| LegTrace { role, call_id: id.into() };
    Trace {
        id: "01KBBX7Q4M0000000000000000".into(),
        refused: false,
        began: 5_000_000,
        ending: Ending {
            from: "138****8000".into(),
            to: "400".into(),
            cause: 16,
            why: "the flow came to its end".into(),
            why_zh: "流程正常结束".into(),
        },
        lost: 0,
        legs: vec![leg(Role::Caller, "c1"), leg(Role::Seat, "s1")],
        messages,
    }
}

#[test]
fn a_call_is_drawn_as_a_ladder() {
    let drawn = ladder(&transferred(), Lang::En);
    let golden = include_str!("../../../tests/golden/ladder.txt");
    assert_eq!(drawn, golden, "\n{drawn}");
}

#[test]
fn a_ladder_fits_a_hundred_columns_in_both_languages_with_any_number_of_peers() {
    for extra in 0..8 {
        let mut trace = transferred();
        for n in 0..extra {
            let id = format!("more{n}");
            trace.legs.push(LegTrace { role: Role::Trunk, call_id: id.clone() });
            let peer = format!("[2001:db8:1111:2222:3333:4444:5555:{n}]:15060");
            let text = "INVITE sip:010****21@carrier.example SIP/2.0";
            trace.messages.push(seen(126_000_000 + n, Way::Out, &peer, text, &id, "INVITE", SDP));
        }
        for lang in [Lang::En, Lang::Zh] {
            let drawn = ladder(&trace, lang);
            for line in drawn.lines() {
                assert!(width(line) <= WIDTH, "{} columns: {line}", width(line));
            }
            assert_eq!(drawn.matches("INVITE").count(), 3 + extra as usize, "{drawn}");
        }
        let chinese = ladder(&trace, Lang::Zh);
        assert!(
            chinese.contains("流程正常结束") && chinese.contains("重发 1") && chinese.contains("主叫"),
            "{chinese}"
        );
    }
}

#[test]
fn a_description_is_told_in_a_line() {
    assert_eq!(sdp_summary(SDP.as_bytes()).unwrap(), "PCMA,PCMU,telephone-event 203.0.113.7:40000 sendrecv");
    let held = SDP.replace("IP4 203.0.113.7", "IP6 2001:db8::7").replace("RTP/AVP", "RTP/SAVP") + "a=sendonly\r\n";
    assert_eq!(
        sdp_summary(held.as_bytes()).unwrap(),
        "PCMA,PCMU,telephone-event RTP/SAVP [2001:db8::7]:40000 sendonly"
    );
    assert_eq!(sdp_summary(b"no description"), None);
}
