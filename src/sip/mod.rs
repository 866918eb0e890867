//! Layer 5. The SIP library at arm's length.
