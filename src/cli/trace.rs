//! `zongji trace`: what SIP said in a call, as a ladder, in full, as JSON or as a capture.

use super::{Context, out, setup};
use crate::sip::trace::{self, Found, Lang, Shelf, Trace, Way};
use anyhow::Context as _;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Calls listed without `--all`.
const LISTED: usize = 50;

#[derive(clap::Args)]
pub struct Args {
    /// The call: its id, a SIP Call-ID, or what either begins with. Without it the traced calls are listed.
    call: Option<String>,
    /// Print the messages themselves.
    #[arg(long)]
    full: bool,
    /// Write a capture for Wireshark or sngrep.
    #[arg(long, value_name = "FILE", requires = "call")]
    pcap: Option<PathBuf>,
    /// List all traced calls, not only the last 50.
    #[arg(long)]
    all: bool,
    /// Language: en or zh.
    #[arg(long, value_name = "LANG", default_value = "en", value_parser = ["en", "zh"])]
    lang: String,
    /// Data folder, over the configuration's.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

pub fn run(context: &Context, args: Args) -> anyhow::Result<bool> {
    let mut config = setup::config(context)?;
    if let Some(dir) = &args.data {
        config.data.dir = dir.clone();
    }
    let dir = config.traces();
    let shelf = Shelf::new(&dir);
    let lang = if args.lang == "zh" { Lang::Zh } else { Lang::En };
    let Some(name) = &args.call else {
        let all = shelf.list().with_context(|| format!("{} cannot be read", dir.display()))?;
        list(context, &all, lang, if args.all { usize::MAX } else { LISTED });
        if all.is_empty() {
            note!(
                "no call is traced in {}{}",
                dir.display(),
                if config.trace.on { "" } else { ": [trace] on is false" }
            );
        }
        return Ok(true);
    };
    let trace = one(&shelf, name, &dir)?;
    if let Some(file) = &args.pcap {
        std::fs::write(file, trace::pcap(&trace)).with_context(|| format!("{} cannot be written", file.display()))?;
        match context.json {
            true => out::json(&json!({"file": file, "messages": trace.messages.len()})),
            false => say!("{}: {} messages", file.display(), trace.messages.len()),
        }
        return Ok(true);
    }
    match (context.json, args.full) {
        (true, _) => out::json(&of_trace(&trace)),
        (false, true) => full(&trace),
        (false, false) => say!("{}", trace::ladder(&trace, lang).trim_end()),
    }
    Ok(true)
}

/// The one trace that is meant.
fn one(shelf: &Shelf, name: &str, dir: &std::path::Path) -> anyhow::Result<Trace> {
    let found = shelf.find(name).with_context(|| format!("{} cannot be read", dir.display()))?;
    match found.as_slice() {
        [] => anyhow::bail!(
            "no traced call begins with \"{name}\" in {}: `zongji trace` lists those there are; old ones give way to new ones ([trace] keep)",
            dir.display()
        ),
        [one] => {
            let path = one.path.display();
            let trace = Shelf::read(one).with_context(|| format!("{path} cannot be read"))?;
            trace.with_context(|| path.to_string())
        }
        many => {
            let ids: Vec<&str> = many.iter().take(5).map(|f| f.head.id.as_str()).collect();
            anyhow::bail!("{} calls begin with \"{name}\": give more of it; among them {}", many.len(), ids.join(", "))
        }
    }
}

fn list(context: &Context, all: &[Found], lang: Lang, most: usize) {
    for Found { head, .. } in all.iter().take(most) {
        let e = &head.ending;
        if context.json {
            out::json(&of_head(head));
            continue;
        }
        let why = if lang == Lang::Zh { &e.why_zh } else { &e.why };
        let from = if e.from.is_empty() { "-" } else { &e.from };
        say!("{}  {}  {from} > {}  [{}] {why}", head.id, moment(head.began), e.to, e.cause);
    }
    if !context.json && all.len() > most {
        say!("… and {} older ones (--all)", all.len() - most);
    }
}

/// Date and time in UTC.
fn moment(us: u64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp((us / 1_000_000) as i64);
    let at = at.unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let (date, clock) = (at.date(), at.time());
    format!("{date} {:02}:{:02}:{:02}Z", clock.hour(), clock.minute(), clock.second())
}

fn of_head(t: &Trace) -> Value {
    let e = &t.ending;
    let legs: Vec<Value> = t.legs.iter().map(|l| json!({"role": l.role.name(), "call_id": l.call_id})).collect();
    json!({
        "id": t.id, "refused": t.refused, "began_us": t.began, "from": e.from, "to": e.to, "cause": e.cause,
        "why": e.why, "why_zh": e.why_zh, "lost": t.lost, "legs": legs,
    })
}

fn of_trace(t: &Trace) -> Value {
    let message = |m: &trace::Seen| {
        json!({
            "at_us": m.at, "way": if m.way == Way::In { "in" } else { "out" }, "transport": m.carrier.name(),
            "local": m.local, "remote": m.remote, "refused": m.refused, "text": String::from_utf8_lossy(&m.bytes),
        })
    };
    let mut whole = of_head(t);
    whole["messages"] = t.messages.iter().map(message).collect();
    whole
}

fn full(t: &Trace) {
    for m in &t.messages {
        let since = m.at.saturating_sub(t.began);
        let way = if m.way == Way::In { "<-" } else { "->" };
        let refused = m.refused.as_ref().map(|r| format!("  refused: {r}")).unwrap_or_default();
        let (local, remote, carrier) = (m.local, m.remote, m.carrier);
        say!("{:>6}.{:06} {local} {way} {remote} {carrier}{refused}", since / 1_000_000, since % 1_000_000);
        for line in String::from_utf8_lossy(&m.bytes).trim_end().lines() {
            say!("    {line}");
        }
        say!("");
    }
}
