//! How much room the data folder's disk has. Recordings stop before it is full, so that tickets and records still fit.

use super::recorder::Recorder;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often the room is looked at.
const EVERY: Duration = Duration::from_secs(5);

/// Bytes that may still be written to the disk that holds `folder`.
pub fn free_bytes(folder: &Path) -> std::io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Watches the disk of a folder. Cheap to clone.
#[derive(Clone)]
pub struct DiskWatch {
    folder: Arc<PathBuf>,
    least: u64,
    free: Arc<AtomicU64>,
}

impl DiskWatch {
    /// Looks once; `least_mb`: MiB that recordings leave free.
    pub fn new(folder: &Path, least_mb: u32) -> Self {
        let least = u64::from(least_mb) << 20;
        let watch = DiskWatch { folder: Arc::new(folder.to_owned()), least, free: Arc::new(AtomicU64::new(u64::MAX)) };
        watch.look();
        watch
    }

    fn look(&self) {
        match free_bytes(&self.folder) {
            Ok(free) => self.free.store(free, Ordering::Relaxed),
            Err(e) => tracing::warn!("the room left in {} is not known: {e}", self.folder.display()),
        }
    }

    /// Bytes free when it last looked.
    pub fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// Whether less is free than recordings must leave.
    pub fn is_low(&self) -> bool {
        self.free() < self.least
    }

    /// What is wrong and what to do, while something is.
    pub fn problem(&self) -> Option<String> {
        self.is_low().then(|| {
            format!(
                "{} MB are free on the disk that holds {}, less than [limits] min_free_mb = {}: calls are not recorded \
                 until there is more",
                self.free() >> 20,
                self.folder.display(),
                self.least >> 20
            )
        })
    }

    /// Looks again and again, and stops and starts the recorder by what it sees. Ends with the runtime or by abort.
    pub async fn run(self, recorder: Option<Recorder>) {
        loop {
            if let Some(recorder) = &recorder
                && recorder.halt(self.is_low()) != self.is_low()
            {
                match self.problem() {
                    Some(problem) => tracing::error!("{problem}"),
                    None => tracing::warn!("there is room again: calls are recorded"),
                }
            }
            tokio::time::sleep(EVERY).await;
            // A disk that does not answer must not hold up a thread of the runtime.
            let watch = self.clone();
            let _never_panics = tokio::task::spawn_blocking(move || watch.look()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_low_when_less_is_free_than_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let roomy = DiskWatch::new(folder.path(), 0);
        assert!(roomy.free() > 0 && roomy.free() < u64::MAX);
        assert_eq!((roomy.is_low(), roomy.problem()), (false, None));
        let low = DiskWatch::new(folder.path(), u32::MAX);
        assert!(low.is_low() && low.problem().unwrap().contains("min_free_mb"));
    }
}
