//! Configuration: TOML as typed, checked into each room's own settings; every problem is reported at once.
//!
//! No file is needed: [`Config::default`] is a hotline that works. `zongji.example.toml` in the repository shows every
//! key with its default. A file may leave out whatever it does not change; a key nobody knows is an error, since a
//! misspelt key is a setting that silently does not hold.

mod check;
mod read;
#[cfg(test)]
mod tests;

use crate::sdp::{Codec, SrtpPolicy};
use crate::server::outbound::Role;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// The file read when none is named and this one lies in the working directory.
pub const DEFAULT_FILE: &str = "zongji.toml";

/// All settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[sip]`
    pub sip: Sip,
    /// `[rtp]`
    pub rtp: Rtp,
    /// `[media]`
    pub media: Media,
    /// `[http]`
    pub http: Http,
    /// `[browser]`
    pub browser: Browser,
    /// `[data]`
    pub data: Data,
    /// `[models]`
    pub models: Models,
    /// `[dialplans]`
    pub dialplans: Dialplans,
    /// `[speech]`
    pub speech: Speech,
    /// `[record]`
    pub record: Record,
    /// `[trace]`
    pub trace: Trace,
    /// `[limits]`
    pub limits: Limits,
    /// `[[seat]]`
    pub seats: Vec<Seat>,
    /// `[[trunk]]`
    pub trunks: Vec<Trunk>,
    /// `[[outbound]]`
    pub outbound: Vec<Outbound>,
    /// `[[supervisor]]`
    pub supervisors: Vec<Supervisor>,
    /// `[[notice]]`
    pub notices: Vec<crate::server::notices::Notice>,
    /// `[[test_route]]`
    pub test_routes: Vec<TestRoute>,
}

/// Signalling.
#[derive(Debug, Clone, PartialEq)]
pub struct Sip {
    /// Address for UDP and TCP.
    pub bind: SocketAddr,
    /// Address others reach us at, when we stand behind NAT.
    pub public_address: Option<IpAddr>,
    /// Calls at once; more get 503 with `Retry-After`.
    pub max_calls: u32,
    /// New calls a second, for each trunk and for all others together; one more gets 503. 0: any number.
    pub calls_per_s: u32,
    /// Calls at once of one address that is no trunk's.
    pub calls_per_source: u32,
    /// User parts that reach the hotline; `*` stands for any. Others get 404.
    pub numbers: Vec<String>,
    /// The realm phones register in.
    pub realm: String,
    /// Whether anybody may call; `None`: as long as no trunk is configured.
    pub open: Option<bool>,
    /// Address of SIP over WebSocket in clear; `None` (written as "off") for none.
    pub ws: Option<SocketAddr>,
    /// `[sip.tls]`
    pub tls: Tls,
}

/// SIP under TLS: for phones and trunks, and for browsers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tls {
    /// File of our certificate and those that lead to a root (PEM).
    pub certificate: Option<PathBuf>,
    /// File of its key (PEM).
    pub key: Option<PathBuf>,
    /// File of certificates trusted besides the system's, for trunks (PEM).
    pub trust: Option<PathBuf>,
    /// Address of SIP over TLS; `None` (written as "off") for none.
    pub bind: Option<SocketAddr>,
    /// Address of SIP over secure WebSocket; `None` (written as "off") for none.
    pub wss: Option<SocketAddr>,
}

/// Which way calls go by a trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// In and out.
    #[default]
    Both,
    /// Only from it.
    In,
    /// Only to it.
    Out,
}

/// A line to a carrier: what is written otherwise than it is used, and the rest of it as it is used.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trunk {
    /// Its servers: `sip:host`, `sip:host:port;transport=tls`.
    pub servers: Vec<String>,
    /// Whether its servers share the calls; otherwise each is tried when those before it failed.
    pub share: bool,
    /// User name for its challenges.
    pub user: Option<String>,
    /// Password for them.
    pub password: Secret,
    /// Which way calls go.
    pub direction: Direction,
    /// All else, without servers, account and direction.
    pub line: crate::server::trunks::Trunk,
}

/// Who may call out, and whom.
#[derive(Debug, Clone, PartialEq)]
pub struct Outbound {
    /// Whose rule.
    pub role: Role,
    /// Beginnings of numbers allowed.
    pub allow: Vec<String>,
    /// Beginnings refused even so.
    pub deny: Vec<String>,
    /// Calls at once for each user.
    pub at_once: u32,
    /// Calls an hour for each user.
    pub per_hour: u32,
}

/// Sound on the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Rtp {
    /// Ports; even ones carry RTP, the odd ones above them RTCP.
    pub ports: RangeInclusive<u16>,
    /// Address to bind.
    pub bind: IpAddr,
    /// Address offered in SDP instead of the bound one.
    pub public_address: Option<IpAddr>,
    /// A STUN server, `host:port`, that legs of browsers ask where they are seen.
    pub stun: Option<String>,
    /// A leg without any packet for so many seconds has hung up.
    pub dead_after_s: u32,
}

/// Sound inside the hotline: threads, codecs, encryption.
#[derive(Debug, Clone, PartialEq)]
pub struct Media {
    /// How many; 0: one for every two cores, at least one.
    pub shards: u16,
    /// Codecs, the preferred one first.
    pub codecs: Vec<Codec>,
    /// Whether silence may be told instead of sent, where a peer agrees.
    pub dtx: bool,
    /// Heard by who is held or waits for a seat: a WAV file; `None`: a made chime.
    pub hold_music: Option<PathBuf>,
    /// Whether calls are encrypted.
    pub srtp: SrtpPolicy,
}

/// Health and metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct Http {
    /// Address; `None` (written as "off") for no HTTP at all.
    pub bind: Option<SocketAddr>,
}

/// What browsers of seats are told over HTTP (`GET /ice-servers`).
#[derive(Debug, Clone, PartialEq)]
pub struct Browser {
    /// STUN servers: `stun:host:port`.
    pub stun: Vec<String>,
    /// TURN servers: `turn:host:port?transport=udp`, `turns:host:port`.
    pub turn: Vec<String>,
    /// The TURN servers' secret (coturn's `static-auth-secret`), of which passwords that end are made.
    pub turn_secret: Secret,
    /// How long such a password holds, in seconds.
    pub turn_ttl_s: u32,
}

/// Where the hotline keeps what it must not lose.
#[derive(Debug, Clone, PartialEq)]
pub struct Data {
    /// Folder of the database, recordings and the prompt cache.
    pub dir: PathBuf,
    /// Whether the demonstration's customers and orders are put in where they are missing.
    pub demo: bool,
}

impl Data {
    /// The database.
    pub fn database(&self) -> PathBuf {
        self.dir.join("zongji.db")
    }

    /// Folder of the recordings.
    pub fn recordings(&self) -> PathBuf {
        self.dir.join("recordings")
    }

    /// Folder of the prompts that were made.
    pub fn prompts(&self) -> PathBuf {
        self.dir.join("prompts")
    }
}

/// Models.
#[derive(Debug, Clone, PartialEq)]
pub struct Models {
    /// Folder with `manifest.toml`; `None`: looked for, else the models in the program.
    pub dir: Option<PathBuf>,
    /// A whisper ggml file, when there is one.
    pub whisper: Option<PathBuf>,
}

/// Flows.
#[derive(Debug, Clone, PartialEq)]
pub struct Dialplans {
    /// Folder of YAML files; `None`: the ones built into the program.
    pub dir: Option<PathBuf>,
}

/// Which engine hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecogniserChoice {
    /// Whisper where its file is given, else the bundled one.
    Auto,
    /// The bundled Mandarin recogniser.
    Bundled,
    /// Whisper.
    Whisper,
    /// None: keys only.
    None,
}

/// Hearing and speaking.
#[derive(Debug, Clone, PartialEq)]
pub struct Speech {
    /// Who hears.
    pub recogniser: RecogniserChoice,
    /// Whether speech is detected at all; without it callers use keys.
    pub vad: bool,
    /// Whether our own voice, come back from the caller's telephone, is told from the caller's.
    pub echo_guard: bool,
    /// Spoken prompts kept on disk, in MiB; 0: none.
    pub prompt_cache_mb: u32,
}

/// Recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Whether calls are recorded.
    pub on: bool,
}

/// What SIP says in each call, kept for `zongji trace`.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// Whether it is kept.
    pub on: bool,
    /// Calls kept; the oldest go first.
    pub keep: u32,
    /// MiB kept at most.
    pub max_mb: u32,
    /// Folder; `None`: `traces` in the data folder.
    pub dir: Option<PathBuf>,
}

/// Bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// A call longer than this many seconds is ended.
    pub max_call_s: u32,
    /// Threads that run models; 0: one for every two cores, at least one.
    pub workers: u16,
    /// Records that may wait for the disk, and as many events.
    pub write_queue: u32,
    /// Recording stops when less than this many MiB are free.
    pub min_free_mb: u32,
    /// How long calls may go on after the signal to stop, in seconds; 0: they are ended at once.
    pub drain_s: u32,
}

/// A seat's phone.
#[derive(Debug, Clone, PartialEq)]
pub struct Seat {
    /// Its user name.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// Queues it answers; `*` stands for all.
    pub queues: Vec<String>,
    /// What it is good at.
    pub skills: Vec<String>,
    /// A telephone number it is called at by a trunk while none of its phones is registered.
    pub phone: Option<String>,
}

/// A supervisor's phone: it may listen at every seat.
#[derive(Debug, Clone, PartialEq)]
pub struct Supervisor {
    /// Its user name.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

/// What a test route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// Plays a prompt again and again.
    Ivr,
    /// The same, recording.
    Rec,
    /// The same until a key comes, then collects four.
    Barge,
    /// Sends back what it hears.
    Echo,
    /// Calls `target` and joins the two.
    Bridge,
    /// Answers and waits.
    Sig,
    /// Sounds a tone over what it hears and answers keys with their tones: what `zongji doctor line` calls.
    Line,
}

/// A number for benches that bypasses the flows.
#[derive(Debug, Clone, PartialEq)]
pub struct TestRoute {
    /// The user part dialled.
    pub user: String,
    /// What happens.
    pub kind: RouteKind,
    /// The prompt (WAV, 8 kHz mono) of `ivr`, `rec`, `barge`; without it, twenty seconds of made sound.
    pub file: Option<PathBuf>,
    /// Whom `bridge` calls: `sip:user@host:port`.
    pub target: Option<String>,
    /// Whether speech is detected on it.
    pub vad: bool,
    /// Whether what is detected is also recognised.
    pub recognise: bool,
}

/// A password: shown to nobody.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value in clear.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// One thing wrong with the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The file.
    pub file: PathBuf,
    /// Line and column from 1; (0, 0): the file as a whole.
    pub at: (usize, usize),
    /// What is wrong, and what to do.
    pub what: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            (0, _) => write!(f, "{}: {}", self.file.display(), self.what),
            (line, column) => write!(f, "{}:{line}:{column}: {}", self.file.display(), self.what),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let everywhere = IpAddr::from([0, 0, 0, 0]);
        Config {
            sip: Sip {
                bind: SocketAddr::new(everywhere, 5060),
                public_address: None,
                max_calls: 200,
                calls_per_s: 500,
                calls_per_source: 20,
                numbers: vec!["400".into()],
                realm: "zongji".into(),
                open: None,
                ws: None,
                tls: Tls::default(),
            },
            rtp: Rtp { ports: 20_000..=29_999, bind: everywhere, public_address: None, stun: None, dead_after_s: 30 },
            media: Media {
                shards: 0,
                codecs: vec![Codec::Pcma, Codec::Pcmu],
                dtx: false,
                hold_music: None,
                srtp: SrtpPolicy::Optional,
            },
            http: Http { bind: Some(SocketAddr::from(([127, 0, 0, 1], 8080))) },
            browser: Browser { stun: Vec::new(), turn: Vec::new(), turn_secret: Secret::default(), turn_ttl_s: 3600 },
            data: Data { dir: "./data".into(), demo: true },
            models: Models { dir: None, whisper: None },
            dialplans: Dialplans { dir: None },
            speech: Speech { recogniser: RecogniserChoice::Auto, vad: true, echo_guard: false, prompt_cache_mb: 256 },
            record: Record { on: true },
            trace: Trace { on: true, keep: 2000, max_mb: 100, dir: None },
            limits: Limits { max_call_s: 1800, workers: 0, write_queue: 20_000, min_free_mb: 200, drain_s: 60 },
            seats: Vec::new(),
            trunks: Vec::new(),
            outbound: Vec::new(),
            supervisors: Vec::new(),
            notices: Vec::new(),
            test_routes: Vec::new(),
        }
    }
}

impl Config {
    /// Folder of the traces.
    pub fn traces(&self) -> PathBuf {
        self.trace.dir.clone().unwrap_or_else(|| self.data.dir.join("traces"))
    }

    /// Reads a file; without a name, `zongji.toml` of the working directory where there is one, else the defaults.
    /// Relative paths in it count from the working directory.
    pub fn load(path: Option<&Path>) -> Result<Config, Vec<ConfigProblem>> {
        let path = match path {
            Some(p) => p,
            None if Path::new(DEFAULT_FILE).is_file() => Path::new(DEFAULT_FILE),
            None => return Ok(Config::default()),
        };
        let problem = |what| vec![ConfigProblem { file: path.into(), at: (0, 0), what }];
        let bytes = std::fs::read(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                problem("there is no such file; zongji.example.toml shows what it may hold".into())
            }
            _ => problem(format!("cannot be read: {e}")),
        })?;
        let text = String::from_utf8(bytes).map_err(|_| problem("is not UTF-8 text: save it as UTF-8".into()))?;
        Config::parse(&text, path)
    }

    /// Reads text; `file` is only for the problems' sake.
    pub fn parse(text: &str, file: &Path) -> Result<Config, Vec<ConfigProblem>> {
        let mut found = read::Problems::new(text, file);
        let config = read::config(text, &mut found);
        check::check(&config, &mut found);
        found.into_result(config)
    }

    /// Checks settings that were changed after reading (by the command line), as a file's are.
    pub fn checked(self) -> Result<Config, Vec<ConfigProblem>> {
        let mut found = read::Problems::new("", Path::new("settings"));
        check::check(&self, &mut found);
        found.into_result(self)
    }
}
