//! The house rules that a compiler does not hold, held by a test: it reads the tree and names file, line and mend.
//!
//! The rules are the tables at the top; what they say in prose stands in `docs/architecture.md`. An exception is
//! a line in a table with its reason, never a word in the code that breaks the rule.

mod scan;

use regex::Regex;
use scan::{Source, blank};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

// ------------------------------------------------------------------------------------------------ the rules

/// Pairs of rooms of one layer of which the first may import the second.
/// A dialplan says what can be heard and reads what was heard: `speech`'s grammars and transcripts are plain values, and
/// `speech` knows nothing of dialplans.
const NEIGHBOURS: &[(&str, &str)] = &[("cli", "config"), ("dialplan", "speech")];

/// Rooms that only these may import, whatever the layers say.
const ONLY_FOR: &[(&str, &[&str])] = &[("config", &["cli"]), ("cli", &[]), ("web", &["cli"])];

/// A path that code may not name.
struct Ban {
    path: &'static str,
    instead: &'static str,
    /// Whether tests beside the code may not name it either.
    in_tests: bool,
}

const fn ban(path: &'static str, instead: &'static str) -> Ban {
    Ban { path, instead, in_tests: false }
}

const fn ban_everywhere(path: &'static str, instead: &'static str) -> Ban {
    Ban { path, instead, in_tests: true }
}

/// Layers 0-4 are values: they are given time, randomness and bytes.
const PURE_LAYERS: u8 = 4;
const PURE_BANS: &[Ban] = &[
    ban_everywhere("tokio", "take a value and return one; the server room waits"),
    ban("mio", "sockets belong to the server room"),
    ban("socket2", "sockets belong to the server room"),
    ban("libc", "system calls belong to the server room"),
    ban("crossbeam_channel", "queues belong to the server room; return the value"),
    ban_everywhere("std::net::UdpSocket", "take bytes and an address; the server room owns sockets"),
    ban_everywhere("std::net::TcpStream", "take bytes and an address; the server room owns sockets"),
    ban_everywhere("std::net::TcpListener", "take bytes and an address; the server room owns sockets"),
    ban_everywhere("std::net::ToSocketAddrs", "take a resolved SocketAddr"),
    ban("std::fs", "take the bytes or an io::Read"),
    ban("std::env", "take a setting"),
    ban("std::process", "programs are started by the engines or the server room"),
    ban("std::thread", "threads belong to the server room"),
    ban("std::sync::mpsc", "queues belong to the server room; return the value"),
    ban_everywhere("std::time::Instant", "take a clock::Mono"),
    ban_everywhere("std::time::SystemTime", "take a clock::UtcMs"),
    ban_everywhere("Instant::now", "take a clock::Mono"),
    ban_everywhere("SystemTime::now", "take a clock::UtcMs"),
    ban_everywhere("time::OffsetDateTime::now_utc", "take a clock::UtcMs"),
    ban_everywhere("OffsetDateTime::now_utc", "take a clock::UtcMs"),
    ban_everywhere("rand::rng", "take a seed or a generator"),
    ban_everywhere("rand::random", "take a seed or a generator"),
    ban_everywhere("rand::thread_rng", "take a seed or a generator"),
    ban_everywhere("thread_rng", "take a seed or a generator"),
    ban("WavReader::open", "take an io::Read"),
    ban("WavWriter::create", "take an io::Write"),
];

/// Banned in every room and test.
const BANS: &[Ban] = &[
    ban_everywhere("tokio::sync::mpsc::unbounded_channel", "every queue has a limit: mpsc::channel(n)"),
    ban_everywhere("mpsc::unbounded_channel", "every queue has a limit: mpsc::channel(n)"),
    ban_everywhere("unbounded_channel", "every queue has a limit: mpsc::channel(n)"),
    ban_everywhere("crossbeam_channel::unbounded", "every queue has a limit: crossbeam_channel::bounded(n)"),
    ban_everywhere("std::sync::mpsc::channel", "every queue has a limit: crossbeam_channel::bounded(n)"),
    ban_everywhere("dbg!", "use tracing"),
    ban_everywhere("todo!", "finish it, or return an error that says what is missing"),
    ban_everywhere("unimplemented!", "finish it, or return an error that says what is missing"),
];

/// Files that may name what is banned everywhere, and why.
const EXCUSED: &[(&str, &str)] = &[];

/// Where an outside crate may be named: a room (`sip`), or a file (`dialplan/parse`).
const CRATES: &[(&str, &[&str])] = &[
    ("serde", &["config", "dialplan/parse", "engines", "store", "web", "cli"]),
    ("serde_json", &["config", "dialplan/parse", "engines", "store", "web", "cli"]),
    ("serde_saphyr", &["dialplan/parse"]),
    ("toml", &["config", "engines", "cli"]),
    ("rsipstack", &["sip"]),
    ("hickory_resolver", &["sip/locate"]),
    ("rtc", &["browser"]),
    ("rtp", &["rtp"]),
    ("rtcp", &["rtp"]),
    ("webrtc_util", &["rtp"]),
    ("webrtc_srtp", &["rtp"]),
    ("sqlx", &["store"]),
    ("rten", &["engines"]),
    ("rten_tensor", &["engines"]),
    ("whisper_rs", &["engines"]),
    ("earshot", &["engines"]),
    ("audio_codec", &["audio"]),
    ("g729_sys", &["audio"]),
    ("opus", &["audio"]),
    ("hound", &["audio"]),
    ("rubato", &["audio"]),
    ("axum", &["web"]),
    ("clap", &["cli"]),
    ("anyhow", &["cli", "main"]),
];

/// Most lines of code (comments, blank lines and tests beside the code not counted) in a file.
const MAX_LINES: usize = 800;
/// Files that may be longer, and why.
const LONG: &[(&str, &str)] = &[];

/// Files that may hold `unsafe`, and why.
const UNSAFE: &[(&str, &str)] = &[];

/// Test files that may call `thread::sleep`, and why. Others wait for a thing with a deadline, or use virtual time; an
/// asynchronous sleep may be the step of a polling loop that has one.
const SLEEPERS: &[(&str, &str)] = &[];

/// Why a test under tests/ may be switched off: what the reason begins with. `make soak` runs the first kind.
const IGNORED_FOR: &[&str] = &["soak:", "started by its parent test"];

/// Words that belong to no reader of this project. Written in two halves, so that this file passes.
const STRANGE_WORDS: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), "name a path inside the project"),
    (concat!("helper-", "preamble"), "leave it out"),
    (concat!("sub", "agent"), "leave it out"),
    (concat!("cla", "ude"), "leave it out"),
    (concat!("FIX", "ME"), "mend it, or write down the limit and its cost"),
    (concat!("TO", "DO"), "do it, or write down the limit and its cost"),
];

/// Longer files that are not source are data, not text.
const MAX_BYTES: u64 = 256 * 1024;

/// Folders whose files must exist when a page names them.
const NAMED_ROOTS: &str =
    r"(?:src|docs|tests|benches|scripts|dialplans|models|rules|audio-fixtures|fuzz|migrations|\.ci|\.cargo)";

// ------------------------------------------------------------------------------------------------ the tree

/// The project's text files, read once.
struct Tree {
    rust: Vec<Source>,
    /// Every text file: path and content.
    text: Vec<(String, String)>,
    layers: Layers,
}

/// Room -> layer, from the table at the top of `src/lib.rs`.
type Layers = BTreeMap<String, u8>;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn tree() -> &'static Tree {
    static TREE: OnceLock<Tree> = OnceLock::new();
    TREE.get_or_init(|| {
        let mut text = Vec::new();
        walk(&root(), "", &mut text);
        text.sort();
        let mut rust: Vec<Source> =
            text.iter().filter(|(p, _)| p.ends_with(".rs")).map(|(p, t)| Source::new(p, t)).collect();
        scan::mark_test_files(&mut rust);
        let map = text.iter().find(|(p, _)| p == "src/lib.rs").expect("src/lib.rs is the map");
        let layers = layers_of(&map.1);
        Tree { rust, text, layers }
    })
}

/// Collects text files, past what is built, stored or not ours.
fn walk(dir: &Path, prefix: &str, into: &mut Vec<(String, String)>) {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    for entry in entries {
        let entry = entry.expect("a readable folder");
        let name = entry.file_name().to_string_lossy().into_owned();
        let (path, at) = (entry.path(), format!("{prefix}{name}"));
        let kind = entry.file_type().expect("a file type");
        if kind.is_dir() {
            let skip = matches!(name.as_str(), ".git" | "target" | "node_modules" | "proptest-regressions")
                || at == "data"
                || path.join("CACHEDIR.TAG").exists();
            if !skip {
                walk(&path, &format!("{at}/"), into);
            }
        } else if kind.is_file()
            && is_text(&name)
            && (name.ends_with(".rs") || entry.metadata().is_ok_and(|m| m.len() < MAX_BYTES))
            && let Ok(content) = std::fs::read_to_string(&path)
        {
            into.push((at, content));
        }
    }
}

fn is_text(name: &str) -> bool {
    let ending = name.rsplit('.').next().unwrap_or("");
    matches!(ending, "rs" | "md" | "toml" | "yaml" | "yml" | "sh" | "sql" | "call" | "txt" | "json")
        || matches!(name, "Makefile" | "NOTICE" | "run" | ".gitignore")
        || name.starts_with("LICENSE")
}

/// Reads the rows ``//! | 2 | [`rtp`] [`nlu`] |``.
fn layers_of(map: &str) -> Layers {
    let row = Regex::new(r"^//! \| (\d) \| (.+) \|$").expect("a pattern");
    let room = Regex::new(r"\[`(\w+)`\]").expect("a pattern");
    let mut layers = Layers::new();
    for cells in map.lines().filter_map(|l| row.captures(l)) {
        let layer = cells[1].parse().expect("a digit");
        layers.extend(room.captures_iter(&cells[2]).map(|r| (r[1].to_string(), layer)));
    }
    layers
}

/// Something that breaks a rule.
#[derive(Debug, PartialEq)]
struct Finding {
    path: String,
    line: usize,
    what: String,
    mend: String,
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Finding { path: path.into(), line, what: what.into(), mend: mend.into() }
    }
}

fn none(mut findings: Vec<Finding>) {
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    findings.dedup();
    let lines: Vec<String> =
        findings.iter().map(|f| format!("{}:{}: {}; {}", f.path, f.line, f.what, f.mend)).collect();
    assert!(lines.is_empty(), "{} to mend:\n{}\n", lines.len(), lines.join("\n"));
}

// ------------------------------------------------------------------------------------------------ layers

fn layer_findings(source: &Source, layers: &Layers) -> Vec<Finding> {
    let Some(room) = source.room() else { return Vec::new() };
    let Some(&own) = layers.get(room) else {
        let mend = "give it a row in the table at the top of src/lib.rs, or put it in a room";
        return vec![Finding::new(&source.path, 1, format!("`{room}` has no layer"), mend)];
    };
    let mut found = Vec::new();
    for (target, line) in source.rooms_named(layers) {
        if target == room {
            continue;
        }
        let other = layers[&target];
        if let Some((_, only)) = ONLY_FOR.iter().find(|(r, _)| *r == target) {
            if !only.contains(&room) {
                let mend = "take what is needed as the room's own Settings or as a parameter";
                found.push(Finding::new(&source.path, line, format!("`{room}` imports `{target}`"), mend));
            }
        } else if other > own || (other == own && !NEIGHBOURS.contains(&(room, target.as_str()))) {
            let what = format!("`{room}` (layer {own}) imports `{target}` (layer {other})");
            found.push(Finding::new(
                &source.path,
                line,
                what,
                "imports point down: move the type down, or pass a value",
            ));
        }
    }
    found.sort_by_key(|f| f.line);
    found
}

#[test]
fn imports_point_down_only() {
    let tree = tree();
    none(tree.rust.iter().flat_map(|s| layer_findings(s, &tree.layers)).collect());
}

#[test]
fn the_map_names_every_room_and_its_layer() {
    let tree = tree();
    let map = tree.rust.iter().find(|s| s.path == "src/lib.rs").expect("the map");
    let mut found = Vec::new();
    for (line, name) in map.code.lines().enumerate().filter_map(|(n, l)| Some((n + 1, l.strip_prefix("pub mod ")?))) {
        let name = name.trim_end_matches(';');
        if !tree.layers.contains_key(name) {
            found.push(Finding::new("src/lib.rs", line, format!("`{name}` is in no layer"), "add it to the table"));
        }
    }
    let says = Regex::new(r"\A//! Layer (\d)\.").expect("a pattern");
    for source in &tree.rust {
        let is_door = source.path.ends_with("/mod.rs") && source.path.matches('/').count() == 2;
        let (Some(room), Some(cells)) = (source.room().filter(|_| is_door), says.captures(&source.raw)) else {
            continue;
        };
        if tree.layers.get(room).is_some_and(|l| cells[1] != l.to_string()) {
            let what = format!("says layer {}, the table in src/lib.rs says {}", &cells[1], tree.layers[room]);
            found.push(Finding::new(&source.path, 1, what, "make them agree"));
        }
    }
    none(found);
}

// ------------------------------------------------------------------------------------------------ bans

fn ban_findings(source: &Source, bans: &[Ban]) -> Vec<Finding> {
    let mut found = Vec::new();
    for ban in bans {
        for line in source.lines_naming(ban.path, ban.in_tests) {
            found.push(Finding::new(&source.path, line, format!("`{}`", ban.path), ban.instead));
        }
    }
    found
}

fn is_pure(source: &Source, layers: &Layers) -> bool {
    source.room().and_then(|r| layers.get(r)).is_some_and(|&l| l <= PURE_LAYERS)
}

#[test]
fn layers_0_to_4_know_no_socket_file_thread_clock_or_ambient_randomness() {
    let tree = tree();
    let pure = tree.rust.iter().filter(|s| is_pure(s, &tree.layers));
    none(pure.flat_map(|s| ban_findings(s, PURE_BANS)).collect());
}

#[test]
fn no_queue_is_unbounded_and_nothing_is_left_half_done() {
    let excused = |s: &&Source| s.path == "tests/tidy.rs" || EXCUSED.iter().any(|(path, _)| *path == s.path);
    none(tree().rust.iter().filter(|s| !excused(s)).flat_map(|s| ban_findings(s, BANS)).collect());
}

fn crate_findings(source: &Source) -> Vec<Finding> {
    let Some(place) = source.path.strip_prefix("src/").and_then(|p| p.strip_suffix(".rs")) else { return Vec::new() };
    let mut found = Vec::new();
    for (name, places) in CRATES {
        let home = places.iter().any(|p| place == *p || place.starts_with(&format!("{p}/")));
        if home || source.has_module(name) {
            continue;
        }
        for line in source.lines_naming(name, false) {
            let mend = format!("only {} may: keep the library behind that door", places.join(", "));
            found.push(Finding::new(&source.path, line, format!("names the crate `{name}`"), mend));
        }
    }
    found
}

#[test]
fn each_library_stays_behind_its_door() {
    none(tree().rust.iter().flat_map(crate_findings).collect());
}

#[test]
fn unsafe_code_stays_where_it_is_listed() {
    let listed = |s: &&Source| !UNSAFE.iter().any(|(path, _)| *path == s.path);
    let mut found = Vec::new();
    for source in tree().rust.iter().filter(listed) {
        for line in source.lines_naming("unsafe", true) {
            found.push(Finding::new(
                &source.path,
                line,
                "`unsafe`",
                "do without, or list the file in UNSAFE with the reason",
            ));
        }
    }
    none(found);
}

// ------------------------------------------------------------------------------------------------ size, tests

#[test]
fn no_file_outgrows_a_readers_patience() {
    let mut found = Vec::new();
    for source in tree().rust.iter().filter(|s| !LONG.iter().any(|(path, _)| *path == s.path)) {
        let lines = source.code_lines();
        if lines > MAX_LINES {
            let what = format!("{lines} lines of code, at most {MAX_LINES}");
            found.push(Finding::new(&source.path, 1, what, "split it by idea, or list it in LONG with the reason"));
        }
    }
    none(found);
}

fn waiting_findings(source: &Source, pure: bool) -> Vec<Finding> {
    let in_tests = source.path.starts_with("tests/");
    let mut found = Vec::new();
    for (n, line) in source.code.lines().enumerate().filter(|(_, l)| l.contains("#[ignore")) {
        let raw = source.raw.lines().nth(n).unwrap_or("");
        let fine = match in_tests {
            true => IGNORED_FOR.iter().any(|why| raw.contains(&format!("#[ignore = \"{why}"))),
            // A measurement beside a model may be run by hand; logic is never switched off.
            false => !pure && raw.contains("#[ignore = \""),
        };
        if !fine {
            let mend = "let it run, or put it in tests/ as #[ignore = \"soak: why\"] with `soak` in its name";
            found.push(Finding::new(&source.path, n + 1, format!("`{}`", line.trim()), mend));
        }
    }
    if !pure && !in_tests || SLEEPERS.iter().any(|(path, _)| *path == source.path) {
        return found;
    }
    let mend = "wait for the thing itself with a deadline, or use virtual time";
    let naming = |paths: [&str; 2]| paths.map(|p| source.lines_naming(p, true)).concat();
    let mut sleeps = naming(["std::thread::sleep", "thread::sleep"]);
    let waits = naming(["tokio::time::sleep", "time::sleep"]);
    sleeps.extend(waits.into_iter().filter(|&line| pure || !in_a_loop(source, line)));
    sleeps.sort_unstable();
    sleeps.dedup();
    found.extend(sleeps.into_iter().map(|line| Finding::new(&source.path, line, "a bare sleep", mend)));
    found
}

/// Whether a loop begins within the few lines above.
fn in_a_loop(source: &Source, line: usize) -> bool {
    let above = source.code.lines().take(line - 1).skip(line.saturating_sub(6));
    above.map(str::trim).any(|l| l.starts_with("while ") || l.starts_with("for ") || l.starts_with("loop "))
}

#[test]
fn no_test_sleeps_or_is_switched_off() {
    let tree = tree();
    none(tree.rust.iter().flat_map(|s| waiting_findings(s, is_pure(s, &tree.layers))).collect());
}

// ------------------------------------------------------------------------------------------------ pages

/// Paths inside the project that a text names, with their lines.
fn named_paths(text: &str) -> Vec<(usize, String)> {
    let pattern = Regex::new(&format!(r"(?:^|[\s`(\[|：，（]){}/[\w./*<>{{}}-]*", NAMED_ROOTS)).expect("a pattern");
    let mut found = Vec::new();
    for (n, line) in text.lines().enumerate() {
        for hit in pattern.find_iter(line) {
            let path = hit.as_str().trim_start_matches(|c: char| !c.is_ascii_alphanumeric() && c != '.');
            let path = path.trim_end_matches(['.', ':', '/']);
            if !path.contains(['*', '<', '{']) {
                found.push((n + 1, path.to_string()));
            }
        }
    }
    found
}

fn is_page(path: &str) -> bool {
    path.ends_with(".md") && !path.starts_with("CHANGELOG")
}

#[test]
fn pages_name_only_paths_that_exist() {
    let mut found = Vec::new();
    for (page, text) in tree().text.iter().filter(|(p, _)| is_page(p)) {
        for (line, path) in named_paths(text) {
            if !root().join(&path).exists() {
                found.push(Finding::new(page, line, format!("`{path}` does not exist"), "correct the page"));
            }
        }
    }
    none(found);
}

#[test]
fn pages_link_only_to_files_that_exist() {
    let link = Regex::new(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)").expect("a pattern");
    let mut found = Vec::new();
    for (page, text) in tree().text.iter().filter(|(p, _)| is_page(p)) {
        let dir = root().join(page).parent().expect("a folder").to_path_buf();
        for (n, line) in text.lines().enumerate() {
            for cells in link.captures_iter(line).filter(|c| !dir.join(&c[1]).exists()) {
                found.push(Finding::new(page, n + 1, format!("the link `{}` leads nowhere", &cells[1]), "correct it"));
            }
        }
    }
    none(found);
}

/// `make` targets that a text tells people to type.
fn named_targets(text: &str) -> Vec<(usize, String)> {
    let pattern = Regex::new(r"`make ([a-z]+)|^make ([a-z]+)").expect("a pattern");
    let lines = text.lines().enumerate();
    let hits = lines.flat_map(|(n, l)| pattern.captures_iter(l).map(move |c| (n + 1, c)));
    hits.filter_map(|(n, c)| Some((n, c.get(1).or(c.get(2))?.as_str().to_string()))).collect()
}

#[test]
fn pages_name_only_make_targets_that_exist() {
    let makefile = &tree().text.iter().find(|(p, _)| p == "Makefile").expect("a Makefile").1;
    let exists = |target: &str| makefile.lines().any(|l| l.starts_with(&format!("{target}:")));
    let mut found = Vec::new();
    for (page, text) in tree().text.iter().filter(|(p, _)| is_page(p)) {
        for (line, target) in named_targets(text).into_iter().filter(|(_, t)| !exists(t)) {
            found.push(Finding::new(page, line, format!("`make {target}` does not exist"), "correct the page"));
        }
    }
    none(found);
}

/// Commands of the program that a text's tables list: rows that begin with `` | `zongji NAME ``.
fn named_commands(text: &str) -> Vec<(usize, String)> {
    let pattern = Regex::new(r"^\| `zongji ([a-z]+)").expect("a pattern");
    let lines = text.lines().enumerate();
    lines.filter_map(|(n, l)| Some((n + 1, pattern.captures(l)?[1].to_string()))).collect()
}

#[test]
fn the_readme_lists_commands_that_the_program_has() {
    let mut found = Vec::new();
    let mut known: BTreeMap<String, bool> = BTreeMap::new();
    for page in ["README.md", "README.zh-CN.md"] {
        let text = &tree().text.iter().find(|(p, _)| p == page).expect("a README").1;
        let commands = named_commands(text);
        assert!(commands.len() >= 5, "{page} has no table of commands");
        for (line, name) in commands {
            let there = *known.entry(name.clone()).or_insert_with(|| {
                let program = std::process::Command::new(env!("CARGO_BIN_EXE_zongji")).args([&name, "--help"]).output();
                program.expect("the program runs").status.success()
            });
            if !there {
                let what = format!("`zongji {name} --help` fails");
                found.push(Finding::new(page, line, what, "list only commands that are there"));
            }
        }
    }
    none(found);
}

fn strange_words(path: &str, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for (n, line) in text.lines().enumerate() {
        // Tests may look for data beside the repository, and skip aloud; pages and settings may not lean on it.
        if !path.ends_with(".rs") && line.contains(concat!("../sha", "red")) {
            found.push(Finding::new(path, n + 1, "a folder outside the repository", "name a path inside it"));
        }
        let small = line.to_lowercase();
        for (word, mend) in STRANGE_WORDS {
            // Words in capitals are marks, not words: `todo!` has its own rule.
            let hit = if word.chars().all(|c| c.is_uppercase()) { line.contains(word) } else { small.contains(word) };
            if hit {
                found.push(Finding::new(path, n + 1, format!("`{word}`"), *mend));
            }
        }
    }
    found
}

#[test]
fn the_text_speaks_to_readers_of_the_project_only() {
    none(tree().text.iter().flat_map(|(path, text)| strange_words(path, text)).collect());
}

#[test]
fn every_exception_is_still_needed() {
    let paths = LONG.iter().chain(UNSAFE).chain(SLEEPERS).chain(EXCUSED).map(|(path, _)| *path);
    let gone: Vec<&str> = paths.filter(|p| !root().join(p).exists()).collect();
    assert!(gone.is_empty(), "listed in a table of tests/tidy.rs but gone: {gone:?}; remove the lines");
}

// ------------------------------------------------------------------------------------------------ the rules' own tests

#[cfg(test)]
mod rules {
    use super::*;

    fn layers() -> Layers {
        layers_of(
            "//! | 0 | [`ids`] |\n//! | 2 | [`rtp`] [`nlu`] |\n//! | 6 | [`server`] |\n//! | 7 | [`web`] |\n//! | 8 | [`config`] [`cli`] |",
        )
    }

    fn lines(found: &[Finding]) -> Vec<usize> {
        found.iter().map(|f| f.line).collect()
    }

    #[test]
    fn an_import_upwards_or_sideways_is_found_in_every_spelling() {
        let text = "use crate::ids::Leg;\nuse crate::nlu;\nuse crate::{\n    ids::TurnId,\n    server::{Shard, Bus},\n};\nfn f() {\n    crate::web::run()\n}\n// crate::web in prose\nconst S: &str = \"crate::web\";\nuse super::super::server;\n";
        let found = layer_findings(&Source::new("src/rtp/jitter.rs", text), &layers());
        assert_eq!(lines(&found), [2, 5, 8, 12], "{found:?}");
        assert!(found[1].what.contains("`rtp` (layer 2) imports `server` (layer 6)"), "{found:?}");
    }

    #[test]
    fn only_the_command_line_reads_the_configuration() {
        let text = "use crate::config::Settings;\n";
        assert_eq!(layer_findings(&Source::new("src/server/mod.rs", text), &layers()).len(), 1);
        assert_eq!(layer_findings(&Source::new("src/cli/serve.rs", text), &layers()), []);
        let text = "use crate::web;\n";
        assert_eq!(layer_findings(&Source::new("src/server/mod.rs", text), &layers()).len(), 1);
    }

    #[test]
    fn a_room_without_a_layer_is_found() {
        assert_eq!(layer_findings(&Source::new("src/acd/mod.rs", "fn f() {}"), &layers()).len(), 1);
        assert_eq!(layer_findings(&Source::new("src/lib.rs", "pub mod acd;"), &layers()), []);
    }

    #[test]
    fn bans_see_through_groups_and_past_comments_and_strings() {
        let text = "use std::{\n    collections::BTreeMap,\n    fs,\n    net::{IpAddr, UdpSocket},\n};\n// std::fs\nfn f() { let _ = \"std::thread\"; std::thread::yield_now() }\nlet my_tokio = 1;\n";
        let found = ban_findings(&Source::new("src/rtp/a.rs", text), PURE_BANS);
        let mut at = lines(&found);
        at.sort_unstable();
        assert_eq!(at, [3, 4, 7], "{found:?}");
    }

    #[test]
    fn tests_beside_the_code_may_read_files_but_not_the_clock() {
        let text = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n    fn g() { Instant::now() }\n}\n";
        assert_eq!(lines(&ban_findings(&Source::new("src/rtp/a.rs", text), PURE_BANS)), [5]);
    }

    #[test]
    fn an_unbounded_queue_is_found_and_a_bounded_one_is_not() {
        let text = "use tokio::sync::mpsc;\nlet a = mpsc::channel(8);\nlet b = mpsc::unbounded_channel();\nuse crossbeam_channel::{bounded, unbounded};\n";
        let mut at = lines(&ban_findings(&Source::new("src/server/a.rs", text), BANS));
        at.dedup();
        assert_eq!(at, [3, 4]);
    }

    #[test]
    fn a_library_outside_its_door_is_found_and_a_room_of_the_same_name_is_not() {
        let found = crate_findings(&Source::new("src/server/a.rs", "use rsipstack::sip;\nuse crate::rtp::Receiver;\n"));
        assert_eq!(lines(&found), [1]);
        assert_eq!(crate_findings(&Source::new("src/sip/a.rs", "use rsipstack::sip;\n")), []);
        assert_eq!(crate_findings(&Source::new("src/dialplan/parse.rs", "use serde::Deserialize;\n")), []);
        assert_eq!(
            crate_findings(&Source::new("src/dialplan/flow.rs", "#[derive(serde::Deserialize)]\nstruct A;\n")).len(),
            1
        );
        let text = "use crate::rtp;\nfn f() { rtp::receive() }\n";
        assert_eq!(crate_findings(&Source::new("src/server/a.rs", text)), []);
        assert_eq!(crate_findings(&Source::new("src/server/a.rs", "fn f() { rtp::packet::parse() }\n")).len(), 1);
        assert_eq!(crate_findings(&Source::new("src/rtp/a.rs", "use ::rtp::packet::Packet;\nuse rtcp::header;\n")), []);
    }

    #[test]
    fn sleeps_and_switched_off_tests_are_found() {
        let text = "#[test]\n#[ignore]\nfn a() { std::thread::sleep(x) }\n#[ignore = \"soak: an hour of calls\"]\nfn soak() {}\n";
        assert_eq!(lines(&waiting_findings(&Source::new("tests/a.rs", text), false)), [2, 3]);
        assert_eq!(lines(&waiting_findings(&Source::new("src/rtp/a.rs", text), true)), [2, 4, 3]);
        assert_eq!(lines(&waiting_findings(&Source::new("src/server/a.rs", text), false)), [2]);
        let text = "fn a() {\n    while more() {\n        tokio::time::sleep(step).await;\n    }\n}\n\n\n\nfn b() { tokio::time::sleep(long).await }\nuse std::thread::sleep;\n";
        assert_eq!(lines(&waiting_findings(&Source::new("tests/a.rs", text), false)), [9, 10]);
        assert_eq!(lines(&waiting_findings(&Source::new("src/rtp/a.rs", text), true)), [3, 9, 10]);
    }

    #[test]
    fn comments_blank_lines_and_tests_are_not_lines_of_code() {
        let text = "//! Head.\n\nfn f() {\n    // why\n    g(); /* aside\n    more */\n}\n#[cfg(test)]\nmod tests {\n    fn t() {}\n}\n";
        assert_eq!(Source::new("src/rtp/a.rs", text).code_lines(), 3);
    }

    #[test]
    fn literals_and_comments_are_blanked_and_lifetimes_are_kept() {
        let code = blank(
            "let a = r#\"x \" unsafe\"#; let c = '\"'; fn f<'a>(x: &'a str) {} // 中文 unsafe\nlet d = b\"\\\" unsafe\"; /* a /* b */ unsafe */ let e = '\\'';",
        );
        assert!(!code.contains("unsafe"), "{code}");
        assert!(code.contains("fn f<'a>(x: &'a str) {}"), "{code}");
        assert!(code.contains("let e = "), "{code}");
    }

    #[test]
    fn paths_targets_and_commands_are_read_from_prose() {
        let text = "See `src/rtp/jitter.rs`, (docs/architecture.md) and scripts/setup.sh.\n`src/engines/*.rs` http://x/src/none\n";
        let paths: Vec<String> = named_paths(text).into_iter().map(|(_, p)| p).collect();
        assert_eq!(paths, ["src/rtp/jitter.rs", "docs/architecture.md", "scripts/setup.sh"]);
        assert_eq!(
            named_targets("run `make demo KEEP=1`\nmake test\nto make do"),
            [(1, "demo".into()), (2, "test".into())]
        );
        assert_eq!(named_commands("| `zongji serve` | runs |\nzongji nothing"), [(1, "serve".into())]);
    }

    #[test]
    fn words_of_a_workplace_are_found() {
        assert_eq!(strange_words("a.md", concat!("fine\nsee /wo", "rk/x\n// TO", "DO later\n")).len(), 2);
        assert_eq!(strange_words("a.rs", concat!("let helper = todo_list(); // ../sha", "red/data")), []);
        assert_eq!(strange_words("a.md", concat!("../sha", "red/data")).len(), 1);
    }
}
