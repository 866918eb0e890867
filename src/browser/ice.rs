//! An ICE agent (RFC 8445) for a leg: one socket, one component, all of its own candidates with that socket as base, so
//! that a pair is told by the peer's address alone.
//!
//! - It is a full agent: it checks, so that ways through address translation open from our side too, and it takes either
//!   role, with conflicts resolved by tie-breaker.
//! - Of a peer that nominates several pairs, or changes networks, the pair is used that its media comes from.
//! - Consent (RFC 7675) is asked every 4 to 6 s and lost after 30 s without an answer; then nothing is sent.
//! - After a restart the old pair carries on, by the old credentials, until a new one is chosen.

use super::Dropped;
use super::identity::{Credentials, Identity};
use super::stun::{self, Check, Id, Kind, Role, Stun};
use crate::clock::Mono;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Candidates of the peer's description that count.
pub(super) const MAX_REMOTE: usize = 16;
/// Pairs at once: described ones and those learned from checks.
const MAX_PAIRS: usize = 24;
/// Checks that may be unanswered at once; older ones are forgotten.
const MAX_PENDING: usize = 64;
/// Datagrams that wait to be sent.
const MAX_OUT: usize = 64;
/// Between any two checks (RFC 8445, 14.2).
const PACE: Duration = Duration::from_millis(50);
/// An unanswered check is repeated after this, and after `RETRY_LATE` when that was often.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_LATE: Duration = Duration::from_millis(500);
/// A pair that never answered is given up after this.
const PATIENCE: Duration = Duration::from_secs(30);
/// Without an answer for this long nothing may be sent (RFC 7675, 5.1).
const CONSENT: Duration = Duration::from_secs(30);
/// Pairs not in use are kept open this often while the peer keeps them open.
const BACKUP: Duration = Duration::from_secs(15);
/// A pair from which nothing authentic came for this long gives way to another.
const STALE: Duration = Duration::from_secs(7);
/// Media must have left the pair in use for this long before another that carries it takes its place: what was only
/// overtaken on the way does not count.
const LEFT: Duration = Duration::from_millis(100);
/// The same for a pair that the peer did not say it wants.
const LEFT_UNSAID: Duration = Duration::from_millis(500);
/// How long the controlling side waits for a better pair after the first has answered.
const BETTER: Duration = Duration::from_millis(300);
/// Priority of our only base, as a host candidate and as one learned by the peer (RFC 8445, 5.1.2.1).
pub(super) const HOST_PRIORITY: u32 = (126 << 24) | (65_535 << 8) | 255;
const REFLEXIVE_PRIORITY: u32 = (110 << 24) | (65_535 << 8) | 255;

/// A candidate of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remote {
    pub addr: SocketAddr,
    pub priority: u32,
}

/// The credentials of both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Generation {
    pub local: Credentials,
    pub remote: Credentials,
}

#[derive(Debug)]
struct Pair {
    addr: SocketAddr,
    generation: u32,
    priority: u32,
    /// The peer wants it used (as controlling side).
    nominated: bool,
    /// We said that we want it used (as controlling side).
    nominating: bool,
    tries: u32,
    since: Mono,
    /// When to check it next; none when it is given up.
    next: Option<Mono>,
    /// When an authentic request, an authentic answer and authentic media last came from there.
    heard: Option<Mono>,
    answered: Option<Mono>,
    media: Option<Mono>,
}

impl Pair {
    fn last(&self) -> Option<Mono> {
        self.heard.max(self.answered).max(self.media)
    }

    fn is_alive(&self, now: Mono) -> bool {
        self.last().is_some_and(|l| now.since(l) < STALE)
    }
}

#[derive(Debug)]
struct Pending {
    id: Id,
    addr: SocketAddr,
    generation: u32,
    sent: Mono,
    role: Role,
    nominating: bool,
}

/// The agent of one leg.
#[derive(Debug)]
pub(super) struct Agent {
    identity: Arc<Identity>,
    role: Role,
    tie: u64,
    generation: u32,
    current: Generation,
    previous: Option<Generation>,
    pairs: Vec<Pair>,
    pending: VecDeque<Pending>,
    /// Address and generation of the pair in use.
    selected: Option<(SocketAddr, u32)>,
    first_answer: Option<Mono>,
    moves: u32,
    out: VecDeque<(SocketAddr, Vec<u8>)>,
    paced: Mono,
}

impl Agent {
    pub fn new(identity: Arc<Identity>, role: Role, both: Generation, remotes: &[Remote], now: Mono) -> Agent {
        let tie = identity.number();
        let mut agent = Agent {
            identity,
            role,
            tie,
            generation: 0,
            current: both,
            previous: None,
            pairs: Vec::new(),
            pending: VecDeque::new(),
            selected: None,
            first_answer: None,
            moves: 0,
            out: VecDeque::new(),
            paced: now,
        };
        agent.add(remotes, now);
        agent
    }

    // --- getters

    /// Where to send: the pair in use, while the peer consents.
    pub fn destination(&self, now: Mono) -> Option<SocketAddr> {
        let pair = self.pair_in_use()?;
        pair.answered.is_some_and(|a| now.since(a) < CONSENT).then_some(pair.addr)
    }

    /// The address in use, consent or not.
    pub fn selected(&self) -> Option<SocketAddr> {
        self.selected.map(|(addr, _)| addr)
    }

    /// An address that answers our checks, while none is agreed on: what proves the peer's certificate may go there.
    pub fn answering(&self) -> Option<SocketAddr> {
        let usable = |p: &&Pair| p.generation == self.generation && p.answered.is_some();
        self.pairs.iter().filter(usable).max_by_key(|p| self.rank(p)).map(|p| p.addr)
    }

    /// How often another pair took its place.
    pub fn moves(&self) -> u32 {
        self.moves
    }

    /// Whether an address has proved to be the peer's: it knows our password, or answered a check of ours.
    pub fn admits(&self, from: SocketAddr) -> bool {
        self.pairs.iter().any(|p| p.addr == from && (p.heard.is_some() || p.answered.is_some()))
    }

    fn pair_in_use(&self) -> Option<&Pair> {
        let (addr, generation) = self.selected?;
        self.pairs.iter().find(|p| p.addr == addr && p.generation == generation)
    }

    fn generation(&self, number: u32) -> Option<&Generation> {
        if number == self.generation { Some(&self.current) } else { self.previous.as_ref() }
    }

    /// RFC 8445, 6.1.2.3.
    fn rank(&self, pair: &Pair) -> u64 {
        let (ours, theirs) = (u64::from(HOST_PRIORITY), u64::from(pair.priority));
        let (g, d) = if self.role == Role::Controlling { (ours, theirs) } else { (theirs, ours) };
        (g.min(d) << 32) + 2 * g.max(d) + u64::from(g > d)
    }

    // --- commands

    /// More candidates of the peer, of the session under way.
    pub fn add(&mut self, remotes: &[Remote], now: Mono) {
        for remote in remotes.iter().take(MAX_REMOTE) {
            if is_usable(remote.addr) {
                self.upsert(remote.addr, self.generation, remote.priority, now);
            }
        }
    }

    /// Checks anew what has not answered yet.
    pub fn begin_again(&mut self, now: Mono) {
        for pair in self.pairs.iter_mut().filter(|p| p.answered.is_none()) {
            (pair.tries, pair.since, pair.next) = (0, now, Some(now));
        }
    }

    /// Both sides have new credentials: all is checked anew, and the pair in use carries on until then.
    pub fn restart(&mut self, both: Generation, role: Role, remotes: &[Remote], now: Mono) {
        let kept = self.selected;
        self.pairs.retain(|p| kept == Some((p.addr, p.generation)) && p.generation == self.generation);
        if self.pairs.is_empty() {
            self.selected = None;
        }
        self.previous = Some(std::mem::replace(&mut self.current, both));
        self.generation += 1;
        self.role = role;
        self.first_answer = None;
        self.pending.clear();
        self.add(remotes, now);
    }

    // --- in

    /// Takes a STUN message.
    pub fn receive(&mut self, now: Mono, from: SocketAddr, datagram: &[u8]) -> Result<(), Dropped> {
        let stun = Stun::parse(datagram).ok_or(Dropped::Malformed)?;
        match stun.kind {
            Kind::Request => self.request(now, from, stun),
            Kind::Success | Kind::Error => self.answer(now, from, stun),
        }
    }

    fn request(&mut self, now: Mono, from: SocketAddr, mut stun: Stun) -> Result<(), Dropped> {
        let named = |g: &Generation| {
            stun.username.split_once(':').is_some_and(|(to, by)| to == g.local.ufrag && by == g.remote.ufrag)
        };
        let (generation, pwd) = match &self.previous {
            _ if named(&self.current) => (self.generation, self.current.local.pwd.clone()),
            Some(previous) if named(previous) => (self.generation.wrapping_sub(1), previous.local.pwd.clone()),
            _ => return Err(Dropped::Unproven),
        };
        let identity = self.identity.clone();
        let crypto = identity.crypto.crypto();
        if !stun.is_by(&pwd, crypto) {
            return Err(Dropped::Unproven);
        }
        if generation == self.generation
            && let Some((role, tie)) = stun.role
            && role == self.role
        {
            // RFC 8445, 7.3.1.1.
            if (self.tie >= tie) == (self.role == Role::Controlling) {
                self.send(from, stun::role_conflict(stun.id, &pwd, crypto));
                return Ok(());
            }
            self.switch_role();
        }
        self.send(from, stun::success(stun.id, from, &pwd, crypto));
        let controlled = self.role == Role::Controlled;
        let (in_use, current) = (self.selected == Some((from, generation)), generation == self.generation);
        let Some(pair) = self.upsert(from, generation, stun.priority, now) else { return Ok(()) };
        pair.heard = Some(now);
        pair.nominated |= stun.use_candidate && controlled;
        if current && !in_use && pair.answered.is_none_or(|a| now.since(a) >= Duration::from_secs(2)) {
            // A triggered check (RFC 8445, 7.3.1.4); one that is under way is repeated soon anyway.
            let soon = if pair.tries == 0 || pair.next.is_none() { now } else { now + PACE };
            pair.next = Some(pair.next.map_or(soon, |n| n.min(soon)));
            pair.since = now;
        }
        self.follow_nomination(now);
        Ok(())
    }

    fn answer(&mut self, now: Mono, from: SocketAddr, mut stun: Stun) -> Result<(), Dropped> {
        // One that comes from elsewhere than the check went to proves nothing (RFC 8445, 7.2.5.2.1).
        let position = self.pending.iter().position(|p| p.id == stun.id && p.addr == from);
        let pending = position.and_then(|i| self.pending.get(i)).ok_or(Dropped::Unproven)?;
        let (generation, role, nominating) = (pending.generation, pending.role, pending.nominating);
        let pwd = self.generation(generation).ok_or(Dropped::Unproven)?.remote.pwd.clone();
        if !stun.is_by(&pwd, self.identity.crypto.crypto()) {
            return Err(Dropped::Unproven);
        }
        self.pending.retain(|p| p.id != stun.id);
        if stun.kind == Kind::Error {
            if stun.error == 487 && role == self.role && generation == self.generation {
                self.switch_role();
            }
            return Ok(());
        }
        let consent_next = now + self.consent_interval();
        let in_use = self.selected == Some((from, generation));
        let current = generation == self.generation;
        let Some(pair) = self.pairs.iter_mut().find(|p| p.addr == from && p.generation == generation) else {
            return Ok(());
        };
        pair.answered = Some(now);
        pair.tries = 0;
        pair.next = Some(if in_use { consent_next } else { now + BACKUP });
        if current {
            self.first_answer.get_or_insert(now);
        }
        match self.role {
            Role::Controlling if nominating => self.select(from, generation, now),
            Role::Controlling => {}
            Role::Controlled => self.follow_nomination(now),
        }
        Ok(())
    }

    /// Authentic media came from there: of a peer that may use several pairs, it says which.
    pub fn media(&mut self, now: Mono, from: SocketAddr) {
        let generation = self.generation;
        let in_use = self.selected;
        let mut found = None;
        for pair in self.pairs.iter_mut().filter(|p| p.addr == from) {
            pair.media = Some(now);
            if pair.generation == generation && pair.answered.is_some() {
                found = Some((pair.nominated, pair.nominating));
            }
        }
        let Some((nominated, nominating)) = found.filter(|_| in_use.is_none_or(|(addr, _)| addr != from)) else {
            return;
        };
        // A peer whose address was only translated anew nominates nothing.
        let left = if nominated { LEFT } else { LEFT_UNSAID };
        if self.pair_in_use().and_then(|p| p.media).is_some_and(|m| now.since(m) < left) {
            return;
        }
        match self.role {
            Role::Controlled => self.select(from, generation, now),
            Role::Controlling if !nominating => self.nominate(from, now),
            Role::Controlling => {}
        }
    }

    // --- out

    /// What is due at `now`; call it every 20 ms or so.
    pub fn timeout(&mut self, now: Mono) {
        self.pending.retain(|p| now.since(p.sent) < Duration::from_secs(5));
        for pair in &mut self.pairs {
            if pair.answered.is_none() && now.since(pair.since) > PATIENCE {
                pair.next = None;
            }
        }
        if self.role == Role::Controlling {
            self.choose(now);
        } else {
            self.follow_nomination(now);
        }
        if now < self.paced {
            return;
        }
        let due = |p: &&mut Pair| p.next.is_some_and(|n| n <= now);
        let Some(pair) = self.pairs.iter_mut().filter(due).min_by_key(|p| p.next) else { return };
        let (addr, generation, nominating) = (pair.addr, pair.generation, pair.nominating);
        pair.tries += 1;
        pair.next = Some(now + if pair.tries < 8 { RETRY } else { RETRY_LATE });
        if pair.answered.is_some() && self.selected != Some((addr, generation)) && pair.tries > 4 && !nominating {
            pair.next = None; // a spare one that does not answer any more
        }
        self.paced = now + PACE;
        self.check(addr, generation, nominating, now);
    }

    /// The next datagram to send, and where.
    pub fn poll(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.out.pop_front()
    }

    fn check(&mut self, addr: SocketAddr, generation: u32, nominating: bool, now: Mono) {
        let Some(both) = self.generation(generation) else { return };
        let number = (self.identity.number(), self.identity.number());
        let mut id: Id = [0; 12];
        for (to, from) in id.iter_mut().zip(number.0.to_be_bytes().into_iter().chain(number.1.to_be_bytes())) {
            *to = from;
        }
        let check = Check {
            id,
            username: format!("{}:{}", both.remote.ufrag, both.local.ufrag),
            pwd: &both.remote.pwd,
            priority: REFLEXIVE_PRIORITY,
            role: self.role,
            tie: self.tie,
            use_candidate: nominating && self.role == Role::Controlling,
        };
        let datagram = check.write(self.identity.crypto.crypto());
        let nominating = check.use_candidate;
        if self.pending.len() >= MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(Pending { id, addr, generation, sent: now, role: self.role, nominating });
        self.send(addr, datagram);
    }

    fn send(&mut self, to: SocketAddr, datagram: Vec<u8>) {
        if self.out.len() < MAX_OUT && !datagram.is_empty() {
            self.out.push_back((to, datagram));
        }
    }

    // --- the pair in use

    /// As the controlled side: of the pairs that the peer wants used and that answer us.
    fn follow_nomination(&mut self, now: Mono) {
        if self.role != Role::Controlled {
            return;
        }
        let usable = |p: &&Pair| p.generation == self.generation && p.nominated && p.answered.is_some();
        let in_use = self.pair_in_use().filter(|p| p.generation == self.generation);
        let best = match in_use {
            None => self.pairs.iter().filter(usable).max_by_key(|p| self.rank(p)),
            // Once media flows it says itself where it is.
            Some(old) if old.is_alive(now) => {
                let silent = old.media.is_none();
                let better = |p: &&Pair| usable(p) && silent && self.rank(p) > self.rank(old);
                self.pairs.iter().filter(better).max_by_key(|p| self.rank(p))
            }
            Some(_) => self.pairs.iter().filter(usable).filter(|p| p.is_alive(now)).max_by_key(|p| self.rank(p)),
        };
        if let Some(addr) = best.map(|p| p.addr) {
            self.select(addr, self.generation, now);
        }
    }

    /// As the controlling side: the best pair that answers, once no better one is likely to.
    fn choose(&mut self, now: Mono) {
        let in_use = self.pair_in_use().filter(|p| p.generation == self.generation);
        if in_use.is_some_and(|p| p.is_alive(now)) {
            return;
        }
        let first = in_use.is_none();
        let ready = |p: &&Pair| p.generation == self.generation && p.answered.is_some() && (first || p.is_alive(now));
        let Some(best) = self.pairs.iter().filter(ready).max_by_key(|p| self.rank(p)) else { return };
        let better =
            |p: &Pair| p.generation == self.generation && p.answered.is_none() && self.rank(p) > self.rank(best);
        let waited = self.first_answer.is_some_and(|f| now.since(f) >= BETTER);
        if !best.nominating && (waited || !self.pairs.iter().any(better)) {
            self.nominate(best.addr, now);
        }
    }

    fn nominate(&mut self, addr: SocketAddr, now: Mono) {
        let generation = self.generation;
        for pair in self.pairs.iter_mut().filter(|p| p.generation == generation) {
            pair.nominating = pair.addr == addr;
            if pair.nominating {
                (pair.next, pair.tries) = (Some(now), 0);
            }
        }
    }

    fn select(&mut self, addr: SocketAddr, generation: u32, now: Mono) {
        if self.selected == Some((addr, generation)) {
            return;
        }
        self.moves += u32::from(self.selected.is_some_and(|(old, _)| old != addr));
        self.selected = Some((addr, generation));
        if generation == self.generation {
            self.pairs.retain(|p| p.generation == generation);
            self.previous = None;
        }
        let next = now + self.consent_interval();
        for pair in &mut self.pairs {
            pair.nominating = false;
            if pair.addr == addr {
                (pair.next, pair.tries) = (Some(next), 0);
            }
        }
    }

    fn switch_role(&mut self) {
        self.role = match self.role {
            Role::Controlling => Role::Controlled,
            Role::Controlled => Role::Controlling,
        };
        for pair in &mut self.pairs {
            (pair.nominated, pair.nominating) = (false, false);
        }
    }

    /// 4 to 6 s (RFC 7675, 5.1).
    fn consent_interval(&self) -> Duration {
        Duration::from_millis(4_000 + self.identity.number() % 2_000)
    }

    /// The pair of an address, made when there is room.
    fn upsert(&mut self, addr: SocketAddr, generation: u32, priority: u32, now: Mono) -> Option<&mut Pair> {
        let same = |p: &Pair| p.addr == addr && p.generation == generation;
        if let Some(i) = self.pairs.iter().position(same) {
            return self.pairs.get_mut(i);
        }
        if self.pairs.len() >= MAX_PAIRS {
            let selected = self.selected;
            let spare = |p: &Pair| selected != Some((p.addr, p.generation));
            let oldest =
                self.pairs.iter().enumerate().filter(|(_, p)| spare(p)).min_by_key(|(_, p)| (p.last(), p.since));
            let i = oldest.map(|(i, _)| i)?;
            self.pairs.swap_remove(i);
        }
        self.pairs.push(Pair {
            addr,
            generation,
            priority,
            nominated: false,
            nominating: false,
            tries: 0,
            since: now,
            next: Some(now),
            heard: None,
            answered: None,
            media: None,
        });
        self.pairs.last_mut()
    }
}

/// Whether checks may be sent there at all: a description could name anything.
pub(super) fn is_usable(addr: SocketAddr) -> bool {
    let ip = addr.ip();
    addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::from([255, 255, 255, 255])
}

#[cfg(test)]
#[path = "ice_tests.rs"]
mod tests;
