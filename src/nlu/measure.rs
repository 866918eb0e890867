//! Measurements on the hotline's own examples (`flows.yaml`), where they are present.
//!
//! `cargo test --lib nlu::measure -- --nocapture` prints the figures.

use super::intent::{Classifier, Example, OUT_OF_SCOPE, Reading};
use super::policy::{Decision, Policy};
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    flows: Vec<Group>,
    meta: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    id: String,
    train: Vec<String>,
    #[serde(default)]
    asr: Vec<String>,
}

/// The examples and the homophone variants of the flows and the out-of-scope class.
fn flows(open_only: bool) -> Option<(Vec<Example>, Vec<Example>)> {
    let here = env!("CARGO_MANIFEST_DIR");
    let found = ["../shared", "../../shared"]
        .iter()
        .find_map(|d| std::fs::read_to_string(format!("{here}/{d}/design/flows.yaml")).ok());
    let Some(text) = found else {
        eprintln!("SKIPPED: ../shared/design/flows.yaml is not here, nothing was measured");
        return None;
    };
    let file: File = serde_saphyr::from_str(&text).expect("flows.yaml parses");
    // csat and outbound_care are answers to their own questions, not asked for at an open one
    let own_question = |g: &Group| !open_only || !matches!(g.id.as_str(), "csat" | "outbound_care");
    let groups: Vec<Group> = file
        .flows
        .into_iter()
        .chain(file.meta.into_iter().filter(|m| m.id == OUT_OF_SCOPE))
        .filter(own_question)
        .collect();
    let of = |g: &Group, t: &String| Example { label: g.id.clone(), text: t.clone() };
    let train = groups.iter().flat_map(|g| g.train.iter().map(|t| of(g, t))).collect();
    let asr = groups.iter().flat_map(|g| g.asr.iter().map(|t| of(g, t))).collect();
    Some((train, asr))
}

/// Figures of a labelled set.
#[derive(Default, Debug)]
struct Score {
    n: usize,
    top1: usize,
    top2: usize,
    acted: usize,
    acted_right: usize,
    clarified: usize,
    clarified_right: usize,
}

impl Score {
    fn add(&mut self, policy: &Policy, label: &str, candidates: &[(String, f32)]) {
        self.n += 1;
        self.top1 += usize::from(candidates.first().is_some_and(|c| c.0 == label));
        self.top2 += usize::from(candidates.iter().take(2).any(|c| c.0 == label));
        match policy.decide(candidates) {
            Decision::Act(l) => {
                self.acted += 1;
                self.acted_right += usize::from(l == label);
            }
            Decision::Clarify(a, b) => {
                self.clarified += 1;
                self.clarified_right += usize::from(a == label || b == label);
            }
            Decision::Reprompt => {}
        }
    }

    fn share(part: usize, of: usize) -> f32 {
        part as f32 / of.max(1) as f32
    }

    fn print(&self, name: &str) {
        eprintln!(
            "{name}: n {} top1 {:.3} top2 {:.3} | acts {:.3} right {:.3} | asks which {:.3} with the right one {:.3}",
            self.n,
            Score::share(self.top1, self.n),
            Score::share(self.top2, self.n),
            Score::share(self.acted, self.n),
            Score::share(self.acted_right, self.acted),
            Score::share(self.clarified, self.n),
            Score::share(self.clarified_right, self.clarified),
        );
    }
}

/// Candidates for every example, from a classifier that did not see it (`folds` = number of examples: leave-one-out).
fn held_out(all: &[Example], folds: usize) -> Vec<(String, String, Vec<(String, f32)>)> {
    let mut out = Vec::new();
    for fold in 0..folds {
        let part =
            |held: bool| all.iter().enumerate().filter(move |(i, _)| (i % folds == fold) == held).map(|(_, e)| e);
        let train: Vec<Example> = part(false).cloned().collect();
        let c = Classifier::train(&train, 1);
        out.extend(part(true).map(|e| (e.label.clone(), e.text.clone(), c.classify(&[Reading::of(&e.text)], None))));
    }
    out
}

#[test]
fn homophones_are_understood_and_acting_is_nearly_always_right() {
    let policy = Policy::default();
    for (name, open_only) in [("13 businesses + oos", true), ("15 flows + oos", false)] {
        let Some((train, asr)) = flows(open_only) else { return };
        let mut held = Score::default();
        for (label, text, candidates) in held_out(&train, 24) {
            if std::env::var_os("SHOW").is_some() && policy.decide(&candidates) != Decision::Act(label.clone()) {
                eprintln!("  {text} is {label}: {:.2?} {:?}", &candidates[..3], policy.decide(&candidates));
            }
            held.add(&policy, &label, &candidates);
        }
        held.print(&format!("{name}, held out (24 folds)"));
        let c = Classifier::train(&train, 1);
        let mut homophones = Score::default();
        for e in &asr {
            homophones.add(&policy, &e.label, &c.classify(&[Reading::of(&e.text)], None));
        }
        homophones.print(&format!("{name}, homophones"));
        if open_only {
            assert!(Score::share(held.acted_right, held.acted) >= 0.97, "{held:?}");
            assert!(Score::share(held.top1, held.n) >= 0.85, "{held:?}");
            assert!(Score::share(homophones.top1, homophones.n) >= 0.98, "{homophones:?}");
        }
    }
}

#[test]
#[ignore = "a sweep for choosing thresholds: prints, asserts nothing"]
fn sweep_of_thresholds() {
    let Some((train, _)) = flows(true) else { return };
    let all = held_out(&train, train.len());
    for act in [0.3f32, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7] {
        for margin in [0.1f32, 0.2, 0.3, 0.4] {
            let policy = Policy { act, margin, ..Policy::default() };
            let mut s = Score::default();
            all.iter().for_each(|(l, _, c)| s.add(&policy, l, c));
            s.print(&format!("act {act} margin {margin}"));
        }
    }
}

#[test]
#[ignore = "compares settings: prints, asserts nothing"]
fn coverage_at_97_percent() {
    let Some((train, _)) = flows(true) else { return };
    let all = held_out(&train, 24);
    let mut rows: Vec<(f32, bool, bool)> =
        all.iter().map(|(l, _, c)| (c[0].1, c[0].0 == *l, c[0].0 == OUT_OF_SCOPE)).collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut acted, mut right, mut best) = (0, 0, (0, 0.0));
    for (p, ok, oos) in rows.iter() {
        if *oos {
            continue;
        }
        acted += 1;
        right += usize::from(*ok);
        if Score::share(right, acted) >= 0.97 {
            best = (acted, *p);
        }
    }
    let loss: f32 =
        all.iter().map(|(l, _, c)| -c.iter().find(|x| x.0 == *l).map_or(1e-6, |x| x.1).max(1e-6).ln()).sum::<f32>()
            / all.len() as f32;
    eprintln!(
        "COV top1 {:.3} loss {:.3} cover {:.3} at {:.3}",
        Score::share(rows.iter().filter(|r| r.1).count(), rows.len()),
        loss,
        Score::share(best.0, rows.len()),
        best.1
    );
}
