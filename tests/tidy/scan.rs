//! Just enough of a reader for Rust source: blanks comments and literals, expands `use` trees, finds test code.

use super::Layers;
use std::collections::BTreeSet;
use std::ops::Range;

/// One source file.
pub struct Source {
    /// Relative to the repository, with `/`.
    pub path: String,
    /// As written.
    pub raw: String,
    /// The same bytes with comments and the insides of literals turned to spaces.
    pub code: String,
    /// Byte ranges of `code` under `#[cfg(test)]`.
    tests: Vec<Range<usize>>,
    /// Every path a `use` names in full (`std::net::IpAddr`), and where.
    uses: Vec<(String, usize)>,
    /// The byte ranges of the `use` items.
    use_items: Vec<Range<usize>>,
}

impl Source {
    pub fn new(path: &str, raw: &str) -> Self {
        let code = blank(raw);
        let tests = test_ranges(&code);
        let (uses, use_items) = use_paths(&code);
        Source { path: path.into(), raw: raw.into(), code, tests, uses, use_items }
    }

    /// The room this file belongs to: `rtp` for `src/rtp/jitter.rs` and `src/rtp.rs`. None for the map, the start
    /// and everything outside `src`.
    pub fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let room = inside.split('/').next()?.trim_end_matches(".rs");
        (!matches!(room, "lib" | "main")).then_some(room)
    }

    fn in_tests(&self, at: usize) -> bool {
        self.tests.iter().any(|r| r.contains(&at))
    }

    fn line_of(&self, at: usize) -> usize {
        1 + self.code.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count()
    }

    /// Lines that name `path`, in a `use` (groups expanded) or in the code itself. A single name counts as a crate:
    /// at the root of a path only (`tokio::…`, not `self::tokio`), unless it is a key word, a macro or a plain function.
    pub fn lines_naming(&self, path: &str, tests_too: bool) -> Vec<usize> {
        let below = format!("{path}::");
        let used = self.uses.iter().filter(|(u, _)| u == path || u.starts_with(&below)).map(|(_, at)| *at);
        let inline = words(&self.code, path).filter(|&at| !self.use_items.iter().any(|r| r.contains(&at)));
        let inline = inline.filter(|&at| path.contains("::") || self.stands_alone(at, path));
        let mut at: Vec<usize> = used.chain(inline).filter(|&at| tests_too || !self.in_tests(at)).collect();
        at.sort_unstable();
        at.into_iter().map(|at| self.line_of(at)).collect()
    }

    /// Whether the single word at `at` is what a ban means by it.
    fn stands_alone(&self, at: usize, word: &str) -> bool {
        let after = self.code[at + word.len()..].trim_start();
        if word == "unsafe" || word.ends_with('!') {
            return true;
        }
        let before = self.code[..at].trim_end();
        let at_root = match before.strip_suffix("::") {
            None => !before.ends_with('.'),
            Some(rest) => !rest.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '>'),
        };
        if word.contains("unbounded") || word == "thread_rng" {
            return after.starts_with('(') || after.starts_with("::<");
        }
        at_root && after.starts_with("::")
    }

    /// Whether the file has or imports a module of that name, so that the name alone is not a crate.
    pub fn has_module(&self, name: &str) -> bool {
        let tail = format!("::{name}");
        if self.uses.iter().any(|(path, _)| path.ends_with(&tail)) {
            return true;
        }
        words(&self.code, name).any(|at| {
            let after = self.code[at + name.len()..].trim_start();
            self.code[..at].trim_end().ends_with("mod") && after.starts_with([';', '{'])
        })
    }

    /// Rooms this file names, each with a line: `crate::ROOM`, groups expanded, and `super::ROOM` where that climbs to
    /// the root.
    pub fn rooms_named(&self, layers: &Layers) -> Vec<(String, usize)> {
        let mut found = BTreeSet::new();
        let roots = ["crate".to_string(), vec!["super"; self.depth()].join("::")];
        for (path, at) in &self.uses {
            for root in &roots {
                let room = path.strip_prefix(root.as_str()).and_then(|p| p.strip_prefix("::"));
                found.extend(room.map(|p| (p.split("::").next().unwrap_or(p).to_string(), self.line_of(*at))));
            }
        }
        for at in words(&self.code, "crate") {
            let Some(rest) = self.code[at + "crate".len()..].strip_prefix("::") else { continue };
            let room: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            found.insert((room, self.line_of(at)));
        }
        found.into_iter().filter(|(room, _)| layers.contains_key(room)).collect()
    }

    /// How many `super` climb from this file to the root of the crate.
    fn depth(&self) -> usize {
        let folders = self.path.matches('/').count() - usize::from(self.path.starts_with("src/"));
        folders + usize::from(!self.path.ends_with("/mod.rs"))
    }

    /// Lines that hold code outside tests.
    pub fn code_lines(&self) -> usize {
        let mut at = 0;
        let mut lines = 0;
        for line in self.code.split_inclusive('\n') {
            lines += usize::from(!line.trim().is_empty() && !self.in_tests(at));
            at += line.len();
        }
        lines
    }
}

/// Makes `foo.rs` test code where its parent says `#[cfg(test)] mod foo;`.
pub fn mark_test_files(sources: &mut [Source]) {
    let mut children = Vec::new();
    for source in sources.iter() {
        let dir = source.path.trim_end_matches("/mod.rs").trim_end_matches(".rs");
        for range in &source.tests {
            let item = source.code[range.clone()].trim_end_matches(';').trim_end();
            if let Some(name) = item.rsplit_once("mod ").map(|(_, n)| n.trim()).filter(|n| !n.contains('{')) {
                children.extend([format!("{dir}/{name}.rs"), format!("{dir}/{name}/mod.rs")]);
            }
        }
    }
    for source in sources.iter_mut().filter(|s| children.contains(&s.path)) {
        source.tests = std::iter::once(0..source.code.len()).collect();
    }
}

/// Where `word` stands in `code` with no identifier character touching it; a path is not part of a longer path's head.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_name) && (word.ends_with('!') || !after.is_some_and(is_name))
    })
}

/// Byte ranges of the items under `#[cfg(test)]` (or `cfg(all(test, …))`), the attribute included.
fn test_ranges(code: &str) -> Vec<Range<usize>> {
    if code.trim_start().starts_with("#![cfg(test)]") {
        return std::iter::once(0..code.len()).collect();
    }
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (start, _) in code.match_indices("#[cfg(test)]").chain(code.match_indices("#[cfg(all(test")) {
        let Some(open) = code[start..].find(['{', ';']).map(|n| start + n) else { continue };
        let end = if code[open..].starts_with('{') { closing(code, open) } else { open };
        ranges.push(start..end + 1);
    }
    ranges
}

/// The brace that closes the one at `open`, or the end.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (n, b) in code.bytes().enumerate().skip(open) {
        match b {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return n;
        }
    }
    code.len() - 1
}

/// Every path of every `use` item, in full, with the offset of its last name; and the items' ranges.
fn use_paths(code: &str) -> (Vec<(String, usize)>, Vec<Range<usize>>) {
    let (mut paths, mut items) = (Vec::new(), Vec::new());
    for at in words(code, "use") {
        let line = code[..at].rsplit('\n').next().unwrap_or("").trim();
        if !(line.is_empty() || line.starts_with("pub") || line.starts_with('#') || line.ends_with(['{', ';', '}'])) {
            continue;
        }
        let start = at + "use".len();
        let Some(end) = code[start..].find(';').map(|n| start + n) else { continue };
        expand(code, start..end, "", &mut paths);
        items.push(at..end);
    }
    (paths, items)
}

/// Expands `a::{b, c::{d, e}}` into `a::b`, `a::c::d`, `a::c::e`.
fn expand(code: &str, tree: Range<usize>, prefix: &str, into: &mut Vec<(String, usize)>) {
    let text = &code[tree.clone()];
    if let Some(open) = text.find('{') {
        let head = clean(&text[..open]);
        let prefix = format!("{prefix}{}", head.trim_start_matches("::"));
        let inside = tree.start + open + 1..closing(code, tree.start + open);
        let (mut from, mut depth) = (inside.start, 0);
        for at in inside.clone() {
            match code.as_bytes()[at] {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                b',' if depth == 0 => {
                    expand(code, from..at, &prefix, into);
                    from = at + 1;
                }
                _ => {}
            }
        }
        expand(code, from..inside.end, &prefix, into);
        return;
    }
    let path = text.split(" as ").next().unwrap_or(text);
    let at = tree.start + (text.len() - text.trim_start().len());
    let path = clean(path);
    if !path.is_empty() {
        let full = format!("{prefix}{}", path.trim_start_matches("::"));
        let full = full.trim_end_matches("::self").trim_end_matches("::*");
        into.push((full.to_string(), at.min(code.len() - 1)));
    }
}

fn clean(path: &str) -> String {
    path.chars().filter(|c| !c.is_whitespace()).collect()
}

/// Turns comments and the insides of string and character literals to spaces; every byte keeps its place.
pub fn blank(raw: &str) -> String {
    let bytes = raw.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => {
                wipe(&mut out, at, bytes[at..].iter().position(|&b| b == b'\n').map_or(bytes.len(), |n| at + n))
            }
            b'/' if bytes[at..].starts_with(b"/*") => wipe(&mut out, at, block_comment_end(bytes, at)),
            b'"' => {
                let end = string_end(bytes, at + 1);
                wipe(&mut out, at + 1, end - 1);
                end
            }
            b'\'' => match char_end(raw, at) {
                Some(end) => {
                    wipe(&mut out, at + 1, end - 1);
                    end
                }
                None => at + 1,
            },
            b'r' if !at.checked_sub(1).is_some_and(|b| is_raw_free(bytes[b])) => match raw_string(bytes, at) {
                Some((from, to, end)) => {
                    wipe(&mut out, from, to);
                    end
                }
                None => at + 1,
            },
            _ => at + 1,
        };
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("whole characters were blanked")
}

/// Whether an `r` after this byte is part of a name (`br"…"` and `cr"…"` are not).
fn is_raw_free(before: u8) -> bool {
    (before.is_ascii_alphanumeric() && !matches!(before, b'b' | b'c')) || before == b'_'
}

fn wipe(out: &mut [u8], from: usize, to: usize) -> usize {
    let to = to.min(out.len());
    for byte in out.iter_mut().take(to).skip(from).filter(|b| **b != b'\n') {
        *byte = b' ';
    }
    to
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0usize);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The byte after the closing quote of a string whose inside begins at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The byte after a character literal that begins at `at`; nothing when this is a lifetime.
fn char_end(raw: &str, at: usize) -> Option<usize> {
    let rest = &raw[at + 1..];
    if rest.starts_with('\\') {
        let close = rest[2..].find('\'')?;
        return Some(at + 1 + 2 + close + 1);
    }
    let first = rest.chars().next()?;
    rest[first.len_utf8()..].starts_with('\'').then(|| at + 1 + first.len_utf8() + 1)
}

/// Inside and end of a raw string that begins with the `r` at `at`.
fn raw_string(bytes: &[u8], at: usize) -> Option<(usize, usize, usize)> {
    let hashes = bytes[at + 1..].iter().take_while(|&&b| b == b'#').count();
    let open = at + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let inside = bytes[open + 1..].windows(close.len()).position(|w| w == close.as_slice());
    let to = inside.map_or(bytes.len(), |n| open + 1 + n);
    Some((open + 1, to, (to + close.len()).min(bytes.len())))
}
