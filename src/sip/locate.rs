//! Which servers a name stands for (RFC 3263): NAPTR names transports, SRV hosts in their order, A and AAAA addresses.

use super::gate::lock;
use super::transport::Transport;
use async_trait::async_trait;
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::{RData, RecordType};
use rand::{Rng, RngExt};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// Longest wait for one answer of the DNS.
const LIMIT: Duration = Duration::from_secs(3);
/// Servers kept of one name.
const MOST: usize = 16;

/// One record of NAPTR, of those that name an SRV (flag `s`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naptr {
    /// Lower ones first.
    pub order: u16,
    /// Among equals, lower ones first.
    pub preference: u16,
    /// `SIP+D2U`, `SIP+D2T`, `SIPS+D2T`.
    pub service: String,
    /// Name of the SRV records.
    pub replacement: String,
}

/// One record of SRV (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Srv {
    /// Lower ones first.
    pub priority: u16,
    /// Share among equals.
    pub weight: u16,
    /// The host.
    pub target: String,
    /// Its port.
    pub port: u16,
}

/// Who answers for names. Nothing found and nobody there are the same: no records.
#[async_trait]
pub trait Names: Send + Sync {
    /// NAPTR records of a domain.
    async fn naptr(&self, domain: &str) -> Vec<Naptr>;
    /// SRV records of a name such as `_sip._udp.example.cn`.
    async fn srv(&self, name: &str) -> Vec<Srv>;
    /// Addresses of a host.
    async fn addresses(&self, host: &str) -> Vec<IpAddr>;
}

/// The resolver that an agent asks: the system's DNS, or another one.
#[derive(Clone)]
pub struct Resolver(Arc<dyn Names>);

impl Resolver {
    /// One that asks `names`.
    pub fn new(names: Arc<dyn Names>) -> Resolver {
        Resolver(names)
    }

    /// Every server of a name: in groups of equal `rank`, the lowest to be tried first.
    pub(super) async fn locate(&self, name: &str, port: Option<u16>, asked: Option<Transport>) -> Vec<Found> {
        let mut found = locate(&*self.0, name, port, asked).await;
        found.truncate(MOST);
        found
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Resolver(Arc::new(Dns::default()))
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

/// A server of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Where it is.
    pub at: SocketAddr,
    /// What it is spoken to by.
    pub transport: Transport,
    /// Lower ones are tried first.
    pub rank: u16,
    /// Share among equals.
    pub weight: u16,
}

/// The order in which servers are tried this time (RFC 2782): by rank, among equals by lot and weight.
pub fn in_order(found: &[Found], rng: &mut impl Rng) -> Vec<Found> {
    let mut drawn: Vec<(u16, f64, Found)> = found.iter().map(|f| (f.rank, lot(rng, f.weight), *f)).collect();
    drawn.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    drawn.into_iter().map(|d| d.2).collect()
}

/// A lot among equals; the smaller comes first. Who has twice the weight comes first twice as often, and a weight of 0
/// comes last (an exponential race).
pub fn lot(rng: &mut impl Rng, weight: u16) -> f64 {
    let lot: f64 = rng.random_range(f64::MIN_POSITIVE..1.0);
    if weight == 0 { 1e9 + lot } else { -lot.ln() / f64::from(weight) }
}

async fn locate(names: &dyn Names, name: &str, port: Option<u16>, asked: Option<Transport>) -> Vec<Found> {
    let plain = asked.unwrap_or_default();
    if port.is_none() && name != "localhost" {
        let mut found = Vec::new();
        let mut rank = 0;
        for (transport, service) in services(names, name, asked).await {
            let mut records = names.srv(&service).await;
            // A lone root as target: decidedly no such service (RFC 2782).
            records.retain(|r| !r.target.trim_end_matches('.').is_empty());
            records.sort_by_key(|r| r.priority);
            for group in records.chunk_by(|a, b| a.priority == b.priority) {
                for record in group {
                    for ip in names.addresses(&record.target).await {
                        let at = SocketAddr::new(ip, record.port);
                        found.push(Found { at, transport, rank, weight: record.weight });
                    }
                }
                rank = rank.saturating_add(1);
            }
        }
        if !found.is_empty() {
            return found;
        }
    }
    let port = port.unwrap_or(plain.default_port());
    let all = names.addresses(name).await;
    let of = |(rank, ip): (usize, IpAddr)| Found {
        at: SocketAddr::new(ip, port),
        transport: plain,
        rank: rank as u16,
        weight: 1,
    };
    all.into_iter().take(MOST).enumerate().map(of).collect()
}

/// The SRV names to ask for, in order: what NAPTR says, else one for each transport that may be used.
async fn services(names: &dyn Names, name: &str, asked: Option<Transport>) -> Vec<(Transport, String)> {
    if asked.is_none() {
        let mut records = names.naptr(name).await;
        records.sort_by_key(|r| (r.order, r.preference));
        let transport = |service: &str| match service.to_ascii_uppercase().as_str() {
            "SIP+D2U" => Some(Transport::Udp),
            "SIP+D2T" => Some(Transport::Tcp),
            "SIPS+D2T" => Some(Transport::Tls),
            _ => None,
        };
        let told: Vec<_> =
            records.into_iter().filter_map(|r| Some((transport(&r.service)?, r.replacement))).take(MOST).collect();
        if !told.is_empty() {
            return told;
        }
    }
    let ours = match asked {
        Some(one) => vec![one],
        None => vec![Transport::Udp, Transport::Tcp],
    };
    ours.into_iter().filter_map(|t| Some((t, format!("{}.{name}", service_of(t)?)))).collect()
}

const fn service_of(transport: Transport) -> Option<&'static str> {
    match transport {
        Transport::Udp => Some("_sip._udp"),
        Transport::Tcp => Some("_sip._tcp"),
        Transport::Tls => Some("_sips._tcp"),
        Transport::Ws | Transport::Wss => None,
    }
}

/// The system's name servers, and its list of hosts.
#[derive(Default)]
struct Dns(Renewed<TokioResolver>);

/// A thing made of a file of the system: made anew when the file has changed, and again when it could not be made.
struct Renewed<T>(Mutex<Option<(T, Option<SystemTime>)>>);

impl<T> Default for Renewed<T> {
    fn default() -> Self {
        Renewed(Mutex::new(None))
    }
}

impl<T: Clone> Renewed<T> {
    fn get(&self, changed: Option<SystemTime>, make: impl FnOnce() -> Option<T>) -> Option<T> {
        let mut held = lock(&self.0);
        if !matches!(&*held, Some((_, at)) if *at == changed) {
            // One that cannot be made leaves the old one in use.
            *held = make().map(|made| (made, changed)).or(held.take());
        }
        held.as_ref().map(|(made, _)| made.clone())
    }
}

impl Dns {
    async fn ask(&self, name: &str, kind: RecordType) -> Vec<RData> {
        let made = || TokioResolver::builder_tokio().and_then(|b| b.build()).ok();
        let changed = std::fs::metadata("/etc/resolv.conf").and_then(|m| m.modified()).ok();
        let Some(resolver) = self.0.get(changed, made) else { return Vec::new() };
        // A dot at the end: no search domain is tried.
        match tokio::time::timeout(LIMIT, resolver.lookup(format!("{}.", name.trim_end_matches('.')), kind)).await {
            Ok(Ok(found)) => found.answers().iter().map(|r| r.data.clone()).collect(),
            _ => Vec::new(),
        }
    }
}

#[async_trait]
impl Names for Dns {
    async fn naptr(&self, domain: &str) -> Vec<Naptr> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let read = |data: RData| match data {
            RData::NAPTR(n) if n.flags.eq_ignore_ascii_case(b"s") => Some(Naptr {
                order: n.order,
                preference: n.preference,
                service: text(&n.services),
                replacement: n.replacement.to_string(),
            }),
            _ => None,
        };
        self.ask(domain, RecordType::NAPTR).await.into_iter().filter_map(read).collect()
    }

    async fn srv(&self, name: &str) -> Vec<Srv> {
        let read = |data: RData| match data {
            RData::SRV(s) => {
                let target = s.target.to_string().trim_end_matches('.').to_string();
                Some(Srv { priority: s.priority, weight: s.weight, target, port: s.port })
            }
            _ => None,
        };
        self.ask(name, RecordType::SRV).await.into_iter().filter_map(read).take(MOST).collect()
    }

    async fn addresses(&self, host: &str) -> Vec<IpAddr> {
        // As every other program here finds hosts: the list of hosts first.
        let found = tokio::time::timeout(LIMIT, tokio::net::lookup_host((host, 0))).await;
        let mut all: Vec<IpAddr> = found.ok().and_then(Result::ok).into_iter().flatten().map(|a| a.ip()).collect();
        let mut seen = std::collections::HashSet::new();
        all.retain(|ip| seen.insert(*ip));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use std::collections::HashMap;

    #[derive(Default)]
    struct Zone {
        naptr: Vec<Naptr>,
        srv: HashMap<&'static str, Vec<Srv>>,
        hosts: HashMap<&'static str, Vec<&'static str>>,
    }

    #[async_trait]
    impl Names for Zone {
        async fn naptr(&self, _: &str) -> Vec<Naptr> {
            self.naptr.clone()
        }
        async fn srv(&self, name: &str) -> Vec<Srv> {
            self.srv.get(name).cloned().unwrap_or_default()
        }
        async fn addresses(&self, host: &str) -> Vec<IpAddr> {
            self.hosts.get(host).into_iter().flatten().map(|a| a.parse().unwrap()).collect()
        }
    }

    fn srv(priority: u16, weight: u16, target: &str, port: u16) -> Srv {
        Srv { priority, weight, target: target.into(), port }
    }

    fn zone() -> Zone {
        let hosts = HashMap::from([
            ("a.gw", vec!["192.0.2.1"]),
            ("b.gw", vec!["192.0.2.2", "2001:db8::2"]),
            ("gw", vec!["192.0.2.9", "192.0.2.10"]),
        ]);
        let udp = vec![srv(20, 0, "a.gw", 5070), srv(10, 5, "b.gw", 5080), srv(30, 0, ".", 0)];
        let srv = HashMap::from([("_sip._udp.gw", udp), ("_sips._tcp.gw", vec![srv(1, 1, "a.gw", 5061)])]);
        Zone { naptr: vec![], srv, hosts }
    }

    async fn found(zone: Zone, port: Option<u16>, asked: Option<Transport>) -> Vec<(String, u16)> {
        let all = Resolver::new(Arc::new(zone)).locate("gw", port, asked).await;
        all.into_iter().map(|f| (format!("{}/{}", f.transport.name(), f.at), f.rank)).collect()
    }

    fn told(list: &[(&str, u16)]) -> Vec<(String, u16)> {
        list.iter().map(|(t, n)| ((*t).to_string(), *n)).collect()
    }

    #[tokio::test]
    async fn srv_hosts_come_by_priority_with_all_their_addresses_and_their_own_ports() {
        let all = [("udp/192.0.2.2:5080", 0), ("udp/[2001:db8::2]:5080", 0), ("udp/192.0.2.1:5070", 1)];
        assert_eq!(found(zone(), None, None).await, told(&all));
        assert_eq!(found(zone(), None, Some(Transport::Tls)).await, told(&[("tls/192.0.2.1:5061", 0)]));
    }

    #[tokio::test]
    async fn a_port_or_the_lack_of_srv_leaves_the_addresses_in_their_order() {
        let plain = |port: u16| vec![(format!("udp/192.0.2.9:{port}"), 0), (format!("udp/192.0.2.10:{port}"), 1)];
        assert_eq!(found(zone(), Some(5090), None).await, plain(5090));
        assert_eq!(found(Zone { srv: HashMap::new(), ..zone() }, None, None).await, plain(5060));
        assert!(found(Zone::default(), None, None).await.is_empty());
    }

    #[tokio::test]
    async fn naptr_chooses_the_transport() {
        let of = |order, service: &str, to: &str| Naptr {
            order,
            preference: 1,
            service: service.into(),
            replacement: to.into(),
        };
        let naptr = vec![of(20, "SIP+D2U", "_sip._udp.gw"), of(10, "SIPS+D2T", "_sips._tcp.gw"), of(5, "E2U+x", "no")];
        let all = found(Zone { naptr, ..zone() }, None, None).await;
        assert_eq!(all[0], ("tls/192.0.2.1:5061".to_string(), 0));
        assert_eq!(all[1].0, "udp/192.0.2.2:5080");
    }

    #[test]
    fn a_resolver_that_could_not_be_made_is_made_later_and_anew_when_its_file_has_changed() {
        let held = Renewed::default();
        let at = |s| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(s));
        assert_eq!(held.get(at(1), || None), None, "before the network is up");
        assert_eq!(held.get(at(1), || Some("a")), Some("a"));
        assert_eq!(held.get(at(1), || Some("b")), Some("a"));
        assert_eq!(held.get(at(2), || Some("b")), Some("b"));
        assert_eq!(held.get(at(3), || None), Some("b"), "half-written");
    }

    #[test]
    fn equals_are_drawn_by_weight_and_ranks_stay_in_order() {
        let of = |ip: u8, rank, weight| Found {
            at: SocketAddr::from(([192, 0, 2, ip], 5060)),
            transport: Transport::Udp,
            rank,
            weight,
        };
        let all = [of(1, 1, 9), of(2, 0, 3), of(3, 0, 1), of(4, 0, 0)];
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut first = 0;
        for _ in 0..4000 {
            let order = in_order(&all, &mut rng);
            assert_eq!((order[2].at.ip(), order[3].at.ip()), (all[3].at.ip(), all[0].at.ip()));
            first += usize::from(order[0].at == all[1].at);
        }
        assert!((2900..3100).contains(&first), "{first} of 4000 where 3000 are due");
    }
}
