//! Layer 2. Rules of the hotline's business: no SQL, no clock.
