//! A call in a shard: its legs, what runs on it, and which seat it waits for.

use super::App;
use super::supervise::Supervisor;
use crate::audio::{AudioFrame, DtmfDetector, ProgressDetector};
use crate::browser::Transport;
use crate::call::CallInput;
use crate::clock::Mono;
use crate::dialplan::FlowSet;
use crate::ids::{CallId, Leg};
use crate::rtp::RtpSession;
use crate::sdp::{Codec, MediaPlan};
use crate::server::keys::Keys;
use crate::server::recorder::Tap;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;

pub(super) struct MediaLeg {
    pub rtp: RtpSession,
    pub socket: UdpSocket,
    pub control: UdpSocket,
    /// Of a leg over DTLS-SRTP: everything then goes through it and the first socket.
    pub transport: Option<Box<Transport>>,
    pub port: u16,
    /// Where its signalling comes from.
    pub signalling: IpAddr,
    /// Silence counts from here at the earliest: the leg's beginning, or its last new agreement.
    pub since: Mono,
    /// Its sound came last in another codec than the leg beside it takes: relaying it would be noise.
    pub other_codec: bool,
    pub keys: Keys,
    /// Listens for keys in the sound, where they come in no other way.
    pub tones: Option<Box<DtmfDetector>>,
    /// Listens for what a network plays in place of a person, until a while after the answer.
    pub progress: Option<Box<ProgressDetector>>,
}

impl MediaLeg {
    /// Listens for keys in the sound or not, as the agreement that is in force now wants it.
    pub(super) fn listen_for_tones(&mut self) {
        if self.rtp.plan().dtmf_pt.is_some() {
            self.tones = None;
        } else if self.tones.is_none() {
            self.tones = Some(Box::default());
        }
    }
}

/// Which of a call's orders for a seat is in force. A seat's answer may cross the call's giving up on it; what comes
/// for an older order must not be taken for the next seat's.
#[derive(Debug, Default)]
pub(super) struct SeatOrder {
    count: u32,
    wanted: bool,
}

impl SeatOrder {
    pub(super) fn place(&mut self) {
        self.count += 1;
        self.wanted = true;
    }

    pub(super) fn end(&mut self) {
        self.wanted = false;
    }

    /// The one in force.
    pub(super) fn current(&self) -> Option<u32> {
        self.wanted.then_some(self.count)
    }

    pub(super) fn is(&self, order: u32) -> bool {
        self.wanted && self.count == order
    }
}

pub(super) struct Slot {
    pub call: CallId,
    pub app: App,
    pub flows: Option<Arc<FlowSet>>,
    pub caller: Box<MediaLeg>,
    pub seat: Option<Box<MediaLeg>>,
    pub supervisor: Option<Supervisor>,
    pub order: SeatOrder,
    pub tap: Option<Tap>,
    pub bridged: bool,
    /// The seat's leg is there before its answer: the caller hears what comes from it.
    pub early: bool,
    pub answered: bool,
    /// The caller hears us before an answer.
    pub sounding: bool,
    /// The caller acknowledged our answer, or is heard where our early sound goes. Before that the address in the description may be anybody's, and nothing is
    /// sent there.
    pub established: bool,
    /// The turn whose speech the recogniser did not get whole.
    pub holed: Option<crate::ids::TurnId>,
    pub finished: bool,
    pub ticks: u64,
}

impl Slot {
    pub(super) fn leg(&mut self, leg: Leg) -> Option<&mut MediaLeg> {
        match leg {
            Leg::Caller => Some(&mut self.caller),
            Leg::Seat => self.seat.as_deref_mut(),
            Leg::Supervisor => self.supervisor.as_mut().map(|s| &mut *s.leg),
        }
    }
}

/// Milliseconds without a packet, from `since` at the earliest: a leg that was on hold may have sent nothing for long
/// and still be there.
pub(super) fn silent_for(since: Mono, last: Option<Mono>, at: Mono) -> u64 {
    at.ms_since(last.map_or(since, |l| l.max(since)))
}

/// Whether packets of one leg may go to the other untouched.
pub(super) fn relayed(a: &MediaLeg, b: &MediaLeg) -> bool {
    alike(a.rtp.plan(), b.rtp.plan())
}

/// Whether two legs speak the same on the wire, keys included: a peer without RFC 4733 needs tones made for it, and one
/// that knows no description of noise needs the noise.
pub(super) fn alike(a: &MediaPlan, b: &MediaPlan) -> bool {
    let keys = |p: &MediaPlan| p.dtmf_pt.is_some();
    // What Opus leaves out in silence every Opus decoder bears.
    let silence = |p: &MediaPlan| (p.extras.noise_pt.is_some(), p.extras.dtx && p.codec != Codec::Opus);
    a.codec == b.codec && a.ptime_ms == b.ptime_ms && keys(a) == keys(b) && silence(a) == silence(b)
}

impl App {
    pub(super) fn hear(&mut self, at: Mono, leg: Leg, frame: &AudioFrame) {
        match self {
            App::Hotline(call) => call.hear(at, leg, frame),
            App::Route(route) => route.hear(at, leg, frame),
        }
    }

    pub(super) fn speak(&mut self, at: Mono, leg: Leg) -> AudioFrame {
        match self {
            App::Hotline(call) => call.speak(at, leg),
            App::Route(route) => route.speak(at, leg),
        }
    }

    /// Whether it ever says anything: what never does sends no silence either.
    pub(super) fn has_voice(&self) -> bool {
        match self {
            App::Hotline(_) => true,
            App::Route(route) => route.has_voice(),
        }
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        match self {
            App::Hotline(call) => call.deadline(),
            App::Route(route) => Some(route.deadline()),
        }
    }

    pub(super) fn timeout(&mut self, at: Mono) {
        match self {
            App::Hotline(call) => call.timeout(at),
            App::Route(route) => route.handle(at, CallInput::Terminate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::Extras;

    #[test]
    fn what_comes_for_an_old_order_is_not_taken_for_the_next_seat() {
        let mut order = SeatOrder::default();
        assert!(!order.is(0), "nobody is called before the first order");
        order.place();
        assert!(order.is(1));
        order.end();
        assert!(!order.is(1), "given up");
        order.place();
        assert!(order.is(2) && !order.is(1));
    }

    #[test]
    fn a_leg_back_from_a_long_hold_has_its_full_time_to_be_heard() {
        let at = Mono::from_ms(100_000);
        let resumed = Mono::from_ms(99_900);
        assert_eq!(silent_for(resumed, Some(Mono::from_ms(10_000)), at), 100);
        assert_eq!(silent_for(Mono::from_ms(1_000), Some(Mono::from_ms(70_000)), at), 30_000);
        assert_eq!(silent_for(Mono::from_ms(1_000), None, at), 99_000);
    }

    #[test]
    fn legs_are_relayed_only_when_sound_and_keys_mean_the_same_on_both() {
        let plan = MediaPlan {
            remote: ([127, 0, 0, 1], 4000).into(),
            remote_rtcp: ([127, 0, 0, 1], 4001).into(),
            codec: Codec::Pcma,
            payload_type: 8,
            dtmf_pt: Some(101),
            receive: crate::sdp::Formats { pcma: Some(8), events: Some(101), ..Default::default() },
            extras: Default::default(),
            ptime_ms: 20,
            we_send: true,
            we_receive: true,
            held_by_remote: false,
            srtp: None,
        };
        assert!(alike(&plan, &MediaPlan { dtmf_pt: Some(96), payload_type: 98, ..plan.clone() }));
        assert!(!alike(&plan, &MediaPlan { codec: Codec::Pcmu, ..plan.clone() }));
        assert!(!alike(&plan, &MediaPlan { ptime_ms: 30, ..plan.clone() }));
        assert!(!alike(&plan, &MediaPlan { dtmf_pt: None, ..plan.clone() }));
        let with = |extras| MediaPlan { extras, ..plan.clone() };
        assert!(!alike(&plan, &with(Extras { noise_pt: Some(13), ..Extras::default() })));
        assert!(alike(&plan, &with(Extras { event_clock: 48_000, ..Extras::default() })), "its keys are pressed anew");
        let opus = |dtx| MediaPlan { codec: Codec::Opus, extras: Extras { dtx, ..Extras::default() }, ..plan.clone() };
        assert!(alike(&opus(true), &opus(false)));
    }
}
