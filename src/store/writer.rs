//! Write-behind for what describes calls: the sender never waits for the disk.
//!
//! Two bounded queues. Events may be lost when the disk cannot follow: the oldest go first, and are counted. Turns,
//! transfers, answers, recordings and call records are never dropped: they have a queue of their own, and when even that is full the job is
//! handed back to the sender, who should take no new calls long before ([`WriterHandle::is_behind`]).
//! One task writes both, many jobs to a transaction; while the database is locked or the disk full it tries again.

use super::{CallExtras, NewCall, NewTransfer, Store, StoreError, calls};
use crate::call::{CallEvent, CallRecord, Turn};
use crate::ids::CallId;
use sqlx::SqliteConnection;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Something to be written.
#[derive(Debug, Clone, PartialEq)]
pub enum WriteJob {
    /// A call has begun.
    Begin(NewCall),
    /// A turn is complete.
    Turn(CallId, Box<Turn>),
    /// A transfer went on.
    Transfer(CallId, Box<NewTransfer>),
    /// The call's recording has begun in this file.
    Recording(CallId, String),
    /// A call has ended.
    End(CallId, Box<CallRecord>, CallExtras),
    /// Something happened, so many milliseconds after the call was offered.
    Event(CallId, u64, CallEvent),
}

impl WriteJob {
    /// The job an event makes: a finished turn is a turn, all else an event.
    pub fn of_event(call: CallId, at_ms: u64, event: CallEvent) -> Self {
        match event {
            CallEvent::TurnDone(turn) => WriteJob::Turn(call, turn),
            other => WriteJob::Event(call, at_ms, other),
        }
    }

    /// The answer is no mere event: its time stands in the call's row. Nor is a pause of the recording: somebody may
    /// have to prove it.
    const fn may_be_lost(&self) -> bool {
        let kept = matches!(self, WriteJob::Event(_, _, CallEvent::Answered | CallEvent::Recording { .. }));
        !kept && matches!(self, WriteJob::Event(..))
    }
}

/// Counters of a writer since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriterStats {
    /// Jobs on disk.
    pub written: u64,
    /// Jobs waiting or under way.
    pub waiting: u64,
    /// Events dropped because their queue was full.
    pub events_dropped: u64,
    /// Records handed back because their queue was full.
    pub records_refused: u64,
    /// Jobs the database would never take (a fault of ours; logged).
    pub rejected: u64,
    /// Times a batch had to be tried again.
    pub retries: u64,
}

/// The writer's task.
pub struct Writer;

/// Hands jobs to the writer. Cheap to clone. When the last one is dropped the task writes what is left and ends.
#[derive(Clone)]
pub struct WriterHandle {
    shared: Arc<Shared>,
    _alive: Arc<Alive>,
}

const EVENTS_PER_BATCH: usize = 512;
const RECORDS_PER_BATCH: usize = 256;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Tries after the last handle is gone before the rest is given up.
const LAST_TRIES: u32 = 5;

#[derive(Default)]
struct Queues {
    records: VecDeque<WriteJob>,
    events: VecDeque<WriteJob>,
    /// Taken out and not yet on disk.
    under_way: usize,
    closing: bool,
}

impl Queues {
    fn waiting(&self) -> usize {
        self.records.len() + self.events.len() + self.under_way
    }
}

struct Shared {
    queues: Mutex<Queues>,
    most_events: usize,
    most_records: usize,
    work: Notify,
    idle: Notify,
    written: AtomicU64,
    dropped: AtomicU64,
    refused: AtomicU64,
    rejected: AtomicU64,
    retries: AtomicU64,
    failing: AtomicBool,
}

struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.lock().closing = true;
        self.0.work.notify_one();
    }
}

impl Shared {
    /// Held for a push or a pop only; a queue is whole even if a holder panicked.
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Starts the task on the current tokio runtime. `capacity`: records that may wait, and as many events.
    pub fn spawn(store: Store, capacity: usize) -> WriterHandle {
        let shared = Arc::new(Shared {
            queues: Mutex::default(),
            most_events: capacity.max(1),
            most_records: capacity.max(1),
            work: Notify::new(),
            idle: Notify::new(),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            failing: AtomicBool::new(false),
        });
        tokio::spawn(run(store, shared.clone()));
        WriterHandle { _alive: Arc::new(Alive(shared.clone())), shared }
    }
}

impl WriterHandle {
    /// Queues a job and returns at once. `Err` gives a record back whose queue is full; events are always taken, the
    /// oldest one giving way.
    pub fn try_send(&self, job: WriteJob) -> Result<(), WriteJob> {
        let mut q = self.shared.lock();
        if job.may_be_lost() {
            if q.events.len() >= self.shared.most_events {
                q.events.pop_front();
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            }
            q.events.push_back(job);
        } else if q.records.len() >= self.shared.most_records {
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
            return Err(job);
        } else {
            q.records.push_back(job);
        }
        drop(q);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Waits until all that was sent is on disk. `Err`: the time ran out with so many jobs left.
    pub async fn flush(&self, limit: Duration) -> Result<(), u64> {
        let drained = async {
            loop {
                let idle = self.shared.idle.notified();
                tokio::pin!(idle);
                idle.as_mut().enable();
                if self.shared.lock().waiting() == 0 {
                    return;
                }
                idle.await;
            }
        };
        match tokio::time::timeout(limit, drained).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.stats().waiting),
        }
    }

    /// Whether the queue of records is more than half full: time to take no new calls.
    pub fn is_behind(&self) -> bool {
        self.shared.lock().records.len() * 2 > self.shared.most_records
    }

    /// Whether the database did not take the last batch: locked, or its disk full. It is tried again.
    pub fn is_failing(&self) -> bool {
        self.shared.failing.load(Ordering::Relaxed)
    }

    /// Counters.
    pub fn stats(&self) -> WriterStats {
        let s = &self.shared;
        WriterStats {
            written: s.written.load(Ordering::Relaxed),
            waiting: s.lock().waiting() as u64,
            events_dropped: s.dropped.load(Ordering::Relaxed),
            records_refused: s.refused.load(Ordering::Relaxed),
            rejected: s.rejected.load(Ordering::Relaxed),
            retries: s.retries.load(Ordering::Relaxed),
        }
    }
}

async fn run(store: Store, shared: Arc<Shared>) {
    loop {
        let work = shared.work.notified();
        let (batch, closing) = take(&shared);
        if batch.is_empty() {
            if closing {
                return;
            }
            work.await;
            continue;
        }
        if !write_all(&store, &shared, &batch).await {
            return; // the program is ending and the disk will not have it
        }
        let mut q = shared.lock();
        q.under_way = 0;
        if q.waiting() == 0 {
            shared.idle.notify_waiters();
        }
    }
}

/// The next jobs: records first, since a begun call should be there before its events.
fn take(shared: &Shared) -> (Vec<WriteJob>, bool) {
    let mut q = shared.lock();
    let records = q.records.len().min(RECORDS_PER_BATCH);
    let events = q.events.len().min(EVENTS_PER_BATCH);
    let mut batch: Vec<WriteJob> = q.records.drain(..records).collect();
    batch.extend(q.events.drain(..events));
    q.under_way = batch.len();
    (batch, q.closing)
}

/// Writes a batch, however long the database is locked or the disk full. `false`: given up at the program's end.
async fn write_all(store: &Store, shared: &Shared, batch: &[WriteJob]) -> bool {
    let (mut pause, mut last_tries) = (FIRST_PAUSE, LAST_TRIES);
    loop {
        match store.write_batch(batch).await {
            Ok(()) => {
                shared.written.fetch_add(batch.len() as u64, Ordering::Relaxed);
                shared.failing.store(false, Ordering::Relaxed);
                return true;
            }
            Err(e) if e.is_passing() => {
                shared.retries.fetch_add(1, Ordering::Relaxed);
                shared.failing.store(true, Ordering::Relaxed);
                if shared.lock().closing {
                    last_tries -= 1;
                    if last_tries == 0 {
                        tracing::error!(left = batch.len(), error = %e, "gave up writing at the end of the program");
                        return false;
                    }
                }
                tracing::warn!(waiting = batch.len(), error = %e, "the database does not take records now; trying on");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(_) if batch.len() > 1 => {
                // One job is at fault: write the others without it.
                for job in batch {
                    if !Box::pin(write_all(store, shared, std::slice::from_ref(job))).await {
                        return false;
                    }
                }
                return true;
            }
            Err(e) => {
                shared.rejected.fetch_add(1, Ordering::Relaxed);
                tracing::error!(error = %e, "the database will never take this record");
                return true;
            }
        }
    }
}

impl Store {
    /// Writes many jobs in one transaction: all or none.
    pub async fn write_batch(&self, jobs: &[WriteJob]) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for job in jobs {
            write_job(&mut tx, job).await?;
        }
        Ok(tx.commit().await?)
    }
}

async fn write_job(c: &mut SqliteConnection, job: &WriteJob) -> Result<(), StoreError> {
    match job {
        WriteJob::Begin(call) => calls::begin(c, call).await,
        WriteJob::Turn(id, turn) => calls::write_turn(c, *id, turn).await,
        WriteJob::Transfer(id, transfer) => calls::write_transfer(c, *id, transfer).await,
        WriteJob::Recording(id, path) => calls::write_recording(c, *id, path).await,
        WriteJob::End(id, record, extras) => calls::end(c, *id, record, extras).await.map(|_| ()),
        WriteJob::Event(id, at_ms, event) => calls::write_event(c, *id, *at_ms, event).await,
    }
}
