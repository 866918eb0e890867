//! The voice the hotline uses: a recording if there is one, else the first voice that can, and a tone when none can.

use crate::speech::{Lang, SpeechError, SpeechRequest, Synthesizer};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Longest recorded prompt, in bytes (10 minutes of 16-bit stereo at 48 kHz).
const LONGEST: u64 = 600 * 48_000 * 4;
/// Samples of a recording handed on at a time (1 s).
const PIECE: usize = 8000;

/// All voices, by language, in the order they are tried.
pub struct Speaker {
    zh: Vec<Arc<dyn Synthesizer>>,
    en: Vec<Arc<dyn Synthesizer>>,
    recordings: Option<PathBuf>,
    name: String,
}

impl Speaker {
    /// `recordings`: the folder under which the `audio:` paths of prompts lie.
    pub fn new(zh: Vec<Arc<dyn Synthesizer>>, en: Vec<Arc<dyn Synthesizer>>, recordings: Option<PathBuf>) -> Self {
        let name = zh.first().map_or("tone", |v| v.name()).to_owned();
        Speaker { zh, en, recordings, name }
    }

    fn recording(&self, request: &SpeechRequest) -> Option<Vec<i16>> {
        let (folder, file) = (self.recordings.as_deref()?, request.audio.as_deref()?);
        match read_recording(folder, file) {
            Ok(found) => found,
            Err(why) => {
                tracing::warn!(file, why, "a recorded prompt cannot be used; its text is spoken");
                None
            }
        }
    }
}

impl Synthesizer for Speaker {
    fn name(&self) -> &str {
        &self.name
    }

    fn speak(&self, request: &SpeechRequest, sink: &mut dyn FnMut(Vec<i16>) -> bool) -> Result<(), SpeechError> {
        if let Some(pcm) = self.recording(request) {
            let _ = pcm.chunks(PIECE).all(|piece| sink(piece.to_vec()));
            return Ok(());
        }
        let voices = match request.lang {
            Lang::Zh => &self.zh,
            Lang::En => &self.en,
        };
        for voice in voices {
            let mut begun = false;
            let result = voice.speak(request, &mut |pcm| {
                begun = true;
                sink(pcm)
            });
            match result {
                Ok(()) => return Ok(()),
                // Half a prompt in another voice is worse than half a prompt.
                Err(error) if begun => return Err(error),
                Err(error) => tracing::error!(voice = voice.name(), %error, "a voice failed; the next one is tried"),
            }
        }
        tracing::error!("no voice can speak this prompt: the caller hears a tone instead, and keys still work");
        sink(tone());
        Ok(())
    }
}

/// A soft 0.4 s tone: the caller hears that the line lives and may press a key.
fn tone() -> Vec<i16> {
    let fade = |i: usize| (i.min(3200 - i) as f32 / 240.0).min(1.0);
    (0..3200).map(|i| (4000.0 * fade(i) * (i as f32 * 440.0 * std::f32::consts::TAU / 8000.0).sin()) as i16).collect()
}

/// A recorded prompt at 8 kHz mono; nothing when the file is not there.
fn read_recording(folder: &Path, file: &str) -> Result<Option<Vec<i16>>, String> {
    if file.is_empty() || !Path::new(file).components().all(|c| matches!(c, Component::Normal(_))) {
        return Err("its path leaves the prompts folder".into());
    }
    let path = folder.join(file);
    if !path.is_file() {
        return Ok(None);
    }
    // A link may not lead out of the folder either.
    let real = path.canonicalize().map_err(|e| e.to_string())?;
    if !real.starts_with(folder.canonicalize().map_err(|e| e.to_string())?) {
        return Err("it is a link out of the prompts folder".into());
    }
    let file = std::fs::File::open(&real).map_err(|e| e.to_string())?;
    if file.metadata().map_err(|e| e.to_string())?.len() > LONGEST {
        return Err("it is longer than ten minutes".into());
    }
    crate::audio::wav::read(std::io::BufReader::new(file)).map(Some).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech::scripted::ToneVoice;

    struct Mute;

    impl Synthesizer for Mute {
        fn name(&self) -> &str {
            "mute"
        }
        fn speak(&self, _: &SpeechRequest, _: &mut dyn FnMut(Vec<i16>) -> bool) -> Result<(), SpeechError> {
            Err(SpeechError::Failed { model: "mute".into(), why: "it has no mouth".into() })
        }
    }

    fn request(audio: Option<&str>) -> SpeechRequest {
        SpeechRequest {
            text: "您好".into(),
            lang: Lang::Zh,
            rate: 1.0,
            pitch: 1.0,
            audio: audio.map(Into::into),
            personal: false,
        }
    }

    fn speak(speaker: &Speaker, request: &SpeechRequest) -> Vec<i16> {
        let mut out = Vec::new();
        speaker
            .speak(request, &mut |p| {
                out.extend(p);
                true
            })
            .expect("spoken");
        out
    }

    fn tone_voice() -> Arc<dyn Synthesizer> {
        Arc::new(ToneVoice::default())
    }

    #[test]
    fn the_next_voice_speaks_when_one_cannot_and_a_tone_when_none_can() {
        let expected = speak(&Speaker::new(vec![tone_voice()], vec![], None), &request(None));
        let speaker = Speaker::new(vec![Arc::new(Mute), tone_voice()], vec![], None);
        assert_eq!(speak(&speaker, &request(None)), expected);
        assert_eq!(speaker.name(), "mute");
        let none = Speaker::new(vec![Arc::new(Mute)], vec![], None);
        assert_eq!(speak(&none, &request(None)), tone());
        let english = SpeechRequest { lang: Lang::En, ..request(None) };
        assert_eq!(speak(&speaker, &english), tone());
    }

    #[test]
    fn a_recording_wins_at_any_rate_and_its_absence_is_no_fault() {
        let folder = tempfile::tempdir().expect("a folder");
        let spec = hound::WavSpec {
            channels: 2,
            sample_rate: 16000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut wav = hound::WavWriter::create(folder.path().join("hello.wav"), spec).expect("a file");
        for i in 0..16000 {
            for _ in 0..2 {
                wav.write_sample((6000.0 * (i as f32 * 0.1).sin()) as i16).expect("written");
            }
        }
        wav.finalize().expect("closed");
        let speaker = Speaker::new(vec![tone_voice()], vec![], Some(folder.path().into()));
        let played = speak(&speaker, &request(Some("hello.wav")));
        assert!((played.len() as i64 - 8000).abs() < 10);
        let spoken = speak(&speaker, &request(None));
        assert_eq!(speak(&speaker, &request(Some("missing.wav"))), spoken);
    }

    #[test]
    fn no_path_leads_out_of_the_prompts_folder() {
        let outer = tempfile::tempdir().expect("a folder");
        let folder = outer.path().join("prompts");
        std::fs::create_dir(&folder).expect("made");
        std::fs::write(outer.path().join("secret.wav"), "x").expect("written");
        std::os::unix::fs::symlink(outer.path().join("secret.wav"), folder.join("link.wav")).expect("linked");
        for bad in ["../secret.wav", "/etc/passwd", "a/../../secret.wav", "", "link.wav"] {
            assert!(read_recording(&folder, bad).is_err(), "{bad}");
        }
        std::fs::write(folder.join("junk.wav"), "RIFFjunk").expect("written");
        assert!(read_recording(&folder, "junk.wav").is_err());
        let speaker = Speaker::new(vec![tone_voice()], vec![], Some(folder));
        assert!(!speak(&speaker, &request(Some("../secret.wav"))).is_empty(), "its text is spoken instead");
    }
}
