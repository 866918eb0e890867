//! Recordings: one thread writes what the shards collect, a second of both sides at a time.

use crate::audio::{AudioFrame, FRAME_SAMPLES};
use crate::ids::CallId;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::collections::HashMap;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Frames a shard collects before it hands them over (one second).
const BATCH_FRAMES: usize = 50;

enum Job {
    Open {
        call: CallId,
        path: PathBuf,
    },
    /// `lost`: samples before these that a full queue cost; silence takes their place, so that what follows stays
    /// where the records say it is.
    Samples {
        call: CallId,
        lost: usize,
        left: Vec<i16>,
        right: Vec<i16>,
    },
    Close {
        call: CallId,
    },
    /// Everything before this is on disk.
    Flush(Sender<()>),
}

/// The recorder's door. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    jobs: Sender<Job>,
    lost: Arc<AtomicU64>,
    /// The disk is nearly full: nothing is written until there is room.
    halted: Arc<AtomicBool>,
    /// Calls that ended while the queue was full: their files are closed as soon as the writer has caught up.
    unclosed: Arc<Mutex<Vec<CallId>>>,
    root: Arc<PathBuf>,
}

impl Recorder {
    /// Starts the writing thread; files go below `root` in a folder per day.
    pub fn start(root: &Path) -> std::io::Result<Recorder> {
        make_folder(root)?;
        let (jobs, inbox) = bounded(4096);
        let unclosed: Arc<Mutex<Vec<CallId>>> = Arc::default();
        let ended = unclosed.clone();
        std::thread::Builder::new().name("recorder".into()).spawn(move || write_all(&inbox, &ended))?;
        let (lost, halted) = (Arc::default(), Arc::default());
        Ok(Recorder { jobs, lost, halted, unclosed, root: Arc::new(root.to_path_buf()) })
    }

    /// Opens a call's recording and gives the shard's end of it.
    pub fn open(&self, call: CallId, day: (i32, u8, u8)) -> Tap {
        let path = self.root.join(format!("{:04}-{:02}-{:02}", day.0, day.1, day.2)).join(format!("{call}.wav"));
        let (left, right) = (batch(), batch());
        let mut tap = Tap { call, path, recorder: self.clone(), unopened: true, lost: 0, left, right, silent: false };
        tap.begin();
        tap
    }

    /// Waits until all that was handed over is on disk. False when that took longer than `limit`. Blocks.
    pub fn flush(&self, limit: Duration) -> bool {
        let (done, wait) = bounded(1);
        self.jobs.send_timeout(Job::Flush(done), limit).is_ok() && wait.recv_timeout(limit).is_ok()
    }

    /// Stops recordings, those under way too, or lets them go on; what is missed in between becomes silence. Says
    /// whether they were stopped before.
    pub fn halt(&self, halted: bool) -> bool {
        self.halted.swap(halted, Ordering::Relaxed)
    }

    /// Whether recordings are stopped.
    pub fn is_halted(&self) -> bool {
        self.halted.load(Ordering::Relaxed)
    }

    /// Seconds of sound that a slow or full disk has cost so far.
    pub fn lost_seconds(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// A disk that stands still costs recorded sound, never a live frame.
    fn send(&self, job: Job) -> bool {
        let sent = self.jobs.try_send(job).is_ok();
        if !sent {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }
}

/// A call's end of the recorder: collects both sides, frame by frame.
pub struct Tap {
    call: CallId,
    path: PathBuf,
    recorder: Recorder,
    /// The file has not been asked for: the queue was full.
    unopened: bool,
    /// Samples the queue had no room for since the last that it took.
    lost: usize,
    left: Vec<i16>,
    right: Vec<i16>,
    /// Both sides are silent in the file, whatever is said.
    silent: bool,
}

fn batch() -> Vec<i16> {
    Vec::with_capacity(BATCH_FRAMES * FRAME_SAMPLES)
}

impl Tap {
    /// One tick: what the caller said (left), what the caller was told (right).
    pub fn add(&mut self, caller: &AudioFrame, told: &AudioFrame) {
        let nothing = [0; FRAME_SAMPLES];
        let (left, right) = if self.silent { (&nothing, &nothing) } else { (&caller.pcm, &told.pcm) };
        self.left.extend_from_slice(left);
        self.right.extend_from_slice(right);
        if self.left.len() >= BATCH_FRAMES * FRAME_SAMPLES {
            self.flush();
        }
    }

    /// From here the file holds silence, as long as what is said; or what is said again.
    pub fn silence(&mut self, silent: bool) {
        self.silent = silent;
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn begin(&mut self) -> bool {
        self.unopened = self.unopened && !self.recorder.send(Job::Open { call: self.call, path: self.path.clone() });
        !self.unopened
    }

    fn flush(&mut self) {
        if self.left.is_empty() {
            return;
        }
        let (left, right) = (std::mem::replace(&mut self.left, batch()), std::mem::replace(&mut self.right, batch()));
        let samples = left.len();
        if self.recorder.is_halted() {
            self.recorder.lost.fetch_add(1, Ordering::Relaxed);
            self.lost += samples;
            return;
        }
        let sent = self.begin() && self.recorder.send(Job::Samples { call: self.call, lost: self.lost, left, right });
        self.lost = if sent { 0 } else { self.lost + samples };
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.flush();
        // A media thread never waits for the disk, and a file must not stay open with a stale length in its header.
        if let Err(TrySendError::Full(_)) = self.recorder.jobs.try_send(Job::Close { call: self.call }) {
            self.recorder.unclosed.lock().unwrap_or_else(PoisonError::into_inner).push(self.call);
        }
    }
}

type Open = crate::audio::wav::RecordingWriter<std::fs::File>;

fn write_all(inbox: &Receiver<Job>, unclosed: &Mutex<Vec<CallId>>) {
    let mut files: HashMap<CallId, Open> = HashMap::new();
    for job in inbox {
        match job {
            Job::Open { call, path } => match create(&path) {
                Ok(file) => {
                    files.insert(call, file);
                }
                Err(e) => tracing::error!("cannot record {call} to {}: {e}; is the disk full?", path.display()),
            },
            Job::Samples { call, lost, left, right } => {
                if let Some(file) = files.get_mut(&call)
                    && let Err(e) = push(file, lost, &left, &right)
                {
                    tracing::error!("recording of {call} stopped: {e}; is the disk full?");
                    files.remove(&call);
                }
            }
            Job::Flush(done) => {
                let _nobody_waits_any_more = done.send(());
            }
            Job::Close { call } => close(&mut files, call),
        }
        if inbox.is_empty() {
            let ended = std::mem::take(&mut *unclosed.lock().unwrap_or_else(PoisonError::into_inner));
            ended.into_iter().for_each(|call| close(&mut files, call));
        }
    }
}

fn close(files: &mut HashMap<CallId, Open>, call: CallId) {
    if let Some(Err(e)) = files.remove(&call).map(Open::finish) {
        tracing::error!("recording of {call} has no proper end: {e}");
    }
}

/// In pieces of a second, so that a long gap takes no memory.
fn push(file: &mut Open, lost: usize, left: &[i16], right: &[i16]) -> Result<(), crate::audio::wav::WavError> {
    let second = [0i16; BATCH_FRAMES * FRAME_SAMPLES];
    let mut gap = lost;
    while gap > 0 {
        let piece = &second[..gap.min(second.len())];
        file.push(piece, piece)?;
        gap -= piece.len();
    }
    file.push(left, right)
}

fn create(path: &Path) -> Result<Open, Box<dyn std::error::Error>> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(Open::new(file)?)
}

/// Nobody but the user who runs the hotline may look into it.
fn make_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_are_for_the_user_who_runs_the_hotline_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::start(&folder.path().join("recordings")).unwrap();
        let path = recorder.open(CallId::new(1, 4), (2026, 1, 2)).path().to_path_buf();
        assert!(recorder.flush(Duration::from_secs(5)));
        let mode = |p: &Path| p.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!((mode(path.parent().unwrap()), mode(&folder.path().join("recordings"))), (0o700, 0o700));
    }

    #[test]
    fn a_call_that_ends_while_the_disk_stands_still_is_closed_later_and_nobody_waits() {
        let (jobs, inbox) = bounded(1);
        let recorder = Recorder {
            jobs,
            lost: Arc::default(),
            halted: Arc::default(),
            unclosed: Arc::default(),
            root: Arc::new(PathBuf::from("/nowhere")),
        };
        let call = CallId::new(1, 5);
        let tap = recorder.open(call, (2026, 1, 2)); // its Open fills the queue
        drop(tap);
        assert_eq!(*recorder.unclosed.lock().unwrap(), [call]);
        drop(inbox);
    }

    #[test]
    fn a_halted_recorder_writes_nothing_and_goes_on_in_the_right_place() {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::start(folder.path()).unwrap();
        let mut tap = recorder.open(CallId::new(1, 3), (2026, 1, 2));
        let (path, frame) = (tap.path().to_path_buf(), AudioFrame::silence(0));
        let length = |path: &Path| {
            assert!(recorder.flush(Duration::from_secs(5)));
            std::fs::read(path).unwrap().len()
        };
        assert!(!recorder.halt(true));
        for _ in 0..150 {
            tap.add(&frame, &frame);
        }
        assert_eq!((length(&path), recorder.lost_seconds()), (44, 3));
        assert!(recorder.halt(false));
        for _ in 0..50 {
            tap.add(&frame, &frame);
        }
        drop(tap);
        assert_eq!(length(&path), 44 + 4 * 8000 * 4);
    }

    #[test]
    fn after_a_flush_a_closed_recording_is_whole_and_a_lost_second_leaves_silence() {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::start(folder.path()).unwrap();
        let mut tap = recorder.open(CallId::new(1, 2), (2026, 1, 2));
        let path = tap.path().to_path_buf();
        let (mut said, told) = (AudioFrame::silence(0), AudioFrame::silence(0));
        said.pcm.fill(900);
        tap.lost = 8000;
        for _ in 0..60 {
            tap.add(&said, &told);
        }
        drop(tap);
        assert!(recorder.flush(Duration::from_secs(5)));
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(bytes.len(), 44 + (8000 + 60 * FRAME_SAMPLES) * 4);
        let left = |n: usize| i16::from_le_bytes([bytes[44 + n * 4], bytes[45 + n * 4]]);
        assert_eq!((left(0), left(7999), left(8000)), (0, 0, 900));
        assert_eq!(recorder.lost_seconds(), 0);
    }
}
