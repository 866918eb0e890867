use super::*;
use crate::sip::calls::Kind;
use proptest::prelude::*;

const FAR: &str = "198.51.100.9:5060";

fn gate(max_calls: usize) -> Gate {
    let users = Served::from_list(["400".to_string()]);
    Gate::new(SipSettings { max_calls, users, ..SipSettings::default() }, Tracer::default(), [3; 32])
}

fn message(method: &str, user: &str, n: u32, to: &str) -> String {
    format!(
        "{method} sip:{user}@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{n}\r\nFrom: <sip:a@h>;tag=f{n}\r\n\
         To: <sip:400@h>{to}\r\nCall-ID: call{n}\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
    )
}

fn code(outcome: Outcome<'_>) -> u16 {
    match outcome {
        Outcome::Pass { .. } => 0,
        Outcome::Drop { .. } => 1,
        Outcome::Reply { bytes, .. } => String::from_utf8_lossy(&bytes)[8..11].parse().unwrap(),
    }
}

fn send(g: &Gate, text: &str, ms: u64) -> u16 {
    code(g.inspect(text.as_bytes(), FAR.parse().unwrap(), Transport::Udp, Mono::from_ms(ms), 4))
}

#[test]
fn a_call_takes_a_line_and_the_next_one_is_sent_away_with_a_time_to_come_back() {
    let g = gate(1);
    let first = message("INVITE", "400", 1, "");
    let passed = g.inspect(first.as_bytes(), FAR.parse().unwrap(), Transport::Udp, Mono(0), 4);
    let Outcome::Pass { call: Some(id), .. } = passed else { panic!("a line") };
    assert_eq!(send(&g, &message("INVITE", "400", 1, ""), 1), 0, "its retransmission passes");
    let second = message("INVITE", "400", 2, "");
    let full = g.inspect(second.as_bytes(), FAR.parse().unwrap(), Transport::Udp, Mono(0), 4);
    let Outcome::Reply { bytes, .. } = full else { panic!("an answer") };
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.starts_with("SIP/2.0 503") && text.contains("Retry-After: 5\r\n"), "{text}");
    g.calls(|c| c.end(id, Mono(0)));
    assert_eq!(send(&g, &message("INVITE", "400", 3, ""), 2), 0);
}

#[test]
fn what_belongs_to_no_call_is_turned_away() {
    let g = gate(9);
    assert_eq!(send(&g, &message("INVITE", "999", 1, ""), 0), 404);
    assert_eq!(send(&g, &message("BYE", "400", 2, ";tag=x"), 0), 481);
    assert_eq!(send(&g, &message("INVITE", "400", 3, ";tag=x"), 0), 481);
    assert_eq!(send(&g, &message("CANCEL", "400", 4, ""), 0), 481);
    assert_eq!(send(&g, &message("ACK", "400", 5, ";tag=x"), 0), 1);
    assert_eq!(send(&g, &message("OPTIONS", "999", 6, ""), 0), 200);
    let stray = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>;tag=2\r\n\
        Call-ID: stray\r\nCSeq: 1 INVITE\r\n\r\n";
    assert_eq!(send(&g, stray, 0), 1);
    assert_eq!(g.calls(|c| c.active()), 0);
    g.drain();
    assert_eq!(send(&g, &message("OPTIONS", "400", 7, ""), 0), 503);
    assert_eq!(send(&g, &message("INVITE", "400", 8, ""), 0), 503);
}

#[test]
fn a_stranger_who_asks_too_often_is_not_answered_but_his_call_goes_on() {
    let g = gate(9);
    assert_eq!(send(&g, &message("INVITE", "400", 1, ""), 0), 0);
    let answered = (0..200).filter(|n| send(&g, &message("OPTIONS", "400", 10 + n, ""), 1) == 200).count();
    assert_eq!(answered, 15);
    let garbage = message("OPTIONS", "400", 7, "").replace("CSeq: 1", "CSeq: -1");
    assert_eq!(send(&g, &garbage, 1), 1, "nor are his mistakes");
    assert_eq!(send(&g, &message("CANCEL", "400", 1, ""), 1), 0);
    assert_eq!(g.counters.snapshot().limited, 186);
}

#[test]
fn a_stranger_learns_from_no_method_and_no_number_which_names_are_seats() {
    let account = super::super::settings::Account { user: "8001".into(), password: "geheim".into() };
    let users = Served::from_list(["400".to_string()]);
    let g =
        Gate::new(SipSettings { accounts: vec![account], users, ..SipSettings::default() }, Tracer::default(), [3; 32]);
    let guess = "Authorization: Digest username=\"NAME\", realm=\"zongji\", nonce=\"0\", uri=\"sip:h\", \
                 response=\"0\", qop=auth, nc=00000001, cnonce=\"c\"\r\n";
    let mut n = 0;
    for method in ["INVITE", "MESSAGE", "REGISTER", "OPTIONS"] {
        for dialled in ["NAME", "400", "999", "*1NAME"] {
            for proof in ["", guess] {
                let answers = ["8001", "7001"].map(|name| {
                    n += 1;
                    let text = message(method, dialled, n, "").replace("sip:a@h", "sip:NAME@h");
                    let text =
                        text.replace("sip:400@h>", if method == "REGISTER" { "sip:NAME@h>" } else { "sip:400@h>" });
                    let text = text.replace("Content-Length", &format!("{proof}Content-Length")).replace("NAME", name);
                    let from = std::net::SocketAddr::from(([198, 51, 100, n as u8], 5060));
                    code(g.inspect(text.as_bytes(), from, Transport::Udp, Mono::from_ms(u64::from(n) * 1000), 4))
                });
                assert_eq!(answers[0], answers[1], "{method} {dialled} {proof}");
            }
        }
    }
}

#[test]
fn no_line_break_of_another_kind_smuggles_a_header_in() {
    let good = message("INVITE", "400", 1, "");
    assert_eq!(send(&gate(9), &good, 0), 0);
    let places = ["CSeq: 1 INVITE", "branch=z9hG4bK1", "Call-ID: call1", "sip:a@h", "tag=f1", "sip:400@h SIP"];
    for place in places {
        for smuggled in ["\nX-Mine: 1", "\rX-Mine: 1", "\r\n folded\nX-Mine: 1", "\r\n\tfolded\rX-Mine: 1\r\n more"] {
            let text = good.replacen(place, &format!("{place}{smuggled}"), 1);
            let outcome = gate(9).inspect(text.as_bytes(), FAR.parse().unwrap(), Transport::Udp, Mono(0), 4);
            assert_ne!(code(outcome), 0, "{text:?}");
        }
    }
}

#[test]
fn a_challenge_of_a_stranger_loses_its_teeth() {
    let g = gate(9);
    let pin = crate::sip::calls::Pin { server: "192.0.2.1".parse().unwrap(), realm: None, secret: true };
    g.calls(|c| c.add("mine", Kind::Out, Some(pin)));
    let challenge = "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP h;branch=z9\r\nFrom: <sip:a@h>;tag=1\r\n\
        To: <sip:b@h>;tag=2\r\nCall-ID: mine\r\nCSeq: 1 INVITE\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n\r\n";
    let from = |source: &str| match g.inspect(challenge.as_bytes(), source.parse().unwrap(), Transport::Udp, Mono(0), 0)
    {
        Outcome::Pass { wire, .. } => wire.get("www-authenticate").is_some(),
        _ => panic!("it should pass"),
    };
    assert!(from("192.0.2.1:5060"));
    assert!(!from("192.0.2.66:5060"));
    assert_eq!(g.counters.snapshot().foreign_challenges, 1);
}

#[test]
fn even_inside_a_call_a_flood_is_cut() {
    let g = gate(9);
    let invite = message("INVITE", "400", 1, "");
    let passed = (0..2000).filter(|_| send(&g, &invite, 1) == 0).count();
    assert_eq!(passed as u32, 1 + INSIDE_PER_2S);
}

proptest! {
    #[test]
    fn no_bytes_change_more_than_a_counter(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        let g = gate(9);
        let outcome = g.inspect(&data, FAR.parse().unwrap(), Transport::Udp, Mono(0), 0);
        prop_assert_eq!(code(outcome), 1);
        prop_assert_eq!(g.calls(|c| c.active()), 0);
        prop_assert_eq!(g.counters.snapshot().dropped, 1);
    }
}
