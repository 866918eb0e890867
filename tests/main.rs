//! The tests of the whole program, in one binary: one file per behaviour.

mod tidy;
