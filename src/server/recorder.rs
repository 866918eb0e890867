//! Recordings: one thread writes what the shards collect, a second of both sides at a time.

use crate::audio::{AudioFrame, FRAME_SAMPLES};
use crate::ids::CallId;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Frames a shard collects before it hands them over (one second).
const BATCH_FRAMES: usize = 50;

enum Job {
    Open { call: CallId, path: PathBuf },
    Samples { call: CallId, left: Vec<i16>, right: Vec<i16> },
    Close { call: CallId },
}

/// The recorder's door. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    jobs: Sender<Job>,
    lost: Arc<AtomicU64>,
    root: Arc<PathBuf>,
}

impl Recorder {
    /// Starts the writing thread; files go below `root` in a folder per day.
    pub fn start(root: &Path) -> std::io::Result<Recorder> {
        std::fs::create_dir_all(root)?;
        let (jobs, inbox) = bounded(4096);
        std::thread::Builder::new().name("recorder".into()).spawn(move || write_all(&inbox))?;
        Ok(Recorder { jobs, lost: Arc::default(), root: Arc::new(root.to_path_buf()) })
    }

    /// Opens a call's recording and gives the shard's end of it.
    pub fn open(&self, call: CallId, day: (i32, u8, u8)) -> Tap {
        let path = self.root.join(format!("{:04}-{:02}-{:02}", day.0, day.1, day.2)).join(format!("{call}.wav"));
        self.send(Job::Open { call, path: path.clone() });
        Tap { call, path, recorder: self.clone(), left: batch(), right: batch() }
    }

    /// Seconds of sound that a slow disk has cost so far.
    pub fn lost_seconds(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn send(&self, job: Job) {
        // A disk that stands still costs recorded sound, never a live frame.
        if let Err(TrySendError::Full(_)) = self.jobs.try_send(job) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A call's end of the recorder: collects both sides, frame by frame.
pub struct Tap {
    call: CallId,
    path: PathBuf,
    recorder: Recorder,
    left: Vec<i16>,
    right: Vec<i16>,
}

fn batch() -> Vec<i16> {
    Vec::with_capacity(BATCH_FRAMES * FRAME_SAMPLES)
}

impl Tap {
    /// One tick: what the caller said (left), what the caller was told (right).
    pub fn add(&mut self, caller: &AudioFrame, told: &AudioFrame) {
        self.left.extend_from_slice(&caller.pcm);
        self.right.extend_from_slice(&told.pcm);
        if self.left.len() >= BATCH_FRAMES * FRAME_SAMPLES {
            self.flush();
        }
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn flush(&mut self) {
        if !self.left.is_empty() {
            let (left, right) =
                (std::mem::replace(&mut self.left, batch()), std::mem::replace(&mut self.right, batch()));
            self.recorder.send(Job::Samples { call: self.call, left, right });
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.flush();
        // Closing is worth a short wait: an unclosed file keeps a stale length in its header.
        let close = Job::Close { call: self.call };
        let _gone_at_shutdown = self.recorder.jobs.send_timeout(close, std::time::Duration::from_millis(50));
    }
}

type Open = crate::audio::wav::RecordingWriter<std::io::BufWriter<std::fs::File>>;

fn write_all(inbox: &Receiver<Job>) {
    let mut files: HashMap<CallId, Open> = HashMap::new();
    for job in inbox {
        match job {
            Job::Open { call, path } => match create(&path) {
                Ok(file) => {
                    files.insert(call, file);
                }
                Err(e) => tracing::error!("cannot record {call} to {}: {e}; is the disk full?", path.display()),
            },
            Job::Samples { call, left, right } => {
                if let Some(file) = files.get_mut(&call)
                    && let Err(e) = file.push(&left, &right)
                {
                    tracing::error!("recording of {call} stopped: {e}; is the disk full?");
                    files.remove(&call);
                }
            }
            Job::Close { call } => {
                if let Some(Err(e)) = files.remove(&call).map(Open::finish) {
                    tracing::error!("recording of {call} has no proper end: {e}");
                }
            }
        }
    }
}

fn create(path: &Path) -> Result<Open, Box<dyn std::error::Error>> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(Open::new(std::io::BufWriter::new(std::fs::File::create(path)?))?)
}
