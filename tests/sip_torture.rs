//! RFC 4475 and RFC 5118 messages, and plain noise, against a running agent over real sockets.
//!
//! The messages lie outside the repository; without them the test says so and passes.

use crate::common::secure::{Web, certificate, trusting};
use crate::common::sip::authorization;
use futures_util::{SinkExt, StreamExt};
use rand::{RngExt, SeedableRng};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_tungstenite::tungstenite::Message;
use zongji::sip::{Account, Listeners, SipAgent, SipEvent, SipSettings, TlsFiles, Transport};

const DATA: &str = "../shared/data/sip/torture";
/// What every message is tried by.
const ALL: [Transport; 5] = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];
const PATIENCE: Duration = Duration::from_millis(1500);

/// Whether where a message ends is for us to find.
fn is_stream(by: Transport) -> bool {
    matches!(by, Transport::Tcp | Transport::Tls)
}

/// Who called whom.
type Calls = Arc<Mutex<Vec<(String, String)>>>;

/// An agent on loopback whose application refuses every call with 486: a 486 proves the call got through.
async fn busy_agent(accounts: &[&str]) -> (Target, Calls) {
    let dir = tempfile::tempdir().unwrap();
    let files = certificate(dir.path());
    let any = Some("127.0.0.1:0".parse().unwrap());
    let account = |u: &&str| Account { user: u.to_string(), password: "geheim".into() };
    let settings = SipSettings {
        bind: "127.0.0.1:0".parse().unwrap(),
        listeners: Listeners { tls: any, ws: any, wss: any, certificate: Some(files.clone()) },
        accounts: accounts.iter().map(account).collect(),
        tcp_message_limit: Duration::from_millis(400),
        t1: Duration::from_millis(20),
        ..SipSettings::default()
    };
    let (agent, mut events) = SipAgent::start(settings).await.expect("sockets on loopback");
    let (refuser, calls) = (agent.clone(), Calls::default());
    let seen = calls.clone();
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let SipEvent::Invite { dialog, from_user, to_user, .. } = event {
                seen.lock().unwrap().push((from_user, to_user));
                refuser.reject(dialog, 486, None).await;
            }
        }
    });
    (Target { agent, files, _dir: dir }, calls)
}

/// What came back for one message.
#[derive(Debug, Default)]
struct Heard {
    finals: Vec<(u16, String)>,
    closed: bool,
}

impl Heard {
    fn take(&mut self, text: &str) {
        let code: u16 = text.get(8..11).and_then(|c| c.parse().ok()).unwrap_or(0);
        if text.starts_with("SIP/2.0 ") && code >= 200 {
            self.finals.push((code, text.to_string()));
        }
    }

    fn code(&self) -> Option<u16> {
        self.finals.first().map(|(c, _)| *c)
    }
}

async fn over_udp(to: SocketAddr, bytes: &[u8], patience: Duration) -> Heard {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(bytes, to).await.unwrap();
    let (mut heard, mut buf) = (Heard::default(), vec![0u8; 65_536]);
    while heard.finals.is_empty() {
        match tokio::time::timeout(patience, socket.recv_from(&mut buf)).await {
            Ok(Ok((n, _))) => heard.take(&String::from_utf8_lossy(&buf[..n])),
            _ => break,
        }
    }
    heard
}

/// Over a byte stream; `step` bytes at a time.
async fn over_stream<S>(mut stream: S, bytes: &[u8], step: usize, patience: Duration) -> Heard
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    for piece in bytes.chunks(step) {
        if stream.write_all(piece).await.is_err() || stream.flush().await.is_err() {
            break; // closed after what came before
        }
    }
    let (mut heard, mut all, mut buf) = (Heard::default(), Vec::new(), vec![0u8; 65_536]);
    loop {
        // After an answer only a moment is left for the connection to be closed.
        let wait = if heard.finals.is_empty() { patience } else { Duration::from_millis(100) };
        match tokio::time::timeout(wait, stream.read(&mut buf)).await {
            Ok(Ok(0)) | Ok(Err(_)) => {
                heard.closed = true;
                break;
            }
            Ok(Ok(n)) => all.extend_from_slice(&buf[..n]),
            Err(_) => break,
        }
        while let Some(end) = all.windows(4).position(|w| w == b"\r\n\r\n") {
            let head: Vec<u8> = all.drain(..end + 4).collect();
            heard.take(&String::from_utf8_lossy(&head));
        }
    }
    heard
}

/// In a WebSocket frame.
async fn over_web<S>(stream: S, bytes: &[u8], patience: Duration) -> Heard
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut web = Web::over(stream).await;
    let frame = match std::str::from_utf8(bytes) {
        Ok(text) => Message::text(text),
        Err(_) => Message::binary(bytes.to_vec()),
    };
    web.socket.send(frame).await.unwrap();
    let mut heard = Heard::default();
    loop {
        let wait = if heard.finals.is_empty() { patience } else { Duration::from_millis(100) };
        match tokio::time::timeout(wait, web.socket.next()).await {
            Ok(Some(Ok(Message::Text(text)))) => heard.take(&text),
            Ok(Some(Ok(Message::Binary(bytes)))) => heard.take(&String::from_utf8_lossy(&bytes)),
            Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => {
                heard.closed = true;
                break;
            }
            Ok(Some(Ok(_))) => {}
            Err(_) => break,
        }
    }
    heard
}

async fn send(by: Transport, to: &Target, bytes: &[u8], patience: Duration) -> Heard {
    send_in_pieces(by, to, bytes, usize::MAX, patience).await
}

async fn send_in_pieces(by: Transport, to: &Target, bytes: &[u8], step: usize, patience: Duration) -> Heard {
    let at = to.agent.listens_on(by).expect("the agent listens there");
    if by == Transport::Udp {
        return over_udp(at, bytes, patience).await;
    }
    let stream = TcpStream::connect(at).await.unwrap();
    stream.set_nodelay(true).unwrap();
    match by {
        Transport::Udp => unreachable!("sent above"),
        Transport::Tcp => over_stream(stream, bytes, step, patience).await,
        Transport::Tls => over_stream(trusting(&to.files, stream).await, bytes, step, patience).await,
        Transport::Ws => over_web(stream, bytes, patience).await,
        Transport::Wss => over_web(trusting(&to.files, stream).await, bytes, patience).await,
    }
}

/// An agent, and what its certificate is known by.
struct Target {
    agent: SipAgent,
    files: TlsFiles,
    _dir: tempfile::TempDir,
}

async fn still_answers(to: &Target, by: Transport, name: &str) {
    let at = to.agent.local_addr();
    let ping = format!(
        "OPTIONS sip:{at} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKping;rport\r\nFrom: <sip:p@h>;tag=p\r\n\
         To: <sip:{at}>\r\nCall-ID: ping\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    );
    let heard = send(by, to, ping.as_bytes(), PATIENCE).await;
    assert_eq!(heard.code(), Some(200), "after {name} OPTIONS was answered {heard:?}");
}

#[derive(Debug, PartialEq)]
enum Want {
    /// One of these codes.
    Codes(Vec<u16>),
    /// The message does what it asks for.
    Accepted,
    Silence,
}

fn want(file: &str, class: &str, expect: &str, by: Transport) -> Want {
    let codes: Vec<u16> = expect
        .split(|c: char| !c.is_ascii_digit())
        .filter(|w| w.len() == 3)
        .filter_map(|w| w.parse().ok())
        .filter(|c| (200..700).contains(c) && *c != 483)
        .collect();
    let names_code = matches!(file, "esc02.dat" | "intmeth.dat" | "mpart01.dat");
    match class {
        _ if expect.contains("drop response") || expect.contains("accept response") => Want::Silence,
        "invalid" if file == "clerr.dat" && is_stream(by) => Want::Silence,
        "invalid" => Want::Codes(codes),
        "either" => Want::Codes(vec![400, 200, 486, 401]),
        "valid-syntax" if !codes.is_empty() => Want::Codes(codes),
        _ if names_code => Want::Codes(codes),
        _ => Want::Accepted,
    }
}

fn header_with(code: u16) -> Option<&'static str> {
    match code {
        405 | 501 => Some("\r\nAllow: "),
        406 | 415 => Some("\r\nAccept: "),
        420 => Some("\r\nUnsupported: nothingSupportsThis"),
        401 => Some("\r\nWWW-Authenticate: Digest "),
        _ => None,
    }
}

/// User part of To, and a tag in it.
fn to_header(text: &str) -> (String, bool) {
    let lower = text.to_ascii_lowercase();
    let at = lower.find("\nto").or_else(|| lower.find("\nt:")).unwrap();
    let value = text[at + 1..].split_once(':').unwrap().1;
    let line: String = value
        .split("\r\n")
        .scan(0, |n, l| {
            *n += 1;
            (*n == 1 || l.starts_with(' ')).then_some(l)
        })
        .collect();
    let user = line.split("sip:").nth(1).and_then(|r| r.split('@').next()).unwrap_or_default();
    (user.to_string(), line.replace(' ', "").contains(";tag="))
}

/// The same request with the right digest for the challenge in `answer`.
fn with_digest(bytes: &[u8], answer: &str, user: &str) -> Vec<u8> {
    let line = bytes.windows(2).position(|w| w == b"\r\n").unwrap() + 2;
    let first = String::from_utf8_lossy(&bytes[..line]).into_owned();
    let (method, rest) = first.split_once(' ').unwrap();
    let uri = rest.trim().rsplit_once(' ').unwrap().0.trim();
    let header = authorization(answer, (user, "geheim"), 1, (method, uri));
    [&bytes[..line], header.as_bytes(), &bytes[line..]].concat()
}

/// Sends it and judges the answer; gives the last one.
async fn judge(
    file: &str,
    class: &str,
    expect: &str,
    bytes: &[u8],
    to: &Target,
    by: Transport,
) -> Result<String, String> {
    let want = want(file, class, expect, by);
    let patience = if want == Want::Silence && !is_stream(by) { Duration::from_millis(150) } else { PATIENCE };
    let heard = send(by, to, bytes, patience).await;
    let text = String::from_utf8_lossy(bytes);
    let fail = |why: &str| Err(format!("{file} ({by}): wanted {want:?}, {why}: {heard:?}"));
    if let Some((code, answer)) = heard.finals.first()
        && let Some(header) = header_with(*code)
        && !answer.contains(header)
    {
        return fail("but the answer lacks its header");
    }
    let must_close = is_stream(by) && matches!(file, "mcl01.dat" | "ncl.dat" | "clerr.dat");
    if must_close && !heard.closed {
        return fail("and the connection closed");
    }
    let mut last = heard.finals.last().map(|(_, text)| text.clone()).unwrap_or_default();
    let fits = match &want {
        Want::Silence => heard.finals.is_empty(),
        Want::Codes(codes) => heard.code().is_some_and(|c| codes.contains(&c)),
        Want::Accepted => {
            let (user, in_dialog) = to_header(&text);
            match text.split(' ').next().unwrap_or_default() {
                "OPTIONS" => heard.code() == Some(200),
                "INVITE" if in_dialog => heard.code() == Some(481),
                // Its From is one of the phones that the REGISTERs are for.
                "INVITE" if heard.code() == Some(407) => {
                    let proved = with_digest(bytes, &last, "user");
                    let second = send(by, to, &proved, PATIENCE).await;
                    last = second.finals.last().map(|(_, text)| text.clone()).unwrap_or_default();
                    second.code() == Some(486)
                }
                "INVITE" => heard.code() == Some(486),
                "REGISTER" => {
                    let Some((401, challenge)) = heard.finals.first() else { return fail("no challenge") };
                    let second = send(by, to, &with_digest(bytes, challenge, &user), PATIENCE).await;
                    last = second.finals.last().map(|(_, text)| text.clone()).unwrap_or_default();
                    second.code() == Some(200)
                }
                _ => heard.code() == Some(481),
            }
        }
    };
    if fits { Ok(last) } else { fail("heard something else") }
}

/// What the last answer must carry unharmed, and what it must not.
fn carried(file: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match file {
        "esc02.dat" => (&["29344 RE%47IST%45R\r\n"], &["alias"]),
        "intmeth.dat" => (
            &[
                "139122385 !interesting-Method0123456789_*+`.%indeed'~\r\n",
                "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{\r\n",
                ";tag=_token~1'+`*%!-.",
            ],
            &[],
        ),
        "escnull.dat" => (&["<sip:%00@host5.example.com>", "<sip:%00%00@host5.example.com>"], &[]),
        "regescrt.dat" => (&["<sip:user@example.com?Route=%3Csip:sip.example.com%3E>"], &["\r\nRoute:"]),
        "escruri.dat" => (&[], &["\r\nRoute:", "\r\nRecord-Route:"]),
        "cparam01.dat" => (&["sip:+19725552222@gw1.example.net"], &["gw1.example.net;unknownparam>"]),
        "cparam02.dat" => (&["<sip:+19725552222@gw1.example.net;unknownparam>"], &[]),
        "wsinv.dat" => (&["9 INVITE\r\n", "98asjd8", "1918181833n"], &[]),
        "longreq.dat" => {
            (&["sip33.example.com", "sip4.example.com", "1298298298298298298298298298298298298298298298"], &[])
        }
        "transports.dat" => (&["SIP/2.0/UNKNOWN", "SIP/2.0/SCTP"], &[]),
        "mult-ip-in-header" => (&["[2001:db8::9:1]:6050", "192.0.2.1;", "[2001:db8::9:255]"], &[]),
        "via-received-param-with-delim" | "via-received-param-no-delim" => {
            (&["received=127.0.0.1"], &["2001:db8::9:255"])
        }
        _ => (&[], &[]),
    }
}

/// The column of what must not happen, where something of it can be seen from outside.
fn unharmed(
    file: &str,
    class: &str,
    by: Transport,
    answer: &str,
    agent: &SipAgent,
    calls: &Calls,
) -> Result<(), String> {
    let (with, without) = carried(file);
    let calls = calls.lock().unwrap().clone();
    let registered = agent.counters().registered;
    if let Some(lost) = with.iter().find(|w| !answer.contains(**w)) {
        return Err(format!("{file}: {lost:?} is not in {answer}"));
    }
    if let Some(there) = without.iter().find(|w| answer.contains(**w)) {
        return Err(format!("{file}: {there:?} is in {answer}"));
    }
    let call = |from: &str, to: &str| vec![(from.to_string(), to.to_string())];
    let wanted = match file {
        "esc01.dat" => call("I have spaces", "sips:user@example.com"),
        // On a stream the second message is a message.
        "dblreq.dat" if !is_stream(by) => vec![],
        _ if class == "invalid" => vec![],
        _ => calls.clone(),
    };
    if calls != wanted {
        return Err(format!("{file}: wanted the calls {wanted:?}, saw {calls:?}"));
    }
    if registered > 0 && (class == "invalid" || file == "regaut01.dat") {
        return Err(format!("{file}: it registered somebody"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_torture_message_gets_what_the_rfcs_say_over_each_transport() {
    let Ok(verdicts) = std::fs::read_to_string(Path::new(DATA).join("verdicts.csv")) else {
        crate::common::skipped(format_args!("{DATA}/verdicts.csv is not there; no RFC 4475/5118 message was tried"));
        return;
    };
    let slots = Arc::new(tokio::sync::Semaphore::new(8));
    let mut running = tokio::task::JoinSet::new();
    for line in verdicts.lines().skip(1) {
        for by in ALL {
            let (fields, slots) = (csv(line), slots.clone());
            running.spawn(async move {
                let _slot = slots.acquire().await;
                one_message(&fields, by).await
            });
        }
    }
    let (mut tried, mut wrong) = (0, Vec::new());
    while let Some(done) = running.join_next().await {
        tried += 1;
        wrong.extend(done.expect("no panic").err());
    }
    assert!(wrong.is_empty(), "{} of {tried} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(tried >= 100, "only {tried} messages");
}

/// Sends one message of the list; several share a Call-ID, so each gets an agent that has not seen it yet.
async fn one_message(fields: &[String], by: Transport) -> Result<(), String> {
    let (suite, file, class, expect) = (&fields[0], &fields[1], &fields[3], &fields[4]);
    let bytes = std::fs::read(Path::new(DATA).join(suite).join(file)).expect("a message of the list");
    let (target, calls) = busy_agent(&["watson", "j.user", "null-%00-null", "user"]).await;
    let judged = judge(file, class, expect, &bytes, &target, by).await;
    still_answers(&target, by, file).await;
    let agent = &target.agent;
    settled(agent).await;
    assert_eq!(agent.counters().panics, 0, "{file} made us panic");
    let judged = judged.and_then(|answer| unharmed(file, class, by, &answer, agent, &calls));
    agent.shutdown().await;
    judged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torture_message_that_comes_byte_by_byte_means_the_same() {
    let Ok(verdicts) = std::fs::read_to_string(Path::new(DATA).join("verdicts.csv")) else {
        crate::common::skipped(format_args!("{DATA}/verdicts.csv is not there; no message was sent byte by byte"));
        return;
    };
    for by in [Transport::Tcp, Transport::Tls] {
        for fields in verdicts.lines().skip(1).map(csv) {
            let (suite, file) = (&fields[0], &fields[1]);
            let bytes = std::fs::read(Path::new(DATA).join(suite).join(file)).expect("a message of the list");
            let (target, _) = busy_agent(&[]).await;
            let whole = send(by, &target, &bytes, Duration::from_millis(600)).await.code();
            let (target, _) = busy_agent(&[]).await;
            let pieces = send_in_pieces(by, &target, &bytes, 1, Duration::from_millis(600)).await.code();
            assert_eq!(pieces, whole, "{file} over {by}");
        }
    }
}

/// Waits until no call and no dialog is left.
async fn settled(agent: &SipAgent) {
    let left = || agent.counters().calls + agent.counters().dialogs;
    crate::common::until("no call and no dialog is left", || left() == 0).await;
}

fn csv(line: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut().unwrap().push(c),
        }
    }
    fields
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_datagrams_change_nothing_but_a_counter() {
    let (target, calls) = busy_agent(&[]).await;
    let agent = &target.agent;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(11);
    let base = b"BYE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
        To: <sip:c@d>;tag=2\r\nCall-ID: x\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n";
    let mut sent = HashSet::new();
    for i in 0..2000u32 {
        let data: Vec<u8> = if i % 2 == 0 {
            (0..rng.random_range(1..1500)).map(|_| rng.random()).collect()
        } else {
            let mut data = base.to_vec();
            for _ in 0..rng.random_range(1..20) {
                let at = rng.random_range(0..data.len());
                data[at] = rng.random();
            }
            data
        };
        sent.insert(i);
        socket.send_to(&data, agent.local_addr()).await.unwrap();
        if i % 50 == 49 {
            still_answers(&target, Transport::Udp, "noise").await;
        }
    }
    let c = agent.counters();
    assert!(c.datagrams >= sent.len() as u64, "{c:?}");
    assert_eq!((c.calls, c.dialogs, c.transactions, c.calls_in, c.registered, c.panics), (0, 0, 0, 0, 0, 0));
    assert!(calls.lock().unwrap().is_empty(), "noise made a call");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_or_endless_stream_is_closed_and_others_are_served_meanwhile() {
    let (target, _) = busy_agent(&[]).await;
    let agent = &target.agent;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut s = TcpStream::connect(agent.local_addr()).await.unwrap();
        s.write_all(b"INVITE sip:a@b SIP/2.0\r\nVia: ").await.unwrap();
        slow.push(s);
    }
    still_answers(&target, Transport::Tcp, "slow streams").await;
    for s in &mut slow {
        let mut buf = [0u8; 16];
        let end = tokio::time::timeout(Duration::from_secs(5), s.read(&mut buf)).await.expect("closed in time");
        assert!(matches!(end, Ok(0) | Err(_)));
    }
    let mut endless = TcpStream::connect(agent.local_addr()).await.unwrap();
    let mut total = 0;
    while total < 4_000_000 && endless.write_all(&[b'a'; 16_384]).await.is_ok() {
        total += 16_384;
    }
    assert!(total < 4_000_000, "4 MB of one line were taken");
    let mut ping = TcpStream::connect(agent.local_addr()).await.unwrap();
    ping.write_all(b"\r\n\r\n").await.unwrap();
    let mut pong = [0u8; 2];
    tokio::time::timeout(PATIENCE, ping.read_exact(&mut pong)).await.expect("a pong").unwrap();
    assert_eq!(&pong, b"\r\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keep_alive_starts_no_message_clock() {
    for keep_alive in [&b"\r\n\r\n"[..], b"\r\n"] {
        let (target, _) = busy_agent(&[]).await;
        let agent = &target.agent;
        let mut stream = TcpStream::connect(agent.local_addr()).await.unwrap();
        stream.write_all(keep_alive).await.unwrap();
        let mut buf = [0u8; 2048];
        if keep_alive.len() == 4 {
            tokio::time::timeout(PATIENCE, stream.read_exact(&mut buf[..2])).await.expect("a pong").unwrap();
        }
        // Far beyond the 400 ms a message may take.
        let closed = tokio::time::timeout(Duration::from_millis(1200), stream.read(&mut buf)).await;
        assert!(closed.is_err(), "after {keep_alive:?} the connection was closed: {closed:?}");
        let options = "OPTIONS sip:a@h SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nFrom: <sip:p@h>;tag=p\r\n\
            To: <sip:a@h>\r\nCall-ID: k\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(options.as_bytes()).await.unwrap();
        let n = tokio::time::timeout(PATIENCE, stream.read(&mut buf)).await.expect("an answer").unwrap();
        assert!(buf[..n].starts_with(b"SIP/2.0 200"), "{}", String::from_utf8_lossy(&buf[..n]));
    }
}
