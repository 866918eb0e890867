//! How digits, money, dates and telephone numbers are spoken back. They live one layer lower, so that dialplan
//! filters say them in the same words.

pub use crate::nlu::spell::*;
