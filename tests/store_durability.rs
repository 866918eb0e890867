//! A process killed at any moment loses nothing it has acknowledged, and its open call gets a record.
//!
//! The killed process is this test binary itself, started again with only [`child`] to run.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use zongji::call::{CallEvent, CallRecord, EndReason, HungUpBy};
use zongji::clock::{Mono, UtcMs};
use zongji::dialplan::{Level, Outcome, TicketDraft, Value};
use zongji::ids::{CallId, RequestId};
use zongji::pii::Pii;
use zongji::store::{CallExtras, Called, NewCall, Store, WriteJob, Writer};

const FOLDER: &str = "ZONGJI_TEST_DURABILITY_FOLDER";
const NOON: UtcMs = UtcMs(1_795_147_200_000);
const CALLER: &str = "13800138000";

fn call_id(n: u128) -> CallId {
    CallId::new(NOON.0, n)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Not a test of its own: what the parent kills. It writes as fast as it can and says what is safe.
#[test]
#[ignore = "started by its parent test"]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    runtime().block_on(async {
        let store = Store::open(&Path::new(&folder).join("zongji.db")).await.expect("it opens");
        store.seed_demo(NOON).await.expect("seeded");
        let writer = Writer::spawn(store.clone(), 1000);
        for n in 0..100_000u32 {
            one_call(&store, &writer, n).await;
        }
    });
}

async fn one_call(store: &Store, writer: &zongji::store::WriterHandle, n: u32) {
    let (id, caller) = (call_id(u128::from(n)), Pii::new(CALLER));
    let call = NewCall {
        id,
        from: caller.clone(),
        to: Called::new("400", false),
        sip_call_id: format!("{n}@test"),
        at: NOON,
        origin: Default::default(),
    };
    let _ = writer.try_send(WriteJob::Begin(call));
    let _ = writer.try_send(WriteJob::Recording(id, format!("{id}.wav")));
    let _ = writer.try_send(WriteJob::Event(id, 200, CallEvent::Answered));
    let draft = TicketDraft {
        category: "投诉".into(),
        priority: "P1".into(),
        sla: String::new(),
        title: format!("ticket of call {n}"),
        facts: Value::Null,
        recording_ms: None,
    };
    let ticket = store.make_ticket(&draft, id, &caller, RequestId(1), NOON).await.expect("written");
    acknowledge("ticket", ticket.get("no").as_text().expect("a number"), n);

    let recent =
        store.act("orders.recent", &BTreeMap::from([("phone".into(), Value::text(CALLER))]), Level::L4, id, NOON).await;
    let order = recent.data.get("items").as_list().expect("orders")[0].get("id").clone();
    let place = Value::Text(format!("北京市海淀区学院路{n}号"));
    let args = BTreeMap::from([("order".to_string(), order), ("address".to_string(), place)]);
    let done = store.act("orders.change_address", &args, Level::L4, id, NOON).await;
    assert_eq!(done.outcome, "ok");
    acknowledge("address", &id.to_string(), n);

    if n % 4 == 3 {
        writer.flush(std::time::Duration::from_secs(30)).await.expect("on disk");
        acknowledge("begun", &id.to_string(), n);
    }
    let record = CallRecord {
        offered: Mono(0),
        answered: Some(Mono::from_ms(200)),
        ended: Mono::from_ms(1000),
        reason: EndReason::other(16, HungUpBy::Us, "done", "完成"),
        outcome: Outcome::Ticketed,
        steps: 1,
        retries: 0,
        verify_questions: 0,
        turns: 0,
        flows: vec![],
        bridged: false,
    };
    let _ = writer.try_send(WriteJob::End(id, Box::new(record), CallExtras::default()));
    if n % 8 == 7 {
        writer.flush(std::time::Duration::from_secs(30)).await.expect("on disk");
        acknowledge("record", &id.to_string(), n);
    }
}

fn acknowledge(what: &str, key: &str, n: u32) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "\nSAFE {what} {key} {n}").and_then(|()| out.flush());
}

/// A child that writes, and what it has acknowledged so far.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
    safe: BTreeSet<(String, String)>,
}

impl Running {
    /// Starts a child on a folder and waits until it has acknowledged so many rows.
    fn start(folder: &Path, lines: usize) -> Running {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "store_durability::child", "--ignored", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the child starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut running = Running { child, output, safe: BTreeSet::new() };
        let mut line = String::new();
        while running.safe.len() < lines {
            line.clear();
            assert!(running.output.read_line(&mut line).expect("readable") > 0, "the child ended by itself");
            note(&line, &mut running.safe);
        }
        running
    }

    /// Ends it with SIGKILL (no destructor, no flush) and reads what it had said before: a torn last line counts for
    /// nothing.
    fn kill(mut self) -> BTreeSet<(String, String)> {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
        for rest in self.output.lines().map_while(Result::ok) {
            note(&rest, &mut self.safe);
        }
        self.safe
    }
}

fn note(line: &str, safe: &mut BTreeSet<(String, String)>) {
    let words: Vec<&str> = line.split_whitespace().collect();
    if let ["SAFE", what, key, _n] = words[..] {
        safe.insert((what.to_string(), key.to_string()));
    }
}

#[test]
fn a_killed_process_loses_nothing_it_acknowledged() {
    let mut torn_calls = 0;
    for seed in 1..=8u64 {
        let mix = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (lines, more) = (1 + (mix >> 32) as usize % 60, (mix >> 8) as u32 % 3_000_000);
        let folder = tempfile::tempdir().expect("a folder");
        let running = Running::start(folder.path(), lines);
        for i in 0..more {
            std::hint::black_box(i); // into the middle of whatever it does next
        }
        let safe = running.kill();
        assert!(safe.len() >= lines, "seed {seed}");
        runtime().block_on(async {
            let store = Store::open(&folder.path().join("zongji.db")).await.expect("the dead process holds no lock");
            check(&store, &safe, seed).await;
            let open = store.open_calls().await.expect("a count");
            torn_calls += open;
            assert_eq!(store.recover().await.expect("recovered"), open);
            assert_eq!(store.open_calls().await.expect("a count"), 0, "seed {seed}");
            let calls = store.calls(10_000).await.expect("calls");
            let recovered = calls.iter().filter(|c| c.reason.as_deref() == Some("the program was stopped"));
            assert_eq!(recovered.count() as u64, open);
            let next = store
                .make_ticket(&draft_after(), call_id(999_999), &Pii::new(CALLER), RequestId(1), NOON)
                .await
                .expect("work goes on");
            assert!(!safe.contains(&("ticket".into(), next.get("no").as_text().expect("a number").into())));
        });
    }
    assert!(torn_calls > 0, "at least one kill hit an open call, else this test shows nothing");
}

fn draft_after() -> TicketDraft {
    TicketDraft {
        category: "回拨".into(),
        priority: "P2".into(),
        sla: String::new(),
        title: "after the kill".into(),
        facts: Value::Null,
        recording_ms: None,
    }
}

async fn check(store: &Store, safe: &BTreeSet<(String, String)>, seed: u64) {
    let tickets: BTreeSet<String> = store.tickets(10_000).await.expect("tickets").into_iter().map(|t| t.no).collect();
    let changes: BTreeSet<String> =
        store.order_changes(10_000).await.expect("changes").into_iter().filter_map(|c| c.call_id).collect();
    let ended: BTreeSet<String> =
        store.calls(10_000).await.expect("calls").into_iter().filter(|c| c.ended_at.is_some()).map(|c| c.id).collect();
    let begun: BTreeSet<String> = store.calls(10_000).await.expect("calls").into_iter().map(|c| c.id).collect();
    for ticket in store.tickets(10_000).await.expect("tickets") {
        if safe.contains(&("begun".into(), ticket.call_id.clone())) {
            let (path, call) = (ticket.recording, store.call(ticket.call_id.parse().expect("an id")).await);
            let answered = call.expect("readable").expect("there").answered_at;
            assert_eq!(path, Some(format!("{}.wav", ticket.call_id)), "seed {seed}: where the ticket's recording lies");
            assert_eq!(answered, Some(NOON.0 + 200), "seed {seed}: when the ticket's call was answered");
        }
    }
    for (what, key) in safe {
        let kept = match what.as_str() {
            "ticket" => &tickets,
            "address" => &changes,
            "begun" => &begun,
            _ => &ended,
        };
        assert!(kept.contains(key), "seed {seed}: the acknowledged {what} {key} is lost");
    }
}

/// A file system of its own in a file; what is copied of that file while a program runs is what a power cut leaves.
struct Disk {
    image: PathBuf,
    mounted: PathBuf,
}

impl Disk {
    /// `None`: not root, or no loop device here.
    fn mount(image: PathBuf, format: bool) -> Option<Disk> {
        let mounted = image.with_extension("mounted");
        std::fs::create_dir(&mounted).expect("a folder");
        let (i, m) = (image.to_str().expect("plain"), mounted.to_str().expect("plain"));
        if format {
            std::fs::File::create(&image).and_then(|f| f.set_len(64 << 20)).expect("room for 64 MiB");
        }
        let made = (!format || run("mkfs.ext4", &["-q", "-F", i])) && run("mount", &["-o", "loop", i, m]);
        made.then_some(Disk { image, mounted })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &[self.mounted.to_str().expect("plain")]);
    }
}

fn run(program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

#[test]
#[ignore = "soak: needs root and loop devices"]
fn soak_a_power_cut_loses_nothing_that_was_acknowledged() {
    let mut acknowledged = 0;
    for seed in 1..=10u64 {
        let lines = 5 + (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % 120;
        let folder = tempfile::tempdir().expect("a folder");
        let Some(disk) = Disk::mount(folder.path().join("disk"), true) else {
            crate::common::skipped("a power cut cannot be played here (root, mkfs.ext4 and a loop device are needed)");
            return;
        };
        let running = Running::start(&disk.mounted, lines);
        let (safe, cut) = (running.safe.clone(), folder.path().join("cut"));
        std::fs::copy(&disk.image, &cut).expect("copied while the child writes on");
        running.kill();
        drop(disk);
        let after = Disk::mount(cut, false).expect("the journal of the file system is whole");
        runtime().block_on(async {
            let store = Store::open(&after.mounted.join("zongji.db")).await.expect("the database is whole");
            check(&store, &safe, seed).await;
            store.recover().await.expect("recovered");
            store.close().await;
        });
        acknowledged += safe.len();
    }
    eprintln!("10 power cuts, {acknowledged} acknowledged rows, none lost");
}
