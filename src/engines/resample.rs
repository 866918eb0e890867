//! Samples as floats and at other rates, as models want them.

/// A mono clip at another rate; the reason when it cannot be.
pub fn resample(sound: &[f32], from: u32, to: u32) -> Result<Vec<f32>, String> {
    crate::audio::resample::convert_f32(sound, from, to).map_err(|e| e.to_string())
}

/// 16-bit samples as -1.0..=1.0.
pub fn to_float(pcm: &[i16]) -> Vec<f32> {
    pcm.iter().map(|&s| f32::from(s) / 32768.0).collect()
}

/// -1.0..=1.0 as 16-bit samples, clipped.
pub fn to_pcm(sound: &[f32]) -> Vec<i16> {
    sound.iter().map(|s| (s * 32767.0).round() as i16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_keeps_its_pitch_and_a_high_one_does_not_fold_down() {
        let tone =
            |hz: f32| (0..22050).map(|i| (i as f32 * hz * std::f32::consts::TAU / 22050.0).sin()).collect::<Vec<_>>();
        let low = resample(&tone(1000.0), 22050, 8000).expect("resampled");
        assert!((low.len() as i64 - 8000).abs() < 10, "{}", low.len());
        let mid = &low[1000..7000];
        let crossings = mid.windows(2).filter(|w| w[0] < 0.0 && w[1] >= 0.0).count();
        assert!((748..=752).contains(&crossings), "{crossings}");
        let high = resample(&tone(6000.0), 22050, 8000).expect("resampled");
        let rms = (high[1000..7000].iter().map(|s| s * s).sum::<f32>() / 6000.0).sqrt();
        assert!(rms < 0.01, "{rms}");
        assert_eq!(resample(&[0.5; 3], 8000, 8000).expect("same"), [0.5; 3]);
        assert!(resample(&[], 8000, 16000).expect("nothing").is_empty());
    }
}
