//! Interrupting: counted in packets by RTP sequence, not in time.

use crate::common::{self, STRANGER, keys, keys_into};
use zongji::server::phone::PhoneSettings;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_three_prompt_packets_follow_a_digit() {
    let running = common::start(|_| {}).await;
    let phone = PhoneSettings::new(([127, 0, 0, 1], 0).into(), STRANGER);
    // The question for the order's number is interrupted by its first digit; the answer stays incomplete, so that
    // nothing else is said for a while.
    let script = vec![keys("1"), keys_into(1500, "3"), common::hang_up(900)];
    let result = running.call_with(phone, script).await;
    running.settle().await;
    let mark = result.key_marks[1];
    // Packets may overtake each other: later than the digit is what the hotline numbered after the newest one we had.
    let newest =
        result.packets[..mark].iter().map(|p| p.seq).reduce(|a, b| if b.wrapping_sub(a) < 0x8000 { b } else { a });
    let newest = newest.expect("packets came before the digit");
    let ahead = |seq: u16| seq.wrapping_sub(newest);
    let is_later = |seq: u16| (1..0x8000).contains(&ahead(seq));
    let before = result.packets.iter().filter(|p| !is_later(p.seq) && ahead(p.seq).wrapping_neg() < 10);
    let before = before.filter(|p| p.sound).count();
    assert!(before >= 5, "the prompt was playing: {before} of 10");
    let after: Vec<u16> = result.packets.iter().filter(|p| p.sound && is_later(p.seq)).map(|p| ahead(p.seq)).collect();
    assert!(after.len() <= 3, "prompt packets after the digit's first packet: {after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn speech_stops_the_prompt_and_is_understood() {
    let running = common::start(|_| {}).await;
    let script = vec![
        zongji::server::phone::Step { when: zongji::server::phone::When::Into(2500), act: common::say("complaint") },
        common::hang_up(4000),
    ];
    running.call(STRANGER, script).await;
    running.settle().await;
    let store = running.hotline.store();
    let call = store.calls(1).await.unwrap().remove(0);
    let turns = store.turns(call.id.parse().unwrap()).await.unwrap();
    assert_eq!(turns.first().map(|t| (t.intent.as_str(), t.barge_in)), Some(("complaint", true)), "{turns:?}");
}
