//! Everything around the call: recogniser, voice, back office, seats, network, each with its moods; and the clock.

use super::business::Business;
use super::caller::{Caller, VOICE};
use super::watch::{Seen, Watch};
use super::{Dice, RandomFlow};
use crate::audio::{AudioFrame, FRAME_SAMPLES};
use crate::call::{Call, CallInput, CallOutput, CallRecord, CallSettings, Flow, Heard, LegFailure, State};
use crate::clock::Mono;
use crate::dialplan::{ActionCall, FlowSet, Listen, TransferOrder};
use crate::ids::{CallId, Leg, PromptId, RequestId, TurnId};
use crate::speech::Vad;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// No simulated call may last longer, in virtual seconds without the time with a seat.
const LONGEST_CALL_S: u64 = 400;
/// The longest prompt; others are the beginning of it.
static WORDS: LazyLock<Vec<Arc<[i16]>>> = LazyLock::new(|| (1..=8).map(|n| vec![700; 1333 * n].into()).collect());

/// Hears a voice where samples are loud: no model, no cost.
pub struct SimVad;

impl Vad for SimVad {
    fn speech(&mut self, frame: &AudioFrame) -> f32 {
        if frame.pcm[0] >= VOICE { 0.95 } else { 0.02 }
    }
    fn reset(&mut self) {}
}

/// What became of a simulated call.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Its record.
    pub record: CallRecord,
    /// What happened, how often.
    pub seen: Seen,
    /// What went wrong inside the flow, in words.
    pub dialplan: Vec<String>,
    /// Virtual milliseconds it took.
    pub virtual_ms: u64,
}

/// Plays one random call with a random flow.
///
/// # Errors
/// The broken rule, with the virtual time at which it broke.
pub fn run(seed: u64) -> Result<Report, String> {
    World::any(seed, false).play().0
}

/// As [`run`], with every input and output written down.
pub fn run_traced(seed: u64) -> (Result<Report, String>, Vec<String>) {
    World::any(seed, true).play()
}

/// Plays one random call with these flows: a caller of theirs, and a back office that knows him.
///
/// # Errors
/// The broken rule, with the virtual time at which it broke.
pub fn run_flows(seed: u64, flows: &Arc<FlowSet>) -> Result<Report, String> {
    World::of(seed, flows, false).play().0
}

/// As [`run_flows`], with every input and output written down.
pub fn run_flows_traced(seed: u64, flows: &Arc<FlowSet>) -> (Result<Report, String>, Vec<String>) {
    World::of(seed, flows, true).play()
}

struct World {
    now: Mono,
    dice: Dice,
    call: Call,
    business: Business,
    tickets: usize,
    caller: Caller,
    watch: Watch,
    /// What is on its way to the call.
    coming: BTreeMap<(Mono, u64), CallInput>,
    sent: u64,
    media_at: u64,
    held: bool,
    seat_live: bool,
    bridged_ms: u64,
    /// What the last utterance could be.
    listen: Option<Arc<Listen>>,
    trace: Option<Vec<String>>,
}

impl World {
    fn any(seed: u64, traced: bool) -> World {
        let mut dice = Dice::new(seed);
        let flow = RandomFlow::new(dice.fork());
        World::new(dice, Business::Any, Box::new(flow), traced)
    }

    fn of(seed: u64, flows: &Arc<FlowSet>, traced: bool) -> World {
        let mut dice = Dice::new(seed);
        let (business, flow) = Business::of(Arc::clone(flows), &mut dice);
        World::new(dice, business, flow, traced)
    }

    fn new(mut dice: Dice, business: Business, flow: Box<dyn Flow>, traced: bool) -> World {
        let now = Mono::from_ms(dice.between(0, 100_000));
        let settings = CallSettings {
            speech: dice.chance(900),
            answer_delay_ms: dice.between(0, 3000) as u32,
            max_call_s: 60,
            max_bridge_s: 20,
            no_media_s: 10,
            max_hold_s: 5,
            ending_ms: 20_000,
            ..CallSettings::default()
        };
        let id = CallId::new(now.as_ms() as i64, u128::from(dice.between(0, u64::MAX - 1)));
        let caller = Caller::new(dice.fork());
        World {
            now,
            call: Call::new(id, flow, Box::new(SimVad), settings, now),
            business,
            tickets: 0,
            caller,
            dice,
            watch: Watch::default(),
            coming: BTreeMap::new(),
            sent: 0,
            media_at: 0,
            held: false,
            seat_live: false,
            bridged_ms: 0,
            listen: None,
            trace: traced.then(Vec::new),
        }
    }

    fn play(mut self) -> (Result<Report, String>, Vec<String>) {
        let began = self.now;
        let result = self.until_finished(began);
        let virtual_ms = self.now.ms_since(began);
        let at = format!("at {virtual_ms} ms in {:?}", self.call.state());
        let result = result.map_err(|why| format!("{why} ({at})")).and_then(|()| {
            let record = self.watch.record.ok_or("no record")?;
            Ok(Report { record, seen: self.watch.seen, dialplan: self.watch.dialplan, virtual_ms })
        });
        (result, self.trace.unwrap_or_default())
    }

    fn until_finished(&mut self, began: Mono) -> Result<(), String> {
        self.drain()?;
        while !self.call.is_finished() {
            self.tick()?;
            if self.now.ms_since(began) > LONGEST_CALL_S * 1000 + self.bridged_ms {
                return Err("the call does not end".into());
            }
        }
        // Whatever comes late changes nothing.
        while let Some((_, input)) = self.coming.pop_first() {
            self.call.handle(self.now, input);
        }
        self.call.timeout(self.now);
        self.call.speak(self.now, Leg::Caller);
        self.drain()
    }

    /// One tick of the media clock; legs that are joined need fewer.
    fn tick(&mut self) -> Result<(), String> {
        let joined = self.call.is_bridged();
        let step = if joined { 200 } else { 20 };
        self.bridged_ms += if joined { step } else { 0 };
        // A thread that comes late now and then.
        let late = if self.dice.one_in(500) { self.dice.between(1, 70) } else { 0 };
        self.now = self.now + Duration::from_millis(step + late);
        while let Some(entry) = self.coming.first_entry()
            && entry.key().0 <= self.now
        {
            let input = entry.remove();
            self.tell(input)?;
        }
        if self.call.deadline().is_some_and(|at| at <= self.now) {
            self.call.timeout(self.now);
            self.drain()?;
            if !self.call.is_finished() && self.call.deadline().is_some_and(|at| at <= self.now) {
                // Another timer may be due at once, but it must not go on for ever.
                self.call.timeout(self.now);
                self.drain()?;
            }
        }
        if !self.call.is_finished() && self.call.deadline().is_none() {
            return Err("no deadline: the call would be stuck".into());
        }
        self.media()
    }

    fn media(&mut self) -> Result<(), String> {
        let early = matches!(self.call.state(), State::Offered | State::Ringing | State::Answering);
        if self.call.is_finished() || early && !self.dice.one_in(10) {
            return Ok(());
        }
        let deed = self.caller.tick(&self.call);
        if let Some(input) = deed.input {
            if let CallInput::Hold { held, .. } = &input {
                self.held = *held;
            }
            self.tell(input)?;
        }
        if let Some(voice) = deed.voice {
            let pcm = [if voice { VOICE } else { 3 }; FRAME_SAMPLES];
            self.call.hear(self.now, Leg::Caller, &AudioFrame { at: self.media_at, pcm });
            self.drain()?;
        }
        self.media_at += FRAME_SAMPLES as u64;
        if self.call.is_finished() || self.call.is_bridged() {
            return Ok(());
        }
        let frame = self.call.speak(self.now, Leg::Caller);
        if matches!(self.call.state(), State::Transferring(_) | State::Bridged) {
            self.call.speak(self.now, Leg::Seat);
        }
        self.drain()?;
        self.watch.frame(self.now, &self.call, &frame, self.held)
    }

    fn tell(&mut self, input: CallInput) -> Result<(), String> {
        match input {
            CallInput::SeatRinging | CallInput::SeatAnswered | CallInput::SeatFailed(_) if !self.seat_live => {
                return Ok(());
            }
            CallInput::HungUp(Leg::Seat) | CallInput::Hold { leg: Leg::Seat, .. } if !self.seat_live => return Ok(()),
            CallInput::HungUp(Leg::Seat) | CallInput::SeatFailed(_) => self.seat_live = false,
            _ => {}
        }
        self.note(|| format!("< {input:?}"));
        self.watch.input(self.call.state(), &input);
        self.call.handle(self.now, input);
        self.drain()
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>8} {}", self.now.as_ms(), line()));
        }
    }

    fn drain(&mut self) -> Result<(), String> {
        while let Some(output) = self.call.poll_output() {
            self.note(|| format!("> {output:?}"));
            self.watch.output(self.now, &output)?;
            self.carry_out(output);
        }
        Ok(())
    }

    fn later(&mut self, ms: u64, input: CallInput) {
        self.sent += 1;
        self.coming.insert((self.now + Duration::from_millis(ms), self.sent), input);
    }

    fn carry_out(&mut self, output: CallOutput) {
        match output {
            CallOutput::Answer => self.acknowledge(),
            CallOutput::Synthesise { prompt, .. } => self.synthesise(prompt),
            CallOutput::SpeechStart { listen, .. } => self.listen = Some(listen),
            CallOutput::SpeechEnd { turn } => self.recognise(turn),
            CallOutput::Act { request, call } => self.act(request, &call),
            CallOutput::MakeTicket { request, .. } => self.ticket(request),
            CallOutput::DialSeat { order } => self.dial(&order),
            CallOutput::Hangup(Leg::Seat) => self.seat_gone(),
            _ => {}
        }
    }

    fn acknowledge(&mut self) {
        if !self.dice.chance(10) {
            let ms = self.dice.between(5, 200);
            self.later(ms, CallInput::Established);
        }
    }

    fn synthesise(&mut self, prompt: PromptId) {
        match self.dice.between(0, 99) {
            0 => {}
            1..=2 => self.later(30, CallInput::PromptFailed { prompt, why: "sim".into() }),
            mood => {
                let mut ms = if mood == 3 { 4000 } else { self.dice.between(1, 300) };
                let pieces = self.dice.between(1, 3);
                let cut_off = mood == 4;
                for n in 1..=pieces {
                    let pcm = self.dice.pick(&WORDS).clone();
                    self.later(ms, CallInput::PromptAudio { prompt, pcm, last: n == pieces && !cut_off });
                    ms += self.dice.between(0, 400);
                }
            }
        }
    }

    fn recognise(&mut self, turn: TurnId) {
        let understood = self.business.understood(&mut self.dice, self.listen.as_deref());
        let (result, ms) = match self.dice.between(0, 99) {
            0..=2 => return,
            3..=5 => (Err("sim".into()), 100),
            6 => (Ok(understood), 6000),
            _ => (Ok(understood), self.dice.between(10, 700)),
        };
        let heard = Heard { result, engine: "sim".into(), recognise_ms: 10, understand_ms: 1 };
        if self.dice.chance(20) {
            self.later(ms + 50, CallInput::Heard { turn, heard: heard.clone() });
        }
        self.later(ms, CallInput::Heard { turn, heard });
    }

    fn act(&mut self, request: RequestId, call: &ActionCall) {
        let ms = match self.dice.between(0, 9) {
            0 => self.dice.between(1000, 6000),
            1 if self.dice.chance(400) => return,
            _ => self.dice.between(1, 600),
        };
        let (outcome, data) = self.business.act(&mut self.dice, call);
        self.later(ms, CallInput::ActionDone { request, outcome, data });
    }

    fn ticket(&mut self, request: RequestId) {
        let ms = match self.dice.between(0, 19) {
            0 => return,
            1 => 7000,
            _ => self.dice.between(1, 300),
        };
        let ticket = self.business.ticket(&mut self.dice, self.tickets);
        self.tickets += usize::from(ticket.is_some());
        self.later(ms, CallInput::TicketDone { request, ticket });
    }

    fn dial(&mut self, order: &TransferOrder) {
        self.seat_live = true;
        let ring = self.dice.between(1, 400);
        match self.dice.between(0, 9) {
            0 => self.later(20, CallInput::SeatFailed(LegFailure::Nobody)),
            1 => self.later(ring, CallInput::SeatFailed(LegFailure::Busy)),
            2 => self.later(ring, CallInput::SeatFailed(LegFailure::Failed(500))),
            3 => self.later(ring, CallInput::SeatRinging),
            4 => self.later(u64::from(order.ring_ms), CallInput::SeatFailed(LegFailure::NoAnswer)),
            _ => {
                self.later(ring, CallInput::SeatRinging);
                let answer = ring + self.dice.between(1, 5000);
                self.later(answer, CallInput::SeatAnswered);
                if self.dice.chance(100) {
                    self.later(answer + 100, CallInput::Key { leg: Leg::Seat, key: '1' });
                }
                if self.dice.chance(300) {
                    let from = answer + self.dice.between(0, 6000);
                    self.later(from, CallInput::Hold { leg: Leg::Seat, held: true });
                    self.later(from + 1500, CallInput::Hold { leg: Leg::Seat, held: false });
                }
                if !self.dice.chance(100) {
                    let talk = self.dice.between(0, 9000);
                    self.later(answer + talk, CallInput::HungUp(Leg::Seat));
                }
            }
        }
    }

    /// After its hang-up nothing more is heard of a seat's leg.
    fn seat_gone(&mut self) {
        self.seat_live = false;
        self.coming.retain(|_, input| {
            !matches!(
                input,
                CallInput::SeatRinging
                    | CallInput::SeatAnswered
                    | CallInput::SeatFailed(_)
                    | CallInput::HungUp(Leg::Seat)
                    | CallInput::Hold { leg: Leg::Seat, .. }
                    | CallInput::Key { leg: Leg::Seat, .. }
            )
        });
    }
}
