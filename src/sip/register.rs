//! Our registrations elsewhere: made, kept fresh, and taken back.

use super::agent::SipAgent;
use super::arriving::contact;
use super::asking::{ask_outside, names, status};
use super::calls::{Kind, Pin};
use super::compose::Content;
use super::dialog::Dialog;
use super::event::SipError;
use super::gate::lock;
use super::hub::Hub;
use super::sockets::{self, Way};
use super::stream;
use super::time::now;
use super::transport::Hop;
use super::uri::{SipUri, escape_user};
use super::wire::{NameAddr, Wire, split_outside};
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
        let mut registration = registration(&hub, &way, credential);
        let pin = Pin { server: server.ip(), realm: credential.realm.clone(), secret: true };
        let leg = hub.gate.calls(|c| c.add(&registration.call_id, Kind::Register, Some(pin)));
        let stop = hub.token.child_token();
        let before = lock(&hub.renewals).insert((server, credential.user.clone()), stop.clone());
        if let Some(before) = before {
            before.cancel();
        }
        let granted = register_once(&hub, &mut registration, &way, credential, expires).await;
        let (tell, lost) = oneshot::channel();
        match granted {
            Ok(seconds) if seconds > 0 => {
                let credential = credential.clone();
                tokio::spawn(async move {
                    let refreshing = refresh(&hub, &mut registration, &way, &credential, (seconds, expires));
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
    registration: &mut Dialog,
    way: &Way,
    credential: &Credential,
    (granted, expires): (u32, u32),
) -> SipError {
    let settings = &hub.gate.settings;
    let half = |seconds: u32| Duration::from_secs(u64::from(seconds / 2)).max(settings.renew_least);
    let (mut pause, mut failures) = (half(granted), 0);
    loop {
        tokio::time::sleep(pause).await;
        match register_once(hub, registration, way, credential, expires).await {
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

/// A connection to there is open, where it takes one.
pub(super) async fn connected(hub: &Arc<Hub>, way: &Way) -> Result<(), SipError> {
    if !way.transport.is_stream() {
        return Ok(());
    }
    let opened = stream::connect(hub, way.peer, way.transport, &way.host).await;
    opened.map_err(|e| SipError::Unreachable(way.peer, way.transport.name(), e.to_string()))
}

/// What numbers the REGISTERs of one registration (RFC 3261 section 10.2).
fn registration(hub: &Hub, way: &Way, credential: &Credential) -> Dialog {
    // Its domain by name, as a carrier's registrar wants it; the datagrams go to the address found for it.
    let host = if way.host.contains(':') { format!("[{}]", way.host) } else { way.host.clone() };
    let registrar = format!("sip:{host}:{}{}", way.peer.port(), way.transport.param());
    let of_record = format!("<sip:{}@{host}:{}>", escape_user(&credential.user), way.peer.port());
    let contact = contact(hub, &credential.user, way.peer, way.transport);
    let hop = Hop { transport: way.transport, at: way.peer };
    Dialog::begin(names(), &of_record, &of_record, registrar, contact, hop)
}

async fn register_once(
    hub: &Arc<Hub>,
    registration: &mut Dialog,
    way: &Way,
    credential: &Credential,
    expires: u32,
) -> Result<u32, SipError> {
    connected(hub, way).await?;
    let content = Content::default().with("Expires", expires.to_string());
    let limit = hub.gate.settings.t1 * SILENT;
    let answer = ask_outside(hub, registration, "REGISTER", content, Some(credential), limit).await?;
    match status(&answer) {
        200 => Ok(granted(&answer, &registration.contact, expires).min(expires)),
        code => Err(SipError::Refused(code)),
    }
}

/// How long our Contact is registered, s: among the others of its user it has a time of its own (section 10.2.4).
fn granted(answer: &Wire, contact: &str, asked: u32) -> u32 {
    let whom = |text: &str| SipUri::parse(text).ok().map(|u| (u.user, u.host, u.port.unwrap_or(5060)));
    let ours = NameAddr::parse(contact).and_then(|c| whom(&c.uri));
    let listed = answer.all("contact").filter_map(|header| split_outside(header, b',')).flatten();
    let listed: Vec<NameAddr> = listed.filter_map(NameAddr::parse).collect();
    let mine = listed.iter().find(|c| ours.is_some() && whom(&c.uri) == ours);
    // A registrar that knows us by another address lists that one.
    let mine = mine.or(listed.first().filter(|_| listed.len() == 1));
    let own = mine.and_then(|c| c.param("expires")?.parse().ok());
    let all = || answer.get("expires").and_then(|v| v.parse().ok());
    own.or_else(all).unwrap_or(asked)
}
