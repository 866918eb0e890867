//! Layer 2. Rules of the hotline's business: no SQL, no clock.
//!
//! * [`customer`]: who calls, and by which names saved addresses are known.
//! * [`order`]: what became of an order, said aloud, and what may still be changed.
//! * [`ticket`]: numbers, priorities and promised times.
//! * [`calendar`]: the hotline's own day (China Standard Time).

pub mod calendar;
pub mod customer;
pub mod order;
pub mod ticket;

pub use customer::{Address, Customer, normalise_phone, phone_tail};
pub use order::{Order, OrderStatus};
pub use ticket::{Priority, Promise, TICKET_NEW, ticket_number, ticket_tail};
