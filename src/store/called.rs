//! The number of a call's other end: ours is no secret, a customer's is.

use crate::pii::{Pii, mask_number};
use serde::{Serialize, Serializer};
use std::fmt;

/// The number that was dialled.
#[derive(Clone, PartialEq, Eq)]
pub enum Called {
    /// One of ours: somebody called us.
    Ours(String),
    /// Somebody's whom a seat called outside: shown masked.
    Theirs(Pii),
}

impl Called {
    /// A number that was dialled from outside, or to there.
    pub fn new(number: impl Into<String>, outward: bool) -> Called {
        let number = number.into();
        if outward { Called::Theirs(Pii::new(number)) } else { Called::Ours(number) }
    }

    /// The number in clear.
    pub fn expose(&self) -> &str {
        match self {
            Called::Ours(number) => number,
            Called::Theirs(number) => number.expose(),
        }
    }
}

impl Default for Called {
    fn default() -> Self {
        Called::Ours(String::new())
    }
}

impl fmt::Display for Called {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Called::Ours(number) => f.write_str(number),
            Called::Theirs(number) => f.write_str(&mask_number(number.expose())),
        }
    }
}

impl fmt::Debug for Called {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Called {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
