//! The UDP socket.

use super::hub::Hub;
use super::transport::{Hop, Transport};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::net::UdpSocket;

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
        // Nothing is sent to who sends garbage, not even an empty datagram.
        let answer = hub.received(data, Hop { transport: Transport::Udp, at: source });
        if let Some(answer) = answer.filter(|a| !a.bytes.is_empty()) {
            socket.send_to(&answer.bytes, as_bound(&socket, source)).await.ok();
        }
    }
}
