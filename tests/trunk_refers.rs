//! A caller's own trunk is asked to make the transfer (REFER): it does, it will not, the person is busy, it says nothing.

use crate::common::far::{Far, may_call_out, trunk};
use crate::common::sip::{Client, OFFER, authorization, header, tag_of};
use crate::common::{self, Running, SEAT, Watch};
use std::time::Duration;
use zongji::call::{CallEvent, TransferStage};
use zongji::server::hotline::HotlineSettings;
use zongji::server::outbound::Role;
use zongji::server::trunks::{TransferBy, Trunk};

/// The carrier's address on loopback, and the number of the seat's telephone as it is dialled there.
const CARRIER: [u8; 4] = [127, 0, 0, 2];
const THERE: &str = "861012345678";

/// A carrier on one socket, with a caller who has reached the hotline by it.
struct Carrier {
    far: Far,
    hotline: Running,
    /// RTP ports that are free when the call is over.
    ports: usize,
    watch: Watch,
    /// To-tag of the hotline, for requests inside the call.
    tag: String,
    cseq: u32,
}

impl Carrier {
    /// A call to the hotline is up, and the caller has asked for a person.
    async fn new() -> Carrier {
        Carrier::patient(3000).await
    }

    /// The same with a trunk that may say nothing for so long.
    async fn patient(give_up_ms: u32) -> Carrier {
        let mut carrier = Carrier::idle(|s| s.trunks[0].give_up_ms = give_up_ms).await;
        carrier.caller_asks().await;
        carrier
    }

    /// Nobody has called yet.
    async fn idle(change: impl FnOnce(&mut HotlineSettings)) -> Carrier {
        let mut far = Far::at(CARRIER, ([127, 0, 0, 1], 9).into()).await;
        let at = far.address();
        let hotline = common::start(|s| {
            s.seats[0].phone = Some("01012345678".into());
            s.outbound = may_call_out(Role::Flow, 1);
            let called_out = vec!["010 -> 8610".parse().unwrap()];
            let transfer = TransferBy::Refer;
            s.trunks = vec![Trunk { called_out, transfer, shows: None, ..trunk("carrier", at) }];
            change(s);
        })
        .await;
        far.c.to = hotline.sip;
        let (watch, ports) = (Watch::of(&hotline), hotline.hotline.free_ports());
        Carrier { far, hotline, ports, watch, tag: String::new(), cseq: 1 }
    }

    async fn caller_asks(&mut self) {
        self.far.c.send(&self.far.c.request("INVITE", "400", "refer", 1, "", "", OFFER)).await;
        self.tag = tag_of(&self.far.answered("INVITE", 1).await);
        self.ask("ACK", "", "").await;
        self.watch.until("greeted", |e| matches!(e, CallEvent::PromptStarted { .. })).await;
        self.cseq += 1;
        let key = "Signal=4\r\nDuration=100\r\n";
        self.ask("INFO", "Content-Type: application/dtmf-relay\r\n", key).await;
    }

    /// A request inside the call; the next one gets the next number.
    async fn ask(&self, method: &str, more: &str, body: &str) {
        let text = self.far.c.request(method, "400", "refer", self.cseq, &self.tag, more, "");
        let text = text.replace("Content-Length: 0\r\n\r\n", &format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        self.far.c.send(&text).await;
    }

    /// The REFER that the hotline sends, accepted.
    async fn referred(&self) {
        let refer = self.far.asked_to("REFER").await;
        assert_eq!(header(&refer, "Refer-To"), format!("<sip:{THERE}@{}>", self.far.address()), "{refer}");
        assert_eq!(header(&refer, "Call-ID"), "refer", "inside the caller's own dialog");
        self.far.reply(&refer, "202 Accepted").await;
    }

    async fn notify(&mut self, line: &str) {
        self.cseq += 1;
        let state = if line.starts_with('1') { "active;expires=60" } else { "terminated;reason=noresource" };
        let more = format!("Event: refer\r\nSubscription-State: {state}\r\nContent-Type: message/sipfrag\r\n");
        self.ask("NOTIFY", &more, &format!("SIP/2.0 {line}\r\n")).await;
        let answer = self.far.answered("NOTIFY", self.cseq).await;
        assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
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

    /// The hotline hangs up.
    async fn let_go(&self) {
        let bye = self.far.asked_to("BYE").await;
        self.far.reply(&bye, "200 OK").await;
    }

    /// The hotline has called the number instead: it is answered, the two talk, and the caller hangs up.
    async fn bridged(&mut self) {
        assert!(self.far.invite.starts_with(&format!("INVITE sip:{THERE}@")), "{}", self.far.invite);
        self.far.answer().await;
        self.until(TransferStage::Bridged).await;
        self.bye().await;
        self.let_go().await;
    }

    /// The call's record and its transfer's, when all is over and given back.
    async fn over(&self) -> (zongji::store::CallRow, zongji::store::TransferRow) {
        self.hotline.settle().await;
        common::until("all ports are back", || self.hotline.hotline.free_ports() == self.ports).await;
        let store = self.hotline.hotline.store();
        (store.calls(9).await.unwrap().remove(0), store.transfers(9).await.unwrap().remove(0))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_that_takes_the_caller_over_ends_our_call_as_transferred() {
    let mut carrier = Carrier::new().await;
    carrier.referred().await;
    carrier.notify("100 Trying").await;
    carrier.notify("180 Ringing").await;
    carrier.until(TransferStage::Ringing).await;
    carrier.notify("200 OK").await;
    carrier.let_go().await;
    let (call, transfer) = carrier.over().await;
    assert_eq!(call.outcome.as_deref(), Some("transferred"));
    assert!(call.reason.as_deref().is_some_and(|r| r.contains("REFER")), "{call:?}");
    assert_eq!((transfer.result.as_deref(), transfer.bridged_at), (Some("connected"), None));
    assert!(carrier.far.is_not_asked_to(&["INVITE"], 300).await, "no call of ours goes out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_that_accepts_tells_nothing_and_hangs_up_has_taken_the_caller_over() {
    let mut carrier = Carrier::new().await;
    carrier.referred().await;
    assert!(carrier.far.is_not_asked_to(&["BYE", "INVITE"], 400).await, "it is given time to work");
    carrier.bye().await;
    let (call, transfer) = carrier.over().await;
    assert_eq!(call.outcome.as_deref(), Some("transferred"), "{call:?}");
    assert_eq!(transfer.result.as_deref(), Some("connected"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_that_will_not_transfer_has_the_two_bridged_by_us() {
    let mut carrier = Carrier::new().await;
    let refer = carrier.far.asked_to("REFER").await;
    carrier.far.reply(&refer, "603 Decline").await;
    carrier.far.called().await;
    carrier.far.reply(&carrier.far.invite, "180 Ringing").await;
    let told = carrier.watch.until("told", |e| matches!(e, CallEvent::LegFailed { .. })).await;
    let Some(CallEvent::LegFailed { reason, .. }) = told.last() else { panic!("{told:?}") };
    assert!(
        reason.sentence.contains("trunk carrier (REFER)") && reason.sentence.contains("603"),
        "{}",
        reason.sentence
    );
    carrier.bridged().await;
    let (call, transfer) = carrier.over().await;
    assert!(call.bridged && transfer.bridged_at.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_that_says_nothing_of_its_transfer_is_not_waited_for() {
    let mut carrier = Carrier::patient(700).await;
    carrier.referred().await;
    // Twice those 700 ms. One that tells something has the 20 s for which a seat may ring, and more.
    let began = tokio::time::Instant::now();
    carrier.far.called().await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    carrier.bridged().await;
    carrier.over().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_who_is_busy_brings_the_caller_back_to_the_flow_and_not_to_a_second_call() {
    let mut carrier = Carrier::new().await;
    carrier.referred().await;
    carrier.notify("100 Trying").await;
    carrier.notify("486 Busy Here").await;
    carrier.until(TransferStage::Failed).await;
    carrier.watch.until("the flow talks on", |e| matches!(e, CallEvent::PromptStarted { .. })).await;
    assert!(carrier.far.is_not_asked_to(&["INVITE"], 300).await, "busy is busy: nobody is called again");
    carrier.bye().await;
    let (call, transfer) = carrier.over().await;
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
    let (phone, at) = (Client::new(carrier.hotline.sip).await, carrier.far.address());
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
    assert!(carrier.far.is_not_asked_to(&["REFER", "INVITE"], 500).await, "the trunk is asked for nothing");
    carrier.bye().await;
}

/// A NOTIFY of 100 has to come at once (RFC 3515 section 2.4.4): it takes nothing back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_that_tells_no_more_than_that_it_tries_and_hangs_up_has_taken_the_caller_over() {
    let mut carrier = Carrier::new().await;
    carrier.referred().await;
    carrier.notify("100 Trying").await;
    carrier.bye().await;
    let (call, transfer) = carrier.over().await;
    assert_eq!(call.outcome.as_deref(), Some("transferred"), "{call:?}");
    assert!(call.reason.as_deref().is_some_and(|r| r.contains("told no result")), "{call:?}");
    assert_eq!(transfer.result.as_deref(), Some("connected"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_hangs_up_while_the_person_rings_was_not_taken_over() {
    let mut carrier = Carrier::new().await;
    carrier.referred().await;
    carrier.notify("180 Ringing").await;
    carrier.until(TransferStage::Ringing).await;
    carrier.bye().await;
    let (call, transfer) = carrier.over().await;
    assert_ne!(call.outcome.as_deref(), Some("transferred"), "{call:?}");
    assert_eq!(transfer.result.as_deref(), Some("cancelled"));
}
