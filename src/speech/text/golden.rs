//! Hotline prompts, held to what the front end the voice was made with gives (`golden.txt`).
//!
//! Four lines there differ from it on purpose: 再说一遍 has yí (it says yī), 一百 has yì (it says yī), 清楚 and 师傅
//! end neutral, and a phrase of 18 syllables is cut in two.

use super::{SpokenPhrase, phrases};

/// `请稍等:q.ing3 sh.ao1 d.eng3:420 | …`
fn written(p: &[SpokenPhrase]) -> String {
    let one = |p: &SpokenPhrase| {
        let s: Vec<String> =
            p.syllables.iter().map(|s| format!("{}.{}{}", s.initial.unwrap_or(""), s.last, s.tone)).collect();
        format!("{}:{}:{}", p.text, s.join(" "), p.pause_ms)
    };
    p.iter().map(one).collect::<Vec<_>>().join(" | ")
}

#[test]
fn prompts_are_read_as_the_reference_reads_them() {
    for line in include_str!("golden.txt").lines() {
        let Some((text, expected)) = line.split_once('\t') else { continue };
        assert_eq!(written(&phrases(text)), expected, "{text}");
    }
}
