//! linphonec, told what to do as a person at its prompt would.

use super::skipped;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Longest wait for a line.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running linphonec whose sound are files.
pub struct Linphone {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    said: String,
    folder: tempfile::TempDir,
}

impl Linphone {
    /// Starts one; `sip` are more lines of the section of that name. None, with a word, where it is not installed.
    pub async fn start(sip: &str, args: &[&str]) -> Option<Linphone> {
        let folder = tempfile::tempdir().expect("a folder");
        let rc = format!(
            "[sip]\nsip_port=-1\nsip_tcp_port=-1\nsip_tls_port=-1\nverify_server_certs=0\nverify_server_cn=0\nuse_ipv6=0\n\
             bind_address=127.0.0.1\n{sip}\n[rtp]\naudio_rtp_port=-1\n"
        );
        std::fs::write(folder.path().join("rc"), rc).expect("a file");
        std::fs::create_dir_all(folder.path().join(".local/share/linphone")).expect("a folder");
        let child = Command::new("linphonec")
            .arg("-c")
            .arg(folder.path().join("rc"))
            .args(args)
            .env("HOME", folder.path())
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(e) => {
                skipped(format_args!("linphonec cannot be run ({e}); install Debian's linphone-cli"));
                return None;
            }
        };
        let stdin = child.stdin.take().expect("its prompt");
        let lines = BufReader::new(child.stdout.take().expect("its words")).lines();
        let mut phone = Linphone { child, stdin, lines, said: String::new(), folder };
        phone.until("video is disabled").await; // the last it says before its prompt
        phone.tell("soundcard use files").await;
        let heard = format!("record {}", phone.record().display());
        phone.tell(&heard).await;
        Some(phone)
    }

    fn record(&self) -> PathBuf {
        self.folder.path().join("heard.wav")
    }

    /// Types a line.
    pub async fn tell(&mut self, line: &str) {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.expect("it reads");
    }

    /// Waits until it says something.
    pub async fn until(&mut self, what: &str) {
        loop {
            match tokio::time::timeout(PATIENCE, self.lines.next_line()).await {
                Ok(Ok(Some(line))) => {
                    self.said += &line;
                    self.said.push('\n');
                    if line.contains(what) {
                        return;
                    }
                }
                end => panic!("linphonec never said \"{what}\" ({end:?}), but:\n{}", self.said),
            }
        }
    }

    /// Says a tone from now on.
    pub async fn say(&mut self, hz: f32) {
        let file = self.folder.path().join("tone.wav");
        super::baresip::sine(&file, hz, 8000, 30);
        self.tell(&format!("play {}", file.display())).await;
    }

    /// Waits until its file of what it hears has grown by so many seconds of 8 kHz.
    pub async fn hears_for(&mut self, seconds: u64) {
        let file = self.record();
        let length = || std::fs::metadata(&file).map_or(0, |m| m.len());
        let before = length();
        super::until("linphonec hears something", || length() >= before + seconds * 16_000).await;
    }

    /// Ends it; what it heard, at 8 kHz.
    pub async fn quit(mut self) -> Vec<i16> {
        self.tell("quit").await;
        if tokio::time::timeout(PATIENCE, self.child.wait()).await.is_err() {
            panic!("linphonec does not quit:\n{}", self.said);
        }
        super::baresip::samples(&self.record())
    }
}
