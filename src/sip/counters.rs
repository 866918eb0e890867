//! What came, what was refused and why. Numbers only: no address, no name.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub $name: AtomicU64,)*
            /// What was refused, by reason.
            pub refused: super::refused::Refusals,
        }

        /// Counts since the start, and how many there are right now (`calls`, `dialogs`, ...).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct SipCounters {
            $($(#[$doc])* pub $name: u64,)*
            /// Calls right now, ringing included (gauge).
            pub calls: u64,
            /// Dialogs that are not forgotten yet (gauge).
            pub dialogs: u64,
            /// Transactions under way (gauge).
            pub transactions: u64,
        }

        impl Counters {
            pub fn snapshot(&self) -> SipCounters {
                SipCounters { $($name: self.$name.load(Relaxed),)* ..SipCounters::default() }
            }
        }
    };
}

counters! {
    /// UDP datagrams received.
    datagrams,
    /// Messages received over connections.
    streamed,
    /// Messages that passed all checks.
    passed,
    /// Bytes that were no SIP message, or one that must not be answered.
    dropped,
    /// Requests answered with a 4xx/5xx for what they are.
    malformed,
    /// Requests of sources that asked too often; not answered.
    limited,
    /// Calls refused with 503: all lines taken, or going down.
    busy,
    /// Calls refused with 503: more a second than are taken.
    too_fast,
    /// Calls refused with 503: too many at once of one address.
    crowded,
    /// Calls refused with 403: from an address that is no trunk's.
    strangers,
    /// Calls refused with 404.
    unknown_user,
    /// Requests of no known dialog.
    no_dialog,
    /// REGISTERs without the right password.
    unauthorized,
    /// Registrations made or refreshed.
    registered,
    /// Phones taken off the list because they answered no OPTIONS.
    silent_phones,
    /// OPTIONS answered.
    options,
    /// Challenges of servers we do not give our password to.
    foreign_challenges,
    /// REFER, MESSAGE and INVITE with Replaces of those who may not send them.
    not_allowed,
    /// Calls of ours that came back to us.
    loops,
    /// Calls that came in.
    calls_in,
    /// Calls we placed.
    calls_out,
    /// Events lost because nobody read them.
    events_lost,
    /// Panics over a message, caught.
    panics,
    /// Connections accepted (TCP, TLS, WebSocket).
    tcp_accepted,
    /// Connections closed for slowness, garbage or number.
    tcp_refused,
    /// TLS handshakes that failed.
    tls_failed,
}

/// Adds one.
pub(super) fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
