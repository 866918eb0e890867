//! Transfers that the caller's own trunk is asked to make (REFER, RFC 3515): where it can, the call leaves us, and costs
//! no line of ours. Where it cannot, or says nothing, the two are bridged as ever.

use super::callee::Reach;
use super::line::Line;
use super::outbound::Role;
use super::seats::{Trying, failure_of};
use super::switchboard::Switchboard;
use super::trunks::TransferBy;
use crate::call::{CallEvent, CallInput, EndReason, LegFailure, Why};
use crate::ids::{CallId, Leg};
use crate::sip::{ReferLimits, SipError};
use std::time::Duration;

/// A transfer that the caller's trunk was asked to make.
pub(super) struct Referring {
    /// What is done when it does not.
    pub trying: Trying,
    /// Names this asking.
    attempt: u64,
    /// The trunk has accepted it, and has not told since that it rings somewhere.
    accepted: bool,
}

/// What the trunk says of it: a provisional status, or the end.
pub(super) struct Referred {
    call: CallId,
    attempt: u64,
    what: What,
}

enum What {
    Progress(u16),
    /// A final status told, or why there is none.
    Over(Result<u16, SipError>),
}

/// What a final status of the trunk says of the person who was called, if it is of him and not of the way there.
const fn of_the_person(code: u16) -> bool {
    matches!(code, 404 | 408 | 410 | 480 | 486 | 487 | 600 | 603 | 604)
}

impl Switchboard {
    /// What Refer-To is to name, where a call is to be transferred by its own trunk: a number, for which the rules are
    /// asked; never what a phone registered, else who holds one seat's password would call anywhere at the trunk's cost.
    pub(super) fn refer_to(&self, line: &Line, reach: &Reach) -> Option<String> {
        let Reach::Number { role: Role::Flow, number } = reach else { return None };
        let trunk = self.p.trunks.named(line.trunk.as_deref()?).filter(|t| t.transfer == TransferBy::Refer)?;
        trunk.address_of(number)
    }

    /// Asks the caller's trunk. What it says comes to [`Switchboard::referred`].
    pub(super) fn ask_to_refer(&mut self, call: CallId, trying: Trying, target: String) {
        self.attempts += 1;
        let attempt = self.attempts;
        let Some(line) = self.lines.get_mut(&call) else { return };
        let trunk = line.trunk.as_deref().and_then(|name| self.p.trunks.named(name));
        let patience = trunk.map_or(1000, |t| t.give_up_ms);
        let limits = ReferLimits {
            silent: Duration::from_millis(u64::from(patience) * 2),
            whole: Duration::from_millis(u64::from(trying.order.ring_ms.max(1000))),
        };
        line.referring = Some(Referring { trying, attempt, accepted: false });
        let (agent, dialog, news) = (self.p.agent.clone(), line.dialog, self.referred.0.clone());
        tokio::spawn(async move {
            let told = news.clone();
            // Progress that finds no room is no loss; the end waits for it.
            let progress = move |code| {
                told.try_send(Referred { call, attempt, what: What::Progress(code) }).ok();
            };
            let ended = agent.ask_to_refer(dialog, &target, limits, progress).await;
            let _stopped = news.send(Referred { call, attempt, what: What::Over(ended) }).await;
        });
    }

    /// The trunk said something of a transfer.
    pub(super) fn referred(&mut self, news: Referred) {
        let Referred { call, attempt, what } = news;
        let Some(line) = self.lines.get_mut(&call) else { return };
        let waiting = line.referring.as_mut().filter(|r| r.attempt == attempt);
        match (what, waiting) {
            (What::Progress(code), Some(waiting)) => {
                // A 100 has to come at once (RFC 3515 section 2.4.4), and says nothing.
                waiting.accepted |= code == 202;
                if (180..200).contains(&code) {
                    waiting.accepted = false;
                    self.tell_seat(call, CallInput::SeatRinging);
                }
            }
            (What::Progress(_), None) => {}
            // It counts even when nobody waited any longer: the caller is there now.
            (What::Over(Ok(200..=299)), _) => {
                self.taken(call, Why::TakenOver);
                self.tell(call, CallInput::TakenOver);
            }
            // The caller's dialog is over: that is told by itself, and ends the call.
            (What::Over(Err(SipError::Gone)), Some(_)) => {}
            (What::Over(ended), Some(_)) => self.not_referred(call, &ended),
            (What::Over(_), None) => {}
        }
    }

    /// The trunk did not do it: whoever was called and not had counts as a seat that was called; else the two are bridged.
    fn not_referred(&mut self, call: CallId, ended: &Result<u16, SipError>) {
        let (code, person) = match ended {
            Ok(code) => (*code, of_the_person(*code)),
            Err(SipError::Refused(code)) => (*code, false),
            Err(SipError::Timeout) => (408, false),
            Err(_) => (500, false),
        };
        let Some(line) = self.lines.get_mut(&call) else { return };
        let Some(Referring { mut trying, .. }) = line.referring.take() else { return };
        let trunk = line.trunk.clone().unwrap_or_default();
        let reason = EndReason::of_leg(&format!("a transfer by trunk {trunk} (REFER)"), code);
        tracing::info!(%call, "{}", reason.sentence);
        self.event(call, CallEvent::LegFailed { leg: Leg::Seat, reason });
        if !person {
            let (user, order, tried) = (trying.user.clone(), trying.order.clone(), trying.tried.clone());
            if let Err(failure) = self.place_seat(call, trying) {
                self.next_seat(call, order, tried.into_iter().chain([user]).collect(), Some(failure));
            }
            return;
        }
        let failure = failure_of(code);
        self.let_go(&trying.user, &trying.reach);
        let had = if matches!(failure, LegFailure::Failed(_)) { trying.reach.name() } else { trying.user };
        trying.tried.push(had);
        self.next_seat(call, trying.order, trying.tried, Some(failure));
    }

    /// Whether a BYE of the caller's side is the end of a transfer: some trunks accept one, tell nothing and hang up.
    pub(super) fn is_taken_over(&mut self, call: CallId) -> bool {
        let Some(line) = self.lines.get(&call) else { return false };
        let taken = line.referring.as_ref().is_some_and(|r| r.accepted);
        if taken {
            self.taken(call, Why::TakenOverUntold);
        }
        taken
    }

    /// The caller is with the person now: the record says how, and a seat that handed the caller on hears of it.
    fn taken(&mut self, call: CallId, why: Why) {
        if let Some(line) = self.lines.get_mut(&call) {
            line.taken_over = Some(why);
        }
        self.handed_on(call, 200);
    }
}
