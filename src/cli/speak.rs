//! `zongji speak`: a text to a WAV file.

use super::{Context, out, setup};
use crate::speech::{Lang, SpeechRequest};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// The text; numbers, dates and money are read out.
    text: String,
    /// File to write (8 kHz, 16 bit, mono).
    #[arg(long, short, value_name = "FILE.wav")]
    out: PathBuf,
    /// Speed, 0.5 to 2.0.
    #[arg(long, default_value_t = 1.0, value_parser = factor)]
    rate: f32,
    /// Pitch, 0.5 to 2.0.
    #[arg(long, default_value_t = 1.0, value_parser = factor)]
    pitch: f32,
    /// Language.
    #[arg(long, default_value = "zh", value_parser = ["zh", "en"])]
    lang: String,
}

/// For clap: a factor that a voice can do.
fn factor(typed: &str) -> Result<f32, String> {
    match typed.parse() {
        Ok(x) if (0.5..=2.0).contains(&x) => Ok(x),
        _ => Err("give 0.5 to 2.0".into()),
    }
}

pub fn run(context: &Context, args: Args) -> anyhow::Result<bool> {
    let engines = setup::engines(context)?;
    let lang = if args.lang == "en" { Lang::En } else { Lang::Zh };
    let Some(voice) = engines.voice(lang) else {
        anyhow::bail!("no voice speaks this language here: {}", engines.problems.join("; "));
    };
    anyhow::ensure!(
        args.text.chars().any(char::is_alphanumeric),
        "there is no word in the text: give one to be spoken"
    );
    let request =
        SpeechRequest { text: args.text, lang, rate: args.rate, pitch: args.pitch, audio: None, personal: false };
    let mut pcm = Vec::new();
    let began = crate::server::time::now();
    engines.synthesizer.speak(&request, &mut |phrase| {
        pcm.extend_from_slice(&phrase);
        true
    })?;
    let ms = crate::server::time::now().ms_since(began);
    crate::server::sound::write(&args.out, &pcm).map_err(anyhow::Error::msg)?;
    let seconds = pcm.len() as f64 / 8000.0;
    if context.json {
        out::json(&serde_json::json!({"file": args.out, "seconds": seconds, "compute_ms": ms, "engine": voice}));
    } else {
        say!("{}: {seconds:.2} s by {voice} in {ms} ms", args.out.display());
    }
    Ok(!pcm.is_empty())
}
