//! What a dialog does as time passes: repeats a provisional response until its PRACK, refreshes its session, ends.
//! The rules are in [`super::reliable`] and [`super::session_timer`].

use super::agent::refuse;
use super::arriving::{capabilities, changing};
use super::asking::{self, outcome, status};
use super::compose::Content;
use super::dialog::Stage;
use super::event::{DialogId, EndWhy, SipError};
use super::hub::Hub;
use super::inside::say_goodbye;
use super::reliable::{Overdue, Received, Reliability, Sent, Way};
use super::sanity::cseq;
use super::session_timer::{Asked, Session, Wants};
use super::time::now;
use super::transport::Hop;
use super::wire::{Wire, tag_of};
use crate::clock::Mono;
use std::sync::Arc;
use std::time::Duration;

/// Times a re-INVITE is sent in all when both sides ask at once.
const TRIES: u32 = 3;

/// What a dialog keeps for its timers.
#[derive(Default)]
pub(super) struct Timed {
    session: Option<Session>,
    /// The first INVITE's number and wishes, for our answers.
    pub invite: u32,
    asked: Asked,
    /// The other side takes UPDATE: a refresh needs no session description.
    takes_update: bool,
    /// Our last session description.
    described: Option<String>,
    /// The INVITE that came had an offer.
    offered: bool,
    /// Provisional responses of ours, each as it went out.
    sent: Sent<(Hop, Vec<u8>)>,
    received: Received,
    /// The answers to our offer that reliable responses brought: one for each branch, by To-tag. A 200 of that branch
    /// need not bring it again (RFC 6337 section 3.1.1).
    heard: Vec<(String, String)>,
    /// Our answer, waiting for the PRACK of what came before it.
    answer: Option<String>,
    /// Who waits for the PRACK of a description.
    pub acknowledged: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Timed {
    /// Takes note of what an INVITE says its sender can do.
    pub fn begin(&mut self, invite: &Wire) {
        self.invite = cseq(invite).map_or(0, |(number, _)| number);
        self.asked = Asked::in_request(invite);
        self.takes_update = invite.lists("allow", "UPDATE");
        self.offered = !invite.body().is_empty();
        // Who requires an extension supports it.
        if invite.lists("supported", "100rel") || invite.lists("require", "100rel") {
            self.sent.reliability = Reliability::Wanted;
            self.sent.begin(rand::random());
        }
    }

    /// An INVITE of ours goes out with this number. What an earlier one of the call was told is of no use to it.
    pub fn place(&mut self, number: u32) {
        self.invite = number;
        self.received = Received::default();
        self.heard.clear();
    }

    /// Notes our last session description.
    pub fn describe(&mut self, sdp: Option<String>) {
        self.described = sdp.or(self.described.take());
    }

    /// A call of ours was answered.
    pub fn answered_by(&mut self, response: &Wire) {
        self.takes_update = response.lists("allow", "UPDATE");
        self.session = Session::of_answer(response.get("session-expires"), now());
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

    /// The answer to our offer that came before, from the end with this To-tag.
    pub fn heard_before(&self, tag: &str) -> Option<String> {
        self.heard.iter().find(|(branch, _)| branch == tag).map(|(_, sdp)| sdp.clone())
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
        let known = self.sent.acknowledged(rseq);
        if self.sent.agreed
            && let Some(waits) = self.acknowledged.take()
        {
            let _gave_up = waits.send(());
        }
        known
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

/// Agrees to the session timer a request asks for: headers of our 2xx.
pub(super) fn agree(hub: &Hub, id: DialogId, asked: &Asked) -> Content {
    let ours = (hub.gate.settings.session_expires_s, hub.gate.settings.session_min_s);
    let agreed = asked.accept(ours, now());
    hub.entry(id, |e| e.timed.session = agreed.as_ref().map(|(session, _)| *session));
    let Some((session, value)) = agreed else { return Content::default() };
    let content = Content::default().with("Session-Expires", value);
    if session.ours { content } else { content.with("Require", "timer") }
}

/// Sends a provisional response: 180, or 183 with a description.
pub(super) fn provisional(hub: &Hub, id: DialogId, sdp: Option<String>) {
    let said = hub.entry(id, |e| {
        let invite = e.unanswered()?;
        let sdp = sdp.filter(|_| e.timed.offered);
        let way = e.timed.sent.way(sdp.as_deref());
        if way != Way::Later {
            e.timed.describe(sdp.clone());
            e.dialog.stage = e.dialog.stage.max(Stage::Early);
        }
        Some((way, sdp, invite, e.dialog.contact.clone(), e.dialog.hop))
    });
    let Some(Some((way, sdp, invite, contact, hop))) = said else { return };
    let content = capabilities().with("Contact", contact);
    let content = match way {
        Way::Later => return,
        Way::Plain => content,
        Way::Reliable(rseq) => content.with("Require", "100rel").with("RSeq", rseq.to_string()),
    };
    let (code, content) = match sdp {
        Some(sdp) => (183, content.sdp(sdp)),
        None => (180, content),
    };
    let sent = hub.respond(&invite, code, &content);
    if let (Way::Reliable(rseq), Some(bytes)) = (way, sent) {
        let t1 = hub.gate.settings.t1;
        hub.entry(id, |e| e.timed.sent.sent(rseq, (hop, bytes), now(), t1));
    }
}

/// Answers a call that came in, once nothing of ours is unacknowledged that the answer depends on.
pub(super) fn answer(hub: &Hub, id: DialogId, sdp: String) {
    let ready = hub.entry(id, |e| {
        let invite = e.unanswered()?;
        if e.timed.sent.holds_the_answer() {
            e.timed.answer = Some(sdp.clone());
            return None;
        }
        e.answered = true;
        e.timed.stop();
        e.timed.describe(Some(sdp.clone()));
        e.dialog.stage = Stage::Answered;
        e.unconfirmed.push((e.timed.invite, invite.clone()));
        Some((e.timed.asked, invite, e.dialog.contact.clone()))
    });
    let Some(Some((asked, invite, contact))) = ready else { return };
    let content = capabilities().with("Contact", contact).and(&agree(hub, id, &asked));
    hub.respond(&invite, 200, &content.sdp(sdp));
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
pub(super) fn provisional_came(hub: &Arc<Hub>, id: DialogId, response: &Wire, hop: Hop) -> bool {
    let reliable = response.lists("require", "100rel");
    let Some(rseq) = response.get("rseq").filter(|_| reliable).and_then(|v| v.parse().ok()) else { return true };
    let tag = response.get("to").and_then(tag_of).unwrap_or_default().to_string();
    let prack = hub.writing(|w| {
        hub.entry(id, |e| {
            if e.over || e.answered || !e.timed.received.is_next(&tag, rseq) {
                return None;
            }
            if let Some(sdp) = response.text() {
                e.timed.hear(&tag, sdp);
            }
            // It belongs to the early dialog of the response's To-tag (RFC 3262 section 7.2); numbers are one row.
            let mut end = e.dialog.clone();
            end.follow(response, hop);
            let rack = format!("{rseq} {} INVITE", e.timed.invite);
            let prack = end.request("PRACK", &Content::default().with("RAck", rack), w);
            e.dialog.number = end.number;
            Some(prack)
        })
    });
    let Some(Some(prack)) = prack else { return false };
    hub.ask_in_passing("PRACK", prack);
    true
}

/// What is due in a dialog is done.
pub(super) fn overdue(hub: &Arc<Hub>, id: DialogId) {
    let at = now();
    hub.entry(id, |e| e.due = None); // it has just gone off
    match hub.entry(id, |e| e.timed.sent.overdue(at)).flatten() {
        Some(Overdue::Again((hop, bytes))) => hub.send(hop, bytes),
        Some(Overdue::GiveUp) => {
            refuse(hub, id, 504, None, EndWhy::NoAck);
            return;
        }
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
        Some((Wants::End, _)) => end(hub, id),
        None => {}
    }
}

/// The other side has vanished.
fn end(hub: &Arc<Hub>, id: DialogId) {
    hub.entry(id, |e| e.timed.session = None);
    hub.finish(id, EndWhy::Expired);
    say_goodbye(hub, id);
}

/// Refreshes a session: by UPDATE when the other side takes it, else by a re-INVITE that changes nothing.
async fn refresh(hub: Arc<Hub>, id: DialogId, interval: u32) {
    let mut interval = interval;
    for _ in 0..2 {
        let Some((takes_update, described)) = hub.entry(id, |e| (e.timed.takes_update, e.timed.described.clone()))
        else {
            return;
        };
        let min = hub.gate.settings.session_min_s;
        let content =
            changing().with("Session-Expires", format!("{interval};refresher=uac")).with("Min-SE", min.to_string());
        let answer = match (takes_update, described) {
            (false, Some(sdp)) => offer_with(&hub, id, content.sdp(sdp)).await,
            _ => asking::ask(&hub, id, "UPDATE", content).await,
        };
        match answer.map(|answer| (status(&answer), answer)) {
            Ok((200..=299, answer)) => {
                let next = Session::of_answer(answer.get("session-expires"), now());
                hub.entry(id, |e| e.timed.session = next);
                return;
            }
            Ok((422, answer)) => {
                let min = answer.get("min-se").and_then(|v| v.trim().parse().ok());
                interval = interval.max(min.unwrap_or(interval));
            }
            // It knows of no such call, or there is nobody (RFC 3261 section 12.2.1.2).
            Ok((408 | 481, _)) | Err(SipError::Timeout) => return end(&hub, id),
            // Anything else may be mended before the time is over.
            Ok(_) | Err(_) => return,
        }
    }
}

/// Sends a re-INVITE with an offer; a success, or why not.
pub(super) async fn offer(hub: &Arc<Hub>, id: DialogId, sdp: String) -> Result<Wire<'static>, SipError> {
    let answer = outcome(offer_with(hub, id, changing().sdp(sdp.clone())).await)?;
    hub.entry(id, |e| e.timed.describe(Some(sdp)));
    Ok(answer)
}

/// A change of ours is under way for as long as somebody waits for its answer.
struct Changing<'h>(&'h Hub, DialogId);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.entry(self.1, |e| e.asking = false);
    }
}

/// The same with headers; whatever the final response is.
async fn offer_with(hub: &Arc<Hub>, id: DialogId, content: Content) -> Result<Wire<'static>, SipError> {
    let mut tried = 0;
    loop {
        tried += 1;
        let begin = |e: &mut super::hub::Entry| {
            let free = !e.over && !e.asking && e.asked.is_empty();
            e.asking |= free;
            (free, e.over, e.dialog.placed)
        };
        let (free, over, placed) = hub.entry(id, begin).ok_or(SipError::Gone)?;
        if over {
            return Err(SipError::Gone);
        }
        if free {
            let under_way = Changing(hub, id);
            let answer = asking::ask(hub, id, "INVITE", content.clone()).await;
            drop(under_way);
            let answer = answer?;
            if status(&answer) != 491 || tried >= TRIES {
                return Ok(answer);
            }
        } else if tried >= TRIES {
            return Err(SipError::Refused(491));
        }
        tokio::time::sleep(glare_wait(placed, rand::random())).await;
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
