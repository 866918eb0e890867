//! The two vocabularies of the flow machine: what it is told and what it answers.

use super::{Level, Understood, Value};
use crate::speech::Lang;
use std::collections::BTreeMap;

/// What the machine is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The call has been answered.
    Start,
    /// The caller spoke at a listening node.
    Heard(Understood),
    /// The caller pressed keys at a listening node (terminator removed). Digits, `*`, `#`.
    Keys(String),
    /// Nobody said or pressed anything in time.
    NoInput,
    /// An action ended: its outcome (`ok`, `error`, `timeout`, `empty`, `conflict` …) and data.
    Action {
        /// The outcome's name, one that the registry declares.
        outcome: String,
        /// The fields that `save:` takes from.
        data: Value,
    },
    /// A ticket was written and is safe on disk; or could not be (`None`).
    Ticket(Option<Value>),
    /// A transfer ended.
    Transfer(TransferResult),
    /// A recording ended: where it lies in the call's recording, in milliseconds from its start.
    Recorded {
        /// First millisecond.
        from_ms: u64,
        /// Last millisecond.
        to_ms: u64,
    },
}

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransferResult {
    /// Caller and seat spoke, and the seat has hung up.
    Connected,
    /// Every seat is busy or declined.
    Busy,
    /// No seat answered in time.
    Timeout,
    /// No seat is logged in, or it is out of hours.
    Closed,
    /// The caller would not wait any longer.
    Cancelled,
}

impl TransferResult {
    /// The way a flow takes after it (`connected`, `busy`, `timeout`, `closed`): who gives up waiting goes where he
    /// would have gone had nobody answered.
    pub const fn way(self) -> &'static str {
        match self {
            TransferResult::Cancelled => TransferResult::Timeout.name(),
            other => other.name(),
        }
    }

    /// The name in records (`connected`, `busy`, `timeout`, `closed`, `cancelled`).
    pub const fn name(self) -> &'static str {
        match self {
            TransferResult::Connected => "connected",
            TransferResult::Busy => "busy",
            TransferResult::Timeout => "timeout",
            TransferResult::Closed => "closed",
            TransferResult::Cancelled => "cancelled",
        }
    }
}

/// What the machine answers: speak this, then await that.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Prompts in order; may be empty.
    pub say: Vec<Prompt>,
    /// What must come next.
    pub then: Await,
    /// Nodes walked through and why, for records and consoles.
    pub trace: Vec<Trace>,
}

/// A prompt, ready to speak.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// The text with every placeholder filled.
    pub text: String,
    /// The same with personal data masked, for records and screens.
    pub shown: String,
    /// A recording that wins over synthesis.
    pub audio: Option<String>,
    /// Speed, 1.0 normal.
    pub rate: f32,
    /// Whether speech or keys may interrupt it.
    pub barge_in: bool,
    /// The language it is written in.
    pub lang: Lang,
}

/// One step on the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The flow.
    pub flow: String,
    /// The node entered.
    pub node: String,
    /// Caller steps used so far, this node's included.
    pub step: u8,
}

/// What must come next.
#[derive(Debug, Clone, PartialEq)]
pub enum Await {
    /// The caller's answer: [`Input::Heard`], [`Input::Keys`] or [`Input::NoInput`].
    Listen(Box<Listen>),
    /// A business action: [`Input::Action`].
    Action(ActionCall),
    /// A ticket to be written: [`Input::Ticket`].
    Ticket(TicketDraft),
    /// A person: [`Input::Transfer`].
    Transfer(TransferOrder),
    /// Free speech to be recorded: [`Input::Recorded`]. Ends after a long pause, a `#`, or this many milliseconds.
    Record {
        /// Longest recording in milliseconds.
        max_ms: u32,
    },
    /// The end of the call, once everything has been said.
    Hangup(Outcome),
}

/// How a call ended, as the business sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// Done without a person.
    Resolved,
    /// A ticket was written.
    Ticketed,
    /// A person took over.
    Transferred,
    /// The caller left before the end.
    Abandoned,
    /// Something of ours broke.
    Failed,
}

impl Outcome {
    /// The name in records (`resolved`, `ticketed`, `transferred`, `abandoned`, `failed`).
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Resolved => "resolved",
            Outcome::Ticketed => "ticketed",
            Outcome::Transferred => "transferred",
            Outcome::Abandoned => "abandoned",
            Outcome::Failed => "failed",
        }
    }
}

/// A listening node: what may be said or pressed there, and how long to wait.
#[derive(Debug, Clone, PartialEq)]
pub struct Listen {
    /// The flow.
    pub flow: String,
    /// The node.
    pub node: String,
    /// What kind of answer is awaited.
    pub kind: AnswerKind,
    /// The slot it fills, if any.
    pub slot: Option<String>,
    /// Answers that can be told apart here: menu options, the caller's own orders or addresses.
    pub choices: Vec<Choice>,
    /// Intents in scope (an open question: all businesses).
    pub intents: Vec<String>,
    /// Which keys make an answer.
    pub keys: KeyRule,
    /// Whether speech is listened to at all.
    pub speech: bool,
    /// Silence after the prompt before [`Input::NoInput`], in milliseconds.
    pub no_input_ms: u32,
    /// Longest utterance in milliseconds.
    pub max_speech_ms: u32,
    /// How long a pause ends the utterance.
    pub pause: Pause,
    /// The answer is personal data: records and screens show none of it.
    pub secret: bool,
    /// The answer is not to be heard later either: the call's recording is silent while it is awaited.
    pub unrecorded: bool,
}

/// The kind of answer a node awaits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerKind {
    /// An open question.
    Open,
    /// Yes or no.
    YesNo,
    /// One of the choices.
    Choice,
    /// Digits in a row.
    Digits {
        /// At least.
        min: u8,
        /// At most.
        max: u8,
    },
}

/// One answer of a closed list.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Its name (a menu option, an order's number, an address's label).
    pub name: String,
    /// Ways to say it.
    pub say: Vec<String>,
    /// The key for it.
    pub key: Option<char>,
    /// What fills the slot when it is chosen.
    pub value: Value,
}

/// Which keys make an answer. `max == 0`: keys are not listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRule {
    /// Fewest keys.
    pub min: u8,
    /// Most keys: the answer is complete when this many are pressed.
    pub max: u8,
    /// A key that ends the answer early.
    pub terminator: Option<char>,
    /// Pause between keys that ends the answer, in milliseconds.
    pub gap_ms: u32,
}

/// How long a pause ends an utterance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// After yes/no and one-word answers.
    Short,
    /// An ordinary sentence: the opening question, menus.
    Normal,
    /// Inside a digit string.
    Digits,
    /// Inside an address, a name or a narrative.
    Long,
}

/// A business action to run.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionCall {
    /// Its name in the registry, such as `orders.get`.
    pub name: String,
    /// Arguments.
    pub args: BTreeMap<String, Value>,
    /// Time limit in milliseconds.
    pub timeout_ms: u32,
    /// Spoken when the action takes longer than a moment.
    pub filler: Option<Prompt>,
    /// Whether running it twice does no harm.
    pub idempotent: bool,
    /// What the caller has proved for what the action is about.
    pub proved: Level,
}

/// A ticket to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct TicketDraft {
    /// Category, such as `投诉`.
    pub category: String,
    /// `P0`..=`P3`.
    pub priority: String,
    /// The promise, as written in the flow.
    pub sla: String,
    /// One line for people.
    pub title: String,
    /// Facts: flow, slots, what was tried.
    pub facts: Value,
    /// Where the caller's own words lie in the recording (milliseconds), when recorded.
    pub recording_ms: Option<(u64, u64)>,
}

/// A person is needed.
#[derive(Debug, Clone, PartialEq)]
pub struct TransferOrder {
    /// Queue name.
    pub queue: String,
    /// Skill asked for.
    pub skill: Option<String>,
    /// Whether the seat hears the briefing before the caller.
    pub warm: bool,
    /// The briefing, one sentence.
    pub briefing: Prompt,
    /// How long a seat may ring, in milliseconds.
    pub ring_ms: u32,
}
