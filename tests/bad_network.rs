//! A call through a network that loses, delays, reorders and repeats.

use crate::common::proxy::{Proxy, Weather};
use crate::common::{self, ONE_ORDER, keys};
use zongji::server::phone::PhoneSettings;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_the_end_survive_five_percent_loss_jitter_and_reordering() {
    let running = common::start(|s| s.speech = false).await;
    let proxy = Proxy::start(Weather { loss: 0.05, jitter_ms: 60, twice: 0.02 }, 20_261_120).await;
    let mut phone = PhoneSettings::new(([127, 0, 0, 1], 0).into(), ONE_ORDER);
    phone.relay = Some(proxy.clone());
    phone.prompt_gap_ms = 1200;
    let script = ["1", "1", "1", "8000", "2899#", "2", "1", "1"].map(keys).to_vec();
    let steps = script.len();
    let result = running.call_with(phone, script).await;
    running.settle().await;
    let store = running.hotline.store();
    let call = store.calls(1).await.unwrap().remove(0);
    let turns = store.turns(call.id.parse().unwrap()).await.unwrap();
    let digits: Vec<&str> = turns.iter().filter(|t| t.by_keys).map(|t| t.heard.trim_end_matches('#')).collect();
    assert_eq!(result.steps_done, steps, "{digits:?}");
    // Rows of digits are masked in the record; a wrong one would have failed the verification or picked another address.
    assert_eq!(digits, ["1", "1", "1", "****", "****", "*", "1", "1"]);
    let change = store.order_changes(1).await.unwrap().remove(0);
    assert!(change.became.is_some_and(|a| a.expose().contains("建国路")));
    assert_eq!(call.outcome.as_deref(), Some("resolved"));
    for (way, s) in ["from the caller", "to the caller"].into_iter().zip(proxy.suffered()) {
        assert!(s.lost > 0 && s.doubled > 0 && s.overtaken > 0, "the network was good {way}: {s:?}");
    }
}
