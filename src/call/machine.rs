//! The call: holds the small machines and carries what one says to the others.
//!
//! `handle_*`-like doors take what happened, `poll_output` gives what is to be done. After `Hangup(Leg::Seat)` the
//! world reports nothing more of that seat's leg; a new `DialSeat` means a new leg.

use super::cdr::{Draft, Tally};
use super::ear::Ear;
use super::life::{self, Close, Signal, State, Step};
use super::mouth::{Mouth, Role, Said};
use super::settings::{CallSettings, ms, secs};
use super::shade::Shade;
use super::timer::{Timer, Timers};
use super::tone::Tone;
use super::transfer::Transfer;
use super::turn::{Awaiting, Phase, TurnTaking};
use super::{CallEvent, CallInput, CallOutput, EndReason, Facts, Flow, Why};
use crate::audio::{AudioFrame, FRAME_SAMPLES, FaxDetector, FaxTone};
use crate::clock::Mono;
use crate::dialplan::{Input, Outcome, Prompt};
use crate::ids::{CallId, Leg, PromptId, RequestId, TurnId};
use crate::speech::{SpeechRequest, Vad};
use std::collections::VecDeque;

/// Time to take an offered call.
const OFFER_S: u32 = 5;

/// Fax machines make their tones known within this time of the answer, in milliseconds.
const FAX_MS: u64 = 60_000;

/// Who holds the line.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Held {
    pub caller: bool,
    pub seat: bool,
}

impl Held {
    pub const fn any(self) -> bool {
        self.caller || self.seat
    }
}

/// One call, one machine.
pub struct Call {
    id: CallId,
    pub(super) settings: CallSettings,
    pub(super) flow: Box<dyn Flow>,
    pub(super) state: State,
    pub(super) timers: Timers,
    pub(super) ear: Ear,
    fax: FaxDetector,
    pub(super) mouth: Mouth,
    pub(super) seat_mouth: Mouth,
    pub(super) turn: TurnTaking,
    pub(super) draft: Option<Draft>,
    /// Tickets that were ordered and have not come back, with their categories.
    pub(super) tickets: Vec<(RequestId, String)>,
    pub(super) tally: Tally,
    pub(super) transfer: Option<Transfer>,
    pub(super) shade: Shade,
    pub(super) held: Held,
    /// Whether the legs are joined.
    pub(super) joined: bool,
    /// When the time with us is up.
    pub(super) talk_until: Mono,
    /// Frames of the current tone that have gone out.
    pub(super) tone_frames: u64,
    /// The caller's media clock at the last frame, in milliseconds.
    pub(super) caller_ms: u64,
    /// Whether there was one.
    pub(super) heard_any: bool,
    pub(super) flow_steps: u32,
    /// Caller steps used, by the last trace.
    pub(super) steps: u8,
    /// Flow and node where the call is, by the last trace.
    pub(super) place: (String, String),
    last_prompt: PromptId,
    last_request: RequestId,
    caller_at: u64,
    seat_at: u64,
    out: VecDeque<CallOutput>,
}

impl Call {
    /// A call for an admitted INVITE. It rings at once.
    pub fn new(id: CallId, flow: Box<dyn Flow>, vad: Box<dyn Vad>, settings: CallSettings, now: Mono) -> Call {
        let wait = ms(settings.prompt_wait_ms.max(100));
        let mut seat_mouth = Mouth::new(wait);
        seat_mouth.freeze(now, true);
        let mut call = Call {
            id,
            settings,
            flow,
            state: State::Offered,
            timers: Timers::default(),
            ear: Ear::new(vad),
            fax: FaxDetector::new(),
            mouth: Mouth::new(wait),
            seat_mouth,
            turn: TurnTaking::default(),
            draft: None,
            tickets: Vec::new(),
            place: Default::default(),
            tally: Tally::new(now),
            transfer: None,
            shade: Shade::default(),
            held: Held::default(),
            joined: false,
            talk_until: now,
            tone_frames: 0,
            caller_ms: 0,
            heard_any: false,
            flow_steps: 0,
            steps: 0,
            last_prompt: PromptId(0),
            last_request: RequestId(0),
            caller_at: 0,
            seat_at: 0,
            out: VecDeque::new(),
        };
        call.timers.set(Timer::State, now + secs(OFFER_S));
        call.event(CallEvent::Offered);
        call.apply(now, Signal::Accepted, None);
        call
    }

    // ---- what can be seen

    /// Its name.
    pub const fn id(&self) -> CallId {
        self.id
    }

    /// Where it is.
    pub const fn state(&self) -> State {
        self.state
    }

    /// The current turn.
    pub const fn turn(&self) -> TurnId {
        self.turn.id()
    }

    /// What the conversation is doing.
    pub fn phase(&self) -> Phase {
        self.turn.phase(self.mouth.busy())
    }

    /// Whether the shard relays between the two legs (false while one of them holds).
    pub const fn is_bridged(&self) -> bool {
        self.joined
    }

    /// Whether the call is over; nothing follows its last output.
    pub fn is_finished(&self) -> bool {
        self.state == State::Ended
    }

    /// When `timeout` is to be called, at the latest.
    pub fn deadline(&self) -> Option<Mono> {
        let prompts = [self.mouth.deadline(), self.seat_mouth.deadline()];
        self.timers.next().into_iter().chain(prompts.into_iter().flatten()).min()
    }

    /// The next thing to carry out.
    pub fn poll_output(&mut self) -> Option<CallOutput> {
        self.out.pop_front()
    }

    // ---- what happens

    /// Something happened.
    pub fn handle(&mut self, now: Mono, input: CallInput) {
        if is_about_a_supervisor(&input) {
            return;
        }
        let signal = signal_of(&input);
        self.apply(now, signal, Some(input));
        self.settle(now);
    }

    /// A deadline may have come.
    pub fn timeout(&mut self, now: Mono) {
        if self.is_finished() {
            return;
        }
        self.mouth.timeout(now);
        self.seat_mouth.timeout(now);
        // Each timer fires at most once a call: what it starts is due later.
        for _ in Timer::ALL {
            let Some(timer) = self.timers.take_due(now) else { break };
            self.on_timer(now, timer);
        }
        self.settle(now);
    }

    /// The world saw for itself that nothing comes from the caller any more. For a world whose own media clock calls
    /// `hear` with silence where no packet came: `no_media_s` does not count there.
    pub fn no_media(&mut self, now: Mono) {
        self.apply(now, Signal::NoMedia, None);
        self.settle(now);
    }

    /// 20 ms of a leg's sound.
    pub fn hear(&mut self, now: Mono, leg: Leg, frame: &AudioFrame) {
        if leg != Leg::Caller {
            return;
        }
        self.caller_ms = frame.at_ms();
        self.heard_any = true;
        let live = matches!(self.state, State::Talking | State::Transferring(_) | State::Bridged | State::Ending);
        if live && self.settings.no_media_s > 0 && !self.held.caller {
            self.timers.set(Timer::Media, now + secs(self.settings.no_media_s));
        }
        if self.state == State::Talking
            && self.since_answer(now) < FAX_MS
            && let Some(tone) = self.fax.push(frame)
        {
            return self.fax_heard(now, tone);
        }
        if self.settings.speech && self.state == State::Talking {
            let mark = self.ear.hear(frame);
            if self.ear.is_open() {
                self.on_sound(now, mark);
            }
        }
    }

    /// The 20 ms that a leg is to hear.
    pub fn speak(&mut self, now: Mono, leg: Leg) -> AudioFrame {
        let frame = match leg {
            Leg::Caller => {
                let at = self.caller_at;
                self.caller_at += FRAME_SAMPLES as u64;
                self.caller_frame(now, at)
            }
            Leg::Seat => {
                let at = self.seat_at;
                self.seat_at += FRAME_SAMPLES as u64;
                self.seat_frame(now, at)
            }
            // What he hears is mixed from the other two.
            Leg::Supervisor => return AudioFrame::silence(0),
        };
        self.settle(now);
        frame
    }

    fn caller_frame(&mut self, now: Mono, at: u64) -> AudioFrame {
        match self.state {
            State::Talking => {
                let frame = self.mouth.speak(now, at);
                if self.settings.speech && self.settings.echo_guard {
                    self.ear.played(&frame);
                }
                frame
            }
            State::Ending => self.mouth.speak(now, at),
            State::Transferring(_) if self.mouth.busy() => self.mouth.speak(now, at),
            State::Transferring(life::Stage::Dialling | life::Stage::Ringing) => self.tone(Tone::Ringback, at),
            State::Transferring(life::Stage::Briefing) => self.tone(Tone::Waiting, at),
            State::Bridged if self.held.seat && !self.held.caller => self.tone(Tone::Waiting, at),
            _ => AudioFrame::silence(at),
        }
    }

    fn seat_frame(&mut self, now: Mono, at: u64) -> AudioFrame {
        match self.state {
            State::Transferring(_) => self.seat_mouth.speak(now, at),
            State::Bridged if self.held.caller && !self.held.seat => self.tone(Tone::Waiting, at),
            _ => AudioFrame::silence(at),
        }
    }

    fn tone(&mut self, tone: Tone, at: u64) -> AudioFrame {
        let frame = match &self.settings.hold_music {
            Some(music) if !music.is_empty() => super::tone::music(music, at, self.tone_frames),
            _ => tone.frame(at, self.tone_frames * crate::audio::FRAME_MS),
        };
        self.tone_frames += 1;
        frame
    }

    // ---- the table at work

    /// Asks the table and does what it answers.
    pub(super) fn apply(&mut self, now: Mono, signal: Signal, input: Option<CallInput>) {
        match life::answer(self.state, signal) {
            Step::Drop => {}
            Step::Take => {
                if let Some(input) = input {
                    self.take(now, input);
                }
            }
            Step::Go(State::Talking) => {
                self.tally.answered = Some(now);
                self.talk_until = now + secs(self.settings.max_call_s.max(1));
                self.mouth.lead_in(self.settings.lead_in_ms);
                self.event(CallEvent::Answered);
                self.enter(now, State::Talking);
                self.step(now, Input::Start);
            }
            Step::Go(State::Ending) => {
                let last = self.settings.phrases.limit.clone();
                self.break_off(now, &last, Why::TimeLimit);
            }
            Step::Go(state) => self.enter(now, state),
            Step::Back => self.come_back(now, input.as_ref()),
            Step::DropSeat => self.put(CallOutput::Hangup(Leg::Seat)),
            Step::End(close) => self.finish(now, close),
        }
    }

    /// Enters a state and starts its deadline.
    pub(super) fn enter(&mut self, now: Mono, state: State) {
        self.timers.clear_except(&[Timer::State, Timer::Media, Timer::Hold, Timer::Shade]);
        self.state = state;
        self.close_ear();
        match state {
            State::Offered | State::Ended => {}
            State::Ringing => {
                self.timers.set(Timer::State, now + ms(self.settings.answer_delay_ms));
                self.put(CallOutput::Ring);
            }
            State::Answering => {
                self.timers.set(Timer::State, now + ms(self.settings.ack_limit_ms.max(500)));
                self.put(CallOutput::Answer);
            }
            State::Talking => {
                self.ear.missed_some();
                self.timers.set(Timer::State, self.talk_until);
                if self.settings.no_media_s > 0 && !self.held.caller {
                    self.timers.set(Timer::Media, now + secs(self.settings.no_media_s));
                }
            }
            State::Transferring(stage) => self.enter_stage(now, stage),
            State::Bridged => self.enter_bridge(now),
            State::Ending => {
                self.turn.awaiting = Awaiting::End;
                self.timers.set(Timer::State, now + ms(self.settings.ending_ms.max(500)));
            }
        }
    }

    /// Says a last sentence of our own and ends the call.
    pub(super) fn break_off(&mut self, now: Mono, last: &str, why: Why) {
        let reason = EndReason::of(why, &Facts::default());
        self.event(CallEvent::Trouble(reason.sentence.clone()));
        self.tally.broke_off = Some(reason);
        self.mouth.stop();
        self.tally.outcome.get_or_insert(Outcome::Failed);
        self.enter(now, State::Ending);
        let last = self.settings.phrases.prompt(last, false);
        self.say(now, Leg::Caller, last, Role::Answer);
    }

    /// Nobody is there to talk to: a sentence for a person who may stand beside the machine, and the end.
    fn fax_heard(&mut self, now: Mono, tone: FaxTone) {
        let why = match tone {
            FaxTone::Calling => Why::FaxCalling,
            FaxTone::Answering => Why::FaxAnswering,
        };
        let last = self.settings.phrases.fax.clone();
        self.break_off(now, &last, why);
    }

    fn take(&mut self, now: Mono, input: CallInput) {
        match input {
            CallInput::PromptAudio { prompt, pcm, last } => {
                self.seat_mouth.audio(now, prompt, pcm.clone(), last);
                self.mouth.audio(now, prompt, pcm, last);
            }
            CallInput::PromptFailed { prompt, why } => {
                self.event(CallEvent::Trouble(format!("a prompt could not be spoken: {why}")));
                self.mouth.fail(now, prompt);
                self.seat_mouth.fail(now, prompt);
            }
            CallInput::Hold { leg, held } => self.hold(now, leg, held),
            CallInput::Key { leg, key } => match (self.state, leg) {
                (State::Talking, Leg::Caller) => self.key(now, key),
                (State::Transferring(stage), _) => self.key_in_transfer(now, stage, leg, key),
                (State::Bridged, Leg::Seat) => self.shade.seat.key(now, key),
                _ => {}
            },
            CallInput::Heard { turn, heard } => self.heard(now, turn, heard),
            CallInput::ActionDone { request, outcome, data } => self.action_done(now, request, outcome, data),
            CallInput::TicketDone { request, ticket } => self.ticket_done(now, request, ticket),
            CallInput::HandOn(order) => self.hand_on(now, *order),
            CallInput::Record(on) => self.shade.seat.record(now, on),
            CallInput::Established
            | CallInput::SeatRinging
            | CallInput::SeatAnswered
            | CallInput::SeatFailed(_)
            | CallInput::TakenOver
            | CallInput::HungUp(_)
            | CallInput::CallerLost
            | CallInput::Terminate => {}
        }
    }

    fn hold(&mut self, now: Mono, leg: Leg, held: bool) {
        let flag = match leg {
            Leg::Caller => &mut self.held.caller,
            Leg::Seat => &mut self.held.seat,
            Leg::Supervisor => return,
        };
        if *flag == held {
            return;
        }
        *flag = held;
        self.event(CallEvent::Hold { leg, held });
        if self.state == State::Bridged {
            self.relay(true);
        }
        if leg == Leg::Seat {
            return;
        }
        self.mouth.freeze(now, held);
        if held {
            self.void_answer(now);
            self.timers.clear(Timer::Media);
            self.timers.set(Timer::Hold, now + secs(self.settings.max_hold_s.max(1)));
        } else {
            self.timers.clear(Timer::Hold);
            if self.settings.no_media_s > 0 {
                self.timers.set(Timer::Media, now + secs(self.settings.no_media_s));
            }
        }
    }

    fn on_timer(&mut self, now: Mono, timer: Timer) {
        match timer {
            Timer::State => self.apply(now, Signal::Deadline, None),
            Timer::Tail => self.apply(now, Signal::Drained, None),
            Timer::Media => self.apply(now, Signal::NoMedia, None),
            Timer::Hold => self.apply(now, Signal::HeldTooLong, None),
            Timer::Shade => {} // settled after every timer
            _ if self.state == State::Talking => self.on_turn_timer(now, timer),
            _ => {}
        }
    }

    /// Carries on what follows from what just happened, until nothing does.
    pub(super) fn settle(&mut self, now: Mono) {
        for _ in 0..8 {
            self.drain_mouths(now);
            let before = (self.state, self.flow_steps);
            match self.state {
                State::Talking => self.settle_turn(now),
                State::Transferring(life::Stage::Briefing) => self.settle_briefing(now),
                State::Ending if !self.mouth.busy() && !self.timers.is_set(Timer::Tail) => {
                    self.timers.set(Timer::Tail, now + ms(self.settings.tail_ms));
                }
                _ => {}
            }
            self.settle_draft(now);
            if before == (self.state, self.flow_steps) {
                break;
            }
        }
        self.settle_shade(now);
    }

    fn drain_mouths(&mut self, now: Mono) {
        while let Some(said) = self.mouth.poll() {
            match said {
                Said::Started { shown, role } => {
                    if let (Role::Answer, Some(draft)) = (role, &mut self.draft) {
                        draft.sounds(now);
                    }
                    self.event(CallEvent::PromptStarted { shown });
                }
                Said::Ended { played_ms, interrupted } => {
                    self.event(CallEvent::PromptEnded { played_ms, interrupted });
                }
                Said::Missing { shown, .. } => {
                    self.event(CallEvent::Trouble(format!("no sound came for “{shown}”; it was skipped")));
                }
                Said::Unwanted(prompt) => self.put(CallOutput::StopSynthesis(prompt)),
            }
        }
        while let Some(said) = self.seat_mouth.poll() {
            match said {
                Said::Unwanted(prompt) => self.put(CallOutput::StopSynthesis(prompt)),
                Said::Missing { .. } => self.event(CallEvent::Trouble("the briefing had no sound".into())),
                Said::Started { .. } | Said::Ended { .. } => {}
            }
        }
    }

    fn settle_draft(&mut self, now: Mono) {
        let resting = !matches!(self.turn.awaiting, Awaiting::Act(_) | Awaiting::Nothing);
        let heard = self.draft.as_ref().is_some_and(|d| d.has_sounded() || !self.mouth.busy());
        if resting && heard {
            self.finish_draft(now);
        }
    }

    /// The turn is complete: write it down.
    pub(super) fn finish_draft(&mut self, now: Mono) {
        if let Some(draft) = self.draft.take() {
            let turn = draft.finish(now, self.steps);
            self.event(CallEvent::TurnDone(Box::new(turn)));
        }
    }

    // ---- doing

    /// Orders a prompt's sound and queues it for a leg.
    pub(super) fn say(&mut self, now: Mono, leg: Leg, prompt: Prompt, role: Role) {
        if prompt.text.trim().is_empty() && prompt.audio.is_none() {
            return;
        }
        let id = PromptId(self.last_prompt.0.wrapping_add(1));
        self.last_prompt = id;
        let mouth = match leg {
            Leg::Caller => &mut self.mouth,
            Leg::Seat | Leg::Supervisor => &mut self.seat_mouth,
        };
        let personal = prompt.text != prompt.shown;
        if !mouth.push(now, id, prompt.shown, prompt.barge_in, role) {
            self.event(CallEvent::Trouble("too many prompts wait; one was left out".into()));
            return;
        }
        let rate = if prompt.rate.is_finite() { prompt.rate } else { 1.0 };
        let rate = (rate * self.settings.voice_rate).clamp(0.5, 2.0);
        let (text, lang, audio) = (prompt.text, prompt.lang, prompt.audio);
        let request = SpeechRequest { text, lang, rate, pitch: 1.0, audio, personal };
        self.put(CallOutput::Synthesise { prompt: id, request });
    }

    /// A new request's name.
    pub(super) fn request(&mut self) -> RequestId {
        self.last_request = RequestId(self.last_request.0.wrapping_add(1));
        self.last_request
    }

    pub(super) fn event(&mut self, event: CallEvent) {
        self.put(CallOutput::Event(event));
    }

    pub(super) fn put(&mut self, output: CallOutput) {
        self.out.push_back(output);
    }

    /// Ends every leg, writes the record, and is silent from then on.
    fn finish(&mut self, now: Mono, close: Close) {
        self.close_ear();
        self.mouth.stop();
        self.seat_mouth.stop();
        self.drain_mouths(now);
        self.finish_draft(now);
        if self.joined {
            self.joined = false;
            self.put(CallOutput::Bridge(false));
        }
        if matches!(self.state, State::Transferring(_) | State::Bridged) {
            self.put(CallOutput::Hangup(Leg::Seat));
        }
        match close.reject() {
            Some(status) => self.put(CallOutput::Reject(status)),
            None if close.caller_gone() => {}
            None => self.put(CallOutput::Hangup(Leg::Caller)),
        }
        self.state = State::Ended;
        self.timers.clear_except(&[]);
        self.turn.awaiting = Awaiting::Nothing;
        let ours = matches!(close, Close::Said | Close::EndingLimit);
        let broke_off = if ours { self.tally.broke_off.take() } else { None };
        let reason = broke_off.unwrap_or_else(|| close.reason());
        self.event(CallEvent::Ended(reason.clone()));
        let record = self.tally.record(now, close, reason, &*self.flow);
        self.put(CallOutput::Finished(Box::new(record)));
    }
}

/// A supervisor comes, goes and presses keys without changing anything for the call.
const fn is_about_a_supervisor(input: &CallInput) -> bool {
    matches!(
        input,
        CallInput::HungUp(Leg::Supervisor)
            | CallInput::Hold { leg: Leg::Supervisor, .. }
            | CallInput::Key { leg: Leg::Supervisor, .. }
    )
}

pub(super) const fn signal_of(input: &CallInput) -> Signal {
    match input {
        CallInput::Established => Signal::Established,
        CallInput::SeatRinging => Signal::SeatRinging,
        CallInput::SeatAnswered => Signal::SeatAnswered,
        CallInput::SeatFailed(_) => Signal::SeatFailed,
        CallInput::HandOn(_) => Signal::HandedOn,
        CallInput::TakenOver => Signal::TakenOver,
        CallInput::HungUp(Leg::Caller) => Signal::CallerLeft,
        CallInput::CallerLost => Signal::CallerLost,
        CallInput::HungUp(Leg::Seat | Leg::Supervisor) => Signal::SeatLeft,
        CallInput::Hold { .. } => Signal::Hold,
        CallInput::Key { .. } => Signal::Key,
        CallInput::Record(_) => Signal::Record,
        CallInput::Heard { .. } => Signal::Heard,
        CallInput::PromptAudio { .. } | CallInput::PromptFailed { .. } => Signal::Prompt,
        CallInput::ActionDone { .. } | CallInput::TicketDone { .. } => Signal::Done,
        CallInput::Terminate => Signal::Terminate,
    }
}
