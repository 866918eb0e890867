//! `zongji doctor line`: the line's own doctor. Each probe gathers facts; what they mean is said by the files beside.

use super::address::{Addresses, is_private};
use super::call::{Far, findings as of_call};
use super::finding::{Finding, Lang, Level, words};
use super::machine::{self, SipPort};
use super::trunk::{self, Asked};
use super::{address, certificate};
use crate::cli::{Context, out, setup};
use crate::config::{Config, RouteKind as ConfiguredRoute};
use crate::dialplan::FlowSet;
use crate::engines::{EngineSettings, load};
use crate::server::Hotline;
use crate::server::hotline::{HotlineSettings, TestRoute};
use crate::server::probe::{LineCall, contact_is_reached, options};
use crate::server::routes::{Listening, RouteKind};
use crate::server::stun;
use crate::server::switchboard::local_address;
use crate::sip::Network;
use crate::sip::bare::{host_of, host_port};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UdpSocket, lookup_host};

#[derive(clap::Args)]
pub struct Args {
    /// Language of the answers (default: English where LANG says so, else Chinese).
    #[arg(long, value_enum)]
    lang: Option<Lang>,
    /// Ask this STUN server for the public address; twice, to tell the kind of NAT.
    #[arg(long, value_name = "HOST[:PORT]")]
    stun: Vec<String>,
    /// Call this number of a trunk or phone too, such as sip:10000@203.0.113.9.
    #[arg(long, value_name = "sip:NUMBER@HOST", value_parser = peer)]
    peer: Option<String>,
    /// Calling number for that.
    #[arg(long, default_value = "zongji", value_parser = number)]
    from: String,
    /// User for that one's challenge.
    #[arg(long, requires = "password")]
    user: Option<String>,
    /// Password for that one's challenge.
    #[arg(long, requires = "user")]
    password: Option<String>,
    /// Ask this server by OPTIONS, as a trunk of the configuration is asked (repeatable).
    #[arg(long, value_name = "HOST[:PORT]")]
    trunk: Vec<String>,
    /// Certificate to look at (default: the configured one).
    #[arg(long, value_name = "FILE.pem", requires = "key")]
    certificate: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE.pem", requires = "certificate")]
    key: Option<PathBuf>,
    /// Name by which others reach us over TLS: the certificate must be for it.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Do not call the hotline itself.
    #[arg(long)]
    no_self_call: bool,
    /// Length of each test call in seconds, 5 to 120; clocks are told apart from 10 on.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(5..=120))]
    seconds: u64,
    #[command(flatten)]
    over: setup::Overrides,
}

/// For clap.
fn peer(typed: &str) -> Result<String, String> {
    let sip = typed.starts_with("sip:") && typed.contains('@') && host_of(typed).is_some();
    if sip { Ok(typed.to_owned()) } else { Err("write it as sip:NUMBER@HOST or sip:NUMBER@HOST:PORT".into()) }
}

/// For clap: what can stand before the @ of our own address.
fn number(typed: &str) -> Result<String, String> {
    let fine = !typed.is_empty() && typed.chars().all(|c| c.is_ascii_alphanumeric() || "+-._*#".contains(c));
    if fine { Ok(typed.to_owned()) } else { Err("give digits or letters".into()) }
}

/// What the probes share.
struct Doctor {
    args: Args,
    config: Config,
    json: bool,
    lang: Lang,
    /// The address of the interface that leads outside.
    interface: IpAddr,
    worst: Level,
}

pub fn run(context: &Context, args: Args) -> anyhow::Result<bool> {
    let config = args.over.apply(setup::config(context)?)?;
    let lang = args.lang.unwrap_or_else(Lang::of_environment);
    let towards: IpAddr =
        if config.sip.bind.is_ipv4() { [192, 0, 2, 1].into() } else { [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into() };
    let bound = Some(config.sip.bind.ip()).filter(|ip| !ip.is_unspecified());
    let found = local_address(towards);
    // Without any way outside the question comes back as it was.
    let interface = bound.unwrap_or(if found == towards { [127, 0, 0, 1].into() } else { found });
    let doctor = Doctor { args, config, json: context.json, lang, interface, worst: Level::Ok };
    setup::runtime()?.block_on(doctor.examine())
}

impl Doctor {
    async fn examine(mut self) -> anyhow::Result<bool> {
        let port = self.sip_port().await;
        let limits = machine::limits(&self.config, port.clone());
        self.tell(machine::findings(&limits));
        let found = self.addresses().await?;
        self.tell(found);
        let beat = tokio::task::spawn_blocking(|| machine::beat(Duration::from_secs(2))).await?;
        self.tell(machine::of_beat(&beat));
        let found = match &port {
            _ if self.args.no_self_call => Vec::new(),
            SipPort::Free => self.temporary().await?,
            SipPort::Ours(_) => self.running().await?,
            SipPort::Taken(_) => Vec::new(),
        };
        self.tell(found);
        if let Some((certificate, key)) = self.certificate() {
            let now = crate::server::time::utc().0 / 1000;
            self.tell(certificate::probe(&certificate, &key, self.args.host.as_deref(), now));
        }
        let found = self.trunks().await;
        self.tell(found);
        if let Some(uri) = self.args.peer.clone() {
            let found = self.peer(&uri, port == SipPort::Free).await?;
            self.tell(found);
        }
        self.verdict();
        Ok(self.worst < Level::Error)
    }

    fn tell(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            self.worst = self.worst.max(finding.level);
            finding.tell(self.json, self.lang);
        }
    }

    fn verdict(&self) {
        let words = match self.worst {
            Level::Ok => words!("线路正常。", "The line is in order."),
            Level::Warn => words!("线路可用;请看上面标「注意」的各项。", "The line works; see the notes above."),
            Level::Error => words!(
                "线路有故障;请先处理上面标「故障」的各项。",
                "The line is out of order; mend what is marked BAD first."
            ),
        };
        if self.json {
            let level = format!("{:?}", self.worst).to_lowercase();
            out::json(&serde_json::json!({"check": "line", "level": level, "seen": words.get(self.lang)}));
        } else {
            say!("{}", words.get(self.lang));
        }
    }

    /// Where a caller on this machine finds the hotline.
    fn hotline(&self) -> SocketAddr {
        let bind = self.config.sip.bind;
        SocketAddr::new(self.interface, bind.port())
    }

    async fn sip_port(&self) -> SipPort {
        let Err(why) = machine::is_free(self.config.sip.bind) else { return SipPort::Free };
        let to = self.hotline();
        let asked = options(SocketAddr::new(self.interface, 0), &format!("sip:{to}"), to).await;
        match asked.ok().flatten().and_then(|(reply, _)| reply.server) {
            Some(server) if server.starts_with("zongji/") => SipPort::Ours(server),
            Some(server) => SipPort::Taken(format!("{why} ({server})")),
            None => SipPort::Taken(why.to_string()),
        }
    }

    async fn addresses(&self) -> anyhow::Result<Vec<Finding>> {
        let c = &self.config;
        let bound = Some(c.rtp.bind).filter(|ip| !ip.is_unspecified());
        let advertised = c.rtp.public_address.or(c.sip.public_address).or(bound).unwrap_or(self.interface);
        let socket = UdpSocket::bind((c.rtp.bind, 0)).await.ok();
        let mut reflexive = Vec::new();
        if let Some(socket) = &socket {
            for server in &self.args.stun {
                self.ask_stun(socket, server, &mut reflexive).await;
            }
        }
        let servers = trunk::servers(c).into_iter().map(|(name, uri)| (name, host_of(&uri)));
        let named = self.args.trunk.iter().map(|t| (t.clone(), host_port(t, 5060)));
        let peer = self.args.peer.iter().map(|p| (p.clone(), host_of(p)));
        let mut far = Vec::new();
        for (name, host) in servers.chain(named).chain(peer) {
            if let Some((host, port)) = host
                && let Some(at) = resolve(&host, port, c.sip.bind.is_ipv4()).await
                && !is_private(at.ip())
            {
                far.push(format!("{name} ({})", at.ip()));
            }
        }
        let is_ours = UdpSocket::bind((advertised, 0)).await.is_ok();
        let configured = (c.sip.public_address, c.rtp.public_address);
        let facts = Addresses {
            configured,
            advertised: Some(advertised),
            interface: Some(self.interface),
            is_ours,
            reflexive,
            far,
        };
        let mut found = address::findings(&facts);
        found.extend(self.contact(advertised).await?);
        Ok(found)
    }

    /// Asks a server, and where it names another address of its own, that one too.
    async fn ask_stun(&self, socket: &UdpSocket, server: &str, into: &mut Vec<(String, Result<SocketAddr, String>)>) {
        let at = match host_port(server, 3478) {
            Some((host, port)) => resolve(&host, port, self.config.rtp.bind.is_ipv4()).await,
            None => None,
        };
        let Some(at) = at else {
            into.push((server.to_owned(), Err("no address is known for it".into())));
            return;
        };
        let answer = stun::ask(socket, at).await;
        let other = answer.as_ref().ok().and_then(|a| a.other).filter(|_| self.args.stun.len() == 1);
        into.push((server.to_owned(), answer.map(|a| a.mapped).map_err(|e| e.to_string())));
        if let Some(other) = other
            && let Ok(again) = stun::ask(socket, other).await
        {
            into.push((other.to_string(), Ok(again.mapped)));
        }
    }

    /// Does what is sent to the address in our Contact come to a socket of ours? A NAT that does not hairpin says no.
    async fn contact(&self, advertised: IpAddr) -> anyhow::Result<Option<Finding>> {
        if advertised == self.interface {
            return Ok(None);
        }
        let socket = UdpSocket::bind((self.config.sip.bind.ip(), 0)).await?;
        let to = SocketAddr::new(advertised, socket.local_addr()?.port());
        let reached = contact_is_reached(&socket, to, self.interface).await;
        Ok(Some(if reached {
            Finding::ok(
                "contact",
                words!("发到 {advertised} 的包回到了本机", "what is sent to {advertised} comes to this machine"),
            )
        } else {
            Finding::warn(
                "contact",
                words!(
                    "从本机发到 {advertised} 的包没有回到本机",
                    "what this machine sends to {advertised} does not come back to it"
                ),
                words!(
                    "地址写错了;或者路由器不支持回流(hairpin),那么外面的电话仍可能正常",
                    "the address is wrong; or the router does not hairpin, and calls from outside may still be fine"
                ),
                words!(
                    "用 --stun 核对地址,或从外网打一个电话看能否超过 32 秒",
                    "check the address with --stun, or call from outside and stay for more than 32 s"
                ),
            )
        }))
    }

    /// A hotline of our own with nothing but a line route, where the configured one would be.
    async fn temporary(&self) -> anyhow::Result<Vec<Finding>> {
        let user = format!("line-{:016x}", rand::random::<u64>());
        let data = std::env::temp_dir().join(format!("zongji-{user}"));
        std::fs::create_dir_all(&data)?;
        let settings = HotlineSettings {
            data: data.clone(),
            numbers: Vec::new(),
            record: false,
            seed_demo: false,
            speech: false,
            echo_guard: false,
            seats: Vec::new(),
            trunks: Vec::new(),
            outbound: Vec::new(),
            listeners: Default::default(),
            open: true,
            shards: 1,
            trusted: vec![Network { address: self.interface, bits: if self.interface.is_ipv4() { 32 } else { 128 } }],
            routes: vec![TestRoute {
                user: user.clone(),
                kind: RouteKind::Line,
                listening: Listening::Keys,
                file: None,
                target: String::new(),
                record: false,
            }],
            min_free_mb: 0,
            ..setup::settings(&self.config)
        };
        let done = self.call_temporary(settings, &user).await;
        let _left_for_the_system_to_tidy = std::fs::remove_dir_all(&data);
        done
    }

    async fn call_temporary(&self, settings: HotlineSettings, user: &str) -> anyhow::Result<Vec<Finding>> {
        let flows = FlowSet::compile(crate::dialplan::embedded())
            .map_err(|p| anyhow::anyhow!("the built-in dialplans have {} problem(s)", p.len()))?;
        let engines = load(&EngineSettings { builtin: false, models: Some("/".into()), ..EngineSettings::default() });
        let hotline = match Hotline::start(settings, Arc::new(flows), engines).await {
            Ok(hotline) => hotline,
            Err(why) => {
                return Ok(vec![Finding::error(
                    "self-call",
                    words!("临时总机起不来:{why}", "a hotline for the check does not start: {why}"),
                    words!("总机也起不来", "nor would the hotline"),
                    words!("先处理上面的故障", "mend what is said above first"),
                )]);
            }
        };
        let to = SocketAddr::new(self.interface, hotline.sip_address().port());
        let seen = self.call(&format!("sip:{user}@{to}"), to, true, SocketAddr::new(self.interface, 0)).run().await;
        hotline.shutdown().await;
        Ok(of_call(&seen?, Far::Line, &format!("sip:line@{to}")))
    }

    /// A call into the hotline that is running: its line route, else its first number.
    async fn running(&self) -> anyhow::Result<Vec<Finding>> {
        let to = self.hotline();
        let line = self.config.test_routes.iter().find(|r| r.kind == ConfiguredRoute::Line);
        let number = self.config.sip.numbers.iter().find(|n| *n != "*").map_or("400", String::as_str);
        let (user, far) = line.map_or((number, Far::Hotline), |r| (r.user.as_str(), Far::Line));
        let uri = format!("sip:{user}@{to}");
        let seen = self.call(&uri, to, far == Far::Line, SocketAddr::new(self.interface, 0)).run().await?;
        let mut found = of_call(&seen, far, &uri);
        if far == Far::Hotline {
            found.push(Finding::warn(
                "line-route",
                words!("运行中的总机没有 line 测试号码", "the running hotline has no test route of kind line"),
                words!("按键没有测,两个方向的测试音也没有", "keys were not tried, nor a tone each way"),
                words!("在 zongji.toml 里加 [[test_route]] user = \"line\" kind = \"line\" 并重启,再检查一次", "put  [[test_route]] user = \"line\" kind = \"line\"  into zongji.toml, start again, and check once more"),
            ));
        }
        if let Some(http) = self.config.http.bind {
            let health = tokio::task::spawn_blocking(move || trunk::health(setup::reachable(http))).await?;
            found.extend(trunk::of_health(health));
        }
        Ok(found)
    }

    fn call(&self, uri: &str, to: SocketAddr, keys: bool, bind: SocketAddr) -> LineCall {
        LineCall {
            bind,
            says: None,
            rtp: (self.interface, None),
            uri: uri.to_owned(),
            to,
            from: self.args.from.clone(),
            credential: None,
            talk: Duration::from_secs(self.args.seconds),
            keys,
            patience: Duration::from_secs(10),
        }
    }

    /// A call to somebody else, as the hotline would place it: from its address and ports where they are free.
    async fn peer(&self, uri: &str, free: bool) -> anyhow::Result<Vec<Finding>> {
        let c = &self.config;
        let at = match host_of(uri) {
            Some((host, port)) => resolve(&host, port, c.sip.bind.is_ipv4()).await,
            None => None,
        };
        let Some(to) = at else {
            return Ok(vec![Finding::error(
                "call",
                words!("{uri} 的主机查不到地址", "no address is known for the host of {uri}"),
                words!("打不出去", "it cannot be called"),
                words!("核对主机名和 DNS", "check the host name and the DNS"),
            )]);
        };
        let ours = if c.sip.bind.ip().is_unspecified() { local_address(to.ip()) } else { c.sip.bind.ip() };
        let call = LineCall {
            says: Some(c.rtp.public_address.or(c.sip.public_address).unwrap_or(ours)),
            rtp: (c.rtp.bind, Some(c.rtp.ports.clone())),
            credential: self.args.user.clone().zip(self.args.password.clone()),
            patience: Duration::from_secs(45),
            ..self.call(uri, to, false, SocketAddr::new(c.sip.bind.ip(), if free { c.sip.bind.port() } else { 0 }))
        };
        Ok(of_call(&call.run().await?, Far::Peer, uri))
    }

    /// The files given, else the configured ones.
    fn certificate(&self) -> Option<(PathBuf, PathBuf)> {
        let (a, tls) = (&self.args, &self.config.sip.tls);
        a.certificate.clone().zip(a.key.clone()).or_else(|| tls.certificate.clone().zip(tls.key.clone()))
    }

    async fn trunks(&self) -> Vec<Finding> {
        let given = self.args.trunk.iter().map(|t| (t.clone(), format!("sip:{t}")));
        let mut found = Vec::new();
        for (name, server) in trunk::servers(&self.config).into_iter().chain(given) {
            let asked = self.ask(&server).await;
            found.push(trunk::finding(&name, &server, &asked));
        }
        found
    }

    async fn ask(&self, server: &str) -> Asked {
        let lower = server.to_ascii_lowercase();
        if lower.starts_with("sips:")
            || ["=tcp", "=tls", "=ws"].iter().any(|t| lower.contains(&format!("transport{t}")))
        {
            return Asked::OtherTransport;
        }
        let Some((host, port)) = host_of(server) else { return Asked::Unknown };
        let Some(to) = resolve(&host, port, self.config.sip.bind.is_ipv4()).await else { return Asked::Unknown };
        match options(SocketAddr::new(self.config.sip.bind.ip(), 0), server, to).await {
            Ok(Some((reply, ms))) => Asked::Answered(reply.code, ms),
            Ok(None) | Err(_) => Asked::Silent,
        }
    }
}

/// The first address of a name, of the family that our sockets speak.
async fn resolve(host: &str, port: u16, v4: bool) -> Option<SocketAddr> {
    let looked = tokio::time::timeout(Duration::from_secs(3), lookup_host((host, port))).await;
    looked.ok().and_then(Result::ok).and_then(|mut all| all.find(|a| a.is_ipv4() == v4))
}
