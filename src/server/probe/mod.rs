//! A call that looks at its own line: what came when, from where, and where what we send goes.
//!
//! Unlike [`super::phone`], it follows the letter: the ACK goes to the Contact and nowhere else first, and nothing is
//! mended before it has been seen.

mod call;
pub mod measure;

pub use call::{Ack, KeySeen, LineCall, LineSeen, MediaSeen, contact_is_reached, options};
