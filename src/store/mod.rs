//! Layer 5. The database: customers, orders, calls, turns, tickets, transfers.
//!
//! One SQLite file in WAL mode with `synchronous=FULL`: what was acknowledged survives a killed process and a power
//! cut. One connection writes, a few read. What a caller is told (tickets, changed orders) is written directly and
//! awaited; what merely describes the call (turns, events, its record) goes through [`Writer`], which never blocks.

mod act;
mod called;
mod calls;
mod error;
mod json;
mod list;
mod open;
mod orders;
mod rows;
mod seed;
mod tickets;
mod writer;

pub use act::ActionOutcome;
pub use called::Called;
pub use calls::{CallExtras, CallMedia, NewCall, NewTransfer, Origin};
pub use error::StoreError;
pub use json::{from_json, to_json};
pub use open::{Store, make_private_folder, open_to_others};
pub use rows::{CallRow, EventRow, OrderChangeRow, OrderRow, TicketRow, TransferRow, TurnRow};
pub use writer::{WriteJob, Writer, WriterHandle, WriterStats};

use ulid::Ulid;

/// A new id for a row, as text: sorts by time, unguessable.
fn new_id(at: crate::clock::UtcMs) -> String {
    Ulid::from_parts(at.0.max(0) as u64, rand::random::<u128>()).to_string()
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod writer_tests;
