//! Whole calls in other codecs than G.711: heard, understood, and joined with a seat that speaks G.711.

use crate::common::sound::{callers_side, loudest};
use crate::common::wire::Caller;
use crate::common::{self, ONE_ORDER, SEAT, Watch, answer, hang_up, keys, tone};
use std::time::Duration;
use zongji::audio::detect::power;
use zongji::audio::{Coding, Encoder, EncoderOptions};
use zongji::call::{CallEvent, TransferStage};
use zongji::rtp::coding;
use zongji::sdp::Codec;
use zongji::server::phone::{Act, CallResult, Phone, PhoneSettings, Step, When, payload_hash};
use zongji::sip::Credential;

/// What the caller and the seat say, in Hz.
const CALLER: f32 = 600.0;
const SEAT_TONE: f32 = 1000.0;

fn phone(number: &str, codecs: Vec<Codec>) -> PhoneSettings {
    PhoneSettings { codecs, ..PhoneSettings::new(([127, 0, 0, 1], 0).into(), number) }
}

async fn registered(running: &common::Running, codecs: Vec<Codec>) -> Phone {
    let seat = Phone::start(phone(SEAT.0, codecs)).await.expect("a phone");
    let credential = Credential { user: SEAT.0.into(), password: SEAT.1.into(), realm: None };
    seat.agent().register(running.sip, &credential, 300).await.expect("it registers");
    seat
}

/// A call to a person: the caller's and the seat's results.
async fn bridged(caller: Codec, seat: Codec) -> (CallResult, CallResult) {
    let running = common::start(|s| s.codecs = vec![caller, Codec::Pcma]).await;
    let mut seat = registered(&running, vec![seat]).await;
    let step = |ms, act| Step { when: When::After(ms), act };
    let script = vec![step(4000, Act::Say(tone(SEAT_TONE, 5), "a tone".into())), step(7000, Act::HangUp)];
    let answering = tokio::spawn(async move { seat.answer(Duration::from_secs(30), 200, script, &mut |_| {}).await });
    let script = vec![keys("4"), step(6000, Act::Say(tone(CALLER, 4), "a tone".into()))];
    let result = running.call_with(phone(ONE_ORDER, vec![caller]), script).await;
    let seat = answering.await.unwrap().unwrap().expect("the seat was called");
    running.settle().await;
    let call = running.hotline.store().calls(1).await.unwrap().remove(0);
    assert!(call.bridged, "{caller:?}: {call:?}");
    (result, seat)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_in_other_codecs_hear_the_prompt_and_talk_with_a_g711_seat() {
    // Bytes of a whole packet that the codec makes of 20 ms.
    let codecs = [(Codec::G722, 172..=172), (Codec::G729, 32..=32), (Codec::Opus, 15..=140)];
    for (codec, size) in codecs {
        if !coding(codec).is_built_in() {
            common::skipped(format_args!("built without {codec:?}"));
            continue;
        }
        let (caller, seat) = bridged(codec, Codec::Pcma).await;
        assert_eq!(caller.code, 200, "{codec:?}");
        let stats = caller.stats.expect("there was media");
        let mean = stats.bytes_in / stats.packets_in.max(1);
        assert!(size.contains(&mean), "{codec:?}: {mean} bytes a packet");
        // The first prompt: speech for seconds, before a key was pressed.
        let spoken = caller.heard[..8000 * 4].chunks(160).filter(|f| power(f) > 120.0 * 120.0).count();
        assert!(spoken > 80, "{codec:?}: {spoken} frames of the prompt were heard");
        for (who, heard, hz) in [("seat", &seat.heard, CALLER), ("caller", &caller.heard, SEAT_TONE)] {
            let (level, share) = loudest(heard, hz);
            assert!(level > 12.0e6 && share > 0.8, "{codec:?}: the {who} hears {hz} Hz at {level}, {share} of all");
        }
        assert!(stats.concealed_ms < 500 && stats.lost == 0, "{codec:?}: {stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_in_other_codecs_is_understood() {
    for codec in [Codec::G722, Codec::G729, Codec::Opus] {
        if !coding(codec).is_built_in() {
            common::skipped(format_args!("built without {codec:?}"));
            continue;
        }
        let running = common::start(|s| s.codecs = vec![codec]).await;
        let script = vec![answer("order_query"), answer("yes"), hang_up(500)];
        running.call_with(phone(ONE_ORDER, vec![codec]), script).await;
        running.settle().await;
        let store = running.hotline.store();
        let call = store.calls(1).await.unwrap().remove(0);
        let turns = store.turns(call.id.parse().unwrap()).await.unwrap();
        let heard: Vec<_> = turns.iter().map(|t| (t.node.clone(), t.heard.clone(), t.intent.clone())).collect();
        assert!(turns[0].intent.contains("order"), "{codec:?}: {heard:?}");
    }
}

/// A caller whose packets are known byte by byte, and a seat that counts them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_two_opus_legs_packets_pass_untouched() {
    if !coding(Codec::Opus).is_built_in() {
        return common::skipped("built without opus");
    }
    let running = common::start(|s| s.codecs = vec![Codec::Opus, Codec::Pcma]).await;
    let mut watch = Watch::of(&running);
    let mut seat = registered(&running, vec![Codec::Opus, Codec::Pcma]).await;
    let answering = tokio::spawn(async move { seat.answer(Duration::from_secs(60), 200, vec![], &mut |_| {}).await });
    let mut caller = Caller::new(running.sip, ONE_ORDER).await;
    // No type of ours: the hotline sends and takes what the caller named.
    caller.formats = vec![(97, "opus/48000/2"), (98, "telephone-event/8000")];
    caller.establish().await;
    watch.until("a question", |e| matches!(e, CallEvent::PromptStarted { .. })).await;
    caller.key('4').await;
    watch.until("the seat", |e| matches!(e, CallEvent::Transfer { stage: TransferStage::Bridged, .. })).await;
    let mut encoder = Encoder::new(Coding::Opus, EncoderOptions::default()).expect("built with opus");
    let payloads: Vec<Vec<u8>> = tone(CALLER, 3)
        .chunks(160)
        .map(|frame| {
            let mut packet = Vec::new();
            assert!(encoder.encode(frame, &mut packet));
            packet
        })
        .collect();
    caller.send_coded(&payloads, 960).await;
    caller.bye().await;
    let seat = answering.await.unwrap().unwrap().expect("the seat was called");
    let sent: Vec<u64> = payloads.iter().map(|p| payload_hash(p)).collect();
    let from = seat.packets.iter().position(|p| p.payload == sent[0]).expect("the first packet came as it was");
    let came: Vec<u64> = seat.packets[from..].iter().map(|p| p.payload).take(sent.len()).collect();
    let same = came.iter().zip(&sent).take_while(|(a, b)| a == b).count();
    assert!(same > sent.len() - 5, "{same} of {} packets came untouched and in order", sent.len());
    assert!(loudest(&seat.heard, CALLER).0 > 15.0e6, "and they are the tone");
    running.settle().await;
    let call = running.hotline.store().calls(1).await.unwrap().remove(0);
    assert!(
        loudest(&callers_side(call.recording.expect("it is recorded")), CALLER).0 > 15.0e6,
        "the recording has the tone too"
    );
}
