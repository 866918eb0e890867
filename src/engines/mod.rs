//! Layer 5. The concrete models; the only room that names an inference library.
//!
//! | file | what |
//! |---|---|
//! | [`frontend`] [`am`] [`decode`] [`recogniser`] | the bundled Mandarin recogniser |
//! | [`voice`] [`vocoder`] [`level`] | the bundled Mandarin voice |
//! | [`espeak`] | the espeak-ng program: English, and the last resort |
//! | [`vad`] | voice activity |
//! | `whisper` | whisper.cpp, when a file is given (feature `whisper`) |
//! | [`prompt_cache`] [`speaker`] | prompts made before, recordings, which voice speaks |
//! | [`manifest`] [`builtin`] [`onnx`] | where models come from and how they run |

pub mod am;
pub mod builtin;
pub mod decode;
pub mod espeak;
pub mod frontend;
pub mod level;
pub mod manifest;
pub mod onnx;
pub mod prompt_cache;
pub mod reading;
pub mod recogniser;
pub mod resample;
pub mod speaker;
mod timer;
#[cfg(test)]
mod trials;
pub mod units;
pub mod vad;
pub mod vocoder;
pub mod voice;
#[cfg(feature = "whisper")]
pub mod whisper;

use crate::speech::{Lang, Recognizer, SpeechError, Synthesizer};
use espeak::Espeak;
use manifest::Models;
use prompt_cache::{CachedVoice, PromptCache};
use speaker::Speaker;
use std::path::PathBuf;
use std::sync::Arc;

/// What to load, and from where.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineSettings {
    /// Folder of models; none: looked for (see [`manifest`]).
    pub models: Option<PathBuf>,
    /// Whether the models in the program serve when the folder's cannot.
    pub builtin: bool,
    /// A ggml file for whisper.
    pub whisper: Option<PathBuf>,
    /// Threads of one whisper utterance.
    pub whisper_threads: u32,
    /// The espeak-ng program.
    pub espeak: PathBuf,
    /// Folder of the prompt cache; none: in memory only.
    pub cache: Option<PathBuf>,
    /// Bytes of the prompt cache, on disk and in memory each.
    pub cache_bytes: u64,
    /// Folder of recorded prompts.
    pub prompts: Option<PathBuf>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        EngineSettings {
            models: None,
            builtin: true,
            whisper: None,
            whisper_threads: 2,
            espeak: PathBuf::from("espeak-ng"),
            cache: None,
            cache_bytes: 64 << 20,
            prompts: None,
        }
    }
}

/// The models of the hotline, as far as they could be loaded. Cheap to clone.
#[derive(Clone)]
pub struct Engines {
    /// The bundled recogniser; without it callers use keys.
    pub recognizer: Option<Arc<dyn Recognizer>>,
    /// Whisper, where a file was given.
    pub whisper: Option<Arc<dyn Recognizer>>,
    /// Speaks always, if only a tone.
    pub synthesizer: Arc<dyn Synthesizer>,
    /// The voice that speaks English, if there is one.
    pub english: Option<String>,
    /// What could not be loaded: each with its file and what to do.
    pub problems: Vec<String>,
}

impl Engines {
    /// The voice that speaks a language; none: a tone is heard.
    pub fn voice(&self, lang: Lang) -> Option<&str> {
        match lang {
            Lang::En => self.english.as_deref(),
            Lang::Zh => Some(self.synthesizer.name()).filter(|name| *name != "tone"),
        }
    }

    /// What is in use: what each does, and its name.
    pub fn names(&self) -> Vec<(&'static str, String)> {
        let hears = self.recognizer.iter().chain(&self.whisper).map(|r| ("recogniser", r.name().to_owned()));
        let speaks = [("synthesiser", self.synthesizer.name().to_owned()), ("vad", "earshot".to_owned())];
        hears.chain(speaks).collect()
    }
}

/// A fresh voice activity detector, one for each leg.
pub fn new_vad() -> Box<dyn crate::speech::Vad> {
    Box::new(vad::EarshotVad::new())
}

/// Loads what can be loaded. Nothing stops the hotline: what is missing is named in [`Engines::problems`].
pub fn load(settings: &EngineSettings) -> Engines {
    // The dictionaries take some hundred milliseconds; no caller should wait for them.
    crate::speech::text::warm();
    let mut problems = Vec::new();
    let sets = model_sets(settings, &mut problems);
    let recognizer = first(&sets, &mut problems, Models::recogniser).map(|r| Arc::new(r) as Arc<dyn Recognizer>);
    let voice = first(&sets, &mut problems, Models::voice).map(|v| Arc::new(v) as Arc<dyn Synthesizer>);
    if recognizer.is_none() {
        problems.push("speech cannot be recognised: callers use keys".into());
    }
    let espeak = Espeak::new(&settings.espeak);
    let espeak = match espeak.check() {
        Ok(()) => Some(Arc::new(espeak) as Arc<dyn Synthesizer>),
        Err(error) => {
            problems.push(format!("no English voice: {error}"));
            None
        }
    };
    if voice.is_none() && espeak.is_none() {
        problems.push("nothing can be spoken: callers hear a tone".into());
    }
    let cache = prompt_cache(settings, &mut problems);
    let cached = |v: Arc<dyn Synthesizer>| Arc::new(CachedVoice::new(v, Arc::clone(&cache))) as Arc<dyn Synthesizer>;
    let (voice, espeak) = (voice.map(&cached), espeak.map(&cached));
    let english = espeak.as_ref().map(|v| v.name().to_owned());
    let zh = voice.into_iter().chain(espeak.clone()).collect();
    let synthesizer = Arc::new(Speaker::new(zh, espeak.into_iter().collect(), settings.prompts.clone()));
    Engines { recognizer, whisper: whisper(settings, &mut problems), synthesizer, english, problems }
}

/// The folder's models, if there is a folder, then those of the program.
fn model_sets(settings: &EngineSettings, problems: &mut Vec<String>) -> Vec<Models> {
    let mut sets = Vec::new();
    if let Some(folder) = Models::find_folder(settings.models.as_deref()) {
        match Models::in_folder(&folder) {
            Ok(models) => sets.push(models),
            Err(error) => problems.push(error.to_string()),
        }
    }
    if settings.builtin {
        match Models::builtin() {
            Ok(models) => sets.push(models),
            Err(error) => problems.push(error.to_string()),
        }
    }
    sets
}

/// The first set that has it in working order.
fn first<T>(
    sets: &[Models],
    problems: &mut Vec<String>,
    load: impl Fn(&Models) -> Result<T, SpeechError>,
) -> Option<T> {
    for (i, models) in sets.iter().enumerate() {
        match load(models) {
            Ok(loaded) => return Some(loaded),
            Err(error) if i + 1 < sets.len() => problems.push(format!("{error}; the built-in copy serves until then")),
            Err(error) => problems.push(error.to_string()),
        }
    }
    None
}

fn prompt_cache(settings: &EngineSettings, problems: &mut Vec<String>) -> Arc<PromptCache> {
    let on_disk = settings.cache.as_ref().map(|folder| (folder, PromptCache::new(folder, settings.cache_bytes)));
    Arc::new(match on_disk {
        Some((_, Ok(cache))) => cache,
        Some((folder, Err(error))) => {
            problems.push(format!(
                "prompts are cached in memory only: {}: {error}; make the folder writable",
                folder.display()
            ));
            PromptCache::in_memory(settings.cache_bytes)
        }
        None => PromptCache::in_memory(settings.cache_bytes),
    })
}

#[cfg(feature = "whisper")]
fn whisper(settings: &EngineSettings, problems: &mut Vec<String>) -> Option<Arc<dyn Recognizer>> {
    match whisper::Whisper::load(settings.whisper.as_deref()?, settings.whisper_threads) {
        Ok(whisper) => Some(Arc::new(whisper)),
        Err(error) => {
            problems.push(error.to_string());
            None
        }
    }
}

#[cfg(not(feature = "whisper"))]
fn whisper(settings: &EngineSettings, problems: &mut Vec<String>) -> Option<Arc<dyn Recognizer>> {
    if let Some(file) = &settings.whisper {
        problems.push(format!(
            "{} is not used: this program was built without whisper (feature `whisper`)",
            file.display()
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech::{Grammar, Lang, SpeechRequest};

    fn hears(engines: &Engines, text: &str) -> bool {
        let request =
            SpeechRequest { text: text.into(), lang: Lang::Zh, rate: 1.0, pitch: 1.0, audio: None, personal: false };
        let Some(recogniser) = &engines.recognizer else { return false };
        let mut stream = recogniser.open(Arc::new(Grammar::of([text, "查物流", "转人工"]))).expect("opened");
        let feed = |pcm: Vec<i16>| stream.feed(&pcm).is_ok();
        let mut feed = feed;
        engines.synthesizer.speak(&request, &mut feed).expect("spoken");
        stream.finish().is_ok_and(|t| t.accepted && t.text() == text)
    }

    #[test]
    fn the_program_alone_hears_what_it_says() {
        let engines = load(&EngineSettings::default());
        assert!(hears(&engines, "我要查订单"));
        assert_eq!(engines.synthesizer.name(), voice::NAME);
        assert!(engines.whisper.is_none());
        assert!(engines.problems.iter().all(|p| p.contains("espeak-ng")), "{:?}", engines.problems);
    }

    #[test]
    fn a_broken_models_folder_is_named_and_the_built_in_models_serve() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("manifest.toml"), builtin::MANIFEST).expect("written");
        let settings = EngineSettings { models: Some(folder.path().into()), ..EngineSettings::default() };
        let engines = load(&settings);
        let named = |part: &str| engines.problems.iter().any(|p| p.contains(part) && p.contains("restore the file"));
        assert!(named("syls.json") && named("stats.json"), "{:?}", engines.problems);
        assert!(hears(&engines, "我要查订单"));
    }

    #[test]
    fn without_any_model_the_hotline_still_has_a_tone_and_says_why() {
        let settings = EngineSettings {
            models: Some("/nowhere/models".into()),
            builtin: false,
            espeak: "/nowhere/espeak-ng".into(),
            cache: Some("/proc/nowhere".into()),
            whisper: Some("/nowhere/ggml.bin".into()),
            ..EngineSettings::default()
        };
        let engines = load(&settings);
        assert!(engines.recognizer.is_none() && engines.whisper.is_none());
        for part in [
            "/nowhere/models/manifest.toml",
            "/nowhere/espeak-ng",
            "use keys",
            "hear a tone",
            "/proc/nowhere",
            "ggml.bin",
        ] {
            assert!(engines.problems.iter().any(|p| p.contains(part)), "{part}: {:?}", engines.problems);
        }
        let request =
            SpeechRequest {
                text: "您好".into(), lang: Lang::Zh, rate: 1.0, pitch: 1.0, audio: None, personal: false
            };
        let mut samples = 0;
        engines
            .synthesizer
            .speak(&request, &mut |p| {
                samples += p.len();
                true
            })
            .expect("a tone");
        assert!(samples > 1000);
    }
}
