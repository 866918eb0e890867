//! Legs over DTLS-SRTP, with descriptions written by hand: what they are told and why they are refused.

use crate::common::wire::Caller;
use crate::common::{self, ONE_ORDER};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::UdpSocket;
use zongji::server::stun;

/// A browser's offer; `name` tells its credentials apart.
fn browsers_offer(name: &str) -> String {
    format!(
        "v=0\r\no=- 46 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 8\r\n\
         c=IN IP4 0.0.0.0\r\na=ice-ufrag:{name}\r\na=ice-pwd:0123456789abcdefghijklmn\r\na=fingerprint:sha-256 {}\r\n\
         a=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:8 PCMA/8000\r\n",
        vec!["AB"; 32].join(":")
    )
}

/// A phone's that does no ICE.
fn phones_offer() -> String {
    let kept = browsers_offer("Abcd").replace("0.0.0.0", "127.0.0.1");
    kept.lines().filter(|l| !l.starts_with("a=ice")).map(|l| format!("{l}\r\n")).collect()
}

/// A STUN server for which we are always at one address; where it is.
async fn stun_server(mapped: SocketAddr) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let at = socket.local_addr().expect("its address");
    tokio::spawn(async move {
        let mut datagram = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut datagram).await {
            if let Some(id) = datagram[..length].get(8..20).and_then(|id| id.try_into().ok()) {
                let _lost = socket.send_to(&stun::response(id, mapped, None), from).await;
            }
        }
    });
    at
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_calls_is_answered_with_the_address_a_stun_server_saw() {
    let server = stun_server(([203, 0, 113, 5], 6000).into()).await;
    let running = common::start(|settings| settings.stun = Some(server.to_string())).await;
    let mut caller = Caller::new(running.sip, ONE_ORDER).await;
    let elsewhere = UdpSocket::bind("127.0.0.3:0").await.expect("loopback has many addresses");
    let port = elsewhere.local_addr().expect("its address").port();
    let candidate = format!("a=candidate:1 1 UDP 2113937151 127.0.0.3 {port} typ host\r\n");
    caller.described = Some(browsers_offer("Abcd") + &candidate);
    caller.invite("sendrecv").await;
    let answer = caller.expect("INVITE", 200).await;
    assert!(answer.contains(" 203.0.113.5 6000 typ srflx raddr 127.0.0.1 rport "), "{answer}");
    caller.ack().await;
    // It is checked once the ACK is there, and no sooner.
    let mut datagram = [0; 1500];
    let checked = elsewhere.recv_from(&mut datagram);
    let _a_check = tokio::time::timeout(Duration::from_secs(10), checked).await.expect("a check").expect("it is read");
    // It changed its network.
    caller.described = Some(browsers_offer("Efgh"));
    let answer = caller.change("sendrecv").await;
    assert!(answer.contains(" 203.0.113.5 6000 typ srflx raddr "), "{answer}");
    caller.bye().await;
    running.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stun_server_that_is_silent_delays_a_call_and_does_not_end_it() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let server = silent.local_addr().expect("its address").to_string();
    let running = common::start(|settings| settings.stun = Some(server)).await;
    let mut caller = Caller::new(running.sip, ONE_ORDER).await;
    caller.described = Some(browsers_offer("Abcd"));
    caller.invite("sendrecv").await;
    let answer = caller.expect("INVITE", 200).await;
    assert!(answer.contains(" typ host\r\n") && !answer.contains("srflx"), "{answer}");
    caller.ack().await;
    caller.bye().await;
    // Who hangs up while it is asked is let go.
    let mut hasty = Caller::new(running.sip, ONE_ORDER).await;
    hasty.described = Some(browsers_offer("Abcd"));
    hasty.invite("sendrecv").await;
    hasty.expect("INVITE", 100).await;
    hasty.cancel().await;
    hasty.expect("INVITE", 487).await;
    hasty.ack_refusal().await;
    running.settle().await;
    // A phone without ICE names no such address: nobody is asked for it.
    while silent.try_recv(&mut [0; 1500]).is_ok() {}
    let mut phone = Caller::new(running.sip, ONE_ORDER).await;
    phone.described = Some(phones_offer());
    phone.establish().await;
    assert!(silent.try_recv(&mut [0; 1500]).is_err(), "it was asked");
    phone.bye().await;
    running.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_without_rtcp_mux_is_refused_in_words_an_administrator_can_act_on() {
    let running = common::start(|_| {}).await;
    let mut caller = Caller::new(running.sip, ONE_ORDER).await;
    caller.described = Some(phones_offer().replace("a=rtcp-mux\r\n", ""));
    caller.invite("sendrecv").await;
    caller.expect("INVITE", 488).await;
    caller.ack_refusal().await;
    let _late = running.hotline.flush(Duration::from_secs(5)).await;
    let call = running.hotline.store().calls(1).await.unwrap().remove(0);
    assert_eq!(
        call.reason.as_deref(),
        Some(
            "refused with 488, the offer over DTLS-SRTP cannot be taken: it has no a=rtcp-mux: switch on RTCP multiplexing in the \
             phone, RTCP on a port of its own is not supported here"
        )
    );
    assert!(call.reason_zh.is_some_and(|zh| zh.contains("启用 RTCP 复用")));
}
