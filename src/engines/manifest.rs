//! The models' manifest: what each model is, its files and their checksums, its licence and its credit.
//!
//! A folder with a `manifest.toml` replaces the built-in models. It is looked for, in this order: the folder given in
//! the settings (`[models] dir`), the one named by `ZONGJI_MODELS`, `./models`, and `models` or `../../models` beside the
//! program.

use super::am::AcousticModel;
use super::builtin;
use super::frontend::MELS;
use super::onnx::ModelBytes;
use super::recogniser::MandarinRecogniser;
use super::units::{FINALS, INITIALS, Syllable};
use super::voice::{MandarinVoice, Stats};
use crate::speech::SpeechError;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Largest model file that is read.
const LARGEST: u64 = 512 << 20;

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Speech to text.
    Recognise,
    /// Text to speech.
    Speak,
}

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// Under the manifest's folder.
    pub path: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// As in records and logs.
    pub name: String,
    /// What it does.
    pub task: Task,
    /// Samples per second it works at.
    pub rate: u32,
    /// Whether it is known to be replaced by a better one.
    #[serde(default)]
    pub provisional: bool,
    /// Licence of the files.
    pub licence: String,
    /// Whose work it rests on.
    pub credit: String,
    /// Where it is written how it was made.
    pub made: String,
    /// Its files by their part in it.
    pub files: BTreeMap<String, ModelFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    model: Vec<ModelEntry>,
}

/// Where a set of models lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the program.
    Builtin,
    /// In a folder.
    Folder(PathBuf),
}

/// A set of models with its manifest.
#[derive(Debug)]
pub struct Models {
    place: Place,
    entries: Vec<ModelEntry>,
}

impl Models {
    /// Those that are part of the program.
    pub fn builtin() -> Result<Self, SpeechError> {
        Self::parse(builtin::MANIFEST, Place::Builtin)
    }

    /// Those of a folder with a `manifest.toml`.
    pub fn in_folder(folder: &Path) -> Result<Self, SpeechError> {
        let path = folder.join("manifest.toml");
        let text = std::fs::read_to_string(&path).map_err(|e| SpeechError::Unusable {
            model: path.display().to_string(),
            why: e.to_string(),
            mend: "give the folder that holds manifest.toml, or none to use the built-in models".into(),
        })?;
        Self::parse(&text, Place::Folder(folder.to_owned()))
    }

    fn parse(text: &str, place: Place) -> Result<Self, SpeechError> {
        let manifest: Manifest = toml::from_str(text).map_err(|e| SpeechError::Unusable {
            model: match &place {
                Place::Builtin => "built-in manifest".into(),
                Place::Folder(f) => f.join("manifest.toml").display().to_string(),
            },
            why: e.to_string(),
            mend: "correct the manifest as models/manifest.toml shows".into(),
        })?;
        Ok(Models { place, entries: manifest.model })
    }

    /// The folder to use, if there is one: given, named by the environment, or lying where models lie.
    pub fn find_folder(given: Option<&Path>) -> Option<PathBuf> {
        if let Some(folder) = given {
            return Some(folder.to_owned());
        }
        if let Some(folder) = std::env::var_os("ZONGJI_MODELS").filter(|v| !v.is_empty()) {
            return Some(folder.into());
        }
        let program = std::env::current_exe().ok();
        let beside = |up: &str| program.as_deref().and_then(Path::parent).map(|d| d.join(up));
        [Some(PathBuf::from("models")), beside("models"), beside("../../models")]
            .into_iter()
            .flatten()
            .find(|f| f.join("manifest.toml").is_file())
    }

    /// Where they lie.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What there is.
    pub fn entries(&self) -> &[ModelEntry] {
        &self.entries
    }

    /// Checks every file; the errors name the file and what to do.
    pub fn verify(&self) -> Vec<SpeechError> {
        self.entries.iter().flat_map(|e| e.files.values()).filter_map(|f| self.read(f).err()).collect()
    }

    /// The acoustic model of the recogniser.
    pub fn acoustic_model(&self) -> Result<AcousticModel, SpeechError> {
        let entry = self.entry(Task::Recognise)?;
        let network = self.file(entry, "network")?;
        let front = self.file(entry, "front")?;
        let mean = front_end_mean(self.read(front)?.as_slice()).map_err(|why| self.unfit(front, &why))?;
        AcousticModel::load(&self.name_of(network), self.read(network)?, mean)
    }

    /// The Mandarin recogniser.
    pub fn recogniser(&self) -> Result<MandarinRecogniser, SpeechError> {
        let entry = self.entry(Task::Recognise)?;
        let syllables = self.file(entry, "syllables")?;
        let inventory = inventory(self.read(syllables)?.as_slice()).map_err(|why| self.unfit(syllables, &why))?;
        Ok(MandarinRecogniser::new(self.acoustic_model()?, inventory))
    }

    /// The Mandarin voice.
    pub fn voice(&self) -> Result<MandarinVoice, SpeechError> {
        let entry = self.entry(Task::Speak)?;
        let (encoder, decoder) = (self.file(entry, "encoder")?, self.file(entry, "decoder")?);
        let stats = self.file(entry, "stats")?;
        let made_of = [encoder, decoder, stats].map(|f| f.sha256.as_str()).join(" ");
        let stats = Stats::parse(self.read(stats)?.as_slice()).map_err(|why| self.unfit(stats, &why))?;
        MandarinVoice::load(
            (&self.name_of(encoder), self.read(encoder)?),
            (&self.name_of(decoder), self.read(decoder)?),
            stats,
            &made_of,
        )
    }

    fn entry(&self, task: Task) -> Result<&ModelEntry, SpeechError> {
        self.entries.iter().find(|e| e.task == task).ok_or_else(|| SpeechError::Unusable {
            model: self.path_of("manifest.toml"),
            why: format!("no model of task {task:?}"),
            mend: "add one as models/manifest.toml shows".into(),
        })
    }

    fn file<'a>(&self, entry: &'a ModelEntry, part: &str) -> Result<&'a ModelFile, SpeechError> {
        entry.files.get(part).ok_or_else(|| SpeechError::Unusable {
            model: self.path_of("manifest.toml"),
            why: format!("model {} names no file `{part}`", entry.name),
            mend: "add it as models/manifest.toml shows".into(),
        })
    }

    fn read(&self, file: &ModelFile) -> Result<ModelBytes, SpeechError> {
        let unusable =
            |why: String, mend: &str| SpeechError::Unusable { model: self.name_of(file), why, mend: mend.to_owned() };
        let folder = match &self.place {
            // A test holds the checksums of the built-in files; they cannot change afterwards.
            Place::Builtin => {
                let known = builtin::FILES.iter().find(|(path, _)| *path == file.path);
                let (_, bytes) = known.ok_or_else(|| unusable("not built in".into(), "rebuild the program"))?;
                return Ok(ModelBytes::Builtin(bytes));
            }
            Place::Folder(folder) => folder,
        };
        if !Path::new(&file.path).components().all(|c| matches!(c, Component::Normal(_))) {
            return Err(unusable("its path leaves the models folder".into(), "give a path under the folder"));
        }
        let restore = "restore the file, or remove the models folder to use the built-in copy";
        let path = folder.join(&file.path);
        let size = std::fs::metadata(&path).map_err(|e| unusable(e.to_string(), restore))?.len();
        if size > LARGEST {
            return Err(unusable(format!("{size} bytes are too many for a model"), restore));
        }
        let bytes = std::fs::read(&path).map_err(|e| unusable(e.to_string(), restore))?;
        if hex(&Sha256::digest(&bytes)) != file.sha256.to_ascii_lowercase() {
            return Err(unusable("its checksum is not the one in manifest.toml".into(), restore));
        }
        Ok(ModelBytes::Read(bytes))
    }

    fn unfit(&self, file: &ModelFile, why: &str) -> SpeechError {
        SpeechError::Unusable {
            model: self.name_of(file),
            why: why.to_owned(),
            mend: "use files that fit this version of the program".into(),
        }
    }

    fn name_of(&self, file: &ModelFile) -> String {
        self.path_of(&file.path)
    }

    fn path_of(&self, path: &str) -> String {
        match &self.place {
            Place::Builtin => format!("built-in {path}"),
            Place::Folder(folder) => folder.join(path).display().to_string(),
        }
    }
}

/// Bytes as lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The training mean; the file also names the units, which must be ours.
fn front_end_mean(json: &[u8]) -> Result<[f32; MELS], String> {
    #[derive(Deserialize)]
    struct Front {
        mel_mean: Vec<f32>,
        units: Vec<String>,
    }
    let front: Front = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    if !front.units.iter().map(String::as_str).eq(["<b>"].into_iter().chain(INITIALS).chain(FINALS)) {
        return Err("its units are not those of this program".into());
    }
    front.mel_mean.try_into().map_err(|v: Vec<f32>| format!("{} mel bands instead of {MELS}", v.len()))
}

fn inventory(json: &[u8]) -> Result<Vec<Syllable>, String> {
    let list: Vec<String> = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    list.iter().map(|s| Syllable::from_pinyin(s).ok_or_else(|| format!("`{s}` is no syllable"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy_to(folder: &Path) {
        std::fs::write(folder.join("manifest.toml"), builtin::MANIFEST).expect("written");
        for (path, bytes) in builtin::FILES {
            let to = folder.join(path);
            std::fs::create_dir_all(to.parent().expect("a folder")).expect("made");
            std::fs::write(to, bytes).expect("written");
        }
    }

    #[test]
    fn the_built_in_files_have_the_checksums_of_the_manifest() {
        let models = Models::builtin().expect("a manifest");
        assert_eq!(models.entries().len(), 2);
        for file in models.entries().iter().flat_map(|e| e.files.values()) {
            let bytes = models.read(file).expect("built in");
            assert_eq!(hex(&Sha256::digest(bytes.as_slice())), file.sha256, "{}", file.path);
        }
        assert!(models.entries().iter().all(|e| e.rate == 8000 && e.provisional));
    }

    #[test]
    fn a_folder_serves_as_the_built_in_models_do() {
        let folder = tempfile::tempdir().expect("a folder");
        copy_to(folder.path());
        let models = Models::in_folder(folder.path()).expect("a manifest");
        assert!(models.verify().is_empty());
        models.recogniser().expect("a recogniser");
        models.voice().expect("a voice");
    }

    #[test]
    fn a_damaged_file_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        copy_to(folder.path());
        let broken = folder.path().join("asr-first/am.int8.onnx");
        let mut bytes = std::fs::read(&broken).expect("read");
        bytes[1000] ^= 1;
        std::fs::write(&broken, bytes).expect("written");
        std::fs::remove_file(folder.path().join("tts-first/stats.json")).expect("removed");
        let models = Models::in_folder(folder.path()).expect("a manifest");
        let problems: Vec<String> = models.verify().iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(
            problems[0].contains("am.int8.onnx") && problems[0].contains("checksum") && problems[0].contains("restore")
        );
        assert!(problems[1].contains("stats.json"));
        assert!(models.recogniser().is_err() && models.voice().is_err());
    }

    #[test]
    fn a_manifest_cannot_reach_outside_its_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let manifest = builtin::MANIFEST.replace("asr-first/syls.json", "../secret");
        std::fs::write(folder.path().join("manifest.toml"), manifest).expect("written");
        let models = Models::in_folder(folder.path()).expect("a manifest");
        assert!(models.verify().iter().any(|p| p.to_string().contains("leaves the models folder")));
    }

    #[test]
    fn a_manifest_that_is_none_says_where() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(Models::in_folder(folder.path()).unwrap_err().to_string().contains("manifest.toml"));
        std::fs::write(folder.path().join("manifest.toml"), "model = 3").expect("written");
        assert!(Models::in_folder(folder.path()).unwrap_err().to_string().contains("manifest.toml"));
    }
}
