//! Transfers by the seat's own phone, texts from seats, and who may ask for neither.

use crate::common::far::{Far, may_call_out, trunk};
use crate::common::sip::*;
use crate::common::sound::ms_of;
use crate::common::wire::{g711_packet, heard};
use crate::common::{self, SEAT, hang_up, keys_into};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use zongji::call::{CallEvent, TransferStage};
use zongji::server::hotline::Seat;
use zongji::server::outbound::Role;
use zongji::server::phone::{Act, Phone, PhoneNews, PhoneSettings, Step, When};
use zongji::server::trunks::{TransferBy, Trunk};
use zongji::sip::*;

const OTHER: (&str, &str) = ("8002", "secret-8002");

/// A hotline with two seats.
async fn two_seats() -> common::Running {
    common::start(|s| {
        let other = Seat {
            user: OTHER.0.into(),
            password: OTHER.1.into(),
            queues: vec!["vip".into()],
            skills: vec![],
            phone: None,
        };
        s.seats.push(other);
    })
    .await
}

/// A request within a seat's call, with the proof that it is asked for.
async fn ask_proved(desk: &Far, user: (&str, &str), method: &str, cseq: u32, more: &str) -> String {
    let challenge = desk.ask(method, cseq, more, "").await;
    assert!(challenge.starts_with("SIP/2.0 407"), "{challenge}");
    let proof = authorization(&challenge, user, 1, (method, desk.target()));
    desk.ask(method, cseq + 1, &format!("{more}{proof}"), "").await
}

/// A caller who asks for a person and stays until he is told to hang up.
async fn caller(running: &common::Running) -> (CancellationToken, tokio::task::JoinHandle<()>) {
    let to = running.sip;
    let mut phone = Phone::start(PhoneSettings::new(([127, 0, 0, 1], 0).into(), common::ONE_ORDER)).await.unwrap();
    let enough = phone.stopper();
    let calling = tokio::spawn(async move {
        let mut news = |_: PhoneNews| {};
        let script = vec![keys_into(600, "4"), hang_up(90_000)];
        phone.call(&format!("sip:400@{to}"), script, &mut news).await.expect("the call is placed");
    });
    (enough, calling)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_hands_its_caller_on_to_another_seat_and_hears_that_it_worked() {
    let running = two_seats().await;
    let mut a = Far::registered(running.sip, SEAT).await;
    let (enough, calling) = caller(&running).await;
    a.take_call().await;
    let mut b = Far::registered(running.sip, OTHER).await;
    let refused = ask_proved(&a, SEAT, "REFER", 10, "Refer-To: <sip:13900001111@anywhere>\r\n").await;
    assert!(refused.starts_with("SIP/2.0 403"), "no way out of the house: {refused}");
    let taken = a.ask("REFER", 12, &format!("Refer-To: <sip:8002@{}>\r\n", running.sip), "").await;
    assert!(taken.starts_with("SIP/2.0 202"), "{taken}");
    let first = a.asked_to("NOTIFY").await;
    assert!(header(&first, "Event") == "refer", "{first}");
    assert!(first.ends_with("SIP/2.0 100 Trying\r\n") && header(&first, "Subscription-State").starts_with("active"));
    a.reply(&first, "200 OK").await;
    b.take_call().await;
    let last = a.asked().await;
    assert!(last.ends_with("SIP/2.0 200 OK\r\n"), "{last}");
    assert!(header(&last, "Subscription-State").starts_with("terminated"), "{last}");
    a.reply(&last, "200 OK").await;
    let bye = a.asked_to("BYE").await;
    a.reply(&bye, "200 OK").await;
    enough.cancel();
    let end = b.asked_to("BYE").await; // the caller hangs up on the second seat
    b.reply(&end, "200 OK").await;
    calling.await.unwrap();
    running.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attended_transfer_tells_the_other_phone_which_call_to_end() {
    let running = two_seats().await;
    let mut a = Far::registered(running.sip, SEAT).await;
    let (enough, calling) = caller(&running).await;
    a.take_call().await;
    let mut b = Far::registered(running.sip, OTHER).await;
    // The seat asks its colleague first.
    let asking = Client::new(running.sip).await;
    let uri = format!("sip:8002@{}", running.sip);
    let me = asking.socket.local_addr().unwrap();
    let invite = |cseq: u32, auth: &str| {
        let text = asking.request("INVITE", "8002", "consult", cseq, "", auth, OFFER);
        text.replace(&format!("From: <sip:c@{me}>"), &format!("From: <sip:8001@{}>", running.sip))
    };
    asking.send(&invite(1, "")).await;
    let challenge = asking.final_answer().await;
    asking.send(&invite(2, &authorization(&challenge, SEAT, 1, ("INVITE", &uri)))).await;
    b.take_call().await;
    let consulted = b.invite.clone();
    let ok = asking.final_answer().await;
    assert!(ok.starts_with("SIP/2.0 200"), "{ok}");
    asking.send(&asking.request("ACK", "8002", "consult", 2, &tag_of(&ok), "", "")).await;
    let ours = tag_of(&ok).replace(";tag=", "");
    let target = format!("<sip:8002@{}?Replaces=consult%3Bto-tag%3D{ours}%3Bfrom-tag%3Dfconsult>", running.sip);
    let wrong =
        ask_proved(&a, SEAT, "REFER", 10, &format!("Refer-To: {}\r\n", target.replace("fconsult", "other"))).await;
    assert!(wrong.starts_with("SIP/2.0 481"), "{wrong}");
    let taken = a.ask("REFER", 12, &format!("Refer-To: {target}\r\n"), "").await;
    assert!(taken.starts_with("SIP/2.0 202"), "{taken}");
    b.take_call().await;
    let from = header(&consulted, "From").split(";tag=").nth(1).unwrap();
    let wanted = format!("{};to-tag=far8002;from-tag={from}", header(&consulted, "Call-ID"));
    assert_eq!(header(&b.invite, "Replaces"), wanted, "{}", b.invite);
    enough.cancel();
    calling.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_takes_a_colleagues_call_over_and_it_and_the_caller_hear_each_other() {
    let running = two_seats().await;
    let ports = running.hotline.free_ports();
    let mut watch = common::Watch::of(&running);
    let mut a = Far::registered(running.sip, SEAT).await;
    let settings =
        PhoneSettings { keep_sound: true, ..PhoneSettings::new(([127, 0, 0, 1], 0).into(), common::ONE_ORDER) };
    let mut phone = Phone::start(settings).await.unwrap();
    let (to, enough) = (running.sip, phone.stopper());
    let calling = tokio::spawn(async move {
        let say = Step { when: When::After(100), act: Act::Say(common::tone(1000.0, 60), "caller".into()) };
        let script = vec![keys_into(600, "4"), say, hang_up(90_000)];
        phone.call(&format!("sip:400@{to}"), script, &mut |_| {}).await.expect("the call is placed")
    });
    a.take_call().await;
    watch.until("bridged", |e| matches!(e, CallEvent::Transfer { stage: TransferStage::Bridged, .. })).await;
    // The second seat's phone names its colleague's dialog, as that was seen from here.
    let hotline_tag = header(&a.invite, "From").split(";tag=").nth(1).unwrap();
    let call_id = header(&a.invite, "Call-ID");
    let (b, media) = (Client::new(running.sip).await, tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let me = b.socket.local_addr().unwrap();
    let offer = OFFER.replace("40000", &media.local_addr().unwrap().port().to_string());
    let invite = |id: &str, cseq: u32, from_tag: &str, proof: &str| {
        let replaces = format!("Replaces: {call_id};to-tag={hotline_tag};from-tag={from_tag}\r\n{proof}");
        let text = b.request("INVITE", "8001", id, cseq, "", &replaces, &offer);
        text.replace(&format!("From: <sip:c@{me}>"), &format!("From: <sip:8002@{to}>"))
    };
    let uri = format!("sip:8001@{to}");
    let proof = |challenge: &str| authorization(challenge, OTHER, 1, ("INVITE", &uri));
    b.send(&invite("wrong", 1, "other", "")).await;
    b.send(&invite("wrong", 2, "other", &proof(&b.final_answer().await))).await;
    assert!(b.final_answer().await.starts_with("SIP/2.0 481"), "another dialog than there is");
    b.send(&invite("right", 1, "far8001", "")).await;
    b.send(&invite("right", 2, "far8001", &proof(&b.final_answer().await))).await;
    let ok = b.final_answer().await;
    assert!(ok.starts_with("SIP/2.0 200"), "{ok}");
    b.send(&b.request("ACK", "8001", "right", 2, &tag_of(&ok), "", "")).await;
    let bye = a.asked_to("BYE").await; // the first phone is let go
    a.reply(&bye, "200 OK").await;
    // A tone each way.
    let port = ok.lines().find_map(|l| l.strip_prefix("m=audio ")?.split(' ').next()?.parse::<u16>().ok()).unwrap();
    let says = async {
        let mut clock = tokio::time::interval(Duration::from_millis(20));
        for (n, frame) in common::tone(1600.0, 2).chunks(160).enumerate() {
            clock.tick().await;
            media.send_to(&g711_packet(n as u32, 9, frame), ("127.0.0.1", port)).await.unwrap();
        }
    };
    let (heard, ()) = tokio::join!(heard(&media, Duration::from_secs(2), 16_000), says);
    enough.cancel();
    let bye = b.request_heard().await;
    assert!(bye.starts_with("BYE "), "the caller's hang-up ends it: {bye}");
    let caller = calling.await.unwrap();
    let (there, here) = (ms_of(&heard, 1000.0), ms_of(&caller.heard, 1600.0));
    eprintln!("the second seat heard {there} ms of the caller, the caller {here} ms of it");
    assert!(there > 1400 && here > 1400, "{there} {here}");
    running.settle().await;
    common::until("all ports are back", || running.hotline.free_ports() == ports).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_but_a_seat_may_transfer_or_send_texts_or_take_a_call_over() {
    let account = Account { user: "8001".into(), password: "geheim".into() };
    let mut b = Side::new(SipSettings { accounts: vec![account], ..settings() }).await;
    let c = Client::new(b.agent.local_addr()).await;
    c.send(&c.request("INVITE", "400", "fraud", 1, "", "", OFFER)).await;
    let dialog = b.called().await;
    b.agent.answer(dialog, ANSWER.into()).await;
    let tag = tag_of(&c.final_answer().await);
    c.send(&c.request("ACK", "400", "fraud", 1, &tag, "", "")).await;
    assert_eq!(b.next().await, SipEvent::Ack { dialog, sdp: None });
    for (n, method) in ["REFER", "MESSAGE"].into_iter().enumerate() {
        c.send(&c.request(method, "400", "fraud", 2 + n as u32, &tag, "Refer-To: <sip:9@h>\r\n", "")).await;
        assert!(c.final_answer().await.starts_with("SIP/2.0 403"), "{method}");
    }
    let replaces = format!("Replaces: fraud;to-tag={};from-tag=ffraud\r\n", &tag[5..]);
    c.send(&c.request("INVITE", "400", "steal", 1, "", &replaces, OFFER)).await;
    assert!(c.final_answer().await.starts_with("SIP/2.0 403"));
    c.send(&c.request("MESSAGE", "400", "text", 1, "", "", "")).await;
    assert!(c.final_answer().await.starts_with("SIP/2.0 403"));
    c.send(&c.request("NOTIFY", "400", "fraud", 6, &tag, "Event: refer\r\n", "")).await;
    assert!(c.final_answer().await.starts_with("SIP/2.0 489"));
    c.send(&c.request("SUBSCRIBE", "400", "sub", 1, "", "Event: presence\r\n", "")).await;
    assert!(c.final_answer().await.starts_with("SIP/2.0 405"));
    assert_eq!(b.agent.counters().not_allowed, 4);
    b.agent.hangup(dialog).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registered_seat_sends_a_text_once_for_each_proof() {
    let account = Account { user: "8001".into(), password: "geheim".into() };
    let mut b = Side::new(SipSettings { accounts: vec![account], ..settings() }).await;
    let to = b.agent.local_addr();
    let desk = Far::registered(to, ("8001", "geheim")).await;
    assert_eq!(b.next().await, SipEvent::Registered { user: "8001".into(), contacts: 1 });
    let me = desk.c.socket.local_addr().unwrap();
    let text = |cseq: u32, auth: &str, body: &str| {
        let plain =
            desk.c.request("MESSAGE", "8002", "note", cseq, "", &format!("{auth}Content-Type: text/plain\r\n"), "");
        let from = plain.replace(&format!("From: <sip:c@{me}>"), &format!("From: <sip:8001@{to}>"));
        from.replace("Content-Length: 0", &format!("Content-Length: {}", body.len())) + body
    };
    desk.c.send(&text(1, "", "hello")).await;
    let challenge = desk.c.final_answer().await;
    assert!(challenge.starts_with("SIP/2.0 407"), "{challenge}");
    let uri = format!("sip:8002@{to}");
    let proof = authorization(&challenge, ("8001", "geheim"), 1, ("MESSAGE", &uri));
    desk.c.send(&text(2, &proof, "你好")).await;
    let ok = desk.c.final_answer().await;
    assert!(ok.starts_with("SIP/2.0 200"), "{ok}");
    desk.c.send(&text(2, &proof, "你好")).await;
    assert_eq!(desk.c.final_answer().await, ok, "a retransmission is no second text");
    let heard = SipEvent::Message { dialog: None, seat: "8001".into(), to_user: "8002".into(), text: "你好".into() };
    assert_eq!(b.next().await, heard);
    desk.c.send(&text(3, &proof, &"x".repeat(5000))).await;
    assert!(desk.c.final_answer().await.starts_with("SIP/2.0 413"));
    assert!(tokio::time::timeout(Duration::from_millis(200), b.events.recv()).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_refer_waits_for_its_end_and_then_hangs_up() {
    for (status, done) in [("200 OK", Ok(())), ("486 Busy Here", Err(SipError::Refused(486)))] {
        let mut a = Side::new(settings()).await;
        let mut far = Far::at([127, 0, 0, 1], a.agent.local_addr()).await;
        let to = format!("sip:8002@{}", far.address());
        let out = a.agent.dial(Dial { to, ..dial(&a, "8002", "") }).await.unwrap();
        far.take_call().await;
        assert_eq!(a.next().await, SipEvent::Answered { dialog: out, sdp: Some(far.description()) });
        let agent = a.agent.clone();
        let asked = tokio::spawn(async move { agent.refer(out, "sip:95533@trunk.example").await });
        let refer = far.asked_to("REFER").await;
        assert_eq!(header(&refer, "Refer-To"), "<sip:95533@trunk.example>", "{refer}");
        far.reply(&refer, "202 Accepted").await;
        for (n, line) in (0..).zip(["100 Trying", status]) {
            let body = format!("SIP/2.0 {line}\r\n");
            let state = if n == 0 { "active" } else { "terminated;reason=noresource" };
            let more = format!("Event: refer\r\nSubscription-State: {state}\r\nContent-Type: message/sipfrag\r\n");
            let answer = far.ask("NOTIFY", n + 1, &more, &body).await;
            assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
        }
        let worked = done.is_ok();
        assert_eq!(asked.await.unwrap(), done);
        if !worked {
            assert!(far.is_not_asked_to(&["BYE"], 200).await, "the call goes on");
            a.agent.hangup(out).await;
        }
        let bye = far.asked_to("BYE").await;
        far.reply(&bye, "200 OK").await;
        a.settled().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_with_no_hop_left_or_back_from_a_loop_is_refused() {
    let a = Side::new(settings()).await;
    let c = Client::new(a.agent.local_addr()).await;
    let spent = c.request("INVITE", "400", "hops", 1, "", "", OFFER).replace("Max-Forwards: 70", "Max-Forwards: 0");
    c.send(&spent).await;
    assert!(c.final_answer().await.starts_with("SIP/2.0 483"));
    let to = format!("sip:400@{}", c.socket.local_addr().unwrap());
    let out = a.agent.dial(Dial { to, hops: Some(12), ..dial(&a, "400", "") }).await.unwrap();
    let invite = c.request_heard().await;
    assert_eq!(header(&invite, "Max-Forwards"), "12", "{invite}");
    let via = format!("Via: SIP/2.0/UDP {};branch=z9hG4bKproxy\r\n", c.socket.local_addr().unwrap());
    c.send(&invite.replacen("\r\n", &format!("\r\n{via}"), 1)).await;
    let looped = c.final_answer().await;
    assert!(looped.starts_with("SIP/2.0 482"), "{looped}");
    assert_eq!(a.agent.counters().loops, 1);
    a.agent.hangup(out).await;
}

/// The colleague is at a telephone outside, and the caller's trunk is asked to make the call (REFER): it accepts, tells
/// nothing, and hangs up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_hears_that_its_transfer_worked_when_the_trunk_took_the_caller_over_without_a_word() {
    let mut carrier = Far::at([127, 0, 0, 2], ([127, 0, 0, 1], 9).into()).await;
    let at = carrier.address();
    let running = common::start(|s| {
        let (user, password) = (OTHER.0.into(), OTHER.1.into());
        let phone = Some("01012345678".into());
        s.seats.push(Seat { user, password, queues: vec!["vip".into()], skills: vec![], phone });
        s.outbound = may_call_out(Role::Flow, 1);
        s.trunks = vec![Trunk { transfer: TransferBy::Refer, shows: None, ..trunk("carrier", at) }];
    })
    .await;
    carrier.c.to = running.sip;
    let mut watch = common::Watch::of(&running);
    let mut a = Far::registered(running.sip, SEAT).await;
    carrier.c.send(&carrier.c.request("INVITE", "400", "untold", 1, "", "", OFFER)).await;
    let tag = tag_of(&carrier.answered("INVITE", 1).await);
    carrier.c.send(&carrier.c.request("ACK", "400", "untold", 1, &tag, "", "")).await;
    watch.until("greeted", |e| matches!(e, CallEvent::PromptStarted { .. })).await;
    let key = "Signal=4\r\nDuration=100\r\n";
    let info = carrier.c.request("INFO", "400", "untold", 2, &tag, "Content-Type: application/dtmf-relay\r\n", "");
    carrier.c.send(&(info.replace("Content-Length: 0", &format!("Content-Length: {}", key.len())) + key)).await;
    a.take_call().await;
    watch.until("bridged", |e| matches!(e, CallEvent::Transfer { stage: TransferStage::Bridged, .. })).await;
    let taken = ask_proved(&a, SEAT, "REFER", 10, &format!("Refer-To: <sip:8002@{}>\r\n", running.sip)).await;
    assert!(taken.starts_with("SIP/2.0 202"), "{taken}");
    let trying = a.asked().await;
    a.reply(&trying, "200 OK").await;
    let refer = carrier.asked_to("REFER").await;
    carrier.reply(&refer, "202 Accepted").await;
    assert!(carrier.is_not_asked_to(&["BYE", "INVITE"], 100).await, "it is given time to work");
    carrier.c.send(&carrier.c.request("BYE", "400", "untold", 3, &tag, "", "")).await;
    let last = a.asked().await;
    assert!(last.ends_with("SIP/2.0 200 OK\r\n"), "{last}");
    a.reply(&last, "200 OK").await;
    let bye = a.asked_to("BYE").await;
    a.reply(&bye, "200 OK").await;
    running.settle().await;
}

/// The trunk's line and the rule's place are free as soon as a colleague's phone has taken the call from the telephone
/// outside, and the colleague's caps are not charged for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_telephone_outside_whose_call_was_picked_up_is_called_again_under_a_cap_of_one() {
    let mut far = Far::at([127, 0, 0, 2], ([127, 0, 0, 1], 9).into()).await;
    let at = far.address();
    let running = common::start(|s| {
        s.seats[0].phone = Some("01012345678".into());
        let (user, password) = (OTHER.0.into(), OTHER.1.into());
        s.seats.push(Seat { user, password, queues: vec!["vip".into()], skills: vec![], phone: None });
        s.outbound = may_call_out(Role::Flow, 1);
        s.trunks = vec![Trunk { max_out: 1, ..trunk("carrier", at) }];
    })
    .await;
    let to = running.sip;
    let mut watch = common::Watch::of(&running);
    far.c.to = to;
    for round in 0..2 {
        let (enough, calling) = caller(&running).await;
        far.take_call().await;
        watch.until("bridged", |e| matches!(e, CallEvent::Transfer { stage: TransferStage::Bridged, .. })).await;
        let hotline_tag = header(&far.invite, "From").split(";tag=").nth(1).unwrap();
        let replaces =
            format!("Replaces: {};to-tag={hotline_tag};from-tag={}\r\n", header(&far.invite, "Call-ID"), far.tag());
        let b = Client::new(to).await;
        let (me, id) = (b.socket.local_addr().unwrap(), format!("pickup{round}"));
        let invite = |cseq: u32, proof: &str| {
            let text = b.request("INVITE", "8001", &id, cseq, "", &format!("{replaces}{proof}"), OFFER);
            text.replace(&format!("From: <sip:c@{me}>"), &format!("From: <sip:8002@{to}>"))
        };
        b.send(&invite(1, "")).await;
        let uri = format!("sip:8001@{to}");
        b.send(&invite(2, &authorization(&b.final_answer().await, OTHER, 1, ("INVITE", &uri)))).await;
        let ok = b.final_answer().await;
        assert!(ok.starts_with("SIP/2.0 200"), "{ok}");
        b.send(&b.request("ACK", "8001", &id, 2, &tag_of(&ok), "", "")).await;
        let bye = far.asked_to("BYE").await;
        far.reply(&bye, "200 OK").await;
        enough.cancel();
        assert!(b.request_heard().await.starts_with("BYE "), "the caller's hang-up ends it");
        calling.await.unwrap();
    }
    let problems = running.hotline.problems_now();
    assert!(!problems.iter().any(|p| p.contains("a call out was refused")), "{problems:?}");
}
