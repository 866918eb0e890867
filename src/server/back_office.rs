//! What a call wants of the database: its caller's profile, business actions, tickets. Each is a task with a limit.

use super::shard::ShardCommand;
use super::switchboard::{Arrival, Switchboard};
use super::time::utc;
use crate::call::CallInput;
use crate::dialplan::{ActionCall, TicketDraft, Value};
use crate::ids::{CallId, RequestId};
use std::time::Duration;

/// How long a caller's profile may take before the call goes on without it.
const PROFILE_WAIT: Duration = Duration::from_millis(400);

impl Switchboard {
    pub(super) fn look_up(&self, call: CallId, phone: String) {
        let (store, arrivals) = (self.p.store.clone(), self.arrivals.0.clone());
        tokio::spawn(async move {
            let profile = match tokio::time::timeout(PROFILE_WAIT, store.profile(&phone)).await {
                Ok(Ok(profile)) => profile,
                Ok(Err(e)) => {
                    tracing::warn!(%call, "no profile: {e}");
                    Value::Null
                }
                Err(_) => Value::Null,
            };
            let _shutting_down = arrivals.send(Arrival { call, profile }).await;
        });
    }

    pub(super) fn act(&self, call: CallId, request: RequestId, action: ActionCall) {
        let Some(line) = self.lines.get(&call) else { return };
        let (store, shard) = (self.p.store.clone(), line.shard.clone());
        tokio::spawn(async move {
            let limit = Duration::from_millis(u64::from(action.timeout_ms));
            let done =
                tokio::time::timeout(limit, store.act(&action.name, &action.args, action.proved, call, utc())).await;
            let (outcome, data) = match done {
                Ok(done) => (done.outcome, done.data),
                Err(_) => ("timeout".into(), Value::Null),
            };
            shard.send(ShardCommand::Input { call, input: CallInput::ActionDone { request, outcome, data } });
        });
    }

    pub(super) fn make_ticket(&self, call: CallId, request: RequestId, draft: TicketDraft) {
        let Some(line) = self.lines.get(&call) else { return };
        let (store, shard, from) = (self.p.store.clone(), line.shard.clone(), line.from.clone());
        tokio::spawn(async move {
            let limit = Duration::from_secs(5);
            let made = tokio::time::timeout(limit, store.make_ticket(&draft, call, &from, request, utc())).await;
            let ticket = match made {
                Ok(Ok(ticket)) => Some(ticket),
                Ok(Err(e)) => {
                    tracing::error!(%call, "a ticket could not be written: {e}");
                    None
                }
                Err(_) => None,
            };
            shard.send(ShardCommand::Input { call, input: CallInput::TicketDone { request, ticket } });
        });
    }
}
