//! `zongji load` places real calls against a hotline of its own and gives figures that can be true.

use crate::common::root;
use serde_json::Value as Json;
use std::process::Command;

/// Figures of one stage, and the verdict.
fn load(args: &[&str]) -> (Json, Json) {
    let output = Command::new(env!("CARGO_BIN_EXE_zongji"))
        .args(["load", "--json", "--lang", "en"])
        .args(args)
        .current_dir(root())
        .output()
        .expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines: Vec<Json> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{text}{}", String::from_utf8_lossy(&output.stderr));
    let (verdict, stage) = (lines.pop().unwrap(), lines.pop().unwrap());
    (stage, verdict)
}

fn number(stage: &Json, path: &str) -> f64 {
    stage.pointer(path).and_then(Json::as_f64).unwrap_or_else(|| panic!("no {path}: {stage:#}"))
}

// Nothing here depends on how fast the machine is that runs the tests.

#[test]
fn twenty_calls_with_prompts_give_figures_that_can_be_true() {
    let (stage, verdict) = load(&["--mode", "prompt", "--calls", "20", "--seconds", "5"]);
    assert_eq!((stage["asked"].as_u64(), stage["calls"].as_u64()), (Some(20), Some(20)), "{stage:#}");
    let expected = 20.0 * 50.0 * number(&stage, "/seconds");
    let came = number(&stage, "/packets");
    assert!((0.95..1.05).contains(&(came / expected)), "{came} of {expected}: {stage:#}");
    assert!(number(&stage, "/lost") < 0.01 * came, "{stage:#}");
    let [p50, p99] = ["/pacing_ms/p50", "/pacing_ms/p99"].map(|p| number(&stage, p));
    assert!(p50 > 0.0 && p50 <= p99 && p50 < 20.0, "{stage:#}");
    assert!(number(&stage, "/setup_ms/p50") > 0.0, "{stage:#}");
    let cpu = number(&stage, "/cpu_s_per_call_minute");
    assert!(cpu > 0.0005 && cpu < 10.0, "{stage:#}");
    assert!(number(&stage, "/server_busy") <= 1.1 && number(&stage, "/generator_busy") <= 1.1, "{stage:#}");
    assert!(stage["delay_ms"].is_null() && stage["reply_ms"].is_null());
    assert!(verdict["say"].as_str().unwrap().contains("prompts"), "{verdict}");
}

#[test]
fn bridged_calls_have_two_legs_and_a_delay() {
    let (stage, _) = load(&["--mode", "bridge", "--calls", "10", "--seconds", "3"]);
    assert_eq!(stage["calls"].as_u64(), Some(10), "{stage:#}");
    let expected = 2.0 * 10.0 * 50.0 * number(&stage, "/seconds");
    let came = number(&stage, "/packets");
    assert!((0.9..1.1).contains(&(came / expected)), "{came} of {expected}: {stage:#}");
    let delay = number(&stage, "/delay_ms/p50");
    assert!(delay > 0.0 && delay < 60.0, "{stage:#}");
}

#[test]
fn callers_who_speak_are_answered() {
    let (stage, verdict) = load(&["--mode", "speech", "--calls", "3", "--seconds", "20"]);
    assert!(stage["calls"].as_u64().unwrap() >= 1, "{stage:#}");
    assert!(number(&stage, "/replies") >= 3.0, "{stage:#}");
    let reply = number(&stage, "/reply_ms/p50");
    assert!((100.0..20_000.0).contains(&reply), "{stage:#}");
    assert!(verdict["say"].as_str().unwrap().contains("speech"), "{verdict}");
}
