//! When speech begins and when it is over: probabilities of a [`super::Vad`] in, marks out.
//!
//! Three separate decisions: *onset* (something begins: turn the prompt down), *confirmed* (it is no cough: open a
//! recogniser), *ended* (the pause after it is as long as the awaited answer asks for). All times are media time,
//! counted from the frames' positions, so a late thread does not stretch a pause.

use crate::audio::FRAME_MS;

/// What counts as speech and how long a pause ends it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EndpointRule {
    /// Probability from which a frame is speech, 0.0..=1.0.
    pub threshold: f32,
    /// Probability above which speech that has begun goes on (hysteresis; below `threshold`).
    pub release: f32,
    /// Speech frames in a row that make an onset.
    pub onset_frames: u8,
    /// Less voiced sound than this, in milliseconds, is a cough or a click.
    pub min_speech_ms: u32,
    /// The pause that ends the utterance, in milliseconds.
    pub pause_ms: u32,
    /// The longest utterance, in milliseconds from its onset.
    pub max_ms: u32,
}

impl Default for EndpointRule {
    fn default() -> Self {
        EndpointRule {
            threshold: 0.5,
            release: 0.35,
            onset_frames: 3,
            min_speech_ms: 100,
            pause_ms: 600,
            max_ms: 15_000,
        }
    }
}

/// A decision about the caller's speech.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Sound like speech begins.
    Onset,
    /// It has lasted long enough to be an utterance.
    Confirmed,
    /// It was too short: a cough, a click.
    Void,
    /// The utterance is over.
    Ended(Utterance),
}

/// An utterance that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Utterance {
    /// From the onset to the last voiced frame's end, in milliseconds.
    pub speech_ms: u32,
    /// Voiced frames alone, in milliseconds.
    pub voiced_ms: u32,
    /// From the last voiced frame's end to the decision, in milliseconds.
    pub pause_ms: u32,
    /// Cut at the longest allowed length rather than by a pause.
    pub cut: bool,
}

/// A pause that turns an unconfirmed onset into a cough, in milliseconds.
const COUGH_GAP_MS: u64 = 200;
/// Longest jump of the media clock that is believed between two frames, in milliseconds.
const LONGEST_GAP_MS: u64 = 1000;

#[derive(Debug, Clone, Copy)]
struct Speech {
    began_ms: u64,
    last_voice_ms: u64,
    voiced_ms: u32,
    confirmed: bool,
}

/// Finds the utterances in a stream of frames. Allocates nothing.
#[derive(Debug)]
pub struct Endpointer {
    rule: EndpointRule,
    clock_ms: u64,
    last_at: Option<u64>,
    run: u8,
    speech: Option<Speech>,
}

impl Endpointer {
    /// One that has heard nothing yet.
    pub fn new(rule: EndpointRule) -> Self {
        Endpointer { rule, clock_ms: 0, last_at: None, run: 0, speech: None }
    }

    /// Forgets what was heard and listens by a new rule.
    pub fn restart(&mut self, rule: EndpointRule) {
        *self = Endpointer::new(rule);
    }

    /// Whether an utterance (or a cough) is going on.
    pub fn in_speech(&self) -> bool {
        self.speech.is_some()
    }

    /// Voiced sound of the utterance that is going on, in milliseconds.
    pub fn voiced_ms(&self) -> u32 {
        self.speech.map_or(0, |s| s.voiced_ms)
    }

    /// Takes the next frame: its position in samples and the probability that it is speech.
    pub fn push(&mut self, at: u64, probability: f32) -> Option<Mark> {
        self.advance(at);
        let now = self.clock_ms;
        let Some(speech) = &mut self.speech else {
            return self.await_onset(now, probability);
        };
        if probability >= self.rule.release {
            speech.voiced_ms = speech.voiced_ms.saturating_add(FRAME_MS as u32);
            speech.last_voice_ms = now;
        }
        let silent_ms = now - speech.last_voice_ms;
        if !speech.confirmed {
            if speech.voiced_ms >= self.rule.min_speech_ms {
                speech.confirmed = true;
                return Some(Mark::Confirmed);
            }
            if silent_ms >= COUGH_GAP_MS {
                self.speech = None;
                return Some(Mark::Void);
            }
            return None;
        }
        let cut = now - speech.began_ms >= u64::from(self.rule.max_ms);
        if !cut && silent_ms < u64::from(self.rule.pause_ms) {
            return None;
        }
        let utterance = Utterance {
            speech_ms: (speech.last_voice_ms - speech.began_ms) as u32,
            voiced_ms: speech.voiced_ms,
            pause_ms: silent_ms as u32,
            cut: silent_ms < u64::from(self.rule.pause_ms),
        };
        self.speech = None;
        self.run = 0;
        Some(Mark::Ended(utterance))
    }

    fn await_onset(&mut self, now: u64, probability: f32) -> Option<Mark> {
        self.run = if probability >= self.rule.threshold { self.run.saturating_add(1) } else { 0 };
        if self.run < self.rule.onset_frames.max(1) {
            return None;
        }
        let voiced = u64::from(self.run) * FRAME_MS;
        self.run = 0;
        self.speech = Some(Speech {
            began_ms: now.saturating_sub(voiced),
            last_voice_ms: now,
            voiced_ms: voiced as u32,
            confirmed: false,
        });
        Some(Mark::Onset)
    }

    /// Moves the clock to the end of the frame at `at`; a jump backwards counts as one frame.
    fn advance(&mut self, at: u64) {
        let step = match self.last_at {
            Some(last) if at > last => ((at - last) / 8).clamp(1, LONGEST_GAP_MS),
            _ => FRAME_MS,
        };
        self.last_at = Some(at);
        self.clock_ms += step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples a frame takes on the media clock.
    const FRAME_STEP: u64 = crate::audio::FRAME_SAMPLES as u64;

    /// Plays `pattern` (voiced or not, milliseconds) and gives the marks with the end time of their frame.
    fn marks(rule: EndpointRule, pattern: &[(bool, u64)]) -> Vec<(u64, Mark)> {
        let mut endpointer = Endpointer::new(rule);
        let (mut at, mut found) = (0, Vec::new());
        for &(voiced, ms) in pattern {
            for _ in 0..ms / FRAME_MS {
                if let Some(mark) = endpointer.push(at, if voiced { 0.9 } else { 0.05 }) {
                    found.push((at / 8 + FRAME_MS, mark));
                }
                at += FRAME_STEP;
            }
        }
        found
    }

    #[test]
    fn an_utterance_has_an_onset_a_confirmation_and_an_end_after_its_pause() {
        let found = marks(EndpointRule::default(), &[(false, 500), (true, 400), (false, 1000)]);
        let ended = Utterance { speech_ms: 400, voiced_ms: 400, pause_ms: 600, cut: false };
        assert_eq!(found, vec![(560, Mark::Onset), (600, Mark::Confirmed), (1500, Mark::Ended(ended))]);
    }

    #[test]
    fn a_cough_is_no_utterance() {
        let found = marks(EndpointRule::default(), &[(false, 200), (true, 80), (false, 1000)]);
        assert_eq!(found.iter().map(|m| m.1).collect::<Vec<_>>(), vec![Mark::Onset, Mark::Void]);
        assert!(marks(EndpointRule::default(), &[(true, 40), (false, 60), (true, 40), (false, 500)]).is_empty());
    }

    #[test]
    fn a_pause_inside_a_digit_string_does_not_end_it() {
        let digits = EndpointRule { pause_ms: 900, ..EndpointRule::default() };
        let pattern = [(true, 400), (false, 700), (true, 400), (false, 1000)];
        let ends = |rule| marks(rule, &pattern).iter().filter(|m| matches!(m.1, Mark::Ended(_))).count();
        assert_eq!((ends(digits), ends(EndpointRule { pause_ms: 375, ..digits })), (1, 2));
    }

    #[test]
    fn an_endless_utterance_is_cut_at_its_longest_length() {
        let rule = EndpointRule { max_ms: 3000, ..EndpointRule::default() };
        let found = marks(rule, &[(true, 3100)]);
        let Some((at, Mark::Ended(end))) = found.get(2) else { panic!("no end: {found:?}") };
        assert_eq!((*at, end.cut, end.pause_ms), (3000, true, 0));
    }

    #[test]
    fn lost_frames_count_as_time_and_a_clock_that_jumps_back_does_no_harm() {
        let mut endpointer = Endpointer::new(EndpointRule::default());
        for n in 0..10 {
            endpointer.push(n * FRAME_STEP, 0.9);
        }
        // 640 ms later the next frame: the pause is over.
        assert!(matches!(endpointer.push(10 * FRAME_STEP + 640 * 8, 0.0), Some(Mark::Ended(_))));
        for at in [5, u64::MAX, 0, 160] {
            endpointer.push(at, 0.9);
        }
        assert!(endpointer.in_speech());
    }

    #[test]
    fn speech_that_grows_quiet_goes_on_above_the_release_level() {
        let mut endpointer = Endpointer::new(EndpointRule::default());
        let mut ended = false;
        for n in 0..100 {
            let level = if n < 10 { 0.8 } else { 0.4 };
            ended |= matches!(endpointer.push(n * FRAME_STEP, level), Some(Mark::Ended(_)));
        }
        assert!(!ended && endpointer.voiced_ms() > 1900);
    }
}
