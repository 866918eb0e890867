//! The machine that walks a call through the flows: [`Run::step`] takes what happened and says what to say and what
//! to await. Pure: no clock, no randomness, no input or output.
//!
//! Guards that no flow can switch off: a node at most 10 times, 60 nodes without the caller, 1000 in a call,
//! `limits.max_turns` turns. What breaks one of them goes to a person; who cannot be reached becomes a call-back
//! ticket; what cannot be written is said honestly.

mod answer;
mod enter;
mod global;
mod last;
mod listen;
#[cfg(test)]
mod tests;
mod verify;

use super::expr::Scope;
use super::hotline::Hotline;
use super::model::{Flow, Level, Node, Target};
use super::prompt::{self, Template, Voice};
use super::reply::{Await, Input, Listen, Outcome, Prompt, Reply, Trace};
use super::set::FlowSet;
use super::value::Value;
use crate::speech::Lang;
use std::collections::BTreeMap;
use std::sync::Arc;
use verify::{Proof, Subject};

pub(in crate::dialplan) use answer::mentioned_slots;

/// Visits of one node in a call (since the last opening question).
const MAX_VISITS: u32 = 10;
/// Nodes walked through without the caller.
const MAX_SILENT: u32 = 60;
/// Nodes walked through in a call.
const MAX_NODES: u32 = 1000;
/// Inputs that do not fit what is awaited, before the call is given up.
const MAX_STRAYS: u32 = 20;
/// Digressions and sub-flows within each other.
const MAX_STACK: usize = 6;
/// Nodes kept for the summary.
const MAX_PATH: usize = 200;

/// Who calls, as far as it is known when the call begins.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Session {
    /// The caller's number, digits.
    pub caller: String,
    /// The customer: `name`, `vip`, `elder`, `angry`, `phone_tail`, `addresses` (list of `{label, text, say}`),
    /// `orders` (list of orders), `voiceprint` (`pass`, or absent).
    pub profile: Value,
    /// Today: year, month 1..=12, day.
    pub today: (i32, u8, u8),
    /// The language spoken with the caller.
    pub lang: Lang,
}

/// What is counted for the call record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Caller inputs that moved the business on, after the opening question. The read-back of a slot just filled
    /// belongs to that slot's step; the survey does not count.
    pub steps: u8,
    /// Misses and corrections.
    pub retries: u8,
    /// Questions of verification.
    pub verify_questions: u8,
    /// Inputs of the caller.
    pub turns: u32,
}

/// A node of the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which flow.
    pub flow: usize,
    /// Which node of it.
    pub node: usize,
}

/// Where to come back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    back: Place,
    digression: bool,
}

/// What the machine waits for, in its own terms.
#[derive(Debug, Clone, PartialEq)]
enum Wait {
    /// [`Input::Start`].
    Start,
    /// An answer to the opening question.
    Open,
    /// Which of two businesses.
    Clarify(String, String),
    /// An answer at the current node, or the end of what the node does.
    Node,
    /// An answer to a question of verification.
    Proof(Proof),
    /// Whether a person is wanted; then this goes on.
    Offer(Box<Suspended>),
    /// The last resort: a person.
    LastTransfer,
    /// The last resort of the last resort: a call-back ticket.
    LastTicket,
    /// Nothing any more.
    Done,
}

#[derive(Debug, Clone, PartialEq)]
struct Suspended {
    wait: Wait,
    listen: Listen,
    said: Vec<Prompt>,
}

/// Where the walk goes next.
#[derive(Debug)]
enum Next {
    To(Target),
    At(Place),
    Open,
    Wait(Wait, Await),
    Broken(String),
}

#[derive(Debug, Default)]
struct Out {
    say: Vec<Prompt>,
    trace: Vec<Trace>,
}

/// Misses at the present question.
#[derive(Debug, Clone, Copy, Default)]
struct Tries {
    nomatch: usize,
    noinput: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Mood {
    angry: bool,
    strong: bool,
    negatives: u8,
    offered: bool,
    hinted: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    tickets: u32,
    bridged: bool,
    answered: bool,
    surveyed: bool,
}

/// One call's walk through a set of flows.
#[derive(Debug)]
pub struct Run {
    set: Arc<FlowSet>,
    session: Session,
    scope: Scope,
    here: Option<Place>,
    stack: Vec<Frame>,
    wait: Wait,
    pending: Await,
    said: Vec<Prompt>,
    tries: Tries,
    counters: Counters,
    mood: Mood,
    facts: Facts,
    humans: u8,
    rate: f32,
    /// What was proved, and for whom: a proof for one person's orders says nothing of another's.
    proved: (Level, Subject),
    visits: BTreeMap<Place, u32>,
    silent: u32,
    nodes: u32,
    strays: u32,
    recorded: Option<(u64, u64)>,
    just_filled: Option<String>,
    flows: Vec<String>,
    path: Vec<String>,
    troubles: Vec<String>,
}

impl Run {
    /// A call that begins. The set stays the same until the call ends.
    pub fn new(set: Arc<FlowSet>, session: Session) -> Run {
        let mut scope = Scope::new();
        scope.insert("caller".into(), Value::text(session.caller.clone()));
        scope.insert("profile".into(), session.profile.clone());
        scope.insert("slots".into(), Value::Map(BTreeMap::new()));
        let mut known = match &session.profile {
            Value::Map(m) => m.clone(),
            _ => BTreeMap::new(),
        };
        known.retain(|k, _| !["addresses", "orders"].contains(&k.as_str()));
        known.insert("caller".into(), Value::text(session.caller.clone()));
        known.insert("verify_level".into(), Value::text("l0"));
        known.insert("emotion".into(), Value::text("neutral"));
        known.insert("intent".into(), Value::Null);
        scope.insert("session".into(), Value::Map(known));
        let angry = session.profile.get("angry") == &Value::Bool(true);
        Run {
            set,
            session,
            scope,
            here: None,
            stack: Vec::new(),
            wait: Wait::Start,
            pending: Await::Hangup(Outcome::Abandoned),
            said: Vec::new(),
            tries: Tries::default(),
            counters: Counters::default(),
            mood: Mood { angry, ..Mood::default() },
            facts: Facts::default(),
            humans: 0,
            rate: 1.0,
            proved: (Level::L0, Subject::Caller),
            visits: BTreeMap::new(),
            silent: 0,
            nodes: 0,
            strays: 0,
            recorded: None,
            just_filled: None,
            flows: Vec::new(),
            path: Vec::new(),
            troubles: Vec::new(),
        }
    }

    /// Steps, retries, verification questions, turns.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Flows entered, in order.
    pub fn flows(&self) -> &[String] {
        &self.flows
    }

    /// A slot's value.
    pub fn slot(&self, name: &str) -> &Value {
        self.scope.get("slots").map_or(&Value::Null, |s| s.get(name))
    }

    /// What went wrong inside flows since the last call of this (missing values, expressions that cannot be worked
    /// out, guards): for records, never for callers.
    pub fn take_troubles(&mut self) -> Vec<String> {
        std::mem::take(&mut self.troubles)
    }

    /// The call as a seat or a ticket needs to know it: `flow`, `node`, `intent`, `caller`, `verify_level`,
    /// `emotion`, `slots`, `tried` (the last nodes), `steps`, `turns`.
    pub fn facts(&self) -> Value {
        let session = self.scope.get("session").unwrap_or(&Value::Null);
        let (flow, node) = self.names();
        let tried = self.path.iter().rev().take(12).rev().map(Value::text).collect();
        Value::map([
            ("flow", Value::Text(flow)),
            ("node", Value::Text(node)),
            ("intent", session.get("intent").clone()),
            ("caller", Value::text(self.session.caller.clone())),
            ("verify_level", Value::text(self.level().name())),
            ("emotion", session.get("emotion").clone()),
            ("slots", self.scope.get("slots").cloned().unwrap_or_default()),
            ("order", self.scope.get("order").map_or(Value::Null, |o| o.get("no").clone())),
            ("tried", Value::List(tried)),
            ("steps", Value::Int(self.counters.steps.into())),
            ("turns", Value::Int(self.counters.turns.into())),
        ])
    }

    /// How the call is to be recorded when the caller hangs up now.
    pub fn outcome_on_hangup(&self) -> Outcome {
        match self.facts {
            Facts { bridged: true, .. } => Outcome::Transferred,
            Facts { tickets: 1.., .. } => Outcome::Ticketed,
            Facts { answered: true, .. } => Outcome::Resolved,
            _ => Outcome::Abandoned,
        }
    }

    /// Takes what happened; says what to say and what to await. Never panics, never loops, always ends.
    ///
    /// An input that does not fit what is awaited changes nothing: the same is awaited again.
    pub fn step(&mut self, input: Input) -> Reply {
        let mut out = Out::default();
        let then = match self.react(input, &mut out) {
            Some(next) => self.drive(next, &mut out),
            None => self.stray(),
        };
        if matches!(then, Await::Listen(_)) && !out.say.is_empty() {
            self.said.clone_from(&out.say);
        }
        self.pending = then.clone();
        Reply { say: out.say, then, trace: out.trace }
    }

    fn stray(&mut self) -> Await {
        if self.wait == Wait::Done {
            return self.pending.clone();
        }
        self.strays += 1;
        if self.strays > MAX_STRAYS {
            self.trouble("too many inputs that nobody awaited");
            self.wait = Wait::Done;
            return Await::Hangup(Outcome::Failed);
        }
        self.pending.clone()
    }

    fn react(&mut self, input: Input, out: &mut Out) -> Option<Next> {
        let listening = matches!(self.pending, Await::Listen(_));
        match (input, &self.pending) {
            (Input::Start, _) if self.wait == Wait::Start => {
                self.speak_hotline(|h| &h.greeting, out);
                Some(Next::Open)
            }
            (Input::Heard(u), Await::Listen(_)) => Some(self.heard(u, out)),
            (Input::Keys(keys), Await::Listen(_)) => Some(self.keys(&keys, out)),
            (Input::NoInput, _) if listening => Some(self.no_input(out)),
            (Input::Action { outcome, data }, Await::Action(_)) => Some(self.action_ended(&outcome, data)),
            (Input::Ticket(ticket), Await::Ticket(_)) => Some(self.ticket_ended(ticket, out)),
            (Input::Transfer(result), Await::Transfer(_)) => Some(self.transfer_ended(result, out)),
            (Input::Recorded { from_ms, to_ms }, Await::Record { .. }) => Some(self.record_ended(from_ms, to_ms)),
            (Input::NoInput, Await::Record { .. }) => Some(self.record_ended(0, 0)),
            // A person can be had at every node, also where the caller only talks.
            (Input::Keys(keys), Await::Record { .. }) if keys == "0" => {
                self.counters.turns += 1;
                self.silent = 0;
                Some(self.global(super::understood::Global::Human, out))
            }
            _ => None,
        }
    }

    fn drive(&mut self, mut next: Next, out: &mut Out) -> Await {
        loop {
            next = match next {
                Next::Wait(wait, then) => {
                    self.wait = wait;
                    return then;
                }
                Next::Open => self.open(out),
                Next::At(place) => self.enter(place, out),
                Next::Broken(why) => self.last_resort(&why, out),
                Next::To(target) => self.follow(target, out),
            };
        }
    }

    fn follow(&mut self, target: Target, out: &mut Out) -> Next {
        match target {
            Target::Node(name) => {
                let Some(here) = self.here else { return Next::Broken("no flow has begun".into()) };
                match self.set.flows()[here.flow].find(&name) {
                    Some(node) => Next::At(Place { flow: here.flow, node }),
                    None => Next::Broken(format!("there is no node {name}")),
                }
            }
            Target::Flow(name) => self.begin_flow(&name),
            Target::Return => self.go_back(out),
            Target::End => self.end(out),
        }
    }

    fn begin_flow(&mut self, name: &str) -> Next {
        let Some(flow) = self.set.find(name) else { return Next::Broken(format!("there is no flow {name}")) };
        if self.flows.len() < MAX_PATH {
            self.flows.push(name.to_string());
        }
        self.here = Some(Place { flow, node: 0 });
        self.nodes += 1; // a flow whose start leads straight to another flow must not turn for ever
        if self.nodes > MAX_NODES {
            return Next::Broken("too many nodes in one call".into());
        }
        Next::To(self.set.flows()[flow].start.to.clone())
    }

    fn go_back(&mut self, out: &mut Out) -> Next {
        match self.stack.pop() {
            Some(Frame { back, digression: true }) => {
                self.speak_hotline(|h| &h.texts.resume, out);
                Next::At(back)
            }
            Some(Frame { back, digression: false }) => {
                self.here = Some(back);
                match self.node(back).go.as_ref().or_else(|| self.node(back).then.get("return")) {
                    Some(link) => Next::To(link.to.clone()),
                    None => Next::Broken("a flow was called and leads nowhere".into()),
                }
            }
            None if self.facts.bridged => self.hang_up(),
            None => Next::Open,
        }
    }

    fn end(&mut self, out: &mut Out) -> Next {
        // Who has spoken with a person is not asked the old question again.
        let interrupted = self.stack.iter().rposition(|f| f.digression).filter(|_| !self.facts.bridged);
        match interrupted {
            Some(i) => {
                self.stack.truncate(i + 1);
                self.go_back(out)
            }
            None => self.hang_up(),
        }
    }

    fn hang_up(&mut self) -> Next {
        let outcome = match self.outcome_on_hangup() {
            Outcome::Abandoned => Outcome::Resolved,
            other => other,
        };
        Next::Wait(Wait::Done, Await::Hangup(outcome))
    }

    /// The opening question, or "anything else?".
    fn open(&mut self, out: &mut Out) -> Next {
        let again = !self.flows.is_empty();
        self.stack.clear();
        self.visits.clear();
        self.here = None;
        self.tries = Tries::default();
        self.just_filled = None;
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Next::Broken("too many nodes in one call".into());
        }
        self.trace("hotline", "entry", out);
        if again {
            self.speak_hotline(|h| &h.entry.again, out);
        } else {
            self.speak_hotline(|h| &h.entry.prompt, out);
        }
        Next::Wait(Wait::Open, self.open_listen())
    }

    fn trace(&mut self, flow: &str, node: &str, out: &mut Out) {
        out.trace.push(Trace { flow: flow.to_string(), node: node.to_string(), step: self.counters.steps });
        if self.path.len() < MAX_PATH {
            self.path.push(format!("{flow}/{node}"));
        }
    }

    fn trouble(&mut self, what: impl Into<String>) {
        if self.troubles.len() < 50 {
            let (flow, node) = self.names();
            self.troubles.push(format!("{flow}/{node}: {}", what.into()));
        }
    }

    fn names(&self) -> (String, String) {
        match self.here {
            Some(p) => {
                let flow = &self.set.flows()[p.flow];
                (flow.id.clone(), flow.nodes.get(p.node).map_or_else(String::new, |n| n.id.clone()))
            }
            None => ("hotline".into(), "entry".into()),
        }
    }

    fn node(&self, p: Place) -> &Node {
        &self.set.flows()[p.flow].nodes[p.node]
    }

    fn flow(&self) -> Option<&Flow> {
        self.here.map(|p| &self.set.flows()[p.flow])
    }

    fn render(&mut self, template: &Template, barge_in: bool) -> Prompt {
        let voice = Voice {
            english: self.session.lang == Lang::En,
            angry: self.mood.angry,
            elder: self.session.profile.get("elder") == &Value::Bool(true),
            rate: self.rate,
            barge_in,
            today: self.session.today,
        };
        let mut missing = Vec::new();
        let prompt = prompt::render(template, voice, &self.scope, &*self.set, &mut missing);
        for path in missing {
            self.trouble(format!("the prompt's value {path} is missing"));
        }
        prompt
    }

    /// Says one of the hotline's own sentences.
    fn speak_hotline(&mut self, pick: impl Fn(&Hotline) -> &Template, out: &mut Out) {
        let set = Arc::clone(&self.set);
        let prompt = self.render(pick(set.hotline()), true);
        out.say.push(prompt);
    }

    fn speak(&mut self, template: &Template, barge_in: bool, out: &mut Out) {
        let prompt = self.render(template, barge_in);
        if !prompt.text.is_empty() || prompt.audio.is_some() {
            out.say.push(prompt);
        }
    }

    fn set_session(&mut self, key: &str, value: Value) {
        if let Some(Value::Map(m)) = self.scope.get_mut("session") {
            m.insert(key.to_string(), value);
        }
    }

    fn set_slot(&mut self, name: &str, value: Value) {
        if let Some(Value::Map(m)) = self.scope.get_mut("slots") {
            m.insert(name.to_string(), value);
        }
    }

    fn add_step(&mut self) {
        self.counters.steps = self.counters.steps.saturating_add(1);
    }

    fn add_retry(&mut self) {
        self.counters.retries = self.counters.retries.saturating_add(1);
    }
}
