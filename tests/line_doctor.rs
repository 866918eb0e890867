//! `zongji doctor line` against real hotlines and peers on loopback: it passes a good line and finds planted faults.

use crate::common::root;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::Value as Json;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use zongji::sip::bare::{Request, Seen, read};

/// A configuration on loopback with ports nobody has now.
fn config(folder: &Path, ports: &str, sip: &str, more: &str) -> PathBuf {
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let file = folder.join("zongji.toml");
    let text = format!(
        "[sip]\nbind = \"{free}\"\nmax_calls = 20\n{sip}\n[rtp]\nbind = \"127.0.0.1\"\nports = \"{ports}\"\n\
         [http]\nbind = \"off\"\n[data]\ndir = \"{}\"\n{more}",
        folder.join("data").display()
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// What the doctor says: its exit code and findings.
fn doctor(config: &Path, args: &[&str]) -> (Option<i32>, Vec<Json>) {
    let output = Command::new(env!("CARGO_BIN_EXE_zongji"))
        .args(["doctor", "line", "--json", "--lang", "en", "--config"])
        .arg(config)
        .args(args)
        .current_dir(root())
        .output()
        .expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = |l| serde_json::from_str(l).unwrap_or_else(|e| panic!("no JSON ({e}): {l}"));
    let found: Vec<Json> = text.lines().map(line).collect();
    assert!(!found.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), found)
}

/// (level, what was seen) of a check.
fn said<'a>(found: &'a [Json], check: &str) -> (&'a str, &'a str) {
    let hit = found.iter().find(|f| f["check"] == check).unwrap_or_else(|| panic!("no {check}: {found:#?}"));
    (hit["level"].as_str().unwrap(), hit["seen"].as_str().unwrap())
}

#[test]
fn a_good_line_passes_with_all_keys_by_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let (code, found) = doctor(&config(folder.path(), "27000-27199", "", ""), &["--seconds", "12"]);
    assert_eq!(code, Some(0), "{found:#?}");
    for check in ["sip-port", "rtp-ports", "call", "ack", "in-call", "media", "audio-in", "audio-out", "bye"] {
        assert_eq!(said(&found, check).0, "ok", "{check}: {found:#?}");
    }
    for check in ["dtmf-rfc4733", "dtmf-info"] {
        assert!(said(&found, check).1.contains("all 16 keys arrived"), "{found:#?}");
    }
    assert!(said(&found, "clock-drift").1.contains("ppm"), "{found:#?}");
}

#[test]
fn a_wrong_public_address_is_found_as_lost_ack_and_one_way_audio() {
    let folder = tempfile::tempdir().unwrap();
    // An address of a documentation network: nobody has it.
    let file = config(folder.path(), "27200-27399", "public_address = \"192.0.2.77\"", "");
    let (code, found) = doctor(&file, &["--seconds", "6"]);
    assert_eq!(code, Some(1), "{found:#?}");
    assert_eq!(said(&found, "contact").0, "warn");
    let (level, seen) = said(&found, "ack");
    assert!(level == "error" && seen.contains("192.0.2.77"), "{found:#?}");
    assert_eq!((said(&found, "audio-in").0, said(&found, "audio-out").0), ("ok", "error"), "{found:#?}");
    assert_eq!(said(&found, "dtmf-rfc4733").0, "error");
}

#[test]
fn a_running_hotline_is_called_by_its_line_route_and_its_old_certificate_found() {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["pbx.example.com".into()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let (certificate, key_file) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    std::fs::write(&certificate, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    let more = "[[test_route]]\nuser = \"check\"\nkind = \"line\"\n";
    let file = config(folder.path(), "27400-27599", "", more);
    let mut server = Command::new(env!("CARGO_BIN_EXE_zongji"))
        .args(["serve", "--json", "--config"])
        .arg(&file)
        .current_dir(root())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the hotline starts");
    let mut ready = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert!(ready.contains("ready"), "{ready}");
    let paths = [certificate.display().to_string(), key_file.display().to_string()];
    let args = ["--seconds", "5", "--certificate", &paths[0], "--key", &paths[1], "--host", "pbx.example.com"];
    let (code, found) = doctor(&file, &args);
    let _it_ends = server.kill();
    let _ended = server.wait();
    assert!(said(&found, "sip-port").1.contains("zongji/"), "{found:#?}");
    assert_eq!((said(&found, "audio-out").0, said(&found, "dtmf-info").0), ("ok", "ok"), "{found:#?}");
    let (level, seen) = said(&found, "tls-days");
    assert!(level == "error" && seen.contains("ran out"), "{found:#?}");
    assert_eq!((said(&found, "tls-key").0, said(&found, "tls-names").0, code), ("ok", "ok", Some(1)), "{found:#?}");
}

/// A peer that takes one call wrongly: its Contact leads nowhere and its sound goes where it does not listen. As a
/// device does, it repeats its 200 until an ACK comes.
fn wrong_peer(stop: Arc<AtomicBool>) -> (SocketAddr, std::thread::JoinHandle<()>) {
    let sip = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (at, nowhere) = (sip.local_addr().unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let (media, described) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let port = described.local_addr().unwrap().port();
    let sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 8\r\n\
         a=rtpmap:8 PCMA/8000\r\n"
    );
    let run = move || {
        sip.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (mut datagram, mut call): (_, Option<(Box<Request>, SocketAddr, u16)>) = ([0; 4096], None);
        let (mut round, mut confirmed) = (0u32, false);
        while !stop.load(Ordering::Relaxed) {
            if let Ok((length, from)) = sip.recv_from(&mut datagram)
                && let Some(Seen::Request(asked)) = read(&datagram[..length])
            {
                confirmed |= asked.method == "ACK";
                if asked.method == "INVITE" {
                    let offer = asked.sdp.clone().unwrap();
                    let port = offer.split("m=audio ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
                    call = Some((asked, from, port));
                }
            }
            let Some((asked, from, to)) = &call else { continue };
            if round.is_multiple_of(25) && !confirmed {
                let answer = asked.answer(200, "peer", Some(nowhere), Some(&sdp));
                sip.send_to(answer.as_bytes(), from).unwrap();
            }
            round += 1;
            let buzz: [i16; 160] = std::array::from_fn(|n| if n % 16 < 8 { 4000 } else { -4000 });
            let packet = crate::common::wire::g711_packet(round, 7, &buzz);
            media.send_to(&packet, ("127.0.0.1", *to)).unwrap();
        }
        drop(described);
    };
    (at, std::thread::spawn(run))
}

#[test]
fn a_peer_whose_contact_and_sdp_lead_nowhere_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (at, peer) = wrong_peer(stop.clone());
    let uri = format!("sip:10000@{at}");
    let file = config(folder.path(), "27600-27799", "", "");
    let (code, found) = doctor(&file, &["--no-self-call", "--peer", &uri, "--seconds", "6"]);
    stop.store(true, Ordering::Relaxed);
    peer.join().unwrap();
    let (level, seen) = said(&found, "ack");
    assert!(level == "error" && seen.contains("once the ACK went to where the answer came from"), "{found:#?}");
    assert_eq!((said(&found, "audio-source").0, said(&found, "audio-in").0), ("warn", "ok"), "{found:#?}");
    assert_eq!(said(&found, "audio-out").0, "warn", "it never says that it hears us: {found:#?}");
    assert!(said(&found, "media").1.contains("in-band"), "{found:#?}");
    assert_eq!(said(&found, "bye").0, "error");
    assert_eq!(code, Some(1));
}

/// A STUN server that sees everybody behind one public address, each time at the port it is told.
fn stun_server(port: u16) -> (SocketAddr, std::thread::JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let at = socket.local_addr().unwrap();
    let run = move || {
        let mut datagram = [0; 200];
        let (length, from) = socket.recv_from(&mut datagram).unwrap();
        assert_eq!(length, 20);
        let id: [u8; 12] = datagram[8..20].try_into().unwrap();
        let seen = SocketAddr::from(([203, 0, 113, 7], port));
        socket.send_to(&zongji::server::stun::response(&id, seen, None), from).unwrap();
    };
    (at, std::thread::spawn(run))
}

#[test]
fn a_nat_is_seen_by_stun_and_a_silent_trunk_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = config(folder.path(), "28000-28199", "", "");
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let ((one, first), (two, second)) = (stun_server(40_000), stun_server(40_017));
    let (one, two, trunk) = (one.to_string(), two.to_string(), silent.local_addr().unwrap().to_string());
    let (code, found) = doctor(&file, &["--no-self-call", "--stun", &one, "--stun", &two, "--trunk", &trunk]);
    first.join().unwrap();
    second.join().unwrap();
    let address = found.iter().find(|f| f["check"] == "sdp-address").unwrap();
    assert_eq!(address["level"], "error", "{found:#?}");
    assert!(address["do"].as_str().unwrap().contains("public_address = \"203.0.113.7\""), "{address}");
    let (level, seen) = said(&found, "nat");
    assert!(level == "warn" && seen.contains("40000") && seen.contains("40017"), "{found:#?}");
    let (level, seen) = said(&found, "trunk");
    assert!(level == "error" && seen.contains(&trunk), "{found:#?}");
    assert_eq!(code, Some(1));
}

#[test]
fn chinese_is_spoken_unless_english_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let file = config(folder.path(), "27800-27999", "", "");
    for (lang, word) in [("zh_CN.UTF-8", "线路"), ("C", "线路"), ("en_GB.UTF-8", "The line")] {
        let output = Command::new(env!("CARGO_BIN_EXE_zongji"))
            .args(["doctor", "line", "--no-self-call", "--config"])
            .arg(&file)
            .env_remove("LC_ALL")
            .env_remove("LC_MESSAGES")
            .env("LANG", lang)
            .output()
            .expect("the program runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(word) && output.status.success(), "{lang}: {text}");
    }
}
