//! From the library's dialog states to our events: one small task per dialog.

use super::event::{DialogId, EndWhy, ReinviteId, SipEvent};
use super::gate::{lock, request_user, retry_after};
use super::hub::{Entry, Hub};
use super::wire::{NameAddr, Wire};
use super::{sanity, uri};
use rsipstack::dialog::dialog::{DialogState, DialogStateReceiver, TerminatedReason, TransactionHandle};
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::{Header, HeadersExt, Method, Request, StatusCode, StatusCodeKind};
use rsipstack::transaction::TransactionReceiver;
use rsipstack::transaction::key::TransactionRole;
use rsipstack::transaction::transaction::{Transaction, TransactionEvent, TransactionEventSender};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A body as text; `None` when there is none.
pub(super) fn text(body: &[u8]) -> Option<String> {
    (!body.is_empty()).then(|| String::from_utf8_lossy(body).into_owned())
}

/// Headers of an answer with a session description.
pub(super) fn sdp_headers() -> Vec<Header> {
    vec![Header::ContentType("application/sdp".into()), Header::Allow(sanity::ALLOW.into())]
}

/// Takes new transactions from the library until the agent stops.
pub(super) async fn serve(hub: Arc<Hub>, mut incoming: TransactionReceiver) {
    loop {
        let got = tokio::select! {
            () = hub.token.cancelled() => return,
            got = incoming.recv() => got,
        };
        let Some(tx) = got else { return };
        let hub = hub.clone();
        tokio::spawn(async move {
            if tx.original.method == Method::Invite && !has_tag(&tx.original) {
                new_call(hub, tx).await;
            } else {
                in_dialog(hub, tx).await;
            }
        });
    }
}

fn has_tag(request: &Request) -> bool {
    matches!(request.to_header().map(|to| to.tag()), Ok(Ok(Some(_))))
}

/// A request inside a dialog.
async fn in_dialog(hub: Arc<Hub>, mut tx: Transaction) {
    // A BYE can overtake the library's own bookkeeping of the 200 it follows.
    for wait_ms in [0u64, 10, 40, 100] {
        if wait_ms > 0 {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
        let Some(mut dialog) = hub.layer.match_dialog(&tx) else { continue };
        if let Err(error) = dialog.handle(&mut tx).await {
            tracing::debug!(%error, "a request inside a dialog failed");
        }
        return;
    }
    if tx.original.method == Method::Bye {
        // The gate knows the dialog, so it has just ended: a BYE that crossed ours, or came again.
        tx.reply(StatusCode::OK).await.ok();
    } else if tx.original.method != Method::Ack {
        super::counters::bump(&hub.gate.counters.no_dialog);
        tx.reply(StatusCode::CallTransactionDoesNotExist).await.ok();
    }
}

/// A call that comes in and was let in by the gate.
async fn new_call(hub: Arc<Hub>, mut tx: Transaction) {
    let ids = (|| {
        let call_id = tx.original.call_id_header().ok()?.value().to_string();
        let tag = tx.original.from_header().ok()?.tag().ok()??.value().to_string();
        Some((call_id, tag, tx.original.cseq_header().ok()?.seq().ok()?))
    })();
    let Some((call_id, tag, number)) = ids else {
        tx.reply(StatusCode::BadRequest).await.ok();
        return;
    };
    let Some(id) = hub.gate.calls(|c| c.adopt(&call_id, &tag, number)) else {
        // The same request by another road (RFC 3261 section 8.2.2.2).
        tx.reply(StatusCode::LoopDetected).await.ok();
        return;
    };
    match set_up(&hub, &mut tx, id, call_id).await {
        Ok(mut dialog) => {
            if let Err(error) = dialog.handle(&mut tx).await {
                tracing::debug!(%error, "an incoming call failed");
                hub.finish(id, EndWhy::Lost).await;
            }
        }
        Err(code) => {
            let wait = Header::RetryAfter(retry_after(rand::random()).into());
            tx.reply_with(StatusCode::from(code), vec![wait], None).await.ok();
            hub.gate.calls(|c| c.end(id, super::time::now()));
            // The transaction must live to take the ACK and repeat the answer.
            while tx.receive().await.is_some() {}
        }
    }
}

async fn set_up(hub: &Arc<Hub>, tx: &mut Transaction, id: DialogId, call_id: String) -> Result<InviteDialog, u16> {
    let source = source_of(tx).ok_or(400u16)?;
    let permit = hub.events.clone().try_reserve_owned().map_err(|_| 503u16)?;
    let bytes = tx.original.to_string().into_bytes();
    let wire = Wire::parse(&bytes).map_err(|_| 400u16)?;
    let from = wire.get("from").and_then(NameAddr::parse).ok_or(400u16)?;
    let to_user = request_user(&wire).unwrap_or_default();
    let from_user = uri::SipUri::parse(&from.uri).ok().and_then(|u| u.user).unwrap_or_default();
    let tcp = tx.connection.as_ref().is_some_and(|c| c.is_reliable());
    let user = if to_user.is_empty() { "zongji" } else { to_user.as_str() };
    let contact = contact(hub, user, source, tcp).ok_or(400u16)?;
    let (states, receiver) = hub.layer.new_dialog_state_channel();
    let dialog = hub.layer.get_or_create_server_invite(tx, states, None, Some(contact)).map_err(|_| 400u16)?;
    hub.gate.calls(|c| c.set_tag(id, &dialog.id().local_tag));
    insert(hub, id, &dialog, Some(tx.tu_sender.clone()));
    super::counters::bump(&hub.gate.counters.calls_in);
    permit.send(SipEvent::Invite {
        dialog: id,
        from_user,
        from_display: from.display,
        to_user,
        source,
        sdp: text(&tx.original.body),
        call_id,
    });
    tokio::spawn(watch(hub.clone(), id, dialog.clone(), receiver));
    Ok(dialog)
}

/// Puts a dialog on the agent's list.
pub(super) fn insert(hub: &Hub, id: DialogId, dialog: &InviteDialog, respond: Option<TransactionEventSender>) {
    let entry = Entry {
        dialog: dialog.clone(),
        respond,
        answered: false,
        over: false,
        asking: false,
        asked: HashMap::new(),
        acked: None,
    };
    lock(&hub.entries).insert(id, entry);
}

/// Contact of ours for `user` as `peer` should see it.
pub(super) fn contact(hub: &Hub, user: &str, peer: SocketAddr, tcp: bool) -> Option<rsipstack::sip::Uri> {
    let at = hub.address_for(peer);
    let transport = if tcp { ";transport=tcp" } else { "" };
    format!("sip:{}@{at}{transport}", uri::escape_user(user)).as_str().try_into().ok()
}

/// Where a request came from: the gate wrote it into the top Via.
fn source_of(tx: &Transaction) -> Option<SocketAddr> {
    let (_, at) = rsipstack::transport::SipConnection::parse_target_from_via(tx.original.via_header().ok()?).ok()?;
    at.try_into().ok()
}

/// Follows one dialog to its end.
pub(super) async fn watch(hub: Arc<Hub>, id: DialogId, dialog: InviteDialog, mut states: DialogStateReceiver) {
    while let Some(state) = states.recv().await {
        match state {
            DialogState::Early(_, response) => early(&hub, id, &dialog, &response).await,
            DialogState::Confirmed(_, response) => confirmed(&hub, id, &dialog, &response).await,
            DialogState::Updated(_, request, handle) => updated(&hub, id, request, handle).await,
            DialogState::Info(_, request, handle) => info(&hub, id, &request, handle).await,
            DialogState::Options(_, _, handle) => {
                let allow = vec![Header::Allow(sanity::ALLOW.into())];
                handle.respond(StatusCode::OK, Some(allow), None).await.ok();
            }
            DialogState::Publish(_, _, handle)
            | DialogState::Notify(_, _, handle)
            | DialogState::Refer(_, _, handle)
            | DialogState::Message(_, _, handle) => {
                handle.reply(StatusCode::MethodNotAllowed).await.ok();
            }
            DialogState::Terminated(_, reason) => {
                terminated(&hub, id, &dialog, reason).await;
                break;
            }
            DialogState::Calling(_) | DialogState::Trying(_) | DialogState::WaitAck(..) => {}
        }
    }
    hub.forget(id);
}

async fn early(hub: &Hub, id: DialogId, dialog: &InviteDialog, response: &rsipstack::sip::Response) {
    let tell = dialog.role() == TransactionRole::Client && hub.entry(id, |e| !e.answered && !e.over).unwrap_or(false);
    if tell {
        let code = response.status_code.code();
        hub.tell(SipEvent::Progress { dialog: id, code, sdp: text(&response.body) }).await;
    }
}

async fn confirmed(hub: &Arc<Hub>, id: DialogId, dialog: &InviteDialog, response: &rsipstack::sip::Response) {
    if dialog.role() == TransactionRole::Client {
        let news = hub.entry(id, |e| (!std::mem::replace(&mut e.answered, true), e.over));
        match news {
            Some((true, false)) => {
                hub.tell(SipEvent::Answered { dialog: id, sdp: text(&response.body) }).await;
                return;
            }
            // The answer crossed our CANCEL (RFC 3261, 9.1): nobody waits for this call any more, so it is ended.
            Some((true, true)) => {
                let (hub, dialog) = (hub.clone(), dialog.clone());
                tokio::spawn(async move {
                    if let Err(error) = dialog.bye().await {
                        tracing::debug!(%error, "a call answered too late could not be ended");
                    }
                    hub.forget(id);
                });
                return;
            }
            _ => {}
        }
    }
    // The library reports this state after every INFO too: an ACK is news once per CSeq.
    let Some(ack) = dialog.last_remote_ack() else { return };
    let number = ack.cseq_header().ok().and_then(|c| c.seq().ok());
    let news = hub.entry(id, |e| {
        let initial = e.acked.is_none() && dialog.role() == TransactionRole::Server;
        let new = !e.over && e.acked != number;
        e.acked = number;
        new && (initial || !ack.body.is_empty())
    });
    if news == Some(true) {
        hub.tell(SipEvent::Ack { dialog: id, sdp: text(&ack.body) }).await;
    }
}

async fn updated(hub: &Hub, id: DialogId, request: Request, handle: TransactionHandle) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    if request.method == Method::Update && request.body.is_empty() {
        handle.respond(StatusCode::OK, None, None).await.ok(); // a keep-alive (RFC 4028)
        return;
    }
    let number = NEXT.fetch_add(1, Relaxed);
    let free = hub.entry(id, |e| {
        let free = !e.over && !e.asking && e.asked.is_empty();
        if free {
            e.asked.insert(number, handle.clone());
        }
        free
    });
    match free {
        Some(true) => {
            let sdp = text(&request.body);
            hub.tell(SipEvent::Reinvite { dialog: id, request: ReinviteId(number), sdp }).await;
        }
        // Both sides ask at once (RFC 3261 section 14.2): the other tries again.
        Some(false) => {
            handle.reply(StatusCode::RequestPending).await.ok();
        }
        None => {
            handle.reply(StatusCode::CallTransactionDoesNotExist).await.ok();
        }
    }
}

async fn info(hub: &Hub, id: DialogId, request: &Request, handle: TransactionHandle) {
    let kind = request.headers.iter().find_map(|h| match h {
        Header::ContentType(c) => Some(c.value().split(';').next().unwrap_or_default().trim().to_ascii_lowercase()),
        _ => None,
    });
    let body = String::from_utf8_lossy(&request.body);
    let key = match kind.as_deref() {
        Some("application/dtmf-relay") => relay_key(&body),
        Some("application/dtmf") => plain_key(&body),
        _ if request.body.is_empty() => None,
        _ => {
            let accept = vec![Header::Accept("application/dtmf-relay, application/dtmf".into())];
            handle.respond(StatusCode::UnsupportedMediaType, Some(accept), None).await.ok();
            return;
        }
    };
    handle.respond(StatusCode::OK, None, None).await.ok();
    if hub.entry(id, |e| !e.over).unwrap_or(false) {
        hub.tell(SipEvent::Info { dialog: id, key }).await;
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

async fn terminated(hub: &Hub, id: DialogId, dialog: &InviteDialog, reason: TerminatedReason) {
    let server = dialog.role() == TransactionRole::Server;
    let (answered, respond) = hub.entry(id, |e| (e.answered, e.respond.clone())).unwrap_or((true, None));
    let remote_bye = matches!((server, &reason), (true, TerminatedReason::UacBye) | (false, TerminatedReason::UasBye));
    if server && remote_bye && !answered {
        // A BYE before our answer: the INVITE still wants one (RFC 3261 section 15.1.2).
        let code = StatusCode::RequestTerminated;
        if let (Some(respond), Some(response)) = (respond, response_to(hub, dialog, code, Vec::new())) {
            respond.send(TransactionEvent::Respond(response)).ok();
        }
    }
    if !hub.close(id) {
        return; // told already: it was we who ended it
    }
    let failed = |code: StatusCode| {
        let reason = code.text().to_string();
        SipEvent::Failed { dialog: id, code: code.code(), reason }
    };
    let ended = |why| SipEvent::Ended { dialog: id, why };
    let event = match reason {
        _ if remote_bye => SipEvent::Bye { dialog: id },
        TerminatedReason::UacCancel if server => SipEvent::Cancelled { dialog: id },
        TerminatedReason::Timeout => ended(EndWhy::NoAck),
        TerminatedReason::UasOther(code) | TerminatedReason::ProxyError(code) if !answered => failed(code),
        TerminatedReason::ProxyAuthRequired if !answered => failed(StatusCode::Unauthorized),
        TerminatedReason::UasBusy if !server => failed(StatusCode::BusyHere),
        TerminatedReason::UasDecline if !server => failed(StatusCode::Decline),
        _ => ended(EndWhy::Lost),
    };
    hub.tell(event).await;
}

/// A response to a dialog's first INVITE that the library's own calls cannot make.
pub(super) fn response_to(
    hub: &Hub,
    dialog: &InviteDialog,
    code: StatusCode,
    headers: Vec<Header>,
) -> Option<rsipstack::sip::Response> {
    debug_assert!(code.kind() != StatusCodeKind::Provisional);
    let mut request = dialog.initial_request();
    let to = request.to_header().ok()?.clone();
    if to.tag().ok()?.is_none() {
        request.headers.unique_push(to.with_tag(dialog.id().local_tag.into()).into());
    }
    let mut response = hub.endpoint.make_response(&request, code, None);
    response.headers.extend(headers);
    Some(response)
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
