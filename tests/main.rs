//! One test binary: a file per behaviour.

mod common;

mod barge_in;
mod calls_by_keys;
mod calls_by_voice;
mod call_control;
mod bad_network;
mod sipp_peers;
