//! The agent against other SIP programs: sipp, another agent, and a hand-written client.

use crate::common::sip::*;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc::Receiver;
use zongji::sip::{Dial, EndWhy, Served, SipAgent, SipError, SipEvent, SipSettings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_agents_call_hold_resume_send_keys_and_hang_up() {
    for more in ["", ";transport=tcp"] {
        let (mut a, mut b) = pair().await;
        let (out, into) = connected(&mut a, &mut b, more).await;
        for (asker, other, d, e) in [(true, false, out, into), (false, true, into, out)] {
            let _ = other;
            let hold = OFFER.replace("RTP/AVP 8\r\n", "RTP/AVP 8\r\na=sendonly\r\n");
            let held = ANSWER.replace("RTP/AVP 8\r\n", "RTP/AVP 8\r\na=recvonly\r\n");
            for (offer, answer) in [(&hold, &held), (&OFFER.to_string(), &ANSWER.to_string())] {
                let (agent, side) = if asker { (a.agent.clone(), &mut b) } else { (b.agent.clone(), &mut a) };
                let (sent, wanted) = (offer.clone(), answer.clone());
                let asking = tokio::spawn(async move { agent.reinvite(d, sent).await });
                let SipEvent::Reinvite { dialog, request, sdp, .. } = side.next().await else { panic!("a re-INVITE") };
                assert_eq!((dialog, sdp.as_ref()), (e, Some(offer)));
                side.agent.answer_reinvite(e, request, Ok(answer.clone())).await;
                assert_eq!(asking.await.unwrap(), Ok(wanted));
            }
        }
        a.agent.info_dtmf(out, '5').await.unwrap();
        assert_eq!(b.next().await, SipEvent::Info { dialog: into, key: Some('5'), record: None });
        b.agent.info_dtmf(into, '#').await.unwrap();
        assert_eq!(a.next().await, SipEvent::Info { dialog: out, key: Some('#'), record: None });
        a.agent.hangup(out).await;
        assert_eq!(a.next().await, SipEvent::Ended { dialog: out, why: EndWhy::HungUp });
        assert_eq!(b.next().await, SipEvent::Bye { dialog: into });
        a.settled().await;
        b.settled().await;
        assert_eq!(a.agent.reinvite(out, OFFER.into()).await, Err(SipError::Gone));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_reinvite_leaves_the_call_as_it_was() {
    let (mut a, mut b) = pair().await;
    let (out, into) = connected(&mut a, &mut b, "").await;
    let agent = a.agent.clone();
    let asking = tokio::spawn(async move { agent.reinvite(out, OFFER.into()).await });
    let SipEvent::Reinvite { request, .. } = b.next().await else { panic!("a re-INVITE") };
    b.agent.answer_reinvite(into, request, Err(488)).await;
    assert_eq!(asking.await.unwrap(), Err(SipError::Refused(488)));
    b.agent.hangup(into).await;
    assert_eq!(a.next().await, SipEvent::Bye { dialog: out });
    assert_eq!(b.next().await, SipEvent::Ended { dialog: into, why: EndWhy::HungUp });
    a.settled().await;
    b.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_both_hang_up_at_once_each_hears_one_end() {
    let (mut a, mut b) = pair().await;
    for _ in 0..20 {
        let (out, into) = connected(&mut a, &mut b, "").await;
        tokio::join!(a.agent.hangup(out), b.agent.hangup(into));
        let ends = [(a.next().await, out), (b.next().await, into)];
        for (end, d) in ends {
            let ours = SipEvent::Ended { dialog: d, why: EndWhy::HungUp };
            assert!(end == ours || end == SipEvent::Bye { dialog: d }, "{end:?}");
        }
        a.settled().await;
        b.settled().await;
    }
    assert!(a.events.try_recv().is_err() && b.events.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_gives_up_while_it_rings_cancels() {
    let (mut a, mut b) = pair().await;
    for ring in [true, false] {
        let out = a.agent.dial(dial(&b, "400", "")).await.unwrap();
        let into = b.called().await;
        if ring {
            b.agent.ring(into).await;
            assert!(matches!(a.next().await, SipEvent::Progress { code: 180, .. }));
        }
        a.agent.hangup(out).await;
        assert_eq!(a.next().await, SipEvent::Ended { dialog: out, why: EndWhy::HungUp });
        assert_eq!(b.next().await, SipEvent::Cancelled { dialog: into });
        b.agent.answer(into, ANSWER.into()).await;
        a.settled().await;
        b.settled().await;
    }
    assert!(a.events.try_recv().is_err() && b.events.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_refused_as_busy_unknown_or_unacceptable_or_hung_up_before_it_is_answered() {
    let mut a = Side::new(settings()).await;
    let users = Served::from_list(["400".to_string()]);
    let mut b = Side::new(SipSettings { users, ..settings() }).await;
    for code in [486u16, 488] {
        let out = a.agent.dial(dial(&b, "400", "")).await.unwrap();
        let into = b.called().await;
        b.agent.reject(into, code, Some(3)).await;
        assert_eq!(b.next().await, SipEvent::Ended { dialog: into, why: EndWhy::Rejected });
        let event = a.next().await;
        assert!(matches!(event, SipEvent::Failed { dialog, code: c, .. } if dialog == out && c == code), "{event:?}");
    }
    let out = a.agent.dial(dial(&b, "401", "")).await.unwrap();
    assert!(matches!(a.next().await, SipEvent::Failed { dialog, code: 404, .. } if dialog == out));
    let out = a.agent.dial(dial(&b, "400", "")).await.unwrap();
    let into = b.called().await;
    b.agent.hangup(into).await;
    assert!(matches!(a.next().await, SipEvent::Failed { dialog, code: 487, .. } if dialog == out));
    a.settled().await;
    b.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_too_many_is_told_when_to_come_back() {
    let mut a = Side::new(settings()).await;
    let mut b = Side::new(SipSettings { max_calls: 1, ..settings() }).await;
    let (out, _) = connected(&mut a, &mut b, "").await;
    let client = Client::new(b.agent.local_addr()).await;
    client.send(&client.request("INVITE", "400", "second", 1, "", "", OFFER)).await;
    let answer = client.final_answer().await;
    assert!(answer.starts_with("SIP/2.0 503") && answer.contains("\r\nRetry-After: "), "{answer}");
    a.agent.hangup(out).await;
    a.settled().await;
    b.settled().await;
    assert_eq!(a.next().await, SipEvent::Ended { dialog: out, why: EndWhy::HungUp });
    assert!(matches!(b.next().await, SipEvent::Bye { .. }));
    let (out, _) = connected(&mut a, &mut b, "").await;
    a.agent.hangup(out).await;
    a.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_agent_says_503_and_a_shut_one_hangs_up() {
    let (mut a, mut b) = pair().await;
    let (out, into) = connected(&mut a, &mut b, "").await;
    b.agent.drain();
    let client = Client::new(b.agent.local_addr()).await;
    client.send(&client.request("OPTIONS", "400", "ping", 1, "", "", "")).await;
    assert!(client.final_answer().await.starts_with("SIP/2.0 503"));
    b.agent.shutdown().await;
    assert_eq!(a.next().await, SipEvent::Bye { dialog: out });
    assert_eq!(b.next().await, SipEvent::Ended { dialog: into, why: EndWhy::HungUp });
    a.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_is_named() {
    let a = Side::new(settings()).await;
    let error = SipAgent::start(SipSettings { bind: a.agent.local_addr(), ..settings() }).await.err().unwrap();
    let port = a.agent.local_addr().port();
    assert!(matches!(error, SipError::PortTaken { port: p, .. } if p == port));
    assert!(error.to_string().contains(&port.to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_offer_is_made_in_the_200_and_answered_in_the_ack() {
    let mut b = Side::new(settings()).await;
    let c = Client::new(b.agent.local_addr()).await;
    c.send(&c.request("INVITE", "400", "late", 1, "", "", "")).await;
    let SipEvent::Invite { dialog, sdp, to_user, from_user, source, .. } = b.next().await else { panic!("a call") };
    assert_eq!((sdp, to_user.as_str(), from_user.as_str()), (None, "400", "c"));
    assert_eq!(source, c.socket.local_addr().unwrap());
    b.agent.answer(dialog, OFFER.into()).await;
    let ok = c.final_answer().await;
    assert!(ok.starts_with("SIP/2.0 200") && ok.ends_with(OFFER), "{ok}");
    c.send(&c.request("ACK", "400", "late", 1, &tag_of(&ok), "", ANSWER)).await;
    assert_eq!(b.next().await, SipEvent::Ack { dialog, sdp: Some(ANSWER.into()) });
    let dtmf = "Content-Type: application/dtmf\r\n";
    let mut info = c.request("INFO", "400", "late", 2, &tag_of(&ok), dtmf, "");
    info = info.replace("Content-Length: 0", "Content-Length: 1") + "9";
    c.send(&info).await;
    assert!(c.final_answer().await.starts_with("SIP/2.0 200"));
    assert_eq!(b.next().await, SipEvent::Info { dialog, key: Some('9'), record: None });
    c.send(&c.request("BYE", "400", "late", 3, &tag_of(&ok), "", "")).await;
    assert!(c.final_answer().await.starts_with("SIP/2.0 200"));
    assert_eq!(b.next().await, SipEvent::Bye { dialog });
    // The BYE's retransmission is answered as the first was.
    c.send(&c.request("BYE", "400", "late", 3, &tag_of(&ok), "", "")).await;
    assert!(c.final_answer().await.starts_with("SIP/2.0 200"));
    b.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_when_to_come_back_and_is_repeated_until_confirmed() {
    let mut b = Side::new(SipSettings { t1: Duration::from_millis(50), ..settings() }).await;
    let c = Client::new(b.agent.local_addr()).await;
    // A datagram far above what the library's own socket would take whole.
    let long = format!("{OFFER}{}", "a=x-padding:0123456789012345678901234567890123456789\r\n".repeat(500));
    let invite = c.request("INVITE", "400", "no", 1, "", "", &long);
    c.send(&invite).await;
    let SipEvent::Invite { dialog, sdp, .. } = b.next().await else { panic!("a call") };
    assert_eq!(sdp, Some(long));
    b.agent.reject(dialog, 486, Some(7)).await;
    let busy = c.final_answer().await;
    assert!(busy.starts_with("SIP/2.0 486") && header(&busy, "Retry-After") == "7", "{busy}");
    assert_eq!(c.final_answer().await, busy, "it comes again");
    let branch = header(&invite, "Via").to_string();
    let ack = c.request("ACK", "400", "no", 1, &tag_of(&busy), "", "");
    let own = header(&ack, "Via").to_string();
    c.send(&ack.replace(&own, &branch)).await;
    tokio::time::timeout(Duration::from_millis(60), c.hear()).await.ok(); // one may be on its way
    assert!(c.hears_nothing(500).await, "it goes on after the ACK");
    b.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_nobody_reads_events_new_calls_are_sent_away() {
    let b = Side::new(SipSettings { event_queue: 1, ..settings() }).await;
    let c = Client::new(b.agent.local_addr()).await;
    c.send(&c.request("INVITE", "400", "one", 1, "", "", OFFER)).await;
    assert!(c.hear().await.starts_with("SIP/2.0 100"));
    c.send(&c.request("INVITE", "400", "two", 1, "", "", OFFER)).await;
    let full = c.final_answer().await;
    assert!(full.starts_with("SIP/2.0 503") && !header(&full, "Retry-After").is_empty(), "{full}");
    assert_eq!(b.agent.counters().calls, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_agents_talk_over_ipv6() {
    let v6 = || SipSettings { bind: "[::1]:0".parse().unwrap(), ..SipSettings::default() };
    if UdpSocket::bind("[::1]:0").await.is_err() {
        crate::common::skipped("this machine has no IPv6 loopback");
        return;
    }
    let any = || SipSettings { bind: "[::]:0".parse().unwrap(), ..SipSettings::default() };
    for (more, all) in [("", false), (";transport=tcp", false), ("", true), (";transport=tcp", true)] {
        let (mut a, mut b) = (Side::new(if all { any() } else { v6() }).await, Side::new(v6()).await);
        let (out, into) = connected(&mut a, &mut b, more).await;
        b.agent.hangup(into).await;
        assert_eq!(a.next().await, SipEvent::Bye { dialog: out });
        a.settled().await;
        b.settled().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_nobody_confirms_is_repeated_and_then_hung_up() {
    let mut b = Side::new(SipSettings { t1: Duration::from_millis(10), ..settings() }).await;
    let c = Client::new(b.agent.local_addr()).await;
    let invite = c.request("INVITE", "400", "noack", 1, "", "", OFFER);
    c.send(&invite).await;
    let dialog = b.called().await;
    c.send(&invite).await; // a retransmission is no second call
    b.agent.answer(dialog, ANSWER.into()).await;
    let first = c.final_answer().await;
    assert_eq!(c.final_answer().await, first, "the 200 comes again");
    assert_eq!(b.next().await, SipEvent::Ended { dialog, why: EndWhy::NoAck });
    assert!(c.request_heard().await.starts_with("BYE "));
    assert_eq!(b.agent.counters().calls_in, 1);
    b.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_crosses_our_cancel_is_hung_up() {
    let mut a = Side::new(settings()).await;
    let mut slow = Client::new(a.agent.local_addr()).await;
    let me = slow.socket.local_addr().unwrap();
    let call = Dial { to: format!("sip:8001@{me}"), from: "400".into(), sdp: OFFER.into(), ..Dial::default() };
    let out = a.agent.dial(call).await.unwrap();
    let invite = slow.request_heard().await;
    slow.to = a.agent.local_addr();
    let reply = |to: &str, request: &str, status: &str, sdp: &str| {
        let kind = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let of = |name| header(request, name).to_string();
        format!(
            "SIP/2.0 {status}\r\nVia: {}\r\nFrom: {}\r\nTo: {}{to}\r\nCall-ID: {}\r\nCSeq: {}\r\n\
             Contact: <sip:8001@{me}>\r\n{kind}Content-Length: {}\r\n\r\n{sdp}",
            of("Via"),
            of("From"),
            of("To"),
            of("Call-ID"),
            of("CSeq"),
            sdp.len()
        )
    };
    slow.send(&reply(";tag=s", &invite, "180 Ringing", "")).await;
    assert!(matches!(a.next().await, SipEvent::Progress { code: 180, .. }));
    a.agent.hangup(out).await;
    let cancel = slow.request_heard().await;
    assert!(cancel.starts_with("CANCEL "), "{cancel}");
    slow.send(&reply(";tag=s", &invite, "200 OK", ANSWER)).await;
    slow.send(&reply(";tag=s", &cancel, "200 OK", "")).await;
    let bye = loop {
        let request = slow.request_heard().await;
        if request.starts_with("BYE ") {
            break request;
        }
        assert!(request.starts_with("ACK ") || request.starts_with("CANCEL "), "{request}");
    };
    slow.send(&reply("", &bye, "200 OK", "")).await;
    a.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bye_before_the_answer_ends_the_invite_too() {
    let mut b = Side::new(settings()).await;
    let c = Client::new(b.agent.local_addr()).await;
    c.send(&c.request("INVITE", "400", "early", 1, "", "", OFFER)).await;
    let dialog = b.called().await;
    b.agent.ring(dialog).await;
    let ringing = loop {
        let text = c.hear().await;
        if text.starts_with("SIP/2.0 180") {
            break text;
        }
    };
    c.send(&c.request("BYE", "400", "early", 2, &tag_of(&ringing), "", "")).await;
    let mut codes = vec![c.final_answer().await[8..11].to_string(), c.final_answer().await[8..11].to_string()];
    codes.sort();
    assert_eq!(codes, ["200", "487"]);
    assert_eq!(b.next().await, SipEvent::Bye { dialog });
    b.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_of_rfc_2543_gets_back_the_from_it_sent() {
    let mut b = Side::new(settings()).await;
    let c = Client::new(b.agent.local_addr()).await;
    let old = c.request("INVITE", "400", "old", 1, "", "", OFFER).replace(";tag=fold", "");
    c.send(&old).await;
    let dialog = b.called().await;
    b.agent.answer(dialog, ANSWER.into()).await;
    let ok = c.final_answer().await;
    assert!(!header(&ok, "From").contains("tag"), "{ok}");
    c.send(&c.request("ACK", "400", "old", 1, &tag_of(&ok), "", "").replace(";tag=fold", "")).await;
    assert_eq!(b.next().await, SipEvent::Ack { dialog, sdp: None });
    b.agent.hangup(dialog).await;
    let bye = c.request_heard().await;
    assert!(bye.starts_with("BYE "));
    let ok = format!(
        "SIP/2.0 200 OK\r\nVia: {}\r\nFrom: {}\r\nTo: {}\r\nCall-ID: old\r\nCSeq: {}\r\nContent-Length: 0\r\n\r\n",
        header(&bye, "Via"),
        header(&bye, "From"),
        header(&bye, "To"),
        header(&bye, "CSeq")
    );
    c.send(&ok).await;
    b.settled().await;
}

/// Answers every call until it hears the end of the agent.
fn answer_all(agent: SipAgent, mut events: Receiver<SipEvent>) {
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let SipEvent::Invite { dialog, .. } = event {
                agent.ring(dialog).await;
                agent.answer(dialog, ANSWER.into()).await;
            }
        }
    });
}

/// Runs sipp's built-in caller; `None` when sipp is not installed.
async fn sipp(to: SocketAddr, calls: u32, more: &[&str]) -> Option<std::process::Output> {
    let dir = tempfile::tempdir().unwrap();
    let run = tokio::process::Command::from(crate::common::relays::tied("sipp", "sip-tester")?)
        .args(["-sn", "uac", "-nostdin", "-i", "127.0.0.1", "-r", "50", "-timeout", "60s", "-timeout_error"])
        .args(["-m", &calls.to_string()])
        .args(more)
        .arg(to.to_string())
        .env("TERM", "dumb")
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let done = tokio::time::timeout(Duration::from_secs(90), run).await;
    Some(done.expect("sipp ends").expect("it is installed"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sipp_places_200_calls_over_udp_and_20_over_tcp_and_nothing_is_left() {
    for (calls, more) in [(200u32, &[][..]), (20, &["-t", "t1"][..])] {
        let Side { agent, events } = Side::new(settings()).await;
        answer_all(agent.clone(), events);
        let Some(out) = sipp(agent.local_addr(), calls, more).await else { return };
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{:?} {said}\n{}", out.status, String::from_utf8_lossy(&out.stdout));
        assert_eq!(agent.counters().calls_in, u64::from(calls));
        let left = || agent.counters().calls + agent.counters().dialogs;
        crate::common::until("no call and no dialog is left", || left() == 0).await;
        assert_eq!(agent.counters().panics, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_on_every_address_is_called_by_ipv4_and_ipv6_over_udp_and_tcp() {
    let any = SipSettings { bind: "[::]:0".parse().unwrap(), ..SipSettings::default() };
    if UdpSocket::bind("[::1]:0").await.is_err() {
        crate::common::skipped("this machine has no IPv6 loopback");
        return;
    }
    let mut b = Side::new(any).await;
    let port = b.agent.local_addr().port();
    for (mine, theirs) in [("[::1]:0", "[::1]"), ("127.0.0.1:0", "127.0.0.1")] {
        for tcp in [false, true] {
            let mut a = Side::new(SipSettings { bind: mine.parse().unwrap(), ..SipSettings::default() }).await;
            let transport = if tcp { ";transport=tcp" } else { "" };
            let to = format!("sip:400@{theirs}:{port}{transport}");
            let out = a.agent.dial(Dial { to, ..dial(&b, "400", "") }).await.unwrap();
            let into = b.called().await;
            b.agent.answer(into, ANSWER.into()).await;
            assert_eq!(a.next().await, SipEvent::Answered { dialog: out, sdp: Some(ANSWER.into()) });
            assert_eq!(b.next().await, SipEvent::Ack { dialog: into, sdp: None }, "{theirs} tcp {tcp}");
            match tcp {
                true => a.agent.hangup(out).await,
                false => b.agent.hangup(into).await,
            }
            let (ended, left) = if tcp { (b.next().await, into) } else { (a.next().await, out) };
            assert_eq!(ended, SipEvent::Bye { dialog: left }, "{theirs} tcp {tcp}");
            let (side, dialog) = if tcp { (&mut a, out) } else { (&mut b, into) };
            assert_eq!(side.next().await, SipEvent::Ended { dialog, why: EndWhy::HungUp });
            a.settled().await;
        }
    }
    b.settled().await;
}
