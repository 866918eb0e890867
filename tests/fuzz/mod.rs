//! What strangers send and what is written by hand, damaged at random: targets for every format that we read ourselves.
//! (HTTP, the frames of WebSocket, TLS and Opus are read by their libraries; models are ours and come with the program.)
//!
//! A target is a check that is given bytes and names the way they took; inputs that took a new way are kept and damaged
//! further. `make test` gives each two seconds, continuous integration a minute (`ZONGJI_FUZZ_SECONDS`). The same seed
//! (`ZONGJI_FUZZ_SEED`) makes the same inputs in the same order, only how far it gets in its time differs. An input that
//! fails is made smaller, written to a file and printed; put it into tests/fuzz/TARGET/, where it is tried first from
//! then on. A target may have a subject that remembers, a leg or a gate, which is made new now and then: where it takes
//! more than one input to make it fail, those that it needs are written to a folder, which goes to the same place.

pub(crate) mod harness;
mod targets;
