//! Calls with SRTP: between phones of our own, a bridge to a plain one, forged packets, and another maker's phone.

use crate::common::baresip::{Baresip, TONE};
use crate::common::sound::{callers_side, loudest, share};
use crate::common::wire::Caller;
use crate::common::{self, ONE_ORDER, Running, hang_up, keys, tone};
use std::time::Duration;
use tokio::net::UdpSocket;
use zongji::audio::detect::power;
use zongji::sdp::SrtpPolicy;
use zongji::server::phone::{Act, CallResult, Phone, PhoneSettings, Step, When};
use zongji::server::routes::RouteKind;

fn phone(policy: SrtpPolicy) -> PhoneSettings {
    PhoneSettings { srtp: policy, ..PhoneSettings::new(([127, 0, 0, 1], 0).into(), ONE_ORDER) }
}

fn say(hz: f32, seconds: usize) -> Step {
    Step { when: When::After(300), act: Act::Say(tone(hz, seconds), "a tone".into()) }
}

async fn hotline(policy: SrtpPolicy) -> Running {
    common::start(|s| {
        s.speech = false;
        s.srtp = policy;
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_caller_is_heard_hears_and_presses_keys() {
    let running = hotline(SrtpPolicy::Optional).await;
    let hold = |held| Step { when: When::After(400), act: Act::Hold(held) };
    let script = vec![keys("1"), hold(true), hold(false), keys("0"), say(500.0, 2), hang_up(600)];
    let result = running.call_with(phone(SrtpPolicy::Required), script).await;
    assert_eq!((result.code, result.steps_done), (200, 6));
    assert!(power(&result.heard) > 1000.0, "the prompts were heard");
    running.settle().await;
    let store = running.hotline.store();
    let call = store.calls(1).await.unwrap().remove(0);
    let turns = store.turns(call.id.parse().unwrap()).await.unwrap();
    let pressed: Vec<&str> = turns.iter().filter(|t| t.by_keys).map(|t| t.heard.as_str()).collect();
    assert_eq!(pressed, ["1", "0"]);
    let (rtp, wav) = (call.rtp.expect("figures"), call.recording.expect("a recording"));
    assert_eq!((&rtp["unauthentic"], &rtp["lost"]), (&0.into(), &0.into()), "{rtp}");
    let (level, share) = loudest(&callers_side(wav), 500.0);
    assert!(level > 10e6 && share > 0.9, "the caller's tone at {level}, {share} of all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_policy_takes_and_refuses_what_it_says() {
    use SrtpPolicy::{Off, Optional, Required};
    for (ours, theirs, code) in [
        (Off, Optional, 200),
        (Off, Required, 488),
        (Optional, Required, 200),
        (Required, Optional, 488),
        (Required, Required, 200),
    ] {
        let running = hotline(ours).await;
        let result = running.call_with(phone(theirs), vec![hang_up(300)]).await;
        assert_eq!(result.code, code, "hotline {ours:?}, phone {theirs:?}");
    }
}

/// A caller and a seat, bridged by the hotline; each says a tone. What both heard.
async fn bridged(caller: SrtpPolicy, hotline: SrtpPolicy) -> (CallResult, CallResult) {
    let mut seat = Phone::start(phone(SrtpPolicy::Optional)).await.expect("a phone");
    let target = format!("sip:seat@{}", seat.address());
    let running = common::start(|s| {
        s.srtp = hotline;
        s.routes = vec![common::route("bridge", RouteKind::Bridge, &target)];
    })
    .await;
    let answering = tokio::spawn(async move {
        let result = seat.answer(Duration::from_secs(20), 50, vec![say(1300.0, 3)], &mut |_| {}).await;
        result.expect("a call").expect("it is called")
    });
    let mut phone = Phone::start(phone(caller)).await.expect("a phone");
    let script = vec![say(500.0, 3), Step { when: When::After(3300), act: Act::Keys("159".into()) }, hang_up(1200)];
    let uri = format!("sip:bridge@{}", running.sip);
    let caller = phone.call(&uri, script, &mut |_| {}).await.expect("the call is placed");
    (caller, answering.await.expect("the seat does not break"))
}

fn talked(caller: &CallResult, seat: &CallResult) {
    for (who, result, hz) in [("caller", caller, 1300.0), ("seat", seat, 500.0)] {
        let (level, share) = loudest(&result.heard, hz);
        assert!(level > 10e6 && share > 0.9, "the {who} heard {hz} Hz at {level}, {share} of all");
    }
    assert_eq!(seat.keys, "159");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_leg_and_a_plain_one_talk_through_the_bridge() {
    let (caller, seat) = bridged(SrtpPolicy::Required, SrtpPolicy::Optional).await;
    talked(&caller, &seat);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_encrypted_legs_talk_through_the_bridge() {
    let (caller, seat) = bridged(SrtpPolicy::Required, SrtpPolicy::Required).await;
    talked(&caller, &seat);
}

/// Packets that nobody with the key made, sent to a call's port from the caller's host.
async fn forge(to: std::net::SocketAddr, count: u32) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let mut packet = vec![0x80, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    packet.resize(182, 0x5a);
    let mut clock = tokio::time::interval(Duration::from_millis(5));
    for n in 0..count {
        packet[2..4].copy_from_slice(&(n as u16).to_be_bytes());
        packet[4..8].copy_from_slice(&(n * 160).to_be_bytes());
        packet[8..12].copy_from_slice(&n.wrapping_mul(2_654_435_761).to_be_bytes());
        let _full = socket.send_to(&packet, to).await;
        if n % 32 == 31 {
            clock.tick().await;
        }
    }
}

/// A call by hand whose media port is known before the caller has sent anything: its offer is encrypted, and what it
/// sends is not, so that nothing of it may be believed either.
async fn under_forgery(running: &Running, count: u32) {
    let mut caller = Caller::new(running.sip, ONE_ORDER).await;
    caller.crypto = Some("1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^31".into());
    caller.invite("sendrecv").await;
    let answer = caller.expect("INVITE", 200).await;
    assert!(answer.contains("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:") && answer.contains("RTP/SAVP"), "{answer}");
    caller.ack().await;
    let port = caller.remote.expect("it said where");
    let sound = tone(500.0, 1);
    tokio::join!(forge(port, count), caller.say(&sound));
    assert!(caller.packets(Duration::from_millis(500)).await > 10, "the call goes on");
    caller.bye().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_packets_are_counted_and_neither_heard_nor_the_end_of_a_call() {
    let running = hotline(SrtpPolicy::Optional).await;
    under_forgery(&running, 3000).await;
    running.settle().await;
    let call = running.hotline.store().calls(1).await.unwrap().remove(0);
    let rtp = call.rtp.expect("figures");
    assert_eq!((&rtp["packets_in"], call.hung_up_by.as_deref()), (&0.into(), Some("caller")), "{rtp}");
    assert!(rtp["unauthentic"].as_u64().is_some_and(|n| n > 1500), "{rtp}");
    let heard = callers_side(call.recording.expect("a recording"));
    assert!(heard.iter().all(|s| s.abs() < 50), "something was heard");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "soak: a hundred calls under a hundred thousand forged packets each"]
async fn soak_calls_under_forged_packets() {
    let running = hotline(SrtpPolicy::Optional).await;
    for _ in 0..10 {
        tokio::join!(
            under_forgery(&running, 100_000),
            under_forgery(&running, 100_000),
            under_forgery(&running, 100_000),
            under_forgery(&running, 100_000),
            under_forgery(&running, 100_000),
            under_forgery(&running, 100_000),
            under_forgery(&running, 100_000),
            under_forgery(&running, 100_000),
            under_forgery(&running, 100_000),
            under_forgery(&running, 100_000),
        );
    }
    running.settle().await;
    let calls = running.hotline.store().calls(1000).await.unwrap();
    let by_caller = calls.iter().filter(|c| c.hung_up_by.as_deref() == Some("caller")).count();
    assert_eq!((calls.len(), by_caller), (100, 100));
}

/// libre's SRTP, not ours: a tone goes to the echo route and comes back, encrypted both ways.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn baresip_hears_its_own_voice_come_back_encrypted() {
    let running = common::start(|s| {
        s.srtp = SrtpPolicy::Required; // a plain call would be refused
        s.routes = vec![common::route("echo", RouteKind::Echo, "")];
    })
    .await;
    for mediaenc in ["srtp", "srtp-mand", "srtp-mandf"] {
        let account = format!("audio_codecs=PCMA/8000/1;mediaenc={mediaenc}");
        let phone = Baresip { modules: &["g711", "srtp"], account: &account, rate: 8000, more: "" };
        let Some((heard, said)) = phone.call(&format!("sip:echo@{}", running.sip), 7).await else { return };
        let share = share(&heard, TONE);
        eprintln!("baresip, {mediaenc}: {:.0} % of what it hears is its tone", 100.0 * share);
        assert!(share > 0.9, "{mediaenc}: {share}\n{said}");
    }
}
