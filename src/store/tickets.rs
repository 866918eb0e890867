//! Tickets: at most one for each wish of a call, on disk before anybody is told its number.

use super::{Store, StoreError, calls, new_id, to_json};
use crate::clock::UtcMs;
use crate::crm::calendar::date_compact;
use crate::crm::{Priority, Promise, TICKET_NEW, normalise_phone, ticket_number, ticket_tail};
use crate::dialplan::{TicketDraft, Value};
use crate::ids::{CallId, RequestId};
use crate::pii::Pii;
use sqlx::{Row, SqliteConnection};

impl Store {
    /// Writes a ticket and returns its `id`, `no` and `tail` once it is safe on disk. The same wish (`call`, `request`)
    /// made again returns the ticket it made first.
    ///
    /// A priority the table does not know counts as `P2`: a complaint is not lost over a misspelt flow.
    pub async fn make_ticket(
        &self,
        draft: &TicketDraft,
        call: CallId,
        caller: &Pii,
        request: RequestId,
        now: UtcMs,
    ) -> Result<Value, StoreError> {
        let mut tx = self.begin().await?;
        let made = sqlx::query("SELECT id, no FROM ticket WHERE call_id = ? AND request = ?")
            .bind(call.to_string())
            .bind(request.0)
            .fetch_optional(&mut *tx)
            .await?;
        if let Some(row) = made {
            return Ok(told(row.try_get("id")?, row.try_get("no")?));
        }
        let (id, no) = insert(&mut tx, draft, call, caller, request, now).await?;
        tx.commit().await?;
        Ok(told(id, no))
    }
}

fn told(id: String, no: String) -> Value {
    let tail = ticket_tail(&no).to_string();
    Value::map([("id", Value::Text(id)), ("no", Value::Text(no)), ("tail", Value::Text(tail))])
}

async fn insert(
    c: &mut SqliteConnection,
    draft: &TicketDraft,
    call: CallId,
    caller: &Pii,
    request: RequestId,
    now: UtcMs,
) -> Result<(String, String), StoreError> {
    calls::ensure(c, call).await?;
    let count: u32 = sqlx::query_scalar(
        "INSERT INTO ticket_day (day, last) VALUES (?, 1) ON CONFLICT (day) DO UPDATE SET last = last + 1 RETURNING last",
    )
    .bind(date_compact(now))
    .fetch_one(&mut *c)
    .await?;
    let (id, no) = (new_id(now), ticket_number(now, count));
    let priority = Priority::from_name(&draft.priority).unwrap_or_else(|| {
        tracing::warn!(call = %call, priority = %draft.priority, "unknown ticket priority, P2 taken instead");
        Priority::P2
    });
    let promise = Promise::from_text(&draft.sla, priority.promise());
    let phone = normalise_phone(caller.expose());
    let recorded = draft.recording_ms.map(|(from, to)| (from as i64, to as i64));
    sqlx::query(
        "INSERT INTO ticket (id, no, call_id, request, customer_id, contact, category, priority, state, title, facts,
           sla, created_at, first_due, resolve_due, recording_from_ms, recording_to_ms)
         VALUES (?, ?, ?, ?, (SELECT customer_id FROM contact_point WHERE kind = 'phone' AND value = ?), ?, ?, ?, ?, ?,
           ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&id)
    .bind(&no)
    .bind(call.to_string())
    .bind(request.0)
    .bind(&phone)
    .bind(&phone)
    .bind(&draft.category)
    .bind(priority.name())
    .bind(TICKET_NEW)
    .bind(&draft.title)
    .bind(to_json(&draft.facts).to_string())
    .bind(&draft.sla)
    .bind(now.0)
    .bind(promise.first_due(now).0)
    .bind(promise.resolve_due(now).0)
    .bind(recorded.map(|r| r.0))
    .bind(recorded.map(|r| r.1))
    .execute(&mut *c)
    .await?;
    sqlx::query("INSERT INTO ticket_event (ticket_id, at, actor, kind, note) VALUES (?, ?, 'hotline', 'created', ?)")
        .bind(&id)
        .bind(now.0)
        .bind(format!("{} {}", draft.category, priority.name()))
        .execute(&mut *c)
        .await?;
    Ok((id, no))
}
