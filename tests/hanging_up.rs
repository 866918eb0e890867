//! A caller who hangs up in each state: one record, the seat let go, all ports back.

use crate::common::sip::{Side, settings};
use crate::common::wire::Caller;
use crate::common::{self, ONE_ORDER, Running, Watch, until};
use std::time::Duration;
use zongji::call::{CallEvent, TransferStage};
use zongji::server::phone::{Act, CallResult, Phone, Step, When};
use zongji::sip::Credential;
use zongji::store::CallRow;

/// A hotline that counts its calls.
struct Stage {
    running: Running,
    ports: usize,
    calls: usize,
}

impl Stage {
    async fn set(answer_delay_ms: u32) -> Stage {
        let running = common::start(|s| s.answer_delay_ms = answer_delay_ms).await;
        let ports = running.hotline.free_ports();
        Stage { running, ports, calls: 0 }
    }

    async fn caller(&self) -> (Caller, Watch) {
        (Caller::new(self.running.sip, ONE_ORDER).await, Watch::of(&self.running))
    }

    /// The call is over: exactly one more record, closed, and nothing left behind.
    async fn over(&mut self, state: &str) -> CallRow {
        self.running.settle().await;
        self.calls += 1;
        let mut calls = self.running.hotline.store().calls(100).await.unwrap();
        assert_eq!(calls.len(), self.calls, "{state}: one record for each call");
        let call = calls.remove(0);
        assert!(call.ended_at.is_some() && call.outcome.is_some(), "{state}: {call:?}");
        until("all RTP ports are given back", || self.running.hotline.free_ports() == self.ports).await;
        call
    }
}

fn ended_by_the_caller(state: &str, call: &CallRow) {
    let who = (call.hung_up_by.as_deref(), call.reason.as_deref());
    assert_eq!(who, (Some("caller"), Some("the caller hung up")), "{state}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_rings() {
    let mut stage = Stage::set(20_000).await;
    let (mut caller, _) = stage.caller().await;
    caller.invite("sendrecv").await;
    caller.expect("INVITE", 180).await;
    caller.cancel().await;
    // Both answers may come in any order: the INVITE's own is the one that counts.
    caller.expect("INVITE", 487).await;
    caller.ack_refusal().await;
    let call = stage.over("ringing").await;
    assert_eq!((call.answered_at, call.outcome.as_deref()), (None, Some("abandoned")));
    assert_eq!(call.reason.as_deref(), Some("the caller hung up before the answer"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_answer_and_before_its_ack() {
    let mut stage = Stage::set(0).await;
    let (mut caller, mut watch) = stage.caller().await;
    caller.invite("sendrecv").await;
    caller.expect("INVITE", 200).await;
    caller.bye().await;
    let call = stage.over("answering").await;
    ended_by_the_caller("answering", &call);
    assert_eq!(call.outcome.as_deref(), Some("abandoned"));
    let events = watch.all();
    assert!(!events.iter().any(|e| matches!(e, CallEvent::PromptStarted { .. })), "nobody talked: {events:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_speaks_listens_thinks_acts_or_records() {
    let mut stage = Stage::set(0).await;
    for state in ["speaking", "listening", "thinking", "acting", "recording"] {
        let (mut caller, mut watch) = stage.caller().await;
        caller.establish().await;
        let question = |e: &CallEvent| matches!(e, CallEvent::PromptStarted { shown } if shown.contains("业务"));
        let ended = |e: &CallEvent| matches!(e, CallEvent::PromptEnded { .. });
        watch.until("the question", question).await;
        match state {
            "listening" => drop(watch.until(state, ended).await),
            "thinking" => {
                watch.until(state, ended).await;
                let Act::Say(mut pcm, _) = common::say("complaint") else { unreachable!() };
                pcm.extend(vec![0; 16_000]);
                let thinks = watch.until(state, |e| matches!(e, CallEvent::SpeechEnded { .. }));
                tokio::select! { _ = thinks => {}, () = caller.say(&pcm) => panic!("the end was not noticed") }
            }
            "acting" => {
                caller.key('1').await;
                watch.until(state, |e| matches!(e, CallEvent::Node { node, .. } if node == "find")).await;
            }
            "recording" => {
                caller.key('2').await;
                watch.until(state, |e| matches!(e, CallEvent::Node { node, .. } if node == "tell_us")).await;
                watch.until(state, |e| matches!(e, CallEvent::PromptStarted { .. })).await;
                watch.until(state, ended).await;
            }
            _ => {}
        }
        caller.bye().await;
        let call = stage.over(state).await;
        ended_by_the_caller(state, &call);
        let rest = watch.all();
        assert!(matches!(rest.last(), Some(CallEvent::Ended(_))), "{state}: {rest:?}");
        let spoke_on = rest.iter().any(|e| matches!(e, CallEvent::PromptStarted { .. }));
        assert!(!spoke_on, "{state}: {rest:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_last_words() {
    let mut stage = Stage::set(0).await;
    let (mut caller, mut watch) = stage.caller().await;
    caller.establish().await;
    watch.until("the question", |e| matches!(e, CallEvent::PromptStarted { shown } if shown.contains("业务"))).await;
    // Nobody is there to be handed over to: a message, a ticket, goodbye.
    caller.key('4').await;
    watch.until("a message", |e| matches!(e, CallEvent::PromptStarted { shown } if shown.contains("留言"))).await;
    // The recording begins after the prompt and its tone: a key pressed before that means nothing.
    let presses = async {
        loop {
            caller.sounds(Duration::from_millis(500)).await;
            caller.key('#').await;
        }
    };
    let goodbye = |e: &CallEvent| matches!(e, CallEvent::PromptStarted { shown } if shown.contains("再见"));
    tokio::select! { _ = watch.until("goodbye", goodbye) => {}, () = presses => {} }
    caller.bye().await;
    let call = stage.over("ending").await;
    ended_by_the_caller("ending", &call);
    assert_eq!(call.outcome.as_deref(), Some("ticketed"));
}

/// Presses the way to a person and waits for a stage of the transfer, while the seat's phone does its part.
async fn handed_over(caller: &mut Caller, watch: &mut Watch, stage: TransferStage) {
    caller.establish().await;
    watch.until("the question", |e| matches!(e, CallEvent::PromptStarted { shown } if shown.contains("业务"))).await;
    caller.key('4').await;
    watch.until("the stage", |e| matches!(e, CallEvent::Transfer { stage: s, .. } if *s == stage)).await;
}

/// The seat's phone takes the next call.
fn answers(mut seat: Phone, ring_ms: u64, script: Vec<Step>) -> tokio::task::JoinHandle<(Phone, CallResult)> {
    tokio::spawn(async move {
        let result = seat.answer(Duration::from_secs(60), ring_ms, script, &mut |_| {}).await;
        (seat, result.unwrap().expect("the seat was called"))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_way_to_a_seat_and_with_it() {
    let mut stage = Stage::set(0).await;
    let mut seat = common::seat(&stage.running).await;
    let stages = [
        (TransferStage::Ringing, 60_000, 487, false),
        (TransferStage::Briefing, 100, 200, false),
        (TransferStage::Bridged, 100, 200, true),
    ];
    for (at, ring_ms, code, bridged) in stages {
        let state = format!("{at:?}");
        let (mut caller, mut watch) = stage.caller().await;
        let answering = answers(seat, ring_ms, Vec::new());
        handed_over(&mut caller, &mut watch, at).await;
        caller.bye().await;
        let (phone, result) = answering.await.unwrap();
        seat = phone;
        assert_eq!((result.code, result.by_them), (code, true), "{state}: the seat is let go by CANCEL or BYE");
        let call = stage.over(&state).await;
        ended_by_the_caller(&state, &call);
        assert_eq!(call.bridged, bridged, "{state}");
        let transfer = stage.running.hotline.store().transfers(1).await.unwrap().remove(0);
        let result = if bridged { "connected" } else { "cancelled" };
        assert_eq!(transfer.result.as_deref(), Some(result), "{state}: the transfer's row is closed too");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_whose_newest_phone_fails_is_called_on_the_other_one() {
    let mut stage = Stage::set(0).await;
    let seat = common::seat(&stage.running).await;
    let mut broken = Side::new(settings()).await;
    let credential = Credential { user: common::SEAT.0.into(), password: common::SEAT.1.into(), realm: None };
    broken.agent.register(stage.running.sip, &credential, 300).await.expect("it registers");
    let refused = tokio::spawn(async move {
        let dialog = broken.called().await;
        broken.agent.reject(dialog, 500, None).await;
        broken
    });
    let (mut caller, mut watch) = stage.caller().await;
    let answering = answers(seat, 100, Vec::new());
    handed_over(&mut caller, &mut watch, TransferStage::Bridged).await;
    caller.bye().await;
    assert_eq!(answering.await.unwrap().1.code, 200);
    assert!(stage.over("bridged").await.bridged);
    assert_eq!(refused.await.unwrap().agent.counters().calls_in, 1, "it was called, and once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_that_leaves_brings_the_caller_back_to_the_end() {
    let mut stage = Stage::set(0).await;
    let seat = common::seat(&stage.running).await;
    let (mut caller, mut watch) = stage.caller().await;
    let answering = answers(seat, 100, vec![Step { when: When::After(6000), act: Act::HangUp }]);
    handed_over(&mut caller, &mut watch, TransferStage::Bridged).await;
    let returned = |e: &CallEvent| matches!(e, CallEvent::Transfer { stage: TransferStage::Returned, .. });
    watch.until("the caller is back", returned).await;
    caller.expect_bye().await;
    let (_, result) = answering.await.unwrap();
    assert_eq!((result.code, result.by_them), (200, false));
    let call = stage.over("seat left").await;
    assert_eq!((call.outcome.as_deref(), call.bridged), (Some("transferred"), true));
    assert_eq!(call.hung_up_by.as_deref(), Some("us"));
}
