//! Interrupting: by key at once, by speech after a judgement.

use super::*;

fn asked() -> Rig {
    let mut rig = Rig::new(vec![reply(&["请说您要办的业务"], listen(|_| {}))]);
    rig.pass(200);
    rig
}

fn interrupted(rig: &Rig) -> usize {
    rig.count(|o| matches!(o, CallOutput::Event(CallEvent::PromptEnded { interrupted: true, .. })))
}

#[test]
fn a_key_stops_the_prompt_in_the_same_tick() {
    let mut rig = asked();
    rig.key('1');
    assert_eq!(interrupted(&rig), 1);
    assert_eq!(rig.last_told(), Some(Input::Keys("1".into())));
    rig.prompt_ms = 0;
    rig.tick(false);
    // 5 ms of fade, then nothing.
    assert!(rig.heard.last().unwrap().pcm[40..].iter().all(|&s| s == 0));
}

#[test]
fn speech_ducks_at_once_and_stops_the_prompt_once_it_is_sustained() {
    let mut rig = asked();
    rig.voice(80);
    let position = 8 * 260;
    let ducked = rig.heard.last().unwrap().pcm[159];
    assert!(ducked > 0 && i32::from(ducked) < position / 3, "{ducked}");
    rig.voice(240);
    assert!(rig.heard.last().unwrap().pcm.iter().all(|&s| s == 0), "the caller speaks: we are silent");
    rig.pass(700);
    rig.answer(intent("order_query"));
    assert_eq!(interrupted(&rig), 1);
    assert!(matches!(rig.last_told(), Some(Input::Heard(_))));
}

#[test]
fn a_backchannel_resumes_the_prompt_from_the_exact_frame() {
    let mut rig = asked();
    rig.voice(400);
    // Frames that were heard to their end, before the pause.
    let played = rig.heard.iter().filter(|f| f.pcm[159] != 0).count();
    assert!((15..30).contains(&played), "{played}");
    rig.pass(700);
    rig.answer(meant("嗯", Meaning::NoMatch));
    rig.tick(false);
    let resumed = rig.heard.last().unwrap();
    // After the 5 ms that fade in: the very samples that follow.
    assert_eq!(usize::try_from(resumed.pcm[40]).unwrap(), played * FRAME_SAMPLES + 41);
    assert_eq!(interrupted(&rig), 0);
    assert_eq!(rig.told().len(), 1, "the flow hears nothing of it");
    assert!(rig.events().contains(&&CallEvent::Ignored { heard: "嗯".into() }), "the record does");
    rig.pass(1000);
    let played = rig.events().into_iter().find_map(|e| match e {
        CallEvent::PromptEnded { played_ms, interrupted } => Some((*played_ms, *interrupted)),
        _ => None,
    });
    assert_eq!(played, Some((1000, false)));
}

#[test]
fn a_cough_only_ducks() {
    let mut rig = asked();
    rig.voice(80);
    rig.pass(400);
    assert_eq!(rig.count(|o| matches!(o, CallOutput::SpeechStart { .. })), 0);
    assert_eq!(rig.heard.last().unwrap().pcm[159], 8 * (200 + 80 + 400), "full loudness, nothing lost");
    rig.pass(600);
    assert_eq!(interrupted(&rig), 0);
}

#[test]
fn a_protected_prompt_is_not_interrupted_and_speech_in_it_does_not_count() {
    let protected = Reply { say: vec![words("通话将被录音", false)], then: listen(|_| {}), trace: vec![] };
    let mut rig = Rig::new(vec![protected]);
    rig.pass(100);
    rig.voice(600);
    assert_eq!(rig.heard.last().unwrap().pcm[159], 8 * 700);
    assert_eq!(rig.count(|o| matches!(o, CallOutput::SpeechStart { .. })), 0);
    rig.key('2');
    assert_eq!(rig.told().len(), 1, "the key waits for the prompt's end");
    rig.pass(320);
    assert_eq!(rig.last_told(), Some(Input::Keys("2".into())));
    assert_eq!(interrupted(&rig), 0);
}

#[test]
fn a_key_voids_the_utterance() {
    let mut rig = asked();
    rig.voice(300);
    rig.key('3');
    let turn = TurnId(1);
    assert_eq!(rig.count(|o| *o == CallOutput::SpeechCancel { turn }), 1);
    rig.handle(CallInput::Heard { turn, heard: intent("order_query") });
    assert_eq!(rig.told(), vec![Input::Start, Input::Keys("3".into())]);
}

#[test]
fn the_first_syllable_reaches_the_recogniser() {
    let mut rig = asked();
    rig.voice(1000);
    rig.pass(700);
    let sound: Vec<i16> = rig
        .out
        .iter()
        .filter_map(|o| if let CallOutput::SpeechAudio { pcm, .. } = o { Some(pcm.clone()) } else { None })
        .flatten()
        .collect();
    let voiced = sound.iter().filter(|&&s| s == VOICE).count();
    assert_eq!(voiced, 8000, "every sample that was spoken");
    let before = sound.iter().position(|&s| s == VOICE).unwrap();
    assert!((1500..=2400).contains(&before), "{before} samples of pre-roll");
}

#[test]
fn a_request_over_the_prompt_is_told_as_an_interruption() {
    let mut rig = asked();
    rig.voice(600);
    rig.pass(620);
    rig.answer(meant("转人工", Meaning::Global(crate::dialplan::Global::Human)));
    rig.pass(100);
    let turn = rig.turns()[0];
    assert!(turn.barge_in && turn.intent == "human");
    assert_eq!(turn.timings.endpoint, 600);
}
