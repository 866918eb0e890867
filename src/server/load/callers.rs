//! The signalling of many calls on one socket, and the generator as a whole.

use super::figures::{Figures, Histogram};
use super::{Leg, LoadSettings, Order, SLOTS, Shared, sound};
use crate::clock::Mono;
use crate::sdp::{self, Codec};
use crate::server::phone::capabilities;
use crate::server::time::now;
use crate::sip::bare::{BareCall, Reply, Request, Seen, read};
use crossbeam_channel::{Sender, bounded};
use std::collections::{BTreeMap, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// An INVITE without any answer goes again after this, and is given up after four.
const REPEAT: Duration = Duration::from_millis(1000);
/// Tries in all.
const TRIES: u32 = 4;
/// Orders that may wait for a sound thread.
const QUEUE: usize = 16_384;
/// What the system is asked to keep for a socket while a thread waits for its turn.
const BUFFER: usize = 4 << 20;

/// What the signalling has counted.
#[derive(Debug, Clone, Default)]
struct Counted {
    standing: usize,
    setup: Histogram,
    refused: BTreeMap<u16, u64>,
    unanswered: u64,
    dropped: u64,
}

/// Many callers.
pub struct Generator {
    shared: Arc<Shared>,
    counted: Arc<Mutex<Counted>>,
    orders: [Sender<Order>; 2],
    threads: Vec<JoinHandle<()>>,
    since: (Mono, [u64; 3]),
    crosses: bool,
    speaks: bool,
}

impl Generator {
    /// Starts the threads; nobody calls yet.
    pub fn start(settings: LoadSettings) -> std::io::Result<Generator> {
        let sip = UdpSocket::bind(settings.bind)?;
        sip.set_read_timeout(Some(Duration::from_millis(2)))?;
        socket2::SockRef::from(&sip).set_recv_buffer_size(BUFFER).ok();
        let mut sockets = Vec::new();
        for _ in 0..SLOTS {
            let socket = UdpSocket::bind((settings.bind.ip(), 0))?;
            socket.set_nonblocking(true)?;
            socket2::SockRef::from(&socket).set_recv_buffer_size(BUFFER).ok();
            sockets.push(Arc::new(socket));
        }
        let (shared, counted) = (Arc::new(Shared::default()), Arc::new(Mutex::new(Counted::default())));
        let (to_sender, for_sender) = bounded(QUEUE);
        let (to_listener, for_listener) = bounded(QUEUE);
        let orders = [to_sender, to_listener];
        let (crosses, speaks) = (settings.crosses, !settings.says.is_empty());
        let mut threads = Vec::new();
        let callers = Callers::new(sip, &sockets, settings.clone(), orders.clone(), shared.clone(), counted.clone())?;
        threads.push(thread("load-sip", move || callers.run())?);
        let (all, s, sh) = (sockets.clone(), settings.clone(), shared.clone());
        threads.push(thread("load-send", move || sound::send(&all, &for_sender, &s, &steady(), &sh))?);
        let sh = shared.clone();
        threads.push(thread("load-hear", move || {
            if let Err(error) = sound::listen(&sockets, &for_listener, &settings, &sh) {
                tracing::error!(%error, "the load generator's listener stopped");
            }
        })?);
        Ok(Generator { shared, counted, orders, threads, since: (now(), [0; 3]), crosses, speaks })
    }

    /// So many calls from now on: more are placed at the rate, those too many hang up.
    pub fn aim(&self, calls: usize) {
        self.shared.aim.store(calls, Ordering::Relaxed);
    }

    /// Calls that stand now.
    pub fn standing(&self) -> usize {
        self.counted().standing
    }

    /// Calls that were refused or not answered since the counts began.
    pub fn failures(&self) -> u64 {
        let c = self.counted();
        c.refused.values().sum::<u64>() + c.unanswered
    }

    fn counted(&self) -> Counted {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets how calls were set up.
    pub fn forget_calls(&self) {
        let mut c = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        *c = Counted { standing: c.standing, ..Counted::default() };
    }

    /// Counts of sound and CPU begin anew.
    pub fn reset(&mut self) {
        self.orders[1].send(Order::Reset).ok();
        self.since = (now(), self.cpu());
    }

    fn cpu(&self) -> [u64; 3] {
        std::array::from_fn(|n| self.shared.cpu[n].load(Ordering::Relaxed))
    }

    /// What was seen since the counts began; what the hotline itself cost is for others to fill in.
    pub fn figures(&self, asked: usize) -> Figures {
        let (tell, told) = bounded(1);
        self.orders[1].send(Order::Tell(tell)).ok();
        let heard = told.recv_timeout(Duration::from_secs(5)).unwrap_or_default();
        let counted = self.counted();
        let us = now().since(self.since.0).as_micros().max(1) as f64;
        let busiest = self.cpu().iter().zip(self.since.1).map(|(now, before)| now.saturating_sub(before)).max();
        let two = |h: &Histogram, second: f64| Some([h.at(0.5), h.at(second)]).filter(|_| h.count() > 0);
        Figures {
            asked,
            calls: counted.standing.min(asked),
            seconds: us / 1e6,
            setup_ms: two(&counted.setup, 0.99).unwrap_or_default(),
            refused: counted.refused,
            unanswered: counted.unanswered,
            dropped: counted.dropped,
            packets: heard.packets,
            lost: heard.lost,
            pacing_ms: [heard.pacing.at(0.5), heard.pacing.at(0.99), heard.pacing.most()],
            delay_ms: two(&heard.delay, 0.99).filter(|_| self.crosses),
            reply_ms: two(&heard.reply, 0.95).filter(|_| self.speaks),
            replies: Some(heard.reply.count()).filter(|_| self.speaks),
            generator_busy: busiest.unwrap_or(0) as f64 / us,
            generator_late_ms: heard.own.at(0.99),
            ..Figures::default()
        }
    }

    /// Everybody hangs up, and the threads end.
    pub fn stop(self) {
        self.aim(0);
        let end = now() + Duration::from_secs(3);
        while self.standing() > 0 && now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _a_panic_is_in_the_log = thread.join();
        }
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(run)
}

/// Twenty seconds of sound in A-law.
fn steady() -> Vec<u8> {
    let mut codes = Vec::new();
    crate::audio::Law::A.encode(&crate::server::routes::made_prompt(), &mut codes);
    codes
}

struct Call {
    bare: BareCall,
    invite: String,
    began: Mono,
    tries: u32,
    /// Some sign has come.
    heard: bool,
    leg: Option<Leg>,
}

/// A leg that the hotline called.
struct Called {
    leg: Leg,
}

/// The thread of the signalling.
struct Callers {
    sip: UdpSocket,
    here: SocketAddr,
    ports: Vec<u16>,
    settings: LoadSettings,
    orders: [Sender<Order>; 2],
    shared: Arc<Shared>,
    counted: Arc<Mutex<Counted>>,
    calls: HashMap<String, Call>,
    called: HashMap<String, Called>,
    standing: usize,
    next: u32,
}

impl Callers {
    fn new(
        sip: UdpSocket,
        sockets: &[Arc<UdpSocket>],
        settings: LoadSettings,
        orders: [Sender<Order>; 2],
        shared: Arc<Shared>,
        counted: Arc<Mutex<Counted>>,
    ) -> std::io::Result<Callers> {
        let ports = sockets.iter().map(|s| s.local_addr().map(|a| a.port())).collect::<Result<_, _>>()?;
        Ok(Callers {
            here: sip.local_addr()?,
            sip,
            ports,
            settings,
            orders,
            shared,
            counted,
            calls: HashMap::new(),
            called: HashMap::new(),
            standing: 0,
            next: 0,
        })
    }

    fn run(mut self) {
        let (mut datagram, mut placed) = (vec![0; 65_536], now());
        let gap = Duration::from_secs_f64(1.0 / self.settings.rate.max(0.1));
        let mut looked = now();
        while !self.shared.stopped() {
            if let Ok((length, from)) = self.sip.recv_from(&mut datagram) {
                match read(&datagram[..length]) {
                    Some(Seen::Reply(reply)) => self.reply(&reply),
                    Some(Seen::Request(asked)) => self.asked(&asked, from),
                    None => {}
                }
            }
            let at = now();
            let aim = self.shared.aim.load(Ordering::Relaxed);
            while self.calls.len() < aim && placed <= at {
                self.place(at);
                placed = placed.max(at - Duration::from_millis(20)) + gap;
            }
            if at.since(looked) > Duration::from_millis(10) {
                looked = at;
                self.repeat(at);
                self.shrink(aim);
                self.shared.spent(0);
            }
        }
    }

    fn count(&self, with: impl FnOnce(&mut Counted)) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        with(&mut counted);
        counted.standing = self.standing;
    }

    fn send(&self, text: &str) {
        let _lost_like_any_packet = self.sip.send_to(text.as_bytes(), self.settings.server);
    }

    fn offer(&self, id: u32) -> sdp::Session {
        let port = self.ports[id as usize % SLOTS];
        sdp::offer(&capabilities(self.here.ip(), port, vec![Codec::Pcma]))
    }

    fn place(&mut self, at: Mono) {
        let id = self.next;
        self.next += 1;
        let uri = format!("sip:{}@{}", self.settings.user, self.settings.server);
        let mut bare = BareCall::new(&uri, "13800138000", self.here, rand::random());
        let invite = bare.invite(&self.offer(id).to_string());
        self.send(&invite);
        let peer = SocketAddr::new(self.settings.server.ip(), 0);
        let leg = Some(Leg { id, peer, mouth: Arc::default() });
        self.calls.insert(bare.call_id(), Call { bare, invite, began: at, tries: 1, heard: false, leg });
    }

    fn reply(&mut self, reply: &Reply) {
        let Some(call) = self.calls.get_mut(&reply.call_id).filter(|_| reply.method == "INVITE") else { return };
        call.heard = true;
        if reply.code < 200 {
            return;
        }
        let Some(ack) = call.bare.answered(reply) else { return };
        let waiting = call.leg.as_ref().is_some_and(|l| l.peer.port() == 0);
        let us = now().since(call.began).as_micros() as u64;
        let port = reply.sdp.as_deref().and_then(port_of);
        match (reply.code < 300, port) {
            (true, Some(port)) if waiting => {
                if let Some(leg) = &mut call.leg {
                    leg.peer.set_port(port);
                    let leg = leg.clone();
                    self.order(|| Order::Add(leg.clone()));
                }
                self.standing += 1;
                self.count(|c| c.setup.add(us));
            }
            (true, _) => {}
            (false, _) => {
                self.calls.remove(&reply.call_id);
                self.count(|c| *c.refused.entry(reply.code).or_default() += 1);
            }
        }
        self.send(&ack);
    }

    /// To both sound threads.
    fn order(&self, order: impl Fn() -> Order) {
        for to in &self.orders {
            let _its_thread_has_ended = to.send_timeout(order(), Duration::from_secs(1));
        }
    }

    fn asked(&mut self, asked: &Request, from: SocketAddr) {
        let answer = match asked.method.as_str() {
            "ACK" => return,
            "INVITE" => self.take(asked),
            "BYE" => {
                self.over(&asked.call_id);
                asked.answer(200, "load", None, None)
            }
            _ => asked.answer(200, "load", None, None),
        };
        let _lost_like_any_packet = self.sip.send_to(answer.as_bytes(), from);
    }

    /// The hotline calls us: the other end of a bridge.
    fn take(&mut self, asked: &Request) -> String {
        let Some(port) = asked.sdp.as_deref().and_then(port_of) else { return asked.answer(488, "load", None, None) };
        let id = match self.called.get(&asked.call_id) {
            Some(again) => again.leg.id,
            None => {
                let id = self.next;
                self.next += 1;
                let leg = Leg { id, peer: SocketAddr::new(self.settings.server.ip(), port), mouth: Arc::default() };
                self.order(|| Order::Add(leg.clone()));
                self.called.insert(asked.call_id.clone(), Called { leg });
                id
            }
        };
        let offer = asked.sdp.as_deref().and_then(|s| sdp::parse(s.as_bytes()).ok());
        let caps = capabilities(self.here.ip(), self.ports[id as usize % SLOTS], vec![Codec::Pcma]);
        match offer.and_then(|o| sdp::answer(&o, &caps).ok()) {
            Some((answer, _)) => asked.answer(200, "load", Some(self.here), Some(&answer.to_string())),
            None => asked.answer(488, "load", None, None),
        }
    }

    fn over(&mut self, call_id: &str) {
        if let Some(called) = self.called.remove(call_id) {
            self.order(|| Order::Remove(called.leg.id, called.leg.peer.port()));
        }
        if let Some(call) = self.calls.remove(call_id) {
            let renew = self.settings.renew;
            self.release(&call);
            self.count(|c| c.dropped += u64::from(!renew));
        }
    }

    fn release(&mut self, call: &Call) {
        if let Some(leg) = call.leg.as_ref().filter(|l| l.peer.port() != 0) {
            self.standing = self.standing.saturating_sub(1);
            self.order(|| Order::Remove(leg.id, leg.peer.port()));
        }
    }

    fn repeat(&mut self, at: Mono) {
        let mut lost = Vec::new();
        for (id, call) in &mut self.calls {
            let due = call.began + REPEAT * call.tries;
            if call.heard || at < due {
                continue;
            }
            if call.tries >= TRIES {
                lost.push(id.clone());
            } else {
                call.tries += 1;
                let _lost_like_any_packet = self.sip.send_to(call.invite.as_bytes(), self.settings.server);
            }
        }
        for id in lost {
            self.calls.remove(&id);
            self.count(|c| c.unanswered += 1);
        }
    }

    /// Calls too many hang up.
    fn shrink(&mut self, aim: usize) {
        let excess = self.calls.len().saturating_sub(aim);
        let some: Vec<String> = self.calls.keys().take(excess.min(50)).cloned().collect();
        for id in some {
            let Some(mut call) = self.calls.remove(&id) else { continue };
            let standing = call.leg.as_ref().is_some_and(|l| l.peer.port() != 0);
            let text = if standing { call.bare.bye() } else { call.bare.cancel() };
            self.send(&text);
            self.release(&call);
            self.count(|_| {});
        }
    }
}

/// The port of the first stream.
fn port_of(text: &str) -> Option<u16> {
    let session = sdp::parse(text.as_bytes()).ok()?;
    session.media.first().map(|m| m.port).filter(|p| *p != 0)
}
