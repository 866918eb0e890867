//! `GET /ice-servers`: for the pages of seats, from whatever origin they come: nothing here is known by a cookie, so no
//! foreign page can ask in a seat's name.

use super::Status;
use super::listener::Peer;
use crate::server::relays::{IceServer, Relayed};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::net::IpAddr;
use std::sync::Arc;

/// Where it is asked; the digest is made over it.
pub(super) const PATH: &str = "/ice-servers";

/// As `RTCPeerConnection` takes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    ice_servers: Vec<Entry>,
    ttl: u32,
}

#[derive(Serialize)]
struct Entry {
    urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<String>,
}

impl From<IceServer> for Entry {
    fn from(server: IceServer) -> Entry {
        let (username, credential) = server.login.unzip();
        Entry { urls: server.urls, username, credential }
    }
}

const ANY_ORIGIN: [(header::HeaderName, &str); 3] = [
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    (header::ACCESS_CONTROL_EXPOSE_HEADERS, "WWW-Authenticate"),
    (header::CACHE_CONTROL, "no-store"),
];

/// A browser asks whether a page may send its proof along.
pub(super) async fn preflight() -> Response {
    let more = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, ANY_ORIGIN, more).into_response()
}

pub(super) async fn servers(
    State(state): State<Arc<dyn Status>>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Response {
    let proof = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let answer = match state.ice_servers(proof, source(peer.ip(), &headers)) {
        None => StatusCode::NOT_FOUND.into_response(),
        Some(Relayed::Servers(servers, ttl)) => {
            axum::Json(Answer { ice_servers: servers.into_iter().map(Entry::from).collect(), ttl }).into_response()
        }
        Some(Relayed::Challenge(challenge)) => {
            (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
        }
        Some(Relayed::Banned) => StatusCode::FORBIDDEN.into_response(),
    };
    (ANY_ORIGIN, answer).into_response()
}

/// Whom to count wrong passwords against. Behind a proxy on this machine it is who the proxy says he had before him.
fn source(peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let forwarded = headers.get_all("x-forwarded-for").iter().next_back().and_then(|v| v.to_str().ok());
    let last = forwarded.and_then(|v| v.rsplit(',').next()?.trim().parse().ok());
    last.filter(|_| peer.to_canonical().is_loopback()).unwrap_or(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_proxy_on_this_machine_says_for_whom_it_asks() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "10.9.9.9, 203.0.113.7".parse().expect("a value"));
        let (near, far): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [198, 51, 100, 2].into());
        assert_eq!(source(near, &headers), IpAddr::from([203, 0, 113, 7]));
        assert_eq!(source(far, &headers), far);
        assert_eq!(source(near, &HeaderMap::new()), near);
    }
}
