//! Whole calls by voice against a hotline in a process of its own, over real SIP and RTP on loopback.
//!
//! Budget: a turn (last word to first sample of the answer) p95 under 1,100 ms at 1 call and at 50; under 1.0 CPU
//! seconds per talking call-minute with voice activity detection, recognition and synthesis.
//!
//! `cargo bench --bench calls` runs 1 and 50 calls; `cargo bench --bench calls -- 10 20` other numbers.

#![allow(clippy::print_stdout)] // a bench's result

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use zongji::server::phone::{Act, Phone, PhoneSettings, Step, When};
use zongji::store::Store;

const WORDS: [&str; 8] =
    ["order_query", "yes", "change_address", "phone_tail_8000", "name_wang", "to_company", "yes", "satisfied"];

fn main() {
    let wanted: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let wanted = if wanted.is_empty() { vec![1, 50] } else { wanted };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    for calls in wanted {
        runtime.block_on(measure(calls));
    }
}

async fn measure(calls: usize) {
    let data = tempfile::tempdir().expect("a folder");
    let (mut server, sip) = serve(data.path());
    let before = cpu_seconds(server.id());
    let script: Vec<Step> = WORDS.iter().map(|w| Step { when: When::PromptEnd, act: say(w) }).collect();
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..calls {
        let script = script.clone();
        callers.spawn(async move {
            // Callers do not dial in the same instant: one each 150 ms.
            tokio::time::sleep(Duration::from_millis(150 * n as u64)).await;
            let mut settings = PhoneSettings::new(([127, 0, 0, 1], 0).into(), "13800138000");
            settings.keep_sound = false;
            let mut phone = Phone::start(settings).await.expect("a phone");
            phone.call(&format!("sip:400@{sip}"), script, &mut |_| {}).await.expect("a call")
        });
    }
    let (mut talked_ms, mut complete) = (0, 0);
    while let Some(result) = callers.join_next().await {
        let result = result.expect("no caller breaks");
        talked_ms += result.talked_ms;
        complete += usize::from(result.steps_done == WORDS.len());
    }
    let cpu = cpu_seconds(server.id()) - before;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let _it_ends = Command::new("kill").arg("-TERM").arg(server.id().to_string()).status();
    let _ended = server.wait();
    report(data.path(), calls, complete, talked_ms, cpu).await;
}

async fn report(data: &Path, calls: usize, complete: usize, talked_ms: u64, cpu: f64) {
    let store = Store::open(&data.join("zongji.db")).await.expect("the database opens");
    let mut totals = Vec::new();
    let mut parts = [0u64; 5];
    for call in store.calls(10_000).await.expect("calls") {
        for t in store.turns(call.id.parse().expect("an id")).await.expect("turns") {
            if !t.by_keys {
                let ms = [t.endpoint_ms, t.recognise_ms, t.understand_ms, t.act_ms, t.first_audio_ms];
                totals.push(ms.iter().map(|m| u64::from(*m)).sum::<u64>());
                parts.iter_mut().zip(ms).for_each(|(sum, m)| *sum += u64::from(m));
            }
        }
    }
    totals.sort_unstable();
    let at = |q: f64| totals.get(((totals.len() as f64 - 1.0) * q) as usize).copied().unwrap_or(0);
    let mean = |n: usize| parts[n] as f64 / totals.len().max(1) as f64;
    println!(
        "calls {calls}: {complete} complete, {} spoken turns; turn p50 {} ms p95 {} ms max {} ms \
         (means: endpoint {:.0}, recognise {:.0}, understand {:.1}, act {:.0}, first audio {:.0}); \
         {:.3} CPU s per talking call-minute",
        totals.len(),
        at(0.5),
        at(0.95),
        at(1.0),
        mean(0),
        mean(1),
        mean(2),
        mean(3),
        mean(4),
        cpu / (talked_ms as f64 / 60_000.0)
    );
}

fn serve(data: &Path) -> (Child, SocketAddr) {
    let program = env!("CARGO_BIN_EXE_zongji");
    let mut server = Command::new(program)
        .args(["serve", "--json", "--sip", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data"])
        .arg(data)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the hotline starts");
    let mut line = String::new();
    BufReader::new(server.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
    let sip = ready["sip"].as_str().and_then(|s| s.parse().ok()).expect("its address");
    (server, sip)
}

/// User and system seconds of a process.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
    ticks / 100.0
}

fn say(name: &str) -> Act {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("audio-fixtures").join(format!("{name}.wav"));
    Act::Say(zongji::server::sound::read(&file).expect("a fixture"), name.into())
}
