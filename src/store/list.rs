//! Reading back: what the demo and the command line print.

use super::orders::order;
use super::{CallRow, Called, EventRow, OrderChangeRow, OrderRow, Store, StoreError, TicketRow, TransferRow, TurnRow};
use crate::ids::CallId;
use crate::pii::Pii;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

type Rows<T> = Result<Vec<T>, StoreError>;

/// The most rows one question gives.
const MOST: u32 = 10_000;

const CALLS: &str = "SELECT call.*, customer.name AS customer, recording.path, recording.duration_ms FROM call
   LEFT JOIN customer ON customer.id = call.customer_id LEFT JOIN recording ON recording.call_id = call.id";

impl Store {
    /// Calls, newest first.
    pub async fn calls(&self, limit: u32) -> Rows<CallRow> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("{CALLS} ORDER BY started_at DESC, call.id DESC LIMIT ?")))
            .bind(limit.min(MOST))
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(call).collect()
    }

    /// One call.
    pub async fn call(&self, id: CallId) -> Result<Option<CallRow>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!("{CALLS} WHERE call.id = ?")))
            .bind(id.to_string())
            .fetch_optional(&self.read)
            .await?;
        row.as_ref().map(call).transpose()
    }

    /// How many calls have no record yet.
    pub async fn open_calls(&self) -> Result<u64, StoreError> {
        let n: i64 =
            sqlx::query_scalar("SELECT count(*) FROM call WHERE ended_at IS NULL").fetch_one(&self.read).await?;
        Ok(n as u64)
    }

    /// A call's turns, in order.
    pub async fn turns(&self, id: CallId) -> Rows<TurnRow> {
        let rows = sqlx::query("SELECT * FROM turn WHERE call_id = ? ORDER BY seq")
            .bind(id.to_string())
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(turn).collect()
    }

    /// A call's events, in order.
    pub async fn events(&self, id: CallId) -> Rows<EventRow> {
        let rows = sqlx::query("SELECT at_ms, kind, data FROM call_event WHERE call_id = ? ORDER BY id LIMIT ?")
            .bind(id.to_string())
            .bind(MOST)
            .fetch_all(&self.read)
            .await?;
        rows.iter()
            .map(|r| Ok(EventRow { at_ms: r.try_get("at_ms")?, kind: r.try_get("kind")?, data: json(r, "data")? }))
            .collect()
    }

    /// Tickets, newest first.
    pub async fn tickets(&self, limit: u32) -> Rows<TicketRow> {
        let rows = sqlx::query(
            "SELECT ticket.*, customer.name AS customer, recording.path FROM ticket
               LEFT JOIN customer ON customer.id = ticket.customer_id
               LEFT JOIN recording ON recording.call_id = ticket.call_id
             ORDER BY ticket.created_at DESC, ticket.no DESC LIMIT ?",
        )
        .bind(limit.min(MOST))
        .fetch_all(&self.read)
        .await?;
        rows.iter().map(ticket).collect()
    }

    /// Orders, newest first.
    pub async fn orders(&self, limit: u32) -> Rows<OrderRow> {
        let rows = sqlx::query("SELECT * FROM orders ORDER BY placed_at DESC, no DESC LIMIT ?")
            .bind(limit.min(MOST))
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(order_row).collect()
    }

    /// What calls did to orders, newest first.
    pub async fn order_changes(&self, limit: u32) -> Rows<OrderChangeRow> {
        let rows = sqlx::query(
            "SELECT e.*, o.no, o.item FROM order_event e JOIN orders o ON o.id = e.order_id ORDER BY e.id DESC LIMIT ?",
        )
        .bind(limit.min(MOST))
        .fetch_all(&self.read)
        .await?;
        rows.iter().map(order_change).collect()
    }

    /// Transfers, newest first.
    pub async fn transfers(&self, limit: u32) -> Rows<TransferRow> {
        let rows = sqlx::query("SELECT * FROM transfer ORDER BY asked_at DESC, call_id DESC, seq DESC LIMIT ?")
            .bind(limit.min(MOST))
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(transfer).collect()
    }
}

fn pii(row: &SqliteRow, column: &str) -> Result<Pii, StoreError> {
    Ok(Pii::new(row.try_get::<String, _>(column)?))
}

fn pii_if_any(row: &SqliteRow, column: &str) -> Result<Option<Pii>, StoreError> {
    Ok(row.try_get::<Option<String>, _>(column)?.map(Pii::new))
}

fn json(row: &SqliteRow, column: &str) -> Result<serde_json::Value, StoreError> {
    let text: String = row.try_get(column)?;
    serde_json::from_str(&text).map_err(|e| StoreError::Corrupt(format!("column {column} holds no JSON: {e}")))
}

fn call(r: &SqliteRow) -> Result<CallRow, StoreError> {
    let flows = json(r, "flows")?;
    let direction: String = r.try_get("direction")?;
    let rtp: Option<String> = r.try_get("rtp")?;
    Ok(CallRow {
        id: r.try_get("id")?,
        sip_call_id: r.try_get("sip_call_id")?,
        from: pii(r, "from_number")?,
        to: Called::new(r.try_get::<String, _>("to_number")?, direction == "out"),
        direction,
        diverted_from: pii_if_any(r, "diverted_from")?,
        diverted_why: r.try_get("diverted_why")?,
        private: r.try_get("private")?,
        customer: pii_if_any(r, "customer")?,
        started_at: r.try_get("started_at")?,
        answered_at: r.try_get("answered_at")?,
        ended_at: r.try_get("ended_at")?,
        outcome: r.try_get("outcome")?,
        cause: r.try_get("cause")?,
        hung_up_by: r.try_get("hung_up_by")?,
        reason: r.try_get("reason")?,
        reason_zh: r.try_get("reason_zh")?,
        steps: r.try_get("steps")?,
        retries: r.try_get("retries")?,
        verify_questions: r.try_get("verify_questions")?,
        turns: r.try_get("turns")?,
        flows: serde_json::from_value(flows).map_err(|e| StoreError::Corrupt(e.to_string()))?,
        bridged: r.try_get("bridged")?,
        flow_set: r.try_get("flow_set")?,
        rtp: rtp.map(|t| serde_json::from_str(&t)).transpose().map_err(|e| StoreError::Corrupt(e.to_string()))?,
        codec: r.try_get("codec")?,
        loss_pct: r.try_get("loss_pct")?,
        jitter_ms: r.try_get("jitter_ms")?,
        mos: r.try_get("mos")?,
        recording: r.try_get("path")?,
        recording_ms: r.try_get::<Option<u32>, _>("duration_ms")?.filter(|&ms| ms > 0),
    })
}

fn turn(r: &SqliteRow) -> Result<TurnRow, StoreError> {
    Ok(TurnRow {
        seq: r.try_get("seq")?,
        at_ms: r.try_get("at_ms")?,
        flow: r.try_get("flow")?,
        node: r.try_get("node")?,
        step: r.try_get("step")?,
        heard: r.try_get("heard")?,
        by_keys: r.try_get("by_keys")?,
        confidence: r.try_get("confidence")?,
        intent: r.try_get("intent")?,
        score: r.try_get("score")?,
        emotion: r.try_get("emotion")?,
        barge_in: r.try_get("barge_in")?,
        reply: r.try_get("reply")?,
        endpoint_ms: r.try_get("endpoint_ms")?,
        recognise_ms: r.try_get("recognise_ms")?,
        understand_ms: r.try_get("understand_ms")?,
        act_ms: r.try_get("act_ms")?,
        first_audio_ms: r.try_get("first_audio_ms")?,
    })
}

fn ticket(r: &SqliteRow) -> Result<TicketRow, StoreError> {
    Ok(TicketRow {
        id: r.try_get("id")?,
        no: r.try_get("no")?,
        call_id: r.try_get("call_id")?,
        customer: pii_if_any(r, "customer")?,
        contact: pii(r, "contact")?,
        category: r.try_get("category")?,
        priority: r.try_get("priority")?,
        state: r.try_get("state")?,
        title: r.try_get("title")?,
        facts: json(r, "facts")?,
        sla: r.try_get("sla")?,
        created_at: r.try_get("created_at")?,
        first_due: r.try_get("first_due")?,
        resolve_due: r.try_get("resolve_due")?,
        recording: r.try_get("path")?,
        recording_from_ms: r.try_get("recording_from_ms")?,
        recording_to_ms: r.try_get("recording_to_ms")?,
    })
}

fn order_row(r: &SqliteRow) -> Result<OrderRow, StoreError> {
    let o = order(r)?;
    Ok(OrderRow {
        tail: o.tail().to_string(),
        status: o.status.name().into(),
        status_text: o.status.status_text().into(),
        id: o.id,
        no: o.no,
        item: o.item,
        amount_cents: o.amount_cents,
        eta: o.eta,
        address: o.address,
        receiver: o.receiver,
        phone: o.phone,
        urged: o.urged,
    })
}

fn order_change(r: &SqliteRow) -> Result<OrderChangeRow, StoreError> {
    Ok(OrderChangeRow {
        no: r.try_get("no")?,
        item: r.try_get("item")?,
        call_id: r.try_get("call_id")?,
        at: r.try_get("at")?,
        kind: r.try_get("kind")?,
        was: pii_if_any(r, "was")?,
        became: pii_if_any(r, "became")?,
    })
}

fn transfer(r: &SqliteRow) -> Result<TransferRow, StoreError> {
    Ok(TransferRow {
        call_id: r.try_get("call_id")?,
        seq: r.try_get("seq")?,
        queue: r.try_get("queue")?,
        skill: r.try_get("skill")?,
        warm: r.try_get("warm")?,
        briefing: r.try_get("briefing")?,
        seat: r.try_get("seat")?,
        asked_at: r.try_get("asked_at")?,
        bridged_at: r.try_get("bridged_at")?,
        returned_at: r.try_get("returned_at")?,
        result: r.try_get("result")?,
    })
}
