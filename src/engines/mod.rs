//! Layer 5. The concrete models; the only room that names an inference library.
