//! The command line is a contract: what it prints for programs, and how it exits (0 done, 1 not, 2 called wrongly).

use crate::common::root;
use serde_json::Value as Json;
use std::path::Path;
use std::process::{Command, Output};

fn zongji(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zongji")).args(args).current_dir(root()).output().expect("the program runs")
}

fn lines(output: &Output) -> Vec<Json> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("no JSON ({e}): {l}"))).collect()
}

fn last(output: &Output) -> Json {
    lines(output).pop().unwrap_or_else(|| panic!("nothing on stdout: {output:?}"))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The shipped dialplans with two faults in two files.
fn broken() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(root().join("dialplans")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replace("agree: pick_one", "agree: pick_won").replace("category: 投诉", "category: 头诉");
        std::fs::write(folder.path().join(path.file_name().unwrap()), text).unwrap();
    }
    folder
}

fn path(p: &Path) -> String {
    p.display().to_string()
}

#[test]
fn check_passes_what_may_be_published_and_places_every_fault_of_what_may_not() {
    let good = zongji(&["check", "dialplans", "--json"]);
    assert_eq!(good.status.code(), Some(0), "{}", said(&good));
    assert_eq!(last(&good)["publishable"], true);
    let folder = broken();
    let bad = zongji(&["check", &path(folder.path()), "--json"]);
    assert_eq!(bad.status.code(), Some(1));
    let problems = lines(&bad);
    assert_eq!(problems.last().unwrap()["publishable"], false);
    let at = |file: &str, word: &str| {
        let hit = |p: &&Json| {
            p["file"].as_str().is_some_and(|f| f.ends_with(file))
                && p["message"].as_str().is_some_and(|m| m.contains(word))
        };
        let found = problems.iter().find(hit).unwrap_or_else(|| panic!("no {word} in {file}: {problems:#?}"));
        (found["line"].as_u64().unwrap(), found["column"].as_u64().unwrap())
    };
    assert!(at("order_query.yaml", "pick_won").0 > 100 && at("order_query.yaml", "pick_won").1 > 1);
    assert!(at("complaint.yaml", "头诉").0 > 10);
}

#[test]
fn check_refuses_a_set_whose_own_tests_fail() {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(root().join("dialplans")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap().replace("hear: \"~预计\"", "hear: \"~昨天\"");
        std::fs::write(folder.path().join(path.file_name().unwrap()), text).unwrap();
    }
    let checked = zongji(&["check", &path(folder.path())]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(said(&checked).contains("E019") && said(&checked).contains("order_query.yaml:"), "{}", said(&checked));
}

#[test]
fn a_broken_dialplan_stops_the_start_with_every_problem_listed() {
    let (folder, data) = (broken(), tempfile::tempdir().unwrap());
    let config = data.path().join("zongji.toml");
    std::fs::write(&config, format!("[dialplans]\ndir = {:?}\n", path(folder.path()))).unwrap();
    let store = data.path().join("data");
    let started = zongji(&[
        "serve",
        "--config",
        &path(&config),
        "--sip",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--data",
        &path(&store),
    ]);
    assert_eq!(started.status.code(), Some(1), "{}", said(&started));
    let text = said(&started);
    assert!(text.contains("pick_won") && text.contains("头诉") && text.contains("nothing was started"), "{text}");
    assert!(!store.join("zongji.db").exists(), "nothing was begun");
}

#[test]
fn a_taken_port_is_named_with_what_to_do() {
    let (taken, data) = (std::net::UdpSocket::bind("127.0.0.1:0").unwrap(), tempfile::tempdir().unwrap());
    let port = taken.local_addr().unwrap().port().to_string();
    let started = zongji(&[
        "serve",
        "--sip",
        &format!("127.0.0.1:{port}"),
        "--http",
        "127.0.0.1:0",
        "--data",
        &path(data.path()),
    ]);
    assert_eq!(started.status.code(), Some(1));
    assert!(said(&started).contains(&port) && said(&started).contains("another port"), "{}", said(&started));
}

#[test]
fn understanding_is_told_with_candidates_decision_and_slots() {
    let order = last(&zongji(&["understand", "我想查一下尾号三八二六的订单", "--json"]));
    assert_eq!(order["decision"], "act");
    assert_eq!(order["candidates"][0]["intent"], "order_query");
    assert!(order["candidates"][0]["score"].as_f64().is_some());
    assert_eq!(order["slots"]["order_ref"], "3826");
    for person in ["转人工", "我要转人工"] {
        let told = last(&zongji(&["understand", person, "--json"]));
        assert_eq!(
            (&told["decision"], &told["candidates"][0]["intent"]),
            (&"person".into(), &"human".into()),
            "{told}"
        );
    }
}

#[test]
fn a_recording_is_transcribed_against_phrases_and_the_rest_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let phrases = folder.path().join("phrases.txt");
    std::fs::write(&phrases, "改到公司\n送到家里\n转人工\n").unwrap();
    let heard = zongji(&["transcribe", "audio-fixtures/to_company.wav", "--grammar", &path(&phrases), "--json"]);
    assert_eq!(heard.status.code(), Some(0), "{}", said(&heard));
    let told = last(&heard);
    assert_eq!((&told["text"], &told["accepted"]), (&"改到公司".into(), &true.into()), "{told}");
    assert!(told["confidence"].as_f64().is_some() && told["rtf"].as_f64().is_some() && told["engine"].is_string());
    let missing = zongji(&["transcribe", "audio-fixtures/no_such.wav", "--json"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(said(&missing).contains("no_such.wav"), "{}", said(&missing));
}

#[test]
fn each_test_of_a_dialplan_has_a_line_and_speech_becomes_a_file() {
    let tests = zongji(&["test", "dialplans", "--json"]);
    assert_eq!(tests.status.code(), Some(0));
    let told = lines(&tests);
    assert!(told.len() >= 30 && told.iter().all(|t| t["verdict"] == "ok" && t["line"].as_u64() > Some(0)));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.wav");
    let spoken = zongji(&["speak", "您好，请稍等。", "--out", &path(&file)]);
    assert_eq!(spoken.status.code(), Some(0), "{}", said(&spoken));
    let wav = hound::WavReader::open(&file).unwrap();
    assert!(wav.spec().sample_rate == 8000 && wav.duration() > 4000, "{:?}", wav.spec());
}

#[test]
fn a_call_that_reaches_nobody_ends_with_its_outcome() {
    // A port that was free a moment ago: nobody answers there.
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let called = zongji(&["call", &format!("sip:400@127.0.0.1:{port}"), "--json", "--limit", "2"]);
    assert_eq!(called.status.code(), Some(1), "{}", said(&called));
    assert!(last(&called)["event"].is_string(), "{}", said(&called));
    let nowhere = zongji(&["call", "sip:400@no.such.host.invalid", "--json"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(last(&nowhere)["event"].is_string(), "{}", said(&nowhere));
}

#[test]
fn what_is_called_wrongly_exits_with_two() {
    for wrong in [
        &["call"][..],
        &["serve", "--sip", "nowhere"],
        &["frobnicate"],
        &["call", "sip:400@h", "--key", "1x"],
        &["call", "not-an-address"],
        &["speak", "x", "--out", "x.wav", "--rate", "5"],
    ] {
        assert_eq!(zongji(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn a_reader_that_has_read_enough_breaks_nothing_and_a_full_disk_is_told() {
    let program = env!("CARGO_BIN_EXE_zongji");
    let run = |to: &str| {
        let script = format!("'{program}' check dialplans --json {to}; echo \"rc ${{PIPESTATUS[0]}}\" >&2");
        let output = Command::new("bash").args(["-c", &script]).current_dir(root()).output().expect("bash");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert_eq!(run("| true"), "rc 0\n");
    if Path::new("/dev/full").exists() {
        let full = run("> /dev/full");
        assert!(full.contains("stdout") && full.ends_with("rc 1\n"), "{full}");
    }
}

/// A hotline in a process of its own on free ports of this machine; its stdout is read to the line that says ready.
fn served(folder: &Path, stderr: std::process::Stdio) -> (std::process::Child, String) {
    use std::io::BufRead;
    let file = folder.join("zongji.toml");
    let data = folder.join("data");
    let text = format!(
        "[sip]\nbind = \"127.0.0.1:0\"\n[rtp]\nbind = \"127.0.0.1\"\n[http]\nbind = \"127.0.0.1:0\"\n[data]\ndir = {:?}\n\
         [dialplans]\ndir = {:?}\n",
        path(&data),
        path(&root().join("dialplans"))
    );
    std::fs::write(&file, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_zongji"))
        .args(["--config", &path(&file), "--json", "serve"])
        .stdout(std::process::Stdio::piped())
        .stderr(stderr)
        .spawn()
        .expect("the program runs");
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Json = serde_json::from_str(&line).unwrap_or_else(|e| panic!("not ready ({e}): {line}"));
    let sip = ready["sip"].as_str().expect("an address").to_string();
    (child, sip)
}

fn signal(child: &std::process::Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn a_hotline_whose_readers_are_gone_reloads_and_ends_as_ever() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, _) = served(folder.path(), std::process::Stdio::piped());
    drop(child.stderr.take());
    signal(&child, "-HUP");
    // Nothing is said that could be waited for: the signals come in order, and the second one ends it.
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_interrupted_call_hangs_up_and_keeps_what_it_heard() {
    use std::io::BufRead;
    let folder = tempfile::tempdir().unwrap();
    let (mut hotline, sip) = served(folder.path(), std::process::Stdio::null());
    let heard = folder.path().join("heard.wav");
    let mut caller = Command::new(env!("CARGO_BIN_EXE_zongji"))
        .args(["call", &format!("sip:400@{sip}"), "--json", "--record", &path(&heard)])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(caller.stdout.take().unwrap()).lines();
    let spoke = lines.by_ref().map_while(Result::ok).find(|l| l.contains("prompt"));
    assert!(spoke.is_some(), "the hotline spoke");
    signal(&caller, "-INT");
    let outcome = lines.map_while(Result::ok).last().expect("the outcome");
    assert_eq!(serde_json::from_str::<Json>(&outcome).unwrap()["event"], "over", "{outcome}");
    caller.wait().unwrap();
    assert!(std::fs::metadata(&heard).is_ok_and(|m| m.len() > 1000), "what was heard is kept");
    signal(&hotline, "-TERM");
    assert_eq!(hotline.wait().unwrap().code(), Some(0));
    let db = folder.path().join("data/zongji.db");
    let reason = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = zongji::store::Store::open_to_read(&db).await.unwrap();
        store.calls(1).await.unwrap().remove(0).reason
    });
    assert_eq!(reason.as_deref(), Some("the caller hung up"));
}

#[test]
fn a_signal_lets_the_calls_go_on_and_a_second_one_ends_them() {
    use std::io::BufRead;
    let folder = tempfile::tempdir().unwrap();
    let (mut hotline, sip) = served(folder.path(), std::process::Stdio::null());
    let mut caller = Command::new(env!("CARGO_BIN_EXE_zongji"))
        .args(["call", &format!("sip:400@{sip}"), "--json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(caller.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.by_ref().any(|l| l.contains("prompt")), "the hotline spoke");
    signal(&hotline, "-TERM");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    let me = socket.local_addr().unwrap();
    let status = |n: u32| {
        let options = format!(
            "OPTIONS sip:{sip} SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch=z9hG4bK{n}\r\nFrom: <sip:a@{me}>;tag=1\r\n\
             To: <sip:{sip}>\r\nCall-ID: drain\r\nCSeq: {n} OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
        socket.send_to(options.as_bytes(), &sip).unwrap();
        let mut answer = [0u8; 2000];
        let (len, _) = socket.recv_from(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer[8..len.min(11)]).into_owned()
    };
    let draining = (1..500).find(|n| status(*n) == "503");
    assert!(draining.is_some(), "it takes no new calls");
    assert!(hotline.try_wait().unwrap().is_none(), "the call goes on");
    signal(&hotline, "-TERM");
    let outcome = lines.last().expect("the outcome");
    assert_eq!(serde_json::from_str::<Json>(&outcome).unwrap()["event"], "over", "{outcome}");
    assert_eq!(hotline.wait().unwrap().code(), Some(0));
    caller.wait().unwrap();
}
