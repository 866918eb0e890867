//! TCP connections: framing, time limits and numbers are ours; the SIP library only writes.
//!
//! The library's connection type is used with its reading half locked away: its own reader waits for that lock
//! until we close, and then finds nothing to read and takes the connection off its list.

use super::admission::network;
use super::counters::bump;
use super::gate::lock;
use super::hub::Hub;
use super::wire::{MAX_HEAD, Wire, head_end};
use rsipstack::transport::tcp::TcpConnection;
use rsipstack::transport::{SipAddr, SipConnection};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

/// Longest body we wait for.
const MAX_BODY: usize = 65_536;
/// Unacknowledged data older than this ends the connection, and with it whoever waits to write.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// Connections by source, counted.
#[derive(Default)]
pub(super) struct Crowd(Mutex<HashMap<IpAddr, usize>>);

impl Crowd {
    /// Lets one in unless there are too many; `per_source` does not bind the trusted.
    fn enter(&self, ip: IpAddr, total: usize, per_source: usize) -> bool {
        let (ip, mut map) = (network(ip), lock(&self.0));
        if map.values().sum::<usize>() >= total || map.get(&ip).copied().unwrap_or(0) >= per_source {
            return false;
        }
        *map.entry(ip).or_insert(0) += 1;
        true
    }

    fn leave(&self, ip: IpAddr) {
        let (ip, mut map) = (network(ip), lock(&self.0));
        if let Some(n) = map.get_mut(&ip) {
            *n -= 1;
            if *n == 0 {
                map.remove(&ip);
            }
        }
    }

    /// Connections right now.
    pub fn count(&self) -> usize {
        lock(&self.0).values().sum()
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

/// Accepts until the agent stops.
pub(super) async fn listen(hub: Arc<Hub>, listener: TcpListener) {
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
        let (total, per_source) = hub.gate.settings.tcp_connections;
        let per_source = if hub.gate.settings.trusts(peer.ip()) { total } else { per_source };
        if !hub.crowd.enter(peer.ip(), total, per_source) {
            bump(&hub.gate.counters.tcp_refused);
            continue;
        }
        bump(&hub.gate.counters.tcp_accepted);
        take(&hub, stream, peer).await;
    }
}

/// Opens a connection to `peer`, unless one is there.
pub(super) async fn connect(hub: &Arc<Hub>, peer: SocketAddr) -> std::io::Result<()> {
    if lock(&hub.streams).contains(&peer) {
        return Ok(());
    }
    let stream = tokio::time::timeout(Duration::from_secs(5), TcpStream::connect(peer)).await??;
    hub.crowd.enter(peer.ip(), usize::MAX, usize::MAX);
    take(hub, stream, peer).await;
    Ok(())
}

/// Hands a stream to the SIP library for writing and starts its reader.
async fn take(hub: &Arc<Hub>, stream: TcpStream, peer: SocketAddr) {
    stream.set_nodelay(true).ok();
    socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(WRITE_LIMIT)).ok();
    let local = SipAddr { r#type: Some(rsipstack::sip::Transport::Tcp), addr: hub.local.into() };
    let token = hub.token.child_token();
    let Ok(connection) = TcpConnection::from_stream(stream, local, Some(token)) else {
        hub.crowd.leave(peer.ip());
        return;
    };
    lock(&hub.streams).insert(peer);
    let (ready, started) = tokio::sync::oneshot::channel();
    tokio::spawn(read(hub.clone(), connection.clone(), peer, ready));
    // The reader holds the lock from here on; only now may the library see the connection.
    started.await.ok();
    hub.endpoint.transport_layer.add_connection(SipConnection::Tcp(connection));
}

async fn read(hub: Arc<Hub>, connection: TcpConnection, peer: SocketAddr, ready: tokio::sync::oneshot::Sender<()>) {
    let mut half = connection.inner.read_half.lock().await;
    ready.send(()).ok();
    let token = connection.cancel_token().unwrap_or_default();
    if let Some(half) = half.as_mut() {
        let work = messages(&hub, half, &connection, peer);
        tokio::select! {
            () = token.cancelled() => {}
            polite = work => {
                if !polite {
                    bump(&hub.gate.counters.tcp_refused);
                }
            }
        }
    }
    lock(&hub.streams).remove(&peer);
    hub.crowd.leave(peer.ip());
    token.cancel();
    // Last answers are flushed; who does not take them is not waited for.
    tokio::time::timeout(Duration::from_secs(2), rsipstack::transport::stream::StreamConnection::close(&connection))
        .await
        .ok();
    *half = None;
}

/// Reads messages until the end (true) or until the peer misbehaves (false).
async fn messages<R>(hub: &Arc<Hub>, half: &mut R, connection: &TcpConnection, peer: SocketAddr) -> bool
where
    R: tokio::io::AsyncRead + Unpin,
{
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
                if !write(connection, b"\r\n").await {
                    return false;
                }
                deadline = limit(&buf);
                continue;
            }
            Frame::More => {
                let fresh = quiet(&buf);
                let Ok(got) = tokio::time::timeout_at(deadline, half.read(&mut chunk)).await else { return fresh };
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
        let answer = hub.received(&buf[..len], peer, Some(connection)).await;
        buf.drain(..len);
        deadline = limit(&buf);
        if let Some(answer) = answer
            && (!answer.bytes.is_empty() && !write(connection, &answer.bytes).await || answer.close)
        {
            return false;
        }
        if last {
            return false;
        }
    }
}

async fn write(connection: &TcpConnection, bytes: &[u8]) -> bool {
    matches!(tokio::time::timeout(Duration::from_secs(5), connection.inner.send_raw(bytes)).await, Ok(Ok(())))
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

    #[test]
    fn hosts_of_one_ipv6_network_share_their_number_of_connections() {
        let crowd = Crowd::default();
        let host = |i: u128| IpAddr::V6((0x2001_0db8u128 << 96 | i).into());
        assert_eq!((0..10).filter(|i| crowd.enter(host(*i), 100, 3)).count(), 3);
        crowd.leave(host(9));
        assert!(crowd.enter(host(77), 100, 3));
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
