//! baresip as a caller that plays a tone and keeps what it hears.

use super::skipped;
use std::path::Path;
use std::time::Duration;

/// What it plays, in Hz.
pub const TONE: f32 = 700.0;

/// One kind of call by it.
pub struct Baresip<'a> {
    /// Modules beside those for files: codecs, encryption.
    pub modules: &'a [&'a str],
    /// Parameters of its account.
    pub account: &'a str,
    /// Rate of its sound, Hz.
    pub rate: u32,
    /// More lines of its configuration.
    pub more: &'a str,
}

impl Baresip<'_> {
    /// Calls for so many seconds; what it heard at 8 kHz, and what it said. None, with a word, where it is not installed.
    pub async fn call(&self, uri: &str, seconds: u32) -> Option<(Vec<i16>, String)> {
        let folder = self.folder()?;
        let run = tokio::process::Command::new("baresip")
            .args(["-4", "-s", "-f"])
            .arg(folder.path())
            .args(["-e", &format!("/dial {uri}"), "-t", &seconds.to_string()])
            .current_dir(folder.path())
            .kill_on_drop(true)
            .output();
        let output = match tokio::time::timeout(Duration::from_secs(40), run).await {
            Ok(Ok(output)) => output,
            Ok(Err(e)) => {
                skipped(format_args!("baresip cannot be run ({e}); install Debian's baresip-core"));
                return None;
            }
            Err(_) => panic!("baresip did not end"),
        };
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        Some((self.heard(folder.path()), said.into_owned()))
    }

    fn folder(&self) -> Option<tempfile::TempDir> {
        let places = ["/usr/lib/baresip/modules", "/usr/local/lib/baresip/modules"];
        let Some(place) = places.into_iter().find(|m| Path::new(m).exists()) else {
            skipped("no modules of baresip: install Debian's baresip-core");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str| folder.path().join(name);
        sine(&file("tone.wav"), TONE, self.rate, 30);
        let modules: String =
            ["aufile", "aubridge", "sndfile"].iter().chain(self.modules).map(|m| format!("module {m}.so\n")).collect();
        let config = format!(
            "sip_listen 127.0.0.1:0\nmodule_path {place}\n{modules}module_tmp account.so\nmodule_app menu.so\n\
             audio_source aufile,{}\naudio_player aubridge,nobody\nsnd_path {}\naudio_channels 1-2\naudio_srate {}\n{}\n",
            file("tone.wav").display(),
            folder.path().display(),
            self.rate,
            self.more
        );
        std::fs::write(file("config"), config).expect("a file");
        std::fs::write(file("accounts"), format!("<sip:me@127.0.0.1>;regint=0;{}\n", self.account)).expect("a file");
        std::fs::write(file("contacts"), "").expect("a file");
        Some(folder)
    }

    /// The longest of the files that its module of sound files wrote of what it decoded.
    fn heard(&self, folder: &Path) -> Vec<i16> {
        let files = std::fs::read_dir(folder).expect("a folder").filter_map(|e| Some(e.ok()?.path()));
        let dumps = files.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().ends_with("dec.wav")));
        dumps.map(|p| samples(&p)).max_by_key(Vec::len).unwrap_or_default()
    }
}

/// Writes a tone.
pub fn sine(file: &Path, hz: f32, rate: u32, seconds: u32) {
    let sample_format = hound::SampleFormat::Int;
    let spec = hound::WavSpec { channels: 1, sample_rate: rate, bits_per_sample: 16, sample_format };
    let mut wav = hound::WavWriter::create(file, spec).expect("a file");
    for n in 0..rate * seconds {
        let turn = std::f64::consts::TAU * f64::from(hz) * f64::from(n) / f64::from(rate);
        wav.write_sample((8000.0 * turn.sin()) as i16).expect("a sample");
    }
    wav.finalize().expect("a file");
}

/// What a file of sound holds, thinned out to 8 kHz: good enough for tones. A file that its writer never closed counts as
/// far as it goes.
pub fn samples(file: &Path) -> Vec<i16> {
    let Ok(wav) = hound::WavReader::open(file) else { return Vec::new() };
    let (rate, channels) = (wav.spec().sample_rate, usize::from(wav.spec().channels));
    let all: Vec<i16> = wav.into_samples::<i16>().map_while(Result::ok).collect();
    all.into_iter().step_by(channels * (rate / 8000).max(1) as usize).collect()
}
