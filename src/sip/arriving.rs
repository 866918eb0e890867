//! Calls that come in: their INVITE, its CANCEL, and the ACK that confirms an answer.

use super::asking::new_tag;
use super::compose::Content;
use super::counters::bump;
use super::dialog::{Dialog, Stage};
use super::event::{DialogId, SipEvent};
use super::gate::retry_after;
use super::hub::Hub;
use super::time::now;
use super::transactions::Key;
use super::transport::{Hop, Transport};
use super::wire::{NameAddr, Wire, tag_of};
use super::{inside, refer, reply, routing, sanity, uri};
use std::net::SocketAddr;
use std::sync::Arc;

/// Headers of what we can do, in every answer that makes or changes a session.
pub(super) fn capabilities() -> Content {
    Content::default().with("Allow", sanity::ALLOW).with("Supported", sanity::SUPPORTED)
}

/// The same in an offer or refresh of ours inside a call. No 100rel: a re-INVITE's provisional responses say nothing that
/// must arrive, so the other side is not invited to wait for their PRACKs.
pub(super) fn changing() -> Content {
    Content::default().with("Allow", sanity::ALLOW).with("Supported", sanity::SUPPORTED_INSIDE)
}

/// Contact of ours for `user` as `peer` should see it, in brackets.
pub(super) fn contact(hub: &Hub, user: &str, peer: SocketAddr, transport: Transport) -> String {
    let at = hub.address_by(peer, transport);
    format!("<sip:{}@{at}{}>", uri::escape_user(user), transport.param())
}

/// A call that comes in, and was let in by the gate as `call`.
pub(super) fn invited(hub: &Arc<Hub>, wire: &Wire, key: Key, hop: Hop, call: Option<DialogId>) {
    let tag = new_tag();
    let Some(id) = call else {
        // The same request by another road (RFC 3261 section 8.2.2.2). Without a transaction: who sends many of them to
        // another's address has each answered once.
        hub.count_refusal(482, None, hop.at.ip(), "INVITE");
        let (tag, agent) = (hub.gate.tag(wire), &hub.gate.settings.user_agent);
        let refusal = sanity::Refusal::new(482, "Loop Detected");
        return hub.send(hop, reply::stateless(wire, hop.at, &tag, agent, &refusal));
    };
    let head = reply::head(wire, hop.at, &tag);
    match set_up(hub, wire, (hop, &tag), id) {
        Ok((dialog, event)) => {
            // What the answers repeat of the proxies is what we follow ourselves.
            let recorded = routing::recorded(wire, hop.at.ip());
            let head = recorded.iter().fold(head, |head, route| head + "Record-Route: " + route + "\r\n");
            hub.gate.calls(|c| c.set_tag(id, &tag));
            hub.insert(id, dialog, Some(key.clone()));
            hub.entry(id, |e| e.timed.begin(wire));
            hub.transactions(|t| t.begin(key, hop, (true, Some(id)), head, now()));
            bump(&hub.gate.counters.calls_in);
            hub.tell(event);
        }
        Err(code) => {
            hub.gate.calls(|c| c.end(id, now()));
            refuse(hub, key, hop, head, code, Content::default().with("Retry-After", retry_after(rand::random())));
        }
    }
}

/// Refuses an INVITE that no dialog comes of. Its transaction repeats that until the ACK.
fn refuse(hub: &Hub, key: Key, hop: Hop, head: String, code: u16, content: Content) {
    hub.count_refusal(code, None, hop.at.ip(), "INVITE");
    hub.transactions(|t| t.begin(key.clone(), hop, (true, None), head, now()));
    hub.respond(&key, code, &content);
}

fn set_up(hub: &Hub, wire: &Wire, (hop, tag): (Hop, &str), id: DialogId) -> Result<(Dialog, SipEvent), u16> {
    let (dialled, identity) = hub.gate.calls(|c| c.adopt(id)).ok_or(482u16)?;
    let replaces = match wire.get("replaces") {
        // RFC 3891 section 3: it must be a call of ours.
        Some(named) => Some(refer::replaced(hub, named).ok_or(481u16)?),
        None => None,
    };
    if !hub.has_room() {
        return Err(503);
    }
    let from = wire.get("from").and_then(NameAddr::parse).ok_or(400u16)?;
    let from_user = uri::SipUri::parse(&from.uri).ok().and_then(|u| u.user).unwrap_or_default();
    let user = if dialled.is_empty() { "zongji" } else { dialled.as_str() };
    let contact = contact(hub, user, hop.at, hop.transport);
    let dialog = Dialog::of_invite(wire, hop, tag, contact).ok_or(400u16)?;
    let event = SipEvent::Invite {
        dialog: id,
        from_user,
        from_display: from.display,
        to_user: dialled,
        source: hop.at,
        transport: hop.transport,
        identity: Box::new(identity),
        sdp: wire.text(),
        call_id: dialog.call_id.clone(),
        seat: hub.gate.calls(|c| c.seat(id)).map(|s| s.user),
        replaces,
        hops: wire.get("max-forwards").and_then(|v| v.parse::<u8>().ok()).unwrap_or(70).saturating_sub(1),
    };
    Ok((dialog, event))
}

/// A caller gives up. The answers to the CANCEL and to its INVITE have one tag (RFC 3261 section 9.2).
pub(super) fn cancelled(hub: &Arc<Hub>, wire: &Wire, key: Key, hop: Hop) {
    let invite = Key::of(wire, "INVITE");
    let known = invite.and_then(|invite| hub.transactions(|t| t.dialog_of(&invite)).map(|id| (invite, id)));
    let tag = known.as_ref().and_then(|(_, id)| hub.entry(*id, |e| e.dialog.ours.clone()));
    let head = reply::head(wire, hop.at, &tag.unwrap_or_else(|| hub.gate.tag(wire)));
    hub.transactions(|t| t.begin(key.clone(), hop, (false, None), head, now()));
    let Some((invite, id)) = known else {
        bump(&hub.gate.counters.no_dialog);
        hub.count_refusal(481, None, hop.at.ip(), "CANCEL");
        hub.respond(&key, 481, &Content::default());
        return;
    };
    hub.respond(&key, 200, &Content::default());
    if !hub.transactions(|t| t.is_open(&invite)) {
        return; // it was answered: the call stands
    }
    // A re-INVITE that is given up leaves its call as it is.
    let first = hub.entry(id, |e| {
        e.asked.retain(|_, asked| asked.key != invite);
        e.answered |= e.invite.as_ref() == Some(&invite);
        e.invite.as_ref() == Some(&invite)
    });
    hub.respond(&invite, 487, &Content::default());
    if first == Some(true) {
        if hub.close(id) {
            hub.tell(SipEvent::Cancelled { dialog: id });
        }
        hub.forget(id);
    }
}

/// An ACK: of a refusal, which has its INVITE's branch, or of an answer, which has only its number.
pub(super) fn confirmed(hub: &Arc<Hub>, wire: &Wire) {
    let number = sanity::cseq(wire).map(|(number, _)| number);
    let ids = wire.get("call-id").zip(wire.get("to").and_then(tag_of));
    let id = ids.and_then(|(call_id, tag)| hub.gate.calls(|c| c.find(call_id, tag)));
    let confirmed = id.zip(number).and_then(|(id, number)| {
        let taken = hub.entry(id, |e| {
            let at = e.unconfirmed.iter().position(|(n, _)| *n == number)?;
            let (_, key) = e.unconfirmed.remove(at);
            let first = e.dialog.stage == Stage::Answered;
            e.dialog.stage = e.dialog.stage.max(Stage::Confirmed);
            Some((key, first && !e.dialog.placed, e.over))
        });
        taken.flatten().map(|(key, first, over)| (id, key, first, over))
    });
    let Some((id, key, first, over)) = confirmed else {
        // What it has in common with a refused INVITE is the whole name of the transaction.
        let refused = Key::of(wire, "INVITE");
        return refused.into_iter().for_each(|key| hub.transactions(|t| t.confirmed(&key, now())));
    };
    hub.transactions(|t| t.confirmed(&key, now()));
    let sdp = wire.text();
    if over && first {
        return inside::say_goodbye(hub, id); // hung up before it was confirmed
    }
    if !over && (first || sdp.is_some()) {
        hub.tell(SipEvent::Ack { dialog: id, sdp });
    }
}
