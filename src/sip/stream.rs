//! Connections: numbers, time limits, and the two tasks of each.

use super::admission::network;
use super::counters::bump;
use super::gate::lock;
use super::hub::Hub;
use super::transport::{Hop, Transport};
use super::wire::{MAX_HEAD, Wire, head_end};
use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Longest body we wait for.
const MAX_BODY: usize = 65_536;
/// Unacknowledged data older than this ends the connection, and with it whoever waits to write.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// Messages that may wait to be written to one connection; who takes no more than that has gone.
const UNWRITTEN: usize = 1024;

/// Connections, counted: those that came by their source, and those we opened.
#[derive(Default, Clone)]
pub(super) struct Crowd(Arc<Mutex<Counted>>);

#[derive(Default)]
struct Counted {
    came: HashMap<IpAddr, usize>,
    ours: usize,
}

/// A connection's place in the crowd: given back when dropped, wherever its task ends.
pub(super) struct Place {
    crowd: Crowd,
    /// None: we opened it.
    source: Option<IpAddr>,
}

impl Crowd {
    /// Lets one in unless there are too many; `per_source` does not bind the trusted.
    pub fn enter(&self, ip: IpAddr, total: usize, per_source: usize) -> Option<Place> {
        let (ip, mut counted) = (network(ip), lock(&self.0));
        let of_source = counted.came.get(&ip).copied().unwrap_or(0);
        if counted.came.values().sum::<usize>() >= total || of_source >= per_source {
            return None;
        }
        *counted.came.entry(ip).or_insert(0) += 1;
        Some(Place { crowd: self.clone(), source: Some(ip) })
    }

    /// One that we open: it takes nobody's place.
    fn opened(&self) -> Place {
        lock(&self.0).ours += 1;
        Place { crowd: self.clone(), source: None }
    }

    /// Connections right now.
    pub fn count(&self) -> usize {
        let counted = lock(&self.0);
        counted.came.values().sum::<usize>() + counted.ours
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counted = lock(&self.crowd.0);
        match self.source {
            None => counted.ours -= 1,
            Some(ip) => {
                if let Some(n) = counted.came.get_mut(&ip) {
                    *n -= 1;
                    if *n == 0 {
                        counted.came.remove(&ip);
                    }
                }
            }
        }
    }
}

/// What stands at the front of a stream's buffer.
#[derive(Debug, PartialEq, Eq)]
enum Frame {
    /// A message of that many bytes.
    Message(usize),
    /// CRLF CRLF: answer with CRLF (RFC 5626 section 3.5.1).
    Ping,
    /// A stray CRLF.
    Skip,
    /// Not all here yet.
    More,
    /// Nothing SIP can follow: give the head to the gate for its 400, then close.
    Bad(usize),
    /// Too long or no SIP at all: close.
    Hopeless,
}

fn frame(buf: &[u8]) -> Frame {
    if buf.starts_with(b"\r\n\r\n") {
        return Frame::Ping;
    }
    if buf.starts_with(b"\r\n") {
        // The second half of a ping may be on its way; it is a lone CRLF only when something else follows.
        return if buf.len() < 4 && b"\r\n\r\n".starts_with(buf) { Frame::More } else { Frame::Skip };
    }
    let Some(end) = head_end(buf) else {
        return if buf.len() > MAX_HEAD { Frame::Hopeless } else { Frame::More };
    };
    let Ok(wire) = Wire::parse(&buf[..end]) else { return Frame::Hopeless };
    let mut lengths = wire.all("content-length");
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => 0,
        (Some(v), None) if !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit()) => match v.parse::<usize>() {
            Ok(n) if n <= MAX_BODY => n,
            _ => return Frame::Bad(end),
        },
        _ => return Frame::Bad(end),
    };
    if buf.len() >= end + length { Frame::Message(end + length) } else { Frame::More }
}

/// Whether no message has begun yet: nothing is here but, at most, a part of a keep-alive.
fn quiet(buf: &[u8]) -> bool {
    b"\r\n\r\n".starts_with(buf)
}

/// The writing side of a connection.
#[derive(Clone)]
pub(super) struct Flow {
    /// How it was opened, and who is at its other end.
    pub hop: Hop,
    messages: mpsc::Sender<Vec<u8>>,
    token: CancellationToken,
}

impl Flow {
    /// Gives a message to the writer. A connection with too many unwritten ones is closed.
    pub fn post(&self, bytes: Vec<u8>) {
        if self.messages.try_send(bytes).is_err() {
            self.token.cancel();
        }
    }
}

/// What the writing task writes to: one whole message at a time.
pub(super) trait Outlet: Send + 'static {
    /// False when the message did not get out.
    fn put(&mut self, message: Vec<u8>) -> impl Future<Output = bool> + Send;
    /// Says goodbye.
    fn finish(&mut self) -> impl Future<Output = ()> + Send;
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> Outlet for WriteHalf<S> {
    async fn put(&mut self, message: Vec<u8>) -> bool {
        self.write_all(&message).await.is_ok() && self.flush().await.is_ok()
    }

    async fn finish(&mut self) {
        self.shutdown().await.ok();
    }
}

/// A connection that was let in: who is at its other end, and its place in the crowd.
pub(super) struct Came {
    pub peer: SocketAddr,
    pub place: Place,
}

/// A connection as long as it lives: gives back what it holds when dropped.
pub(super) struct Open {
    pub flow: Flow,
    pub token: CancellationToken,
    hub: Arc<Hub>,
    _place: Place,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.token.cancel();
        let mut flows = lock(&self.hub.flows);
        // Two may have been opened at once to one server: each takes only itself away.
        if flows.get(&self.flow.hop).is_some_and(|flow| flow.messages.same_channel(&self.flow.messages)) {
            flows.remove(&self.flow.hop);
        }
        drop(flows);
        // A phone that came by this connection cannot be called any more (RFC 5626 section 4.4).
        for (user, contacts) in self.hub.gate.flow_lost(self.flow.hop.transport, self.flow.hop.at) {
            self.hub.tell_or_lose(super::SipEvent::Registered { user, contacts });
        }
    }
}

/// Starts the writer of a connection that was let in.
pub(super) fn open(hub: &Arc<Hub>, outlet: impl Outlet, came: Came, transport: Transport) -> Open {
    let Came { peer, place } = came;
    let (messages, written) = mpsc::channel(UNWRITTEN);
    let token = hub.token.child_token();
    tokio::spawn(write(outlet, written, token.clone()));
    let flow = Flow { hop: Hop { transport, at: peer }, messages, token: token.clone() };
    lock(&hub.flows).insert(flow.hop, flow.clone());
    Open { flow, token, hub: hub.clone(), _place: place }
}

/// Writes what there is to say, until the connection ends. Who does not take it is not waited for.
async fn write(mut outlet: impl Outlet, mut messages: mpsc::Receiver<Vec<u8>>, token: CancellationToken) {
    loop {
        let next = tokio::select! {
            biased;
            next = messages.recv() => next,
            () = token.cancelled() => break,
        };
        let Some(message) = next else { break };
        if !matches!(tokio::time::timeout(WRITE_LIMIT, outlet.put(message)).await, Ok(true)) {
            token.cancel();
            break;
        }
    }
    messages.close();
    tokio::time::timeout(Duration::from_secs(2), outlet.finish()).await.ok();
}

/// Accepts until the agent stops; `serve` is what becomes of a connection that is let in.
pub(super) async fn listen<F, S>(hub: Arc<Hub>, listener: TcpListener, serve: F)
where
    F: Fn(Arc<Hub>, TcpStream, Came) -> S,
    S: Future<Output = ()> + Send + 'static,
{
    loop {
        let got = tokio::select! {
            () = hub.token.cancelled() => return,
            got = listener.accept() => got,
        };
        let Ok((stream, peer)) = got else {
            // Out of descriptors: waiting is all one can do.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let (total, per_source) = hub.gate.settings.tcp_connections;
        let per_source = if hub.gate.settings.trusts(peer.ip()) { total } else { per_source };
        let Some(place) = hub.crowd.enter(peer.ip(), total, per_source) else {
            bump(&hub.gate.counters.tcp_refused);
            continue;
        };
        bump(&hub.gate.counters.tcp_accepted);
        prepare(&stream);
        tokio::spawn(serve(hub.clone(), stream, Came { peer, place }));
    }
}

fn prepare(stream: &TcpStream) {
    stream.set_nodelay(true).ok();
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(WRITE_LIMIT)).ok();
}

/// Opens a connection to `peer`, unless one is there. `name` is what its certificate must be for.
pub(super) async fn connect(hub: &Arc<Hub>, peer: SocketAddr, transport: Transport, name: &str) -> std::io::Result<()> {
    if hub.is_open(Hop { transport, at: peer }) {
        return Ok(());
    }
    if transport.is_web() {
        return Err(std::io::Error::other("a browser opens its connection itself, and this one has gone"));
    }
    let limit = Duration::from_secs(5);
    let stream = tokio::time::timeout(limit, TcpStream::connect(peer)).await??;
    prepare(&stream);
    let came = Came { peer, place: hub.crowd.opened() };
    let (ready, opened) = tokio::sync::oneshot::channel();
    match transport {
        Transport::Tls => {
            let stream = tokio::time::timeout(limit, hub.tls.connect(name, stream)).await??;
            drop(tokio::spawn(serve(hub.clone(), stream, came, transport, Some(ready))));
        }
        _ => drop(tokio::spawn(serve(hub.clone(), stream, came, transport, Some(ready)))),
    }
    opened.await.map_err(|_| std::io::Error::other("the connection broke at once"))
}

/// Reads a byte stream (TCP, or TLS after its handshake) to its end.
pub(super) async fn serve<S>(
    hub: Arc<Hub>,
    stream: S,
    came: Came,
    transport: Transport,
    ready: Option<tokio::sync::oneshot::Sender<()>>,
) where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut reader, writer) = tokio::io::split(stream);
    let open = open(&hub, writer, came, transport);
    if let Some(ready) = ready {
        ready.send(()).ok();
    }
    tokio::select! {
        () = open.token.cancelled() => {}
        polite = messages(&hub, &mut reader, &open) => {
            if !polite {
                bump(&hub.gate.counters.tcp_refused);
            }
        }
    }
}

/// Reads messages until the end (true) or until the peer misbehaves (false).
async fn messages<R: AsyncRead + Unpin>(hub: &Arc<Hub>, reader: &mut R, open: &Open) -> bool {
    let settings = &hub.gate.settings;
    // The first byte of a message starts its clock; a keep-alive only shows that the peer is there.
    let limit = |buf: &[u8]| {
        let span = if quiet(buf) { settings.tcp_idle_limit } else { settings.tcp_message_limit };
        tokio::time::Instant::now() + span
    };
    let (mut buf, mut chunk) = (Vec::new(), vec![0u8; 16_384]);
    let mut deadline = limit(&buf);
    loop {
        let (len, last) = match frame(&buf) {
            Frame::Message(len) => (len, false),
            Frame::Bad(len) => (len, true),
            Frame::Hopeless => return false,
            Frame::Skip => {
                buf.drain(..2);
                deadline = limit(&buf);
                continue;
            }
            Frame::Ping => {
                buf.drain(..4);
                open.flow.post(b"\r\n".to_vec());
                deadline = limit(&buf);
                continue;
            }
            Frame::More => {
                let fresh = quiet(&buf);
                let Ok(got) = tokio::time::timeout_at(deadline, reader.read(&mut chunk)).await else { return fresh };
                match got {
                    Ok(n) if n > 0 => buf.extend_from_slice(&chunk[..n]),
                    _ => return true,
                }
                if fresh {
                    deadline = limit(&buf);
                }
                continue;
            }
        };
        let answer = hub.received(&buf[..len], open.flow.hop);
        buf.drain(..len);
        deadline = limit(&buf);
        let close = answer.as_ref().is_some_and(|a| a.close);
        answer.filter(|a| !a.bytes.is_empty()).into_iter().for_each(|a| open.flow.post(a.bytes));
        if close || last {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = "OPTIONS sip:a@b SIP/2.0\r\n";

    #[test]
    fn a_stream_is_cut_by_content_length_and_pings_are_told_apart() {
        let m = format!("{HEAD}l: 3\r\n\r\nabc");
        assert_eq!(frame(m.as_bytes()), Frame::Message(m.len()));
        assert_eq!(frame(&m.as_bytes()[..m.len() - 1]), Frame::More);
        assert_eq!(frame(format!("{m}{m}").as_bytes()), Frame::Message(m.len()));
        assert_eq!(frame(b"\r\n\r\nOPTIONS"), Frame::Ping);
        assert_eq!(frame(b"\r\nOPTIONS"), Frame::Skip);
        assert_eq!(frame(b"\r\n"), Frame::More);
        assert!(matches!(frame(format!("{HEAD}l: 3\r\nContent-Length: 4\r\n\r\n").as_bytes()), Frame::Bad(_)));
        assert!(matches!(frame(format!("{HEAD}l: -3\r\n\r\n").as_bytes()), Frame::Bad(_)));
        assert!(matches!(frame(format!("{HEAD}l: 99999999\r\n\r\n").as_bytes()), Frame::Bad(_)));
        assert_eq!(frame(b"GET / HTTP/1.1\r\n\r\n"), Frame::Hopeless);
        assert_eq!(frame(&vec![b'a'; MAX_HEAD + 1]), Frame::Hopeless);
    }

    /// What is read does not depend on how the network cut it.
    #[test]
    fn a_torture_message_cut_anywhere_ends_where_it_ends_whole() {
        let folder = std::path::Path::new("../shared/data/sip/torture");
        let Ok(suites) = std::fs::read_dir(folder) else {
            return crate::skip::skipped(format_args!("no torture messages at {}", folder.display()));
        };
        let mut tried = 0;
        for file in suites.flatten().filter_map(|s| std::fs::read_dir(s.path()).ok()).flatten().flatten() {
            let Ok(whole) = std::fs::read(file.path()) else { continue };
            let end = frame(&whole);
            let first = (0..=whole.len()).map(|cut| frame(&whole[..cut])).find(|f| *f != Frame::More);
            // The first part that says something says what the whole does, whatever follows it.
            assert_eq!(first.unwrap_or(Frame::More), end, "{}", file.path().display());
            tried += 1;
        }
        assert!(tried >= 50, "{tried} messages");
    }

    #[test]
    fn hosts_of_one_ipv6_network_share_their_number_of_connections() {
        let crowd = Crowd::default();
        let host = |i: u128| IpAddr::V6((0x2001_0db8u128 << 96 | i).into());
        let mut places: Vec<Place> = (0..10).filter_map(|i| crowd.enter(host(i), 100, 3)).collect();
        assert_eq!(places.len(), 3);
        drop(places.pop());
        assert!(crowd.enter(host(77), 100, 3).is_some());
        let ours = crowd.opened();
        assert_eq!(crowd.count(), 3);
        assert!(crowd.enter(IpAddr::from([192, 0, 2, 1]), 3, 3).is_some(), "ours take nobody's place");
        drop((ours, places));
        assert_eq!(crowd.count(), 0);
    }

    proptest! {
        #[test]
        fn a_frame_never_reaches_beyond_what_is_there(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut data = data;
            if data.len() > 100 { data.splice(0..0, HEAD.bytes()); }
            if let Frame::Message(n) | Frame::Bad(n) = frame(&data) { prop_assert!(n > 0 && n <= data.len()); }
        }
    }
}
