//! Hold, and a hotline that is full. Hanging up has a file of its own.

use crate::common::wire::Caller;
use crate::common::{self, ONE_ORDER, Watch, hang_up, keys};
use std::time::Duration;
use zongji::call::{CallEvent, TransferStage};
use zongji::ids::Leg;
use zongji::server::phone::{Act, Phone, PhoneNews, PhoneSettings, Step, When};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_caller_hears_no_prompt_and_the_prompt_goes_on_afterwards() {
    let running = common::start(|_| {}).await;
    let mut watch = Watch::of(&running);
    let mut caller = Caller::new(running.sip, ONE_ORDER).await;
    caller.establish().await;
    watch.until("the question", |e| matches!(e, CallEvent::PromptStarted { shown } if shown.contains("业务"))).await;
    let before = caller.sounds(Duration::from_millis(400)).await;
    assert!(before.len() >= 10, "the question is heard: {before:?}");
    let answer = caller.change("sendonly").await;
    assert!(answer.contains("a=recvonly") || answer.contains("a=inactive"), "{answer}");
    watch.until("the hold", |e| matches!(e, CallEvent::Hold { leg: Leg::Caller, held: true })).await;
    // What was on its way, and nothing more.
    caller.sounds(Duration::from_millis(60)).await;
    assert_eq!(caller.sounds(Duration::from_millis(1000)).await, [0u16; 0], "sound while held");
    let answer = caller.change("sendrecv").await;
    assert!(!answer.contains("a=recvonly") && !answer.contains("a=inactive"), "{answer}");
    let after = caller.sounds(Duration::from_millis(800)).await;
    assert!(after.len() >= 20, "the question goes on: {after:?}");
    let resumed = watch.until("the question's end", |e| matches!(e, CallEvent::PromptEnded { .. })).await;
    let again = resumed.iter().filter(|e| matches!(e, CallEvent::PromptStarted { .. })).count();
    assert_eq!(again, 0, "it goes on and does not begin again: {resumed:?}");
    assert!(matches!(resumed.last(), Some(CallEvent::PromptEnded { interrupted: false, .. })), "{resumed:?}");
    caller.key('1').await;
    watch.until("the answer is taken", |e| matches!(e, CallEvent::TurnDone(t) if t.heard == "1")).await;
    caller.bye().await;
    running.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_holds_the_caller_and_comes_back() {
    let running = common::start(|_| {}).await;
    let mut watch = Watch::of(&running);
    let mut seat = common::seat(&running).await;
    let step = |ms, act| Step { when: When::After(ms), act };
    let script = vec![
        step(5000, Act::Hold(true)),
        step(1500, Act::Hold(false)),
        step(300, Act::Say(common::tone(1000.0, 2), "a tone".into())),
        step(3000, Act::HangUp),
    ];
    let answering = tokio::spawn(async move {
        let mut holds = Vec::new();
        let mut log = |news| {
            if let PhoneNews::Hold(accepted) = news {
                holds.push(accepted);
            }
        };
        let result = seat.answer(Duration::from_secs(30), 200, script, &mut log).await;
        (result.unwrap().expect("the seat was called"), holds)
    });
    let result = running.call(ONE_ORDER, vec![keys("4")]).await;
    let (_, holds) = answering.await.unwrap();
    running.settle().await;
    assert_eq!(holds, [true, true], "hold and resume are accepted");
    let events = watch.all();
    let at = |wanted: CallEvent| events.iter().position(|e| *e == wanted).unwrap_or_else(|| panic!("{wanted:?}"));
    let bridged = events
        .iter()
        .position(|e| matches!(e, CallEvent::Transfer { stage: TransferStage::Bridged, .. }))
        .expect("bridged");
    let (held, resumed) =
        (at(CallEvent::Hold { leg: Leg::Seat, held: true }), at(CallEvent::Hold { leg: Leg::Seat, held: false }));
    assert!(bridged < held && held < resumed, "held while bridged: {events:?}");
    let power = |hz| zongji::audio::tone_power(&result.heard, hz);
    assert!(power(1000.0) > power(1300.0) * 10.0, "the caller hears the seat again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_hotline_refuses_politely() {
    let running = common::start(|s| s.max_calls = 1).await;
    let phone = |n: &str| PhoneSettings::new(([127, 0, 0, 1], 0).into(), n);
    let mut first = Phone::start(phone(ONE_ORDER)).await.unwrap();
    let uri = format!("sip:400@{}", running.sip);
    let (answered, is_answered) = tokio::sync::oneshot::channel();
    let mut answered = Some(answered);
    let dialled = uri.clone();
    let talking = tokio::spawn(async move {
        let mut tell = |news| {
            if matches!(news, PhoneNews::Answered(_)) {
                answered.take().map(|tell| tell.send(()));
            }
        };
        first.call(&dialled, vec![hang_up(3000)], &mut tell).await
    });
    is_answered.await.unwrap();
    let refused = running.call("13900139000", vec![]).await;
    assert_eq!(refused.code, 503);
    assert_eq!(talking.await.unwrap().unwrap().code, 200);
    let mut wrong = Phone::start(phone(ONE_ORDER)).await.unwrap();
    let unknown = wrong.call(&format!("sip:nobody@{}", running.sip), vec![], &mut |_| {}).await.unwrap();
    assert_eq!(unknown.code, 404);
}
