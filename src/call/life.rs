//! The life of a call as one table: every state, every signal, one answer.

use super::{EndReason, Facts, Why};

/// How far the way to a seat is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A seat is being chosen and called.
    Dialling,
    /// Its phone rings.
    Ringing,
    /// It hears the briefing.
    Briefing,
    /// The last words fade out before the two are joined.
    Joining,
}

/// Where a call is. Every state but the last has a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The INVITE is here and nobody has taken it (5 s).
    Offered,
    /// 180 is out (the answer delay).
    Ringing,
    /// 200 is out, its ACK is not in (32 s).
    Answering,
    /// The caller talks with the flow (the call's total limit).
    Talking,
    /// The caller waits for a person (ring limit, briefing limit).
    Transferring(Stage),
    /// Caller and seat talk (the bridge limit).
    Bridged,
    /// The last words are being said (a minute).
    Ending,
    /// Over.
    Ended,
}

impl State {
    /// All of them.
    pub const ALL: [State; 11] = [
        State::Offered,
        State::Ringing,
        State::Answering,
        State::Talking,
        State::Transferring(Stage::Dialling),
        State::Transferring(Stage::Ringing),
        State::Transferring(Stage::Briefing),
        State::Transferring(Stage::Joining),
        State::Bridged,
        State::Ending,
        State::Ended,
    ];
}

/// What can happen to a call, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The call was taken.
    Accepted,
    /// The 200 is acknowledged.
    Established,
    /// The seat's phone rings.
    SeatRinging,
    /// The seat answered.
    SeatAnswered,
    /// The seat could not be had.
    SeatFailed,
    /// The caller hung up.
    CallerLeft,
    /// The caller's dialog broke off without a word from him.
    CallerLost,
    /// The seat hands the caller on to another one.
    HandedOn,
    /// The caller's own network took the caller over.
    TakenOver,
    /// The seat hung up.
    SeatLeft,
    /// A leg holds or resumes.
    Hold,
    /// A key.
    Key,
    /// The seat pauses the recording or lets it go on.
    Record,
    /// An utterance was understood, or not.
    Heard,
    /// Sound of a prompt, or none.
    Prompt,
    /// An action or a ticket came back.
    Done,
    /// A person or the program's end ends the call.
    Terminate,
    /// The state's deadline.
    Deadline,
    /// Everything has been said.
    Drained,
    /// No sound from the caller for too long.
    NoMedia,
    /// Held for too long.
    HeldTooLong,
}

impl Signal {
    /// All of them.
    pub const ALL: [Signal; 21] = [
        Signal::Accepted,
        Signal::Established,
        Signal::SeatRinging,
        Signal::SeatAnswered,
        Signal::SeatFailed,
        Signal::CallerLeft,
        Signal::CallerLost,
        Signal::HandedOn,
        Signal::TakenOver,
        Signal::SeatLeft,
        Signal::Hold,
        Signal::Key,
        Signal::Record,
        Signal::Heard,
        Signal::Prompt,
        Signal::Done,
        Signal::Terminate,
        Signal::Deadline,
        Signal::Drained,
        Signal::NoMedia,
        Signal::HeldTooLong,
    ];
}

/// What the table answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It means nothing here.
    Drop,
    /// The state's own machine takes it (turn, transfer, mouth).
    Take,
    /// A new state.
    Go(State),
    /// The way to the seat is over; the flow is told and talks on.
    Back,
    /// A seat that nobody wants any more answered: hang up on it.
    DropSeat,
    /// The call is over.
    End(Close),
}

/// Why a call is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// The caller hung up before the answer.
    GaveUp,
    /// The caller hung up.
    CallerLeft,
    /// The caller's dialog broke off.
    Lost,
    /// Ended by us before the answer.
    Refused,
    /// Nobody took the offer in time.
    NotTaken,
    /// The answer was never acknowledged.
    NoAck,
    /// All was said.
    Said,
    /// The last words took too long.
    EndingLimit,
    /// Caller and seat reached the limit.
    BridgeLimit,
    /// The caller's sound stopped.
    NoMedia,
    /// The caller held us too long.
    HeldTooLong,
    /// A person or the program's end ended it.
    Terminated,
    /// The caller's own network took the caller to a person.
    TakenOver,
}

impl Close {
    /// The status that refuses the INVITE, when there was no answer yet.
    pub const fn reject(self) -> Option<u16> {
        match self {
            Close::Refused => Some(503),
            Close::NotTaken => Some(480),
            _ => None,
        }
    }

    /// Whether the caller's leg is gone already.
    pub const fn caller_gone(self) -> bool {
        matches!(self, Close::GaveUp | Close::CallerLeft | Close::Lost)
    }

    /// The reason in the record; who knows more (addresses, limits) says it again with that.
    pub fn reason(self) -> EndReason {
        let why = match self {
            Close::GaveUp => Why::GaveUp,
            Close::CallerLeft => Why::CallerLeft,
            Close::Lost => Why::Lost,
            Close::Refused => Why::Stopping,
            Close::NotTaken => Why::NotTaken,
            Close::NoAck => Why::NoAck,
            Close::Said => Why::Said,
            Close::EndingLimit => Why::LastWords,
            Close::BridgeLimit => Why::BridgeLimit,
            Close::NoMedia => Why::NoMedia,
            Close::HeldTooLong => Why::HeldTooLong,
            Close::Terminated => Why::Terminated,
            Close::TakenOver => Why::TakenOver,
        };
        EndReason::of(why, &Facts::default())
    }
}

/// The table.
pub const fn answer(state: State, signal: Signal) -> Step {
    match state {
        State::Offered => offered(signal),
        State::Ringing => ringing(signal),
        State::Answering => answering(signal),
        State::Talking => talking(signal),
        State::Transferring(stage) => transferring(stage, signal),
        State::Bridged => bridged(signal),
        State::Ending => ending(signal),
        State::Ended => Step::Drop,
    }
}

const fn offered(signal: Signal) -> Step {
    match signal {
        Signal::Accepted => Step::Go(State::Ringing),
        Signal::CallerLeft => Step::End(Close::GaveUp),
        Signal::CallerLost => Step::End(Close::Lost),
        Signal::Terminate => Step::End(Close::Refused),
        Signal::Deadline => Step::End(Close::NotTaken),
        Signal::SeatAnswered => Step::DropSeat,
        _ => Step::Drop,
    }
}

const fn ringing(signal: Signal) -> Step {
    match signal {
        Signal::Deadline => Step::Go(State::Answering),
        Signal::CallerLeft => Step::End(Close::GaveUp),
        Signal::CallerLost => Step::End(Close::Lost),
        Signal::Terminate => Step::End(Close::Refused),
        Signal::SeatAnswered => Step::DropSeat,
        _ => Step::Drop,
    }
}

const fn answering(signal: Signal) -> Step {
    match signal {
        Signal::Established => Step::Go(State::Talking),
        Signal::CallerLeft => Step::End(Close::CallerLeft),
        Signal::Terminate => Step::End(Close::Terminated),
        // Signalling gives a dialog up here when the ACK does not come.
        Signal::Deadline | Signal::CallerLost => Step::End(Close::NoAck),
        Signal::Hold => Step::Take,
        Signal::SeatAnswered => Step::DropSeat,
        _ => Step::Drop,
    }
}

const fn talking(signal: Signal) -> Step {
    match signal {
        Signal::Hold | Signal::Key | Signal::Heard | Signal::Prompt | Signal::Done => Step::Take,
        Signal::Deadline => Step::Go(State::Ending),
        Signal::CallerLeft => Step::End(Close::CallerLeft),
        Signal::CallerLost => Step::End(Close::Lost),
        Signal::Terminate => Step::End(Close::Terminated),
        Signal::NoMedia => Step::End(Close::NoMedia),
        Signal::HeldTooLong => Step::End(Close::HeldTooLong),
        Signal::SeatAnswered => Step::DropSeat,
        // It said so late, after the flow had gone on.
        Signal::TakenOver => Step::End(Close::TakenOver),
        _ => Step::Drop,
    }
}

const fn transferring(stage: Stage, signal: Signal) -> Step {
    match (stage, signal) {
        (Stage::Dialling, Signal::SeatRinging) => Step::Go(State::Transferring(Stage::Ringing)),
        (Stage::Dialling | Stage::Ringing, Signal::TakenOver) => Step::End(Close::TakenOver),
        (Stage::Dialling | Stage::Ringing, Signal::SeatAnswered) => Step::Go(State::Transferring(Stage::Briefing)),
        // Said to the end, or long enough: join them.
        (Stage::Briefing, Signal::Drained | Signal::Deadline) => Step::Go(State::Transferring(Stage::Joining)),
        (Stage::Joining, Signal::Deadline) => Step::Go(State::Bridged),
        (_, Signal::Deadline | Signal::SeatFailed | Signal::SeatLeft) => Step::Back,
        // A ticket that comes late is noted in every state.
        (_, Signal::Hold | Signal::Key | Signal::Prompt | Signal::Done) => Step::Take,
        (Stage::Briefing | Stage::Joining, Signal::HandedOn) => Step::Take,
        (_, Signal::CallerLeft) => Step::End(Close::CallerLeft),
        (_, Signal::CallerLost) => Step::End(Close::Lost),
        (_, Signal::Terminate) => Step::End(Close::Terminated),
        (_, Signal::NoMedia) => Step::End(Close::NoMedia),
        (_, Signal::HeldTooLong) => Step::End(Close::HeldTooLong),
        _ => Step::Drop,
    }
}

const fn bridged(signal: Signal) -> Step {
    match signal {
        Signal::SeatLeft | Signal::SeatFailed => Step::Back,
        Signal::Hold | Signal::Key | Signal::Record | Signal::Done | Signal::HandedOn => Step::Take,
        Signal::CallerLeft => Step::End(Close::CallerLeft),
        Signal::CallerLost => Step::End(Close::Lost),
        Signal::Terminate => Step::End(Close::Terminated),
        Signal::Deadline => Step::End(Close::BridgeLimit),
        Signal::NoMedia => Step::End(Close::NoMedia),
        Signal::HeldTooLong => Step::End(Close::HeldTooLong),
        _ => Step::Drop,
    }
}

const fn ending(signal: Signal) -> Step {
    match signal {
        Signal::Prompt | Signal::Hold | Signal::Done => Step::Take,
        Signal::Drained => Step::End(Close::Said),
        Signal::Deadline => Step::End(Close::EndingLimit),
        Signal::CallerLeft => Step::End(Close::CallerLeft),
        Signal::CallerLost => Step::End(Close::Lost),
        Signal::Terminate => Step::End(Close::Terminated),
        Signal::NoMedia => Step::End(Close::NoMedia),
        Signal::SeatAnswered => Step::DropSeat,
        Signal::TakenOver => Step::End(Close::TakenOver),
        _ => Step::Drop,
    }
}

#[cfg(test)]
mod tests {
    use super::super::HungUpBy;
    use super::*;

    #[test]
    fn every_state_has_a_way_out_when_nothing_happens() {
        for start in State::ALL {
            let (mut state, mut steps) = (start, 0);
            while state != State::Ended {
                steps += 1;
                assert!(steps < 10, "{start:?} is stuck at {state:?}");
                state = match answer(state, Signal::Deadline) {
                    Step::Go(next) => next,
                    Step::Back => State::Talking,
                    Step::End(_) => State::Ended,
                    other => panic!("{state:?} answers its deadline with {other:?}"),
                };
            }
        }
    }

    #[test]
    fn the_caller_may_hang_up_and_we_may_end_it_in_every_state() {
        for state in State::ALL.into_iter().filter(|&s| s != State::Ended) {
            for signal in [Signal::CallerLeft, Signal::CallerLost, Signal::Terminate] {
                let Step::End(close) = answer(state, signal) else { panic!("{state:?} does not end at {signal:?}") };
                assert_eq!(close.caller_gone(), signal != Signal::Terminate && close != Close::NoAck);
                assert_eq!(close.reason().by == HungUpBy::Caller, signal == Signal::CallerLeft, "{state:?} {signal:?}");
                assert!(!close.reason().sentence.is_empty());
            }
        }
    }

    #[test]
    fn an_ended_call_answers_nothing() {
        assert!(Signal::ALL.into_iter().all(|s| answer(State::Ended, s) == Step::Drop));
    }

    #[test]
    fn a_seat_that_leaves_brings_the_caller_back_in_every_stage() {
        for state in State::ALL {
            let wanted = matches!(state, State::Transferring(_) | State::Bridged);
            assert_eq!(answer(state, Signal::SeatLeft) == Step::Back, wanted, "{state:?}");
            assert_eq!(answer(state, Signal::SeatFailed) == Step::Back, wanted, "{state:?}");
        }
    }

    #[test]
    fn a_caller_who_was_taken_over_is_no_longer_ours_unless_a_seat_has_him() {
        for state in State::ALL {
            let ours =
                matches!(state, State::Talking | State::Ending | State::Transferring(Stage::Dialling | Stage::Ringing));
            let ends = answer(state, Signal::TakenOver) == Step::End(Close::TakenOver);
            assert_eq!(ends, ours, "{state:?}");
        }
        assert!(!Close::TakenOver.caller_gone(), "our leg is still to be hung up");
    }

    #[test]
    fn before_the_answer_a_call_is_refused_not_hung_up() {
        for state in [State::Offered, State::Ringing] {
            let Step::End(close) = answer(state, Signal::Terminate) else { panic!() };
            assert_eq!(close.reject(), Some(503));
        }
        let Step::End(close) = answer(State::Talking, Signal::Terminate) else { panic!() };
        assert_eq!(close.reject(), None);
    }
}
