//! Hiding lost packets, after ITU-T G.711 Appendix I: the last pitch period is repeated, overlapped at its
//! joints, faded from 10 ms on and silent after 60 ms. Adds no delay: where the appendix delays the sound
//! by 3.75 ms to soften the first joint, the first joint here is cross-faded with the mirrored past.

/// Samples handled at once: 10 ms.
pub const BLOCK: usize = 80;
/// Shortest pitch period searched for, in samples (200 Hz). Higher voices are found at a multiple.
const PITCH_MIN: usize = 40;
/// Longest pitch period searched for, in samples (66 Hz).
const PITCH_MAX: usize = 120;
/// Samples compared in the search: 20 ms.
const CORRELATED: usize = 160;
/// Past samples kept: three longest periods and a quarter to overlap.
const HISTORY: usize = PITCH_MAX * 3 + PITCH_MAX / 4;
/// Lost blocks after which only silence is left: 60 ms.
const SILENT_AFTER: u32 = 6;
/// Lost blocks after which nothing but silence is remembered either.
const FORGOTTEN_AFTER: u32 = SILENT_AFTER + HISTORY.div_ceil(BLOCK) as u32;
/// Loudness lost per block after the first one.
const FADE: f32 = 0.2;

/// What one direction of sound needs to hide its losses.
#[derive(Debug, Clone)]
pub struct Concealer {
    /// The last samples played, real or made, oldest first.
    history: [i16; HISTORY],
    /// The history as it was when the loss began; its end is what gets repeated.
    past: [f32; HISTORY],
    /// Replaces the last quarter period of `past`, so that the end flows into the beginning.
    joint: [f32; PITCH_MAX / 4],
    /// Lost blocks in a row.
    lost: u32,
    /// Pitch period in samples.
    pitch: usize,
    /// Samples repeated at a time: one to three periods.
    length: usize,
    /// Where the next made sample lies, counted from `HISTORY - length`.
    offset: usize,
    /// A joint is to be softened although nothing was lost (sound was skipped).
    jumped: bool,
}

impl Default for Concealer {
    fn default() -> Self {
        Concealer {
            history: [0; HISTORY],
            past: [0.0; HISTORY],
            joint: [0.0; PITCH_MAX / 4],
            lost: 0,
            pitch: PITCH_MIN,
            length: PITCH_MIN,
            offset: 0,
            jumped: false,
        }
    }
}

impl Concealer {
    /// Of a stream that has been silent for long: its first block fades in, and nothing is searched for in zeros.
    pub fn after_silence() -> Self {
        Concealer { lost: FORGOTTEN_AFTER, ..Concealer::default() }
    }

    /// With silence as its past.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the next made block would be audible.
    pub fn audible(&self) -> bool {
        self.lost < SILENT_AFTER
    }

    /// Takes a block that did arrive; after a loss its start is cross-faded with the made sound.
    pub fn good(&mut self, block: &mut [i16; BLOCK]) {
        if self.lost > 0 || self.jumped {
            if self.lost == 0 {
                self.begin();
            }
            // The longer the loss, the longer the overlap: a quarter period and 4 ms a lost block, 10 ms at most.
            let overlap = (self.pitch / 4 + 32 * self.lost.saturating_sub(1) as usize).min(BLOCK);
            let gain = self.gain_at(0);
            let mut made = [0.0; BLOCK];
            self.repeat(&mut made[..overlap]);
            for (i, (real, made)) in block.iter_mut().zip(&made[..overlap]).enumerate() {
                let weight = (i + 1) as f32 / (overlap + 1) as f32;
                *real = (f32::from(*real) * weight + made * gain * (1.0 - weight)) as i16;
            }
            self.lost = 0;
            self.jumped = false;
        }
        self.remember(block);
    }

    /// Makes a block for one that is missing.
    pub fn lost(&mut self, block: &mut [i16; BLOCK]) {
        if self.lost >= SILENT_AFTER {
            *block = [0; BLOCK];
            if self.lost < FORGOTTEN_AFTER {
                self.remember(block);
                self.lost += 1;
            }
            return;
        }
        let first = self.lost == 0;
        if first {
            self.begin();
        } else if self.lost <= 2 {
            self.lengthen();
        }
        let mut made = [0.0; BLOCK];
        self.repeat(&mut made);
        let (from, to) = (self.gain_at(0), self.gain_at(1));
        let step = (to - from) / BLOCK as f32;
        for (i, (out, made)) in block.iter_mut().zip(&made).enumerate() {
            *out = (made * (from + step * (i as f32 + 1.0))).clamp(-32768.0, 32767.0) as i16;
        }
        if first {
            self.soften_start(block);
        }
        self.lost += 1;
        self.remember(block);
    }

    /// Tells that the next good block does not follow the last one: its joint is softened.
    pub fn jump(&mut self) {
        self.jumped = true;
    }

    /// Loudness at the start (0) or end (1) of the coming lost block.
    fn gain_at(&self, end: u32) -> f32 {
        match self.lost + end {
            0 | 1 => 1.0,
            n if n >= SILENT_AFTER => 0.0,
            n => 1.0 - FADE * (n - 1) as f32,
        }
    }

    fn begin(&mut self) {
        self.pitch = pitch(&self.history);
        for (to, &from) in self.past.iter_mut().zip(&self.history) {
            *to = f32::from(from);
        }
        self.length = self.pitch;
        self.offset = 0;
        self.soften_joint();
    }

    /// Repeats one period more, so that a long loss does not buzz; goes on from the same place.
    fn lengthen(&mut self) {
        let longer = (self.length + self.pitch).min(self.pitch * 3);
        self.offset += longer - self.length;
        self.length = longer;
        self.soften_joint();
    }

    /// Blends the last quarter period with the one that lies before the beginning of what is repeated.
    fn soften_joint(&mut self) {
        let quarter = self.pitch / 4;
        for i in 0..quarter {
            let weight = (i + 1) as f32 / (quarter + 1) as f32;
            let at = HISTORY - quarter + i;
            self.joint[i] = self.past[at] * (1.0 - weight) + self.past[at - self.length] * weight;
        }
    }

    /// The first made samples start from the last real one: blended with the past run backwards.
    fn soften_start(&self, block: &mut [i16; BLOCK]) {
        let quarter = self.pitch / 4;
        for (i, out) in block.iter_mut().enumerate().take(quarter) {
            let weight = (i + 1) as f32 / (quarter + 1) as f32;
            let mirrored = f32::from(self.history[HISTORY - 1 - i]);
            *out = (f32::from(*out) * weight + mirrored * (1.0 - weight)) as i16;
        }
    }

    fn repeat(&mut self, out: &mut [f32]) {
        let joint = self.length - self.pitch / 4;
        for sample in out {
            *sample = match self.offset.checked_sub(joint) {
                Some(i) => self.joint[i],
                None => self.past[HISTORY - self.length + self.offset],
            };
            self.offset = (self.offset + 1) % self.length;
        }
    }

    fn remember(&mut self, block: &[i16; BLOCK]) {
        self.history.copy_within(BLOCK.., 0);
        self.history[HISTORY - BLOCK..].copy_from_slice(block);
    }
}

/// The lag at which the last 20 ms resemble what came before most: every second lag and sample first,
/// then every one near the best.
fn pitch(history: &[i16; HISTORY]) -> usize {
    let mut best = best_lag(history, (PITCH_MIN..=PITCH_MAX).step_by(2), 2);
    let near = best.saturating_sub(1).max(PITCH_MIN)..=(best + 1).min(PITCH_MAX);
    best = best_lag(history, near, 1);
    best
}

fn best_lag(history: &[i16; HISTORY], lags: impl Iterator<Item = usize>, step: usize) -> usize {
    let recent = &history[HISTORY - CORRELATED..];
    let mut best = (PITCH_MIN, f32::MIN);
    for lag in lags {
        let past = &history[HISTORY - CORRELATED - lag..HISTORY - lag];
        let (mut product, mut energy) = (0.0f32, 0.0f32);
        for (&a, &b) in recent.iter().step_by(step).zip(past.iter().step_by(step)) {
            product += f32::from(a) * f32::from(b);
            energy += f32::from(b) * f32::from(b);
        }
        // The floor keeps near silence from looking like a perfect match (Appendix I, CORRMINPOWER).
        let likeness = product / energy.max(250.0 * CORRELATED as f32).sqrt();
        if likeness > best.1 {
            best = (lag, likeness);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::super::detect::{power, tone_power};
    use super::*;

    /// A voice-like sound: a pulse train of 125 Hz with falling harmonics.
    fn voice(i: usize) -> i16 {
        let t = i as f64 / 8000.0;
        (1..12).map(|h| (t * std::f64::consts::TAU * 125.0 * h as f64).sin() * 6000.0 / h as f64).sum::<f64>() as i16
    }

    fn block(from: usize) -> [i16; BLOCK] {
        std::array::from_fn(|i| voice(from + i))
    }

    fn warmed() -> Concealer {
        let mut concealer = Concealer::new();
        for n in 0..10 {
            concealer.good(&mut block(n * BLOCK));
        }
        concealer
    }

    #[test]
    fn sound_without_loss_is_untouched() {
        let mut concealer = Concealer::new();
        for n in 0..20 {
            let mut sound = block(n * BLOCK);
            concealer.good(&mut sound);
            assert_eq!(sound, block(n * BLOCK));
        }
    }

    #[test]
    fn a_voice_goes_on_through_a_lost_packet() {
        let mut concealer = warmed();
        let (mut signal, mut error) = (0.0f64, 0.0f64);
        for n in 10..12 {
            let mut made = [0; BLOCK];
            concealer.lost(&mut made);
            for (&made, real) in made.iter().zip(block(n * BLOCK)) {
                signal += f64::from(real).powi(2);
                error += (f64::from(made) - f64::from(real)).powi(2);
            }
        }
        let ratio = 10.0 * (signal / error).log10();
        assert!(ratio > 10.0, "{ratio} dB");
    }

    #[test]
    fn a_loss_has_no_click_at_either_joint() {
        let mut concealer = warmed();
        let steepest = (0..8000).map(|i| (i32::from(voice(i + 1)) - i32::from(voice(i))).abs()).max().unwrap();
        let mut sound: Vec<i16> = block(9 * BLOCK).to_vec();
        for _ in 10..13 {
            let mut made = [0; BLOCK];
            concealer.lost(&mut made);
            sound.extend(made);
        }
        let mut back = block(13 * BLOCK + 17);
        concealer.good(&mut back);
        sound.extend(back);
        let worst = sound.windows(2).map(|w| (i32::from(w[1]) - i32::from(w[0])).abs()).max().unwrap();
        assert!(worst <= steepest * 3 / 2, "steps of {worst}, of the voice itself {steepest}");
    }

    #[test]
    fn a_long_loss_fades_and_is_silent_after_60_ms() {
        let mut concealer = warmed();
        let powers: Vec<f32> = (0..8)
            .map(|_| {
                let mut made = [0; BLOCK];
                concealer.lost(&mut made);
                power(&made)
            })
            .collect();
        assert!(powers[0] > 0.5 * power(&block(0)), "the first 10 ms keep their level: {powers:?}");
        assert!(powers[1..6].windows(2).all(|w| w[1] < w[0]), "{powers:?}");
        assert_eq!(powers[6..], [0.0, 0.0]);
        assert!(!concealer.audible());
    }

    #[test]
    fn the_made_sound_has_the_pitch_of_the_real_one() {
        let mut concealer = warmed();
        let mut made = [0; BLOCK * 2];
        for half in made.chunks_exact_mut(BLOCK) {
            let mut block = [0; BLOCK];
            concealer.lost(&mut block);
            half.copy_from_slice(&block);
        }
        assert!(tone_power(&made, 125.0) > 20.0 * tone_power(&made, 190.0));
    }
}
