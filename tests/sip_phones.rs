//! Phones that register, and passwords.

use crate::common::sip::*;
use std::time::Duration;
use zongji::sip::*;

fn with_phone() -> SipSettings {
    SipSettings { accounts: vec![Account { user: "8001".into(), password: "geheim".into() }], ..settings() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_register_needs_the_password_and_cannot_be_replayed() {
    let mut b = Side::new(with_phone()).await;
    let c = Client::new(b.agent.local_addr()).await;
    let ask = async |cseq: u32, auth: &str| {
        c.send(&c.request("REGISTER", "8001", "reg", cseq, "", auth, "")).await;
        c.final_answer().await
    };
    let uri = format!("sip:8001@{}", b.agent.local_addr());
    let digest = |challenge: &str, user: &str, password: &str, nc: u32| {
        authorization(challenge, (user, password), nc, ("REGISTER", &uri))
    };
    let challenge = ask(1, "").await;
    assert!(challenge.starts_with("SIP/2.0 401") && challenge.contains("SHA-256") && challenge.contains("MD5"));
    let wrong = ask(2, &digest(&challenge, "8001", "falsch", 1)).await;
    assert!(wrong.starts_with("SIP/2.0 401"));
    let unknown = ask(3, &digest(&challenge, "9999", "geheim", 1)).await;
    assert!(unknown.starts_with("SIP/2.0 401"));
    assert!(b.agent.contacts("8001").is_empty());
    let right = digest(&challenge, "8001", "geheim", 1);
    let ok = ask(4, &right).await;
    assert!(ok.starts_with("SIP/2.0 200") && header(&ok, "Contact").contains("expires=3600"), "{ok}");
    assert_eq!(ask(4, &right).await, ok, "a retransmission gets the same answer");
    assert_eq!(b.next().await, SipEvent::Registered { user: "8001".into(), contacts: 1 });
    let replay = ask(5, &right).await;
    assert!(replay.starts_with("SIP/2.0 401") && replay.contains("stale=true"), "{replay}");
    assert_eq!(b.agent.contacts("8001")[0].source, c.socket.local_addr().unwrap());
    let gone = ask(6, &(digest(&challenge, "8001", "geheim", 2) + "Expires: 0\r\n")).await;
    assert!(gone.starts_with("SIP/2.0 200"));
    assert!(b.agent.contacts("8001").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_registers_and_is_called_where_it_registered_from() {
    let mut b = Side::new(with_phone()).await;
    let mut phone = Side::new(settings()).await;
    let credential = |p: &str| Credential { user: "8001".into(), password: p.into(), realm: Some("zongji".into()) };
    let to = b.agent.local_addr();
    assert_eq!(phone.agent.register(to, &credential("falsch"), 120).await, Err(SipError::Refused(401)));
    assert_eq!(phone.agent.register(to, &credential("geheim"), 120).await, Ok(120));
    assert_eq!(b.next().await, SipEvent::Registered { user: "8001".into(), contacts: 1 });
    let contact = b.agent.contacts("8001").remove(0);
    let out = b.agent.dial(Dial::to_contact(&contact, "400", OFFER)).await.unwrap();
    let SipEvent::Invite { dialog, to_user, from_user, .. } = phone.next().await else { panic!("a call") };
    assert_eq!((to_user.as_str(), from_user.as_str()), ("8001", "400"));
    phone.agent.answer(dialog, ANSWER.into()).await;
    assert_eq!(b.next().await, SipEvent::Answered { dialog: out, sdp: Some(ANSWER.into()) });
    phone.agent.hangup(dialog).await;
    assert_eq!(b.next().await, SipEvent::Bye { dialog: out });
    b.settled().await;
    phone.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_password_is_shown_only_to_the_realm_it_is_for() {
    let cases = [
        (None, false),
        (Some(Credential { user: "u".into(), password: "p".into(), realm: Some("gateway".into()) }), false),
        (Some(Credential { user: "u".into(), password: "p".into(), realm: Some("rogue".into()) }), true),
        (Some(Credential { user: "u".into(), password: "p".into(), realm: None }), true),
    ];
    for (credential, shown) in cases {
        let mut a = Side::new(settings()).await;
        let server = Client::new(a.agent.local_addr()).await;
        let to = format!("sip:1@{}", server.socket.local_addr().unwrap());
        let out = a.agent.dial(Dial { to, from: "400".into(), sdp: OFFER.into(), credential, ..Dial::default() }).await;
        let invite = server.request_heard().await;
        assert!(!invite.contains("uthorization:"));
        let refuse = |text: &str, status: &str, more: &str| {
            format!(
                "SIP/2.0 {status}\r\nVia: {}\r\nFrom: {}\r\nTo: {};tag=s\r\nCall-ID: {}\r\nCSeq: {}\r\n{more}\
                 Content-Length: 0\r\n\r\n",
                header(text, "Via"),
                header(text, "From"),
                header(text, "To"),
                header(text, "Call-ID"),
                header(text, "CSeq")
            )
        };
        let challenge = "WWW-Authenticate: Digest realm=\"rogue\", nonce=\"n1\", qop=\"auth\", algorithm=MD5\r\n";
        server.send(&refuse(&invite, "401 Unauthorized", challenge)).await;
        assert!(server.request_heard().await.starts_with("ACK "));
        if shown {
            let again = server.request_heard().await;
            assert!(
                again.starts_with("INVITE ") && again.contains("realm=\"rogue\"") && again.contains("qop=auth,")
                    || again.contains("qop=auth\r\n"),
                "{again}"
            );
            server.send(&refuse(&again, "486 Busy Here", "")).await;
        } else {
            assert!(server.hears_nothing(300).await, "it answered a stranger's challenge");
        }
        let want = if shown { 486 } else { 401 };
        let SipEvent::Failed { dialog, code, .. } = a.next().await else { panic!("a failure") };
        assert_eq!(dialog, out.unwrap());
        assert!(code == want || !shown && code == 500, "{code}");
        a.settled().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_that_answers_no_options_is_no_longer_rung() {
    let keep_alive = std::time::Duration::from_millis(150);
    let mut b = Side::new(SipSettings { keep_alive, ..with_phone() }).await;
    let c = Client::new(b.agent.local_addr()).await;
    c.send(&c.request("REGISTER", "8001", "reg", 1, "", "", "")).await;
    let challenge = c.final_answer().await;
    let uri = format!("sip:8001@{}", c.to);
    let proof = authorization(&challenge, ("8001", "geheim"), 1, ("REGISTER", &uri));
    c.send(&c.request("REGISTER", "8001", "reg", 2, "", &proof, "")).await;
    assert!(c.final_answer().await.starts_with("SIP/2.0 200"));
    assert_eq!(b.next().await, SipEvent::Registered { user: "8001".into(), contacts: 1 });
    for _ in 0..6 {
        let asked = c.request_heard().await;
        assert!(asked.starts_with("OPTIONS sip:c@127.0.0.1"), "{asked}");
        let kept: Vec<&str> = ["Via", "From", "To", "Call-ID", "CSeq"].map(|h| header(&asked, h)).into();
        c.send(&format!(
            "SIP/2.0 200 OK\r\nVia: {}\r\nFrom: {}\r\nTo: {};tag=p\r\nCall-ID: {}\r\nCSeq: {}\r\nContent-Length: 0\r\n\r\n",
            kept[0], kept[1], kept[2], kept[3], kept[4]
        ))
        .await;
    }
    assert_eq!(b.agent.contacts("8001").len(), 1, "it answered");
    // From here on it is silent.
    assert_eq!(b.next().await, SipEvent::Registered { user: "8001".into(), contacts: 0 });
    assert!(b.agent.contacts("8001").is_empty());
    assert_eq!(b.agent.counters().silent_phones, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_taken_back_is_not_refreshed() {
    let phone = Side::new(SipSettings { renew_least: Duration::from_millis(200), ..settings() }).await;
    let server = Client::new(phone.agent.local_addr()).await;
    let at = server.socket.local_addr().unwrap();
    let credential = Credential { user: "8001".into(), password: "geheim".into(), realm: None };
    for seconds in [300, 0] {
        let (agent, credential) = (phone.agent.clone(), credential.clone());
        let asking = tokio::spawn(async move { agent.register(at, &credential, seconds).await });
        let register = server.request_heard().await;
        let kept = ["Via", "From", "To", "Call-ID", "CSeq"].map(|n| format!("{n}: {}\r\n", header(&register, n)));
        let granted = seconds.min(1);
        let (address, _) = header(&register, "Contact").split_once('>').unwrap();
        let contact = format!("Contact: <sip:8001@192.0.2.9>;expires=99, {address}>;expires={granted}\r\n");
        let answer = format!("SIP/2.0 200 OK\r\n{}{contact}Content-Length: 0\r\n\r\n", kept.concat());
        server.send(&answer.replace("\r\nCall-ID", ";tag=s\r\nCall-ID")).await;
        assert_eq!(asking.await.unwrap(), Ok(granted));
    }
    // A registration of a second is refreshed after 200 ms.
    assert!(server.hears_nothing(1500).await, "it was refreshed");
}
