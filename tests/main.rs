//! The whole hotline from outside, one file per behaviour.

mod store_durability;
