//! Layer 7. HTTP: health, metrics, and what browsers of seats need to know.
//!
//! `GET /health` is for people and balancers (200 while calls are taken, 503 when not), `GET /metrics` for Prometheus.
//! Both are read-only and know nothing personal. `GET /ice-servers` tells a seat that proves its password which STUN and
//! TURN servers to use.

mod ice;
mod listener;

use crate::server::relays::Relayed;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use listener::{Limited, Peer};
use serde::Serialize;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Patience with clients.
#[derive(Clone, Copy)]
struct Patience {
    /// How long open connections may take to finish once the program is ending.
    last_answers: Duration,
    /// A connection's whole life. Health and metrics are small: whoever needs longer is broken or means harm.
    life: Duration,
}

const PATIENCE: Patience = Patience { last_answers: Duration::from_secs(2), life: Duration::from_secs(30) };

/// What the running hotline can say of itself. Called for every request: cheap, and without waiting for calls.
pub trait Status: Send + Sync {
    /// For `GET /health`.
    fn health(&self) -> Health;
    /// For `GET /metrics`: Prometheus text.
    fn metrics(&self) -> String;
    /// For `GET /ice-servers`: whether the seat's browser that asks is told the servers. None: there is no such page.
    fn ice_servers(&self, _authorization: Option<&str>, _source: IpAddr) -> Option<Relayed> {
        None
    }
}

/// Whether the hotline does its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// All is well.
    Ok,
    /// Calls are taken, with something missing: see `problems`.
    Degraded,
    /// No new calls: starting, ending or full.
    Closed,
}

/// The answer to `GET /health`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Health {
    /// In one word.
    pub status: HealthState,
    /// The program's version.
    pub version: String,
    /// Seconds since its start.
    pub uptime_s: u64,
    /// Calls under way.
    pub calls_now: u32,
    /// Calls at most.
    pub calls_max: u32,
    /// Content hash of the published flows.
    pub flow_set: String,
    /// Engines in use: what they do, and their name.
    pub engines: Vec<EngineHealth>,
    /// What is wrong and what to do, in sentences.
    pub problems: Vec<String>,
}

/// One engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EngineHealth {
    /// `recogniser`, `synthesiser`, `vad` …
    pub role: String,
    /// Which.
    pub name: String,
    /// Whether it works.
    pub ready: bool,
}

/// Why the address could not be served.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// Somebody else listens there.
    #[error("the HTTP address {0} is taken: end the program that holds it, or set [http] bind to another one")]
    Taken(SocketAddr),
    /// Not an address of ours, or no right to it.
    #[error("cannot listen on the HTTP address {0}: {1}; set [http] bind to an address of this machine")]
    Refused(SocketAddr, std::io::Error),
    /// The server broke.
    #[error("the HTTP server stopped: {0}")]
    Stopped(std::io::Error),
}

/// A bound address, not yet answering.
pub struct Web {
    listener: TcpListener,
    patience: Patience,
}

impl Web {
    /// Takes the address, so that a taken port is known before the hotline opens.
    pub async fn bind(addr: SocketAddr) -> Result<Web, WebError> {
        let listener = TcpListener::bind(addr).await.map_err(|e| match e.kind() {
            std::io::ErrorKind::AddrInUse => WebError::Taken(addr),
            _ => WebError::Refused(addr, e),
        })?;
        Ok(Web { listener, patience: PATIENCE })
    }

    /// The address, with the port that port 0 became.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop` is ready, then gives open connections a moment to finish.
    pub async fn run(
        self,
        state: Arc<dyn Status>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), WebError> {
        let ice = get(ice::servers).options(ice::preflight);
        let app = Router::new().route("/health", get(health)).route("/metrics", get(metrics)).route(ice::PATH, ice);
        let app = app.with_state(state).into_make_service_with_connect_info::<Peer>();
        let (ending, mut ended) = tokio::sync::watch::channel(false);
        let server =
            axum::serve(Limited::new(self.listener, self.patience.life), app).with_graceful_shutdown(async move {
                stop.await;
                ending.send_replace(true);
                // `ending` must outlive the notice, or the other side would read its end as one.
                ending.closed().await;
            });
        let overtime = async move {
            if ended.wait_for(|&e| e).await.is_ok() {
                drop(ended);
                tokio::time::sleep(self.patience.last_answers).await;
            }
        };
        tokio::select! {
            done = server.into_future() => done.map_err(WebError::Stopped),
            () = overtime => Ok(()),
        }
    }
}

/// Takes an address and answers on it until `stop` is ready.
pub async fn serve(
    addr: SocketAddr,
    state: Arc<dyn Status>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), WebError> {
    Web::bind(addr).await?.run(state, stop).await
}

async fn health(State(state): State<Arc<dyn Status>>) -> Response {
    let health = state.health();
    let code = if health.status == HealthState::Closed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, axum::Json(health)).into_response()
}

async fn metrics(State(state): State<Arc<dyn Status>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.metrics()).into_response()
}

#[cfg(test)]
mod tests;
