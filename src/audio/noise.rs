//! Comfort noise (RFC 3389): what a silent line sounds like, in one packet instead of fifty a second.

/// Most reflection coefficients that are used.
const ORDER: usize = 12;
/// Levels below this are silence: -90 dBov is half a step of 16-bit sound.
const SILENT: u8 = 90;
/// A reflection coefficient beyond this would ring for seconds.
const MOST_REFLECTION: f32 = 0.97;

/// Level of a stretch of sound as comfort noise tells it: 0 to 127, for 0 to -127 dB of the overload point.
pub fn level_of(pcm: &[i16]) -> u8 {
    let power = f64::from(super::detect::power(pcm)) / (32768.0 * 32768.0);
    if power <= 0.0 { 127 } else { (-10.0 * power.log10()).round().clamp(0.0, 127.0) as u8 }
}

/// Makes noise of a level and colour.
#[derive(Debug, Clone)]
pub struct Noise {
    /// Half the width of the white noise that goes into the filter.
    width: f32,
    /// Reflection coefficients of the all-pole lattice, the nearest to the output first.
    reflection: [f32; ORDER],
    /// What runs back through the lattice.
    back: [f32; ORDER],
    order: usize,
    seed: u32,
}

impl Noise {
    /// As a payload asks for: its level, then any number of reflection coefficients. None for an empty payload.
    pub fn of(payload: &[u8]) -> Option<Noise> {
        let (&level, coefficients) = payload.split_first()?;
        let mut noise = Noise { width: 0.0, reflection: [0.0; ORDER], back: [0.0; ORDER], order: 0, seed: 0x9E37_79B9 };
        for (to, &n) in noise.reflection.iter_mut().zip(coefficients) {
            *to = ((f32::from(n) - 127.0) / 127.0).clamp(-MOST_REFLECTION, MOST_REFLECTION);
            noise.order += 1;
        }
        // The most significant bit of the level is always 0.
        let level = level & 0x7F;
        if level < SILENT {
            // The lattice makes white noise louder by this; its width is the root of three times its power.
            let gain: f32 = noise.reflection.iter().map(|k| 1.0 - k * k).product();
            let rms = 32768.0 * 10.0f32.powf(-f32::from(level) / 20.0);
            noise.width = (3.0 * gain).sqrt() * rms;
        }
        Some(noise)
    }

    /// Goes on in the state another noise was left in, so that a new level is no click.
    pub fn after(self, before: &Noise) -> Noise {
        Noise { back: before.back, seed: before.seed, ..self }
    }

    /// The next samples.
    pub fn fill(&mut self, out: &mut [i16]) {
        for sample in out {
            // Xorshift: enough for a hiss.
            self.seed ^= self.seed << 13;
            self.seed ^= self.seed >> 17;
            self.seed ^= self.seed << 5;
            let mut forward = (self.seed as i32 as f32 / 2_147_483_648.0) * self.width;
            for i in (0..self.order).rev() {
                forward -= self.reflection[i] * self.back[i];
                let up = self.back[i] + self.reflection[i] * forward;
                if i + 1 < self.order {
                    self.back[i + 1] = up;
                }
            }
            if self.order > 0 {
                self.back[0] = forward;
            }
            *sample = forward.clamp(-32768.0, 32767.0) as i16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::detect::{power, tone_power};
    use super::*;
    use proptest::prelude::*;

    fn made(payload: &[u8]) -> Vec<i16> {
        let mut pcm = vec![0; 16_000];
        Noise::of(payload).unwrap().fill(&mut pcm);
        pcm
    }

    #[test]
    fn noise_has_the_level_it_was_described_with() {
        for payload in [&[30][..], &[45], &[60], &[45, 200, 90], &[50, 60, 127, 180, 100], &[40, 230]] {
            let level = level_of(&made(payload));
            assert!(level.abs_diff(payload[0]) <= 1, "{payload:?} sounds like -{level} dBov");
        }
        assert_eq!(level_of(&made(&[127])), 127, "silence is silence");
        assert_eq!(level_of(&[0; 160]), 127);
    }

    #[test]
    fn coefficients_colour_it() {
        let share = |payload: &[u8], hz: std::ops::Range<u16>| {
            let pcm = made(payload);
            hz.step_by(25).map(|hz| tone_power(&pcm, f32::from(hz))).sum::<f32>() / power(&pcm)
        };
        let (low, high) = (share(&[40, 20], 100..900), share(&[40, 20], 3100..3900));
        assert!(low > 10.0 * high, "{low} {high}");
        let (low, high) = (share(&[40], 100..900), share(&[40], 3100..3900));
        assert!(low < 2.0 * high && high < 2.0 * low, "white without: {low} {high}");
    }

    proptest! {
        #[test]
        fn any_payload_is_noise_that_stays_in_bounds(payload: Vec<u8>) {
            if let Some(mut noise) = Noise::of(&payload) {
                let mut pcm = [0; 8000];
                noise.fill(&mut pcm);
                let level = level_of(&pcm);
                prop_assert!(i16::from(level) > i16::from(payload[0] & 0x7F) - 10, "{} for {:?}", level, payload);
            }
        }
    }
}
