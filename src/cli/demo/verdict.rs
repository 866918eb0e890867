//! The end of the demo: the rows in the database, and whether every call ended as it should.

use super::show::Line;
use super::{Casting, Ending};
use crate::pii::Pii;
use crate::server::Hotline;
use crate::store::{CallRow, OrderChangeRow, Store, TicketRow, TurnRow};
use serde_json::{Value as Json, json};
use std::path::Path;
use tokio::sync::mpsc;

/// Prints the records and says whether all is as it should be (`played`: the phones did their part).
pub async fn print(
    hotline: &Hotline,
    data: &Path,
    castings: &[Casting],
    endings: &[Ending],
    played: bool,
    lines: &mpsc::Sender<Line>,
) -> anyhow::Result<bool> {
    let store = hotline.store();
    let mut ok = played;
    let mut out = vec![heading("话单 / call records")];
    let (mut tickets, mut changes) = (Vec::new(), Vec::new());
    for casting in castings {
        let Some(ending) = endings.iter().find(|e| e.casting.tag == casting.tag) else {
            ok = false;
            let why = "the hotline never saw the end of this call";
            let json = json!({"event": "call", "call": casting.tag, "ok": false, "problems": [why]});
            out.push(Line::record(format!("{} ✗ {why}", casting.tag), json));
            continue;
        };
        let own = Rows::of(store, ending).await?;
        let problems = judge(ending, &own);
        ok &= problems.is_empty();
        out.push(call_line(ending, own.call.as_ref(), &problems));
        tickets.extend(own.tickets);
        changes.extend(own.changes);
    }
    out.push(heading("工单 / tickets"));
    out.extend(tickets.iter().map(ticket_line));
    out.push(heading("改动的订单 / changed orders"));
    out.extend(changes.iter().map(change_line));
    out.push(Line::plain(format!(
        "录音 / recordings: {}   转写与时延 / transcripts and timings: {} (表 turn)",
        data.join("recordings").display(),
        data.join("zongji.db").display()
    )));
    let sentence = match ok {
        true => "全部通话按预期结束 / every call ended as it should",
        false => "有通话未按预期结束,见上面的 ✗ / a call did not end as it should, see ✗ above",
    };
    out.push(Line::record(sentence.into(), json!({"event": "outcome", "ok": ok, "calls": endings.len()})));
    for line in out {
        let _printer_is_gone = lines.send(line).await;
    }
    Ok(ok)
}

/// What the database holds of a call.
struct Rows {
    call: Option<CallRow>,
    turns: Vec<TurnRow>,
    tickets: Vec<TicketRow>,
    changes: Vec<OrderChangeRow>,
}

impl Rows {
    async fn of(store: &Store, ending: &Ending) -> anyhow::Result<Rows> {
        let id = ending.call.to_string();
        Ok(Rows {
            call: store.call(ending.call).await?,
            turns: store.turns(ending.call).await?,
            tickets: store.tickets(1000).await?.into_iter().filter(|t| t.call_id == id).collect(),
            changes: store
                .order_changes(1000)
                .await?
                .into_iter()
                .filter(|c| c.call_id.as_deref() == Some(&id))
                .collect(),
        })
    }
}

fn heading(title: &str) -> Line {
    Line::record(format!("── {title} ──────────────────────────────"), Json::Null)
}

fn ticket_line(t: &TicketRow) -> Line {
    let words = match (t.recording_from_ms, t.recording_to_ms, &t.recording) {
        (Some(from), Some(to), Some(file)) => {
            format!(" 原话在 {file} 的 {:.1}–{:.1} s", from as f64 / 1000.0, to as f64 / 1000.0)
        }
        _ => String::new(),
    };
    let intent = t.facts.get("intent").and_then(Json::as_str).unwrap_or("-");
    let text = format!("{} {} {} {} ({}) 意图 {intent}{words}", t.no, t.category, t.priority, t.title, t.sla);
    Line::record(text, json!({"event": "ticket_row", "ticket": t}))
}

/// The demo's own customers are invented: their addresses may be shown.
fn change_line(c: &OrderChangeRow) -> Line {
    let show = |p: &Option<Pii>| p.as_ref().map(|p| p.expose().to_owned()).unwrap_or_default();
    let tail = c.no.char_indices().nth_back(3).map_or(&*c.no, |(at, _)| &c.no[at..]);
    let text = format!("…{tail} {} {}: {} → {}", c.item, c.kind, show(&c.was), show(&c.became));
    Line::record(text, json!({"event": "order_change", "change": c}))
}

fn call_line(ending: &Ending, row: Option<&CallRow>, problems: &[String]) -> Line {
    let r = &ending.record;
    let seconds = r.answered.map_or(0.0, |a| r.ended.ms_since(a) as f64 / 1000.0);
    let recording = row.and_then(|r| r.recording.clone()).unwrap_or_default();
    let mark = if problems.is_empty() { "✓".into() } else { format!("✗ {}", problems.join("; ")) };
    let text = format!(
        "{} {} {} {} 步数 {} 重试 {} 核身 {} 轮次 {} 时长 {seconds:.1} s {recording} {mark}",
        ending.casting.tag,
        row.map(|r| r.from.to_string()).unwrap_or_default(),
        r.outcome.name(),
        r.flows.join("→"),
        r.steps,
        r.retries,
        r.verify_questions,
        r.turns,
    );
    let json = json!({
        "event": "call", "call": ending.casting.tag, "ok": problems.is_empty(), "problems": problems, "record": row,
    });
    Line::record(text, json)
}

/// What is not as it should be.
fn judge(ending: &Ending, rows: &Rows) -> Vec<String> {
    let (expect, record) = (&ending.casting.expect, &ending.record);
    let mut problems = Vec::new();
    let mut must = |holds: bool, problem: String| {
        if !holds {
            problems.push(problem);
        }
    };
    let outcome = (record.outcome.name(), expect.outcome.name());
    must(outcome.0 == outcome.1, format!("outcome {} instead of {}", outcome.0, outcome.1));
    must(record.steps <= 3, format!("{} steps", record.steps));
    let file = rows.call.as_ref().and_then(|row| row.recording.as_ref());
    must(rows.call.is_some(), "no call record in the database".into());
    must(file.is_some_and(|p| Path::new(p).metadata().is_ok_and(|m| m.len() > 1000)), "no recording".into());
    let opening = rows.turns.iter().find(|t| t.intent == expect.intent);
    must(
        opening.is_some_and(|t| t.by_keys != expect.spoken),
        format!("{} was not understood by {}", expect.intent, if expect.spoken { "voice" } else { "keys" }),
    );
    must(!expect.interrupts || rows.turns.iter().any(|t| t.barge_in), "no prompt was interrupted".into());
    if let Some(category) = expect.ticket {
        let words = |t: &TicketRow| t.recording_from_ms.zip(t.recording_to_ms).is_some_and(|(from, to)| to > from);
        let about = |t: &TicketRow| t.facts.get("intent").and_then(Json::as_str) == Some(expect.intent);
        must(
            rows.tickets.iter().any(|t| t.category == category && words(t) && about(t) && t.recording.is_some()),
            format!("no ticket {category} with its intent and the caller's words in the recording"),
        );
    }
    if let Some((tail, address)) = expect.moved {
        let became = |c: &OrderChangeRow| c.became.as_ref().is_some_and(|a| a.expose().contains(address));
        must(
            rows.changes.iter().any(|c| c.no.ends_with(tail) && c.kind == "address_changed" && became(c)),
            format!("the address of order …{tail} was not changed to {address}"),
        );
    }
    let seat = if expect.bridged { "no seat spoke with the caller" } else { "a seat was called" };
    must(record.bridged == expect.bridged, seat.into());
    problems
}
