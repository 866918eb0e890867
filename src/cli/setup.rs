//! From the configuration to a running hotline, with every problem said where the user made it.

use super::{Context, out};
use crate::config::{
    Config, ConfigProblem, Direction, RecogniserChoice, RouteKind as ConfiguredRoute, TestRoute as ConfiguredTestRoute,
};
use crate::dialplan::{FlowSet, SourceFile, flowtest};
use crate::engines::{EngineSettings, Engines};
use crate::server::Supervisor;
use crate::server::hotline::{HotlineSettings, Seat, TestRoute, read_dialplans};
use crate::server::outbound::Rule;
use crate::server::routes::{Listening, RouteKind};
use crate::server::trunks::{Server, Trunk};
use crate::server::{Hotline, StartError};
use crate::sip::trace::TraceSettings;
use crate::sip::{Credential, Listeners, TlsFiles};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Dialplans in the working directory, used when the configuration names none.
const DIALPLANS: &str = "dialplans";

/// The runtime of everything that is not media.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(cores.clamp(1, 8)).enable_all().build()?)
}

/// The configuration; its problems are printed, all of them.
pub fn config(context: &Context) -> anyhow::Result<Config> {
    Config::load(context.config.as_deref()).map_err(listed)
}

fn listed(problems: Vec<ConfigProblem>) -> anyhow::Error {
    let list: Vec<String> = problems.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("the configuration has {} problem(s):\n{}", list.len(), list.join("\n"))
}

/// Where the dialplans are: a folder, or nowhere (the shipped ones).
pub fn dialplan_dir(config: &Config) -> Option<PathBuf> {
    config.dialplans.dir.clone().or_else(|| Some(PathBuf::from(DIALPLANS)).filter(|d| d.join("hotline.yaml").is_file()))
}

/// The dialplan files of a folder, or the configured ones.
pub fn dialplan_files(context: &Context, dir: Option<PathBuf>) -> anyhow::Result<Vec<SourceFile>> {
    match dir {
        Some(dir) => from_folder(&dir),
        None => configured_dialplans(&config(context)?),
    }
}

fn configured_dialplans(config: &Config) -> anyhow::Result<Vec<SourceFile>> {
    match dialplan_dir(config) {
        Some(dir) => from_folder(&dir),
        None => Ok(crate::dialplan::embedded()),
    }
}

fn from_folder(dir: &Path) -> anyhow::Result<Vec<SourceFile>> {
    let files = read_dialplans(dir)
        .map_err(|e| anyhow::anyhow!("{}: {e}; give the folder that holds hotline.yaml", dir.display()))?;
    anyhow::ensure!(
        !files.is_empty(),
        "{} holds no .yaml file: give the folder that holds hotline.yaml",
        dir.display()
    );
    Ok(files)
}

/// Compiled dialplans; their problems are printed.
pub fn compile(context: &Context, files: Vec<SourceFile>) -> Option<FlowSet> {
    match FlowSet::compile(files) {
        Ok(set) => Some(set),
        Err(problems) => {
            out::problems(context.json, &problems);
            note!("the dialplans have {} problem(s); nothing was started", problems.len());
            None
        }
    }
}

/// Compiled dialplans whose own tests pass; all problems are printed.
fn publishable(context: &Context, files: Vec<SourceFile>) -> Option<Arc<FlowSet>> {
    let set = Arc::new(compile(context, files)?);
    let failed = flowtest::problems(&set, &flowtest::run_all(&set));
    if failed.is_empty() {
        return Some(set);
    }
    out::problems(context.json, &failed);
    note!("{} test(s) inside the dialplans fail; nothing was started", failed.len());
    None
}

/// A seat whose queue no flow can hand over to would never be rung.
pub fn unknown_queues(config: &Config, flows: &FlowSet) -> Option<String> {
    let known = &flows.hotline().queues;
    let wrong = |q: &&String| *q != "*" && !known.contains(q);
    let (user, queue) = config.seats.iter().find_map(|s| Some((&s.user, s.queues.iter().find(wrong)?)))?;
    Some(format!("[[seat]] {user}: there is no queue \"{queue}\"; hotline.yaml has {}", known.join(", ")))
}

/// The models as configured, for a command that is no hotline: it leaves nothing on disk.
pub fn engines(context: &Context) -> anyhow::Result<Engines> {
    Ok(engines_of(&config(context)?, None))
}

/// The models as configured: whisper hears where it is chosen or, left to choose, where its file is given.
fn engines_of(config: &Config, cache: Option<PathBuf>) -> Engines {
    let choice = config.speech.recogniser;
    let mut engines = crate::engines::load(&EngineSettings {
        models: config.models.dir.clone(),
        whisper: config.models.whisper.clone().filter(|_| choice != RecogniserChoice::Bundled),
        cache: cache.filter(|_| config.speech.prompt_cache_mb > 0),
        cache_bytes: u64::from(config.speech.prompt_cache_mb) << 20,
        prompts: Some(config.data.dir.join("recorded-prompts")),
        ..EngineSettings::default()
    });
    match choice {
        RecogniserChoice::None => (engines.recognizer, engines.whisper) = (None, None),
        RecogniserChoice::Whisper if engines.whisper.is_none() => {
            engines.problems.push("[speech] recogniser is \"whisper\", but no whisper file could be used: set [models] whisper; the bundled recogniser hears instead".into());
        }
        _ => {}
    }
    if let Some(whisper) = engines.whisper.take() {
        engines.recognizer = Some(whisper);
    }
    engines
}

/// What the command line says over the configuration.
#[derive(clap::Args, Default)]
pub struct Overrides {
    /// SIP address (UDP and TCP), over the configuration's.
    #[arg(long, value_name = "ADDR:PORT")]
    pub sip: Option<SocketAddr>,
    /// Health and metrics address, over the configuration's.
    #[arg(long, value_name = "ADDR:PORT")]
    pub http: Option<SocketAddr>,
    /// Data folder, over the configuration's.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

impl Overrides {
    /// The configuration with these in it; together they are checked as a file is.
    pub fn apply(&self, mut config: Config) -> anyhow::Result<Config> {
        if let Some(dir) = &self.data {
            config.data.dir = dir.clone();
        }
        config.sip.bind = self.sip.unwrap_or(config.sip.bind);
        config.http.bind = self.http.or(config.http.bind);
        config.checked().map_err(listed)
    }
}

/// A hotline that has started, and what the command needs of its settings.
pub struct Started {
    /// The hotline.
    pub hotline: Hotline,
    /// Data folder.
    pub data: PathBuf,
}

/// Starts a hotline. None when something was wrong and has been printed.
pub async fn start(context: &Context, over: &Overrides, config: Config) -> anyhow::Result<Option<Started>> {
    let config = over.apply(config)?;
    let Some(flows) = publishable(context, configured_dialplans(&config)?) else { return Ok(None) };
    if let Some(problem) = unknown_queues(&config, &flows) {
        anyhow::bail!("{problem}");
    }
    // Before anything is put into it: whoever makes the folder decides who may look into it.
    crate::store::make_private_folder(&config.data.dir)
        .map_err(|e| anyhow::anyhow!("no data folder: {e}; or give another one with --data DIR"))?;
    let engines = engines_of(&config, Some(config.data.prompts()));
    match Hotline::start(settings(&config), flows, engines).await {
        Ok(hotline) => Ok(Some(Started { hotline, data: config.data.dir })),
        Err(StartError::Dialplan(problems)) => {
            out::problems(context.json, &problems);
            Ok(None)
        }
        Err(e) => Err(e.into()),
    }
}

pub fn settings(c: &Config) -> HotlineSettings {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let half = cores.div_ceil(2);
    let or_half = |n: u16| if n == 0 { half } else { usize::from(n) };
    HotlineSettings {
        sip: c.sip.bind,
        listeners: listeners(c),
        trunks: c.trunks.iter().map(trunk).collect(),
        outbound: c.outbound.iter().map(rule).collect(),
        open: c.sip.open.unwrap_or(c.trunks.is_empty()),
        public: c.rtp.public_address.or(c.sip.public_address),
        max_calls: c.sip.max_calls as usize,
        calls_per_s: c.sip.calls_per_s,
        calls_per_source: c.sip.calls_per_source as usize,
        numbers: c.sip.numbers.clone(),
        rtp_bind: c.rtp.bind,
        rtp_ports: c.rtp.ports.clone(),
        stun: c.rtp.stun.clone(),
        dead_after_s: u64::from(c.rtp.dead_after_s),
        codecs: c.media.codecs.clone(),
        dtx: c.media.dtx,
        shards: or_half(c.media.shards),
        srtp: c.media.srtp,
        hear_workers: or_half(c.limits.workers),
        data: c.data.dir.clone(),
        record: c.record.on,
        seed_demo: c.data.demo,
        speech: c.speech.vad && c.speech.recogniser != RecogniserChoice::None,
        echo_guard: c.speech.echo_guard,
        seats: c
            .seats
            .iter()
            .map(|s| Seat {
                user: s.user.clone(),
                password: s.password.expose().into(),
                queues: s.queues.iter().filter(|q| *q != "*").cloned().collect(),
                skills: s.skills.clone(),
                phone: s.phone.clone(),
            })
            .collect(),
        supervisors: c
            .supervisors
            .iter()
            .map(|s| Supervisor { user: s.user.clone(), password: s.password.expose().into() })
            .collect(),
        routes: c.test_routes.iter().map(route).collect(),
        trusted: Vec::new(),
        realm: c.sip.realm.clone(),
        max_call_s: c.limits.max_call_s,
        write_queue: c.limits.write_queue as usize,
        min_free_mb: c.limits.min_free_mb,
        trace: c.trace.on.then(|| TraceSettings {
            dir: c.traces(),
            calls: c.trace.keep as usize,
            bytes: u64::from(c.trace.max_mb) << 20,
        }),
        names: crate::sip::Resolver::default(),
        hold_music: c.media.hold_music.clone(),
        notices: c.notices.clone(),
        answer_delay_ms: 0,
    }
}

fn listeners(c: &Config) -> Listeners {
    let tls = &c.sip.tls;
    let files = tls.certificate.clone().zip(tls.key.clone());
    Listeners {
        tls: tls.bind,
        ws: c.sip.ws,
        wss: tls.wss,
        certificate: files.map(|(certificate, key)| TlsFiles { certificate, key, trust: tls.trust.clone() }),
    }
}

fn trunk(t: &crate::config::Trunk) -> Trunk {
    let server = |(i, address): (usize, &String)| Server {
        address: address.clone(),
        priority: if t.share { 0 } else { i as u16 },
        weight: 1,
    };
    let credential =
        |user: &String| Credential { user: user.clone(), password: t.password.expose().into(), realm: None };
    Trunk {
        servers: t.servers.iter().enumerate().map(server).collect(),
        credential: t.user.as_ref().map(credential),
        inbound: t.direction != Direction::Out,
        outbound: t.direction != Direction::In,
        ..t.line.clone()
    }
}

fn rule(o: &crate::config::Outbound) -> Rule {
    let (allow, deny) = (o.allow.clone(), o.deny.clone());
    Rule { role: o.role, allow, deny, at_once: o.at_once, per_hour: o.per_hour }
}

fn route(r: &ConfiguredTestRoute) -> TestRoute {
    TestRoute {
        user: r.user.clone(),
        kind: match r.kind {
            ConfiguredRoute::Ivr | ConfiguredRoute::Rec => RouteKind::Loop,
            ConfiguredRoute::Barge => RouteKind::Barge,
            ConfiguredRoute::Echo => RouteKind::Echo,
            ConfiguredRoute::Bridge => RouteKind::Bridge,
            ConfiguredRoute::Sig => RouteKind::Silent,
            ConfiguredRoute::Line => RouteKind::Line,
        },
        listening: match (r.vad, r.recognise) {
            (_, true) => Listening::Speech,
            (true, false) => Listening::Voice,
            (false, false) => Listening::Keys,
        },
        file: r.file.clone(),
        target: r.target.clone().unwrap_or_default(),
        record: r.kind == ConfiguredRoute::Rec,
    }
}

/// An address a caller on this machine can use.
pub fn reachable(bound: SocketAddr) -> SocketAddr {
    if bound.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], bound.port())) } else { bound }
}

/// Ctrl-C and SIGTERM cancel a token.
pub fn stop_on_signal(stop: tokio_util::sync::CancellationToken) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = term.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}

/// Waits for Ctrl-C or SIGTERM; `reload` runs on every SIGHUP.
pub async fn wait_for_end(reload: impl Fn()) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut hangup, mut term) = (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?);
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            _ = term.recv() => return Ok(()),
            _ = hangup.recv() => reload(),
        }
    }
}
