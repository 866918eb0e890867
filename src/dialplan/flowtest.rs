//! The tests inside flows, run as text: a pretended caller, a pretended back office, the real machine and the real
//! understanding. Milliseconds each; no clock, no audio.
//! What a test's `given:` may say stands at [`Office`].

use super::machine::Run;
use super::model::{FlowTest, Kind, TestInput, TestTurn};
use super::office::Office;
use super::problem::{At, Problem};
use super::reply::{Await, Input, Listen, Outcome, Reply};
use super::set::FlowSet;
use super::understood::Meaning;
use super::value::Value;
use crate::speech::Transcript;
use std::sync::Arc;

/// Back-office answers in one turn before the test is stuck.
const MAX_EVENTS: usize = 200;

/// How a test ended.
#[derive(Debug, Clone, PartialEq)]
pub struct TestResult {
    /// The file.
    pub file: String,
    /// The test's line.
    pub line: u32,
    /// The test's column.
    pub column: u32,
    /// Its name.
    pub name: String,
    /// Why it was not run (audio).
    pub skipped: Option<String>,
    /// What failed, in words.
    pub failure: Option<String>,
    /// Caller steps used.
    pub steps: u8,
    /// How the call ended.
    pub outcome: Option<Outcome>,
    /// The dialogue, line by line (masked).
    pub log: Vec<String>,
}

impl TestResult {
    /// Whether it ran and held.
    pub fn passed(&self) -> bool {
        self.failure.is_none() && self.skipped.is_none()
    }
}

/// Runs every test of a set.
pub fn run_all(set: &Arc<FlowSet>) -> Vec<TestResult> {
    let flows = set.flows().iter().flat_map(|f| f.tests.iter().map(move |t| (f.file.as_str(), t)));
    let shared = set.hotline().tests.iter().map(|t| (set.hotline().file.as_str(), t));
    flows.chain(shared).map(|(file, test)| run(set, file, test)).collect()
}

/// The tests of a set that fail, as problems of it (E019).
pub fn problems(set: &FlowSet, results: &[TestResult]) -> Vec<Problem> {
    let hotline = set.hotline();
    let source = |file: &str| match set.flows().iter().find(|f| f.file == file) {
        Some(flow) => flow.source.clone(),
        None => hotline.source.clone(),
    };
    let failed = results.iter().filter_map(|r| Some((r, r.failure.as_ref()?)));
    failed
        .map(|(r, why)| {
            let at = At { line: r.line, column: r.column };
            let mend = "`zongji test` shows the dialogue; mend the flow or the test";
            let message = format!("the test \"{}\" fails: {why}", r.name);
            Problem::new("E019", &r.file, &source(&r.file), at, message, mend)
        })
        .collect()
}

/// Runs one test.
pub fn run(set: &Arc<FlowSet>, file: &str, test: &FlowTest) -> TestResult {
    let mut result = TestResult {
        file: file.to_string(),
        line: test.at.line,
        column: test.at.column,
        name: test.name.clone(),
        skipped: None,
        failure: None,
        steps: 0,
        outcome: None,
        log: Vec::new(),
    };
    if let Some(TestInput::Audio(path)) = test.turns.iter().map(|t| &t.input).find(|i| matches!(i, TestInput::Audio(_)))
    {
        result.skipped = Some(format!("a turn plays {path}: audio is not run as text"));
        return result;
    }
    let mut stage = Stage::new(set, &test.given);
    let outcome = stage.play(test);
    result.failure = outcome.err();
    result.steps = stage.run.counters().steps;
    result.outcome = Some(stage.outcome());
    result.log = stage.log;
    result
}

/// The call on stage.
struct Stage {
    set: Arc<FlowSet>,
    run: Run,
    world: Office,
    log: Vec<String>,
    heard: String,
    node: String,
    path: Vec<String>,
    actions: Vec<String>,
    tickets: Vec<Value>,
    then: Await,
}

impl Stage {
    fn new(set: &Arc<FlowSet>, given: &Value) -> Stage {
        let world = Office::new(given);
        let run = Run::new(Arc::clone(set), world.session());
        Stage {
            set: Arc::clone(set),
            run,
            world,
            log: Vec::new(),
            heard: String::new(),
            node: String::new(),
            path: Vec::new(),
            actions: Vec::new(),
            tickets: Vec::new(),
            then: Await::Hangup(Outcome::Abandoned),
        }
    }

    fn outcome(&self) -> Outcome {
        match &self.then {
            Await::Hangup(outcome) => *outcome,
            _ => self.run.outcome_on_hangup(),
        }
    }

    fn play(&mut self, test: &FlowTest) -> Result<(), String> {
        self.feed(Input::Start)?;
        for (i, turn) in test.turns.iter().enumerate() {
            self.turn(turn).map_err(|why| format!("turn {} (line {}): {why}", i + 1, turn.at.line))?;
        }
        self.ended(test)
    }

    fn turn(&mut self, turn: &TestTurn) -> Result<(), String> {
        let (input, meaning) = self.input(&turn.input)?;
        if let Some(expected) = &turn.intent {
            self.meant(expected, meaning.as_ref())?;
        }
        self.feed(input)?;
        if let Some(hear) = &turn.hear {
            let found = match hear.strip_prefix('~') {
                Some(part) => self.heard.contains(part),
                None => self.heard == *hear,
            };
            if !found {
                return Err(format!("expected to hear {hear}, heard: {}", self.heard));
            }
        }
        if let Some(node) = &turn.node
            && *node != self.node
        {
            return Err(format!("expected to be at `{node}`, is at `{}`; heard: {}", self.node, self.heard));
        }
        self.slots(&turn.slots)
    }

    fn slots(&self, expected: &Value) -> Result<(), String> {
        let Value::Map(expected) = expected else { return Ok(()) };
        for (name, value) in expected {
            let found = self.run.slot(name);
            if !matches(value, found) {
                return Err(format!("expected the slot {name} to be {}, it is {}", show(value), show(found)));
            }
        }
        Ok(())
    }

    fn meant(&self, expected: &str, meaning: Option<&Meaning>) -> Result<(), String> {
        let found = match meaning {
            Some(Meaning::Intent(name)) => name.clone(),
            Some(Meaning::Choice(name)) => self.option_intent(name).unwrap_or_else(|| name.clone()),
            Some(other) => format!("{other:?}"),
            None => "keys or silence".into(),
        };
        if found == expected {
            return Ok(());
        }
        Err(format!("expected the intent {expected}, understood {found}"))
    }

    /// The intent that a menu's option stands for.
    fn option_intent(&self, option: &str) -> Option<String> {
        let Await::Listen(listen) = &self.then else { return None };
        let flow = &self.set.flows()[self.set.find(&listen.flow)?];
        let Kind::Menu { options } = &flow.nodes[flow.find(&listen.node)?].kind else { return None };
        options.iter().find(|o| o.name == option)?.intent.as_ref().map(|i| i.text.clone())
    }

    fn input(&mut self, input: &TestInput) -> Result<(Input, Option<Meaning>), String> {
        let shown = match input {
            TestInput::Say(s) => format!("客户: {s}"),
            TestInput::Key(k) => format!("按键: {k}"),
            TestInput::Silence(s) => format!("(静音 {s} 秒)"),
            TestInput::Audio(_) => return Err("audio is not run as text".into()),
        };
        self.log.push(shown);
        match (&self.then, input) {
            (Await::Listen(listen), TestInput::Say(text)) => {
                if !listen.speech {
                    return Ok((Input::NoInput, None));
                }
                let u = self.set.understand(listen, &Transcript::typed(text.clone()));
                let meaning = u.meaning.clone();
                Ok((Input::Heard(u), Some(meaning)))
            }
            (Await::Listen(listen), TestInput::Key(keys)) => Ok((Input::Keys(pressed(listen, keys)), None)),
            (Await::Listen(listen), TestInput::Silence(s)) if s * 1000.0 < f64::from(listen.no_input_ms) => {
                Err(format!("{s} s of silence are no answer yet: the node waits {} ms", listen.no_input_ms))
            }
            (Await::Listen(_) | Await::Record { .. }, TestInput::Silence(_)) => Ok((Input::NoInput, None)),
            (Await::Record { .. }, TestInput::Key(keys)) if keys == "0" => Ok((Input::Keys(keys.clone()), None)),
            (Await::Record { .. }, _) => {
                Ok((Input::Recorded { from_ms: 1000, to_ms: 1000 + self.world.recording_ms }, None))
            }
            (Await::Hangup(outcome), _) => Err(format!("the call is over ({})", outcome.name())),
            (other, _) => Err(format!("nobody listens: {other:?}")),
        }
    }

    /// One input, and whatever the back office answers, until the caller is asked again.
    fn feed(&mut self, input: Input) -> Result<(), String> {
        self.heard.clear();
        let mut input = input;
        for _ in 0..MAX_EVENTS {
            let reply = self.run.step(input);
            self.note(&reply);
            self.then = reply.then;
            input = match &self.then {
                Await::Listen(_) | Await::Record { .. } | Await::Hangup(_) => return Ok(()),
                Await::Action(call) => {
                    self.actions.push(call.name.clone());
                    let (outcome, data) = self.world.act(call);
                    self.log.push(format!("  动作 {} → {outcome}", call.name));
                    Input::Action { outcome, data }
                }
                Await::Ticket(draft) => {
                    let fields =
                        [("category", &draft.category), ("priority", &draft.priority), ("title", &draft.title)];
                    let mut fields: Vec<(&str, Value)> = fields.map(|(k, v)| (k, Value::text(v))).into();
                    fields.push(("recorded", Value::Bool(draft.recording_ms.is_some())));
                    self.log.push(format!("  工单 {} {}", draft.category, draft.priority));
                    let ticket = self.world.ticket(self.tickets.len());
                    if ticket.is_some() {
                        self.tickets.push(Value::map(fields));
                    }
                    Input::Ticket(ticket)
                }
                Await::Transfer(order) => {
                    self.log.push(format!("  转人工 {} → {}", order.queue, self.world.seats.name()));
                    Input::Transfer(self.world.seats)
                }
            };
        }
        Err("the flow goes on without the caller".into())
    }

    fn note(&mut self, reply: &Reply) {
        for t in &reply.trace {
            self.node.clone_from(&t.node);
            self.path.push(format!("{}/{}", t.flow, t.node));
        }
        for p in &reply.say {
            self.log.push(format!("热线: {}", p.shown));
            self.heard.push_str(&p.text);
        }
        if let Await::Listen(listen) = &reply.then {
            self.node.clone_from(&listen.node);
        }
    }

    fn ended(&self, test: &FlowTest) -> Result<(), String> {
        let expect = &test.expect;
        if let Some(expected) = &expect.outcome {
            let found = match self.outcome() {
                Outcome::Abandoned => "hangup",
                other => other.name(),
            };
            if expected != found {
                return Err(format!("expected the outcome {expected}, it is {found} (at `{}`)", self.node));
            }
        }
        let steps = self.run.counters().steps;
        if expect.max_steps.is_some_and(|max| steps > max) {
            return Err(format!("{steps} steps, at most {} were expected", expect.max_steps.unwrap_or(0)));
        }
        let mut rest = self.path.iter();
        for wanted in &expect.path {
            let hit = |p: &String| p == wanted || p.rsplit('/').next() == Some(wanted);
            if !rest.any(hit) {
                return Err(format!("the path does not lead over `{wanted}` in this order: {}", self.path.join(" ")));
            }
        }
        if let Some(actions) = &expect.actions
            && *actions != self.actions
        {
            return Err(format!("expected the actions {actions:?}, there were {:?}", self.actions));
        }
        if !expect.ticket.is_null() && !self.tickets.iter().any(|t| matches(&expect.ticket, t)) {
            let found: Vec<String> = self.tickets.iter().map(show).collect();
            return Err(format!("expected a ticket {}, there were [{}]", show(&expect.ticket), found.join(", ")));
        }
        self.slots(&expect.slots)
    }
}

/// Keys as the call machine hands them over: without the terminator.
fn pressed(listen: &Listen, keys: &str) -> String {
    match listen.keys.terminator {
        Some(t) => keys.strip_suffix(t).unwrap_or(keys).to_string(),
        None => keys.to_string(),
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

/// Records match in part; a number matches by its last four digits or more; a label given as text matches a record's `label`.
fn matches(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Map(e), Value::Map(_)) => e.iter().all(|(k, v)| matches(v, found.get(k))),
        (Value::Text(e), Value::Map(_)) => found.get("label").as_text() == Some(e),
        (Value::Int(e), Value::Text(f)) => f == &e.to_string(),
        (Value::Text(e), Value::Text(f)) => e == f || is_number(e) && e.len() >= 4 && f.ends_with(e.as_str()),
        (e, f) => e == f,
    }
}

fn show(v: &Value) -> String {
    match v {
        Value::Null => "nothing".into(),
        Value::Map(m) => {
            let inner: Vec<String> = m.iter().map(|(k, v)| format!("{k}: {}", show(v))).collect();
            format!("{{{}}}", inner.join(", "))
        }
        other => super::prompt::plain_text(other),
    }
}

#[cfg(test)]
mod tests {
    use super::super::set::shipped;
    use super::*;

    #[test]
    fn the_shipped_hotline_passes_its_own_tests() {
        let set = shipped();
        let results = run_all(&set);
        assert!(results.len() >= 30, "{} tests", results.len());
        let failed: Vec<String> = results
            .iter()
            .filter(|r| !r.passed())
            .map(|r| format!("{}:{} {}\n  {:?}\n  {}", r.file, r.line, r.name, r.failure, r.log.join("\n  ")))
            .collect();
        assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    }

    /// The test of this name, with one change to its text, run in a set of its own.
    fn changed(from: &str, to: &str, name: &str) -> TestResult {
        let mut files = super::super::set::embedded();
        for f in &mut files {
            f.text = f.text.replacen(from, to, 1);
        }
        let set = Arc::new(FlowSet::compile(files).expect("still sound"));
        run_all(&set).into_iter().find(|r| r.name == name).expect("the test")
    }

    #[test]
    fn what_does_not_hold_is_explained() {
        let cases = [
            ("{say: 对, at: tell, hear: \"~预计\"}", "{say: 对, at: one}", "turn 2 (line"),
            ("hear: \"~预计\"", "hear: \"~昨天\"", "expected to hear ~昨天, heard: "),
            ("我昨天买的东西, intent: order_query", "我昨天买的东西, intent: complaint", "understood order_query"),
            (
                "slots: {new_address: {label: 公司}}",
                "slots: {new_address: {label: 家里}}",
                "expected the slot new_address",
            ),
            (
                "max_steps: 3, actions: [orders.recent, ",
                "max_steps: 2, actions: [orders.recent, ",
                "3 steps, at most 2",
            ),
            (
                "orders.get, orders.change_address]}\n  - name: 没有声纹",
                "orders.get]}\n  - name: 没有声纹",
                "expected the actions",
            ),
            (
                "expect: {outcome: resolved, max_steps: 3, actions",
                "expect: {outcome: ticketed, max_steps: 3, actions",
                "expected the outcome",
            ),
            (
                "status: packing}",
                "status: packing, seats: busy, fail: {orders.get: error}}",
                "expected to hear ~预计, heard: 系统暂时查不到",
            ),
        ];
        for (from, to, why) in cases {
            let result = changed(from, to, "一单直达并改地址");
            let failure = result.failure.unwrap_or_default();
            assert!(failure.contains(why), "{to}: {failure:?}");
        }
    }

    #[test]
    fn a_test_that_plays_audio_is_skipped_and_says_so() {
        let result = changed(
            "{say: 我想查一下我昨天买的东西, intent: order_query, at: one}",
            "{audio: a.wav}",
            "一单直达并改地址",
        );
        assert!(result.skipped.as_deref().is_some_and(|s| s.contains("a.wav")) && !result.passed());
    }
}
