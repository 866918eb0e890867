//! Layer 2. RTP and RTCP without sockets: bytes and time in, frames, digits and packets out.
