//! The tests of the whole program, in one binary: one file per behaviour.

#![allow(clippy::print_stderr)] // what was measured, or skipped

mod common;

mod bad_input;
mod bad_network;
mod barge_in;
mod bridge_delay;
#[cfg(feature = "webrtc")]
mod browser_seats;
mod call_control;
mod calls_by_keys;
mod calls_by_voice;
mod codecs;
mod command_line;
#[cfg(feature = "webrtc")]
mod dtls_legs;
mod early_media;
mod echo_guard;
mod encrypted_calls;
mod floods;
mod guessing;
mod hanging_up;
mod interop;
mod keys_in_sound;
mod line_doctor;
mod load_tool;
mod lossy_speech;
mod media_security;
mod progress_tones;
mod recording_pauses;
mod seats_calling_out;
mod simulated_calls;
mod sip_dialogs;
mod sip_inside_calls;
mod sip_peers;
mod sip_phones;
mod sip_seat_calls;
mod sip_servers;
mod sip_torture;
mod sip_trace;
mod sip_transfers;
mod sip_transports;
mod sipp_peers;
mod store_durability;
mod supervising;
mod tidy;
mod trunk_refers;
mod trunks;
