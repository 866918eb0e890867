//! Loudness of synthetic speech.

/// RMS of the louder half of a phrase's 10 ms stretches, of full scale.
const TARGET: f32 = 0.1;
/// No sample above this, of full scale.
const CEILING: f32 = 0.97;
const STRETCH: usize = 80;

/// Brings a phrase to the common loudness and to 16 bit; silence stays silence.
pub fn levelled(sound: Vec<f32>) -> Vec<i16> {
    let mut power: Vec<f32> =
        sound.as_chunks::<STRETCH>().0.iter().map(|s| s.iter().map(|x| x * x).sum::<f32>() / STRETCH as f32).collect();
    power.sort_by(f32::total_cmp);
    let loud = &power[power.len() / 2..];
    let rms = (loud.iter().sum::<f32>() / loud.len().max(1) as f32).sqrt();
    let peak = sound.iter().fold(0.0f32, |m, s| m.max(s.abs()));
    if rms <= 1e-6 || !rms.is_finite() || !peak.is_finite() {
        return vec![0; sound.len()];
    }
    let gain = (TARGET / rms).min(CEILING / peak) * 32767.0;
    sound.into_iter().map(|s| (s * gain).round() as i16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_and_loud_speech_come_out_alike() {
        let tone = |a: f32| (0..4000).map(|i| a * (i as f32 * 0.3).sin()).collect::<Vec<_>>();
        let (quiet, loud) = (levelled(tone(0.001)), levelled(tone(5.0)));
        assert!(quiet.iter().zip(&loud).all(|(a, b)| (a - b).abs() <= 1));
        let rms = (quiet.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / quiet.len() as f64).sqrt();
        assert!((3000.0..3500.0).contains(&rms), "{rms}");
    }

    #[test]
    fn silence_and_nonsense_do_not_become_noise() {
        assert!(levelled(vec![0.0; 400]).iter().all(|s| *s == 0));
        assert!(levelled(vec![f32::NAN; 400]).iter().all(|s| *s == 0));
        assert!(levelled(Vec::new()).is_empty());
        // A click is held under the ceiling.
        let mut click = vec![0.01; 800];
        click[400] = 1.0;
        assert!(levelled(click).iter().all(|s| s.unsigned_abs() <= 31785));
    }
}
