//! `zongji understand`: what a sentence means at the hotline's opening question.

use super::{Context, out, setup};
use crate::dialplan::{FlowSet, Global, Meaning, Understood};
use crate::server::hotline::opening_question;
use crate::speech::Transcript;
use std::sync::Arc;

#[derive(clap::Args)]
pub struct Args {
    /// The sentence.
    text: String,
}

pub fn run(context: &Context, args: Args) -> anyhow::Result<bool> {
    let files = setup::dialplan_files(context, None)?;
    let Some(set) = setup::compile(context, files) else { return Ok(false) };
    let set = Arc::new(set);
    let understood = set.understand(&opening_question(&set), &Transcript::typed(&args.text));
    let decision = decision(&set, &understood.meaning);
    let candidates = candidates(&understood);
    if context.json {
        let candidates: Vec<_> =
            candidates.iter().map(|(intent, score)| serde_json::json!({"intent": intent, "score": score})).collect();
        let slots: serde_json::Map<_, _> = understood.slots.iter().map(|(k, v)| (k.clone(), out::value(v))).collect();
        out::json(&serde_json::json!({"candidates": candidates, "decision": decision, "slots": slots}));
    } else {
        say!("{decision}: {:?}", understood.meaning);
        for (intent, score) in candidates.iter().take(5) {
            say!("  {score:.3}  {intent}");
        }
        for (slot, v) in &understood.slots {
            say!("  {slot} = {}", out::value(v));
        }
    }
    Ok(true)
}

fn decision(set: &FlowSet, meaning: &Meaning) -> &'static str {
    match meaning {
        Meaning::Clarify(..) => "clarify",
        Meaning::NoMatch => "reprompt",
        Meaning::Global(Global::Human | Global::Emergency) => "person",
        Meaning::Intent(intent) if set.is_human(intent) => "person",
        _ => "act",
    }
}

/// The scored intents; a phrase that decided alone is the one candidate.
fn candidates(understood: &Understood) -> Vec<(String, f32)> {
    if !understood.candidates.is_empty() {
        return understood.candidates.clone();
    }
    let name = match &understood.meaning {
        Meaning::Intent(intent) => intent.clone(),
        Meaning::Global(Global::Human) => "human".into(),
        Meaning::Global(Global::Emergency) => "emergency".into(),
        _ => return Vec::new(),
    };
    vec![(name, understood.confidence)]
}
