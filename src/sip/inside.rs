//! Requests inside dialogs: their order, who may ask what, and their answers.

use super::arriving::capabilities;
use super::asking;
use super::compose::Content;
use super::counters::bump;
use super::dialog::Stage;
use super::event::{DialogId, EndWhy, ReinviteId, SipEvent};
use super::gate::retry_after;
use super::hub::{Asked, Hub};
use super::newcomers::request_user;
use super::refused::RefusedFor;
use super::time::now;
use super::transactions::Key;
use super::transport::Hop;
use super::wire::{Wire, tag_of};
use super::{refer, reply, sanity, session_timer, timed};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Answers to INVITEs of one dialog that may wait for their ACKs at once.
const MOST_UNCONFIRMED: usize = 4;

/// A request inside a live dialog.
pub(super) struct Request<'r> {
    pub wire: &'r Wire<'r>,
    pub method: &'r str,
    pub key: Key,
    pub hop: Hop,
    pub id: DialogId,
}

impl Request<'_> {
    /// Refuses it.
    pub fn refuse(&self, hub: &Hub, code: u16, why: Option<RefusedFor>, content: Content) {
        hub.count_refusal(code, why, self.hop.at.ip(), self.method);
        hub.respond(&self.key, code, &content);
    }

    /// Refuses it for now (RFC 3261 section 14.2).
    fn refuse_later(&self, hub: &Hub, why: RefusedFor) {
        self.refuse(hub, 500, Some(why), Content::default().with("Retry-After", retry_after(rand::random())));
    }

    /// Says yes to it.
    pub fn accept(&self, hub: &Hub, content: Content) {
        hub.respond(&self.key, 200, &content);
    }
}

/// What a dialog makes of a request before it is looked at.
enum Fits {
    /// It is of another branch of a forked call.
    Another,
    /// It came after a later one.
    Old,
    /// The call is over.
    Over,
    Yes,
}

/// Takes one request.
pub(super) fn take(hub: &Arc<Hub>, wire: &Wire, key: Key, hop: Hop, method: &str) {
    let ids = wire.get("call-id").zip(wire.get("to").and_then(tag_of));
    let id = ids.and_then(|(call_id, tag)| hub.gate.calls(|c| c.find(call_id, tag)));
    let invite = method == "INVITE";
    let head = reply::head(wire, hop.at, "");
    hub.transactions(|t| t.begin(key.clone(), hop, (invite, id.filter(|_| invite)), head, now()));
    let (number, from) = (sanity::cseq(wire).map_or(0, |(n, _)| n), wire.get("from").and_then(tag_of));
    let fits = id.and_then(|id| {
        hub.entry(id, |e| {
            let early = e.dialog.placed && e.dialog.stage < Stage::Confirmed;
            if !early && from.unwrap_or_default() != e.dialog.theirs {
                return Fits::Another;
            }
            if number < e.dialog.last {
                return Fits::Old; // RFC 3261 section 12.2.2
            }
            e.dialog.last = number;
            if e.over { Fits::Over } else { Fits::Yes }
        })
    });
    let request = Request { wire, method, key, hop, id: id.unwrap_or(DialogId(0)) };
    match fits {
        Some(Fits::Yes) if method == "BYE" => bye(hub, &request),
        Some(Fits::Yes) if hub.is_behind() => request.refuse_later(hub, RefusedFor::Behind),
        Some(Fits::Yes) => sort(hub, &request),
        Some(Fits::Old) => request.refuse(hub, 500, Some(RefusedFor::OldRequest), Content::default()),
        Some(Fits::Over | Fits::Another) | None => unknown(hub, &request),
    }
}

fn sort(hub: &Arc<Hub>, request: &Request<'_>) {
    let allow = || Content::default().with("Allow", sanity::ALLOW);
    match request.method {
        "INVITE" | "UPDATE" => session(hub, request),
        "PRACK" => prack(hub, request),
        "INFO" => info(hub, request),
        "REFER" => refer::came(hub, request),
        "NOTIFY" => refer::notified(hub, request),
        "MESSAGE" => message(hub, request),
        "OPTIONS" => request.accept(hub, allow()),
        _ => request.refuse(hub, 405, None, allow()),
    }
}

/// A request of no dialog there is. The gate knew its tags, so the dialog has just ended.
fn unknown(hub: &Hub, request: &Request<'_>) {
    if request.method == "BYE" {
        return request.accept(hub, Content::default()); // it crossed ours, or came again
    }
    bump(&hub.gate.counters.no_dialog);
    request.refuse(hub, 481, None, Content::default());
}

fn bye(hub: &Arc<Hub>, request: &Request<'_>) {
    let state = hub.entry(request.id, |e| {
        let unanswered = (!e.dialog.placed && !e.answered).then(|| e.invite.clone()).flatten();
        let early = e.dialog.placed && e.dialog.stage < Stage::Confirmed;
        e.answered |= !early;
        (early, unanswered, e.referring.clone())
    });
    let referring = match state {
        // A call of ours that was not answered cannot be hung up.
        Some((true, ..)) => return request.refuse(hub, 481, None, Content::default()),
        // A BYE before our answer: the INVITE still wants one (RFC 3261 section 15.1.2).
        Some((false, Some(invite), referring)) => {
            hub.respond(&invite, 487, &Content::default());
            referring
        }
        Some((false, None, referring)) => referring,
        None => None,
    };
    request.accept(hub, Content::default());
    let (first, event) = (hub.close(request.id), SipEvent::Bye { dialog: request.id });
    hub.forget(request.id);
    match referring {
        // Who waits for news of a transfer has the last of them before the end is told.
        Some(news) if first => {
            let hub = hub.clone();
            tokio::spawn(async move {
                let last_words = async {
                    let _gone_already = news.send(refer::OVER).await;
                    news.closed().await;
                };
                let _nothing_was_answered_yet = tokio::time::timeout(hub.gate.settings.t1, last_words).await;
                hub.tell(event);
            });
        }
        _ if first => hub.tell(event),
        _ => {}
    }
}

/// Nobody confirmed an answer of ours.
pub(super) fn never_confirmed(hub: &Arc<Hub>, id: DialogId) {
    hub.finish(id, EndWhy::NoAck);
    say_goodbye(hub, id);
}

/// Hangs up a call that is over for us.
pub(super) fn say_goodbye(hub: &Arc<Hub>, id: DialogId) {
    if hub.entry(id, |_| ()).is_none() {
        return;
    }
    let hub = hub.clone();
    // The BYE takes a round trip, or 64*T1 if the other side is gone: nobody waits for that.
    tokio::spawn(async move {
        if let Err(error) = asking::ask(&hub, id, "BYE", Content::default()).await {
            tracing::debug!(%error, "a hang-up was not answered");
        }
        hub.forget(id);
    });
}

/// A re-INVITE or an UPDATE (RFC 3311).
fn session(hub: &Arc<Hub>, request: &Request<'_>) {
    let update = request.method == "UPDATE";
    if update && request.wire.body().is_empty() {
        // A keep-alive (RFC 4028), or a new Contact.
        let contact = hub.entry(request.id, |e| {
            let moved = e.dialog.moved_by(request.wire, request.hop);
            e.dialog.retarget(moved);
            (e.dialog.contact.clone(), e.dialog.stage >= Stage::Answered)
        });
        let Some((contact, answered)) = contact else { return unknown(hub, request) };
        let content = Content::default().with("Contact", contact);
        // A call that is not answered has no session that could run out.
        let timer = answered.then(|| timed::agree(hub, request.id, &session_timer::Asked::in_request(request.wire)));
        return request.accept(hub, content.and(&timer.unwrap_or_default()));
    }
    let state = hub.entry(request.id, |e| {
        let placed = e.dialog.placed;
        (e.dialog.stage, e.timed.early_agreed(), !placed && e.dialog.stage < Stage::Answered, e.unconfirmed.len())
    });
    let Some((stage, agreed, unanswered, unconfirmed)) = state else { return unknown(hub, request) };
    let open = stage == Stage::Confirmed || update && agreed && stage < Stage::Answered;
    match open && unconfirmed < MOST_UNCONFIRMED {
        true => asked(hub, request),
        false if unanswered => request.refuse_later(hub, RefusedFor::Glare),
        // An offer of one side is still open: ours in the INVITE or the 200, or theirs until the ACK.
        false => request.refuse(hub, 491, None, Content::default()),
    }
}

/// A provisional response of ours is acknowledged (RFC 3262 section 3). It may bring a new offer.
fn prack(hub: &Arc<Hub>, request: &Request<'_>) {
    let named = request.wire.get("rack").and_then(|rack| {
        let mut parts = rack.split_whitespace();
        let (rseq, number) = (parts.next()?.parse::<u32>().ok()?, parts.next()?.parse::<u32>().ok()?);
        (parts.next() == Some("INVITE")).then_some((rseq, number))
    });
    let acknowledged = named.and_then(|(rseq, number)| {
        hub.entry(request.id, |e| !e.dialog.placed && e.timed.invite == number && e.timed.acknowledged(rseq))
    });
    if acknowledged != Some(true) {
        return request.refuse(hub, 481, None, Content::default());
    }
    if request.wire.body().is_empty() {
        request.accept(hub, Content::default());
    } else {
        asked(hub, request);
    }
    timed::acknowledged(hub, request.id);
}

/// A re-INVITE, or an UPDATE or PRACK with an offer, is for the application.
fn asked(hub: &Arc<Hub>, request: &Request<'_>) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Relaxed);
    let source = request.hop.at;
    let free = hub.entry(request.id, |e| {
        let free = !e.asking && e.asked.is_empty();
        if free {
            let invite = (request.method == "INVITE").then_some(e.dialog.last);
            let target = e.dialog.moved_by(request.wire, request.hop);
            let timer = session_timer::Asked::in_request(request.wire);
            e.asked.insert(number, Asked { key: request.key.clone(), invite, target, timer, source: source.ip() });
        }
        free
    });
    match free {
        Some(true) => {}
        // Both sides ask at once (RFC 3261 section 14.2): the other tries again.
        Some(false) => return request.refuse(hub, 491, None, Content::default()),
        None => return unknown(hub, request),
    }
    let (id, sdp) = (request.id, request.wire.text());
    hub.tell(SipEvent::Reinvite { dialog: id, request: ReinviteId(number), sdp, source });
    // Without an answer it would hold up every later one.
    let hub = hub.clone();
    tokio::spawn(async move {
        tokio::time::sleep(hub.gate.settings.t1 * 64).await;
        let left = hub.entry(id, |e| e.asked.remove(&number)).flatten();
        left.into_iter().for_each(|asked| drop(hub.respond(&asked.key, 500, &Content::default())));
    });
}

/// Answers what was asked with a session description.
pub(super) fn agree(hub: &Arc<Hub>, id: DialogId, asked: Asked, sdp: String) {
    let content = capabilities().and(&timed::agree(hub, id, &asked.timer));
    let contact = hub.entry(id, |e| {
        e.dialog.retarget(asked.target.clone());
        e.timed.describe(Some(sdp.clone()));
        if let Some(number) = asked.invite {
            e.unconfirmed.push((number, asked.key.clone()));
        }
        e.dialog.contact.clone()
    });
    hub.respond(&asked.key, 200, &content.with("Contact", contact.unwrap_or_default()).sdp(sdp));
}

/// SIP INFO: keys are taken from our answer on, even if the ACK is still under way.
fn info(hub: &Arc<Hub>, request: &Request<'_>) {
    if !hub.entry(request.id, |e| e.answered).unwrap_or(false) {
        return request.refuse_later(hub, RefusedFor::Early);
    }
    let Ok(key) = key_of(request.wire) else {
        let accept = Content::default().with("Accept", "application/dtmf-relay, application/dtmf");
        return request.refuse(hub, 415, None, accept);
    };
    let record = record_of(request.wire);
    request.accept(hub, Content::default());
    hub.tell(SipEvent::Info { dialog: request.id, key, record });
}

/// A text inside a call: the gate has let only seats send one.
fn message(hub: &Hub, request: &Request<'_>) {
    let Some(seat) = hub.gate.calls(|c| c.seat(request.id)).filter(|s| s.proved) else {
        return request.refuse(hub, 403, None, Content::default());
    };
    let to_user = request_user(request.wire).unwrap_or_default();
    let text = request.wire.text().unwrap_or_default();
    request.accept(hub, Content::default());
    hub.tell_or_lose(SipEvent::Message { dialog: Some(request.id), seat: seat.user, to_user, text });
}

/// The key an INFO carries, if any; an error for a body of another kind.
fn key_of(wire: &Wire) -> Result<Option<char>, ()> {
    let kind = wire.get("content-type").map(|v| v.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let body = wire.text().unwrap_or_default();
    match kind.as_deref() {
        Some("application/dtmf-relay") => Ok(relay_key(&body)),
        Some("application/dtmf") => Ok(plain_key(&body)),
        _ if body.is_empty() => Ok(None),
        _ => Err(()),
    }
}

/// `Record: on` or `off`: the record key of desk phones.
fn record_of(wire: &Wire) -> Option<bool> {
    match wire.get("record")?.to_ascii_lowercase().as_str() {
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
