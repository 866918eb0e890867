//! Trunks: lines to carriers. Which server a call goes to, which are well, and how numbers are written there.

use super::outbound::national;
use super::time::now;
use crate::clock::Mono;
use crate::sdp::Codec;
use crate::sip::{Credential, Network, SipAgent};
use rand::{Rng, RngExt};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// OPTIONS in a row that a server may leave unanswered.
const MAX_UNANSWERED: u32 = 2;
/// A server that failed a call rests for so long, unless it answers an OPTIONS before.
const REST_MS: u64 = 30_000;
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

/// A line to a carrier.
#[derive(Debug, Clone)]
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
}

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
    health: Arc<Mutex<Vec<Vec<Health>>>>,
    registered: Arc<Mutex<Vec<Option<Registered>>>>,
    /// Calls out right now, by trunk.
    out: Arc<Mutex<Vec<u32>>>,
}

impl Trunks {
    /// Trunks as configured, all of them well until shown otherwise.
    pub fn new(all: Vec<Trunk>) -> Trunks {
        let health = all.iter().map(|t| vec![Health::default(); t.servers.len()]).collect();
        let registered = Arc::new(Mutex::new(vec![None; all.len()]));
        let out = Arc::new(Mutex::new(vec![0; all.len()]));
        Trunks { all: Arc::new(all), health: Arc::new(Mutex::new(health)), registered, out }
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
    pub fn ways(&self, number: &str, at: Mono, rng: &mut impl Rng) -> Vec<Way> {
        let health = self.health();
        let out = self.out.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut ways: Vec<(bool, u16, u16, f64, Way)> = Vec::new();
        for (t, trunk) in self.all.iter().enumerate().filter(|(t, trunk)| trunk.outbound && out[*t] < trunk.max_out) {
            // One draw for the trunk: its servers stay together.
            let lot = draw(rng, trunk.weight);
            for (s, server) in trunk.servers.iter().enumerate() {
                let ill = !health[t][s].is_well(at);
                let lot = lot + draw(rng, server.weight) / 1e6;
                let way = Way { trunk: t, server: s, uri: target(trunk, server, number) };
                ways.push((ill, trunk.priority, server.priority, lot, way));
            }
        }
        ways.sort_by(|a, b| (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)).then(a.3.total_cmp(&b.3)));
        ways.into_iter().map(|w| w.4).collect()
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
        if let Some(health) = self.health().get_mut(way.trunk).and_then(|t| t.get_mut(way.server)) {
            health.failed_at = Some(at);
        }
    }

    /// How each server does.
    pub fn states(&self, at: Mono) -> Vec<ServerState> {
        let health = self.health();
        let of = |(t, trunk): (usize, &Trunk)| {
            let servers = trunk.servers.iter().zip(&health[t]);
            let state = |(s, h): (&Server, &Health)| ServerState {
                trunk: trunk.name.clone(),
                address: s.address.clone(),
                well: h.is_well(at),
                status: h.status,
            };
            servers.map(state).collect::<Vec<_>>()
        };
        self.all.iter().enumerate().flat_map(of).collect()
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

    fn health(&self) -> MutexGuard<'_, Vec<Vec<Health>>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers where that is asked for, and asks the servers how they do, until the task is stopped.
    pub async fn watch(self, agent: SipAgent) {
        let mut tasks = tokio::task::JoinSet::new();
        for (t, trunk) in self.all.iter().enumerate() {
            if trunk.register && trunk.credential.is_some() {
                tasks.spawn(self.clone().keep_registered(agent.clone(), t));
            }
            for s in (0..trunk.servers.len()).filter(|_| trunk.options_s > 0) {
                tasks.spawn(self.clone().keep_asking(agent.clone(), t, s));
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    async fn keep_registered(self, agent: SipAgent, t: usize) {
        let trunk = &self.all[t];
        let Some(credential) = &trunk.credential else { return };
        for n in 0u64.. {
            let mut done = Err("it has no server".to_string());
            for server in &trunk.servers {
                done = agent.register_at(&server.address, credential, REGISTER_S).await.map_err(|e| e.to_string());
                if done.is_ok() {
                    break; // the agent keeps it fresh
                }
            }
            let well = done.is_ok();
            if let Err(why) = &done {
                tracing::warn!("trunk {}: not registered: {why}", trunk.name);
            }
            self.registered.lock().unwrap_or_else(PoisonError::into_inner)[t] = Some(done);
            if well {
                return;
            }
            tokio::time::sleep(Duration::from_secs((5 << n.min(4)).min(60))).await;
        }
    }

    async fn keep_asking(self, agent: SipAgent, t: usize, s: usize) {
        let trunk = &self.all[t];
        let limit = Duration::from_secs(5);
        loop {
            let answer = agent.options(&trunk.servers[s].address, limit).await;
            self.heard(t, s, answer.ok());
            tokio::time::sleep(Duration::from_secs(u64::from(trunk.options_s))).await;
        }
    }

    /// What became of an OPTIONS. Whoever refuses it is there too, but 503 takes no calls and 408 reached nobody.
    fn heard(&self, t: usize, s: usize, status: Option<u16>) {
        let Some(trunk) = self.all.get(t) else { return };
        let mut health = self.health();
        let state = &mut health[t][s];
        let before = state.is_well(now());
        state.status = status.or(state.status);
        match status {
            Some(408 | 503) | None => state.unanswered += 1,
            Some(_) => (state.unanswered, state.failed_at) = (0, None),
        }
        let after = state.is_well(now());
        if before != after {
            let (name, address) = (&trunk.name, &trunk.servers[s].address);
            let what = if after { "is back" } else { "does not answer: calls go to others first" };
            tracing::warn!("trunk {name}: {address} {what}");
        }
    }
}

/// Smaller comes first; a weight of 0 comes last among equals.
fn draw(rng: &mut impl Rng, weight: u16) -> f64 {
    let lot: f64 = rng.random_range(f64::MIN_POSITIVE..1.0);
    // An exponential race: who has twice the weight comes first twice as often.
    if weight == 0 { 1e9 + lot } else { -lot.ln() / f64::from(weight) }
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
    fn equals_share_the_calls_by_weight() {
        let trunks = Trunks::new(vec![trunk("a", 0, 3, &[("sip:a", 0, 1)]), trunk("b", 0, 1, &[("sip:b", 0, 1)])]);
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let first = (0..4000).filter(|_| order(&trunks, Mono(0), &mut rng)[0].ends_with("@a")).count();
        assert!((2900..3100).contains(&first), "{first} of 4000 where 3000 are due");
    }

    #[test]
    fn a_server_is_left_out_after_two_silent_options_and_taken_back_after_one_answer() {
        let trunks = Trunks::new(vec![trunk("a", 0, 1, &[("sip:a", 0, 1)])]);
        trunks.heard(0, 0, None);
        assert!(trunks.states(now())[0].well);
        trunks.heard(0, 0, Some(503));
        assert!(!trunks.states(now())[0].well);
        assert!(trunks.problems(now())[0].contains("503"));
        trunks.heard(0, 0, Some(404));
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
