//! Transactions (RFC 3261 section 17, RFC 6026): what is repeated, what is answered again, and for how long.
//!
//! A value without sockets, clocks or chance: messages and the time go in, what is to be sent or told comes out.

use super::compose;
use super::event::DialogId;
use super::transport::Hop;
use super::wire::{Via, Wire, split_outside, tag_of};
use crate::clock::Mono;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Transactions at once. Calls and what is said inside them are limited long before; this is the last wall.
const MOST: usize = 500_000;
/// Longest time an INVITE of ours may go on ringing.
const LONGEST_RING: Duration = Duration::from_secs(3600);
/// Begins the branch of everybody since RFC 3261.
const COOKIE: &str = "z9hG4bK";

/// Names a transaction: of a request that came by its branch, its sender and its method (section 17.2.3), of one of ours
/// by its branch and method.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key(Arc<str>);

impl Key {
    /// Of a request; for `method` INVITE also the one that an ACK or CANCEL is about.
    pub fn of(wire: &Wire, method: &str) -> Option<Key> {
        let first = split_outside(wire.get("via")?, b',')?.into_iter().next()?;
        let via = Via::parse(first)?;
        let branch = via.branch();
        // The call is part of the name: a branch that two calls share, by mistake or on purpose, must not make one of them.
        let number = wire.get("cseq")?.split_whitespace().next()?;
        let call = format!("{} {} {number}", wire.get("call-id")?, tag_of(wire.get("from")?).unwrap_or_default());
        let name = if branch.len() > COOKIE.len() && branch.starts_with(COOKIE) {
            format!("{branch} {} {call} {method}", via.sent_by)
        } else {
            // Who speaks RFC 2543 has no branch that would be its own.
            format!("{} {call} {method}", via.write())
        };
        Some(Key(name.into()))
    }

    /// The branch, of an INVITE of ours.
    pub fn branch(&self) -> &str {
        &self.0
    }

    /// Of a request of ours.
    pub fn ours(branch: &str, method: &str) -> Key {
        // A CANCEL has its INVITE's branch.
        Key(if method == "CANCEL" { format!("{branch} {method}") } else { branch.to_string() }.into())
    }
}

/// T1, T2 and T4 of RFC 3261.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub t1: Duration,
}

impl Times {
    fn t2(self) -> Duration {
        self.t1 * 8
    }

    /// How long a transaction is waited for.
    pub fn whole(self) -> Duration {
        self.t1 * 64
    }

    /// How long we may think before a caller is told that we do (section 17.2.1: 200 ms).
    fn silence(self) -> Duration {
        self.t1 * 2 / 5
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Served {
    /// Nothing was answered.
    Fresh,
    /// A provisional response was.
    Provisional,
    /// An INVITE was refused and its ACK is waited for.
    Refused,
    /// An INVITE was answered and its ACK is waited for.
    Answered,
    /// Over; late repetitions of the request find their answer.
    Over,
}

/// A request that came.
struct Server {
    hop: Hop,
    invite: bool,
    dialog: Option<DialogId>,
    stage: Served,
    /// What its answers begin with.
    head: String,
    /// The last answer.
    answer: Vec<u8>,
    pause: Duration,
    again: Option<Mono>,
    until: Option<Mono>,
}

/// Who hears of the answers to a request of ours.
#[derive(Debug)]
pub(super) enum Waits {
    /// The dialog that a first INVITE of ours begins.
    Invite(DialogId),
    /// Somebody for the final one.
    Final(oneshot::Sender<Wire<'static>>),
    /// Nobody.
    Nobody,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Calling,
    Provisional,
    Refused,
    Answered,
}

/// A request of ours.
struct Client {
    hop: Hop,
    invite: bool,
    stage: Asked,
    /// The request; its ACK once it was refused.
    bytes: Vec<u8>,
    waits: Waits,
    /// Its CANCEL went out.
    cancelled: bool,
    pause: Duration,
    again: Option<Mono>,
    until: Mono,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Server(Key),
    Client(Key),
    Dialog(DialogId),
}

/// What a repeated request gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Repeated {
    /// It is none.
    New,
    /// Nothing: it is being thought about.
    Nothing,
    /// The same again.
    Again(Hop, Vec<u8>),
}

/// What an answer is to us.
#[derive(Debug)]
pub(super) enum Heard {
    /// Of nothing that we asked, or nothing new.
    Nothing,
    /// Nothing new, and this is sent again.
    Again(Hop, Vec<u8>),
    /// For a first INVITE of this dialog; with the ACK of a refusal.
    Invite(DialogId, Option<(Hop, Vec<u8>)>),
    /// A final answer that somebody waits for; with the ACK of a refusal.
    Final(oneshot::Sender<Wire<'static>>, Option<(Hop, Vec<u8>)>),
    /// A final answer that nobody waits for.
    Unwanted,
}

/// What the time has brought.
#[derive(Debug)]
pub(super) enum Fired {
    Send(Hop, Vec<u8>),
    /// A request of ours got no answer.
    TimedOut(Waits),
    /// An answer of ours to an INVITE of that dialog was never confirmed.
    Unconfirmed(DialogId),
    /// Something of a dialog is due.
    Dialog(DialogId),
}

/// All of them.
pub(super) struct Transactions {
    times: Times,
    servers: HashMap<Key, Server>,
    clients: HashMap<Key, Client>,
    timers: BTreeSet<(Mono, Timer)>,
}

impl Server {
    fn due(&self) -> Option<Mono> {
        self.again.into_iter().chain(self.until).min()
    }
}

impl Client {
    fn due(&self) -> Mono {
        self.again.map_or(self.until, |again| again.min(self.until))
    }
}

impl Transactions {
    pub fn new(t1: Duration) -> Transactions {
        let (servers, clients, timers) = Default::default();
        Transactions { times: Times { t1 }, servers, clients, timers }
    }

    /// Whether no more are taken.
    pub fn are_full(&self) -> bool {
        self.servers.len() >= MOST
    }

    /// How many still wait for something.
    pub fn under_way(&self) -> usize {
        let served = self.servers.values().filter(|s| s.stage != Served::Over).count();
        let asked = self.clients.values().filter(|c| matches!(c.stage, Asked::Calling | Asked::Provisional)).count();
        served + asked
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<Mono> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Something of a dialog is due then, in place of what was due at `before`.
    pub fn schedule(&mut self, dialog: DialogId, before: Option<Mono>, at: Option<Mono>) {
        before.map(|before| self.timers.remove(&(before, Timer::Dialog(dialog))));
        at.map(|at| self.timers.insert((at, Timer::Dialog(dialog))));
    }

    // ---- Requests that come

    /// Whether a request came before, and what it gets then. An INVITE that nothing was said to yet gets its 100 now.
    pub fn repeated(&mut self, key: &Key, agent: &str) -> Repeated {
        let Some(server) = self.servers.get_mut(key) else { return Repeated::New };
        if server.stage == Served::Fresh && server.invite {
            server.stage = Served::Provisional;
            server.answer = compose::response(100, &server.head, &compose::Content::default(), agent);
            let at = server.again.take();
            at.map(|at| self.timers.remove(&(at, Timer::Server(key.clone()))));
        }
        match server.stage {
            // An answer is repeated until its ACK anyway.
            Served::Answered | Served::Fresh => Repeated::Nothing,
            _ if server.answer.is_empty() => Repeated::Nothing,
            _ => Repeated::Again(server.hop, server.answer.clone()),
        }
    }

    /// A request came; `head` is what its answers begin with.
    pub fn begin(&mut self, key: Key, hop: Hop, (invite, dialog): (bool, Option<DialogId>), head: String, now: Mono) {
        let (again, until) = match invite {
            true => (Some(now + self.times.silence()), None),
            false => (None, Some(now + self.times.whole())),
        };
        let server = Server {
            hop,
            invite,
            dialog,
            stage: Served::Fresh,
            head,
            answer: Vec::new(),
            pause: self.times.t1,
            again,
            until,
        };
        server.due().map(|at| self.timers.insert((at, Timer::Server(key.clone()))));
        self.servers.insert(key, server);
    }

    /// Whether a request still waits for its final answer.
    pub fn is_open(&self, key: &Key) -> bool {
        self.servers.get(key).is_some_and(|s| matches!(s.stage, Served::Fresh | Served::Provisional))
    }

    /// The dialog of an INVITE that came.
    pub fn dialog_of(&self, key: &Key) -> Option<DialogId> {
        self.servers.get(key)?.dialog
    }

    /// Answers: what is to be sent, and where to. `None` where a final answer was given before.
    pub fn respond(
        &mut self,
        key: &Key,
        code: u16,
        content: &compose::Content,
        agent: &str,
        now: Mono,
    ) -> Option<(Hop, Vec<u8>)> {
        let Times { t1 } = self.times;
        let whole = self.times.whole();
        let server = self.servers.get_mut(key)?;
        if !matches!(server.stage, Served::Fresh | Served::Provisional) {
            return None;
        }
        let bytes = compose::response(code, &server.head, content, agent);
        let before = server.due();
        server.answer.clone_from(&bytes);
        server.pause = t1;
        if code < 200 {
            server.stage = Served::Provisional;
            server.again = None;
        } else {
            server.head = String::new();
            server.until = Some(now + whole);
            server.again = None;
            server.stage = match (server.invite, code) {
                (false, _) => Served::Over,
                (true, 200..=299) => Served::Answered,
                (true, _) => Served::Refused,
            };
            // A connection repeats by itself; but an answer to an INVITE has proxies to pass (section 13.3.1.4).
            if server.stage == Served::Answered || server.stage == Served::Refused && !server.hop.transport.is_stream()
            {
                server.again = Some(now + t1);
            }
        }
        let (hop, after) = (server.hop, server.due());
        let gone = server.stage == Served::Over && hop.transport.is_stream();
        self.rearm(Timer::Server(key.clone()), before, after.filter(|_| !gone));
        if gone {
            self.servers.remove(key);
        }
        Some((hop, bytes))
    }

    /// The ACK of an INVITE that was refused, or answered (its own branch is another: `key` is the INVITE's).
    pub fn confirmed(&mut self, key: &Key, now: Mono) {
        let whole = self.times.whole();
        let Some(server) = self.servers.get_mut(key) else { return };
        if !matches!(server.stage, Served::Refused | Served::Answered) {
            return;
        }
        let before = server.due();
        server.stage = Served::Over;
        server.answer = Vec::new();
        server.again = None;
        server.until = Some(now + whole);
        let after = server.due();
        self.rearm(Timer::Server(key.clone()), before, after);
    }

    /// An answer is repeated no more: its call is over.
    pub fn quiet(&mut self, key: &Key) {
        let Some(server) = self.servers.get_mut(key).filter(|s| s.stage == Served::Answered) else { return };
        let before = server.due();
        (server.stage, server.again, server.answer) = (Served::Over, None, Vec::new());
        let after = server.due();
        self.rearm(Timer::Server(key.clone()), before, after);
    }

    fn rearm(&mut self, timer: Timer, before: Option<Mono>, after: Option<Mono>) {
        if before == after {
            return;
        }
        before.map(|at| self.timers.remove(&(at, timer.clone())));
        after.map(|at| self.timers.insert((at, timer)));
    }

    // ---- Requests of ours

    /// A request of ours goes out.
    pub fn ask(&mut self, key: Key, hop: Hop, bytes: Vec<u8>, (invite, waits): (bool, Waits), now: Mono) {
        let again = (!hop.transport.is_stream()).then(|| now + self.times.t1);
        let until = now + self.times.whole();
        let client = Client {
            hop,
            invite,
            stage: Asked::Calling,
            bytes,
            waits,
            cancelled: false,
            pause: self.times.t1,
            again,
            until,
        };
        self.timers.insert((client.due(), Timer::Client(key.clone())));
        self.clients.insert(key, client);
    }

    /// The CANCEL of an INVITE of ours that has been heard of; from now on its end is waited for no longer than that of
    /// any request (section 9.1).
    pub fn cancel(&mut self, key: &Key, now: Mono) -> Option<(Hop, Vec<u8>)> {
        let whole = self.times.whole();
        let client = self.clients.get_mut(key).filter(|c| c.stage == Asked::Provisional && !c.cancelled)?;
        let before = client.due();
        client.cancelled = true;
        client.until = client.until.min(now + whole);
        let (hop, after, bytes) = (client.hop, client.due(), compose::cancel_of(&client.bytes)?);
        self.rearm(Timer::Client(key.clone()), Some(before), Some(after));
        Some((hop, bytes))
    }

    /// Whether an INVITE of ours has been answered by nothing at all.
    pub fn is_unheard(&self, key: &Key) -> bool {
        self.clients.get(key).is_some_and(|c| c.stage == Asked::Calling)
    }

    /// An answer came.
    pub fn heard(&mut self, key: &Key, code: u16, to: &str, now: Mono) -> Heard {
        let (t2, whole) = (self.times.t2(), self.times.whole());
        let Some(client) = self.clients.get_mut(key) else { return Heard::Nothing };
        let before = client.due();
        match (client.stage, client.invite, code) {
            (Asked::Refused, _, 300..) => return Heard::Again(client.hop, client.bytes.clone()),
            (Asked::Answered, _, 200..=299) => {
                return match client.waits {
                    Waits::Invite(dialog) => Heard::Invite(dialog, None),
                    _ => Heard::Unwanted,
                };
            }
            (Asked::Refused | Asked::Answered, ..) => return Heard::Nothing,
            (_, true, ..200) => {
                client.stage = Asked::Provisional;
                client.again = None;
                if !client.cancelled {
                    client.until = now + LONGEST_RING;
                }
            }
            (_, false, ..200) => (client.stage, client.pause) = (Asked::Provisional, t2),
            (_, true, 200..=299) => {
                (client.stage, client.again, client.until) = (Asked::Answered, None, now + whole);
                client.bytes = Vec::new();
            }
            (_, true, _) => {
                (client.stage, client.again, client.until) = (Asked::Refused, None, now + whole);
                client.bytes = compose::ack_of(&client.bytes, to).unwrap_or_default();
            }
            (_, false, _) => {}
        }
        let ack = (client.stage == Asked::Refused).then(|| (client.hop, client.bytes.clone()));
        let gone = code >= 200 && (!client.invite || code >= 300 && client.hop.transport.is_stream());
        let after = client.due();
        let waits = match &mut client.waits {
            Waits::Invite(dialog) => Waits::Invite(*dialog),
            waits if code >= 200 => std::mem::replace(waits, Waits::Nobody),
            _ => Waits::Nobody,
        };
        self.rearm(Timer::Client(key.clone()), Some(before), (!gone).then_some(after));
        if gone {
            self.clients.remove(key);
        }
        match waits {
            Waits::Invite(dialog) => Heard::Invite(dialog, ack),
            Waits::Final(sender) => Heard::Final(sender, ack),
            Waits::Nobody => match ack {
                Some((hop, bytes)) => Heard::Again(hop, bytes),
                None if code >= 200 => Heard::Unwanted,
                None => Heard::Nothing,
            },
        }
    }

    /// Nobody waits for the answer any more. What was answered may still be answered again.
    pub fn give_up(&mut self, key: &Key) {
        let Some(client) = self.clients.get_mut(key) else { return };
        match client.stage {
            // It may be answered yet, and then wants its ACK.
            _ if client.invite => client.waits = Waits::Nobody,
            Asked::Calling | Asked::Provisional => drop(self.failed(key)),
            Asked::Refused | Asked::Answered => {}
        }
    }

    /// A request of ours could not be sent.
    pub fn failed(&mut self, key: &Key) -> Option<Waits> {
        let client = self.clients.remove(key)?;
        self.timers.remove(&(client.due(), Timer::Client(key.clone())));
        Some(client.waits)
    }

    // ---- Time

    /// What is due now, one thing at a time.
    pub fn fire(&mut self, now: Mono, agent: &str) -> Option<Fired> {
        loop {
            if self.timers.first().is_none_or(|(at, _)| *at > now) {
                return None;
            }
            let (_, timer) = self.timers.pop_first()?;
            let fired = match timer {
                Timer::Dialog(dialog) => Some(Fired::Dialog(dialog)),
                Timer::Server(key) => self.serve(key, now, agent),
                Timer::Client(key) => self.repeat(key, now),
            };
            if fired.is_some() {
                return fired;
            }
        }
    }

    fn serve(&mut self, key: Key, now: Mono, agent: &str) -> Option<Fired> {
        let t2 = self.times.t2();
        let server = self.servers.get_mut(&key)?;
        if server.until.is_some_and(|until| until <= now) {
            let server = self.servers.remove(&key)?;
            return server.dialog.filter(|_| server.stage == Served::Answered).map(Fired::Unconfirmed);
        }
        if server.stage == Served::Fresh {
            server.stage = Served::Provisional;
            server.answer = compose::response(100, &server.head, &compose::Content::default(), agent);
            server.again = None;
        } else {
            server.pause = (server.pause * 2).min(t2);
            server.again = Some(now + server.pause);
        }
        let fired = Fired::Send(server.hop, server.answer.clone());
        server.due().map(|at| self.timers.insert((at, Timer::Server(key))));
        Some(fired)
    }

    fn repeat(&mut self, key: Key, now: Mono) -> Option<Fired> {
        let t2 = self.times.t2();
        let client = self.clients.get_mut(&key)?;
        if client.until <= now {
            let client = self.clients.remove(&key)?;
            let waited = matches!(client.stage, Asked::Calling | Asked::Provisional);
            return waited.then_some(Fired::TimedOut(client.waits));
        }
        client.pause = if client.invite { client.pause * 2 } else { (client.pause * 2).min(t2) };
        client.again = Some(now + client.pause);
        let fired = Fired::Send(client.hop, client.bytes.clone());
        self.timers.insert((client.due(), Timer::Client(key)));
        Some(fired)
    }
}

#[cfg(test)]
#[path = "transactions_tests.rs"]
mod tests;
