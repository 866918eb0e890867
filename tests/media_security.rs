//! Strangers at a call's media: they are not heard, and nothing is sent to them.

use crate::common::sound::callers_side;
use crate::common::wire::{Caller, g711_packet};
use crate::common::{self, ONE_ORDER, Running, skipped, tone};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::UdpSocket;
use tokio::process::ChildStdout;
use zongji::audio::detect::tone_power;

/// What the caller says and what the strangers send, in Hz.
const CALLER: f32 = 500.0;
const STRANGER: f32 = 1300.0;

/// Somebody else on the network who sends well-formed sound.
struct Stranger {
    socket: UdpSocket,
    packet: u32,
}

impl Stranger {
    async fn at(address: &str) -> Stranger {
        Stranger { socket: UdpSocket::bind(address).await.expect("loopback has many addresses"), packet: 0 }
    }

    async fn send(&mut self, to: SocketAddr, packets: usize) {
        let sound = tone(STRANGER, 1);
        for _ in 0..packets {
            self.packet += 1;
            let packet = g711_packet(self.packet, 0x0909_0909, &sound[..160]);
            self.socket.send_to(&packet, to).await.expect("sent");
        }
    }

    fn heard_nothing(&self) -> bool {
        self.socket.try_recv(&mut [0; 64]).is_err()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sprays_a_calls_port_is_neither_heard_nor_sent_anything() {
    let running = common::start(|_| {}).await;
    for burst in [1, 5, 50] {
        let mut caller = Caller::new(running.sip, ONE_ORDER).await;
        caller.invite("sendrecv").await;
        caller.expect("INVITE", 200).await;
        let port = caller.remote.expect("it said where");
        // From another host at once, before the caller's first packet; from the caller's own host as soon as he is known.
        let (mut far, mut near) = (Stranger::at("127.0.0.2:0").await, Stranger::at("127.0.0.1:0").await);
        far.send(port, burst).await;
        far.send(SocketAddr::new(port.ip(), port.port() + 1), burst).await;
        caller.ack().await;
        let sound = tone(CALLER, 2);
        caller.say(&sound[..800]).await;
        tokio::join!(caller.say(&sound), async {
            let mut clock = tokio::time::interval(Duration::from_millis(100));
            for _ in 0..15 {
                clock.tick().await;
                far.send(port, burst).await;
                near.send(port, burst).await;
            }
        });
        assert!(far.heard_nothing() && near.heard_nothing(), "{burst}: something was sent to a stranger");
        caller.bye().await;
        running.settle().await;
        let call = running.hotline.store().calls(1).await.unwrap().remove(0);
        let heard = callers_side(call.recording.expect("it is recorded"));
        let (own, foreign) = (tone_power(&heard, CALLER), tone_power(&heard, STRANGER));
        assert!(own > 0.0 && foreign < own / 1000.0, "{burst}: {foreign} of a stranger beside {own} of the caller");
    }
    assert!(ignored(&running) > 500, "{} hits", ignored(&running));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_to_an_address_before_its_owner_confirmed_the_call() {
    let running = common::start(|_| {}).await;
    let mut caller = Caller::new(running.sip, ONE_ORDER).await;
    caller.invite("sendrecv").await;
    caller.expect("INVITE", 200).await;
    assert_eq!(caller.packets(Duration::from_millis(700)).await, 0);
    caller.ack().await;
    assert!(caller.packets(Duration::from_millis(700)).await > 10);
    caller.bye().await;
}

#[cfg(feature = "webrtc")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_handshake_or_check_goes_to_an_address_before_its_owner_confirmed_the_call() {
    let running = common::start(|_| {}).await;
    let fingerprint = vec!["AB"; 32].join(":");
    for ice in [false, true] {
        let victim = UdpSocket::bind("127.0.0.3:0").await.expect("loopback has many addresses");
        let port = victim.local_addr().expect("its address").port();
        let checks = format!(
            "a=ice-ufrag:Abcd\r\na=ice-pwd:0123456789abcdefghijklmn\r\na=candidate:1 1 UDP 2113937151 127.0.0.3 {port} typ host\r\n"
        );
        let mut caller = Caller::new(running.sip, ONE_ORDER).await;
        caller.described = Some(format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.3\r\nt=0 0\r\nm=audio {port} UDP/TLS/RTP/SAVP 8\r\n\
             a=setup:passive\r\na=fingerprint:sha-256 {fingerprint}\r\na=rtcp-mux\r\n{}",
            if ice { checks.as_str() } else { "" }
        ));
        caller.invite("sendrecv").await;
        caller.expect("INVITE", 200).await;
        let mut datagram = [0; 2048];
        let early = tokio::time::timeout(Duration::from_secs(3), victim.recv_from(&mut datagram)).await;
        assert!(early.is_err(), "ICE {ice}: {early:?} came before the ACK");
        caller.ack().await;
        let came = tokio::time::timeout(Duration::from_secs(10), victim.recv_from(&mut datagram)).await;
        let (_, from) = came.expect("now it may").expect("it is read");
        assert_eq!(from.port(), caller.remote.expect("it said where").port());
        assert_eq!(datagram[0], if ice { 0 } else { 22 }, "a check by ICE, and a hello without");
        caller.bye().await;
    }
}

/// A network namespace with a cable to this one, in which somebody else lives.
struct Elsewhere {
    name: String,
    here: std::net::IpAddr,
    there: std::net::IpAddr,
}

impl Elsewhere {
    /// None, with a word, where namespaces may not be made.
    fn new() -> Option<Elsewhere> {
        bury_the_dead();
        let id = std::process::id();
        let (name, near, far) = (format!("zj-else-{id}"), format!("zjn{id}"), format!("zjf{id}"));
        let (third, fourth) = ((id / 250 % 250) as u8, (id % 62 * 4) as u8);
        let (here, there) = ([10, 213, third, fourth + 1].into(), [10, 213, third, fourth + 2].into());
        let made = Elsewhere { name: name.clone(), here, there };
        let steps = [
            format!("netns add {name}"),
            format!("link add {near} type veth peer name {far} netns {name}"),
            format!("addr add {here}/30 dev {near}"),
            format!("link set {near} up"),
            format!("-n {name} addr add {there}/30 dev {far}"),
            format!("-n {name} link set {far} up"),
        ];
        for step in steps {
            let done = std::process::Command::new("ip").args(step.split(' ')).output();
            if !done.as_ref().is_ok_and(|o| o.status.success()) {
                skipped(format_args!("no network namespace (ip {step}: {done:?}): nobody attacks from another host"));
                return None;
            }
        }
        Some(made)
    }

    /// This test binary over there, doing one of its hidden tests.
    fn run(&self, test: &str, what: &str) -> tokio::process::Child {
        tokio::process::Command::new("ip")
            .args(["netns", "exec", &self.name])
            .arg(std::env::current_exe().expect("this binary"))
            .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
            .env("ZONGJI_ATTACK", what)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("ip ran before")
    }
}

/// A run that was killed left its namespace, and a cable with an address that is needed again.
fn bury_the_dead() {
    let listed = std::process::Command::new("ip").args(["netns", "list"]).output();
    let listed = listed.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    for name in listed.lines().filter_map(|l| l.split(' ').next()) {
        let Some(pid) = name.strip_prefix("zj-else-") else { continue };
        let lives = std::path::Path::new("/proc").join(pid).exists() && pid != std::process::id().to_string();
        if !lives {
            let _gone = std::process::Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        // Its end of the cable goes with it, and with that ours.
        let _gone = std::process::Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Longest attack.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sprays every port of a range with bursts of sound and reports until its input ends, and tells what came back.
#[tokio::test]
#[ignore = "started by its parent test"]
#[allow(clippy::print_stdout)] // its parent reads it
async fn attacker() {
    let task = std::env::var("ZONGJI_ATTACK").expect("what to do");
    let [at, first, last, burst] = task.split(' ').collect::<Vec<_>>()[..] else { panic!("{task}") };
    let number = |text: &str| text.parse::<u16>().expect("a number");
    let mut stranger = Stranger::at("0.0.0.0:0").await;
    let attack = async {
        let mut clock = tokio::time::interval(Duration::from_millis(100));
        println!("begins");
        loop {
            clock.tick().await;
            for port in number(first)..=number(last) {
                stranger.send(SocketAddr::new(at.parse().expect("an address"), port), number(burst).into()).await;
            }
        }
    };
    let (mut input, mut nothing) = (tokio::io::stdin(), [0]);
    let enough = tokio::time::timeout(PATIENCE, tokio::io::AsyncReadExt::read(&mut input, &mut nothing));
    tokio::select! {
        () = attack => {}
        ended = enough => assert!(ended.is_ok(), "nobody ended it"),
    }
    let mut came_back = 0;
    let mut buffer = [0; 2048];
    while stranger.socket.try_recv(&mut buffer).is_ok() {
        came_back += 1;
    }
    println!("sent {} came back {came_back}", stranger.packet);
}

/// Waits until the attacker says something.
async fn said(lines: &mut Lines<BufReader<ChildStdout>>, what: &str) -> String {
    loop {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("it goes on");
        let line = line.expect("readable").unwrap_or_else(|| panic!("it ended without \"{what}\""));
        if line.contains(what) {
            return line;
        }
    }
}

/// Datagrams that came to ports of calls and were not played.
fn ignored(running: &Running) -> u64 {
    let metrics = running.hotline.metrics();
    metrics.lines().find_map(|l| l.strip_prefix("zongji_rtp_ignored_total ")?.parse().ok()).expect("it is counted")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sprays_all_ports_from_another_host_before_and_during_a_call_gets_and_changes_nothing() {
    let Some(elsewhere) = Elsewhere::new() else { return };
    let mut ports = 0..=0;
    let running = common::start(|s| {
        s.sip = (elsewhere.here, 0).into();
        s.rtp_bind = elsewhere.here;
        // Few, so that each is hit often.
        s.rtp_ports = *s.rtp_ports.start()..=*s.rtp_ports.start() + 15;
        ports = s.rtp_ports.clone();
    })
    .await;
    for burst in [1, 5, 50] {
        let before = ignored(&running);
        let what = format!("{} {} {} {burst}", elsewhere.here, ports.start(), ports.end());
        let mut attack = elsewhere.run("media_security::attacker", &what);
        let mut lines = BufReader::new(attack.stdout.take().expect("its words")).lines();
        said(&mut lines, "begins").await;
        let mut caller = Caller::new(running.sip, ONE_ORDER).await;
        caller.establish().await;
        let sound = tone(CALLER, 2);
        let (heard, ()) = tokio::join!(caller.hear_packets(90), caller.say(&sound));
        // Each by its number, however late this machine reads them.
        let lost = heard.windows(2).filter(|p| p[1].0 != p[0].0.wrapping_add(1)).count();
        assert_eq!((heard.len(), lost), (90, 0), "{burst}: the caller hears on");
        let heard: Vec<i16> = heard.into_iter().flat_map(|(_, pcm)| pcm).collect();
        assert!(tone_power(&heard, STRANGER) < 1e4, "{burst}: the stranger is heard");
        caller.bye().await;
        drop(attack.stdin.take());
        let line = said(&mut lines, "came back").await;
        let hits = ignored(&running) - before;
        eprintln!("from {}, bursts of {burst}: {line}, {hits} hits on the call's ports", elsewhere.there);
        assert!(line.ends_with("came back 0"), "{line}");
        // Ten volleys a second, the call lasts two.
        assert!(hits >= 10 * burst, "{burst}: only {hits} hits: nothing was attacked");
        running.settle().await;
        let call = running.hotline.store().calls(1).await.unwrap().remove(0);
        let heard = callers_side(call.recording.expect("it is recorded"));
        let (own, foreign) = (tone_power(&heard, CALLER), tone_power(&heard, STRANGER));
        assert!(own > 0.0 && foreign < own / 1000.0, "{burst}: {foreign} of a stranger beside {own} of the caller");
    }
}
