//! A seat's phone dials a number outside: allowed, denied, capped, by a trunk that fails, ended by each side, and what is
//! heard before the answer.

use crate::common::sip::{ANSWER, Client, OFFER, authorization, header, tag_of};
use crate::common::{self, Running, SEAT, Watch, tone};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::UdpSocket;
use zongji::audio::{FRAME_SAMPLES, tone_power};
use zongji::call::CallEvent;
use zongji::server::Supervisor;
use zongji::server::hotline::HotlineSettings;
use zongji::server::outbound::{Role, Rule};
use zongji::server::phone::{Act, CallResult, Phone, PhoneSettings, Step, When};
use zongji::server::trunks::{Server, Trunk};
use zongji::sip::Credential;
use zongji::store::CallRow;

const NUMBER: &str = "01012345678";

/// The carrier: signalling and sound by hand.
struct Far {
    c: Client,
    media: UdpSocket,
    invite: String,
    /// Packets of sound so far.
    sent: std::cell::Cell<u32>,
}

impl Far {
    async fn new() -> Far {
        let bind = || UdpSocket::bind("127.0.0.2:0");
        let c = Client { socket: bind().await.unwrap(), to: ([127, 0, 0, 1], 9).into() };
        Far { c, media: bind().await.unwrap(), invite: String::new(), sent: std::cell::Cell::new(0) }
    }

    fn at(&self) -> SocketAddr {
        self.c.socket.local_addr().unwrap()
    }

    /// The next INVITE there.
    async fn called(&mut self, running: &Running) {
        self.c.to = running.sip;
        self.invite = self.c.request_heard().await;
        assert!(self.invite.starts_with(&format!("INVITE sip:{NUMBER}@")), "{}", self.invite);
    }

    async fn reply(&self, request: &str, status: &str, with_sound: bool) {
        let port = self.media.local_addr().unwrap().port().to_string();
        let sdp = ANSWER.replace("40002", &port).replace("c=IN IP4 127.0.0.1", "c=IN IP4 127.0.0.2");
        let sdp = if with_sound { sdp } else { String::new() };
        let to = header(request, "To");
        let tag = if to.contains(";tag=") { "" } else { ";tag=far" };
        let kept = ["Via", "From", "Call-ID", "CSeq"].map(|n| format!("{n}: {}\r\n", header(request, n))).concat();
        let kind = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let (me, length) = (self.at(), sdp.len());
        self.c
            .send(&format!(
                "SIP/2.0 {status}\r\n{kept}To: {to}{tag}\r\nContact: <sip:far@{me}>\r\n{kind}Content-Length: {length}\r\n\r\n{sdp}"
            ))
            .await;
    }

    async fn answer(&mut self) {
        self.reply(&self.invite, "200 OK", true).await;
        assert!(self.c.request_heard().await.starts_with("ACK "));
    }

    /// Sounds a tone into the call for so many ms.
    async fn sound(&self, hz: f32, ms: usize) {
        let port = self.invite.lines().find_map(|l| l.strip_prefix("m=audio ")?.split(' ').next()?.parse().ok());
        let to = SocketAddr::from(([127, 0, 0, 1], port.expect("a port")));
        let mut clock = tokio::time::interval(Duration::from_millis(20));
        for frame in tone(hz, 1 + ms / 1000).chunks(160).take(ms / 20) {
            clock.tick().await;
            let n = self.sent.replace(self.sent.get() + 1);
            let mut packet = vec![0x80, 8];
            packet.extend((n as u16).to_be_bytes());
            packet.extend((n * 160).to_be_bytes());
            packet.extend(7u32.to_be_bytes());
            zongji::audio::Law::A.encode(frame, &mut packet);
            self.media.send_to(&packet, to).await.unwrap();
        }
    }

    async fn hang_up(&self) {
        let target = header(&self.invite, "Contact").trim_matches(['<', '>']).to_string();
        let me = self.at();
        self.c
            .send(&format!(
                "BYE {target} SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch=z9hG4bKfarbye;rport\r\nFrom: {};tag=far\r\nTo: {}\r\n\
                 Call-ID: {}\r\nCSeq: 1 BYE\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
                header(&self.invite, "To"),
                header(&self.invite, "From"),
                header(&self.invite, "Call-ID"),
            ))
            .await;
    }
}

fn trunk(at: SocketAddr, priority: u16) -> Trunk {
    Trunk {
        name: format!("trunk{priority}"),
        servers: vec![Server { address: format!("sip:{at}"), priority: 0, weight: 1 }],
        priority,
        shows: Some("4001234567".into()),
        give_up_ms: 700,
        options_s: 0,
        ..Trunk::default()
    }
}

fn lets_out(s: &mut HotlineSettings, trunks: Vec<Trunk>, at_once: u32) {
    s.trunks = trunks;
    s.open = true;
    s.outbound = vec![Rule { role: Role::Seat, allow: vec!["010".into()], deny: vec![], at_once, per_hour: 100 }];
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

fn ms_of(pcm: &[i16], hz: f32) -> usize {
    pcm.chunks(FRAME_SAMPLES).filter(|f| tone_power(f, hz) > 1.0e6).count() * 20
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_reaches_a_number_hears_it_before_the_answer_and_ends_the_call() {
    let mut far = Far::new().await;
    let running = common::start(|s| lets_out(s, vec![trunk(far.at(), 1)], 1)).await;
    let ports = running.hotline.free_ports();
    let seat = dial(&running, NUMBER, 1200);
    far.called(&running).await;
    assert!(header(&far.invite, "From").contains("sip:4001234567@"), "the number shown: {}", far.invite);
    far.reply(&far.invite, "183 Session Progress", true).await;
    far.sound(700.0, 1000).await;
    far.answer().await;
    far.sound(1600.0, 1000).await;
    let mut heard = Vec::new();
    let mut buffer = [0; 2048];
    while let Ok(Ok((len, _))) =
        tokio::time::timeout(Duration::from_millis(300), far.media.recv_from(&mut buffer)).await
    {
        if let Ok(view) = zongji::rtp::RtpView::parse(&buffer[..len]) {
            heard.extend(view.payload().iter().map(|&c| zongji::audio::Law::A.decode_sample(c)));
        }
    }
    let bye = far.c.request_heard().await;
    assert!(bye.starts_with("BYE "), "the seat's hang-up ends both: {bye}");
    far.reply(&bye, "200 OK", false).await;
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
    let mut far = Far::new().await;
    let running = common::start(|s| lets_out(s, vec![trunk(far.at(), 1)], 1)).await;
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
    far.called(&running).await;
    far.reply(&far.invite, "183 Session Progress", true).await;
    let progress = loop {
        let text = seat.hear().await;
        assert!(!text.starts_with("SIP/2.0 180"), "nothing rings yet: {text}");
        if text.starts_with("SIP/2.0 183") {
            break text;
        }
    };
    assert!(progress.contains("m=audio "), "{progress}");
    far.sound(700.0, 1000).await;
    let (mut heard, mut buffer) = (Vec::new(), [0; 2048]);
    while let Ok(Ok((len, _))) = tokio::time::timeout(Duration::from_millis(200), media.recv_from(&mut buffer)).await {
        if let Ok(view) = zongji::rtp::RtpView::parse(&buffer[..len]) {
            heard.extend(view.payload().iter().map(|&c| zongji::audio::Law::A.decode_sample(c)));
        }
        if heard.len() > 16_000 {
            break;
        }
    }
    assert!(ms_of(&heard, 700.0) > 600, "{} ms of early media heard", ms_of(&heard, 700.0));
    far.reply(&far.invite, "486 Busy Here", false).await;
    let busy = seat.final_answer().await;
    assert!(busy.starts_with("SIP/2.0 486"), "{busy}");
    let call = record(&running).await;
    assert!(call.reason.as_deref().is_some_and(|r| r.contains("by trunk trunk1") && r.contains("486")), "{call:?}");
    assert_eq!((call.outcome.as_deref(), call.answered_at), (Some("failed"), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_called_hangs_up_after_the_first_trunk_was_silent() {
    let (mut far, silent) = (Far::new().await, Far::new().await);
    let running = common::start(|s| lets_out(s, vec![trunk(silent.at(), 1), trunk(far.at(), 2)], 1)).await;
    let mut watch = Watch::of(&running);
    let seat = dial(&running, NUMBER, 60_000);
    far.called(&running).await;
    assert!(silent.c.request_heard().await.starts_with("INVITE "), "the first one was asked first");
    far.answer().await;
    far.sound(1600.0, 400).await;
    far.hang_up().await;
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
    let far = Far::new().await;
    let running = common::start(|s| {
        lets_out(s, vec![trunk(far.at(), 1)], 1);
        s.supervisors = vec![Supervisor { user: "9001".into(), password: "secret-9001".into() }];
    })
    .await;
    let denied = dial(&running, "19001234567", 5000).await.unwrap();
    assert_eq!(denied.code, 403);
    assert!(far.c.hears_nothing(300).await, "nothing may leave");
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
    let mut far = Far::new().await;
    let running = common::start(|s| lets_out(s, vec![trunk(far.at(), 1)], 1)).await;
    let first = dial(&running, NUMBER, 1500);
    far.called(&running).await;
    far.answer().await;
    assert_eq!(dial(&running, NUMBER, 5000).await.unwrap().code, 403, "one at once");
    let bye = far.c.request_heard().await;
    assert!(bye.starts_with("BYE "), "{bye}");
    far.reply(&bye, "200 OK", false).await;
    assert_eq!(first.await.unwrap().code, 200);
    running.settle().await;
    let again = dial(&running, NUMBER, 300);
    far.called(&running).await;
    far.reply(&far.invite, "404 Not Found", false).await;
    assert_eq!(again.await.unwrap().code, 404, "what the far end says, the seat's phone is told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_that_gives_up_while_it_rings_ends_the_call_there() {
    let mut far = Far::new().await;
    let running = common::start(|s| lets_out(s, vec![trunk(far.at(), 1)], 1)).await;
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
    far.called(&running).await;
    far.reply(&far.invite, "180 Ringing", false).await;
    tokio::time::timeout(Duration::from_secs(10), rings.recv()).await.expect("it rings at the seat too");
    enough.cancel();
    let cancel = far.c.request_heard().await;
    assert!(cancel.starts_with("CANCEL "), "{cancel}");
    far.reply(&cancel, "200 OK", false).await;
    far.reply(&far.invite, "487 Request Terminated", false).await;
    calling.await.unwrap();
    let call = record(&running).await;
    assert_eq!((call.outcome.as_deref(), call.hung_up_by.as_deref()), (Some("abandoned"), Some("seat")));
}

/// Privacy (RFC 3323) is about what the one called is shown, not about who we know has called.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_that_hides_its_number_is_named_in_the_record_and_not_to_the_number_called() {
    let mut far = Far::new().await;
    let running = common::start(|s| lets_out(s, vec![Trunk { shows: None, ..trunk(far.at(), 1) }], 1)).await;
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
    far.called(&running).await;
    assert!(header(&far.invite, "From").contains("sip:anonymous@"), "{}", far.invite);
    far.reply(&far.invite, "486 Busy Here", false).await;
    assert!(seat.final_answer().await.starts_with("SIP/2.0 486"));
    let call = record(&running).await;
    assert!(call.private, "{call:?}");
}

/// An answer given in a reliable 183 need not come again with the 200 (RFC 6337 section 3.1.1).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_gave_its_answer_in_a_reliable_183_is_talked_to_after_a_200_without_one() {
    let mut far = Far::new().await;
    let running = common::start(|s| lets_out(s, vec![trunk(far.at(), 1)], 1)).await;
    let seat = dial(&running, NUMBER, 1500);
    far.called(&running).await;
    far.reply(&far.invite, "183 Session Progress\r\nRequire: 100rel\r\nRSeq: 1", true).await;
    let prack = far.c.request_heard().await;
    assert!(prack.starts_with("PRACK "), "{prack}");
    far.reply(&prack, "200 OK", false).await;
    far.reply(&far.invite, "200 OK", false).await;
    let ack = far.c.request_heard().await;
    assert!(ack.starts_with("ACK "), "{ack}");
    far.sound(1600.0, 1000).await;
    let bye = far.c.request_heard().await;
    assert!(bye.starts_with("BYE "), "{bye}");
    far.reply(&bye, "200 OK", false).await;
    let seat = seat.await.unwrap();
    assert_eq!((seat.code, seat.by_them), (200, false), "the seat hung up, not we");
    assert!(ms_of(&seat.heard, 1600.0) > 600, "{} ms of the answered call heard", ms_of(&seat.heard, 1600.0));
    assert!(record(&running).await.bridged);
}

/// The phone's record key (INFO) works on the leg that is the seat's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_key_of_a_seat_that_called_outside_pauses_the_recording() {
    let mut far = Far::new().await;
    let running = common::start(|s| lets_out(s, vec![trunk(far.at(), 1)], 1)).await;
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
    far.called(&running).await;
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
    let bye = far.c.request_heard().await;
    far.reply(&bye, "200 OK", false).await;
    record(&running).await;
}
