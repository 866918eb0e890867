//! Everything that can happen to a call, besides sound.

use crate::dialplan::{TransferOrder, Understood, Value};
use crate::ids::{Leg, PromptId, RequestId, TurnId};
use std::sync::Arc;

/// Something happened.
#[derive(Debug, Clone, PartialEq)]
pub enum CallInput {
    /// The caller's 200 OK has been acknowledged (or media flows): talk.
    Established,
    /// The seat's phone rings.
    SeatRinging,
    /// The seat answered.
    SeatAnswered,
    /// The seat could not be reached or declined.
    SeatFailed(LegFailure),
    /// The seat hands the caller on: it leaves, and the order's seat is called instead.
    HandOn(Box<TransferOrder>),
    /// The caller's trunk took the caller to the person by itself (REFER): the call is no longer ours.
    TakenOver,
    /// A leg hung up (BYE, CANCEL), or the seat's dialog or media died.
    HungUp(Leg),
    /// The caller's dialog died: no ACK, or a connection that broke.
    CallerLost,
    /// A leg put the other side on hold, or took it back.
    Hold {
        /// Which leg did it.
        leg: Leg,
        /// On hold, or resumed.
        held: bool,
    },
    /// A key was pressed: `0`-`9`, `*`, `#`, `A`-`D`. Once per press.
    Key {
        /// By whom.
        leg: Leg,
        /// Which.
        key: char,
    },
    /// The seat pauses the recording of its talk with the caller (`false`), or lets it go on.
    Record(bool),
    /// An utterance was recognised and understood, or could not be.
    Heard {
        /// The turn it was asked for; an old one is dropped.
        turn: TurnId,
        /// What came of it.
        heard: Heard,
    },
    /// Sound of a prompt; several per prompt, in order.
    PromptAudio {
        /// Which prompt.
        prompt: PromptId,
        /// Samples at 8 kHz.
        pcm: Arc<[i16]>,
        /// Whether this was all.
        last: bool,
    },
    /// A prompt could not be made; the flow goes on without it.
    PromptFailed {
        /// Which prompt.
        prompt: PromptId,
        /// Why, for the record.
        why: String,
    },
    /// A business action ended.
    ActionDone {
        /// Which request.
        request: RequestId,
        /// Outcome name.
        outcome: String,
        /// Its data.
        data: Value,
    },
    /// A ticket is safe on disk (its fields: `id`, `no`, `tail`), or could not be written.
    TicketDone {
        /// Which request.
        request: RequestId,
        /// The ticket, or none.
        ticket: Option<Value>,
    },
    /// A person (or the program's end) ends the call.
    Terminate,
}

/// What came of an utterance.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// The meaning, or why there is none.
    pub result: Result<Understood, String>,
    /// Which engine heard it.
    pub engine: String,
    /// Milliseconds from the utterance's end to its transcript.
    pub recognise_ms: u32,
    /// Milliseconds from the transcript to its meaning.
    pub understand_ms: u32,
}

/// Why a seat was not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegFailure {
    /// Busy or declined (486, 600, 603).
    Busy,
    /// Nobody answered in time (408, 480, our own limit).
    NoAnswer,
    /// No seat is registered for the queue.
    Nobody,
    /// Anything else.
    Failed(u16),
}
