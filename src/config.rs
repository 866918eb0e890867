//! Configuration: TOML as typed, checked into each room's own settings; every problem is reported at once.
