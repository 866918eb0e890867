//! Tells our own voice from the caller's: what comes back of a prompt, from a telephone in hands-free mode or from where
//! a line changes from four wires to two, is no word of his.
//!
//! The reference is what was really sent, frame by frame on the tick in which something came. While nothing was played
//! nothing is done. When a detector takes what came for speech, its last 100 ms are looked for in the half second that was
//! played (normalised cross-correlation at 4 kHz, whitened by a first difference): found, they are echo, and the way back
//! is known. From then on a filter of 64 ms around that delay (NLMS, 512 taps) learns that way; what it predicts is taken
//! away, and a frame is echo as long as it and the prediction are alike. A voice over the echo is not like the prediction:
//! it is heard at once, and the filter does not learn from it.

use super::FRAME_SAMPLES;
use std::ops::Range;

/// Longest way there and back that is looked for, our jitter buffer included: 480 ms.
const MAX_LAG: usize = 3840;
/// What is looked for: the last 100 ms.
const SEARCH: usize = 800;
/// Taps of the filter, and how many of them lie before the delay that was found.
const TAPS: usize = 512;
const BEFORE: usize = 64;
/// Taps that are learnt from the search's 100 ms alone, and how many lie before the delay.
const FIRST_TAPS: usize = 128;
const FIRST_BEFORE: usize = 32;
/// Samples kept of what was played.
const KEPT: usize = MAX_LAG + TAPS + SEARCH + FRAME_SAMPLES;
/// Frames by which the likeness to the prediction is judged: 60 ms.
const RECENT: usize = 3;
/// Likeness (0.0..=1.0) from which what came is what was played, by how many of its five frames hold sound: the less there
/// is, the more is alike by chance.
const FOUND: [f32; 6] = [1.0, 0.9, 0.85, 0.75, 0.65, 0.65];
/// The same at the delay that is known, and one that is worth learning from.
const KNOWN: f32 = 0.5;
const HINT: f32 = 0.25;
/// The same where that delay was found a while ago too, how near to it, and frames that this is remembered.
const AGAIN: f32 = 0.35;
const NEAR: usize = 8;
const HINTS: usize = 24;
const APART: u32 = 150;
/// Energy that may be left of the 100 ms after that, when they are echo.
const LEFT: f32 = 0.28;
/// Likeness to the prediction from which a frame is echo: this much below what is usual, within limits.
const SLACK: f32 = 0.15;
const ALIKE: (f32, f32) = (0.5, 0.8);
/// Energy of what came against that of the loudest that was played: 9 dB below is soft.
const SOFT: f32 = 0.126;
/// So alike that there is nothing more to learn.
const LEARNT: f32 = 0.97;
/// Softer than this (RMS of 32768) is nothing.
const FLOOR: f32 = 16.0;
/// First difference that whitens speech.
const WHITEN: f32 = 0.9;
/// The filter's step.
const STEP: f32 = 0.5;
/// An echo is no more than 6 dB louder than what was played.
const LOUDEST: f32 = 4.0;
/// Frames of unexplained speech after which another way back is believed, and after which the known one is forgotten.
const DOUBT: u32 = 2;
const LOST: u32 = 100;

/// What is known of the way back.
struct Path {
    /// Its delay in samples, less [`BEFORE`].
    from: usize,
    /// The last one is for the newest sample.
    taps: Box<[f32; TAPS]>,
    /// Of the last frames, whitened: product of prediction and sound, energy of each.
    recent: [(f32, f32, f32); RECENT],
    /// How alike they usually are.
    usual: f32,
    /// Frames of speech since something was explained.
    unlike: u32,
}

/// The guard of one ear.
pub struct EchoGuard {
    /// What was played, the newest last; moved down when the buffer is full. Empty while there is nothing to come back.
    played: Vec<i16>,
    /// Frames since something was played.
    quiet: usize,
    /// The last 100 ms that came.
    came: [i16; SEARCH],
    path: Option<Path>,
    /// Delays at which the last searches found something, the newest last.
    hints: [(u32, usize); HINTS],
    /// Frames so far.
    frame: u32,
    /// The last sample that was given out.
    last: f32,
    echo: bool,
}

impl Default for EchoGuard {
    fn default() -> Self {
        Self::new()
    }
}

impl EchoGuard {
    /// One that has heard and played nothing.
    pub fn new() -> Self {
        EchoGuard {
            played: Vec::new(),
            quiet: usize::MAX,
            came: [0; SEARCH],
            path: None,
            hints: [(0, usize::MAX); HINTS],
            frame: 0,
            last: 0.0,
            echo: false,
        }
    }

    /// The ticks are no longer in step with what was played: what the way back is like is kept, the sound is not.
    pub fn forget_sound(&mut self) {
        self.played.clear();
        self.quiet = usize::MAX;
        self.came = [0; SEARCH];
        self.hints = [(0, usize::MAX); HINTS];
    }

    /// The 20 ms that are sent in this tick, after [`EchoGuard::clean`] took what came in it.
    pub fn play(&mut self, pcm: &[i16; FRAME_SAMPLES]) {
        if pcm.iter().any(|s| s.unsigned_abs() > 8) {
            self.quiet = 0;
        } else {
            self.quiet = self.quiet.saturating_add(1);
            if !self.is_active() {
                return self.played.clear();
            }
        }
        if self.played.is_empty() {
            self.played.reserve_exact(KEPT + 20 * FRAME_SAMPLES);
            self.played.resize(KEPT, 0);
        }
        if self.played.len() + FRAME_SAMPLES > self.played.capacity() {
            let old = self.played.len() - KEPT;
            self.played.copy_within(old.., 0);
            self.played.truncate(KEPT);
        }
        self.played.extend_from_slice(pcm);
    }

    /// Whether anything was played that may still come back.
    pub fn is_active(&self) -> bool {
        self.quiet <= (MAX_LAG + TAPS) / FRAME_SAMPLES
    }

    /// Takes the 20 ms that came and gives them without what is known to be echo.
    pub fn clean(&mut self, pcm: &[i16; FRAME_SAMPLES]) -> [i16; FRAME_SAMPLES] {
        self.came.copy_within(FRAME_SAMPLES.., 0);
        self.came[SEARCH - FRAME_SAMPLES..].copy_from_slice(pcm);
        self.echo = false;
        self.frame = self.frame.wrapping_add(1);
        let audible = energy(pcm) >= FLOOR * FLOOR * FRAME_SAMPLES as f32;
        let cleaned = match &mut self.path {
            Some(path) if audible && self.quiet != usize::MAX && !self.played.is_empty() => {
                let end = self.played.len() - path.from;
                let x = whitened(&self.played[end - (FRAME_SAMPLES + TAPS)..end]);
                let d = whitened(&self.came[SEARCH - FRAME_SAMPLES - 1..]);
                path.predict(&x, &d, &mut self.echo)
            }
            _ => None,
        };
        let Some(rest) = cleaned else {
            self.last = f32::from(pcm[FRAME_SAMPLES - 1]);
            return *pcm;
        };
        let mut out = [0; FRAME_SAMPLES];
        for (out, rest) in out.iter_mut().zip(rest) {
            self.last = rest + WHITEN * self.last;
            *out = self.last.clamp(-32768.0, 32767.0) as i16;
        }
        out
    }

    /// Whether the frame that was last cleaned is our own voice. To be asked only where a detector found speech in it: the
    /// search costs more than all else.
    pub fn is_echo(&mut self) -> bool {
        if self.echo || !self.is_active() || self.played.is_empty() {
            return self.echo;
        }
        if let Some(path) = &mut self.path {
            path.unlike += 1;
            if path.unlike > LOST {
                self.path = None;
            }
        }
        let Some((lag, gain, likeness)) = self.search() else {
            self.echo = self.is_in_doubt();
            return self.echo;
        };
        let from = lag.saturating_sub(BEFORE);
        if let Some(path) = &self.path {
            if path.from.abs_diff(from) <= BEFORE / 2 {
                self.echo = likeness >= KNOWN || self.is_in_doubt();
                return self.echo;
            }
            if path.usual > ALIKE.0 && path.unlike < DOUBT {
                self.echo = self.is_in_doubt();
                return self.echo;
            }
        }
        let mut path = Path::new(lag, from, gain);
        let sounding = self.sounding();
        let again = self.found_before(lag);
        let explained = sounding > 2 && self.rehearse(&mut path, lag - from);
        self.echo = explained || again && likeness >= AGAIN || likeness >= FOUND[sounding];
        if self.echo {
            self.path = Some(path);
        }
        self.echo |= self.is_in_doubt();
        self.echo
    }

    /// Whether there is an echo on this line whose way is not learnt yet, and what came is so much softer than what was
    /// played that it may be nothing else. A caller is as a rule louder than that.
    fn is_in_doubt(&self) -> bool {
        let hinted = self.path.is_some() || self.twice_at_one_delay();
        hinted && !self.is_learnt() && self.is_soft()
    }

    /// Whether two of the last searches, of different sound, found the same delay.
    fn twice_at_one_delay(&self) -> bool {
        let apart = (SEARCH / FRAME_SAMPLES) as u32;
        let lately = |hint: &&(u32, usize)| hint.1 != usize::MAX && self.frame.wrapping_sub(hint.0) < APART;
        self.hints.iter().filter(lately).any(|a| {
            self.hints
                .iter()
                .filter(lately)
                .any(|b| a.1.abs_diff(b.1) <= NEAR && b.0.wrapping_sub(a.0) >= apart && b.0 > a.0)
        })
    }

    fn is_soft(&self) -> bool {
        let ours = energy(&self.came[SEARCH - 2 * FRAME_SAMPLES..]);
        let lately = &self.played[self.played.len() - MAX_LAG - SEARCH..];
        let loudest = lately.windows(2 * FRAME_SAMPLES).step_by(FRAME_SAMPLES).map(energy).fold(0.0, f32::max);
        ours < SOFT * loudest
    }

    /// Whether the way back is known so well that what [`EchoGuard::clean`] leaves of an echo is next to nothing.
    pub fn is_learnt(&self) -> bool {
        self.path.as_ref().is_some_and(|p| p.usual > 0.9)
    }

    /// Whether the same delay was found in sound of which nothing is in this search: chance does not do that.
    fn found_before(&mut self, lag: usize) -> bool {
        let apart = (SEARCH / FRAME_SAMPLES) as u32;
        let same = |(frame, before): &(u32, usize)| {
            let ago = self.frame.wrapping_sub(*frame);
            before.abs_diff(lag) <= NEAR && (apart..APART).contains(&ago)
        };
        let again = self.hints.iter().any(same);
        self.hints.rotate_left(1);
        self.hints[HINTS - 1] = (self.frame, lag);
        again
    }

    /// How many of the last five frames hold sound.
    fn sounding(&self) -> usize {
        let least = 4.0 * FLOOR * FLOOR * FRAME_SAMPLES as f32;
        self.came.chunks_exact(FRAME_SAMPLES).filter(|f| energy(f) > least).count()
    }

    /// Learns from the last 100 ms as long as that helps; whether they are explained then.
    fn rehearse(&self, path: &mut Path, peak: usize) -> bool {
        let end = self.played.len() - path.from;
        let x: [f32; SEARCH + TAPS - 2] = whitened(&self.played[end - (SEARCH + TAPS - 1)..end]);
        let d: [f32; SEARCH - 1] = whitened(&self.came);
        let top = (TAPS - peak + FIRST_BEFORE).min(TAPS);
        let mut left = f32::MAX;
        for _ in 0..3 {
            left = path.learn(&x, &d, top - FIRST_TAPS..top);
        }
        left < LEFT * dot(&d, &d)
    }

    /// The delay at which what came was played, how strongly it came back, and how alike the two are.
    fn search(&self) -> Option<(usize, f32, f32)> {
        let near: [f32; SEARCH / 2] = halved(&self.came);
        let far: [f32; (MAX_LAG + SEARCH) / 2] = halved(&self.played[self.played.len() - MAX_LAG - SEARCH..]);
        let (len, ours) = (near.len(), dot(&near, &near));
        if ours < 1.0 {
            return None; // a constant
        }
        let newest = far.len() - len;
        let mut theirs = dot(&far[newest..], &far[newest..]);
        let mut best = (0, 0.0, 0.0f32);
        for lag in 0..=newest {
            let start = newest - lag;
            if lag > 0 {
                theirs += far[start] * far[start] - far[start + len] * far[start + len];
            }
            if theirs * LOUDEST < ours || theirs <= 1.0 {
                continue;
            }
            let product = dot(&near, &far[start..start + len]);
            let likeness = product.abs() / (ours * theirs).sqrt();
            if likeness > best.2 {
                best = (lag * 2, product / theirs, likeness);
            }
        }
        (best.2 >= HINT).then_some(best)
    }
}

impl Path {
    fn new(lag: usize, from: usize, gain: f32) -> Path {
        let mut taps = Box::new([0.0; TAPS]);
        taps[TAPS - 1 - (lag - from)] = gain;
        Path { from, taps, recent: [(0.0, 0.0, 0.0); RECENT], usual: ALIKE.0, unlike: 0 }
    }

    /// Says whether `d` is echo of `x`, learns from it then, and gives what is left of it; nothing where taking the
    /// prediction away would only add to it.
    fn predict(
        &mut self,
        x: &[f32; FRAME_SAMPLES + TAPS - 1],
        d: &[f32; FRAME_SAMPLES],
        echo: &mut bool,
    ) -> Option<[f32; FRAME_SAMPLES]> {
        let mut y = [0.0; FRAME_SAMPLES];
        for (y, x) in y.iter_mut().zip(x.windows(TAPS)) {
            *y = dot(&self.taps[..], x);
        }
        self.recent.rotate_left(1);
        self.recent[RECENT - 1] = (dot(&y, d), dot(&y, &y), dot(d, d));
        let (yd, yy, dd) = self.recent.iter().fold((0.0, 0.0, 0.0), |s, r| (s.0 + r.0, s.1 + r.1, s.2 + r.2));
        let alike = if yy > 0.0 && dd > 0.0 { yd / (yy * dd).sqrt() } else { 0.0 };
        *echo = alike > (self.usual - SLACK).clamp(ALIKE.0, ALIKE.1);
        if *echo {
            self.unlike = 0;
            self.usual += 0.1 * (alike - self.usual);
            if alike < LEARNT {
                self.learn(x, d, 0..TAPS);
            }
        }
        y.iter_mut().zip(d).for_each(|(y, d)| *y = d - *y);
        (dot(&y, &y) < dot(d, d)).then_some(y)
    }

    /// One pass of NLMS for some of the taps; gives the energy that was left, sample by sample, before each step.
    fn learn(&mut self, x: &[f32], d: &[f32], part: Range<usize>) -> f32 {
        let x = &x[part.start..];
        let taps = &mut self.taps[part];
        let (len, mut left) = (taps.len(), 0.0);
        let mut energy = dot(&x[..len], &x[..len]);
        for (n, (d, now)) in d.iter().zip(x.windows(len)).enumerate() {
            if n > 0 {
                energy += now[len - 1] * now[len - 1] - x[n - 1] * x[n - 1];
            }
            let error = d - dot(taps, now);
            left += error * error;
            let step = STEP * error / (energy.max(0.0) + 1e5);
            taps.iter_mut().zip(now).for_each(|(w, x)| *w += step * x);
        }
        left
    }
}

fn energy(pcm: &[i16]) -> f32 {
    pcm.iter().map(|&s| f32::from(s) * f32::from(s)).sum()
}

/// `pcm` has one sample more at its beginning.
fn whitened<const N: usize>(pcm: &[i16]) -> [f32; N] {
    let mut out = [0.0; N];
    for (out, pair) in out.iter_mut().zip(pcm.windows(2)) {
        *out = f32::from(pair[1]) - WHITEN * f32::from(pair[0]);
    }
    out
}

/// At 4 kHz, whitened.
fn halved<const N: usize>(pcm: &[i16]) -> [f32; N] {
    let (mut out, mut last) = ([0.0; N], 0.0);
    for (out, pair) in out.iter_mut().zip(pcm.chunks_exact(2)) {
        let sum = f32::from(pair[0]) + f32::from(pair[1]);
        *out = sum - last;
        last = sum;
    }
    out
}

/// In eight sums, so that it can be done eight at a time.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        sums.iter_mut().zip(a).zip(b).for_each(|((sum, a), b)| *sum += a * b);
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Two seconds that sound like a voice from afar: syllables of coloured noise.
    fn voice(seed: u64) -> Vec<i16> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut a, mut b) = (0.0f32, 0.0f32);
        let mut sample = |n: usize| {
            let next = 1.6 * a - 0.8 * b + rng.random_range(-800.0..800.0);
            (b, a) = (a, next);
            let syllable = (n as f32 / 1600.0 * std::f32::consts::TAU + seed as f32).sin().max(0.0);
            (next * syllable).clamp(-20_000.0, 20_000.0) as i16
        };
        (0..16_000).map(&mut sample).collect()
    }

    fn frames(pcm: &[i16]) -> impl Iterator<Item = &[i16; FRAME_SAMPLES]> {
        pcm.as_chunks().0.iter()
    }

    /// Plays `prompt` while `came` comes: frames with sound, and those of them that were called echo.
    fn listen(guard: &mut EchoGuard, prompt: &[i16], came: &[i16]) -> (usize, usize, f32) {
        let (mut sound, mut echoes, mut left) = (0, 0, 0.0);
        for (play, came) in frames(prompt).zip(frames(came)) {
            let cleaned = guard.clean(came);
            if energy(came) > 1e6 {
                sound += 1;
                echoes += usize::from(guard.is_echo());
                left += energy(&cleaned) / energy(came);
            }
            guard.play(play);
        }
        (sound, echoes, left / sound.max(1) as f32)
    }

    fn echo_of(prompt: &[i16], delay: usize, divisor: i16) -> Vec<i16> {
        let mut out = vec![0; delay];
        out.extend(prompt.iter().map(|s| s / divisor));
        out
    }

    #[test]
    fn what_was_played_is_known_again_at_every_delay_and_taken_away() {
        for delay in [160, 500, 1234, 3600] {
            for divisor in [4, 10] {
                let mut guard = EchoGuard::new();
                let prompt = voice(1);
                let (sound, echoes, _) = listen(&mut guard, &prompt, &echo_of(&prompt, delay, divisor));
                assert!(sound > 20 && echoes + 3 >= sound, "{delay}: {echoes} of {sound}");
                let (_, _, left) = listen(&mut guard, &prompt, &echo_of(&prompt, delay, divisor));
                assert!(left < 0.5, "{delay}: a part of {left} is left");
            }
        }
    }

    #[test]
    fn another_voice_is_not_ours_alone_or_over_an_echo() {
        let (prompt, other) = (voice(1), voice(7));
        let (sound, echoes, _) = listen(&mut EchoGuard::new(), &prompt, &other);
        // These two resonate alike, so that an echo is suspected, and the edges of syllables are soft.
        assert!(sound > 20 && echoes * 4 <= sound, "{echoes} of {sound}");
        let mut guard = EchoGuard::new();
        listen(&mut guard, &prompt, &echo_of(&prompt, 800, 4));
        let over: Vec<i16> = echo_of(&prompt, 800, 4).iter().zip(&other).map(|(a, b)| a.saturating_add(*b)).collect();
        let (sound, echoes, _) = listen(&mut guard, &prompt, &over);
        // Where its syllables pause there is nothing but echo.
        assert!(echoes * 5 < sound * 3, "{echoes} of {sound}");
    }

    #[test]
    fn with_nothing_played_everything_passes_untouched() {
        let mut guard = EchoGuard::new();
        for frame in frames(&voice(3)) {
            assert!(!guard.is_active());
            assert_eq!(guard.clean(frame), *frame);
            assert!(!guard.is_echo());
            guard.play(&[0; FRAME_SAMPLES]);
        }
        assert_eq!(guard.played.capacity(), 0, "and takes no memory");
    }

    #[test]
    fn a_long_prompt_and_any_sound_keep_it_within_its_buffer() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut guard = EchoGuard::new();
        for n in 0..2000 {
            let mut frame = [0i16; FRAME_SAMPLES];
            frame.iter_mut().for_each(|s| *s = if n % 70 < 35 { rng.random() } else { 0 });
            guard.clean(&frame);
            guard.is_echo();
            guard.play(&frame);
            assert!(guard.played.len() <= KEPT + 20 * FRAME_SAMPLES);
        }
    }
}
