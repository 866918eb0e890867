//! The caller's side of a turn: speech and keys become one answer, over a prompt or after it.

use super::judge::{Verdict, judge};
use super::keys::KeyStep;
use super::life::State;
use super::machine::Call;
use super::mouth::Role;
use super::settings::{ms, pause_ms};
use super::timer::Timer;
use super::turn::{Awaiting, Speech};
use super::{CallEvent, CallOutput, Heard, cdr};
use crate::clock::Mono;
use crate::dialplan::{Input, Meaning, Understood};
use crate::ids::{Leg, TurnId};
use crate::speech::{EndpointRule, Mark, Utterance};

/// Shortest and longest wait for an answer, in milliseconds.
const MIN_NO_INPUT_MS: u32 = 500;
const MAX_NO_INPUT_MS: u32 = 120_000;
/// Limits of an utterance, in milliseconds.
const SPEECH_MS: (u32, u32) = (1000, 60_000);
/// So many failures in a row and only keys count (where there are any).
const MAX_FAULTS: u8 = 2;

impl Call {
    // ---- keys

    /// A key of the caller while he talks with the flow.
    pub(super) fn key(&mut self, now: Mono, key: char) {
        let shown = match &self.turn.awaiting {
            Awaiting::Answer(l) => l.shown(key),
            Awaiting::Record(_) => key,
            // Pressed too early, or too late: it may be part of anything.
            _ => '*',
        };
        self.event(CallEvent::Key(shown));
        match &self.turn.awaiting {
            // Before the tone too: who has nothing to say need not wait for it.
            Awaiting::Record(_) if key == '#' => self.end_recording(now, 0),
            Awaiting::Record(_) if key == '0' => self.leave_recording(now),
            Awaiting::Answer(_) if !self.held.caller => self.answer_key(now, key),
            _ => {}
        }
    }

    fn answer_key(&mut self, now: Mono, key: char) {
        let Some(l) = self.turn.listening() else { return };
        if l.ready.is_some() || !l.keys.wanted() {
            return;
        }
        let first = !l.keys.begun();
        let step = l.keys.press(key);
        if step == KeyStep::Ignored {
            return;
        }
        l.last_key = now;
        let gap = l.keys.gap_ms();
        if first {
            self.void_speech(now, false);
            self.turn.begin();
            let (over_prompt, began_ms) = (self.mouth.busy(), self.since_answer(now));
            if let Some(l) = self.turn.listening() {
                l.over_prompt = over_prompt;
                l.began_ms = began_ms;
            }
        }
        self.timers.clear(Timer::NoInput);
        if !self.mouth.protected() {
            self.mouth.stop();
        }
        match step {
            KeyStep::Done(keys) => self.keys_complete(keys),
            KeyStep::More | KeyStep::Ignored => self.timers.set(Timer::KeyGap, now + ms(gap)),
        }
    }

    /// The pause after a key is over.
    pub(super) fn key_gap(&mut self, _now: Mono) {
        if let Some(l) = self.turn.listening()
            && l.keys.begun()
        {
            let keys = l.keys.take();
            self.keys_complete(keys);
        }
    }

    /// Kept until nothing protected is being said; `settle_answer` gives them to the flow.
    fn keys_complete(&mut self, keys: String) {
        self.timers.clear(Timer::KeyGap);
        if let Some(l) = self.turn.listening() {
            l.ready = Some(keys);
        }
    }

    fn give_keys(&mut self, now: Mono, keys: String) {
        let id = self.turn.id();
        if let Some(l) = self.turn.listening() {
            let mut turn = cdr::blank(id, &l.listen.flow, &l.listen.node, l.began_ms);
            let hidden = cdr::hides_digits(&l.listen);
            turn.heard = if hidden { "*".repeat(keys.chars().count()) } else { keys.clone() };
            turn.keys = true;
            turn.confidence = 1.0;
            turn.score = 1.0;
            let choice = l.listen.choices.iter().find(|c| c.key.is_some_and(|k| keys.chars().eq([k])));
            turn.intent = choice.map_or_else(
                || "keys".into(),
                |c| cdr::shown_intent(&l.listen, &Meaning::Choice(String::new()), &c.name),
            );
            turn.barge_in = l.over_prompt;
            turn.timings.endpoint = now.ms_since(l.last_key) as u32;
            self.begin_draft(now, turn);
        }
        self.mouth.stop();
        self.step(now, Input::Keys(keys));
    }

    // ---- speech

    /// What the open ear made of a frame.
    pub(super) fn on_sound(&mut self, now: Mono, mark: Option<Mark>) {
        if let Awaiting::Record(recording) = &mut self.turn.awaiting {
            match mark {
                Some(Mark::Confirmed) => {
                    recording.spoke = true;
                    self.timers.clear(Timer::NoInput);
                }
                Some(Mark::Ended(utterance)) => {
                    self.end_recording(now, utterance.pause_ms);
                    self.settle(now);
                }
                _ => {}
            }
            // The sound itself is in the call's recording.
            self.ear.drop_sound();
            return;
        }
        match mark {
            Some(Mark::Onset) => self.speech_onset(),
            Some(Mark::Confirmed) => self.speech_confirmed(now),
            Some(Mark::Void) => self.void_speech(now, true),
            Some(Mark::Ended(utterance)) => self.speech_ended(now, utterance),
            None => {}
        }
        let open = self.turn.listening().is_some_and(|l| l.speech == Speech::Open);
        if open {
            self.send_sound(false);
            if self.ear.voiced_ms() >= self.settings.commit_ms && self.mouth.busy() {
                self.mouth.pause();
            }
        }
        if mark.is_some() {
            self.settle(now);
        }
    }

    fn speech_onset(&mut self) {
        let over_prompt = self.mouth.busy();
        if let Some(l) = self.turn.listening() {
            l.speech = Speech::Onset;
            l.over_prompt = over_prompt;
        }
        self.timers.clear(Timer::NoInput);
        self.mouth.duck();
    }

    fn speech_confirmed(&mut self, now: Mono) {
        let id = self.turn.begin();
        let began = self.since_answer(now).saturating_sub(u64::from(self.settings.min_speech_ms));
        let Some(l) = self.turn.listening() else { return };
        l.speech = Speech::Open;
        l.began_ms = began;
        let listen = l.listen.clone();
        self.event(CallEvent::SpeechStarted);
        self.put(CallOutput::SpeechStart { turn: id, listen });
    }

    fn speech_ended(&mut self, now: Mono, utterance: Utterance) {
        self.send_sound(true);
        self.ear.close();
        if let Some(l) = self.turn.listening() {
            l.speech = Speech::Judging { utterance, since: now };
        }
        self.event(CallEvent::SpeechEnded { speech_ms: utterance.speech_ms });
        self.put(CallOutput::SpeechEnd { turn: self.turn.id() });
        self.timers.set(Timer::Recogniser, now + ms(self.settings.recogniser_ms.max(100)));
        self.timers.set(Timer::Filler, now + ms(self.settings.slow_ms));
    }

    fn send_sound(&mut self, all: bool) {
        let turn = self.turn.id();
        while let Some(pcm) = self.ear.take_chunk(all) {
            self.put(CallOutput::SpeechAudio { turn, pcm });
        }
    }

    /// The caller's speech counts for nothing; with `resume` the prompt goes on from where it is.
    fn void_speech(&mut self, now: Mono, resume: bool) {
        let turn = self.turn.id();
        let Some(l) = self.turn.listening() else { return };
        let was = std::mem::replace(&mut l.speech, Speech::Quiet);
        if was == Speech::Open {
            self.put(CallOutput::SpeechCancel { turn });
        }
        self.timers.clear(Timer::Recogniser);
        self.timers.clear(Timer::Filler);
        if resume && was != Speech::Quiet {
            self.mouth.resume(now);
            self.mouth.drop_fillers(now);
        }
    }

    /// Closes the ear; an utterance that goes on is void.
    pub(super) fn close_ear(&mut self) {
        self.ear.close();
        let turn = self.turn.id();
        if let Some(l) = self.turn.listening()
            && l.speech == Speech::Open
        {
            l.speech = Speech::Quiet;
            self.put(CallOutput::SpeechCancel { turn });
        }
    }

    /// What was begun of an answer counts for nothing (the caller puts us on hold).
    pub(super) fn void_answer(&mut self, now: Mono) {
        self.timers.clear(Timer::NoInput);
        self.timers.clear(Timer::KeyGap);
        if let Some(l) = self.turn.listening() {
            l.keys.take();
            if matches!(l.speech, Speech::Onset | Speech::Open) {
                self.void_speech(now, true);
            }
        }
        self.ear.close();
    }

    /// An utterance was understood, or not. Late answers end here, at the first line.
    pub(super) fn heard(&mut self, now: Mono, turn: TurnId, heard: Heard) {
        if !self.turn.accepts(turn) {
            return;
        }
        match heard.result {
            Ok(understood) => {
                self.turn.faults = 0;
                let (took, then) = (heard.recognise_ms, heard.understand_ms);
                self.understood(now, understood, took, then);
            }
            Err(why) => self.recogniser_failed(now, &why),
        }
    }

    fn understood(&mut self, now: Mono, heard: Understood, recognise_ms: u32, understand_ms: u32) {
        let mouth_busy = self.mouth.busy();
        let Some(l) = self.turn.listening() else { return };
        let (utterance, waited) = match l.speech {
            Speech::Judging { utterance, since } => (Some(utterance), now.ms_since(since) as u32),
            _ => (None, 0),
        };
        let voiced = utterance.map_or(u32::MAX, |u| u.voiced_ms);
        if l.over_prompt && judge(&heard, l.listen.kind, voiced) == Verdict::GoOn {
            let words = cdr::shown_words(&l.listen, &heard.text);
            self.event(CallEvent::Ignored { heard: words });
            return self.void_speech(now, true);
        }
        let mut turn = cdr::blank(self.turn.id(), "", "", 0);
        if let Some(l) = self.turn.listening() {
            turn.flow.clone_from(&l.listen.flow);
            turn.node.clone_from(&l.listen.node);
            turn.at_ms = l.began_ms;
            turn.barge_in = l.over_prompt && mouth_busy;
            turn.heard = cdr::shown_words(&l.listen, &heard.text);
            turn.intent = cdr::shown_intent(&l.listen, &heard.meaning, cdr::intent_word(&heard));
        }
        turn.confidence = heard.confidence;
        turn.score = cdr::score(&heard);
        turn.emotion = heard.emotion;
        turn.timings.endpoint = utterance.map_or(0, |u| u.pause_ms);
        // Waiting in queues counts as recognising: the caller waits all the same.
        turn.timings.recognise = recognise_ms.max(waited.saturating_sub(understand_ms));
        turn.timings.understand = understand_ms;
        self.begin_draft(now, turn);
        self.mouth.stop();
        self.step(now, Input::Heard(heard));
    }

    /// No meaning will come: apologise, and let the flow ask again.
    pub(super) fn recogniser_failed(&mut self, now: Mono, why: &str) {
        self.turn.faults = self.turn.faults.saturating_add(1);
        self.event(CallEvent::Trouble(format!("an utterance was not recognised: {why}")));
        let mut turn = cdr::blank(self.turn.id(), "", "", 0);
        let limit = self.settings.recogniser_ms;
        let Some(l) = self.turn.listening() else { return };
        turn.flow.clone_from(&l.listen.flow);
        turn.node.clone_from(&l.listen.node);
        turn.at_ms = l.began_ms;
        turn.intent = "nomatch".into();
        if let Speech::Judging { utterance, since } = l.speech {
            turn.timings.endpoint = utterance.pause_ms;
            turn.timings.recognise = (now.ms_since(since) as u32).min(limit);
        }
        self.begin_draft(now, turn);
        self.mouth.stop();
        let sorry = self.settings.phrases.prompt(&self.settings.phrases.apology, true);
        if let Some(draft) = &mut self.draft {
            draft.said(now, &sorry.shown);
        }
        self.say(now, Leg::Caller, sorry, Role::Answer);
        self.step(now, Input::Heard(Understood::no_match("", 0.0)));
    }

    // ---- silence, and what follows by itself

    /// Nobody said or pressed anything in time.
    pub(super) fn no_input(&mut self, now: Mono) {
        match &self.turn.awaiting {
            Awaiting::Answer(_) => {
                self.event(CallEvent::NoInput);
                self.step(now, Input::NoInput);
            }
            Awaiting::Record(_) => self.end_recording(now, self.settings.record_silence_ms),
            _ => {}
        }
    }

    /// Opens and closes the ear, starts the wait for an answer, gives completed keys to the flow.
    pub(super) fn settle_turn(&mut self, now: Mono) {
        let protected = self.mouth.protected();
        let quiet = !self.mouth.busy();
        let faulty = self.turn.faults >= MAX_FAULTS;
        let may_hear = self.settings.speech && !self.held.caller && self.state == State::Talking;
        match &mut self.turn.awaiting {
            Awaiting::Answer(l) => {
                if !protected && let Some(keys) = l.ready.take() {
                    return self.give_keys(now, keys);
                }
                let open = may_hear && !protected && l.wants_speech(faulty);
                let rule = EndpointRule {
                    pause_ms: pause_ms(l.listen.pause),
                    max_ms: l.listen.max_speech_ms.clamp(SPEECH_MS.0, SPEECH_MS.1),
                    ..self.rule()
                };
                self.set_ear(now, open, rule);
                self.settle_wait(now, quiet);
            }
            Awaiting::Record(r) if quiet && !self.held.caller => {
                let max_ms = r.max_ms;
                if r.from_ms.is_none() {
                    r.from_ms = Some(self.caller_ms);
                    self.timers.set(Timer::Record, now + ms(max_ms));
                }
                // Also after a hold, which closed the ear: the words before it still count.
                if may_hear && !self.ear.is_open() {
                    self.timers.set(Timer::NoInput, now + ms(self.settings.record_silence_ms.max(MIN_NO_INPUT_MS)));
                    let rule = EndpointRule { pause_ms: self.settings.record_pause_ms, max_ms, ..self.rule() };
                    self.set_ear(now, true, rule);
                }
            }
            _ => {}
        }
    }

    /// The wait for an answer runs while nothing is said, by us or by the caller. What came to nothing (a cough) leaves
    /// it what remained of it.
    fn settle_wait(&mut self, now: Mono, quiet: bool) {
        let held = self.held.caller;
        let Some(l) = self.turn.listening() else { return };
        if !quiet || held {
            l.wait_until = None;
        }
        if !quiet || held || l.begun() {
            return self.timers.clear(Timer::NoInput);
        }
        let whole = now + ms(l.listen.no_input_ms.clamp(MIN_NO_INPUT_MS, MAX_NO_INPUT_MS));
        let until = *l.wait_until.get_or_insert(whole);
        if !self.timers.is_set(Timer::NoInput) {
            self.timers.set(Timer::NoInput, until.max(now + ms(MIN_NO_INPUT_MS)));
        }
    }

    fn rule(&self) -> EndpointRule {
        EndpointRule {
            threshold: self.settings.vad_threshold,
            release: self.settings.vad_threshold * 0.7,
            min_speech_ms: self.settings.min_speech_ms,
            ..EndpointRule::default()
        }
    }

    fn set_ear(&mut self, now: Mono, open: bool, rule: EndpointRule) {
        if open && !self.ear.is_open() {
            self.ear.open(rule);
        } else if !open && self.ear.is_open() {
            let begun =
                matches!(&self.turn.awaiting, Awaiting::Answer(l) if matches!(l.speech, Speech::Onset | Speech::Open));
            if begun {
                self.void_speech(now, true);
            }
            self.ear.close();
        }
    }
}
