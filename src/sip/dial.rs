//! Calls we place: where they go, their INVITE, and what becomes of it before anybody answers.

use super::agent::SipAgent;
use super::calls::{Kind, Pin, SeatEnd};
use super::counters::bump;
use super::dialogs::{self, contact, insert, text};
use super::event::{DialogId, SipError, SipEvent};
use super::gate::lock;
use super::hub::Hub;
use super::register::{Credential, connected, library_credential};
use super::registrar::Contact;
use super::sockets::{self, Way};
use super::time::now;
use super::transport::Transport;
use super::{refer, stream, timed, uri};
use rsipstack::dialog::dialog::DialogState;
use rsipstack::dialog::invitation::InviteOption;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::{Header, HeadersExt, Response};
use rsipstack::transport::SipAddr;
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
        let peer = way.peer;
        let option = self.invite(&dial, &way, hub.gate.settings.session_min_s)?;
        let call_id = option.call_id.clone().unwrap_or_default();
        let pin = Pin {
            server: peer.ip(),
            realm: dial.credential.as_ref().and_then(|c| c.realm.clone()),
            secret: dial.credential.is_some(),
        };
        let most = hub.gate.settings.max_calls;
        let draining = hub.gate.draining();
        let id = hub
            .gate
            .calls(|c| (!draining && c.active() < most).then(|| c.add(&call_id, Kind::Out, Some(pin))))
            .ok_or(SipError::Busy)?;
        if let Some(user) = dial.seat.clone() {
            hub.gate.calls(|c| c.set_seat(id, SeatEnd { user, proved: false }));
        }
        if let Err(e) = self.place(id, option, Some((dial, way))) {
            hub.gate.calls(|c| c.end(id, now()));
            return Err(e);
        }
        bump(&hub.gate.counters.calls_out);
        Ok(id)
    }

    /// Sends the INVITE of a dialog. `again` is what it takes to send it once more after a 422.
    fn place(&self, id: DialogId, option: InviteOption, again: Option<(Dial, Way)>) -> Result<(), SipError> {
        let hub = self.hub();
        let call_id = option.call_id.clone();
        let described = option.offer.as_deref().and_then(text);
        let target = option.destination.clone();
        let (states, receiver) = hub.layer.new_dialog_state_channel();
        let (dialog, invite) = hub.layer.do_invite_async(option, states).map_err(|e| SipError::Stack(e.to_string()))?;
        hub.gate.calls(|c| c.set_tag(id, &dialog.id().local_tag));
        let requests = insert(hub, id, &dialog, None);
        hub.entry(id, |e| {
            e.inviting = Some(invite.abort_handle());
            e.again = again.is_some();
            e.timed.describe(described, target);
        });
        tokio::spawn(dialogs::watch(hub.clone(), id, dialog.clone(), receiver, requests, 0));
        if let Some(patience) = again.as_ref().and_then(|(dial, _)| dial.patience) {
            tokio::spawn(lose_patience(self.clone(), id, dialog.clone(), patience));
        }
        let (agent, hub) = (self.clone(), hub.clone());
        tokio::spawn(async move {
            let outcome = invite.await;
            let min =
                matches!(&outcome, Ok(Ok((_, Some(r)))) if r.status_code.code() == 422).then(|| outcome_min(&outcome));
            let still = hub.entry(id, |e| !e.over).unwrap_or(false);
            if let (Some(min), Some((dial, way)), true) = (min, again, still) {
                hub.layer.remove_dialog(&dialog.id());
                let option = agent.invite(&dial, &way, min);
                let sent = option.and_then(|o| agent.place(id, InviteOption { call_id, ..o }, None));
                if sent.is_err() && hub.close(id) {
                    hub.tell(SipEvent::Failed { dialog: id, code: 422, reason: "Session Interval Too Small".into() })
                        .await;
                    hub.forget(id);
                }
                return;
            }
            let lost = !matches!(outcome, Ok(Ok(_)));
            if lost && hub.close(id) {
                let reason = "Call failed".to_string();
                hub.tell(SipEvent::Failed { dialog: id, code: 500, reason }).await;
            }
            // The library lists a confirmed dialog after telling of it: a dialog that ended in between stays
            // listed unless we look again.
            if lost || hub.entry(id, |_| ()).is_none() {
                hub.forget(id);
                hub.layer.remove_dialog(&dialog.id());
            }
        });
        Ok(())
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

    /// `min`: the shortest session, s.
    fn invite(&self, dial: &Dial, way: &Way, min: u32) -> Result<InviteOption, SipError> {
        let Way { peer, transport, .. } = *way;
        let bad = |what: &str, why| SipError::BadAddress(what.to_string(), why);
        let at = self.hub().address_by(peer, transport);
        let from = if dial.from.starts_with("sip:") {
            dial.from.clone()
        } else {
            format!("sip:{}@{at}", uri::escape_user(&dial.from))
        };
        let user = uri::SipUri::parse(&from).map_err(|_| bad(&from, "not a SIP address"))?.user.unwrap_or_default();
        let clean = |s: &str| s.chars().filter(|c| !c.is_control() && *c != '"' && *c != '\\').collect::<String>();
        let token = |n: &str| !n.is_empty() && n.bytes().all(super::wire::is_token_byte);
        let headers = dial
            .headers
            .iter()
            .filter(|(n, _)| token(n))
            .map(|(n, v)| Header::Other(n.clone(), v.chars().filter(|c| !c.is_control()).collect()));
        let replaces = dial.replaces.and_then(|d| refer::replaces(self.hub(), d));
        let hops = dial.hops.map(|n| Header::MaxForwards(u32::from(n).into()));
        let headers = headers.chain(replaces.map(|v| Header::Other("Replaces".into(), v))).chain(hops);
        let for_library =
            |text: &str| text.try_into().map(uri::for_library).map_err(|_| bad(text, "not a SIP address"));
        let random: u128 = rand::random();
        Ok(InviteOption {
            caller_display_name: dial.display.as_deref().map(clean).filter(|d| !d.is_empty()),
            caller: for_library(&from)?,
            callee: for_library(&dial.to)?,
            destination: Some(SipAddr { r#type: Some(transport.library()), addr: peer.into() }),
            content_type: Some("application/sdp".into()),
            offer: Some(dial.sdp.clone().into_bytes()),
            contact: contact(self.hub(), if user.is_empty() { "zongji" } else { &user }, peer, transport)
                .ok_or_else(|| bad(&from, "not a SIP address"))?,
            credential: dial.credential.as_ref().map(library_credential),
            headers: Some(headers.chain(dialogs::capabilities()).chain(timed::asking(self.hub(), min)).collect()),
            call_id: Some(format!("{random:032x}@zongji")),
            ..InviteOption::default()
        })
    }
}

/// A server that says nothing at all is given up before the transaction would.
async fn lose_patience(agent: SipAgent, id: DialogId, dialog: InviteDialog, patience: Duration) {
    tokio::time::sleep(patience).await;
    if !matches!(dialog.state(), DialogState::Calling(_)) || !agent.hub().close(id) {
        return;
    }
    let reason = "No answer of any kind".to_string();
    agent.hub().tell(SipEvent::Failed { dialog: id, code: 408, reason }).await;
    // Should it come to life after all, it finds the call cancelled.
    timed::cancel(agent.hub(), id, &dialog);
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

/// The shortest session that a 422 allows, s.
fn outcome_min<E, F>(outcome: &Result<Result<(rsipstack::dialog::DialogId, Option<Response>), E>, F>) -> u32 {
    let response = outcome.as_ref().ok().and_then(|o| o.as_ref().ok()).and_then(|(_, r)| r.as_ref());
    response.and_then(|r| r.header_value("Min-SE")?.split(';').next()?.trim().parse().ok()).unwrap_or(0)
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
