//! The espeak-ng program, run beside us (it is GPL-3: never linked): English, and Mandarin as the last resort.

use super::level::levelled;
use super::resample::{resample, to_float};
use super::units::spell;
use crate::speech::text::{ToneSyllable, phrases};
use crate::speech::{Lang, SpeechError, SpeechRequest, Synthesizer};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Name in records and in the prompt cache's key.
pub const NAME: &str = "espeak-ng";
/// A phrase takes some 50 ms; a machine that needs this long is not going to speak.
const LIMIT: Duration = Duration::from_secs(5);
/// Most text of one phrase, in bytes: below what a pipe holds, so that writing never waits.
const MOST_TEXT: usize = 4096;
/// Most sound of one phrase, in bytes (over three minutes).
const MOST_SOUND: u64 = 8 << 20;
/// Words a minute at rate 1.0: a little under the program's own 175, for the telephone.
const WORDS: f32 = 160.0;

/// The program as a voice.
#[derive(Debug, Clone)]
pub struct Espeak {
    program: PathBuf,
}

impl Espeak {
    /// `program`: a path, or a name to be looked for (`espeak-ng`).
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Espeak { program: program.into() }
    }

    /// Whether it runs; the error says what to do.
    pub fn check(&self) -> Result<(), SpeechError> {
        self.run("a", "en", 1.0, 1.0).map(|_| ())
    }

    /// Speaks one phrase, at the program's own rate (the first value, Hz).
    fn run(&self, text: &str, voice: &str, rate: f32, pitch: f32) -> Result<(u32, Vec<i16>), SpeechError> {
        let speed = (WORDS * rate).round().clamp(80.0, 450.0);
        let height = (50.0 * pitch).round().clamp(0.0, 99.0);
        let child = Command::new(&self.program)
            .args(["-v", voice, "-s", &speed.to_string(), "-p", &height.to_string(), "-b", "1", "--stdin", "--stdout"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| SpeechError::Unusable {
                model: self.program.display().to_string(),
                why: e.to_string(),
                mend: "install it (Debian: apt-get install espeak-ng) or set the path to it".into(),
            })?;
        let wav = converse(child, text).map_err(|why| self.failed(&why))?;
        parse_wav(&wav).map_err(|why| self.failed(why))
    }

    fn failed(&self, why: &str) -> SpeechError {
        SpeechError::Failed { model: NAME.into(), why: why.to_owned() }
    }
}

impl Synthesizer for Espeak {
    fn name(&self) -> &str {
        NAME
    }

    fn speak(&self, request: &SpeechRequest, sink: &mut dyn FnMut(Vec<i16>) -> bool) -> Result<(), SpeechError> {
        let (voice, phrases) = match request.lang {
            // Its `cmn` voice reads hanzi as English; `cmn-latn-pinyin` reads pinyin right.
            Lang::Zh => ("cmn-latn-pinyin", mandarin(&request.text)),
            Lang::En => ("en", english(&request.text)),
        };
        for (text, pause_ms) in phrases {
            let (rate, pcm) = self.run(&text, voice, request.rate.clamp(0.5, 2.0), request.pitch.clamp(0.5, 2.0))?;
            let sound = resample(&to_float(trimmed(&pcm)), rate, 8000).map_err(|why| self.failed(&why))?;
            let mut pcm = levelled(sound);
            pcm.resize(pcm.len() + 8 * usize::from(pause_ms), 0);
            if !sink(pcm) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Writes the text, reads the sound, waits no longer than [`LIMIT`].
fn converse(mut child: Child, text: &str) -> Result<Vec<u8>, String> {
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("no pipe to it".into());
    };
    let (done, sound) = crossbeam_channel::bounded(1);
    // The reader ends with the pipe: at the latest when the child below is killed.
    let reader = std::thread::spawn(move || {
        let mut wav = Vec::new();
        let result = stdout.take(MOST_SOUND).read_to_end(&mut wav).map(|_| wav);
        let _ = done.send(result);
    });
    let mut end = text.len().min(MOST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let written = stdin.write_all(&text.as_bytes()[..end]);
    drop(stdin);
    let heard = sound.recv_timeout(LIMIT);
    // Gone already in the good case; in every other it must not stay.
    let _ = child.kill();
    let status = child.wait();
    let _ = reader.join();
    match (heard, written) {
        (Err(_), _) => Err(format!("no answer within {} s", LIMIT.as_secs())),
        (Ok(Err(e)), _) => Err(e.to_string()),
        (Ok(Ok(wav)), Err(e)) if wav.is_empty() => Err(format!("it took no text: {e}")),
        (Ok(Ok(wav)), Ok(())) if wav.is_empty() => Err(format!("it gave no sound ({status:?})")),
        (Ok(Ok(wav)), _) => Ok(wav),
    }
}

/// Rate and samples of a mono 16-bit WAV whose sizes are not filled in (it was written to a pipe).
fn parse_wav(wav: &[u8]) -> Result<(u32, Vec<i16>), &'static str> {
    const NOT_WAV: &str = "its output is no 16-bit mono WAV";
    if wav.len() < 12 || &wav[..4] != b"RIFF" || &wav[8..12] != b"WAVE" {
        return Err(NOT_WAV);
    }
    let word = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]);
    let long = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    let (mut at, mut rate) = (12, 0);
    while let Some(head) = wav.get(at..at + 8) {
        let body = at + 8;
        let size = long(&head[4..]) as usize;
        if &head[..4] == b"data" && (8000..=48000).contains(&rate) {
            let end = body.saturating_add(size).min(wav.len());
            let pcm = wav[body..end].as_chunks::<2>().0.iter().map(|b| i16::from_le_bytes(*b)).collect();
            return Ok((rate, pcm));
        }
        if &head[..4] == b"fmt " {
            let f = wav.get(body..body + 16).ok_or(NOT_WAV)?;
            if word(f) != 1 || word(&f[2..]) != 1 || word(&f[14..]) != 16 {
                return Err(NOT_WAV);
            }
            rate = long(&f[4..]);
        }
        at = body.saturating_add(size);
    }
    Err(NOT_WAV)
}

/// Without the silence the program puts around a phrase.
fn trimmed(pcm: &[i16]) -> &[i16] {
    let loud = |s: &i16| s.unsigned_abs() > 100;
    match (pcm.iter().position(loud), pcm.iter().rposition(loud)) {
        (Some(from), Some(to)) => &pcm[from..=to],
        _ => &[],
    }
}

/// Phrases as numbered pinyin.
fn mandarin(text: &str) -> Vec<(String, u16)> {
    let word = |s: &ToneSyllable| format!("{}{}", spell(s.initial, s.last).replace('v', "ü"), s.tone);
    phrases(text)
        .into_iter()
        .map(|p| (p.syllables.iter().map(word).collect::<Vec<_>>().join(" "), p.pause_ms))
        .collect()
}

/// Phrases between the marks that make a pause.
fn english(text: &str) -> Vec<(String, u16)> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find([',', '.', '?', '!', ';', ':', '，', '。', '？', '！']) {
        let mark = rest[at..].chars().next().unwrap_or('.');
        let end = at + mark.len_utf8();
        // "3.5" and "www.a.com" are not two phrases.
        let inside = rest[end..].chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        if mark.is_ascii() && inside {
            let next = rest[end..].find([' ', '\n']).map_or(rest.len(), |i| end + i);
            push(&mut out, &rest[..next], 0);
            rest = &rest[next..];
            continue;
        }
        let pause = if matches!(mark, ',' | ';' | ':' | '，') { 180 } else { 380 };
        push(&mut out, &rest[..end], pause);
        rest = &rest[end..];
    }
    push(&mut out, rest, 0);
    out
}

fn push(out: &mut Vec<(String, u16)>, text: &str, pause_ms: u16) {
    if text.chars().any(char::is_alphanumeric) {
        out.push((text.trim().to_owned(), pause_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speak(lang: Lang, text: &str) -> Option<Vec<Vec<i16>>> {
        let espeak = Espeak::new("espeak-ng");
        if espeak.check().is_err() {
            crate::skip::skipped("espeak-ng is not installed");
            return None;
        }
        let request = SpeechRequest { text: text.into(), lang, rate: 1.0, pitch: 1.0, audio: None, personal: false };
        let mut out = Vec::new();
        espeak
            .speak(&request, &mut |p| {
                out.push(p);
                true
            })
            .expect("spoken");
        Some(out)
    }

    #[test]
    fn english_and_pinyin_are_spoken() {
        let Some(parts) = speak(Lang::En, "Good morning, how can I help?") else { return };
        assert_eq!(parts.len(), 2);
        assert!(
            parts.iter().all(|p| p.len() > 2000 && p.len() < 24000),
            "{:?}",
            parts.iter().map(Vec::len).collect::<Vec<_>>()
        );
        let Some(parts) = speak(Lang::Zh, "您好") else { return };
        assert!(parts[0].iter().any(|s| s.unsigned_abs() > 4000));
    }

    #[test]
    fn a_missing_program_says_what_to_install() {
        let error = Espeak::new("/nowhere/espeak-ng").check().expect_err("it is not there");
        assert!(error.to_string().contains("apt-get install espeak-ng"), "{error}");
    }

    #[test]
    fn a_program_that_gives_no_wav_is_refused() {
        let error = Espeak::new("/bin/echo").check().expect_err("no WAV");
        assert!(error.to_string().contains("WAV"), "{error}");
        assert!(Espeak::new("/bin/true").check().is_err());
    }

    #[test]
    fn a_wav_from_a_pipe_is_read_whatever_its_sizes_say() {
        let mut wav = b"RIFF\xff\xff\xff\x7fWAVEfmt \x10\0\0\0\x01\0\x01\0\x22\x56\0\0\x44\xac\0\0\x02\0\x10\0data\xff\xff\xff\x7f".to_vec();
        wav.extend([1, 0, 2, 0, 3]);
        assert_eq!(parse_wav(&wav), Ok((22050, vec![1, 2])));
        for cut in 0..44 {
            let _ = parse_wav(&wav[..cut]);
        }
        assert!(parse_wav(b"RIFF....WAVEdata\x04\0\0\0....").is_err());
    }

    #[test]
    fn english_phrases_keep_numbers_whole() {
        let texts: Vec<String> = english("Pay 3.5 dollars, please. Thanks").into_iter().map(|p| p.0).collect();
        assert_eq!(texts.concat().matches("3.5").count(), 1);
        assert!(texts.last().is_some_and(|t| t == "Thanks"));
        assert!(english(" ... ").is_empty());
    }

    #[test]
    fn mandarin_is_written_as_numbered_pinyin() {
        assert_eq!(mandarin("女士，知道。")[0].0, "nü3 shi4");
        assert_eq!(mandarin("女士，知道。")[1].0, "zhi1 dao4");
    }
}
