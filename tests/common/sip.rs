//! Two agents, and a hand-written SIP client.

use md5::{Digest, Md5};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc::Receiver;
use zongji::sip::{Dial, DialogId, SipAgent, SipEvent, SipSettings};

pub const OFFER: &str =
    "v=0\r\no=a 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8\r\n";
pub const ANSWER: &str =
    "v=0\r\no=b 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40002 RTP/AVP 8\r\n";
pub const LIMIT: Duration = Duration::from_secs(10);

pub fn settings() -> SipSettings {
    SipSettings { bind: "127.0.0.1:0".parse().unwrap(), ..SipSettings::default() }
}

pub struct Side {
    pub agent: SipAgent,
    pub events: Receiver<SipEvent>,
}

impl Side {
    pub async fn new(settings: SipSettings) -> Side {
        let (agent, events) = SipAgent::start(settings).await.expect("sockets on loopback");
        Side { agent, events }
    }

    pub async fn next(&mut self) -> SipEvent {
        tokio::time::timeout(LIMIT, self.events.recv()).await.expect("an event in time").expect("an open agent")
    }

    /// The next event must be a call.
    pub async fn called(&mut self) -> DialogId {
        match self.next().await {
            SipEvent::Invite { dialog, .. } => dialog,
            other => panic!("expected a call, got {other:?}"),
        }
    }

    pub async fn settled(&self) {
        let left = || self.agent.counters().calls + self.agent.counters().dialogs;
        super::until("no call and no dialog is left", || left() == 0).await;
    }
}

pub async fn pair() -> (Side, Side) {
    (Side::new(settings()).await, Side::new(settings()).await)
}

pub fn dial(to: &Side, user: &str, more: &str) -> Dial {
    Dial {
        to: format!("sip:{user}@{}{more}", to.agent.local_addr()),
        from: "13800138000".into(),
        display: Some("张 \"三\"".into()),
        sdp: OFFER.into(),
        ..Dial::default()
    }
}

/// A call from `a` to `b`, answered; both dialogs.
pub async fn connected(a: &mut Side, b: &mut Side, more: &str) -> (DialogId, DialogId) {
    let out = a.agent.dial(dial(b, "400", more)).await.unwrap();
    let into = b.called().await;
    b.agent.ring(into).await;
    assert_eq!(a.next().await, SipEvent::Progress { dialog: out, code: 180, sdp: None });
    b.agent.answer(into, ANSWER.into()).await;
    assert_eq!(a.next().await, SipEvent::Answered { dialog: out, sdp: Some(ANSWER.into()) });
    assert_eq!(b.next().await, SipEvent::Ack { dialog: into, sdp: None });
    (out, into)
}

/// A SIP client by hand, over UDP.
pub struct Client {
    pub socket: UdpSocket,
    pub to: SocketAddr,
}

impl Client {
    pub async fn new(to: SocketAddr) -> Client {
        Client { socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(), to }
    }

    #[allow(clippy::too_many_arguments)] // a SIP request has that many parts
    pub fn request(
        &self,
        method: &str,
        user: &str,
        id: &str,
        cseq: u32,
        to_tag: &str,
        more: &str,
        sdp: &str,
    ) -> String {
        let me = self.socket.local_addr().unwrap();
        let kind = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        // ACK of a refusal and CANCEL share the INVITE's branch; the others have their own.
        let branch = if method == "CANCEL" { "INVITE" } else { method };
        format!(
            "{method} sip:{user}@{} SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch=z9hG4bK{id}{branch}{cseq};rport\r\n\
             From: <sip:c@{me}>;tag=f{id}\r\nTo: <sip:{user}@h>{to_tag}\r\nCall-ID: {id}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:c@{me}>\r\nMax-Forwards: 70\r\n{more}{kind}Content-Length: {}\r\n\r\n{sdp}",
            self.to,
            sdp.len()
        )
    }

    pub async fn send(&self, text: &str) {
        self.socket.send_to(text.as_bytes(), self.to).await.unwrap();
    }

    pub async fn hear(&self) -> String {
        let mut buf = vec![0u8; 65_536];
        let got = tokio::time::timeout(LIMIT, self.socket.recv_from(&mut buf)).await.expect("something in time");
        String::from_utf8_lossy(&buf[..got.unwrap().0]).into_owned()
    }

    pub async fn hears_nothing(&self, ms: u64) -> bool {
        let mut buf = vec![0u8; 65_536];
        tokio::time::timeout(Duration::from_millis(ms), self.socket.recv_from(&mut buf)).await.is_err()
    }

    /// The next final response.
    pub async fn final_answer(&self) -> String {
        loop {
            let text = self.hear().await;
            if text.starts_with("SIP/2.0 ") && &text[8..9] != "1" {
                return text;
            }
        }
    }

    /// The next request.
    pub async fn request_heard(&self) -> String {
        loop {
            let text = self.hear().await;
            if !text.starts_with("SIP/2.0 ") {
                return text;
            }
        }
    }
}

pub fn header<'a>(text: &'a str, name: &str) -> &'a str {
    let start = format!("{}:", name.to_ascii_lowercase());
    let line = text.lines().find(|l| l.to_ascii_lowercase().starts_with(&start));
    line.and_then(|l| l.split_once(':')).map(|(_, v)| v.trim()).unwrap_or_default()
}

fn md5_hex(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}

/// The header that answers a challenge (401 or 407) for a request: its method and Request-URI.
pub fn authorization(challenge: &str, (user, password): (&str, &str), nc: u32, (method, uri): (&str, &str)) -> String {
    let nonce = challenge.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap();
    let (a1, a2) = (md5_hex(&format!("{user}:zongji:{password}")), md5_hex(&format!("{method}:{uri}")));
    let response = md5_hex(&format!("{a1}:{nonce}:{nc:08x}:k:auth:{a2}"));
    let name = if challenge.starts_with("SIP/2.0 407") { "Proxy-Authorization" } else { "Authorization" };
    format!(
        "{name}: Digest username=\"{user}\", realm=\"zongji\", nonce=\"{nonce}\", uri=\"{uri}\", \
         response=\"{response}\", algorithm=MD5, qop=auth, nc={nc:08x}, cnonce=\"k\"\r\n"
    )
}

pub fn tag_of(text: &str) -> String {
    format!(";tag={}", header(text, "To").split(";tag=").nth(1).unwrap_or_default())
}
