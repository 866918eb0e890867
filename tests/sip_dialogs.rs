//! What dialogs promise each other: reliable ringing, sessions that are refreshed, changes before and after the answer.

use crate::common::sip::*;
use std::time::Duration;
use zongji::sip::*;

/// The next response whose status begins so.
async fn response(c: &Client, status: &str) -> String {
    loop {
        let text = c.hear().await;
        if text.starts_with(&format!("SIP/2.0 {status}")) {
            return text;
        }
    }
}

/// Short times: T1 20 ms, a session of 3 s.
fn quick() -> SipSettings {
    SipSettings { t1: Duration::from_millis(20), session_expires_s: 3, session_min_s: 2, ..settings() }
}

/// A response to a request of the agent's, with our Contact.
fn reply(c: &Client, request: &str, status: &str, to_tag: &str, more: &str, sdp: &str) -> String {
    let me = c.socket.local_addr().unwrap();
    let kind = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    let to = header(request, "To");
    let tag = if to.contains(";tag=") { "" } else { to_tag };
    let kept = ["Via", "From", "Call-ID", "CSeq"].map(|n| format!("{n}: {}\r\n", header(request, n))).concat();
    format!(
        "SIP/2.0 {status}\r\n{kept}To: {to}{tag}\r\nContact: <sip:8001@{me}>\r\n{more}{kind}Content-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    )
}

/// A request of ours inside a call that the agent placed: From and To change sides.
fn inside(c: &Client, invite: &str, method: &str, cseq: u32, tag: &str, more: &str, sdp: &str) -> String {
    let me = c.socket.local_addr().unwrap();
    let kind = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "{method} sip:x@{} SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch=z9hG4bKin{method}{cseq}{}\r\nFrom: {}{tag}\r\n\
         To: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\nContact: <sip:8001@{me}>\r\nMax-Forwards: 70\r\n\
         {more}{kind}Content-Length: {}\r\n\r\n{sdp}",
        c.to,
        &tag[1..].replace('=', ""),
        header(invite, "To"),
        header(invite, "From"),
        header(invite, "Call-ID"),
        sdp.len()
    )
}

/// A call that the agent places to a hand-written phone; its INVITE.
async fn placed(a: &Side) -> (Client, DialogId, String) {
    let c = Client::new(a.agent.local_addr()).await;
    let to = format!("sip:8001@{}", c.socket.local_addr().unwrap());
    let out = a.agent.dial(Dial { to, ..dial(a, "8001", "") }).await.unwrap();
    let invite = c.request_heard().await;
    (c, out, invite)
}

// ---- RFC 3262

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reliable_ringing_is_repeated_until_its_prack_and_the_answer_waits_for_early_media() {
    let mut b = Side::new(quick()).await;
    let c = Client::new(b.agent.local_addr()).await;
    c.send(&c.request("INVITE", "400", "rel", 1, "", "Supported: 100rel\r\n", OFFER)).await;
    let dialog = b.called().await;
    b.agent.progress(dialog, ANSWER.into()).await;
    let early = response(&c, "183").await;
    assert!(early.ends_with(ANSWER) && header(&early, "Require") == "100rel", "{early}");
    assert_eq!(response(&c, "183").await, early, "it comes again");
    b.agent.ring(dialog).await;
    b.agent.answer(dialog, ANSWER.into()).await;
    let (tag, rseq) = (tag_of(&early), header(&early, "RSeq").parse::<u32>().unwrap());
    let prack = async |cseq: u32, rack: &str| {
        c.send(&c.request("PRACK", "400", "rel", cseq, &tag, &format!("RAck: {rack}\r\n"), "")).await;
        loop {
            let text = c.final_answer().await;
            if header(&text, "CSeq") == format!("{cseq} PRACK") {
                return text[8..11].to_string();
            }
        }
    };
    assert_eq!(prack(2, &format!("{} 1 INVITE", rseq + 7)).await, "481");
    assert_eq!(prack(3, &format!("{rseq} 9 INVITE")).await, "481");
    assert_eq!(prack(4, &format!("{rseq} 1 INVITE")).await, "200");
    let ok = response(&c, "200").await;
    assert!(header(&ok, "CSeq") == "1 INVITE" && ok.ends_with(ANSWER), "{ok}");
    c.send(&c.request("ACK", "400", "rel", 1, &tag, "", "")).await;
    assert_eq!(b.next().await, SipEvent::Ack { dialog, sdp: None });
    b.agent.hangup(dialog).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reliable_response_that_nobody_acknowledges_ends_the_call_with_504() {
    let mut b = Side::new(SipSettings { t1: Duration::from_millis(5), ..settings() }).await;
    let c = Client::new(b.agent.local_addr()).await;
    c.send(&c.request("INVITE", "400", "deaf", 1, "", "Require: 100rel\r\n", OFFER)).await;
    let dialog = b.called().await;
    b.agent.ring(dialog).await;
    let first = response(&c, "180").await;
    let mut rings = 1;
    let end = loop {
        let text = c.hear().await;
        if text.starts_with("SIP/2.0 504") {
            break text;
        }
        assert_eq!(text, first);
        rings += 1;
    };
    assert!((5..=8).contains(&rings), "{rings} times in 64*T1");
    assert_eq!(b.next().await, SipEvent::Ended { dialog, why: EndWhy::NoAck });
    c.send(&c.request("ACK", "400", "deaf", 1, &tag_of(&end), "", "")).await;
    b.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_required_is_refused() {
    let b = Side::new(quick()).await;
    let c = Client::new(b.agent.local_addr()).await;
    c.send(&c.request("INVITE", "400", "odd", 1, "", "Require: 100rel, precondition\r\n", OFFER)).await;
    let bad = c.final_answer().await;
    assert!(bad.starts_with("SIP/2.0 420") && header(&bad, "Unsupported") == "precondition", "{bad}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_pracks_come_in_order_and_every_later_request_has_a_higher_number() {
    let mut a = Side::new(quick()).await;
    let (c, out, invite) = placed(&a).await;
    assert!(header(&invite, "Supported").contains("100rel"), "{invite}");
    let reliable = |rseq: u32| format!("Require: 100rel\r\nRSeq: {rseq}\r\n");
    c.send(&reply(&c, &invite, "183 Progress", ";tag=one", &reliable(7), ANSWER)).await;
    assert_eq!(a.next().await, SipEvent::Progress { dialog: out, code: 183, sdp: Some(ANSWER.into()) });
    let prack = c.request_heard().await;
    let number: u32 = header(&invite, "CSeq").split(' ').next().unwrap().parse().unwrap();
    assert!(prack.starts_with("PRACK ") && header(&prack, "To").ends_with(";tag=one"), "{prack}");
    assert_eq!(header(&prack, "RAck"), format!("7 {number} INVITE"));
    assert_eq!(header(&prack, "CSeq"), format!("{} PRACK", number + 1));
    c.send(&reply(&c, &prack, "200 OK", "", "", "")).await;
    // One is missing before this one: it is not acknowledged, and not told.
    c.send(&reply(&c, &invite, "180 Ringing", ";tag=one", &reliable(9), "")).await;
    c.send(&reply(&c, &invite, "180 Ringing", ";tag=one", &reliable(8), "")).await;
    let second = c.request_heard().await;
    assert_eq!(header(&second, "RAck"), format!("8 {number} INVITE"));
    assert_eq!(header(&second, "CSeq"), format!("{} PRACK", number + 2));
    c.send(&reply(&c, &second, "200 OK", "", "", "")).await;
    assert_eq!(a.next().await, SipEvent::Progress { dialog: out, code: 180, sdp: None });
    c.send(&reply(&c, &invite, "200 OK", ";tag=one", "", ANSWER)).await;
    assert_eq!(a.next().await, SipEvent::Answered { dialog: out, sdp: Some(ANSWER.into()) });
    let ack = c.request_heard().await;
    assert_eq!(header(&ack, "CSeq"), format!("{number} ACK"));
    let agent = a.agent.clone();
    let again = tokio::spawn(async move { agent.reinvite(out, OFFER.into()).await });
    let change = c.request_heard().await;
    assert_eq!(header(&change, "CSeq"), format!("{} INVITE", number + 3));
    c.send(&reply(&c, &change, "200 OK", "", "", ANSWER)).await;
    assert_eq!(again.await.unwrap(), Ok(ANSWER.to_string()));
    let ack = c.request_heard().await;
    assert_eq!(header(&ack, "CSeq"), format!("{} ACK", number + 3), "{ack}");
    c.send(&reply(&c, &change, "200 OK", "", "", ANSWER)).await;
    assert_eq!(c.request_heard().await, ack, "the same again for a repeated 200");
    a.agent.hangup(out).await;
    let bye = c.request_heard().await;
    assert_eq!(header(&bye, "CSeq"), format!("{} BYE", number + 4));
    c.send(&reply(&c, &bye, "200 OK", "", "", "")).await;
    a.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_agents_ring_reliably_over_udp_and_tcp() {
    for more in ["", ";transport=tcp"] {
        let (mut a, mut b) = (Side::new(settings()).await, Side::new(settings()).await);
        let out = a.agent.dial(dial(&b, "400", more)).await.unwrap();
        let into = b.called().await;
        b.agent.progress(into, ANSWER.into()).await;
        b.agent.answer(into, ANSWER.into()).await;
        assert_eq!(a.next().await, SipEvent::Progress { dialog: out, code: 183, sdp: Some(ANSWER.into()) });
        assert_eq!(a.next().await, SipEvent::Answered { dialog: out, sdp: Some(ANSWER.into()) });
        assert_eq!(b.next().await, SipEvent::Ack { dialog: into, sdp: None });
        a.agent.info_dtmf(out, '5').await.unwrap();
        assert_eq!(b.next().await, SipEvent::Info { dialog: into, key: Some('5'), record: None });
        a.agent.hangup(out).await;
        assert_eq!(b.next().await, SipEvent::Bye { dialog: into });
        a.settled().await;
        b.settled().await;
    }
}

// ---- RFC 4028

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_stops_refreshing_is_hung_up() {
    let mut b = Side::new(quick()).await;
    let c = Client::new(b.agent.local_addr()).await;
    let wish = "Supported: timer\r\nSession-Expires: 3\r\n";
    c.send(&c.request("INVITE", "400", "timer", 1, "", wish, OFFER)).await;
    let dialog = b.called().await;
    b.agent.answer(dialog, ANSWER.into()).await;
    let ok = c.final_answer().await;
    assert_eq!((header(&ok, "Session-Expires"), header(&ok, "Require")), ("3;refresher=uac", "timer"), "{ok}");
    let tag = tag_of(&ok);
    c.send(&c.request("ACK", "400", "timer", 1, &tag, "", "")).await;
    assert_eq!(b.next().await, SipEvent::Ack { dialog, sdp: None });
    let begun = tokio::time::Instant::now();
    assert!(c.hears_nothing(1500).await, "nobody is hung up early");
    c.send(&c.request("UPDATE", "400", "timer", 2, &tag, wish, "")).await;
    let ok = c.final_answer().await;
    assert!(ok.starts_with("SIP/2.0 200") && header(&ok, "Session-Expires") == "3;refresher=uac", "{ok}");
    assert!(header(&ok, "Contact").contains("sip:400@"), "an UPDATE's answer names our target: {ok}");
    assert_eq!(b.next().await, SipEvent::Ended { dialog, why: EndWhy::Expired });
    let lasted = begun.elapsed().as_millis();
    assert!((3300..4500).contains(&lasted), "1.5 s, then 3 s less a third: {lasted} ms");
    assert!(c.request_heard().await.starts_with("BYE "));
    b.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_refresh_by_update_or_by_an_offer_that_changes_nothing() {
    for allow in ["INVITE, ACK, BYE, UPDATE", "INVITE, ACK, BYE"] {
        let mut b = Side::new(quick()).await;
        let c = Client::new(b.agent.local_addr()).await;
        let wish = format!("Supported: timer\r\nSession-Expires: 2;refresher=uas\r\nAllow: {allow}\r\n");
        c.send(&c.request("INVITE", "400", "ours", 1, "", &wish, OFFER)).await;
        let dialog = b.called().await;
        b.agent.answer(dialog, ANSWER.into()).await;
        let ok = c.final_answer().await;
        assert_eq!((header(&ok, "Session-Expires"), header(&ok, "Require")), ("2;refresher=uas", ""), "{ok}");
        c.send(&c.request("ACK", "400", "ours", 1, &tag_of(&ok), "", "")).await;
        assert_eq!(b.next().await, SipEvent::Ack { dialog, sdp: None });
        for _ in 0..2 {
            let refresh = c.request_heard().await;
            assert_eq!(header(&refresh, "Session-Expires"), "2;refresher=uac", "{refresh}");
            match allow.contains("UPDATE") {
                true => assert!(refresh.starts_with("UPDATE ") && refresh.ends_with("\r\n\r\n"), "{refresh}"),
                false => assert!(refresh.starts_with("INVITE ") && refresh.ends_with(ANSWER), "{refresh}"),
            }
            let body = if allow.contains("UPDATE") { "" } else { OFFER };
            c.send(&reply(&c, &refresh, "200 OK", "", "Session-Expires: 2;refresher=uac\r\n", body)).await;
            if !body.is_empty() {
                assert!(c.request_heard().await.starts_with("ACK "));
            }
        }
        let lost = loop {
            let refresh = c.request_heard().await;
            if refresh.starts_with("UPDATE ") || refresh.starts_with("INVITE ") {
                break refresh;
            }
        };
        c.send(&reply(&c, &lost, "481 Gone", "", "", "")).await;
        assert_eq!(b.next().await, SipEvent::Ended { dialog, why: EndWhy::Expired });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_short_a_session_is_refused_both_ways_and_asked_for_again() {
    let b = Side::new(SipSettings { session_min_s: 90, ..settings() }).await;
    let c = Client::new(b.agent.local_addr()).await;
    let wish = "Supported: timer\r\nSession-Expires: 60\r\n";
    c.send(&c.request("INVITE", "400", "brief", 1, "", wish, OFFER)).await;
    let refused = c.final_answer().await;
    assert!(refused.starts_with("SIP/2.0 422") && header(&refused, "Min-SE") == "90", "{refused}");
    assert_eq!(b.agent.counters().calls, 0);

    let mut a = Side::new(settings()).await;
    let (c, out, invite) = placed(&a).await;
    assert_eq!((header(&invite, "Session-Expires"), header(&invite, "Min-SE")), ("1800", "90"), "{invite}");
    c.send(&reply(&c, &invite, "422 Too Small", ";tag=x", "Min-SE: 3600\r\n", "")).await;
    let again = loop {
        let text = c.request_heard().await;
        if text.starts_with("INVITE ") {
            break text;
        }
        assert!(text.starts_with("ACK "), "{text}");
    };
    assert_eq!((header(&again, "Session-Expires"), header(&again, "Min-SE")), ("3600", "3600"), "{again}");
    assert_eq!(header(&again, "Call-ID"), header(&invite, "Call-ID"));
    let timer = "Require: timer\r\nSession-Expires: 3600;refresher=uac\r\n";
    c.send(&reply(&c, &again, "200 OK", ";tag=y", timer, ANSWER)).await;
    assert_eq!(a.next().await, SipEvent::Answered { dialog: out, sdp: Some(ANSWER.into()) });
    assert!(c.request_heard().await.starts_with("ACK "));
    a.agent.hangup(out).await;
    let bye = c.request_heard().await;
    c.send(&reply(&c, &bye, "200 OK", "", "", "")).await;
    a.settled().await;
}

// ---- RFC 3311, RFC 3261 sections 13.2.2.4 and 14

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_changes_the_session_before_the_answer_only_after_one_offer_was_answered() {
    let mut b = Side::new(quick()).await;
    let c = Client::new(b.agent.local_addr()).await;
    c.send(&c.request("INVITE", "400", "upd", 1, "", "Supported: 100rel\r\n", OFFER)).await;
    let dialog = b.called().await;
    b.agent.progress(dialog, ANSWER.into()).await;
    let early = response(&c, "183").await;
    let tag = tag_of(&early);
    let say = async |method: &str, cseq: u32, more: &str, sdp: &str| {
        c.send(&c.request(method, "400", "upd", cseq, &tag, more, sdp)).await;
    };
    let heard = async |method: &str, cseq: u32| loop {
        let text = c.final_answer().await;
        if header(&text, "CSeq") == format!("{cseq} {method}") {
            return text;
        }
    };
    say("UPDATE", 2, "", OFFER).await;
    let hasty = heard("UPDATE", 2).await;
    assert!(hasty.starts_with("SIP/2.0 500") && !header(&hasty, "Retry-After").is_empty(), "{hasty}");
    let rack = format!("RAck: {} 1 INVITE\r\n", header(&early, "RSeq"));
    say("PRACK", 3, &rack, "").await;
    assert!(heard("PRACK", 3).await.starts_with("SIP/2.0 200"));
    say("UPDATE", 4, "", OFFER).await;
    let SipEvent::Reinvite { request, sdp, .. } = b.next().await else { panic!("a change") };
    assert_eq!(sdp.as_deref(), Some(OFFER));
    b.agent.answer_reinvite(dialog, request, Ok(ANSWER.into())).await;
    let ok = heard("UPDATE", 4).await;
    assert!(ok.starts_with("SIP/2.0 200") && ok.ends_with(ANSWER), "{ok}");
    b.agent.answer(dialog, ANSWER.into()).await;
    let ok = response(&c, "200").await;
    c.send(&c.request("ACK", "400", "upd", 1, &tag_of(&ok), "", "")).await;
    assert_eq!(b.next().await, SipEvent::Ack { dialog, sdp: None });
    say("UPDATE", 5, "", OFFER).await;
    let SipEvent::Reinvite { request, .. } = b.next().await else { panic!("a change") };
    b.agent.answer_reinvite(dialog, request, Err(488)).await;
    assert!(heard("UPDATE", 5).await.starts_with("SIP/2.0 488"));
    say("UPDATE", 3, "", "").await;
    assert!(heard("UPDATE", 3).await.starts_with("SIP/2.0 500"), "an old number");
    b.agent.hangup(dialog).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_callee_may_update_before_it_answers() {
    let mut a = Side::new(quick()).await;
    let (c, out, invite) = placed(&a).await;
    let update = |cseq: u32| inside(&c, &invite, "UPDATE", cseq, ";tag=one", "", OFFER);
    c.send(&reply(&c, &invite, "180 Ringing", ";tag=one", "", "")).await;
    assert!(matches!(a.next().await, SipEvent::Progress { code: 180, .. }));
    c.send(&update(100)).await;
    assert!(response(&c, "491").await.contains("100 UPDATE"), "our offer is open");
    c.send(&reply(&c, &invite, "183 Progress", ";tag=one", "Require: 100rel\r\nRSeq: 1\r\n", ANSWER)).await;
    assert!(matches!(a.next().await, SipEvent::Progress { code: 183, .. }));
    c.send(&update(101)).await;
    let SipEvent::Reinvite { request, .. } = a.next().await else { panic!("a change") };
    a.agent.answer_reinvite(out, request, Ok(ANSWER.into())).await;
    let ok = response(&c, "200").await;
    assert!(ok.contains("101 UPDATE") && ok.ends_with(ANSWER), "{ok}");
    a.agent.hangup(out).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_both_sides_ask_at_once_we_wait_and_ask_again() {
    let (mut a, mut b) = (Side::new(settings()).await, Side::new(settings()).await);
    let (out, into) = connected(&mut a, &mut b, "").await;
    let (one, two) = (a.agent.clone(), b.agent.clone());
    let begun = tokio::time::Instant::now();
    let first = tokio::spawn(async move { one.reinvite(out, OFFER.into()).await });
    let second = tokio::spawn(async move { two.reinvite(into, OFFER.into()).await });
    let answer = |agent: SipAgent, mut events: tokio::sync::mpsc::Receiver<SipEvent>| {
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let SipEvent::Reinvite { dialog, request, .. } = event {
                    agent.answer_reinvite(dialog, request, Ok(ANSWER.into())).await;
                }
            }
        })
    };
    let (here, there) = (answer(a.agent.clone(), a.events), answer(b.agent.clone(), b.events));
    assert_eq!(first.await.unwrap(), Ok(ANSWER.to_string()));
    assert_eq!(second.await.unwrap(), Ok(ANSWER.to_string()));
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    a.agent.hangup(out).await;
    here.abort();
    there.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_forked_call_the_first_answer_counts_and_the_second_is_hung_up() {
    let mut a = Side::new(settings()).await;
    let (c, out, invite) = placed(&a).await;
    for tag in [";tag=left", ";tag=right"] {
        c.send(&reply(&c, &invite, "180 Ringing", tag, "", "")).await;
        assert_eq!(a.next().await, SipEvent::Progress { dialog: out, code: 180, sdp: None });
    }
    c.send(&reply(&c, &invite, "200 OK", ";tag=left", "", ANSWER)).await;
    assert_eq!(a.next().await, SipEvent::Answered { dialog: out, sdp: Some(ANSWER.into()) });
    assert!(header(&c.request_heard().await, "To").ends_with(";tag=left"));
    c.send(&reply(&c, &invite, "200 OK", ";tag=right", "", ANSWER)).await;
    let (ack, bye) = (c.request_heard().await, c.request_heard().await);
    assert!(ack.starts_with("ACK ") && header(&ack, "To").ends_with(";tag=right"), "{ack}");
    assert!(bye.starts_with("BYE ") && header(&bye, "To").ends_with(";tag=right"), "{bye}");
    c.send(&reply(&c, &bye, "200 OK", "", "", "")).await;
    a.agent.hangup(out).await;
    let bye = c.request_heard().await;
    assert!(bye.starts_with("BYE ") && header(&bye, "To").ends_with(";tag=left"), "{bye}");
    c.send(&reply(&c, &bye, "200 OK", "", "", "")).await;
    a.settled().await;
}
