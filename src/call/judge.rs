//! Speech over a prompt: an interruption, or only "嗯"?

use crate::dialplan::{AnswerKind, Global, Meaning, Understood};

/// What speech over a prompt was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// An answer: stop, and let the flow have it.
    Answer,
    /// The caller only follows, or it was noise: go on with the prompt.
    GoOn,
}

/// Voiced sound without meaning that is shorter than this does not end a prompt, in milliseconds.
const NOISE_MS: u32 = 700;
/// Syllables that only say "I am listening", alone or up to four of them.
const HUMS: &str = "嗯啊哦噢呃额唔哎诶欸哼好对是";
/// Longer words that do.
const LONGER: [&str; 9] = ["好的", "好好", "对对", "对对对", "是的", "是是", "嗯好", "嗯对", "明白"];

/// Whether the words are a bare backchannel.
pub fn is_backchannel(text: &str) -> bool {
    let words: String = text.chars().filter(|c| c.is_alphanumeric()).collect();
    let lower = words.to_ascii_lowercase();
    if LONGER.contains(&words.as_str()) || ["uh", "mhm", "um", "ok", "okay"].contains(&&*lower) {
        return true;
    }
    !words.is_empty() && words.chars().count() <= 4 && words.chars().all(|c| HUMS.contains(c))
}

/// Judges what was said while a prompt was playing. `voiced_ms` is its voiced length.
pub fn judge(heard: &Understood, asked: AnswerKind, voiced_ms: u32) -> Verdict {
    // Rejected speech often has no words at all: then its length says whether it was speech.
    let wordless = !heard.text.chars().any(char::is_alphanumeric);
    let backchannel = is_backchannel(&heard.text) || wordless && voiced_ms < NOISE_MS;
    let answer = match &heard.meaning {
        // "嗯" answers a yes/no question; anywhere else it only says "go on".
        Meaning::YesNo(_) => asked == AnswerKind::YesNo || !backchannel,
        Meaning::Intent(_) | Meaning::Choice(_) | Meaning::Clarify(..) | Meaning::Slots(_) => true,
        Meaning::Global(Global::Digress) => !backchannel,
        Meaning::Global(_) => true,
        Meaning::Text => !backchannel,
        Meaning::NoMatch => !backchannel && voiced_ms >= NOISE_MS || voiced_ms >= 3 * NOISE_MS,
    };
    if answer { Verdict::Answer } else { Verdict::GoOn }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(text: &str, meaning: Meaning) -> Understood {
        Understood { meaning, ..Understood::no_match(text, 0.9) }
    }

    #[test]
    fn a_hum_answers_a_yes_no_question_and_nothing_else() {
        let hum = heard("嗯", Meaning::YesNo(true));
        assert_eq!(judge(&hum, AnswerKind::YesNo, 200), Verdict::Answer);
        assert_eq!(judge(&hum, AnswerKind::Open, 200), Verdict::GoOn);
        assert_eq!(judge(&heard("对对对", Meaning::YesNo(true)), AnswerKind::Choice, 500), Verdict::GoOn);
    }

    #[test]
    fn a_request_interrupts_whatever_is_asked() {
        let human = heard("转人工", Meaning::Global(Global::Human));
        assert_eq!(judge(&human, AnswerKind::YesNo, 600), Verdict::Answer);
        let intent = heard("好", Meaning::Choice("好评".into()));
        assert_eq!(judge(&intent, AnswerKind::Choice, 150), Verdict::Answer);
    }

    #[test]
    fn short_noise_does_not_end_a_prompt_and_long_speech_does() {
        assert_eq!(judge(&heard("", Meaning::NoMatch), AnswerKind::Open, 300), Verdict::GoOn);
        assert_eq!(judge(&heard("", Meaning::NoMatch), AnswerKind::Open, 700), Verdict::Answer);
        assert_eq!(judge(&heard("嗯嗯", Meaning::NoMatch), AnswerKind::Open, 900), Verdict::GoOn);
        assert_eq!(judge(&heard("我那个东西怎么还没有", Meaning::NoMatch), AnswerKind::Open, 1500), Verdict::Answer);
    }

    #[test]
    fn backchannels_are_known_with_punctuation_and_twice() {
        for word in ["嗯。", "嗯嗯", "哦哦哦", "好的。", "OK", "mhm"] {
            assert!(is_backchannel(word), "{word}");
        }
        for word in ["不是", "好评", "对账单", "是不是", "转人工"] {
            assert!(!is_backchannel(word), "{word}");
        }
    }
}
