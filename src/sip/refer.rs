//! Transfers: REFER both ways (RFC 3515, RFC 6665 for what follows it) and Replaces (RFC 3891).

use super::asking::{self, ask_within, outcome};
use super::compose::{Content, phrase};
use super::dialog::Stage;
use super::event::{DialogId, ReinviteId, SipError, SipEvent};
use super::hub::{Asked, Hub};
use super::inside::Request;
use super::uri::{SipUri, unescape};
use super::wire::NameAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::mpsc;

/// Longest wait for what becomes of a REFER of ours.
const LONGEST: Duration = Duration::from_secs(60);
/// In place of a status: the call is over.
pub(super) const OVER: u16 = 0;
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
    let fits = hub.entry(id, |e| !e.over && e.dialog.theirs == from_tag)?;
    fits.then_some(id)
}

/// The Replaces value by which the other side of a dialog knows it.
pub(super) fn replaces(hub: &Hub, d: DialogId) -> Option<String> {
    hub.entry(d, |e| format!("{};to-tag={};from-tag={}", e.dialog.call_id, e.dialog.theirs, e.dialog.ours))
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
pub(super) fn came(hub: &Arc<Hub>, asks: &Request<'_>) {
    let id = asks.id;
    let Some(seat) = hub.gate.calls(|c| c.seat(id)).filter(|s| s.proved) else {
        return asks.refuse(hub, 403, None, Content::default());
    };
    let confirmed = hub.entry(id, |e| e.dialog.stage == Stage::Confirmed) == Some(true);
    let Some((to_user, attended)) = asks.wire.get("refer-to").and_then(referred_to).filter(|_| confirmed) else {
        return asks.refuse(hub, 400, None, Content::default());
    };
    let replaces = match attended {
        None => None,
        Some(value) => match replaced(hub, &value) {
            Some(other) if other != id => Some(other),
            _ => return asks.refuse(hub, 481, None, Content::default()),
        },
    };
    let number = NEXT.fetch_add(1, Relaxed);
    let timer = super::session_timer::Asked::default();
    let source = asks.hop.at.ip();
    let free = hub.entry(id, |e| {
        let free = e.asked.is_empty();
        if free {
            e.asked.insert(number, Asked { key: asks.key.clone(), invite: None, target: None, timer, source });
        }
        free
    });
    if free != Some(true) {
        return asks.refuse(hub, 491, None, Content::default());
    }
    hub.tell(SipEvent::Refer { dialog: id, request: ReinviteId(number), seat: seat.user, to_user, replaces });
}

/// Tells the sender of a REFER how far it is.
pub(super) async fn tell(hub: Arc<Hub>, d: DialogId, code: u16) {
    let Some(turn) = hub.entry(d, |e| (!e.over).then(|| e.notices.clone())).flatten() else { return };
    let state = if code < 200 { "active;expires=60" } else { "terminated;reason=noresource" };
    let content = Content::default()
        .with("Event", "refer")
        .with("Subscription-State", state)
        .body("message/sipfrag;version=2.0", format!("SIP/2.0 {code} {}\r\n", phrase(code)));
    let _in_order = turn.lock().await;
    if let Err(error) = outcome(asking::ask(&hub, d, "NOTIFY", content).await) {
        tracing::debug!(%error, "a seat was not told of its transfer");
    }
}

/// A NOTIFY: of a REFER of ours, or of nothing we asked for (489, RFC 6665 section 8.2.1).
pub(super) fn notified(hub: &Hub, asks: &Request<'_>) {
    let event = asks.wire.get("event").unwrap_or_default();
    let refer = event.split(';').next().is_some_and(|e| e.trim().eq_ignore_ascii_case("refer"));
    let Some(waiting) = hub.entry(asks.id, |e| e.referring.clone()).flatten().filter(|_| refer) else {
        return asks.refuse(hub, 489, None, Content::default());
    };
    let body = asks.wire.text().unwrap_or_default();
    let over = asks.wire.get("subscription-state").is_some_and(|s| s.trim_start().starts_with("terminated"));
    asks.accept(hub, Content::default());
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
        Ok(())
    };
    hub.entry(d, begin).unwrap_or(Err(SipError::Gone))?;
    let limit = (hub.gate.settings.t1 * 70).min(limits.silent);
    let content = Content::default().with("Refer-To", format!("<{target}>"));
    let ended = match outcome(ask_within(hub, d, "REFER", content, limit).await) {
        Err(error) => Err(error),
        Ok(_) => {
            progress(202);
            let end = tokio::time::Instant::now() + limits.whole;
            let mut due = end.min(tokio::time::Instant::now() + limits.silent);
            loop {
                match tokio::time::timeout_at(due, heard.recv()).await {
                    Err(_) => break Err(SipError::Timeout),
                    Ok(None | Some(OVER)) => break Err(SipError::Gone),
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
