//! Opening the sockets and finding the address of a peer.

use super::event::SipError;
use super::gate::local_ip_for;
use super::locate::{Found, Resolver, in_order};
use super::transport::Transport;
use super::uri::{Host, SipUri};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
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

/// Binds one more port for connections, if one is asked for.
pub(super) async fn listen(at: Option<SocketAddr>, transport: Transport) -> Result<Option<TcpListener>, SipError> {
    match at {
        Some(at) => TcpListener::bind(at).await.map(Some).map_err(|e| refused(at, transport.name(), &e)),
        None => Ok(None),
    }
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

/// Where a call goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    pub peer: SocketAddr,
    pub transport: Transport,
    /// The host as written: what a certificate must be for.
    pub host: String,
    /// The transport was asked for; else it may be changed for a message too long for a datagram.
    pub fixed: bool,
}

/// Where to send for `to`: the first server to try.
pub(super) async fn resolve(
    names: &Resolver,
    to: &str,
    given: Option<SocketAddr>,
    transport: Option<Transport>,
) -> Result<Way, SipError> {
    let nowhere = || SipError::BadAddress(to.to_string(), NOT_FOUND);
    resolve_all(names, to, given, transport).await?.into_iter().next().ok_or_else(nowhere)
}

const NOT_FOUND: &str = "its host cannot be found";

/// Every server of `to`, in the order in which they are to be tried this time; at least one.
pub(super) async fn resolve_all(
    names: &Resolver,
    to: &str,
    given: Option<SocketAddr>,
    transport: Option<Transport>,
) -> Result<Vec<Way>, SipError> {
    let Target { uri, asked } = target(to, transport)?;
    let host = match &uri.host {
        Host::Ip(ip) => ip.to_string(),
        Host::Name(name) => name.clone(),
    };
    let way = |peer, transport| Way { peer, transport, host: host.clone(), fixed: asked.is_some() };
    if let Some(at) = given {
        return Ok(vec![way(at, asked.unwrap_or_default())]);
    }
    let found = servers(names, &uri, asked).await;
    if found.is_empty() {
        return Err(SipError::BadAddress(to.to_string(), NOT_FOUND));
    }
    let order = in_order(&found, &mut rand::rng());
    Ok(order.into_iter().map(|f| way(f.at, f.transport)).collect())
}

/// Every server of `to` with its rank and weight.
pub(super) async fn servers_of(names: &Resolver, to: &str) -> Result<Vec<Found>, SipError> {
    let Target { uri, asked } = target(to, None)?;
    Ok(servers(names, &uri, asked).await)
}

async fn servers(names: &Resolver, uri: &SipUri, asked: Option<Transport>) -> Vec<Found> {
    match &uri.host {
        Host::Ip(ip) => {
            let transport = asked.unwrap_or_default();
            let at = SocketAddr::new(*ip, uri.port.unwrap_or(transport.default_port()));
            vec![Found { at, transport, rank: 0, weight: 1 }]
        }
        Host::Name(name) => names.locate(name, uri.port, asked).await,
    }
}

/// An address to send to, and the transport it asks for.
struct Target {
    uri: SipUri,
    asked: Option<Transport>,
}

fn target(to: &str, transport: Option<Transport>) -> Result<Target, SipError> {
    let bad = |why| SipError::BadAddress(to.to_string(), why);
    let uri = SipUri::parse(to).map_err(|_| bad("write it as sip:NUMBER@HOST or sip:NUMBER@HOST:PORT"))?;
    if !matches!(uri.scheme.as_str(), "sip" | "sips") {
        return Err(bad("only sip: and sips: can be called"));
    }
    if uri.headers.is_some() {
        return Err(bad("no `?headers` in an address to call"));
    }
    let named = match uri.param("transport") {
        Some(name) => {
            Some(Transport::from_name(&name).ok_or_else(|| bad("its transport is none of udp, tcp, tls, ws, wss"))?)
        }
        None => None,
    };
    // `sips:` asks for TLS at every step (RFC 3261 section 26.2.2), whatever else it says.
    let asked = transport.or(if uri.scheme == "sips" { Some(Transport::Tls) } else { named });
    Ok(Target { uri, asked })
}
