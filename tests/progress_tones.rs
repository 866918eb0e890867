//! What a network plays in place of a person: busy and congestion tones are a failure, before an answer and after one;
//! music is nothing at all.

use crate::common::far::{Far, may_call_out, trunk};
use crate::common::{self, Running, STRANGER, Watch, hang_up, keys};
use zongji::audio::{FRAME_SAMPLES, Tone, ToneGenerator};
use zongji::call::{CallEvent, TransferStage};
use zongji::server::outbound::Role;
use zongji::server::trunks::Trunk;

/// The hotline with one seat, a telephone outside, and the carrier by which it is called.
async fn begin() -> (Running, Far) {
    let mut far = Far::at([127, 0, 0, 1], ([127, 0, 0, 1], 9).into()).await;
    let trunk = Trunk { give_up_ms: 2000, ..trunk("carrier", far.address()) };
    let running = common::start(|s| {
        s.trunks = vec![trunk];
        s.outbound = may_call_out(Role::Flow, 1);
        s.seats[0].phone = Some("01012345678".into());
    })
    .await;
    far.c.to = running.sip;
    (running, far)
}

fn tone(on_ms: u32, off_ms: u32) -> impl FnMut(usize) -> [i16; FRAME_SAMPLES] + Send + 'static {
    let mut made = ToneGenerator::new(Tone { hz: [450.0, 0.0], amplitude: 3000.0, on_ms, off_ms, repeats: true });
    move |n| made.frame((n * FRAME_SAMPLES) as u64).pcm
}

/// A tune of two voices, with a 450 Hz note in it.
fn tune(n: usize) -> [i16; FRAME_SAMPLES] {
    let note = [300.0, 392.0, 450.0, 523.0, 660.0, 450.0, 784.0, 350.0][n / 15 % 8];
    let mut pcm = ToneGenerator::new(Tone::sine(note, 4000.0)).frame(0).pcm;
    let above = ToneGenerator::new(Tone::sine(note * 2.5, 3000.0)).frame(0).pcm;
    pcm.iter_mut().zip(above).for_each(|(a, b)| *a += b);
    pcm
}

fn bridged(e: &CallEvent) -> bool {
    matches!(e, CallEvent::Transfer { stage: TransferStage::Bridged, .. })
}

/// How the transfer ended, and the sentence of the leg's failure.
async fn outcome(running: &Running, events: &[CallEvent]) -> (Option<String>, String) {
    let rows = running.hotline.store().transfers(5).await.unwrap();
    let why = events.iter().find_map(|e| match e {
        CallEvent::LegFailed { reason, .. } => Some(reason.sentence.clone()),
        _ => None,
    });
    (rows[0].result.clone(), why.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_tone_before_the_answer_is_a_busy_seat() {
    let (running, mut far) = begin().await;
    let mut watch = Watch::of(&running);
    let asks = running.call(STRANGER, vec![keys("4"), hang_up(16_000)]);
    let far = async {
        far.called().await;
        far.reply_with_sound(&far.invite, "183 Session Progress").await;
        let _tone = far.plays(tone(350, 350));
        let cancel = far.asked_to("CANCEL").await;
        far.reply(&cancel, "200 OK").await;
        far.reply(&far.invite, "487 Request Terminated").await;
    };
    tokio::join!(asks, far);
    running.settle().await;
    let (result, why) = outcome(&running, &watch.all()).await;
    assert_eq!(result.as_deref(), Some("busy"));
    assert!(why.contains("did not take the call: a busy tone was heard") && why.contains("by trunk carrier"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_with_a_congestion_tone_after_it_is_no_person() {
    let (running, mut far) = begin().await;
    let mut watch = Watch::of(&running);
    let asks = running.call(STRANGER, vec![keys("4"), hang_up(22_000)]);
    let far = async {
        far.take_call().await;
        let _tone = far.plays(tone(700, 700));
        let bye = far.asked_to("BYE").await;
        far.reply(&bye, "200 OK").await;
    };
    tokio::join!(asks, far);
    running.settle().await;
    let all = watch.all();
    let (result, why) = outcome(&running, &all).await;
    assert_eq!(result.as_deref(), Some("timeout"));
    assert!(why.contains("answered, but nobody was there: a congestion tone was heard"), "{why}");
    let back = all.iter().position(|e| matches!(e, CallEvent::LegFailed { .. })).unwrap();
    assert!(all[back..].iter().any(|e| matches!(e, CallEvent::PromptStarted { .. })), "the caller is talked to again");
    let call = running.hotline.store().calls(1).await.unwrap().remove(0);
    assert_ne!(call.outcome.as_deref(), Some("transferred"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_colour_ring_is_no_answer_and_no_failure() {
    let (running, mut far) = begin().await;
    let mut watch = Watch::of(&running);
    let asks = running.call(STRANGER, vec![keys("4"), hang_up(24_000)]);
    let far = async {
        far.called().await;
        far.reply_with_sound(&far.invite, "183 Session Progress").await;
        let mut music = far.plays(tune);
        music.until(300).await; // 6 s of it
        let before = watch.all();
        assert!(!before.iter().any(|e| bridged(e) || matches!(e, CallEvent::LegFailed { .. })), "{before:?}");
        far.answer().await;
        watch.until("they are joined", bridged).await;
        let bye = far.asked_to("BYE").await;
        far.reply(&bye, "200 OK").await;
    };
    tokio::join!(asks, far);
    running.settle().await;
    let (result, why) = outcome(&running, &watch.all()).await;
    assert_eq!((result.as_deref(), why.as_str()), (Some("connected"), ""));
}
