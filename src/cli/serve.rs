//! `zongji serve`: the hotline in the foreground.

use super::{Context, out, setup};
use crate::server::Hotline;
use crate::web::{Health, Status};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(clap::Args, Default)]
pub struct Args {
    /// SIP address (UDP and TCP), over the configuration's.
    #[arg(long, value_name = "ADDR:PORT")]
    pub sip: Option<SocketAddr>,
    /// Health and metrics address, over the configuration's.
    #[arg(long, value_name = "ADDR:PORT")]
    pub http: Option<SocketAddr>,
    /// Data folder, over the configuration's.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// A hotline as its health page shows it.
pub struct Watched(pub Arc<Hotline>);

impl Status for Watched {
    fn health(&self) -> Health {
        let h = &self.0;
        Health {
            status: if h.problems.is_empty() { "ok".into() } else { "degraded".into() },
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_s: h.uptime_s(),
            calls: h.calls(),
            flow_set: h.flow_set(),
            engines: h.engines().to_vec(),
            problems: h.problems.clone(),
        }
    }

    fn metrics(&self) -> String {
        self.0.metrics()
    }
}

pub fn run(context: &Context, args: Args) -> anyhow::Result<bool> {
    let runtime = setup::runtime()?;
    runtime.block_on(serve(context, args))
}

async fn serve(context: &Context, args: Args) -> anyhow::Result<bool> {
    let config = setup::config(context)?;
    let dir = config.dialplans.dir.clone();
    let Some(started) = setup::start(context, &args, config).await? else { return Ok(false) };
    let hotline = Arc::new(started.hotline);
    let http = started.http;
    let (stop_web, web_stopped) = tokio::sync::oneshot::channel::<()>();
    let watched: Arc<dyn Status> = Arc::new(Watched(hotline.clone()));
    let web = tokio::spawn(async move {
        crate::web::serve(http, watched, async {
            let _either_way_it_stops = web_stopped.await;
        })
        .await
    });
    announce(context, &hotline, http);
    setup::wait_for_end(|| match hotline.reload(&dir) {
        Ok(sha) => tracing::warn!("new calls use dialplans {}", &sha[..12.min(sha.len())]),
        Err(e) => {
            tracing::error!("the dialplans were not reloaded, nothing changed: {e}");
            if let crate::server::StartError::Dialplan(problems) = e {
                out::problems(false, &problems);
            }
        }
    })
    .await?;
    if !context.json {
        println!("stopping: calls are ended and their records written");
    }
    let _web_is_gone_already = stop_web.send(());
    web.await??;
    if let Ok(hotline) = Arc::try_unwrap(hotline) {
        hotline.shutdown().await;
    }
    Ok(true)
}

fn announce(context: &Context, hotline: &Hotline, http: SocketAddr) {
    let sip = hotline.sip_address();
    if context.json {
        out::json(&serde_json::json!({"event": "ready", "sip": sip, "http": http, "engines": hotline.engines(), "problems": hotline.problems}));
        return;
    }
    let host = if sip.ip().is_unspecified() { "127.0.0.1".to_owned() } else { sip.ip().to_string() };
    println!("ready. The hotline answers on {sip} (UDP and TCP), with {}.", hotline.engines().join(", "));
    println!("  call it:   any softphone, no account: sip:400@{host}:{}", sip.port());
    println!("             zongji call sip:400@{host}:{} --key 1", sip.port());
    println!("  seat:      zongji seat --server {host}:{}", sip.port());
    println!("  health:    http://{http}/health   metrics: http://{http}/metrics");
    println!("  reload dialplans: kill -HUP {}      stop: Ctrl-C", std::process::id());
    for problem in &hotline.problems {
        println!("  note: {problem}");
    }
}
