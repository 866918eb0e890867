//! Behaviour of the whole, one file a theme.

mod simulated_calls;
