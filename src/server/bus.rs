//! What happens in calls, for everybody who watches: bounded, and never waited for.

use crate::call::{CallEvent, CallRecord};
use crate::clock::UtcMs;
use crate::ids::CallId;
use tokio::sync::broadcast;

/// One thing that happened.
#[derive(Debug, Clone)]
pub struct Notice {
    /// In which call.
    pub call: CallId,
    /// The calling number, masked by its type.
    pub from: crate::pii::Pii,
    /// When.
    pub at: UtcMs,
    /// What.
    pub what: News,
}

/// The kinds of notices.
#[derive(Debug, Clone)]
pub enum News {
    /// An event of the call machine.
    Event(CallEvent),
    /// The call is over.
    Finished(Box<CallRecord>),
}

/// The event bus. A slow reader loses the oldest notices and is told how many.
#[derive(Clone)]
pub struct Bus(broadcast::Sender<Notice>);

impl Bus {
    /// A bus that keeps this many notices for slow readers.
    pub fn new(capacity: usize) -> Self {
        Bus(broadcast::channel(capacity).0)
    }

    /// Tells everybody who listens.
    pub fn publish(&self, notice: Notice) {
        let _nobody_listens = self.0.send(notice);
    }

    /// Starts to listen.
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.0.subscribe()
    }
}
