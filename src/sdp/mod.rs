//! Layer 1. Session descriptions (RFC 8866) and what two of them agree on (RFC 3264).

pub mod crypto;
pub mod negotiate;
pub mod parse;
pub mod session;
pub mod write;

pub use crypto::{Protection, Srtp, SrtpPolicy};
pub use negotiate::{
    Capabilities, Extras, Formats, MediaPlan, NegotiationError, accept, answer, carry_version, offer, offer_again,
};
pub use parse::{SdpError, parse};
pub use session::{Attribute, Codec, Connection, Direction, Media, Origin, Session};
