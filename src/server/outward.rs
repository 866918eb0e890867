//! Seats that call outside: which numbers, what it costs them of their caps, and what their phones hear before an answer.

use super::callee;
use super::hotline::TestRoute;
use super::line::Line;
use super::outbound::{Denied, Role, national};
use super::routes::{Listening, RouteKind};
use super::switchboard::Switchboard;
use super::time::now;
use super::why::TurnedAway;
use crate::call::{EndReason, HungUpBy};
use crate::ids::CallId;
use crate::pii::{Pii, mask_number};
use crate::sip::Identity;
use crate::store::Origin;

/// The name of a caller who asks that the number be shown to nobody (RFC 3323 section 4.1.1.3).
pub(super) const ANONYMOUS: &str = "anonymous";

/// What a call's row says of where it comes from.
pub(super) fn origin_of(identity: &Identity) -> Origin {
    let diverted = identity.diversions.last().map(|d| (Pii::new(d.number.as_str()), d.reason.clone()));
    Origin { outward: false, diverted, private: identity.private }
}

impl Switchboard {
    /// The route of a seat's call to a number outside, if that is what it dials: numbers of our own go before.
    pub(super) fn outward(&self, seat: Option<&str>, to: &str) -> Option<TestRoute> {
        let s = &self.p.settings;
        let may = s.outbound.iter().any(|rule| rule.role == Role::Seat);
        let is_seat = seat.is_some_and(|user| s.seats.iter().any(|s| s.user == user));
        let ours = s.numbers.iter().any(|n| n == to) || self.is_inside(to);
        let number = national(to).filter(|_| may && is_seat && !ours)?;
        Some(TestRoute {
            user: to.to_owned(),
            kind: RouteKind::Outside,
            listening: Listening::Keys,
            file: None,
            target: callee::dialled(&number),
            record: false,
        })
    }

    /// Whether a number reaches anybody here.
    pub(super) fn is_ours(&self, to: &str) -> bool {
        self.p.settings.numbers.iter().any(|n| n == to || n == "*") || self.is_inside(to)
    }

    fn is_inside(&self, to: &str) -> bool {
        let s = &self.p.settings;
        let named = s.seats.iter().any(|s| s.user == to) || s.routes.iter().any(|r| r.user == to);
        named || self.supervises(to).is_some()
    }

    /// Whether a seat's call may go out now; then it counts until [`Switchboard::outward_over`].
    pub(super) fn let_out(&mut self, seat: &str, to: &str) -> Result<(), TurnedAway> {
        let judged = self.outbound().begin(Role::Seat, seat, to, now());
        judged.map(|_| ()).map_err(|why| {
            let code = if why == Denied::NoNumber { 484 } else { 403 };
            let number = mask_number(to);
            let english = format!("refused with {code}: seat {seat} may not call {number} now: {why}");
            let chinese = format!("以 {code} 拒绝：坐席 {seat} 当前不能呼叫 {number}：{}", why.chinese());
            TurnedAway { code, retry: None, reason: EndReason::other(21, HungUpBy::Us, &english, &chinese) }
        })
    }

    /// A seat's call outside is over.
    pub(super) fn outward_over(&self, line: &Line) {
        if let Some(seat) = line.seat_calling.as_deref().filter(|_| line.outward) {
            self.outbound().over(Role::Seat, seat);
        }
    }

    /// The number called sounds before it answers: the seat's phone is told where to hear it (183), once.
    pub(super) fn pass_early_media(&mut self, call: CallId) {
        let Some(line) = self.lines.get_mut(&call) else { return };
        if line.outward && line.our_offer.is_none() && !std::mem::replace(&mut line.progressed, true) {
            let (agent, dialog, answer) = (self.p.agent.clone(), line.dialog, line.answer.clone());
            tokio::spawn(async move { agent.progress(dialog, answer).await });
        }
    }

    /// No trunk has a way out now.
    pub(super) fn no_way_out(&mut self, call: CallId, number: &str) {
        let number = mask_number(number);
        if let Some(line) = self.lines.get_mut(&call) {
            line.leg_failure = Some(EndReason::other(
                38,
                HungUpBy::Us,
                &format!(
                    "{number} could not be called: no [[trunk]] takes calls out, or all of them are full (max_out)"
                ),
                &format!("无法呼叫 {number}：没有可呼出的 [[trunk]]，或线路已满（max_out）"),
            ));
        }
    }
}
