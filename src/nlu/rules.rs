//! Reads the plain word lists under `rules/`: `#` comments, `[section]` heads, one entry a line.

use std::collections::BTreeMap;

/// The entries of each `[section]`; entries before the first head are under "".
pub fn sections(file: &'static str) -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut all: BTreeMap<&'static str, Vec<&'static str>> = BTreeMap::new();
    let mut head = "";
    for line in entries(file) {
        match line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            Some(name) => head = name.trim(),
            None => all.entry(head).or_default().push(line),
        }
    }
    all
}

/// All lines that are neither empty nor comments, trimmed; a ` #` ends a line.
pub fn entries(file: &'static str) -> impl Iterator<Item = &'static str> {
    file.lines()
        .map(|l| if l.starts_with('#') { "" } else { l.split(" #").next().unwrap_or("").trim() })
        .filter(|l| !l.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_hold_their_lines_without_comments() {
        let s = sections("# top\na\n[x]\nb # why\n\n[y]\nc\n");
        assert_eq!(s[""], ["a"]);
        assert_eq!(s["x"], ["b"]);
        assert_eq!(s["y"], ["c"]);
    }
}
