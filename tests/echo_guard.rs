//! The hotline's own voice, come back from the caller's telephone, interrupts nothing and is nobody's words; a caller who
//! speaks over it is heard as soon as on a clean line.

use crate::common::wire::Caller;
use crate::common::{self, STRANGER, Watch, root};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::atomic::{AtomicBool, Ordering};
use zongji::audio::{AudioFrame, FRAME_SAMPLES};
use zongji::call::CallEvent;
use zongji::call::ear::Ear;
use zongji::speech::{EndpointRule, Mark};

/// Voiced sound that interrupts a prompt for good (the call's setting), in milliseconds.
const COMMIT_MS: u32 = 280;

/// Every recording of the fixtures, at the level of a prompt.
fn voices() -> Vec<(String, Vec<i16>)> {
    let mut names: Vec<_> = std::fs::read_dir(root().join("audio-fixtures"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "wav"))
        .collect();
    names.sort();
    let read = |p: &std::path::PathBuf| {
        let pcm = zongji::server::sound::read(p).expect("a fixture");
        let loud: Vec<f32> = pcm.iter().map(|s| f32::from(*s)).filter(|s| s.abs() > 200.0).collect();
        let rms = (loud.iter().map(|s| s * s).sum::<f32>() / loud.len() as f32).sqrt();
        let pcm = pcm.iter().map(|s| (f32::from(*s) * 3000.0 / rms).clamp(-32768.0, 32767.0) as i16).collect();
        (p.file_stem().unwrap().to_string_lossy().into_owned(), pcm)
    };
    names.iter().map(read).collect()
}

/// What comes back: a hybrid's short echo, or a room's of 50 ms; with the noise of a line.
fn echo_of(prompt: &[i16], delay: usize, db: f32, room: bool, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut way: Vec<f32> = if room {
        let mut fading = |k: u32| rng.random_range(-1.0f32..1.0) * (-(k as f32) / 90.0).exp();
        let mut way: Vec<f32> = (0..400).map(&mut fading).collect();
        way[3] = 1.2;
        way
    } else {
        vec![0.2, 1.0, -0.3, 0.0, 0.0, 0.15]
    };
    let norm = 10f32.powf(db / 20.0) / way.iter().map(|h| h * h).sum::<f32>().sqrt();
    way.iter_mut().for_each(|h| *h *= norm);
    let mut out = vec![0.0; prompt.len() + delay + way.len()];
    for (n, s) in prompt.iter().enumerate().filter(|(_, s)| **s != 0) {
        way.iter().enumerate().for_each(|(k, h)| out[n + delay + k] += f32::from(*s) * h);
    }
    out.iter_mut().for_each(|s| *s += rng.random_range(-6.0..6.0));
    out
}

/// What an ear makes of a call in which `prompt` is played and `came` comes.
#[derive(Default)]
struct Outcome {
    /// Milliseconds to the first word, from a moment on.
    confirmed: Option<u64>,
    /// Somebody was thought to speak at that moment.
    open: bool,
    /// Prompts turned down for a moment.
    onsets: usize,
    /// Longest voiced sound of an utterance.
    voiced: u32,
    /// Sound that was kept for a recogniser.
    kept: usize,
}

fn listen(prompt: &[i16], came: &[f32], from_ms: u64) -> Outcome {
    let mut ear = Ear::new(zongji::engines::new_vad());
    ear.open(EndpointRule::default());
    let mut outcome = Outcome::default();
    for (n, frame) in came.chunks_exact(FRAME_SAMPLES).enumerate() {
        let at = (n * FRAME_SAMPLES) as u64;
        let pcm = std::array::from_fn(|i| frame[i].clamp(-32768.0, 32767.0) as i16);
        let mark = ear.hear(&AudioFrame { at, pcm });
        outcome.onsets += usize::from(mark == Some(Mark::Onset));
        if mark == Some(Mark::Confirmed) && at / 8 >= from_ms {
            outcome.confirmed.get_or_insert(at / 8);
        }
        outcome.open |= at / 8 < from_ms && at / 8 + 20 >= from_ms && ear.voiced_ms() > 0;
        outcome.voiced = outcome.voiced.max(ear.voiced_ms());
        if mark == Some(Mark::Confirmed) {
            outcome.kept += 1;
        }
        let pcm = std::array::from_fn(|i| prompt.get(n * FRAME_SAMPLES + i).copied().unwrap_or(0));
        ear.played(&AudioFrame { at, pcm });
    }
    outcome
}

#[test]
fn an_echo_alone_never_interrupts() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let (mut prompts, mut ducked, mut begun, mut seconds) = (0, 0, 0, 0);
    for room in [false, true] {
        for (db, delay_ms) in [(-12.0, 20), (-12.0, 320), (-20.0, 120), (-20.0, 400)] {
            for (name, prompt) in voices() {
                let came = echo_of(&prompt, delay_ms * 8, db, room, &mut rng);
                let outcome = listen(&prompt, &came, 0);
                assert!(outcome.voiced < COMMIT_MS, "{name}, {db} dB after {delay_ms} ms, room {room}: interrupted");
                prompts += 1;
                seconds += prompt.len() / 8000;
                ducked += usize::from(outcome.onsets > 0);
                begun += outcome.kept;
            }
        }
    }
    eprintln!("{prompts} prompts of {seconds} s in all: {ducked} turned down for a moment, {begun} utterances begun");
    assert!(ducked * 5 < prompts && begun * 25 < prompts);
}

#[test]
fn a_caller_is_heard_over_the_echo_as_soon_as_without() {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let all = voices();
    let prompts: Vec<_> = all.iter().filter(|(_, p)| p.len() > 16_000).collect();
    let (mut late, mut open): (Vec<i64>, usize) = (Vec::new(), 0);
    for (db, room) in [(-120.0, false), (-12.0, false), (-12.0, true), (-20.0, true)] {
        for (name, prompt) in &prompts {
            for (_, caller) in all.iter().filter(|(n, _)| n != name).step_by(3) {
                let from_ms = rng.random_range(800..1200u64);
                let start = from_ms as usize * 8;
                let over = |mut line: Vec<f32>| {
                    line.resize(line.len().max(start + caller.len()), 0.0);
                    caller.iter().enumerate().for_each(|(n, s)| line[start + n] += f32::from(*s));
                    line
                };
                let clean = listen(&[], &over(vec![0.0; prompt.len()]), from_ms).confirmed;
                let echo = echo_of(prompt, rng.random_range(160..3200), db, room, &mut rng);
                let found = listen(prompt, &over(echo), from_ms);
                if found.open {
                    open += 1;
                    continue;
                }
                if let Some(clean) = clean.filter(|c| c + 300 < prompt.len() as u64 / 8) {
                    late.push(found.confirmed.unwrap_or(u64::MAX / 2) as i64 - clean as i64);
                }
            }
        }
    }
    assert!(open * 10 < late.len(), "{open} of {} with an open utterance before", late.len());
    late.sort_unstable();
    let at = |part: usize| late[(late.len() - 1) * part / 100];
    eprintln!(
        "{} interruptions: {} ms later in the middle, {} ms of 90 %, {} at most",
        late.len(),
        at(50),
        at(90),
        at(100)
    );
    assert!(at(50) <= 20 && at(90) <= 100 && at(100) <= 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_telephone_in_hands_free_mode_does_not_interrupt_the_hotline_and_its_caller_does() {
    let running = common::start(|s| s.echo_guard = true).await;
    let mut watch = Watch::of(&running);
    let mut caller = Caller::new(running.sip, STRANGER).await;
    caller.establish().await;
    // The greeting and the question come back; somebody speaks over the question.
    let zongji::server::phone::Act::Say(said, _) = common::say("complaint") else { unreachable!() };
    let speaks = AtomicBool::new(false);
    let begins = |e: &CallEvent| matches!(e, CallEvent::PromptStarted { .. });
    let mut all = Vec::new();
    let story = async {
        all.extend(watch.until("the greeting", begins).await);
        all.extend(watch.until("the question", begins).await);
        speaks.store(true, Ordering::Relaxed); // but not before the way back has been found
        all.extend(watch.until("a turn", |e| matches!(e, CallEvent::TurnDone(_))).await);
    };
    tokio::select! {
        () = caller.echo((180, 0.25), &said, (&speaks, 3000)) => panic!("it took too long"),
        () = story => {}
    }
    caller.bye().await;
    running.settle().await;
    let spoke = all.iter().position(|e| *e == CallEvent::SpeechStarted).expect("the caller was heard");
    let begun = all[..spoke].iter().filter(|e| begins(e)).count();
    let ended = |e: &&CallEvent| matches!(e, CallEvent::PromptEnded { .. });
    let first = all.iter().find(ended);
    assert!(matches!(first, Some(CallEvent::PromptEnded { interrupted: false, .. })), "the greeting: {all:#?}");
    assert_eq!(begun, 2, "the echo was taken for speech: {all:#?}");
    let turn = all.iter().find_map(|e| if let CallEvent::TurnDone(t) = e { Some(t.clone()) } else { None });
    assert_eq!(turn.map(|t| (t.intent, t.barge_in)), Some(("complaint".into(), true)), "{all:#?}");
}
