//! Kamailio and rtpengine of a test's own, on loopback.

use super::skipped;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// A UDP port that was free a moment ago.
pub fn free_port() -> u16 {
    std::net::UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr()).expect("a port").port()
}

/// A program in a group of its own, which ends with all its children.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _gone_already = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
        let _gone = self.0.wait();
    }
}

fn spawn(command: &mut Command, package: &str) -> Option<Served> {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    match quiet.spawn() {
        Ok(child) => Some(Served(child)),
        Err(e) => {
            skipped(format_args!("{:?} cannot be run ({e}); install Debian's {package}", command.get_program()));
            None
        }
    }
}

/// A relay of media, told by its own protocol.
pub struct RtpEngine {
    /// Where it is told.
    pub control: u16,
    _served: Served,
    _folder: tempfile::TempDir,
}

impl RtpEngine {
    /// In user space, with ports of its own. None, with a word, where it is not installed.
    pub async fn start() -> Option<RtpEngine> {
        let (control, folder) = (free_port(), tempfile::tempdir().expect("a folder"));
        let mut command = Command::new("rtpengine");
        command.args(["--table=-1", "--interface=127.0.0.1", "--foreground", "--log-stderr", "--log-level=3"]);
        command.arg("--config-file=none"); // the machine's own has fixed addresses
        // Each of this process has ports of its own.
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let first = 15_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 20 * 100;
        command
            .arg(format!("--port-min={first}"))
            .arg(format!("--port-max={}", first + 99))
            .arg(format!("--listen-ng=127.0.0.1:{control}"));
        command.arg(format!("--pidfile={}", folder.path().join("pid").display()));
        let served = spawn(&mut command, "rtpengine-daemon")?;
        let engine = RtpEngine { control, _served: served, _folder: folder };
        let asked = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        asked.set_read_timeout(Some(Duration::from_millis(100))).expect("a limit");
        super::until("rtpengine answers a ping", || {
            let sent = asked.send_to(b"1 d7:command4:pinge", ("127.0.0.1", control));
            sent.is_ok() && asked.recv(&mut [0; 200]).is_ok()
        })
        .await;
        Some(engine)
    }
}

/// A SIP proxy that stays in the way: to the hotline whatever does not come from it, to a phone what does.
pub struct Kamailio {
    /// Where it listens.
    pub at: SocketAddr,
    _served: Served,
    _folder: tempfile::TempDir,
}

/// What it does with a call. The words in capitals are filled in.
const SCRIPT: &str = r#"#!KAMAILIO
debug=0
log_stderror=yes
children=1
disable_tcp=yes
listen=udp:AT
mpath="MODULES"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
LOAD
request_route {
  if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
  if (is_method("CANCEL")) { if (t_check_trans()) { t_relay(); } exit; }
  if (has_totag()) {
    if (loose_route()) { MEDIA t_relay(); exit; }
    if (is_method("ACK") && t_check_trans()) { t_relay(); exit; }
    sl_send_reply("404", "Not here"); exit;
  }
  if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
  if (!is_method("INVITE")) { sl_send_reply("405", "No"); exit; }
  record_route();
  if ($sp == HOTLINE_PORT) { $du = "sip:PHONE"; MEDIA } else { $du = "sip:HOTLINE"; TOWARDS }
  t_relay();
}
"#;

/// The same with a relay of media; TOWARDS is told how the hotline wants its sound.
const MEDIA: &str = "t_on_reply(\"MEDIA\"); if (is_method(\"INVITE|ACK|BYE|UPDATE\")) { rtpengine_manage(\"replace-origin replace-session-connection\"); }";
const REPLY: &str = "onreply_route[MEDIA] { if (has_body(\"application/sdp\")) { rtpengine_manage(\"replace-origin replace-session-connection\"); } }\n";

fn modules() -> Option<PathBuf> {
    let places = std::fs::read_dir("/usr/lib").ok()?.filter_map(|e| Some(e.ok()?.path().join("kamailio/modules")));
    places.chain([PathBuf::from("/usr/lib/kamailio/modules")]).find(|p| Path::new(p).is_dir())
}

impl Kamailio {
    /// Between a hotline and a phone, with a relay of media that gives the hotline sound of this `protocol`. None, with a
    /// word, where it is not installed.
    pub async fn between(
        hotline: SocketAddr,
        phone: SocketAddr,
        media: Option<(&RtpEngine, &str)>,
    ) -> Option<Kamailio> {
        Kamailio::at(([127, 0, 0, 1], free_port()).into(), hotline, phone, media).await
    }

    /// The same at a given address.
    pub async fn at(
        at: SocketAddr,
        hotline: SocketAddr,
        phone: SocketAddr,
        media: Option<(&RtpEngine, &str)>,
    ) -> Option<Kamailio> {
        let folder = tempfile::tempdir().expect("a folder");
        let Some(modules) = modules() else {
            skipped("no modules of kamailio: install Debian's kamailio");
            return None;
        };
        let mut script = SCRIPT.replace("MODULES", &format!("{}/", modules.display()));
        let (load, within, towards) = match media {
            None => (String::new(), "", String::new()),
            Some((engine, protocol)) => (
                format!(
                    "loadmodule \"rtpengine.so\"\nmodparam(\"rtpengine\", \"rtpengine_sock\", \"udp:127.0.0.1:{}\")",
                    engine.control
                ),
                MEDIA,
                MEDIA.replace("session-connection\"", &format!("session-connection {protocol}\"")),
            ),
        };
        if media.is_some() {
            script += REPLY;
        }
        let filled = [
            ("LOAD", load.as_str()),
            ("MEDIA t_", &format!("{within} t_")),
            ("MEDIA }", &format!("{within} }}")),
            ("TOWARDS", &towards),
            ("HOTLINE_PORT", &hotline.port().to_string()),
            ("HOTLINE", &hotline.to_string()),
            ("PHONE", &phone.to_string()),
            ("udp:AT", &format!("udp:{at}")),
        ];
        for (word, value) in filled {
            script = script.replace(word, value);
        }
        let file = folder.path().join("kamailio.cfg");
        std::fs::write(&file, script).expect("a file");
        let mut command = Command::new("kamailio");
        command.arg("-f").arg(&file).arg("-Y").arg(folder.path()).arg("-P").arg(folder.path().join("pid"));
        command.args(["-m", "64", "-M", "8", "-DD", "-E"]).current_dir(folder.path());
        let served = spawn(&mut command, "kamailio")?;
        let proxy = Kamailio { at, _served: served, _folder: folder };
        let client = super::sip::Client::new(at).await;
        for n in 0..100 {
            client.send(&client.request("OPTIONS", "ping", &format!("ready{n}"), 1, "", "", "")).await;
            let mut answer = [0; 12];
            let heard = client.socket.recv_from(&mut answer);
            let came = tokio::time::timeout(Duration::from_millis(100), heard).await.is_ok();
            if came && answer.starts_with(b"SIP/2.0 200") {
                return Some(proxy);
            }
        }
        panic!("kamailio does not answer");
    }
}
