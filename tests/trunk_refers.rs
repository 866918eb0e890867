//! A caller's own trunk is asked to make the transfer (REFER): it does, it will not, the person is busy, it says nothing.

use crate::common::sip::{ANSWER, Client, OFFER, authorization, header, tag_of};
use crate::common::{self, Running, SEAT, Watch};
use std::time::Duration;
use tokio::net::UdpSocket;
use zongji::call::{CallEvent, TransferStage};
use zongji::server::hotline::HotlineSettings;
use zongji::server::outbound::{Role, Rule};
use zongji::server::trunks::{Server, TransferBy, Trunk};

/// The carrier's address on loopback, and the number of the seat's telephone as it is dialled there.
const CARRIER: &str = "127.0.0.2";
const THERE: &str = "861012345678";

/// A carrier on one socket, with a caller who has reached the hotline by it.
struct Carrier {
    c: Client,
    hotline: Running,
    watch: Watch,
    /// To-tag of the hotline, for requests inside the call.
    tag: String,
    cseq: u32,
}

impl Carrier {
    /// A call to the hotline is up, and the caller has asked for a person.
    async fn new() -> Carrier {
        let mut carrier = Carrier::idle(|_| {}).await;
        carrier.caller_asks().await;
        carrier
    }

    /// Nobody has called yet.
    async fn idle(change: impl FnOnce(&mut HotlineSettings)) -> Carrier {
        let socket = UdpSocket::bind((CARRIER, 0)).await.unwrap();
        let at = socket.local_addr().unwrap();
        let hotline = common::start(|s| {
            s.seats[0].phone = Some("01012345678".into());
            let rule = Rule { role: Role::Flow, allow: vec!["010".into()], deny: vec![], at_once: 1, per_hour: 100 };
            s.outbound = vec![rule];
            s.trunks = vec![Trunk {
                name: "carrier".into(),
                servers: vec![Server { address: format!("sip:{at}"), priority: 0, weight: 1 }],
                called_out: vec!["010 -> 8610".parse().unwrap()],
                give_up_ms: 700,
                options_s: 0,
                transfer: TransferBy::Refer,
                ..Trunk::default()
            }];
            change(s);
        })
        .await;
        let watch = Watch::of(&hotline);
        let c = Client { socket, to: hotline.sip };
        Carrier { c, hotline, watch, tag: String::new(), cseq: 1 }
    }

    async fn caller_asks(&mut self) {
        self.c.send(&self.c.request("INVITE", "400", "refer", 1, "", "", OFFER)).await;
        self.tag = tag_of(&self.c.final_answer().await);
        self.ask("ACK", "", "").await;
        self.watch.until("greeted", |e| matches!(e, CallEvent::PromptStarted { .. })).await;
        self.cseq += 1;
        let key = "Signal=4\r\nDuration=100\r\n";
        self.ask("INFO", "Content-Type: application/dtmf-relay\r\n", key).await;
    }

    /// A request inside the call.
    async fn ask(&self, method: &str, more: &str, body: &str) {
        let text = self.c.request(method, "400", "refer", self.cseq, &self.tag, more, "");
        let text = text.replace("Content-Length: 0\r\n\r\n", &format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        self.c.send(&text).await;
    }

    /// The next request of this method; OPTIONS are answered.
    async fn asked(&self, method: &str) -> String {
        loop {
            let text = self.c.request_heard().await;
            if text.starts_with("OPTIONS ") {
                self.reply(&text, "200 OK", "").await;
            } else {
                assert!(text.starts_with(&format!("{method} ")), "wanted {method}: {text}");
                return text;
            }
        }
    }

    async fn reply(&self, request: &str, status: &str, sdp: &str) {
        let to = header(request, "To");
        let tag = if to.contains(";tag=") { "" } else { ";tag=far" };
        let kept = ["Via", "From", "Call-ID", "CSeq"].map(|n| format!("{n}: {}\r\n", header(request, n))).concat();
        let kind = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let me = self.c.socket.local_addr().unwrap();
        let length = sdp.len();
        self.c
            .send(&format!(
                "SIP/2.0 {status}\r\n{kept}To: {to}{tag}\r\nContact: <sip:far@{me}>\r\n{kind}Content-Length: {length}\r\n\r\n{sdp}"
            ))
            .await;
    }

    /// The REFER that the hotline sends, accepted.
    async fn referred(&self) {
        let refer = self.asked("REFER").await;
        let me = self.c.socket.local_addr().unwrap();
        assert_eq!(header(&refer, "Refer-To"), format!("<sip:{THERE}@{me}>"), "{refer}");
        assert_eq!(header(&refer, "Call-ID"), "refer", "inside the caller's own dialog");
        self.reply(&refer, "202 Accepted", "").await;
    }

    async fn notify(&mut self, line: &str) {
        self.cseq += 1;
        let state = if line.starts_with('1') { "active;expires=60" } else { "terminated;reason=noresource" };
        let more = format!("Event: refer\r\nSubscription-State: {state}\r\nContent-Type: message/sipfrag\r\n");
        self.ask("NOTIFY", &more, &format!("SIP/2.0 {line}\r\n")).await;
        let answer = self.c.final_answer().await;
        assert!(answer.starts_with("SIP/2.0 200") && header(&answer, "CSeq").ends_with("NOTIFY"), "{answer}");
    }

    /// The caller hangs up.
    async fn bye(&mut self) {
        self.cseq += 1;
        self.ask("BYE", "", "").await;
    }

    async fn until(&mut self, wanted: TransferStage) {
        let what = format!("{wanted:?}");
        self.watch.until(&what, |e| matches!(e, CallEvent::Transfer { stage, .. } if *stage == wanted)).await;
    }

    /// The call's record and its transfer's, when all is over and given back.
    async fn over(&self, ports: usize) -> (zongji::store::CallRow, zongji::store::TransferRow) {
        self.hotline.settle().await;
        common::until("all ports are back", || self.hotline.hotline.free_ports() == ports).await;
        let store = self.hotline.hotline.store();
        (store.calls(9).await.unwrap().remove(0), store.transfers(9).await.unwrap().remove(0))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_that_takes_the_caller_over_ends_our_call_as_transferred() {
    let mut carrier = Carrier::new().await;
    let ports = carrier.hotline.hotline.free_ports() + 1;
    carrier.referred().await;
    carrier.notify("100 Trying").await;
    carrier.notify("180 Ringing").await;
    carrier.until(TransferStage::Ringing).await;
    carrier.notify("200 OK").await;
    let bye = carrier.asked("BYE").await;
    carrier.reply(&bye, "200 OK", "").await;
    let (call, transfer) = carrier.over(ports).await;
    assert_eq!(call.outcome.as_deref(), Some("transferred"));
    assert!(call.reason.as_deref().is_some_and(|r| r.contains("REFER")), "{call:?}");
    assert_eq!((transfer.result.as_deref(), transfer.bridged_at), (Some("connected"), None));
    assert!(carrier.c.hears_nothing(300).await, "no call of ours goes out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_that_accepts_tells_nothing_and_hangs_up_has_taken_the_caller_over() {
    let mut carrier = Carrier::new().await;
    let ports = carrier.hotline.hotline.free_ports() + 1;
    carrier.referred().await;
    assert!(carrier.c.hears_nothing(400).await, "it is given time to work");
    carrier.bye().await;
    let (call, transfer) = carrier.over(ports).await;
    assert_eq!(call.outcome.as_deref(), Some("transferred"), "{call:?}");
    assert_eq!(transfer.result.as_deref(), Some("connected"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_that_will_not_transfer_has_the_two_bridged_by_us() {
    let mut carrier = Carrier::new().await;
    let ports = carrier.hotline.hotline.free_ports() + 1;
    let refer = carrier.asked("REFER").await;
    carrier.reply(&refer, "603 Decline", "").await;
    let invite = carrier.asked("INVITE").await;
    assert!(invite.starts_with(&format!("INVITE sip:{THERE}@")), "{invite}");
    let told = carrier.watch.until("told", |e| matches!(e, CallEvent::LegFailed { .. })).await;
    let Some(CallEvent::LegFailed { reason, .. }) = told.last() else { panic!("{told:?}") };
    assert!(
        reason.sentence.contains("trunk carrier (REFER)") && reason.sentence.contains("603"),
        "{}",
        reason.sentence
    );
    carrier.reply(&invite, "200 OK", ANSWER).await;
    carrier.asked("ACK").await;
    carrier.until(TransferStage::Bridged).await;
    carrier.bye().await;
    let bye = carrier.asked("BYE").await;
    carrier.reply(&bye, "200 OK", "").await;
    let (call, transfer) = carrier.over(ports).await;
    assert!(call.bridged && transfer.bridged_at.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_that_says_nothing_of_its_transfer_is_not_waited_for() {
    let mut carrier = Carrier::new().await;
    let ports = carrier.hotline.hotline.free_ports() + 1;
    carrier.referred().await;
    let began = tokio::time::Instant::now();
    let invite = carrier.asked("INVITE").await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    carrier.reply(&invite, "200 OK", ANSWER).await;
    carrier.asked("ACK").await;
    carrier.until(TransferStage::Bridged).await;
    carrier.bye().await;
    let bye = carrier.asked("BYE").await;
    carrier.reply(&bye, "200 OK", "").await;
    carrier.over(ports).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_who_is_busy_brings_the_caller_back_to_the_flow_and_not_to_a_second_call() {
    let mut carrier = Carrier::new().await;
    let ports = carrier.hotline.hotline.free_ports() + 1;
    carrier.referred().await;
    carrier.notify("100 Trying").await;
    carrier.notify("486 Busy Here").await;
    carrier.until(TransferStage::Failed).await;
    carrier.watch.until("the flow talks on", |e| matches!(e, CallEvent::PromptStarted { .. })).await;
    assert!(carrier.c.hears_nothing(300).await, "busy is busy: nobody is called again");
    carrier.bye().await;
    let (call, transfer) = carrier.over(ports).await;
    assert_eq!(transfer.result.as_deref(), Some("busy"));
    assert_eq!(call.hung_up_by.as_deref(), Some("caller"));
}

/// Who holds one seat's password may not have the trunk call a number for it: no rule lets it out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_phone_registered_is_called_where_it_registered_from_and_never_named_to_the_trunk() {
    let mut carrier = Carrier::idle(|s| {
        s.outbound.clear();
        s.seats[0].phone = None;
    })
    .await;
    let (phone, at) = (Client::new(carrier.hotline.sip).await, carrier.c.socket.local_addr().unwrap());
    let mine = format!("Contact: <sip:c@{}>", phone.socket.local_addr().unwrap());
    let register = |cseq: u32, proof: &str| {
        let text = phone.request("REGISTER", SEAT.0, "premium", cseq, "", proof, "");
        text.replace(&mine, &format!("Contact: <sip:00900123456@{at}>"))
    };
    phone.send(&register(1, "")).await;
    let uri = format!("sip:{}@{}", SEAT.0, carrier.hotline.sip);
    let proof = authorization(&phone.final_answer().await, SEAT, 1, ("REGISTER", &uri));
    phone.send(&register(2, &proof)).await;
    assert!(phone.final_answer().await.starts_with("SIP/2.0 200"));
    carrier.caller_asks().await;
    let invite = loop {
        let text = phone.request_heard().await;
        if !text.starts_with("OPTIONS ") {
            break text;
        }
    };
    assert!(invite.starts_with("INVITE sip:00900123456@"), "{invite}");
    let asked = tokio::time::timeout(Duration::from_millis(500), carrier.c.request_heard()).await;
    assert!(asked.is_err(), "the trunk is asked for nothing: {asked:?}");
    carrier.bye().await;
}

/// A NOTIFY of 100 has to come at once (RFC 3515 section 2.4.4): it takes nothing back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_that_tells_no_more_than_that_it_tries_and_hangs_up_has_taken_the_caller_over() {
    let mut carrier = Carrier::new().await;
    let ports = carrier.hotline.hotline.free_ports() + 1;
    carrier.referred().await;
    carrier.notify("100 Trying").await;
    carrier.bye().await;
    let (call, transfer) = carrier.over(ports).await;
    assert_eq!(call.outcome.as_deref(), Some("transferred"), "{call:?}");
    assert!(call.reason.as_deref().is_some_and(|r| r.contains("told no result")), "{call:?}");
    assert_eq!(transfer.result.as_deref(), Some("connected"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_hangs_up_while_the_person_rings_was_not_taken_over() {
    let mut carrier = Carrier::new().await;
    let ports = carrier.hotline.hotline.free_ports() + 1;
    carrier.referred().await;
    carrier.notify("180 Ringing").await;
    carrier.until(TransferStage::Ringing).await;
    carrier.bye().await;
    let (call, transfer) = carrier.over(ports).await;
    assert_ne!(call.outcome.as_deref(), Some("transferred"), "{call:?}");
    assert_eq!(transfer.result.as_deref(), Some("cancelled"));
}
