//! What all tasks of an agent share, and the road of a message from its socket to the dialog it belongs to.

use super::compose::Content;
use super::counters::bump;
use super::dialog::{Dialog, Ready, Writer};
use super::event::{DialogId, EndWhy, SipEvent};
use super::gate::{Gate, Outcome, lock};
use super::refused::RefusedFor;
use super::stream::{Crowd, Flow};
use super::time::now;
use super::timed::{self, Timed};
use super::tls::Tls;
use super::transactions::{Fired, Key, Repeated, Transactions, Waits};
use super::transport::{Hop, Transport};
use super::udp::as_bound;
use super::wire::{Start, Wire};
use super::{answers, arriving, inside, stream};
use crate::clock::Mono;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// Events that may wait beside a full queue before requests inside calls are refused for now.
const WAITING: usize = 1024;

/// A dialog as the agent sees it.
pub(super) struct Entry {
    pub dialog: Dialog,
    /// Transaction of the INVITE that came first.
    pub invite: Option<Key>,
    /// A final response went out or came in.
    pub answered: bool,
    /// The last event was sent.
    pub over: bool,
    /// Our INVITE, until it is answered.
    pub inviting: Option<Box<Inviting>>,
    /// We have a re-INVITE of our own under way.
    pub asking: bool,
    /// Their re-INVITEs waiting for our answer.
    pub asked: HashMap<u64, Asked>,
    /// Answers of ours to INVITEs whose ACK has not come: number and transaction.
    pub unconfirmed: Vec<(u32, Key)>,
    /// ACKs that we sent, by number and the To-tag of what they confirm: a repeated answer gets its own again.
    pub acks: Vec<(u32, String, Ready)>,
    /// What it does by itself as time passes.
    pub timed: Timed,
    /// When something of that is due.
    pub due: Option<Mono>,
    /// Our REFER waits for what becomes of it: status codes of its NOTIFYs.
    pub referring: Option<mpsc::Sender<u16>>,
    /// NOTIFYs of ours go out one after the other.
    pub notices: Arc<tokio::sync::Mutex<()>>,
    /// For the challenges of who is called.
    pub credential: Option<Box<super::Credential>>,
}

impl Entry {
    /// The INVITE of a live call that came in and has no final response yet.
    pub fn unanswered(&self) -> Option<Key> {
        self.invite.clone().filter(|_| !self.answered && !self.over)
    }
}

/// An INVITE of ours that waits for its answer, and what it takes to send it once more.
pub(super) struct Inviting {
    pub key: Key,
    pub content: Content,
    pub uri: String,
    /// The shortest session it asks for, s.
    pub min: u32,
    /// It was sent again after a 422, and after so many challenges.
    pub longer: bool,
    pub proved: u8,
    pub proof: Option<(&'static str, String)>,
}

/// A re-INVITE or UPDATE waiting for our answer, the remote target it brings if we accept it, and the session timer
/// it asks for.
pub(super) struct Asked {
    pub key: Key,
    /// Its number, of an INVITE: an ACK follows.
    pub invite: Option<u32>,
    pub target: Option<(String, Hop)>,
    pub timer: super::session_timer::Asked,
    /// Where it came from.
    pub source: IpAddr,
}

/// Shared by all tasks of an agent.
pub(super) struct Hub {
    pub gate: Arc<Gate>,
    pub udp: Arc<UdpSocket>,
    pub events: mpsc::Sender<SipEvent>,
    /// Events that found the queue full, and who brings them there.
    pub waiting: Mutex<VecDeque<SipEvent>>,
    pub waits: Notify,
    pub entries: Mutex<HashMap<DialogId, Entry>>,
    pub transactions: Mutex<Transactions>,
    /// Something is due earlier than what is waited for.
    pub due: Notify,
    /// Connections right now.
    pub flows: Mutex<HashMap<Hop, Flow>>,
    pub crowd: Crowd,
    pub tls: Tls,
    /// What keeps our registrations elsewhere fresh, by server and user.
    pub renewals: Mutex<HashMap<(SocketAddr, String), CancellationToken>>,
    /// Servers that took no connection when a request was too long for a datagram, and when that was.
    pub deaf: Mutex<HashMap<SocketAddr, Mono>>,
    pub token: CancellationToken,
    pub addresses: Addresses,
}

/// Where we are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    /// As configured, behind address translation.
    pub public: Option<IpAddr>,
    /// Bound address, as advertised to peers without a better one.
    pub local: SocketAddr,
    /// Address the sockets are bound to; may be unspecified.
    pub bound: SocketAddr,
    /// Ports of the other transports that are open.
    pub ports: Ports,
}

impl Addresses {
    /// The address that a transport's socket is bound to.
    pub fn bound_for(&self, transport: Transport) -> SocketAddr {
        SocketAddr::new(self.bound.ip(), self.ports.of(transport).unwrap_or(self.bound.port()))
    }

    /// Our address for a transport as `peer` should see it.
    pub fn seen_by(&self, peer: SocketAddr, transport: Transport) -> SocketAddr {
        let ip: IpAddr = match self.public {
            Some(ip) => ip,
            None if !self.bound.ip().is_unspecified() => self.bound.ip(),
            None => super::gate::local_ip_for(peer).unwrap_or(self.local.ip()),
        };
        SocketAddr::new(ip, self.ports.of(transport).unwrap_or(self.bound.port()))
    }
}

/// Ports beside that of UDP and TCP.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ports {
    pub tls: Option<u16>,
    pub ws: Option<u16>,
    pub wss: Option<u16>,
}

impl Ports {
    /// Where we listen for a transport; where we do not, nobody can call back but on the connection itself.
    fn of(self, transport: Transport) -> Option<u16> {
        match transport {
            Transport::Udp | Transport::Tcp => None,
            Transport::Tls => self.tls,
            Transport::Ws => self.ws,
            Transport::Wss => self.wss,
        }
    }
}

/// Bytes to send back at once.
pub(super) struct Answer {
    pub bytes: Vec<u8>,
    pub close: bool,
}

impl Hub {
    /// Takes one message from a socket through the gate to its dialog; returns what to answer at once.
    pub fn received(self: &Arc<Self>, data: &[u8], hop: Hop) -> Option<Answer> {
        let gate = &self.gate;
        let judge = || gate.inspect(data, hop.at, hop.transport, now(), rand::random());
        let judged = catch_unwind(AssertUnwindSafe(judge));
        let why = judged.as_ref().ok().and_then(Outcome::why);
        gate.tracer.heard(hop.transport, hop.at, data, why);
        match judged {
            Ok(Outcome::Pass { wire, call }) => {
                if catch_unwind(AssertUnwindSafe(|| self.take(&wire, hop, call))).is_err() {
                    bump(&gate.counters.panics);
                    call.into_iter().for_each(|call| gate.calls(|c| c.end(call, now())));
                }
                None
            }
            Ok(Outcome::Reply { bytes, close, event, .. }) => {
                if let Some(event) = event {
                    self.tell_or_lose(*event);
                }
                gate.tracer.sent(Some(hop.transport), Some(hop.at), || bytes.clone());
                Some(Answer { bytes, close })
            }
            Ok(Outcome::Drop { close, .. }) => close.then_some(Answer { bytes: Vec::new(), close }),
            Err(_) => {
                bump(&gate.counters.panics);
                None
            }
        }
    }

    /// A message that passed the gate; `call` is the line that it let a new call have.
    fn take(self: &Arc<Self>, wire: &Wire, hop: Hop, call: Option<DialogId>) {
        let method = match &wire.start {
            Start::Response { code, .. } => return answers::take(self, wire, *code, hop),
            Start::Request { method, .. } => method.as_str(),
        };
        if method == "ACK" {
            return arriving::confirmed(self, wire);
        }
        let Some(key) = Key::of(wire, method) else { return };
        let agent = &self.gate.settings.user_agent;
        let repeated = self.transactions(|t| t.repeated(&key, agent));
        if repeated != Repeated::New {
            // What is no new call after all gives its line back.
            call.into_iter().for_each(|call| self.gate.calls(|c| c.end(call, now())));
        }
        match repeated {
            Repeated::New if self.transactions(|t| t.are_full()) => {
                bump(&self.gate.counters.limited);
                call.into_iter().for_each(|call| self.gate.calls(|c| c.end(call, now())));
            }
            Repeated::New => match method {
                "INVITE" if super::wire::tag_of(wire.get("to").unwrap_or_default()).is_none() => {
                    arriving::invited(self, wire, key, hop, call);
                }
                "CANCEL" => arriving::cancelled(self, wire, key, hop),
                _ => inside::take(self, wire, key, hop, method),
            },
            Repeated::Nothing => {}
            Repeated::Again(hop, bytes) => self.send(hop, bytes),
        }
    }

    /// Sends bytes. What a connection that is not there was to carry is lost; requests of ours open one before.
    pub fn send(&self, hop: Hop, bytes: Vec<u8>) {
        self.gate.tracer.sent(Some(hop.transport), Some(hop.at), || bytes.clone());
        if hop.transport.is_stream() {
            if let Some(flow) = lock(&self.flows).get(&hop).cloned() {
                flow.post(bytes);
            }
            return;
        }
        let to = as_bound(&self.udp, hop.at);
        if let Err(error) = self.udp.try_send_to(&bytes, to)
            && error.kind() == std::io::ErrorKind::WouldBlock
        {
            let udp = self.udp.clone();
            tokio::spawn(async move { udp.send_to(&bytes, to).await.ok() });
        }
    }

    /// Sends a request of ours, and remembers who waits for its answer.
    pub fn ask(self: &Arc<Self>, method: &str, ready: Ready, waits: Waits) -> Key {
        let key = Key::ours(&ready.branch, method);
        let Ready { hop, host, bytes, .. } = ready;
        self.transactions(|t| t.ask(key.clone(), hop, bytes.clone(), (method == "INVITE", waits), now()));
        self.carry(key.clone(), (hop, host), bytes);
        key
    }

    /// Sends a request by a connection that may have to be opened first.
    fn carry(self: &Arc<Self>, key: Key, (hop, host): (Hop, Option<String>), bytes: Vec<u8>) {
        if !hop.transport.is_stream() || self.is_open(hop) {
            return self.send(hop, bytes);
        }
        let hub = self.clone();
        tokio::spawn(async move {
            let name = host.unwrap_or_else(|| hop.at.ip().to_string());
            match stream::connect(&hub, hop.at, hop.transport, &name).await {
                Ok(()) => hub.send(hop, bytes),
                Err(error) => {
                    tracing::debug!(%error, "a request could not be sent");
                    let waits = hub.transactions(|t| t.failed(&key));
                    waits.into_iter().for_each(|waits| answers::timed_out(&hub, waits));
                }
            }
        });
    }

    /// Sends a request or ACK that nobody waits for.
    pub fn ask_in_passing(self: &Arc<Self>, method: &str, ready: Ready) {
        match method {
            "ACK" => self.carry(Key::ours(&ready.branch, method), (ready.hop, ready.host), ready.bytes),
            _ => drop(self.ask(method, ready, Waits::Nobody)),
        }
    }

    /// Whether a connection is there.
    pub fn is_open(&self, hop: Hop) -> bool {
        lock(&self.flows).contains_key(&hop)
    }

    /// Runs `f` with what a dialog needs to write a request.
    pub fn writing<R>(&self, f: impl FnOnce(&Writer<'_>) -> R) -> R {
        let seen_by = |peer, transport| self.addresses.seen_by(peer, transport);
        let is_open = |hop| self.is_open(hop);
        let agent = &self.gate.settings.user_agent;
        f(&Writer { seen_by: &seen_by, is_open: &is_open, agent, random: rand::random() })
    }

    /// Answers a request; false where it was answered before.
    pub fn respond(&self, key: &Key, code: u16, content: &Content) -> Option<Vec<u8>> {
        let agent = &self.gate.settings.user_agent;
        let (hop, bytes) = self.transactions(|t| t.respond(key, code, content, agent, now()))?;
        self.send(hop, bytes.clone());
        Some(bytes)
    }

    /// Runs `f` on the transactions; wakes the clock where something is due earlier than before.
    pub fn transactions<R>(&self, f: impl FnOnce(&mut Transactions) -> R) -> R {
        let mut all = lock(&self.transactions);
        let before = all.next_due();
        let result = f(&mut all);
        let after = all.next_due();
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.due.notify_one();
        }
        result
    }

    /// Counts a request that is refused with a status; `why` where the status alone does not tell.
    pub fn count_refusal(&self, code: u16, why: Option<RefusedFor>, source: IpAddr, method: &str) {
        if let Some(why) = why.or(RefusedFor::of_status(code)) {
            self.gate.counters.refused.note(why, source, &format!("{method} answered {code}"), now());
        }
    }

    /// Sends an event. Where the queue is full it waits beside it, in order; new calls are refused then.
    pub fn tell(&self, event: SipEvent) {
        let mut waiting = lock(&self.waiting);
        let event = match waiting.is_empty() {
            true => match self.events.try_send(event) {
                Err(mpsc::error::TrySendError::Full(event)) => event,
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => return,
            },
            false => event,
        };
        waiting.push_back(event);
        self.waits.notify_one();
    }

    /// Sends an event if there is room.
    pub fn tell_or_lose(&self, event: SipEvent) {
        if !self.has_room() || self.events.try_send(event).is_err() {
            bump(&self.gate.counters.events_lost);
        }
    }

    /// Whether events are being read.
    pub fn has_room(&self) -> bool {
        self.events.capacity() > 0 && lock(&self.waiting).is_empty()
    }

    /// Whether so many events wait that what can be asked again later is refused.
    pub fn is_behind(&self) -> bool {
        lock(&self.waiting).len() >= WAITING
    }

    /// Runs `f` on a live dialog's entry, and notes when something of it is due from then on.
    pub fn entry<R>(&self, id: DialogId, f: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let mut entries = lock(&self.entries);
        let entry = entries.get_mut(&id)?;
        let result = f(entry);
        let due = if entry.over { None } else { entry.timed.due() };
        if due != entry.due {
            let before = std::mem::replace(&mut entry.due, due);
            self.transactions(|t| t.schedule(id, before, due));
        }
        Some(result)
    }

    /// Puts a dialog on the list.
    pub fn insert(&self, id: DialogId, dialog: Dialog, invite: Option<Key>) {
        let entry = Entry {
            dialog,
            invite,
            answered: false,
            over: false,
            inviting: None,
            asking: false,
            asked: HashMap::new(),
            unconfirmed: Vec::new(),
            acks: Vec::new(),
            timed: Timed::default(),
            due: None,
            referring: None,
            notices: Arc::default(),
            credential: None,
        };
        lock(&self.entries).insert(id, entry);
    }

    /// Marks a dialog as over; true the first time. Its line is free from now on.
    pub fn close(&self, id: DialogId) -> bool {
        let first = self.entry(id, |e| !std::mem::replace(&mut e.over, true)).unwrap_or(false);
        if first {
            self.gate.calls(|c| c.end(id, now()));
        }
        first
    }

    /// Ends a dialog on our side: the last event goes out now, whatever the other side still says.
    pub fn finish(&self, id: DialogId, why: EndWhy) {
        if self.close(id) {
            self.tell(SipEvent::Ended { dialog: id, why });
        }
    }

    /// Forgets a dialog altogether.
    pub fn forget(&self, id: DialogId) {
        self.close(id);
        let Some(entry) = lock(&self.entries).remove(&id) else { return };
        // What still waits for an answer of ours gets one.
        for asked in entry.asked.values() {
            self.respond(&asked.key, if asked.invite.is_some() { 487 } else { 481 }, &Content::default());
        }
        if let Some(invite) = entry.invite.as_ref().filter(|_| !entry.answered) {
            self.respond(invite, 487, &Content::default());
        }
        self.transactions(|t| {
            t.schedule(id, entry.due, None);
            entry.unconfirmed.iter().for_each(|(_, key)| t.quiet(key));
        });
    }

    /// Our address for a transport as `peer` should see it.
    pub fn address_by(&self, peer: SocketAddr, transport: Transport) -> SocketAddr {
        self.addresses.seen_by(peer, transport)
    }

    /// Our address as `peer` should see it.
    pub fn address_for(&self, peer: SocketAddr) -> SocketAddr {
        self.addresses.seen_by(peer, Transport::Udp)
    }
}

/// Does what is due, when it is due, until the agent stops.
pub(super) async fn keep_time(hub: Arc<Hub>) {
    loop {
        let next = lock(&hub.transactions).next_due();
        let until = timed::instant(next.unwrap_or(now() + Duration::from_secs(3600)));
        tokio::select! {
            () = hub.token.cancelled() => return,
            () = tokio::time::sleep_until(until) => {}
            () = hub.due.notified() => {}
        }
        loop {
            let fired = hub.transactions(|t| t.fire(now(), &hub.gate.settings.user_agent));
            let Some(fired) = fired else { break };
            let act = || match fired {
                Fired::Send(hop, bytes) => hub.send(hop, bytes),
                Fired::TimedOut(waits) => answers::timed_out(&hub, waits),
                Fired::Unconfirmed(id) => inside::never_confirmed(&hub, id),
                Fired::Dialog(id) => timed::overdue(&hub, id),
            };
            if catch_unwind(AssertUnwindSafe(act)).is_err() {
                bump(&hub.gate.counters.panics);
            }
        }
    }
}

/// Brings events that found the queue full to their reader, until the agent stops.
pub(super) async fn bring(hub: Arc<Hub>) {
    loop {
        tokio::select! {
            () = hub.token.cancelled() => break,
            () = hub.waits.notified() => {}
        }
        while !lock(&hub.waiting).is_empty() {
            let permit = tokio::select! {
                () = hub.token.cancelled() => break,
                permit = hub.events.reserve() => permit,
            };
            let Ok(permit) = permit else { return lock(&hub.waiting).clear() };
            // Taken only now: who tells meanwhile must find it there.
            let mut waiting = lock(&hub.waiting);
            if let Some(event) = waiting.pop_front() {
                permit.send(event);
            }
        }
    }
    // The last words, as far as there is room.
    let mut waiting = lock(&hub.waiting);
    while let Some(event) = waiting.pop_front() {
        if hub.events.try_send(event).is_err() {
            return;
        }
    }
}
