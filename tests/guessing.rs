//! Guessing with the tools that everybody has: sipvicious finds a SIP server and learns nothing more.

use crate::common::sip::{Client, Side, authorization, settings};
use crate::common::{outside, skipped};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::process::Command;
use zongji::sip::{Account, Served, SipSettings};

const SEAT: &str = "8001";
const PASSWORD: &str = "geheim";

/// What a tool says; none, with a word, where it is not installed.
async fn tool(name: &str, args: &[&str]) -> Option<String> {
    let home = tempfile::tempdir().expect("a folder"); // they keep what they found
    // Shut out, svcrack waits for ever: it is interrupted as a person would do it.
    let mut run = Command::new("timeout");
    run.args(["-s", "INT", "-k", "5", "20", name]).args(args).env("HOME", home.path()).kill_on_drop(true);
    let run = run.output();
    match tokio::time::timeout(Duration::from_secs(60), run).await {
        Ok(Ok(output)) if output.status.code() == Some(127) => {
            skipped(format_args!("{name} cannot be run; install Debian's sipvicious"));
            None
        }
        Ok(Ok(output)) => {
            Some((String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr)).into_owned())
        }
        Ok(Err(e)) => {
            skipped(format_args!("timeout (coreutils) cannot be run ({e})"));
            None
        }
        Err(_) => panic!("{name} did not end"),
    }
}

async fn server() -> Side {
    let account = Account { user: SEAT.into(), password: PASSWORD.into() };
    let users = Served::from_list(["400".to_string()]);
    let settings =
        SipSettings { bind: "0.0.0.0:0".parse().expect("an address"), accounts: vec![account], users, ..settings() };
    Side::new(settings).await
}

/// What a server that nobody has asked yet answers to a stranger's REGISTER, but for what is new in each answer.
async fn challenge_of(ip: IpAddr, user: &str) -> String {
    let side = server().await;
    let to = SocketAddr::new(ip, side.agent.local_addr().port());
    let stranger = Client { socket: UdpSocket::bind((ip, 0)).await.expect("a socket"), to };
    stranger.send(&stranger.request("REGISTER", user, "same", 1, "", "", "")).await;
    let answer = stranger.final_answer().await;
    let own = regex::Regex::new(r#"nonce="[^"]*"|tag=[^;\s]*|\d+\.\d+\.\d+\.\d+:\d+|rport=\d+|(?m)^Date:.*$"#)
        .expect("a pattern");
    own.replace_all(&answer, "").replace(user, "")
}

async fn a_seat_is_challenged_as_nobody_is(ip: IpAddr) {
    let (seat, nobody) = (challenge_of(ip, SEAT).await, challenge_of(ip, "7998").await);
    assert!(seat.starts_with("SIP/2.0 401"), "{seat}");
    assert_eq!(seat, nobody, "a seat can be told from nobody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sipvicious_learns_no_extension_and_no_password() {
    let Some(ip) = outside() else { return skipped("this machine has no address but loopback: nobody was a stranger") };
    // By REGISTER it gives up at the first user, who is answered as one that cannot exist was before; that it is so for a
    // seat too is asked by hand below. By the others it asks for all six and one that cannot exist.
    for (method, at_least) in [("REGISTER", 2), ("INVITE", 7), ("OPTIONS", 7)] {
        let side = server().await; // each tool begins as a stranger who has asked nothing yet
        let (host, port) = (ip.to_string(), side.agent.local_addr().port().to_string());
        // Few, and slowly: a faster scan is cut off by the limit and learns nothing for that reason.
        let scan = ["-p", &port, "-e", "7998-8003", "-m", method, "--force", "-t", "0.3", "--maximumtime=8", &host];
        let Some(said) = tool("svwar", &scan).await else { return };
        let counters = side.agent.counters();
        eprintln!("svwar {method}: {} requests, limited {}", counters.datagrams, counters.limited);
        assert!(counters.datagrams >= at_least, "{method}: it asked {} times: {said}", counters.datagrams);
        assert_eq!(counters.limited, 0, "{method}: who is not answered learns nothing: {said}");
        assert!(!said.contains(SEAT), "svwar -m {method} learned the seat:\n{said}");
    }
    a_seat_is_challenged_as_nobody_is(ip).await;
    let side = server().await;
    let (host, port) = (ip.to_string(), side.agent.local_addr().port().to_string());
    let words = tempfile::NamedTempFile::new().expect("a file");
    let mut list: Vec<String> = (0..1000).map(|n| format!("password{n}")).collect();
    list[30] = PASSWORD.into();
    std::fs::write(words.path(), list.join("\n")).expect("a file");
    let dictionary = words.path().display().to_string();
    let crack = ["-p", &port, "-u", SEAT, "-d", &dictionary, "--maximumtime=15", &host];
    let Some(said) = tool("svcrack", &crack).await else { return };
    let counters = side.agent.counters();
    let refused: Vec<(&str, u64)> = side.agent.refused().into_iter().filter(|r| r.1 > 0).collect();
    eprintln!("svcrack: {refused:?}");
    assert!(!said.contains(PASSWORD) && counters.registered == 0, "{said}");
    let of = |word: &str| refused.iter().filter(|r| r.0 == word).map(|r| r.1).sum::<u64>();
    assert!((1..=10).contains(&of("wrong_password")), "{refused:?}");
    assert!(of("banned") > 0, "{refused:?}");
    // From elsewhere the seat's own phone gets in all the while.
    let to = SocketAddr::from(([127, 0, 0, 1], side.agent.local_addr().port()));
    let phone = Client { socket: UdpSocket::bind("127.0.0.1:0").await.expect("a socket"), to };
    phone.send(&phone.request("REGISTER", SEAT, "own", 1, "", "", "")).await;
    let challenge = phone.final_answer().await;
    let proof = authorization(&challenge, (SEAT, PASSWORD), 1, ("REGISTER", &format!("sip:{SEAT}@{to}")));
    phone.send(&phone.request("REGISTER", SEAT, "own", 2, "", &proof, "")).await;
    assert!(phone.final_answer().await.starts_with("SIP/2.0 200"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn svmap_sees_a_server_and_nothing_else() {
    let Some(ip) = outside() else { return skipped("this machine has no address but loopback: nobody was a stranger") };
    let side = server().await;
    let Some(said) = tool("svmap", &["-p", &side.agent.local_addr().port().to_string(), &ip.to_string()]).await else {
        return;
    };
    assert!(said.contains("zongji/"), "{said}");
    assert!(!said.contains(SEAT) && side.agent.counters().calls_in == 0, "{said}");
}
