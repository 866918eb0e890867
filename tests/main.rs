//! The tests of the whole program, in one binary: one file per behaviour.

#![allow(clippy::print_stderr)] // what was measured, or skipped

mod common;

mod bad_input;
mod bad_network;
mod barge_in;
#[cfg(feature = "webrtc")]
mod browser_seats;
mod call_control;
mod calls_by_keys;
mod calls_by_voice;
mod command_line;
mod hanging_up;
mod lossy_speech;
mod media_security;
mod simulated_calls;
mod sip_inside_calls;
mod sip_peers;
mod sip_phones;
mod sip_torture;
mod sip_transports;
mod sipp_peers;
mod store_durability;
mod tidy;
mod trunks;
