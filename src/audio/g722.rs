//! ITU-T G.722 at 64 kbit/s: two bands of ADPCM over 16 kHz sound, a byte for two samples. The engine hears and says
//! 8 kHz, so the upper band is filtered away and made of nothing.

use super::codec::Decoded;
use super::halfband::{Doubler, Halver};
use audio_codec::{Decoder as _, Encoder as _};

/// 10 ms: bytes, and samples of 8 kHz.
const BLOCK: usize = 80;

/// 8 kHz samples to G.722.
pub struct G722Encoder {
    doubler: Doubler,
    inner: audio_codec::g722::G722Encoder,
}

impl Default for G722Encoder {
    fn default() -> Self {
        G722Encoder { doubler: Doubler::default(), inner: audio_codec::g722::G722Encoder::new() }
    }
}

impl G722Encoder {
    /// Appends a byte for each sample.
    pub fn encode(&mut self, pcm: &[i16], out: &mut Vec<u8>) {
        let inner = &mut self.inner;
        self.doubler.push(pcm, |wide| {
            let mut codes = [0; BLOCK];
            // Only a buffer that is too small can fail.
            let made = inner.encode_into(wide, &mut codes).unwrap_or(0);
            out.extend_from_slice(&codes[..made.min(BLOCK)]);
        });
    }
}

/// G.722 to 8 kHz samples.
pub struct G722Decoder {
    inner: audio_codec::g722::G722Decoder,
    halver: Halver,
}

impl Default for G722Decoder {
    fn default() -> Self {
        G722Decoder { inner: audio_codec::g722::G722Decoder::new(), halver: Halver::default() }
    }
}

impl G722Decoder {
    /// A sample for each byte.
    pub fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> Decoded {
        for (codes, out) in payload.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
            let mut wide = [0; 2 * BLOCK];
            let Ok(made) = self.inner.decode_into(codes, &mut wide) else { return Decoded::Nothing };
            self.halver.push(&wide[..made.min(2 * BLOCK)], out);
        }
        Decoded::Sound
    }
}
