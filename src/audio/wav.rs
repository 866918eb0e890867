//! WAV: any usual file in as 8 kHz mono; recordings out, playable at any moment.

use super::{Law, SAMPLE_RATE, resample};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};

/// Longest sound accepted, in seconds: prompts, music and test callers are far shorter.
pub const MAX_SECONDS: u32 = 3600;
/// Rates accepted, in Hz: below them nothing is understood, above them nothing is recorded.
const RATES: std::ops::RangeInclusive<u32> = 4_000..=768_000;
/// Longest file accepted, in bytes.
const MAX_BYTES: u64 = 512 * 1024 * 1024;

/// Why a WAV file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WavError {
    /// Not a WAV file, or a damaged one.
    #[error("this is not a readable WAV file: {0}")]
    Format(String),
    /// A WAV file of a kind that is not decoded here.
    #[error("this WAV file cannot be used ({0}): convert it to 16-bit PCM, for example `sox in.wav -b 16 out.wav`")]
    Unsupported(String),
    /// Longer than [`MAX_SECONDS`].
    #[error("this WAV file is too long: {0} s, at most {MAX_SECONDS} s")]
    TooLong(u32),
    /// More bytes than any hour of sound needs.
    #[error("this WAV file is larger than 512 MiB")]
    TooBig,
    /// Its rate cannot be changed to 8 kHz.
    #[error(transparent)]
    Rate(#[from] resample::ResampleError),
    /// Reading or writing failed.
    #[error("WAV input or output failed: {0}")]
    Io(#[from] std::io::Error),
    /// A recording reached the 4 GiB that a WAV file can hold.
    #[error("the recording reached 4 GiB, the most a WAV file can hold")]
    Full,
}

impl From<hound::Error> for WavError {
    fn from(error: hound::Error) -> Self {
        match error {
            // hound reports a file that ends too early as an error of its own making.
            hound::Error::IoError(e) if matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::Other) => {
                WavError::Format("it ends too early".into())
            }
            hound::Error::IoError(e) => WavError::Io(e),
            hound::Error::FormatError(what) => WavError::Format(what.into()),
            hound::Error::Unsupported => WavError::Unsupported("an encoding other than PCM or float".into()),
            other => WavError::Format(other.to_string()),
        }
    }
}

/// Reads a WAV file (8, 16, 24, 32 bit, float, A-law or mu-law, any rate and number of channels) as 8 kHz mono.
/// Channels are averaged.
pub fn read(from: impl Read) -> Result<Vec<i16>, WavError> {
    let (rate, pcm) = read_native(from)?;
    if rate == SAMPLE_RATE {
        return Ok(pcm);
    }
    Ok(resample::convert(&pcm, rate, SAMPLE_RATE)?)
}

/// Reads a WAV file as mono at its own rate: (Hz, samples).
pub fn read_native(mut from: impl Read) -> Result<(u32, Vec<i16>), WavError> {
    let mut bytes = Vec::new();
    from.by_ref().take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(WavError::TooBig);
    }
    if let Some(coded) = G711::find(&bytes) {
        return coded.read();
    }
    let reader = hound::WavReader::new(&bytes[..])?;
    let spec = reader.spec();
    check(spec.channels, spec.sample_rate, reader.duration())?;
    let pcm = match (spec.sample_format, spec.bits_per_sample) {
        (hound::SampleFormat::Float, 32) => {
            mono(reader.into_samples::<f32>().map(|s| s.map(|s| f64::from(s) * 32768.0)), spec.channels)?
        }
        (hound::SampleFormat::Int, bits @ (8 | 16 | 24 | 32)) => {
            let scale = (f64::from(bits) - 16.0).exp2().recip();
            mono(reader.into_samples::<i32>().map(|s| s.map(|s| f64::from(s) * scale)), spec.channels)?
        }
        (format, bits) => return Err(WavError::Unsupported(format!("{bits} bits {format:?}"))),
    };
    Ok((spec.sample_rate, pcm))
}

fn check(channels: u16, rate: u32, moments: u32) -> Result<(), WavError> {
    if channels == 0 || rate == 0 {
        return Err(WavError::Format("it claims no channels or no sample rate".into()));
    }
    if !RATES.contains(&rate) {
        return Err(WavError::Unsupported(format!("a rate of {rate} Hz")));
    }
    match moments / rate {
        seconds if seconds > MAX_SECONDS => Err(WavError::TooLong(seconds)),
        _ => Ok(()),
    }
}

/// A WAV file of G.711 codes (format tags 6 and 7): usual for telephone prompts, unknown to `hound`.
struct G711<'a> {
    law: Law,
    channels: u16,
    rate: u32,
    codes: &'a [u8],
}

impl<'a> G711<'a> {
    fn find(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(b"RIFF")?.get(4..)?.strip_prefix(b"WAVE")?;
        let mut format = None;
        while let Some((head, after)) = rest.split_at_checked(8) {
            let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            // A file cut short: what is there counts.
            let chunk = &after[..length.min(after.len())];
            match (&head[..4], format) {
                (b"fmt ", _) => {
                    let [tag, _, channels, channels_high, r0, r1, r2, r3, ..] = *chunk else { return None };
                    let law = match tag {
                        6 => Law::A,
                        7 => Law::Mu,
                        _ => return None,
                    };
                    format = Some((
                        law,
                        u16::from_le_bytes([channels, channels_high]),
                        u32::from_le_bytes([r0, r1, r2, r3]),
                    ));
                }
                (b"data", Some((law, channels, rate))) => return Some(G711 { law, channels, rate, codes: chunk }),
                _ => {}
            }
            // Chunks begin at even places.
            rest = after.get(length + length % 2..)?;
        }
        None
    }

    fn read(self) -> Result<(u32, Vec<i16>), WavError> {
        check(self.channels, self.rate, self.codes.len() as u32 / u32::from(self.channels.max(1)))?;
        let samples = self.codes.iter().map(|&c| Ok(f64::from(self.law.decode_sample(c))));
        Ok((self.rate, mono(samples, self.channels)?))
    }
}

fn mono(samples: impl Iterator<Item = hound::Result<f64>>, channels: u16) -> Result<Vec<i16>, WavError> {
    let mut out = Vec::new();
    let (mut sum, mut count) = (0.0, 0);
    for sample in samples {
        let sample = sample?;
        sum += if sample.is_finite() { sample } else { 0.0 };
        count += 1;
        if count == channels {
            out.push((sum / f64::from(channels)).round().clamp(-32768.0, 32767.0) as i16);
            (sum, count) = (0.0, 0);
        }
    }
    Ok(out)
}

/// Writes a whole mono 16-bit WAV file.
pub fn write(to: impl Write + Seek, rate: u32, pcm: &[i16]) -> Result<(), WavError> {
    let spec =
        hound::WavSpec { channels: 1, sample_rate: rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::new(to, spec)?;
    for &sample in pcm {
        writer.write_sample(sample)?;
    }
    Ok(writer.finalize()?)
}

/// Bytes before the samples.
const HEADER: u32 = 44;
/// Bytes of one moment in stereo.
const PAIR: u32 = 4;
/// Pairs after which the file is made whole: 0.8 s, so that with a last unwritten frame a killed process
/// loses less than a second.
const WHOLE_EVERY: u32 = SAMPLE_RATE * 8 / 10;

/// Writes a stereo 16-bit 8 kHz recording (left: one party, right: the other) as it happens. The header is
/// true again every 0.8 s and the bytes handed to the system, so that a killed process leaves a playable
/// file with less than a second missing.
///
/// Give it the file itself, not a `BufWriter`: it holds its own second of samples.
#[derive(Debug)]
pub struct RecordingWriter<W: Write + Seek> {
    to: W,
    /// Pairs already in the file.
    written: u32,
    waiting: Vec<u8>,
}

impl<W: Write + Seek> RecordingWriter<W> {
    /// Begins a recording: writes a header of an empty one.
    pub fn new(mut to: W) -> Result<Self, WavError> {
        to.write_all(&header(0))?;
        to.flush()?;
        Ok(RecordingWriter { to, written: 0, waiting: Vec::with_capacity((WHOLE_EVERY * PAIR + 4096) as usize) })
    }

    /// Adds what both parties said at the same time; the shorter one is filled up with silence.
    pub fn push(&mut self, left: &[i16], right: &[i16]) -> Result<(), WavError> {
        for i in 0..left.len().max(right.len()) {
            let pair = [left.get(i).copied().unwrap_or(0), right.get(i).copied().unwrap_or(0)];
            self.waiting.extend(pair.into_iter().flat_map(i16::to_le_bytes));
        }
        if self.waiting.len() >= (WHOLE_EVERY * PAIR) as usize {
            self.make_whole()?;
        }
        Ok(())
    }

    /// Seconds recorded so far.
    pub fn seconds(&self) -> f64 {
        (f64::from(self.written) + self.waiting.len() as f64 / f64::from(PAIR)) / f64::from(SAMPLE_RATE)
    }

    /// Writes everything out and gives the file back.
    pub fn finish(mut self) -> Result<W, WavError> {
        self.make_whole()?;
        Ok(self.to)
    }

    /// First the samples, then the header that counts them: cut anywhere in between, the file is still valid.
    fn make_whole(&mut self) -> Result<(), WavError> {
        let pairs = self.waiting.len() as u64 / u64::from(PAIR) + u64::from(self.written);
        if pairs * u64::from(PAIR) + u64::from(HEADER) > u64::from(u32::MAX) {
            return Err(WavError::Full);
        }
        // From a known place: after a failed write (disk full) the next try must not leave a hole or a double.
        self.to.seek(SeekFrom::Start(u64::from(HEADER) + u64::from(self.written) * u64::from(PAIR)))?;
        self.to.write_all(&self.waiting)?;
        self.to.flush()?;
        self.to.seek(SeekFrom::Start(0))?;
        self.to.write_all(&header(pairs as u32))?;
        self.to.flush()?;
        self.written = pairs as u32;
        self.waiting.clear();
        Ok(())
    }
}

/// RIFF header of `pairs` stereo samples.
fn header(pairs: u32) -> [u8; HEADER as usize] {
    let data = pairs * PAIR;
    let mut out = [0; HEADER as usize];
    out[0..4].copy_from_slice(b"RIFF");
    out[4..8].copy_from_slice(&(data + HEADER - 8).to_le_bytes());
    out[8..16].copy_from_slice(b"WAVEfmt ");
    out[16..20].copy_from_slice(&16u32.to_le_bytes());
    out[20..22].copy_from_slice(&1u16.to_le_bytes());
    out[22..24].copy_from_slice(&2u16.to_le_bytes());
    out[24..28].copy_from_slice(&SAMPLE_RATE.to_le_bytes());
    out[28..32].copy_from_slice(&(SAMPLE_RATE * PAIR).to_le_bytes());
    out[32..34].copy_from_slice(&(PAIR as u16).to_le_bytes());
    out[34..36].copy_from_slice(&16u16.to_le_bytes());
    out[36..40].copy_from_slice(b"data");
    out[40..44].copy_from_slice(&data.to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::super::detect::tone_power;
    use super::*;
    use std::io::Cursor;

    fn made(spec: hound::WavSpec, seconds: u32) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
        for i in 0..spec.sample_rate * seconds {
            let x = (f64::from(i) * std::f64::consts::TAU * 1000.0 / f64::from(spec.sample_rate)).sin() * 0.25;
            for _ in 0..spec.channels {
                match spec.sample_format {
                    hound::SampleFormat::Float => writer.write_sample(x as f32).unwrap(),
                    hound::SampleFormat::Int => {
                        writer.write_sample((x * f64::from(spec.bits_per_sample - 1).exp2()) as i32).unwrap();
                    }
                }
            }
        }
        writer.finalize().unwrap();
        bytes.into_inner()
    }

    #[test]
    fn every_usual_kind_of_file_becomes_8_khz_mono() {
        for (rate, channels, bits, float) in [
            (8000, 1, 16, false),
            (8000, 2, 8, false),
            (16_000, 1, 24, false),
            (44_100, 2, 16, false),
            (48_000, 6, 32, false),
            (22_050, 1, 32, true),
        ] {
            let sample_format = if float { hound::SampleFormat::Float } else { hound::SampleFormat::Int };
            let spec = hound::WavSpec { channels, sample_rate: rate, bits_per_sample: bits, sample_format };
            let pcm = read(&made(spec, 1)[..]).unwrap();
            assert!((pcm.len() as i64 - 8000).abs() < 3, "{spec:?}");
            let power = tone_power(&pcm[800..7200], 1000.0) / (8192.0f32.powi(2) / 2.0);
            assert!((power - 1.0).abs() < 0.03, "{spec:?} {power}");
        }
    }

    #[test]
    fn what_is_no_wav_file_is_refused_in_words() {
        assert!(matches!(read(&b"ID3 not a wav file"[..]), Err(WavError::Format(_))));
        assert!(matches!(read(&b""[..]), Err(WavError::Format(_))));
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 8000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let bytes = made(spec, 1);
        assert!(matches!(read(&bytes[..5000]), Err(WavError::Format(_))));
    }

    #[test]
    fn a_file_of_g711_codes_is_decoded_and_a_cut_one_too() {
        for (law, tag) in [(Law::A, 6u8), (Law::Mu, 7)] {
            let mut bytes = b"RIFF\0\0\0\0WAVEfmt \x12\0\0\0".to_vec();
            bytes.extend([tag, 0, 1, 0, 0x40, 0x1F, 0, 0, 0x40, 0x1F, 0, 0, 1, 0, 8, 0, 0, 0]);
            bytes.extend(b"fact\x03\0\0\0abc\0data\x20\x03\0\0");
            let codes: Vec<u8> = (0..800).map(|i| (i % 128 + 128) as u8).collect();
            bytes.extend(&codes);
            let expected: Vec<i16> = codes.iter().map(|&c| law.decode_sample(c)).collect();
            assert_eq!(read(&bytes[..]).unwrap(), expected, "{law:?}");
            assert_eq!(read(&bytes[..bytes.len() - 300]).unwrap(), expected[..500], "{law:?}");
            for length in 0..bytes.len() - 800 {
                let _ = read(&bytes[..length]);
            }
        }
    }

    #[test]
    fn a_mono_file_reads_back_as_written() {
        let pcm: Vec<i16> = (0..800).map(|i| i * 37).collect();
        let mut bytes = Cursor::new(Vec::new());
        write(&mut bytes, 8000, &pcm).unwrap();
        assert_eq!(read(&bytes.into_inner()[..]).unwrap(), pcm);
    }

    #[test]
    fn a_recording_cut_at_any_moment_is_playable_and_misses_less_than_a_second() {
        let mut recording = RecordingWriter::new(Cursor::new(Vec::new())).unwrap();
        for frame in 0..500i16 {
            recording.push(&[frame; 160], &[-frame; 160]).unwrap();
            let file = recording.to.get_ref();
            let reader = hound::WavReader::new(&file[..]).unwrap();
            assert_eq!(reader.spec().channels, 2);
            let playable = reader.duration() as usize;
            assert!((frame as usize + 1) * 160 - playable < 8000, "frame {frame}: {playable} samples");
            assert_eq!(reader.into_samples::<i16>().filter(Result::is_ok).count(), playable * 2);
        }
        assert!((recording.seconds() - 10.0).abs() < 1e-9);
        let bytes = recording.finish().unwrap().into_inner();
        let samples: Vec<i16> = hound::WavReader::new(&bytes[..]).unwrap().into_samples().map(Result::unwrap).collect();
        assert_eq!((samples.len(), samples[320], samples[321]), (160_000, 1, -1));
    }

    #[test]
    fn after_a_full_disk_the_recording_goes_on_without_a_hole() {
        struct Tight(Cursor<Vec<u8>>, bool);
        impl Write for Tight {
            fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
                if self.1 && buf.len() > 100 {
                    self.0.write(&buf[..50])?;
                    return Err(std::io::ErrorKind::StorageFull.into());
                }
                self.0.write(buf)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        impl Seek for Tight {
            fn seek(&mut self, pos: SeekFrom) -> std::io::Result<u64> {
                self.0.seek(pos)
            }
        }
        let mut recording = RecordingWriter::new(Tight(Cursor::new(Vec::new()), true)).unwrap();
        assert!(matches!(recording.push(&[5; 8000], &[6; 8000]), Err(WavError::Io(_))));
        recording.to.1 = false;
        let bytes = recording.finish().unwrap().0.into_inner();
        let samples: Vec<i16> = hound::WavReader::new(&bytes[..]).unwrap().into_samples().map(Result::unwrap).collect();
        assert_eq!(samples, [5, 6].repeat(8000));
    }

    /// Recordings of keys and prompts by other makers, outside the tree.
    #[test]
    fn other_makers_files_are_read_and_their_keys_told() {
        let root = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let tried = ["../shared", "../../shared"].map(|up| root.join(up).join("data/calls"));
        let Some(calls) = tried.iter().find(|path| path.is_dir()) else {
            crate::skip::skipped("no ../shared/data/calls: this test proved nothing");
            return;
        };
        for (name, key) in "0123456789".chars().map(|k| (k.to_string(), k)).chain([("star".into(), '*')]) {
            let file = std::fs::File::open(calls.join(format!("dtmf/pipecat_dtmf-{name}.wav"))).unwrap();
            let pcm = read(file).unwrap();
            let loudest = pcm
                .chunks(400)
                .max_by(|a, b| super::super::detect::power(a).total_cmp(&super::super::detect::power(b)));
            assert_eq!(super::super::detect::dtmf_key(loudest.unwrap()), Some(key));
        }
        for entry in std::fs::read_dir(calls.join("prompts")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "wav") {
                let seconds = read(std::fs::File::open(&path).unwrap()).map(|pcm| pcm.len() / 8000);
                assert!(seconds.as_ref().is_ok_and(|s| *s < 60), "{}: {seconds:?}", path.display());
            }
        }
    }
}
