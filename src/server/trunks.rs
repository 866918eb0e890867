//! Trunks: lines to carriers. Which server a call goes to, which are well, and how numbers are written there.

use super::outbound::national;
use super::time::now;
use crate::clock::Mono;
use crate::sdp::Codec;
use crate::sip::{Credential, Found, Network, SipAgent, Transport, lot};
use rand::Rng;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// OPTIONS in a row that a server may leave unanswered.
const MAX_UNANSWERED: u32 = 2;
/// A server that failed a call rests for so long, unless it answers an OPTIONS before.
const REST_MS: u64 = 30_000;
/// How often the names of servers are looked up again, in seconds, where OPTIONS are not asked more rarely.
const LOOK_UP_S: u32 = 30;
/// However many servers there are, each may think for so long, ms: a retransmission's time.
const LEAST_PATIENCE_MS: u32 = 500;
/// Life of our registrations, s.
const REGISTER_S: u32 = 600;

/// One server of a trunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `sip:host`, `sip:host:port;transport=tls`.
    pub address: String,
    /// Lower ones are tried first.
    pub priority: u16,
    /// Share of the calls among equals.
    pub weight: u16,
}

/// A change of a number's beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// What it begins with.
    pub from: String,
    /// What stands there instead.
    pub to: String,
}

impl std::str::FromStr for Rewrite {
    type Err = ();

    /// From `+86 -> 0`; either side may be empty.
    fn from_str(text: &str) -> Result<Rewrite, ()> {
        let (from, to) = text.split_once("->").ok_or(())?;
        let side = |s: &str| {
            let s = s.trim();
            s.chars().all(|c| c.is_ascii_digit() || "+*#".contains(c)).then(|| s.to_string()).ok_or(())
        };
        Ok(Rewrite { from: side(from)?, to: side(to)? })
    }
}

/// The first rule that fits changes the number.
pub fn rewrite(rules: &[Rewrite], number: &str) -> String {
    let fits = rules.iter().find_map(|r| number.strip_prefix(r.from.as_str()).map(|rest| (r, rest)));
    fits.map_or_else(|| number.to_string(), |(rule, rest)| format!("{}{rest}", rule.to))
}

/// How a caller of a trunk is transferred to a number outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransferBy {
    /// We call the number and join the two: our lines carry both legs.
    #[default]
    Bridge,
    /// The trunk is asked to do it (REFER); where it does not, they are bridged.
    Refer,
}

/// A line to a carrier.
#[derive(Debug, Clone, PartialEq)]
pub struct Trunk {
    /// Its name.
    pub name: String,
    /// Where calls to it go.
    pub servers: Vec<Server>,
    /// Where its calls come from, besides its servers.
    pub networks: Vec<Network>,
    /// For its challenges, and for registering.
    pub credential: Option<Credential>,
    /// Whether we register there.
    pub register: bool,
    /// Whether calls from it are taken.
    pub inbound: bool,
    /// Whether calls may go out by it.
    pub outbound: bool,
    /// Lower ones are tried first.
    pub priority: u16,
    /// Share of the calls among equals.
    pub weight: u16,
    /// What is offered to it and answered, the preferred one first; empty: as everywhere.
    pub codecs: Vec<Codec>,
    /// Changes to the number of a caller who comes by it.
    pub caller_in: Vec<Rewrite>,
    /// Changes to the number that is dialled by it.
    pub called_out: Vec<Rewrite>,
    /// The number shown there for calls of ours; else the caller's own.
    pub shows: Option<String>,
    /// Calls out at once.
    pub max_out: u32,
    /// A server that says nothing for so long is passed over, in milliseconds.
    pub give_up_ms: u32,
    /// How often its servers are asked by OPTIONS, in seconds; 0: never.
    pub options_s: u32,
    /// How its callers are transferred outside.
    pub transfer: TransferBy,
}

impl Default for Trunk {
    /// As in the configuration: calls both ways, everything else as it is everywhere.
    fn default() -> Self {
        Trunk {
            name: String::new(),
            servers: Vec::new(),
            networks: Vec::new(),
            credential: None,
            register: false,
            inbound: true,
            outbound: true,
            priority: 10,
            weight: 10,
            codecs: Vec::new(),
            caller_in: Vec::new(),
            called_out: Vec::new(),
            shows: None,
            max_out: 100,
            give_up_ms: 1500,
            options_s: 15,
            transfer: TransferBy::Bridge,
        }
    }
}

impl Trunk {
    /// How a number is addressed there.
    pub(super) fn address_of(&self, number: &str) -> Option<String> {
        self.servers.first().map(|server| target(self, server, number))
    }

    /// The number shown for a call of ours there. A seat's own name means nothing outside: without `shows` it is the
    /// account's.
    pub(super) fn number_shown(&self, of_a_seat: bool) -> Option<String> {
        let account = || self.credential.as_ref().filter(|_| of_a_seat).map(|c| c.user.clone());
        self.shows.clone().or_else(account)
    }
}

/// One way out: a server of a trunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Which trunk.
    pub trunk: usize,
    /// Which of its servers.
    pub server: usize,
    /// The address to call.
    pub uri: String,
    /// Which of that server's addresses, when its name has been looked up.
    pub at: Option<(SocketAddr, Transport)>,
    /// How long it may say nothing, in milliseconds: before the last one is called, the servers of a trunk together no
    /// longer than its `give_up_ms`, as long as none gets less than 500 ms.
    pub patience_ms: u32,
}

impl Way {
    fn key(&self) -> Key {
        (self.trunk, self.server, self.at.map(|(at, _)| at))
    }
}

/// What puts a way before others: that it is well, priorities of trunk and server, rank among the server's addresses.
type Rank = (bool, u16, u16, u16);
/// Addresses by trunk and server.
type FoundBy = HashMap<(usize, usize), Vec<Found>>;
/// One address of a server of a trunk; without an address, the server as it is written.
type Key = (usize, usize, Option<SocketAddr>);

#[derive(Debug, Clone, Copy, Default)]
struct Health {
    unanswered: u32,
    /// It failed a call then.
    failed_at: Option<Mono>,
    /// Status of its last answer.
    status: Option<u16>,
}

impl Health {
    fn is_well(&self, now: Mono) -> bool {
        self.unanswered < MAX_UNANSWERED && self.failed_at.is_none_or(|at| now.ms_since(at) >= REST_MS)
    }
}

/// How a server does, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerState {
    /// Trunk's name.
    pub trunk: String,
    /// Its address.
    pub address: String,
    /// Whether calls go there first.
    pub well: bool,
    /// Status of its last answer to OPTIONS.
    pub status: Option<u16>,
}

/// Seconds granted, or why not.
type Registered = Result<u32, String>;

/// All trunks and how they do. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Trunks {
    all: Arc<Vec<Trunk>>,
    health: Arc<Mutex<HashMap<Key, Health>>>,
    /// The addresses of servers whose names have been looked up.
    found: Arc<Mutex<FoundBy>>,
    registered: Arc<Mutex<Vec<Option<Registered>>>>,
    /// Calls out right now, by trunk.
    out: Arc<Mutex<Vec<u32>>>,
}

impl Trunks {
    /// Trunks as configured, all of them well until shown otherwise.
    pub fn new(all: Vec<Trunk>) -> Trunks {
        let registered = Arc::new(Mutex::new(vec![None; all.len()]));
        let out = Arc::new(Mutex::new(vec![0; all.len()]));
        Trunks { all: Arc::new(all), health: Arc::default(), found: Arc::default(), registered, out }
    }

    /// A trunk.
    pub fn get(&self, index: usize) -> Option<&Trunk> {
        self.all.get(index)
    }

    /// A trunk by its name.
    pub fn named(&self, name: &str) -> Option<&Trunk> {
        self.all.iter().find(|t| t.name == name)
    }

    /// Every way a number can be called, the one to try first in front: by priority, among equals by lot and weight
    /// (RFC 2782), and who is not well last.
    pub fn ways(&self, number: &str, now: Mono, rng: &mut impl Rng) -> Vec<Way> {
        let out = self.out.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let health = self.health().clone();
        let mut ways: Vec<(Rank, f64, Way)> = Vec::new();
        for (t, trunk) in self.all.iter().enumerate().filter(|(t, trunk)| trunk.outbound && out[*t] < trunk.max_out) {
            // One draw for the trunk: its servers stay together.
            let of_trunk = lot(rng, trunk.weight);
            let first = ways.len();
            for (s, server) in trunk.servers.iter().enumerate() {
                let of_server = of_trunk + lot(rng, server.weight) / 1e6;
                for (found, of_address) in
                    self.addresses(t, s).into_iter().map(|f| (f, lot(rng, f.map_or(1, |f| f.weight))))
                {
                    let at = found.map(|f| (f.at, f.transport));
                    let way = Way { trunk: t, server: s, uri: target(trunk, server, number), at, patience_ms: 0 };
                    let ill = health.get(&way.key()).is_some_and(|h| !h.is_well(now));
                    let rank = found.map_or(0, |f| f.rank);
                    ways.push(((ill, trunk.priority, server.priority, rank), of_server + of_address / 1e9, way));
                }
            }
            let well = ways[first..].iter().filter(|w| !w.0.0).count() as u32;
            let share = trunk.give_up_ms / well.saturating_sub(1).max(1);
            let patience_ms = share.max(LEAST_PATIENCE_MS.min(trunk.give_up_ms));
            ways[first..].iter_mut().for_each(|w| w.2.patience_ms = patience_ms);
        }
        ways.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        ways.into_iter().map(|w| w.2).collect()
    }

    /// What is known of a server's addresses; one unknown one before its name has been looked up.
    fn addresses(&self, t: usize, s: usize) -> Vec<Option<Found>> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match found.get(&(t, s)) {
            Some(all) if !all.is_empty() => all.iter().copied().map(Some).collect(),
            _ => vec![None],
        }
    }

    /// The addresses that a server's name has now. What was known of those it has no longer is forgotten.
    fn located(&self, t: usize, s: usize, all: Vec<Found>) {
        let there = |at: &SocketAddr| all.iter().any(|f| f.at == *at);
        self.health().retain(|k, _| (k.0, k.1) != (t, s) || k.2.as_ref().is_some_and(there));
        self.found.lock().unwrap_or_else(PoisonError::into_inner).insert((t, s), all);
    }

    /// A call goes out by a trunk, until [`Trunks::over`].
    pub fn begun(&self, way: &Way) {
        if let Some(count) = self.out.lock().unwrap_or_else(PoisonError::into_inner).get_mut(way.trunk) {
            *count += 1;
        }
    }

    /// A call that went out by a trunk has ended.
    pub fn over(&self, way: &Way) {
        if let Some(count) = self.out.lock().unwrap_or_else(PoisonError::into_inner).get_mut(way.trunk) {
            *count = count.saturating_sub(1);
        }
    }

    /// A server did not answer a call, or said that it takes none.
    pub fn failed(&self, way: &Way, at: Mono) {
        self.health().entry(way.key()).or_default().failed_at = Some(at);
    }

    /// How each server does.
    pub fn states(&self, at: Mono) -> Vec<ServerState> {
        let health = self.health().clone();
        let mut states = Vec::new();
        for (t, trunk) in self.all.iter().enumerate() {
            for (s, server) in trunk.servers.iter().enumerate() {
                for found in self.addresses(t, s) {
                    let h = health.get(&(t, s, found.map(|f| f.at))).copied().unwrap_or_default();
                    let named = found.filter(|_| crate::sip::numeric_host(&server.address).is_none());
                    let address = match named {
                        Some(found) => format!("{} ({})", server.address, found.at),
                        None => server.address.clone(),
                    };
                    states.push(ServerState {
                        trunk: trunk.name.clone(),
                        address,
                        well: h.is_well(at),
                        status: h.status,
                    });
                }
            }
        }
        states
    }

    /// What is wrong with trunks now, in sentences.
    pub fn problems(&self, at: Mono) -> Vec<String> {
        let ill = self.states(at).into_iter().filter(|s| !s.well).map(|s| {
            let said = s.status.map_or("it answers nothing".into(), |c| format!("its last answer was {c}"));
            format!("trunk {}: {} does not take calls now ({said}); calls go to others first", s.trunk, s.address)
        });
        let registered = self.registered.lock().unwrap_or_else(PoisonError::into_inner);
        let unregistered = self.all.iter().zip(registered.iter()).filter_map(|(t, r)| match r {
            Some(Err(why)) => Some(format!("trunk {}: not registered: {why}; look at its user and password", t.name)),
            _ => None,
        });
        ill.chain(unregistered).collect()
    }

    fn health(&self) -> MutexGuard<'_, HashMap<Key, Health>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers where that is asked for, and asks the servers how they do, until the task is stopped.
    pub async fn watch(self, agent: SipAgent) {
        let mut tasks = tokio::task::JoinSet::new();
        for (t, trunk) in self.all.iter().enumerate() {
            if trunk.register && trunk.credential.is_some() {
                tasks.spawn(self.clone().keep_registered(agent.clone(), t));
            }
            for s in 0..trunk.servers.len() {
                tasks.spawn(self.clone().keep_knowing(agent.clone(), t, s));
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    async fn keep_registered(self, agent: SipAgent, t: usize) {
        let trunk = &self.all[t];
        let Some(credential) = &trunk.credential else { return };
        let mut failed = 0;
        loop {
            let mut done = Err("it has no server".to_string());
            for server in &trunk.servers {
                done = agent.register_for(&server.address, credential, REGISTER_S).await.map_err(|e| e.to_string());
                if done.is_ok() {
                    break;
                }
            }
            let why = match done {
                Ok(kept) => {
                    self.note_registered(t, Ok(kept.seconds));
                    failed = 0;
                    // The agent keeps it fresh; when it cannot, another server may take it.
                    kept.lost().await.to_string()
                }
                Err(why) => why,
            };
            tracing::warn!("trunk {}: not registered: {why}", trunk.name);
            self.note_registered(t, Err(why));
            tokio::time::sleep(Duration::from_secs((5 << failed.min(4)).min(60))).await;
            failed += 1;
        }
    }

    fn note_registered(&self, t: usize, done: Result<u32, String>) {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)[t] = Some(done);
    }

    /// Looks a server's name up again and again, and asks each of its addresses how it does.
    async fn keep_knowing(self, agent: SipAgent, t: usize, s: usize) {
        let trunk = &self.all[t];
        let to = &trunk.servers[s].address;
        let named = crate::sip::numeric_host(to).is_none();
        if !named && trunk.options_s == 0 {
            return;
        }
        let limit = Duration::from_secs(5);
        loop {
            // A name that is not found now keeps the addresses it had.
            if named && let Some(all) = agent.servers_of(to).await.ok().filter(|all| !all.is_empty()) {
                self.located(t, s, all);
            }
            if trunk.options_s > 0 {
                let mut asking = tokio::task::JoinSet::new();
                for found in self.addresses(t, s) {
                    let (agent, to, at) = (agent.clone(), to.clone(), found.map(|f| (f.at, f.transport)));
                    asking.spawn(async move { (at, agent.options_at(&to, at, limit).await.ok()) });
                }
                while let Some(Ok((at, status))) = asking.join_next().await {
                    self.heard((t, s, at.map(|(at, _)| at)), status);
                }
            }
            let pause = if trunk.options_s > 0 { trunk.options_s } else { LOOK_UP_S };
            tokio::time::sleep(Duration::from_secs(u64::from(pause))).await;
        }
    }

    /// What became of an OPTIONS. Whoever refuses it is there too, but 503 takes no calls and 408 reached nobody.
    fn heard(&self, key: Key, status: Option<u16>) {
        let (t, s, at) = key;
        let Some(trunk) = self.all.get(t) else { return };
        let mut health = self.health();
        let state = health.entry(key).or_default();
        let before = state.is_well(now());
        state.status = status.or(state.status);
        match status {
            Some(408 | 503) | None => state.unanswered += 1,
            Some(_) => (state.unanswered, state.failed_at) = (0, None),
        }
        let after = state.is_well(now());
        if before != after {
            let (name, address) = (&trunk.name, &trunk.servers[s].address);
            let at = at.map(|at| format!(" ({at})")).unwrap_or_default();
            let what = if after { "is back" } else { "does not answer: calls go to others first" };
            tracing::warn!("trunk {name}: {address}{at} {what}");
        }
    }
}

fn target(trunk: &Trunk, server: &Server, number: &str) -> String {
    let number = rewrite(&trunk.called_out, &national(number).unwrap_or_else(|| number.to_string()));
    let (scheme, rest) = server.address.split_once(':').unwrap_or(("sip", &server.address));
    format!("{scheme}:{number}@{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn trunk(name: &str, priority: u16, weight: u16, servers: &[(&str, u16, u16)]) -> Trunk {
        let server = |&(a, priority, weight): &(&str, u16, u16)| Server { address: a.into(), priority, weight };
        Trunk {
            name: name.into(),
            servers: servers.iter().map(server).collect(),
            networks: vec![],
            credential: None,
            register: false,
            inbound: true,
            outbound: true,
            priority,
            weight,
            codecs: vec![],
            caller_in: vec![],
            called_out: vec![],
            shows: None,
            max_out: 10,
            give_up_ms: 1500,
            options_s: 0,
            transfer: TransferBy::Bridge,
        }
    }

    fn order(trunks: &Trunks, at: Mono, rng: &mut ChaCha8Rng) -> Vec<String> {
        trunks.ways("01012345678", at, rng).into_iter().map(|w| w.uri).collect()
    }

    #[test]
    fn ways_go_by_priority_and_who_failed_comes_last_until_it_has_rested() {
        let trunks = Trunks::new(vec![
            trunk("b", 20, 1, &[("sip:b1", 0, 1)]),
            trunk("a", 10, 1, &[("sip:a2:5070", 2, 1), ("sips:a1", 1, 1)]),
        ]);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let all = order(&trunks, Mono(0), &mut rng);
        assert_eq!(all, ["sips:01012345678@a1", "sip:01012345678@a2:5070", "sip:01012345678@b1"]);
        let first = trunks.ways("01012345678", Mono(0), &mut rng).remove(0);
        trunks.failed(&first, Mono::from_ms(1000));
        assert_eq!(order(&trunks, Mono::from_ms(2000), &mut rng).last().unwrap(), "sips:01012345678@a1");
        assert_eq!(order(&trunks, Mono::from_ms(32_000), &mut rng)[0], "sips:01012345678@a1");
    }

    #[test]
    fn every_address_of_a_name_is_a_way_of_its_own_and_rests_alone() {
        let trunks = Trunks::new(vec![Trunk { give_up_ms: 1500, ..trunk("a", 0, 1, &[("sip:gw", 0, 1)]) }]);
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let found =
            |ip: u8, rank| Found { at: ([192, 0, 2, ip], 5060).into(), transport: Transport::Udp, rank, weight: 1 };
        let at = |w: &Way| w.at.map(|(at, _)| at.ip().to_string()).unwrap_or_default();
        assert_eq!(at(&trunks.ways("01012345678", Mono(0), &mut rng)[0]), "", "not looked up yet");
        trunks.located(0, 0, vec![found(1, 0), found(2, 1), found(3, 2)]);
        let ways = trunks.ways("01012345678", Mono(0), &mut rng);
        assert_eq!(ways.iter().map(at).collect::<Vec<_>>(), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
        let patience: u32 = ways[..2].iter().map(|w| w.patience_ms).sum();
        assert!(patience < 2000, "the third one is reached in time: {patience}");
        trunks.failed(&ways[0], Mono(0));
        let ways = trunks.ways("01012345678", Mono::from_ms(1), &mut rng);
        assert_eq!(ways.iter().map(at).collect::<Vec<_>>(), ["192.0.2.2", "192.0.2.3", "192.0.2.1"]);
        assert!(trunks.problems(Mono::from_ms(1))[0].contains("sip:gw (192.0.2.1:5060)"));
        trunks.located(0, 0, vec![found(9, 0)]);
        assert_eq!(trunks.health().len(), 0, "what is gone from the DNS is forgotten");
    }

    #[test]
    fn silent_servers_share_the_patience_of_their_trunk_and_each_gets_a_retransmission() {
        let servers: Vec<String> = (0..6).map(|n| format!("sip:s{n}")).collect();
        for (count, last_after) in [(2, 1500), (3, 1500), (4, 1500), (5, 2000), (6, 2500)] {
            let some: Vec<_> = servers[..count].iter().zip(0..).map(|(s, n)| (s.as_str(), n, 1)).collect();
            let trunks = Trunks::new(vec![trunk("a", 0, 1, &some)]);
            let ways = trunks.ways("01012345678", Mono(0), &mut ChaCha8Rng::seed_from_u64(4));
            let before_last: u32 = ways[..count - 1].iter().map(|w| w.patience_ms).sum();
            assert_eq!(before_last, last_after, "{count} servers");
        }
    }

    #[test]
    fn equals_share_the_calls_by_weight() {
        let trunks = Trunks::new(vec![trunk("a", 0, 3, &[("sip:a", 0, 1)]), trunk("b", 0, 1, &[("sip:b", 0, 1)])]);
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let first = (0..4000).filter(|_| order(&trunks, Mono(0), &mut rng)[0].ends_with("@a")).count();
        assert!((2900..3100).contains(&first), "{first} of 4000 where 3000 are due");
    }

    #[test]
    fn a_server_is_left_out_after_two_silent_options_and_taken_back_after_one_answer() {
        let trunks = Trunks::new(vec![trunk("a", 0, 1, &[("sip:a", 0, 1)])]);
        trunks.heard((0, 0, None), None);
        assert!(trunks.states(now())[0].well);
        trunks.heard((0, 0, None), Some(503));
        assert!(!trunks.states(now())[0].well);
        assert!(trunks.problems(now())[0].contains("503"));
        trunks.heard((0, 0, None), Some(404));
        assert!(trunks.states(now())[0].well && trunks.problems(now()).is_empty());
    }

    #[test]
    fn a_trunk_with_as_many_calls_out_as_it_takes_is_no_way() {
        let trunks = Trunks::new(vec![Trunk { max_out: 1, ..trunk("a", 0, 1, &[("sip:a", 0, 1)]) }]);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let way = trunks.ways("010", Mono(0), &mut rng).remove(0);
        trunks.begun(&way);
        assert!(trunks.ways("010", Mono(0), &mut rng).is_empty());
        trunks.over(&way);
        assert_eq!(trunks.ways("010", Mono(0), &mut rng).len(), 1);
    }

    #[test]
    fn numbers_are_written_as_each_side_wants_them() {
        let rules: Vec<Rewrite> = ["+86 -> ", "0086->", "->9"].iter().map(|r| r.parse().unwrap()).collect();
        assert_eq!(rewrite(&rules, "+8613800138000"), "13800138000");
        assert_eq!(rewrite(&rules, "008613800138000"), "13800138000");
        assert_eq!(rewrite(&rules, "4001"), "94001");
        assert!("86".parse::<Rewrite>().is_err() && "a->b".parse::<Rewrite>().is_err());
    }
}
