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

/// Tries the seeds, the files of tests/fuzz/TARGET/ and what chance makes of them. `words` are put in now and then. The
/// check panics where something is wrong, and otherwise tells the way an input took by a number.
pub(crate) fn fuzz(target: &str, seeds: Vec<Vec<u8>>, words: &[&[u8]], mut check: impl FnMut(&[u8]) -> u64) {
    assert!(!seeds.is_empty(), "{target} has no seeds");
    let mut kept = seeds;
    kept.extend(files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(target)));
    let mut ways = HashSet::new();
    for input in &kept {
        ways.insert(tried(target, input, &mut check));
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
        let is_new = ways.insert(tried(target, &input, &mut check));
        if is_new && kept.len() < MAX_KEPT && input.len() <= MAX_KEPT_INPUT {
            kept.push(input);
        }
    }
    let new = kept.len() - given;
    eprintln!("fuzz {target}: {count} inputs in {:.1} s, {new} took a new way", began.elapsed().as_secs_f64());
}

/// One input. Its way, or the end of the test with the input on disk.
fn tried(target: &str, input: &[u8], check: &mut impl FnMut(&[u8]) -> u64) -> u64 {
    let before = cpu();
    let outcome = catch_unwind(AssertUnwindSafe(|| check(input)));
    let cost = cpu().saturating_sub(before);
    match outcome {
        Ok(way) if cost <= PATIENCE => return way,
        Ok(_) => {}
        Err(_) => {
            let small = smaller(input, check);
            report(target, &small, "it failed as said above");
        }
    }
    report(target, input, &format!("it cost {cost:?} of CPU"))
}

/// Takes away what is not needed to fail, for a while.
fn smaller(input: &[u8], check: &mut impl FnMut(&[u8]) -> u64) -> Vec<u8> {
    let (mut small, mut step, mut tries) = (input.to_vec(), input.len() / 2, 0);
    while step > 0 && tries < 400 {
        let mut at = 0;
        while at < small.len() && tries < 400 {
            tries += 1;
            let mut next = small.clone();
            next.drain(at..(at + step).min(small.len()));
            match catch_unwind(AssertUnwindSafe(|| check(&next))) {
                Err(_) => small = next,
                Ok(_) => at += step,
            }
        }
        step /= 2;
    }
    small
}

fn report(target: &str, input: &[u8], what: &str) -> ! {
    let folder = std::env::temp_dir().join("zongji-fuzz");
    let name = input.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    let file = folder.join(format!("{target}-{name:016x}"));
    let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, input));
    let place = written.map_or_else(|e| format!("nowhere ({e})"), |()| file.display().to_string());
    let shown = input[..input.len().min(1024)].escape_ascii();
    panic!("fuzz {target}: {what}; the input, {} bytes, is in {place}: \"{shown}\"", input.len());
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
    assert!(said.contains("2 bytes") && said.contains("\\xff\\xff"), "{said}");
    let file = said.split(" is in ").nth(1).and_then(|s| s.split(": ").next()).expect("a file");
    assert_eq!(std::fs::read(file).expect("it is there"), [0xFF, 0xFF]);
    std::fs::remove_file(file).expect("it can go");
}

#[test]
fn the_same_seed_makes_the_same_inputs() {
    let run = || {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut input = b"v=0 o=- 1 1 IN IP4 192.0.2.1".to_vec();
        let others = vec![b"another".to_vec()];
        (0..200).for_each(|_| damage(&mut input, &others, &[b"word"], &mut rng));
        input
    };
    assert_eq!(run(), run());
}
