//! Calls we place: where they go, their INVITE, and what becomes of it before anybody answers.

use super::agent::SipAgent;
use super::answers::{of_invite, prove};
use super::arriving::contact;
use super::asking::{MOST_PROOFS, is_stale, names};
use super::calls::{Kind, Pin, SeatEnd};
use super::compose::{Content, phrase};
use super::counters::bump;
use super::dialog::{Dialog, Stage};
use super::event::{DialogId, SipError, SipEvent};
use super::gate::lock;
use super::hub::{Hub, Inviting};
use super::register::{Credential, connected};
use super::registrar::Contact;
use super::sockets::{self, Way};
use super::time::now;
use super::transactions::{Key, Waits};
use super::transport::{Hop, Transport};
use super::wire::Wire;
use super::{inside, refer, stream, uri};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What an INVITE of ours is long without its session description, at most in ordinary use.
const HEADERS: usize = 700;
/// Longest request that is sent as a datagram where there is a choice (RFC 3261 section 18.1.1).
const LONGEST_DATAGRAM: usize = 1300;

/// Longest wait for a connection that is only opened because a request is long.
const LONGEST_TO_CONNECT: Duration = Duration::from_secs(1);
/// How long a server that took none is not asked again, and how many of them are remembered.
const DEAF_FOR: Duration = Duration::from_secs(600);
const MOST_DEAF: usize = 4096;

/// A call to place.
#[derive(Debug, Clone, Default)]
pub struct Dial {
    /// Whom: `sip:8001@192.0.2.7:5060`, with `;transport=tcp` or `tls` for those; `sips:` is TLS.
    pub to: String,
    /// Our number: a user part, or a whole `sip:` address.
    pub from: String,
    /// Display name of From.
    pub display: Option<String>,
    /// The offer.
    pub sdp: String,
    /// For a challenge of the server dialled.
    pub credential: Option<Credential>,
    /// More headers of the INVITE.
    pub headers: Vec<(String, String)>,
    /// Send there instead of to the host in `to` (a registered phone's source, a proxy).
    pub destination: Option<SocketAddr>,
    /// By this, whatever `to` says.
    pub transport: Option<Transport>,
    /// Fails with 408 when not even a provisional answer came within this; without it, after 64*T1.
    pub patience: Option<Duration>,
    /// The seat whose phone this is: only then it may transfer the call, after it has proved its password.
    pub seat: Option<String>,
    /// The dialog that the called phone shall end for this one (RFC 3891).
    pub replaces: Option<DialogId>,
    /// Max-Forwards: what the call that this one follows from has left. `None`: 70.
    pub hops: Option<u8>,
}

impl Dial {
    /// A call to a registered phone.
    pub fn to_contact(contact: &Contact, from: impl Into<String>, sdp: impl Into<String>) -> Dial {
        Dial {
            to: contact.target(),
            from: from.into(),
            sdp: sdp.into(),
            destination: Some(contact.source),
            transport: Some(contact.transport),
            ..Dial::default()
        }
    }
}

impl SipAgent {
    /// Places a call. What becomes of it comes as events of the returned dialog.
    pub async fn dial(&self, dial: Dial) -> Result<DialogId, SipError> {
        let hub = self.hub();
        // Connecting is a part of the wait for a first answer.
        let way = match dial.patience {
            None => self.way(&dial).await?,
            Some(limit) => tokio::time::timeout(limit, self.way(&dial)).await.map_err(|_| SipError::Timeout)??,
        };
        let (dialog, content) = self.invite(&dial, &way)?;
        let pin = Pin {
            server: way.peer.ip(),
            realm: dial.credential.as_ref().and_then(|c| c.realm.clone()),
            secret: dial.credential.is_some(),
        };
        let most = hub.gate.settings.max_calls;
        let draining = hub.gate.draining();
        let id = hub
            .gate
            .calls(|c| (!draining && c.active() < most).then(|| c.add(&dialog.call_id, Kind::Out, Some(pin))))
            .ok_or(SipError::Busy)?;
        hub.gate.calls(|c| c.set_tag(id, &dialog.ours));
        if let Some(user) = dial.seat.clone() {
            hub.gate.calls(|c| c.set_seat(id, SeatEnd { user, proved: false }));
        }
        hub.insert(id, dialog, None);
        hub.entry(id, |e| {
            e.credential = dial.credential.map(Box::new);
            e.timed.describe(Some(dial.sdp));
        });
        place(hub, id, content, (hub.gate.settings.session_min_s, false), (None, 0));
        if let Some(patience) = dial.patience {
            tokio::spawn(lose_patience(hub.clone(), id, patience));
        }
        bump(&hub.gate.counters.calls_out);
        Ok(id)
    }

    /// Where the call goes, with a connection open where it takes one.
    async fn way(&self, dial: &Dial) -> Result<Way, SipError> {
        let hub = self.hub();
        let all = sockets::resolve_all(&hub.gate.settings.names, &dial.to, dial.destination, dial.transport).await?;
        let mut way = first_connected(hub, all).await?;
        if !way.transport.is_stream() && !way.fixed && dial.sdp.len() + HEADERS > LONGEST_DATAGRAM {
            // RFC 3261 section 18.1.1: too long for a datagram that must not be cut. Who takes no TCP gets it anyway.
            let limit = dial.patience.map_or(LONGEST_TO_CONNECT, |p| LONGEST_TO_CONNECT.min(p / 3));
            if takes_tcp(hub, &way, limit).await {
                way.transport = Transport::Tcp;
            }
        }
        Ok(way)
    }

    /// The dialog that a call begins with, and what its INVITE says.
    fn invite(&self, dial: &Dial, way: &Way) -> Result<(Dialog, Content), SipError> {
        let Way { peer, transport, .. } = *way;
        let bad = |what: &str| SipError::BadAddress(what.to_string(), "not a SIP address");
        let at = self.hub().address_by(peer, transport);
        let from = if dial.from.starts_with("sip:") {
            dial.from.clone()
        } else {
            format!("sip:{}@{at}", uri::escape_user(&dial.from))
        };
        let user = uri::SipUri::parse(&from).map_err(|_| bad(&from))?.user.unwrap_or_default();
        uri::SipUri::parse(&dial.to).map_err(|_| bad(&dial.to))?;
        let clean = |s: &str| s.chars().filter(|c| !c.is_control() && *c != '"' && *c != '\\').collect::<String>();
        let display = dial.display.as_deref().map(clean).filter(|d| !d.is_empty());
        let display = display.map_or(String::new(), |d| format!("\"{d}\" "));
        let user = if user.is_empty() { "zongji" } else { &user };
        let hop = Hop { transport, at: peer };
        let (from, to) = (format!("{display}<{from}>"), format!("<{}>", dial.to));
        let contact = contact(self.hub(), user, peer, transport);
        let mut dialog = Dialog::begin(names(), &from, &to, dial.to.clone(), contact, hop);
        dialog.host = Some(way.host.clone());
        let token = |n: &str| !n.is_empty() && n.bytes().all(super::wire::is_token_byte);
        let mut content = Content::default();
        content.hops = dial.hops;
        for (name, value) in dial.headers.iter().filter(|(n, _)| token(n)) {
            content = content.with(name, value);
        }
        if let Some(named) = dial.replaces.and_then(|d| refer::replaces(self.hub(), d)) {
            content = content.with("Replaces", named);
        }
        Ok((dialog, content.sdp(dial.sdp.clone())))
    }
}

/// Sends the INVITE of a dialog. `min` is the shortest session, s, and whether it was made longer for a 422.
fn place(
    hub: &Arc<Hub>,
    id: DialogId,
    content: Content,
    (min, longer): (u32, bool),
    (proof, proved): (Option<(&'static str, String)>, u8),
) {
    let mut whole = content.clone().and(&of_invite(hub, min));
    if let Some((name, value)) = &proof {
        whole = whole.with(name, value);
    }
    let ready = hub.writing(|w| {
        hub.entry(id, |e| {
            let ready = e.dialog.outside("INVITE", &whole, w);
            e.timed.place(ready.number);
            let (key, uri) = (Key::ours(&ready.branch, "INVITE"), ready.uri.clone());
            e.inviting = Some(Box::new(Inviting { key, content, uri, min, longer, proved, proof }));
            ready
        })
    });
    ready.into_iter().for_each(|ready| drop(hub.ask("INVITE", ready, Waits::Invite(id))));
}

/// An INVITE of ours was refused: it is sent once more where a longer session (RFC 4028 section 7.3) or a proof is asked
/// for, else its call has failed.
pub(super) fn refused(hub: &Arc<Hub>, id: DialogId, wire: &Wire, code: u16) {
    let again = hub.entry(id, |e| {
        let inviting = e.inviting.take().filter(|_| !e.over && !e.answered)?;
        let min = wire.get("min-se").and_then(|v| v.split(';').next()?.trim().parse().ok());
        let challenge = || prove(wire, code, e.credential.as_deref()?, "INVITE", &inviting.uri);
        let again = match code {
            // Without its proof: a nonce may be good for one request only.
            422 if !inviting.longer => Some(((min.unwrap_or(0), true), (None, 0))),
            401 | 407 if inviting.proved == 0 || inviting.proved < MOST_PROOFS && is_stale(wire) => {
                challenge().map(|proof| ((inviting.min, inviting.longer), (Some(proof), inviting.proved + 1)))
            }
            _ => None,
        };
        again.map(|(min, proof)| (inviting.content, min, proof))
    });
    if let Some(Some((content, min, proof))) = again {
        return place(hub, id, content, min, proof);
    }
    if hub.close(id) {
        hub.tell(SipEvent::Failed { dialog: id, code, reason: phrase(code).into() });
    }
    hub.forget(id);
}

/// Takes back a call of ours that is over for us: its INVITE is cancelled now if anything was heard of it, else with its
/// first provisional response (RFC 3261 section 9.1).
pub(super) fn cancel(hub: &Arc<Hub>, id: DialogId) {
    let Some(Some(invite)) = hub.entry(id, |e| e.inviting.as_ref().map(|i| i.key.clone())) else { return };
    let Some((hop, bytes)) = hub.transactions(|t| t.cancel(&invite, now())) else { return };
    let branch = invite.branch().to_string();
    let ready = super::dialog::Ready { hop, host: None, branch, number: 0, uri: String::new(), bytes };
    hub.ask_in_passing("CANCEL", ready);
}

/// A server that says nothing at all is given up before the transaction would.
async fn lose_patience(hub: Arc<Hub>, id: DialogId, patience: Duration) {
    tokio::time::sleep(patience).await;
    let key = hub.entry(id, |e| e.inviting.as_ref().map(|i| i.key.clone())).flatten();
    let unheard = key.is_some_and(|key| hub.transactions(|t| t.is_unheard(&key)));
    // Should it come to life after all, it finds the call cancelled.
    if unheard && hub.close(id) {
        hub.tell(SipEvent::Failed { dialog: id, code: 408, reason: "No answer of any kind".into() });
        // What was heard at this very moment found the call as it was.
        match hub.entry(id, |e| e.dialog.stage >= Stage::Confirmed) {
            Some(true) => inside::say_goodbye(&hub, id),
            _ => cancel(&hub, id),
        }
    }
}

/// Whether a connection to a server on UDP can be opened; who did not take one is not asked again for a while.
async fn takes_tcp(hub: &Arc<Hub>, way: &Way, limit: Duration) -> bool {
    let at = now();
    if lock(&hub.deaf).get(&way.peer).is_some_and(|since| at.since(*since) < DEAF_FOR) {
        return false;
    }
    let connecting = stream::connect(hub, way.peer, Transport::Tcp, &way.host);
    let takes = matches!(tokio::time::timeout(limit, connecting).await, Ok(Ok(())));
    if !takes {
        let mut deaf = lock(&hub.deaf);
        deaf.retain(|_, since| at.since(*since) < DEAF_FOR);
        if deaf.len() < MOST_DEAF {
            deaf.insert(way.peer, at);
        }
    }
    takes
}

/// The first of several ways that a connection can be opened by, where it takes one.
async fn first_connected(hub: &Arc<Hub>, ways: Vec<Way>) -> Result<Way, SipError> {
    let mut last = SipError::Timeout;
    for way in ways {
        match connected(hub, &way).await {
            Ok(()) => return Ok(way),
            Err(why) => last = why,
        }
    }
    Err(last)
}
