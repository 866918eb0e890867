//! Opening the two sockets and finding the address of a peer.

use super::event::SipError;
use super::gate::local_ip_for;
use super::uri::{Host, SipUri};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};

/// Binds UDP and TCP to the same port.
pub(super) async fn open(bind: SocketAddr) -> Result<(Arc<UdpSocket>, TcpListener), SipError> {
    let mut last = None;
    // With port 0 the system may choose a UDP port whose TCP twin is taken.
    for _ in 0..if bind.port() == 0 { 50 } else { 1 } {
        let udp = UdpSocket::bind(bind).await.map_err(|e| refused(bind, "udp", &e))?;
        // A burst of calls must not be lost while this task waits for its turn; the system may give less.
        socket2::SockRef::from(&udp).set_recv_buffer_size(2 * 1024 * 1024).ok();
        let at = udp.local_addr().map_err(|e| refused(bind, "udp", &e))?;
        match TcpListener::bind(at).await {
            Ok(tcp) => return Ok((Arc::new(udp), tcp)),
            Err(e) => last = Some(refused(at, "tcp", &e)),
        }
    }
    Err(last.unwrap_or_else(|| SipError::Bind(bind, "no port is free".into())))
}

fn refused(at: SocketAddr, transport: &'static str, error: &std::io::Error) -> SipError {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => SipError::PortTaken { address: at.ip(), port: at.port(), transport },
        _ => SipError::Bind(at, error.to_string()),
    }
}

/// The address to write into Via: configured, bound, or the one this machine sends from.
pub(super) fn advertised(bound: SocketAddr, public: Option<IpAddr>) -> SocketAddr {
    let ip = match public {
        Some(ip) => ip,
        None if !bound.ip().is_unspecified() => bound.ip(),
        None => {
            // Documentation addresses: only the choice of interface matters, nothing is sent.
            let far: IpAddr = match bound.ip() {
                IpAddr::V4(_) => [192, 0, 2, 1].into(),
                IpAddr::V6(_) => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
            };
            local_ip_for(SocketAddr::new(far, 9)).unwrap_or(match bound.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            })
        }
    };
    SocketAddr::new(ip, bound.port())
}

/// Where to send for `to`, and whether over TCP.
pub(super) async fn resolve(to: &str, given: Option<SocketAddr>, tcp: bool) -> Result<(SocketAddr, bool), SipError> {
    let bad = |why| SipError::BadAddress(to.to_string(), why);
    let uri = SipUri::parse(to).map_err(|_| bad("write it as sip:NUMBER@HOST or sip:NUMBER@HOST:PORT"))?;
    if uri.scheme != "sip" {
        return Err(bad("only sip: can be called"));
    }
    if uri.headers.is_some() {
        return Err(bad("no `?headers` in an address to call"));
    }
    let tcp = tcp || uri.param("transport").as_deref() == Some("tcp");
    if let Some(at) = given {
        return Ok((at, tcp));
    }
    let port = uri.port.unwrap_or(5060);
    let name = match uri.host {
        Host::Ip(ip) => return Ok((SocketAddr::new(ip, port), tcp)),
        Host::Name(name) => name,
    };
    let looked_up = tokio::time::timeout(Duration::from_secs(3), tokio::net::lookup_host((name, port))).await;
    let found = looked_up.ok().and_then(Result::ok).and_then(|mut all| all.next());
    found.map(|at| (at, tcp)).ok_or_else(|| bad("its host cannot be found"))
}
