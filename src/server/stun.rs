//! The one question of STUN that a line check asks (RFC 8489): as what address does the world see this socket?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;

/// Magic cookie (RFC 8489, 5).
const COOKIE: u32 = 0x2112_A442;
/// Waits for an answer, one after the other (RFC 8489, 6.2.1 doubles from 500 ms; nobody waits 39 s for a check).
const WAITS: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_millis(500), Duration::from_millis(1000), Duration::from_millis(1500)];

/// What a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reflexive {
    /// Our address as the server saw it.
    pub mapped: SocketAddr,
    /// Another address of the server, to ask a second time (RFC 5780, 7.4).
    pub other: Option<SocketAddr>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StunError {
    /// Nothing came.
    #[error("no answer within 3.5 s")]
    Silent,
    /// The socket could not send.
    #[error("cannot send: {0}")]
    Send(String),
}

/// A binding request with this transaction id.
pub fn request(id: &[u8; 12]) -> [u8; 20] {
    let mut out = [0; 20];
    out[1] = 1; // Binding request; no attributes, length 0
    out[4..8].copy_from_slice(&COOKIE.to_be_bytes());
    out[8..].copy_from_slice(id);
    out
}

/// Reads a binding success response to the request of that id; none for anything else.
pub fn read(datagram: &[u8], id: &[u8; 12]) -> Option<Reflexive> {
    let (head, body) = datagram.split_at_checked(20)?;
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    if head[..2] != [0x01, 0x01] || head[4..8] != COOKIE.to_be_bytes() || head[8..] != *id || length != body.len() {
        return None;
    }
    let (mut mapped, mut plain, mut other, mut rest) = (None, None, None, body);
    while let Some((attribute, after)) = rest.split_at_checked(4) {
        let length = usize::from(u16::from_be_bytes([attribute[2], attribute[3]]));
        let (value, _) = after.split_at_checked(length)?;
        match u16::from_be_bytes([attribute[0], attribute[1]]) {
            0x0020 => mapped = mapped.or(address(value, Some(id))),
            0x0001 => plain = plain.or(address(value, None)),
            0x802C => other = other.or(address(value, None)),
            _ => {}
        }
        rest = after.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Reflexive { mapped: mapped.or(plain)?, other })
}

/// XOR-MAPPED-ADDRESS with an id, MAPPED-ADDRESS and OTHER-ADDRESS without.
fn address(value: &[u8], id: Option<&[u8; 12]>) -> Option<SocketAddr> {
    let (head, ip) = value.split_at_checked(4)?;
    let mut mask = [0u8; 16];
    if let Some(id) = id {
        mask[..4].copy_from_slice(&COOKIE.to_be_bytes());
        mask[4..].copy_from_slice(id);
    }
    let port = u16::from_be_bytes([head[2] ^ mask[0], head[3] ^ mask[1]]);
    let unmasked = |n: usize| ip.get(n).zip(mask.get(n)).map_or(0, |(b, m)| b ^ m);
    let ip = match (head[1], ip.len()) {
        (1, 4) => IpAddr::from(Ipv4Addr::from(std::array::from_fn::<u8, 4, _>(unmasked))),
        (2, 16) => IpAddr::from(Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(unmasked))),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Asks a server from this socket.
pub async fn ask(socket: &UdpSocket, server: SocketAddr) -> Result<Reflexive, StunError> {
    let id: [u8; 12] = rand::random();
    let request = request(&id);
    let mut datagram = [0; 1500];
    for wait in WAITS {
        socket.send_to(&request, server).await.map_err(|e| StunError::Send(e.to_string()))?;
        let answered = tokio::time::timeout(wait, async {
            loop {
                // An unreachable port is told as an error of the next receive: wait on, the next try may reach it.
                if let Ok((length, _)) = socket.recv_from(&mut datagram).await
                    && let Some(answer) = read(&datagram[..length], &id)
                {
                    return answer;
                }
                tokio::task::yield_now().await;
            }
        });
        if let Ok(answer) = answered.await {
            return Ok(answer);
        }
    }
    Err(StunError::Silent)
}

/// A success response, as a server gives it: for tests of what asks.
pub fn response(id: &[u8; 12], mapped: SocketAddr, other: Option<SocketAddr>) -> Vec<u8> {
    let mut mask = COOKIE.to_be_bytes().to_vec();
    mask.extend(id);
    let mut body = Vec::new();
    let mut add = |kind: u16, at: SocketAddr, mask: &[u8]| {
        let (family, ip) = match at.ip() {
            IpAddr::V4(ip) => (1, ip.octets().to_vec()),
            IpAddr::V6(ip) => (2, ip.octets().to_vec()),
        };
        body.extend(kind.to_be_bytes());
        body.extend(((4 + ip.len()) as u16).to_be_bytes());
        body.extend([0, family]);
        body.extend(at.port().to_be_bytes().iter().zip(mask).map(|(b, m)| b ^ m));
        body.extend(ip.iter().zip(mask).map(|(b, m)| b ^ m));
    };
    add(0x0020, mapped, &mask);
    if let Some(other) = other {
        add(0x802C, other, &[0; 16]);
    }
    let mut out = vec![1, 1];
    out.extend((body.len() as u16).to_be_bytes());
    out.extend(&mask);
    out.extend(body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_sample_response_of_rfc_5769_is_read() {
        // RFC 5769, 2.2 and 2.3: 192.0.2.1:32853 and its IPv6 twin, with SOFTWARE, integrity and fingerprint after it.
        let id = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];
        let mut v4 = vec![1, 1, 0, 28, 0x21, 0x12, 0xa4, 0x42];
        v4.extend(id);
        v4.extend([0x80, 0x22, 0, 11]);
        v4.extend(b"test vector ");
        v4.extend([0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        assert_eq!(read(&v4, &id).unwrap().mapped, "192.0.2.1:32853".parse::<SocketAddr>().unwrap());
        assert!(read(&v4, &[0; 12]).is_none(), "somebody else's answer");
        assert!(read(&v4[..v4.len() - 1], &id).is_none());
    }

    #[test]
    fn a_request_is_twenty_bytes_that_are_no_rtp() {
        let r = request(&[9; 12]);
        assert_eq!((r.len(), r[0] >> 6, &r[..8]), (20, 0, &[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..]));
    }

    fn any_address() -> impl Strategy<Value = SocketAddr> {
        prop_oneof![
            (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::from((ip, port))),
            (any::<[u8; 16]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::from((ip, port))),
        ]
    }

    proptest! {
        #[test]
        fn what_a_server_says_is_what_is_read(id: [u8; 12], mapped in any_address(), other in proptest::option::of(any_address())) {
            prop_assert_eq!(read(&response(&id, mapped, other), &id), Some(Reflexive { mapped, other }));
        }

        #[test]
        fn no_datagram_breaks_the_reader(id: [u8; 12], mapped in any_address(), cut in 0usize..60, at in 0usize..60, byte: u8) {
            let mut datagram = response(&id, mapped, Some(mapped));
            if let Some(b) = datagram.get_mut(at) {
                *b = byte;
            }
            datagram.truncate(cut);
            let _nothing_to_say = read(&datagram, &id);
        }
    }

    #[tokio::test]
    async fn a_server_that_answers_late_is_heard_and_strangers_are_not() {
        let (us, server) =
            (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let there = server.local_addr().unwrap();
        let asked = tokio::spawn(async move {
            let mut datagram = [0; 100];
            let _lost = server.recv_from(&mut datagram).await.unwrap();
            let (_, from) = server.recv_from(&mut datagram).await.unwrap();
            let id: [u8; 12] = datagram[8..20].try_into().unwrap();
            server.send_to(b"nonsense", from).await.unwrap();
            server.send_to(&response(&id, from, None), from).await.unwrap();
        });
        let here = us.local_addr().unwrap();
        assert_eq!(ask(&us, there).await.unwrap().mapped, here);
        asked.await.unwrap();
    }
}
