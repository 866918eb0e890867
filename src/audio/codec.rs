//! Sound in packets, whichever the codec: 8 kHz samples in and out.
//!
//! G.711 has no memory: its packets may be decoded in any order, straight into their place. The others must be fed every
//! packet in its turn, and be told what is missing.

use super::Law;
use super::g722::{G722Decoder, G722Encoder};
#[cfg(feature = "g729")]
use super::g729::{G729Decoder, G729Encoder};
#[cfg(feature = "opus")]
use super::opus::{OpusDecoder, OpusEncoder};

/// Longest packet of any codec, in samples: 120 ms.
pub const LONGEST: usize = 960;

/// How sound is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// G.711: a byte a sample.
    G711(Law),
    /// G.722 at 64 kbit/s: 16 kHz sound, but its RTP clock is 8 kHz (RFC 3551, 4.5.2): a byte a tick.
    G722,
    /// G.729 (8 kbit/s) with Annexes A and B: frames of 10 ms in 10 bytes, and of noise in 2.
    G729,
    /// Opus: mono, 10 to 60 ms a packet; its RTP clock is 48 kHz whatever is inside (RFC 7587).
    Opus,
}

impl Coding {
    /// Ticks of its RTP clock in a sample of 8 kHz.
    pub const fn ticks(self) -> u32 {
        match self {
            Coding::G711(_) | Coding::G722 | Coding::G729 => 1,
            Coding::Opus => 6,
        }
    }

    /// Whether this program was built with it.
    pub const fn is_built_in(self) -> bool {
        match self {
            Coding::G711(_) | Coding::G722 => true,
            Coding::G729 => cfg!(feature = "g729"),
            Coding::Opus => cfg!(feature = "opus"),
        }
    }

    /// Samples of 8 kHz in a packet, 1 to [`LONGEST`]; none for bytes that are no packet of this codec.
    pub fn samples(self, payload: &[u8]) -> Option<usize> {
        let samples = match self {
            Coding::G711(_) | Coding::G722 => payload.len(),
            #[cfg(feature = "g729")]
            Coding::G729 => super::g729::samples(payload)?,
            #[cfg(feature = "opus")]
            Coding::Opus => super::opus::samples(payload)?,
            #[cfg(not(all(feature = "g729", feature = "opus")))]
            _ => return None,
        };
        (1..=LONGEST).contains(&samples).then_some(samples)
    }
}

/// Why a codec cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The program was built without it.
    #[error("this program was built without {0:?}")]
    NotBuilt(Coding),
    /// The library refused.
    #[error("{0:?}: {1}")]
    Library(Coding, String),
}

/// What a packet turned out to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// Sound.
    Sound,
    /// The sender fell silent: what follows without a packet is noise, not loss.
    Noise,
    /// Nothing that could be decoded.
    Nothing,
}

/// The sending half of a codec.
pub enum Encoder {
    /// G.711.
    G711(Law),
    /// G.722.
    G722(Box<G722Encoder>),
    /// G.729.
    #[cfg(feature = "g729")]
    G729(Box<G729Encoder>),
    /// Opus.
    #[cfg(feature = "opus")]
    Opus(Box<OpusEncoder>),
}

/// What a peer can make use of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EncoderOptions {
    /// Repairs of lost packets within the next one (Opus in-band FEC).
    pub fec: bool,
    /// Next to nothing in silence (Opus DTX).
    pub dtx: bool,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encoder({:?})", self.coding())
    }
}

impl Encoder {
    /// An encoder at the beginning of a stream.
    pub fn new(coding: Coding, options: EncoderOptions) -> Result<Encoder, CodecError> {
        let _without_opus_they_mean_nothing = options;
        match coding {
            Coding::G711(law) => Ok(Encoder::G711(law)),
            Coding::G722 => Ok(Encoder::G722(Box::default())),
            #[cfg(feature = "g729")]
            Coding::G729 => Ok(Encoder::G729(Box::default())),
            #[cfg(feature = "opus")]
            Coding::Opus => Ok(Encoder::Opus(Box::new(OpusEncoder::new(options)?))),
            #[cfg(not(all(feature = "g729", feature = "opus")))]
            coding => Err(CodecError::NotBuilt(coding)),
        }
    }

    /// What it makes.
    pub fn coding(&self) -> Coding {
        match self {
            Encoder::G711(law) => Coding::G711(*law),
            Encoder::G722(_) => Coding::G722,
            #[cfg(feature = "g729")]
            Encoder::G729(_) => Coding::G729,
            #[cfg(feature = "opus")]
            Encoder::Opus(_) => Coding::Opus,
        }
    }

    /// Appends the payload of one packet: 10, 20, 40 or 60 ms (all but Opus take any multiple of 10 ms). False when
    /// there is nothing to send: silence under DTX.
    pub fn encode(&mut self, pcm: &[i16], out: &mut Vec<u8>) -> bool {
        match self {
            Encoder::G711(law) => law.encode(pcm, out),
            Encoder::G722(encoder) => encoder.encode(pcm, out),
            #[cfg(feature = "g729")]
            Encoder::G729(encoder) => encoder.encode(pcm, out),
            #[cfg(feature = "opus")]
            Encoder::Opus(encoder) => return encoder.encode(pcm, out),
        }
        true
    }
}

/// The receiving half of a codec.
pub enum Decoder {
    /// G.711.
    G711(Law),
    /// G.722.
    G722(Box<G722Decoder>),
    /// G.729.
    #[cfg(feature = "g729")]
    G729(Box<G729Decoder>),
    /// Opus.
    #[cfg(feature = "opus")]
    Opus(Box<OpusDecoder>),
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Decoder({:?})", self.coding())
    }
}

impl Decoder {
    /// A decoder at the beginning of a stream.
    pub fn new(coding: Coding) -> Result<Decoder, CodecError> {
        match coding {
            Coding::G711(law) => Ok(Decoder::G711(law)),
            Coding::G722 => Ok(Decoder::G722(Box::default())),
            #[cfg(feature = "g729")]
            Coding::G729 => Ok(Decoder::G729(Box::default())),
            #[cfg(feature = "opus")]
            Coding::Opus => Ok(Decoder::Opus(Box::new(OpusDecoder::new()?))),
            #[cfg(not(all(feature = "g729", feature = "opus")))]
            coding => Err(CodecError::NotBuilt(coding)),
        }
    }

    /// What it reads.
    pub fn coding(&self) -> Coding {
        match self {
            Decoder::G711(law) => Coding::G711(*law),
            Decoder::G722(_) => Coding::G722,
            #[cfg(feature = "g729")]
            Decoder::G729(_) => Coding::G729,
            #[cfg(feature = "opus")]
            Decoder::Opus(_) => Coding::Opus,
        }
    }

    /// The next packet in order, into the samples that [`Coding::samples`] counts for it.
    pub fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> Decoded {
        match self {
            Decoder::G711(law) => law.decode_into(payload, out),
            Decoder::G722(decoder) => return decoder.decode(payload, out),
            #[cfg(feature = "g729")]
            Decoder::G729(decoder) => return decoder.decode(payload, out),
            #[cfg(feature = "opus")]
            Decoder::Opus(decoder) => return decoder.decode(payload, out),
        }
        Decoded::Sound
    }

    /// Makes up sound for a packet that is missing, or goes on with the noise of a silent sender. `next` is the packet
    /// after it, when that is known: Opus may carry a copy there. A multiple of 10 ms for G.729, of 2.5 ms for Opus.
    /// False for codecs without a way of their own.
    pub fn conceal(&mut self, next: Option<&[u8]>, out: &mut [i16]) -> bool {
        let _only_opus_looks_ahead = next;
        match self {
            Decoder::G711(_) | Decoder::G722(_) => {
                let _as_it_was = out;
                false
            }
            #[cfg(feature = "g729")]
            Decoder::G729(decoder) => decoder.conceal(out),
            #[cfg(feature = "opus")]
            Decoder::Opus(decoder) => decoder.conceal(next, out),
        }
    }

    /// Samples that [`Decoder::conceal`] makes are a multiple of this.
    pub const fn step(&self) -> usize {
        match self {
            Decoder::G711(_) | Decoder::G722(_) => 1,
            #[cfg(feature = "g729")]
            Decoder::G729(_) => super::g729::FRAME,
            #[cfg(feature = "opus")]
            Decoder::Opus(_) => super::opus::STEP,
        }
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
