//! Seats that call: they prove who they are, and only then may they call inside.

use crate::common::sip::*;
use zongji::sip::*;

/// Two seats; 400 is the only number of the outside.
fn two_seats() -> SipSettings {
    let account = |user: &str, password: &str| Account { user: user.into(), password: password.into() };
    let accounts = vec![account("8001", "geheim"), account("8002", "auch")];
    SipSettings { accounts, users: Served::from_list(["400".into()]), ..settings() }
}

/// A request whose From is a seat's address.
fn as_seat(request: &str, c: &Client, seat: &str) -> String {
    let me = c.socket.local_addr().unwrap();
    request.replace(&format!("From: <sip:c@{me}>"), &format!("From: <sip:{seat}@{}>", c.to))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_that_calls_proves_its_password_and_reaches_another_seat() {
    let mut b = Side::new(two_seats()).await;
    let c = Client::new(b.agent.local_addr()).await;
    let uri = format!("sip:8002@{}", c.to);
    let ask = async |cseq: u32, auth: &str| {
        c.send(&as_seat(&c.request("INVITE", "8002", "inside", cseq, "", auth, OFFER), &c, "8001")).await;
    };
    ask(1, "").await;
    let challenge = c.final_answer().await;
    assert!(challenge.starts_with("SIP/2.0 407") && challenge.contains("SHA-256"), "{challenge}");
    ask(2, &authorization(&challenge, ("8001", "falsch"), 1, ("INVITE", &uri))).await;
    assert!(c.final_answer().await.starts_with("SIP/2.0 407"), "a wrong password");
    ask(3, &authorization(&challenge, ("8001", "geheim"), 1, ("INVITE", "sip:400@elsewhere"))).await;
    assert!(c.final_answer().await.starts_with("SIP/2.0 407"), "an answer made for another number");
    ask(4, &authorization(&challenge, ("8002", "auch"), 1, ("INVITE", &uri))).await;
    assert!(c.final_answer().await.starts_with("SIP/2.0 403"), "somebody else's address");
    let right = authorization(&challenge, ("8001", "geheim"), 2, ("INVITE", &uri));
    ask(5, &right).await;
    let SipEvent::Invite { dialog, to_user, seat, .. } = b.next().await else { panic!("a call") };
    assert_eq!((to_user.as_str(), seat.as_deref()), ("8002", Some("8001")));
    ask(5, &right).await; // its retransmission is no second call and no replay
    b.agent.reject(dialog, 486, None).await;
    assert!(c.final_answer().await.starts_with("SIP/2.0 486"));
    let other = Client::new(b.agent.local_addr()).await;
    other.send(&as_seat(&other.request("INVITE", "8002", "thief", 1, "", &right, OFFER), &other, "8001")).await;
    let replayed = other.final_answer().await;
    assert!(replayed.starts_with("SIP/2.0 407") && replayed.contains("stale=true"), "{replayed}");
    assert_eq!((b.agent.counters().calls_in, b.agent.counters().unauthorized), (1, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_reaches_the_hotline_unasked_and_no_seat() {
    let mut b = Side::new(two_seats()).await;
    let c = Client::new(b.agent.local_addr()).await;
    c.send(&c.request("INVITE", "8002", "stranger", 1, "", "", OFFER)).await;
    assert!(c.final_answer().await.starts_with("SIP/2.0 404"));
    c.send(&c.request("INVITE", "400", "caller", 1, "", "", OFFER)).await;
    let SipEvent::Invite { dialog, seat, .. } = b.next().await else { panic!("a call") };
    assert_eq!(seat, None);
    b.agent.reject(dialog, 486, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_of_ours_answers_the_challenge_by_itself() {
    let (mut a, mut b) = (Side::new(settings()).await, Side::new(two_seats()).await);
    let credential = Some(Credential { user: "8001".into(), password: "geheim".into(), realm: None });
    let call = Dial { from: format!("sip:8001@{}", b.agent.local_addr()), credential, ..dial(&b, "8002", "") };
    let out = a.agent.dial(call).await.unwrap();
    let SipEvent::Invite { dialog, seat, .. } = b.next().await else { panic!("a call") };
    assert_eq!(seat.as_deref(), Some("8001"));
    b.agent.answer(dialog, ANSWER.into()).await;
    assert_eq!(a.next().await, SipEvent::Answered { dialog: out, sdp: Some(ANSWER.into()) });
    assert_eq!(b.next().await, SipEvent::Ack { dialog, sdp: None });
    a.agent.hangup(out).await;
    assert_eq!(b.next().await, SipEvent::Bye { dialog });
    a.settled().await;
    b.settled().await;
}
