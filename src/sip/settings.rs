//! What an agent is told at its start.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Name and password of a seat's phone.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// User part of the address of record, and digest user name.
    pub user: String,
    /// Password in clear (digest needs it, or a hash of it with the realm).
    pub password: String,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account({})", self.user)
    }
}

/// A network of addresses (`10.0.0.0/8`, `192.0.2.1`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Base address.
    pub address: IpAddr,
    /// Leading bits that count, 0-32 or 0-128.
    pub bits: u8,
}

impl Network {
    /// Whether `ip` lies inside.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let same = |a: u128, b: u128, width: u32| {
            let shift = width - u32::from(self.bits).min(width);
            // A shift by the full width is no shift in Rust: bits 0 means everything.
            shift >= 128 || (a >> shift) == (b >> shift)
        };
        match (self.address, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.into(), b.into(), 128),
            _ => false,
        }
    }
}

impl std::str::FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let (addr, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = addr.parse().map_err(|_| format!("`{addr}` is no IP address"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits.map(str::parse::<u8>) {
            None => most,
            Some(Ok(b)) if b <= most => b,
            Some(_) => return Err(format!("`{text}`: the prefix length must be 0 to {most}")),
        };
        Ok(Network { address, bits })
    }
}

/// Which numbers (user parts of the Request-URI) calls are taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Served {
    /// Every one.
    All,
    /// These; others get 404.
    Users(HashSet<String>),
}

impl Served {
    /// From a list; `*` in it means all.
    pub fn from_list(users: impl IntoIterator<Item = String>) -> Served {
        let users: HashSet<String> = users.into_iter().collect();
        if users.contains("*") { Served::All } else { Served::Users(users) }
    }

    /// Whether a call for `user` is taken.
    pub fn serves(&self, user: &str) -> bool {
        match self {
            Served::All => true,
            Served::Users(set) => set.contains(user),
        }
    }
}

/// Files of TLS, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Our certificate, and those that lead from it to a root.
    pub certificate: PathBuf,
    /// Its private key, without a password.
    pub key: PathBuf,
    /// Certificates trusted besides the system's when we connect to others.
    pub trust: Option<PathBuf>,
}

/// Where SIP is listened for besides UDP and TCP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listeners {
    /// Address of SIP over TLS; needs `certificate`.
    pub tls: Option<SocketAddr>,
    /// Address of SIP over WebSocket in clear.
    pub ws: Option<SocketAddr>,
    /// Address of SIP over secure WebSocket; needs `certificate`.
    pub wss: Option<SocketAddr>,
    /// Certificate and key.
    pub certificate: Option<TlsFiles>,
}

/// Who a trunk's messages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkPeer {
    /// Its name in the configuration.
    pub name: String,
    /// Addresses of its servers.
    pub networks: Vec<Network>,
}

/// Settings of a [`super::SipAgent`].
#[derive(Debug, Clone)]
pub struct SipSettings {
    /// Address of both sockets, UDP and TCP; port 0 lets the system choose one that is free for both.
    pub bind: SocketAddr,
    /// What is listened on besides.
    pub listeners: Listeners,
    /// Host or address written into Contact and Via when it differs from the bound one (behind NAT).
    pub public_host: Option<IpAddr>,
    /// Calls at once (both directions, ringing included); one more gets 503 with Retry-After.
    pub max_calls: usize,
    /// New calls a second, for each trunk, for our own networks, and for all others together; one more gets 503. 0: any
    /// number.
    pub calls_per_s: u32,
    /// Calls at once of one address that is neither a trunk's nor ours.
    pub calls_per_source: usize,
    /// Numbers served.
    pub users: Served,
    /// Phones that may register.
    pub accounts: Vec<Account>,
    /// Realm of our digest challenges.
    pub realm: String,
    /// User-Agent and Server.
    pub user_agent: String,
    /// Our own networks: their requests are not counted. Loopback never is.
    pub trusted: Vec<Network>,
    /// Trunks: their requests are not counted, and what they assert of a caller is believed.
    pub trunks: Vec<TrunkPeer>,
    /// Whether a seat that has proved itself may dial telephone numbers that are not served: the application judges them.
    pub seats_dial_out: bool,
    /// Whether anybody may call the numbers served. Otherwise only trunks, loopback and registered phones may.
    pub open: bool,
    /// Requests outside dialogs an unknown source may send per 2 s.
    pub requests_per_2s: u32,
    /// Connections at once (TCP, TLS, WebSocket), in all and per source address.
    pub tcp_connections: (usize, usize),
    /// From the first byte of a TCP message to its last; then the connection is closed.
    pub tcp_message_limit: Duration,
    /// A TCP connection silent this long is closed.
    pub tcp_idle_limit: Duration,
    /// How often registered phones are asked by OPTIONS whether they are there. Under 30 s it also keeps ways through
    /// address translation open.
    pub keep_alive: Duration,
    /// RFC 3261 T1; 64 times it ends unanswered transactions. 500 ms but in tests.
    pub t1: Duration,
    /// Events waiting for the reader before new calls get 503.
    pub event_queue: usize,
    /// Session-Expires that is offered and the longest agreed to, s (RFC 4028).
    pub session_expires_s: u32,
    /// The shortest that is agreed to, s; less gets 422. 90 but in tests.
    pub session_min_s: u32,
    /// Where what is said in each call is kept, if anywhere.
    pub trace: Option<super::trace::TraceSettings>,
    /// How often the files of a certificate are looked at. 5 s but in tests.
    pub certificate_look: Duration,
    /// The shortest pause before a registration of ours is refreshed. 5 s but in tests.
    pub renew_least: Duration,
    /// Who is asked where the hosts of addresses are.
    pub names: super::Resolver,
}

impl Default for SipSettings {
    fn default() -> Self {
        SipSettings {
            bind: SocketAddr::from(([0, 0, 0, 0], 5060)),
            listeners: Listeners::default(),
            public_host: None,
            max_calls: 200,
            calls_per_s: 500,
            calls_per_source: 20,
            users: Served::All,
            accounts: Vec::new(),
            realm: "zongji".into(),
            user_agent: concat!("zongji/", env!("CARGO_PKG_VERSION")).into(),
            trusted: Vec::new(),
            trunks: Vec::new(),
            seats_dial_out: false,
            open: true,
            requests_per_2s: 16,
            tcp_connections: (1000, 20),
            tcp_message_limit: Duration::from_secs(5),
            tcp_idle_limit: Duration::from_secs(300),
            keep_alive: Duration::from_secs(25),
            t1: Duration::from_millis(500),
            event_queue: 1024,
            session_expires_s: 1800,
            session_min_s: 90,
            trace: None,
            certificate_look: Duration::from_secs(5),
            renew_least: Duration::from_secs(5),
            names: super::Resolver::default(),
        }
    }
}

impl SipSettings {
    /// Whether requests from `ip` go uncounted.
    pub(super) fn trusts(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_loopback() || self.trusted.iter().any(|n| n.contains(ip)) || self.trunk(ip).is_some()
    }

    /// The trunk whose server this address is.
    pub(super) fn trunk(&self, ip: IpAddr) -> Option<&str> {
        let ip = ip.to_canonical();
        self.trunks.iter().find(|t| t.networks.iter().any(|n| n.contains(ip))).map(|t| t.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        let n: Network = "10.1.0.0/16".parse().unwrap();
        assert!(n.contains("10.1.255.3".parse().unwrap()) && !n.contains("10.2.0.1".parse().unwrap()));
        assert!("::/0".parse::<Network>().unwrap().contains("2001:db8::1".parse().unwrap()));
        assert!(!"0.0.0.0/0".parse::<Network>().unwrap().contains("::1".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Network>().unwrap().contains("8.8.8.8".parse().unwrap()));
        assert!("10.0.0.0/33".parse::<Network>().is_err());
    }
}
