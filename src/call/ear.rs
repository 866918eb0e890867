//! The caller's sound: where utterances begin and end, and their samples in chunks for a recogniser.

use crate::audio::{AudioFrame, EchoGuard, FRAME_SAMPLES};
use crate::speech::{EndpointRule, Endpointer, Mark, Vad};

/// Frames kept from before the onset (300 ms), so that no first syllable is clipped, and those of the onset itself.
const PRE_ROLL: usize = 18;
/// Samples of a chunk (300 ms).
pub const CHUNK_SAMPLES: usize = 2400;

/// Listens to one leg.
pub struct Ear {
    vad: Box<dyn Vad>,
    endpoint: Endpointer,
    listening: bool,
    /// Knows our own voice when it comes back; none before anything was played.
    guard: Option<Box<EchoGuard>>,
    /// Probability from which a frame may be speech.
    release: f32,
    pre_roll: Box<[[i16; FRAME_SAMPLES]; PRE_ROLL]>,
    pre_next: usize,
    pre_len: usize,
    /// Samples of the utterance not yet taken; at most a chunk and two frames once confirmed.
    buffer: Vec<i16>,
}

impl Ear {
    /// An ear that is not listening yet.
    pub fn new(vad: Box<dyn Vad>) -> Self {
        Ear {
            vad,
            endpoint: Endpointer::new(EndpointRule::default()),
            listening: false,
            guard: None,
            release: EndpointRule::default().release,
            pre_roll: Box::new([[0; FRAME_SAMPLES]; PRE_ROLL]),
            pre_next: 0,
            pre_len: 0,
            buffer: Vec::new(),
        }
    }

    /// Whether it listens.
    pub fn is_open(&self) -> bool {
        self.listening
    }

    /// Begins to listen. Speech that is already going on begins now, with its pre-roll.
    pub fn open(&mut self, rule: EndpointRule) {
        self.listening = true;
        self.release = rule.release;
        self.endpoint.restart(rule);
        self.vad.reset();
        self.buffer.clear();
    }

    /// Stops listening; what was heard of an utterance is forgotten.
    pub fn close(&mut self) {
        self.listening = false;
        self.buffer.clear();
    }

    /// Voiced sound of the utterance that is going on, in milliseconds.
    pub fn voiced_ms(&self) -> u32 {
        self.endpoint.voiced_ms()
    }

    /// What the leg is sent in the tick whose frame was heard last: what comes back of it is not the caller.
    pub fn played(&mut self, frame: &AudioFrame) {
        if self.guard.is_some() || frame.pcm.iter().any(|s| *s != 0) {
            self.guard.get_or_insert_default().play(&frame.pcm);
        }
    }

    /// Frames were sent that it was not told of.
    pub fn missed_some(&mut self) {
        self.guard.iter_mut().for_each(|g| g.forget_sound());
    }

    /// Takes a frame. When it does not listen, it only keeps the frame as pre-roll.
    pub fn hear(&mut self, frame: &AudioFrame) -> Option<Mark> {
        let (frame, probability) = self.judge(frame);
        let frame = &frame;
        let was_in_speech = self.listening && self.endpoint.in_speech();
        if !was_in_speech {
            self.pre_roll[self.pre_next] = frame.pcm;
            self.pre_next = (self.pre_next + 1) % PRE_ROLL;
            self.pre_len = (self.pre_len + 1).min(PRE_ROLL);
        }
        if !self.listening {
            return None;
        }
        let mark = self.endpoint.push(frame.at, probability);
        if was_in_speech {
            self.buffer.extend_from_slice(&frame.pcm);
        }
        match mark {
            Some(Mark::Onset) => self.take_pre_roll(),
            Some(Mark::Void) => self.buffer.clear(),
            _ => {}
        }
        mark
    }

    /// The frame without our own voice, and the probability that the caller speaks in it.
    fn judge(&mut self, frame: &AudioFrame) -> (AudioFrame, f32) {
        if !self.listening {
            return (*frame, 0.0);
        }
        let Some(guard) = self.guard.as_mut().filter(|g| g.is_active()) else {
            return (*frame, self.vad.speech(frame));
        };
        let cleaned = AudioFrame { pcm: guard.clean(&frame.pcm), ..*frame };
        let probability = self.vad.speech(&cleaned);
        if probability < self.release || !guard.is_echo() {
            return (cleaned, probability);
        }
        let rest = if guard.is_learnt() { cleaned } else { AudioFrame::silence(frame.at) };
        (rest, 0.0)
    }

    /// The next chunk of the utterance: a full one, or with `all` whatever is left.
    pub fn take_chunk(&mut self, all: bool) -> Option<Vec<i16>> {
        let n = match self.buffer.len() {
            0 => return None,
            len if len >= CHUNK_SAMPLES => CHUNK_SAMPLES,
            len if all => len,
            _ => return None,
        };
        Some(self.buffer.drain(..n).collect())
    }

    /// Forgets the utterance's samples so far: nobody wants them.
    pub fn drop_sound(&mut self) {
        self.buffer.clear();
    }

    fn take_pre_roll(&mut self) {
        self.buffer.clear();
        self.buffer.reserve(CHUNK_SAMPLES * 2);
        for n in 0..self.pre_len {
            let slot = (self.pre_next + PRE_ROLL - self.pre_len + n) % PRE_ROLL;
            self.buffer.extend_from_slice(&self.pre_roll[slot]);
        }
        self.pre_len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Speech where samples are above 1000.
    struct Loud;

    impl Vad for Loud {
        fn speech(&mut self, frame: &AudioFrame) -> f32 {
            if frame.pcm[0] > 1000 { 0.9 } else { 0.0 }
        }
        fn reset(&mut self) {}
    }

    /// Plays `voiced` flags; every frame carries its number (plus 2000 when voiced).
    fn play(ear: &mut Ear, from: usize, voiced: &[bool]) -> Vec<Mark> {
        let frame = |n: usize, v: bool| AudioFrame { at: n as u64 * 160, pcm: [n as i16 + 2000 * i16::from(v); 160] };
        voiced.iter().enumerate().filter_map(|(n, &v)| ear.hear(&frame(from + n, v))).collect()
    }

    #[test]
    fn the_first_syllable_comes_with_300_ms_before_it() {
        let mut ear = Ear::new(Box::new(Loud));
        ear.open(EndpointRule::default());
        let mut pattern = vec![false; 40];
        pattern.extend([true; 10]);
        assert_eq!(play(&mut ear, 0, &pattern), vec![Mark::Onset, Mark::Confirmed]);
        let mut samples = Vec::new();
        while let Some(chunk) = ear.take_chunk(true) {
            assert!(chunk.len() <= CHUNK_SAMPLES);
            samples.extend(chunk);
        }
        // 15 frames of silence (25..40), then the ten of speech, none missing, none twice.
        let numbers: Vec<i16> = samples.chunks(160).map(|f| f[0] % 2000).collect();
        assert_eq!(numbers, (25..50).collect::<Vec<i16>>());
    }

    #[test]
    fn a_closed_ear_hears_nothing_but_remembers_what_came_just_before() {
        let mut ear = Ear::new(Box::new(Loud));
        assert!(play(&mut ear, 0, &[true; 30]).is_empty());
        ear.open(EndpointRule::default());
        assert_eq!(play(&mut ear, 30, &[true; 3]), vec![Mark::Onset]);
        assert_eq!(ear.take_chunk(false).map(|c| c[0]), Some(2015));
    }

    #[test]
    fn chunks_come_while_speech_goes_on() {
        let mut ear = Ear::new(Box::new(Loud));
        ear.open(EndpointRule::default());
        let mut taken = 0;
        for n in 0..100 {
            play(&mut ear, n, &[true]);
            while let Some(chunk) = ear.take_chunk(false) {
                assert_eq!(chunk.len(), CHUNK_SAMPLES);
                taken += 1;
            }
        }
        assert_eq!(taken, 100 * 160 / CHUNK_SAMPLES);
    }
}
