//! A set of flows, compiled: what calls run on. A call keeps the set it began with until it ends.

use super::check;
use super::hotline::Hotline;
use super::language::{Intents, Rule, Verdict};
use super::machine::Place;
use super::model::{Flow, Intent, Kind, PiiKind, SlotType, Target};
use super::parse;
use super::problem::{At, Problem};
use super::prompt::Slots;
use super::understand::literals;
use super::understood::Global;
use crate::speech::Transcript;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The label of utterances that are no business of the hotline.
pub const OUT_OF_SCOPE: &str = "oos";

/// A file of a set: its name (shown in problems) and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Such as `dialplans/order_query.yaml`. The one that ends in `hotline.yaml` holds what all flows share.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Compiled flows. Share it behind an `Arc`.
#[derive(Debug)]
pub struct FlowSet {
    hash: String,
    hotline: Hotline,
    flows: Vec<Flow>,
    names: BTreeMap<String, usize>,
    owners: BTreeMap<String, usize>,
    spoken: BTreeMap<String, String>,
    top: Vec<String>,
    personal: BTreeSet<String>,
    person: Option<Place>,
    notes: Vec<Problem>,
    fragments: BTreeMap<String, Vec<String>>,
    pub(super) intents: Intents,
}

impl FlowSet {
    /// Parses, checks and trains. Any error gives every problem of every file; else warnings are kept in
    /// [`FlowSet::notes`].
    pub fn compile(files: Vec<SourceFile>) -> Result<FlowSet, Vec<Problem>> {
        let (hotline, flows, mut problems) = examine(&files);
        let Some(hotline) = hotline.filter(|_| !problems.iter().any(Problem::is_error)) else {
            return Err(problems);
        };
        let intents = match train(&hotline, &flows) {
            Ok(intents) => intents,
            Err(p) => {
                problems.insert(0, *p);
                return Err(problems);
            }
        };
        Ok(FlowSet::assemble(hash(&files), hotline, flows, intents, problems))
    }

    /// Parses and checks without training: every problem of every file, errors first.
    pub fn inspect(files: &[SourceFile]) -> Vec<Problem> {
        examine(files).2
    }

    fn assemble(hash: String, hotline: Hotline, flows: Vec<Flow>, intents: Intents, notes: Vec<Problem>) -> FlowSet {
        let names: BTreeMap<String, usize> = flows.iter().enumerate().map(|(i, f)| (f.id.clone(), i)).collect();
        let (mut owners, mut spoken, mut top) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for (i, flow) in flows.iter().enumerate() {
            for intent in &flow.intents {
                owners.insert(intent.name.clone(), i);
                let said = intent.spoken.clone().unwrap_or_else(|| flow.title.clone());
                spoken.insert(intent.name.clone(), said);
                if intent.top {
                    top.push(intent.name.clone());
                }
            }
        }
        let slots = flows.iter().flat_map(|f| &f.slots).filter(|s| s.pii != PiiKind::None);
        let personal = slots.map(|s| s.name.clone()).collect();
        let person = hotline.globals.get(&Global::Human).and_then(|link| match &link.to {
            Target::Flow(name) => {
                let flow = *names.get(name)?;
                let hands_over = |n: &super::model::Node| matches!(n.kind, Kind::Transfer { .. });
                Some(Place { flow, node: flows[flow].nodes.iter().position(hands_over)? })
            }
            _ => None,
        });
        let fragments = BTreeMap::new();
        let mut set =
            FlowSet { hash, hotline, flows, names, owners, spoken, top, personal, person, notes, fragments, intents };
        set.fragments = set.top.iter().map(|i| (i.clone(), set.telling_literals(i))).collect();
        set
    }

    /// Literals of an intent's patterns that give it away when nothing else is heard ("订单", but not "东西").
    fn telling_literals(&self, intent: &str) -> Vec<String> {
        let mut all: Vec<String> =
            self.intent(intent).into_iter().flat_map(|i| &i.patterns).flat_map(|p| literals(&p.text)).collect();
        all.sort_unstable();
        all.dedup();
        all.retain(|l| {
            let heard = Transcript::typed(l.as_str());
            let (_, verdict) = self.intents.by_learning(&heard, &self.top, self.hotline.thresholds);
            let rule = heard.nbest.first().and_then(|h| self.intents.by_rule(h, &self.top));
            rule.as_deref() == Some(intent) || matches!(verdict, Verdict::Sure(i) if i == intent)
        });
        all
    }

    /// Short fragments beside an intent's key words that give it away.
    pub(super) fn fragments(&self, intent: &str) -> &[String] {
        self.fragments.get(intent).map_or(&[], Vec::as_slice)
    }

    /// SHA-256 of the files' names and texts, 64 hex digits.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Warnings and notes.
    pub fn notes(&self) -> &[Problem] {
        &self.notes
    }

    /// What all flows share.
    pub fn hotline(&self) -> &Hotline {
        &self.hotline
    }

    /// The flows, in order of their files.
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// The place of a flow in [`FlowSet::flows`].
    pub fn find(&self, flow: &str) -> Option<usize> {
        self.names.get(flow).copied()
    }

    /// The flow that an intent begins.
    pub fn flow_of(&self, intent: &str) -> Option<usize> {
        self.owners.get(intent).copied()
    }

    /// Intents that the opening question listens for.
    pub fn top_intents(&self) -> Vec<String> {
        self.top.clone()
    }

    /// An intent's name for callers.
    pub fn intent_spoken(&self, intent: &str) -> Option<&str> {
        self.spoken.get(intent).map(String::as_str)
    }

    /// An intent's definition.
    pub fn intent(&self, name: &str) -> Option<&Intent> {
        let flow = self.flow_of(name)?;
        self.flows[flow].intents.iter().find(|i| i.name == name)
    }

    /// Whether an intent is the plain demand for a person.
    pub fn is_human(&self, intent: &str) -> bool {
        intent == "human"
    }

    /// The hand-over node for who wants a person without another question.
    pub fn person(&self) -> Option<Place> {
        self.person
    }
}

impl Slots for FlowSet {
    fn is_personal(&self, slot: &str) -> bool {
        self.personal.contains(slot)
    }

    fn say(&self, slot: &str, value: &str) -> Option<&str> {
        let found = self.flows.iter().filter_map(|f| f.slot(slot)).find_map(|def| match &def.kind {
            SlotType::Enum(values) => values.iter().find(|(name, _)| name == value),
            _ => None,
        });
        found.and_then(|(_, ways)| ways.first()).map(String::as_str)
    }
}

fn examine(files: &[SourceFile]) -> (Option<Hotline>, Vec<Flow>, Vec<Problem>) {
    let (hotline, flows, mut problems) = read(files);
    let unread: BTreeSet<String> = problems.iter().map(|p| p.file.clone()).collect();
    // What could not be read is not missing: a node of its file, or its flow and intents in another.
    let lost_flow = files.len() > flows.len() + usize::from(hotline.is_some());
    let missing = ["no flow", "which no flow has", "no way to a person", "never reaches a transfer"];
    let meant = |p: &Problem| {
        let node = ["E002", "E007"].contains(&p.code) && unread.contains(&p.file);
        !(node || lost_flow && missing.iter().any(|m| p.message.contains(m)))
    };
    match &hotline {
        Some(h) => problems.extend(check::all(h, &flows).into_iter().filter(meant)),
        // The flows' own faults are said all the same; what they may refer to is not known.
        None => {
            problems.extend(stand_in().iter().flat_map(|h| check::all(h, &flows)).filter(|p| {
                flows.iter().any(|f| f.file == p.file) && !["E008", "E016", "E017", "I201"].contains(&p.code)
            }))
        }
    }
    problems.sort_by(|a, b| (a.severity, &a.file, a.line, a.column).cmp(&(b.severity, &b.file, b.line, b.column)));
    problems.dedup();
    (hotline, flows, problems)
}

/// A hotline to check flows against when theirs cannot be read.
fn stand_in() -> Option<Hotline> {
    let file = embedded().into_iter().find(|f| is_hotline(&f.path))?;
    parse::hotline(&file.path, &file.text).0
}

fn is_hotline(path: &str) -> bool {
    path.rsplit(['/', '\\']).next() == Some("hotline.yaml")
}

fn read(files: &[SourceFile]) -> (Option<Hotline>, Vec<Flow>, Vec<Problem>) {
    let (mut hotline, mut flows, mut problems) = (None, Vec::new(), Vec::new());
    let mut seen = false;
    for file in files {
        let found = if is_hotline(&file.path) {
            if seen {
                let mend = "keep one hotline.yaml in a set";
                problems.push(Problem::new(
                    "E001",
                    &file.path,
                    &file.text,
                    At::default(),
                    "a second hotline.yaml",
                    mend,
                ));
            }
            seen = true;
            let (h, found) = parse::hotline(&file.path, &file.text);
            hotline = hotline.or(h);
            found
        } else {
            let (f, found) = parse::flow(&file.path, &file.text);
            flows.extend(f);
            found
        };
        problems.extend(found);
    }
    if !seen {
        let mend = "add hotline.yaml (name, greeting, entry, person, queues, categories)";
        problems.push(Problem::new("E001", "hotline.yaml", "", At::default(), "the set has no hotline.yaml", mend));
    }
    (hotline, flows, problems)
}

fn hash(files: &[SourceFile]) -> String {
    let mut sorted: Vec<&SourceFile> = files.iter().collect();
    // By their names, so that the same files in another folder are the same set.
    let name = |f: &SourceFile| f.path.rsplit('/').next().unwrap_or_default().to_string();
    sorted.sort_by_key(|f| name(f));
    let mut sha = Sha256::new();
    for f in sorted {
        for part in [&name(f), &f.text] {
            sha.update((part.len() as u64).to_be_bytes());
            sha.update(part.as_bytes());
        }
    }
    let mut hex = String::with_capacity(64);
    for byte in sha.finalize() {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

fn train(hotline: &Hotline, flows: &[Flow]) -> Result<Intents, Box<Problem>> {
    let mut examples: Vec<(String, String)> = Vec::new();
    let mut rules = Vec::new();
    for intent in flows.iter().flat_map(|f| &f.intents) {
        let said = intent.examples.iter().chain(&intent.asr_variants).chain(&intent.keywords);
        examples.extend(said.map(|s| (intent.name.clone(), s.text.clone())));
        let texts = |spots: &[super::model::Spot]| spots.iter().map(|s| s.text.clone()).collect::<Vec<_>>();
        rules.push(Rule {
            intent: &intent.name,
            pattern: "",
            not: texts(&intent.not),
            keywords: texts(&intent.keywords),
        });
        for p in &intent.patterns {
            rules.push(Rule { intent: &intent.name, pattern: &p.text, not: texts(&intent.not), keywords: Vec::new() });
        }
    }
    examples.extend(hotline.oos.iter().map(|s| (OUT_OF_SCOPE.to_string(), s.text.clone())));
    Intents::train(&rules, examples).map_err(|why| {
        Box::new(Problem::new("E001", &hotline.file, "", At::default(), why, "mend the pattern it names"))
    })
}

/// The files of the hotline that comes with the program.
pub fn embedded() -> Vec<SourceFile> {
    let files = [
        ("dialplans/closing.yaml", include_str!("../../dialplans/closing.yaml")),
        ("dialplans/complaint.yaml", include_str!("../../dialplans/complaint.yaml")),
        ("dialplans/emergency.yaml", include_str!("../../dialplans/emergency.yaml")),
        ("dialplans/hotline.yaml", include_str!("../../dialplans/hotline.yaml")),
        ("dialplans/human.yaml", include_str!("../../dialplans/human.yaml")),
        ("dialplans/order_query.yaml", include_str!("../../dialplans/order_query.yaml")),
    ];
    files.map(|(path, text)| SourceFile { path: path.into(), text: text.into() }).into()
}

/// The shipped hotline, compiled once for all tests.
#[cfg(test)]
pub(crate) fn shipped() -> std::sync::Arc<FlowSet> {
    use std::sync::{Arc, OnceLock};
    static SET: OnceLock<Arc<FlowSet>> = OnceLock::new();
    let compile = || match FlowSet::compile(embedded()) {
        Ok(set) => Arc::new(set),
        Err(problems) => {
            let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
            panic!("{}", all.join("\n"))
        }
    };
    Arc::clone(SET.get_or_init(compile))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_hotline_has_no_errors_and_no_warnings() {
        let set = shipped();
        let bad: Vec<String> = set.notes().iter().map(ToString::to_string).collect();
        assert!(bad.is_empty(), "{}", bad.join("\n"));
        assert_eq!(set.hash().len(), 64);
        assert!(set.person().is_some());
    }

    #[test]
    fn the_hash_changes_with_any_file_and_not_with_their_order() {
        let mut files = embedded();
        let before = hash(&files);
        files.reverse();
        assert_eq!(hash(&files), before);
        files[0].text.push('\n');
        assert_ne!(hash(&files), before);
    }

    #[test]
    fn every_problem_of_every_file_is_listed_at_once() {
        let mut files = embedded();
        for f in &mut files {
            f.text = f.text.replace("queue: 售后", "queue: 售前").replace("category: 投诉", "category: 头诉");
        }
        files[1].text.push_str("colour: red\n");
        let problems = FlowSet::compile(files).expect_err("broken");
        let errors: Vec<String> = problems.iter().filter(|p| p.is_error()).map(|p| p.message.clone()).collect();
        assert_eq!(errors.len(), 4, "{errors:?}");
        assert!(problems.iter().all(|p| p.line > 0 && !p.picture.is_empty()));
    }

    #[test]
    fn a_broken_hotline_hides_no_fault_of_the_flows() {
        let mut files = embedded();
        for f in &mut files {
            f.text = f.text.replace("greeting:", "greetings:").replace("agree: pick_one", "agree: pick_won");
        }
        let problems = FlowSet::compile(files).expect_err("broken");
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(said.iter().any(|p| p.contains("hotline.yaml") && p.contains("greeting")), "{said:#?}");
        assert!(said.iter().any(|p| p.contains("pick_won")), "{said:#?}");
        let errors = problems.iter().filter(|p| p.is_error()).count();
        assert_eq!(errors, 4, "and nothing that follows from the hotline's own: {said:#?}");
    }

    #[test]
    fn a_set_without_a_hotline_or_without_anything_says_what_to_add() {
        assert!(FlowSet::compile(Vec::new()).expect_err("empty")[0].mend.contains("hotline.yaml"));
        let flow = embedded().remove(5);
        assert!(FlowSet::compile(vec![flow]).is_err());
    }
}
