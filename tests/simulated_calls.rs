//! Random calls from seeds, with flows that answer anything and with the shipped ones: none stuck, none panics, exactly
//! one record each.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use zongji::dialplan::{FlowSet, embedded};
use zongji::sim::{self, Report};

const CALLS: u64 = 40_000;
const SHIPPED_CALLS: u64 = 6_000;
const THREADS: u64 = 2;

/// Everything that the simulation must have seen to mean anything.
const MUST_SEE: [&str; 32] = [
    "utterance",
    "utterance void",
    "turn by speech",
    "turn by keys",
    "recorded",
    "recording paused or resumed",
    "no input",
    "speech ignored",
    "prompt interrupted",
    "action timeout",
    "ticket refused",
    "trouble",
    "dialled",
    "briefing",
    "bridged",
    "transfer failed",
    "seat left, caller back",
    "hold by the caller",
    "hold by the seat",
    "outcome resolved",
    "outcome ticketed",
    "outcome transferred",
    "outcome abandoned",
    "outcome failed",
    "left while it rang",
    "left before the ACK",
    "left while talking",
    "left while a seat was called",
    "left while a seat's phone rang",
    "left during the briefing",
    "left while talking with a seat",
    "signalling lost",
];

/// What the shipped flows must have been through.
const SHIPPED_MUST_SEE: [&str; 10] = [
    "turn by speech",
    "turn by keys",
    "recorded",
    "no input",
    "bridged",
    "transfer failed",
    "outcome resolved",
    "outcome ticketed",
    "outcome transferred",
    "outcome abandoned",
];

#[derive(Default)]
struct Sum {
    calls: u64,
    virtual_ms: u64,
    seen: BTreeMap<String, u64>,
    ends: BTreeMap<String, u64>,
    dialplan: BTreeMap<String, u64>,
}

impl Sum {
    fn add(&mut self, report: Report) {
        self.calls += 1;
        self.virtual_ms += report.virtual_ms;
        for (what, n) in report.seen {
            *self.seen.entry(what.into()).or_default() += n;
        }
        *self.seen.entry(format!("outcome {}", report.record.outcome.name())).or_default() += 1;
        for flow in report.record.flows {
            *self.seen.entry(format!("flow {flow}")).or_default() += 1;
        }
        *self.ends.entry(report.record.reason.sentence).or_default() += 1;
        for trouble in report.dialplan {
            *self.dialplan.entry(trouble).or_default() += 1;
        }
    }

    fn join(&mut self, other: Sum) {
        self.calls += other.calls;
        self.virtual_ms += other.virtual_ms;
        for (mine, theirs) in
            [(&mut self.seen, other.seen), (&mut self.ends, other.ends), (&mut self.dialplan, other.dialplan)]
        {
            for (what, n) in theirs {
                *mine.entry(what).or_default() += n;
            }
        }
    }

    fn must_have_seen(&self, what: &str, times: u64) {
        let n = self.seen.get(what).copied().unwrap_or_default();
        assert!(n >= times, "hardly ever seen: {what} ({n} times)");
    }
}

/// Plays the seeds `0..calls` on two threads. A failing seed is named.
fn play(calls: u64, again: &'static str, run: fn(u64) -> Result<Report, String>) -> Sum {
    let share = move |thread: u64| {
        let mut sum = Sum::default();
        for seed in (thread..calls).step_by(THREADS as usize) {
            match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                Ok(Ok(report)) => sum.add(report),
                Ok(Err(why)) => panic!("seed {seed}: {why}; zongji::sim::{again} shows how"),
                Err(_) => panic!("seed {seed}: the call machine panicked; zongji::sim::{again} repeats it"),
            }
        }
        sum
    };
    let threads: Vec<_> = (0..THREADS).map(|n| std::thread::spawn(move || share(n))).collect();
    let mut sum = Sum::default();
    for thread in threads {
        sum.join(thread.join().expect("a seed failed; it is named above"));
    }
    eprintln!("{} calls, {:?} of virtual time", sum.calls, Duration::from_millis(sum.virtual_ms));
    eprintln!("seen: {:#?}\nends: {:#?}\ninside flows: {:#?}", sum.seen, sum.ends, sum.dialplan);
    assert_eq!(sum.calls, calls);
    sum
}

fn shipped() -> &'static Arc<FlowSet> {
    static SET: OnceLock<Arc<FlowSet>> = OnceLock::new();
    SET.get_or_init(|| Arc::new(FlowSet::compile(embedded()).expect("the shipped flows are sound")))
}

#[test]
fn forty_thousand_random_calls_all_end_with_one_record() {
    let sum = play(CALLS, "run_traced", sim::run);
    for what in MUST_SEE {
        sum.must_have_seen(what, 50);
    }
    assert!(sum.ends.len() >= 10, "too few ways to end");
}

#[test]
fn callers_of_the_shipped_flows_all_end_with_one_record() {
    let sum = play(SHIPPED_CALLS, "run_flows_traced", |seed| sim::run_flows(seed, shipped()));
    for what in SHIPPED_MUST_SEE {
        sum.must_have_seen(what, 50);
    }
    for flow in shipped().flows() {
        sum.must_have_seen(&format!("flow {}", flow.id), 10);
    }
}

#[test]
fn the_same_seed_is_the_same_call() {
    for seed in [1, 7, 4711] {
        let (first, second) = (sim::run_traced(seed), sim::run_traced(seed));
        assert!(first.1.len() > 10, "seed {seed} does nothing");
        assert_eq!(first, second, "seed {seed}");
        assert_eq!(sim::run_flows_traced(seed, shipped()), sim::run_flows_traced(seed, shipped()), "seed {seed}");
    }
}
