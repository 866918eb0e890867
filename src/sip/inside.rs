//! Requests inside a dialog: taken in the order they came, and every one answered.
//!
//! The SIP library answers only in a confirmed dialog. What comes before the ACK, or before our answer, is answered
//! here, and so is what needs nothing of the library's state.

use super::dialogs::{origin, text};
use super::event::{DialogId, ReinviteId, SipEvent};
use super::gate::retry_after;
use super::hub::{Asked, Hub, Reply, Target, contact_of};
use super::refused::RefusedFor;
use super::uri::for_library;
use super::wire::tag_of;
use super::{refer, sanity, timed};
use rsipstack::dialog::dialog::Dialog;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::{Header, HeadersExt, Method, Param, Request, StatusCode};
use rsipstack::transaction::key::TransactionRole;
use rsipstack::transaction::transaction::Transaction;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;

/// Requests of one dialog that may wait for their turn; one more gets 500 with Retry-After.
pub(super) const INBOX: usize = 32;

/// Gives a request to the task of its dialog.
pub(super) fn sort(hub: &Arc<Hub>, tx: Transaction) {
    let ids = |r: &Request| {
        let call_id = r.call_id_header().ok()?.value().to_string();
        Some((call_id, tag_of(r.to_header().ok()?.value())?.to_string()))
    };
    let id = ids(&tx.original).and_then(|(call_id, tag)| hub.gate.calls(|c| c.find(&call_id, &tag)));
    let Some(inbox) = id.and_then(|id| hub.entry(id, |e| e.inbox.clone())) else { return unknown(hub, tx) };
    match inbox.try_send(Box::new(tx)) {
        Ok(()) => {}
        Err(TrySendError::Full(tx)) => refuse_later(hub, *tx, StatusCode::ServerInternalError, RefusedFor::Behind),
        Err(TrySendError::Closed(tx)) => unknown(hub, *tx),
    }
}

/// A request of no dialog there is. The gate knew its tags, so the dialog has just ended.
fn unknown(hub: &Arc<Hub>, mut tx: Transaction) {
    if tx.original.method == Method::Bye {
        // It crossed ours, or came again.
        tokio::spawn(async move { tx.reply(StatusCode::OK).await.ok() });
    } else {
        super::counters::bump(&hub.gate.counters.no_dialog);
        spawn_refusal(hub, tx, StatusCode::CallTransactionDoesNotExist, None, Vec::new());
    }
}

/// Refuses a request. An INVITE's transaction lives on: it takes the ACK and repeats the answer until then.
pub(super) async fn refuse(hub: &Hub, tx: Transaction, code: StatusCode, headers: Vec<Header>) {
    refuse_for(hub, tx, code, None, headers).await;
}

/// The same, counted by a reason that the status does not tell.
async fn refuse_for(hub: &Hub, mut tx: Transaction, code: StatusCode, why: Option<RefusedFor>, headers: Vec<Header>) {
    let source = origin(&tx.original).map(|(_, at)| at.ip());
    hub.count_refusal(code.code(), why, source, &tx.original.method.to_string());
    let sent = tx.reply_with(code, headers, None).await;
    // An answer that did not get out has no timer behind it.
    if sent.is_ok() && tx.original.method == Method::Invite {
        while tx.receive().await.is_some() {}
    }
}

/// Refuses a request for now (RFC 3261 section 14.2).
fn refuse_later(hub: &Arc<Hub>, tx: Transaction, code: StatusCode, why: RefusedFor) {
    let wait = Header::RetryAfter(retry_after(rand::random()).into());
    spawn_refusal(hub, tx, code, Some(why), vec![wait]);
}

/// Nobody waits until it is out.
fn spawn_refusal(hub: &Arc<Hub>, tx: Transaction, code: StatusCode, why: Option<RefusedFor>, headers: Vec<Header>) {
    let hub = hub.clone();
    tokio::spawn(async move { refuse_for(&hub, tx, code, why, headers).await });
}

/// Takes one request of a live dialog. `last` is the highest CSeq number so far.
pub(super) async fn take(hub: &Arc<Hub>, id: DialogId, dialog: &InviteDialog, last: &mut u32, tx: Transaction) {
    let sender = tx.original.from_header().ok().and_then(|from| tag_of(from.value()));
    let ours = sender.is_some_and(|tag| tag == dialog.id().remote_tag);
    let early_out = || dialog.role() == TransactionRole::Client && dialog.state().can_cancel();
    if !ours && !early_out() {
        return unknown(hub, tx); // another branch of a forked call
    }
    let number = tx.original.cseq_header().ok().and_then(|c| c.seq().ok()).unwrap_or_default();
    if number < *last {
        // RFC 3261 section 12.2.2
        return spawn_refusal(hub, tx, StatusCode::ServerInternalError, Some(RefusedFor::OldRequest), Vec::new());
    }
    *last = number;
    let over = hub.entry(id, |e| e.over).unwrap_or(true);
    match tx.original.method {
        Method::Bye => drop(tokio::spawn(bye(hub.clone(), dialog.clone(), tx))),
        _ if over => unknown(hub, tx),
        Method::Invite | Method::Update => session(hub, id, dialog, tx).await,
        Method::PRack => prack(hub, id, dialog, tx).await,
        Method::Info => info(hub, id, tx).await,
        Method::Refer => refer::came(hub, id, dialog, tx).await,
        Method::Notify => refer::notified(hub, id, tx).await,
        Method::Message => message(hub, id, tx).await,
        Method::Options => answer(tx, StatusCode::OK, vec![Header::Allow(sanity::ALLOW.into())]).await,
        _ => refuse(hub, tx, StatusCode::MethodNotAllowed, vec![Header::Allow(sanity::ALLOW.into())]).await,
    }
}

pub(super) async fn answer(mut tx: Transaction, code: StatusCode, headers: Vec<Header>) {
    if let Err(error) = tx.reply_with(code, headers, None).await {
        tracing::debug!(%error, "a request inside a dialog could not be answered");
    }
}

async fn bye(hub: Arc<Hub>, dialog: InviteDialog, tx: Transaction) {
    // It can overtake the library's own bookkeeping of the 200 it follows.
    for wait_ms in [0u64, 10, 40, 100] {
        if wait_ms > 0 {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
        let state = dialog.state();
        if state.is_terminated() {
            return answer(tx, StatusCode::OK, Vec::new()).await;
        }
        if dialog.role() == TransactionRole::Server || state.is_confirmed() {
            return handle(hub, dialog, tx).await;
        }
    }
    refuse(&hub, tx, StatusCode::CallTransactionDoesNotExist, Vec::new()).await;
}

/// Hands a request to the library, and answers it if the library does not.
async fn handle(hub: Arc<Hub>, mut dialog: InviteDialog, mut tx: Transaction) {
    if let Err(error) = dialog.handle(&mut tx).await {
        tracing::debug!(%error, "a request inside a dialog failed");
    }
    if tx.last_response.is_none() && !tx.is_terminated() {
        refuse_for(&hub, tx, StatusCode::ServerInternalError, Some(RefusedFor::Library), Vec::new()).await;
    }
}

/// A re-INVITE or an UPDATE (RFC 3311).
async fn session(hub: &Arc<Hub>, id: DialogId, dialog: &InviteDialog, tx: Transaction) {
    let state = dialog.state();
    let update = tx.original.method == Method::Update;
    if update && tx.original.body.is_empty() {
        // A keep-alive (RFC 4028), or a new Contact.
        retarget(dialog, target_of(dialog, &tx.original));
        let mut headers: Vec<Header> = contact_of(dialog).into_iter().collect();
        headers.extend(timed::agree(hub, id, &timed::asked(&tx.original)));
        return answer(tx, StatusCode::OK, headers).await;
    }
    let agreed = hub.entry(id, |e| e.timed.early_agreed()).unwrap_or(false);
    let unanswered = dialog.role() == TransactionRole::Server && !state.is_confirmed() && !state.waiting_ack();
    match state.is_confirmed() || (update && agreed && !state.waiting_ack()) {
        true if update => {
            let request = tx.original.clone();
            asked(hub, id, dialog, request, Reply::Own(Box::new(tx))).await;
        }
        true => drop(tokio::spawn(handle(hub.clone(), dialog.clone(), tx))),
        false if unanswered => refuse_later(hub, tx, StatusCode::ServerInternalError, RefusedFor::Glare),
        // An offer of one side is still open: ours in the INVITE or the 200, or theirs until the ACK.
        false => spawn_refusal(hub, tx, StatusCode::RequestPending, None, Vec::new()),
    }
}

/// A provisional response of ours is acknowledged (RFC 3262 section 3). It may bring a new offer.
async fn prack(hub: &Arc<Hub>, id: DialogId, dialog: &InviteDialog, tx: Transaction) {
    let invite = dialog.initial_request().cseq_header().ok().and_then(|c| c.seq().ok());
    let ours = |(rseq, number, method): (u32, u32, Method)| {
        let named = method == Method::Invite && Some(number) == invite;
        named && hub.entry(id, |e| e.timed.acknowledged(rseq)).unwrap_or(false)
    };
    if !tx.original.rack_value().is_some_and(ours) {
        return refuse(hub, tx, StatusCode::CallTransactionDoesNotExist, Vec::new()).await;
    }
    if tx.original.body.is_empty() {
        answer(tx, StatusCode::OK, Vec::new()).await;
    } else {
        let request = tx.original.clone();
        asked(hub, id, dialog, request, Reply::Own(Box::new(tx))).await;
    }
    timed::acknowledged(hub, id);
}

/// A re-INVITE, or an UPDATE or PRACK with an offer, is for the application.
pub(super) async fn asked(hub: &Arc<Hub>, id: DialogId, dialog: &InviteDialog, request: Request, reply: Reply) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let Some((_, source)) = origin(&request) else {
        return reply.respond(StatusCode::BadRequest, Vec::new(), None, dialog).await;
    };
    let number = NEXT.fetch_add(1, Relaxed);
    let mut reply = Some(reply);
    let free = hub.entry(id, |e| {
        let free = !e.over && !e.asking && e.asked.is_empty();
        if let Some(reply) = reply.take_if(|_| free) {
            let (target, timer) = (target_of(dialog, &request), timed::asked(&request));
            e.asked.insert(number, Asked { reply, target, timer, source: Some(source.ip()) });
        }
        free
    });
    let Some(refused) = reply else {
        let sdp = text(&request.body);
        let hub = hub.clone();
        hub.tell(SipEvent::Reinvite { dialog: id, request: ReinviteId(number), sdp, source }).await;
        // Without an answer it would hold up every later one.
        tokio::spawn(async move {
            tokio::time::sleep(hub.gate.settings.t1 * 64).await;
            hub.entry(id, |e| e.asked.remove(&number));
        });
        return;
    };
    let code = match free {
        // Both sides ask at once (RFC 3261 section 14.2): the other tries again.
        Some(_) => StatusCode::RequestPending,
        None => StatusCode::CallTransactionDoesNotExist,
    };
    hub.count_refusal(code.code(), None, Some(source.ip()), &request.method.to_string());
    refused.respond(code, Vec::new(), None, dialog).await;
}

/// The remote target a request names (RFC 3261 section 12.2.2); the gate has put the source for what cannot be reached.
fn target_of(dialog: &InviteDialog, request: &Request) -> Option<Target> {
    // Behind a proxy the source is the proxy's, not the phone's: then only a recorded route vouches for a Contact.
    if !dialog.snapshot().route_set.is_empty() && request.record_route_headers().is_empty() {
        return None;
    }
    let mut uri = for_library(request.typed_contact_headers().ok()?.first()?.uri.clone());
    let named = uri.params.iter().any(|p| matches!(p, Param::Transport(_)));
    if let Some((transport, _)) = origin(request).filter(|(t, _)| t.is_stream() && !named) {
        uri.params.push(Param::Transport(transport.library()));
    }
    Some(Target { uri, contact: request.contact_header().ok()?.clone() })
}

/// From now on requests of ours go there.
pub(super) fn retarget(dialog: &InviteDialog, target: Option<Target>) {
    if let Some(target) = target {
        Dialog::Invite(dialog.clone()).set_remote_target(target.uri, Some(target.contact));
    }
}

/// SIP INFO: keys are taken from our answer on, even if the ACK is still under way.
async fn info(hub: &Arc<Hub>, id: DialogId, tx: Transaction) {
    if !hub.entry(id, |e| e.answered).unwrap_or(false) {
        return refuse_later(hub, tx, StatusCode::ServerInternalError, RefusedFor::Early);
    }
    let Ok(key) = key_of(&tx.original) else {
        let accept = vec![Header::Accept("application/dtmf-relay, application/dtmf".into())];
        return refuse(hub, tx, StatusCode::UnsupportedMediaType, accept).await;
    };
    let record = record_of(&tx.original);
    answer(tx, StatusCode::OK, Vec::new()).await;
    hub.tell(SipEvent::Info { dialog: id, key, record }).await;
}

/// A text inside a call: the gate has let only seats send one.
async fn message(hub: &Hub, id: DialogId, tx: Transaction) {
    let Some(seat) = hub.gate.calls(|c| c.seat(id)).filter(|s| s.proved) else {
        return refuse(hub, tx, StatusCode::Forbidden, Vec::new()).await;
    };
    let to_user = tx.original.uri.auth.as_ref().map(|a| a.user.clone()).unwrap_or_default();
    let text = String::from_utf8_lossy(&tx.original.body).into_owned();
    answer(tx, StatusCode::OK, Vec::new()).await;
    hub.tell_or_lose(SipEvent::Message { dialog: Some(id), seat: seat.user, to_user, text });
}

/// The key an INFO carries, if any; an error for a body of another kind.
fn key_of(request: &Request) -> Result<Option<char>, ()> {
    let kind = request.headers.iter().find_map(|h| match h {
        Header::ContentType(c) => Some(c.value().split(';').next().unwrap_or_default().trim().to_ascii_lowercase()),
        _ => None,
    });
    let body = String::from_utf8_lossy(&request.body);
    match kind.as_deref() {
        Some("application/dtmf-relay") => Ok(relay_key(&body)),
        Some("application/dtmf") => Ok(plain_key(&body)),
        _ if request.body.is_empty() => Ok(None),
        _ => Err(()),
    }
}

/// `Record: on` or `off`: the record key of desk phones.
fn record_of(request: &Request) -> Option<bool> {
    match request.header_value("Record")?.to_ascii_lowercase().as_str() {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

/// `Signal=5` of `application/dtmf-relay`.
fn relay_key(body: &str) -> Option<char> {
    body.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        name.trim().eq_ignore_ascii_case("signal").then(|| plain_key(value)).flatten()
    })
}

/// A key by itself; 10 and 11 stand for `*` and `#` in some phones.
fn plain_key(text: &str) -> Option<char> {
    match text.trim() {
        "10" => Some('*'),
        "11" => Some('#'),
        t => {
            let mut chars = t.chars();
            let key = chars.next()?.to_ascii_uppercase();
            (chars.next().is_none() && "0123456789*#ABCD".contains(key)).then_some(key)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_both_kinds_of_info() {
        assert_eq!(relay_key("Signal=5\r\nDuration=160\r\n"), Some('5'));
        assert_eq!(relay_key("Signal= # \r\nDuration=100"), Some('#'));
        assert_eq!(relay_key("signal=11"), Some('#'));
        assert_eq!(relay_key("Duration=100"), None);
        assert_eq!(plain_key(" a\r\n"), Some('A'));
        assert_eq!(plain_key("10"), Some('*'));
        assert_eq!(plain_key("55"), None);
        assert_eq!(plain_key("!"), None);
    }
}
