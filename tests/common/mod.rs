//! A whole hotline on loopback, a caller for it, and a bad network between them.

pub mod baresip;
pub mod chromium;
pub mod far;
pub mod linphone;
pub mod ports;
pub mod proxy;
pub mod relays;
pub mod secure;
pub mod sip;
mod skip;
pub mod sound;
pub mod wire;

pub use skip::skipped;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use zongji::call::CallEvent;
use zongji::dialplan::FlowSet;
use zongji::engines::Engines;
use zongji::sdp::Codec;
use zongji::server::bus::News;
use zongji::server::hotline::{HotlineSettings, Seat, TestRoute, read_dialplans};
use zongji::server::phone::{Act, CallResult, Phone, PhoneNews, PhoneSettings, Step, When};
use zongji::server::routes::{Listening, RouteKind};
use zongji::server::{Hotline, Notice};
use zongji::sip::Credential;
use zongji::sip::trace::TraceSettings;

/// The demo customer with one order, still being packed.
pub const ONE_ORDER: &str = "13800138000";
/// A number nobody knows.
pub const STRANGER: &str = "13511112222";
/// The seat of the tests.
pub const SEAT: (&str, &str) = ("8001", "secret-8001");

/// The shipped dialplans, compiled once.
pub fn flows() -> Arc<FlowSet> {
    static FLOWS: OnceLock<Arc<FlowSet>> = OnceLock::new();
    FLOWS
        .get_or_init(|| {
            let files = read_dialplans(&root().join("dialplans")).expect("the shipped dialplans are readable");
            Arc::new(FlowSet::compile(files).expect("the shipped dialplans have no errors"))
        })
        .clone()
}

/// The bundled models, loaded once.
pub fn engines() -> Engines {
    static ENGINES: OnceLock<Engines> = OnceLock::new();
    ENGINES.get_or_init(|| zongji::engines::load(&zongji::engines::EngineSettings::default())).clone()
}

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A running hotline with its own data folder.
pub struct Running {
    pub hotline: Hotline,
    pub sip: SocketAddr,
    /// Lives as long as the hotline.
    _data: tempfile::TempDir,
}

/// Settings of a hotline on a port of its own; change what a test needs.
pub fn settings(data: &tempfile::TempDir) -> HotlineSettings {
    // Each hotline of this process has RTP ports of its own.
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let first = 30_000 + (n % 100) * 200;
    HotlineSettings {
        sip: ([127, 0, 0, 1], 0).into(),
        listeners: zongji::sip::Listeners::default(),
        trunks: Vec::new(),
        outbound: Vec::new(),
        open: true,
        public: None,
        max_calls: 50,
        calls_per_s: 0,
        calls_per_source: 50,
        numbers: vec!["400".into()],
        rtp_bind: [127, 0, 0, 1].into(),
        rtp_ports: first..=first + 199,
        stun: None,
        dead_after_s: 60,
        codecs: vec![Codec::Pcma, Codec::Pcmu],
        dtx: false,
        shards: 1,
        srtp: zongji::sdp::SrtpPolicy::Optional,
        hear_workers: 1,
        data: data.path().to_path_buf(),
        record: true,
        seed_demo: true,
        speech: true,
        echo_guard: false,
        seats: vec![Seat {
            user: SEAT.0.into(),
            password: SEAT.1.into(),
            queues: Vec::new(),
            skills: Vec::new(),
            phone: None,
        }],
        supervisors: Vec::new(),
        routes: Vec::<TestRoute>::new(),
        trusted: Vec::new(),
        realm: "zongji".into(),
        max_call_s: 600,
        write_queue: 4096,
        min_free_mb: 0,
        names: zongji::sip::Resolver::default(),
        trace: Some(TraceSettings { dir: data.path().join("traces"), calls: 1000, bytes: 50 << 20 }),
        hold_music: None,
        notices: Vec::new(),
        answer_delay_ms: 0,
    }
}

/// Starts a hotline; `change` may alter its settings.
pub async fn start(change: impl FnOnce(&mut HotlineSettings)) -> Running {
    let data = tempfile::tempdir().expect("a temporary folder");
    let mut settings = settings(&data);
    change(&mut settings);
    let hotline = Hotline::start(settings, flows(), engines()).await.expect("the hotline starts");
    let sip = hotline.sip_address();
    Running { hotline, sip, _data: data }
}

impl Running {
    /// Its data folder.
    pub fn data(&self) -> &std::path::Path {
        self._data.path()
    }

    /// A hotline that a test started itself.
    pub fn of(hotline: Hotline, sip: SocketAddr, data: tempfile::TempDir) -> Self {
        Running { hotline, sip, _data: data }
    }

    /// Calls 400 from a number and follows a script.
    pub async fn call(&self, from: &str, script: Vec<Step>) -> CallResult {
        self.call_with(PhoneSettings::new(([127, 0, 0, 1], 0).into(), from), script).await
    }

    /// The same with a phone's own settings.
    pub async fn call_with(&self, settings: PhoneSettings, script: Vec<Step>) -> CallResult {
        let mut phone = Phone::start(settings).await.expect("a phone");
        let mut log = |news: PhoneNews| {
            if !matches!(news, PhoneNews::Over(_)) {
                eprintln!("phone: {news:?}");
            }
        };
        phone.call(&format!("sip:400@{}", self.sip), script, &mut log).await.expect("the call is placed")
    }

    /// Waits until no call is left and everything is on disk.
    pub async fn settle(&self) {
        until("all calls are gone", || self.hotline.calls() == 0).await;
        // The last report of a call passes through the switchboard before its record is queued.
        let store = self.hotline.store().clone();
        for _ in 0..100 {
            let _late = self.hotline.flush(Duration::from_secs(5)).await;
            if store.open_calls().await.expect("the store answers") == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("a call was never closed in the database");
    }
}

/// A number of the tests' own.
pub fn route(user: &str, kind: RouteKind, target: &str) -> TestRoute {
    TestRoute { user: user.into(), kind, listening: Listening::Keys, file: None, target: target.into(), record: false }
}

/// An address of this machine that is not loopback: there nobody knows who calls from it. None where it has no other.
pub fn outside() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

/// A phone that is registered as the tests' seat.
pub async fn seat(running: &Running) -> Phone {
    let seat = Phone::start(PhoneSettings::new(([127, 0, 0, 1], 0).into(), SEAT.0)).await.expect("a phone");
    let credential = Credential { user: SEAT.0.into(), password: SEAT.1.into(), realm: None };
    seat.agent().register(running.sip, &credential, 300).await.expect("it registers");
    seat
}

/// Follows what happens in the calls of a hotline, from now on.
pub struct Watch(tokio::sync::broadcast::Receiver<Notice>);

impl Watch {
    /// Begins to watch.
    pub fn of(running: &Running) -> Watch {
        Watch(running.hotline.bus().subscribe())
    }

    /// Waits for an event; what came until then, it included.
    pub async fn until(&mut self, what: &str, mut is_it: impl FnMut(&CallEvent) -> bool) -> Vec<CallEvent> {
        let mut seen = Vec::new();
        let end = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let Ok(notice) = tokio::time::timeout_at(end, self.0.recv()).await else {
                panic!("never happened: {what}; but {seen:?}")
            };
            if let News::Event(event) = notice.expect("the bus keeps up").what {
                let found = is_it(&event);
                seen.push(event);
                if found {
                    return seen;
                }
            }
        }
    }

    /// Everything that has happened and was not waited for.
    pub fn all(&mut self) -> Vec<CallEvent> {
        let mut seen = Vec::new();
        while let Ok(notice) = self.0.try_recv() {
            if let News::Event(event) = notice.what {
                seen.push(event);
            }
        }
        seen
    }
}

/// Waits for something that must become true within ten seconds.
pub async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    for _ in 0..500 {
        if is_true() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never came true: {what}");
}

/// A caller's recording of audio-fixtures/.
pub fn say(name: &str) -> Act {
    let file = root().join("audio-fixtures").join(format!("{name}.wav"));
    Act::Say(zongji::server::sound::read(&file).expect("a fixture"), name.into())
}

/// Says something when the prompt has ended.
pub fn answer(name: &str) -> Step {
    Step { when: When::PromptEnd, act: say(name) }
}

/// Presses keys when the prompt has ended.
pub fn keys(keys: &str) -> Step {
    Step { when: When::PromptEnd, act: Act::Keys(keys.into()) }
}

/// Presses keys this many milliseconds into a prompt.
pub fn keys_into(ms: u32, keys: &str) -> Step {
    Step { when: When::Into(ms), act: Act::Keys(keys.into()) }
}

/// Hangs up after this many milliseconds.
pub fn hang_up(ms: u32) -> Step {
    Step { when: When::After(ms), act: Act::HangUp }
}

/// A sine of so many seconds.
pub fn tone(hz: f32, seconds: usize) -> Vec<i16> {
    let mut pcm = vec![0; 8000 * seconds];
    zongji::audio::ToneGenerator::new(zongji::audio::Tone::sine(hz, 8000.0)).fill(&mut pcm);
    pcm
}
