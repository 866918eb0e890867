//! `zongji transcribe`: one recording through the recogniser.

use super::{Context, out, setup};
use crate::server::hotline::opening_question;
use crate::speech::Grammar;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(clap::Args)]
pub struct Args {
    /// A WAV file of any rate.
    file: PathBuf,
    /// What can be said: one phrase a line (default: everything the hotline's opening question can hear).
    #[arg(long, value_name = "PHRASES.txt")]
    grammar: Option<PathBuf>,
    /// Allow strings of up to this many digits as well.
    #[arg(long, value_name = "N")]
    digits: Option<u8>,
}

pub fn run(context: &Context, args: Args) -> anyhow::Result<bool> {
    let pcm = crate::server::sound::read(&args.file).map_err(anyhow::Error::msg)?;
    let mut grammar = match &args.grammar {
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|e| anyhow::anyhow!("{}: {e}", file.display()))?;
            Grammar::of(text.lines().map(str::trim).filter(|l| !l.is_empty()))
        }
        None => {
            let files = setup::dialplan_files(context, None)?;
            let Some(set) = setup::compile(context, files) else { return Ok(false) };
            let set = Arc::new(set);
            set.grammar(&opening_question(&set))
        }
    };
    if let Some(max) = args.digits {
        grammar.digits = Some(crate::speech::DigitSpan { min: 1, max });
    }
    let engines = setup::engines(context)?;
    for problem in &engines.problems {
        note!("{problem}");
    }
    let Some(recognizer) = engines.recognizer else {
        anyhow::bail!("no recogniser could be loaded: {}", engines.problems.join("; "));
    };
    let mut stream = recognizer.open(Arc::new(grammar))?;
    stream.feed(&pcm)?;
    let heard = stream.finish()?;
    let confidence = heard.nbest.first().map_or(0.0, |h| h.confidence);
    let rtf = heard.compute_us as f64 / 1000.0 / f64::from(heard.audio_ms.max(1));
    if context.json {
        out::json(&serde_json::json!({
            "text": heard.text(), "confidence": confidence, "accepted": heard.accepted, "engine": heard.engine, "rtf": rtf,
            "alternatives": heard.nbest.iter().map(|h| serde_json::json!({"text": h.text, "confidence": h.confidence})).collect::<Vec<_>>(),
        }));
    } else {
        let word = if heard.accepted { "" } else { " (rejected: not among what can be said here, or too unclear)" };
        say!("{}  {confidence:.2}{word}   [{}, {:.3} x real time]", heard.text(), heard.engine, rtf);
    }
    Ok(heard.accepted)
}
