//! Is a tone in the sound, and how loud: Goertzel's recursion, one frequency at a time.

use super::SAMPLE_RATE;

/// Mean power of the part of `pcm` that lies at `hz`, in squared sample units: a sine of amplitude `a`
/// gives `a * a / 2`, whatever its length (of 10 ms and more) and phase. 0 for no samples.
pub fn tone_power(pcm: &[i16], hz: f32) -> f32 {
    if pcm.is_empty() {
        return 0.0;
    }
    let turn = std::f64::consts::TAU * f64::from(hz) / f64::from(SAMPLE_RATE);
    let factor = 2.0 * turn.cos();
    let (mut last, mut before) = (0.0f64, 0.0f64);
    for &sample in pcm {
        let next = f64::from(sample) + factor * last - before;
        before = last;
        last = next;
    }
    let energy = last * last + before * before - factor * last * before;
    let n = pcm.len() as f64;
    (2.0 * energy / (n * n)).max(0.0) as f32
}

/// Mean power of all of `pcm`, in squared sample units. 0 for no samples.
pub fn power(pcm: &[i16]) -> f32 {
    let sum: f64 = pcm.iter().map(|&s| f64::from(s) * f64::from(s)).sum();
    (sum / pcm.len().max(1) as f64) as f32
}

/// The key whose two tones (ITU-T Q.23) carry most of the sound, if any does: for proofs and tools that
/// look at 40 ms or more of a recording. Live keys come as RFC 4733 events.
pub fn dtmf_key(pcm: &[i16]) -> Option<char> {
    let all = power(pcm);
    let best = |tones: &[f32; 4]| {
        let powers = tones.map(|hz| tone_power(pcm, hz));
        let index = (0..4).max_by(|&a, &b| powers[a].total_cmp(&powers[b])).unwrap_or(0);
        (index, powers[index])
    };
    let (row, low) = best(&super::tone::DTMF_ROWS);
    let (column, high) = best(&super::tone::DTMF_COLUMNS);
    // Both tones there, within 10 dB of each other, and little else.
    let clear = all > 1000.0 && low + high > 0.75 * all && low < 10.0 * high && high < 10.0 * low;
    clear.then(|| super::tone::DTMF_KEYS[row][column])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hz: f64, amplitude: f64, n: usize) -> Vec<i16> {
        (0..n).map(|i| ((i as f64 * std::f64::consts::TAU * hz / 8000.0).sin() * amplitude) as i16).collect()
    }

    #[test]
    fn a_tone_is_measured_at_its_own_frequency_only() {
        let pcm = sine(1000.0, 8000.0, 1600);
        let at = tone_power(&pcm, 1000.0);
        assert!((at / 32.0e6 - 1.0).abs() < 0.02, "{at}");
        assert!(tone_power(&pcm, 700.0) < at / 1000.0);
        assert_eq!(tone_power(&[], 700.0), 0.0);
    }

    #[test]
    fn silence_and_a_lone_tone_are_no_key() {
        assert_eq!(dtmf_key(&[0; 800]), None);
        assert_eq!(dtmf_key(&sine(697.0, 8000.0, 800)), None);
    }
}
