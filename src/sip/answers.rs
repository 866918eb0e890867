//! What others answer to requests of ours.

use super::arriving::capabilities;
use super::compose::{Content, phrase};
use super::dialog::{Ready, Stage};
use super::digest;
use super::event::{DialogId, SipEvent};
use super::hub::{Entry, Hub};
use super::sanity::cseq;
use super::time::now;
use super::transactions::{Heard, Key, Waits};
use super::transport::Hop;
use super::wire::{Via, Wire, split_outside, tag_of};
use super::{dial, inside, timed};
use std::sync::Arc;

/// ACKs that are remembered: one for each answered INVITE, and for each end of a forked call.
const MOST_ACKS: usize = 8;

/// A response that passed the gate.
pub(super) fn take(hub: &Arc<Hub>, wire: &Wire, code: u16, hop: Hop) {
    let via = wire.get("via").and_then(|v| split_outside(v, b',')).and_then(|all| Via::parse(all.first()?));
    let (Some(via), Some((number, method))) = (via, cseq(wire)) else { return };
    let key = Key::ours(via.branch(), method);
    let to = wire.get("to").unwrap_or_default();
    let heard = hub.transactions(|t| t.heard(&key, code, to, now()));
    let answered = method == "INVITE" && (200..300).contains(&code);
    match heard {
        Heard::Nothing => {}
        Heard::Again(hop, bytes) => hub.send(hop, bytes),
        Heard::Invite(id, ack) => {
            ack.into_iter().for_each(|(hop, bytes)| hub.send(hop, bytes));
            match code {
                ..200 => provisional(hub, id, wire, (code, hop)),
                200..300 => success(hub, id, wire, number, hop),
                _ => dial::refused(hub, id, wire, code),
            }
        }
        Heard::Final(waits, ack) => {
            ack.into_iter().for_each(|(hop, bytes)| hub.send(hop, bytes));
            if answered {
                confirm(hub, wire, number, hop);
            }
            let _gave_up = waits.send(wire.clone().into_owned());
        }
        Heard::Unwanted if answered => confirm(hub, wire, number, hop),
        Heard::Unwanted => {}
    }
}

/// A request of ours got no answer.
pub(super) fn timed_out(hub: &Arc<Hub>, waits: Waits) {
    // Who waits for a final answer sees that nobody will send one.
    let Waits::Invite(id) = waits else { return };
    if hub.close(id) {
        hub.tell(SipEvent::Failed { dialog: id, code: 408, reason: phrase(408).into() });
    }
    hub.forget(id);
}

fn provisional(hub: &Arc<Hub>, id: DialogId, wire: &Wire, (code, hop): (u16, Hop)) {
    let over = hub.entry(id, |e| {
        e.dialog.stage = e.dialog.stage.max(Stage::Early);
        e.over
    });
    match over {
        None => return,
        Some(true) => return dial::cancel(hub, id), // its caller has gone meanwhile
        Some(false) => {}
    }
    // Where nobody reads events, news of ringing need not wait: who rings on and on must not fill the memory.
    if code > 100 && timed::provisional_came(hub, id, wire, hop) && hub.has_room() {
        hub.tell(SipEvent::Progress { dialog: id, code, sdp: wire.text() });
    }
}

/// An INVITE of ours was answered: the first answer counts, and every other end of a forked call is hung up (RFC 3261
/// section 13.2.2.4).
fn success(hub: &Arc<Hub>, id: DialogId, wire: &Wire, number: u32, hop: Hop) {
    let tag = wire.get("to").and_then(tag_of).unwrap_or_default().to_string();
    let again = hub.entry(id, |e| e.acks.iter().find(|(n, t, _)| *n == number && *t == tag).map(|(.., r)| r.clone()));
    match again {
        None => return, // forgotten
        Some(Some(ack)) => return hub.ask_in_passing("ACK", ack),
        Some(None) => {}
    }
    let first = hub.entry(id, |e| {
        let first = !std::mem::replace(&mut e.answered, true);
        if first {
            e.dialog.follow(wire, hop);
            e.dialog.stage = Stage::Confirmed;
            e.dialog.last = 0; // what another end of a forked call asked before has numbers of its own
            e.timed.answered_by(wire);
        }
        (first, e.over)
    });
    let (first, was_over) = (first.map(|f| f.0), first.is_some_and(|f| f.1));
    if first == Some(true) {
        hub.gate.calls(|c| c.confirm(id));
    }
    let ack = hub.writing(|w| {
        hub.entry(id, |e| {
            let mut end = e.dialog.clone();
            if first != Some(true) {
                end.follow(wire, hop);
            }
            let ack = end.ack(number, &proof_of(e), w);
            note(e, number, &tag, &ack);
            if first == Some(true) {
                e.inviting = None;
            }
            (ack, end)
        })
    });
    let Some((ack, mut end)) = ack else { return };
    hub.ask_in_passing("ACK", ack);
    if first != Some(true) {
        let bye = hub.writing(|w| end.request("BYE", &Content::default(), w));
        return hub.ask_in_passing("BYE", bye);
    }
    let said = hub.entry(id, |e| (e.over, wire.text().or_else(|| e.timed.heard_before(&tag))));
    match said {
        Some((false, sdp)) => hub.tell(SipEvent::Answered { dialog: id, sdp }),
        // The answer crossed our CANCEL (section 9.1): nobody waits for this call any more.
        Some((true, _)) if was_over => inside::say_goodbye(hub, id),
        Some((true, _)) => {} // hung up since: that says goodbye
        None => {}
    }
}

/// A change of ours in a call was answered.
fn confirm(hub: &Arc<Hub>, wire: &Wire, number: u32, hop: Hop) {
    let ids = wire.get("call-id").zip(wire.get("from").and_then(tag_of));
    let Some(id) = ids.and_then(|(call_id, tag)| hub.gate.calls(|c| c.find(call_id, tag))) else { return };
    let tag = wire.get("to").and_then(tag_of).unwrap_or_default().to_string();
    let ack = hub.writing(|w| {
        hub.entry(id, |e| {
            if let Some((.., ack)) = e.acks.iter().find(|(n, t, _)| *n == number && *t == tag) {
                return ack.clone();
            }
            let moved = e.dialog.moved_by(wire, hop);
            e.dialog.retarget(moved);
            let ack = e.dialog.ack(number, &proof_of(e), w);
            note(e, number, &tag, &ack);
            ack
        })
    });
    ack.into_iter().for_each(|ack| hub.ask_in_passing("ACK", ack));
}

/// An ACK has its INVITE's proof (RFC 3261 section 22.1).
fn proof_of(e: &Entry) -> Content {
    let proof = e.inviting.as_ref().and_then(|i| i.proof.as_ref());
    proof.map_or(Content::default(), |(name, value)| Content::default().with(name, value))
}

fn note(e: &mut Entry, number: u32, tag: &str, ack: &Ready) {
    if e.acks.len() >= MOST_ACKS {
        e.acks.remove(0);
    }
    e.acks.push((number, tag.to_string(), ack.clone()));
}

/// The answer to a challenge: name and value of a header. `None` where there is nothing to answer, or no way.
pub(super) fn prove(
    wire: &Wire,
    code: u16,
    credential: &super::Credential,
    method: &str,
    uri: &str,
) -> Option<(&'static str, String)> {
    let (asks, answers) = match code {
        401 => ("www-authenticate", "Authorization"),
        407 => ("proxy-authenticate", "Proxy-Authorization"),
        _ => return None,
    };
    let cnonce = format!("{:016x}", rand::random::<u64>());
    let answer = |challenge| digest::respond(challenge, method, uri, &credential.user, &credential.password, &cnonce);
    let mut challenges: Vec<&str> = wire.all(asks).collect();
    // The stronger one, where there is a choice (RFC 8760 section 2.4).
    challenges.sort_by_key(|c| !c.to_ascii_lowercase().contains("sha-256"));
    challenges.into_iter().find_map(answer).map(|value| (answers, value))
}

/// Headers of an INVITE of ours besides what its caller gave.
pub(super) fn of_invite(hub: &Hub, min: u32) -> Content {
    let (longest, least) = (hub.gate.settings.session_expires_s, hub.gate.settings.session_min_s);
    let (interval, min) = (longest.max(min), min.max(least));
    capabilities().with("Session-Expires", interval.to_string()).with("Min-SE", min.to_string())
}
