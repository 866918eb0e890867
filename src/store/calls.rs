//! Calls as rows: begun, described while they last, ended exactly once.

use super::{Called, Store, StoreError};
use crate::call::{CallEvent, CallRecord, EndReason, Facts, HungUpBy, Turn, Why};
use crate::clock::{Mono, UtcMs};
use crate::crm::normalise_phone;
use crate::dialplan::{Emotion, TransferResult};
use crate::ids::{CallId, Leg};
use crate::pii::Pii;
use crate::rtp::{Ignored, Quality, Stats};
use serde_json::{Value as Json, json};
use sqlx::SqliteConnection;

/// A call that was admitted.
#[derive(Debug, Clone, PartialEq)]
pub struct NewCall {
    /// Its id.
    pub id: CallId,
    /// The caller's number as the INVITE gives it.
    pub from: Pii,
    /// The number dialled.
    pub to: Called,
    /// SIP `Call-ID`.
    pub sip_call_id: String,
    /// When the INVITE came.
    pub at: UtcMs,
    /// Where it comes from, as the network tells it.
    pub origin: Box<Origin>,
}

/// What a call's row says of its origin.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Origin {
    /// A seat calls outside; else somebody calls us.
    pub outward: bool,
    /// The number that was dialled first and forwarded to us, and why it was (`no-answer`, `user-busy`).
    pub diverted: Option<(Pii, Option<String>)>,
    /// The caller asks that the number be shown to nobody.
    pub private: bool,
}

/// What is known of a call besides its record.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CallExtras {
    /// Content hash of the published flows that served it.
    pub flow_set: Option<String>,
    /// The stereo recording's path and length in milliseconds.
    pub recording: Option<(String, u32)>,
    /// The media.
    pub media: Option<CallMedia>,
}

/// How a call's legs did.
#[derive(Debug, Clone, PartialEq)]
pub struct CallMedia {
    /// The caller's codec, by its RTP name.
    pub codec: &'static str,
    /// The caller's leg.
    pub caller: Box<Stats>,
    /// The last seat's leg, if one had media.
    pub seat: Option<Box<Stats>>,
}

/// A transfer as far as it got. Written again as it goes on; the last writing wins.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTransfer {
    /// First transfer of the call is 1.
    pub seq: u32,
    /// Queue.
    pub queue: String,
    /// Skill asked for.
    pub skill: Option<String>,
    /// Whether the seat is briefed before the caller hears it.
    pub warm: bool,
    /// The briefing, masked.
    pub briefing: String,
    /// The seat's user name, once chosen.
    pub seat: Option<String>,
    /// When it was decided.
    pub asked_at: UtcMs,
    /// When caller and seat heard each other.
    pub bridged_at: Option<UtcMs>,
    /// When the seat had hung up and the caller was back with us.
    pub returned_at: Option<UtcMs>,
    /// How it ended; `None` while it lasts.
    pub result: Option<TransferResult>,
}

/// A leg's media figures as they stand in the call's row.
fn rtp_figures(s: &Stats) -> Json {
    json!({
        "packets_in": s.packets_in, "packets_out": s.packets_out, "lost": s.lost, "late": s.late,
        "duplicates": s.duplicates, "jitter_ms": s.jitter_ms, "delay_ms": s.delay_ms, "rtt_ms": s.rtt_ms,
        "concealed_ms": s.concealed_ms, "remote_loss": s.remote_loss, "keys_in": s.keys_in,
        "unauthentic": s.ignored(Ignored::Unauthentic), "heard": s.heard.map(quality), "told": s.told.map(quality),
    })
}

fn quality(q: Quality) -> Json {
    json!({
        "loss": figure(q.loss), "burst": figure(q.burst), "delay_ms": figure(q.delay_ms), "r": figure(q.r),
        "mos": figure(q.mos),
    })
}

impl CallMedia {
    /// Both legs, the seat's within the caller's.
    fn figures(&self) -> Json {
        let mut figures = rtp_figures(&self.caller);
        if let Some(seat) = &self.seat {
            figures["seat"] = rtp_figures(seat);
        }
        figures
    }
}

impl Store {
    /// Writes that a call has begun.
    pub async fn begin_call(&self, call: &NewCall) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        begin(&mut tx, call).await?;
        Ok(tx.commit().await?)
    }

    /// Writes a call's one record. `false`: it had one already, and that one stays.
    pub async fn end_call(&self, id: CallId, record: &CallRecord, extras: &CallExtras) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let first = end(&mut tx, id, record, extras).await?;
        tx.commit().await?;
        Ok(first)
    }

    /// Writes a turn; a turn of the same number is replaced (its last timing is known later than its words).
    pub async fn write_turn(&self, id: CallId, turn: &Turn) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        write_turn(&mut tx, id, turn).await?;
        Ok(tx.commit().await?)
    }

    /// Writes an event, `at_ms` milliseconds after the call was offered.
    pub async fn write_event(&self, id: CallId, at_ms: u64, event: &CallEvent) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        write_event(&mut tx, id, at_ms, event).await?;
        Ok(tx.commit().await?)
    }

    /// Writes where the call's recording lies, as soon as that has begun.
    pub async fn write_recording(&self, id: CallId, path: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        write_recording(&mut tx, id, path).await?;
        Ok(tx.commit().await?)
    }

    /// Writes a transfer, or what has become of one.
    pub async fn write_transfer(&self, id: CallId, transfer: &NewTransfer) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        write_transfer(&mut tx, id, transfer).await?;
        Ok(tx.commit().await?)
    }

    /// Closes the records that a killed process left open (outcome `failed`), and says how many. To be run at the
    /// start, before the first call. The end is the last thing known of the call; the recording counts as long as it.
    pub async fn recover(&self) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let reason = EndReason::of(Why::ProgramStopped, &Facts::default());
        let closed = sqlx::query(
            "UPDATE call SET outcome = 'failed', cause = ?, hung_up_by = ?, reason = ?, reason_zh = ?,
               turns = (SELECT count(*) FROM turn WHERE turn.call_id = call.id),
               ended_at = started_at + max(coalesce(answered_at - started_at, 0),
                 coalesce((SELECT max(at_ms) FROM call_event WHERE call_event.call_id = call.id), 0))
             WHERE ended_at IS NULL",
        )
        .bind(reason.cause)
        .bind(by_name(reason.by))
        .bind(&reason.sentence)
        .bind(&reason.zh)
        .execute(&mut *tx)
        .await?
        .rows_affected();
        sqlx::query(
            "UPDATE recording SET duration_ms = (SELECT ended_at - started_at FROM call WHERE call.id = call_id)
             WHERE duration_ms = 0 AND call_id IN (SELECT id FROM call WHERE ended_at IS NOT NULL)",
        )
        .execute(&mut *tx)
        .await?;
        // A seat that was being called, or spoke, when the program stopped.
        sqlx::query(
            "UPDATE transfer SET result = CASE WHEN bridged_at IS NULL THEN 'cancelled' ELSE 'connected' END
             WHERE result IS NULL AND call_id IN (SELECT id FROM call WHERE ended_at IS NOT NULL)",
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(closed)
    }
}

/// Makes sure that a call's row is there for others to point at: a ticket may be written directly while the call's own
/// beginning still waits in the writer's queue.
pub(super) async fn ensure(c: &mut SqliteConnection, id: CallId) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO call (id, started_at) VALUES (?, ?) ON CONFLICT (id) DO NOTHING")
        .bind(id.to_string())
        .bind(id.0.timestamp_ms() as i64)
        .execute(c)
        .await?;
    Ok(())
}

pub(super) async fn begin(c: &mut SqliteConnection, call: &NewCall) -> Result<(), StoreError> {
    let origin = &call.origin;
    sqlx::query(
        "INSERT INTO call (id, sip_call_id, from_number, to_number, started_at, customer_id, direction, diverted_from,
           diverted_why, private)
         VALUES (?, ?, ?, ?, ?, (SELECT customer_id FROM contact_point WHERE kind = 'phone' AND value = ?), ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET sip_call_id = excluded.sip_call_id, from_number = excluded.from_number,
           to_number = excluded.to_number, started_at = excluded.started_at, customer_id = excluded.customer_id,
           direction = excluded.direction, diverted_from = excluded.diverted_from, diverted_why = excluded.diverted_why,
           private = excluded.private",
    )
    .bind(call.id.to_string())
    .bind(&call.sip_call_id)
    .bind(call.from.expose())
    .bind(call.to.expose())
    .bind(call.at.0)
    .bind(normalise_phone(if origin.outward { call.to.expose() } else { call.from.expose() }))
    .bind(if origin.outward { "out" } else { "in" })
    .bind(origin.diverted.as_ref().map(|(number, _)| number.expose()))
    .bind(origin.diverted.as_ref().and_then(|(_, why)| why.as_deref()))
    .bind(origin.private)
    .execute(c)
    .await?;
    Ok(())
}

pub(super) async fn end(
    c: &mut SqliteConnection,
    id: CallId,
    record: &CallRecord,
    extras: &CallExtras,
) -> Result<bool, StoreError> {
    ensure(c, id).await?;
    let after = |at: Mono| at.ms_since(record.offered) as i64;
    let heard = extras.media.as_ref().and_then(|m| m.caller.heard);
    let done = sqlx::query(
        "UPDATE call SET answered_at = started_at + ?, ended_at = started_at + ?, outcome = ?, cause = ?,
           hung_up_by = ?, reason = ?, reason_zh = ?, steps = ?, retries = ?, verify_questions = ?, turns = ?, flows = ?,
           bridged = ?, flow_set = ?, rtp = ?, codec = ?, loss_pct = ?, jitter_ms = ?, mos = ?
         WHERE id = ? AND ended_at IS NULL",
    )
    .bind(record.answered.map(after))
    .bind(after(record.ended))
    .bind(record.outcome.name())
    .bind(record.reason.cause)
    .bind(by_name(record.reason.by))
    .bind(&record.reason.sentence)
    .bind(&record.reason.zh)
    .bind(record.steps)
    .bind(record.retries)
    .bind(record.verify_questions)
    .bind(record.turns)
    .bind(json!(record.flows).to_string())
    .bind(record.bridged)
    .bind(&extras.flow_set)
    .bind(extras.media.as_ref().map(|m| m.figures().to_string()))
    .bind(extras.media.as_ref().map(|m| m.codec).filter(|name| !name.is_empty()))
    .bind(heard.map(|q| figure(q.loss * 100.0)))
    .bind(extras.media.as_ref().map(|m| figure(m.caller.jitter_ms)))
    .bind(heard.map(|q| figure(q.mos)))
    .bind(id.to_string())
    .execute(&mut *c)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    if let Some((path, duration_ms)) = &extras.recording {
        sqlx::query(
            "INSERT INTO recording (call_id, path, duration_ms, created_at)
             SELECT id, ?, ?, ended_at FROM call WHERE id = ?
             ON CONFLICT (call_id) DO UPDATE SET duration_ms = excluded.duration_ms",
        )
        .bind(path)
        .bind(duration_ms)
        .bind(id.to_string())
        .execute(c)
        .await?;
    }
    Ok(true)
}

pub(super) async fn write_turn(c: &mut SqliteConnection, id: CallId, t: &Turn) -> Result<(), StoreError> {
    ensure(c, id).await?;
    sqlx::query(
        "INSERT OR REPLACE INTO turn (call_id, seq, at_ms, flow, node, step, heard, by_keys, confidence, intent, score,
           emotion, barge_in, reply, endpoint_ms, recognise_ms, understand_ms, act_ms, first_audio_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(id.to_string())
    .bind(t.id.0)
    .bind(t.at_ms as i64)
    .bind(&t.flow)
    .bind(&t.node)
    .bind(t.step)
    .bind(&t.heard)
    .bind(t.keys)
    .bind(figure(t.confidence))
    .bind(&t.intent)
    .bind(figure(t.score))
    .bind(emotion_name(t.emotion))
    .bind(t.barge_in)
    .bind(&t.reply)
    .bind(t.timings.endpoint)
    .bind(t.timings.recognise)
    .bind(t.timings.understand)
    .bind(t.timings.act)
    .bind(t.timings.first_audio)
    .execute(c)
    .await?;
    Ok(())
}

pub(super) async fn write_event(
    c: &mut SqliteConnection,
    id: CallId,
    at_ms: u64,
    event: &CallEvent,
) -> Result<(), StoreError> {
    ensure(c, id).await?;
    let (kind, data) = describe(event);
    sqlx::query("INSERT INTO call_event (call_id, at_ms, kind, data) VALUES (?, ?, ?, ?)")
        .bind(id.to_string())
        .bind(at_ms as i64)
        .bind(kind)
        .bind(data.to_string())
        .execute(&mut *c)
        .await?;
    match event {
        CallEvent::Answered => answered(c, id, at_ms).await,
        CallEvent::Node { flow, .. } => entered(c, id, flow).await,
        _ => Ok(()),
    }
}

/// A killed process writes no record at the end, so what the call's row must say is there as soon as it is known.
async fn answered(c: &mut SqliteConnection, id: CallId, at_ms: u64) -> Result<(), StoreError> {
    sqlx::query("UPDATE call SET answered_at = started_at + ? WHERE id = ? AND ended_at IS NULL")
        .bind(at_ms as i64)
        .bind(id.to_string())
        .execute(c)
        .await?;
    Ok(())
}

/// A flow that the call is in now, and was not in a moment ago.
async fn entered(c: &mut SqliteConnection, id: CallId, flow: &str) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE call SET flows = json_insert(flows, '$[#]', ?1)
         WHERE id = ?2 AND ended_at IS NULL AND (flows ->> '$[#-1]') IS NOT ?1",
    )
    .bind(flow)
    .bind(id.to_string())
    .execute(c)
    .await?;
    Ok(())
}

/// The recording's length is known at the end; until then it is 0.
pub(super) async fn write_recording(c: &mut SqliteConnection, id: CallId, path: &str) -> Result<(), StoreError> {
    ensure(c, id).await?;
    sqlx::query(
        "INSERT INTO recording (call_id, path, duration_ms, created_at)
         SELECT id, ?, 0, started_at FROM call WHERE id = ? ON CONFLICT (call_id) DO NOTHING",
    )
    .bind(path)
    .bind(id.to_string())
    .execute(c)
    .await?;
    Ok(())
}

pub(super) async fn write_transfer(c: &mut SqliteConnection, id: CallId, t: &NewTransfer) -> Result<(), StoreError> {
    ensure(c, id).await?;
    sqlx::query(
        "INSERT OR REPLACE INTO transfer (call_id, seq, queue, skill, warm, briefing, seat, asked_at, bridged_at,
           returned_at, result)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(id.to_string())
    .bind(t.seq)
    .bind(&t.queue)
    .bind(&t.skill)
    .bind(t.warm)
    .bind(&t.briefing)
    .bind(&t.seat)
    .bind(t.asked_at.0)
    .bind(t.bridged_at.map(|at| at.0))
    .bind(t.returned_at.map(|at| at.0))
    .bind(t.result.map(TransferResult::name))
    .execute(c)
    .await?;
    Ok(())
}

/// A score as SQLite can keep it (NaN would be stored as NULL), rounded to what it is worth.
fn figure(x: f32) -> f64 {
    if x.is_finite() { (f64::from(x) * 10_000.0).round() / 10_000.0 } else { 0.0 }
}

pub(super) const fn by_name(by: HungUpBy) -> &'static str {
    match by {
        HungUpBy::Caller => "caller",
        HungUpBy::Seat => "seat",
        HungUpBy::Us => "us",
    }
}

const fn emotion_name(e: Emotion) -> &'static str {
    match e {
        Emotion::Neutral => "neutral",
        Emotion::Negative => "negative",
        Emotion::StronglyNegative => "strongly_negative",
    }
}

/// An event as a word and JSON fields: the shape of the `call_event` table and of `--json` output.
pub(super) fn describe(event: &CallEvent) -> (&'static str, Json) {
    match event {
        CallEvent::Offered => ("offered", json!({})),
        CallEvent::Answered => ("answered", json!({})),
        CallEvent::Node { flow, node, step } => ("node", json!({"flow": flow, "node": node, "step": step})),
        CallEvent::PromptStarted { shown } => ("prompt_started", json!({"shown": shown})),
        CallEvent::PromptEnded { played_ms, interrupted } => {
            ("prompt_ended", json!({"played_ms": played_ms, "interrupted": interrupted}))
        }
        CallEvent::SpeechStarted => ("speech_started", json!({})),
        CallEvent::SpeechEnded { speech_ms } => ("speech_ended", json!({"speech_ms": speech_ms})),
        CallEvent::Ignored { heard } => ("speech_ignored", json!({"heard": heard})),
        CallEvent::NoInput => ("no_input", json!({})),
        CallEvent::Key(key) => ("key", json!({"key": key.to_string()})),
        CallEvent::TurnDone(turn) => ("turn", json!({"seq": turn.id.0, "intent": turn.intent})),
        CallEvent::Action { name, outcome, ms } => ("action", json!({"name": name, "outcome": outcome, "ms": ms})),
        CallEvent::Ticket { no, category } => ("ticket", json!({"no": no, "category": category})),
        CallEvent::Transfer { stage, ms } => {
            ("transfer", json!({"stage": format!("{stage:?}").to_lowercase(), "ms": ms}))
        }
        CallEvent::Hold { leg, held } => {
            let leg = match leg {
                Leg::Caller => "caller",
                Leg::Seat => "seat",
                Leg::Supervisor => "supervisor",
            };
            ("hold", json!({"leg": leg, "held": held}))
        }
        CallEvent::Recording { on, by, at_ms } => {
            ("recording", json!({"on": on, "by": by.map_or("flow", |_| "seat"), "at_ms": at_ms}))
        }
        CallEvent::LegFailed { reason: r, .. } => {
            ("leg_failed", json!({"cause": r.cause, "reason": r.sentence, "reason_zh": r.zh}))
        }
        CallEvent::Supervisor { user, mode } => {
            ("supervisor", json!({"user": user, "mode": mode.map_or("left", |m| m.name())}))
        }
        CallEvent::Trouble(what) => ("trouble", json!({"what": what})),
        CallEvent::Ended(r) => {
            ("ended", json!({"cause": r.cause, "by": by_name(r.by), "reason": r.sentence, "reason_zh": r.zh}))
        }
    }
}
