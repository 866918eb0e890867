//! Transfers: REFER both ways (RFC 3515, RFC 6665 for what follows it) and Replaces (RFC 3891).

use super::agent::outcome;
use super::event::{DialogId, ReinviteId, SipError, SipEvent};
use super::hub::{Asked, Hub, Reply};
use super::inside::{answer, refuse};
use super::uri::{SipUri, unescape};
use super::wire::NameAddr;
use rsipstack::dialog::invite_dialog::InviteDialog;
use rsipstack::sip::{Header, HeadersExt, StatusCode};
use rsipstack::transaction::transaction::Transaction;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc;

/// Longest wait for what becomes of a REFER of ours.
const LONGEST: Duration = Duration::from_secs(60);
/// Names of REFERs: far from those of re-INVITEs.
static NEXT: AtomicU64 = AtomicU64::new(1 << 48);

/// `call-id;to-tag=a;from-tag=b`: Call-ID and the tag of the side that is addressed.
fn cut(value: &str) -> Option<(String, String, String)> {
    let mut parts = value.split(';').map(str::trim);
    let call_id = parts.next()?.to_string();
    let (mut to, mut from) = (None, None);
    for part in parts {
        match part.split_once('=') {
            Some((name, tag)) if name.eq_ignore_ascii_case("to-tag") => to = Some(tag.to_string()),
            Some((name, tag)) if name.eq_ignore_ascii_case("from-tag") => from = Some(tag.to_string()),
            _ => {}
        }
    }
    Some((call_id, to?, from?))
}

/// The live dialog of ours that a Replaces value names; both tags must fit.
pub(super) fn replaced(hub: &Hub, value: &str) -> Option<DialogId> {
    let (call_id, to_tag, from_tag) = cut(value)?;
    let id = hub.gate.calls(|c| c.find(&call_id, &to_tag))?;
    let fits = hub.entry(id, |e| !e.over && e.dialog.id().remote_tag == from_tag)?;
    fits.then_some(id)
}

/// The Replaces value by which the other side of a dialog knows it.
pub(super) fn replaces(hub: &Hub, d: DialogId) -> Option<String> {
    let id = hub.entry(d, |e| e.dialog.id())?;
    Some(format!("{};to-tag={};from-tag={}", id.call_id, id.remote_tag, id.local_tag))
}

/// Whom a Refer-To names: the user part, and the Replaces in its headers.
fn referred_to(value: &str) -> Option<(String, Option<String>)> {
    let uri = SipUri::parse(&NameAddr::parse(value)?.uri).ok()?;
    let header = |text: &str| {
        let (name, value) = text.split_once('=')?;
        name.eq_ignore_ascii_case("replaces").then(|| unescape(value)).flatten()
    };
    let replaces = uri.headers.as_deref().and_then(|h| h.split('&').find_map(header));
    Some((uri.user?, replaces))
}

/// A REFER inside a seat's call; the gate has let no other pass.
pub(super) async fn came(hub: &Arc<Hub>, id: DialogId, dialog: &InviteDialog, tx: Transaction) {
    let Some(seat) = hub.gate.calls(|c| c.seat(id)).filter(|s| s.proved) else {
        return refuse(hub, tx, StatusCode::Forbidden, Vec::new()).await;
    };
    let named = tx.original.header_value("Refer-To").and_then(|v| referred_to(&v));
    let Some((to_user, attended)) = named.filter(|_| dialog.state().is_confirmed()) else {
        return refuse(hub, tx, StatusCode::BadRequest, Vec::new()).await;
    };
    let replaces = match attended {
        None => None,
        Some(value) => match replaced(hub, &value) {
            Some(other) if other != id => Some(other),
            _ => return refuse(hub, tx, StatusCode::CallTransactionDoesNotExist, Vec::new()).await,
        },
    };
    let number = NEXT.fetch_add(1, Relaxed);
    let timer = super::session_timer::Asked::default();
    let source = super::dialogs::origin(&tx.original).map(|(_, at)| at.ip());
    let mut asked = Some(Asked { reply: Reply::Own(Box::new(tx)), target: None, timer, source });
    hub.entry(id, |e| {
        if !e.over
            && e.asked.is_empty()
            && let Some(asked) = asked.take()
        {
            e.asked.insert(number, asked);
        }
    });
    match asked {
        None => {
            let (request, seat) = (ReinviteId(number), seat.user);
            hub.tell(SipEvent::Refer { dialog: id, request, seat, to_user, replaces }).await;
        }
        Some(busy) => {
            hub.count_refusal(491, None, busy.source, "REFER");
            busy.reply.respond(StatusCode::RequestPending, Vec::new(), None, dialog).await;
        }
    }
}

/// Tells the sender of a REFER how far it is.
pub(super) async fn tell(hub: Arc<Hub>, d: DialogId, code: u16) {
    let known = hub.entry(d, |e| (!e.over).then(|| (e.dialog.clone(), e.notices.clone()))).flatten();
    let Some((dialog, turn)) = known else { return };
    let state = if code < 200 { "active;expires=60" } else { "terminated;reason=noresource" };
    let headers = vec![
        Header::Event("refer".into()),
        Header::SubscriptionState(state.into()),
        Header::ContentType("message/sipfrag;version=2.0".into()),
    ];
    let body = format!("SIP/2.0 {code} {}\r\n", StatusCode::from(code).text());
    let limit = hub.gate.settings.t1 * 70;
    let _in_order = turn.lock().await;
    let sent = tokio::time::timeout(limit, dialog.notify(Some(headers), Some(body.into_bytes()))).await;
    if let Err(error) = outcome(sent) {
        tracing::debug!(%error, "a seat was not told of its transfer");
    }
}

/// A NOTIFY: of a REFER of ours, or of nothing we asked for (489, RFC 6665 section 8.2.1).
pub(super) async fn notified(hub: &Hub, id: DialogId, tx: Transaction) {
    let event = tx.original.header_value("Event").unwrap_or_default();
    let refer = event.split(';').next().is_some_and(|e| e.trim().eq_ignore_ascii_case("refer"));
    let Some(waiting) = hub.entry(id, |e| e.referring.clone()).flatten().filter(|_| refer) else {
        return refuse(hub, tx, StatusCode::from(489), Vec::new()).await;
    };
    let body = String::from_utf8_lossy(&tx.original.body).into_owned();
    let over = tx.original.header_value("Subscription-State").is_some_and(|s| s.trim_start().starts_with("terminated"));
    answer(tx, StatusCode::OK, Vec::new()).await;
    let code = body.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse::<u16>().ok());
    // An end without a status is no success that anybody has seen.
    if let Some(code) = code.or(over.then_some(500)) {
        waiting.try_send(code).ok();
    }
}

/// How long one waits for what becomes of a REFER.
#[derive(Debug, Clone, Copy)]
pub struct ReferLimits {
    /// For an answer to it, and then for the first NOTIFY.
    pub silent: Duration,
    /// For the final status.
    pub whole: Duration,
}

impl Default for ReferLimits {
    fn default() -> Self {
        ReferLimits { silent: LONGEST, whole: LONGEST }
    }
}

/// Sends a REFER and waits for its final NOTIFY: its status, 200 and above.
pub(super) async fn send(
    hub: &Arc<Hub>,
    d: DialogId,
    target: &str,
    limits: ReferLimits,
    mut progress: impl FnMut(u16),
) -> Result<u16, SipError> {
    SipUri::parse(target).map_err(|_| SipError::BadAddress(target.into(), "not a SIP address"))?;
    let (news, mut heard) = mpsc::channel(8);
    let begin = |e: &mut super::hub::Entry| {
        if e.over {
            return Err(SipError::Gone);
        }
        if e.referring.is_some() {
            return Err(SipError::Refused(491)); // one at a time
        }
        e.referring = Some(news);
        Ok(e.dialog.clone())
    };
    let dialog = hub.entry(d, begin).unwrap_or(Err(SipError::Gone))?;
    let limit = (hub.gate.settings.t1 * 70).min(limits.silent);
    let sent = tokio::time::timeout(limit, dialog.refer(format!("<{target}>").as_str(), None, None)).await;
    let ended = match outcome(sent) {
        Err(SipError::Gone) => Err(SipError::Timeout), // the request got no answer
        Err(error) => Err(error),
        Ok(_) => {
            progress(202);
            let end = tokio::time::Instant::now() + limits.whole;
            let mut due = end.min(tokio::time::Instant::now() + limits.silent);
            loop {
                match tokio::time::timeout_at(due, heard.recv()).await {
                    Err(_) => break Err(SipError::Timeout),
                    Ok(None) => break Err(SipError::Gone),
                    Ok(Some(code @ 100..=199)) => progress(code),
                    Ok(Some(code)) => break Ok(code),
                }
                due = end;
            }
        }
    };
    hub.entry(d, |e| e.referring = None);
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refer_to_names_a_user_and_perhaps_a_dialog() {
        assert_eq!(referred_to("<sip:8002@h>"), Some(("8002".into(), None)));
        let attended = "<sip:8002@h?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2&X=y>";
        let (user, replaces) = referred_to(attended).unwrap();
        assert_eq!((user.as_str(), replaces.as_deref()), ("8002", Some("a@b;to-tag=1;from-tag=2")));
        assert_eq!(cut("a@b;to-tag=1;from-tag=2;early-only"), Some(("a@b".into(), "1".into(), "2".into())));
        assert_eq!((cut("a@b;to-tag=1"), cut("")), (None, None));
        assert_eq!((referred_to("<sip:h>"), referred_to("nonsense<")), (None, None));
    }
}
