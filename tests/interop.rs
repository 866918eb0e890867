//! Phones and proxies of other makers. What was tried with which version stands in docs/interop.md.

use crate::common::baresip::{Baresip, TONE};
use crate::common::linphone::Linphone;
use crate::common::ports::Ports;
use crate::common::relays::{Kamailio, RtpEngine};
use crate::common::secure::certificate;
use crate::common::sound::share;
use crate::common::wire::Caller;
use crate::common::{self, ONE_ORDER, Running, SEAT, hang_up, route, skipped, tone};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinSet;
use zongji::sdp::{Codec, SrtpPolicy};
use zongji::server::hotline::HotlineSettings;
use zongji::server::phone::{Act, Phone, PhoneSettings, Step, When};
use zongji::server::routes::RouteKind;
use zongji::sip::Transport;

/// A hotline with an echo, on UDP, TCP and TLS, that can do every codec.
async fn echoing(folder: &tempfile::TempDir, more: impl FnOnce(&mut HotlineSettings)) -> Running {
    let files = certificate(folder.path());
    common::start(|s| {
        s.listeners.tls = Some(([127, 0, 0, 1], 0).into());
        s.listeners.certificate = Some(files);
        s.routes = vec![route("echo", RouteKind::Echo, "")];
        s.codecs = vec![Codec::Pcma, Codec::Pcmu, Codec::G722];
        if cfg!(feature = "opus") {
            s.codecs.push(Codec::Opus);
        }
        more(s);
    })
    .await
}

fn echo_by(running: &Running, transport: &str) -> String {
    let at = match transport {
        "tls" => running.hotline.listens_on(Transport::Tls).expect("it listens"),
        _ => running.sip,
    };
    format!("sip:echo@{at};transport={transport}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn baresip_hears_itself_over_each_transport_in_each_codec_and_by_dtls_srtp() {
    const DTLS: &str = "audio_codecs=PCMA/8000/1;mediaenc=dtls_srtp";
    const DTLS_ICE: &str = "audio_codecs=PCMA/8000/1;mediaenc=dtls_srtp;medianat=ice";
    let folder = tempfile::tempdir().expect("a folder");
    let running = echoing(&folder, |_| {}).await;
    let mut cases: Vec<(&str, &[&str], &str, u32, &str)> = vec![
        ("udp", &["g711"], "audio_codecs=PCMA/8000/1", 8000, ""),
        ("tcp", &["g711"], "audio_codecs=PCMU/8000/1", 8000, ""),
        ("tls", &["g711", "srtp"], "audio_codecs=PCMA/8000/1;mediaenc=srtp-mand", 8000, ""),
        ("udp", &["g722"], "audio_codecs=G722/16000/1", 16_000, ""),
    ];
    if cfg!(feature = "opus") {
        cases.push(("udp", &["opus"], "audio_codecs=opus", 48_000, "opus_stereo no\nopus_sprop_stereo no"));
    }
    if cfg!(feature = "webrtc") {
        cases.push(("udp", &["g711", "srtp", "dtls_srtp"], DTLS, 8000, "rtcp_mux yes"));
        cases.push(("udp", &["g711", "srtp", "dtls_srtp", "stun", "turn", "ice"], DTLS_ICE, 8000, "rtcp_mux yes"));
    }
    let trusted = format!("sip_cafile {}\n", folder.path().join("cert.pem").display());
    // A few at once: each takes real time.
    for some in cases.chunks(4) {
        let mut calls = JoinSet::new();
        for &(transport, modules, account, rate, more) in some {
            let (uri, more) = (echo_by(&running, transport), format!("{trusted}{more}"));
            calls.spawn(async move {
                let phone = Baresip { modules, account, rate, more: &more };
                (transport, account, phone.call(&uri, 5).await)
            });
        }
        while let Some(done) = calls.join_next().await {
            let (transport, account, Some((heard, said))) = done.expect("no panic") else { return };
            let share = share(&heard, TONE);
            eprintln!("baresip, {transport}, {account}: {:.0} % of what it hears is its tone", 100.0 * share);
            assert!(share > 0.9, "{transport} {account}: {share}\n{said}");
        }
    }
    running.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn linphone_calls_over_each_transport_plain_and_encrypted_holds_and_hangs_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = echoing(&folder, |_| {}).await;
    let cases = [("udp", "none", "PCMA"), ("tcp", "none", "PCMU"), ("tls", "srtp", "PCMA"), ("udp", "srtp", "G722")];
    let mut calls = JoinSet::new();
    for (transport, encryption, codec) in cases {
        let uri = echo_by(&running, transport);
        calls.spawn(async move {
            let mut phone = Linphone::start(&format!("media_encryption={encryption}"), &[]).await?;
            // Its list has Opus, Speex, PCMU, PCMA and, off, G.722 at these places.
            for n in [0, 3, 4, 6].into_iter().filter(|n| (*n, codec) != (6, "G722")) {
                let on = matches!((n, codec), (3, "PCMU") | (4, "PCMA"));
                phone.tell(&format!("codec {} {n}", if on { "enable" } else { "disable" })).await;
            }
            if codec == "G722" {
                phone.tell("codec enable 6").await;
            }
            phone.tell(&format!("call {uri}")).await;
            phone.until("Media streams established").await;
            phone.say(TONE).await;
            phone.hears_for(1).await;
            phone.tell("pause").await;
            phone.until("is now paused").await;
            phone.tell("resume").await;
            phone.until("Media streams established").await;
            phone.hears_for(4).await;
            phone.tell("terminate").await;
            phone.until("ended (No error)").await;
            Some((transport, encryption, codec, phone.quit().await))
        });
    }
    while let Some(done) = calls.join_next().await {
        let Some((transport, encryption, codec, heard)) = done.expect("no panic") else { return };
        let share = share(&heard, TONE);
        eprintln!("linphonec, {transport}, {encryption}, {codec}: {:.0} % of what it hears is its tone", 100.0 * share);
        assert!(share > 0.9, "{transport} {encryption} {codec}: {share}");
    }
    running.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn linphone_as_a_seat_registers_takes_a_call_talks_and_is_hung_up_on() {
    let running = common::start(|s| s.routes = vec![route("400", RouteKind::Bridge, "care")]).await;
    let Some(mut seat) = Linphone::start("", &["-a"]).await else { return };
    let (user, password) = SEAT;
    seat.tell(&format!("register sip:{user}@{} sip:{} {password}", running.sip, running.sip)).await;
    common::until("it is registered", || running.hotline.seat_contacts(user) == 1).await;
    let mut caller = Caller::new(running.sip, ONE_ORDER).await;
    caller.establish().await;
    let (said, mut heard) = (tone(1000.0, 6), Vec::new());
    tokio::join!(caller.say(&said), async {
        seat.until("Media streams established").await;
        seat.say(TONE).await;
        heard = caller.hear(Duration::from_millis(3500)).await;
    });
    eprintln!("linphonec as a seat: {:.1} % of what its caller hears is its tone", 100.0 * share(&heard, TONE));
    assert!(share(&heard, TONE) > 0.9, "the caller hears the seat: {}", share(&heard, TONE));
    caller.bye().await;
    seat.until("ended (No error)").await;
    let heard = seat.quit().await;
    eprintln!("linphonec as a seat: {:.1} % of what it hears is the caller's tone", 100.0 * share(&heard, 1000.0));
    assert!(share(&heard, 1000.0) > 0.9, "the seat hears the caller: {}", share(&heard, 1000.0));
    running.settle().await;
}

fn say(hz: f32, seconds: usize) -> Step {
    Step { when: When::After(300), act: Act::Say(tone(hz, seconds), "a tone".into()) }
}

/// Phone, Kamailio, hotline, Kamailio again, phone; the sound through a relay each time, if there is one.
async fn through_a_proxy(media: Option<(&RtpEngine, &str)>, policy: SrtpPolicy) -> Option<()> {
    let mut seat = Phone::start(PhoneSettings::new(([127, 0, 0, 1], 0).into(), "seat")).await.expect("a phone");
    let ports = Ports::claim();
    let at = ports.listen();
    let running = common::start(|s| {
        s.routes = vec![route("bridge", RouteKind::Bridge, &format!("sip:seat@{at}"))];
        s.srtp = policy;
    })
    .await;
    let proxy = Kamailio::start(ports, running.sip, seat.address(), media).await?;
    // A relay learns for some seconds where its sides are before it sends them anything.
    let seconds = if media.is_some() { 7 } else { 3 };
    let answering = tokio::spawn(async move {
        let result = seat.answer(Duration::from_secs(20), 50, vec![say(1300.0, seconds)], &mut |_| {}).await;
        result.expect("a call").expect("it is called")
    });
    let mut phone = Phone::start(PhoneSettings::new(([127, 0, 0, 1], 0).into(), ONE_ORDER)).await.expect("a phone");
    let keys = Step { when: When::After(500), act: Act::Keys("159".into()) };
    let script = vec![say(500.0, seconds), keys, hang_up(1200)];
    let caller =
        phone.call(&format!("sip:bridge@{}", proxy.at), script, &mut |_| {}).await.expect("the call is placed");
    let seat = answering.await.expect("the seat does not break");
    let heard = (share(&caller.heard, 1300.0), share(&seat.heard, 500.0));
    eprintln!("through kamailio: of what the caller and the seat hear, {heard:?} is the other's tone");
    assert!(heard.0 > 0.9 && heard.1 > 0.9, "{heard:?}");
    assert_eq!((caller.code, seat.keys.as_str()), (200, "159"));
    running.settle().await;
    Some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_and_its_seat_go_by_kamailio_which_stays_in_the_way() {
    let _skipped_or_not = through_a_proxy(None, SrtpPolicy::Optional).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rtpengine_relays_the_sound_of_both_legs() {
    let Some(engine) = RtpEngine::start().await else { return };
    let _skipped_or_not = through_a_proxy(Some((&engine, "RTP/AVP")), SrtpPolicy::Optional).await;
}

/// libre behind, SRTP made of its plain RTP by the relay: by keys in the description, and by DTLS without ICE.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rtpengine_encrypts_towards_us_what_a_phone_says_in_clear() {
    let Some(engine) = RtpEngine::start().await else { return };
    let mut protocols = vec![("RTP/SAVP", SrtpPolicy::Required)];
    if cfg!(feature = "webrtc") {
        protocols.push(("UDP/TLS/RTP/SAVP rtcp-mux-offer ICE=remove", SrtpPolicy::Optional));
    }
    for (protocol, policy) in protocols {
        let folder = tempfile::tempdir().expect("a folder");
        let running = echoing(&folder, |s| s.srtp = policy).await;
        let nobody = ([127, 0, 0, 1], 9).into();
        let media = Some((&engine, protocol));
        let Some(proxy) = Kamailio::start(Ports::claim(), running.sip, nobody, media).await else { return };
        let account = format!("audio_codecs=PCMA/8000/1;outbound=\"sip:{}\"", proxy.at);
        let phone = Baresip { modules: &["g711"], account: &account, rate: 8000, more: "" };
        let Some((heard, said)) = phone.call(&format!("sip:echo@{}", running.sip), 8).await else { return };
        let share = share(&heard, TONE);
        eprintln!("baresip, kamailio, rtpengine, {protocol}: {:.0} % of what it hears is its tone", 100.0 * share);
        assert!(share > 0.9, "{protocol}: {share}\n{said}");
        running.settle().await;
    }
}

/// Keeps a proxy up until it is killed.
#[tokio::test]
#[ignore = "started by its parent test"]
#[allow(clippy::print_stdout)] // its parent reads it
async fn a_proxy_of_a_test_that_is_killed() {
    let nobody = ([127, 0, 0, 1], 9).into();
    let Some(proxy) = Kamailio::start(Ports::claim(), nobody, nobody, None).await else { return };
    println!("listens at {}", proxy.at);
    std::future::pending().await
}

#[tokio::test]
async fn a_run_that_is_killed_leaves_no_proxy_behind() {
    let mut killed = tokio::process::Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "interop::a_proxy_of_a_test_that_is_killed", "--ignored", "--nocapture"])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it runs now");
    let mut lines = BufReader::new(killed.stdout.take().expect("its words")).lines();
    let listens = async {
        while let Some(line) = lines.next_line().await.expect("readable") {
            if let Some((_, at)) = line.split_once("listens at ") {
                return Some(at.parse::<std::net::SocketAddr>().expect("an address"));
            }
        }
        None
    };
    let at = tokio::time::timeout(Duration::from_secs(60), listens).await.expect("it starts in time");
    let Some(at) = at else { return skipped("no kamailio: nobody was left behind") };
    assert!(std::net::UdpSocket::bind(at).is_err(), "it listens");
    killed.kill().await.expect("it lives");
    common::until("its port is free", || std::net::UdpSocket::bind(at).is_ok()).await;
}
