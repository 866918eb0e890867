//! The actions a flow may call, as data: what goes in, what comes out, what must have been proved before.
//!
//! Backends implement these; flows are checked against them.

use super::model::Level;

/// A business action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// Its name, `system.verb`.
    pub name: &'static str,
    /// What it does, for editors.
    pub about: &'static str,
    /// Arguments it must be given.
    pub inputs: &'static [&'static str],
    /// Fields of its data that `save:` may take, after `ok`.
    pub outputs: &'static [&'static str],
    /// How it can end.
    pub outcomes: &'static [&'static str],
    /// How well the caller must be known.
    pub level: Level,
    /// The argument that names an order: the caller must have proved `level` for that very order (or for all his own)
    /// when the action runs. None: the action itself looks at who calls.
    pub subject: Option<&'static str>,
    /// Whether the caller must have agreed to a read-back of these arguments on every way to it.
    pub confirm: &'static [&'static str],
    /// Whether running it twice with the same arguments does no harm.
    pub idempotent: bool,
    /// Time limit when the flow gives none, in milliseconds.
    pub timeout_ms: u32,
}

/// Fields of an order. `amount` is in cents; `mine`: whether it is the caller's own.
pub const ORDER: [&str; 13] = [
    "id",
    "no",
    "tail",
    "item",
    "status",
    "status_text",
    "eta",
    "receiver",
    "phone_tail",
    "amount",
    "amount_yuan",
    "address",
    "mine",
];
/// Fields of a stored address.
pub const ADDRESS: [&str; 2] = ["label", "text"];
/// Fields of a ticket that was written.
pub const TICKET: [&str; 3] = ["id", "no", "tail"];
/// Fields of what is known of the caller.
pub const PROFILE: [&str; 9] =
    ["known", "name", "phone_tail", "addresses", "orders", "vip", "elder", "angry", "voiceprint"];
/// Fields of the call.
pub const SESSION: [&str; 13] = [
    "caller",
    "verify_level",
    "emotion",
    "intent",
    "known",
    "name",
    "phone_tail",
    "vip",
    "elder",
    "angry",
    "voiceprint",
    "anonymous",
    "diverted_from",
];

/// Every action there is.
pub const ACTIONS: [Action; 4] = [
    Action {
        name: "orders.recent",
        about: "the caller's latest orders, newest first",
        inputs: &["phone", "limit"],
        outputs: &["items", "n"],
        outcomes: &["ok", "empty", "error", "timeout"],
        level: Level::L0,
        subject: None,
        confirm: &[],
        idempotent: true,
        timeout_ms: 3000,
    },
    Action {
        name: "orders.get",
        about: "one order by full number, last four digits or item; the order says whether it is the caller's (`mine`)",
        inputs: &["ref", "phone"],
        outputs: &["order"],
        outcomes: &["ok", "empty", "error", "timeout"],
        level: Level::L1,
        subject: None,
        confirm: &[],
        idempotent: true,
        timeout_ms: 3000,
    },
    Action {
        name: "orders.change_address",
        about: "sends an order that has not left yet to another address; `conflict` when it has left",
        inputs: &["order", "address"],
        outputs: &[],
        outcomes: &["ok", "conflict", "error", "timeout"],
        level: Level::L2,
        subject: Some("order"),
        confirm: &["address"],
        idempotent: true,
        timeout_ms: 5000,
    },
    Action {
        name: "orders.urge",
        about: "asks the warehouse to hurry an order; `conflict` when there is nothing left to hurry",
        inputs: &["order"],
        outputs: &[],
        outcomes: &["ok", "conflict", "error", "timeout"],
        level: Level::L1,
        subject: Some("order"),
        confirm: &[],
        idempotent: true,
        timeout_ms: 3000,
    },
];

/// The action of this name.
pub fn find(name: &str) -> Option<&'static Action> {
    ACTIONS.iter().find(|a| a.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_can_fail_and_confirms_only_its_own_arguments() {
        for a in &ACTIONS {
            assert!(a.outcomes.contains(&"ok") && a.outcomes.contains(&"error") && a.outcomes.contains(&"timeout"));
            assert!(a.confirm.iter().chain(&a.subject).all(|c| a.inputs.contains(c)), "{}", a.name);
            assert_eq!(find(a.name), Some(a));
        }
        assert_eq!(find("orders.burn"), None);
    }
}
