//! The flow's side of a turn: ask it, say what it answers, and do or await what it wants.

use super::machine::Call;
use super::mouth::{MAX_PROMPTS, Role};
use super::settings::ms;
use super::timer::Timer;
use super::tone::BEEP;
use super::turn::{Act, Acting, Awaiting, Listening, Recording};
use super::{CallEvent, CallOutput, Why, cdr};
use crate::clock::Mono;
use crate::dialplan::{ActionCall, Await, Input, Reply, TicketDraft, Trace, Value};
use crate::ids::{Leg, PromptId, RequestId};

/// A flow that has been asked so often runs in a circle.
const MAX_FLOW_STEPS: u32 = 500;
/// Most nodes of one reply that are written down.
const MAX_TRACE: usize = 256;
/// Limits of an action's time, in milliseconds.
const ACT_MS: (u32, u32) = (100, 60_000);
/// Limits of a recording, in milliseconds.
const RECORD_MS: (u32, u32) = (1000, 600_000);
/// How soon a filler is tried again while something else is being said, in milliseconds.
const FILLER_RETRY_MS: u32 = 300;

impl Call {
    /// Asks the flow and obeys.
    pub(super) fn step(&mut self, now: Mono, input: Input) {
        self.flow_steps += 1;
        if self.flow_steps > MAX_FLOW_STEPS {
            let last = self.settings.phrases.trouble.clone();
            return self.break_off(now, &last, Why::FlowCircle);
        }
        for timer in [Timer::NoInput, Timer::KeyGap, Timer::Recogniser, Timer::Act, Timer::Filler, Timer::Record] {
            self.timers.clear(timer);
        }
        self.close_ear();
        self.turn.awaiting = Awaiting::Nothing;
        let reply = self.flow.step(input);
        for trouble in self.flow.take_troubles() {
            self.event(CallEvent::Trouble(format!("dialplan: {trouble}")));
        }
        self.obey(now, reply);
    }

    fn obey(&mut self, now: Mono, reply: Reply) {
        self.mouth.drop_fillers(now);
        for Trace { flow, node, step } in reply.trace.into_iter().take(MAX_TRACE) {
            self.steps = step;
            self.place = (flow.clone(), node.clone());
            self.event(CallEvent::Node { flow, node, step });
        }
        for words in reply.say.into_iter().take(MAX_PROMPTS + 1) {
            if let Some(draft) = &mut self.draft {
                draft.said(now, &words.shown);
            }
            self.say(now, Leg::Caller, words, Role::Answer);
        }
        match reply.then {
            Await::Listen(listen) => self.turn.awaiting = Awaiting::Answer(Listening::new(*listen)),
            Await::Action(call) => self.act(now, call),
            Await::Ticket(draft) => self.ticket(now, draft),
            Await::Transfer(order) => self.begin_transfer(now, order),
            Await::Record { max_ms } => self.record(now, max_ms),
            Await::Hangup(outcome) => {
                self.tally.outcome = Some(outcome);
                self.enter(now, super::life::State::Ending);
            }
        }
    }

    fn act(&mut self, now: Mono, mut call: ActionCall) {
        let request = self.request();
        let filler = call.filler.take();
        self.timers.set(Timer::Act, now + ms(call.timeout_ms.clamp(ACT_MS.0, ACT_MS.1)));
        let soon = if filler.is_some() { self.settings.filler_ms } else { self.settings.slow_ms };
        self.timers.set(Timer::Filler, now + ms(soon));
        let what = Act::Action(call.name.clone());
        self.turn.awaiting = Awaiting::Act(Acting { request, what, since: now, filler });
        self.put(CallOutput::Act { request, call });
    }

    fn ticket(&mut self, now: Mono, draft: TicketDraft) {
        let request = self.request();
        self.timers.set(Timer::Act, now + ms(self.settings.ticket_ms.clamp(ACT_MS.0, ACT_MS.1)));
        self.timers.set(Timer::Filler, now + ms(self.settings.slow_ms));
        self.tickets.push((request, draft.category.clone()));
        let what = Act::Ticket;
        self.turn.awaiting = Awaiting::Act(Acting { request, what, since: now, filler: None });
        self.put(CallOutput::MakeTicket { request, draft });
    }

    /// Records once everything has been said and the tone has sounded.
    fn record(&mut self, now: Mono, max_ms: u32) {
        let max_ms = max_ms.clamp(RECORD_MS.0, RECORD_MS.1);
        self.turn.awaiting = Awaiting::Record(Recording { max_ms, from_ms: None, spoke: false });
        // The tone is ours: no sound is ordered for it. Prompt ids of orders begin at 1.
        if self.mouth.push(now, PromptId(0), String::new(), false, Role::Beep) {
            self.mouth.audio(now, PromptId(0), BEEP.clone(), true);
        }
    }

    /// An action came back. One that is no longer awaited changes nothing.
    pub(super) fn action_done(&mut self, now: Mono, request: RequestId, outcome: String, data: Value) {
        let Awaiting::Act(Acting { request: awaited, what: Act::Action(_), .. }) = &self.turn.awaiting else { return };
        if *awaited == request {
            self.end_action(now, outcome, data);
        }
    }

    fn end_action(&mut self, now: Mono, outcome: String, data: Value) {
        if let Awaiting::Act(Acting { what: Act::Action(name), since, .. }) = &self.turn.awaiting {
            let (name, took) = (name.clone(), now.ms_since(*since) as u32);
            self.event(CallEvent::Action { name, outcome: outcome.clone(), ms: took });
        }
        self.step(now, Input::Action { outcome, data });
    }

    /// A ticket is safe, or is not. One that is no longer awaited is written down all the same: it exists.
    pub(super) fn ticket_done(&mut self, now: Mono, request: RequestId, ticket: Option<Value>) {
        let Some(at) = self.tickets.iter().position(|(asked, _)| *asked == request) else { return };
        let (_, category) = self.tickets.swap_remove(at);
        let awaited =
            matches!(&self.turn.awaiting, Awaiting::Act(Acting { request: awaited, .. }) if *awaited == request);
        match &ticket {
            Some(ticket) => {
                self.tally.ticketed = true;
                let no = ticket.get("no").as_text().unwrap_or_default().to_owned();
                self.event(CallEvent::Ticket { no, category });
            }
            None => self.event(CallEvent::Trouble("a ticket could not be written".into())),
        }
        if awaited {
            self.step(now, Input::Ticket(ticket));
        }
    }

    /// A deadline of the turn has come.
    pub(super) fn on_turn_timer(&mut self, now: Mono, timer: Timer) {
        match timer {
            Timer::NoInput => self.no_input(now),
            Timer::KeyGap => self.key_gap(now),
            Timer::Recogniser => self.recogniser_failed(now, "the recogniser did not answer in time"),
            Timer::Act => self.act_timed_out(now),
            Timer::Filler => self.filler(now),
            Timer::Record => self.end_recording(now, 0),
            Timer::State | Timer::Tail | Timer::Media | Timer::Hold | Timer::Shade => {}
        }
    }

    fn act_timed_out(&mut self, now: Mono) {
        match &self.turn.awaiting {
            Awaiting::Act(Acting { what: Act::Action(_), .. }) => self.end_action(now, "timeout".into(), Value::Null),
            Awaiting::Act(Acting { what: Act::Ticket, .. }) => {
                self.event(CallEvent::Trouble("a ticket was not written in time".into()));
                self.step(now, Input::Ticket(None));
            }
            _ => {}
        }
    }

    /// Something takes long: say so, unless something is being said.
    fn filler(&mut self, now: Mono) {
        if self.mouth.busy() {
            return self.timers.set(Timer::Filler, now + ms(FILLER_RETRY_MS));
        }
        let own = match &self.turn.awaiting {
            Awaiting::Act(acting) => acting.filler.clone(),
            _ => None,
        };
        let words = own.unwrap_or_else(|| self.settings.phrases.prompt(&self.settings.phrases.filler, true));
        self.say(now, Leg::Caller, words, Role::Filler);
        self.timers.set(Timer::Filler, now + ms(self.settings.filler_again_ms.max(1000)));
    }

    /// The recording is over; `pause_ms` of silence ended it. Without speech it is empty (`from_ms == to_ms`).
    pub(super) fn end_recording(&mut self, now: Mono, pause_ms: u32) {
        let Awaiting::Record(Recording { from_ms, spoke, .. }) = self.turn.awaiting else { return };
        let from_ms = from_ms.unwrap_or(self.caller_ms);
        let to_ms = if spoke || !self.settings.speech { self.caller_ms.max(from_ms) } else { from_ms };
        let id = self.turn.begin();
        let (flow, node) = &self.place;
        let mut turn = cdr::blank(id, flow, node, self.since_answer(now).saturating_sub(to_ms - from_ms));
        turn.intent = "recorded".into();
        turn.timings.endpoint = pause_ms;
        self.begin_draft(now, turn);
        self.mouth.stop();
        self.step(now, Input::Recorded { from_ms, to_ms });
    }

    /// The caller asks for a person instead of leaving words.
    pub(super) fn leave_recording(&mut self, now: Mono) {
        let id = self.turn.begin();
        let mut turn = cdr::blank(id, &self.place.0, &self.place.1, self.since_answer(now));
        (turn.heard, turn.keys, turn.intent) = ("0".into(), true, "human".into());
        (turn.confidence, turn.score) = (1.0, 1.0);
        self.begin_draft(now, turn);
        self.mouth.stop();
        self.step(now, Input::Keys("0".into()));
    }

    /// Milliseconds since the call's answer.
    pub(super) fn since_answer(&self, now: Mono) -> u64 {
        self.tally.answered.map_or(0, |at| now.ms_since(at))
    }

    /// A turn's input is complete.
    pub(super) fn begin_draft(&mut self, now: Mono, turn: super::Turn) {
        self.finish_draft(now);
        self.tally.turns += 1;
        self.draft = Some(cdr::Draft::new(now, turn));
    }
}
