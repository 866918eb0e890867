//! Watches a call from outside: what must hold whatever happens.

use crate::audio::AudioFrame;
use crate::call::{Call, CallEvent, CallInput, CallOutput, CallRecord, Phase, Stage, State};
use crate::clock::Mono;
use crate::ids::{Leg, PromptId, TurnId};
use std::collections::{BTreeMap, BTreeSet};

/// Longest silence while nobody listens, in milliseconds.
const LONGEST_SILENCE_MS: u64 = 9000;

/// How often things were seen, by name: a simulation that never sees a thing proves nothing about it.
pub type Seen = BTreeMap<&'static str, u64>;

/// The watcher of one call.
#[derive(Debug, Default)]
pub struct Watch {
    /// The record, once there is one.
    pub record: Option<CallRecord>,
    /// What was seen.
    pub seen: Seen,
    /// What went wrong inside the flow.
    pub dialplan: Vec<String>,
    utterance: Option<TurnId>,
    last_turn: TurnId,
    last_done: Option<TurnId>,
    turns_done: u32,
    seat: bool,
    seat_answered: bool,
    bridged: bool,
    /// The recording is silent.
    shaded: bool,
    answered: bool,
    prompt: bool,
    ordered: BTreeSet<PromptId>,
    stopped: BTreeSet<PromptId>,
    requests: u32,
    ended: u32,
    /// When the caller last heard something, or was listened to.
    loud_at: Option<Mono>,
}

type Check = Result<(), String>;

fn must(holds: bool, what: &str) -> Check {
    if holds { Ok(()) } else { Err(what.into()) }
}

/// Where the caller hung up.
const fn left_in(state: State) -> &'static str {
    match state {
        State::Offered => "left when offered",
        State::Ringing => "left while it rang",
        State::Answering => "left before the ACK",
        State::Talking => "left while talking",
        State::Transferring(Stage::Dialling) => "left while a seat was called",
        State::Transferring(Stage::Ringing) => "left while a seat's phone rang",
        State::Transferring(Stage::Briefing) => "left during the briefing",
        State::Transferring(Stage::Joining) => "left while being joined",
        State::Bridged => "left while talking with a seat",
        State::Ending => "left during the last words",
        State::Ended => "left after the end",
    }
}

impl Watch {
    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// What the call is told.
    pub fn input(&mut self, state: State, input: &CallInput) {
        match input {
            CallInput::HungUp(Leg::Caller) => self.saw(left_in(state)),
            CallInput::CallerLost => self.saw("signalling lost"),
            CallInput::TicketDone { ticket: None, .. } => self.saw("ticket refused"),
            CallInput::SeatAnswered => self.seat_answered = true,
            CallInput::SeatFailed(_) | CallInput::HungUp(Leg::Seat) => self.seat = false,
            CallInput::Hold { leg: Leg::Caller, held: true } => self.saw("hold by the caller"),
            CallInput::Hold { leg: Leg::Seat, held: true } => self.saw("hold by the seat"),
            _ => {}
        }
    }

    /// What the caller hears.
    pub fn frame(&mut self, now: Mono, call: &Call, frame: &AudioFrame, held: bool) -> Check {
        // Not at whole periods of the tones, where they pass through zero.
        let loud = frame.pcm.iter().step_by(20).any(|s| *s != 0);
        let ours = matches!(call.state(), State::Talking | State::Transferring(_))
            && !held
            && call.phase() != Phase::Listening;
        if loud || !ours {
            self.loud_at = Some(now);
        }
        must(
            now.ms_since(*self.loud_at.get_or_insert(now)) < LONGEST_SILENCE_MS,
            "the caller hears nothing and nobody listens",
        )
    }

    /// What the call puts out.
    pub fn output(&mut self, now: Mono, output: &CallOutput) -> Check {
        must(self.record.is_none(), "something follows Finished")?;
        match output {
            CallOutput::Answer => {
                must(!self.answered, "answered twice")?;
                self.answered = true;
            }
            CallOutput::Reject(_) => must(!self.answered, "refused after the answer")?,
            CallOutput::Hangup(Leg::Seat) => {
                must(self.seat, "a seat is hung up that is not there")?;
                self.seat = false;
            }
            CallOutput::Synthesise { prompt, .. } => must(self.ordered.insert(*prompt), "a prompt is ordered twice")?,
            CallOutput::StopSynthesis(prompt) => {
                must(self.ordered.contains(prompt), "a prompt is stopped that was never ordered")?;
                must(self.stopped.insert(*prompt), "a prompt is stopped twice")?;
            }
            CallOutput::Act { request, .. } | CallOutput::MakeTicket { request, .. } => {
                must(request.0 == self.requests + 1, "requests are not numbered in order")?;
                self.requests = request.0;
            }
            CallOutput::DialSeat { .. } => {
                must(!self.seat, "a second seat is called")?;
                (self.seat, self.seat_answered) = (true, false);
                self.saw("dialled");
            }
            CallOutput::Bridge(on) => {
                must(*on != self.bridged, "bridged twice")?;
                must(!on || self.seat && self.seat_answered, "bridged to nobody")?;
                self.bridged = *on;
                self.loud_at = Some(now);
            }
            CallOutput::Event(event) => self.event(now, event)?,
            CallOutput::Finished(record) => self.finished(record)?,
            CallOutput::Record(on) => {
                must(*on == self.shaded, "the recording is paused twice")?;
                self.shaded = !*on;
                self.saw("recording paused or resumed");
            }
            CallOutput::Ring | CallOutput::Progress | CallOutput::Hangup(Leg::Caller) => {}
            CallOutput::Hangup(Leg::Supervisor) => must(false, "the machine knows of no supervisor")?,
            CallOutput::SpeechStart { .. }
            | CallOutput::SpeechAudio { .. }
            | CallOutput::SpeechEnd { .. }
            | CallOutput::SpeechCancel { .. } => self.speech(output)?,
        }
        Ok(())
    }

    fn speech(&mut self, output: &CallOutput) -> Check {
        match output {
            CallOutput::SpeechStart { turn, .. } => {
                must(self.utterance.is_none(), "an utterance begins inside another")?;
                must(*turn > self.last_turn, "turns do not rise")?;
                (self.utterance, self.last_turn) = (Some(*turn), *turn);
                self.saw("utterance");
            }
            CallOutput::SpeechAudio { turn, pcm } => {
                must(self.utterance == Some(*turn), "sound for an utterance that is not open")?;
                must(!pcm.is_empty() && pcm.len() <= 2400, "a chunk is empty or too long")?;
            }
            CallOutput::SpeechEnd { turn } => must(self.utterance.take() == Some(*turn), "an end without a start")?,
            CallOutput::SpeechCancel { turn } => {
                must(self.utterance.take() == Some(*turn), "a cancel without a start")?;
                self.saw("utterance void");
            }
            _ => {}
        }
        Ok(())
    }

    fn event(&mut self, now: Mono, event: &CallEvent) -> Check {
        match event {
            CallEvent::PromptStarted { .. } => {
                must(!self.prompt, "two prompts at once")?;
                self.prompt = true;
            }
            CallEvent::PromptEnded { interrupted, .. } => {
                must(self.prompt, "a prompt ends that never began")?;
                self.prompt = false;
                if *interrupted {
                    self.saw("prompt interrupted");
                }
            }
            CallEvent::TurnDone(turn) => {
                must(self.last_done.is_none_or(|last| turn.id > last), "a turn is done twice or out of order")?;
                self.last_done = Some(turn.id);
                self.turns_done += 1;
                self.saw(if turn.keys { "turn by keys" } else { "turn by speech" });
                if turn.intent == "recorded" {
                    self.saw("recorded");
                }
            }
            CallEvent::Transfer { stage, .. } => self.saw(match stage {
                crate::call::TransferStage::Bridged => "bridged",
                crate::call::TransferStage::Failed => "transfer failed",
                crate::call::TransferStage::Returned => "seat left, caller back",
                crate::call::TransferStage::Briefing => "briefing",
                _ => "transfer",
            }),
            CallEvent::NoInput => self.saw("no input"),
            CallEvent::Ignored { .. } => self.saw("speech ignored"),
            CallEvent::Action { outcome, .. } if outcome == "timeout" => self.saw("action timeout"),
            CallEvent::Trouble(what) => {
                self.loud_at = Some(now);
                self.saw("trouble");
                if let Some(what) = what.strip_prefix("dialplan: ") {
                    self.dialplan.push(what.into());
                }
            }
            CallEvent::Ended(_) => self.ended += 1,
            _ => {}
        }
        Ok(())
    }

    fn finished(&mut self, record: &CallRecord) -> Check {
        must(self.ended == 1, "not exactly one end")?;
        must(self.utterance.is_none(), "the call ended inside an utterance")?;
        must(!self.seat, "the call ended and left a seat on the line")?;
        must(!self.bridged, "the call ended bridged")?;
        must(!self.prompt, "the call ended inside a prompt")?;
        must(self.turns_done == record.turns, "the record counts other turns than were done")?;
        must(record.ended >= record.offered, "it ended before it began")?;
        must(record.answered.is_none() || self.answered, "established but never answered")?;
        self.record = Some(record.clone());
        Ok(())
    }
}
