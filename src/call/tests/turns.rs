//! Turns: answers, silence, failing engines, actions, recordings, the record of it all.

use super::*;
use crate::dialplan::{ActionCall, TicketDraft, Value};
use std::collections::BTreeMap;

fn action(filler: Option<Prompt>, timeout_ms: u32) -> Await {
    Await::Action(ActionCall {
        name: "orders.get".into(),
        args: BTreeMap::new(),
        timeout_ms,
        filler,
        idempotent: true,
        proved: crate::dialplan::Level::L0,
    })
}

fn ticket() -> Await {
    Await::Ticket(TicketDraft {
        category: "投诉".into(),
        priority: "P1".into(),
        sla: "24h".into(),
        title: "t".into(),
        facts: Value::Null,
        recording_ms: None,
    })
}

fn speak(rig: &mut Rig, heard: Heard) {
    rig.voice(600);
    rig.pass(700);
    rig.answer(heard);
}

#[test]
fn all_prompts_of_a_reply_are_ordered_at_once_and_play_in_a_row() {
    let mut rig = Rig::new(vec![reply(&["您好", "欢迎致电", "请讲"], listen(|_| {}))]);
    assert_eq!(rig.spoken(), ["您好", "欢迎致电", "请讲"]);
    rig.pass(3000);
    assert!(rig.heard.iter().all(|f| f.pcm.iter().all(|&s| s != 0)), "no gap");
}

#[test]
fn silence_is_counted_from_the_end_of_the_prompt() {
    let mut rig = Rig::new(vec![reply(&["请讲"], listen(|l| l.no_input_ms = 2000)), reply(&[], listen(|_| {}))]);
    rig.pass(2960);
    assert_eq!(rig.told(), vec![Input::Start]);
    assert!(!rig.events().contains(&&CallEvent::NoInput));
    rig.pass(100);
    assert_eq!(rig.told(), vec![Input::Start, Input::NoInput]);
    assert!(rig.events().contains(&&CallEvent::NoInput), "the record says so");
}

#[test]
fn a_cough_does_not_begin_the_wait_anew() {
    let mut rig = Rig::new(vec![reply(&[], listen(|l| l.no_input_ms = 3000)), reply(&[], listen(|_| {}))]);
    rig.pass(2000);
    rig.voice(60);
    rig.pass(840);
    assert_eq!(rig.told(), vec![Input::Start], "the wait is not over yet");
    rig.pass(500);
    assert_eq!(rig.told(), vec![Input::Start, Input::NoInput]);
}

#[test]
fn what_goes_wrong_inside_a_flow_is_written_for_the_call() {
    let mut rig = Rig::new(vec![reply(&[], listen(|l| l.no_input_ms = 1000)), reply(&[], listen(|_| {}))]);
    rig.pass(1500);
    let wanted = CallEvent::Trouble("dialplan: order/ask: silence is not foreseen".into());
    assert_eq!(rig.events().iter().filter(|e| ***e == wanted).count(), 1);
}

#[test]
fn a_short_answer_is_over_after_a_short_pause() {
    let mut rig = Rig::new(vec![reply(&[], listen(|l| l.pause = Pause::Short))]);
    rig.voice(300);
    rig.pass(360);
    assert_eq!(rig.count(|o| matches!(o, CallOutput::SpeechEnd { .. })), 0);
    rig.pass(20);
    assert_eq!(rig.count(|o| matches!(o, CallOutput::SpeechEnd { .. })), 1);
}

#[test]
fn a_late_answer_of_an_old_turn_changes_nothing() {
    let mut rig = Rig::new(vec![reply(&[], listen(|_| {})), reply(&[], listen(|_| {}))]);
    speak(&mut rig, intent("order_query"));
    let old = rig.call.turn();
    rig.voice(600);
    rig.pass(700);
    assert!(rig.call.turn() > old);
    rig.handle(CallInput::Heard { turn: old, heard: intent("complaint") });
    assert_eq!(rig.told().len(), 2);
    rig.answer(intent("refund"));
    rig.answer(intent("refund"));
    assert_eq!(rig.told().len(), 3, "and one answer counts once");
}

#[test]
fn a_recogniser_that_never_answers_costs_five_seconds_and_an_apology() {
    let mut rig = Rig::new(vec![reply(&[], listen(|_| {})), reply(&["请再说一遍"], listen(|_| {}))]);
    rig.voice(600);
    rig.pass(600 + 4980);
    assert_eq!(rig.told().len(), 1);
    rig.pass(40);
    assert!(matches!(rig.last_told(), Some(Input::Heard(u)) if u.meaning == Meaning::NoMatch));
    assert!(rig.spoken().iter().any(|t| t.contains("按键")));
    assert!(rig.events().iter().any(|e| matches!(e, CallEvent::Trouble(_))));
}

#[test]
fn after_two_failures_only_keys_count_where_there_are_keys() {
    let again = || reply(&[], listen(|_| {}));
    let mut rig = Rig::new(vec![again(), again(), again(), reply(&[], listen(|l| l.keys.max = 0))]);
    let broken = || Heard { result: Err("broken".into()), ..intent("") };
    speak(&mut rig, broken());
    rig.pass(1100);
    speak(&mut rig, broken());
    rig.pass(1100);
    let before = rig.count(|o| matches!(o, CallOutput::SpeechStart { .. }));
    rig.voice(800);
    assert_eq!(rig.count(|o| matches!(o, CallOutput::SpeechStart { .. })), before);
    rig.key('1');
    rig.voice(800);
    assert_eq!(rig.count(|o| matches!(o, CallOutput::SpeechStart { .. })), before + 1, "no keys here: speech again");
}

#[test]
fn keys_end_by_length_terminator_or_pause() {
    let digits = || {
        listen(|l| {
            l.kind = AnswerKind::Digits { min: 4, max: 6 };
            l.keys = KeyRule { min: 4, max: 6, terminator: Some('#'), gap_ms: 2000 };
        })
    };
    let mut rig = Rig::new(vec![reply(&[], digits()), reply(&[], digits()), reply(&[], digits())]);
    rig.keys("123456");
    rig.keys("3826#");
    rig.keys("99");
    rig.pass(1980);
    rig.key('9');
    rig.pass(2020);
    let told: Vec<Input> = rig.told().split_off(1);
    assert_eq!(told, ["123456", "3826", "999"].map(|k| Input::Keys(k.into())));
    assert!(rig.events().iter().all(|e| !matches!(e, CallEvent::Key(k) if *k != '*')), "digit strings are hidden");
}

#[test]
fn a_secret_answer_leaves_no_trace_in_records() {
    let secret = || {
        listen(|l| {
            l.kind = AnswerKind::Choice;
            l.secret = true;
        })
    };
    let mut rig = Rig::new(vec![reply(&[], secret()), reply(&[], secret()), reply(&[], secret())]);
    speak(&mut rig, meant("张小明", Meaning::Choice("张小明".into())));
    rig.pass(100);
    speak(&mut rig, meant("三八二六", Meaning::NoMatch));
    rig.pass(100);
    rig.key('7');
    rig.pass(100);
    let turns: Vec<(&str, &str)> = rig.turns().iter().map(|t| (t.heard.as_str(), t.intent.as_str())).collect();
    assert_eq!(turns, [("***", "choice"), ("****", "nomatch"), ("*", "keys")]);
    assert!(rig.events().contains(&&CallEvent::Key('*')) && !rig.events().contains(&&CallEvent::Key('7')));
}

#[test]
fn of_an_orders_number_only_the_digits_are_hidden() {
    let order = || {
        listen(|l| {
            l.kind = AnswerKind::Choice;
            l.keys = KeyRule { min: 4, max: 4, terminator: Some('#'), gap_ms: 2000 };
        })
    };
    let mut rig = Rig::new(vec![reply(&[], order()), reply(&[], order())]);
    speak(&mut rig, meant("第二单尾号三八二六", Meaning::Choice("20261120003826".into())));
    rig.pass(100);
    let turn = rig.turns()[0];
    assert_eq!((turn.heard.as_str(), turn.intent.as_str()), ("第二单尾号****", "202****3826"));
}

#[test]
fn keys_pressed_while_nothing_is_asked_are_not_written_down() {
    let mut rig = Rig::new(vec![reply(&[], action(None, 9000)), reply(&[], Await::Transfer(order(true)))]);
    rig.keys("38");
    rig.handle(CallInput::ActionDone { request: RequestId(1), outcome: "ok".into(), data: Value::Null });
    rig.keys("26");
    assert_eq!(rig.events().iter().filter(|e| ***e == CallEvent::Key('*')).count(), 4);
}

#[test]
fn every_prompt_is_ordered_in_the_language_it_is_written_in() {
    let english = Prompt { lang: Lang::En, ..words("Your order is on its way.", true) };
    let say = vec![english, words("您好", true)];
    let phrases = Phrases::of(Lang::En);
    let settings = CallSettings { answer_delay_ms: 0, phrases, ..CallSettings::default() };
    let mut rig = Rig::ringing(vec![Reply { say, then: action(None, 9000), trace: vec![] }], settings);
    rig.timeout();
    rig.handle(CallInput::Established);
    rig.pass(4000);
    let spoken = |o: &CallOutput| match o {
        CallOutput::Synthesise { request, .. } => Some((request.lang, request.text.is_ascii())),
        _ => None,
    };
    let spoken: Vec<_> = rig.out.iter().filter_map(spoken).collect();
    assert_eq!(spoken, [(Lang::En, true), (Lang::Zh, false), (Lang::En, true)], "and a filler of our own");
}

#[test]
fn an_action_with_its_own_filler_speaks_after_400_ms_and_others_after_1500() {
    for (filler, ms) in [(Some(words("正在查询", false)), 400), (None, 1500)] {
        let mut rig = Rig::new(vec![reply(&[], action(filler, 9000))]);
        rig.pass(ms - 20);
        assert!(rig.spoken().is_empty());
        rig.pass(40);
        assert_eq!(rig.spoken().len(), 1);
    }
}

#[test]
fn a_quick_action_needs_no_filler_and_a_lost_one_times_out() {
    let mut rig = Rig::new(vec![reply(&[], action(None, 3000)), reply(&["没有查到"], listen(|_| {}))]);
    rig.pass(3020);
    let timeout = Input::Action { outcome: "timeout".into(), data: Value::Null };
    assert_eq!(rig.last_told(), Some(timeout));
    let done = |request| CallInput::ActionDone { request, outcome: "ok".into(), data: Value::Null };
    rig.handle(done(RequestId(1)));
    assert_eq!(rig.told().len(), 2, "the late answer changes nothing");
    assert!(rig.events().iter().any(|e| matches!(e, CallEvent::Action { ms: 3000..=3020, .. })));
}

#[test]
fn a_ticket_that_is_not_safe_is_told_as_none() {
    let mut rig = Rig::new(vec![reply(&[], ticket()), reply(&[], ticket()), reply(&[], listen(|_| {}))]);
    let safe = Value::map([("no", Value::text("T-1"))]);
    rig.handle(CallInput::TicketDone { request: RequestId(1), ticket: Some(safe.clone()) });
    assert_eq!(rig.last_told(), Some(Input::Ticket(Some(safe))));
    assert!(rig.events().iter().any(|e| matches!(e, CallEvent::Ticket { no, .. } if no == "T-1")));
    rig.pass(5020);
    assert_eq!(rig.last_told(), Some(Input::Ticket(None)));
}

#[test]
fn a_ticket_that_comes_late_is_written_down_and_moves_nothing() {
    for then in [listen(|_| {}), Await::Transfer(order(true)), Await::Hangup(Outcome::Resolved)] {
        let mut rig = Rig::new(vec![reply(&[], ticket()), reply(&["办不了"], then)]);
        rig.pass(5020);
        assert_eq!(rig.last_told(), Some(Input::Ticket(None)));
        let (told, state) = (rig.told().len(), rig.call.state());
        let late =
            || CallInput::TicketDone { request: RequestId(1), ticket: Some(Value::map([("no", Value::text("T-9"))])) };
        rig.handle(late());
        rig.handle(late());
        assert_eq!((rig.told().len(), rig.call.state()), (told, state));
        let category = match ticket() {
            Await::Ticket(draft) => draft.category,
            _ => unreachable!(),
        };
        let noted = CallEvent::Ticket { no: "T-9".into(), category };
        assert_eq!(rig.events().iter().filter(|e| ***e == noted).count(), 1, "{state:?}");
    }
}

#[test]
fn the_times_of_a_turn_are_what_the_caller_waited() {
    let mut rig =
        Rig::new(vec![reply(&[], listen(|_| {})), reply(&[], action(None, 9000)), reply(&["到了"], listen(|_| {}))]);
    rig.voice(600);
    rig.pass(600);
    assert_eq!(rig.count(|o| matches!(o, CallOutput::SpeechEnd { .. })), 1);
    rig.prompt_ms = 0;
    rig.pass(100);
    rig.answer(intent("order_query"));
    rig.pass(300);
    rig.handle(CallInput::ActionDone { request: RequestId(1), outcome: "ok".into(), data: Value::Null });
    rig.pass(60);
    let prompt = rig.last_prompt();
    rig.handle(CallInput::PromptAudio { prompt, pcm: ramp(1600), last: true });
    rig.tick(false);
    let timings = rig.turns()[0].timings;
    assert_eq!(timings, Timings { endpoint: 600, recognise: 98, understand: 2, act: 300, first_audio: 80 });
    assert_eq!(rig.turns()[0].reply, "到了");
}

#[test]
fn a_recording_lies_between_the_tone_and_the_long_pause() {
    let mut rig =
        Rig::new(vec![reply(&["请在提示音后讲话"], Await::Record { max_ms: 60_000 }), reply(&[], listen(|_| {}))]);
    rig.pass(1400);
    assert_eq!(rig.count(|o| matches!(o, CallOutput::Synthesise { .. })), 1, "the tone needs no voice");
    rig.pass(200);
    rig.voice(2000);
    rig.pass(2600);
    let Some(Input::Recorded { from_ms, to_ms }) = rig.last_told() else { panic!("{:?}", rig.told()) };
    assert!((1360..=1420).contains(&from_ms), "from {from_ms}");
    assert!((6060..=6120).contains(&to_ms), "to {to_ms}");
    assert_eq!(rig.count(|o| matches!(o, CallOutput::SpeechStart { .. })), 0);
}

#[test]
fn a_recording_ends_with_a_hash_and_an_empty_one_by_itself() {
    let record = || reply(&[], Await::Record { max_ms: 60_000 });
    let mut rig = Rig::new(vec![record(), record(), reply(&[], listen(|_| {}))]);
    rig.pass(500);
    rig.voice(1000);
    rig.key('#');
    assert!(matches!(rig.last_told(), Some(Input::Recorded { from_ms, to_ms }) if to_ms > from_ms));
    rig.pass(9000);
    assert!(matches!(rig.last_told(), Some(Input::Recorded { from_ms, to_ms }) if to_ms == from_ms));
}

#[test]
fn a_hold_in_the_middle_of_a_recording_loses_no_words() {
    for (speaks_again, ends_ms) in [(true, 2600), (false, 8100)] {
        let mut rig = Rig::new(vec![reply(&[], Await::Record { max_ms: 60_000 }), reply(&[], listen(|_| {}))]);
        rig.pass(500);
        rig.voice(1000);
        rig.handle(CallInput::Hold { leg: Leg::Caller, held: true });
        rig.pass(5000);
        rig.handle(CallInput::Hold { leg: Leg::Caller, held: false });
        if speaks_again {
            rig.voice(1000);
        }
        rig.pass(ends_ms);
        let Some(Input::Recorded { from_ms, to_ms }) = rig.last_told() else { panic!("{:?}", rig.told()) };
        assert!(to_ms >= from_ms + 6000, "{from_ms} to {to_ms}");
    }
}

#[test]
fn a_prompt_that_never_comes_does_not_hold_the_call() {
    let mut rig = Rig::new(vec![reply(&[], listen(|_| {})), reply(&["到了"], listen(|_| {}))]);
    rig.prompt_ms = 0;
    rig.key('1');
    rig.pass(3020);
    assert!(rig.events().iter().any(|e| matches!(e, CallEvent::Trouble(why) if why.contains("到了"))));
    assert_eq!(rig.call.phase(), Phase::Listening);
    assert_eq!(rig.count(|o| matches!(o, CallOutput::StopSynthesis(_))), 1);
}

#[test]
fn holding_stops_the_clock_and_the_words_and_loses_neither() {
    let mut rig = Rig::new(vec![reply(&["请讲"], listen(|l| l.no_input_ms = 2000))]);
    rig.pass(500);
    rig.handle(CallInput::Hold { leg: Leg::Caller, held: true });
    rig.pass(10_000);
    assert_eq!(rig.told().len(), 1);
    rig.handle(CallInput::Hold { leg: Leg::Caller, held: false });
    rig.tick(false);
    assert_eq!(rig.heard.last().unwrap().pcm[0], 4001, "the word goes on where it was");
    rig.pass(480 + 2040);
    assert_eq!(rig.last_told(), Some(Input::NoInput));
}

#[test]
fn a_flow_that_runs_in_a_circle_is_ended_with_words() {
    let circle = (0..600).map(|_| reply(&[], listen(|l| l.keys.max = 1))).collect();
    let mut rig = Rig::new(circle);
    for _ in 0..600 {
        rig.key('1');
    }
    assert_eq!(rig.call.state(), State::Ending);
    rig.pass(1500);
    assert_eq!(rig.record().map(|r| r.outcome), Some(Outcome::Failed));
}
