//! Names of things, shared by rooms that do not import each other.

use std::fmt;
use ulid::Ulid;

macro_rules! ulid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Ulid);

        impl $name {
            /// A new id from a moment (ms since 1970 UTC) and 80 random bits.
            pub fn new(utc_ms: i64, random: u128) -> Self {
                $name(Ulid::from_parts(utc_ms.max(0) as u64, random))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
        impl std::str::FromStr for $name {
            type Err = ulid::DecodeError;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                Ulid::from_string(s).map($name)
            }
        }
    };
}

ulid_id! {
    /// One call, from its first INVITE to its record. Written as 26 characters of Crockford base 32.
    CallId
}
ulid_id! {
    /// One ticket (工单).
    TicketId
}

/// One exchange within a call (prompt, answer, reaction); rises by one. Also the token that cancels
/// what was started for an older turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TurnId(pub u32);

/// One spoken prompt of a call; rises by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PromptId(pub u32);

/// One request of a call to the outside (an action, a ticket, a dialled leg); rises by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RequestId(pub u32);

/// A leg of a call: the caller, or the person the caller was handed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leg {
    /// The one who dialled in.
    Caller,
    /// The one we dialled for the caller (a seat's phone).
    Seat,
    /// One who dialled in to listen to the other two, and perhaps to speak with them. The call's machine knows nothing
    /// of him.
    Supervisor,
}

impl Leg {
    /// The leg on the other side of a bridge. A supervisor's is the seat's: he is there for it.
    pub const fn other(self) -> Leg {
        match self {
            Leg::Caller => Leg::Seat,
            Leg::Seat => Leg::Caller,
            Leg::Supervisor => Leg::Seat,
        }
    }
}
