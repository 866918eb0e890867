//! A seat's phone dials a number outside: allowed, denied, capped, by a trunk that fails, ended by each side, and what is
//! heard before the answer.

use crate::common::far::{self, Far};
use crate::common::sip::{Client, OFFER, authorization, header, tag_of};
use crate::common::sound::ms_of;
use crate::common::wire::heard;
use crate::common::{self, Running, SEAT, Watch, tone};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::UdpSocket;
use zongji::call::CallEvent;
use zongji::server::Supervisor;
use zongji::server::hotline::HotlineSettings;
use zongji::server::outbound::Role;
use zongji::server::phone::{Act, CallResult, Phone, PhoneSettings, Step, When};
use zongji::server::trunks::Trunk;
use zongji::sip::Credential;
use zongji::store::CallRow;

const NUMBER: &str = "01012345678";

/// The carrier.
async fn carrier() -> Far {
    Far::at([127, 0, 0, 2], ([127, 0, 0, 1], 9).into()).await
}

/// It is called for the number.
async fn called(far: &mut Far, running: &Running) {
    far.c.to = running.sip;
    far.called().await;
    assert!(far.invite.starts_with(&format!("INVITE sip:{NUMBER}@")), "{}", far.invite);
}

fn trunk(at: SocketAddr, priority: u16) -> Trunk {
    Trunk { priority, give_up_ms: 700, ..far::trunk(&format!("trunk{priority}"), at) }
}

fn lets_out(s: &mut HotlineSettings, trunks: Vec<Trunk>, at_once: u32) {
    s.trunks = trunks;
    s.open = true;
    s.outbound = far::may_call_out(Role::Seat, at_once);
}

/// The seat's phone calls a number and speaks a tone of 1 kHz.
fn dial(running: &Running, number: &str, limit_ms: u32) -> tokio::task::JoinHandle<CallResult> {
    let credential = Some(Credential { user: SEAT.0.into(), password: SEAT.1.into(), realm: None });
    let settings =
        PhoneSettings { credential, keep_sound: true, ..PhoneSettings::new(([127, 0, 0, 1], 0).into(), SEAT.0) };
    let uri = format!("sip:{number}@{}", running.sip);
    tokio::spawn(async move {
        let mut phone = Phone::start(settings).await.unwrap();
        let say = Step { when: When::After(100), act: Act::Say(tone(1000.0, 1), "tone".into()) };
        phone.call(&uri, vec![say, common::hang_up(limit_ms)], &mut |_| {}).await.unwrap()
    })
}

async fn record(running: &Running) -> CallRow {
    running.settle().await;
    let mut calls = running.hotline.store().calls(9).await.unwrap();
    assert_eq!(calls.len(), 1, "one record");
    let call = calls.remove(0);
    assert_eq!((call.direction.as_str(), call.from.expose(), call.to.expose()), ("out", SEAT.0, NUMBER));
    call
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_reaches_a_number_hears_it_before_the_answer_and_ends_the_call() {
    let mut far = carrier().await;
    let running = common::start(|s| lets_out(s, vec![trunk(far.address(), 1)], 1)).await;
    let ports = running.hotline.free_ports();
    let seat = dial(&running, NUMBER, 1200);
    called(&mut far, &running).await;
    assert!(header(&far.invite, "From").contains("sip:4001234567@"), "the number shown: {}", far.invite);
    far.reply_with_sound(&far.invite, "183 Session Progress").await;
    far.say(&tone(700.0, 1)).await;
    far.answer().await;
    far.say(&tone(1600.0, 1)).await;
    // The seat's hang-up ends both.
    let bye = far.asked_to("BYE").await;
    let heard = heard(&far.media, Duration::from_millis(300), usize::MAX).await;
    far.reply(&bye, "200 OK").await;
    let seat = seat.await.unwrap();
    assert_eq!((seat.code, seat.by_them), (200, false));
    assert!(ms_of(&seat.heard, 1600.0) > 600, "{} ms of the answered call heard", ms_of(&seat.heard, 1600.0));
    assert!(ms_of(&heard, 1000.0) > 600, "{} ms of the seat heard", ms_of(&heard, 1000.0));
    let call = record(&running).await;
    assert_eq!((call.outcome.as_deref(), call.hung_up_by.as_deref()), (Some("resolved"), Some("seat")));
    assert!(call.answered_at.is_some() && call.bridged && call.recording.is_some(), "{call:?}");
    let recording = zongji::server::sound::read(std::path::Path::new(call.recording.as_deref().unwrap()));
    assert!(recording.is_ok(), "{recording:?}");
    common::until("all ports are back", || running.hotline.free_ports() == ports).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_media_of_the_number_called_reaches_the_seats_phone_by_183() {
    let mut far = carrier().await;
    let running = common::start(|s| lets_out(s, vec![trunk(far.address(), 1)], 1)).await;
    let (seat, media) = (Client::new(running.sip).await, UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let offer = OFFER.replace("40000", &media.local_addr().unwrap().port().to_string());
    let me = seat.socket.local_addr().unwrap();
    let invite = |cseq: u32, proof: &str| {
        let text = seat.request("INVITE", NUMBER, "early", cseq, "", proof, &offer);
        text.replace(&format!("From: <sip:c@{me}>"), &format!("From: <sip:{}@{}>", SEAT.0, running.sip))
    };
    seat.send(&invite(1, "")).await;
    let challenge = seat.final_answer().await;
    assert!(challenge.starts_with("SIP/2.0 407"), "{challenge}");
    let uri = format!("sip:{NUMBER}@{}", running.sip);
    seat.send(&invite(2, &authorization(&challenge, SEAT, 1, ("INVITE", &uri)))).await;
    called(&mut far, &running).await;
    far.reply_with_sound(&far.invite, "183 Session Progress").await;
    let progress = loop {
        let text = seat.hear().await;
        assert!(!text.starts_with("SIP/2.0 180"), "nothing rings yet: {text}");
        if text.starts_with("SIP/2.0 183") {
            break text;
        }
    };
    assert!(progress.contains("m=audio "), "{progress}");
    far.say(&tone(700.0, 1)).await;
    let heard = heard(&media, Duration::from_millis(200), 16_000).await;
    assert!(ms_of(&heard, 700.0) > 600, "{} ms of early media heard", ms_of(&heard, 700.0));
    far.reply(&far.invite, "486 Busy Here").await;
    let busy = seat.final_answer().await;
    assert!(busy.starts_with("SIP/2.0 486"), "{busy}");
    let call = record(&running).await;
    assert!(call.reason.as_deref().is_some_and(|r| r.contains("by trunk trunk1") && r.contains("486")), "{call:?}");
    assert_eq!((call.outcome.as_deref(), call.answered_at), (Some("failed"), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_called_hangs_up_after_the_first_trunk_was_silent() {
    let (mut far, silent) = (carrier().await, carrier().await);
    let running = common::start(|s| lets_out(s, vec![trunk(silent.address(), 1), trunk(far.address(), 2)], 1)).await;
    let mut watch = Watch::of(&running);
    let seat = dial(&running, NUMBER, 60_000);
    called(&mut far, &running).await;
    silent.asked_to("INVITE").await; // it was asked first
    far.answer().await;
    far.say(&tone(1600.0, 1)[..3200]).await;
    far.hang_up(1).await;
    let seat = seat.await.unwrap();
    assert!(seat.by_them && seat.code == 200, "{} {}", seat.code, seat.by_them);
    let call = record(&running).await;
    assert_eq!(call.reason.as_deref(), Some("the number called hung up"));
    assert_eq!(call.hung_up_by.as_deref(), Some("caller"));
    let events = watch.all();
    let failed = |e: &zongji::call::CallEvent| matches!(e, zongji::call::CallEvent::LegFailed { reason, .. } if reason.sentence.contains("trunk1"));
    assert!(events.iter().any(failed), "the record tells of the trunk that failed: {events:?}");
    let transfers = running.hotline.store().transfers(9).await.unwrap();
    assert!(transfers.is_empty(), "a call out is no transfer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_seats_rule_does_not_allow_is_refused_recorded_and_an_alarm() {
    let far = carrier().await;
    let running = common::start(|s| {
        lets_out(s, vec![trunk(far.address(), 1)], 1);
        s.supervisors = vec![Supervisor { user: "9001".into(), password: "secret-9001".into() }];
    })
    .await;
    let denied = dial(&running, "19001234567", 5000).await.unwrap();
    assert_eq!(denied.code, 403);
    assert!(far.is_not_asked_to(&["INVITE"], 300).await, "nothing may leave");
    let problems = running.hotline.problems_now();
    assert!(problems.iter().any(|p| p.contains("seat 8001")), "{problems:?}");
    running.settle().await;
    let calls = running.hotline.store().calls(9).await.unwrap();
    let reason = calls[0].reason.as_deref().unwrap_or_default();
    assert!(reason.contains("[[outbound]]") && reason.contains("190****4567"), "{reason}");
    assert_eq!(calls[0].direction, "out");
    // A supervisor has a password, but is no seat; a stranger has none.
    let boss = Some(Credential { user: "9001".into(), password: "secret-9001".into(), realm: None });
    let settings = PhoneSettings { credential: boss, ..PhoneSettings::new(([127, 0, 0, 1], 0).into(), "9001") };
    let mut phone = Phone::start(settings).await.unwrap();
    let supervisor = phone.call(&format!("sip:{NUMBER}@{}", running.sip), vec![], &mut |_| {}).await.unwrap();
    assert_eq!(supervisor.code, 404);
    let stranger = Client::new(running.sip).await;
    stranger.send(&stranger.request("INVITE", NUMBER, "stranger", 1, "", "", OFFER)).await;
    assert!(stranger.final_answer().await.starts_with("SIP/2.0 404"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_has_no_more_calls_out_at_once_than_its_cap_and_they_end_with_the_call() {
    let mut far = carrier().await;
    let running = common::start(|s| lets_out(s, vec![trunk(far.address(), 1)], 1)).await;
    let first = dial(&running, NUMBER, 1500);
    called(&mut far, &running).await;
    far.answer().await;
    assert_eq!(dial(&running, NUMBER, 5000).await.unwrap().code, 403, "one at once");
    let bye = far.asked_to("BYE").await;
    far.reply(&bye, "200 OK").await;
    assert_eq!(first.await.unwrap().code, 200);
    running.settle().await;
    let again = dial(&running, NUMBER, 300);
    called(&mut far, &running).await;
    far.reply(&far.invite, "404 Not Found").await;
    assert_eq!(again.await.unwrap().code, 404, "what the far end says, the seat's phone is told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_that_gives_up_while_it_rings_ends_the_call_there() {
    let mut far = carrier().await;
    let running = common::start(|s| lets_out(s, vec![trunk(far.address(), 1)], 1)).await;
    let credential = Some(Credential { user: SEAT.0.into(), password: SEAT.1.into(), realm: None });
    let settings = PhoneSettings { credential, ..PhoneSettings::new(([127, 0, 0, 1], 0).into(), SEAT.0) };
    let mut phone = Phone::start(settings).await.unwrap();
    let enough = phone.stopper();
    let uri = format!("sip:{NUMBER}@{}", running.sip);
    let (ringing, mut rings) = tokio::sync::mpsc::channel(8);
    let calling = tokio::spawn(async move {
        let mut news = |n: zongji::server::phone::PhoneNews| {
            if matches!(n, zongji::server::phone::PhoneNews::Ringing) {
                ringing.try_send(()).ok();
            }
        };
        phone.call(&uri, vec![], &mut news).await.unwrap()
    });
    called(&mut far, &running).await;
    far.reply(&far.invite, "180 Ringing").await;
    tokio::time::timeout(Duration::from_secs(10), rings.recv()).await.expect("it rings at the seat too");
    enough.cancel();
    let cancel = far.asked_to("CANCEL").await;
    far.reply(&cancel, "200 OK").await;
    far.reply(&far.invite, "487 Request Terminated").await;
    calling.await.unwrap();
    let call = record(&running).await;
    assert_eq!((call.outcome.as_deref(), call.hung_up_by.as_deref()), (Some("abandoned"), Some("seat")));
}

/// Privacy (RFC 3323) is about what the one called is shown, not about who we know has called.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_that_hides_its_number_is_named_in_the_record_and_not_to_the_number_called() {
    let mut far = carrier().await;
    let running = common::start(|s| lets_out(s, vec![Trunk { shows: None, ..trunk(far.address(), 1) }], 1)).await;
    let seat = Client::new(running.sip).await;
    let me = seat.socket.local_addr().unwrap();
    let invite = |cseq: u32, proof: &str| {
        let text = seat.request("INVITE", NUMBER, "hides", cseq, "", &format!("Privacy: id\r\n{proof}"), OFFER);
        text.replace(&format!("From: <sip:c@{me}>"), &format!("From: <sip:{}@{}>", SEAT.0, running.sip))
    };
    seat.send(&invite(1, "")).await;
    let uri = format!("sip:{NUMBER}@{}", running.sip);
    let proof = authorization(&seat.final_answer().await, SEAT, 1, ("INVITE", &uri));
    seat.send(&invite(2, &proof)).await;
    called(&mut far, &running).await;
    assert!(header(&far.invite, "From").contains("sip:anonymous@"), "{}", far.invite);
    far.reply(&far.invite, "486 Busy Here").await;
    assert!(seat.final_answer().await.starts_with("SIP/2.0 486"));
    let call = record(&running).await;
    assert!(call.private, "{call:?}");
}

/// An answer given in a reliable 183 need not come again with the 200 (RFC 6337 section 3.1.1).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_gave_its_answer_in_a_reliable_183_is_talked_to_after_a_200_without_one() {
    let mut far = carrier().await;
    let running = common::start(|s| lets_out(s, vec![trunk(far.address(), 1)], 1)).await;
    let seat = dial(&running, NUMBER, 1500);
    called(&mut far, &running).await;
    far.reply_with_sound(&far.invite, "183 Session Progress\r\nRequire: 100rel\r\nRSeq: 1").await;
    let prack = far.asked_to("PRACK").await;
    far.reply(&prack, "200 OK").await;
    far.reply(&far.invite, "200 OK").await;
    far.asked_to("ACK").await;
    far.say(&tone(1600.0, 1)).await;
    let bye = far.asked_to("BYE").await;
    far.reply(&bye, "200 OK").await;
    let seat = seat.await.unwrap();
    assert_eq!((seat.code, seat.by_them), (200, false), "the seat hung up, not we");
    assert!(ms_of(&seat.heard, 1600.0) > 600, "{} ms of the answered call heard", ms_of(&seat.heard, 1600.0));
    assert!(record(&running).await.bridged);
}

/// The phone's record key (INFO) works on the leg that is the seat's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_key_of_a_seat_that_called_outside_pauses_the_recording() {
    let mut far = carrier().await;
    let running = common::start(|s| lets_out(s, vec![trunk(far.address(), 1)], 1)).await;
    let mut watch = Watch::of(&running);
    let seat = Client::new(running.sip).await;
    let me = seat.socket.local_addr().unwrap();
    let ask = |method: &str, cseq: u32, tag: &str, more: &str, sdp: &str| {
        let text = seat.request(method, NUMBER, "key", cseq, tag, more, sdp);
        text.replace(&format!("From: <sip:c@{me}>"), &format!("From: <sip:{}@{}>", SEAT.0, running.sip))
    };
    seat.send(&ask("INVITE", 1, "", "", OFFER)).await;
    let uri = format!("sip:{NUMBER}@{}", running.sip);
    let proof = authorization(&seat.final_answer().await, SEAT, 1, ("INVITE", &uri));
    seat.send(&ask("INVITE", 2, "", &proof, OFFER)).await;
    called(&mut far, &running).await;
    far.answer().await;
    let tag = tag_of(&seat.final_answer().await);
    seat.send(&ask("ACK", 2, &tag, "", "")).await;
    assert!(seat.hears_nothing(200).await, "the two are joined");
    for (cseq, how) in [(3, "off"), (4, "on")] {
        seat.send(&ask("INFO", cseq, &tag, &format!("Record: {how}\r\n"), "")).await;
        assert!(seat.final_answer().await.starts_with("SIP/2.0 200"));
        watch.until(how, |e| matches!(e, CallEvent::Recording { on, .. } if *on == (how == "on"))).await;
    }
    seat.send(&ask("BYE", 5, &tag, "", "")).await;
    let bye = far.asked_to("BYE").await;
    far.reply(&bye, "200 OK").await;
    record(&running).await;
}
