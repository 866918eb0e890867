//! The UDP socket: ours to read, the SIP library's to write.

use super::hub::Hub;
use super::reply::OLD_TAG;
use super::trace::Tracer;
use super::transport::Transport;
use async_trait::async_trait;
use rsipstack::platform::net::UdpSocket as LibrarySocket;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::UdpSocket;

/// What the SIP library holds for a socket: it can send, and it never receives. We receive, check, and call it.
pub(super) struct SendOnly(pub Arc<UdpSocket>, pub Tracer);

#[async_trait]
impl LibrarySocket for SendOnly {
    async fn recv_from(&self, _: &mut [u8]) -> rsipstack::Result<(usize, SocketAddr)> {
        std::future::pending().await
    }

    async fn send_to(&self, buf: &[u8], to: SocketAddr) -> rsipstack::Result<usize> {
        self.1.sent(Some(Transport::Udp), Some(to), || buf.to_vec());
        let to = as_bound(&self.0, to);
        if made_up_tag(buf).is_some() {
            self.0.send_to(&without_made_up_tag(buf.to_vec()), to).await?;
            return Ok(buf.len());
        }
        Ok(self.0.send_to(buf, to).await?)
    }

    fn local_addr(&self) -> rsipstack::Result<SocketAddr> {
        Ok(self.0.local_addr()?)
    }
}

fn made_up_tag(message: &[u8]) -> Option<usize> {
    let tag = OLD_TAG.as_bytes();
    // It can only stand in the headers, and is rare: most messages are searched once and left alone.
    message.windows(tag.len()).position(|w| w == tag)
}

/// A caller of RFC 2543 must get back the From it sent, which had no tag.
pub(super) fn without_made_up_tag(mut message: Vec<u8>) -> Vec<u8> {
    if let Some(at) = made_up_tag(&message) {
        message.drain(at..at + OLD_TAG.len());
    }
    message
}

/// An address in the family of the socket that sends to it.
pub(super) fn as_bound(socket: &UdpSocket, to: SocketAddr) -> SocketAddr {
    match (socket.local_addr(), to.ip()) {
        (Ok(SocketAddr::V6(_)), IpAddr::V4(ip)) => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
        _ => to,
    }
}

/// Reads datagrams until the agent stops.
pub(super) async fn serve(hub: Arc<Hub>, socket: Arc<UdpSocket>) {
    // The largest datagram there is: nothing arrives cut off.
    let mut buf = vec![0u8; 65_536];
    loop {
        let got = tokio::select! {
            () = hub.token.cancelled() => return,
            got = socket.recv_from(&mut buf) => got,
        };
        // ICMP errors of earlier sends come back here on Linux; they concern no one.
        let Ok((len, source)) = got else { continue };
        // At a socket of both families IPv4 senders show themselves as ::ffff:a.b.c.d; to all else they are a.b.c.d.
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        let data = &buf[..len];
        if data.iter().all(|b| b.is_ascii_whitespace() || *b == 0) {
            continue; // keep-alive of a phone behind address translation
        }
        if let Some(answer) = hub.received(data, source, None).await {
            socket.send_to(&answer.bytes, as_bound(&socket, source)).await.ok();
        }
    }
}
