//! Everything a call can ask of the world around it.

use super::{CallEvent, CallRecord};
use crate::dialplan::{ActionCall, Listen, TicketDraft, TransferOrder};
use crate::ids::{Leg, PromptId, RequestId, TurnId};
use crate::speech::SpeechRequest;
use std::sync::Arc;

/// To be carried out, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum CallOutput {
    /// Send 180.
    Ring,
    /// Send 183 with our answer: the caller hears us before the call is answered.
    Progress,
    /// Send 200 with our answer.
    Answer,
    /// Refuse the INVITE with this status.
    Reject(u16),
    /// End a leg (BYE or CANCEL).
    Hangup(Leg),
    /// Make the sound of a prompt; it comes back as `PromptAudio`.
    Synthesise {
        /// Which prompt.
        prompt: PromptId,
        /// What and how.
        request: SpeechRequest,
    },
    /// Forget a prompt that is no longer wanted.
    StopSynthesis(PromptId),
    /// An utterance begins: open a recogniser for what this node can hear.
    SpeechStart {
        /// The turn it belongs to.
        turn: TurnId,
        /// What can be heard.
        listen: Arc<Listen>,
    },
    /// More of the utterance (8 kHz, a chunk of up to 300 ms).
    SpeechAudio {
        /// The turn.
        turn: TurnId,
        /// Samples.
        pcm: Vec<i16>,
    },
    /// The utterance is over: recognise, understand, answer with `Heard`.
    SpeechEnd {
        /// The turn.
        turn: TurnId,
    },
    /// The utterance is void (a key was pressed instead).
    SpeechCancel {
        /// The turn.
        turn: TurnId,
    },
    /// Run a business action.
    Act {
        /// To be named in the answer.
        request: RequestId,
        /// What.
        call: ActionCall,
    },
    /// Write a ticket.
    MakeTicket {
        /// To be named in the answer.
        request: RequestId,
        /// What.
        draft: TicketDraft,
    },
    /// Call a seat.
    DialSeat {
        /// Whom.
        order: TransferOrder,
    },
    /// Join caller and seat (`true`) or part them.
    Bridge(bool),
    /// The call's recording goes on (`true`), or is silent on both sides until it does.
    Record(bool),
    /// Something for records and consoles.
    Event(CallEvent),
    /// The call is over; nothing follows.
    Finished(Box<CallRecord>),
}
