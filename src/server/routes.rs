//! Test routes: plain media behaviours for load tools and line checks, named in the configuration. They bypass
//! dialplans and show what the media plane alone costs.

use crate::audio::{AudioFrame, FRAME_MS, FRAME_SAMPLES, Tone, ToneGenerator};
use crate::call::shade::SeatPause;
use crate::call::{CallEvent, CallInput, CallOutput, CallRecord, EndReason, Facts, HungUpBy, LegFailure, Why};
use crate::clock::Mono;
use crate::dialplan::{Outcome, Prompt, TransferOrder};
use crate::ids::{Leg, TurnId};
use crate::speech::{Lang, Vad};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// What a test route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// Answers and loops a prompt.
    Loop,
    /// Loops a prompt until the first key, then collects keys in silence.
    Barge,
    /// Sends back what it hears.
    Echo,
    /// Calls a target and joins the two.
    Bridge,
    /// Calls a seat for another seat, and answers when it does.
    Inside,
    /// Calls a number outside for a seat: what comes from there is passed on, the answer too.
    Outside,
    /// Plays a prompt once as early media, and refuses the call then: nobody is charged for it.
    Notice,
    /// Answers and sends nothing.
    Silent,
    /// Sounds a tone of its own beside what it hears, and answers each key with its tones: a line check can measure
    /// each way by itself.
    Line,
}

/// The tone a [`RouteKind::Line`] sounds, in Hz: none of the key pad's, nor of call progress.
pub const LINE_TONE_HZ: f32 = 560.0;
/// Its amplitude.
const LINE_TONE: f32 = 3000.0;
/// Keys a [`RouteKind::Line`] still has to answer, at most.
const MOST_KEYS: usize = 32;

/// How much a route listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listening {
    /// Keys only.
    Keys,
    /// Voice activity as well.
    Voice,
    /// Voice activity and recognition of everything that is said.
    Speech,
}

/// Twenty seconds of made sound: a rising and falling scale with short rests.
pub fn made_prompt() -> Vec<i16> {
    let mut pcm = Vec::with_capacity(160_000);
    for step in 0..80u8 {
        let rung = f32::from(if step % 16 < 8 { step % 8 } else { 7 - step % 8 });
        let mut note = vec![0; 1600];
        ToneGenerator::new(Tone::sine(300.0 + 90.0 * rung, 5000.0)).fill(&mut note);
        pcm.extend_from_slice(&note);
        pcm.extend_from_slice(&[0; 400]);
    }
    pcm
}

/// Longest wait for somebody to answer a seat's call.
const LONGEST_RING: Duration = Duration::from_secs(120);
/// A route's call is ended after this long.
const LONGEST_CALL: Duration = Duration::from_secs(4 * 3600);
/// Samples of silence between the end of a notice and the refusal.
const AFTER: usize = 2400;
/// A notice is cut off after this long: the caller's network would do it soon.
const LONGEST_NOTICE: Duration = Duration::from_secs(90);
/// Samples of a notice, 2 s, that go to an address before anything has come from there: who only writes it into a
/// datagram gets no more than that sent to it.
const UNPROVED: usize = 16_000;
/// Longest piece of speech a route hands to the recogniser, in frames.
const LONGEST: u32 = 250;
/// Frames in a chunk.
const CHUNK: u32 = 15;

/// One call on a test route.
pub struct Route {
    kind: RouteKind,
    listening: Listening,
    target: String,
    prompt: Arc<[i16]>,
    position: usize,
    /// The caller is where its sound goes.
    proved: bool,
    playing: bool,
    echo: VecDeque<AudioFrame>,
    tone: ToneGenerator,
    keys: VecDeque<ToneGenerator>,
    vad: Option<Box<dyn Vad>>,
    speaking: Option<u32>,
    chunk: Vec<i16>,
    turn: TurnId,
    listen: Option<Arc<crate::dialplan::Listen>>,
    outputs: VecDeque<CallOutput>,
    began: Mono,
    answered: Option<Mono>,
    bridged: bool,
    /// The recording of a seat's call outside.
    pause: SeatPause,
    paused: bool,
    /// How much of the caller has been heard, in milliseconds: as long is the recording.
    heard_ms: u64,
    over: bool,
}

/// What a route is made of.
pub struct RouteParts {
    /// What it does.
    pub kind: RouteKind,
    /// How much it listens.
    pub listening: Listening,
    /// Whom a bridge calls (a SIP URI).
    pub target: String,
    /// What a loop plays.
    pub prompt: Arc<[i16]>,
    /// A detector of its own, when it listens to voice.
    pub vad: Option<Box<dyn Vad>>,
    /// What it can hear, when it recognises.
    pub listen: Option<Arc<crate::dialplan::Listen>>,
}

impl Route {
    /// A call on a route; it answers at once, but for a call inside.
    pub fn new(parts: RouteParts, now: Mono) -> Self {
        let kind = parts.kind;
        let mut route = Self::begun(parts, now);
        match kind {
            RouteKind::Inside | RouteKind::Outside => route.dial(),
            RouteKind::Notice if route.prompt.len() < FRAME_SAMPLES => route.end(now, &CallInput::Terminate),
            _ => {}
        }
        route
    }

    fn begun(parts: RouteParts, now: Mono) -> Self {
        let RouteParts { kind, listening, target, prompt, vad, listen } = parts;
        Route {
            kind,
            listening,
            target,
            prompt,
            position: 0,
            proved: false,
            playing: true,
            echo: VecDeque::with_capacity(4),
            tone: ToneGenerator::new(Tone::sine(LINE_TONE_HZ, LINE_TONE)),
            keys: VecDeque::new(),
            vad,
            speaking: None,
            chunk: Vec::new(),
            turn: TurnId(0),
            listen,
            outputs: VecDeque::from([match kind {
                RouteKind::Inside => CallOutput::Ring,
                RouteKind::Outside => CallOutput::Event(CallEvent::Offered),
                RouteKind::Notice => CallOutput::Progress,
                _ => CallOutput::Answer,
            }]),
            began: now,
            answered: (!matches!(kind, RouteKind::Inside | RouteKind::Outside | RouteKind::Notice)).then_some(now),
            bridged: false,
            pause: SeatPause::default(),
            paused: false,
            heard_ms: 0,
            over: false,
        }
    }

    /// Something happened.
    pub fn handle(&mut self, now: Mono, input: CallInput) {
        match input {
            CallInput::Established if self.kind == RouteKind::Bridge => self.dial(),
            CallInput::Established if self.kind == RouteKind::Notice => self.proved = true,
            CallInput::Key { leg: Leg::Caller, .. } if self.kind == RouteKind::Barge => {
                self.playing = false;
            }
            CallInput::Key { leg: Leg::Caller, key } if self.kind == RouteKind::Line => {
                self.keys.extend(Tone::key(key).filter(|_| self.keys.len() < MOST_KEYS).map(ToneGenerator::new));
            }
            // What is heard until then comes from there.
            CallInput::SeatRinging if self.kind == RouteKind::Outside && self.answered.is_none() => {
                self.outputs.push_back(CallOutput::Ring);
            }
            CallInput::SeatAnswered if self.answered.is_none() => {
                self.answered = Some(now);
                self.tell(CallEvent::Answered);
                self.outputs.push_back(CallOutput::Answer);
            }
            CallInput::SeatAnswered if !self.bridged => self.join(),
            CallInput::Established
                if matches!(self.kind, RouteKind::Inside | RouteKind::Outside)
                    && self.answered.is_some()
                    && !self.bridged =>
            {
                self.join();
            }
            // It is the seat that calls.
            CallInput::Key { leg: Leg::Caller, key } if self.kind == RouteKind::Outside && self.bridged => {
                self.pause.key(now, key);
                self.settle_pause(now);
            }
            CallInput::Record(on) if self.kind == RouteKind::Outside && self.bridged => {
                self.pause.record(now, on);
                self.settle_pause(now);
            }
            CallInput::HandOn(order) if self.bridged => {
                self.bridged = false;
                self.outputs.push_back(CallOutput::Bridge(false));
                self.outputs.push_back(CallOutput::Hangup(Leg::Seat));
                self.outputs.push_back(CallOutput::DialSeat { order: *order });
            }
            CallInput::SeatFailed(_)
            | CallInput::TakenOver
            | CallInput::HungUp(_)
            | CallInput::CallerLost
            | CallInput::Terminate => {
                self.end(now, &input);
            }
            _ => {}
        }
    }

    /// An event of a call that has a record.
    fn tell(&mut self, event: CallEvent) {
        if self.kind == RouteKind::Outside {
            self.outputs.push_back(CallOutput::Event(event));
        }
    }

    /// Tells the recording when it is to be silent and when to go on.
    fn settle_pause(&mut self, now: Mono) {
        let paused = self.pause.settle(now, self.bridged);
        if paused != self.paused && !self.over {
            self.paused = paused;
            self.outputs.push_back(CallOutput::Record(!paused));
            self.tell(CallEvent::Recording { on: !paused, by: Some(Leg::Seat), at_ms: self.heard_ms });
        }
    }

    fn join(&mut self) {
        self.bridged = true;
        self.outputs.push_back(CallOutput::Bridge(true));
    }

    fn dial(&mut self) {
        let briefing = Prompt {
            text: String::new(),
            shown: String::new(),
            audio: None,
            rate: 1.0,
            barge_in: false,
            lang: Lang::Zh,
        };
        self.outputs.push_back(CallOutput::DialSeat {
            order: TransferOrder { queue: self.target.clone(), skill: None, warm: false, briefing, ring_ms: 30_000 },
        });
    }

    fn end(&mut self, now: Mono, input: &CallInput) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let other = |cause, by, english, chinese| EndReason::other(cause, by, english, chinese);
        let lasted = now.since(self.began);
        let limit = match self.answered {
            None if lasted >= LONGEST_RING => Some(OutsideLimit::Ring),
            Some(_) if lasted >= LONGEST_CALL => Some(OutsideLimit::Call),
            _ => None,
        };
        let (outcome, reason) = match input {
            _ if self.kind == RouteKind::Outside => outside_end(self.answered.is_some(), limit, input),
            CallInput::Terminate if self.kind == RouteKind::Notice && self.is_unproved() => {
                (Outcome::Failed, EndReason::of(Why::NoticeUnproved, &Facts::default()))
            }
            CallInput::Terminate if self.kind == RouteKind::Notice => {
                let words = "refused with 480 after the notice that stands in the hotline's place ([[notice]])";
                (Outcome::Failed, other(31, HungUpBy::Us, words, "播放通知后以 480 拒绝（[[notice]]）"))
            }
            CallInput::HungUp(Leg::Caller) if self.kind == RouteKind::Notice => {
                let words = "the caller hung up during the notice that stands in the hotline's place ([[notice]])";
                (Outcome::Abandoned, other(16, HungUpBy::Caller, words, "主叫在播放通知时挂机（[[notice]]）"))
            }
            CallInput::HungUp(Leg::Caller) => {
                (Outcome::Resolved, other(16, HungUpBy::Caller, "test route", "测试路由"))
            }
            CallInput::HungUp(Leg::Seat) => (Outcome::Resolved, other(16, HungUpBy::Seat, "test route", "测试路由")),
            CallInput::CallerLost => {
                let words = "test route: the caller's signalling or sound broke off";
                (Outcome::Failed, other(27, HungUpBy::Us, words, "测试路由：主叫的信令或语音中断"))
            }
            CallInput::TakenOver => (Outcome::Transferred, EndReason::of(Why::TakenOver, &Facts::default())),
            CallInput::SeatFailed(_) => (Outcome::Failed, EndReason::of(Why::Leg, &Facts::default())),
            _ => {
                let words = "test route: the call was too long, or the hotline stopped";
                (Outcome::Failed, other(102, HungUpBy::Us, words, "测试路由：通话过长或总机停止"))
            }
        };
        self.outputs.push_back(match (self.answered, input) {
            (Some(_), _) => CallOutput::Hangup(Leg::Caller),
            (None, CallInput::SeatFailed(LegFailure::Busy)) => CallOutput::Reject(486),
            // A challenge is for us, not for the phone.
            (None, CallInput::SeatFailed(LegFailure::Failed(code)))
                if self.kind == RouteKind::Outside && (402..700).contains(code) && *code != 407 =>
            {
                CallOutput::Reject(*code)
            }
            (None, _) => CallOutput::Reject(480),
        });
        if matches!(self.kind, RouteKind::Bridge | RouteKind::Inside | RouteKind::Outside) {
            self.outputs.push_back(CallOutput::Hangup(Leg::Seat));
        }
        self.tell(CallEvent::Ended(reason.clone()));
        self.outputs.push_back(CallOutput::Finished(Box::new(CallRecord {
            offered: self.began,
            answered: self.answered,
            ended: now,
            reason,
            outcome,
            steps: 0,
            retries: 0,
            verify_questions: 0,
            turns: 0,
            flows: Vec::new(),
            bridged: self.bridged,
        })));
    }

    /// Whether the route ever sounds.
    pub fn has_voice(&self) -> bool {
        self.kind != RouteKind::Silent
    }

    /// A frame from a leg.
    pub fn hear(&mut self, now: Mono, leg: Leg, frame: &AudioFrame) {
        if leg != Leg::Caller {
            return;
        }
        self.heard_ms += FRAME_MS;
        self.settle_pause(now);
        if matches!(self.kind, RouteKind::Echo | RouteKind::Line) {
            if self.echo.len() == 4 {
                self.echo.pop_front();
            }
            self.echo.push_back(*frame);
        }
        if self.listening == Listening::Keys {
            return;
        }
        let Some(vad) = &mut self.vad else { return };
        let speech = vad.speech(frame) > 0.5;
        if self.listening == Listening::Speech {
            self.recognise(speech, frame);
        }
    }

    fn recognise(&mut self, speech: bool, frame: &AudioFrame) {
        let Some(listen) = &self.listen else { return };
        match self.speaking {
            None if speech => {
                self.turn.0 += 1;
                self.speaking = Some(0);
                self.outputs.push_back(CallOutput::SpeechStart { turn: self.turn, listen: listen.clone() });
            }
            None => return,
            Some(_) => {}
        }
        self.chunk.extend_from_slice(&frame.pcm);
        let frames = self.speaking.map_or(1, |n| n + 1);
        self.speaking = Some(frames);
        let over = !speech || frames >= LONGEST;
        if over || frames.is_multiple_of(CHUNK) {
            let pcm = std::mem::take(&mut self.chunk);
            self.outputs.push_back(CallOutput::SpeechAudio { turn: self.turn, pcm });
        }
        if over {
            self.speaking = None;
            self.outputs.push_back(CallOutput::SpeechEnd { turn: self.turn });
        }
    }

    /// A frame for a leg.
    pub fn speak(&mut self, now: Mono, leg: Leg) -> AudioFrame {
        let mut frame = AudioFrame::silence(0);
        if leg != Leg::Caller {
            return frame;
        }
        match self.kind {
            RouteKind::Echo => return self.echo.pop_front().unwrap_or(frame),
            RouteKind::Line => return self.line_check(),
            RouteKind::Notice => return self.notice(now),
            RouteKind::Loop | RouteKind::Barge if self.playing && self.prompt.len() >= FRAME_SAMPLES => {
                if self.position + FRAME_SAMPLES > self.prompt.len() {
                    self.position = 0;
                }
                frame.pcm.copy_from_slice(&self.prompt[self.position..self.position + FRAME_SAMPLES]);
                self.position += FRAME_SAMPLES;
            }
            _ => {}
        }
        frame
    }

    /// The prompt once, and a moment in which the network delivers its end.
    fn notice(&mut self, now: Mono) -> AudioFrame {
        let mut frame = AudioFrame::silence(0);
        let rest = self.prompt.get(self.position..).unwrap_or_default();
        let part = &rest[..rest.len().min(FRAME_SAMPLES)];
        frame.pcm[..part.len()].copy_from_slice(part);
        self.position += FRAME_SAMPLES;
        if self.is_unproved() || self.position > self.prompt.len() + AFTER {
            self.end(now, &CallInput::Terminate);
        }
        frame
    }

    /// As much of a notice was sent as may be, and there is more of it.
    fn is_unproved(&self) -> bool {
        !self.proved && self.position >= UNPROVED && self.position < self.prompt.len()
    }

    /// A key's tones alone, so that they are told for certain; else the tone over what was heard, 6 dB lower.
    fn line_check(&mut self) -> AudioFrame {
        let heard = self.echo.pop_front();
        if let Some(key) = self.keys.front_mut() {
            let frame = key.frame(0);
            if key.ended() {
                self.keys.pop_front();
            }
            return frame;
        }
        let mut frame = self.tone.frame(0);
        for (sample, heard) in frame.pcm.iter_mut().zip(heard.unwrap_or(AudioFrame::silence(0)).pcm) {
            *sample = sample.saturating_add(heard / 2);
        }
        frame
    }

    /// When the call is ended at the latest.
    pub fn deadline(&self) -> Mono {
        self.began
            + match self.kind {
                RouteKind::Notice => LONGEST_NOTICE,
                _ if self.answered.is_none() => LONGEST_RING,
                _ => LONGEST_CALL,
            }
    }

    /// What is to be carried out.
    pub fn poll_output(&mut self) -> Option<CallOutput> {
        self.outputs.pop_front()
    }
}

/// A time that a seat's call outside has reached.
#[derive(Clone, Copy)]
enum OutsideLimit {
    Ring,
    Call,
}

/// How a seat's call outside ended: of the two, `Seat` is the person here and `Caller` the one who was called.
fn outside_end(answered: bool, limit: Option<OutsideLimit>, input: &CallInput) -> (Outcome, EndReason) {
    let other = |cause, by, english: &str, chinese: &str| EndReason::other(cause, by, english, chinese);
    match input {
        CallInput::HungUp(Leg::Caller) if answered => {
            (Outcome::Resolved, other(16, HungUpBy::Seat, "the seat that called hung up", "主叫坐席挂机"))
        }
        CallInput::HungUp(Leg::Caller) => {
            let words = "the seat gave up before the number called answered";
            (Outcome::Abandoned, other(16, HungUpBy::Seat, words, "坐席在被叫应答前放弃"))
        }
        CallInput::HungUp(_) => {
            (Outcome::Resolved, other(16, HungUpBy::Caller, "the number called hung up", "被叫挂机"))
        }
        CallInput::SeatFailed(_) => (Outcome::Failed, EndReason::of(Why::Leg, &Facts::default())),
        CallInput::CallerLost => {
            let words = "the calling seat's signalling or sound broke off: look at its phone and network";
            (Outcome::Failed, other(27, HungUpBy::Us, words, "主叫坐席的信令或语音中断：请检查话机和网络"))
        }
        _ => match limit {
            Some(OutsideLimit::Ring) => {
                let words = "the number called did not answer within two minutes";
                (Outcome::Failed, other(19, HungUpBy::Us, words, "被叫两分钟内无人应答"))
            }
            Some(OutsideLimit::Call) => (Outcome::Resolved, EndReason::of(Why::TimeLimit, &Facts::default())),
            None => (Outcome::Failed, EndReason::of(Why::Terminated, &Facts::default())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(kind: RouteKind) -> RouteParts {
        RouteParts {
            kind,
            listening: Listening::Keys,
            target: "sip:b@127.0.0.1".into(),
            prompt: vec![7; 320].into(),
            vad: None,
            listen: None,
        }
    }

    fn route(kind: RouteKind) -> Route {
        Route::new(parts(kind), Mono(0))
    }

    #[test]
    fn a_key_stops_the_prompt_for_good() {
        let mut r = route(RouteKind::Barge);
        assert_eq!(r.speak(Mono(0), Leg::Caller).pcm[0], 7);
        for key in ['1', '2', '3', '4'] {
            r.handle(Mono(0), CallInput::Key { leg: Leg::Caller, key });
            assert_eq!(r.speak(Mono(0), Leg::Caller).pcm[0], 0);
        }
    }

    #[test]
    fn a_line_check_sounds_its_tone_over_the_echo_and_answers_a_key_with_its_tones() {
        use crate::audio::detect::{dtmf_key, tone_power};
        let mut r = route(RouteKind::Line);
        let mut caller = ToneGenerator::new(Tone::sine(1800.0, 6000.0));
        let mut sound = Vec::new();
        for _ in 0..10 {
            r.hear(Mono(0), Leg::Caller, &caller.frame(0));
            sound.extend(r.speak(Mono(0), Leg::Caller).pcm);
        }
        assert!(tone_power(&sound, LINE_TONE_HZ) > 1e6 && tone_power(&sound, 1800.0) > 1e6);
        r.handle(Mono(0), CallInput::Key { leg: Leg::Caller, key: '#' });
        let answer: Vec<i16> = (0..8).flat_map(|_| r.speak(Mono(0), Leg::Caller).pcm).collect();
        assert_eq!(dtmf_key(&answer[..800]), Some('#'));
        let after: Vec<i16> = (0..4).flat_map(|_| r.speak(Mono(0), Leg::Caller).pcm).collect();
        assert!(tone_power(&after, LINE_TONE_HZ) > 1e6, "the tone goes on after the key");
    }

    #[test]
    fn a_bridge_whose_target_is_not_there_has_failed() {
        let mut r = route(RouteKind::Bridge);
        r.handle(Mono(0), CallInput::Established);
        r.handle(Mono(0), CallInput::SeatFailed(crate::call::LegFailure::NoAnswer));
        let record = std::iter::from_fn(|| r.poll_output()).find_map(|o| match o {
            CallOutput::Finished(record) => Some(record),
            _ => None,
        });
        assert_eq!(record.map(|r| (r.outcome, r.reason.cause)), Some((Outcome::Failed, 41)));
    }

    #[test]
    fn a_call_inside_rings_until_the_other_seat_answers() {
        let mut r = route(RouteKind::Inside);
        let mut outputs = || std::iter::from_fn(|| r.poll_output()).collect::<Vec<_>>();
        let first = outputs();
        assert!(matches!(first[..], [CallOutput::Ring, CallOutput::DialSeat { .. }]), "{first:?}");
        r.handle(Mono(0), CallInput::SeatAnswered);
        r.handle(Mono(0), CallInput::Established);
        let joined: Vec<_> = std::iter::from_fn(|| r.poll_output()).collect();
        assert_eq!(joined, [CallOutput::Answer, CallOutput::Bridge(true)]);
        let mut busy = route(RouteKind::Inside);
        busy.handle(Mono(0), CallInput::SeatFailed(LegFailure::Busy));
        assert!(std::iter::from_fn(|| busy.poll_output()).any(|o| o == CallOutput::Reject(486)));
    }

    #[test]
    fn a_call_outside_rings_when_the_number_does_and_passes_its_refusal_on() {
        let mut r = route(RouteKind::Outside);
        let outputs = |r: &mut Route| std::iter::from_fn(|| r.poll_output()).collect::<Vec<_>>();
        let first = outputs(&mut r);
        assert!(matches!(first[..], [CallOutput::Event(_), CallOutput::DialSeat { .. }]), "no ringing yet: {first:?}");
        r.handle(Mono(0), CallInput::SeatRinging);
        assert_eq!(outputs(&mut r), [CallOutput::Ring]);
        r.handle(Mono(0), CallInput::SeatFailed(LegFailure::Failed(484)));
        let last = outputs(&mut r);
        assert!(last.contains(&CallOutput::Reject(484)), "{last:?}");
        let mut silent = route(RouteKind::Outside);
        assert_eq!(silent.deadline(), Mono(0) + LONGEST_RING);
        silent.handle(silent.deadline(), CallInput::Terminate);
        let ended = outputs(&mut silent);
        let said =
            |o: &CallOutput| matches!(o, CallOutput::Finished(r) if r.reason.sentence.contains("did not answer"));
        assert!(ended.iter().any(said) && ended.contains(&CallOutput::Reject(480)), "{ended:?}");
        let mut long = route(RouteKind::Outside);
        long.handle(Mono(0), CallInput::SeatAnswered);
        long.handle(long.deadline(), CallInput::Terminate);
        let limit = |o: &CallOutput| matches!(o, CallOutput::Finished(r) if r.reason.why == Why::TimeLimit);
        assert!(outputs(&mut long).iter().any(limit), "nobody ended it but its limit");
    }

    #[test]
    fn a_notice_is_heard_once_before_any_answer_and_the_call_is_refused() {
        let mut r = route(RouteKind::Notice);
        let (mut frames, mut outputs) = (0, Vec::new());
        while !outputs.iter().any(|o| matches!(o, CallOutput::Finished(_))) {
            let frame = r.speak(Mono(0), Leg::Caller);
            assert_eq!(frame.pcm[0], if frames < 2 { 7 } else { 0 });
            frames += 1;
            outputs.extend(std::iter::from_fn(|| r.poll_output()));
            assert!(frames < 30);
        }
        assert_eq!(outputs[..2], [CallOutput::Progress, CallOutput::Reject(480)]);
        for proved in [false, true] {
            let parts = RouteParts { prompt: vec![7; 5 * UNPROVED / 2].into(), ..parts(RouteKind::Notice) };
            let (mut long, mut outputs, mut frames) = (Route::new(parts, Mono(0)), Vec::new(), 0);
            if proved {
                long.handle(Mono(0), CallInput::Established);
            }
            while !outputs.iter().any(|o| matches!(o, CallOutput::Finished(_))) {
                frames += usize::from(long.speak(Mono(0), Leg::Caller).pcm[0] == 7);
                outputs.extend(std::iter::from_fn(|| long.poll_output()));
            }
            let cut = |o: &CallOutput| matches!(o, CallOutput::Finished(r) if r.reason.why == Why::NoticeUnproved);
            assert_eq!((frames, outputs.iter().any(cut)), if proved { (250, false) } else { (100, true) });
        }
        let mut hasty = route(RouteKind::Notice);
        hasty.handle(Mono(0), CallInput::HungUp(Leg::Caller));
        let record = std::iter::from_fn(|| hasty.poll_output()).find_map(|o| match o {
            CallOutput::Finished(record) => Some(record.outcome),
            _ => None,
        });
        assert_eq!(record, Some(Outcome::Abandoned));
    }

    #[test]
    fn a_bridge_ends_with_one_record_when_either_side_hangs_up() {
        let mut r = route(RouteKind::Bridge);
        r.handle(Mono(0), CallInput::Established);
        r.handle(Mono(0), CallInput::SeatAnswered);
        r.handle(Mono(0), CallInput::HungUp(Leg::Seat));
        r.handle(Mono(0), CallInput::HungUp(Leg::Caller));
        let outputs: Vec<_> = std::iter::from_fn(|| r.poll_output()).collect();
        assert_eq!(outputs.iter().filter(|o| matches!(o, CallOutput::Finished(_))).count(), 1);
        assert!(outputs.contains(&CallOutput::Bridge(true)));
    }
}
