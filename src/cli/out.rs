//! Printing: JSON lines for programs, plain lines for people.

use serde_json::Value;

/// Prints one JSON value on one line.
pub fn json(value: &Value) {
    println!("{value}");
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
            println!("{p}\n");
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
