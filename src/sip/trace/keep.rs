//! What is in memory: messages by Call-ID, Call-IDs by call, all of it bounded. A value: given time and messages, it says
//! which traces are due to be written.

use super::{Ending, Gathered, Raw, Role, Way, mask};
use crate::call::why;
use crate::ids::CallId;
use crate::pii::mask_number;
use crate::sip::refused::RefusedFor;
use crate::sip::uri::SipUri;
use crate::sip::wire::{NameAddr, Start, Wire, glance};
use std::collections::{HashMap, HashSet, VecDeque};

/// Messages of one Call-ID; of more, the first ones and the last ones stay.
const MESSAGES: usize = 200;
/// Of these, the first.
const FIRST: usize = 60;
/// Bytes of one Call-ID.
const BYTES: usize = 512 * 1024;
/// Call-IDs at once, and bytes of them all.
const LEGS: usize = 8192;
const ALL_BYTES: usize = 64 << 20;
/// Call-IDs at once of messages that were refused and are no call.
const STRANGERS: usize = 512;
/// Such traces written at one look: they come ten times a second.
const STRANGERS_A_LOOK: usize = 1;
/// A call's goodbyes come after its end: so long they are waited for, and so long any that follow are noted, in
/// microseconds.
const SOON: u64 = 1_000_000;
const LATE: u64 = 40_000_000;
/// What nobody joined, refused or ended in that time is forgotten.
const FORGOTTEN: u64 = 25 * 3600 * 1_000_000;
const UNCLAIMED: u64 = 600 * 1_000_000;
/// Q.850: normal call clearing.
const ORDINARY: u16 = 16;
/// Where more calls end than would be kept for so many seconds, not every ordinary one is written; at least so many a
/// second are.
const KEPT_S: u64 = 60;
const LEAST_PER_S: u64 = 20;

/// What was heard under one Call-ID.
#[derive(Debug, Default)]
struct Heard {
    messages: Vec<Raw>,
    bytes: usize,
    lost: u32,
    call: Option<CallId>,
    /// The first refusal, when the gate refused one.
    refused: Option<RefusedFor>,
    began: u64,
    last: u64,
    written: bool,
    dirty: bool,
}

/// One call.
#[derive(Debug, Default)]
struct Group {
    legs: Vec<(Role, String)>,
    began: u64,
    last: u64,
    ending: Option<(Ending, u64)>,
    written: bool,
    dirty: bool,
}

impl Group {
    /// It came to its end as calls do: nobody will ask why.
    fn is_ordinary(&self) -> bool {
        self.ending.as_ref().is_some_and(|(e, _)| e.cause == ORDINARY)
    }
}

/// How many traces of ordinary calls may still be written: a bucket that fills with time.
#[derive(Debug)]
struct Allowance {
    per_s: u64,
    /// In millionths of a trace, up to two seconds' worth.
    saved: u64,
    at: u64,
}

impl Allowance {
    fn take(&mut self, now: u64) -> bool {
        let most = self.per_s * 2_000_000;
        self.saved = now.saturating_sub(self.at).saturating_mul(self.per_s).saturating_add(self.saved).min(most);
        self.at = now;
        let enough = self.saved >= 1_000_000;
        self.saved -= if enough { 1_000_000 } else { 0 };
        enough
    }
}

/// Everything in memory.
#[derive(Debug)]
pub(super) struct Keep {
    legs: HashMap<String, Heard>,
    calls: HashMap<CallId, Group>,
    bytes: usize,
    strangers: usize,
    allowance: Allowance,
    /// Calls that were not written and are not to be, with the time of their end: a leg that comes too late is not the
    /// beginning of another.
    spared: HashSet<CallId>,
    spared_at: VecDeque<(u64, CallId)>,
    spared_ever: u64,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is noted.
    Yes,
    /// It belongs to no call.
    NotOurs,
    /// There was no room.
    Full,
}

impl Keep {
    /// Nothing yet; so many traces are kept on disk.
    pub fn for_traces(calls: usize) -> Keep {
        let per_s = (calls as u64 / KEPT_S).max(LEAST_PER_S);
        let allowance = Allowance { per_s, saved: per_s * 2_000_000, at: 0 };
        let (legs, calls, spared) = Default::default();
        Keep { legs, calls, bytes: 0, strangers: 0, allowance, spared, spared_at: VecDeque::new(), spared_ever: 0 }
    }

    /// Traces of ordinary calls that were not written.
    pub fn spared(&self) -> u64 {
        self.spared_ever
    }

    /// Notes a message. Only an INVITE begins something; all else belongs to what there is.
    pub fn message(&mut self, seen: Raw) -> Kept {
        let Some((call_id, begins)) = glance(&seen.bytes) else { return Kept::NotOurs };
        let why = seen.why;
        if !self.legs.contains_key(call_id) {
            if !begins {
                return Kept::NotOurs;
            }
            let stranger = why.is_some();
            if self.legs.len() >= LEGS || self.bytes >= ALL_BYTES || stranger && self.strangers >= STRANGERS {
                return Kept::Full;
            }
            self.strangers += usize::from(stranger);
            let began = seen.at;
            self.legs.insert(call_id.to_string(), Heard { refused: why, began, ..Heard::default() });
        }
        let Some(heard) = self.legs.get_mut(call_id) else { return Kept::Full };
        if heard.bytes + seen.bytes.len() > BYTES || self.bytes >= ALL_BYTES {
            heard.lost += 1;
            return Kept::Full;
        }
        if heard.messages.len() >= MESSAGES {
            let gone = heard.messages.remove(FIRST);
            heard.bytes -= gone.bytes.len();
            self.bytes -= gone.bytes.len();
            heard.lost += 1;
        }
        let now = seen.at;
        heard.last = now;
        heard.dirty = true;
        heard.bytes += seen.bytes.len();
        self.bytes += seen.bytes.len();
        heard.messages.push(seen);
        if let Some(group) = heard.call.and_then(|c| self.calls.get_mut(&c)) {
            (group.dirty, group.last) = (true, now);
        }
        Kept::Yes
    }

    /// A Call-ID is a leg of a call.
    pub fn join(&mut self, call: CallId, call_id: String, role: Role, now: u64) {
        if self.spared.contains(&call) || self.legs.len() >= LEGS && !self.legs.contains_key(&call_id) {
            return;
        }
        // A leg that we call may be known before its first message.
        let heard =
            self.legs.entry(call_id.clone()).or_insert_with(|| Heard { began: now, last: now, ..Heard::default() });
        let began = heard.began;
        let group = self.calls.entry(call).or_insert_with(|| Group { began, ..Group::default() });
        if !group.legs.iter().any(|(_, l)| *l == call_id) {
            // It was no stranger's after all.
            self.strangers -= usize::from(heard.refused.take().is_some());
            heard.call = Some(call);
            group.legs.push((role, call_id));
            group.dirty = true;
        }
    }

    /// A call is over.
    pub fn end(&mut self, call: CallId, ending: Ending, now: u64) {
        if let Some(group) = self.calls.get_mut(&call) {
            group.ending.get_or_insert((ending, now));
        }
    }

    /// What is to be written now; what is over for good is forgotten.
    pub fn due(&mut self, now: u64) -> Vec<Gathered> {
        let (mut due, mut over) = (Vec::new(), Vec::new());
        for (call, group) in &mut self.calls {
            let ended = group.ending.as_ref().map(|(_, at)| *at);
            let age = ended.map(|at| now.saturating_sub(at));
            let last = age.is_some_and(|a| a >= LATE) || now.saturating_sub(group.began) >= FORGOTTEN;
            // What comes after the first writing is added when it is over, or at the latest now.
            let late = group.dirty && (last || now.saturating_sub(group.last) >= SOON);
            let mut spared = false;
            if age.is_some_and(|a| a >= SOON) && (!group.written || late) {
                let first = !std::mem::replace(&mut group.written, true);
                group.dirty = false;
                spared = first && group.is_ordinary() && !self.allowance.take(now);
                match spared {
                    // Its room is for calls that somebody will ask about.
                    true => self.spared_at.push_back((now, *call)),
                    false => due.push(*call),
                }
            }
            if last || spared {
                over.push(*call);
            }
        }
        let mut traces: Vec<Gathered> = due.iter().filter_map(|c| self.trace_of(*c)).collect();
        for call in over {
            for (_, leg) in self.calls.remove(&call).map(|g| g.legs).unwrap_or_default() {
                self.forget(&leg);
            }
        }
        self.note_spared(now);
        traces.extend(self.strangers_due(now));
        traces
    }

    fn note_spared(&mut self, now: u64) {
        for (_, call) in self.spared_at.iter().rev().take_while(|(at, _)| *at == now) {
            self.spared_ever += u64::from(self.spared.insert(*call));
        }
        while let Some((_, call)) = self.spared_at.pop_front_if(|(at, _)| now.saturating_sub(*at) >= LATE) {
            self.spared.remove(&call);
        }
    }

    fn strangers_due(&mut self, now: u64) -> Vec<Gathered> {
        let (mut due, mut over) = (Vec::new(), Vec::new());
        for (call_id, heard) in self.legs.iter_mut().filter(|(_, h)| h.call.is_none()) {
            let age = now.saturating_sub(heard.last);
            let last = age >= if heard.refused.is_some() { LATE } else { UNCLAIMED };
            let wants = heard.refused.is_some() && age >= SOON && (!heard.written || last && heard.dirty);
            if wants && due.len() < STRANGERS_A_LOOK {
                (heard.written, heard.dirty) = (true, false);
                due.extend(stranger(call_id, heard));
            }
            if last {
                over.push(call_id.clone());
            }
        }
        over.iter().for_each(|call_id| self.forget(call_id));
        due
    }

    fn forget(&mut self, call_id: &str) {
        if let Some(heard) = self.legs.remove(call_id) {
            self.bytes -= heard.bytes;
            self.strangers -= usize::from(heard.refused.is_some());
        }
    }

    /// Everything that is not on disk yet: the program ends.
    pub fn rest(&mut self) -> Vec<Gathered> {
        let open = |g: &&Group| !g.written || g.dirty;
        let calls: Vec<CallId> = self.calls.iter().filter(|(_, g)| open(g)).map(|(c, _)| *c).collect();
        let mut traces: Vec<Gathered> = calls.into_iter().filter_map(|c| self.trace_of(c)).collect();
        let alone = self.legs.iter().filter(|(_, h)| h.call.is_none() && h.dirty);
        traces.extend(alone.filter_map(|(call_id, heard)| stranger(call_id, heard)));
        traces
    }

    fn trace_of(&self, call: CallId) -> Option<Gathered> {
        let group = self.calls.get(&call)?;
        let heard = || group.legs.iter().filter_map(|(_, l)| self.legs.get(l));
        let mut messages: Vec<Raw> = heard().flat_map(|h| h.messages.iter().cloned()).collect();
        messages.sort_by_key(|m| m.at);
        let ending = group.ending.as_ref().map(|(e, _)| e.clone()).unwrap_or_else(cut_off);
        Some(Gathered {
            id: call.to_string(),
            refused: false,
            began: messages.first().map_or(group.began, |m| m.at),
            ending,
            lost: heard().map(|h| h.lost).sum(),
            legs: group.legs.clone(),
            messages,
        })
    }
}

fn cut_off() -> Ending {
    let (why, why_zh) = ("the program stopped before the call was over", "通话未结束时程序已停止");
    Ending { cause: 41, why: why.into(), why_zh: why_zh.into(), ..Ending::default() }
}

/// The trace of what was refused before it was a call.
fn stranger(call_id: &str, heard: &Heard) -> Option<Gathered> {
    let (why, why_zh) = heard.refused?.sentences();
    let invite = heard.messages.iter().find(|m| m.way == Way::In)?;
    let (from, to) = ends(&mask::message(&invite.bytes));
    let status = heard.messages.iter().find_map(|m| status_of(&m.bytes));
    let ending = Ending {
        from,
        to,
        cause: status.map_or(41, |code| why::of_status(code).cause),
        why: status.map_or(why.to_string(), |code| format!("refused with {code}: {why}")),
        why_zh: status.map_or(why_zh.to_string(), |code| format!("以 {code} 拒绝：{why_zh}")),
    };
    let seed =
        call_id.bytes().fold(0xcbf2_9ce4_8422_2325_u128, |h, b| (h ^ u128::from(b)).wrapping_mul(0x100_0000_01b3));
    Some(Gathered {
        id: CallId::new((heard.began / 1000) as i64, seed).to_string(),
        refused: true,
        began: heard.began,
        ending,
        lost: heard.lost,
        legs: vec![(Role::Caller, call_id.into())],
        messages: heard.messages.clone(),
    })
}

/// The final status of an INVITE that failed.
fn status_of(bytes: &[u8]) -> Option<u16> {
    let wire = Wire::parse(bytes).ok()?;
    let Start::Response { code, .. } = wire.start else { return None };
    (code >= 300 && wire.get("cseq").is_some_and(|c| c.ends_with("INVITE"))).then_some(code)
}

/// Who called whom, as far as a masked INVITE can be read.
fn ends(invite: &[u8]) -> (String, String) {
    let Ok(wire) = Wire::parse(invite) else { return Default::default() };
    let user = |uri: &str| SipUri::parse(uri).ok().and_then(|u| u.user).map(|u| mask_number(&u));
    let from = wire.get("from").and_then(NameAddr::parse).and_then(|a| user(&a.uri));
    let to = match &wire.start {
        Start::Request { uri, .. } => user(uri),
        Start::Response { .. } => None,
    };
    (from.unwrap_or_default(), to.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::transport::Transport;

    fn seen(at: u64, method: &str, call_id: &str) -> Raw {
        let text = format!(
            "{method} sip:400@h SIP/2.0\r\nFrom: <sip:138****8000@h>;tag=1\r\nCall-ID: {call_id}\r\nCSeq: 1 {method}\r\n\r\n"
        );
        let remote = "192.0.2.2:5060".parse().ok();
        Raw { at, way: Way::In, carrier: Some(Transport::Udp), remote, why: None, bytes: text.into_bytes() }
    }

    fn refused(seen: Raw) -> Raw {
        Raw { why: Some(RefusedFor::UnknownNumber), ..seen }
    }

    fn call() -> CallId {
        CallId::new(1, 7)
    }

    #[test]
    fn all_legs_of_a_call_are_one_trace_in_order_written_after_its_goodbyes() {
        let mut keep = Keep::for_traces(2000);
        assert_eq!(keep.message(seen(0, "OPTIONS", "a")), Kept::NotOurs);
        for (at, method, id) in [(1, "INVITE", "a"), (3, "INVITE", "b"), (2, "ACK", "a"), (4, "BYE", "b")] {
            assert_eq!(keep.message(seen(at, method, id)), Kept::Yes);
        }
        keep.join(call(), "a".into(), Role::Caller, 1);
        keep.join(call(), "b".into(), Role::Seat, 3);
        keep.join(call(), "b".into(), Role::Seat, 3);
        keep.end(call(), Ending { cause: 16, ..Ending::default() }, 10);
        assert!(keep.due(SOON).is_empty());
        keep.message(seen(SOON, "BYE", "a"));
        let traces = keep.due(10 + SOON);
        let [trace] = traces.as_slice() else { panic!("{traces:?}") };
        assert_eq!(trace.messages.iter().map(|m| m.at).collect::<Vec<_>>(), [1, 2, 3, 4, SOON]);
        assert_eq!(trace.legs.iter().map(|l| l.0).collect::<Vec<_>>(), [Role::Caller, Role::Seat]);
        assert!(keep.due(20 + SOON).is_empty(), "once");
        keep.message(seen(2 * SOON, "BYE", "a"));
        assert!(keep.due(3 * SOON - 1).is_empty(), "it may not be over yet");
        assert_eq!(keep.due(3 * SOON)[0].messages.len(), 6, "again with what came late");
        assert!(keep.due(10 + LATE).is_empty());
        assert!(keep.legs.is_empty() && keep.calls.is_empty() && keep.bytes == 0);
    }

    #[test]
    fn what_was_refused_has_a_trace_of_its_own_and_its_reason() {
        let mut keep = Keep::for_traces(2000);
        keep.message(refused(seen(5, "INVITE", "x")));
        let answer = Raw {
            way: Way::Out,
            bytes: b"SIP/2.0 404 Not Found\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\r\n".to_vec(),
            ..seen(6, "", "")
        };
        keep.message(answer);
        let traces = keep.due(6 + SOON);
        assert_eq!((traces[0].refused, traces[0].ending.cause, traces[0].messages.len()), (true, 1, 2));
        assert!(traces[0].ending.why.starts_with("refused with 404: the number dialled"), "{}", traces[0].ending.why);
        assert_eq!((traces[0].ending.from.as_str(), traces[0].ending.to.as_str()), ("138****8000", "400"));
        keep.due(6 + LATE);
        assert!(keep.legs.is_empty() && keep.strangers == 0 && keep.bytes == 0);
    }

    #[test]
    fn neither_one_call_nor_a_flood_takes_more_than_its_share() {
        let mut keep = Keep::for_traces(2000);
        keep.message(seen(0, "INVITE", "a"));
        for at in 1..1000 {
            keep.message(seen(at, "INFO", "a"));
        }
        keep.join(call(), "a".into(), Role::Caller, 0);
        let heard = &keep.legs["a"];
        assert_eq!((heard.messages.len(), heard.lost), (MESSAGES, 800));
        assert_eq!((heard.messages[FIRST - 1].at, heard.messages[MESSAGES - 1].at), (FIRST as u64 - 1, 999));
        let kept = |n: u64| keep.message(refused(seen(n, "INVITE", &format!("s{n}"))));
        assert_eq!((0..2000).map(kept).filter(|k| *k == Kept::Yes).count(), STRANGERS);
        assert_eq!(keep.message(seen(1, "INVITE", "b")), Kept::Yes, "a call finds room all the same");
        assert_eq!(keep.due(5 * SOON).len(), STRANGERS_A_LOOK);
        keep.due(5 * SOON + LATE);
        assert_eq!(keep.strangers, 0);
    }

    #[test]
    fn where_thousands_of_calls_end_ordinary_ones_are_spared_and_failed_ones_written() {
        let mut keep = Keep::for_traces(2000);
        let (per_s, calls) = (2000 / KEPT_S, 400);
        for n in 0..calls {
            let (id, call) = (format!("c{n}"), CallId::new(1, u128::from(n)));
            keep.message(seen(n, "INVITE", &id));
            keep.join(call, id, Role::Caller, n);
            let cause = if n % 10 == 0 { 41 } else { ORDINARY };
            keep.end(call, Ending { cause, ..Ending::default() }, n);
        }
        let written = keep.due(calls + SOON);
        let failed = written.iter().filter(|t| t.ending.cause == 41).count() as u64;
        assert_eq!((failed, written.len() as u64 - failed), (calls / 10, 2 * per_s));
        assert_eq!(keep.spared(), calls - calls / 10 - 2 * per_s);
        assert!(keep.rest().is_empty(), "nor at the end of the program");
        // A second later there is room again.
        keep.message(seen(3 * SOON, "INVITE", "later"));
        keep.join(CallId::new(2, 7), "later".into(), Role::Caller, 3 * SOON);
        keep.end(CallId::new(2, 7), Ending { cause: ORDINARY, ..Ending::default() }, 3 * SOON);
        assert_eq!(keep.due(4 * SOON).len(), 1);
    }

    #[test]
    fn calls_that_are_spared_leave_their_room_to_one_that_failed() {
        let mut keep = Keep::for_traces(2000);
        let ended = |keep: &mut Keep, n: u64, cause: u16| {
            let (at, id, call) = (n * 2000, format!("c{n}"), CallId::new(n as i64, 7));
            keep.message(seen(at, "INVITE", &id));
            keep.join(call, id, Role::Caller, at);
            keep.end(call, Ending { cause, ..Ending::default() }, at + 1);
        };
        // 500 a second, 33 of which are kept.
        for n in 0..10_000 {
            ended(&mut keep, n, 16);
            if n % 50 == 0 {
                keep.due(n * 2000);
            }
        }
        assert!(keep.legs.len() < 2000 && keep.spared() > 8000, "{} legs, {} spared", keep.legs.len(), keep.spared());
        let known = keep.legs.len();
        let spared = *keep.spared.iter().next().expect("one of thousands");
        keep.join(spared, "too late".into(), Role::Seat, 20_000_000);
        assert_eq!(keep.legs.len(), known, "a leg of a call that was spared is not waited for until tomorrow");
        ended(&mut keep, 10_001, 41);
        let due = keep.due(10_001 * 2000 + 1 + SOON);
        assert!(due.iter().any(|t| t.ending.cause == 41 && t.messages.len() == 1), "{}", due.len());
    }
}
