//! ITU-T G.729 with Annexes A and B. Frames of 10 ms: ten bytes of speech, or two that describe noise (SID), which may
//! only come last in a packet (RFC 3551, 4.5.6). We hear both and send speech only.

use super::codec::Decoded;

/// Samples in a frame.
pub const FRAME: usize = g729_sys::FRAME_SAMPLES;
/// Bytes of a frame of speech.
const SPEECH: usize = g729_sys::VOICE_FRAME_BYTES;
/// Bytes of a frame that describes noise.
const SID: usize = 2;

/// Samples in a packet; none for a length that no packet has.
pub fn samples(payload: &[u8]) -> Option<usize> {
    let (frames, rest) = (payload.len() / SPEECH, payload.len() % SPEECH);
    match rest {
        0 => Some(frames * FRAME),
        SID => Some((frames + 1) * FRAME),
        _ => None,
    }
}

/// 8 kHz samples to G.729.
pub struct G729Encoder(g729_sys::Encoder);

impl Default for G729Encoder {
    fn default() -> Self {
        G729Encoder(g729_sys::Encoder::new(false))
    }
}

impl G729Encoder {
    /// Appends ten bytes for each whole frame.
    pub fn encode(&mut self, pcm: &[i16], out: &mut Vec<u8>) {
        for frame in pcm.as_chunks::<FRAME>().0 {
            let mut codes = [0; SPEECH];
            let made = usize::from(self.0.encode_into(frame, &mut codes));
            out.extend_from_slice(&codes[..made.min(SPEECH)]);
        }
    }
}

/// G.729 to 8 kHz samples.
pub struct G729Decoder {
    inner: g729_sys::Decoder,
    /// The last frame described noise.
    silent: bool,
}

impl Default for G729Decoder {
    fn default() -> Self {
        G729Decoder { inner: g729_sys::Decoder::new(), silent: false }
    }
}

impl G729Decoder {
    /// A frame of samples for each one of the packet.
    pub fn decode(&mut self, payload: &[u8], out: &mut [i16]) -> Decoded {
        for (codes, out) in payload.chunks(SPEECH).zip(out.as_chunks_mut::<FRAME>().0) {
            self.silent = codes.len() == SID;
            if codes.len() != SPEECH && !self.silent {
                return Decoded::Nothing;
            }
            *out = self.inner.decode(codes, false, self.silent, false);
        }
        if self.silent { Decoded::Noise } else { Decoded::Sound }
    }

    /// Frames for missing ones; noise goes on.
    pub fn conceal(&mut self, out: &mut [i16]) -> bool {
        let frames = out.as_chunks_mut::<FRAME>().0;
        frames.iter_mut().for_each(|out| *out = self.inner.decode(&[], !self.silent, self.silent, false));
        true
    }
}
