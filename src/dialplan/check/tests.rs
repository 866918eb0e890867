//! Each check finds its fault, at its place; three hundred damaged files never make it panic.

use super::super::set::{FlowSet, SourceFile, embedded};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The shipped files with one change.
fn changed(file: &str, from: &str, to: &str) -> Vec<SourceFile> {
    let mut files = embedded();
    let f = files.iter_mut().find(|f| f.path.ends_with(file)).unwrap();
    assert!(f.text.contains(from), "{file} has no {from:?}");
    f.text = f.text.replacen(from, to, 1);
    files
}

/// File, what is changed into what, the code that must come, a part of the line it must point at.
const FAULTS: [(&str, &str, &str, &str, &str); 37] = [
    ("order_query.yaml", "do: confirm ", "do: konfirm ", "E001", "one:"),
    ("order_query.yaml", "{do: say, prompt: \"没有查到", "{do: remote, prompt: \"没有查到", "E001", "not_found:"),
    ("order_query.yaml", "wait_s: 8", "wait_s: 800", "E001", "800"),
    ("order_query.yaml", "wait_s: 8", "weit_s: 8", "E001", "weit_s"),
    ("order_query.yaml", "n == 1", "n = 1", "E001", "n = 1"),
    ("order_query.yaml", "{order.eta|date}送达", "{order.eta|datum}送达", "E001", "datum"),
    ("order_query.yaml", "patterns: [\"(改", "patterns: [\"((改", "E001", "((改"),
    ("order_query.yaml", "agree: pick_one", "agree: pick_won", "E002", "pick_won"),
    ("order_query.yaml", "then: {filled: load, max: human}", "then: {filled: load}", "E003", "which:"),
    ("order_query.yaml", "then: {agree: save,", "then: {agree: save, agreed: save,", "E003", "agreed"),
    ("order_query.yaml", "    prompt: \"已经改好了。\"\n", "", "E004", "changed:"),
    ("order_query.yaml", "- {else: true, go: tell}", "- {if: \"n == 9\", go: tell}", "E005", "goal:"),
    ("order_query.yaml", "    go: load\n", "", "E006", "pick_one:"),
    ("order_query.yaml", "empty: known_ref", "empty: ask_ref", "E007", "known_ref:"),
    ("hotline.yaml", "human: \"flow:human\", ", "", "E008", "prompt:"),
    ("order_query.yaml", "给您转同事处理。\", go: human}", "给您转同事处理。\", go: not_found}", "E009", "not_found:"),
    ("order_query.yaml", "slot: order_ref", "slot: order_rev", "E010", "order_rev"),
    ("order_query.yaml", "text: \"您的{order.item}", "text: \"您的{odrer.item}", "E011", "odrer"),
    ("order_query.yaml", "max_steps: 3", "max_steps: 2", "E012", "flow:"),
    ("order_query.yaml", "level: l2", "level: l1", "E013", "save:"),
    ("order_query.yaml", "    level: l2\n", "    level: l2\n    skip_if: \"true\"\n", "E013", "save:"),
    ("order_query.yaml", "  human: human\n", "  human: human\n  repeat: save\n", "E013", "save:"),
    (
        "order_query.yaml",
        "收件人{order.receiver|mask_name},对吗?\"\n",
        "收件人{order.receiver|mask_name},对吗?\"\n    skip_if: \"true\"\n",
        "E014",
        "save:",
    ),
    (
        "order_query.yaml",
        "then: {agree: save,",
        "then: {agree: swap, refuse: ask_address, max: own_words}\n  swap:\n    do: set\n    set: {slots.new_address: \"profile.addresses[0]\"}\n    go: save\n  # {agree: save,",
        "E014",
        "save:",
    ),
    ("order_query.yaml", "then: {filled: read_back,", "then: {filled: save,", "E014", "save:"),
    ("order_query.yaml", "{order.receiver|mask_name}", "{order.receiver}", "E015", "新地址是"),
    ("order_query.yaml", "{slots.new_address|segments}", "{slots.new_address}", "E015", "新地址是"),
    ("order_query.yaml", "queue: 售后", "queue: 售前", "E016", "售前"),
    ("order_query.yaml", "call: orders.get", "call: orders.fetch", "E016", "orders.fetch"),
    ("order_query.yaml", "category: 催单", "category: 催促", "E016", "催促"),
    ("hotline.yaml", "\"2\": complaint", "\"2\": complain", "E016", "complain"),
    ("complaint.yaml", "      - 我非常生气\n", "      - 我要改收货地址\n", "E017", "我要改收货地址"),
    ("order_query.yaml", "input: [speech, dtmf]", "input: [speech]", "E018", "ask_ref:"),
    ("human.yaml", "    retry: {nomatch: [], noinput: []}\n", "", "W101", "why:"),
    ("closing.yaml", "slots: {}", "slots: {x: {type: text}}", "W103", "x:"),
    ("order_query.yaml", "    filler: \"正在为您修改。\"\n", "", "W106", "save:"),
    (
        "complaint.yaml",
        "prompt: \"需要我现在",
        "prompt: \"一二三四五六七八九十一二三四五六七八九十一二三四五六七八九十一二三四五六七八九十一二三四五六七八九十一二三四五六七八九十一二三四五六七八九十一二三四五六七八九十需要我现在",
        "W102",
        "一二三四",
    ),
];

#[test]
fn every_fault_is_found_at_its_place() {
    assert!(FlowSet::inspect(&embedded()).is_empty());
    for (file, from, to, code, place) in FAULTS {
        let files = changed(file, from, to);
        let problems = FlowSet::inspect(&files);
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let hit = problems.iter().find(|p| p.code == code && p.picture.contains(place));
        let hit = hit.unwrap_or_else(|| panic!("{code} at {place:?} not found after {to:?}:\n{}", all.join("\n")));
        assert!(hit.line > 0 && hit.column > 0, "{hit}");
    }
}

#[test]
fn a_near_name_is_offered() {
    let problems = FlowSet::inspect(&changed("order_query.yaml", "agree: pick_one", "agree: pick_won"));
    assert_eq!(problems[0].mend, "did you mean `pick_one`?");
}

#[test]
fn a_sentence_split_by_a_comma_is_explained() {
    let files = changed(
        "order_query.yaml",
        "{do: say, prompt: \"没有查到这个尾号的订单,我给您转同事处理。\"",
        "{do: say, prompt: 没有查到,我给您转同事",
    );
    let problems = FlowSet::inspect(&files);
    assert!(problems.iter().any(|p| p.mend.contains("double quotes")), "{problems:?}");
}

#[test]
fn a_flow_asking_too_much_is_named_with_its_path() {
    let problems = FlowSet::inspect(&changed("order_query.yaml", "max_steps: 3", "max_steps: 2"));
    assert!(problems[0].message.contains("→ tell → "), "{}", problems[0].message);
}

/// One random damage to a text.
fn damage(text: &str, rng: &mut ChaCha8Rng) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let at = rng.random_range(0..lines.len());
    let mut out: Vec<String> = lines.iter().map(|l| (*l).to_string()).collect();
    let junk = [
        "\t",
        ":",
        "{",
        "}",
        "[",
        "\"",
        "- ",
        "&a",
        "*a",
        "#",
        "\u{0}",
        "好,好",
        "!!x",
        "|",
        ">",
        "? ",
        "{a|b}",
        "99999999999999999999",
    ];
    match rng.random_range(0..8) {
        0 => drop(out.remove(at)),
        1 => out.insert(at, lines[rng.random_range(0..lines.len())].to_string()),
        2 => out[at] = lines[at].trim_start().to_string(),
        3 => out[at].push_str(junk[rng.random_range(0..junk.len())]),
        4 => out.truncate(at),
        5 => {
            let mut chars: Vec<char> = lines[at].chars().collect();
            if chars.len() > 1 {
                let i = rng.random_range(0..chars.len() - 1);
                chars.swap(i, i + 1);
            }
            out[at] = chars.into_iter().collect();
        }
        6 => {
            let mut chars: Vec<char> = lines[at].chars().collect();
            let i = rng.random_range(0..chars.len() + 1);
            junk[rng.random_range(0..junk.len())].chars().rev().for_each(|c| chars.insert(i, c));
            out[at] = chars.into_iter().collect();
        }
        _ => {
            let words: Vec<&str> = lines[at].split_whitespace().collect();
            if !words.is_empty() {
                let w = words[rng.random_range(0..words.len())];
                out[at] = lines[at].replacen(w, "xyz", 1);
            }
        }
    }
    out.join("\n")
}

#[test]
fn damaged_files_are_refused_or_read_but_never_panic() {
    let mut refused = 0;
    for seed in 0..300 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut files = embedded();
        let which = rng.random_range(0..files.len());
        for _ in 0..rng.random_range(1..4) {
            files[which].text = damage(&files[which].text, &mut rng);
        }
        let problems = FlowSet::inspect(&files);
        for p in &problems {
            assert!(!p.message.is_empty() && !p.to_string().is_empty());
        }
        refused += usize::from(problems.iter().any(super::Problem::is_error));
    }
    assert!(refused > 100, "only {refused} of 300 damaged sets were refused");
}
