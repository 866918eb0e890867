//! From the library's dialog states to our events: one small task per dialog.

use super::event::{DialogId, EndWhy, SipEvent};
use super::gate::{lock, retry_after};
use super::hub::{Entry, Hub, Invite, Reply};
use super::identity::Identity;
use super::transport::Transport;
use super::wire::{NameAddr, tag_of};
use super::{inside, refer, sanity, timed, uri};
use rsipstack::dialog::dialog::{Dialog, DialogState, DialogStateReceiver, TerminatedReason};
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::{Header, HeadersExt, Method, Request, StatusCode, StatusCodeKind};
use rsipstack::transaction::TransactionReceiver;
use rsipstack::transaction::key::TransactionRole;
use rsipstack::transaction::transaction::Transaction;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A body as text; `None` when there is none.
pub(super) fn text(body: &[u8]) -> Option<String> {
    (!body.is_empty()).then(|| String::from_utf8_lossy(body).into_owned())
}

/// Headers of an answer with a session description.
pub(super) fn sdp_headers() -> Vec<Header> {
    let mut headers = vec![Header::ContentType("application/sdp".into())];
    headers.extend(capabilities());
    headers
}

/// What we can do, in every answer that makes or changes a session.
pub(super) fn capabilities() -> [Header; 2] {
    [Header::Allow(sanity::ALLOW.into()), Header::Supported(sanity::SUPPORTED.into())]
}

/// The same in an offer or refresh of ours inside a call. No 100rel: a re-INVITE's provisional responses say nothing that
/// must arrive, so the other side is not invited to wait for their PRACKs.
pub(super) fn changing() -> [Header; 2] {
    [Header::Allow(sanity::ALLOW.into()), Header::Supported(sanity::SUPPORTED_INSIDE.into())]
}

/// Takes new transactions from the library until the agent stops.
pub(super) async fn serve(hub: Arc<Hub>, mut incoming: TransactionReceiver) {
    loop {
        let got = tokio::select! {
            () = hub.token.cancelled() => return,
            got = incoming.recv() => got,
        };
        let Some(tx) = got else { return };
        if tx.original.method == Method::Invite && !has_tag(&tx.original) {
            tokio::spawn(new_call(hub.clone(), tx));
        } else {
            inside::sort(&hub, tx);
        }
    }
}

fn has_tag(request: &Request) -> bool {
    request.to_header().is_ok_and(|to| tag_of(to.value()).is_some())
}

/// A call that comes in and was let in by the gate.
async fn new_call(hub: Arc<Hub>, mut tx: Transaction) {
    let ids = (|| {
        let call_id = tx.original.call_id_header().ok()?.value().to_string();
        let tag = tag_of(tx.original.from_header().ok()?.value())?.to_string();
        Some((call_id, tag, tx.original.cseq_header().ok()?.seq().ok()?))
    })();
    let Some((call_id, tag, number)) = ids else {
        inside::refuse(&hub, tx, StatusCode::BadRequest, Vec::new()).await;
        return;
    };
    let Some((id, dialled, identity)) = hub.gate.calls(|c| c.adopt(&call_id, &tag, number)) else {
        // The same request by another road (RFC 3261 section 8.2.2.2).
        inside::refuse(&hub, tx, StatusCode::LoopDetected, Vec::new()).await;
        return;
    };
    match set_up(&hub, &mut tx, id, call_id, (dialled, identity)).await {
        Ok(mut dialog) => {
            if let Err(error) = dialog.handle(&mut tx).await {
                tracing::debug!(%error, "an incoming call failed");
                hub.finish(id, EndWhy::Lost).await;
                hub.forget(id);
            }
        }
        Err(code) => {
            let wait = Header::RetryAfter(retry_after(rand::random()).into());
            hub.gate.calls(|c| c.end(id, super::time::now()));
            inside::refuse(&hub, tx, StatusCode::from(code), vec![wait]).await;
        }
    }
}

async fn set_up(
    hub: &Arc<Hub>,
    tx: &mut Transaction,
    id: DialogId,
    call_id: String,
    (to_user, identity): (String, Identity),
) -> Result<InviteDialog, u16> {
    let (transport, source) = origin(&tx.original).ok_or(400u16)?;
    let replaces = match tx.original.header_value("Replaces") {
        // RFC 3891 section 3: it must be a call of ours.
        Some(named) => Some(refer::replaced(hub, &named).ok_or(481u16)?),
        None => None,
    };
    let permit = hub.events.clone().try_reserve_owned().map_err(|_| 503u16)?;
    let from = tx.original.from_header().ok().and_then(|f| NameAddr::parse(f.value())).ok_or(400u16)?;
    let from_user = uri::SipUri::parse(&from.uri).ok().and_then(|u| u.user).unwrap_or_default();
    let user = if to_user.is_empty() { "zongji" } else { to_user.as_str() };
    let contact = contact(hub, user, source, transport).ok_or(400u16)?;
    let (states, receiver) = hub.layer.new_dialog_state_channel();
    let dialog = hub.layer.get_or_create_server_invite(tx, states, None, Some(contact)).map_err(|_| 400u16)?;
    aim(&dialog, tx.original.contact_header().ok().map(|c| c.value()));
    hub.gate.calls(|c| c.set_tag(id, &dialog.id().local_tag));
    let invite = Invite { key: tx.key.clone(), sender: tx.tu_sender.clone() };
    let inbox = insert(hub, id, &dialog, Some(invite));
    hub.entry(id, |e| e.timed.begin(&tx.original));
    super::counters::bump(&hub.gate.counters.calls_in);
    permit.send(SipEvent::Invite {
        dialog: id,
        from_user,
        from_display: from.display,
        to_user,
        source,
        transport,
        identity: Box::new(identity),
        sdp: text(&tx.original.body),
        call_id,
        seat: hub.gate.calls(|c| c.seat(id)).map(|s| s.user),
        replaces,
        hops: tx
            .original
            .header_value("Max-Forwards")
            .and_then(|v| v.parse::<u8>().ok())
            .unwrap_or(70)
            .saturating_sub(1),
    });
    let number = tx.original.cseq_header().ok().and_then(|c| c.seq().ok()).unwrap_or_default();
    tokio::spawn(watch(hub.clone(), id, dialog.clone(), receiver, inbox, number));
    Ok(dialog)
}

/// Puts a dialog on the agent's list; what it returns takes the requests that come inside it.
pub(super) fn insert(
    hub: &Hub,
    id: DialogId,
    dialog: &InviteDialog,
    invite: Option<Invite>,
) -> mpsc::Receiver<Box<Transaction>> {
    let (inbox, requests) = mpsc::channel(inside::INBOX);
    let entry = Entry {
        dialog: dialog.clone(),
        invite,
        inbox,
        answered: false,
        over: false,
        asking: false,
        asked: HashMap::new(),
        acked: None,
        timed: timed::Timed::default(),
        inviting: None,
        again: false,
        referring: None,
        notices: std::sync::Arc::default(),
    };
    lock(&hub.entries).insert(id, entry);
    requests
}

/// Contact of ours for `user` as `peer` should see it.
pub(super) fn contact(hub: &Hub, user: &str, peer: SocketAddr, transport: Transport) -> Option<rsipstack::sip::Uri> {
    let at = hub.address_by(peer, transport);
    format!("sip:{}@{at}{}", uri::escape_user(user), transport.param()).as_str().try_into().ok().map(uri::for_library)
}

/// Where requests of ours go: the other side's first Contact, as the library wants it. Once for each dialog, and only
/// where the two differ.
fn aim(dialog: &InviteDialog, contact: Option<&str>) {
    if !contact.is_some_and(|c| c.contains('%')) {
        return;
    }
    let now = dialog.snapshot();
    Dialog::Invite(dialog.clone()).set_remote_target(uri::for_library(now.remote_uri), now.remote_contact);
}

/// How and from where a request came: the gate wrote it into the top Via.
pub(super) fn origin(request: &Request) -> Option<(Transport, SocketAddr)> {
    let (transport, at) =
        rsipstack::transport::SipConnection::parse_target_from_via(request.via_header().ok()?).ok()?;
    Some((Transport::from_library(transport)?, at.try_into().ok()?))
}

/// Follows one dialog to its end: what the library tells of it, and the requests inside it (`number` is the CSeq of
/// the last one so far).
pub(super) async fn watch(
    hub: Arc<Hub>,
    id: DialogId,
    dialog: InviteDialog,
    mut states: DialogStateReceiver,
    mut requests: mpsc::Receiver<Box<Transaction>>,
    mut number: u32,
) {
    let mut unconfirmed = None;
    let Some(wake) = hub.entry(id, |e| e.timed.wake.clone()) else { return };
    loop {
        let timed = hub.entry(id, |e| e.timed.due()).flatten().map(timed::instant);
        let due = unconfirmed.into_iter().chain(timed).min();
        tokio::select! {
            biased;
            state = states.recv() => {
                match &state {
                    Some(DialogState::WaitAck(..)) => unconfirmed = Some(ack_limit(&hub)),
                    Some(DialogState::Confirmed(..)) => unconfirmed = None,
                    _ => {}
                }
                if again(&hub, id, &dialog, &state) {
                    return;
                }
                // Boxed, as what follows is: a dialog waits nearly all its life, and then has no use for their room.
                if !Box::pin(state_changed(&hub, id, &dialog, state)).await {
                    break;
                }
            }
            request = requests.recv() => match request {
                Some(tx) => Box::pin(inside::take(&hub, id, &dialog, &mut number, *tx)).await,
                None => break, // forgotten
            },
            () = wake.notified() => {} // there is another time to wait for
            () = tokio::time::sleep_until(timed.unwrap_or_else(tokio::time::Instant::now)), if timed.is_some() && due == timed => {
                Box::pin(timed::overdue(&hub, id, &dialog)).await;
            }
            () = tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => {
                // The library waits for an ACK only after a 200 that it could send.
                hub.finish(id, EndWhy::NoAck).await;
                tokio::spawn(async move { dialog.bye().await.ok() });
                break;
            }
        }
    }
    hub.forget(id);
}

/// Whether this is a 422 after which the INVITE is sent once more (RFC 4028 section 7.3).
fn again(hub: &Hub, id: DialogId, dialog: &InviteDialog, state: &Option<DialogState>) -> bool {
    let refused = matches!(state, Some(DialogState::Terminated(_, TerminatedReason::UasOther(c))) if c.code() == 422);
    // It may have been sent again already: then the call is another dialog's by now.
    let tag = dialog.id().local_tag;
    refused && hub.entry(id, |e| !e.over && (e.again || e.dialog.id().local_tag != tag)).unwrap_or(false)
}

/// A little longer than the library itself waits for an ACK.
fn ack_limit(hub: &Hub) -> tokio::time::Instant {
    tokio::time::Instant::now() + hub.linger()
}

/// Passes on what the library tells; false at the dialog's end.
async fn state_changed(hub: &Arc<Hub>, id: DialogId, dialog: &InviteDialog, state: Option<DialogState>) -> bool {
    let over = || hub.entry(id, |e| e.over).unwrap_or(false);
    if matches!(state, Some(DialogState::Trying(_) | DialogState::Early(..))) && over() {
        timed::cancel(hub, id, dialog);
    }
    match state {
        Some(DialogState::Early(_, response)) => early(hub, id, dialog, &response).await,
        Some(DialogState::Confirmed(_, response)) => confirmed(hub, id, dialog, &response).await,
        Some(DialogState::Updated(_, request, handle)) => {
            inside::asked(hub, id, dialog, request, Reply::Library(handle)).await;
        }
        Some(
            DialogState::Info(_, _, handle)
            | DialogState::Options(_, _, handle)
            | DialogState::Publish(_, _, handle)
            | DialogState::Notify(_, _, handle)
            | DialogState::Refer(_, _, handle)
            | DialogState::Message(_, _, handle),
        ) => {
            handle.reply(StatusCode::MethodNotAllowed).await.ok();
        }
        Some(DialogState::Terminated(_, reason)) => {
            terminated(hub, id, dialog, reason).await;
            return false;
        }
        Some(DialogState::Calling(_) | DialogState::Trying(_) | DialogState::WaitAck(..)) => {}
        None => return false,
    }
    true
}

async fn early(hub: &Arc<Hub>, id: DialogId, dialog: &InviteDialog, response: &rsipstack::sip::Response) {
    if dialog.role() == TransactionRole::Server {
        return timed::provisional_sent(hub, id, response);
    }
    if !timed::provisional_came(hub, id, dialog, response) {
        return; // a repeated one, or one out of order
    }
    let tell = hub.entry(id, |e| !e.answered && !e.over).unwrap_or(false);
    if tell {
        let code = response.status_code.code();
        hub.tell(SipEvent::Progress { dialog: id, code, sdp: text(&response.body) }).await;
    }
}

async fn confirmed(hub: &Arc<Hub>, id: DialogId, dialog: &InviteDialog, response: &rsipstack::sip::Response) {
    if dialog.role() == TransactionRole::Client {
        let news = hub.entry(id, |e| (!std::mem::replace(&mut e.answered, true), e.over));
        if matches!(news, Some((true, _))) {
            aim(dialog, response.contact_header().ok().map(|c| c.value()));
            hub.entry(id, |e| e.timed.answered_by(response));
            hub.gate.calls(|c| c.confirm(id));
        }
        match news {
            Some((true, false)) => {
                let before = || hub.entry(id, |e| e.timed.heard_before(response)).flatten();
                let sdp = text(&response.body).or_else(before);
                hub.tell(SipEvent::Answered { dialog: id, sdp }).await;
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

async fn terminated(hub: &Hub, id: DialogId, dialog: &InviteDialog, reason: TerminatedReason) {
    let server = dialog.role() == TransactionRole::Server;
    let (answered, invite) = hub.entry(id, |e| (e.answered, e.invite.clone())).unwrap_or((true, None));
    let remote_bye = matches!((server, &reason), (true, TerminatedReason::UacBye) | (false, TerminatedReason::UasBye));
    if server && remote_bye && !answered {
        // A BYE before our answer: the INVITE still wants one (RFC 3261 section 15.1.2).
        let code = StatusCode::RequestTerminated;
        if let (Some(invite), Some(response)) = (invite, response_to(hub, dialog, code, Vec::new())) {
            invite.respond(response);
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
