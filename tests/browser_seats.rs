//! Seats in browsers: a headless Chromium takes calls of a G.711 caller. The caller says 1000 Hz, the page 600 Hz, and
//! each must hear the other's.

use crate::common::chromium::{Page, is_installed};
use crate::common::wire::Caller;
use crate::common::{self, ONE_ORDER, Running, SEAT, root, skipped, tone};
use serde_json::Value;
use std::time::Duration;
use zongji::audio::detect::tone_power;
use zongji::server::hotline::{HotlineSettings, TestRoute};
use zongji::server::routes::{Listening, RouteKind};
use zongji::sip::Transport;

const CALLER: f32 = 1000.0;
const PAGE: f32 = 600.0;

/// A hotline on which 400 rings the seats.
fn with_browsers(settings: &mut HotlineSettings) {
    settings.listeners.ws = Some(([127, 0, 0, 1], 0).into());
    settings.routes = vec![TestRoute {
        user: "400".into(),
        kind: RouteKind::Bridge,
        listening: Listening::Keys,
        file: None,
        target: "care".into(),
        record: false,
    }];
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

/// Waits until the page hears the caller.
async fn page_hears(page: &mut Page) {
    page.until(&format!("Math.abs(seat.hears().hz - {CALLER}) < 15 && seat.hears().db > -50")).await;
}

async fn both_hear(page: &mut Page, caller: &Caller, when: &str) {
    page_hears(page).await;
    let share = caller_hears(caller).await;
    assert!(share > 0.4, "{when}: the caller hears {share} of the page's tone");
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
        assert_eq!(caller_hears(&caller).await, 0.0, "muted");
        page.run("seat.mute(false)").await;
        both_hear(&mut page, &caller, "after muting").await;
        page.run("seat.change({direction: 'inactive'})").await;
        assert_eq!(caller_hears(&caller).await, 0.0, "on hold");
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

/// A TURN server of this test's own.
struct Turn {
    port: u16,
    _server: tokio::process::Child,
}

impl Turn {
    /// None without a coturn here.
    async fn start() -> Option<Turn> {
        let free = |address: &str| std::net::UdpSocket::bind(address).and_then(|s| s.local_addr()).map(|a| a.port());
        let port = free("127.0.0.1:0").expect("a free port");
        let server = tokio::process::Command::new("turnserver")
            .args(["-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", "--allow-loopback-peers", "--no-cli"])
            .args(["--lt-cred-mech", "--realm=zongji", "--user=page:secret", "--no-tls", "--no-dtls", "--no-tcp"])
            .args(["--log-file=stdout", "--simple-log", "--pidfile=/dev/null", "--min-port=46000", "--max-port=46999"])
            .arg(format!("--listening-port={port}"))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        let turn = Turn { port, _server: server };
        common::until("the TURN server listens", || free(&format!("127.0.0.1:{port}")).is_err()).await;
        Some(turn)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_sends_everything_through_a_relay_talks_with_a_g711_caller() {
    if !is_installed() {
        return skipped("no chromium: browser seats are not tried");
    }
    let Some(turn) = Turn::start().await else { return skipped("no turnserver: relays are not tried") };
    let port = turn.port;
    let running = common::start(|settings| {
        with_browsers(settings);
        settings.stun = Some(format!("127.0.0.1:{port}"));
    })
    .await;
    let server = format!("{{urls: 'turn:127.0.0.1:{port}?transport=udp', username: 'page', credential: 'secret'}}");
    let mut page = seat(&running, &format!("relayOnly: true, iceServers: [{server}]")).await;
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
