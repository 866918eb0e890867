//! How a test says that it proved nothing here: the tests beside the code and those under tests/ share this file.

use std::fmt::Display;
use std::io::Write;

/// Says which data or tool a test lacks. It writes to standard error itself: what goes through `eprintln!` is kept back
/// by the test harness when the test passes, and a test that skips passes.
pub fn skipped(why: impl Display) {
    let _nobody_reads = writeln!(std::io::stderr().lock(), "SKIPPED: {why}");
}
