//! A third leg: a supervisor who listens to caller and seat, whispers to the seat, or speaks with both.
//!
//! While he listens nothing changes for the two: equal legs are relayed as before, and he gets what was decoded for the
//! recording anyway. Only towards a leg that hears him the relay gives way to a mix made on the tick.

use super::slot::{MediaLeg, Slot};
use super::{NewLeg, Shard, ShardReport};
use crate::audio::{AudioFrame, mix};
use crate::call::{CallEvent, CallOutput, Supervision};
use crate::ids::{CallId, Leg};

/// The supervisor of a call.
pub(super) struct Supervisor {
    pub user: String,
    pub mode: Supervision,
    pub leg: Box<MediaLeg>,
}

impl Slot {
    /// Whether what a leg hears has a supervisor's voice in it.
    pub(super) fn is_spoken_to(&self, leg: Leg) -> bool {
        self.supervisor.as_ref().is_some_and(|s| s.mode.heard_by(leg))
    }
}

/// What a leg is to hear: `other`, and the supervisor where it hears him.
pub(super) fn with_supervisor(
    slot: &Slot,
    leg: Leg,
    other: &AudioFrame,
    supervisor: Option<&AudioFrame>,
) -> AudioFrame {
    match supervisor {
        Some(voice) if slot.is_spoken_to(leg) => mix::mix(other, voice),
        _ => *other,
    }
}

impl Shard {
    /// A supervisor's media. One that cannot be had goes back with his port.
    pub(super) fn supervise(&mut self, call: CallId, user: String, mode: Supervision, leg: NewLeg) {
        let port = leg.sockets.port;
        let opened = match self.index.get(&call).copied() {
            Some(index) => self.open_leg(index, Leg::Supervisor, leg),
            None => None,
        };
        let Some(leg) = opened else {
            self.report(ShardReport::Output { call, output: CallOutput::Hangup(Leg::Supervisor) });
            self.report(ShardReport::Released { call, ports: vec![port], last: None, seat: None });
            return;
        };
        self.with(call, |shard, slot| {
            shard.drop_supervisor(slot);
            slot.supervisor = Some(Supervisor { user, mode, leg });
            shard.tell_of_supervisor(slot);
        });
    }

    /// He takes part in another way now.
    pub(super) fn supervise_as(&mut self, slot: &mut Slot, mode: Supervision) {
        if let Some(supervisor) = slot.supervisor.as_mut().filter(|s| s.mode != mode) {
            supervisor.mode = mode;
            self.tell_of_supervisor(slot);
        }
    }

    /// Closes the supervisor's media and gives his port back.
    pub(super) fn drop_supervisor(&mut self, slot: &mut Slot) {
        let Some(Supervisor { user, mut leg, .. }) = slot.supervisor.take() else { return };
        self.say_goodbye(&mut leg);
        let ports = vec![leg.port];
        drop(leg);
        let call = slot.call;
        let left = CallEvent::Supervisor { user, mode: None };
        self.report(ShardReport::Output { call, output: CallOutput::Event(left) });
        self.report(ShardReport::Released { call, ports, last: None, seat: None });
    }

    /// His 20 ms: all the others.
    pub(super) fn serve_supervisor(&mut self, slot: &mut Slot, heard: &AudioFrame, told: &AudioFrame) {
        if let Some(supervisor) = &mut slot.supervisor {
            self.send(&mut supervisor.leg, &mix::mix(heard, told));
        }
    }

    fn tell_of_supervisor(&mut self, slot: &Slot) {
        let Some(Supervisor { user, mode, .. }) = &slot.supervisor else { return };
        let event = CallEvent::Supervisor { user: user.clone(), mode: Some(*mode) };
        self.report(ShardReport::Output { call: slot.call, output: CallOutput::Event(event) });
    }
}
