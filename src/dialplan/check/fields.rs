//! Fields of records: what an order, an address, a ticket, the caller's profile and the call hold (E011).

use super::super::actions::{ADDRESS, ORDER, PROFILE, SESSION, TICKET};
use super::super::expr::{Path, Seg};
use super::super::model::{Flow, Kind};

/// What a value is, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Order,
    Orders,
    Address,
    Addresses,
    Ticket,
    Profile,
    Session,
    Anything,
}

impl Shape {
    /// Its name for people and its fields; none: it is a list, or nothing is known.
    fn fields(self) -> Option<(&'static str, &'static [&'static str])> {
        match self {
            Shape::Order => Some(("an order", &ORDER)),
            Shape::Address => Some(("an address", &ADDRESS)),
            Shape::Ticket => Some(("a ticket", &TICKET)),
            Shape::Profile => Some(("the profile", &PROFILE)),
            Shape::Session => Some(("the session", &SESSION)),
            Shape::Orders | Shape::Addresses | Shape::Anything => None,
        }
    }

    fn step(self, seg: &Seg) -> Shape {
        match (self, seg) {
            (Shape::Orders, Seg::Index(_)) => Shape::Order,
            (Shape::Addresses, Seg::Index(_)) => Shape::Address,
            (Shape::Profile, Seg::Field(f)) if f == "orders" => Shape::Orders,
            (Shape::Profile, Seg::Field(f)) if f == "addresses" => Shape::Addresses,
            _ => Shape::Anything,
        }
    }
}

/// What is wrong with a path's fields, and the fields that there are.
pub fn fault(flow: &Flow, path: &Path) -> Option<(String, String)> {
    let mut shape = root(flow, &path.root);
    for seg in &path.rest {
        if let (Some((what, fields)), Seg::Field(name)) = (shape.fields(), seg)
            && !fields.contains(&name.as_str())
        {
            return Some((format!("{what} has no `{name}`"), format!("it has {}", fields.join(", "))));
        }
        shape = shape.step(seg);
    }
    None
}

fn root(flow: &Flow, name: &str) -> Shape {
    match name {
        "profile" => return Shape::Profile,
        "session" => return Shape::Session,
        "ticket" => return Shape::Ticket,
        _ => {}
    }
    let saved = flow.nodes.iter().find_map(|n| match &n.kind {
        Kind::Action { save, .. } => save.iter().find(|(_, var)| var == name).map(|(field, _)| field.text.as_str()),
        _ => None,
    });
    match saved {
        Some("order") => Shape::Order,
        Some("items") => Shape::Orders,
        _ => Shape::Anything,
    }
}
