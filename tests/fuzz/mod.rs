//! What strangers send, damaged at random: targets for every format that is read from the network or from files.
//!
//! A target is a check that is given bytes and names the way they took; inputs that took a new way are kept and damaged
//! further. `make test` gives each two seconds, continuous integration a minute (`ZONGJI_FUZZ_SECONDS`). The same seed
//! (`ZONGJI_FUZZ_SEED`) makes the same inputs in the same order, only how far it gets in its time differs. An input that
//! fails is made smaller, written to a file and printed; put it into tests/fuzz/TARGET/, where it is tried first from
//! then on.

pub(crate) mod harness;
mod targets;
