//! Floods: ten times what is admitted, from an address nobody knows, while a carrier's calls go on.

use crate::common::sip::{Client, OFFER, tag_of};
use crate::common::wire::Caller;
use crate::common::{ONE_ORDER, outside, root, skipped};
use rand::{RngExt, SeedableRng};
use std::io::BufRead;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::Instant;

/// New calls a second that are admitted; the flood is ten times as fast.
const ADMITTED: u32 = 150;
/// The carrier's calls a second.
const CARRIER_RATE: u64 = 20;

/// The program in a process of its own, on every address.
struct Served {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn served() -> Served {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[sip]\nbind = \"0.0.0.0:0\"\nopen = true\ncalls_per_s = {ADMITTED}\n[http]\nbind = \"off\"\n[data]\ndir = {:?}\n\
         [rtp]\ndead_after_s = 3600\n[record]\non = false\n[dialplans]\ndir = {:?}\n[[trunk]]\nname = \"carrier\"\nservers = [\"sip:127.0.0.2\"]\n\
         options_s = 0\n[[test_route]]\nuser = \"ivr\"\nkind = \"ivr\"\n[[test_route]]\nuser = \"sig\"\nkind = \"sig\"\n",
        folder.path().join("data"),
        root().join("dialplans")
    );
    let file = folder.path().join("zongji.toml");
    std::fs::write(&file, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_zongji"))
        .args([Path::new("--config"), &file, Path::new("--json"), Path::new("serve")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("not ready ({e}): {line}"));
    let port = ready["sip"].as_str().unwrap().parse::<SocketAddr>().unwrap().port();
    Served { child, port, _folder: folder }
}

/// Resident memory of a process, KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Sends a mix of requests and rubbish as fast as ten times the admitted rate.
async fn flood(from: std::net::IpAddr, to: SocketAddr, stop: Arc<AtomicBool>) -> u64 {
    let client = Client { socket: UdpSocket::bind((from, 0)).await.unwrap(), to };
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
    let (mut clock, mut sent) = (tokio::time::interval(Duration::from_millis(10)), 0u64);
    while !stop.load(Ordering::Relaxed) {
        clock.tick().await;
        for _ in 0..ADMITTED / 10 {
            sent += 1;
            let id = format!("flood{sent}");
            let bytes = match sent % 4 {
                0 => client.request("INVITE", "400", &id, 1, "", "", OFFER).into_bytes(),
                1 => client.request("REGISTER", "8001", &id, 1, "", "", "").into_bytes(),
                2 => client.request("OPTIONS", "400", &id, 1, "", "", "").into_bytes(),
                _ => (0..rng.random_range(1..800)).map(|_| rng.random()).collect(),
            };
            client.socket.send_to(&bytes, to).await.ok();
        }
    }
    sent
}

/// A call of the carrier's: true when it is answered within three seconds.
async fn carriers_call(to: SocketAddr, id: String) -> bool {
    let client = Client { socket: UdpSocket::bind("127.0.0.2:0").await.unwrap(), to };
    let call = async {
        client.send(&client.request("INVITE", "sig", &id, 1, "", "", OFFER)).await;
        let ok = client.final_answer().await;
        let tag = tag_of(&ok);
        client.send(&client.request("ACK", "sig", &id, 1, &tag, "", "")).await;
        client.send(&client.request("BYE", "sig", &id, 2, &tag, "", "")).await;
        ok.starts_with("SIP/2.0 200")
    };
    tokio::time::timeout(Duration::from_secs(3), call).await.unwrap_or(false)
}

/// What the callers saw.
#[derive(Debug)]
struct Seen {
    carrier: (u64, u64),
    gap_p99: Duration,
    memory: (u64, u64),
}

async fn under_flood(from: std::net::IpAddr, lasting: Duration) -> Seen {
    let served = served();
    let to = SocketAddr::from(([127, 0, 0, 1], served.port));
    let mut listener = Caller::dialling(to, ONE_ORDER, "ivr").await;
    listener.establish().await;
    assert!(listener.packets(Duration::from_secs(1)).await > 10, "the prompt is playing");
    let before = resident(served.child.id());
    let stop = Arc::new(AtomicBool::new(false));
    let flooding = tokio::spawn(flood(from, SocketAddr::new(from, served.port), stop.clone()));
    let answered = Arc::new(AtomicU64::new(0));
    let (mut clock, began) = (tokio::time::interval(Duration::from_millis(1000 / CARRIER_RATE)), Instant::now());
    let mut calls = tokio::task::JoinSet::new();
    let listening = tokio::spawn(async move {
        let gaps = listener.gaps(lasting).await;
        (listener, gaps)
    });
    let mut placed = 0;
    while began.elapsed() < lasting {
        clock.tick().await;
        placed += 1;
        let (answered, id) = (answered.clone(), format!("carrier{placed}"));
        calls.spawn(async move {
            if carriers_call(to, id).await {
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while calls.join_next().await.is_some() {}
    stop.store(true, Ordering::Relaxed);
    let sent = flooding.await.unwrap();
    assert!(sent > u64::from(ADMITTED) * 5 * lasting.as_secs(), "only {sent} messages were sent");
    let (_listener, mut gaps) = listening.await.unwrap();
    gaps.sort_unstable();
    let memory = (before, resident(served.child.id()));
    let gap_p99 = gaps[gaps.len() * 99 / 100];
    Seen { carrier: (answered.load(Ordering::Relaxed), placed), gap_p99, memory }
}

fn judge(seen: &Seen, gap: Duration) {
    let (answered, placed) = seen.carrier;
    assert!(answered * 100 >= placed * 95, "{seen:?}");
    assert!(seen.gap_p99 <= gap, "{seen:?}");
    assert!(seen.memory.1 * 2 <= seen.memory.0 * 3, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_from_a_stranger_costs_a_carrier_no_calls_and_a_caller_no_sound() {
    let Some(from) = outside() else { return skipped("this machine has no address but loopback: no flood was tried") };
    let seen = under_flood(from, Duration::from_secs(5)).await;
    eprintln!("flood of {} a second: {seen:?}", ADMITTED * 10);
    judge(&seen, Duration::from_millis(60)); // other tests run beside this one
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "soak: five minutes of flood"]
async fn five_minutes_of_flood_cost_a_carrier_no_calls_and_a_caller_no_sound() {
    let Some(from) = outside() else { return skipped("this machine has no address but loopback: no flood was tried") };
    let seen = under_flood(from, Duration::from_secs(300)).await;
    eprintln!("flood of {} a second: {seen:?}", ADMITTED * 10);
    judge(&seen, Duration::from_millis(30));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_slow_connections_do_not_hold_up_a_new_call() {
    let Some(from) = outside() else { return skipped("this machine has no address but loopback: nothing was tried") };
    let served = served();
    let at = SocketAddr::new(from, served.port);
    let mut held = Vec::new();
    for _ in 0..2000 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from, 0)).unwrap();
        let Ok(Ok(mut stream)) = tokio::time::timeout(Duration::from_secs(1), socket.connect(at)).await else {
            continue;
        };
        stream.write_all(b"INVITE sip:400@h SIP/2.0\r\nVia:").await.ok();
        held.push(stream);
    }
    assert!(held.len() >= 500, "{} connections", held.len());
    let began = Instant::now();
    assert!(carriers_call(SocketAddr::from(([127, 0, 0, 1], served.port)), "amid".into()).await);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let other = TcpStream::connect(("127.0.0.1", served.port)).await;
    assert!(other.is_ok(), "others still connect");
}
