//! The end of the demo: the rows in the database, and whether every call ended as it should.

use super::show::Line;
use super::{Casting, Ending};
use crate::server::Hotline;
use crate::store::{CallRow, OrderChangeRow, TicketRow};
use std::path::Path;
use tokio::sync::mpsc;

/// Prints the records and says whether all is as it should be.
pub async fn print(
    json: bool,
    hotline: &Hotline,
    data: &Path,
    endings: &[Ending],
    lines: &mpsc::Sender<Line>,
) -> anyhow::Result<bool> {
    let store = hotline.store();
    let mut ok = endings.len() == 4;
    let mut out = Vec::new();
    out.push(String::new());
    out.push("── 话单 / call records ─────────────────────────────".into());
    let mut tickets = Vec::new();
    let mut changes = Vec::new();
    for ending in endings {
        let id = ending.call.to_string();
        let row = store.call(ending.call).await?;
        let own_tickets: Vec<TicketRow> = store.tickets(1000).await?.into_iter().filter(|t| t.call_id == id).collect();
        let own_changes: Vec<OrderChangeRow> =
            store.order_changes(1000).await?.into_iter().filter(|c| c.call_id.as_deref() == Some(&id)).collect();
        let problems = judge(&ending.casting, ending, row.as_ref(), &own_tickets, &own_changes);
        ok &= problems.is_empty();
        out.push(call_line(ending, row.as_ref(), &problems));
        tickets.extend(own_tickets);
        changes.extend(own_changes);
    }
    out.push("── 工单 / tickets ──────────────────────────────────".into());
    for t in &tickets {
        let position = match (t.recording_from_ms, t.recording_to_ms) {
            (Some(from), Some(to)) => format!(" 原话在录音 {:.1}–{:.1} s", from as f64 / 1000.0, to as f64 / 1000.0),
            _ => String::new(),
        };
        out.push(format!("{} {} {} {} ({}){position}", t.no, t.category, t.priority, t.title, t.sla));
    }
    out.push("── 改动的订单 / changed orders ─────────────────────".into());
    for c in &changes {
        let show = |p: &Option<crate::pii::Pii>| p.as_ref().map(|p| p.expose().to_owned()).unwrap_or_default();
        let tail: String = c.no.chars().rev().take(4).collect::<Vec<_>>().into_iter().rev().collect();
        out.push(format!("…{tail} {} {}: {} → {}", c.item, c.kind, show(&c.was), show(&c.became)));
    }
    out.push(format!(
        "录音 / recordings: {}   转写与时延 / transcripts and timings: {} (表 turn)",
        data.join("recordings").display(),
        data.join("zongji.db").display()
    ));
    out.push(if ok {
        "全部通话按预期结束 / every call ended as it should".into()
    } else {
        "有通话未按预期结束,见上面的 ✗ / a call did not end as it should, see ✗ above".into()
    });
    for line in out {
        let _printer_is_gone = lines.send(Line::plain(line)).await;
    }
    if json {
        tracing::debug!("records were printed as notes");
    }
    Ok(ok)
}

fn call_line(ending: &Ending, row: Option<&CallRow>, problems: &[String]) -> String {
    let r = &ending.record;
    let seconds = r.answered.map_or(0.0, |a| r.ended.ms_since(a) as f64 / 1000.0);
    let recording = row.and_then(|r| r.recording.clone()).unwrap_or_default();
    let mark = if problems.is_empty() { "✓".into() } else { format!("✗ {}", problems.join("; ")) };
    format!(
        "{} {} {} {} 步数 {} 重试 {} 核身 {} 轮次 {} 时长 {seconds:.1} s {recording} {mark}",
        ending.casting.tag,
        row.map(|r| r.from.to_string()).unwrap_or_default(),
        r.outcome.name(),
        r.flows.join("→"),
        r.steps,
        r.retries,
        r.verify_questions,
        r.turns,
    )
}

/// What is not as it should be.
fn judge(
    casting: &Casting,
    ending: &Ending,
    row: Option<&CallRow>,
    tickets: &[TicketRow],
    changes: &[OrderChangeRow],
) -> Vec<String> {
    let mut problems = Vec::new();
    let expect = &casting.expect;
    if ending.record.outcome != expect.outcome {
        problems.push(format!("outcome {} instead of {}", ending.record.outcome.name(), expect.outcome.name()));
    }
    match row {
        None => problems.push("no call record in the database".into()),
        Some(row) => {
            let recorded =
                row.recording.as_ref().is_some_and(|p| Path::new(p).metadata().is_ok_and(|m| m.len() > 1000));
            if !recorded {
                problems.push("no recording".into());
            }
        }
    }
    if let Some(category) = expect.ticket
        && !tickets.iter().any(|t| t.category == category && t.recording_from_ms.is_some())
    {
        problems.push(format!("no ticket {category} with the caller's words in the recording"));
    }
    if let Some(tail) = expect.moved_order
        && !changes.iter().any(|c| c.no.ends_with(tail) && c.kind == "address_changed")
    {
        problems.push(format!("the address of order …{tail} was not changed"));
    }
    if ending.record.bridged != expect.bridged {
        problems.push(if expect.bridged { "no seat spoke with the caller" } else { "a seat was called" }.into());
    }
    problems
}
