//! Servers that are one of several, silent, or ask for a password where none was due.

use crate::common::sip::{ANSWER, Client, LIMIT, OFFER, Side, header, settings, tag_of};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use zongji::sip::{
    Credential, Dial, DialogId, Names, Naptr, ReferLimits, Resolver, SipError, SipEvent, SipSettings, Srv,
};

/// `gw.test` has one server.
struct Zone(SocketAddr);

#[async_trait::async_trait]
impl Names for Zone {
    async fn naptr(&self, _: &str) -> Vec<Naptr> {
        Vec::new()
    }

    async fn srv(&self, name: &str) -> Vec<Srv> {
        let record = Srv { priority: 1, weight: 1, target: "a.gw.test".into(), port: self.0.port() };
        if name == "_sip._udp.gw.test" { vec![record] } else { Vec::new() }
    }

    async fn addresses(&self, _: &str) -> Vec<IpAddr> {
        vec![self.0.ip()]
    }
}

fn at(client: &Client) -> SocketAddr {
    client.socket.local_addr().unwrap()
}

/// The answer to a request that was heard.
fn answer(request: &str, status: &str, more: &str) -> String {
    let kept = ["Via", "From", "To", "Call-ID", "CSeq"].map(|n| (n, header(request, n)));
    let line = |(n, v): (&str, &str)| match (n, v.contains(";tag=")) {
        ("To", false) => format!("To: {v};tag=there\r\n"),
        _ => format!("{n}: {v}\r\n"),
    };
    format!("SIP/2.0 {status}\r\n{}{more}Content-Length: 0\r\n\r\n", kept.map(line).concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_taken_back_from_the_server_it_went_to() {
    let other = Client::new(([127, 0, 0, 1], 9).into()).await;
    let names = Resolver::new(Arc::new(Zone(at(&other))));
    let mut us = Side::new(SipSettings { names, ..settings() }).await;
    let server = Client::new(us.agent.local_addr()).await;
    for rings_first in [true, false] {
        let to = Some(at(&server));
        let call = Dial {
            to: "sip:1@gw.test".into(),
            from: "400".into(),
            sdp: OFFER.into(),
            destination: to,
            ..Dial::default()
        };
        let dialog = us.agent.dial(call).await.unwrap();
        let invite = server.request_heard().await;
        if rings_first {
            server.send(&answer(&invite, "180 Ringing", "")).await;
            assert!(matches!(us.next().await, SipEvent::Progress { code: 180, .. }));
        }
        us.agent.hangup(dialog).await;
        assert!(matches!(us.next().await, SipEvent::Ended { .. }));
        if !rings_first {
            server.send(&answer(&invite, "180 Ringing", "")).await;
        }
        let cancel = loop {
            let heard = server.request_heard().await;
            if !heard.starts_with("INVITE") {
                break heard;
            }
        };
        assert!(cancel.starts_with("CANCEL sip:1@gw.test"), "{cancel}");
        let of = |text: &str, name| header(text, name).to_string();
        assert_eq!(of(&cancel, "Via"), of(&invite, "Via"), "the branch of its INVITE");
        assert_eq!(of(&cancel, "CSeq").replace("CANCEL", "INVITE"), of(&invite, "CSeq"));
        server.send(&answer(&cancel, "200 OK", "")).await;
        server.send(&answer(&invite, "487 Request Terminated", "")).await;
        assert!(server.request_heard().await.starts_with("ACK"));
        us.settled().await;
    }
    assert!(other.hears_nothing(100).await, "it was asked nothing");
}

/// A caller by hand who was answered.
async fn answered(us: &mut Side, caller: &Client, more: &str) -> DialogId {
    caller.send(&caller.request("INVITE", "400", "in", 1, "", more, OFFER)).await;
    let dialog = us.called().await;
    us.agent.answer(dialog, ANSWER.into()).await;
    let tag = tag_of(&caller.final_answer().await);
    caller.send(&caller.request("ACK", "400", "in", 1, &tag, "", "")).await;
    assert!(matches!(us.next().await, SipEvent::Ack { .. }));
    dialog
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_challenge_inside_a_call_refuses_the_request_and_leaves_the_call() {
    let mut us = Side::new(settings()).await;
    let caller = Client::new(us.agent.local_addr()).await;
    let dialog = answered(&mut us, &caller, "").await;
    let challenge = "Proxy-Authenticate: Digest realm=\"gw\", nonce=\"n\"\r\n";
    let agent = us.agent.clone();
    let limits = ReferLimits::default();
    let referring = tokio::spawn(async move { agent.ask_to_refer(dialog, "sip:1@gw.test", limits, |_| {}).await });
    let refer = caller.request_heard().await;
    assert!(refer.starts_with("REFER"), "{refer}");
    caller.send(&answer(&refer, "407 Proxy Authentication Required", challenge)).await;
    assert_eq!(referring.await.unwrap(), Err(SipError::Refused(403)));
    let agent = us.agent.clone();
    let offering = tokio::spawn(async move { agent.reinvite(dialog, OFFER.into()).await });
    let invite = caller.request_heard().await;
    assert!(invite.starts_with("INVITE"), "{invite}");
    let supported = header(&invite, "Supported");
    assert!(supported.contains("timer") && !supported.contains("100rel"), "{supported}");
    caller.send(&answer(&invite, "401 Unauthorized", challenge)).await;
    assert_eq!(offering.await.unwrap(), Err(SipError::Refused(403)));
    assert!(caller.request_heard().await.starts_with("ACK"));
    // It stands.
    let agent = us.agent.clone();
    let key = tokio::spawn(async move { agent.info_dtmf(dialog, '5').await });
    let info = caller.request_heard().await;
    assert!(info.starts_with("INFO"), "{info}");
    caller.send(&answer(&info, "200 OK", "")).await;
    assert_eq!(key.await.unwrap(), Ok(()));
    assert_eq!(us.agent.counters().calls, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_never_shakes_hands_takes_nobodys_place() {
    let us = Side::new(SipSettings { tcp_connections: (2, 2), ..settings() }).await;
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("sip:{};transport=tls", mute.local_addr().unwrap());
    for _ in 0..4 {
        let asked = us.agent.options_at(&to, None, Duration::from_millis(100)).await;
        assert_eq!(asked, Err(SipError::Timeout));
    }
    assert_eq!(us.agent.tcp_connections(), 0);
    let mut caller = TcpStream::connect(us.agent.local_addr()).await.unwrap();
    caller.write_all(b"\r\n\r\n").await.unwrap();
    let mut pong = [0; 2];
    tokio::time::timeout(LIMIT, caller.read_exact(&mut pong)).await.expect("it was let in").unwrap();
    assert_eq!(&pong, b"\r\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_that_cannot_be_refreshed_is_said_to_be_lost() {
    let quick = Duration::from_millis(20);
    let us = Side::new(SipSettings { t1: quick, renew_least: quick * 5, ..settings() }).await;
    let server = Client::new(us.agent.local_addr()).await;
    let to = format!("sip:{}", at(&server));
    let credential = Credential { user: "400".into(), password: "geheim".into(), realm: None };
    let agent = us.agent.clone();
    let registering = tokio::spawn(async move { agent.register_for(&to, &credential, 300).await });
    let register = server.request_heard().await;
    let granted = format!("Contact: {};expires=1\r\n", header(&register, "Contact"));
    server.send(&answer(&register, "200 OK", &granted)).await;
    let kept = registering.await.unwrap().expect("registered");
    assert_eq!(kept.seconds, 1);
    // From here on the server is silent.
    let why = tokio::time::timeout(LIMIT, kept.lost()).await.expect("it is noticed");
    assert_eq!(why, SipError::Timeout);
}

/// Behind address translation the Contact of a registration leads to where the registrar sees it; a nonce that only came
/// too late is no wrong password.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_leads_to_where_the_registrar_sees_us_and_outlives_a_stale_nonce() {
    let us = Side::new(settings()).await;
    let server = Client::new(us.agent.local_addr()).await;
    let to = format!("sip:{}", at(&server));
    let credential = Credential { user: "400".into(), password: "geheim".into(), realm: None };
    let agent = us.agent.clone();
    let registering = tokio::spawn(async move { agent.register_for(&to, &credential, 300).await });
    for (nonce, stale) in [("one", ""), ("two", ", stale=true"), ("three", ", stale=TRUE")] {
        let register = server.request_heard().await;
        assert_ne!(header(&register, "Authorization").contains("response="), nonce == "one", "{register}");
        assert_eq!(register.matches("Authorization:").count(), usize::from(nonce != "one"), "{register}");
        let challenge = format!("WWW-Authenticate: Digest realm=\"gw\", qop=\"auth\", nonce=\"{nonce}\"{stale}\r\n");
        let seen = answer(&register, "401 Unauthorized", &challenge);
        server.send(&seen.replacen(";rport", ";received=203.0.113.9;rport=40000", 1)).await;
    }
    let register = server.request_heard().await;
    assert!(header(&register, "Authorization").contains("nonce=\"three\""), "{register}");
    assert_eq!(header(&register, "Contact"), "<sip:400@203.0.113.9:40000>");
    server.send(&answer(&register, "200 OK", "Contact: <sip:400@203.0.113.9:40000>;expires=77\r\n")).await;
    assert_eq!(registering.await.unwrap().expect("registered").seconds, 77);
}

/// One message of a stream, without a body.
async fn message(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(tokio::time::timeout(LIMIT, stream.read_u8()).await.expect("a message in time").unwrap());
    }
    let text = String::from_utf8(text).unwrap();
    let mut body = vec![0; header(&text, "Content-Length").parse().unwrap_or(0)];
    stream.read_exact(&mut body).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_by_a_connection_that_we_opened_is_judged_as_all_else() {
    let mut us = Side::new(settings()).await;
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = TcpListener::bind("127.0.0.9:0").await.unwrap();
    let caller = Client::new(us.agent.local_addr()).await;
    caller
        .send(&caller.request("INVITE", "400", "in", 1, "", "", OFFER).replace(
            &format!("Contact: <sip:c@{}>", at(&caller)),
            &format!("Contact: <sip:c@{};transport=tcp>", door.local_addr().unwrap()),
        ))
        .await;
    let dialog = us.called().await;
    us.agent.answer(dialog, ANSWER.into()).await;
    let tag = tag_of(&caller.final_answer().await);
    caller.send(&caller.request("ACK", "400", "in", 1, &tag, "", "")).await;
    assert!(matches!(us.next().await, SipEvent::Ack { .. }));
    let agent = us.agent.clone();
    let key = tokio::spawn(async move { agent.info_dtmf(dialog, '1').await });
    let (mut stream, _) = tokio::time::timeout(LIMIT, door.accept()).await.expect("it connects").unwrap();
    let info = message(&mut stream).await;
    stream.write_all(answer(&info, "200 OK", "").as_bytes()).await.unwrap();
    assert_eq!(key.await.unwrap(), Ok(()));
    // Requests by it are answered, and one that no gate lets pass is refused.
    let tcp = |text: String| text.replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    let bad = tcp(caller.request("INFO", "400", "in", 2, &tag, "", "")).replace("CSeq: 2 INFO", "CSeq: 2 BYE");
    stream.write_all(bad.as_bytes()).await.unwrap();
    assert!(message(&mut stream).await.starts_with("SIP/2.0 400"));
    // A Contact that the sender may not name leads back to where it came from.
    let lure = format!("Contact: <sip:c@{};transport=tcp>", elsewhere.local_addr().unwrap());
    let again = tcp(caller.request("INVITE", "400", "in", 3, &tag, "", OFFER))
        .replace(&format!("Contact: <sip:c@{}>", at(&caller)), &lure);
    stream.write_all(again.as_bytes()).await.unwrap();
    let SipEvent::Reinvite { request, .. } = us.next().await else { panic!("no re-INVITE") };
    us.agent.answer_reinvite(dialog, request, Ok(ANSWER.into())).await;
    while !message(&mut stream).await.starts_with("SIP/2.0 200") {}
    stream.write_all(tcp(caller.request("ACK", "400", "in", 3, &tag, "", "")).as_bytes()).await.unwrap();
    let agent = us.agent.clone();
    let key = tokio::spawn(async move { agent.info_dtmf(dialog, '2').await });
    let info = message(&mut stream).await;
    assert!(info.starts_with("INFO"), "{info}");
    stream.write_all(answer(&info, "200 OK", "").as_bytes()).await.unwrap();
    assert_eq!(key.await.unwrap(), Ok(()));
    assert!(tokio::time::timeout(Duration::from_millis(100), elsewhere.accept()).await.is_err(), "lured elsewhere");
}
