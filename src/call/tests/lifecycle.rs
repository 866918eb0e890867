//! From the offer to the record: every state, every input.

use super::life::Signal;
use super::*;
use crate::dialplan::Value;

/// One input of every kind (and of both legs).
fn inputs() -> Vec<CallInput> {
    let mut all = vec![
        CallInput::Established,
        CallInput::SeatRinging,
        CallInput::SeatAnswered,
        CallInput::SeatFailed(LegFailure::Busy),
        CallInput::HandOn(Box::new(order(false))),
        CallInput::Heard { turn: TurnId(1), heard: intent("x") },
        CallInput::PromptAudio { prompt: PromptId(1), pcm: ramp(10), last: true },
        CallInput::PromptFailed { prompt: PromptId(1), why: "x".into() },
        CallInput::ActionDone { request: RequestId(1), outcome: "ok".into(), data: Value::Null },
        CallInput::TicketDone { request: RequestId(1), ticket: None },
        CallInput::TakenOver,
        CallInput::CallerLost,
        CallInput::Record(false),
        CallInput::Terminate,
    ];
    for leg in [Leg::Caller, Leg::Seat, Leg::Supervisor] {
        all.push(CallInput::HungUp(leg));
        all.push(CallInput::Key { leg, key: '1' });
        all.push(CallInput::Hold { leg, held: true });
        all.push(CallInput::Hold { leg, held: false });
    }
    all
}

/// A call in each state.
fn calls() -> Vec<(State, Rig)> {
    let transfer = || vec![reply(&[], Await::Transfer(order(true)))];
    let in_stage = |inputs: &[CallInput], ms: u64| {
        let mut rig = Rig::new(transfer());
        for input in inputs {
            rig.handle(input.clone());
        }
        rig.pass(ms);
        (rig.call.state(), rig)
    };
    let ringing = Rig::ringing(vec![], CallSettings { answer_delay_ms: 500, ..CallSettings::default() });
    let mut answering = Rig::ringing(vec![], CallSettings { answer_delay_ms: 0, ..CallSettings::default() });
    answering.timeout();
    let talking = Rig::new(vec![reply(&["请讲"], listen(|_| {}))]);
    let ending = Rig::new(vec![reply(&["再见"], Await::Hangup(Outcome::Resolved))]);
    let mut ended = Rig::new(vec![]);
    ended.handle(CallInput::Terminate);
    let mut all = vec![
        (State::Ringing, ringing),
        (State::Answering, answering),
        (State::Talking, talking),
        in_stage(&[], 0),
        in_stage(&[CallInput::SeatRinging], 0),
        in_stage(&[CallInput::SeatAnswered], 0),
        in_stage(&[CallInput::SeatAnswered], 1000),
        in_stage(&[CallInput::SeatAnswered], 1100),
        (State::Ending, ending),
        (State::Ended, ended),
    ];
    for (state, rig) in &mut all {
        assert_eq!(*state, rig.call.state());
    }
    all
}

#[test]
fn the_calls_of_this_test_cover_every_state_that_lasts() {
    let states: Vec<State> = calls().iter().map(|c| c.0).collect();
    for state in State::ALL.into_iter().filter(|&s| s != State::Offered) {
        assert!(states.contains(&state), "{state:?}");
    }
}

#[test]
fn every_input_is_survived_in_every_state_and_the_call_still_ends_once() {
    for input in inputs() {
        for (state, mut rig) in calls() {
            rig.handle(input.clone());
            assert!(rig.call.is_finished() || rig.call.deadline().is_some(), "{state:?} is stuck after {input:?}");
            for _ in 0..200_000 {
                if rig.call.is_finished() {
                    break;
                }
                // Sound goes on, so that only the call's own limits end it.
                rig.now = rig.call.deadline().expect("no deadline").max(rig.now);
                rig.tick(false);
            }
            let finished = rig.count(|o| matches!(o, CallOutput::Finished(_)));
            assert_eq!(finished, 1, "{state:?} after {input:?}");
            assert!(matches!(rig.out.last(), Some(CallOutput::Finished(_))));
        }
    }
}

#[test]
fn a_call_rings_is_answered_and_greets() {
    let settings = CallSettings { answer_delay_ms: 1000, ..CallSettings::default() };
    let mut rig = Rig::ringing(vec![reply(&["您好"], listen(|_| {}))], settings);
    assert_eq!(rig.count(|o| *o == CallOutput::Ring), 1);
    rig.now = rig.now + Duration::from_millis(999);
    rig.timeout();
    assert_eq!(rig.call.state(), State::Ringing);
    rig.now = rig.now + Duration::from_millis(1);
    rig.timeout();
    assert_eq!(rig.count(|o| *o == CallOutput::Answer), 1);
    assert!(rig.told().is_empty(), "nothing is said before the ACK");
    rig.handle(CallInput::Established);
    assert_eq!(rig.events(), [&CallEvent::Offered, &CallEvent::Answered]);
    rig.pass(400);
    assert!(rig.heard[..10].iter().all(|f| f.pcm == [0; 160]), "the lead-in");
    assert_eq!(rig.heard[10].pcm[0], 1, "the first sample of the greeting, whole");
}

#[test]
fn an_unacknowledged_answer_is_given_up_after_32_seconds() {
    let mut rig = Rig::ringing(vec![], CallSettings { answer_delay_ms: 0, ..CallSettings::default() });
    rig.timeout();
    assert_eq!(rig.call.deadline(), Some(rig.now + Duration::from_secs(32)));
    rig.now = rig.now + Duration::from_secs(32);
    rig.timeout();
    let record = rig.record().expect("no record");
    assert_eq!((record.reason.cause, record.answered, record.outcome), (102, None, Outcome::Failed));
    assert_eq!(rig.count(|o| *o == CallOutput::Hangup(Leg::Caller)), 1);
}

#[test]
fn the_last_word_is_heard_to_its_end_before_bye() {
    let mut rig = Rig::new(vec![reply(&["再见"], Await::Hangup(Outcome::Resolved))]);
    rig.pass(1180);
    assert!(!rig.call.is_finished());
    rig.pass(60);
    let record = rig.record().expect("no record").clone();
    assert_eq!((record.outcome, record.reason.by, record.reason.cause), (Outcome::Resolved, HungUpBy::Us, 16));
    assert_eq!((record.steps, record.retries, record.flows), (2, 1, vec!["order".to_string()]));
    assert!(rig.events().iter().any(|e| matches!(e, CallEvent::PromptEnded { played_ms: 1000, interrupted: false })));
}

#[test]
fn nothing_follows_the_record() {
    let mut rig = Rig::new(vec![reply(&["请讲"], listen(|_| {}))]);
    rig.handle(CallInput::HungUp(Leg::Caller));
    let before = rig.out.len();
    for input in inputs() {
        rig.handle(input);
    }
    rig.pass(200);
    rig.timeout();
    assert_eq!(rig.out.len(), before);
    assert_eq!(rig.call.deadline(), None);
}

#[test]
fn a_caller_who_gives_up_before_the_answer_still_has_a_record() {
    let mut rig = Rig::ringing(vec![], CallSettings::default());
    rig.handle(CallInput::HungUp(Leg::Caller));
    let record = rig.record().unwrap();
    assert_eq!((record.outcome, record.answered), (Outcome::Abandoned, None));
    assert_eq!(rig.count(|o| matches!(o, CallOutput::Reject(_) | CallOutput::Hangup(_))), 0);
}

#[test]
fn a_call_that_reaches_its_limit_is_told_so() {
    let asks = (0..400).map(|_| reply(&[], listen(|l| l.no_input_ms = 3000))).collect();
    let settings = CallSettings { answer_delay_ms: 0, max_call_s: 10, ..CallSettings::default() };
    let mut rig = Rig::ringing(asks, settings);
    rig.timeout();
    rig.handle(CallInput::Established);
    rig.pass(10_100);
    assert_eq!(rig.call.state(), State::Ending);
    assert!(rig.spoken().iter().any(|t| t.contains("时间已到")));
    rig.pass(2000);
    let record = rig.record().expect("no record");
    assert_eq!((record.outcome, record.reason.cause), (Outcome::Failed, 102));
    assert!(record.reason.sentence.contains("limit"));
}

#[test]
fn a_caller_who_holds_too_long_is_let_go() {
    let mut rig = Rig::new(vec![reply(&["请讲"], listen(|_| {}))]);
    rig.handle(CallInput::Hold { leg: Leg::Caller, held: true });
    rig.pass(299_900);
    assert!(!rig.call.is_finished());
    rig.pass(200);
    assert!(rig.record().is_some_and(|r| r.reason.sentence.contains("held")));
}

#[test]
fn a_caller_whose_sound_stops_is_let_go() {
    let settings = CallSettings { answer_delay_ms: 0, no_media_s: 5, ..CallSettings::default() };
    let mut rig = Rig::ringing(vec![reply(&[], listen(|l| l.no_input_ms = 60_000))], settings);
    rig.timeout();
    rig.handle(CallInput::Established);
    rig.pass(1000);
    rig.now = rig.now + Duration::from_secs(5);
    rig.timeout();
    assert_eq!(rig.record().map(|r| r.reason.cause), Some(41));
}

#[test]
fn the_table_and_the_inputs_speak_of_the_same_things() {
    // Signals that are no input come from the call itself.
    let own = [Signal::Accepted, Signal::Deadline, Signal::Drained, Signal::NoMedia, Signal::HeldTooLong];
    let named: Vec<Signal> = inputs().iter().map(machine::signal_of).collect();
    for signal in Signal::ALL {
        assert_eq!(named.contains(&signal), !own.contains(&signal), "{signal:?}");
    }
}

/// Inputs in no order at all, with ids that may mean something.
fn chaos(dice: &mut impl FnMut(u64) -> u64) -> CallInput {
    let leg = if dice(2) == 0 { Leg::Caller } else { Leg::Seat };
    let small = dice(6) as u32;
    match dice(17) {
        0 => CallInput::Established,
        1 => CallInput::SeatRinging,
        2 => CallInput::SeatAnswered,
        3 => CallInput::SeatFailed(LegFailure::Failed(small as u16)),
        4 if dice(40) == 0 => CallInput::HungUp(leg),
        4 if dice(80) == 0 => CallInput::CallerLost,
        5 => CallInput::Hold { leg, held: dice(2) == 0 },
        6 | 7 => CallInput::Heard { turn: TurnId(small), heard: meant("嗯", Meaning::NoMatch) },
        8 => CallInput::PromptAudio { prompt: PromptId(small), pcm: ramp(dice(4000) as usize), last: dice(2) == 0 },
        9 => CallInput::PromptFailed { prompt: PromptId(small), why: "x".into() },
        10 => CallInput::ActionDone { request: RequestId(small), outcome: "ok".into(), data: Value::Null },
        11 => CallInput::TicketDone { request: RequestId(small), ticket: None },
        // Rarely: each one begins a new way to a seat, and the call would never end.
        12 if dice(40) == 0 => CallInput::HandOn(Box::new(order(false))),
        _ => CallInput::Key { leg, key: *['0', '1', '#', '*'].get(dice(4) as usize).unwrap_or(&'2') },
    }
}

fn chaotic_reply(dice: &mut impl FnMut(u64) -> u64) -> Reply {
    let then = match dice(5) {
        0 => Await::Transfer(order(dice(2) == 0)),
        1 => Await::Record { max_ms: 0 },
        _ => listen(|l| l.keys = KeyRule { min: 0, max: dice(3) as u8, terminator: Some('#'), gap_ms: 0 }),
    };
    Reply { say: vec![words("请讲", dice(2) == 0)], then, trace: vec![] }
}

#[test]
fn inputs_in_no_order_at_all_neither_panic_nor_keep_the_call() {
    for seed in 1..400u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut dice = move |n: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % n
        };
        let replies = (0..8).map(|_| chaotic_reply(&mut dice)).collect();
        let settings = CallSettings { answer_delay_ms: 0, max_call_s: 20, max_bridge_s: 20, ..CallSettings::default() };
        let mut rig = Rig::ringing(replies, settings);
        rig.prompt_ms = dice(2) as usize * 300;
        for _ in 0..300 {
            if dice(3) == 0 {
                rig.handle(chaos(&mut dice));
            }
            let loud = dice(3) > 0;
            rig.tick(loud);
        }
        for _ in 0..10_000 {
            rig.tick(false);
        }
        assert!(rig.call.is_finished(), "seed {seed} is stuck in {:?}", rig.call.state());
        assert_eq!(rig.count(|o| matches!(o, CallOutput::Finished(_))), 1, "seed {seed}");
        assert!(matches!(rig.out.last(), Some(CallOutput::Finished(_))), "seed {seed}");
    }
}
