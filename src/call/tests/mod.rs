//! Behaviour of the whole call in virtual time, with a scripted flow and a voice that is a number.

mod barge_in;
mod lifecycle;
mod tones;
mod transfers;
mod turns;

use super::*;
use crate::audio::{AudioFrame, FRAME_SAMPLES};
use crate::clock::Mono;
use crate::dialplan::{
    AnswerKind, Await, Counters, Input, KeyRule, Listen, Meaning, Outcome, Pause, Prompt, Reply, TransferOrder,
    Understood,
};
use crate::ids::{CallId, Leg, PromptId, RequestId, TurnId};
use crate::speech::{Lang, Vad};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Sample value of the caller's voice.
const VOICE: i16 = 5000;

/// Speech where samples are loud.
struct Loud;

impl Vad for Loud {
    fn speech(&mut self, frame: &AudioFrame) -> f32 {
        if frame.pcm[0] >= VOICE { 0.9 } else { 0.0 }
    }
    fn reset(&mut self) {}
}

/// Answers from a list, and keeps what it was told.
struct Script {
    replies: VecDeque<Reply>,
    told: Arc<Mutex<Vec<Input>>>,
    flows: Vec<String>,
    troubles: Vec<String>,
}

impl Flow for Script {
    fn step(&mut self, input: Input) -> Reply {
        if input == Input::NoInput {
            self.troubles.push("order/ask: silence is not foreseen".into());
        }
        self.told.lock().unwrap().push(input);
        self.replies.pop_front().unwrap_or_else(|| reply(&[], Await::Hangup(Outcome::Resolved)))
    }
    fn counters(&self) -> Counters {
        Counters { steps: 2, retries: 1, ..Counters::default() }
    }
    fn flows(&self) -> &[String] {
        &self.flows
    }
    fn take_troubles(&mut self) -> Vec<String> {
        std::mem::take(&mut self.troubles)
    }
}

fn reply(say: &[&str], then: Await) -> Reply {
    Reply { say: say.iter().map(|t| words(t, true)).collect(), then, trace: vec![] }
}

fn words(text: &str, barge_in: bool) -> Prompt {
    Prompt { text: text.into(), shown: text.into(), audio: None, rate: 1.0, barge_in, lang: Lang::Zh }
}

fn ask() -> Listen {
    Listen {
        flow: "order".into(),
        node: "ask".into(),
        kind: AnswerKind::Open,
        slot: None,
        choices: vec![],
        intents: vec![],
        keys: KeyRule { min: 1, max: 1, terminator: None, gap_ms: 2000 },
        speech: true,
        no_input_ms: 4000,
        max_speech_ms: 10_000,
        pause: Pause::Normal,
        secret: false,
        unrecorded: false,
    }
}

fn listen(change: impl FnOnce(&mut Listen)) -> Await {
    let mut listen = ask();
    change(&mut listen);
    Await::Listen(Box::new(listen))
}

fn meant(text: &str, meaning: Meaning) -> Heard {
    let result = Ok(Understood { meaning, ..Understood::no_match(text, 0.9) });
    Heard { result, engine: "test".into(), recognise_ms: 30, understand_ms: 2 }
}

fn intent(name: &str) -> Heard {
    meant(name, Meaning::Intent(name.into()))
}

fn order(warm: bool) -> TransferOrder {
    let briefing = words("客户要改地址", true);
    TransferOrder { queue: "main".into(), skill: None, warm, briefing, ring_ms: 8000 }
}

/// A call and the world around it: prompts are made at once, one second long unless told otherwise.
struct Rig {
    call: Call,
    now: Mono,
    at: u64,
    told: Arc<Mutex<Vec<Input>>>,
    /// Everything that was put out, in order.
    out: Vec<CallOutput>,
    /// What the caller heard, frame by frame.
    heard: Vec<AudioFrame>,
    /// Length of every prompt in milliseconds; 0: no sound comes by itself.
    prompt_ms: usize,
}

impl Rig {
    /// An answered call whose flow gives these replies.
    fn new(replies: Vec<Reply>) -> Rig {
        let mut rig =
            Rig::ringing(replies, CallSettings { answer_delay_ms: 0, lead_in_ms: 0, ..CallSettings::default() });
        rig.timeout();
        rig.handle(CallInput::Established);
        rig
    }

    fn ringing(replies: Vec<Reply>, settings: CallSettings) -> Rig {
        let told = Arc::new(Mutex::new(Vec::new()));
        let now = Mono::from_ms(1000);
        let (flows, troubles) = (vec!["order".into()], vec![]);
        let flow = Script { replies: replies.into(), told: told.clone(), flows, troubles };
        let call = Call::new(CallId::new(0, 1), Box::new(flow), Box::new(Loud), settings, now);
        let mut rig = Rig { call, now, at: 0, told, out: vec![], heard: vec![], prompt_ms: 1000 };
        rig.drain();
        rig
    }

    fn handle(&mut self, input: CallInput) {
        self.call.handle(self.now, input);
        self.drain();
    }

    fn timeout(&mut self) {
        self.call.timeout(self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.call.poll_output() {
            if let (CallOutput::Synthesise { prompt, .. }, true) = (&output, self.prompt_ms > 0) {
                let pcm = ramp(self.prompt_ms * 8);
                self.call.handle(self.now, CallInput::PromptAudio { prompt: *prompt, pcm, last: true });
            }
            self.out.push(output);
        }
    }

    /// 20 ms pass; the caller speaks or not.
    fn tick(&mut self, voice: bool) {
        self.tick_with([if voice { VOICE } else { 0 }; FRAME_SAMPLES]);
    }

    /// 20 ms pass in which this comes from the caller.
    fn tick_with(&mut self, pcm: [i16; FRAME_SAMPLES]) {
        self.now = self.now + Duration::from_millis(20);
        if self.call.deadline().is_some_and(|at| at <= self.now) {
            self.timeout();
        }
        self.call.hear(self.now, Leg::Caller, &AudioFrame { at: self.at, pcm });
        self.at += FRAME_SAMPLES as u64;
        let frame = self.call.speak(self.now, Leg::Caller);
        self.heard.push(frame);
        self.call.speak(self.now, Leg::Seat);
        self.drain();
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 20 {
            self.tick(false);
        }
    }

    fn voice(&mut self, ms: u64) {
        for _ in 0..ms / 20 {
            self.tick(true);
        }
    }

    fn key(&mut self, key: char) {
        self.handle(CallInput::Key { leg: Leg::Caller, key });
    }

    fn keys(&mut self, keys: &str) {
        keys.chars().for_each(|k| self.key(k));
    }

    fn answer(&mut self, heard: Heard) {
        let turn = self.call.turn();
        self.handle(CallInput::Heard { turn, heard });
    }

    fn told(&self) -> Vec<Input> {
        self.told.lock().unwrap().clone()
    }

    fn last_told(&self) -> Option<Input> {
        self.told().pop()
    }

    fn events(&self) -> Vec<&CallEvent> {
        self.out.iter().filter_map(|o| if let CallOutput::Event(e) = o { Some(e) } else { None }).collect()
    }

    fn count(&self, wanted: impl Fn(&CallOutput) -> bool) -> usize {
        self.out.iter().filter(|o| wanted(o)).count()
    }

    fn turns(&self) -> Vec<&Turn> {
        self.events()
            .into_iter()
            .filter_map(|e| if let CallEvent::TurnDone(t) = e { Some(&**t) } else { None })
            .collect()
    }

    fn record(&self) -> Option<&CallRecord> {
        self.out.iter().find_map(|o| if let CallOutput::Finished(r) = o { Some(&**r) } else { None })
    }

    fn spoken(&self) -> Vec<String> {
        let text = |o: &CallOutput| match o {
            CallOutput::Synthesise { request, .. } => Some(request.text.clone()),
            _ => None,
        };
        self.out.iter().filter_map(text).collect()
    }

    fn last_prompt(&self) -> PromptId {
        let id = |o: &CallOutput| if let CallOutput::Synthesise { prompt, .. } = o { Some(*prompt) } else { None };
        self.out.iter().rev().find_map(id).expect("no prompt was ordered")
    }
}

/// Samples that say where in the prompt they are: 1, 2, 3 … (never 0).
fn ramp(samples: usize) -> Arc<[i16]> {
    (1..=samples).map(|n| n as i16).collect()
}
