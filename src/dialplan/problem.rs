//! What is wrong in a flow file: where, how bad, and what to do about it.

use std::fmt;

/// A place in a file: line and column count from 1; 0 when unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct At {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The set cannot be used.
    Error,
    /// It can, but callers will notice.
    Warning,
    /// Worth knowing.
    Info,
}

/// One problem of one file. `Display` gives `file:line:column: error[E002]: message`, the line and an arrow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `E001`..`E019`, `W101`..`W108`, `I201` (see `dialplan::check`).
    pub code: &'static str,
    /// How bad.
    pub severity: Severity,
    /// The file, as it was named when it was given.
    pub file: String,
    /// Line from 1 (0: the whole file).
    pub line: u32,
    /// Column from 1, in characters.
    pub column: u32,
    /// What is wrong, in one sentence.
    pub message: String,
    /// The line with an arrow under the place; empty when the line is unknown.
    pub picture: String,
    /// What to do about it.
    pub mend: String,
}

impl Problem {
    /// A problem at a place of a source text. The severity follows from the code's first letter.
    pub fn new(
        code: &'static str,
        file: &str,
        source: &str,
        at: At,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) -> Problem {
        let severity = match code.as_bytes().first() {
            Some(b'E') => Severity::Error,
            Some(b'W') => Severity::Warning,
            _ => Severity::Info,
        };
        Problem {
            code,
            severity,
            file: file.to_string(),
            line: at.line,
            column: at.column,
            message: message.into(),
            picture: picture(source, at),
            mend: mend.into(),
        }
    }

    /// Whether a set with this problem must not be used.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "note",
        };
        write!(f, "{}:{}:{}: {word}[{}]: {}", self.file, self.line, self.column, self.code, self.message)?;
        if !self.picture.is_empty() {
            write!(f, "\n{}", self.picture)?;
        }
        if !self.mend.is_empty() {
            write!(f, "\n  mend: {}", self.mend)?;
        }
        Ok(())
    }
}

/// Characters of a line shown around the place.
const WINDOW: usize = 100;

/// The line and an arrow under the place; long lines are cut to a window around it.
fn picture(source: &str, at: At) -> String {
    if at.line == 0 {
        return String::new();
    }
    let Some(line) = source.lines().nth(at.line as usize - 1) else { return String::new() };
    let chars: Vec<char> = line.chars().map(|c| if c == '\t' { ' ' } else { c }).collect();
    let column = (at.column.max(1) as usize - 1).min(chars.len());
    let from = column.saturating_sub(WINDOW / 2);
    let shown = &chars[from..chars.len().min(from + WINDOW)];
    let wide = |c: &char| if (*c as u32) >= 0x1100 { 2 } else { 1 };
    let indent: usize = shown[..column - from].iter().map(wide).sum();
    let number = at.line.to_string();
    let text: String = shown.iter().collect();
    let gap = " ".repeat(number.len());
    format!("{number} | {text}\n{gap} | {}^", " ".repeat(indent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arrow_stands_under_the_place_also_behind_hanzi() {
        let p = Problem::new("E002", "a.yaml", "x: 1\n好: nowhere\n", At { line: 2, column: 4 }, "no such node", "");
        assert_eq!(p.picture, "2 | 好: nowhere\n  |     ^");
        assert!(p.is_error());
        assert!(p.to_string().starts_with("a.yaml:2:4: error[E002]: no such node\n"));
    }

    #[test]
    fn a_place_outside_the_text_gives_no_picture_and_no_panic() {
        for at in [At { line: 9, column: 9 }, At::default(), At { line: 1, column: 999 }] {
            let _ = Problem::new("W101", "a", "短", at, "m", "m").to_string();
        }
    }
}
