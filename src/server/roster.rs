//! Which seat is called for an order: who serves the queue, is there and is free.

use super::callee::{Callee, Reach};
use super::hotline::Seat;
use crate::call::LegFailure;
use std::collections::HashMap;

/// Which seats are on a call, and in which order they were last called.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// And on how many.
    busy: HashMap<String, u32>,
    called: HashMap<String, u64>,
    count: u64,
}

impl Roster {
    /// A registered, free seat of the queue that has not been tried: one with the skill asked for before others, of
    /// those the one called longest ago.
    pub fn choose(
        &self,
        seats: &[Seat],
        (queue, skill): (&str, Option<&str>),
        tried: &[String],
        reach: impl Fn(&str) -> Option<Reach>,
    ) -> Result<(String, Reach), LegFailure> {
        let queue = match Callee::of(queue) {
            Callee::Queue(queue) => queue,
            Callee::Seat(user) => {
                let seat = reach(user).filter(|_| seats.iter().any(|s| s.user == user)).ok_or(LegFailure::Nobody)?;
                let had = tried.iter().any(|t| t == user) || self.busy.contains_key(user);
                return if had { Err(LegFailure::Busy) } else { Ok((user.to_owned(), seat)) };
            }
            Callee::Outside(there) => {
                let again = tried.iter().any(|t| t == queue);
                return if again { Err(LegFailure::Nobody) } else { Ok((queue.to_owned(), there)) };
            }
        };
        let serves = |s: &&Seat| s.queues.is_empty() || s.queues.iter().any(|q| q == queue);
        let there: Vec<(&Seat, Reach)> =
            seats.iter().filter(serves).filter_map(|s| Some((s, reach(&s.user)?))).collect();
        let nobody = there.is_empty();
        let free = there.into_iter().filter(|(s, _)| !tried.contains(&s.user) && !self.busy.contains_key(&s.user));
        let lacks = |s: &Seat| skill.is_some_and(|wanted| !s.skills.iter().any(|k| k == wanted));
        match free.min_by_key(|(s, _)| (lacks(s), self.called.get(&s.user).copied().unwrap_or(0))) {
            Some((seat, reach)) => Ok((seat.user.clone(), reach)),
            None if nobody => Err(LegFailure::Nobody),
            None => Err(LegFailure::Busy),
        }
    }

    /// A seat is being called: it is busy from now on.
    pub fn take(&mut self, user: &str) {
        if Callee::of(user).is_outside() {
            return; // not one of our seats: it may take many calls
        }
        self.count += 1;
        self.engage(user);
        self.called.insert(user.to_owned(), self.count);
    }

    /// A seat is on a call, whoever called whom.
    pub fn engage(&mut self, user: &str) {
        *self.busy.entry(user.to_owned()).or_default() += 1;
    }

    /// A seat's call is over.
    pub fn free(&mut self, user: &str) {
        if let Some(calls) = self.busy.get_mut(user) {
            *calls -= 1;
            if *calls == 0 {
                self.busy.remove(user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats() -> Vec<Seat> {
        let seat = |user: &str, queues: &[&str]| Seat {
            user: user.into(),
            password: String::new(),
            queues: queues.iter().map(|q| (*q).to_owned()).collect(),
            skills: vec![format!("skill of {user}")],
            phone: None,
        };
        vec![seat("8001", &[]), seat("8002", &["sales"]), seat("8003", &["care"])]
    }

    fn at_home(user: &str) -> Option<Reach> {
        let (source, transport) = (([127, 0, 0, 1], 5060).into(), crate::sip::Transport::Udp);
        Some(Reach::Phone { contact: format!("sip:{user}@127.0.0.1"), source, transport })
    }

    fn chosen(roster: &Roster, queue: &str, tried: &[&str]) -> Result<String, LegFailure> {
        let tried: Vec<String> = tried.iter().map(|t| (*t).to_owned()).collect();
        roster.choose(&seats(), (queue, None), &tried, at_home).map(|(user, _)| user)
    }

    #[test]
    fn the_seat_called_longest_ago_is_called_even_if_it_never_answers() {
        let mut roster = Roster::default();
        let mut order = Vec::new();
        for _ in 0..4 {
            let user = chosen(&roster, "sales", &[]).unwrap();
            roster.take(&user);
            roster.free(&user);
            order.push(user);
        }
        assert_eq!(order, ["8001", "8002", "8001", "8002"]);
    }

    #[test]
    fn a_seat_with_the_skill_comes_first_and_others_before_none() {
        let mut roster = Roster::default();
        let chosen = |r: &Roster| r.choose(&seats(), ("sales", Some("skill of 8002")), &[], at_home).map(|(u, _)| u);
        assert_eq!(chosen(&roster).unwrap(), "8002");
        roster.take("8002");
        assert_eq!(chosen(&roster).unwrap(), "8001");
    }

    #[test]
    fn busy_and_tried_seats_are_passed_over_and_nobody_is_not_busy() {
        let mut roster = Roster::default();
        roster.take("8001");
        assert_eq!(chosen(&roster, "care", &[]).unwrap(), "8003");
        assert_eq!(chosen(&roster, "care", &["8003"]), Err(LegFailure::Busy));
        roster.free("8001");
        assert_eq!(chosen(&roster, "care", &["8003"]).unwrap(), "8001");
        assert_eq!(roster.choose(&seats(), ("care", None), &[], |_| None), Err(LegFailure::Nobody));
    }

    #[test]
    fn an_address_is_called_once_for_each_order_by_any_number_of_calls() {
        let mut roster = Roster::default();
        roster.take("sip:x@h");
        assert_eq!(chosen(&roster, "sip:x@h", &[]).unwrap(), "sip:x@h");
        assert!(chosen(&roster, "sip:x@h", &["sip:x@h"]).is_err());
    }

    #[test]
    fn one_seat_asked_for_by_name_is_called_or_nobody_is() {
        let mut roster = Roster::default();
        assert_eq!(chosen(&roster, "seat:8002", &[]).unwrap(), "8002");
        assert_eq!(chosen(&roster, "seat:9999", &[]), Err(LegFailure::Nobody));
        roster.engage("8002");
        roster.take("8002");
        roster.free("8002");
        assert_eq!(chosen(&roster, "seat:8002", &[]), Err(LegFailure::Busy), "on one of two calls still");
        roster.free("8002");
        assert_eq!(chosen(&roster, "seat:8002", &["8002"]), Err(LegFailure::Busy));
    }
}
