//! Static checks of a whole set. Every problem has a place.
//!
//! | code | meaning |
//! |---|---|
//! | E001 | not the format (from `parse`) |
//! | E002 | a target that does not exist |
//! | E003 | an outcome that leads nowhere |
//! | E004 | a prompt is missing |
//! | E005 | a branch without `else` |
//! | E006 | a node from which nothing follows |
//! | E007 | a node that cannot be reached |
//! | E008 | no way to a person |
//! | E009 | a loop that only a guard ends |
//! | E010 | a slot that is not declared |
//! | E011 | a slot that is used and never filled, a variable nobody sets, a field that a record has not |
//! | E012 | more caller steps than `max_steps` on the longest happy path |
//! | E013 | an action whose caller is not known well enough |
//! | E014 | an action without the read-back it demands |
//! | E015 | personal data in a prompt without a masking filter |
//! | E016 | an unknown action, argument, queue, skill, category, flow, intent |
//! | E017 | two intents with nearly the same example |
//! | E018 | digits that cannot be pressed |
//! | E019 | a test inside a file fails (said by `flowtest`, once the set compiles) |
//! | W101 | a question without prompts for misses |
//! | W102 | a prompt of more than 80 characters |
//! | W103 | a slot nobody uses |
//! | W104 | fewer than three tests |
//! | W105 | no English wording in a hotline that speaks English |
//! | W106 | an action of 1.5 s and more without a filler |
//! | W107 | a key that does nothing where it stands (from `parse`) |
//! | W108 | a greeting that gives no notice of the recording or of the machine |
//! | I201 | fewer than 25 examples |
//! | I202 | no out-of-scope sentences |

mod fields;
mod graph;
mod paths;
#[cfg(test)]
mod tests;
mod texts;

use super::hotline::Hotline;
use super::model::Flow;
use super::problem::{At, Problem};
use graph::Graph;
use std::collections::BTreeSet;

/// Everything that is wrong with a set of parsed files.
pub fn all(hotline: &Hotline, flows: &[Flow]) -> Vec<Problem> {
    let mut c = Checker { file: "", source: "", problems: Vec::new() };
    let world = World::new(hotline, flows);
    for flow in flows {
        (c.file, c.source) = (&flow.file, &flow.source);
        let graph = Graph::new(flow);
        graph::check(&mut c, flow, &world);
        texts::check(&mut c, flow, hotline);
        paths::check(&mut c, flow, &graph, flows);
    }
    texts::between_flows(&mut c, hotline, flows);
    (c.file, c.source) = (&hotline.file, &hotline.source);
    graph::check_hotline(&mut c, hotline, &world);
    texts::check_hotline(&mut c, hotline);
    c.problems
}

struct Checker<'a> {
    file: &'a str,
    source: &'a str,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn add(&mut self, code: &'static str, at: At, message: impl Into<String>, mend: impl Into<String>) {
        self.problems.push(Problem::new(code, self.file, self.source, at, message, mend));
    }
}

/// Names that exist.
struct World<'a> {
    hotline: &'a Hotline,
    flows: BTreeSet<&'a str>,
    intents: BTreeSet<&'a str>,
    all: &'a [Flow],
}

impl<'a> World<'a> {
    fn new(hotline: &'a Hotline, all: &'a [Flow]) -> World<'a> {
        World {
            hotline,
            flows: all.iter().map(|f| f.id.as_str()).collect(),
            intents: all.iter().flat_map(|f| f.intents.iter().map(|i| i.name.as_str())).collect(),
            all,
        }
    }
}
