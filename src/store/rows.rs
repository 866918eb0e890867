//! Rows as the demo, the command line and later the consoles print them. Personal data stays masked when serialised;
//! [`Pii::expose`] is there for who must show it.

use super::Called;
use crate::pii::{Pii, mask};
use serde::{Serialize, Serializer};
use serde_json::Value as Json;

fn masked<S: Serializer>(p: &Pii, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(p)
}

fn masked_if_any<S: Serializer>(p: &Option<Pii>, s: S) -> Result<S::Ok, S::Error> {
    match p {
        Some(p) => s.collect_str(p),
        None => s.serialize_none(),
    }
}

/// What an administrator's ticket needs to say of the call itself: words of the flows, never of the caller.
const IMPERSONAL: [&str; 8] = ["flow", "node", "intent", "verify_level", "emotion", "tried", "steps", "turns"];

/// Facts keep what the flow says of itself; whatever came from the caller (number, slots, whatever a flow adds later)
/// is masked: a flow names its slots as it likes, so no list of personal names could be whole.
fn masked_facts<S: Serializer>(facts: &Json, s: S) -> Result<S::Ok, S::Error> {
    match facts {
        Json::Object(fields) => s.collect_map(fields.iter().map(|(k, v)| {
            let shown = if IMPERSONAL.contains(&k.as_str()) { v.clone() } else { all_masked(v) };
            (k, shown)
        })),
        other => all_masked(other).serialize(s),
    }
}

fn all_masked(value: &Json) -> Json {
    match value {
        Json::Null | Json::Bool(_) => value.clone(),
        Json::Number(n) => Json::String(mask(&n.to_string())),
        Json::String(text) => Json::String(mask(text)),
        Json::Array(items) => items.iter().map(all_masked).collect(),
        Json::Object(fields) => fields.iter().map(|(k, v)| (k.clone(), all_masked(v))).collect(),
    }
}

/// A call and its record. Times in ms since 1970 UTC.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CallRow {
    /// ULID text.
    pub id: String,
    /// SIP `Call-ID`.
    pub sip_call_id: String,
    /// Caller.
    #[serde(serialize_with = "masked")]
    pub from: Pii,
    /// Number dialled.
    pub to: Called,
    /// `in`: somebody called us; `out`: a seat called outside.
    pub direction: String,
    /// The number that was dialled first and forwarded to us.
    #[serde(serialize_with = "masked_if_any")]
    pub diverted_from: Option<Pii>,
    /// Why, as the network says: `no-answer`, `user-busy`.
    pub diverted_why: Option<String>,
    /// The caller asked that the number be shown to nobody.
    pub private: bool,
    /// The caller's name, when known.
    #[serde(serialize_with = "masked_if_any")]
    pub customer: Option<Pii>,
    /// When it came.
    pub started_at: i64,
    /// When it was answered.
    pub answered_at: Option<i64>,
    /// When it ended; `None` while it lasts.
    pub ended_at: Option<i64>,
    /// `resolved`, `ticketed`, `transferred`, `abandoned`, `failed`.
    pub outcome: Option<String>,
    /// Q.850 cause.
    pub cause: Option<u16>,
    /// `caller`, `seat`, `us`.
    pub hung_up_by: Option<String>,
    /// A sentence, in English.
    pub reason: Option<String>,
    /// The same in Chinese.
    pub reason_zh: Option<String>,
    /// Caller steps used.
    pub steps: u8,
    /// Retries.
    pub retries: u8,
    /// Verification questions.
    pub verify_questions: u8,
    /// Turns.
    pub turns: u32,
    /// Flows entered, in order.
    pub flows: Vec<String>,
    /// Whether a seat spoke with the caller.
    pub bridged: bool,
    /// Content hash of the flows.
    pub flow_set: Option<String>,
    /// Media figures.
    pub rtp: Option<Json>,
    /// The caller's codec, such as `PCMA`.
    pub codec: Option<String>,
    /// Of the caller's packets, those that could not be played, in percent.
    pub loss_pct: Option<f64>,
    /// Interarrival jitter of the caller's packets.
    pub jitter_ms: Option<f64>,
    /// How the caller was heard: opinion score, 1 to 4.5, estimated.
    pub mos: Option<f64>,
    /// Path of the stereo recording.
    pub recording: Option<String>,
    /// Its length in milliseconds, once the call has ended.
    pub recording_ms: Option<u32>,
}

/// A turn with its timings in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TurnRow {
    /// Its number within the call.
    pub seq: u32,
    /// From the call's answer.
    pub at_ms: i64,
    /// Flow.
    pub flow: String,
    /// Node.
    pub node: String,
    /// Caller steps used after it.
    pub step: u8,
    /// Words or keys.
    pub heard: String,
    /// Whether it was keys.
    pub by_keys: bool,
    /// 0.0..=1.0
    pub confidence: f64,
    /// Meaning.
    pub intent: String,
    /// 0.0..=1.0
    pub score: f64,
    /// `neutral`, `negative`, `strongly_negative`.
    pub emotion: String,
    /// Whether we were interrupted.
    pub barge_in: bool,
    /// What we answered, masked.
    pub reply: String,
    /// To the decision that the utterance is over.
    pub endpoint_ms: u32,
    /// To the transcript.
    pub recognise_ms: u32,
    /// To the meaning.
    pub understand_ms: u32,
    /// To the answer.
    pub act_ms: u32,
    /// To its first sample.
    pub first_audio_ms: u32,
}

impl TurnRow {
    /// What the caller waited, in milliseconds.
    pub const fn total_ms(&self) -> u32 {
        self.endpoint_ms + self.recognise_ms + self.understand_ms + self.act_ms + self.first_audio_ms
    }
}

/// An event of a call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventRow {
    /// From the call's start.
    pub at_ms: i64,
    /// One word.
    pub kind: String,
    /// Its fields.
    pub data: Json,
}

/// A ticket. Times in ms since 1970 UTC.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TicketRow {
    /// ULID text.
    pub id: String,
    /// `20261120-0007`
    pub no: String,
    /// The call it came from.
    pub call_id: String,
    /// The customer's name, when known.
    #[serde(serialize_with = "masked_if_any")]
    pub customer: Option<Pii>,
    /// The number to call back.
    #[serde(serialize_with = "masked")]
    pub contact: Pii,
    /// Such as `投诉`.
    pub category: String,
    /// `P0`..=`P3`
    pub priority: String,
    /// `new`
    pub state: String,
    /// One line.
    pub title: String,
    /// Flow, slots, what was tried.
    #[serde(serialize_with = "masked_facts")]
    pub facts: Json,
    /// The promise, as written.
    pub sla: String,
    /// When written.
    pub created_at: i64,
    /// When the first answer is due.
    pub first_due: i64,
    /// When the end is due.
    pub resolve_due: i64,
    /// Recording of the call.
    pub recording: Option<String>,
    /// Where the caller's own words begin in it, in milliseconds.
    pub recording_from_ms: Option<i64>,
    /// Where they end.
    pub recording_to_ms: Option<i64>,
}

/// An order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OrderRow {
    /// ULID text.
    pub id: String,
    /// Its number.
    pub no: String,
    /// The last four of it.
    pub tail: String,
    /// What was bought.
    pub item: String,
    /// In cents.
    pub amount_cents: i64,
    /// `packing` …
    pub status: String,
    /// As said.
    pub status_text: String,
    /// `2026-11-22`
    pub eta: String,
    /// Where it goes.
    #[serde(serialize_with = "masked")]
    pub address: Pii,
    /// Who receives it.
    #[serde(serialize_with = "masked")]
    pub receiver: Pii,
    /// Number it was ordered with.
    #[serde(serialize_with = "masked")]
    pub phone: Pii,
    /// How often we were hurried.
    pub urged: i64,
}

/// What a call did to an order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OrderChangeRow {
    /// The order's number.
    pub no: String,
    /// What was bought.
    pub item: String,
    /// The call.
    pub call_id: Option<String>,
    /// When, in ms since 1970 UTC.
    pub at: i64,
    /// `address_changed`, `urged`.
    pub kind: String,
    /// Before.
    #[serde(serialize_with = "masked_if_any")]
    pub was: Option<Pii>,
    /// After.
    #[serde(serialize_with = "masked_if_any")]
    pub became: Option<Pii>,
}

/// A transfer. Times in ms since 1970 UTC.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TransferRow {
    /// The call.
    pub call_id: String,
    /// First transfer of the call is 1.
    pub seq: u32,
    /// Queue.
    pub queue: String,
    /// Skill.
    pub skill: Option<String>,
    /// Whether the seat was briefed first.
    pub warm: bool,
    /// The briefing, masked.
    pub briefing: String,
    /// The seat's user name.
    pub seat: Option<String>,
    /// When decided.
    pub asked_at: i64,
    /// When joined.
    pub bridged_at: Option<i64>,
    /// When the caller was back with us.
    pub returned_at: Option<i64>,
    /// `connected`, `busy`, `timeout`, `closed`, `cancelled`; `None` while it lasts.
    pub result: Option<String>,
}
