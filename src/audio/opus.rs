//! Opus (RFC 6716) by libopus. Its decoder gives 8 kHz itself, and does no work on a band that the engine would throw
//! away. Its encoder would take 8 kHz too, but then codes steady tones so close to resonance that after a lost packet the
//! listener's decoder sings at full scale for seconds; from 16 kHz it does not (shown over sixteen tones).

use super::codec::{CodecError, Coding, Decoded, EncoderOptions};
use super::halfband::Doubler;
use super::{FRAME_SAMPLES, SAMPLE_RATE};

/// Samples in the shortest piece of sound: 2.5 ms.
pub const STEP: usize = 20;
/// Most bytes of a packet of ours.
const MOST_BYTES: usize = 640;
/// Bits a second: speech with its repairs.
const BITRATE: i32 = 24_000;
/// Work spent on a packet, 0 to 10.
const COMPLEXITY: i32 = 5;
/// Loss that the repairs are made for, in percent.
const EXPECTED_LOSS: i32 = 10;
/// Packets this short say only that the sender is silent (RFC 7587, 3.1.3).
const DTX_BYTES: usize = 2;

fn library(e: opus::Error) -> CodecError {
    CodecError::Library(Coding::Opus, e.to_string())
}

/// Samples in a packet; none for bytes that are no Opus packet.
pub fn samples(payload: &[u8]) -> Option<usize> {
    opus::packet::get_nb_samples(payload, SAMPLE_RATE).ok()
}

/// 8 kHz samples to Opus.
pub struct OpusEncoder {
    inner: opus::Encoder,
    doubler: Doubler,
    /// The packet's sound at 16 kHz.
    wide: Vec<i16>,
}

impl OpusEncoder {
    /// For one stream of speech.
    pub fn new(options: EncoderOptions) -> Result<Self, CodecError> {
        let make = || {
            let mut encoder = opus::Encoder::new(2 * SAMPLE_RATE, opus::Channels::Mono, opus::Application::Voip)?;
            encoder.set_bitrate(opus::Bitrate::Bits(BITRATE))?;
            encoder.set_complexity(COMPLEXITY)?;
            encoder.set_inband_fec(options.fec)?;
            encoder.set_packet_loss_perc(if options.fec { EXPECTED_LOSS } else { 0 })?;
            encoder.set_dtx(options.dtx)?;
            Ok(OpusEncoder { inner: encoder, doubler: Doubler::default(), wide: Vec::with_capacity(6 * FRAME_SAMPLES) })
        };
        make().map_err(library)
    }

    /// Appends a packet of 10, 20, 40 or 60 ms. False when there is nothing to send.
    pub fn encode(&mut self, pcm: &[i16], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        out.resize(start + MOST_BYTES, 0);
        self.wide.clear();
        self.doubler.push(pcm, |wide| self.wide.extend_from_slice(wide));
        let made = self.inner.encode(&self.wide, &mut out[start..]).unwrap_or(0);
        out.truncate(start + made);
        made > DTX_BYTES
    }
}

/// Opus to 8 kHz samples.
pub struct OpusDecoder(opus::Decoder);

impl OpusDecoder {
    /// For one stream.
    pub fn new() -> Result<Self, CodecError> {
        opus::Decoder::new(SAMPLE_RATE, opus::Channels::Mono).map(OpusDecoder).map_err(library)
    }

    /// The samples of a packet; two channels become one.
    pub fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> Decoded {
        match self.0.decode(payload, out, false) {
            Ok(_) if payload.len() <= DTX_BYTES => Decoded::Noise,
            Ok(_) => Decoded::Sound,
            Err(_) => Decoded::Nothing,
        }
    }

    /// Sound for what is missing: made up by the decoder, its last 20 ms out of the next packet if that has a copy.
    pub fn conceal(&mut self, next: Option<&[u8]>, out: &mut [i16]) -> bool {
        let copied = if next.is_some() { out.len().min(FRAME_SAMPLES) } else { 0 };
        let (made_up, copy) = out.split_at_mut(out.len() - copied);
        // The library makes up at most 120 ms at a time.
        let made = made_up.chunks_mut(FRAME_SAMPLES).all(|part| self.0.decode(&[], part, false).is_ok());
        made && next.is_none_or(|next| self.0.decode(next, copy, true).is_ok())
    }
}
