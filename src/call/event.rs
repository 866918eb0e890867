//! One closed vocabulary of what happened, written for every call; records, consoles and the demo are views of it.

use crate::clock::Mono;
use crate::dialplan::{Emotion, Outcome};
use crate::ids::{Leg, TurnId};

/// Something happened in a call.
#[derive(Debug, Clone, PartialEq)]
pub enum CallEvent {
    /// The call was offered.
    Offered,
    /// It was answered.
    Answered,
    /// A flow entered a node.
    Node {
        /// Flow name.
        flow: String,
        /// Node name.
        node: String,
        /// Caller steps used so far.
        step: u8,
    },
    /// A prompt's first sample went out.
    PromptStarted {
        /// The words, masked.
        shown: String,
    },
    /// A prompt ended.
    PromptEnded {
        /// Milliseconds the caller really heard.
        played_ms: u32,
        /// Whether the caller cut it short.
        interrupted: bool,
    },
    /// The caller began to speak.
    SpeechStarted,
    /// The caller's utterance ended.
    SpeechEnded {
        /// Its length in milliseconds.
        speech_ms: u32,
    },
    /// What the caller said over a prompt asked for nothing ("嗯", noise); the prompt went on.
    Ignored {
        /// The words, masked.
        heard: String,
    },
    /// The caller neither spoke nor pressed a key in time.
    NoInput,
    /// A key was pressed (shown as `*` where a secret is awaited).
    Key(char),
    /// A turn is complete: the caller's input, what it meant, what was done, when.
    TurnDone(Box<Turn>),
    /// An action ended.
    Action {
        /// Its name.
        name: String,
        /// Its outcome.
        outcome: String,
        /// Milliseconds it took.
        ms: u32,
    },
    /// A ticket was written.
    Ticket {
        /// Its number.
        no: String,
        /// Its category.
        category: String,
    },
    /// A transfer went a stage further.
    Transfer {
        /// Which stage.
        stage: TransferStage,
        /// Milliseconds since the decision.
        ms: u32,
    },
    /// A leg held or resumed.
    Hold {
        /// Which leg.
        leg: Leg,
        /// Held, or resumed.
        held: bool,
    },
    /// The recording is silent from here, or goes on.
    Recording {
        /// It goes on.
        on: bool,
        /// Who wanted it silent: a seat; none: the flow, which asked for what is not to be kept.
        by: Option<Leg>,
        /// Where in the file, in milliseconds.
        at_ms: u64,
    },
    /// A supervisor takes part in this way from now on.
    Supervisor {
        /// His user.
        user: String,
        /// How; none: he has left.
        mode: Option<super::Supervision>,
    },
    /// Something of ours did not work and the call went on.
    Trouble(String),
    /// A leg that we called was not reached, or lost; the call may go on.
    LegFailed {
        /// Which.
        leg: Leg,
        /// Why.
        reason: EndReason,
    },
    /// The call ended.
    Ended(EndReason),
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferStage {
    /// Decided; a seat is being chosen and called.
    Dialling,
    /// A seat's phone rings.
    Ringing,
    /// The seat answered and hears the briefing.
    Briefing,
    /// Caller and seat hear each other.
    Bridged,
    /// The seat could not be had.
    Failed,
    /// The seat hung up; the caller is back with us.
    Returned,
}

/// One exchange: what the caller said or pressed and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Its number.
    pub id: TurnId,
    /// Flow and node that listened.
    pub flow: String,
    /// The node.
    pub node: String,
    /// Caller steps used after it.
    pub step: u8,
    /// The words, or the keys (`keys` true).
    pub heard: String,
    /// Whether it was keys.
    pub keys: bool,
    /// Recogniser's confidence, 0.0..=1.0.
    pub confidence: f32,
    /// What it meant, as one word for records (`order_query`, `yes`, `no`, `nomatch`, a choice's name …).
    pub intent: String,
    /// Score of the meaning, 0.0..=1.0.
    pub score: f32,
    /// How the caller sounded.
    pub emotion: Emotion,
    /// Whether the caller interrupted us.
    pub barge_in: bool,
    /// What we answered, masked.
    pub reply: String,
    /// Milliseconds from the call's answer to the start of the caller's input.
    pub at_ms: u64,
    /// Where the time went.
    pub timings: Timings,
}

/// Where the time of a turn went, in milliseconds. `first_audio` runs from the end of the action to the first sample
/// of our answer; the sum is what the caller waited after the last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    /// From the last speech to the decision that the utterance is over.
    pub endpoint: u32,
    /// To the transcript.
    pub recognise: u32,
    /// To the meaning.
    pub understand: u32,
    /// To the answer (actions and tickets).
    pub act: u32,
    /// To the first sample of it.
    pub first_audio: u32,
}

impl Timings {
    /// What the caller waited.
    pub const fn total(&self) -> u32 {
        self.endpoint + self.recognise + self.understand + self.act + self.first_audio
    }
}

/// Who ended the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HungUpBy {
    /// The caller.
    Caller,
    /// The seat.
    Seat,
    /// We, at the end of the flow.
    Us,
}

/// Why a call ended: a code for programs, a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndReason {
    /// Q.850 cause (16 normal clearing, 17 busy, 31 normal unspecified, 41 temporary failure, 88 incompatible
    /// destination, 102 timer).
    pub cause: u16,
    /// Who.
    pub by: HungUpBy,
    /// A sentence, in English.
    pub sentence: String,
    /// The same in Chinese.
    pub zh: String,
    /// For programs: which kind of end it was.
    pub why: super::Why,
}

/// The call record: exactly one for each call.
#[derive(Debug, Clone, PartialEq)]
pub struct CallRecord {
    /// When the INVITE came.
    pub offered: Mono,
    /// When it was answered, if it was.
    pub answered: Option<Mono>,
    /// When it ended.
    pub ended: Mono,
    /// Why.
    pub reason: EndReason,
    /// The business outcome.
    pub outcome: Outcome,
    /// Caller steps used (retries and verification questions are apart).
    pub steps: u8,
    /// Retries.
    pub retries: u8,
    /// Verification questions.
    pub verify_questions: u8,
    /// Turns.
    pub turns: u32,
    /// Flows entered, in order.
    pub flows: Vec<String>,
    /// Whether a seat spoke with the caller.
    pub bridged: bool,
}
