//! `zongji test`: the tests inside the dialplans, run as text.

use super::{Context, out, setup};
use crate::dialplan::flowtest;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(clap::Args)]
pub struct Args {
    /// Folder of the dialplans (default: the one configured).
    dir: Option<PathBuf>,
}

pub fn run(context: &Context, args: Args) -> anyhow::Result<bool> {
    let files = setup::dialplan_files(context, args.dir)?;
    let Some(set) = setup::compile(context, files) else { return Ok(false) };
    let results = flowtest::run_all(&Arc::new(set));
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for r in &results {
        let (word, why) = match (&r.skipped, &r.failure) {
            (Some(why), _) => ("skipped", Some(why)),
            (None, Some(why)) => ("FAILED", Some(why)),
            (None, None) => ("ok", None),
        };
        match word {
            "ok" => passed += 1,
            "FAILED" => failed += 1,
            _ => skipped += 1,
        }
        if context.json {
            out::json(
                &serde_json::json!({"file": r.file, "line": r.line, "test": r.name, "verdict": word, "why": why, "dialogue": r.log}),
            );
        } else {
            say!(
                "{word:7} {}:{} {}{}",
                r.file,
                r.line,
                r.name,
                why.map(|w| format!("\n        {w}")).unwrap_or_default()
            );
            if word == "FAILED" {
                r.log.iter().for_each(|line| say!("          {line}"));
            }
        }
    }
    if results.is_empty() {
        anyhow::bail!("these dialplans hold no test: write some under `tests:` of each flow (see docs/dialplan.md)");
    }
    if !context.json {
        say!("{passed} passed, {failed} failed, {skipped} skipped");
    }
    Ok(failed == 0)
}
