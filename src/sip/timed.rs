//! What a dialog does as time passes: repeats a provisional response until its PRACK, refreshes its session, ends.
//! The rules are in [`super::reliable`] and [`super::session_timer`]; here they meet the SIP library.

use super::agent::{outcome, refuse, unanswered};
use super::dialogs::{capabilities, changing, sdp_headers, text};
use super::event::{DialogId, EndWhy, SipError};
use super::hub::Hub;
use super::reliable::{Overdue, Received, Reliability, Sent, Way};
use super::session_timer::{Asked, Session, Wants};
use super::time::now;
use super::uri::for_library;
use super::wire::tag_of;
use crate::clock::Mono;
use rsipstack::dialog::dialog::DialogState;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::prelude::ToTypedHeader;
use rsipstack::sip::{HasHeaders, Header, HeadersExt, Method, Param, Request, Response, SipMessage, StatusCodeKind};
use rsipstack::transaction::key::{TransactionKey, TransactionRole};
use rsipstack::transaction::make_via_branch;
use rsipstack::transaction::transaction::Transaction;
use rsipstack::transport::SipAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Times a re-INVITE is sent in all when both sides ask at once.
const TRIES: u32 = 3;

/// What a dialog keeps for its timers.
#[derive(Default)]
pub(super) struct Timed {
    session: Option<Session>,
    /// The first INVITE's wishes, for our 2xx.
    asked: Asked,
    /// The other side takes UPDATE: a refresh needs no session description.
    takes_update: bool,
    /// Our last session description.
    described: Option<String>,
    /// Where the first INVITE of ours went.
    target: Option<SipAddr>,
    /// The INVITE that came had an offer.
    offered: bool,
    sent: Sent<Response>,
    received: Received,
    /// The answers to our offer that reliable responses brought: one for each branch, by To-tag. A 200 of that branch
    /// need not bring it again (RFC 6337 section 3.1.1).
    heard: Vec<(String, String)>,
    /// Our answer, waiting for the PRACK of what came before it.
    answer: Option<String>,
    /// Branch of the INVITE that was cancelled last.
    cancelled: Option<String>,
    /// There is another time to wait for.
    pub wake: Arc<Notify>,
}

impl Timed {
    /// Takes note of what an INVITE says its sender can do.
    pub fn begin(&mut self, invite: &Request) {
        self.asked = asked(invite);
        self.takes_update = allows_update(invite).unwrap_or(false);
        self.offered = !invite.body.is_empty();
        if lists(invite, "Supported", "100rel") {
            self.sent.reliability = Reliability::Wanted;
            self.sent.begin(rand::random());
        }
    }

    /// Notes our last session description, and where a first INVITE went.
    pub fn describe(&mut self, sdp: Option<String>, target: Option<SipAddr>) {
        self.described = sdp.or(self.described.take());
        self.target = target.or(self.target.take());
    }

    /// A call of ours was answered.
    pub fn answered_by(&mut self, response: &Response) {
        self.takes_update = allows_update(response).unwrap_or(false);
        self.session = Session::of_answer(response.header_value("Session-Expires").as_deref(), now());
        self.wake.notify_one();
    }

    /// Whether offer and answer were exchanged before the call is answered: only then the other side may make an offer
    /// by UPDATE (RFC 3311 section 5.1).
    pub fn early_agreed(&self) -> bool {
        self.sent.agreed || !self.heard.is_empty()
    }

    /// Whether a description of ours was acknowledged before the answer; none where the caller acknowledges nothing.
    pub fn progress_acknowledged(&self) -> Option<bool> {
        (self.sent.reliability == Reliability::Wanted).then_some(self.sent.agreed)
    }

    /// The answer to our offer that came before this response of the same branch.
    pub fn heard_before(&self, response: &Response) -> Option<String> {
        let tag = to_tag(response).unwrap_or_default();
        self.heard.iter().find(|(branch, _)| *branch == tag).map(|(_, sdp)| sdp.clone())
    }

    /// A reliable response of a branch brought this. There are no more branches than [`Received`] follows.
    fn hear(&mut self, tag: &str, sdp: String) {
        match self.heard.iter_mut().find(|(branch, _)| branch == tag) {
            Some((_, known)) => *known = sdp,
            None => self.heard.push((tag.to_string(), sdp)),
        }
    }

    /// A PRACK came; false when it acknowledges nothing.
    pub fn acknowledged(&mut self, rseq: u32) -> bool {
        self.sent.acknowledged(rseq)
    }

    /// A final response went out.
    pub fn stop(&mut self) {
        self.sent.stop();
    }

    /// When something is to be done.
    pub fn due(&self) -> Option<Mono> {
        self.sent.due().into_iter().chain(self.session.map(|s| s.due().0)).min()
    }
}

/// A point of our clock on the runtime's.
pub(super) fn instant(at: Mono) -> tokio::time::Instant {
    tokio::time::Instant::now() + at.since(now())
}

/// What a request asks of the session timer.
pub(super) fn asked(request: &Request) -> Asked {
    let get = |name| request.header_value(name);
    let supported = lists(request, "Supported", "timer");
    Asked::of(get("Session-Expires").as_deref(), get("Min-SE").as_deref(), supported)
}

fn lists(message: &impl HasHeaders, name: &str, token: &str) -> bool {
    let named = |h: &&Header| h.name().eq_ignore_ascii_case(name);
    message.headers().iter().filter(named).any(|h| h.value().split(',').any(|t| t.trim().eq_ignore_ascii_case(token)))
}

fn allows_update(message: &impl HasHeaders) -> Option<bool> {
    let there = message.headers().iter().any(|h| h.name().eq_ignore_ascii_case("Allow"));
    there.then(|| lists(message, "Allow", "UPDATE"))
}

/// Headers with which a request of ours asks for a session timer.
pub(super) fn asking(hub: &Hub, min: u32) -> [Header; 2] {
    let (longest, least) = (hub.gate.settings.session_expires_s, hub.gate.settings.session_min_s);
    let (interval, min) = (longest.max(min), min.max(least));
    [Header::SessionExpires(interval.to_string().into()), Header::MinSE(min.to_string().into())]
}

/// Agrees to the session timer a request asks for: headers of our 2xx.
pub(super) fn agree(hub: &Hub, id: DialogId, asked: &Asked) -> Vec<Header> {
    let ours = (hub.gate.settings.session_expires_s, hub.gate.settings.session_min_s);
    let agreed = asked.accept(ours, now());
    hub.entry(id, |e| {
        e.timed.session = agreed.as_ref().map(|(session, _)| *session);
        e.timed.wake.notify_one();
    });
    let Some((session, value)) = agreed else { return Vec::new() };
    let require = (!session.ours).then(|| Header::Require("timer".into()));
    std::iter::once(Header::SessionExpires(value.into())).chain(require).collect()
}

/// Sends a provisional response: 180, or 183 with a description.
pub(super) fn provisional(hub: &Hub, id: DialogId, sdp: Option<String>) {
    let Some(dialog) = unanswered(hub, id) else { return };
    let way = hub.entry(id, |e| {
        let sdp = sdp.filter(|_| e.timed.offered);
        let way = e.timed.sent.way(sdp.as_deref());
        if way != Way::Later {
            e.timed.describe(sdp.clone(), None);
        }
        (way, sdp)
    });
    let Some((way, sdp)) = way else { return };
    let mut headers = if sdp.is_some() { sdp_headers() } else { capabilities().into() };
    match way {
        Way::Later => return,
        Way::Plain => {}
        Way::Reliable(rseq) => {
            headers.push(Header::Require("100rel".into()));
            headers.push(Header::RSeq(rseq.to_string().into()));
        }
    }
    if let Err(error) = dialog.ringing(Some(headers), sdp.map(String::into_bytes)) {
        tracing::debug!(%error, "the call was over before it rang");
    }
}

/// The library has sent a provisional response of ours.
pub(super) fn provisional_sent(hub: &Hub, id: DialogId, response: &Response) {
    let Some(rseq) = response.rseq_value() else { return };
    let t1 = hub.gate.settings.t1;
    hub.entry(id, |e| {
        if !e.answered {
            e.timed.sent.sent(rseq, response.clone(), now(), t1);
        }
    });
}

/// Answers a call that came in, once nothing of ours is unacknowledged that the answer depends on.
pub(super) fn answer(hub: &Hub, id: DialogId, sdp: String) {
    let Some(dialog) = unanswered(hub, id) else { return };
    let ready = hub.entry(id, |e| {
        if e.timed.sent.holds_the_answer() {
            e.timed.answer = Some(sdp.clone());
            return None;
        }
        e.answered = true;
        e.timed.stop();
        e.timed.describe(Some(sdp.clone()), None);
        Some(e.timed.asked)
    });
    let Some(Some(asked)) = ready else { return };
    let mut headers = sdp_headers();
    headers.extend(agree(hub, id, &asked));
    if let Err(error) = dialog.accept(Some(headers), Some(sdp.into_bytes())) {
        tracing::debug!(%error, "the call was over before its answer");
    }
}

/// A provisional response was acknowledged: what waited for that goes out.
pub(super) fn acknowledged(hub: &Hub, id: DialogId) {
    let next = hub.entry(id, |e| (e.timed.answer.take(), e.timed.sent.next_waiting()));
    match next {
        Some((Some(sdp), _)) => answer(hub, id, sdp),
        Some((None, Some(sdp))) => provisional(hub, id, sdp),
        _ => {}
    }
}

/// A provisional response came for a call of ours: acknowledges a reliable one. False: it is not the next one.
pub(super) fn provisional_came(hub: &Arc<Hub>, id: DialogId, dialog: &InviteDialog, response: &Response) -> bool {
    let rseq = response.header_value(super::reply::RSEQ).and_then(|v| v.parse().ok());
    let Some(rseq) = rseq else { return true };
    let tag = to_tag(response).unwrap_or_default();
    let next = hub.entry(id, |e| {
        let next = !e.over && e.timed.received.is_next(&tag, rseq);
        if let Some(sdp) = text(&response.body).filter(|_| next) {
            e.timed.hear(&tag, sdp);
        }
        (next, e.timed.target.clone())
    });
    let Some((true, target)) = next else { return false };
    // After the final response there is nothing left to acknowledge.
    if dialog.state().can_cancel()
        && let Some(request) = prack(hub, id, dialog, response, rseq)
    {
        tokio::spawn(send(hub.clone(), request, target));
    }
    true
}

fn to_tag(response: &Response) -> Option<String> {
    tag_of(response.to_header().ok()?.value()).map(String::from)
}

/// The PRACK of a response (RFC 3262 section 7.2). It belongs to the early dialog of the response's To-tag.
fn prack(hub: &Hub, id: DialogId, dialog: &InviteDialog, response: &Response, rseq: u32) -> Option<Request> {
    let invite = dialog.initial_request();
    let number = invite.cseq_header().ok()?.seq().ok()?;
    let own = hub.gate.calls(|c| c.number_for_prack(id, number))?;
    let mut via = invite.via_header().ok()?.typed().ok()?;
    via.params.retain(|p| !matches!(p, Param::Branch(_)));
    via.params.push(make_via_branch());
    let contact = response.typed_contact_headers().ok().and_then(|all| all.first().map(|c| for_library(c.uri.clone())));
    let mut headers = vec![
        Header::Via(via.into()),
        Header::From(invite.from_header().ok()?.clone()),
        Header::To(response.to_header().ok()?.clone()),
        Header::CallId(invite.call_id_header().ok()?.clone()),
        Header::CSeq(format!("{own} PRACK").into()),
        Header::MaxForwards(70.into()),
        Header::RAck(format!("{rseq} {number} INVITE").into()),
        Header::UserAgent(hub.endpoint.user_agent.clone().into()),
    ];
    headers.extend(invite.contact_header().ok().cloned().map(Header::Contact));
    let routes = response.record_route_headers();
    headers.extend(routes.iter().rev().map(|r| Header::Route(r.value().into())));
    headers.push(Header::ContentLength(0u32.into()));
    let uri = contact.unwrap_or(invite.uri);
    Some(Request { method: Method::PRack, uri, headers: headers.into(), body: Vec::new(), version: invite.version })
}

/// Takes back a call of ours that is over for us: its INVITE is cancelled now if anything was heard of it, else with its
/// first provisional response (RFC 3261 section 9.1). By ourselves and not by the library, which would look up its
/// address anew: a CANCEL must go to the server that its INVITE went to.
pub(super) fn cancel(hub: &Arc<Hub>, id: DialogId, dialog: &InviteDialog) {
    if !matches!(dialog.state(), DialogState::Trying(_) | DialogState::Early(..)) {
        return;
    }
    let invite = dialog.initial_request();
    let branch = invite.via_header().ok().map(|via| via.value().to_string());
    let target = hub.entry(id, |e| {
        let new = e.timed.cancelled != branch;
        e.timed.cancelled = branch;
        new.then(|| (e.timed.target.clone(), e.inviting.clone()))
    });
    let (Some(Some((target, inviting))), Some(request)) = (target, cancel_of(invite)) else { return };
    let hub = hub.clone();
    tokio::spawn(async move {
        send(hub.clone(), request, target).await;
        // Who never answers the INVITE itself is not waited for longer than this (the same section).
        tokio::time::sleep(hub.linger()).await;
        if hub.entry(id, |e| e.over).unwrap_or(false) {
            inviting.into_iter().for_each(|i| i.abort());
            hub.forget(id);
        }
    });
}

/// The CANCEL of an INVITE: its first Via, ends, Call-ID, number and routes, and nothing else.
fn cancel_of(mut invite: Request) -> Option<Request> {
    let number = invite.cseq_header().ok()?.seq().ok()?;
    let mut first = true;
    invite.headers.retain(|h| match h {
        Header::Via(_) => std::mem::replace(&mut first, false),
        Header::From(_) | Header::To(_) | Header::CallId(_) | Header::Route(_) | Header::MaxForwards(_) => true,
        _ => false,
    });
    invite.headers.push(Header::CSeq(format!("{number} CANCEL").into()));
    invite.headers.push(Header::ContentLength(0u32.into()));
    (invite.method, invite.body) = (Method::Cancel, Vec::new());
    Some(invite)
}

/// Sends a request that the library has no call for, and waits until it is answered or given up.
async fn send(hub: Arc<Hub>, request: Request, target: Option<SipAddr>) {
    let Ok(key) = TransactionKey::from_request(&request, TransactionRole::Client) else { return };
    let mut tx = Transaction::new_client(key, request, hub.endpoint.clone(), None);
    tx.destination = target;
    if let Err(error) = tx.send().await {
        tracing::debug!(%error, "a PRACK or CANCEL could not be sent");
        return;
    }
    while let Some(message) = tx.receive().await {
        if matches!(&message, SipMessage::Response(r) if r.status_code.kind() != StatusCodeKind::Provisional) {
            return;
        }
    }
}

/// What is due in a dialog is done.
pub(super) async fn overdue(hub: &Arc<Hub>, id: DialogId, dialog: &InviteDialog) {
    let at = now();
    let (again, invite) = match hub.entry(id, |e| (e.timed.sent.overdue(at), e.invite.clone())) {
        Some(both) => both,
        None => return,
    };
    match again {
        Some(Overdue::Again(response)) => invite.into_iter().for_each(|i| i.respond(response.clone())),
        Some(Overdue::GiveUp) => return refuse(hub, id, 504, None, EndWhy::NoAck).await,
        None => {}
    }
    let wants = hub.entry(id, |e| {
        let session = e.timed.session.as_mut()?;
        let (due, wants) = session.due();
        session.refreshing |= due <= at;
        (due <= at).then_some((wants, session.interval))
    });
    match wants.flatten() {
        Some((Wants::Refresh, interval)) => drop(tokio::spawn(refresh(hub.clone(), id, interval))),
        Some((Wants::End, _)) => end(hub, id, dialog).await,
        None => {}
    }
}

/// The other side has vanished.
async fn end(hub: &Arc<Hub>, id: DialogId, dialog: &InviteDialog) {
    hub.entry(id, |e| e.timed.session = None);
    hub.finish(id, EndWhy::Expired).await;
    let (hub, dialog) = (hub.clone(), dialog.clone());
    tokio::spawn(async move {
        dialog.bye().await.ok();
        hub.forget(id);
    });
}

/// Refreshes a session: by UPDATE when the other side takes it, else by a re-INVITE that changes nothing.
async fn refresh(hub: Arc<Hub>, id: DialogId, interval: u32) {
    let mut interval = interval;
    for _ in 0..2 {
        let known = hub.entry(id, |e| (e.dialog.clone(), e.timed.takes_update, e.timed.described.clone()));
        let Some((dialog, takes_update, described)) = known else { return };
        let headers = || {
            let min = hub.gate.settings.session_min_s;
            let expires = Header::SessionExpires(format!("{interval};refresher=uac").into());
            [expires, Header::MinSE(min.to_string().into())].into_iter().chain(changing()).collect::<Vec<_>>()
        };
        let limit = hub.gate.settings.t1 * 70;
        let sent = match (takes_update, described) {
            (false, Some(sdp)) => offer_with(&hub, id, sdp, headers()).await,
            _ => match tokio::time::timeout(limit, dialog.update(Some(headers()), None)).await {
                Ok(Ok(Some(response))) => Ok(response),
                other => outcome(other),
            },
        };
        match sent {
            Ok(r) if r.status_code.kind() == StatusCodeKind::Successful => {
                let next = Session::of_answer(r.header_value("Session-Expires").as_deref(), now());
                hub.entry(id, |e| {
                    e.timed.session = next;
                    e.timed.wake.notify_one();
                });
                return;
            }
            Ok(r) if r.status_code.code() == 422 => {
                let min = r.header_value("Min-SE").and_then(|v| v.trim().parse().ok());
                interval = interval.max(min.unwrap_or(interval));
            }
            // It knows of no such call, or there is nobody (RFC 3261 section 12.2.1.2).
            Ok(r) if matches!(r.status_code.code(), 408 | 481) => return end(&hub, id, &dialog).await,
            Err(SipError::Timeout) => return end(&hub, id, &dialog).await,
            // Anything else may be mended before the time is over.
            Ok(_) | Err(_) => return hub.entry(id, |e| e.timed.wake.notify_one()).unwrap_or(()),
        }
    }
}

/// Sends a re-INVITE with an offer; a success, or why not.
pub(super) async fn offer(hub: &Arc<Hub>, id: DialogId, sdp: String) -> Result<Response, SipError> {
    let response = offer_with(hub, id, sdp.clone(), changing().into()).await?;
    match response.status_code.code() {
        200..=299 => {
            hub.entry(id, |e| e.timed.describe(Some(sdp), None));
            Ok(response)
        }
        code => Err(SipError::Refused(code)),
    }
}

/// The same with headers; whatever the final response is.
async fn offer_with(hub: &Arc<Hub>, id: DialogId, sdp: String, headers: Vec<Header>) -> Result<Response, SipError> {
    let limit = hub.gate.settings.t1 * 70;
    let mut tried = 0;
    loop {
        tried += 1;
        let begin = |e: &mut super::hub::Entry| {
            let free = !e.over && !e.asking && e.asked.is_empty();
            e.asking |= free;
            (free, e.over, e.dialog.clone())
        };
        let (free, over, dialog) = hub.entry(id, begin).ok_or(SipError::Gone)?;
        if over {
            return Err(SipError::Gone);
        }
        let mut code = 491;
        if free {
            let mut all = headers.clone();
            all.push(Header::ContentType("application/sdp".into()));
            let sent = tokio::time::timeout(limit, dialog.reinvite(Some(all), Some(sdp.clone().into_bytes()))).await;
            hub.entry(id, |e| e.asking = false);
            let response = match sent {
                Ok(Ok(Some(response))) => response,
                other => return outcome(other),
            };
            code = response.status_code.code();
            if code != 491 {
                return Ok(response);
            }
        }
        if tried >= TRIES {
            return Err(SipError::Refused(code));
        }
        tokio::time::sleep(glare_wait(dialog.role() == TransactionRole::Client, rand::random())).await;
    }
}

/// How long to wait after a 491: who made the Call-ID 2.1 to 4 s, the other 0 to 2 s (RFC 3261 section 14.1).
fn glare_wait(owner: bool, random: u64) -> Duration {
    Duration::from_millis(10 * if owner { 210 + random % 191 } else { random % 201 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_clash_the_two_sides_never_wait_alike() {
        for random in 0..2000 {
            let (owner, other) = (glare_wait(true, random), glare_wait(false, random * 7));
            assert!((2100..=4000).contains(&owner.as_millis()) && other.as_millis() <= 2000);
            assert!(owner > other && owner.as_millis().is_multiple_of(10));
        }
    }
}
