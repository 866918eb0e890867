//! The far end of a call by hand: a carrier's server or a desk phone that is called, answers as it is told, and asks for
//! things itself.

use super::sip::{ANSWER, Client, authorization, header};
use super::wire::g711_packet;
use std::collections::{HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};
use zongji::server::outbound::{Role, Rule};
use zongji::server::trunks::{Server, Trunk};

/// Longest wait for a message.
const PATIENCE: Duration = Duration::from_secs(40);

/// A carrier with one server, which shows a number of ours and is not asked how it does.
pub fn trunk(name: &str, server: SocketAddr) -> Trunk {
    Trunk {
        name: name.into(),
        servers: vec![Server { address: format!("sip:{server}"), priority: 0, weight: 1 }],
        shows: Some("4001234567".into()),
        options_s: 0,
        ..Trunk::default()
    }
}

/// Who may call the numbers of one town, so many at once.
pub fn may_call_out(role: Role, at_once: u32) -> Vec<Rule> {
    vec![Rule { role, allow: vec!["010".into()], deny: vec![], at_once, per_hour: 100 }]
}

/// Signalling and media of one end.
pub struct Far {
    pub c: Client,
    pub media: Arc<UdpSocket>,
    /// What it is called by: the user of its Contact; its tag is made of it.
    user: String,
    /// The INVITE of the call it was called for.
    pub invite: String,
    mail: Mutex<Mail>,
    /// Packets of sound so far.
    sent: AtomicU32,
}

/// What has come and nobody asked for yet, without what was sent twice: on a slow machine everything may be.
#[derive(Default)]
struct Mail {
    waiting: VecDeque<String>,
    seen: HashSet<String>,
}

fn is_response(text: &str) -> bool {
    text.starts_with("SIP/2.0 ")
}

fn method(request: &str) -> &str {
    request.split(' ').next().unwrap_or_default()
}

impl Far {
    /// One at an address; what it says goes to `c.to`.
    pub async fn at(ip: impl Into<IpAddr>, to: SocketAddr) -> Far {
        let ip = ip.into();
        let bind = || UdpSocket::bind((ip, 0));
        let c = Client { socket: bind().await.expect("a socket"), to };
        let media = Arc::new(bind().await.expect("a socket"));
        Far { c, media, user: "far".into(), invite: String::new(), mail: Mutex::default(), sent: AtomicU32::new(0) }
    }

    /// A seat's phone that has registered.
    pub async fn registered(to: SocketAddr, user: (&str, &str)) -> Far {
        let mut far = Far::at([127, 0, 0, 1], to).await;
        far.user = user.0.into();
        let id = format!("reg{}", user.0);
        far.c.send(&far.c.request("REGISTER", user.0, &id, 1, "", "", "")).await;
        let challenge = far.c.final_answer().await;
        let proof = authorization(&challenge, user, 1, ("REGISTER", &format!("sip:{}@{to}", user.0)));
        far.c.send(&far.c.request("REGISTER", user.0, &id, 2, "", &proof, "")).await;
        assert!(far.c.final_answer().await.starts_with("SIP/2.0 200"));
        far
    }

    /// Where it is called.
    pub fn address(&self) -> SocketAddr {
        self.c.socket.local_addr().expect("its address")
    }

    /// Its tag, as it stands behind `tag=`.
    pub fn tag(&self) -> String {
        format!("far{}", self.user)
    }

    /// The description it answers with.
    pub fn description(&self) -> String {
        let media = self.media.local_addr().expect("its address");
        let here = ANSWER.replace("40002", &media.port().to_string());
        here.replace("c=IN IP4 127.0.0.1", &format!("c=IN IP4 {}", media.ip()))
    }

    fn mail(&self) -> std::sync::MutexGuard<'_, Mail> {
        self.mail.lock().expect("nobody panics with it")
    }

    /// The first message that fits, of those that wait or come in time. Others wait on. OPTIONS are answered.
    async fn take(&self, limit: Duration, fits: impl Fn(&str) -> bool) -> Option<String> {
        let end = Instant::now() + limit;
        let mut buffer = vec![0u8; 65_536];
        loop {
            {
                let mut mail = self.mail();
                if let Some(n) = mail.waiting.iter().position(|t| fits(t)) {
                    return mail.waiting.remove(n);
                }
            }
            let (len, _) = timeout_at(end, self.c.socket.recv_from(&mut buffer)).await.ok()?.expect("readable");
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if text.starts_with("OPTIONS ") {
                self.reply(&text, "200 OK").await;
                continue;
            }
            let first = text.lines().next().unwrap_or_default();
            let key = format!("{first} {} {}", header(&text, "Call-ID"), header(&text, "CSeq"));
            let mut mail = self.mail();
            if mail.seen.insert(key) {
                mail.waiting.push_back(text);
            }
        }
    }

    /// The next request.
    pub async fn asked(&self) -> String {
        self.take(PATIENCE, |t| !is_response(t)).await.expect("a request in time")
    }

    /// The next request, which must be of this method.
    pub async fn asked_to(&self, what: &str) -> String {
        let text = self.asked().await;
        assert_eq!(method(&text), what, "{text}");
        text
    }

    /// Whether no request of these methods comes for so long: others may, and what was sent twice, on a slow machine.
    pub async fn is_not_asked_to(&self, methods: &[&str], ms: u64) -> bool {
        let asked = |t: &str| !is_response(t) && methods.contains(&method(t));
        self.take(Duration::from_millis(ms), asked).await.is_none()
    }

    /// The final answer to a request of its own.
    pub async fn answered(&self, method: &str, cseq: u32) -> String {
        let fits =
            |t: &str| is_response(t) && !t.starts_with("SIP/2.0 1") && header(t, "CSeq") == format!("{cseq} {method}");
        self.take(PATIENCE, fits).await.unwrap_or_else(|| panic!("no answer to {cseq} {method}"))
    }

    /// Waits until it is called.
    pub async fn called(&mut self) {
        self.invite = self.asked_to("INVITE").await;
    }

    /// Answers a request, without a body.
    pub async fn reply(&self, request: &str, status: &str) {
        self.respond(request, status, "").await;
    }

    /// Answers a request with its own description.
    pub async fn reply_with_sound(&self, request: &str, status: &str) {
        self.respond(request, status, &self.description()).await;
    }

    async fn respond(&self, request: &str, status: &str, sdp: &str) {
        let (me, user) = (self.address(), &self.user);
        let to = header(request, "To");
        let tag = if to.contains(";tag=") { String::new() } else { format!(";tag={}", self.tag()) };
        let kept = ["Via", "From", "Call-ID", "CSeq"].map(|n| format!("{n}: {}\r\n", header(request, n))).concat();
        let kind = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "SIP/2.0 {status}\r\n{kept}To: {to}{tag}\r\nContact: <sip:{user}@{me}>\r\n{kind}Content-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        );
        self.c.send(&text).await;
    }

    /// Answers the call and waits until that is confirmed.
    pub async fn answer(&self) {
        self.reply_with_sound(&self.invite, "200 OK").await;
        self.asked_to("ACK").await;
    }

    /// Takes the next call.
    pub async fn take_call(&mut self) {
        self.called().await;
        self.answer().await;
    }

    /// Where requests of its own within the call go.
    pub fn target(&self) -> &str {
        header(&self.invite, "Contact").trim_matches(['<', '>'])
    }

    /// Asks for something within the call it was called for; the answer.
    pub async fn ask(&self, method: &str, cseq: u32, more: &str, body: &str) -> String {
        self.send(method, cseq, more, body).await;
        self.answered(method, cseq).await
    }

    async fn send(&self, method: &str, cseq: u32, more: &str, body: &str) {
        let (me, user, target) = (self.address(), &self.user, self.target());
        let (from, to) = (header(&self.invite, "To"), header(&self.invite, "From"));
        let text = format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch=z9hG4bK{user}{method}{cseq};rport\r\n\
             From: {from};tag={}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:{user}@{me}>\r\nMax-Forwards: 70\r\n{more}Content-Length: {}\r\n\r\n{body}",
            self.tag(),
            header(&self.invite, "Call-ID"),
            body.len()
        );
        self.c.send(&text).await;
    }

    /// Ends the call.
    pub async fn hang_up(&self, cseq: u32) {
        self.send("BYE", cseq, "", "").await;
    }

    /// Where the call's INVITE wants sound.
    fn listens(&self) -> SocketAddr {
        let port = self.invite.lines().find_map(|l| l.strip_prefix("m=audio ")?.split(' ').next()?.parse().ok());
        SocketAddr::from(([127, 0, 0, 1], port.expect("a port")))
    }

    /// Says something into the call in real time.
    pub async fn say(&self, pcm: &[i16]) {
        let to = self.listens();
        let mut clock = tokio::time::interval(Duration::from_millis(20));
        for frame in pcm.chunks(160) {
            clock.tick().await;
            let n = self.sent.fetch_add(1, Ordering::Relaxed);
            self.media.send_to(&g711_packet(n, 9, frame), to).await.expect("sent");
        }
    }

    /// Plays sound into the call until it is dropped; each frame is asked for by its number.
    pub fn plays(&self, mut sound: impl FnMut(usize) -> [i16; 160] + Send + 'static) -> Playing {
        let (media, to) = (self.media.clone(), self.listens());
        let (count, played) = tokio::sync::watch::channel(0);
        let mut task = tokio::task::JoinSet::new();
        task.spawn(async move {
            let mut clock = tokio::time::interval(Duration::from_millis(20));
            for n in 0u32.. {
                clock.tick().await;
                media.send_to(&g711_packet(n, 9, &sound(n as usize)), to).await.expect("sent");
                count.send_replace(n + 1);
            }
        });
        Playing { played, _task: task }
    }
}

/// Sound that is played.
pub struct Playing {
    played: tokio::sync::watch::Receiver<u32>,
    _task: tokio::task::JoinSet<()>,
}

impl Playing {
    /// Waits until so many packets of 20 ms have been played.
    pub async fn until(&mut self, packets: u32) {
        let done = self.played.wait_for(|n| *n >= packets);
        tokio::time::timeout(PATIENCE, done).await.expect("in time").expect("it plays");
    }
}
