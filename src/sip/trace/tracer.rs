//! From the taps to the files: signalling puts a copy into a bounded queue and goes on; one thread masks, gathers, writes.

use super::keep::{Keep, Kept};
use super::mask;
use super::shelf::Filing;
use super::{Ending, Gathered, LegTrace, Raw, Role, Seen, Trace, TraceSettings, Way};
use crate::ids::CallId;
use crate::sip::gate::local_ip_for;
use crate::sip::refused::RefusedFor;
use crate::sip::time;
use crate::sip::transport::Transport;
use crate::sip::uri::{Host, SipUri};
use crate::sip::wire::{Start, Via, Wire};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Messages that may wait, and their bytes.
const QUEUE: usize = 8192;
const QUEUE_BYTES: usize = 16 << 20;
/// Longest message kept; nothing that works is longer.
const LONGEST: usize = 64 * 1024;
/// How often the queue is emptied and what is due looked for.
const LOOK: Duration = Duration::from_millis(100);
/// Own addresses remembered, by peer.
const ROUTES: usize = 1024;

enum Note {
    Message(Raw),
    Join(CallId, String, Role, u64),
    End(CallId, Box<Ending>, u64),
}

#[derive(Debug, Default)]
struct Figures {
    /// Messages that found no room.
    lost: AtomicU64,
    written: AtomicU64,
    /// Traces the disk did not take.
    failed: AtomicU64,
    /// Of ordinary calls, not written because they would not have been kept.
    spared: AtomicU64,
    waiting: AtomicUsize,
}

struct Inner {
    queue: Sender<Note>,
    stop: Sender<tokio::sync::oneshot::Sender<()>>,
    figures: Arc<Figures>,
    bound: Arc<OnceLock<[SocketAddr; 5]>>,
}

/// What became of messages and traces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TraceFigures {
    /// Traces on disk.
    pub written: u64,
    /// Messages that found no room.
    pub lost: u64,
    /// Traces the disk did not take.
    pub failed: u64,
    /// Traces of ordinary calls that were not written, because so many calls ended that none was kept for a minute.
    pub spared: u64,
}

/// Where signalling leaves its copies. Without settings it takes none.
#[derive(Clone, Default)]
pub(in crate::sip) struct Tracer(Option<Arc<Inner>>);

impl Tracer {
    /// Opens the folder and starts the thread.
    pub fn start(settings: Option<&TraceSettings>) -> std::io::Result<Tracer> {
        let Some(settings) = settings else { return Ok(Tracer(None)) };
        let filing = Filing::open(settings.clone())?;
        let keep = Keep::for_traces(settings.calls);
        let (queue, notes) = bounded(QUEUE);
        let (stop, stopped) = bounded(1);
        let (figures, bound) = (Arc::new(Figures::default()), Arc::new(OnceLock::new()));
        let worker =
            Worker { keep, filing, figures: figures.clone(), bound: bound.clone(), routes: HashMap::new(), told: None };
        std::thread::Builder::new().name("sip-trace".into()).spawn(move || worker.run(&notes, &stopped))?;
        Ok(Tracer(Some(Arc::new(Inner { queue, stop, figures, bound }))))
    }

    /// Where our sockets are bound, in the order of [`Transport::ALL`].
    pub fn bound(&self, at: [SocketAddr; 5]) {
        if let Some(inner) = &self.0 {
            inner.bound.get_or_init(|| at);
        }
    }

    /// A message came, and the gate has judged it.
    pub fn heard(&self, carrier: Transport, from: SocketAddr, data: &[u8], why: Option<RefusedFor>) {
        // A flood is counted, not kept; registrations are no calls.
        let worthless = matches!(why, Some(RefusedFor::Limited | RefusedFor::NotSip | RefusedFor::Stray));
        if !worthless && !data.starts_with(b"REGISTER") {
            self.note(Way::In, Some(carrier), Some(from), why, || data.to_vec());
        }
    }

    /// A message goes out; what is not known is read from its Via.
    pub fn sent(&self, carrier: Option<Transport>, to: Option<SocketAddr>, data: impl FnOnce() -> Vec<u8>) {
        self.note(Way::Out, carrier, to, None, data);
    }

    fn note(
        &self,
        way: Way,
        carrier: Option<Transport>,
        remote: Option<SocketAddr>,
        why: Option<RefusedFor>,
        data: impl FnOnce() -> Vec<u8>,
    ) {
        let Some(inner) = &self.0 else { return };
        // What was refused may fill only half of the room: calls come first. The last quarter is for what calls begin and
        // end with: a trace that misses a message is a trace, one that never ends takes room for a day.
        let room = if why.is_some() { QUEUE / 2 } else { QUEUE / 4 * 3 };
        if inner.queue.len() >= room || inner.figures.waiting.load(Relaxed) >= QUEUE_BYTES {
            inner.figures.lost.fetch_add(1, Relaxed);
            return;
        }
        let bytes = data();
        let size = bytes.len();
        let raw = Raw { at: time::utc_us(time::now()), way, carrier, remote, why, bytes };
        inner.figures.waiting.fetch_add(size, Relaxed);
        if inner.queue.try_send(Note::Message(raw)).is_err() {
            inner.figures.waiting.fetch_sub(size, Relaxed);
            inner.figures.lost.fetch_add(1, Relaxed);
        }
    }

    /// A Call-ID belongs to a call.
    pub fn join(&self, call: CallId, call_id: &str, role: Role) {
        self.tell(|| Note::Join(call, call_id.to_string(), role, time::utc_us(time::now())));
    }

    /// A call is over.
    pub fn end(&self, call: CallId, ending: Ending) {
        self.tell(|| Note::End(call, Box::new(ending), time::utc_us(time::now())));
    }

    fn tell(&self, note: impl FnOnce() -> Note) {
        if let Some(inner) = &self.0
            && inner.queue.try_send(note()).is_err()
        {
            inner.figures.lost.fetch_add(1, Relaxed);
        }
    }

    /// Writes what there is; waits two seconds at most.
    pub async fn stop(&self) {
        let Some(inner) = &self.0 else { return };
        let (done, is_done) = tokio::sync::oneshot::channel();
        if inner.stop.try_send(done).is_ok() {
            let _the_disk_hangs = tokio::time::timeout(Duration::from_secs(2), is_done).await;
        }
    }

    /// What became of messages and traces so far.
    pub fn figures(&self) -> TraceFigures {
        let Some(inner) = &self.0 else { return TraceFigures::default() };
        let f = &inner.figures;
        TraceFigures {
            written: f.written.load(Relaxed),
            lost: f.lost.load(Relaxed),
            failed: f.failed.load(Relaxed),
            spared: f.spared.load(Relaxed),
        }
    }
}

struct Worker {
    keep: Keep,
    filing: Filing,
    figures: Arc<Figures>,
    bound: Arc<OnceLock<[SocketAddr; 5]>>,
    /// Our address as a peer sees it; asking the system costs a socket.
    routes: HashMap<IpAddr, IpAddr>,
    /// When the log last heard of a disk that does not take traces, in microseconds.
    told: Option<u64>,
}

impl Worker {
    /// Looks into the queue now and then: waiting at it would mean to be woken for every message, which costs signalling
    /// more than the copy does.
    fn run(mut self, notes: &Receiver<Note>, stopped: &Receiver<tokio::sync::oneshot::Sender<()>>) {
        // Calls come before the record of how they came.
        let _not_every_system_lets_us = rustix::process::nice(5);
        loop {
            let stop = stopped.recv_timeout(LOOK);
            notes.try_iter().take(QUEUE).for_each(|note| self.take(note));
            let due = match stop {
                Err(RecvTimeoutError::Timeout) => self.keep.due(time::utc_us(time::now())),
                Ok(_) | Err(RecvTimeoutError::Disconnected) => self.keep.rest(),
            };
            self.figures.spared.store(self.keep.spared(), Relaxed);
            due.into_iter().for_each(|t| self.write(t));
            match stop {
                Ok(done) => drop(done.send(())),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }

    fn take(&mut self, note: Note) {
        match note {
            Note::Message(raw) => {
                self.figures.waiting.fetch_sub(raw.bytes.len(), Relaxed);
                if raw.bytes.len() <= LONGEST && self.keep.message(raw) == Kept::Full {
                    self.figures.lost.fetch_add(1, Relaxed);
                }
            }
            Note::Join(call, call_id, role, at) => self.keep.join(call, call_id, role, at),
            Note::End(call, ending, at) => self.keep.end(call, *ending, at),
        }
    }

    /// Masked, and with the addresses that were not known.
    fn seen(&mut self, raw: &Raw) -> Option<Seen> {
        let wire = Wire::parse(&raw.bytes).ok()?;
        let via = Via::all(&wire).and_then(|v| v.into_iter().next());
        let remote = match raw.remote {
            Some(at) => at,
            None => destination(&wire, via.as_ref()).unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0))),
        };
        let carrier = raw.carrier.or_else(|| Transport::from_name(&via?.transport)).unwrap_or(Transport::Udp);
        let bound = self.bound.get().and_then(|all| all.get(carrier as usize)).copied();
        let local = match bound.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))) {
            at if at.ip().is_unspecified() => SocketAddr::new(self.own_address(remote), at.port()),
            at => at,
        };
        let refused = raw.why.map(|w| w.label().to_string());
        Some(Seen { at: raw.at, way: raw.way, carrier, local, remote, refused, bytes: mask::message(&raw.bytes) })
    }

    fn own_address(&mut self, peer: SocketAddr) -> IpAddr {
        if self.routes.len() >= ROUTES {
            self.routes.clear();
        }
        *self.routes.entry(peer.ip()).or_insert_with(|| local_ip_for(peer).unwrap_or(Ipv4Addr::UNSPECIFIED.into()))
    }

    fn masked(&mut self, gathered: Gathered) -> Trace {
        let Gathered { id, refused, began, ending, lost, legs, messages } = gathered;
        let legs = legs.into_iter().map(|(role, id)| LegTrace { role, call_id: mask::call_id(&id) }).collect();
        let messages = messages.iter().filter_map(|raw| self.seen(raw)).collect();
        Trace { id, refused, began, ending, lost, legs, messages }
    }

    fn write(&mut self, gathered: Gathered) {
        let trace = self.masked(gathered);
        match self.filing.put(&trace) {
            Ok(()) => {
                self.figures.written.fetch_add(1, Relaxed);
            }
            Err(error) => {
                self.figures.failed.fetch_add(1, Relaxed);
                let now = time::utc_us(time::now());
                if self.told.is_none_or(|at| now.saturating_sub(at) > 60_000_000) {
                    self.told = Some(now);
                    tracing::warn!(%error, "SIP traces cannot be written: look at the data folder's disk");
                }
            }
        }
    }
}

/// Where a message of ours goes, as far as it says so itself: an answer to the top Via, a request to its address.
fn destination(wire: &Wire, via: Option<&Via>) -> Option<SocketAddr> {
    if let Start::Request { uri, .. } = &wire.start {
        let uri = SipUri::parse(uri).ok()?;
        let Host::Ip(ip) = uri.host else { return None };
        return Some(SocketAddr::new(ip, uri.port.unwrap_or(5060)));
    }
    let via = via?;
    let param = |name: &str| via.params.iter().find(|(n, _)| n == name).and_then(|(_, v)| v.as_deref());
    let (host, port) = crate::sip::uri::host_port(&via.sent_by)?;
    let ip = match (param("received").and_then(|r| r.trim_matches(['[', ']']).parse().ok()), host) {
        (Some(ip), _) | (None, Host::Ip(ip)) => ip,
        _ => return None,
    };
    Some(SocketAddr::new(ip, param("rport").and_then(|p| p.parse().ok()).or(port).unwrap_or(5060)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_goes_to_where_its_via_says_the_request_came_from() {
        let at = |text: &str| {
            let wire = Wire::parse(text.as_bytes()).unwrap();
            let via = Via::all(&wire).and_then(|v| v.into_iter().next());
            destination(&wire, via.as_ref()).map(|a| a.to_string())
        };
        let answer = |via: &str| at(&format!("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP {via}\r\n\r\n"));
        assert_eq!(answer("10.0.0.9;received=203.0.113.7;rport=40000").as_deref(), Some("203.0.113.7:40000"));
        assert_eq!(answer("[2001:db8::7]:5070;branch=z").as_deref(), Some("[2001:db8::7]:5070"));
        assert_eq!(answer("host.example").as_deref(), None);
        assert_eq!(at("BYE sip:a@192.0.2.9 SIP/2.0\r\n\r\n").as_deref(), Some("192.0.2.9:5060"));
    }
}
