//! A supervisor at a seat: he listens, whispers, speaks in, and the two others go on without a gap.

use crate::common::{self, ONE_ORDER, Running, Watch, keys};
use std::time::Duration;
use zongji::audio::{FRAME_SAMPLES, Tone, ToneGenerator, tone_power};
use zongji::call::{CallEvent, Supervision, TransferStage};
use zongji::server::Supervisor;
use zongji::server::phone::{Act, CallResult, Phone, PhoneSettings, Step, When};
use zongji::sip::Credential;

const BOSS: (&str, &str) = ("9001", "secret-9001");
/// What the caller and the seat say all the time.
const CALLER_HZ: f32 = 1000.0;
const SEAT_HZ: f32 = 1400.0;
/// A mark in the caller's sound, once a second.
const MARK_HZ: f32 = 600.0;

fn sine(hz: f32, seconds: usize, amplitude: f32) -> Vec<i16> {
    let mut pcm = vec![0; 8000 * seconds];
    ToneGenerator::new(Tone::sine(hz, amplitude)).fill(&mut pcm);
    pcm
}

fn after(ms: u32, act: Act) -> Step {
    Step { when: When::After(ms), act }
}

fn phone(number: &str) -> PhoneSettings {
    PhoneSettings { linger_ms: 1000, ..PhoneSettings::new(([127, 0, 0, 1], 0).into(), number) }
}

async fn boss(running: &Running) -> Phone {
    let credential = Credential { user: BOSS.0.into(), password: BOSS.1.into(), realm: None };
    let settings = PhoneSettings { credential: Some(credential.clone()), ..phone(BOSS.0) };
    let boss = Phone::start(settings).await.unwrap();
    boss.agent().register(running.sip, &credential, 300).await.expect("it registers");
    boss
}

async fn with_supervisor() -> Running {
    let supervisor = Supervisor { user: BOSS.0.into(), password: BOSS.1.into() };
    common::start(|s| s.supervisors = vec![supervisor]).await
}

/// Caller and seat, talking for so many seconds.
async fn talk(
    running: &Running,
    seconds: usize,
) -> (tokio::task::JoinHandle<CallResult>, tokio::task::JoinHandle<CallResult>) {
    let mut seat = common::seat(running).await;
    let seat_says = vec![after(200, Act::Say(sine(SEAT_HZ, seconds, 4000.0), "seat".into()))];
    let seat = tokio::spawn(async move {
        seat.answer(Duration::from_secs(30), 100, seat_says, &mut |_| {}).await.unwrap().expect("it was called")
    });
    let mut said = sine(CALLER_HZ, seconds, 4000.0);
    for second in said.chunks_mut(8000) {
        for (to, mark) in second.iter_mut().zip(&sine(MARK_HZ, 1, 8000.0)[..800]) {
            *to += mark;
        }
    }
    let script = vec![keys("4"), after(100, Act::Say(said, "caller".into())), after(200, Act::HangUp)];
    let mut caller = Phone::start(phone(ONE_ORDER)).await.unwrap();
    let uri = format!("sip:400@{}", running.sip);
    let caller = tokio::spawn(async move { caller.call(&uri, script, &mut |_| {}).await.unwrap() });
    (caller, seat)
}

/// Whether a tone was heard for at least half a second.
fn hears(result: &CallResult, hz: f32) -> bool {
    result.heard.chunks(FRAME_SAMPLES).filter(|f| tone_power(f, hz) > 1.0e6).count() > 25
}

/// Where a tone begins, in samples.
fn onsets(pcm: &[i16], hz: f32) -> Vec<usize> {
    let loud: Vec<bool> = pcm.windows(160).step_by(8).map(|w| tone_power(w, hz) > 8.0e6).collect();
    (1..loud.len()).filter(|&i| loud[i] && !loud[i - 1]).map(|i| i * 8).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_listens_whispers_and_speaks_in_and_nobody_misses_a_word() {
    let running = with_supervisor().await;
    let mut watch = Watch::of(&running);
    let mut boss = boss(&running).await;
    let (caller, seat) = talk(&running, 24).await;
    watch.until("bridged", |e| matches!(e, CallEvent::Transfer { stage: TransferStage::Bridged, .. })).await;
    let say = |hz: f32| after(500, Act::Say(sine(hz, 1, 6000.0), format!("{hz}")));
    let press = |key: &str| after(1500, Act::Keys(key.into()));
    let script = vec![
        say(1900.0),
        press("2"),
        say(2150.0),
        press("3"),
        say(2400.0),
        press("1"),
        say(2650.0),
        after(1800, Act::HangUp),
    ];
    let uri = format!("sip:*1{}@{}", common::SEAT.0, running.sip);
    let boss = boss.call(&uri, script, &mut |_| {}).await.unwrap();
    assert_eq!(boss.code, 200);
    let (caller, seat) = (caller.await.unwrap(), seat.await.unwrap());
    running.settle().await;

    assert!(hears(&boss, CALLER_HZ) && hears(&boss, SEAT_HZ), "he hears both");
    let heard = |r: &CallResult| [1900.0, 2150.0, 2400.0, 2650.0].map(|hz| hears(r, hz));
    assert_eq!(heard(&caller), [false, false, true, false], "the caller hears him only when he speaks in");
    assert_eq!(heard(&seat), [false, true, true, false], "the seat hears a whisper too");
    assert_eq!(heard(&boss), [false; 4], "nobody hears himself");

    // Each mark comes a second after the one before, later by the mix's delay while the seat can hear him. Those of before
    // the bridge, the one it cut, and the first after it (the phone's buffer still settles) do not count.
    let marks = onsets(&seat.heard, MARK_HZ);
    let cut = marks.windows(2).rposition(|w| (w[1] - w[0]).abs_diff(8000) > 600);
    let joined = cut.map_or(0, |n| n + 1) + 1;
    let marks = &marks[joined..];
    let late: Vec<i64> = marks.iter().enumerate().map(|(n, &m)| m as i64 - (marks[0] + n * 8000) as i64).collect();
    let (low, high) = (*late.iter().min().unwrap() / 8, *late.iter().max().unwrap() / 8);
    // The caller's lasting tone, as the seat hears it from then to the last moment.
    let there: Vec<bool> = seat.heard.chunks(FRAME_SAMPLES).map(|f| tone_power(f, CALLER_HZ) > 1.0e6).collect();
    let (first, last) = (marks[0] / FRAME_SAMPLES, there.iter().rposition(|&t| t).unwrap());
    let gap = there[first..last].split(|&t| t).map(<[bool]>::len).max().unwrap_or(0) * 20;
    eprintln!("longest gap {gap} ms, the mix is {} ms later than the relay, {late:?}", high - low);
    assert!(gap <= 60, "a gap of {gap} ms");
    assert!(marks.len() > 10 && high - low > 0 && high - low < 60, "{late:?}");

    let told: Vec<_> = watch
        .all()
        .into_iter()
        .filter_map(|e| match e {
            CallEvent::Supervisor { user, mode } => Some((user, mode)),
            _ => None,
        })
        .collect();
    let by_him = |mode| (BOSS.0.to_owned(), mode);
    let (listen, whisper, barge) = (Supervision::Listen, Supervision::Whisper, Supervision::Barge);
    assert_eq!(told, [Some(listen), Some(whisper), Some(barge), Some(listen), None].map(by_him), "the record tells");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_registered_supervisor_may_listen_and_only_where_somebody_talks() {
    let running = with_supervisor().await;
    let uri = format!("sip:*1{}@{}", common::SEAT.0, running.sip);
    let mut boss = boss(&running).await;
    let idle = boss.call(&uri, vec![], &mut |_| {}).await.unwrap();
    assert_eq!(idle.code, 480, "the seat does not talk");
    let mut watch = Watch::of(&running);
    let (caller, seat) = talk(&running, 8).await;
    watch.until("bridged", |e| matches!(e, CallEvent::Transfer { stage: TransferStage::Bridged, .. })).await;
    let mut liar = Phone::start(phone(BOSS.0)).await.unwrap();
    assert_eq!(liar.call(&uri, vec![], &mut |_| {}).await.unwrap().code, 407, "his number, without his password");
    let mut other = Phone::start(phone("13700001111")).await.unwrap();
    assert_eq!(other.call(&uri, vec![], &mut |_| {}).await.unwrap().code, 403);
    let nobody = format!("sip:*17777@{}", running.sip);
    assert_eq!(boss.call(&nobody, vec![], &mut |_| {}).await.unwrap().code, 404);
    let barged = format!("sip:*3{}@{}", common::SEAT.0, running.sip);
    // He stays: the end of the call is his end.
    let listened = boss.call(&barged, vec![after(20_000, Act::HangUp)], &mut |_| {}).await.unwrap();
    assert!(listened.code == 200 && listened.by_them, "{} {}", listened.code, listened.by_them);
    caller.await.unwrap();
    seat.await.unwrap();
    running.settle().await;
    common::until("all ports are back", || running.hotline.free_ports() == 100).await;
}
