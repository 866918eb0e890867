//! The books of a call: turns with their times while it lasts, one record at its end.

use super::life::Close;
use super::{CallRecord, EndReason, Flow, Timings, Turn};
use crate::clock::Mono;
use crate::dialplan::{AnswerKind, Emotion, Global, Listen, Meaning, Outcome, Understood};
use crate::ids::TurnId;
use crate::pii;

/// Longest reply kept in a turn, in bytes.
const MAX_REPLY: usize = 2000;
/// Most stars that stand for a secret answer.
const MAX_STARS: usize = 8;
/// Shortest row of digits that is hidden: "第二单" tells nobody anything.
const MIN_ROW: usize = 3;

/// What the record will say, gathered as the call goes on.
#[derive(Debug)]
pub struct Tally {
    /// When the INVITE came.
    pub offered: Mono,
    /// When it was answered.
    pub answered: Option<Mono>,
    /// The outcome that the flow named at its end.
    pub outcome: Option<Outcome>,
    /// Turns so far.
    pub turns: u32,
    /// Whether a seat spoke with the caller.
    pub bridged: bool,
    /// Whether a ticket was written.
    pub ticketed: bool,
    /// Why we broke off, when we did.
    pub broke_off: Option<EndReason>,
}

impl Tally {
    /// A call that has just been offered.
    pub const fn new(offered: Mono) -> Self {
        Tally { offered, answered: None, outcome: None, turns: 0, bridged: false, ticketed: false, broke_off: None }
    }

    /// The record.
    pub fn record(&self, now: Mono, close: Close, reason: EndReason, flow: &dyn Flow) -> CallRecord {
        let counters = flow.counters();
        CallRecord {
            offered: self.offered,
            answered: self.answered,
            ended: now,
            reason,
            outcome: self.outcome(close, flow.outcome_if_left()),
            steps: counters.steps,
            retries: counters.retries,
            verify_questions: counters.verify_questions,
            turns: self.turns,
            flows: flow.flows().to_vec(),
            bridged: self.bridged,
        }
    }

    fn outcome(&self, close: Close, left: Option<Outcome>) -> Outcome {
        let caller_stopped =
            matches!(close, Close::GaveUp | Close::CallerLeft | Close::Lost | Close::NoMedia | Close::HeldTooLong);
        match (self.outcome, left) {
            (Some(outcome), _) => outcome,
            _ if close == Close::TakenOver => Outcome::Transferred,
            _ if self.bridged => Outcome::Transferred,
            _ if self.answered.is_none() && caller_stopped => Outcome::Abandoned,
            (None, Some(outcome)) if caller_stopped => outcome,
            _ if self.ticketed => Outcome::Ticketed,
            _ if caller_stopped => Outcome::Abandoned,
            _ => Outcome::Failed,
        }
    }
}

/// A turn whose answer has not been heard yet.
#[derive(Debug)]
pub struct Draft {
    turn: Turn,
    /// When its input was understood.
    ready: Mono,
    /// When the first words of the answer were known.
    answered: Option<Mono>,
    sounded: bool,
}

impl Draft {
    /// A turn whose input is complete at `now`.
    pub fn new(now: Mono, turn: Turn) -> Self {
        Draft { turn, ready: now, answered: None, sounded: false }
    }

    /// The flow answered with these words (masked).
    pub fn said(&mut self, now: Mono, shown: &str) {
        if self.answered.is_none() {
            self.answered = Some(now);
            self.turn.timings.act = now.ms_since(self.ready) as u32;
        }
        if self.turn.reply.len() + shown.len() <= MAX_REPLY {
            self.turn.reply.push_str(shown);
        }
    }

    /// A sample of the answer goes out.
    pub fn sounds(&mut self, now: Mono) {
        if let (false, Some(answered)) = (self.sounded, self.answered) {
            self.sounded = true;
            self.turn.timings.first_audio = now.ms_since(answered) as u32;
        }
    }

    /// Whether the caller hears the answer.
    pub const fn has_sounded(&self) -> bool {
        self.sounded
    }

    /// The finished turn.
    pub fn finish(mut self, now: Mono, step: u8) -> Turn {
        self.turn.step = step;
        if self.answered.is_none() {
            self.turn.timings.act = now.ms_since(self.ready) as u32;
        }
        self.turn
    }
}

/// A turn's fields that do not depend on how the caller answered.
pub fn blank(id: TurnId, flow: &str, node: &str, at_ms: u64) -> Turn {
    Turn {
        id,
        flow: flow.into(),
        node: node.into(),
        step: 0,
        heard: String::new(),
        keys: false,
        confidence: 0.0,
        intent: String::new(),
        score: 0.0,
        emotion: Emotion::Neutral,
        barge_in: false,
        reply: String::new(),
        at_ms,
        timings: Timings::default(),
    }
}

/// Whether digits said or pressed here are somebody's: an order's, a telephone's, an amount.
pub fn hides_digits(listen: &Listen) -> bool {
    listen.secret || listen.keys.max > 1 || matches!(listen.kind, AnswerKind::Digits { .. })
}

/// The words of an answer as records show them: none of a secret one, no row of digits where digits are asked for.
pub fn shown_words(listen: &Listen, words: &str) -> String {
    if listen.secret {
        return "*".repeat(words.chars().count().min(MAX_STARS));
    }
    if !hides_digits(listen) {
        return words.to_owned();
    }
    let digit = |c: char| c.is_ascii_digit() || "零〇一二三四五六七八九幺两".contains(c);
    let (mut shown, mut row) = (String::new(), String::new());
    for c in words.chars().map(Some).chain([None]) {
        if let Some(c) = c.filter(|c| digit(*c)) {
            row.push(c);
            continue;
        }
        match row.chars().count() {
            0..MIN_ROW => shown.push_str(&row),
            n => shown.extend(std::iter::repeat_n('*', n)),
        }
        row.clear();
        shown.extend(c);
    }
    shown
}

/// The word for what was meant, as records show it: a choice among the caller's own things names one of them.
pub fn shown_intent(listen: &Listen, meaning: &Meaning, word: &str) -> String {
    match meaning {
        Meaning::Choice(_) if listen.secret => "choice".into(),
        Meaning::Choice(_) if hides_digits(listen) => pii::mask(word),
        _ => word.into(),
    }
}

/// What an utterance meant, as one word for records.
pub fn intent_word(heard: &Understood) -> &str {
    match &heard.meaning {
        Meaning::Intent(name) | Meaning::Choice(name) => name,
        Meaning::Clarify(..) => "clarify",
        Meaning::YesNo(true) => "yes",
        Meaning::YesNo(false) => "no",
        Meaning::Slots(_) => "slots",
        Meaning::Global(global) => global_word(*global),
        Meaning::Text => "text",
        Meaning::NoMatch => "nomatch",
    }
}

const fn global_word(global: Global) -> &'static str {
    match global {
        Global::Human => "human",
        Global::Repeat => "repeat",
        Global::Cancel => "cancel",
        Global::Slower => "slower",
        Global::Angry => "angry",
        Global::Emergency => "emergency",
        Global::Digress => "digress",
    }
}

/// The score of what it meant, 0.0..=1.0.
pub fn score(heard: &Understood) -> f32 {
    let word = intent_word(heard);
    let named = heard.candidates.iter().find(|c| c.0 == word).or(heard.candidates.first());
    match heard.meaning {
        Meaning::NoMatch => named.map_or(0.0, |c| c.1),
        _ => named.map_or(heard.confidence, |c| c.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_is_the_flows_word_or_what_happened() {
        let mut tally = Tally::new(Mono(0));
        assert_eq!(tally.outcome(Close::GaveUp, Some(Outcome::Resolved)), Outcome::Abandoned);
        tally.answered = Some(Mono(1));
        assert_eq!(tally.outcome(Close::CallerLeft, None), Outcome::Abandoned);
        assert_eq!(tally.outcome(Close::CallerLeft, Some(Outcome::Resolved)), Outcome::Resolved);
        assert_eq!(tally.outcome(Close::Terminated, None), Outcome::Failed);
        tally.ticketed = true;
        assert_eq!(tally.outcome(Close::CallerLeft, None), Outcome::Ticketed);
        tally.bridged = true;
        assert_eq!(tally.outcome(Close::CallerLeft, None), Outcome::Transferred);
        tally.outcome = Some(Outcome::Resolved);
        assert_eq!(tally.outcome(Close::CallerLeft, None), Outcome::Resolved);
    }

    #[test]
    fn the_times_of_a_turn_add_up_to_what_the_caller_waited() {
        let mut turn = blank(TurnId(1), "order", "ask", 0);
        turn.timings = Timings { endpoint: 375, recognise: 40, understand: 2, ..Timings::default() };
        let mut draft = Draft::new(Mono::from_ms(1000), turn);
        draft.said(Mono::from_ms(1300), "您的订单");
        draft.said(Mono::from_ms(1900), "已发出");
        draft.sounds(Mono::from_ms(1380));
        draft.sounds(Mono::from_ms(2500));
        let turn = draft.finish(Mono::from_ms(3000), 2);
        assert_eq!((turn.timings.act, turn.timings.first_audio, turn.timings.total()), (300, 80, 797));
        assert_eq!((turn.reply.as_str(), turn.step), ("您的订单已发出", 2));
    }
}
