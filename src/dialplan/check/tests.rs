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
const FAULTS: [(&str, &str, &str, &str, &str); 65] = [
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
    (
        "order_query.yaml",
        "do: menu                                             # 步骤②",
        "do: menu\n    skip_if: \"true\"",
        "E003",
        "skip_if:",
    ),
    ("order_query.yaml", "  human: human\n", "  human: end\n", "E008", "human: end"),
    ("order_query.yaml", "error: partial, timeout: partial}", "error: save, timeout: partial}", "E009", "save:"),
    (
        "order_query.yaml",
        "set: {slots.order_ref: \"orders[0].no\"}",
        "set: {session.intent: \"n\"}",
        "E016",
        "session.intent",
    ),
    ("order_query.yaml", "save: {items: orders, n: n}", "save: {items: slots, n: n}", "E016", "items: slots"),
    (
        "order_query.yaml",
        "set: {slots.order_ref: \"orders[0].no\"}",
        "set: {who: \"orders[0].receiver\"}",
        "E015",
        "who:",
    ),
    ("order_query.yaml", "title: \"{order.item}改地址", "title: \"{order.phone_tail}改地址", "E015", "phone_tail"),
    (
        "order_query.yaml",
        "prompt: \"{order.item}的新地址是{slots.new_address|segments},收件人{order.receiver|mask_name},对吗?\"",
        "prompt: {text: \"是{slots.new_address|segments}吗?\", elder: \"行吗?\"}",
        "E014",
        "save:",
    ),
    ("order_query.yaml", "key: \"3\", go: \"flow:closing\"", "key: \"0\", go: \"flow:closing\"", "E016", "done:"),
    ("order_query.yaml", "say: [改地址, 换个地址,", "say: [改地址, 催一下, 换个地址,", "E016", "催一下"),
    ("hotline.yaml", "greeting: \"您好", "greeting: \"{nowhere.x}您好", "E011", "greeting:"),
    (
        "order_query.yaml",
        "do: set                                              # 从此",
        "do: set\n    retry: {nomatch: [\"a\"]}  # 从此",
        "W107",
        "retry:",
    ),
    (
        "order_query.yaml",
        "  emergency: \"flow:emergency\"\n",
        "  emergency: \"flow:emergency\"\n  repeat: tell\n",
        "W107",
        "repeat:",
    ),
    ("hotline.yaml", "name: 众吉商城客服", "name: 众吉商城客服\nlang: en", "W105", "greeting:"),
    (
        "order_query.yaml",
        "given: {caller: \"13800138000\", orders: 1, voiceprint",
        "given: {caller: \"13800138000\", orders: two, voiceprint",
        "E001",
        "two",
    ),
    (
        "order_query.yaml",
        "given: {caller: \"13800138000\", orders: 1, voiceprint",
        "given: {elder: \"yes\", orders: 1, voiceprint",
        "E001",
        "yes",
    ),
    (
        "order_query.yaml",
        "with: {order: order.id, address",
        "with: {order: \"orders[0].id\", address",
        "E013",
        "orders[0].id",
    ),
    ("hotline.yaml", "person: {queue: 综合, skill: 综合}", "person: {queue: 综合, skill: 没有}", "E016", "没有"),
    ("hotline.yaml", "person: {queue: 综合, skill: 综合}", "person: {queue: 别处, skill: 综合}", "E016", "别处"),
    ("order_query.yaml", "patterns: [\"(改", "patterns: [\".*\", \"(改", "E001", ".*"),
    ("hotline.yaml", "oos:\n", "oos: []\nignored:\n", "I202", "prompt:"),
    ("order_query.yaml", "elder: \"您的{order.item}{order", "elder: \"您的{order.itm}{order", "E011", "itm"),
    ("order_query.yaml", "with: {order: order.id, address", "with: {order: order.idd, address", "E011", "order.idd"),
    (
        "order_query.yaml",
        "elder: \"要送到哪里?比如{profile.addresses[0].label}",
        "elder: \"要送到哪里?比如{profile.addrs[0].label}",
        "E011",
        "addrs",
    ),
    ("hotline.yaml", "通话会录音", "通话会保存", "W108", "greeting:"),
    (
        "order_query.yaml",
        "prompt: \"已经改好了。\"",
        "prompt: {text: \"已经改好了。\", audio: ../x.wav}",
        "E001",
        "../x.wav",
    ),
    ("order_query.yaml", "max_steps: 3", "max_steps: 3.9", "E001", "3.9"),
    ("order_query.yaml", "    level: l2\n", "    level: l3\n", "W107", "id_check:"),
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

/// Where a fault is said to be, when it is put there by a change.
fn place(file: &str, from: &str, to: &str, code: &str) -> (u32, u32) {
    let problems = FlowSet::inspect(&changed(file, from, to));
    let hit = problems.iter().find(|p| p.code == code).unwrap_or_else(|| panic!("no {code}: {problems:?}"));
    (hit.line, hit.column)
}

#[test]
fn a_fault_of_a_variant_or_a_condition_is_said_at_that_variant_or_condition() {
    let files = embedded();
    let source = &files.iter().find(|f| f.path.ends_with("order_query.yaml")).unwrap().text;
    let at = |part: &str, offset: u32| {
        let (i, line) = source.lines().enumerate().find(|(_, l)| l.contains(part)).unwrap();
        let column = line.chars().count() - line[line.find(part).unwrap()..].chars().count();
        (i as u32 + 1, column as u32 + 1 + offset)
    };
    let variant = place("order_query.yaml", "en: \"Your {order.item}", "en: \"Your {odrer.item}", "E011");
    assert_eq!(variant, at("en: \"Your {order.item}", 4));
    let condition = place("order_query.yaml", "if: \"n == 1\"", "if: \"m == 1\"", "E011");
    assert_eq!(condition, at("if: \"n == 1\"", 4));
    let late = place(
        "order_query.yaml",
        "- {if: \"n == 1\", go: one}\n      - {else: true, go: which}",
        "- {else: true, go: which}\n      - {if: \"n == 1\", go: one}",
        "E005",
    );
    assert_eq!(late.1, at("if: \"n == 1\"", 4).1);
}

#[test]
fn a_prompt_that_cannot_be_read_is_said_once() {
    let problems = FlowSet::inspect(&changed("order_query.yaml", "\"已经改好了。\"", "\"已经{改好了。\""));
    let codes: Vec<&str> = problems.iter().map(|p| p.code).collect();
    assert_eq!(codes, ["E001"]);
}

#[test]
fn a_file_that_cannot_be_read_makes_no_faults_elsewhere() {
    for (from, to) in
        [("do: confirm ", "\tdo: confirm "), ("n == 1", "n = 1"), ("dialplan: 1", "---\ndialplan: 1\n---\na: 1")]
    {
        let problems = FlowSet::inspect(&changed("order_query.yaml", from, to));
        let codes: Vec<&str> = problems.iter().map(|p| p.code).collect();
        assert_eq!(codes, ["E001"], "{to:?}: {problems:?}");
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
