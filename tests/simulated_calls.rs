//! Forty thousand random calls from seeds: none stuck, none panics, exactly one record each.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use zongji::sim;

const CALLS: u64 = 40_000;
const THREADS: u64 = 2;

/// Everything that the simulation must have seen at least once to mean anything.
const MUST_SEE: [&str; 16] = [
    "utterance",
    "utterance void",
    "turn by speech",
    "turn by keys",
    "recorded",
    "prompt interrupted",
    "action timeout",
    "trouble",
    "dialled",
    "briefing",
    "bridged",
    "transfer failed",
    "seat left, caller back",
    "hold by the caller",
    "hold by the seat",
    "outcome resolved",
];

#[derive(Default)]
struct Sum {
    calls: u64,
    virtual_ms: u64,
    seen: BTreeMap<String, u64>,
    ends: BTreeMap<String, u64>,
}

fn share(thread: u64) -> Sum {
    let mut sum = Sum::default();
    for seed in (thread..CALLS).step_by(THREADS as usize) {
        let report = match catch_unwind(AssertUnwindSafe(|| sim::run(seed))) {
            Ok(Ok(report)) => report,
            Ok(Err(why)) => panic!("seed {seed}: {why}; zongji::sim::run_traced({seed}) shows how"),
            Err(_) => panic!("seed {seed}: the call machine panicked; zongji::sim::run_traced({seed}) repeats it"),
        };
        sum.calls += 1;
        sum.virtual_ms += report.virtual_ms;
        for (what, n) in report.seen {
            *sum.seen.entry(what.into()).or_default() += n;
        }
        *sum.seen.entry(format!("outcome {}", report.record.outcome.name())).or_default() += 1;
        *sum.ends.entry(report.record.reason.sentence).or_default() += 1;
    }
    sum
}

#[test]
fn forty_thousand_random_calls_all_end_with_one_record() {
    let threads: Vec<_> = (0..THREADS).map(|n| std::thread::spawn(move || share(n))).collect();
    let mut sum = Sum::default();
    for thread in threads {
        let part = thread.join().expect("a seed failed; it is named above");
        sum.calls += part.calls;
        sum.virtual_ms += part.virtual_ms;
        for (what, n) in part.seen {
            *sum.seen.entry(what).or_default() += n;
        }
        for (why, n) in part.ends {
            *sum.ends.entry(why).or_default() += n;
        }
    }
    println!("{} calls, {:?} of virtual time", sum.calls, Duration::from_millis(sum.virtual_ms));
    println!("seen: {:#?}\nends: {:#?}", sum.seen, sum.ends);
    assert_eq!(sum.calls, CALLS);
    for what in MUST_SEE {
        assert!(sum.seen.get(what).is_some_and(|&n| n >= 50), "hardly ever seen: {what}");
    }
    assert!(sum.ends.len() >= 8, "too few ways to end");
}

#[test]
fn the_same_seed_is_the_same_call() {
    for seed in [1, 7, 4711] {
        let (first, second) = (sim::run_traced(seed), sim::run_traced(seed));
        assert!(first.1.len() > 10, "seed {seed} does nothing");
        assert_eq!(first, second, "seed {seed}");
    }
}
