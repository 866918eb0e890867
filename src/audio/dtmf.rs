//! Keys in the sound: a detector of DTMF tones (ITU-T Q.23) with the tolerances of ITU-T Q.24, for phones that send their
//! keys in no other way.
//!
//! A window of 15 ms moves on by 5 ms. In each, the strongest frequency of either group is measured (Goertzel), and the
//! turn of its phase since the window before tells how far off it really is: that is finer than the window could resolve
//! and is what speech, whose harmonics wander, does not keep up. Four windows in a row that agree are a key.

use super::SAMPLE_RATE;
use super::detect::power;
use super::tone::{DTMF_COLUMNS, DTMF_KEYS, DTMF_ROWS};

/// Samples of a window (15 ms). A longer one would hear two keys 40 ms apart as one.
const WINDOW: usize = 120;
/// Samples from one window to the next (5 ms).
const HOP: usize = 40;
/// Windows in a row that make a key: 40 ms of tones always fill five, 20 ms never more than three.
const ENOUGH: u32 = 4;
/// Windows without the key after which the same key is a new press (35 ms): a break of up to 20 ms is none.
const RELEASED: u32 = 7;
/// Power below which a tone is none: -38 dBm0.
const WEAKEST: f32 = 45_000.0;
/// Part of all sound that the two tones must be.
const SHARE: f32 = 0.78;
/// Column over row, as a ratio of powers: +4 to -8 dB (Q.24), and a decibel more for what noise does to the measure.
const TWIST: (f32, f32) = (0.126, 3.2);
/// The strongest of a group over any other of it (6 dB).
const CLEAR: f32 = 4.0;
/// A tone that changes more than this between two windows (4 dB) is not one key's.
const STEADY: f32 = 2.5;
/// How far off a frequency may be: 1.5 % must be taken and 3.5 % must not (Q.24).
const OFF: f32 = 0.025;
/// The same for a single window, whose measure the other tone disturbs.
const OFF_ONCE: f32 = 0.045;

/// A complex number: what is left of a window at one frequency.
#[derive(Debug, Clone, Copy, Default)]
struct Turn {
    re: f32,
    im: f32,
}

impl Turn {
    fn power(self) -> f32 {
        self.re * self.re + self.im * self.im
    }

    /// This one as seen from `other`: the angle between them, times both lengths.
    fn from(self, other: Turn) -> Turn {
        Turn { re: self.re * other.re + self.im * other.im, im: self.im * other.re - self.re * other.im }
    }

    fn turned(self, angle: f32) -> Turn {
        let (sin, cos) = angle.sin_cos();
        Turn { re: self.re * cos - self.im * sin, im: self.re * sin + self.im * cos }
    }

    fn plus(self, other: Turn) -> Turn {
        Turn { re: self.re + other.re, im: self.im + other.im }
    }
}

/// Radians that a frequency turns in one sample.
fn radians(hz: f32) -> f32 {
    std::f32::consts::TAU * hz / SAMPLE_RATE as f32
}

/// Goertzel's recursion; the phase is that of the last sample.
fn goertzel(pcm: &[i16], hz: f32) -> Turn {
    let (sin, cos) = radians(hz).sin_cos();
    let (mut last, mut before) = (0.0f32, 0.0f32);
    for &sample in pcm {
        let next = f32::from(sample) + 2.0 * cos * last - before;
        before = last;
        last = next;
    }
    Turn { re: last - cos * before, im: sin * before }
}

/// One group's strongest tone in a window.
#[derive(Debug, Clone, Copy, Default)]
struct Strongest {
    index: usize,
    turn: Turn,
    /// Clear of the others of its group.
    clear: bool,
}

fn strongest(pcm: &[i16], group: &[f32; 4]) -> Strongest {
    let turns = group.map(|hz| goertzel(pcm, hz));
    let index = (0..4).max_by(|&a, &b| turns[a].power().total_cmp(&turns[b].power())).unwrap_or(0);
    let best = turns[index].power();
    let clear = turns.iter().enumerate().all(|(i, t)| i == index || t.power() * CLEAR < best);
    Strongest { index, turn: turns[index], clear }
}

/// A tone that goes on from one window to the next.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// Where it lies in its group.
    index: usize,
    /// How much its phase turned more than the nominal frequency's, in direction and weight.
    drift: Turn,
    /// Its mean power, made up for what the window loses off its middle.
    power: f32,
}

/// The tone of a group in this window and the one before, when it is the same one near its frequency.
fn held(now: Strongest, before: Strongest, group: &[f32; 4]) -> Option<Held> {
    if now.index != before.index || !now.clear {
        return None;
    }
    let hz = group[now.index];
    let drift = now.turn.from(before.turn).turned(-radians(hz) * HOP as f32);
    let off = off_by(drift);
    if off.abs() > OFF_ONCE * hz {
        return None;
    }
    let bend = std::f32::consts::PI * off * WINDOW as f32 / SAMPLE_RATE as f32;
    let loss = if bend.abs() < 0.01 { 1.0 } else { (bend.sin() / bend).powi(2) };
    let power = 2.0 * now.turn.power() / (WINDOW * WINDOW) as f32 / loss.max(0.2);
    Some(Held { index: now.index, drift, power })
}

/// Hertz off the nominal frequency, -100..=100.
fn off_by(drift: Turn) -> f32 {
    drift.im.atan2(drift.re) * SAMPLE_RATE as f32 / (std::f32::consts::TAU * HOP as f32)
}

/// Windows in a row that agree on a key.
#[derive(Debug, Clone, Copy)]
struct Run {
    key: (usize, usize),
    windows: u32,
    drift: (Turn, Turn),
    powers: (f32, f32),
}

/// Hears keys in a leg's sound.
#[derive(Debug, Clone)]
pub struct DtmfDetector {
    window: [i16; WINDOW],
    /// New samples in it.
    fresh: usize,
    before: (Strongest, Strongest),
    run: Option<Run>,
    /// The key that is down, and for how many windows it has not been heard.
    down: Option<((usize, usize), u32)>,
}

impl Default for DtmfDetector {
    fn default() -> Self {
        DtmfDetector { window: [0; WINDOW], fresh: 0, before: Default::default(), run: None, down: None }
    }
}

impl DtmfDetector {
    /// One that has heard nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next samples, at most a frame at a time (8 kHz); gives the key whose press was recognised in them. It is
    /// told once for each press, 25 to 45 ms after its begin.
    pub fn push(&mut self, pcm: &[i16]) -> Option<char> {
        let mut pressed = None;
        for piece in pcm.chunks(HOP) {
            for &sample in piece {
                self.window.copy_within(1.., 0);
                self.window[WINDOW - 1] = sample;
                self.fresh += 1;
                if self.fresh == HOP {
                    self.fresh = 0;
                    pressed = self.look().or(pressed);
                }
            }
        }
        pressed
    }

    /// Whether a key is being pressed.
    pub fn is_down(&self) -> bool {
        self.down.is_some()
    }

    fn look(&mut self) -> Option<char> {
        let all = power(&self.window);
        let now = match all < 2.0 * WEAKEST {
            true => Default::default(),
            false => (strongest(&self.window, &DTMF_ROWS), strongest(&self.window, &DTMF_COLUMNS)),
        };
        let before = std::mem::replace(&mut self.before, now);
        let Some((row, column)) = tones(all, now, before) else {
            self.run = None;
            if let Some((_, missed)) = &mut self.down {
                *missed += 1;
                if *missed >= RELEASED {
                    self.down = None;
                }
            }
            return None;
        };
        let key = (row.index, column.index);
        let steady = |a: f32, b: f32| a < b * STEADY && b < a * STEADY;
        let run = match self.run.filter(|r| r.key == key) {
            Some(r) if steady(r.powers.0, row.power) && steady(r.powers.1, column.power) => Run {
                windows: r.windows + 1,
                drift: (r.drift.0.plus(row.drift), r.drift.1.plus(column.drift)),
                powers: (row.power, column.power),
                ..r
            },
            _ => Run { key, windows: 1, drift: (row.drift, column.drift), powers: (row.power, column.power) },
        };
        self.run = Some(run);
        if let Some((down, missed)) = &mut self.down
            && *down == key
        {
            *missed = 0;
            return None;
        }
        let near = |drift: Turn, hz: f32| off_by(drift).abs() <= OFF * hz;
        let told =
            run.windows >= ENOUGH && near(run.drift.0, DTMF_ROWS[key.0]) && near(run.drift.1, DTMF_COLUMNS[key.1]);
        told.then(|| {
            self.down = Some((key, 0));
            DTMF_KEYS[key.0][key.1]
        })
    }
}

/// The two tones of a window, if it holds a key's and little else.
fn tones(all: f32, now: (Strongest, Strongest), before: (Strongest, Strongest)) -> Option<(Held, Held)> {
    let row = held(now.0, before.0, &DTMF_ROWS)?;
    let column = held(now.1, before.1, &DTMF_COLUMNS)?;
    let twist = column.power / row.power.max(1.0);
    let alone = row.power + column.power >= SHARE * all;
    let loud = row.power >= WEAKEST && column.power >= WEAKEST;
    (alone && loud && (TWIST.0..=TWIST.1).contains(&twist)).then_some((row, column))
}
