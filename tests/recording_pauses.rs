//! A card number is in no recording: not said, not keyed, not read back; before and after it everything is there.

use crate::common::far::{may_call_out, trunk};
use crate::common::wire::Caller;
use crate::common::{self, ONE_ORDER, Running, SEAT, STRANGER, Watch, hang_up, keys, root, tone};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use zongji::audio::{Tone, ToneGenerator};
use zongji::call::CallEvent;
use zongji::dialplan::{FlowSet, SourceFile};
use zongji::ids::Leg;
use zongji::server::Hotline;
use zongji::server::hotline::read_dialplans;
use zongji::server::outbound::Role;
use zongji::server::phone::{Act, Phone, PhoneSettings, Step, When};
use zongji::sip::trace::{Shelf, Trace};
use zongji::sip::{Credential, SipEvent, SipSettings};

const CARD: &str = "6222021234567894";

const PAY: &str = r#"
dialplan: 1
flow: pay
title: 付款
intents:
  pay:
    spoken: 付款
    keywords: [付款]
    examples: [我要付款, 付款, 用卡付款, 刷卡, 我想付钱, 付一下款, 银行卡付款, 现在付款]
slots:
  card: {type: digits, length: [16, 16], pii: bank}
start: ask
nodes:
  ask:
    do: ask
    slot: card
    prompt: "请说十六位卡号,或者按键输入。"
    then: {filled: thanks, max: "flow:human"}
  thanks: {do: say, prompt: "谢谢,尾号{slots.card|mask}已收到。", go: "flow:closing"}
"#;

/// The shipped hotline with a flow that asks for a card number, under key 7.
fn flows() -> Arc<FlowSet> {
    static FLOWS: OnceLock<Arc<FlowSet>> = OnceLock::new();
    let compile = || {
        let mut files = read_dialplans(&root().join("dialplans")).expect("the shipped dialplans");
        for file in &mut files {
            file.text = file.text.replace(r#"keys: {"1": order_query"#, r#"keys: {"7": pay, "1": order_query"#);
        }
        files.push(SourceFile { path: "pay.yaml".into(), text: PAY.into() });
        Arc::new(FlowSet::compile(files).unwrap_or_else(|p| panic!("{p:?}")))
    };
    FLOWS.get_or_init(compile).clone()
}

async fn start() -> Running {
    let data = tempfile::tempdir().unwrap();
    let hotline = Hotline::start(common::settings(&data), flows(), common::engines()).await.expect("it starts");
    let sip = hotline.sip_address();
    Running::of(hotline, sip, data)
}

/// Both sides of the only call's recording: the caller, and what he was told.
fn recording(path: &str) -> [Vec<i16>; 2] {
    let bytes = std::fs::read(path).expect("a recording");
    let side = |n: usize| bytes[44..].chunks_exact(4).map(|s| i16::from_le_bytes([s[n], s[n + 1]])).collect();
    [side(0), side(2)]
}

/// Milliseconds with sound between two places of a side.
fn sounding(side: &[i16], from_ms: u64, to_ms: u64) -> usize {
    let to = (to_ms as usize * 8).min(side.len());
    let frames = side[from_ms as usize * 8..to].chunks(160);
    frames.filter(|f| f.iter().any(|s| s.unsigned_abs() > 60)).count() * 20
}

/// Whether any file below a folder holds these bytes.
fn anywhere(folder: &Path, bytes: &[u8]) -> Option<std::path::PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).find_map(|path| {
        if path.is_dir() {
            return anywhere(&path, bytes);
        }
        let held = std::fs::read(&path).unwrap().windows(bytes.len()).any(|w| w == bytes);
        held.then_some(path)
    })
}

fn after(ms: u32, act: Act) -> Step {
    Step { when: When::After(ms), act }
}

/// The tones of keys, as a phone without telephone events sends them.
fn tones(keys: &str) -> Vec<i16> {
    let mut pcm = Vec::new();
    for key in keys.chars() {
        let mut sound = vec![0; 800];
        ToneGenerator::new(Tone::key(key).unwrap()).fill(&mut sound);
        pcm.extend(sound);
        pcm.extend([0; 640]);
    }
    pcm
}

/// Where the flow paused the recording: from, to, in milliseconds.
fn pauses(events: &[CallEvent]) -> Vec<(bool, Option<Leg>, u64)> {
    let pause = |e: &CallEvent| match e {
        CallEvent::Recording { on, by, at_ms } => Some((*on, *by, *at_ms)),
        _ => None,
    };
    events.iter().filter_map(pause).collect()
}

/// One pause by the flow, and the recording silent there and nowhere else.
async fn silent_where_told(running: &Running, told: &[CallEvent]) -> (u64, Vec<i16>) {
    let told = pauses(told);
    let [(false, None, from), (true, None, to)] = told[..] else { panic!("{told:?}") };
    let store = running.hotline.store();
    let call = store.calls(1).await.unwrap().remove(0);
    let [caller, hotline] = recording(&call.recording.unwrap());
    // A key before (the flow goes on before its tone ends), a whole second after.
    assert!(sounding(&caller, 0, from) >= 20 && sounding(&caller, to, u64::MAX / 8) > 500, "the caller is there");
    assert!(sounding(&hotline, 0, from) > 500 && sounding(&hotline, to, u64::MAX / 8) > 500, "and so are we");
    for (name, side) in [("caller", &caller), ("hotline", &hotline)] {
        assert_eq!(sounding(side, from, to - 20), 0, "{name}: silent from {from} to {to}");
    }
    let id = call.id.parse().unwrap();
    let rows = store.events(id).await.unwrap();
    let kept: Vec<_> = rows.iter().filter(|r| r.kind == "recording").map(|r| (&r.data["on"], &r.data["by"])).collect();
    assert_eq!(kept, [(&false.into(), &"flow".into()), (&true.into(), &"flow".into())]);
    let turns = store.turns(id).await.unwrap();
    assert!(turns.iter().any(|t| t.node == "ask" && t.by_keys && t.heard == "*".repeat(16)), "{turns:?}");
    assert_eq!(anywhere(running.data(), CARD.as_bytes()), None, "the number is in no file");
    (to - from, caller)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_card_number_that_is_said_and_keyed_is_silence_in_the_recording() {
    let running = start().await;
    let mut watch = Watch::of(&running);
    let script = vec![
        Step { when: When::Into(300), act: Act::Say(tone(1000.0, 1), "before".into()) },
        keys("7"),
        common::answer("phone_tail_8000"),
        keys(CARD),
        Step { when: When::PromptEnd, act: Act::Say(tone(1000.0, 1), "after".into()) },
        hang_up(3000),
    ];
    let result = running.call(STRANGER, script).await;
    assert_eq!(result.steps_done, 6);
    running.settle().await;
    let (silent, caller) = silent_where_told(&running, &watch.all()).await;
    assert!(silent > 6000, "asked, misheard, asked again and given: {silent}");
    let long = caller.len() as u64 / 8;
    assert!(long.abs_diff(result.talked_ms) < 600, "{long} ms of file, {} ms of talk", result.talked_ms);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_card_number_keyed_in_the_sound_is_silence_in_the_recording() {
    let running = start().await;
    let mut watch = Watch::of(&running);
    let mut caller = Caller::new(running.sip, STRANGER).await;
    caller.establish().await;
    let prompt = |e: &CallEvent, words: &str| matches!(e, CallEvent::PromptStarted { shown } if shown.contains(words));
    watch.until("the question", |e| prompt(e, "业务")).await;
    let pause = |ms: usize| vec![0; ms * 8];
    let said = [tones("7"), pause(2500), tones(CARD), pause(2500), tone(1000.0, 1), pause(500)].concat();
    caller.say(&said).await;
    caller.bye().await;
    running.settle().await;
    silent_where_told(&running, &watch.all()).await;
}

/// What SIP says of the keys stands in the trace of the call, each key in a message of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_card_number_keyed_by_sip_info_is_in_no_trace() {
    let running = start().await;
    let mut watch = Watch::of(&running);
    let mut caller = Caller::new(running.sip, STRANGER).await;
    caller.establish().await;
    let prompt = |e: &CallEvent, words: &str| matches!(e, CallEvent::PromptStarted { shown } if shown.contains(words));
    watch.until("the question", |e| prompt(e, "业务")).await;
    caller.key('7').await;
    watch.until("the question for the number", |e| prompt(e, "十六位")).await;
    for key in CARD.chars() {
        caller.key(key).await;
    }
    watch.until("it is taken", |e| prompt(e, "尾号")).await;
    caller.bye().await;
    running.settle().await;
    let shelf = Shelf::new(running.data().join("traces"));
    let traces = || shelf.list().unwrap().iter().map(|f| Shelf::read(f).unwrap().unwrap()).collect::<Vec<_>>();
    let text = |t: &Trace| -> String { t.messages.iter().map(|m| String::from_utf8_lossy(&m.bytes)).collect() };
    common::until("its trace is written", || traces().iter().any(|t| text(t).contains(" BYE\r\n"))).await;
    let said: String = traces().iter().map(text).collect();
    assert_eq!(said.matches("Signal=*").count(), 1 + CARD.len(), "{said}");
    assert_eq!(said.matches("Signal=").count(), 1 + CARD.len(), "a key in clear: {said}");
    let store = running.hotline.store();
    let call = store.calls(1).await.unwrap().remove(0);
    let turns = store.turns(call.id.parse().unwrap()).await.unwrap();
    assert!(turns.iter().any(|t| t.node == "ask" && t.heard == "*".repeat(16)), "the number came: {turns:?}");
    assert_eq!(anywhere(running.data(), CARD.as_bytes()), None, "the number is in no file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_pauses_the_recording_of_its_talk_by_two_keys() {
    let running = common::start(|_| {}).await;
    let mut watch = Watch::of(&running);
    let mut seat = common::seat(&running).await;
    let script = vec![
        after(200, Act::Say(tone(1400.0, 6), "before".into())),
        after(300, Act::Keys("*5".into())),
        after(1000, Act::Say(tone(1400.0, 1), "nobody's business".into())),
        after(300, Act::Keys("*6".into())),
        after(1000, Act::Say(tone(1400.0, 1), "after".into())),
        hang_up(300),
    ];
    let seat = tokio::spawn(async move {
        seat.answer(Duration::from_secs(30), 100, script, &mut |_| {}).await.unwrap().expect("it was called")
    });
    let caller = vec![keys("4"), after(100, Act::Say(tone(1000.0, 20), "caller".into())), hang_up(1)];
    running.call(ONE_ORDER, caller).await;
    seat.await.unwrap();
    running.settle().await;
    let call = running.hotline.store().calls(1).await.unwrap().remove(0);
    let told = pauses(&watch.all());
    let [(false, Some(Leg::Seat), from), (true, Some(Leg::Seat), to)] = told[..] else { panic!("{told:?}") };
    let [caller, seat] = recording(&call.recording.unwrap());
    assert!((2000..5000).contains(&(to - from)), "{from}..{to}");
    for side in [&caller, &seat] {
        assert_eq!(sounding(side, from, to - 20), 0);
        // A phone is silent while it sends keys.
        assert!(sounding(side, from.saturating_sub(2500), from) > 300, "before");
        assert!(sounding(side, to + 20, to + 3000) > 300, "after");
    }
}

/// The seat called: the same keys, on the other leg.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_pauses_the_recording_of_its_call_outside() {
    let mut far = Phone::start(PhoneSettings::new(([127, 0, 0, 2], 0).into(), "far")).await.unwrap();
    let server = far.address();
    let running = common::start(|s| {
        s.trunks = vec![trunk("carrier", server)];
        s.outbound = may_call_out(Role::Seat, 1);
    })
    .await;
    let mut watch = Watch::of(&running);
    let far = tokio::spawn(async move {
        let script = vec![after(100, Act::Say(tone(1000.0, 20), "customer".into()))];
        far.answer(Duration::from_secs(30), 100, script, &mut |_| {}).await.unwrap().expect("it was called")
    });
    let credential = Some(Credential { user: SEAT.0.into(), password: SEAT.1.into(), realm: None });
    let mut seat = Phone::start(PhoneSettings { credential, ..PhoneSettings::new(([127, 0, 0, 1], 0).into(), SEAT.0) })
        .await
        .unwrap();
    let script = vec![
        after(200, Act::Say(tone(1400.0, 6), "before".into())),
        after(1500, Act::Keys("*5".into())),
        after(1000, Act::Say(tone(1400.0, 1), "nobody's business".into())),
        after(300, Act::Keys("*6".into())),
        after(1000, Act::Say(tone(1400.0, 1), "after".into())),
        hang_up(300),
    ];
    seat.call(&format!("sip:01012345678@{}", running.sip), script, &mut |_| {}).await.unwrap();
    far.await.unwrap();
    running.settle().await;
    let call = running.hotline.store().calls(1).await.unwrap().remove(0);
    let told = pauses(&watch.all());
    let [(false, Some(Leg::Seat), from), (true, Some(Leg::Seat), to)] = told[..] else { panic!("{told:?}") };
    assert!((2000..5000).contains(&(to - from)), "{from}..{to}");
    for side in recording(&call.recording.unwrap()) {
        assert_eq!(sounding(&side, from, to - 20), 0);
        assert!(sounding(&side, from.saturating_sub(2500), from) > 300, "before");
        assert!(sounding(&side, to + 20, to + 3000) > 300, "after");
    }
}

/// As desk phones with a record key send it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seats_record_key_pauses_it_too() {
    use common::sip::{ANSWER, Client, OFFER, Side, header, tag_of};
    let settings = SipSettings { bind: "127.0.0.1:0".parse().unwrap(), ..SipSettings::default() };
    let mut b = Side::new(settings).await;
    let c = Client::new(b.agent.local_addr()).await;
    c.send(&c.request("INVITE", "400", "record", 1, "", "", OFFER)).await;
    let dialog = b.called().await;
    b.agent.answer(dialog, ANSWER.into()).await;
    let tag = tag_of(&c.final_answer().await);
    c.send(&c.request("ACK", "400", "record", 1, &tag, "", "")).await;
    assert_eq!(b.next().await, SipEvent::Ack { dialog, sdp: None });
    for (cseq, (more, record)) in
        [("Record: off\r\n", Some(false)), ("record: On\r\n", Some(true)), ("Record: maybe\r\n", None)]
            .into_iter()
            .enumerate()
    {
        c.send(&c.request("INFO", "400", "record", 2 + cseq as u32, &tag, more, "")).await;
        let answer = c.final_answer().await;
        assert!(answer.starts_with("SIP/2.0 200") && header(&answer, "CSeq").contains("INFO"), "{answer}");
        assert_eq!(b.next().await, SipEvent::Info { dialog, key: None, record });
    }
    b.agent.hangup(dialog).await;
}
