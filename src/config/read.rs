//! From TOML to settings, going on after every mistake.

use super::{
    Config, ConfigProblem, Direction, Outbound, RecogniserChoice, RouteKind, Seat, Secret, Supervisor, TestRoute, Trunk,
};
use crate::sdp::{Codec, SrtpPolicy};
use crate::server::notices::Notice;
use crate::server::outbound::Role;
use crate::server::trunks::TransferBy;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What has been found wrong so far, and where keys stood.
pub(super) struct Problems<'t> {
    text: &'t str,
    file: &'t Path,
    list: Vec<ConfigProblem>,
    /// Position of each key given, by its full name (`sip.bind`, `seat[1].user`).
    places: BTreeMap<String, usize>,
}

impl<'t> Problems<'t> {
    pub(super) fn new(text: &'t str, file: &'t Path) -> Self {
        Problems { text, file, list: Vec::new(), places: BTreeMap::new() }
    }

    /// Notes a problem at a byte of the text.
    fn add(&mut self, at: usize, what: impl Into<String>) {
        let at = self.text.floor_char_boundary(at.min(self.text.len()));
        let before = &self.text[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        self.list.push(ConfigProblem { file: self.file.into(), at: (line, column), what: what.into() });
    }

    /// Notes a problem with a key, where that stands; with the file as a whole when it is a default.
    pub(super) fn add_for(&mut self, key: &str, what: impl Into<String>) {
        match self.places.get(key) {
            Some(&at) => self.add(at, what),
            None => self.list.push(ConfigProblem { file: self.file.into(), at: (0, 0), what: what.into() }),
        }
    }

    pub(super) fn into_result(mut self, config: Config) -> Result<Config, Vec<ConfigProblem>> {
        if self.list.is_empty() {
            return Ok(config);
        }
        self.list.sort_by_key(|p| p.at);
        self.list.dedup();
        Err(self.list)
    }
}

/// A table being read: what is taken out of it is known, what is left at the end is not.
struct Section<'s, 'i, 't> {
    name: String,
    table: Option<&'s DeTable<'i>>,
    known: Vec<&'static str>,
    problems: &'s mut Problems<'t>,
}

impl<'s, 'i> Section<'s, 'i, '_> {
    fn full(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_string() } else { format!("{}.{key}", self.name) }
    }

    fn value(&mut self, key: &'static str) -> Option<&'s Spanned<DeValue<'i>>> {
        self.known.push(key);
        let value = self.table?.get(key)?;
        let full = self.full(key);
        self.problems.places.insert(full, value.span().start);
        Some(value)
    }

    /// Reads a value with `from`, which says what it wants instead.
    fn read<T>(&mut self, key: &'static str, into: &mut T, from: impl FnOnce(&DeValue<'i>) -> Result<T, String>) {
        let Some(value) = self.value(key) else { return };
        match from(value.get_ref()) {
            Ok(v) => *into = v,
            Err(wanted) => {
                let full = self.full(key);
                self.problems.add(value.span().start, format!("{full} must be {wanted}"));
            }
        }
    }

    fn bool(&mut self, key: &'static str, into: &mut bool) {
        self.read(key, into, |v| v.as_bool().ok_or_else(|| "true or false".into()));
    }

    fn number<T: TryFrom<i64>>(&mut self, key: &'static str, into: &mut T, range: RangeInclusive<i64>) {
        self.read(key, into, |v| {
            let n = v.as_integer().and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok());
            n.filter(|n| range.contains(n))
                .and_then(|n| T::try_from(n).ok())
                .ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
        });
    }

    fn text(&mut self, key: &'static str, into: &mut String) {
        self.read(key, into, |v| filled(v, "text in quotes"));
    }

    fn parsed<T: std::str::FromStr>(&mut self, key: &'static str, into: &mut T, wanted: &str) {
        self.read(key, into, |v| v.as_str().and_then(|s| s.trim().parse().ok()).ok_or_else(|| wanted.into()));
    }

    fn maybe<T: std::str::FromStr>(&mut self, key: &'static str, into: &mut Option<T>, wanted: &str) {
        self.read(key, into, |v| v.as_str().and_then(|s| s.trim().parse().ok()).map(Some).ok_or_else(|| wanted.into()));
    }

    fn path(&mut self, key: &'static str, into: &mut PathBuf) {
        self.read(key, into, |v| filled(v, "a path in quotes").map(PathBuf::from));
    }

    fn maybe_path(&mut self, key: &'static str, into: &mut Option<PathBuf>) {
        self.read(key, into, |v| filled(v, "a path in quotes").map(|p| Some(p.into())));
    }

    fn texts(&mut self, key: &'static str, into: &mut Vec<String>) {
        self.read(key, into, |v| {
            let wanted = "a list of texts, such as [\"a\", \"b\"]";
            let items = v.as_array().ok_or(wanted)?;
            items.iter().map(|i| filled(i.get_ref(), wanted)).collect()
        });
    }

    /// A list whose every item `from` can read.
    fn items<T>(&mut self, key: &'static str, into: &mut Vec<T>, wanted: &str, from: impl Fn(&str) -> Option<T>) {
        self.read(key, into, |v| {
            let items = v.as_array().ok_or(wanted)?;
            let item = |i: &Spanned<DeValue<'_>>| {
                let text = i.get_ref().as_str().ok_or(wanted)?.trim();
                from(text).ok_or_else(|| format!("{wanted}; \"{text}\" is none"))
            };
            items.iter().map(item).collect()
        });
    }

    fn choice<T: Copy>(&mut self, key: &'static str, into: &mut T, choices: &[(&str, T)]) {
        let names: Vec<&str> = choices.iter().map(|c| c.0).collect();
        self.read(key, into, |v| {
            let given = v.as_str().unwrap_or_default();
            choices
                .iter()
                .find(|c| c.0 == given)
                .map(|c| c.1)
                .ok_or_else(|| format!("one of {}{}", names.join(", "), did_you_mean(given, &names)))
        });
    }

    /// A key that must be there.
    fn need(&mut self, key: &'static str) {
        if self.table.is_some_and(|t| !t.contains_key(key)) {
            let (full, name) = (self.full(key), self.name.clone());
            self.problems.add_for(&name, format!("{full} is missing"));
        }
    }

    /// A table within; absent ones read as empty.
    fn section(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_, 'i, '_>)) {
        let table = match self.value(key) {
            Some(v) => match v.get_ref() {
                DeValue::Table(t) => Some(t),
                _ => {
                    self.problems.add(v.span().start, format!("{key} must be a section: [{key}]"));
                    None
                }
            },
            None => None,
        };
        let mut inner = Section { name: self.full(key), table, known: Vec::new(), problems: self.problems };
        read(&mut inner);
        inner.finish();
    }

    /// A list of tables.
    fn sections(&mut self, key: &'static str, mut read: impl FnMut(&mut Section<'_, 'i, '_>)) {
        let Some(value) = self.value(key) else { return };
        let items = value.get_ref().as_array().filter(|items| items.iter().all(|i| i.get_ref().is_table()));
        let Some(items) = items else {
            self.problems.add(value.span().start, format!("{key} must be a list of sections: [[{key}]]"));
            return;
        };
        for (i, item) in items.iter().enumerate() {
            let name = format!("{key}[{i}]");
            self.problems.places.insert(name.clone(), item.span().start);
            let table = item.get_ref().as_table();
            let mut inner = Section { name, table, known: Vec::new(), problems: self.problems };
            read(&mut inner);
            inner.finish();
        }
    }

    /// Complains of what nobody asked for.
    fn finish(&mut self) {
        let Some(table) = self.table else { return };
        for key in table.keys().filter(|k| !self.known.contains(&k.get_ref().as_ref())) {
            let name: &str = key.get_ref().as_ref();
            let hint = did_you_mean(name, &self.known);
            let hint = if hint.is_empty() { format!("; known are {}", self.known.join(", ")) } else { hint };
            let full = self.full(name);
            self.problems.add(key.span().start, format!("nobody knows the key {full}{hint}"));
        }
    }
}

fn filled(v: &DeValue<'_>, wanted: &str) -> Result<String, String> {
    v.as_str().map(str::trim).filter(|s| !s.is_empty()).map(str::to_string).ok_or_else(|| wanted.into())
}

/// Reads all settings, the defaults where the text says nothing.
pub(super) fn config(text: &str, problems: &mut Problems<'_>) -> Config {
    let mut c = Config::default();
    let (root, errors) = DeTable::parse_recoverable(text);
    for e in &errors {
        problems.add(e.span().unwrap_or(Range { start: 0, end: 0 }).start, format!("not TOML: {}", e.message()));
    }
    let mut top = Section { name: String::new(), table: Some(root.get_ref()), known: Vec::new(), problems };
    network(&mut top, &mut c);
    inside(&mut top, &mut c);
    top.sections("seat", |s| c.seats.push(seat(s)));
    top.sections("trunk", |s| c.trunks.push(trunk(s)));
    top.sections("outbound", |s| c.outbound.push(outbound(s)));
    top.sections("supervisor", |s| c.supervisors.push(supervisor(s)));
    top.sections("notice", |s| c.notices.push(notice(s)));
    top.sections("test_route", |s| c.test_routes.push(test_route(s)));
    top.finish();
    c
}

fn network(top: &mut Section<'_, '_, '_>, c: &mut Config) {
    let (socket, ip) = ("an address and port, such as \"0.0.0.0:5060\"", "an IP address, such as \"192.0.2.7\"");
    top.section("sip", |s| {
        s.parsed("bind", &mut c.sip.bind, socket);
        s.maybe("public_address", &mut c.sip.public_address, ip);
        s.number("max_calls", &mut c.sip.max_calls, 1..=10_000);
        s.number("calls_per_s", &mut c.sip.calls_per_s, 0..=100_000);
        s.number("calls_per_source", &mut c.sip.calls_per_source, 1..=10_000);
        s.texts("numbers", &mut c.sip.numbers);
        s.text("realm", &mut c.sip.realm);
        s.read("open", &mut c.sip.open, |v| v.as_bool().map(Some).ok_or_else(|| "true or false".into()));
        s.read("ws", &mut c.sip.ws, listener);
        s.section("tls", |t| {
            let tls = &mut c.sip.tls;
            t.maybe_path("certificate", &mut tls.certificate);
            t.maybe_path("key", &mut tls.key);
            t.maybe_path("trust", &mut tls.trust);
            t.read("bind", &mut tls.bind, listener);
            t.read("wss", &mut tls.wss, listener);
        });
    });
    top.section("rtp", |s| {
        s.read("ports", &mut c.rtp.ports, |v| {
            v.as_str().and_then(ports).ok_or_else(|| "a range of ports, such as \"20000-29999\"".into())
        });
        s.parsed::<IpAddr>("bind", &mut c.rtp.bind, ip);
        s.maybe("public_address", &mut c.rtp.public_address, ip);
        s.read("stun", &mut c.rtp.stun, |v| match v.as_str().filter(|s| is_host_and_port(s)) {
            Some(server) => Ok(Some(server.to_owned())),
            None => Err("a host and a port, such as \"stun.example.com:3478\"".into()),
        });
        s.number("dead_after_s", &mut c.rtp.dead_after_s, 5..=3600);
    });
    top.section("media", |s| {
        s.number("shards", &mut c.media.shards, 0..=256);
        s.read("codecs", &mut c.media.codecs, codecs);
        s.bool("dtx", &mut c.media.dtx);
        s.maybe_path("hold_music", &mut c.media.hold_music);
        let policies =
            [("off", SrtpPolicy::Off), ("optional", SrtpPolicy::Optional), ("required", SrtpPolicy::Required)];
        s.choice("srtp", &mut c.media.srtp, &policies);
    });
    top.section("http", |s| {
        s.read("bind", &mut c.http.bind, listener);
    });
    top.section("browser", |s| {
        let of = |schemes: &'static [&str]| {
            move |text: &str| {
                let (scheme, rest) = text.split_once(':')?;
                (schemes.contains(&scheme) && !rest.is_empty() && !rest.contains(char::is_whitespace))
                    .then(|| text.into())
            }
        };
        s.items(
            "stun",
            &mut c.browser.stun,
            "STUN servers, such as [\"stun:stun.example.com:3478\"]",
            of(&["stun", "stuns"]),
        );
        let turn = "TURN servers, such as [\"turn:turn.example.com:3478?transport=udp\"]";
        s.items("turn", &mut c.browser.turn, turn, of(&["turn", "turns"]));
        let mut secret = String::new();
        s.text("turn_secret", &mut secret);
        c.browser.turn_secret = Secret::new(secret);
        s.number("turn_ttl_s", &mut c.browser.turn_ttl_s, 60..=86_400);
    });
}

/// An address to listen on, or "off".
fn listener(v: &DeValue<'_>) -> Result<Option<SocketAddr>, String> {
    let wanted = "an address and port, such as \"0.0.0.0:5060\", or \"off\"";
    match v.as_str().map(str::trim) {
        Some("off") => Ok(None),
        Some(at) => at.parse().map(Some).map_err(|_| wanted.into()),
        None => Err(wanted.into()),
    }
}

fn inside(top: &mut Section<'_, '_, '_>, c: &mut Config) {
    top.section("data", |s| {
        s.path("dir", &mut c.data.dir);
        s.bool("demo", &mut c.data.demo);
    });
    top.section("models", |s| {
        s.maybe_path("dir", &mut c.models.dir);
        s.maybe_path("whisper", &mut c.models.whisper);
    });
    top.section("dialplans", |s| s.maybe_path("dir", &mut c.dialplans.dir));
    top.section("speech", |s| {
        use RecogniserChoice::{Auto, Bundled, None, Whisper};
        let engines = [("auto", Auto), ("bundled", Bundled), ("whisper", Whisper), ("none", None)];
        s.choice("recogniser", &mut c.speech.recogniser, &engines);
        s.bool("vad", &mut c.speech.vad);
        s.bool("echo_guard", &mut c.speech.echo_guard);
        s.number("prompt_cache_mb", &mut c.speech.prompt_cache_mb, 0..=100_000);
    });
    top.section("record", |s| s.bool("on", &mut c.record.on));
    top.section("trace", |s| {
        s.bool("on", &mut c.trace.on);
        s.number("keep", &mut c.trace.keep, 1..=1_000_000);
        s.number("max_mb", &mut c.trace.max_mb, 1..=1_000_000);
        s.maybe_path("dir", &mut c.trace.dir);
    });
    top.section("limits", |s| {
        s.number("max_call_s", &mut c.limits.max_call_s, 10..=86_400);
        s.number("workers", &mut c.limits.workers, 0..=256);
        s.number("write_queue", &mut c.limits.write_queue, 100..=10_000_000);
        s.number("min_free_mb", &mut c.limits.min_free_mb, 0..=10_000_000);
        s.number("drain_s", &mut c.limits.drain_s, 0..=86_400);
    });
}

fn seat(s: &mut Section<'_, '_, '_>) -> Seat {
    let (queues, skills) = (vec!["*".into()], Vec::new());
    let mut seat = Seat { user: String::new(), password: Secret::default(), queues, skills, phone: None };
    let mut password = String::new();
    s.text("user", &mut seat.user);
    s.text("password", &mut password);
    s.texts("queues", &mut seat.queues);
    s.texts("skills", &mut seat.skills);
    s.read("phone", &mut seat.phone, |v| {
        let wanted = "a telephone number in quotes, such as \"13800138000\"";
        v.as_str().and_then(crate::server::outbound::national).map(Some).ok_or_else(|| wanted.into())
    });
    s.need("user");
    if seat.phone.is_none() {
        s.need("password");
    }
    seat.password = Secret::new(password);
    seat
}

fn trunk(s: &mut Section<'_, '_, '_>) -> Trunk {
    let mut t = Trunk::default();
    let mut password = String::new();
    let way = [("both", Direction::Both), ("in", Direction::In), ("out", Direction::Out)];
    s.text("name", &mut t.line.name);
    s.items("servers", &mut t.servers, "a list of SIP addresses, such as [\"sip:203.0.113.9\"]", |text| {
        crate::sip::is_server(text).then(|| text.to_string())
    });
    s.bool("share", &mut t.share);
    s.items("addresses", &mut t.line.networks, "a list of networks, such as [\"203.0.113.0/24\"]", |text| {
        text.parse().ok()
    });
    s.read("user", &mut t.user, |v| filled(v, "text in quotes").map(Some));
    s.text("password", &mut password);
    s.bool("register", &mut t.line.register);
    s.choice("direction", &mut t.direction, &way);
    s.number("priority", &mut t.line.priority, 0..=1000);
    s.number("weight", &mut t.line.weight, 0..=1000);
    s.items("codecs", &mut t.line.codecs, "a list of codecs, such as [\"PCMA\", \"PCMU\"]", Codec::named);
    let rules = "a list of changes to the beginning of numbers, such as [\"+86 -> \"]";
    s.items("caller_in", &mut t.line.caller_in, rules, |text| text.parse().ok());
    s.items("called_out", &mut t.line.called_out, rules, |text| text.parse().ok());
    s.read("shows", &mut t.line.shows, |v| filled(v, "text in quotes").map(Some));
    s.number("max_out", &mut t.line.max_out, 0..=10_000);
    s.number("give_up_ms", &mut t.line.give_up_ms, 100..=30_000);
    s.number("options_s", &mut t.line.options_s, 0..=3600);
    let transfer = [("bridge", TransferBy::Bridge), ("refer", TransferBy::Refer)];
    s.choice("transfer", &mut t.line.transfer, &transfer);
    s.need("name");
    s.need("servers");
    t.password = Secret::new(password);
    t
}

fn outbound(s: &mut Section<'_, '_, '_>) -> Outbound {
    let mut o = Outbound { role: Role::Flow, allow: vec![], deny: vec![], at_once: 2, per_hour: 20 };
    let begins = "a list of beginnings of numbers, such as [\"010\", \"13\", \"+852\"]";
    let beginning = |text: &str| {
        let digits = text.strip_prefix('+').unwrap_or(text);
        (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then(|| text.to_string())
    };
    s.choice("role", &mut o.role, &[(Role::Flow.name(), Role::Flow), (Role::Seat.name(), Role::Seat)]);
    s.items("allow", &mut o.allow, begins, beginning);
    s.items("deny", &mut o.deny, begins, beginning);
    s.number("at_once", &mut o.at_once, 1..=10_000);
    s.number("per_hour", &mut o.per_hour, 1..=100_000);
    s.need("role");
    s.need("allow");
    o
}

fn supervisor(s: &mut Section<'_, '_, '_>) -> Supervisor {
    let (mut user, mut password) = (String::new(), String::new());
    s.text("user", &mut user);
    s.text("password", &mut password);
    s.need("user");
    s.need("password");
    Supervisor { user, password: Secret::new(password) }
}

/// What callers hear instead of the hotline.
fn notice(s: &mut Section<'_, '_, '_>) -> Notice {
    let mut n = Notice { numbers: Vec::new(), open: Vec::new(), file: PathBuf::new() };
    s.texts("numbers", &mut n.numbers);
    let wanted = "a list of days and hours in China time, such as [\"mon-fri 09:00-18:00\", \"sat 10:00-16:00\"]";
    s.items("open", &mut n.open, wanted, |t| t.parse().ok());
    let mut file = None;
    s.maybe_path("file", &mut file);
    s.need("file");
    n.file = file.unwrap_or_default();
    n
}

fn test_route(s: &mut Section<'_, '_, '_>) -> TestRoute {
    use RouteKind::{Barge, Bridge, Echo, Ivr, Line, Rec, Sig};
    let mut r = TestRoute { user: String::new(), kind: Sig, file: None, target: None, vad: false, recognise: false };
    let kinds = [
        ("ivr", Ivr),
        ("rec", Rec),
        ("barge", Barge),
        ("echo", Echo),
        ("bridge", Bridge),
        ("sig", Sig),
        ("line", Line),
    ];
    s.text("user", &mut r.user);
    s.choice("kind", &mut r.kind, &kinds);
    s.maybe_path("file", &mut r.file);
    s.read("target", &mut r.target, |v| {
        let wanted = "a SIP address, such as \"sip:user@127.0.0.1:5090\"";
        let target = filled(v, wanted)?;
        let by_trunk = target.strip_prefix("tel:").is_some_and(|n| crate::server::outbound::national(n).is_some());
        let right = target.strip_prefix("sip:").is_some_and(|t| t.contains('@') && !t.contains(char::is_whitespace));
        if right || by_trunk { Ok(Some(target)) } else { Err(wanted.into()) }
    });
    s.bool("vad", &mut r.vad);
    s.bool("recognise", &mut r.recognise);
    s.need("user");
    s.need("kind");
    r
}

/// Codecs by their names in SDP, in order of preference.
fn codecs(v: &DeValue<'_>) -> Result<Vec<Codec>, String> {
    let names = Codec::ALL.map(Codec::name);
    let wanted = format!("a list of codecs, the preferred one first, out of {}", names.join(", "));
    let items = v.as_array().filter(|items| !items.is_empty()).ok_or_else(|| wanted.clone())?;
    let mut codecs = Vec::new();
    for item in items {
        let name = item.get_ref().as_str().ok_or_else(|| wanted.clone())?.trim();
        let codec = Codec::named(name)
            .ok_or_else(|| format!("{wanted}; nobody knows \"{name}\"{}", did_you_mean(name, &names)))?;
        if !codecs.contains(&codec) {
            codecs.push(codec);
        }
    }
    Ok(codecs)
}

fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?);
    (first >= 1024 && first < last).then_some(first..=last)
}

/// `; did you mean …?` for the nearest known word, when it is near.
fn did_you_mean(given: &str, known: &[&str]) -> String {
    let near = known.iter().map(|k| (distance(given, k), k)).min();
    match near {
        Some((d, k)) if d <= 1 + k.len() / 4 => format!("; did you mean {k}?"),
        _ => String::new(),
    }
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let best = (corner + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[b.len()]
}

/// Whether a text names a host and a port of it.
fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
}
