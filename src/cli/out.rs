//! Printing: JSON lines for programs, plain lines for people.

use serde_json::Value;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether something that was printed is lost.
static LOST: AtomicBool = AtomicBool::new(false);

/// Tells a person on stderr. Nobody may be there any more, and that ends no call.
pub fn aside(text: std::fmt::Arguments<'_>) {
    let _nobody_reads_it = writeln!(std::io::stderr().lock(), "zongji: {text}");
}

/// `eprintln!` that outlives its reader.
macro_rules! note {
    ($($text:tt)*) => { $crate::cli::out::aside(format_args!($($text)*)) };
}

/// Prints a line on stdout. A reader who has read enough (`| head`) ends no call and no hotline; what a full disk
/// loses is told once and makes the exit code 1.
pub fn line(text: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe && !LOST.swap(true, Ordering::Relaxed) => {
            note!("what follows cannot be written to stdout: {e}");
        }
        _ => {}
    }
}

/// Whether all that was printed arrived, as far as its reader wanted it.
pub fn complete() -> bool {
    !LOST.load(Ordering::Relaxed)
}

/// `println!` that outlives its reader.
macro_rules! say {
    ($($text:tt)*) => { $crate::cli::out::line(format_args!($($text)*)) };
}

/// Prints one JSON value on one line.
pub fn json(value: &Value) {
    say!("{value}");
}

/// Prints problems of dialplans, for people or programs.
pub fn problems(as_json: bool, problems: &[crate::dialplan::Problem]) {
    for p in problems {
        if as_json {
            json(&serde_json::json!({
                "code": p.code, "severity": format!("{:?}", p.severity).to_lowercase(), "file": p.file, "line": p.line, "column": p.column,
                "message": p.message, "mend": p.mend,
            }));
        } else {
            say!("{p}\n");
        }
    }
}

/// A dialplan value as JSON.
pub fn value(v: &crate::dialplan::Value) -> Value {
    use crate::dialplan::Value as V;
    match v {
        V::Null => Value::Null,
        V::Bool(b) => (*b).into(),
        V::Int(n) => (*n).into(),
        V::Num(n) => serde_json::json!(n),
        V::Text(s) => s.as_str().into(),
        V::List(items) => items.iter().map(value).collect(),
        V::Map(fields) => fields.iter().map(|(k, v)| (k.clone(), value(v))).collect(),
    }
}
