//! `zongji doctor`: is this machine fit to answer calls? Plain answers, and what to do about each. `zongji doctor line`
//! looks at the line: addresses, sound both ways, ACK, keys, clocks, certificate, trunks.

mod address;
mod call;
mod certificate;
pub mod finding;
mod line;
mod machine;
mod trunk;

use super::{Context, out, setup};
use crate::server::hotline::read_dialplans;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(clap::Subcommand)]
enum What {
    /// Look at the line: addresses, sound both ways, ACK, keys, clocks, certificate, trunks (检查线路).
    Line(line::Args),
}

struct Finding {
    what: &'static str,
    ok: bool,
    /// A warning does not make the machine unfit.
    needed: bool,
    say: String,
}

pub fn run(context: &Context, args: Args) -> anyhow::Result<bool> {
    if let Some(What::Line(args)) = args.what {
        return line::run(context, args);
    }
    let config = setup::config(context)?;
    let findings = vec![
        sip_port(&config),
        http_port(&config),
        rtp_ports(&config),
        address(&config),
        open_files(&config),
        data_folder(&config),
        database(&config)?,
        disk(&config),
        dialplans(&config),
        routes(&config),
        models(context)?,
        espeak(),
        clock(),
    ];
    let fit = findings.iter().all(|f| f.ok || !f.needed);
    for f in &findings {
        if context.json {
            out::json(&serde_json::json!({"check": f.what, "ok": f.ok, "needed": f.needed, "say": f.say}));
        } else {
            let mark = if f.ok {
                "ok  "
            } else if f.needed {
                "BAD "
            } else {
                "note"
            };
            say!("{mark}  {:11} {}", f.what, f.say);
        }
    }
    if !context.json {
        say!("{}", if fit { "This machine can answer calls." } else { "This machine cannot answer calls yet." });
    }
    Ok(fit)
}

fn finding(what: &'static str, needed: bool, result: Result<String, String>) -> Finding {
    let ok = result.is_ok();
    Finding { what, ok, needed, say: result.unwrap_or_else(|why| why) }
}

fn sip_port(config: &crate::config::Config) -> Finding {
    let at = config.sip.bind;
    let free = UdpSocket::bind(at).map(drop).and_then(|()| TcpListener::bind(at).map(drop));
    finding(
        "SIP port",
        true,
        free.map(|()| format!("{at} is free (UDP and TCP)"))
            .map_err(|e| format!("{at}: {e}; stop what listens there (ss -lntup), or set [sip] bind to another port")),
    )
}

fn http_port(config: &crate::config::Config) -> Finding {
    let say = match config.http.bind {
        None => Ok("off".into()),
        Some(at) => TcpListener::bind(at).map(|_| format!("{at} is free")).map_err(|e| {
            format!("{at}: {e}; stop what listens there (ss -lntp), or set [http] bind to another port or \"off\"")
        }),
    };
    finding("HTTP port", true, say)
}

/// The address that phones are told to send their sound to.
fn address(config: &crate::config::Config) -> Finding {
    let public = config.rtp.public_address.or(config.sip.public_address);
    let bound = Some(config.rtp.bind).filter(|ip| !ip.is_unspecified());
    let towards = std::net::IpAddr::from([192, 0, 2, 1]); // anywhere outside: nothing is sent there
    let ip = public.or(bound).unwrap_or_else(|| crate::server::switchboard::local_address(towards));
    let near = match ip {
        std::net::IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        std::net::IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    };
    let say = if ip.is_loopback() || ip == towards {
        Err(format!("only callers on this machine can be heard ({ip}): set [rtp] bind or [sip] public_address"))
    } else if near && public.is_none() {
        Ok(format!("callers are told to send to {ip}; behind NAT, for callers outside, set [sip] public_address"))
    } else {
        Ok(format!("callers are told to send to {ip}"))
    };
    finding("address", false, say)
}

fn rtp_ports(config: &crate::config::Config) -> Finding {
    let range = &config.rtp.ports;
    let pairs = usize::from((range.end() - range.start()).div_ceil(2));
    let wanted = config.sip.max_calls as usize;
    let bind = UdpSocket::bind((config.rtp.bind, 0));
    let say = match (bind, pairs >= wanted * 2) {
        (Err(e), _) => {
            Err(format!("cannot bind {}: {e}; set [rtp] bind to an address of this machine", config.rtp.bind))
        }
        (_, false) => Err(format!("{pairs} port pairs for {wanted} calls with a seat each: widen [rtp] ports")),
        _ => Ok(format!("{pairs} pairs in {}-{}; open them in the firewall (UDP)", range.start(), range.end())),
    };
    finding("RTP ports", true, say)
}

fn open_files(config: &crate::config::Config) -> Finding {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let limit: Option<u32> = limits
        .lines()
        .find(|l| l.starts_with("Max open files"))
        .and_then(|l| l.split_whitespace().nth(3))
        .and_then(|n| n.parse().ok());
    let wanted = config.sip.max_calls * 5 + 200;
    finding(
        "open files",
        false,
        match limit {
            Some(n) if n < wanted => {
                Err(format!("the limit is {n}, {} calls want {wanted}: ulimit -n {wanted}", config.sip.max_calls))
            }
            Some(n) => Ok(format!("limit {n}")),
            None => Ok("limit unknown".into()),
        },
    )
}

/// Nothing is made by looking: of a folder that is not there yet, the nearest one above it must be writable.
fn existing(dir: &Path) -> &Path {
    let named = |d: &&Path| !d.as_os_str().is_empty();
    dir.ancestors().filter(named).find(|d| d.is_dir()).unwrap_or(Path::new("."))
}

fn data_folder(config: &crate::config::Config) -> Finding {
    let dir = &config.data.dir;
    let probe = existing(dir).join(".zongji-write-probe");
    let tried = std::fs::write(&probe, b"x").and_then(|()| std::fs::remove_file(&probe));
    let say = match (tried, crate::store::open_to_others(dir)) {
        (Err(e), _) => Err(format!("{}: {e}; set [data] dir to a folder you may write", dir.display())),
        (Ok(()), Some(open)) => Ok(format!("can be written, but {open}")),
        (Ok(()), None) => Ok(format!("{} can be written", dir.display())),
    };
    finding("data", true, say)
}

fn database(config: &crate::config::Config) -> anyhow::Result<Finding> {
    let path = config.data.dir.join("zongji.db");
    if !path.exists() {
        return Ok(finding("database", true, Ok(format!("{} is made at the first start", path.display()))));
    }
    let looked = setup::runtime()?.block_on(async {
        let store = crate::store::Store::open_to_read(&path).await?;
        let sound = store.check().await;
        store.close().await;
        sound
    });
    Ok(finding("database", true, looked.map(|()| format!("{} is sound", path.display())).map_err(|e| e.to_string())))
}

fn disk(config: &crate::config::Config) -> Finding {
    let least = u64::from(config.limits.min_free_mb);
    // 16-bit stereo at 8 kHz: 115 MB an hour.
    let say = match crate::server::disk::free_bytes(existing(&config.data.dir)).map(|b| b >> 20) {
        Ok(mb) if mb < least => Err(format!(
            "{mb} MB free, less than [limits] min_free_mb = {least}: calls are not recorded; free some space"
        )),
        Ok(mb) => Ok(format!("{mb} MB free: {} hours of recordings", (mb - least) / 115)),
        Err(e) => Ok(format!("free space unknown: {e}")),
    };
    finding("disk", false, say)
}

fn dialplans(config: &crate::config::Config) -> Finding {
    let say = match setup::dialplan_dir(config) {
        None => Ok("the built-in ones".into()),
        Some(dir) => match read_dialplans(&dir) {
            Err(e) => Err(format!("{}: {e}", dir.display())),
            Ok(files) => match crate::dialplan::FlowSet::compile(files) {
                Ok(set) if setup::unknown_queues(config, &set).is_some() => {
                    Err(setup::unknown_queues(config, &set).unwrap_or_default())
                }
                Ok(set) => Ok(format!("{} is sound (set {})", dir.display(), &set.hash()[..12])),
                Err(p) => Err(format!("{} has {} problem(s): zongji check {}", dir.display(), p.len(), dir.display())),
            },
        },
    };
    finding("dialplans", true, say)
}

/// Sound that test routes are to play.
fn routes(config: &crate::config::Config) -> Finding {
    let files = config.test_routes.iter().filter_map(|r| r.file.as_ref());
    let bad: Vec<String> = files.filter_map(|f| crate::server::sound::read(f).err()).collect();
    let say = if bad.is_empty() { Ok(format!("{}", config.test_routes.len())) } else { Err(bad.join("; ")) };
    finding("test routes", true, say)
}

fn models(context: &Context) -> anyhow::Result<Finding> {
    let engines = setup::engines(context)?;
    let names = engines.names().into_iter().map(|(_, n)| n).collect::<Vec<_>>().join(", ");
    // English without espeak-ng has a line of its own.
    let wrong: Vec<_> = engines.problems.iter().filter(|p| !p.starts_with("no English voice")).cloned().collect();
    let still = if engines.recognizer.is_some() { "in use" } else { "calls can still be served with keys; in use" };
    let say = if wrong.is_empty() { Ok(names) } else { Err(format!("{}; {still}: {names}", wrong.join("; "))) };
    Ok(finding("models", false, say))
}

fn espeak() -> Finding {
    let found = Command::new("espeak-ng").arg("--version").output();
    finding(
        "espeak-ng",
        false,
        match found {
            Ok(o) => Ok(String::from_utf8_lossy(&o.stdout).lines().next().unwrap_or("present").trim().to_owned()),
            Err(_) => Err("not installed: English prompts have no voice; apt-get install espeak-ng".into()),
        },
    )
}

fn clock() -> Finding {
    let year = crate::server::time::today().0;
    finding(
        "clock",
        true,
        if (2025..2100).contains(&year) {
            Ok(format!("the year is {year}"))
        } else {
            Err(format!("the year is {year}: set the clock, records carry it"))
        },
    )
}
