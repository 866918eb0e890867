//! Our registrations elsewhere: made, kept fresh, and taken back.

use super::agent::SipAgent;
use super::calls::{Kind, Pin};
use super::dialogs::contact;
use super::event::SipError;
use super::gate::lock;
use super::hub::Hub;
use super::sockets::{self, Way};
use super::stream;
use super::time::now;
use rsipstack::dialog::authenticate::Credential as LibraryCredential;
use rsipstack::dialog::registration::Registration;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Refreshes in a row that may fail before the registration counts as lost: another server may take it then.
const MOST_FAILURES: u32 = 2;
/// How long a registrar may be silent, in T1: five datagrams.
const SILENT: u32 = 16;

/// Name and password for a server that challenges us.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// User name.
    pub user: String,
    /// Password; shown (as a digest) only to the server dialled.
    pub password: String,
    /// Only to this realm, when given.
    pub realm: Option<String>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({})", self.user)
    }
}

impl SipAgent {
    /// Registers at `server` as `credential.user` and keeps that fresh until the agent stops; returns the
    /// seconds granted. With `expires` 0 the registration is taken back. The latest call for a user counts.
    pub async fn register(&self, server: SocketAddr, credential: &Credential, expires: u32) -> Result<u32, SipError> {
        self.register_at(&format!("sip:{server}"), credential, expires).await
    }

    /// The same, at an address (`sip:host`, `sip:host:port;transport=tls`).
    pub async fn register_at(&self, to: &str, credential: &Credential, expires: u32) -> Result<u32, SipError> {
        self.register_for(to, credential, expires).await.map(|kept| kept.seconds)
    }

    /// The same; what it returns tells when the registration could not be kept, and nothing tries any more.
    ///
    /// # Errors
    /// What the last server said, or that none of them answered.
    pub async fn register_for(&self, to: &str, credential: &Credential, expires: u32) -> Result<Kept, SipError> {
        let all = sockets::resolve_all(&self.hub().gate.settings.names, to, None, None).await?;
        let mut last = Err(SipError::Timeout);
        for way in all {
            last = self.register_by(way, credential, expires).await;
            // A server that answers has said what there is to say (RFC 3263 section 4.3).
            if !matches!(last, Err(SipError::Timeout | SipError::Unreachable(..) | SipError::Refused(503))) {
                break;
            }
        }
        last
    }

    async fn register_by(&self, way: Way, credential: &Credential, expires: u32) -> Result<Kept, SipError> {
        let server = way.peer;
        let hub = self.hub().clone();
        connected(&hub, &way).await?;
        let mut registration = Registration::new(hub.endpoint.clone(), Some(library_credential(credential)));
        let uri = contact(&hub, &credential.user, server, way.transport)
            .ok_or_else(|| SipError::BadAddress(credential.user.clone(), "not a user name"))?;
        registration.contact = Some(rsipstack::sip::typed::Contact { display_name: None, uri, params: Vec::new() });
        registration.outbound_proxy = Some(server);
        let pin = Pin { server: server.ip(), realm: credential.realm.clone(), secret: true };
        let leg = hub.gate.calls(|c| c.add(registration.call_id.value(), Kind::Register, Some(pin)));
        let stop = hub.token.child_token();
        let before = lock(&hub.renewals).insert((server, credential.user.clone()), stop.clone());
        if let Some(before) = before {
            before.cancel();
        }
        let granted = register_once(&hub, &mut registration, &way, expires).await;
        let (tell, lost) = oneshot::channel();
        match granted {
            Ok(seconds) if seconds > 0 => {
                tokio::spawn(async move {
                    let refreshing = refresh(&hub, &mut registration, &way, (seconds, expires));
                    let lost = tokio::select! {
                        () = stop.cancelled() => None,
                        lost = refreshing => Some(lost),
                    };
                    hub.gate.calls(|c| c.end(leg, now()));
                    lost.map(|why| tell.send(why))
                });
                Ok(Kept { seconds, lost })
            }
            other => {
                hub.gate.calls(|c| c.end(leg, now()));
                other.map(|seconds| Kept { seconds, lost })
            }
        }
    }
}

/// A registration of ours.
#[derive(Debug)]
pub struct Kept {
    /// What the server granted, s.
    pub seconds: u32,
    lost: oneshot::Receiver<SipError>,
}

impl Kept {
    /// Waits until it could not be refreshed. Taken back or replaced by a later one, it waits for ever.
    pub async fn lost(self) -> SipError {
        match self.lost.await {
            Ok(why) => why,
            Err(_) => std::future::pending().await,
        }
    }
}

/// Keeps a registration fresh until it cannot; why not.
async fn refresh(
    hub: &Arc<Hub>,
    registration: &mut Registration,
    way: &Way,
    (granted, expires): (u32, u32),
) -> SipError {
    let settings = &hub.gate.settings;
    let half = |seconds: u32| Duration::from_secs(u64::from(seconds / 2)).max(settings.renew_least);
    let (mut pause, mut failures) = (half(granted), 0);
    loop {
        tokio::time::sleep(pause).await;
        match register_once(hub, registration, way, expires).await {
            Ok(seconds) => (pause, failures) = (half(seconds.max(10)), 0),
            Err(error) => {
                tracing::warn!(%error, "registration was not refreshed");
                failures += 1;
                if failures >= MOST_FAILURES {
                    return error;
                }
                pause = settings.t1 * SILENT;
            }
        }
    }
}

pub(super) fn library_credential(c: &Credential) -> LibraryCredential {
    LibraryCredential {
        username: c.user.clone(),
        password: c.password.clone(),
        realm: c.realm.clone(),
        auth_username: None,
    }
}

/// A connection to there is open, where it takes one.
pub(super) async fn connected(hub: &Arc<Hub>, way: &Way) -> Result<(), SipError> {
    if !way.transport.is_stream() {
        return Ok(());
    }
    let opened = stream::connect(hub, way.peer, way.transport, &way.host).await;
    opened.map_err(|e| SipError::Unreachable(way.peer, way.transport.name(), e.to_string()))
}

async fn register_once(
    hub: &Arc<Hub>,
    registration: &mut Registration,
    way: &Way,
    expires: u32,
) -> Result<u32, SipError> {
    connected(hub, way).await?;
    // Its domain by name, as a carrier's registrar wants it; the datagrams go to the address found for it.
    let host = if way.host.contains(':') { format!("[{}]", way.host) } else { way.host.clone() };
    let uri = format!("sip:{host}:{}{}", way.peer.port(), way.transport.param());
    let uri: rsipstack::sip::Uri =
        uri.as_str().try_into().map_err(|_| SipError::BadAddress(uri.clone(), "not an address"))?;
    let limit = hub.gate.settings.t1 * SILENT;
    let response = tokio::time::timeout(limit, registration.register(uri, Some(expires)))
        .await
        .map_err(|_| SipError::Timeout)?
        .map_err(|e| SipError::Stack(e.to_string()))?;
    match response.status_code.code() {
        200 => Ok(registration.expires().min(expires)),
        code => Err(SipError::Refused(code)),
    }
}
