//! Changing the sample rate: FFT resampling by `rubato`, its delay taken out, its ends kept.

use audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _};

/// Lowest and highest rate accepted, in Hz.
pub const RATES: std::ops::RangeInclusive<u32> = 1000..=384_000;

/// Why a rate cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum ResampleError {
    /// Out of [`RATES`].
    #[error("a sample rate of {0} Hz cannot be used: it must lie between 1000 and 384000 Hz")]
    Rate(u32),
    /// The library refused.
    #[error("resampling failed: {0}")]
    Library(String),
}

/// Turns a stream of one rate into one of another. What comes out begins with the input's first sample
/// (the filter's delay is taken out) and, after [`Resampler::finish`], has the same duration.
pub struct Resampler {
    from: u32,
    to: u32,
    /// None when both rates are equal.
    fft: Option<Fft<f32>>,
    /// Input not yet processed: always less than a block.
    waiting: Vec<f32>,
    block: Vec<f32>,
    made: Vec<f32>,
    /// Output samples of the filter's delay still to be left out.
    skip: usize,
    taken: u64,
    given: u64,
}

impl std::fmt::Debug for Resampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resampler").field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}

impl Resampler {
    /// A resampler of mono sound that works in blocks of about 20 ms.
    pub fn new(from: u32, to: u32) -> Result<Self, ResampleError> {
        for rate in [from, to] {
            if !RATES.contains(&rate) {
                return Err(ResampleError::Rate(rate));
            }
        }
        let fft = if from == to {
            None
        } else {
            let block = (from as usize / 50).max(1);
            let fft = Fft::<f32>::new(from as usize, to as usize, block, 1, FixedSync::Both);
            Some(fft.map_err(|e| ResampleError::Library(e.to_string()))?)
        };
        let (input, output, skip) = match &fft {
            Some(fft) => (fft.input_frames_next(), fft.output_frames_next(), fft.output_delay()),
            None => (0, 0, 0),
        };
        Ok(Resampler {
            from,
            to,
            fft,
            waiting: Vec::with_capacity(input),
            block: vec![0.0; input],
            made: vec![0.0; output],
            skip,
            taken: 0,
            given: 0,
        })
    }

    /// Takes samples (full scale 32768) and appends what is ready.
    pub fn push(&mut self, pcm: &[i16], out: &mut Vec<i16>) -> Result<(), ResampleError> {
        if self.fft.is_none() {
            out.extend_from_slice(pcm);
            return Ok(());
        }
        self.run(pcm.iter().map(|&s| f32::from(s)), |sample| out.push(clip(sample)))
    }

    /// Takes samples as floats of any scale and appends what is ready, in that scale.
    pub fn push_f32(&mut self, pcm: &[f32], out: &mut Vec<f32>) -> Result<(), ResampleError> {
        if self.fft.is_none() {
            out.extend_from_slice(pcm);
            return Ok(());
        }
        self.run(pcm.iter().copied(), |sample| out.push(sample))
    }

    /// Appends the rest and makes ready for a new stream.
    pub fn finish(&mut self, out: &mut Vec<i16>) -> Result<(), ResampleError> {
        self.flush(|sample| out.push(clip(sample)))
    }

    /// Appends the rest as floats and makes ready for a new stream.
    pub fn finish_f32(&mut self, out: &mut Vec<f32>) -> Result<(), ResampleError> {
        self.flush(|sample| out.push(sample))
    }

    fn flush(&mut self, mut give: impl FnMut(f32)) -> Result<(), ResampleError> {
        let Some(fft) = &mut self.fft else { return Ok(()) };
        let delay = fft.output_delay();
        let wanted = (self.taken * u64::from(self.to)).div_ceil(u64::from(self.from));
        while self.given < wanted {
            // Silence pushes the last samples through the filter.
            let (taken, given) = (self.taken, self.given);
            let missing = self.block.len() - self.waiting.len();
            let left = wanted - given;
            let mut counted = 0;
            self.run(std::iter::repeat_n(0.0, missing), |sample| {
                if counted < left {
                    give(sample);
                    counted += 1;
                }
            })?;
            self.taken = taken;
        }
        self.waiting.clear();
        (self.taken, self.given, self.skip) = (0, 0, delay);
        if let Some(fft) = &mut self.fft {
            fft.reset();
        }
        Ok(())
    }

    fn run(&mut self, pcm: impl Iterator<Item = f32>, mut give: impl FnMut(f32)) -> Result<(), ResampleError> {
        let Some(fft) = &mut self.fft else { return Ok(()) };
        for sample in pcm {
            self.waiting.push(sample);
            self.taken += 1;
            if self.waiting.len() < self.block.len() {
                continue;
            }
            self.block.copy_from_slice(&self.waiting);
            self.waiting.clear();
            let (input, output) = (self.block.len(), self.made.len());
            let failed = |e: &dyn std::fmt::Display| ResampleError::Library(e.to_string());
            let from = InterleavedSlice::new(&self.block, 1, input).map_err(|e| failed(&e))?;
            let mut to = InterleavedSlice::new_mut(&mut self.made, 1, output).map_err(|e| failed(&e))?;
            fft.process_into_buffer(&from, &mut to, None).map_err(|e| failed(&e))?;
            let skipped = self.skip.min(output);
            self.skip -= skipped;
            self.given += (output - skipped) as u64;
            self.made[skipped..].iter().for_each(|&s| give(s));
        }
        Ok(())
    }
}

/// Changes the rate of a whole sound.
pub fn convert(pcm: &[i16], from: u32, to: u32) -> Result<Vec<i16>, ResampleError> {
    let mut resampler = Resampler::new(from, to)?;
    let mut out = Vec::with_capacity((pcm.len() as u64 * u64::from(to) / u64::from(from)) as usize + 1);
    resampler.push(pcm, &mut out)?;
    resampler.finish(&mut out)?;
    Ok(out)
}

/// Changes the rate of a whole sound of floats, keeping its scale.
pub fn convert_f32(pcm: &[f32], from: u32, to: u32) -> Result<Vec<f32>, ResampleError> {
    let mut resampler = Resampler::new(from, to)?;
    let mut out = Vec::with_capacity((pcm.len() as u64 * u64::from(to) / u64::from(from)) as usize + 1);
    resampler.push_f32(pcm, &mut out)?;
    resampler.finish_f32(&mut out)?;
    Ok(out)
}

fn clip(sample: f32) -> i16 {
    sample.round().clamp(-32768.0, 32767.0) as i16
}

#[cfg(test)]
mod tests {
    use super::super::detect::{power, tone_power};
    use super::*;

    fn sine(hz: f64, rate: u32, seconds: f64) -> Vec<i16> {
        let n = (f64::from(rate) * seconds) as usize;
        (0..n).map(|i| ((i as f64 * std::f64::consts::TAU * hz / f64::from(rate)).sin() * 8000.0) as i16).collect()
    }

    #[test]
    fn a_tone_keeps_its_pitch_level_place_and_length() {
        for rate in [8000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000] {
            let out = convert(&sine(300.0, rate, 0.5), rate, 8000).unwrap();
            assert!((out.len() as i64 - 4000).abs() <= 1, "{rate}: {}", out.len());
            let expected = sine(300.0, 8000, 0.5);
            let off: Vec<i16> = out[200..3800].iter().zip(&expected[200..3800]).map(|(&a, &b)| a - b).collect();
            // A whole sample of delay left in would give 1/18 of the power, the half sample that odd block sizes leave 1/72.
            assert!(power(&off) < power(&expected) / 50.0, "{rate}: the delay is taken out");
        }
    }

    #[test]
    fn what_does_not_fit_below_4_khz_is_gone() {
        let out = convert(&sine(5000.0, 48_000, 0.5), 48_000, 8000).unwrap();
        assert!(power(&out[200..3800]) < 100.0, "5 kHz aliased to 3 kHz: {}", tone_power(&out, 3000.0));
    }

    #[test]
    fn pieces_give_the_same_as_the_whole() {
        let pcm = sine(700.0, 22_050, 0.7);
        let whole = convert(&pcm, 22_050, 8000).unwrap();
        let mut resampler = Resampler::new(22_050, 8000).unwrap();
        for round in 0..2 {
            let mut out = Vec::new();
            for piece in pcm.chunks(333) {
                resampler.push(piece, &mut out).unwrap();
            }
            resampler.finish(&mut out).unwrap();
            assert_eq!(out, whole, "round {round}");
        }
    }

    #[test]
    fn senseless_rates_are_refused() {
        assert!(matches!(Resampler::new(0, 8000), Err(ResampleError::Rate(0))));
        assert!(convert(&[], 16_000, 8000).unwrap().is_empty());
    }
}
