//! Starting and stopping a hotline: everything is built here, once, and joined.

use super::bus::Bus;
use super::disk::DiskWatch;
use super::inference::Inference;
use super::metrics::MetricsText;
use super::mos::MosFigures;
use super::notices::{self, Notice};
use super::outbound::{Outbound, Rule};
use super::ports::PortPool;
use super::recorder::Recorder;
use super::routes::{Listening, RouteKind};
use super::shard::{self, ShardCommand, ShardHandle, ShardSettings};
use super::supervisors::{self, Supervisor};
use super::switchboard::{Switchboard, SwitchboardParts};
use super::time::{now, utc};
use super::trunks::{Trunk, Trunks};
use super::voices::Voices;
use crate::browser::Identity;
use crate::dialplan::{Await, FlowSet, Input, Listen, Problem, Run, Session, SourceFile, flowtest};
use crate::engines::Engines;
use crate::sdp::{Codec, SrtpPolicy};
use crate::sip::trace::TraceSettings;
use crate::sip::{Account, Listeners, Network, Served, SipAgent, SipError, SipEvent, SipSettings, TrunkPeer};
use crate::store::{Store, StoreError, Writer, WriterHandle};
use rand::SeedableRng;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// A seat's phone and what it answers.
#[derive(Debug, Clone)]
pub struct Seat {
    /// SIP user.
    pub user: String,
    /// SIP password.
    pub password: String,
    /// Queues it serves; empty: all.
    pub queues: Vec<String>,
    /// What it is good at: called first for a transfer that asks for it.
    pub skills: Vec<String>,
    /// A telephone number it is called at by a trunk while no phone of its own is registered.
    pub phone: Option<String>,
}

/// A test route.
#[derive(Debug, Clone)]
pub struct TestRoute {
    /// The number that reaches it.
    pub user: String,
    /// What it does.
    pub kind: RouteKind,
    /// How much it listens.
    pub listening: Listening,
    /// What a loop plays: a WAV file; a built-in tone sequence without one.
    pub file: Option<PathBuf>,
    /// Whom a bridge calls.
    pub target: String,
    /// Whether it is recorded.
    pub record: bool,
}

/// Everything a hotline needs to know.
#[derive(Debug, Clone)]
pub struct HotlineSettings {
    /// SIP address, UDP and TCP.
    pub sip: SocketAddr,
    /// What SIP is listened for on besides.
    pub listeners: Listeners,
    /// Lines to carriers.
    pub trunks: Vec<Trunk>,
    /// Who may call out, and whom.
    pub outbound: Vec<Rule>,
    /// Whether anybody may call; else only trunks, registered phones and this machine.
    pub open: bool,
    /// Address written into SIP and SDP when the bound one is not what peers reach.
    pub public: Option<IpAddr>,
    /// Calls at once; the next gets 503.
    pub max_calls: usize,
    /// New calls a second, for each trunk and for all others together; 0: any number.
    pub calls_per_s: u32,
    /// Calls at once of one address that is no trunk's and not ours.
    pub calls_per_source: usize,
    /// Numbers that reach the hotline; `*` all.
    pub numbers: Vec<String>,
    /// Address RTP is bound to.
    pub rtp_bind: IpAddr,
    /// RTP ports.
    pub rtp_ports: RangeInclusive<u16>,
    /// A STUN server (`host:port`) that tells browsers' legs where they are seen, when we are behind address translation.
    pub stun: Option<String>,
    /// A caller whose RTP stops for this long has gone, in seconds.
    pub dead_after_s: u64,
    /// Codecs, the preferred one first.
    pub codecs: Vec<Codec>,
    /// Whether silence may be told instead of sent, where a peer agrees.
    pub dtx: bool,
    /// Media threads.
    pub shards: usize,
    /// Whether calls are encrypted (SRTP, keys in the session description).
    pub srtp: SrtpPolicy,
    /// Recognition threads.
    pub hear_workers: usize,
    /// Database, recordings, prompt cache.
    pub data: PathBuf,
    /// Whether calls are recorded.
    pub record: bool,
    /// Whether the demo's customers and orders are put into the database where they are missing.
    pub seed_demo: bool,
    /// Whether callers may speak (otherwise keys only).
    pub speech: bool,
    /// Whether our own voice is told from theirs where it comes back.
    pub echo_guard: bool,
    /// Seats.
    pub seats: Vec<Seat>,
    /// Who may listen at the seats.
    pub supervisors: Vec<Supervisor>,
    /// Test routes.
    pub routes: Vec<TestRoute>,
    /// Addresses that are never rate-limited.
    pub trusted: Vec<Network>,
    /// Realm that phones register in.
    pub realm: String,
    /// A call longer than this is ended, in seconds.
    pub max_call_s: u32,
    /// Records that may wait for the disk, and as many events.
    pub write_queue: usize,
    /// Recordings stop while fewer MiB than this are free on the data folder's disk.
    pub min_free_mb: u32,
    /// Who is asked where the hosts of SIP addresses are.
    pub names: crate::sip::Resolver,
    /// Where what SIP says in each call is kept, and how much of it; none: nothing is.
    pub trace: Option<TraceSettings>,
    /// Heard by who is held or waits for a seat: a WAV file; a made chime without one.
    pub hold_music: Option<PathBuf>,
    /// What callers hear instead of the hotline, before an answer.
    pub notices: Vec<Notice>,
    /// How long a call rings before it is answered, in milliseconds.
    pub answer_delay_ms: u32,
}

/// Why a hotline did not start. Every kind says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// SIP.
    #[error(transparent)]
    Sip(#[from] SipError),
    /// Database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Dialplans.
    #[error("the dialplans have {} problem(s); nothing was started", .0.len())]
    Dialplan(Vec<Problem>),
    /// A file or thread.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
}

/// Sound of test routes by file, and the music on hold.
type Sounds = (HashMap<Option<PathBuf>, Arc<[i16]>>, Option<Arc<[i16]>>);
/// Tells the switchboard to stop; it ends when it has.
type Ending = (oneshot::Sender<()>, tokio::task::JoinHandle<()>);

/// A running hotline.
pub struct Hotline {
    agent: SipAgent,
    store: Store,
    bus: Bus,
    shards: Vec<ShardHandle>,
    flows: Arc<RwLock<Arc<FlowSet>>>,
    inference: Option<Inference>,
    recorder: Option<Recorder>,
    stop: Mutex<Option<Ending>>,
    writer: WriterHandle,
    free_ports: Arc<AtomicUsize>,
    refused: Arc<AtomicU64>,
    mos: Arc<MosFigures>,
    disk: DiskWatch,
    watching: [tokio::task::AbortHandle; 2],
    trunks: Trunks,
    outbound: Arc<Mutex<Outbound>>,
    started: crate::clock::Mono,
    engines: Vec<(&'static str, String)>,
    /// Models that could not be used at the start, in plain sentences; see [`Hotline::problems_now`].
    pub problems: Vec<String>,
}

/// Reads every dialplan file of a folder, by name.
pub fn read_dialplans(dir: &Path) -> std::io::Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            // Bytes that are no UTF-8 are a problem of that file, listed with all others when it is parsed.
            let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
            files.push(SourceFile { path: path.display().to_string(), text });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// What the hotline's opening question can hear.
pub fn opening_question(flows: &Arc<FlowSet>) -> Listen {
    match Run::new(flows.clone(), Session::default()).step(Input::Start).then {
        Await::Listen(listen) => *listen,
        other => unreachable!("a hotline opens with a question, not with {other:?}"),
    }
}

impl Hotline {
    /// Builds everything and starts to answer.
    pub async fn start(
        settings: HotlineSettings,
        flows: Arc<FlowSet>,
        engines: Engines,
    ) -> Result<Hotline, StartError> {
        let routes: Vec<_> = settings.routes.iter().cloned().chain(notices::routes(&settings.notices)).collect();
        let prompts = route_prompts(&routes)?;
        let hold_music = hold_music(settings.hold_music.as_deref())?;
        // Else every call would be refused, one by one.
        std::net::UdpSocket::bind((settings.rtp_bind, 0)).map_err(|e| {
            StartError::Io(format!("[rtp] bind = \"{}\": give an address of this machine", settings.rtp_bind), e)
        })?;
        // The port before the database: a second hotline must not close the records of the first one's calls.
        let (agent, sip_events) = SipAgent::start(sip_settings(&settings)).await?;
        let sounds = (prompts, hold_music);
        let started = Hotline::assemble(settings, flows, engines, (agent.clone(), sip_events), sounds).await;
        if started.is_err() {
            agent.shutdown().await;
        }
        started
    }

    async fn assemble(
        settings: HotlineSettings,
        flows: Arc<FlowSet>,
        engines: Engines,
        (agent, sip_events): (SipAgent, mpsc::Receiver<SipEvent>),
        (prompts, hold_music): Sounds,
    ) -> Result<Hotline, StartError> {
        let trunks = Trunks::new(settings.trunks.clone());
        let store = open_store(&settings).await?;
        let names = engines.names();
        let problems = engines.problems.clone();
        let inference = start_inference(&settings, &engines)?;
        // Without one a noise is no answer that was not understood: there are only keys.
        let settings = HotlineSettings { speech: settings.speech && inference.is_some(), ..settings };
        let voices = Voices::start(engines.synthesizer.clone(), 2).map_err(|e| StartError::Io("voice".into(), e))?;
        let recorder = open_recorder(&settings)?;
        let disk = DiskWatch::new(&settings.data, settings.min_free_mb);
        if let Some(recorder) = &recorder {
            recorder.halt(disk.is_low());
        }
        let watching = tokio::spawn(disk.clone().run(recorder.clone())).abort_handle();
        let (reports, from_shards) = mpsc::channel(8192);
        let shards = start_shards(&settings, inference.clone(), voices, reports)?;
        let writer = Writer::spawn(store.clone(), settings.write_queue);
        let bus = Bus::new(4096);
        let flows = Arc::new(RwLock::new(flows));
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(rand::random());
        let ports = PortPool::new(settings.rtp_bind, settings.rtp_ports.clone(), &mut rng);
        let (free_ports, refused) = (ports.gauge(), Arc::new(AtomicU64::new(0)));
        let mos = Arc::new(MosFigures::default());
        let (stop, stopped) = oneshot::channel();
        let outbound = Arc::new(Mutex::new(Outbound::new(settings.outbound.clone())));
        let board = Switchboard::new(SwitchboardParts {
            agent: agent.clone(),
            store: store.clone(),
            writer: writer.clone(),
            bus: bus.clone(),
            shards: shards.clone(),
            flows: flows.clone(),
            trunks: trunks.clone(),
            outbound: outbound.clone(),
            ports,
            recorder: recorder.clone(),
            settings,
            prompts,
            hold_music,
            refused: refused.clone(),
            identity: browser_identity(),
            mos: mos.clone(),
            rng,
        });
        let calling = tokio::spawn(trunks.clone().watch(agent.clone())).abort_handle();
        let done = tokio::spawn(board.run(sip_events, from_shards, stopped));
        Ok(Hotline {
            agent,
            store,
            bus,
            shards,
            flows,
            inference,
            recorder,
            stop: Mutex::new(Some((stop, done))),
            writer,
            free_ports,
            refused,
            mos,
            disk,
            watching: [watching, calling],
            trunks,
            outbound,
            started: now(),
            engines: names,
            problems,
        })
    }

    /// Where SIP is answered.
    pub fn sip_address(&self) -> SocketAddr {
        self.agent.local_addr()
    }

    /// Where SIP is answered by this transport, if it is.
    pub fn listens_on(&self, transport: crate::sip::Transport) -> Option<SocketAddr> {
        self.agent.listens_on(transport)
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What happens in calls.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Contacts registered for a seat.
    pub fn seat_contacts(&self, user: &str) -> usize {
        self.agent.contacts(user).len()
    }

    /// Calls now.
    pub fn calls(&self) -> usize {
        self.shards.iter().map(ShardHandle::load).sum()
    }

    /// RTP port pairs that are not in use (some of them resting).
    pub fn free_ports(&self) -> usize {
        self.free_ports.load(Ordering::Relaxed)
    }

    /// The models in use: what each does, and its name.
    pub fn engines(&self) -> &[(&'static str, String)] {
        &self.engines
    }

    /// Seconds since the start.
    pub fn uptime_s(&self) -> u64 {
        now().ms_since(self.started) / 1000
    }

    /// Hash of the flows that new calls get.
    pub fn flow_set(&self) -> String {
        self.flows.read().map(|f| f.hash().to_owned()).unwrap_or_default()
    }

    /// Puts new flows into use for new calls; calls under way keep theirs. A broken set changes nothing.
    pub fn reload(&self, dir: &Path) -> Result<String, StartError> {
        let files = read_dialplans(dir).map_err(|e| StartError::Io(dir.display().to_string(), e))?;
        let set = Arc::new(FlowSet::compile(files).map_err(StartError::Dialplan)?);
        let failed = flowtest::problems(&set, &flowtest::run_all(&set));
        if !failed.is_empty() {
            return Err(StartError::Dialplan(failed));
        }
        let sha = set.hash().to_owned();
        *self.flows.write().unwrap_or_else(PoisonError::into_inner) = set;
        Ok(sha)
    }

    /// What is wrong now and what to do, in sentences: models that could not be used, a disk that is full or slow.
    pub fn problems_now(&self) -> Vec<String> {
        let mut problems = self.problems.clone();
        problems.extend(self.trunks.problems(now()));
        problems.extend(self.outbound().alarm(now()).map(str::to_string));
        if self.recorder.is_some() {
            problems.extend(self.disk.problem());
        }
        if self.writer.is_failing() {
            problems.push("the database takes no records now (locked by another program, or its disk is full): they wait; see the log".into());
        }
        if self.is_closed() {
            problems.push("records wait for the disk: new calls are refused until it has caught up; look at the data folder's disk".into());
        }
        problems
    }

    fn outbound(&self) -> std::sync::MutexGuard<'_, Outbound> {
        self.outbound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether new calls are refused, however few there are: the disk is too slow, or the hotline is ending.
    pub fn is_closed(&self) -> bool {
        self.writer.is_behind() || self.stop.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Prometheus text.
    pub fn metrics(&self) -> String {
        let sum = |f: fn(&shard::ShardCounters) -> &std::sync::atomic::AtomicU64| -> u64 {
            self.shards.iter().map(|s| f(s.counters()).load(Ordering::Relaxed)).sum()
        };
        let text = MetricsText::new()
            .gauge("zongji_calls", "Calls under way.", self.calls() as f64)
            .gauge("zongji_uptime_seconds", "Seconds since the start.", self.uptime_s() as f64)
            .gauge("zongji_rtp_port_pairs_free", "RTP port pairs not in use.", self.free_ports() as f64)
            .gauge("zongji_data_free_bytes", "Free on the data folder's disk.", self.disk.free() as f64)
            .counter("zongji_media_late_ticks_total", "Media ticks that came late.", sum(|c| &c.late))
            .counter("zongji_call_panics_total", "Calls ended by a fault of the program.", sum(|c| &c.panics))
            .counter("zongji_rtp_ignored_total", "Datagrams on RTP ports that were not played.", sum(|c| &c.ignored))
            .counter("zongji_calls_refused_total", "Calls refused with 503.", self.refused.load(Ordering::Relaxed))
            .counter("zongji_commands_untold_total", "Commands to media threads lost: far behind.", sum(|c| &c.untold))
            .counter("zongji_events_unreported_total", "Events of calls that found no room.", sum(|c| &c.unreported));
        let backlog = self.inference.as_ref().map_or(0, Inference::backlog);
        let lost = self.recorder.as_ref().map_or(0, Recorder::lost_seconds);
        let text = text
            .gauge("zongji_hear_backlog", "Chunks of speech that wait for recognition.", backlog as f64)
            .counter("zongji_recording_lost_seconds_total", "Sound that a slow or full disk cost.", lost);
        self.mos.write(self.sip_metrics(self.trunk_metrics(self.writer_metrics(text)))).finish()
    }

    fn writer_metrics(&self, text: MetricsText) -> MetricsText {
        let w = self.writer.stats();
        text.gauge("zongji_records_waiting", "Records and events that wait for the disk.", w.waiting as f64)
            .counter("zongji_records_written_total", "Records and events on disk.", w.written)
            .counter("zongji_records_refused_total", "Records lost: their queue was full.", w.records_refused)
            .counter("zongji_records_rejected_total", "Records the database would never take.", w.rejected)
            .counter("zongji_record_events_dropped_total", "Events lost: their queue was full.", w.events_dropped)
            .counter("zongji_record_retries_total", "Batches the database did not take at once.", w.retries)
    }

    fn trunk_metrics(&self, text: MetricsText) -> MetricsText {
        let refused: u64 = self.outbound().refused().map(|(_, n)| n).sum();
        let ill = self.trunks.states(now()).iter().filter(|s| !s.well).count();
        text.counter("zongji_outbound_refused_total", "Calls out that no rule allowed, or one too many.", refused)
            .gauge("zongji_trunk_servers_down", "Servers of trunks that do not take calls.", ill as f64)
    }

    fn sip_metrics(&self, text: MetricsText) -> MetricsText {
        let sip = self.agent.counters();
        let traces = self.agent.trace_figures();
        let text = text
            .counter_by("zongji_sip_refused_total", "SIP messages refused, by reason.", "reason", &self.agent.refused())
            .counter("zongji_sip_traces_written_total", "Traces of calls on disk.", traces.written)
            .counter(
                "zongji_sip_traces_spared_total",
                "Traces of ordinary calls not written, so many ended.",
                traces.spared,
            )
            .counter("zongji_sip_trace_missed_total", "Messages that no trace had room for.", traces.lost)
            .counter("zongji_sip_trace_failed_total", "Traces the disk did not take.", traces.failed);
        [
            ("datagrams", "Messages over UDP.", sip.datagrams),
            ("streamed", "Messages over TCP.", sip.streamed),
            ("dropped", "Messages that were no SIP.", sip.dropped),
            ("malformed", "Messages refused for their form.", sip.malformed),
            ("limited", "Messages of senders that asked too often.", sip.limited),
            ("busy", "Calls the SIP side refused with 503.", sip.busy),
            ("calls_in", "Calls that came.", sip.calls_in),
            ("calls_out", "Calls to seats.", sip.calls_out),
            ("registered", "Registrations of seats.", sip.registered),
            ("silent_phones", "Phones of seats that answered no OPTIONS any more.", sip.silent_phones),
            ("unauthorized", "Requests without the right password.", sip.unauthorized),
            ("not_allowed", "Transfers, texts and pick-ups of those who may not.", sip.not_allowed),
            ("loops", "Calls of ours that came back to us.", sip.loops),
        ]
        .into_iter()
        .fold(text, |text, (name, help, value)| text.counter(&format!("zongji_sip_{name}_total"), help, value))
    }

    /// Waits until every record so far is on disk. `Err`: so many were not within the limit.
    pub async fn flush(&self, limit: Duration) -> Result<(), u64> {
        self.writer.flush(limit).await
    }

    /// Takes no new calls from now on; those there are go on.
    pub fn drain(&self) {
        self.agent.drain();
    }

    /// Ends: no new calls, those there are hung up, recordings and records on disk, database closed. A second time does nothing.
    pub async fn shutdown(&self) {
        let ending = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((stop, done)) = ending else { return };
        self.agent.drain();
        let _board_is_gone_already = stop.send(());
        let _gave_up_waiting = tokio::time::timeout(Duration::from_secs(5), done).await;
        for shard in &self.shards {
            shard.send(ShardCommand::Stop);
        }
        self.agent.shutdown().await;
        if let Some(recorder) = &self.recorder {
            // After the last call has left its shard: that is when its recording is closed.
            let end = tokio::time::Instant::now() + Duration::from_secs(2);
            while self.calls() > 0 && tokio::time::Instant::now() < end {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let recorder = recorder.clone();
            let flushed = tokio::task::spawn_blocking(move || recorder.flush(Duration::from_secs(5))).await;
            if !matches!(flushed, Ok(true)) {
                tracing::error!("the last recordings could not be written in time; look at the data folder's disk");
            }
        }
        if let Err(left) = self.writer.flush(Duration::from_secs(5)).await {
            tracing::error!("{left} records could not be written in time");
        }
        self.watching.iter().for_each(tokio::task::AbortHandle::abort);
        // Folds the WAL into the database. A reader that never ends (a shell, a backup) must not hold us up.
        if tokio::time::timeout(Duration::from_secs(5), self.store.close()).await.is_err() {
            tracing::warn!("the database could not be closed in time; nothing is lost, the next start tidies it");
        }
    }
}

/// Without one, offers over DTLS-SRTP are refused; the rest works.
fn browser_identity() -> Option<Arc<Identity>> {
    let made = Identity::new(super::time::anchor());
    made.map(Arc::new).inspect_err(|why| tracing::info!("no browser legs: {why}")).ok()
}

fn start_inference(settings: &HotlineSettings, engines: &Engines) -> Result<Option<Inference>, StartError> {
    let Some(recogniser) = engines.recognizer.clone().filter(|_| settings.speech) else { return Ok(None) };
    let started = Inference::start(recogniser, settings.hear_workers);
    started.map(Some).map_err(|e| StartError::Io("recogniser".into(), e))
}

fn start_shards(
    settings: &HotlineSettings,
    inference: Option<Inference>,
    voices: Voices,
    reports: mpsc::Sender<super::shard::ShardReport>,
) -> Result<Vec<ShardHandle>, StartError> {
    let shared = ShardSettings { inference, voices, reports, dead_after_ms: settings.dead_after_s * 1000 };
    (0..settings.shards.max(1))
        .map(|n| shard::start(&format!("media-{n}"), shared.clone()))
        .collect::<Result<_, _>>()
        .map_err(|e| StartError::Io("media thread".into(), e))
}

async fn open_store(settings: &HotlineSettings) -> Result<Store, StartError> {
    let store = Store::open(&settings.data.join("zongji.db")).await?;
    let cut_off = store.recover().await?;
    if cut_off > 0 {
        tracing::warn!("closed the records of {cut_off} call(s) that the last stop cut off");
    }
    if settings.seed_demo {
        store.seed_demo(utc()).await?;
    }
    Ok(store)
}

fn open_recorder(settings: &HotlineSettings) -> Result<Option<Recorder>, StartError> {
    if !settings.record && !settings.routes.iter().any(|r| r.record) {
        return Ok(None);
    }
    let root = settings.data.join("recordings");
    Recorder::start(&root).map(Some).map_err(|e| StartError::Io(root.display().to_string(), e))
}

/// Read at the start too.
fn hold_music(file: Option<&Path>) -> Result<Option<Arc<[i16]>>, StartError> {
    let Some(file) = file else { return Ok(None) };
    let pcm = super::sound::read(file)
        .map_err(|e| StartError::Io("[media] hold_music: name a WAV file".into(), std::io::Error::other(e)))?;
    Ok(Some(pcm.into()))
}

/// Read at the start, so that a missing file stops it instead of a caller hearing nothing.
fn route_prompts(routes: &[TestRoute]) -> Result<HashMap<Option<PathBuf>, Arc<[i16]>>, StartError> {
    let mut prompts = HashMap::new();
    for route in routes {
        if prompts.contains_key(&route.file) {
            continue;
        }
        let pcm = match &route.file {
            Some(file) => super::sound::read(file).map_err(|e| {
                StartError::Io(
                    format!("test route or notice {}: set its file to a WAV file", route.user),
                    std::io::Error::other(e),
                )
            })?,
            None => super::routes::made_prompt(),
        };
        prompts.insert(route.file.clone(), pcm.into());
    }
    Ok(prompts)
}

/// Where a trunk's messages come from: its networks, and its servers that are given as addresses.
fn peer(trunk: &Trunk) -> TrunkPeer {
    let hosts = trunk.servers.iter().filter_map(|s| crate::sip::numeric_host(&s.address));
    let servers = hosts.map(|ip| Network { address: ip, bits: if ip.is_ipv4() { 32 } else { 128 } });
    TrunkPeer { name: trunk.name.clone(), networks: trunk.networks.iter().copied().chain(servers).collect() }
}

fn sip_settings(settings: &HotlineSettings) -> SipSettings {
    let mut users = settings.numbers.clone();
    users.extend(settings.routes.iter().map(|r| r.user.clone()));
    if !settings.supervisors.is_empty() {
        users.extend(supervisors::numbers(settings.seats.iter().map(|s| s.user.as_str())));
    }
    SipSettings {
        bind: settings.sip,
        public_host: settings.public,
        // Each call may have a seat's leg; callers alone are counted by the switchboard.
        max_calls: settings.max_calls.saturating_mul(2),
        calls_per_s: settings.calls_per_s,
        calls_per_source: settings.calls_per_source,
        users: Served::from_list(users),
        accounts: settings
            .seats
            .iter()
            .filter(|s| !s.password.is_empty())
            .map(|s| (&s.user, &s.password))
            .chain(settings.supervisors.iter().map(|s| (&s.user, &s.password)))
            .map(|(user, password)| Account { user: user.clone(), password: password.clone() })
            .collect(),
        realm: settings.realm.clone(),
        trusted: settings.trusted.clone(),
        trace: settings.trace.clone(),
        names: settings.names.clone(),
        listeners: settings.listeners.clone(),
        open: settings.open,
        trunks: settings.trunks.iter().map(peer).collect(),
        seats_dial_out: settings.outbound.iter().any(|r| r.role == super::outbound::Role::Seat),
        ..SipSettings::default()
    }
}
