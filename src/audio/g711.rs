//! ITU-T G.711: 8 bits a sample, A-law (Europe, China) and mu-law (North America, Japan), by table.

/// Which of G.711's two curves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Law {
    /// A-law: RTP payload type 8, PCMA.
    A,
    /// Mu-law: RTP payload type 0, PCMU.
    Mu,
}

impl Law {
    /// The code of digital silence on the line.
    pub const fn silence(self) -> u8 {
        match self {
            Law::A => 0xD5,
            Law::Mu => 0xFF,
        }
    }

    /// One sample to its code.
    pub fn encode_sample(self, sample: i16) -> u8 {
        match self {
            Law::A => A_ENCODE[usize::from((sample as u16) >> 3)],
            Law::Mu => MU_ENCODE[usize::from((sample as u16) >> 2)],
        }
    }

    /// One code to its sample.
    pub fn decode_sample(self, code: u8) -> i16 {
        match self {
            Law::A => A_DECODE[usize::from(code)],
            Law::Mu => MU_DECODE[usize::from(code)],
        }
    }

    /// Appends the codes of `pcm` to `out`.
    pub fn encode(self, pcm: &[i16], out: &mut Vec<u8>) {
        match self {
            Law::A => out.extend(pcm.iter().map(|&s| A_ENCODE[usize::from((s as u16) >> 3)])),
            Law::Mu => out.extend(pcm.iter().map(|&s| MU_ENCODE[usize::from((s as u16) >> 2)])),
        }
    }

    /// Appends the samples of `codes` to `out`.
    pub fn decode(self, codes: &[u8], out: &mut Vec<i16>) {
        let table = self.decode_table();
        out.extend(codes.iter().map(|&c| table[usize::from(c)]));
    }

    /// Decodes into a slice; as many samples as the shorter of the two has. No allocation.
    pub fn decode_into(self, codes: &[u8], out: &mut [i16]) {
        let table = self.decode_table();
        for (to, &code) in out.iter_mut().zip(codes) {
            *to = table[usize::from(code)];
        }
    }

    fn decode_table(self) -> &'static [i16; 256] {
        match self {
            Law::A => &A_DECODE,
            Law::Mu => &MU_DECODE,
        }
    }
}

static A_DECODE: [i16; 256] = a_decode_table();
static MU_DECODE: [i16; 256] = mu_decode_table();
/// Indexed by the upper 13 bits of a sample.
static A_ENCODE: [u8; 8192] = a_encode_table();
/// Indexed by the upper 14 bits of a sample.
static MU_ENCODE: [u8; 16384] = mu_encode_table();

const fn a_decode_table() -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        let bits = (code as u8) ^ 0x55;
        let mantissa = ((bits & 0x0F) as i16) << 4;
        let segment = (bits & 0x70) >> 4;
        let size = match segment {
            0 => mantissa + 8,
            _ => (mantissa + 0x108) << (segment - 1),
        };
        table[code] = if bits & 0x80 != 0 { size } else { -size };
        code += 1;
    }
    table
}

const fn mu_decode_table() -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        let bits = !(code as u8);
        let size = ((((bits & 0x0F) as i32) << 3) + 0x84) << ((bits & 0x70) >> 4);
        table[code] = (if bits & 0x80 != 0 { 0x84 - size } else { size - 0x84 }) as i16;
        code += 1;
    }
    table
}

/// Segment of a magnitude: the number of times it can be halved before it fits `first`.
const fn segment(magnitude: i32, first: i32) -> i32 {
    let mut segment = 0;
    let mut end = first;
    while segment < 8 && magnitude > end {
        end = (end << 1) | 1;
        segment += 1;
    }
    segment
}

const fn a_encode_table() -> [u8; 8192] {
    let mut table = [0; 8192];
    let mut index = 0;
    while index < 8192 {
        let value = ((index as u16) << 3) as i16 as i32 >> 3;
        let (magnitude, mask) = if value >= 0 { (value, 0xD5) } else { (-value - 1, 0x55) };
        let segment = segment(magnitude, 0x1F);
        let code = if segment >= 8 {
            0x7F
        } else {
            let shift = if segment < 2 { 1 } else { segment };
            (segment << 4) | ((magnitude >> shift) & 0x0F)
        };
        table[index] = (code ^ mask) as u8;
        index += 1;
    }
    table
}

const fn mu_encode_table() -> [u8; 16384] {
    let mut table = [0; 16384];
    let mut index = 0;
    while index < 16384 {
        let value = ((index as u16) << 2) as i16 as i32 >> 2;
        let (size, mask) = if value < 0 { (-value, 0x7F) } else { (value, 0xFF) };
        let magnitude = (if size > 8159 { 8159 } else { size }) + 0x21;
        let segment = segment(magnitude, 0x3F);
        let code = if segment >= 8 { 0x7F } else { (segment << 4) | ((magnitude >> (segment + 1)) & 0x0F) };
        table[index] = (code ^ mask) as u8;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_decoding_and_encoding() {
        for code in 0..=255u8 {
            assert_eq!(Law::A.encode_sample(Law::A.decode_sample(code)), code, "A-law {code:#x}");
            let back = Law::Mu.encode_sample(Law::Mu.decode_sample(code));
            // Mu-law has two zeros; the negative one comes back as the positive one.
            assert_eq!(back, if code == 0x7F { 0xFF } else { code }, "mu-law {code:#x}");
        }
    }

    #[test]
    fn known_points_of_the_recommendation_hold() {
        assert_eq!(Law::A.decode_sample(0xD5), 8);
        assert_eq!(Law::A.decode_sample(0x55), -8);
        assert_eq!(Law::A.decode_sample(0xAA), 32256);
        assert_eq!(Law::A.decode_sample(0x2A), -32256);
        assert_eq!(Law::Mu.decode_sample(0xFF), 0);
        assert_eq!(Law::Mu.decode_sample(0x80), 32124);
        assert_eq!(Law::Mu.decode_sample(0x00), -32124);
        assert_eq!(Law::A.encode_sample(0), Law::A.silence());
        assert_eq!(Law::Mu.encode_sample(0), Law::Mu.silence());
        assert_eq!(Law::A.encode_sample(i16::MIN), 0x2A);
        assert_eq!(Law::Mu.encode_sample(i16::MIN), 0x00);
    }

    #[test]
    fn coding_keeps_a_tone_38_decibels_above_its_noise() {
        for law in [Law::A, Law::Mu] {
            let tone: Vec<i16> = (0..8000).map(|i| ((i as f64 * 0.37).sin() * 9000.0) as i16).collect();
            let (mut codes, mut back) = (Vec::new(), Vec::new());
            law.encode(&tone, &mut codes);
            law.decode(&codes, &mut back);
            let signal: f64 = tone.iter().map(|&s| f64::from(s).powi(2)).sum();
            let noise: f64 = tone.iter().zip(&back).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
            assert!(10.0 * (signal / noise).log10() > 37.0, "{law:?}");
        }
    }

    #[test]
    fn the_error_never_exceeds_half_a_step() {
        for sample in i16::MIN..=i16::MAX {
            for law in [Law::A, Law::Mu] {
                let back = i32::from(law.decode_sample(law.encode_sample(sample)));
                let error = (back - i32::from(sample)).abs();
                assert!(error <= 16 + i32::from(sample).abs() / 32, "{law:?} {sample} came back as {back}");
            }
        }
    }
}
