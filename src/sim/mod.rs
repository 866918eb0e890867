//! Layer 6. A whole hotline in one thread from one seed: callers, seats, virtual time; no tokio.
