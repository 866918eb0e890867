//! Whole calls in speech: real sockets, real codec, the bundled recogniser and voice.

use crate::common::{self, ONE_ORDER, SEAT, answer, say};
use std::time::Duration;
use zongji::server::phone::{Act, Phone, PhoneSettings, Step, When};
use zongji::sip::Credential;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_query_runs_on_into_an_address_change() {
    let running = common::start(|_| {}).await;
    let words =
        ["order_query", "yes", "change_address", "phone_tail_8000", "name_wang", "to_company", "yes", "satisfied"];
    let result = running.call(ONE_ORDER, words.iter().map(|w| answer(w)).collect()).await;
    running.settle().await;
    let store = running.hotline.store();
    let call = store.calls(1).await.unwrap().remove(0);
    let turns = store.turns(call.id.parse().unwrap()).await.unwrap();
    let heard: Vec<_> = turns.iter().map(|t| (t.node.clone(), t.heard.clone(), t.intent.clone())).collect();
    assert_eq!(result.steps_done, words.len(), "the caller said everything: {heard:?}");
    assert_eq!(call.outcome.as_deref(), Some("resolved"), "{heard:?}");
    assert!(call.steps <= 3, "{} steps: {heard:?}", call.steps);
    let change = store.order_changes(10).await.unwrap().remove(0);
    assert!(change.became.unwrap().expose().contains("建国路"), "{heard:?}");
    let recording = call.recording.expect("the call is recorded");
    let wav = hound::WavReader::open(&recording).expect("a playable file");
    assert_eq!(wav.spec().channels, 2);
    assert!(wav.duration() > 8000 * 20, "{} samples", wav.duration());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_free_address_is_recorded_and_becomes_a_ticket() {
    let running = common::start(|_| {}).await;
    let words = [
        "order_query",
        "yes",
        "change_address",
        "phone_tail_8000",
        "name_wang",
        "free_address",
        "free_address",
        "free_address",
    ];
    running.call(ONE_ORDER, words.iter().map(|w| answer(w)).collect()).await;
    running.settle().await;
    let tickets = running.hotline.store().tickets(10).await.unwrap();
    let ticket = tickets.iter().find(|t| t.category == "待核地址").unwrap_or_else(|| panic!("{tickets:?}"));
    let (from, to) = (ticket.recording_from_ms.unwrap(), ticket.recording_to_ms.unwrap());
    assert!(to > from + 1000, "the caller's own words are in the recording: {from}..{to}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_interrupts_and_asks_for_a_person_speaks_with_the_seat() {
    let running = common::start(|_| {}).await;
    let mut seat = Phone::start(PhoneSettings::new(([127, 0, 0, 1], 0).into(), SEAT.0)).await.unwrap();
    let credential = Credential { user: SEAT.0.into(), password: SEAT.1.into(), realm: None };
    seat.agent().register(running.sip, &credential, 300).await.unwrap();
    let tone = common::tone(1000.0, 3);
    let script = vec![
        Step { when: When::After(5000), act: Act::Say(tone, "a tone".into()) },
        Step { when: When::After(6000), act: Act::HangUp },
    ];
    let answering = tokio::spawn(async move { seat.answer(Duration::from_secs(60), 200, script, &mut |_| {}).await });
    let caller = vec![Step { when: When::Into(2000), act: say("human") }];
    let result = running.call("13600136000", caller).await;
    let seat = answering.await.unwrap().unwrap().expect("the seat was called");
    running.settle().await;
    assert_eq!(seat.code, 200);
    let heard = zongji::audio::detect::tone_power(&result.heard, 1000.0);
    let other = zongji::audio::detect::tone_power(&result.heard, 1300.0);
    assert!(heard > other * 10.0, "the caller hears the seat's tone: {heard} against {other}");
    let call = running.hotline.store().calls(1).await.unwrap().remove(0);
    assert_eq!((call.outcome.as_deref(), call.bridged), (Some("transferred"), true));
    let turns = running.hotline.store().turns(call.id.parse().unwrap()).await.unwrap();
    assert_eq!(turns.first().map(|t| (t.intent.as_str(), t.barge_in)), Some(("human", true)), "{turns:?}");
    let transfer = running.hotline.store().transfers(1).await.unwrap().remove(0);
    assert_eq!(transfer.seat.as_deref(), Some(SEAT.0));
    assert!(transfer.bridged_at.is_some());
}
