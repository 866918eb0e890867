//! A phone that knows no telephone events: its keys are tones in its sound.

use crate::common::wire::Caller;
use crate::common::{self, ONE_ORDER, Watch};
use zongji::audio::{Tone, ToneGenerator};
use zongji::call::CallEvent;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_only_sound_answers_and_counts_once_when_sip_tells_it_too() {
    let running = common::start(|s| s.speech = false).await;
    let mut watch = Watch::of(&running);
    let mut caller = Caller::new(running.sip, ONE_ORDER).await;
    caller.establish().await;
    watch.until("the question", |e| matches!(e, CallEvent::PromptStarted { shown } if shown.contains("业务"))).await;
    let mut pcm = vec![0; 3200];
    ToneGenerator::new(Tone::key('1').unwrap()).fill(&mut pcm);
    caller.say(&pcm).await;
    watch.until("the answer is taken", |e| matches!(e, CallEvent::TurnDone(t) if t.heard == "1" && t.keys)).await;
    caller.key('1').await;
    caller.bye().await;
    running.settle().await;
    let pressed = watch.all().into_iter().filter(|e| matches!(e, CallEvent::Key(_))).count();
    assert_eq!(pressed, 0, "what SIP tells of the same press is no second one");
}
