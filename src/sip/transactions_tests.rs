use super::*;
use crate::sip::compose::Content;
use crate::sip::transport::Transport;
use proptest::prelude::*;

const T1: Duration = Duration::from_millis(500);

fn hop(transport: Transport) -> Hop {
    Hop { transport, at: "192.0.2.9:5060".parse().unwrap() }
}

fn request(method: &str, branch: &str) -> String {
    format!(
        "{method} sip:400@h SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9:5060;branch={branch}\r\nFrom: <sip:a@h>;tag=f\r\n\
         To: <sip:400@h>\r\nCall-ID: c\r\nCSeq: 1 {method}\r\n\r\n"
    )
}

fn key(method: &str, branch: &str) -> Key {
    let text = request(method, branch);
    Key::of(&Wire::parse(text.as_bytes()).unwrap(), method).unwrap()
}

fn at(ms: u64) -> Mono {
    Mono::from_ms(ms)
}

/// What goes out, and when (ms), until nothing is due any more.
fn run(t: &mut Transactions) -> Vec<(u64, String)> {
    let mut out = Vec::new();
    while let Some(due) = t.next_due() {
        assert!(out.len() < 1000, "it never ends");
        while let Some(fired) = t.fire(due, "zj") {
            out.push((
                due.as_ms(),
                match fired {
                    Fired::Send(_, bytes) => String::from_utf8_lossy(&bytes[..11.min(bytes.len())]).into_owned(),
                    Fired::TimedOut(_) => "timed out".into(),
                    Fired::Unconfirmed(id) => format!("unconfirmed {}", id.0),
                    Fired::Dialog(id) => format!("dialog {}", id.0),
                },
            ));
        }
    }
    assert!(t.servers.is_empty() && t.clients.is_empty(), "nothing is left without a timer");
    out
}

fn served(transport: Transport, method: &str) -> (Transactions, Key) {
    let mut t = Transactions::new(T1);
    let key = key(method, "z9hG4bK1");
    assert_eq!(t.repeated(&key, "zj"), Repeated::New);
    let invite = method == "INVITE";
    t.begin(key.clone(), hop(transport), (invite, invite.then_some(DialogId(7))), "To: x\r\n".into(), at(0));
    (t, key)
}

#[test]
fn an_invite_gets_its_100_when_we_think_for_long_or_it_comes_again() {
    let (mut t, key) = served(Transport::Udp, "INVITE");
    assert_eq!(t.next_due(), Some(at(200)));
    let Some(Fired::Send(_, bytes)) = t.fire(at(200), "zj") else { panic!("a 100") };
    assert!(bytes.starts_with(b"SIP/2.0 100 Trying\r\nTo: x\r\n"));
    assert_eq!(t.next_due(), None, "the application has its own limits");
    assert_eq!(t.repeated(&key, "zj"), Repeated::Again(hop(Transport::Udp), bytes));
    let (mut t, key) = served(Transport::Udp, "INVITE");
    assert!(matches!(t.repeated(&key, "zj"), Repeated::Again(_, b) if b.starts_with(b"SIP/2.0 100")));
    assert_eq!(t.next_due(), None, "once");
}

#[test]
fn an_answer_is_repeated_until_its_ack_and_a_refusal_only_where_datagrams_get_lost() {
    let times = [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
    for (transport, code, again) in [
        (Transport::Udp, 200, &times[..]),
        (Transport::Tcp, 200, &times[..]),
        (Transport::Udp, 486, &times[..]),
        (Transport::Tcp, 486, &[]),
    ] {
        let (mut t, key) = served(transport, "INVITE");
        assert!(t.is_open(&key));
        assert!(t.respond(&key, code, &Content::default(), "zj", at(0)).is_some());
        assert!(!t.is_open(&key));
        assert!(t.respond(&key, 500, &Content::default(), "zj", at(0)).is_none(), "one final answer");
        let out = run(&mut t);
        let sent: Vec<u64> = out.iter().filter(|(_, w)| w.starts_with("SIP/2.0")).map(|(at, _)| *at).collect();
        assert_eq!(sent, again, "{transport} {code}");
        let told = out.iter().any(|(at, what)| (*at, what.as_str()) == (32_000, "unconfirmed 7"));
        assert_eq!(told, code == 200, "{out:?}");
    }
}

#[test]
fn after_its_ack_an_invite_is_quiet_and_still_known() {
    for code in [200, 486] {
        let (mut t, key) = served(Transport::Udp, "INVITE");
        t.respond(&key, code, &Content::default(), "zj", at(0));
        t.confirmed(&key, at(600));
        assert_eq!(t.repeated(&key, "zj"), Repeated::Nothing);
        assert_eq!((t.under_way(), run(&mut t)), (0, Vec::new()));
    }
}

#[test]
fn the_answer_to_any_other_request_is_given_again_for_64_t1() {
    let (mut t, key) = served(Transport::Udp, "BYE");
    let (_, bytes) = t.respond(&key, 200, &Content::default(), "zj", at(5)).unwrap();
    assert_eq!(t.repeated(&key, "zj"), Repeated::Again(hop(Transport::Udp), bytes));
    assert_eq!((t.next_due(), run(&mut t)), (Some(at(32_005)), Vec::new()));
    let (mut t, key) = served(Transport::Tcp, "BYE");
    t.respond(&key, 200, &Content::default(), "zj", at(5));
    assert_eq!((t.next_due(), t.servers.len()), (None, 0), "a connection repeats nothing");
}

fn asked(transport: Transport, method: &str) -> (Transactions, Key) {
    let mut t = Transactions::new(T1);
    let key = Key::ours("z9hG4bKours", method);
    let waits = if method == "INVITE" { Waits::Invite(DialogId(7)) } else { Waits::Nobody };
    let bytes = request(method, "z9hG4bKours").into_bytes();
    t.ask(key.clone(), hop(transport), bytes, (method == "INVITE", waits), at(0));
    (t, key)
}

#[test]
fn a_request_that_nobody_answers_is_repeated_and_given_up_after_64_t1() {
    let (mut t, _) = asked(Transport::Udp, "INVITE");
    let times: Vec<u64> = run(&mut t).into_iter().map(|(at, _)| at).collect();
    assert_eq!(times, [500, 1500, 3500, 7500, 15_500, 31_500, 32_000]);
    let (mut t, _) = asked(Transport::Udp, "BYE");
    let out = run(&mut t);
    let times: Vec<u64> = out.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500, 32_000]);
    assert_eq!(out[10].1, "timed out");
    let (mut t, _) = asked(Transport::Tcp, "BYE");
    assert_eq!(run(&mut t), [(32_000, "timed out".to_string())]);
}

#[test]
fn a_refused_invite_is_acknowledged_and_again_for_each_repetition() {
    let (mut t, key) = asked(Transport::Udp, "INVITE");
    assert!(matches!(t.heard(&key, 180, "<sip:400@h>;tag=x", at(10)), Heard::Invite(DialogId(7), None)));
    let Heard::Invite(_, Some((_, ack))) = t.heard(&key, 486, "<sip:400@h>;tag=x", at(20)) else { panic!("an ACK") };
    assert!(ack.starts_with(b"ACK sip:400@h SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKours\r\n"));
    assert!(matches!(t.heard(&key, 486, "", at(30)), Heard::Again(_, b) if b == ack));
    assert!(matches!(t.heard(&key, 180, "", at(30)), Heard::Nothing));
    assert_eq!((t.under_way(), run(&mut t)), (0, Vec::new()));
}

#[test]
fn an_invite_is_cancelled_once_and_only_after_something_was_heard() {
    let (mut t, key) = asked(Transport::Udp, "INVITE");
    assert!(t.is_unheard(&key) && t.cancel(&key, at(0)).is_none());
    t.heard(&key, 100, "", at(10));
    let (_, cancel) = t.cancel(&key, at(20)).unwrap();
    assert!(cancel.starts_with(b"CANCEL sip:400@h"));
    assert!(t.cancel(&key, at(20)).is_none());
    t.heard(&key, 180, "", at(30));
    assert_eq!(run(&mut t), [(32_020, "timed out".to_string())], "who never ends it is not waited for");
}

#[test]
fn who_speaks_an_old_dialect_is_known_by_all_of_its_request() {
    let old = |id: &str| {
        let text = request("INVITE", "1").replace("Call-ID: c", &format!("Call-ID: {id}"));
        Key::of(&Wire::parse(text.as_bytes()).unwrap(), "INVITE").unwrap()
    };
    assert_eq!(old("c"), old("c"));
    assert_ne!(old("c"), old("d"));
    let other = request("INVITE", "z9hG4bK1").replace("Call-ID: c", "Call-ID: d");
    let other = Key::of(&Wire::parse(other.as_bytes()).unwrap(), "INVITE").unwrap();
    assert_ne!(other, key("INVITE", "z9hG4bK1"), "two calls that share a branch are two");
    assert_ne!(key("BYE", "z9hG4bK1"), key("INVITE", "z9hG4bK1"));
}

proptest! {
    /// Whatever comes in whatever order, everything ends: no transaction stays without a timer, and the timers agree
    /// with what they are of.
    #[test]
    fn nothing_stays_for_ever(steps in proptest::collection::vec((0u8..9, 0u8..3, 100u16..700, 0u64..9000), 1..60)) {
        let mut t = Transactions::new(T1);
        let mut now = 0;
        for (what, which, code, later) in steps {
            now += later;
            while t.fire(at(now), "zj").is_some() {}
            let (branch, invite) = (format!("z9hG4bK{which}"), which != 2);
            let method = if invite { "INVITE" } else { "BYE" };
            let (theirs, ours) = (key(method, &branch), Key::ours(&branch, method));
            let by = hop(if which == 1 { Transport::Tcp } else { Transport::Udp });
            match what {
                0 | 1 if t.repeated(&theirs, "zj") == Repeated::New => {
                    t.begin(theirs, by, (invite, Some(DialogId(which.into()))), "To: x\r\n".into(), at(now));
                }
                2 => drop(t.respond(&theirs, code, &Content::default(), "zj", at(now))),
                3 => t.confirmed(&theirs, at(now)),
                4 => t.quiet(&theirs),
                5 if !t.clients.contains_key(&ours) => {
                    let waits = if invite { Waits::Invite(DialogId(1)) } else { Waits::Nobody };
                    t.ask(ours, by, request(method, &branch).into_bytes(), (invite, waits), at(now));
                }
                6 => drop(t.heard(&ours, code, "<sip:b@h>;tag=1", at(now))),
                7 => drop(t.cancel(&ours, at(now))),
                8 => drop(t.failed(&ours)),
                _ => {}
            }
            let due = t.servers.iter().filter_map(|(k, s)| Some((s.due()?, Timer::Server(k.clone()))));
            let due: BTreeSet<_> = due.chain(t.clients.iter().map(|(k, c)| (c.due(), Timer::Client(k.clone())))).collect();
            prop_assert_eq!(&due, &t.timers);
        }
        // What still waits for us is ours to answer.
        let open: Vec<Key> = t.servers.iter().filter(|(_, s)| s.due().is_none()).map(|(k, _)| k.clone()).collect();
        open.iter().for_each(|k| drop(t.respond(k, 480, &Content::default(), "zj", at(now))));
        let unsaid: Vec<Key> = t.servers.iter().filter(|(_, s)| s.stage == Served::Fresh && s.invite).map(|(k, _)| k.clone()).collect();
        unsaid.iter().for_each(|k| drop(t.respond(k, 480, &Content::default(), "zj", at(now))));
        run(&mut t);
    }
}
