//! The one binary of integration tests.

mod sip_peers;
mod sip_torture;
