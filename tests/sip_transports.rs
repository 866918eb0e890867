//! SIP over TLS and WebSocket, and messages too long for a datagram.

use crate::common::secure::{Web, certificate, trusting};
use crate::common::sip::{ANSWER, Client, LIMIT, OFFER, Side, header, settings, tag_of};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use zongji::sip::{Dial, Listeners, SipError, SipEvent, SipSettings, TlsFiles, Transport};

fn secure(files: &TlsFiles) -> SipSettings {
    let any = Some("127.0.0.1:0".parse().unwrap());
    SipSettings { listeners: Listeners { tls: any, ws: any, wss: any, certificate: Some(files.clone()) }, ..settings() }
}

fn dial(to: SocketAddr, scheme: &str, more: &str) -> Dial {
    Dial { to: format!("{scheme}:400@{to}{more}"), from: "13800138000".into(), sdp: OFFER.into(), ..Dial::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_tls_is_answered_and_ended_from_either_side() {
    let dir = tempfile::tempdir().unwrap();
    let files = certificate(dir.path());
    let mut hotline = Side::new(secure(&files)).await;
    let trusting = TlsFiles { trust: Some(files.certificate.clone()), ..files.clone() };
    let mut caller = Side::new(secure(&trusting)).await;
    let at = hotline.agent.listens_on(Transport::Tls).unwrap();
    for caller_hangs_up in [true, false] {
        let out = caller.agent.dial(dial(at, "sips", "")).await.unwrap();
        let SipEvent::Invite { dialog: into, transport, .. } = hotline.next().await else { panic!("no call") };
        assert_eq!(transport, Transport::Tls);
        hotline.agent.answer(into, ANSWER.into()).await;
        assert_eq!(caller.next().await, SipEvent::Answered { dialog: out, sdp: Some(ANSWER.into()) });
        assert_eq!(hotline.next().await, SipEvent::Ack { dialog: into, sdp: None });
        let (near, far, dialog) =
            if caller_hangs_up { (&caller, &mut hotline, out) } else { (&hotline, &mut caller, into) };
        near.agent.hangup(dialog).await;
        assert!(matches!(far.next().await, SipEvent::Bye { .. }));
        let side = if caller_hangs_up { &mut caller } else { &mut hotline };
        assert!(matches!(side.next().await, SipEvent::Ended { .. }));
    }
    hotline.settled().await;
    assert_eq!(hotline.agent.counters().datagrams, 0, "all of it went under TLS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_nobody_vouches_for_is_not_called_and_the_error_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let hotline = Side::new(secure(&certificate(dir.path()))).await;
    let caller = Side::new(settings()).await;
    let at = hotline.agent.listens_on(Transport::Tls).unwrap();
    let error = caller.agent.dial(dial(at, "sip", ";transport=tls")).await.unwrap_err();
    let SipError::Unreachable(peer, "tls", why) = &error else { panic!("{error}") };
    assert_eq!(*peer, at);
    assert!(why.contains("certificate"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_certificate_is_used_for_the_next_connection_and_a_broken_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let old = certificate(dir.path());
    let hotline = Side::new(SipSettings { certificate_look: Duration::from_millis(200), ..secure(&old) }).await;
    let at = hotline.agent.listens_on(Transport::Tls).unwrap();
    let first = dir.path().join("first.pem");
    std::fs::copy(&old.certificate, &first).unwrap();
    std::fs::write(&old.certificate, "no certificate").unwrap();
    let served = |trust: std::path::PathBuf| {
        let files = TlsFiles { trust: Some(trust), ..old.clone() };
        async move {
            let other = tempfile::tempdir().unwrap();
            let files = TlsFiles { trust: files.trust, ..certificate(other.path()) };
            let caller = Side::new(secure(&files)).await;
            caller.agent.dial(dial(at, "sips", "")).await.is_ok()
        }
    };
    // Long enough for the broken file to be looked at.
    let looked = tokio::time::Instant::now() + Duration::from_secs(1);
    while tokio::time::Instant::now() < looked {
        assert!(served(first.clone()).await, "the old certificate is served no more");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let fresh = certificate(dir.path());
    let end = tokio::time::Instant::now() + LIMIT;
    while !served(fresh.certificate.clone()).await {
        assert!(tokio::time::Instant::now() < end, "the new certificate is not served");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn an_unusable_certificate_stops_the_start_and_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let files = certificate(dir.path());
    let elsewhere = tempfile::tempdir().unwrap();
    let other = certificate(elsewhere.path());
    let mixed = TlsFiles { key: other.key, ..files.clone() };
    let missing = TlsFiles { certificate: dir.path().join("nowhere.pem"), ..files };
    for bad in [&mixed, &missing] {
        let error = zongji::sip::SipAgent::start(secure(bad)).await.err().expect("refused").to_string();
        assert!(error.contains(".pem"), "{error}");
    }
}

fn request(method: &str, id: &str, cseq: u32, to_tag: &str, via: &str, more: &str, sdp: &str) -> String {
    let kind = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "{method} sip:400@localhost SIP/2.0\r\nVia: SIP/2.0/{via} df7jal23ls0d.invalid;branch=z9hG4bK{id}{method}{cseq}\r\n\
         From: <sip:8001@localhost>;tag=f{id}\r\nTo: <sip:400@localhost>{to_tag}\r\nCall-ID: {id}\r\nCSeq: {cseq} {method}\r\n\
         Contact: <sip:8001@df7jal23ls0d.invalid;transport=ws>\r\nMax-Forwards: 70\r\n{more}{kind}Content-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    )
}

async fn a_browser_calls<S: AsyncRead + AsyncWrite + Unpin>(
    mut web: Web<S>,
    hotline: &mut Side,
    via: &str,
    by: Transport,
) {
    web.send("\r\n\r\n".into()).await;
    assert_eq!(web.hear().await, "\r\n", "a keep-alive is answered");
    let id = format!("call{via}");
    web.send(request("INVITE", &id, 1, "", via, "", OFFER)).await;
    let SipEvent::Invite { dialog, transport, .. } = hotline.next().await else { panic!("no call") };
    assert_eq!(transport, by);
    hotline.agent.answer(dialog, ANSWER.into()).await;
    let ok = web.until("SIP/2.0 200").await;
    assert!(header(&ok, "Via").contains(via), "{ok}");
    assert!(header(&ok, "Contact").contains(";transport=ws>"), "{ok}");
    web.send(request("ACK", &id, 1, &tag_of(&ok), via, "", "")).await;
    assert_eq!(hotline.next().await, SipEvent::Ack { dialog, sdp: None });
    // What we begin comes by the connection that is there: a browser has no address.
    hotline.agent.hangup(dialog).await;
    let bye = web.until("BYE").await;
    assert!(header(&bye, "Via").contains(&format!("SIP/2.0/{via} 127.0.0.1:")), "{bye}");
    assert!(!bye.contains("transport=wss"), "{bye}");
    let port: u16 = header(&bye, "Via").split(':').nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
    assert_eq!(Some(port), hotline.agent.listens_on(by).map(|a| a.port()), "our own port, not the browser's");
    let copied = ["Via", "From", "To", "Call-ID", "CSeq"].map(|h| format!("{h}: {}\r\n", header(&bye, h))).concat();
    web.send(format!("SIP/2.0 200 OK\r\n{copied}Content-Length: 0\r\n\r\n")).await;
    assert!(matches!(hotline.next().await, SipEvent::Ended { .. }));
    hotline.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_calls_over_websocket_and_is_hung_up_on() {
    let dir = tempfile::tempdir().unwrap();
    let files = certificate(dir.path());
    let mut hotline = Side::new(secure(&files)).await;
    let at = hotline.agent.listens_on(Transport::Ws).unwrap();
    let web = Web::over(TcpStream::connect(at).await.unwrap()).await;
    a_browser_calls(web, &mut hotline, "WS", Transport::Ws).await;
    let at = hotline.agent.listens_on(Transport::Wss).unwrap();
    let stream = trusting(&files, TcpStream::connect(at).await.unwrap()).await;
    let web = Web::over(stream).await;
    a_browser_calls(web, &mut hotline, "WSS", Transport::Wss).await;
}

#[tokio::test]
async fn a_websocket_that_is_not_for_sip_is_refused_with_a_reason() {
    let hotline = Side::new(SipSettings {
        listeners: Listeners { ws: Some("127.0.0.1:0".parse().unwrap()), ..Listeners::default() },
        ..settings()
    })
    .await;
    let at = hotline.agent.listens_on(Transport::Ws).unwrap();
    let request = "ws://localhost/".into_client_request().unwrap();
    let refused = tokio_tungstenite::client_async(request, TcpStream::connect(at).await.unwrap()).await;
    let Err(tokio_tungstenite::tungstenite::Error::Http(response)) = refused else { panic!("let in") };
    assert_eq!(response.status(), 400);
    assert_eq!(hotline.agent.counters().tcp_refused, 1);
    assert_eq!(hotline.agent.tcp_connections(), 0);
}

#[tokio::test]
async fn who_does_not_finish_a_handshake_is_sent_away() {
    let dir = tempfile::tempdir().unwrap();
    let limit = Duration::from_millis(300);
    let hotline = Side::new(SipSettings { tcp_message_limit: limit, ..secure(&certificate(dir.path())) }).await;
    for transport in [Transport::Tls, Transport::Ws, Transport::Wss] {
        let at = hotline.agent.listens_on(transport).unwrap();
        let mut silent = TcpStream::connect(at).await.unwrap();
        let mut nothing = [0; 64];
        let read = tokio::io::AsyncReadExt::read(&mut silent, &mut nothing);
        let closed = tokio::time::timeout(LIMIT, read).await.expect("closed in time");
        assert!(matches!(closed, Ok(0) | Err(_)), "{transport}");
    }
    crate::common::until("the connections are gone", || hotline.agent.tcp_connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_twenty_kilobytes_in_a_datagram_is_answered() {
    let hotline = Side::new(settings()).await;
    let client = Client::new(hotline.agent.local_addr()).await;
    for size in [7_800, 9_200, 20_000, 60_000] {
        let more = format!("X-Long: {}\r\n", "x".repeat(size));
        client.send(&client.request("OPTIONS", "400", &format!("big{size}"), 1, "", &more, "")).await;
        assert!(client.final_answer().await.starts_with("SIP/2.0 200"), "{size}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_too_long_for_a_datagram_goes_by_tcp_where_the_other_takes_it() {
    let (mut caller, mut hotline) = (Side::new(settings()).await, Side::new(settings()).await);
    let long = format!("{OFFER}a=x:{}\r\n", "y".repeat(1300));
    let at = hotline.agent.local_addr();
    let out = caller.agent.dial(Dial { sdp: long.clone(), ..dial(at, "sip", "") }).await.unwrap();
    let SipEvent::Invite { dialog, transport, sdp, .. } = hotline.next().await else { panic!("no call") };
    assert_eq!((transport, sdp.as_deref()), (Transport::Tcp, Some(long.as_str())));
    hotline.agent.answer(dialog, ANSWER.into()).await;
    assert!(matches!(caller.next().await, SipEvent::Answered { .. }));
    caller.agent.hangup(out).await;
    // A peer without TCP gets the datagram after all.
    let plain = Client::new(at).await;
    let alone = plain.socket.local_addr().unwrap();
    caller.agent.dial(Dial { sdp: long, ..dial(alone, "sip", "") }).await.unwrap();
    let invite = plain.request_heard().await;
    assert!(invite.starts_with("INVITE") && header(&invite, "Via").contains("/UDP "), "{invite}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_come_and_go_over_ipv6_by_every_transport() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["::1".into()]).unwrap();
    let path = |n: &str| dir.path().join(n);
    std::fs::write(path("k.pem"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(path("c.pem"), made.cert.pem()).unwrap();
    let files = TlsFiles { certificate: path("c.pem"), key: path("k.pem"), trust: Some(path("c.pem")) };
    let any: SocketAddr = "[::1]:0".parse().unwrap();
    let settings = || SipSettings {
        bind: any,
        listeners: Listeners { tls: Some(any), certificate: Some(files.clone()), ..Listeners::default() },
        ..settings()
    };
    let (mut caller, mut hotline) = (Side::new(settings()).await, Side::new(settings()).await);
    for transport in [Transport::Udp, Transport::Tcp, Transport::Tls] {
        let at = hotline.agent.listens_on(transport).unwrap();
        let more = format!(";transport={transport}");
        let out = caller.agent.dial(dial(at, "sip", &more)).await.unwrap();
        let SipEvent::Invite { dialog, transport: by, source, .. } = hotline.next().await else { panic!("no call") };
        assert_eq!(by, transport);
        assert!(source.is_ipv6());
        hotline.agent.answer(dialog, ANSWER.into()).await;
        assert!(matches!(caller.next().await, SipEvent::Answered { .. }));
        assert!(matches!(hotline.next().await, SipEvent::Ack { .. }));
        hotline.agent.hangup(dialog).await;
        assert_eq!(caller.next().await, SipEvent::Bye { dialog: out });
        assert!(matches!(hotline.next().await, SipEvent::Ended { .. }));
    }
}
