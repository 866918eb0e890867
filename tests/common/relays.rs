//! Kamailio, rtpengine and coturn of a test's own, on loopback.

use super::ports::Ports;
use super::skipped;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A command that ends when this process does, however that ends (a test that is killed drops nothing). None, with a
/// word, where it is not installed.
pub fn tied(program: &str, package: &str) -> Option<Command> {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |program: &str| std::env::split_paths(&places).any(|p| p.join(program).is_file());
    if !is_there(program) {
        skipped(format_args!("{program} is not installed (Debian's {package})"));
        return None;
    }
    if !is_there("setpriv") {
        return Some(Command::new(program));
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", program]);
    Some(command)
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

fn spawn(mut command: Command) -> Served {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    Served(quiet.spawn().expect("it is installed"))
}

/// A relay of media, told by its own protocol.
pub struct RtpEngine {
    /// Where it is told.
    pub control: SocketAddr,
    _served: Served,
    _folder: tempfile::TempDir,
    _ports: Ports,
}

impl RtpEngine {
    /// In user space, with ports of its own. None, with a word, where it is not installed.
    pub async fn start() -> Option<RtpEngine> {
        let (ports, folder) = (Ports::claim(), tempfile::tempdir().expect("a folder"));
        let (control, media) = (ports.listen(), ports.media());
        let mut command = tied("rtpengine", "rtpengine-daemon")?;
        command.args(["--table=-1", "--interface=127.0.0.1", "--foreground", "--log-stderr", "--log-level=3"]);
        command.arg("--config-file=none"); // the machine's own has fixed addresses
        command
            .arg(format!("--port-min={}", media.start()))
            .arg(format!("--port-max={}", media.end()))
            .arg(format!("--listen-ng={control}"));
        command.arg(format!("--pidfile={}", folder.path().join("pid").display()));
        let engine = RtpEngine { control, _served: spawn(command), _folder: folder, _ports: ports };
        let asked = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        asked.set_read_timeout(Some(Duration::from_millis(100))).expect("a limit");
        super::until("rtpengine answers a ping", || {
            let sent = asked.send_to(b"1 d7:command4:pinge", control);
            sent.is_ok() && asked.recv(&mut [0; 200]).is_ok()
        })
        .await;
        Some(engine)
    }
}

/// A TURN server.
pub struct Turn {
    /// Where it is asked, over UDP.
    pub at: SocketAddr,
    _served: Served,
    _ports: Ports,
}

impl Turn {
    /// With a secret of which its credentials are made. None, with a word, where it is not installed.
    pub async fn start(secret: &str) -> Option<Turn> {
        let ports = Ports::claim();
        let (at, media) = (ports.listen(), ports.media());
        let mut command = tied("turnserver", "coturn")?;
        command
            .args(["-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", "--allow-loopback-peers", "--no-cli"])
            .args(["--use-auth-secret", "--static-auth-secret", secret, "--realm=zongji"])
            .args(["--no-tls", "--no-dtls", "--no-tcp"])
            .args(["--log-file=stdout", "--simple-log", "--pidfile=/dev/null"])
            .arg(format!("--min-port={}", media.start()))
            .arg(format!("--max-port={}", media.end()))
            .arg(format!("--listening-port={}", at.port()));
        let turn = Turn { at, _served: spawn(command), _ports: ports };
        super::until("the TURN server listens", || std::net::UdpSocket::bind(at).is_err()).await;
        Some(turn)
    }
}

/// A SIP proxy that stays in the way: to the hotline whatever does not come from it, to a phone what does.
pub struct Kamailio {
    /// Where it listens.
    pub at: SocketAddr,
    _served: Served,
    _folder: tempfile::TempDir,
    _ports: Ports,
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
    pub async fn start(
        ports: Ports,
        hotline: SocketAddr,
        phone: SocketAddr,
        media: Option<(&RtpEngine, &str)>,
    ) -> Option<Kamailio> {
        let at = ports.listen();
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
                    "loadmodule \"rtpengine.so\"\nmodparam(\"rtpengine\", \"rtpengine_sock\", \"udp:{}\")",
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
        let mut command = tied("kamailio", "kamailio")?;
        command.arg("-f").arg(&file).arg("-Y").arg(folder.path()).arg("-P").arg(folder.path().join("pid"));
        command.args(["-m", "64", "-M", "8", "-DD", "-E"]).current_dir(folder.path());
        let proxy = Kamailio { at, _served: spawn(command), _folder: folder, _ports: ports };
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
