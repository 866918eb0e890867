//! Whole calls without a word.

use crate::common::{self, ONE_ORDER, STRANGER, keys};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_business_is_done_with_keys_only() {
    let running = common::start(|s| s.speech = false).await;
    // Order; yes; change the address; phone's last four; amount paid; the second stored address; yes; satisfied.
    let script = ["1", "1", "1", "8000", "2899#", "2", "1", "1"].map(keys).to_vec();
    let steps = script.len();
    let result = running.call(ONE_ORDER, script).await;
    running.settle().await;
    let store = running.hotline.store();
    let call = store.calls(1).await.unwrap().remove(0);
    let turns = store.turns(call.id.parse().unwrap()).await.unwrap();
    let path: Vec<_> = turns.iter().map(|t| (t.node.clone(), t.heard.clone(), t.intent.clone())).collect();
    assert_eq!(result.steps_done, steps, "{path:?}");
    assert_eq!(call.outcome.as_deref(), Some("resolved"), "{path:?}");
    assert_eq!(store.order_changes(10).await.unwrap().len(), 1, "{path:?}");
    assert!(call.steps <= 3, "{path:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_finds_an_order_by_its_last_four_digits() {
    let running = common::start(|_| {}).await;
    let mut watch = common::Watch::of(&running);
    running.call(STRANGER, ["1", "3826#"].map(keys).to_vec()).await;
    running.settle().await;
    let store = running.hotline.store();
    let call = store.calls(1).await.unwrap().remove(0);
    let turns = store.turns(call.id.parse().unwrap()).await.unwrap();
    assert!(turns.iter().any(|t| t.heard == "****" && t.by_keys), "{turns:?}");
    let found: Vec<(String, String)> = watch
        .all()
        .into_iter()
        .filter_map(|e| match e {
            zongji::call::CallEvent::Action { name, outcome, .. } => Some((name, outcome)),
            _ => None,
        })
        .collect();
    assert!(found.iter().any(|(name, outcome)| name == "orders.get" && outcome == "ok"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_to_hand_over_to_ends_in_a_message_and_a_callback_ticket() {
    let running = common::start(|_| {}).await;
    running.call(STRANGER, vec![keys("0"), common::answer("complaint_story")]).await;
    running.settle().await;
    let tickets = running.hotline.store().tickets(5).await.unwrap();
    assert_eq!(tickets.first().map(|t| t.category.as_str()), Some("回拨"), "{tickets:?}");
}
