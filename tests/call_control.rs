//! Hold, CANCEL, hanging up at any moment, and what is left afterwards: one record, no media, no ports.

use crate::common::{self, ONE_ORDER, hang_up, keys, until};
use std::time::Duration;
use zongji::server::phone::{Act, Phone, PhoneNews, PhoneSettings, Step, When};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_holds_and_resumes_and_goes_on() {
    let running = common::start(|_| {}).await;
    let script = vec![
        Step { when: When::Into(1000), act: Act::Hold(true) },
        Step { when: When::After(1200), act: Act::Hold(false) },
        keys("1"),
        keys("1"),
    ];
    let result = running.call(ONE_ORDER, script).await;
    running.settle().await;
    assert_eq!(result.steps_done, 4);
    let store = running.hotline.store();
    let call = store.calls(1).await.unwrap().remove(0);
    let events = store.events(call.id.parse().unwrap()).await.unwrap();
    let holds = events.iter().filter(|e| e.kind == "hold").count();
    assert_eq!(holds, 2, "{events:?}");
    assert!(call.turns >= 2, "{call:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_cancelled_while_it_rings_leaves_one_abandoned_record() {
    let running = common::start(|s| s.answer_delay_ms = 3000).await;
    let mut phone = Phone::start(PhoneSettings::new(([127, 0, 0, 1], 0).into(), ONE_ORDER)).await.unwrap();
    let uri = format!("sip:400@{}", running.sip);
    let code = phone.dial_and_cancel(&uri, Duration::from_millis(500)).await.unwrap();
    running.settle().await;
    assert_eq!(code, 487);
    let calls = running.hotline.store().calls(10).await.unwrap();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].outcome.as_deref(), Some("abandoned"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_up_in_any_state_leaves_one_record_and_nothing_else() {
    let running = common::start(|_| {}).await;
    let before = running.hotline.free_ports();
    // During the greeting; after it; while an answer is thought about; in the second prompt; while a seat is called.
    let scripts: Vec<Vec<Step>> = vec![
        vec![hang_up(0)],
        vec![hang_up(300)],
        vec![keys("1"), hang_up(10)],
        vec![keys("1"), hang_up(400)],
        vec![common::answer("order_query"), hang_up(0)],
        vec![common::answer("order_query"), hang_up(600)],
        vec![keys("2"), hang_up(2500)],
        vec![keys("0"), hang_up(100)],
        vec![keys("0"), hang_up(2500)],
    ];
    let count = scripts.len();
    let mut calls = Vec::new();
    for script in scripts {
        calls.push(running.call(ONE_ORDER, script));
    }
    for call in futures_lite(calls).await {
        assert_eq!(call.code, 200);
    }
    running.settle().await;
    let records = running.hotline.store().calls(100).await.unwrap();
    assert_eq!(records.len(), count);
    for r in &records {
        assert!(r.ended_at.is_some() && r.outcome.is_some(), "{r:?}");
    }
    until("all RTP ports are given back", || running.hotline.free_ports() == before).await;
}

/// Runs futures side by side and waits for all of them.
async fn futures_lite<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut pinned: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = pinned.iter().map(|_| None).collect();
    std::future::poll_fn(move |cx| {
        let mut waiting = false;
        for (future, slot) in pinned.iter_mut().zip(done.iter_mut()) {
            if slot.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *slot = Some(value),
                    std::task::Poll::Pending => waiting = true,
                }
            }
        }
        if waiting {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(done.iter_mut().map_while(Option::take).collect())
        }
    })
    .await
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
