//! Requests inside a dialog, whenever they come.

use crate::common::sip::*;
use std::time::Duration;
use zongji::sip::*;

/// The caller's first provisional response with a tag.
async fn ringing(c: &Client) -> String {
    loop {
        let text = c.hear().await;
        if text.starts_with("SIP/2.0 180") {
            return text;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_and_its_invite_are_answered_with_the_tag_it_rang_with() {
    let mut b = Side::new(settings()).await;
    let c = Client::new(b.agent.local_addr()).await;
    c.send(&c.request("INVITE", "400", "gone", 1, "", "", OFFER)).await;
    let dialog = b.called().await;
    b.agent.ring(dialog).await;
    let tag = tag_of(&ringing(&c).await);
    c.send(&c.request("CANCEL", "400", "gone", 1, "", "", "")).await;
    let (one, two) = (c.final_answer().await, c.final_answer().await);
    let mut heard: Vec<_> = [&one, &two].map(|t| (header(t, "CSeq"), &t[8..11], tag_of(t))).into();
    heard.sort();
    assert_eq!(heard, [("1 CANCEL", "200", tag.clone()), ("1 INVITE", "487", tag)]);
    assert_eq!(b.next().await, SipEvent::Cancelled { dialog });
    b.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_before_the_answer_and_before_the_ack_are_answered_and_end_nothing() {
    let mut b = Side::new(settings()).await;
    let c = Client::new(b.agent.local_addr()).await;
    c.send(&c.request("INVITE", "400", "hasty", 1, "", "", OFFER)).await;
    let dialog = b.called().await;
    b.agent.ring(dialog).await;
    let tag = tag_of(&ringing(&c).await);
    let ask = async |method: &str, cseq: u32, more: &str, sdp: &str| {
        c.send(&c.request(method, "400", "hasty", cseq, &tag, more, sdp)).await;
        loop {
            let text = c.final_answer().await;
            if header(&text, "CSeq") == format!("{cseq} {method}") {
                return text;
            }
        }
    };
    let early = ask("INVITE", 2, "", OFFER).await;
    assert!(early.starts_with("SIP/2.0 500") && !header(&early, "Retry-After").is_empty(), "{early}");
    c.send(&c.request("CANCEL", "400", "hasty", 2, &tag, "", "")).await;
    assert!(c.final_answer().await.contains(" 2 "));
    assert!(ask("OPTIONS", 3, "", "").await.starts_with("SIP/2.0 200"));
    assert!(ask("INFO", 4, "", "").await.starts_with("SIP/2.0 500"));
    b.agent.answer(dialog, ANSWER.into()).await;
    assert!(ask("INVITE", 5, "", OFFER).await.starts_with("SIP/2.0 491"));
    let key = c.request("INFO", "400", "hasty", 6, &tag, "Content-Type: application/dtmf\r\n", "");
    c.send(&(key.replace("Content-Length: 0", "Content-Length: 1") + "7")).await;
    assert_eq!(b.next().await, SipEvent::Info { dialog, key: Some('7'), record: None });
    c.send(&c.request("ACK", "400", "hasty", 1, &tag, "", "")).await;
    assert_eq!(b.next().await, SipEvent::Ack { dialog, sdp: None });
    assert!(ask("BYE", 7, "", "").await.starts_with("SIP/2.0 200"));
    assert_eq!(b.next().await, SipEvent::Bye { dialog });
    b.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_share_a_branch_are_calls_each_and_give_their_lines_back() {
    let mut b = Side::new(settings()).await;
    let c = Client::new(b.agent.local_addr()).await;
    let invite = |id: &str| c.request("INVITE", "400", id, 1, "", "", OFFER);
    let branch = format!("branch=z9hG4bK{}INVITE1;", "one");
    for id in ["one", "two", "three"] {
        c.send(&invite(id).replace(&format!("branch=z9hG4bK{id}INVITE1;"), &branch)).await;
        let dialog = b.called().await;
        b.agent.reject(dialog, 486, None).await;
        let busy = c.final_answer().await;
        assert!(busy.starts_with("SIP/2.0 486") && header(&busy, "Call-ID") == id, "{busy}");
        let ack = c.request("ACK", "400", id, 1, &tag_of(&busy), "", "");
        c.send(&ack.replace(&format!("branch=z9hG4bK{id}ACK1;"), &branch)).await;
        assert!(matches!(b.next().await, SipEvent::Ended { .. }));
    }
    b.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_an_answer_when_the_call_ends_gets_one() {
    let mut b = Side::new(settings()).await;
    let c = Client::new(b.agent.local_addr()).await;
    c.send(&c.request("INVITE", "400", "ends", 1, "", "", OFFER)).await;
    let dialog = b.called().await;
    b.agent.answer(dialog, ANSWER.into()).await;
    let tag = tag_of(&c.final_answer().await);
    c.send(&c.request("ACK", "400", "ends", 1, &tag, "", "")).await;
    assert_eq!(b.next().await, SipEvent::Ack { dialog, sdp: None });
    c.send(&c.request("INVITE", "400", "ends", 2, &tag, "", OFFER)).await;
    assert!(matches!(b.next().await, SipEvent::Reinvite { .. }));
    c.send(&c.request("BYE", "400", "ends", 3, &tag, "", "")).await;
    let (one, two) = (c.final_answer().await, c.final_answer().await);
    let mut heard = [&one, &two].map(|t| (header(t, "CSeq").to_string(), t[8..11].to_string()));
    heard.sort();
    assert_eq!(heard, [("2 INVITE".into(), "487".into()), ("3 BYE".into(), "200".into())]);
    assert_eq!(b.next().await, SipEvent::Bye { dialog });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_before_the_answer_begins_no_session_that_could_run_out() {
    let mut b = Side::new(SipSettings { session_min_s: 1, ..settings() }).await;
    let c = Client::new(b.agent.local_addr()).await;
    c.send(&c.request("INVITE", "400", "long", 1, "", "", OFFER)).await;
    let dialog = b.called().await;
    b.agent.ring(dialog).await;
    let tag = tag_of(&ringing(&c).await);
    let wish = "Supported: timer\r\nSession-Expires: 1\r\n";
    c.send(&c.request("UPDATE", "400", "long", 2, &tag, wish, "")).await;
    let ok = c.final_answer().await;
    assert!(ok.starts_with("SIP/2.0 200") && header(&ok, "Session-Expires").is_empty(), "{ok}");
    assert!(c.hears_nothing(1500).await, "it goes on ringing");
    b.agent.answer(dialog, ANSWER.into()).await;
    assert!(c.final_answer().await.starts_with("SIP/2.0 200"));
    b.agent.hangup(dialog).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_hung_up_before_its_ack_is_answered_until_then_and_ends_with_it() {
    let mut b = Side::new(SipSettings { t1: std::time::Duration::from_millis(50), ..settings() }).await;
    let c = Client::new(b.agent.local_addr()).await;
    c.send(&c.request("INVITE", "400", "brief", 1, "", "", OFFER)).await;
    let dialog = b.called().await;
    b.agent.answer(dialog, ANSWER.into()).await;
    b.agent.hangup(dialog).await;
    assert_eq!(b.next().await, SipEvent::Ended { dialog, why: EndWhy::HungUp });
    let ok = c.final_answer().await;
    assert_eq!(c.final_answer().await, ok, "the first one may be lost");
    c.send(&c.request("ACK", "400", "brief", 1, &tag_of(&ok), "", "")).await;
    let bye = c.request_heard().await;
    assert!(bye.starts_with("BYE "), "{bye}");
    let kept = ["Via", "From", "To", "Call-ID", "CSeq"].map(|n| format!("{n}: {}\r\n", header(&bye, n))).concat();
    c.send(&format!("SIP/2.0 200 OK\r\n{kept}Content-Length: 0\r\n\r\n")).await;
    b.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_come_in_the_order_they_were_sent() {
    let mut b = Side::new(settings()).await;
    let c = Client::new(b.agent.local_addr()).await;
    c.send(&c.request("INVITE", "400", "keys", 1, "", "", OFFER)).await;
    let dialog = b.called().await;
    b.agent.answer(dialog, ANSWER.into()).await;
    let tag = tag_of(&c.final_answer().await);
    c.send(&c.request("ACK", "400", "keys", 1, &tag, "", "")).await;
    assert_eq!(b.next().await, SipEvent::Ack { dialog, sdp: None });
    for i in 0..20u32 {
        let key = c.request("INFO", "400", "keys", 2 + i, &tag, "Content-Type: application/dtmf\r\n", "");
        c.send(&(key.replace("Content-Length: 0", "Content-Length: 1") + &(i % 10).to_string())).await;
    }
    for i in 0..20u32 {
        let key = char::from_digit(i % 10, 10);
        assert_eq!(b.next().await, SipEvent::Info { dialog, key, record: None });
    }
    b.agent.hangup(dialog).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_contact_in_a_reinvite_is_where_our_bye_goes() {
    let mut b = Side::new(settings()).await;
    let c = Client::new(b.agent.local_addr()).await;
    c.send(&c.request("INVITE", "400", "moved", 1, "", "", OFFER)).await;
    let dialog = b.called().await;
    b.agent.answer(dialog, ANSWER.into()).await;
    let tag = tag_of(&c.final_answer().await);
    c.send(&c.request("ACK", "400", "moved", 1, &tag, "", "")).await;
    assert_eq!(b.next().await, SipEvent::Ack { dialog, sdp: None });
    let new = Client::new(b.agent.local_addr()).await;
    let me = new.socket.local_addr().unwrap();
    let old = c.socket.local_addr().unwrap();
    let again = c.request("INVITE", "400", "moved", 2, &tag, "", OFFER);
    new.send(&again.replace(&format!("Contact: <sip:c@{old}>"), &format!("Contact: <sip:c@{me}>"))).await;
    let SipEvent::Reinvite { request, source, .. } = b.next().await else { panic!("a re-INVITE") };
    assert_eq!(source, me);
    b.agent.answer_reinvite(dialog, request, Ok(ANSWER.into())).await;
    assert!(new.final_answer().await.starts_with("SIP/2.0 200"));
    new.send(&c.request("ACK", "400", "moved", 2, &tag, "", "")).await;
    b.agent.hangup(dialog).await;
    assert!(new.request_heard().await.starts_with("BYE "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_close_their_connection_leave_nothing_behind() {
    for answered in [true, false] {
        let Side { agent, mut events } = Side::new(SipSettings { t1: Duration::from_millis(10), ..settings() }).await;
        let other = agent.clone();
        let (closed, mut close) = tokio::sync::mpsc::channel::<()>(64);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let SipEvent::Invite { dialog, .. } = event {
                    close.recv().await; // only after the caller has gone
                    match answered {
                        true => other.answer(dialog, ANSWER.into()).await,
                        false => other.reject(dialog, 486, None).await,
                    }
                }
            }
        });
        let c = Client::new(agent.local_addr()).await;
        for i in 0..50 {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut stream = tokio::net::TcpStream::connect(agent.local_addr()).await.unwrap();
            let invite = c.request("INVITE", "400", &format!("quit{i}"), 1, "", "", OFFER).replace("/UDP", "/TCP");
            stream.write_all(invite.as_bytes()).await.unwrap();
            let mut trying = [0u8; 16];
            tokio::time::timeout(LIMIT, stream.read(&mut trying)).await.expect("a 100").unwrap();
            drop(stream);
            crate::common::until("the connection is gone", || agent.tcp_connections() == 0).await;
            closed.send(()).await.unwrap();
        }
        let left = || agent.counters().calls + agent.counters().dialogs + agent.counters().transactions;
        crate::common::until("nothing is left", || left() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_escaped_user_goes_out_as_it_came_in() {
    let mut b = Side::new(settings()).await;
    let c = Client::new(b.agent.local_addr()).await;
    let me = c.socket.local_addr().unwrap();
    let invite = c.request("INVITE", "a%3Ab%40c", "escaped", 1, "", "", OFFER);
    c.send(&invite.replace(&format!("<sip:c@{me}>\r\nMax"), &format!("<sip:c%40d;e=f@{me}>\r\nMax"))).await;
    let SipEvent::Invite { dialog, to_user, .. } = b.next().await else { panic!("a call") };
    assert_eq!(to_user, "a:b@c");
    b.agent.answer(dialog, ANSWER.into()).await;
    let answer = c.final_answer().await;
    assert!(header(&answer, "Contact").contains("sip:a%3Ab%40c@"), "{answer}");
    c.send(&c.request("ACK", "400", "escaped", 1, &tag_of(&answer), "", "")).await;
    assert_eq!(b.next().await, SipEvent::Ack { dialog, sdp: None });
    b.agent.hangup(dialog).await;
    let bye = c.request_heard().await;
    assert!(bye.starts_with(&format!("BYE sip:c%40d;e=f@{me} SIP/2.0")), "{bye}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_escaped_user_is_called_as_it_is_written() {
    let mut a = Side::new(settings()).await;
    let c = Client::new(a.agent.local_addr()).await;
    let me = c.socket.local_addr().unwrap();
    let to = format!("sip:8001%40firm@{me}");
    let dialog = a.agent.dial(Dial { to: to.clone(), ..dial(&a, "x", "") }).await.unwrap();
    let invite = c.request_heard().await;
    assert!(invite.starts_with(&format!("INVITE {to} SIP/2.0")), "{invite}");
    let kept = ["Via", "From", "Call-ID", "CSeq"].map(|n| format!("{n}: {}\r\n", header(&invite, n))).concat();
    let to_header = format!("To: {};tag=t\r\n", header(&invite, "To"));
    let contact = format!("Contact: <sip:desk%403@{me}>\r\nContent-Type: application/sdp\r\n");
    let length = format!("Content-Length: {}\r\n\r\n{ANSWER}", ANSWER.len());
    c.send(&["SIP/2.0 200 OK\r\n", &kept, &to_header, &contact, &length].concat()).await;
    assert_eq!(a.next().await, SipEvent::Answered { dialog, sdp: Some(ANSWER.into()) });
    let ack = c.request_heard().await;
    assert!(ack.starts_with(&format!("ACK sip:desk%403@{me} SIP/2.0")), "{ack}");
    c.send(&["SIP/2.0 200 OK\r\n", &kept, &to_header, &contact, &length].concat()).await;
    assert_eq!(c.request_heard().await, ack, "a repeated 200 gets the same ACK");
    a.agent.hangup(dialog).await;
    let bye = c.request_heard().await;
    assert!(bye.starts_with(&format!("BYE sip:desk%403@{me} SIP/2.0")), "{bye}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_inside_a_call_is_counted_by_its_reason() {
    let running = crate::common::start(|_| {}).await;
    let c = Client::new(running.sip).await;
    c.send(&c.request("INVITE", "400", "counted", 1, "", "", OFFER)).await;
    let tag = tag_of(&c.final_answer().await);
    let ask = async |method: &str, cseq: u32, more: &str, sdp: &str| {
        c.send(&c.request(method, "400", "counted", cseq, &tag, more, sdp)).await;
        loop {
            let text = c.final_answer().await;
            if header(&text, "CSeq") == format!("{cseq} {method}") {
                return text[8..11].to_string();
            }
        }
    };
    let before = running.hotline.metrics();
    // Before the ACK, what it may not, what it did not ask for, what is no key, what is no codec of ours, what is old.
    assert_eq!(ask("INVITE", 2, "", OFFER).await, "491");
    c.send(&c.request("ACK", "400", "counted", 1, &tag, "", "")).await;
    assert_eq!(ask("REFER", 10, "Refer-To: <sip:9@h>\r\n", "").await, "403");
    assert_eq!(ask("NOTIFY", 11, "Event: refer\r\n", "").await, "489");
    assert_eq!(ask("INFO", 12, "", "v=0\r\n").await, "415");
    assert_eq!(ask("UPDATE", 13, "", &OFFER.replace("RTP/AVP 8", "RTP/AVP 96")).await, "488");
    assert_eq!(ask("OPTIONS", 5, "", "").await, "500");
    let counts = |text: &str, reason: &str| -> u64 {
        let line = format!("zongji_sip_refused_total{{reason=\"{reason}\"}} ");
        text.lines().find_map(|l| l.strip_prefix(&line)?.parse().ok()).expect(reason)
    };
    let after = running.hotline.metrics();
    for reason in ["glare", "forbidden", "unasked", "media_type", "no_codec", "old_request"] {
        assert_eq!(counts(&after, reason), counts(&before, reason) + 1, "{reason}");
    }
    assert_eq!(ask("BYE", 14, "", "").await, "200");
    running.settle().await;
}
