//! The hotline under load: a process of its own, on cores of its own where there are enough.

use anyhow::Context as _;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Ticks of /proc in a second: the same on every Linux.
const TICKS: f64 = 100.0;

/// Which cores are whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cores {
    /// How many the hotline has.
    pub hotline: usize,
    /// How many the load generator has.
    pub generator: usize,
    /// Whether they are kept apart (taskset is there, and there are two at least).
    pub apart: bool,
}

impl Cores {
    /// One in four for the generator, one at least; `wanted` for the hotline, as far as they go.
    pub fn divide(wanted: Option<usize>) -> Cores {
        let all = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let tool = Command::new("taskset").arg("--version").output().is_ok_and(|o| o.status.success());
        let cores = Cores::of(all, wanted, tool);
        if cores.apart {
            // All threads of this process: those to come inherit it.
            let (own, list) =
                (std::process::id().to_string(), format!("{}-{}", cores.hotline, cores.hotline + cores.generator - 1));
            let _then_they_share =
                Command::new("taskset").args(["-a", "-c", "-p", &list, &own]).stdout(Stdio::null()).status();
        }
        cores
    }

    fn of(all: usize, wanted: Option<usize>, tool: bool) -> Cores {
        if all < 2 || !tool {
            return Cores { hotline: wanted.unwrap_or(all).clamp(1, all), generator: all, apart: false };
        }
        let most = all - (all / 4).max(1);
        let hotline = wanted.unwrap_or(most).clamp(1, all - 1);
        Cores { hotline, generator: all - hotline, apart: true }
    }
}

/// As many open files as the system lets us have; the hotline inherits it. How many that is.
pub fn raise_file_limit() -> Option<u64> {
    let now = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: now.maximum, maximum: now.maximum };
    let _then_it_stays = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current
}

/// An address on loopback that nobody has now.
pub fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?)
}

/// A hotline that runs.
pub struct Served {
    /// Where it answers.
    pub sip: SocketAddr,
    child: Child,
    folder: PathBuf,
}

impl Served {
    /// Starts one with test routes; `legb` is the other end of bridges.
    pub fn start(legb: SocketAddr, cores: &Cores) -> anyhow::Result<Served> {
        let folder = std::env::temp_dir().join(format!("zongji-load-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let started = launch(&folder, legb, cores);
        if started.is_err() {
            let _left_for_the_system_to_tidy = std::fs::remove_dir_all(&folder);
        }
        let (child, sip) = started?;
        Ok(Served { sip, child, folder })
    }

    /// User and system seconds so far.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        cpu_of(&stat)
    }

    /// Memory it holds, in KiB.
    pub fn memory_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Ends it and what it left.
    pub fn stop(mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _it_is_gone_already = kill_process(pid, Signal::TERM);
        }
        for _ in 0..600 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// However a load test ends, its hotline does not outlive it.
impl Drop for Served {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _it_is_gone_already = self.child.kill();
            let _ended = self.child.wait();
        }
        let _left_for_the_system_to_tidy = std::fs::remove_dir_all(&self.folder);
    }
}

fn launch(folder: &Path, legb: SocketAddr, cores: &Cores) -> anyhow::Result<(Child, SocketAddr)> {
    let config = folder.join("zongji.toml");
    std::fs::write(&config, settings(folder, legb))?;
    let program = std::env::current_exe()?;
    let mut command = if cores.apart {
        let mut command = Command::new("taskset");
        command.arg("-c").arg(format!("0-{}", cores.hotline - 1)).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.args(["serve", "--json", "--config"]).arg(&config).stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(std::fs::File::create(folder.join("log"))?);
    let mut child = command.spawn().context("the hotline to be measured does not start")?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
    match ready["sip"].as_str().and_then(|s| s.parse().ok()) {
        Some(sip) => Ok((child, sip)),
        None => {
            let _it_is_gone_already = child.kill();
            let _ended = child.wait();
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            anyhow::bail!("the hotline to be measured does not start: {}", log.trim())
        }
    }
}

fn settings(folder: &Path, legb: SocketAddr) -> String {
    let mut text = format!(
        "[sip]\nbind = \"127.0.0.1:0\"\nmax_calls = 2500\n[rtp]\nbind = \"127.0.0.1\"\nports = \"20000-29999\"\n\
         [http]\nbind = \"off\"\n[data]\ndir = {:?}\n[limits]\nmin_free_mb = 0\nmax_call_s = 86400\n",
        folder.join("data").display().to_string()
    );
    for (user, kind) in [("prompt", "ivr"), ("record", "rec")] {
        text.push_str(&format!("[[test_route]]\nuser = \"{user}\"\nkind = \"{kind}\"\n"));
    }
    let target = super::other_end(legb);
    text.push_str(&format!("[[test_route]]\nuser = \"bridge\"\nkind = \"bridge\"\ntarget = \"{target}\"\n"));
    text
}

/// Fields 14 and 15 of /proc/PID/stat; the name in field 2 may hold anything.
fn cpu_of(stat: &str) -> f64 {
    let after = stat.rsplit(')').next().unwrap_or_default();
    after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() / TICKS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_divided_with_one_left_for_the_generator() {
        let divided = |all, wanted| {
            let c = Cores::of(all, wanted, true);
            (c.hotline, c.generator, c.apart)
        };
        assert_eq!(divided(1, None), (1, 1, false));
        assert_eq!(divided(2, None), (1, 1, true));
        assert_eq!(divided(16, None), (12, 4, true));
        assert_eq!(divided(16, Some(1)), (1, 15, true));
        assert_eq!(divided(4, Some(9)), (3, 1, true));
        assert!(!Cores::of(8, None, false).apart);
    }

    #[test]
    fn a_process_may_be_called_anything() {
        assert_eq!(cpu_of("42 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0"), 3.0);
        assert_eq!(cpu_of(""), 0.0);
    }

    #[test]
    fn the_hotline_under_load_has_a_configuration_without_problems() {
        let text = settings(Path::new("/tmp/x"), ([127, 0, 0, 1], 5090).into());
        let config = crate::config::Config::parse(&text, Path::new("zongji.toml")).unwrap();
        assert_eq!(config.test_routes.len(), 3);
    }
}
