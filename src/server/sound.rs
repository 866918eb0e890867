//! WAV files on disk, as 8 kHz mono.

use crate::audio::wav;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;

/// Reads a WAV file of any rate. The error names the file.
pub fn read(path: &Path) -> Result<Vec<i16>, String> {
    let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    wav::read(BufReader::new(file)).map_err(|e| format!("{}: {e}", path.display()))
}

/// Writes 8 kHz mono samples. The error names the file.
pub fn write(path: &Path, pcm: &[i16]) -> Result<(), String> {
    let file = File::create(path).map_err(|e| format!("{}: {e}", path.display()))?;
    wav::write(BufWriter::new(file), crate::audio::SAMPLE_RATE, pcm).map_err(|e| format!("{}: {e}", path.display()))
}
