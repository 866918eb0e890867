//! A SIP message cut into start line, headers and body (RFC 3261 section 7), before anything believes it.
//!
//! Folded lines are joined, compact names written out, blanks around `:` removed: whatever looks at a
//! message later looks at the same text, so no header can hide from one reader and show to another.

use std::borrow::Cow;

/// Longest header section, bytes.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// Most header lines of a message.
const MAX_HEADERS: usize = 256;

/// First line of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// `METHOD uri version`; the URI may be nonsense with blanks in it, [`super::sanity`] judges.
    Request { method: String, uri: String, version: String },
    /// `version code reason`.
    Response { version: String, code: u16 },
}

/// A message: headers in order with lower-case long names.
#[derive(Debug, Clone)]
pub(super) struct Wire<'a> {
    pub start: Start,
    pub headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// What follows the empty line; Content-Length is not applied yet.
    pub rest: Cow<'a, [u8]>,
    /// Something in the head was no header at all, or had bytes headers cannot have.
    pub broken: Option<&'static str>,
}

/// Why bytes are no SIP message to which anything could be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotSip {
    /// No empty line within [`MAX_HEAD`].
    NoHead,
    /// The first line is neither a request nor a status line.
    StartLine,
    /// Too many header lines.
    TooMany,
}

/// Where the empty line ends: offset of the body.
pub(super) fn head_end(data: &[u8]) -> Option<usize> {
    data.windows(4).position(|w| w == b"\r\n\r\n").map(|p| p + 4)
}

/// Call-ID of a message, and whether it is an INVITE, without taking it apart.
pub(super) fn glance(data: &[u8]) -> Option<(&str, bool)> {
    let head = data.get(..head_end(data)?)?;
    let mut lines = head.split(|b| *b == b'\n');
    let begins = lines.next()?.starts_with(b"INVITE ");
    let id = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(line.iter().position(|b| *b == b':')?)?;
        let name = name.trim_ascii_end();
        (name.eq_ignore_ascii_case(b"call-id") || name.eq_ignore_ascii_case(b"i")).then_some(&value[1..])
    })?;
    Some((std::str::from_utf8(id.trim_ascii()).ok()?, begins))
}

impl<'a> Wire<'a> {
    /// Cuts `data` (one datagram, or one framed message of a stream).
    pub fn parse(data: &'a [u8]) -> Result<Wire<'a>, NotSip> {
        let end = head_end(data).filter(|e| *e <= MAX_HEAD).ok_or(NotSip::NoHead)?;
        let rest = &data[end..];
        if let Ok(head) = std::str::from_utf8(&data[..end - 4]) {
            return Wire::cut(head, rest);
        }
        let head = String::from_utf8_lossy(&data[..end - 4]);
        let Wire { start, headers, .. } = Wire::cut(&head, rest)?;
        let own = |(name, value): (Cow<'_, str>, Cow<'_, str>)| (name.into_owned().into(), value.into_owned().into());
        let headers = headers.into_iter().map(own).collect();
        Ok(Wire { start, headers, rest: rest.into(), broken: Some("Headers are not UTF-8") })
    }

    fn cut(head: &'a str, rest: &'a [u8]) -> Result<Wire<'a>, NotSip> {
        let mut lines = head.split("\r\n");
        let start = start_line(lines.next().unwrap_or_default())?;
        let mut wire = Wire { start, headers: Vec::with_capacity(16), rest: rest.into(), broken: None };
        for line in lines {
            if line.starts_with([' ', '\t']) {
                wire.folded(line);
                continue;
            }
            if wire.headers.len() >= MAX_HEADERS {
                return Err(NotSip::TooMany);
            }
            wire.header_line(line);
        }
        Ok(wire)
    }

    /// A line that goes on with the header before it.
    fn folded(&mut self, line: &str) {
        let Some((_, value)) = self.headers.last_mut() else {
            self.broken = Some("Folded first header");
            return;
        };
        if line.contains(['\r', '\n']) {
            self.broken = Some("Bare line break in a header");
        }
        let (value, more) = (value.to_mut(), line.trim());
        if !value.is_empty() && !more.is_empty() {
            value.push(' ');
        }
        value.push_str(more);
    }

    fn header_line(&mut self, line: &'a str) {
        let Some((name, value)) = line.split_once(':') else {
            self.broken = Some("Header without colon");
            return;
        };
        let name = name.trim_end_matches([' ', '\t']);
        if name.is_empty() || !name.bytes().all(is_token_byte) {
            self.broken = Some("Bad header name");
            return;
        }
        if value.contains(['\r', '\n']) {
            self.broken = Some("Bare line break in a header");
        }
        self.headers.push((header_name(name), value.trim().into()));
    }

    /// The same with nothing borrowed, and no more than its body after the head.
    pub fn into_owned(self) -> Wire<'static> {
        let own = |(name, value): (Cow<'_, str>, Cow<'_, str>)| {
            let name = match name {
                Cow::Borrowed(name) => header_name_of(name),
                Cow::Owned(name) => Cow::Owned(name),
            };
            (name, Cow::Owned(value.into_owned()))
        };
        let rest = Cow::Owned(self.body().to_vec());
        Wire { start: self.start, headers: self.headers.into_iter().map(own).collect(), rest, broken: self.broken }
    }

    /// Body as text; `None` when there is none.
    pub fn text(&self) -> Option<String> {
        let body = self.body();
        (!body.is_empty()).then(|| String::from_utf8_lossy(body).into_owned())
    }

    /// Whether a header that is a list has this token, whatever its case.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.all(name).any(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case(token)))
    }

    /// First header of that (lower-case, long) name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_ref())
    }

    /// Every header of that name, in order.
    pub fn all<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s str> {
        self.headers.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_ref())
    }

    /// The request's method, or the empty string.
    pub fn method(&self) -> &str {
        match &self.start {
            Start::Request { method, .. } => method,
            Start::Response { .. } => "",
        }
    }

    /// Body by Content-Length; what follows it in a datagram is not ours (RFC 3261 section 18.3).
    pub fn body(&self) -> &[u8] {
        let len = match self.get("content-length").map(|v| v.parse::<usize>()) {
            Some(Ok(n)) => n.min(self.rest.len()),
            Some(Err(_)) => 0,
            None => self.rest.len(),
        };
        &self.rest[..len]
    }
}

fn start_line(line: &str) -> Result<Start, NotSip> {
    if line.len() >= 4 && line.as_bytes()[..4].eq_ignore_ascii_case(b"SIP/") {
        let mut parts = line.splitn(3, ' ');
        let version = parts.next().unwrap_or_default().to_string();
        let code = parts.next().unwrap_or_default();
        if code.len() != 3 || !code.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NotSip::StartLine);
        }
        return Ok(Start::Response { version, code: code.parse().map_err(|_| NotSip::StartLine)? });
    }
    let line = line.trim_end_matches([' ', '\t']);
    let (method, rest) = line.split_once(' ').ok_or(NotSip::StartLine)?;
    let (uri, version) = rest.rsplit_once(' ').ok_or(NotSip::StartLine)?;
    let sip = version.len() > 4 && version.as_bytes()[..4].eq_ignore_ascii_case(b"SIP/");
    if method.is_empty() || !method.bytes().all(is_token_byte) || !sip {
        return Err(NotSip::StartLine);
    }
    Ok(Start::Request { method: method.into(), uri: uri.into(), version: version.into() })
}

/// RFC 3261 section 25.1 `token`.
pub(super) fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b)
}

/// The lower-case long name of a header.
fn header_name(name: &str) -> Cow<'_, str> {
    if let Some(known) = COMMON.iter().find(|known| known.eq_ignore_ascii_case(name)) {
        return Cow::Borrowed(known);
    }
    let lower = name.to_ascii_lowercase();
    match long_name(&lower) {
        Some(long) => long.into(),
        None => lower.into(),
    }
}

/// A lower-case long name again, as long as it is needed.
fn header_name_of(name: &str) -> Cow<'static, str> {
    match COMMON.iter().find(|known| **known == name) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(name.to_string()),
    }
}

/// What nearly every message has.
const COMMON: [&str; 16] = [
    "via",
    "from",
    "to",
    "call-id",
    "cseq",
    "contact",
    "max-forwards",
    "content-type",
    "content-length",
    "allow",
    "supported",
    "user-agent",
    "record-route",
    "session-expires",
    "min-se",
    "server",
];

/// Compact form to long form (RFC 3261 section 7.3.3 and the registry).
fn long_name(name: &str) -> Option<&'static str> {
    let long = match name {
        "a" => "accept-contact",
        "b" => "referred-by",
        "c" => "content-type",
        "d" => "request-disposition",
        "e" => "content-encoding",
        "f" => "from",
        "i" => "call-id",
        "j" => "reject-contact",
        "k" => "supported",
        "l" => "content-length",
        "m" => "contact",
        "o" => "event",
        "r" => "refer-to",
        "s" => "subject",
        "t" => "to",
        "u" => "allow-events",
        "v" => "via",
        "x" => "session-expires",
        "y" => "identity",
        _ => return None,
    };
    Some(long)
}

/// Splits at `sep` outside quotes and angle brackets; `None` when a quote or bracket stays open.
pub(super) fn split_outside(text: &str, sep: u8) -> Option<Vec<&str>> {
    let (mut parts, mut from, mut quoted, mut escaped, mut angle) = (Vec::new(), 0, false, false, false);
    // What is looked for is ASCII, and no byte of a longer character is.
    for (i, b) in text.bytes().enumerate() {
        if escaped {
            escaped = false;
            continue;
        }
        match b {
            b'\\' if quoted => escaped = true,
            b'"' if !angle => quoted = !quoted,
            b'<' if !quoted => angle = true,
            b'>' if !quoted => angle = false,
            b if b == sep && !quoted && !angle => {
                parts.push(&text[from..i]);
                from = i + 1;
            }
            _ => {}
        }
    }
    if quoted || angle || escaped {
        return None;
    }
    parts.push(&text[from..]);
    Some(parts)
}

/// `;name=value` parameters: lower-case names, values as written, in order.
pub(super) type Params = Vec<(String, Option<String>)>;

/// Reads `a;b = c;d="e"` (no leading `;`). Empty parameters are an error.
pub(super) fn params(text: &str) -> Option<Params> {
    let mut out = Vec::new();
    for part in split_outside(text, b';')? {
        let (name, value) = match part.split_once('=') {
            Some((n, v)) => (n.trim(), Some(v.trim().to_string())),
            None => (part.trim(), None),
        };
        if name.is_empty() || !name.bytes().all(is_token_byte) {
            return None;
        }
        out.push((name.to_ascii_lowercase(), value));
    }
    Some(out)
}

/// Writes parameters back, each with its `;`.
pub(super) fn write_params(params: &Params) -> String {
    params.iter().fold(String::new(), |mut s, (n, v)| {
        s.push(';');
        s.push_str(n);
        if let Some(v) = v {
            s.push('=');
            s.push_str(v);
        }
        s
    })
}

/// One From, To or Contact value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NameAddr {
    /// Display name without quotes and escapes.
    pub display: Option<String>,
    pub uri: String,
    pub params: Params,
}

impl NameAddr {
    /// Strict reading of `"name" <uri>;params` or `uri;params` (RFC 3261 section 20.10).
    pub fn parse(text: &str) -> Option<NameAddr> {
        let (display, uri, rest) = name_and_uri(text)?;
        let params = if rest.is_empty() { Vec::new() } else { params(rest)? };
        Some(NameAddr { display, uri: uri.to_string(), params })
    }

    /// Value of a parameter.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(n, _)| n == name).and_then(|(_, v)| v.as_deref())
    }

    /// The `tag` parameter.
    pub fn tag(&self) -> Option<&str> {
        self.param("tag")
    }

    /// Written in the one canonical form: `"display" <uri>;params`.
    pub fn write(&self) -> String {
        let display = match &self.display {
            Some(d) => format!("\"{}\" ", d.replace('\\', "\\\\").replace('"', "\\\"")),
            None => String::new(),
        };
        format!("{display}<{}>{}", self.uri, write_params(&self.params))
    }
}

/// The `tag` of a From or To value, read as [`NameAddr::parse`] does.
pub(super) fn tag_of(text: &str) -> Option<&str> {
    let (_, _, rest) = name_and_uri(text)?;
    split_outside(rest, b';')?.into_iter().find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("tag").then_some(value.trim())
    })
}

/// Display name, URI, and the parameters as they stand, without the first `;`.
fn name_and_uri(text: &str) -> Option<(Option<String>, &str, &str)> {
    let text = text.trim();
    let (display, uri, rest) = match text.find('<') {
        Some(_) => {
            let (display, after) = display_name(text)?;
            let inner = after.strip_prefix('<')?;
            let (uri, rest) = inner.split_once('>')?;
            (display, uri, rest.trim_start())
        }
        None => {
            let cut = text.find(';').unwrap_or(text.len());
            let uri = text[..cut].trim_end();
            if uri.contains(['?', ',', '"']) {
                return None; // such a URI needs angle brackets
            }
            (None, uri, &text[cut..])
        }
    };
    if uri.is_empty() || uri.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>')) {
        return None;
    }
    match rest.strip_prefix(';') {
        Some("") => None,
        Some(params) => Some((display, uri, params)),
        None => rest.is_empty().then_some((display, uri, rest)),
    }
}

/// Display name and what follows it (starting at `<`).
fn display_name(text: &str) -> Option<(Option<String>, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (mut name, mut escaped) = (String::new(), false);
        for (i, c) in quoted.char_indices() {
            match c {
                c if escaped => {
                    name.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    // Control characters in a name reach logs and screens: blanks instead.
                    let clean = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                    return Some((Some(clean), quoted[i + 1..].trim_start()));
                }
                c => name.push(c),
            }
        }
        return None;
    }
    let cut = text.find('<')?;
    let name = text[..cut].trim();
    if !name.bytes().all(|b| is_token_byte(b) || b == b' ' || b == b'\t') {
        return None;
    }
    Some(((!name.is_empty()).then(|| name.to_string()), &text[cut..]))
}

/// One Via value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Via {
    pub transport: String,
    /// `host[:port]` as written.
    pub sent_by: String,
    pub params: Params,
}

impl Via {
    /// Reads `SIP / 2.0 / UDP host ; params`.
    pub fn parse(text: &str) -> Option<Via> {
        let (head, params_text) = match text.split_once(';') {
            Some((h, p)) => (h, Some(p)),
            None => (text, None),
        };
        let mut parts = head.splitn(3, '/').map(str::trim);
        let (name, version, rest) = (parts.next()?, parts.next()?, parts.next()?);
        if !name.eq_ignore_ascii_case("SIP") || version != "2.0" {
            return None;
        }
        let (transport, sent_by) = rest.split_once(|c: char| c.is_ascii_whitespace())?;
        let sent_by: String = sent_by.split_whitespace().collect();
        if transport.is_empty() || !transport.bytes().all(is_token_byte) {
            return None;
        }
        super::uri::host_port(&sent_by)?;
        let params = params_text.map_or(Some(Vec::new()), params)?;
        Some(Via { transport: transport.to_ascii_uppercase(), sent_by, params })
    }

    /// Every value of all Via headers, top first.
    pub fn all(wire: &Wire) -> Option<Vec<Via>> {
        let mut out = Vec::new();
        for header in wire.all("via") {
            for value in split_outside(header, b',')? {
                out.push(Via::parse(value)?);
            }
        }
        Some(out)
    }

    /// The branch parameter, empty without one (RFC 2543).
    pub fn branch(&self) -> &str {
        self.params.iter().find(|(n, _)| n == "branch").and_then(|(_, v)| v.as_deref()).unwrap_or("")
    }

    /// Written in canonical form.
    pub fn write(&self) -> String {
        format!("SIP/2.0/{} {}{}", self.transport, self.sent_by, write_params(&self.params))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_lines_and_compact_names_become_one_plain_header() {
        let raw = b"OPTIONS sip:a@b SIP/2.0\r\nv : SIP / 2.0\r\n /UDP\r\n  192.0.2.2;branch=x\r\nTO :\r\n sip:a@b ; tag = 1\r\n\r\n";
        let w = Wire::parse(raw).unwrap();
        let via = &Via::all(&w).unwrap()[0];
        assert_eq!(via.write(), "SIP/2.0/UDP 192.0.2.2;branch=x");
        assert_eq!(NameAddr::parse(w.get("to").unwrap()).unwrap().tag(), Some("1"));
    }

    #[test]
    fn every_byte_before_the_colon_is_either_trimmed_or_refused() {
        for b in 0..=255u8 {
            let mut raw = b"OPTIONS sip:a@b SIP/2.0\r\nX-Secret".to_vec();
            raw.push(b);
            raw.extend(b": yes\r\n\r\n");
            let Ok(w) = Wire::parse(&raw) else { continue };
            let seen = w.get("x-secret").is_some();
            let is_blank = matches!(b, b' ' | b'\t');
            assert!(w.broken.is_some() || seen == is_blank || b == b':' || is_token_byte(b), "byte {b}");
            if !is_blank && b != b':' {
                assert!(!seen, "byte {b} let the name through");
            }
        }
    }

    #[test]
    fn a_tag_is_found_wherever_it_stands() {
        for (text, tag) in [
            ("<sip:a@b>;tag=1", Some("1")),
            ("\"x;tag=9\" <sip:a@b;tag=8>;y=\">;tag=7\" ; TAG = 2", Some("2")),
            ("sip:a@b;tag=3", Some("3")),
            ("<sip:a@b;tag=8>", None),
            ("<sip:a@b>;tag", None),
        ] {
            assert_eq!(tag_of(text), tag, "{text}");
            assert_eq!(NameAddr::parse(text).unwrap().tag(), tag, "{text}");
        }
        assert_eq!(tag_of("<sip:a@b>;"), None);
        assert!(NameAddr::parse("<sip:a@b>;").is_none());
    }

    #[test]
    fn a_name_with_an_open_quote_or_a_bare_comma_is_refused() {
        assert!(NameAddr::parse("\"Mr. J. User <sip:j.user@example.com>").is_none());
        assert!(NameAddr::parse("Bell, Alexander <sip:a@b>;tag=4").is_none());
        assert!(NameAddr::parse("sip:user@example.com?Route=%3Csip:sip.example.com%3E").is_none());
        let ok = NameAddr::parse("\"J \\\\\\\"\"       <sip:j@b>  ;  tag = 98asjd8").unwrap();
        assert_eq!(ok.display.as_deref(), Some("J \\\""));
        assert_eq!(ok.tag(), Some("98asjd8"));
        assert_eq!(NameAddr::parse(&ok.write()), Some(ok));
    }
}
