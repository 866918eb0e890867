//! Zongji (总机): a company's voice hotline in one program.
//!
//! SIP and RTP in, 8 kHz speech understood, business done, a person when one is needed.
//!
//! # Layers: imports point down only (`tests/tidy.rs` holds this)
//!
//! | layer | rooms |
//! |---|---|
//! | 0 | [`ids`] [`clock`] [`pii`] |
//! | 1 | [`audio`] [`sdp`] |
//! | 2 | [`rtp`] [`nlu`] [`crm`] |
//! | 3 | [`speech`] [`dialplan`] |
//! | 4 | [`call`] |
//! | 5 | [`engines`] [`store`] [`sip`] [`browser`] |
//! | 6 | [`sim`] [`server`] |
//! | 7 | [`web`] |
//! | 8 | [`config`] [`cli`] |
//!
//! Rooms of one layer do not import each other, but for two: [`cli`] reads [`config`], and [`dialplan`] uses the plain
//! values of [`speech`] (a node's question is a grammar, its answer a transcript).
//!
//! # Invariants
//!
//! 1. Layers 0-4 are given time and randomness; they know no socket, file, thread or clock.
//! 2. `call` never sees a SIP message, an SQL row or a model file.
//! 3. No queue is unbounded.
//! 4. A live audio frame never crosses a queue; speech chunks for the recogniser cross one.
//! 5. Bytes from the network cannot panic us.
//! 6. Every state has a deadline and an exit.
//! 7. A model's late answer (an old [`ids::TurnId`]) is dropped in one place.
//! 8. A model never acts: it yields an intent; the dialplan decides.
//! 9. A slow console, disk or CRM cannot delay a frame.
//! 10. Nothing is said as done ("已为您登记") without the event that did it.
//! 11. Domain types are not wire types: serde stays in config, dialplan parsing, the models' files, store, web
//!     and cli.
//! 12. Personal data is logged, shown and exported only through [`pii::Pii`].

#![cfg_attr(test, allow(clippy::print_stdout, clippy::print_stderr))] // trials print what they measured

pub mod audio;
pub mod browser;
pub mod call;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crm;
pub mod dialplan;
pub mod engines;
pub mod ids;
pub mod nlu;
pub mod pii;
pub mod rtp;
pub mod sdp;
pub mod server;
pub mod sim;
pub mod sip;
pub mod speech;
pub mod store;
pub mod web;

#[cfg(test)]
#[path = "../tests/common/skip.rs"]
mod skip;

#[cfg(test)]
#[path = "../tests/fuzz/mod.rs"]
mod fuzz;
