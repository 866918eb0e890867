//! A flow as it is used: typed, every place in the file remembered so that checks can point at it.

use super::expr::Expr;
use super::prompt::Template;
use super::understood::Global;
use super::value::Value;
use super::{AnswerKind, problem::At};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// How well the caller is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Level {
    /// Not at all.
    #[default]
    L0,
    /// The caller's number is the order's, or its last four digits were named.
    L1,
    /// Voiceprint, else last four digits and the receiver's name (or the amount paid).
    L2,
    /// Voiceprint and a code by text message.
    L3,
    /// By a person.
    L4,
}

impl Level {
    /// `l0`..`l4`.
    pub const fn name(self) -> &'static str {
        ["l0", "l1", "l2", "l3", "l4"][self as usize]
    }

    /// From `l0`..`l4`.
    pub fn parse(s: &str) -> Option<Level> {
        [Level::L0, Level::L1, Level::L2, Level::L3, Level::L4].into_iter().find(|l| l.name() == s)
    }
}

/// Where a way leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A node of the same flow.
    Node(String),
    /// Another flow, from its start; this one is left for good.
    Flow(String),
    /// Back to the flow that called this one; without one, to "anything else?".
    Return,
    /// The end of the call (or, when this flow was a digression, back to what it interrupted).
    End,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Node(n) => f.write_str(n),
            Target::Flow(n) => write!(f, "flow:{n}"),
            Target::Return => f.write_str("return"),
            Target::End => f.write_str("end"),
        }
    }
}

/// A way out of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Where it leads.
    pub to: Target,
    /// Where it is written.
    pub at: At,
}

/// One flow: one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// The file's name.
    pub file: String,
    /// Its text.
    pub source: Arc<str>,
    /// Its name.
    pub id: String,
    /// Where the name stands.
    pub at: At,
    /// Its title, for people.
    pub title: String,
    /// What it asks of the caller's identity when it begins (`l1`: backends get the caller's number to compare).
    pub verify: Level,
    /// Its limits.
    pub limits: Limits,
    /// What callers say to begin it (or to steer it).
    pub intents: Vec<Intent>,
    /// What it fills.
    pub slots: Vec<SlotDef>,
    /// Its first node.
    pub start: Link,
    /// Its nodes, in file order.
    pub nodes: Vec<Node>,
    /// What every listening node understands, and where that leads from this flow.
    pub globals: BTreeMap<Global, Link>,
    /// Its tests.
    pub tests: Vec<FlowTest>,
}

impl Flow {
    /// The place of a node in [`Flow::nodes`].
    pub fn find(&self, node: &str) -> Option<usize> {
        self.nodes.iter().position(|n| n.id == node)
    }

    /// A slot's definition.
    pub fn slot(&self, name: &str) -> Option<&SlotDef> {
        self.slots.iter().find(|s| s.name == name)
    }
}

/// Limits of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Caller steps on the longest happy path.
    pub max_steps: u8,
    /// Turns of a call before a person takes over.
    pub max_turns: u32,
    /// Length of a call in seconds before a person takes over (kept by the call machine).
    pub max_seconds: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_steps: 3, max_turns: 40, max_seconds: 600 }
    }
}

/// An intent.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub at: At,
    /// Whether the opening question listens for it (`top: false`: only steers inside its flow).
    pub top: bool,
    /// How people say it.
    pub examples: Vec<Spot>,
    /// How a recogniser may write the same.
    pub asr_variants: Vec<Spot>,
    /// Patterns that decide alone.
    pub patterns: Vec<Spot>,
    /// Patterns that forbid it.
    pub not: Vec<Spot>,
    /// Short fragments that give it away when heard anywhere in an utterance.
    pub keywords: Vec<Spot>,
    /// Its name for callers, in "您是想查订单,还是投诉?".
    pub spoken: Option<String>,
}

/// A text with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// The text.
    pub text: String,
    /// Where it stands.
    pub at: At,
}

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotType {
    /// Words as they were heard.
    Text,
    /// One of a list: name and ways to say it.
    Enum(Vec<(String, Vec<String>)>),
    /// Digits, this many.
    Digits(u8, u8),
    /// A mobile number, 11 digits.
    Phone,
    /// One of the caller's orders, or an order's last four digits.
    OrderRef,
    /// One of the caller's stored addresses.
    Address,
    /// Yes or no.
    Bool,
    /// A recording of free speech.
    Record,
}

/// What kind of personal data a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PiiKind {
    /// None.
    #[default]
    None,
    /// A phone number.
    Phone,
    /// A bank card.
    Bank,
    /// An identity number.
    Id,
    /// An address.
    Address,
    /// A name.
    Name,
    /// A PIN, a password, a security code.
    Secret,
}

/// A slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotDef {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub at: At,
    /// What it holds.
    pub kind: SlotType,
    /// Whether it is filled from outside the flow (caller, session, customer record).
    pub given: bool,
    /// What kind of personal data it is.
    pub pii: PiiKind,
    /// Whether it may stay empty.
    pub optional: bool,
    /// Whether the call's recording may hold it.
    pub recorded: bool,
}

/// A node: what all kinds share, and its kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its name.
    pub id: String,
    /// Where it stands.
    pub at: At,
    /// What it says.
    pub prompt: Option<Template>,
    /// Skipped when this holds.
    pub skip_if: Option<(Expr, At)>,
    /// What it says after a miss.
    pub retry: Retry,
    /// Whether keys are listened to.
    pub keys: bool,
    /// Whether speech is listened to.
    pub speech: bool,
    /// Whether its prompt may be interrupted.
    pub barge_in: bool,
    /// Silence before "nobody there", in milliseconds; the hotline's when not given.
    pub wait_ms: Option<u32>,
    /// Whether its prompt is the answer the caller rang for: who hangs up after it was served.
    pub answers: bool,
    /// Ways out by outcome.
    pub then: BTreeMap<String, Link>,
    /// The way out of nodes that have only one.
    pub go: Option<Link>,
    /// What it does.
    pub kind: Kind,
}

/// Prompts after a miss, one each, tapering.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Retry {
    /// After an answer that was not understood; none: the hotline's.
    pub nomatch: Option<Vec<Template>>,
    /// After silence; none: the hotline's.
    pub noinput: Option<Vec<Template>>,
}

impl Retry {
    /// All prompts.
    pub fn prompts(&self) -> impl Iterator<Item = &Template> {
        self.nomatch.iter().chain(&self.noinput).flatten()
    }
}

/// What a node does.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Speaks.
    Say,
    /// Asks for a slot. Outcomes `filled`, `max`.
    Ask {
        /// The slot.
        slot: Spot,
    },
    /// Asks yes or no. Outcomes `agree`, `refuse`, `max`.
    Confirm,
    /// Offers options. Outcome `max`; the options lead elsewhere.
    Menu {
        /// The options.
        options: Vec<MenuOption>,
    },
    /// Proves who the caller is. Outcomes `pass`, `fail`.
    Verify {
        /// How well.
        level: Level,
        /// Wording of its questions (`last4`, `name`).
        prompts: BTreeMap<String, Template>,
    },
    /// Calls a backend. Outcomes as the registry says.
    Action {
        /// Its name in the registry.
        call: Spot,
        /// Arguments.
        with: Vec<(Spot, Expr)>,
        /// Fields of the answer and the names they get.
        save: Vec<(Spot, String)>,
        /// Time limit in milliseconds.
        timeout_ms: Option<u32>,
        /// Said when it takes longer than a moment.
        filler: Option<Template>,
    },
    /// Chooses a way.
    Branch {
        /// In order.
        cases: Vec<Case>,
    },
    /// Sets variables (`slots.x` fills a slot).
    Set {
        /// Names and values.
        set: Vec<(Spot, Expr)>,
    },
    /// Records free speech. Outcomes `filled`, `max`.
    Record {
        /// The slot.
        slot: Spot,
        /// Longest recording in milliseconds.
        max_ms: u32,
    },
    /// Goes through another flow and comes back.
    Flow {
        /// Which.
        flow: Spot,
    },
    /// Writes a ticket, then speaks.
    Ticket {
        /// Category.
        category: Spot,
        /// `P0`..`P3`.
        priority: String,
        /// The promise.
        sla: String,
        /// One line for people; the flow's title when not given.
        title: Option<Template>,
    },
    /// Hands over to a person. Outcomes `connected`, `busy`, `timeout`, `closed`.
    Transfer {
        /// The queue.
        queue: Spot,
        /// The skill.
        skill: Option<Spot>,
        /// Whether the seat hears the briefing first.
        warm: bool,
        /// The briefing.
        announce: Option<Template>,
    },
    /// Asks how satisfied the caller is. Outcomes `scored`, `none`.
    Survey,
    /// Ends the call.
    End,
}

impl Kind {
    /// Its keyword.
    pub const fn name(&self) -> &'static str {
        match self {
            Kind::Say => "say",
            Kind::Ask { .. } => "ask",
            Kind::Confirm => "confirm",
            Kind::Menu { .. } => "menu",
            Kind::Verify { .. } => "verify",
            Kind::Action { .. } => "action",
            Kind::Branch { .. } => "branch",
            Kind::Set { .. } => "set",
            Kind::Record { .. } => "record",
            Kind::Flow { .. } => "flow",
            Kind::Ticket { .. } => "ticket",
            Kind::Transfer { .. } => "transfer",
            Kind::Survey => "survey",
            Kind::End => "end",
        }
    }

    /// Whether it waits for the caller.
    pub const fn listens(&self) -> bool {
        matches!(
            self,
            Kind::Ask { .. }
                | Kind::Confirm
                | Kind::Menu { .. }
                | Kind::Verify { .. }
                | Kind::Record { .. }
                | Kind::Survey
        )
    }
}

/// A way out of a branch.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Where its condition stands.
    pub at: At,
    /// When it is taken; none is the `else`.
    pub condition: Option<Expr>,
    /// Where it leads.
    pub go: Link,
}

/// An option of a menu.
#[derive(Debug, Clone, PartialEq)]
pub struct MenuOption {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub at: At,
    /// Ways to say it.
    pub say: Vec<Spot>,
    /// Its key.
    pub key: Option<char>,
    /// An intent of this flow that chooses it too.
    pub intent: Option<Spot>,
    /// Where it leads.
    pub go: Link,
}

/// A test inside a flow.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowTest {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub at: At,
    /// The world it runs in.
    pub given: Value,
    /// What the caller does.
    pub turns: Vec<TestTurn>,
    /// What must have come of it.
    pub expect: Expect,
}

/// What a caller does in a test.
#[derive(Debug, Clone, PartialEq)]
pub enum TestInput {
    /// Says this.
    Say(String),
    /// Presses these (a final `#` ends the answer).
    Key(String),
    /// Plays this file (text runs skip the test).
    Audio(String),
    /// Says nothing for this many seconds.
    Silence(f64),
}

/// One turn of a test.
#[derive(Debug, Clone, PartialEq)]
pub struct TestTurn {
    /// Where it stands.
    pub at: At,
    /// What the caller does.
    pub input: TestInput,
    /// The answer must contain this (`~x`) or be this.
    pub hear: Option<String>,
    /// The node that listens after it.
    pub node: Option<String>,
    /// What it must have meant.
    pub intent: Option<String>,
    /// Slots after it (records match in part).
    pub slots: Value,
}

/// The end of a test.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expect {
    /// `resolved`, `transferred`, `ticketed`, `hangup`.
    pub outcome: Option<String>,
    /// At most this many steps.
    pub max_steps: Option<u8>,
    /// Nodes in order (others may lie between).
    pub path: Vec<String>,
    /// Actions that were run, exactly these in order.
    pub actions: Option<Vec<String>>,
    /// A ticket with these fields was written.
    pub ticket: Value,
    /// Slots at the end.
    pub slots: Value,
}

/// The kind of answer a slot of this type is asked with.
pub fn answer_kind(kind: &SlotType) -> AnswerKind {
    match kind {
        SlotType::Bool => AnswerKind::YesNo,
        SlotType::Digits(min, max) => AnswerKind::Digits { min: *min, max: *max },
        SlotType::Phone => AnswerKind::Digits { min: 11, max: 11 },
        SlotType::Enum(_) | SlotType::OrderRef | SlotType::Address => AnswerKind::Choice,
        SlotType::Text | SlotType::Record => AnswerKind::Open,
    }
}
