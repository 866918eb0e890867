//! Whose turn it is: what is awaited from the caller or for him, and the number that cancels what is old.

use super::cdr;
use super::keys::Keys;
use crate::clock::Mono;
use crate::dialplan::{Listen, Prompt};
use crate::ids::{RequestId, TurnId};
use crate::speech::Utterance;
use std::sync::Arc;

/// What a call is doing in a conversation, for those who look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is awaited.
    Idle,
    /// The caller may speak or press.
    Listening,
    /// A recogniser, an action or a ticket is awaited.
    Thinking,
    /// We speak.
    Speaking,
}

/// The caller's speech at a listening node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// None.
    Quiet,
    /// Something began; it may be a cough.
    Onset,
    /// An utterance goes on and a recogniser hears it.
    Open,
    /// It is over; its meaning is awaited.
    Judging {
        /// What the ear measured.
        utterance: Utterance,
        /// When it was over.
        since: Mono,
    },
}

/// A listening node at work.
#[derive(Debug)]
pub struct Listening {
    /// What may be said or pressed.
    pub listen: Arc<Listen>,
    /// Keys of the answer.
    pub keys: Keys,
    /// Keys that wait for the end of a prompt which nothing may interrupt.
    pub ready: Option<String>,
    /// The caller's speech.
    pub speech: Speech,
    /// The answer began while a prompt was being said.
    pub over_prompt: bool,
    /// When the answer began, in milliseconds since the call's answer.
    pub began_ms: u64,
    /// When the last key was pressed.
    pub last_key: Mono,
    /// When the wait for an answer is over. A cough does not begin it anew.
    pub wait_until: Option<Mono>,
}

impl Listening {
    /// Nothing said or pressed yet.
    pub fn new(listen: Listen) -> Self {
        Listening {
            keys: Keys::new(listen.keys),
            listen: Arc::new(listen),
            ready: None,
            speech: Speech::Quiet,
            over_prompt: false,
            began_ms: 0,
            last_key: Mono(0),
            wait_until: None,
        }
    }

    /// Whether the answer has begun in any way.
    pub fn begun(&self) -> bool {
        self.speech != Speech::Quiet || self.keys.begun() || self.ready.is_some()
    }

    /// Whether the ear may listen (`faulty`: the recogniser keeps failing, so where keys will do, only keys count).
    pub fn wants_speech(&self, faulty: bool) -> bool {
        self.listen.speech
            && !(faulty && self.keys.wanted())
            && !self.keys.begun()
            && self.ready.is_none()
            && !matches!(self.speech, Speech::Judging { .. })
    }

    /// A key as records show it.
    pub fn shown(&self, key: char) -> char {
        if cdr::hides_digits(&self.listen) { '*' } else { key }
    }
}

/// What is being done for the caller.
#[derive(Debug)]
pub struct Acting {
    /// The request.
    pub request: RequestId,
    /// What it is.
    pub what: Act,
    /// Since when.
    pub since: Mono,
    /// Spoken when it takes long.
    pub filler: Option<Prompt>,
}

/// An action or a ticket.
#[derive(Debug, PartialEq, Eq)]
pub enum Act {
    /// A business action, by name.
    Action(String),
    /// A ticket.
    Ticket,
}

/// A recording of the caller's own words.
#[derive(Debug)]
pub struct Recording {
    /// Longest, in milliseconds.
    pub max_ms: u32,
    /// Where it began, in milliseconds of the caller's media clock; `None` before it has begun.
    pub from_ms: Option<u64>,
    /// Whether the caller has spoken.
    pub spoke: bool,
}

/// What must come before the flow goes on.
#[derive(Debug, Default)]
pub enum Awaiting {
    /// Nothing yet: the flow has not been asked.
    #[default]
    Nothing,
    /// The caller's answer.
    Answer(Listening),
    /// An action or a ticket.
    Act(Acting),
    /// The caller's own words, recorded.
    Record(Recording),
    /// A person.
    Person,
    /// The end.
    End,
}

/// The conversation's state.
#[derive(Debug, Default)]
pub struct TurnTaking {
    id: TurnId,
    /// What is awaited.
    pub awaiting: Awaiting,
    /// Failures of the recogniser in a row.
    pub faults: u8,
}

impl TurnTaking {
    /// The current turn.
    pub const fn id(&self) -> TurnId {
        self.id
    }

    /// A new turn begins: whatever was started for older ones is void.
    pub fn begin(&mut self) -> TurnId {
        self.id = TurnId(self.id.0.wrapping_add(1));
        self.id
    }

    /// The one place where late answers fall: only the current turn's, and only while it is awaited.
    pub fn accepts(&self, turn: TurnId) -> bool {
        let awaited = match &self.awaiting {
            Awaiting::Answer(l) => matches!(l.speech, Speech::Open | Speech::Judging { .. }),
            _ => false,
        };
        awaited && turn == self.id
    }

    /// The listening node, when there is one.
    pub const fn listening(&mut self) -> Option<&mut Listening> {
        match &mut self.awaiting {
            Awaiting::Answer(l) => Some(l),
            _ => None,
        }
    }

    /// What the conversation is doing.
    pub fn phase(&self, speaking: bool) -> Phase {
        match &self.awaiting {
            Awaiting::Answer(l) if matches!(l.speech, Speech::Judging { .. }) => Phase::Thinking,
            Awaiting::Answer(l) if l.begun() => Phase::Listening,
            _ if speaking => Phase::Speaking,
            Awaiting::Answer(_) | Awaiting::Record(_) => Phase::Listening,
            Awaiting::Act(_) => Phase::Thinking,
            Awaiting::Nothing | Awaiting::Person | Awaiting::End => Phase::Idle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialplan::{AnswerKind, KeyRule, Pause};

    fn listen() -> Listen {
        Listen {
            flow: "f".into(),
            node: "n".into(),
            kind: AnswerKind::Open,
            slot: None,
            choices: vec![],
            intents: vec![],
            keys: KeyRule { min: 1, max: 1, terminator: None, gap_ms: 3000 },
            speech: true,
            no_input_ms: 5000,
            max_speech_ms: 10_000,
            pause: Pause::Normal,
            secret: false,
            unrecorded: false,
        }
    }

    #[test]
    fn only_the_current_turns_answer_is_taken_and_only_while_it_is_awaited() {
        let awaiting = Awaiting::Answer(Listening::new(listen()));
        let mut turn = TurnTaking { awaiting, ..TurnTaking::default() };
        let first = turn.begin();
        assert!(!turn.accepts(first), "nothing was said yet");
        turn.listening().unwrap().speech = Speech::Open;
        assert!(turn.accepts(first));
        let second = turn.begin();
        assert!(!turn.accepts(first) && turn.accepts(second));
        turn.awaiting = Awaiting::End;
        assert!(!turn.accepts(second));
    }

    #[test]
    fn a_faulty_recogniser_leaves_the_keys_and_only_then() {
        let mut l = Listening::new(listen());
        assert!(l.wants_speech(false) && !l.wants_speech(true));
        l.keys = Keys::new(KeyRule { max: 0, ..l.listen.keys });
        assert!(l.wants_speech(true), "without keys speech is all there is");
    }
}
