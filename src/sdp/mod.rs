//! Layer 1. Session descriptions: parse, write, offer/answer.
