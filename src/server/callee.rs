//! Whom an order for a leg names, and how he is reached. Only a number goes to a trunk, after a rule of
//! [`super::outbound`] let it out; what a phone registered as its address never does.

use super::outbound::Role;
use crate::sip::{Contact, Transport};
use std::net::SocketAddr;

/// Before a seat's user, in the place of a queue: that seat and no other.
const SEAT: &str = "seat:";
/// Before a number that the configuration names.
const NUMBER: &str = "tel:";
/// Before a number that a seat dialled.
const DIALLED: &str = "out:";

/// Whom an order calls.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Callee<'a> {
    /// A seat that serves this queue.
    Queue(&'a str),
    /// This seat and no other.
    Seat(&'a str),
    /// Nobody of ours: an address or a number, which may take many calls.
    Outside(Reach),
}

/// How somebody is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reach {
    /// A seat's phone: the address it registered, called where it registered from.
    Phone { contact: String, source: SocketAddr, transport: Transport },
    /// A SIP address that the configuration names.
    Address(String),
    /// A telephone number, by a trunk, let out by a rule for this role.
    Number { role: Role, number: String },
}

impl<'a> Callee<'a> {
    /// What stands in the place of a queue.
    pub fn of(queue: &'a str) -> Callee<'a> {
        let number = |role, number: &str| Callee::Outside(Reach::Number { role, number: number.to_owned() });
        if let Some(user) = queue.strip_prefix(SEAT) {
            Callee::Seat(user)
        } else if let Some(dialled) = queue.strip_prefix(DIALLED) {
            number(Role::Seat, dialled)
        } else if let Some(named) = queue.strip_prefix(NUMBER) {
            number(Role::Flow, named)
        } else if ["sip:", "sips:"].iter().any(|scheme| queue.starts_with(scheme)) {
            Callee::Outside(Reach::Address(queue.to_owned()))
        } else {
            Callee::Queue(queue)
        }
    }

    /// Whether this is nobody of ours.
    pub fn is_outside(&self) -> bool {
        matches!(self, Callee::Outside(_))
    }
}

/// The order for one seat.
pub(super) fn one_seat(user: &str) -> String {
    format!("{SEAT}{user}")
}

/// The order for a number that a seat dialled and was let out to.
pub(super) fn dialled(number: &str) -> String {
    format!("{DIALLED}{number}")
}

impl Reach {
    /// A seat's telephone somewhere else.
    pub fn telephone(number: &str) -> Reach {
        Reach::Number { role: Role::Flow, number: number.to_owned() }
    }

    /// As it is noted among those tried.
    pub fn name(&self) -> String {
        match self {
            Reach::Phone { contact: address, .. } | Reach::Address(address) => address.clone(),
            Reach::Number { role: Role::Flow, number } => format!("{NUMBER}{number}"),
            Reach::Number { role: Role::Seat, number } => dialled(number),
        }
    }

    /// Where a registered phone is, and by what it is reached.
    pub fn phone(&self) -> Option<(SocketAddr, Transport)> {
        match self {
            Reach::Phone { source, transport, .. } => Some((*source, *transport)),
            Reach::Address(_) | Reach::Number { .. } => None,
        }
    }
}

impl From<&Contact> for Reach {
    fn from(contact: &Contact) -> Reach {
        Reach::Phone { contact: contact.target(), source: contact.source, transport: contact.transport }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_names_a_queue_a_seat_an_address_or_a_number_and_whose_rule_lets_it_out() {
        assert_eq!(Callee::of("sales"), Callee::Queue("sales"));
        assert_eq!(Callee::of(&one_seat("8001")), Callee::Seat("8001"));
        assert_eq!(Callee::of("sip:x@h"), Callee::Outside(Reach::Address("sip:x@h".into())));
        for (order, role) in [("tel:010".to_owned(), Role::Flow), (dialled("010"), Role::Seat)] {
            let Callee::Outside(reach) = Callee::of(&order) else { panic!("{order}") };
            assert_eq!(reach, Reach::Number { role, number: "010".into() });
            assert_eq!(reach.name(), order, "what was tried is found again");
        }
    }
}
