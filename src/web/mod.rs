//! Layer 7. HTTP: health and metrics.
