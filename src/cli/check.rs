//! `zongji check`: may these dialplans be published? Only without errors and with their own tests passed.

use super::{Context, out, setup};
use crate::dialplan::{FlowSet, Severity, flowtest};
use std::path::PathBuf;
use std::sync::Arc;

#[derive(clap::Args)]
pub struct Args {
    /// Folder of the dialplans (default: the one configured).
    dir: Option<PathBuf>,
}

pub fn run(context: &Context, args: Args) -> anyhow::Result<bool> {
    let files = setup::dialplan_files(context, args.dir)?;
    let count = files.len();
    let (problems, sha) = match FlowSet::compile(files) {
        Ok(set) => {
            let (hash, mut problems) = (set.hash().to_owned(), set.notes().to_vec());
            let set = Arc::new(set);
            problems.extend(flowtest::problems(&set, &flowtest::run_all(&set)));
            (problems, Some(hash))
        }
        Err(problems) => (problems, None),
    };
    out::problems(context.json, &problems);
    let errors = problems.iter().filter(|p| p.severity == Severity::Error).count();
    let warnings = problems.iter().filter(|p| p.severity == Severity::Warning).count();
    let ok = errors == 0 && sha.is_some();
    if context.json {
        out::json(
            &serde_json::json!({"files": count, "errors": errors, "warnings": warnings, "publishable": ok, "sha": sha}),
        );
    } else if ok {
        say!("{count} files, {warnings} warnings: may be published (set {})", &sha.unwrap_or_default()[..12]);
    } else {
        say!("{count} files, {errors} errors, {warnings} warnings: may not be published");
    }
    Ok(ok)
}
