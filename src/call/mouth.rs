//! What one leg hears from us: prompts in a row, without gaps, and known to the sample.

use crate::audio::{AudioFrame, FRAME_SAMPLES};
use crate::clock::Mono;
use crate::ids::PromptId;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Samples of a fade (5 ms).
pub const FADE_SAMPLES: usize = 40;
/// Most prompts that wait.
pub const MAX_PROMPTS: usize = 64;
/// Longest sound of one prompt in samples (three minutes).
const MAX_SAMPLES: usize = 8000 * 180;
/// Full loudness.
const FULL: i32 = 1 << 15;
/// -12 dB.
const DUCKED: i32 = 8231;

/// What a prompt is to the turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The flow's words.
    Answer,
    /// Our own words while something takes long.
    Filler,
    /// A tone; no event is written for it.
    Beep,
}

/// What happened in the mouth; taken with [`Mouth::poll`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A prompt's first sample went out.
    Started {
        /// Its words, masked.
        shown: String,
        /// What it was.
        role: Role,
    },
    /// A prompt is over.
    Ended {
        /// Milliseconds that were really heard.
        played_ms: u32,
        /// Cut short.
        interrupted: bool,
    },
    /// Its sound did not come and it was skipped.
    Missing {
        /// Which.
        prompt: PromptId,
        /// Its words, masked.
        shown: String,
    },
    /// Its sound is no longer wanted, though not all of it has come.
    Unwanted(PromptId),
}

#[derive(Debug)]
struct Item {
    id: PromptId,
    shown: String,
    barge_in: bool,
    role: Role,
    chunks: VecDeque<Arc<[i16]>>,
    /// Samples of the first chunk that have gone out.
    offset: usize,
    received: usize,
    complete: bool,
    played: u64,
    started: bool,
    /// Since when it is first in line and has no sound.
    waiting: Option<Mono>,
}

impl Item {
    fn empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Copies what there is into `out`; gives the number of samples.
    fn read(&mut self, out: &mut [i16]) -> usize {
        let mut filled = 0;
        while filled < out.len() {
            let Some(chunk) = self.chunks.front() else { break };
            let n = (chunk.len() - self.offset).min(out.len() - filled);
            out[filled..filled + n].copy_from_slice(&chunk[self.offset..self.offset + n]);
            filled += n;
            self.offset += n;
            if self.offset == chunk.len() {
                self.chunks.pop_front();
                self.offset = 0;
            }
        }
        self.played += filled as u64;
        filled
    }

    /// The next samples without taking them.
    fn peek(&self) -> impl Iterator<Item = i16> + '_ {
        self.chunks.iter().flat_map(|c| c.iter().copied()).skip(self.offset)
    }
}

/// Speaks the prompts of one leg.
#[derive(Debug)]
pub struct Mouth {
    queue: VecDeque<Item>,
    notes: VecDeque<Said>,
    /// Loudness at the last sample, and where it goes.
    gain: i32,
    target: i32,
    paused: bool,
    frozen: bool,
    /// What still sounds of a prompt that was stopped or paused.
    tail: Option<[i16; FADE_SAMPLES]>,
    /// Frames of silence before the next prompt.
    lead_in: u32,
    wait: Duration,
}

impl Mouth {
    /// Silent; a prompt without sound is skipped after `wait`.
    pub fn new(wait: Duration) -> Self {
        Mouth {
            queue: VecDeque::new(),
            notes: VecDeque::new(),
            gain: FULL,
            target: FULL,
            paused: false,
            frozen: false,
            tail: None,
            lead_in: 0,
            wait,
        }
    }

    /// Whether anything is being said or waits to be.
    pub fn busy(&self) -> bool {
        !self.queue.is_empty() || self.tail.is_some()
    }

    /// Whether the prompt being said must not be interrupted.
    pub fn protected(&self) -> bool {
        self.queue.front().is_some_and(|item| !item.barge_in)
    }

    /// Whether it is paused in the middle of a prompt.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// When a prompt that does not come is skipped.
    pub fn deadline(&self) -> Option<Mono> {
        if self.paused || self.frozen {
            return None;
        }
        Some(self.queue.front()?.waiting? + self.wait)
    }

    /// Puts silence before the next prompt, in milliseconds.
    pub fn lead_in(&mut self, ms: u32) {
        self.lead_in = ms / 20;
    }

    /// Queues a prompt whose sound will come; false when too many wait.
    pub fn push(&mut self, now: Mono, id: PromptId, shown: String, barge_in: bool, role: Role) -> bool {
        if self.queue.len() >= MAX_PROMPTS {
            return false;
        }
        let waiting = self.queue.is_empty().then_some(now);
        self.queue.push_back(Item {
            id,
            shown,
            barge_in,
            role,
            chunks: VecDeque::new(),
            offset: 0,
            received: 0,
            complete: false,
            played: 0,
            started: false,
            waiting,
        });
        true
    }

    /// More sound of a prompt. Sound of a prompt that was stopped is dropped.
    pub fn audio(&mut self, now: Mono, id: PromptId, pcm: Arc<[i16]>, last: bool) {
        let Some(item) = self.queue.iter_mut().find(|i| i.id == id) else { return };
        if item.complete {
            return;
        }
        let too_long = item.received + pcm.len() > MAX_SAMPLES;
        if !pcm.is_empty() && !too_long {
            item.received += pcm.len();
            item.chunks.push_back(pcm);
            item.waiting = None;
        }
        item.complete = last || too_long;
        if too_long && !last {
            self.notes.push_back(Said::Unwanted(id));
        }
        self.pop_finished(now);
    }

    /// No (more) sound of a prompt will come.
    pub fn fail(&mut self, now: Mono, id: PromptId) {
        let Some(item) = self.queue.iter_mut().find(|i| i.id == id && !i.complete) else { return };
        item.complete = true;
        self.notes.push_back(Said::Missing { prompt: id, shown: item.shown.clone() });
        self.pop_finished(now);
    }

    /// Skips the first prompt when its sound is overdue.
    pub fn timeout(&mut self, now: Mono) {
        if self.deadline().is_some_and(|at| at <= now)
            && let Some(item) = self.queue.front_mut()
        {
            item.complete = true;
            let (id, shown) = (item.id, item.shown.clone());
            self.notes.push_back(Said::Missing { prompt: id, shown });
            self.notes.push_back(Said::Unwanted(id));
            self.pop_finished(now);
        }
    }

    /// The next frame: sound as long as there is some, otherwise silence.
    pub fn speak(&mut self, now: Mono, at: u64) -> AudioFrame {
        let mut frame = AudioFrame::silence(at);
        if let Some(tail) = self.tail.take() {
            frame.pcm[..FADE_SAMPLES].copy_from_slice(&tail);
            return frame;
        }
        if self.queue.is_empty() || self.paused || self.frozen {
            return frame;
        }
        if self.lead_in > 0 {
            self.lead_in -= 1;
            return frame;
        }
        let mut filled = 0;
        while let Some(item) = self.queue.front_mut() {
            let n = item.read(&mut frame.pcm[filled..]);
            filled += n;
            if n > 0 && !item.started {
                item.started = true;
                if item.role != Role::Beep {
                    self.notes.push_back(Said::Started { shown: item.shown.clone(), role: item.role });
                }
            }
            if item.empty() && !item.complete {
                if item.waiting.is_none() {
                    item.waiting = Some(now);
                }
                break;
            }
            self.pop_finished(now);
            if filled == FRAME_SAMPLES {
                break;
            }
        }
        self.level(&mut frame.pcm[..filled]);
        frame
    }

    /// Turns the prompt down while the caller may be interrupting.
    pub fn duck(&mut self) {
        if !self.queue.is_empty() {
            self.target = DUCKED;
        }
    }

    /// Stops at the next sample and keeps the place.
    pub fn pause(&mut self) {
        if !self.paused && !self.queue.is_empty() {
            self.fade_out();
            self.paused = true;
        }
    }

    /// Goes on at full loudness, from the very sample at which it paused.
    pub fn resume(&mut self, now: Mono) {
        self.target = FULL;
        if self.paused {
            self.paused = false;
            self.gain = 0;
        }
        self.restart_wait(now);
    }

    /// Freezes and unfreezes: the leg is on hold and hears nothing.
    pub fn freeze(&mut self, now: Mono, frozen: bool) {
        self.frozen = frozen;
        self.restart_wait(now);
    }

    /// Stops at once and forgets every prompt.
    pub fn stop(&mut self) {
        self.fade_out();
        self.gain = FULL;
        self.target = FULL;
        self.paused = false;
        while let Some(item) = self.queue.pop_front() {
            if !item.complete {
                self.notes.push_back(Said::Unwanted(item.id));
            }
            self.ended(&item, true);
        }
    }

    /// Forgets fillers that have not begun: the answer is here.
    pub fn drop_fillers(&mut self, now: Mono) {
        let notes = &mut self.notes;
        self.queue.retain(|item| {
            let keep = item.role != Role::Filler || item.started;
            if !keep && !item.complete {
                notes.push_back(Said::Unwanted(item.id));
            }
            keep
        });
        self.restart_wait(now);
    }

    /// What happened, in order.
    pub fn poll(&mut self) -> Option<Said> {
        self.notes.pop_front()
    }

    fn pop_finished(&mut self, now: Mono) {
        while self.queue.front().is_some_and(|i| i.complete && i.empty()) {
            if let Some(item) = self.queue.pop_front() {
                self.ended(&item, false);
            }
            self.restart_wait(now);
        }
    }

    fn ended(&mut self, item: &Item, interrupted: bool) {
        if item.started && item.role != Role::Beep {
            self.notes.push_back(Said::Ended { played_ms: (item.played / 8) as u32, interrupted });
        }
    }

    /// The first prompt's wait begins now, when it has no sound.
    fn restart_wait(&mut self, now: Mono) {
        if let Some(item) = self.queue.front_mut() {
            item.waiting = item.empty().then_some(now);
        }
    }

    /// Takes the next 5 ms as a fade without moving the place.
    fn fade_out(&mut self) {
        let Some(item) = self.queue.front() else { return };
        if self.paused || self.frozen || !item.started {
            return;
        }
        let mut tail = [0; FADE_SAMPLES];
        for (n, (out, sample)) in tail.iter_mut().zip(item.peek()).enumerate() {
            let level = self.gain * (FADE_SAMPLES - n) as i32 / FADE_SAMPLES as i32;
            *out = scaled(sample, level);
        }
        self.tail = Some(tail);
    }

    /// Applies loudness, moving to the target within 5 ms.
    fn level(&mut self, pcm: &mut [i16]) {
        if self.gain == FULL && self.target == FULL || pcm.is_empty() {
            return;
        }
        let (from, to) = (self.gain, self.target);
        for (n, sample) in pcm.iter_mut().enumerate() {
            let ramp = n.min(FADE_SAMPLES) as i32;
            *sample = scaled(*sample, from + (to - from) * ramp / FADE_SAMPLES as i32);
        }
        self.gain = to;
    }
}

fn scaled(sample: i16, level: i32) -> i16 {
    ((i32::from(sample) * level) >> 15) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Mono = Mono(0);

    fn mouth() -> Mouth {
        Mouth::new(Duration::from_secs(3))
    }

    /// Samples that say where they come from.
    fn count(from: i16, n: i16) -> Arc<[i16]> {
        (from..from + n).collect()
    }

    fn with_prompt(id: u32, pcm: Arc<[i16]>) -> Mouth {
        let mut m = mouth();
        assert!(m.push(NOW, PromptId(id), "甲".into(), true, Role::Answer));
        m.audio(NOW, PromptId(id), pcm, true);
        m
    }

    fn notes(m: &mut Mouth) -> Vec<Said> {
        std::iter::from_fn(|| m.poll()).collect()
    }

    fn ended(played_ms: u32, interrupted: bool) -> Said {
        Said::Ended { played_ms, interrupted }
    }

    #[test]
    fn sound_in_pieces_plays_without_a_gap_across_prompts() {
        let mut m = mouth();
        for id in 1..=2 {
            m.push(NOW, PromptId(id), format!("{id}"), true, Role::Answer);
        }
        m.audio(NOW, PromptId(2), count(250, 150), true);
        m.audio(NOW, PromptId(1), count(1, 100), false);
        m.audio(NOW, PromptId(1), count(101, 149), true);
        let heard: Vec<i16> = (0..3).flat_map(|n| m.speak(NOW, n * 160).pcm).collect();
        let expected: Vec<i16> = (1..400).chain(std::iter::repeat_n(0, 81)).collect();
        assert_eq!(heard, expected);
        let started = |s: &str| Said::Started { shown: s.into(), role: Role::Answer };
        assert_eq!(notes(&mut m), vec![started("1"), ended(31, false), started("2"), ended(18, false)]);
        assert!(!m.busy());
    }

    #[test]
    fn a_prompt_that_never_comes_is_skipped_after_its_wait() {
        let mut m = mouth();
        m.push(NOW, PromptId(1), "甲".into(), true, Role::Answer);
        m.push(NOW, PromptId(2), "乙".into(), true, Role::Answer);
        m.audio(NOW, PromptId(2), count(1, 160), true);
        m.speak(NOW, 0);
        assert_eq!(m.deadline(), Some(Mono::from_ms(3000)));
        m.timeout(Mono::from_ms(2999));
        assert!(notes(&mut m).is_empty());
        m.timeout(Mono::from_ms(3000));
        assert_eq!(m.speak(Mono::from_ms(3000), 0).pcm[0], 1);
        let all = notes(&mut m);
        assert_eq!(all[0], Said::Missing { prompt: PromptId(1), shown: "甲".into() });
        assert_eq!(all[1], Said::Unwanted(PromptId(1)));
        assert!(!m.busy());
    }

    #[test]
    fn a_prompt_that_breaks_off_in_the_middle_is_skipped_too() {
        let mut m = mouth();
        m.push(NOW, PromptId(1), "甲".into(), true, Role::Answer);
        m.audio(NOW, PromptId(1), count(1, 80), false);
        m.speak(Mono::from_ms(500), 0);
        assert_eq!(m.deadline(), Some(Mono::from_ms(3500)));
        m.timeout(Mono::from_ms(3500));
        assert!(!m.busy());
        assert_eq!(notes(&mut m).last(), Some(&ended(10, false)));
    }

    #[test]
    fn a_stop_is_silence_within_five_milliseconds() {
        let mut m = with_prompt(1, vec![8000; 1600].into());
        m.speak(NOW, 0);
        m.stop();
        let frame = m.speak(NOW, 160);
        assert!(frame.pcm[..FADE_SAMPLES].windows(2).all(|w| w[1] <= w[0]) && frame.pcm[0] == 8000);
        assert!(frame.pcm[FADE_SAMPLES..].iter().all(|&s| s == 0));
        assert_eq!(m.speak(NOW, 320).pcm, [0; 160]);
        assert_eq!(notes(&mut m).last(), Some(&ended(20, true)));
    }

    #[test]
    fn a_pause_resumes_from_the_exact_sample() {
        let mut m = with_prompt(1, count(1, 1600));
        m.speak(NOW, 0);
        m.duck();
        m.speak(NOW, 160);
        m.pause();
        for n in 2..50 {
            m.speak(NOW, n * 160);
        }
        assert!(m.is_paused());
        m.resume(NOW);
        let frame = m.speak(NOW, 8000);
        // The first 5 ms rise from silence; then sample 361 and on, at full loudness.
        assert_eq!(frame.pcm[0], 0);
        assert_eq!(&frame.pcm[FADE_SAMPLES..], &(361..=480).collect::<Vec<i16>>()[..]);
    }

    #[test]
    fn ducking_is_twelve_decibels_within_a_frame() {
        let mut m = with_prompt(1, vec![10_000; 16_000].into());
        let before = m.speak(NOW, 0).rms();
        m.duck();
        m.speak(NOW, 160);
        let after = m.speak(NOW, 320).rms();
        let db = 20.0 * (before / after).log10();
        assert!((11.9..12.1).contains(&db), "{db} dB");
        m.resume(NOW);
        m.speak(NOW, 480);
        assert_eq!(m.speak(NOW, 640).pcm[0], 10_000);
    }

    #[test]
    fn sound_for_a_stopped_prompt_is_dropped() {
        let mut m = mouth();
        m.push(NOW, PromptId(1), "甲".into(), true, Role::Answer);
        m.stop();
        assert_eq!(notes(&mut m), vec![Said::Unwanted(PromptId(1))]);
        m.audio(NOW, PromptId(1), count(1, 160), true);
        assert!(!m.busy());
        assert_eq!(m.speak(NOW, 0).pcm, [0; 160]);
    }

    #[test]
    fn a_held_leg_hears_nothing_and_loses_no_word() {
        let mut m = with_prompt(1, count(1, 320));
        m.freeze(NOW, true);
        assert_eq!(m.speak(NOW, 0).pcm, [0; 160]);
        m.freeze(NOW, false);
        assert_eq!(m.speak(NOW, 0).pcm[..], count(1, 160)[..]);
    }

    #[test]
    fn the_queue_has_a_limit() {
        let mut m = mouth();
        let taken = (0..100).filter(|&n| m.push(NOW, PromptId(n), String::new(), true, Role::Answer)).count();
        assert_eq!(taken, MAX_PROMPTS);
    }
}
