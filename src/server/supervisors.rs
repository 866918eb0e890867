//! Supervisors: who may listen at a seat, and what becomes of his leg.
//!
//! A supervisor dials `*1`, `*2` or `*3` and the seat's user from a phone that is registered with his account. His media
//! begins with his ACK: who only pretends to send from his address never learns what an ACK must name.

use super::secure;
use super::shard::{NewLeg, ShardCommand};
use super::switchboard::{Located, Switchboard};
use super::time::now;
use crate::browser::Negotiator;
use crate::call::Supervision;
use crate::ids::{CallId, Leg};
use crate::sdp::{Capabilities, Session as Sdp};
use crate::sip::DialogId;
use crate::sip::trace::Role;
use rand::RngExt;
use std::net::SocketAddr;

/// The account of a supervisor's phone.
#[derive(Debug, Clone)]
pub struct Supervisor {
    /// SIP user.
    pub user: String,
    /// SIP password.
    pub password: String,
}

/// A supervisor's leg as the switchboard knows it.
pub(super) struct SupervisorLine {
    pub user: String,
    pub dialog: DialogId,
    pub caps: Capabilities,
    /// Of a leg over DTLS-SRTP.
    pub side: Option<Negotiator>,
    /// Our last description.
    pub described: String,
    pub asked: Option<Sdp>,
    /// Until he acknowledges our answer.
    waiting: Option<(Box<NewLeg>, Supervision)>,
}

/// Numbers that supervisors dial.
pub(super) fn numbers<'a>(seats: impl Iterator<Item = &'a str>) -> impl Iterator<Item = String> {
    seats.flat_map(|seat| ["*1", "*2", "*3"].map(|how| format!("{how}{seat}")))
}

impl Switchboard {
    /// What a number asks for, when supervisors dial it.
    pub(super) fn supervises<'a>(&self, number: &'a str) -> Option<(Supervision, &'a str)> {
        let (mode, seat) = Supervision::of_number(number)?;
        let settings = &self.p.settings;
        let known = !settings.supervisors.is_empty() && settings.seats.iter().any(|s| s.user == seat);
        known.then_some((mode, seat))
    }

    /// A supervisor wants to hear a seat. Else the status that refuses him: 403 he is none, 480 the seat is not talking,
    /// 486 another one listens there.
    pub(super) fn admit_supervisor(
        &mut self,
        dialog: DialogId,
        user: &str,
        (mode, seat): (Supervision, &str),
        source: SocketAddr,
        body: Option<&str>,
    ) -> Result<(), (u16, Option<u32>)> {
        let account = self.p.settings.supervisors.iter().any(|s| s.user == user);
        if !account || !self.p.agent.contacts(user).iter().any(|c| c.source == source) {
            tracing::warn!("{source} wants to listen at seat {seat} and is not the registered phone of a supervisor");
            return Err((403, None));
        }
        let talks = |l: &super::line::Line| l.seat.as_ref().is_some_and(|s| s.user == seat && s.answered);
        let Some((&call, line)) = self.lines.iter().find(|(_, l)| talks(l)) else { return Err((480, None)) };
        if line.supervisor.is_some() {
            return Err((486, None));
        }
        let codec = line.codec;
        let body = body.ok_or((488, None))?;
        let sockets = self.p.ports.take(now()).map_err(|_| (503, None))?;
        let mut caps = self.capabilities(source.ip(), sockets.port, codec);
        let mut side = self.side_of_caller(Some(body), false, &caps, source.ip());
        let (described, plan, secured) = match secure::answer_leg(&mut side, &mut caps, body) {
            Ok(agreed) => agreed,
            Err(code) => {
                self.rest(Some(sockets));
                return Err((code, None));
            }
        };
        let ask = self.ask_where(side.as_ref(), &sockets);
        let seed = self.p.rng.random();
        let leg = Box::new(NewLeg { sockets, plan, signalling: source.ip(), seed, secured });
        let (agent, mut answer, told) = (self.p.agent.clone(), described.clone(), self.located.0.clone());
        self.dialogs.insert(dialog, (call, Leg::Supervisor));
        self.p.agent.trace_leg(dialog, call, Role::Supervisor);
        if let Some(line) = self.lines.get_mut(&call) {
            let waiting = Some((leg, mode));
            line.supervisor =
                Some(SupervisorLine { user: user.into(), dialog, caps, side, described, asked: None, waiting });
        }
        tokio::spawn(async move {
            if let Some(ask) = ask {
                let mapped;
                (answer, mapped) = ask.add_to(answer).await;
                let _shutting_down =
                    told.send(Located { call, leg: Leg::Supervisor, mapped, route: None, picked: None }).await;
            }
            agent.answer(dialog, answer).await;
        });
        Ok(())
    }

    /// He confirmed our answer: his media begins.
    pub(super) fn supervisor_acknowledged(&mut self, call: CallId) {
        let Some(line) = self.lines.get_mut(&call) else { return };
        let Some(supervisor) = &mut line.supervisor else { return };
        if let Some((leg, mode)) = supervisor.waiting.take() {
            let user = supervisor.user.clone();
            if !self.give_leg(call, leg, |leg| ShardCommand::Supervise { call, user, mode, leg }) {
                self.end_supervisor(call);
            }
        }
    }

    /// His leg ends, by him, with the seat's call, or with the call.
    pub(super) fn end_supervisor(&mut self, call: CallId) {
        let Some(line) = self.lines.get_mut(&call) else { return };
        let Some(supervisor) = line.supervisor.take() else { return };
        line.shard.send(ShardCommand::SupervisorLeft { call });
        self.rest(supervisor.waiting.map(|(leg, _)| leg.sockets));
        if self.dialogs.remove(&supervisor.dialog).is_some() {
            self.end_dialog(supervisor.dialog);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seat_has_a_number_for_each_way_to_listen() {
        let all: Vec<String> = numbers(["8001", "8002"].into_iter()).collect();
        assert_eq!(all, ["*18001", "*28001", "*38001", "*18002", "*28002", "*38002"]);
        assert!(all.iter().all(|n| Supervision::of_number(n).is_some()));
    }
}
