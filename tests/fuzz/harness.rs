//! Damages inputs and watches what becomes of them.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest input, bytes.
const MAX_INPUT: usize = 65_536;
/// Inputs kept because they took a new way.
const MAX_KEPT: usize = 2_000;
/// Longer ones are tried and not damaged further: they cost the time of many.
const MAX_KEPT_INPUT: usize = 4_096;
/// Inputs tried however short the time is.
const AT_LEAST: u64 = 500;
/// What one input may cost: CPU time of this thread, so that a busy machine counts for nothing. A datagram that costs more
/// is one to stop us with.
const PATIENCE: Duration = Duration::from_millis(500);
/// The same of a file that an administrator wrote: nobody stops us with it.
const PATIENCE_WITH_FILES: Duration = Duration::from_secs(10);
/// Numbers that break sums and lengths.
const SHARP: [u32; 12] = [0, 1, 2, 4, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF];

/// How long each target runs.
fn budget() -> Duration {
    let asked = std::env::var("ZONGJI_FUZZ_SECONDS").ok().and_then(|s| s.parse::<f64>().ok());
    Duration::from_secs_f64(asked.unwrap_or(2.0).clamp(0.0, 86_400.0))
}

fn seed() -> u64 {
    std::env::var("ZONGJI_FUZZ_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(4475)
}

/// Files of a folder, in the order of their names.
pub(crate) fn files(folder: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_file()).collect();
    paths.sort();
    paths.iter().map(|p| std::fs::read(p).expect("readable")).collect()
}

fn cpu() -> Duration {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(at.tv_sec as u64, at.tv_nsec as u32)
}

/// What is kept in a folder: each file is an input, each folder the inputs that one subject gets, in the order of their
/// names.
fn saved(folder: &Path) -> Vec<Vec<Vec<u8>>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut folders: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_dir()).collect();
    folders.sort();
    let single = files(folder).into_iter().map(|input| vec![input]);
    single.chain(folders.iter().map(|f| files(f))).filter(|inputs| !inputs.is_empty()).collect()
}

/// Tries the seeds, what is kept in tests/fuzz/TARGET/ and what chance makes of them. `words` are put in now and then. The
/// check panics where something is wrong, and otherwise tells the way an input took by a number. It remembers nothing.
pub(crate) fn fuzz(target: &str, seeds: Vec<Vec<u8>>, words: &[&[u8]], check: impl Fn(&[u8]) -> u64) {
    let check = &check;
    fuzz_living(target, seeds, words, 1, || move |bytes: &[u8]| check(bytes));
}

/// The same of a file that an administrator wrote.
pub(crate) fn fuzz_file(target: &str, seeds: Vec<Vec<u8>>, words: &[&[u8]], check: impl Fn(&[u8]) -> u64) {
    let check = &check;
    fuzz_with((target, PATIENCE_WITH_FILES), seeds, words, 1, || move |bytes: &[u8]| check(bytes));
}

/// The same of a subject that remembers: `make` gives a check with a new one, always alike, and each gets so many inputs.
pub(crate) fn fuzz_living<C: FnMut(&[u8]) -> u64>(
    target: &str,
    seeds: Vec<Vec<u8>>,
    words: &[&[u8]],
    life: usize,
    make: impl Fn() -> C,
) {
    fuzz_with((target, PATIENCE), seeds, words, life, make);
}

fn fuzz_with<C: FnMut(&[u8]) -> u64>(
    (target, patience): (&str, Duration),
    seeds: Vec<Vec<u8>>,
    words: &[&[u8]],
    life: usize,
    make: impl Fn() -> C,
) {
    assert!(!seeds.is_empty(), "{target} has no seeds");
    let mut kept = seeds;
    let mut trial = Trial { target, patience, make: &make, life, subject: None, since: Vec::new() };
    let mut ways = HashSet::new();
    for input in &kept {
        ways.insert(trial.of(input));
    }
    for inputs in saved(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(target)) {
        let mut trial = Trial { target, patience, make: &make, life: inputs.len(), subject: None, since: Vec::new() };
        ways.extend(inputs.iter().map(|input| trial.of(input)));
        kept.extend(inputs);
    }
    let (mut rng, mut count, given) = (ChaCha8Rng::seed_from_u64(seed()), 0u64, kept.len());
    #[allow(clippy::disallowed_methods)] // how long to go on is no part of what is tested
    let began = Instant::now();
    while count < AT_LEAST || began.elapsed() < budget() {
        count += 1;
        let mut input = kept[rng.random_range(0..kept.len())].clone();
        for _ in 0..1 + rng.random_range(0..6u32) * rng.random_range(0..2u32) {
            damage(&mut input, &kept, words, &mut rng);
        }
        input.truncate(MAX_INPUT);
        let is_new = ways.insert(trial.of(&input));
        if is_new && kept.len() < MAX_KEPT && input.len() <= MAX_KEPT_INPUT {
            kept.push(input);
        }
    }
    let new = kept.len() - given;
    eprintln!("fuzz {target}: {count} inputs in {:.1} s, {new} took a new way", began.elapsed().as_secs_f64());
}

/// A subject, and what it got since it was new.
struct Trial<'a, C, M> {
    target: &'a str,
    patience: Duration,
    make: &'a M,
    life: usize,
    subject: Option<C>,
    since: Vec<Vec<u8>>,
}

impl<C: FnMut(&[u8]) -> u64, M: Fn() -> C> Trial<'_, C, M> {
    /// One input. Its way, or the end of the test with the inputs on disk.
    fn of(&mut self, input: &[u8]) -> u64 {
        if self.since.len() >= self.life {
            (self.subject, self.since) = (None, Vec::new());
        }
        self.since.push(input.to_vec());
        let check = self.subject.get_or_insert_with(self.make);
        let before = cpu();
        let outcome = catch_unwind(AssertUnwindSafe(|| check(input)));
        let cost = cpu().saturating_sub(before);
        match outcome {
            Ok(way) if cost <= self.patience => way,
            Ok(_) => report(self.target, &self.since, &format!("it cost {cost:?} of CPU")),
            Err(_) => report(self.target, &self.smallest(), "it failed as said above"),
        }
    }

    /// What is needed to fail, each try with a new subject: one input as short as can be, if one is enough.
    fn smallest(&self) -> Vec<Vec<u8>> {
        let fails = |inputs: &[Vec<u8>]| {
            let all = || {
                let mut check = (self.make)();
                for input in inputs {
                    let _whatever_way = check(input);
                }
            };
            catch_unwind(AssertUnwindSafe(all)).is_err()
        };
        let all = smaller(&self.since, fails);
        match all.as_slice() {
            [one] => vec![smaller(one, |bytes| fails(&[bytes.to_vec()]))],
            _ => all,
        }
    }
}

/// Takes away what is not needed to fail, for a while. The last of it goes last.
fn smaller<T: Clone>(whole: &[T], fails: impl Fn(&[T]) -> bool) -> Vec<T> {
    if let Some(last) = whole.last().filter(|_| whole.len() > 1)
        && fails(std::slice::from_ref(last))
    {
        return vec![last.clone()];
    }
    let (mut small, mut step, mut tries) = (whole.to_vec(), whole.len() / 2, 0);
    while step > 0 && tries < 400 {
        let mut at = 0;
        while at < small.len() && tries < 400 {
            tries += 1;
            let mut next = small.clone();
            next.drain(at..(at + step).min(small.len()));
            match fails(&next) {
                true => small = next,
                false => at += step,
            }
        }
        step /= 2;
    }
    small
}

/// Writes a file, or a folder where one input is not enough.
fn report(target: &str, inputs: &[Vec<u8>], what: &str) -> ! {
    let folder = std::env::temp_dir().join("zongji-fuzz");
    let bytes = || inputs.iter().flatten();
    let name = bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    let path = folder.join(format!("{target}-{name:016x}"));
    let written = match inputs {
        [one] => std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, one)),
        many => std::fs::create_dir_all(&path).and_then(|()| {
            many.iter().enumerate().try_for_each(|(n, input)| std::fs::write(path.join(format!("{n:04}")), input))
        }),
    };
    let place = written.map_or_else(|e| format!("nowhere ({e})"), |()| path.display().to_string());
    let last = inputs.last().map(Vec::as_slice).unwrap_or_default();
    let shown = last[..last.len().min(1024)].escape_ascii();
    let many = inputs.len();
    let inputs = if many == 1 { "the input".to_owned() } else { format!("the {many} inputs") };
    panic!("fuzz {target}: {what}; {inputs}, {} bytes, kept in {place}: \"{shown}\"", bytes().count());
}

/// One damage.
fn damage(input: &mut Vec<u8>, others: &[Vec<u8>], words: &[&[u8]], rng: &mut ChaCha8Rng) {
    if input.is_empty() {
        input.push(rng.random());
    }
    let at = rng.random_range(0..input.len());
    let most = (input.len() - at).min(1 + rng.random_range(0..64usize));
    match rng.random_range(0..12u8) {
        0 => input[at] ^= 1 << rng.random_range(0..8u8),
        1 => input[at] = rng.random(),
        2 => input[at] = input[at].wrapping_add(if rng.random() { 1 } else { 255 }),
        3 => {
            // A length or a count.
            let sharp = SHARP[rng.random_range(0..SHARP.len())].to_be_bytes();
            let width = [1, 2, 4][rng.random_range(0..3usize)].min(input.len() - at);
            let mut value = sharp[4 - width..].to_vec();
            if rng.random() {
                value.reverse();
            }
            input[at..at + width].copy_from_slice(&value);
        }
        4 => drop(input.drain(at..at + most)),
        5 => {
            let piece = input[at..at + most].to_vec();
            let to = rng.random_range(0..=input.len());
            input.splice(to..to, piece);
        }
        6 => {
            let piece = input[at..at + most].to_vec();
            let times = [2, 2, 3, 4, 8, 16, 300, 3000][rng.random_range(0..8usize)];
            let room = MAX_INPUT.saturating_sub(input.len()) / piece.len().max(1);
            input.splice(at..at, piece.repeat(times.min(room)));
        }
        7 => input.truncate(at),
        8 => {
            let other = &others[rng.random_range(0..others.len())];
            let from = rng.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        9 if !words.is_empty() => {
            let word = words[rng.random_range(0..words.len())];
            input.splice(at..at, word.iter().copied());
        }
        10 if !words.is_empty() => {
            let word = words[rng.random_range(0..words.len())];
            let end = (at + word.len()).min(input.len());
            input.splice(at..end, word.iter().copied());
        }
        _ => {
            let random: Vec<u8> = (0..most).map(|_| rng.random()).collect();
            input.splice(at..at + most, random);
        }
    }
}

#[test]
fn a_check_that_fails_is_found_made_smaller_and_kept() {
    let planted = |bytes: &[u8]| -> u64 {
        assert!(!bytes.windows(2).any(|w| w == [0xFF, 0xFF]), "the planted fault");
        bytes.len() as u64
    };
    let seeds = vec![b"a harmless sentence of some length".to_vec()];
    let caught = catch_unwind(|| fuzz("planted", seeds, &[b"\xFF\xFF"], planted)).expect_err("it finds the fault");
    let said = caught.downcast_ref::<String>().expect("a sentence");
    assert!(said.contains("the input, 2 bytes") && said.contains("\\xff\\xff"), "{said}");
    let file = said.split(" kept in ").nth(1).and_then(|s| s.split(": ").next()).expect("a file");
    assert_eq!(std::fs::read(file).expect("it is there"), [0xFF, 0xFF]);
    std::fs::remove_file(file).expect("it can go");
}

#[test]
fn a_fault_that_two_inputs_make_together_is_kept_as_a_folder_that_makes_it_again() {
    // It breaks at its second mark, and stays broken: a subject that has failed must not be asked again.
    let make = || {
        let mut marks = 0;
        move |bytes: &[u8]| -> u64 {
            marks += u32::from(bytes.first() == Some(&b'!'));
            assert!(marks < 2, "the planted fault");
            bytes.len() as u64
        }
    };
    let seeds = vec![b"a harmless sentence of some length".to_vec()];
    let caught = catch_unwind(|| fuzz_living("planted-living", seeds, &[b"!"], 50, make)).expect_err("it finds it");
    let said = caught.downcast_ref::<String>().expect("a sentence");
    let folder = said.split(" kept in ").nth(1).and_then(|s| s.split(": ").next()).expect("a folder");
    let parent = tempfile::tempdir().expect("a temporary folder");
    std::fs::rename(folder, parent.path().join("case")).expect("it is there, on the same disk");
    let sequences = saved(parent.path());
    let [inputs] = sequences.as_slice() else { panic!("one sequence: {sequences:?}") };
    assert!(inputs.len() == 2 && inputs.iter().all(|i| i.first() == Some(&b'!')), "{said}");
    let mut check = make();
    check(&inputs[0]);
    assert!(catch_unwind(AssertUnwindSafe(|| check(&inputs[1]))).is_err(), "it fails again");
}
