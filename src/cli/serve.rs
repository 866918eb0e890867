//! `zongji serve`: the hotline in the foreground.

use super::{Context, out, setup};
use crate::config::Config;
use crate::server::Hotline;
use crate::server::relays::{RelaySettings, Relayed, Relays};
use crate::sip::Account;
use crate::web::{EngineHealth, Health, HealthState, Status, Web};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    over: setup::Overrides,
}

/// A hotline as its health page shows it.
pub struct Watched {
    /// The hotline.
    pub hotline: Arc<Hotline>,
    /// Calls it takes at once.
    pub calls_max: u32,
    /// Its data folder.
    pub data: PathBuf,
    /// What browsers of seats are told; none: nothing is configured.
    pub relays: Option<Relays>,
}

impl Watched {
    fn problems(&self) -> Vec<String> {
        self.hotline.problems_now().into_iter().chain(crate::store::open_to_others(&self.data)).collect()
    }
}

impl Status for Watched {
    fn health(&self) -> Health {
        let h = &self.hotline;
        let (calls_now, problems) = (h.calls() as u32, self.problems());
        Health {
            status: match problems.is_empty() {
                _ if calls_now >= self.calls_max || h.is_closed() => HealthState::Closed,
                true => HealthState::Ok,
                false => HealthState::Degraded,
            },
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_s: h.uptime_s(),
            calls_now,
            calls_max: self.calls_max,
            flow_set: h.flow_set(),
            engines: engine_health(h.engines()),
            problems,
        }
    }

    fn metrics(&self) -> String {
        self.hotline.metrics()
    }

    fn ice_servers(&self, authorization: Option<&str>, source: IpAddr) -> Option<Relayed> {
        Some(self.relays.as_ref()?.ask(authorization, ("GET", "/ice-servers"), source))
    }
}

/// The STUN and TURN servers of the configuration, told to its seats.
fn relays(config: &Config) -> Option<Relays> {
    let b = &config.browser;
    let (stun, turn) = (b.stun.clone(), b.turn.clone());
    if stun.is_empty() && turn.is_empty() {
        return None;
    }
    let seats: Vec<Account> =
        config.seats.iter().map(|s| Account { user: s.user.clone(), password: s.password.expose().into() }).collect();
    let settings = RelaySettings { stun, turn, secret: b.turn_secret.expose().into(), ttl_s: b.turn_ttl_s };
    Some(Relays::new(settings, &config.sip.realm, &seats))
}

/// Every role there is, also one that nothing fills: callers are then heard by keys, or hear a tone.
fn engine_health(engines: &[(&'static str, String)]) -> Vec<EngineHealth> {
    let roles = ["recogniser", "synthesiser", "vad"];
    let of = |role: &str| engines.iter().find(|(r, _)| *r == role).map(|(_, name)| name.clone());
    let health = |role: &str| {
        let name = of(role).unwrap_or_else(|| "none".into());
        EngineHealth { role: role.into(), ready: !matches!(name.as_str(), "none" | "tone"), name }
    };
    roles.into_iter().map(health).collect()
}

pub fn run(context: &Context, args: Args) -> anyhow::Result<bool> {
    let runtime = setup::runtime()?;
    runtime.block_on(serve(context, args))
}

async fn serve(context: &Context, args: Args) -> anyhow::Result<bool> {
    let config = args.over.apply(setup::config(context)?)?;
    let dir = setup::dialplan_dir(&config);
    let calls_max = config.sip.max_calls;
    let drain_s = config.limits.drain_s;
    let relays = relays(&config);
    let seats: Vec<String> = config.seats.iter().map(|s| s.user.clone()).collect();
    // Taken before the hotline opens, so that a taken port stops the start.
    let web = match config.http.bind {
        Some(at) => Some(Web::bind(at).await?),
        None => None,
    };
    let http = web.as_ref().and_then(|w| w.local_addr().ok());
    let loading = "loading models and dialplans …";
    if context.json {
        note!("{loading}")
    } else {
        say!("{loading}")
    }
    let Some(started) = setup::start(context, &args.over, config).await? else { return Ok(false) };
    let hotline = Arc::new(started.hotline);
    let (stop_web, web_stopped) = tokio::sync::oneshot::channel::<()>();
    let watched: Arc<dyn Status> =
        Arc::new(Watched { hotline: hotline.clone(), calls_max, data: started.data, relays });
    let problems = watched.health().problems;
    let web = tokio::spawn(async move {
        let stop = async {
            let _either_way_it_stops = web_stopped.await;
        };
        match web {
            Some(web) => web.run(watched, stop).await,
            None => {
                stop.await;
                Ok(())
            }
        }
    });
    announce(context, &hotline, http, &seats, &problems);
    setup::wait_for_end(|| reload(context, &hotline, dir.as_deref())).await?;
    drain(&hotline, drain_s).await?;
    if !context.json {
        say!("stopping: calls are ended and their records written");
    }
    let _web_is_gone_already = stop_web.send(());
    let web = web.await;
    hotline.shutdown().await;
    web??;
    Ok(true)
}

/// No new calls from now on; those there are may finish, until the time is over or the signal comes again.
async fn drain(hotline: &Hotline, drain_s: u32) -> anyhow::Result<()> {
    use std::time::Duration;
    hotline.drain();
    let end = tokio::time::Instant::now() + Duration::from_secs(drain_s.into());
    let mut again = std::pin::pin!(setup::wait_for_end(|| {}));
    let mut told = None;
    while hotline.calls() > 0 && tokio::time::Instant::now() < end {
        let up = hotline.calls();
        if told != Some(up) {
            note!(
                "{up} call(s) go on, no new ones are taken; they are ended in {drain_s} s, or at once by another Ctrl-C"
            );
            told = Some(up);
        }
        tokio::select! {
            ended = &mut again => return ended,
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
    }
    Ok(())
}

/// A broken folder changes nothing: every problem is listed, calls go on with what they have.
fn reload(context: &Context, hotline: &Hotline, dir: Option<&Path>) {
    let Some(dir) = dir else {
        note!("the built-in dialplans are in use; set [dialplans] dir to reload a folder");
        return;
    };
    match hotline.reload(dir) {
        Ok(sha) => note!("new calls use dialplans {}", &sha[..12.min(sha.len())]),
        Err(crate::server::StartError::Dialplan(problems)) => {
            if context.json {
                out::problems(true, &problems);
            } else {
                problems.iter().for_each(|p| note!("{p}"));
            }
            note!("not reloaded, nothing changed: {} problem(s) above", problems.len());
        }
        Err(e) => note!("not reloaded, nothing changed: {e}"),
    }
}

fn announce(context: &Context, hotline: &Hotline, http: Option<SocketAddr>, seats: &[String], problems: &[String]) {
    let sip = hotline.sip_address();
    if context.json {
        out::json(
            &serde_json::json!({"event": "ready", "sip": sip, "http": http, "engines": engine_names(hotline), "problems": problems}),
        );
        return;
    }
    let here = setup::reachable(sip);
    say!("ready. The hotline answers on {sip} (UDP and TCP), with {}.", engine_names(hotline).join(", "));
    say!("  call it:   any softphone, no account: sip:400@{here}");
    say!("             zongji call sip:400@{here} --key 1");
    match seats.first() {
        Some(seat) => say!("  seat:      zongji seat --server {here} --user {seat} --password …"),
        None => say!(
            "  seat:      none configured: add [[seat]] to zongji.toml, or calls for a person end in a callback ticket"
        ),
    }
    if let Some(http) = http {
        say!("  health:    http://{http}/health   metrics: http://{http}/metrics");
    }
    say!("  reload dialplans: kill -HUP {}      stop: Ctrl-C", std::process::id());
    for problem in problems {
        say!("  note: {problem}");
    }
}

/// Names of the models in use.
pub fn engine_names(hotline: &Hotline) -> Vec<String> {
    hotline.engines().iter().map(|(_, name)| name.clone()).collect()
}
