//! Seats in browsers: a headless Chromium takes calls of a G.711 caller. The caller says 1000 Hz, the page 600 Hz, and
//! each must hear the other's.

use crate::common::chromium::{Page, is_installed};
use crate::common::relays::Turn;
use crate::common::wire::Caller;
use crate::common::{self, ONE_ORDER, Running, SEAT, Watch, root, skipped, tone};
use serde_json::Value;
use std::time::Duration;
use zongji::audio::detect::tone_power;
use zongji::call::CallEvent;
use zongji::sdp::Codec;
use zongji::server::hotline::HotlineSettings;
use zongji::server::relays::{RelaySettings, Relayed, Relays};
use zongji::server::routes::RouteKind;
use zongji::sip::{Account, Transport};
use zongji::web::{Health, Status, Web};

const CALLER: f32 = 1000.0;
const PAGE: f32 = 600.0;

/// A hotline on which 400 rings the seats.
fn with_browsers(settings: &mut HotlineSettings) {
    settings.listeners.ws = Some(([127, 0, 0, 1], 0).into());
    settings.routes = vec![common::route("400", RouteKind::Bridge, "care")];
}

/// A page that is registered as the tests' seat.
async fn seat(running: &Running, more: &str) -> Page {
    let mut page = Page::open(&root().join("tests/browser/seat.html")).await;
    let at = running.hotline.listens_on(Transport::Ws).expect("it listens for browsers");
    let (user, password) = SEAT;
    let options = format!("{{url: 'ws://{at}', user: '{user}', password: '{password}', says: {PAGE}, {more}}}");
    page.run(&format!("seat.start({options})")).await;
    assert_eq!(running.hotline.seat_contacts(user), 1);
    page
}

/// How strongly the caller hears the page: its tone's share of the sound, and nothing where it is silent.
async fn caller_hears(caller: &Caller) -> f32 {
    caller.hear(Duration::from_millis(200)).await; // what was on the way
    let heard = caller.hear(Duration::from_millis(1000)).await;
    let energy: f32 = heard.iter().map(|&s| f32::from(s) * f32::from(s)).sum::<f32>() / heard.len().max(1) as f32;
    eprintln!("caller: {} samples, RMS {:.0}", heard.len(), energy.sqrt());
    if energy.sqrt() < 100.0 { 0.0 } else { tone_power(&heard, PAGE) / energy }
}

/// Waits until nothing of the page reaches the caller: what a busy machine has recorded is sent first.
async fn caller_hears_nothing(caller: &Caller, when: &str) {
    for _ in 0..5 {
        if caller_hears(caller).await == 0.0 {
            return;
        }
    }
    panic!("{when}: the caller goes on hearing the page");
}

/// Waits until the page hears the caller.
async fn page_hears(page: &mut Page) {
    page.until(&format!("Math.abs(seat.hears().hz - {CALLER}) < 15 && seat.hears().db > -50")).await;
}

/// Waits until the page hears the caller and a second of what he hears is the page's tone: where this machine is busy,
/// some of what the page says is late.
async fn both_hear(page: &mut Page, caller: &Caller, when: &str) {
    page_hears(page).await;
    let mut share = 0.0;
    for _ in 0..8 {
        share = caller_hears(caller).await;
        eprintln!("{when}: {:.1} % of what the caller hears is the page's tone", 100.0 * share);
        if share > 0.9 {
            return;
        }
    }
    panic!("{when}: the caller hears {share} of the page's tone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_seat_talks_with_a_g711_caller_holds_mutes_and_changes_its_network() {
    if !is_installed() {
        return skipped("no chromium: browser seats are not tried");
    }
    let running = common::start(with_browsers).await;
    let mut page = seat(&running, "").await;
    let mut caller = Caller::new(running.sip, ONE_ORDER).await;
    caller.establish().await;
    let sound = tone(CALLER, 60);
    let scenario = async {
        page.until("seat.state === 'talking' && seat.connected === 'connected'").await;
        both_hear(&mut page, &caller, "at first").await;
        let stats = page.run("seat.stats()").await;
        eprintln!("page: {stats}");
        assert_eq!(stats["codec"], "audio/PCMA", "what the caller speaks goes to the browser untouched");
        page.run("seat.mute(true)").await;
        caller_hears_nothing(&caller, "muted").await;
        page.run("seat.mute(false)").await;
        both_hear(&mut page, &caller, "after muting").await;
        page.run("seat.change({direction: 'inactive'})").await;
        caller_hears_nothing(&caller, "on hold").await;
        page.run("seat.change({direction: 'sendrecv'})").await;
        both_hear(&mut page, &caller, "after hold").await;
        let before = page.run("seat.stats()").await["pair"].clone();
        let answer = page.run("seat.change({restart: true})").await;
        assert!(answer.as_str().is_some_and(|sdp| sdp.contains("a=ice-ufrag:")), "{answer}");
        page.until("seat.pc.iceConnectionState === 'connected' || seat.pc.iceConnectionState === 'completed'").await;
        both_hear(&mut page, &caller, "after an ICE restart").await;
        let after = page.run("seat.stats()").await;
        eprintln!("page: {after}");
        assert_ne!(after["pair"], before, "it runs over a new pair");
        page.run("seat.hangUp()").await;
        after
    };
    let after: Value = tokio::select! {
        () = caller.say(&sound) => panic!("it took too long"),
        after = scenario => after,
    };
    assert!(after["lost"].as_i64().is_some_and(|n| n < 20), "{after}");
    caller.expect_bye().await;
    running.settle().await;
}

/// What the TURN server and the hotline both know.
const TURN_SECRET: &str = "north";

/// The part of the hotline's web address that tells seats the servers.
struct Told(Relays);

impl Status for Told {
    fn health(&self) -> Health {
        unreachable!("nobody asks for it")
    }

    fn metrics(&self) -> String {
        String::new()
    }

    fn ice_servers(&self, authorization: Option<&str>, source: std::net::IpAddr) -> Option<Relayed> {
        Some(self.0.ask(authorization, ("GET", "/ice-servers"), source))
    }
}

/// Serves the address; where it is.
async fn telling(turn: u16) -> String {
    let settings = RelaySettings {
        stun: Vec::new(),
        turn: vec![format!("turn:127.0.0.1:{turn}?transport=udp")],
        secret: TURN_SECRET.into(),
        ttl_s: 60,
    };
    let seats = [Account { user: SEAT.0.into(), password: SEAT.1.into() }];
    let told = Told(Relays::new(settings, "zongji", &seats));
    let web = Web::bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
    let at = web.local_addr().expect("bound");
    tokio::spawn(web.run(std::sync::Arc::new(told), std::future::pending()));
    format!("http://{at}/ice-servers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_sends_everything_through_a_relay_talks_with_a_g711_caller() {
    if !is_installed() {
        return skipped("no chromium: browser seats are not tried");
    }
    let Some(turn) = Turn::start(TURN_SECRET).await else { return };
    let port = turn.at.port();
    let running = common::start(|settings| {
        with_browsers(settings);
        settings.stun = Some(format!("127.0.0.1:{port}"));
    })
    .await;
    let servers = telling(port).await;
    let mut page = seat(&running, &format!("relayOnly: true, serversFrom: '{servers}'")).await;
    let mut caller = Caller::new(running.sip, ONE_ORDER).await;
    caller.establish().await;
    let sound = tone(CALLER, 60);
    let scenario = async {
        page.until("seat.state === 'talking' && seat.connected === 'connected'").await;
        both_hear(&mut page, &caller, "through the relay").await;
        let stats = page.run("seat.stats()").await;
        eprintln!("page: {stats}");
        let candidates = stats["candidates"].as_array().cloned().unwrap_or_default();
        assert!(!candidates.is_empty() && candidates.iter().all(|c| c == "relay"), "{stats}");
    };
    tokio::select! {
        () = caller.say(&sound) => panic!("it took too long"),
        () = scenario => {}
    }
    caller.bye().await;
    page.until("seat.state === 'over'").await;
    running.settle().await;
}

#[cfg(feature = "opus")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_seat_answers_in_opus_and_its_caller_in_g711_hears_it() {
    if !is_installed() {
        return skipped("no chromium: browser seats are not tried");
    }
    let running = common::start(|settings| {
        with_browsers(settings);
        settings.codecs = vec![Codec::Opus, Codec::Pcma];
    })
    .await;
    // Opus is for voices: a tone of the telephone's range passes well enough.
    let mut page = seat(&running, "codec: 'audio/opus'").await;
    let mut caller = Caller::new(running.sip, ONE_ORDER).await;
    caller.establish().await;
    let sound = tone(CALLER, 60);
    let scenario = async {
        page.until("seat.state === 'talking' && seat.connected === 'connected'").await;
        both_hear(&mut page, &caller, "in Opus").await;
        let stats = page.run("seat.stats()").await;
        eprintln!("page: {stats}");
        stats
    };
    let stats = tokio::select! {
        () = caller.say(&sound) => panic!("it took too long"),
        stats = scenario => stats,
    };
    let answer = page.run("seat.pc.localDescription.sdp").await;
    // What it says may still be PCMA, which we offered first: Chromium follows the offer, and we take either.
    assert_eq!(stats["codec"], "audio/opus", "{stats} {answer}");
    caller.bye().await;
    page.until("seat.state === 'over'").await;
    running.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_calls_the_hotline_hears_the_prompt_and_presses_a_key() {
    if !is_installed() {
        return skipped("no chromium: calls of browsers are not tried");
    }
    let opus = if cfg!(feature = "opus") { Some("audio/opus") } else { None };
    for codec in opus.into_iter().chain(["audio/PCMU"]) {
        let running = common::start(|settings| {
            settings.listeners.ws = Some(([127, 0, 0, 1], 0).into());
            settings.codecs = vec![Codec::Pcma, Codec::Pcmu];
            if cfg!(feature = "opus") {
                settings.codecs.push(Codec::Opus);
            }
        })
        .await;
        let mut watch = Watch::of(&running);
        let mut page = seat(&running, "").await;
        page.run(&format!("seat.call('400', '{codec}')")).await;
        page.until("seat.connected === 'connected'").await;
        page.until("seat.hears().db > -60").await;
        page.run("seat.mute(true)").await; // a tone is no words
        page.run("seat.press('1')").await;
        let pressed = |e: &CallEvent| matches!(e, CallEvent::TurnDone(turn) if turn.keys && turn.heard == "1");
        watch.until("the key is heard", pressed).await;
        let stats = page.run("seat.stats()").await;
        eprintln!("page: {stats}");
        assert_eq!(stats["codec"], codec, "{stats}");
        assert!(stats["received"].as_i64().is_some_and(|n| n > 10), "{stats}");
        page.run("seat.hangUp()").await;
        running.settle().await;
    }
}
