//! Called legs on which the network plays a tone: busy and congestion mean that nobody is there, before an answer and
//! after one (some gateways answer first and play the tone then). Music and announcements mean nothing: only an answer
//! is an answer.

use super::line::Line;
use super::switchboard::Switchboard;
use crate::audio::Progress;
use crate::call::{CallInput, EndReason, LegFailure};
use crate::dialplan::TransferResult;
use crate::ids::CallId;

/// What a tone means for the call, and the status that says the same.
const fn meaning(tone: Progress) -> (LegFailure, u16, TransferResult) {
    match tone {
        Progress::Busy => (LegFailure::Busy, 486, TransferResult::Busy),
        _ => (LegFailure::Failed(503), 503, TransferResult::Timeout),
    }
}

impl Switchboard {
    /// A tone was heard on the leg that was called for this order: it has failed.
    pub(super) fn toned(&mut self, call: CallId, order: u32, tone: Progress) {
        // A seat that calls outside hears the tone for itself.
        let heeded = |l: &&mut Line| l.orders == order && !l.outward;
        let Some(line) = self.lines.get_mut(&call).filter(heeded) else { return };
        let Some(seat) = line.seat.as_mut() else { return };
        let (answered, dialog) = (seat.answered, seat.dialog.take());
        let (failure, status, result) = meaning(tone);
        self.leg_failed_as(call, |who| EndReason::of_tone(who, tone == Progress::Busy, answered));
        if let Some(dialog) = dialog
            && self.dialogs.remove(&dialog).is_some()
        {
            self.end_dialog(dialog);
        }
        if !answered {
            return self.seat_lost(call, failure); // the next one, if there is one
        }
        // The call took it for a person already: it is told.
        self.end_supervisor(call);
        if let Some(line) = self.lines.get_mut(&call)
            && let Some(mut seat) = line.seat.take()
        {
            line.seat_failure = result;
            self.release(&mut seat);
        }
        self.handed_on(call, status);
        self.tell_seat(call, CallInput::SeatFailed(failure));
    }
}
