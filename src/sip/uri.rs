//! SIP and tel URIs, read strictly (RFC 3261 section 19.1, RFC 5118 for IPv6).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Host of a URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    Ip(IpAddr),
    Name(String),
}

/// A URI cut into its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SipUri {
    /// Lower case: `sip`, `sips`, `tel` or something else.
    pub scheme: String,
    /// User part with `%xx` resolved; for `tel:` the number. Never contains what was escaped as structure.
    pub user: Option<String>,
    pub host: Host,
    pub port: Option<u16>,
    /// After the host: `;a=b` as written.
    pub params: String,
    /// After `?`, as written; never turned into headers.
    pub headers: Option<String>,
}

/// Why a URI cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadUri {
    /// Not `sip:` or `tel:`.
    Scheme,
    /// Broken in itself.
    Syntax,
}

impl SipUri {
    /// Reads a URI.
    pub fn parse(text: &str) -> Result<SipUri, BadUri> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '"')) {
            return Err(BadUri::Syntax);
        }
        let (scheme, rest) = text.split_once(':').ok_or(BadUri::Syntax)?;
        let scheme = scheme.to_ascii_lowercase();
        if scheme.is_empty() || !scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) {
            return Err(BadUri::Syntax);
        }
        match scheme.as_str() {
            "sip" | "sips" => sip(scheme, rest),
            "tel" => {
                let cut = rest.find(';').unwrap_or(rest.len());
                let user = rest[..cut].to_string();
                let name = Host::Name("tel.invalid".into());
                if user.is_empty() {
                    return Err(BadUri::Syntax);
                }
                Ok(SipUri {
                    scheme,
                    user: Some(user),
                    host: name,
                    port: None,
                    params: rest[cut..].into(),
                    headers: None,
                })
            }
            _ => Err(BadUri::Scheme),
        }
    }

    /// Value of a URI parameter (`transport`), lower case.
    pub fn param(&self, name: &str) -> Option<String> {
        self.params.split(';').find_map(|p| {
            let (n, v) = p.split_once('=').unwrap_or((p, ""));
            n.eq_ignore_ascii_case(name).then(|| v.to_ascii_lowercase())
        })
    }
}

/// The host of a SIP address, where it is given as a number.
pub fn numeric_host(uri: &str) -> Option<IpAddr> {
    match SipUri::parse(uri).ok()?.host {
        Host::Ip(ip) => Some(ip),
        Host::Name(_) => None,
    }
}

/// Whether this names a server: a `sip:` or `sips:` address without a user.
pub fn is_server(uri: &str) -> bool {
    SipUri::parse(uri).is_ok_and(|u| u.scheme != "tel" && u.user.is_none() && u.headers.is_none())
}

fn sip(scheme: String, rest: &str) -> Result<SipUri, BadUri> {
    if rest.matches('@').count() > 1 {
        return Err(BadUri::Syntax);
    }
    let (user, tail) = match rest.split_once('@') {
        Some((u, t)) => {
            let u = u.split_once(':').map_or(u, |(user, _password)| user);
            let user = unescape(u).filter(|u| !u.is_empty()).ok_or(BadUri::Syntax)?;
            (Some(user), t)
        }
        None => (None, rest),
    };
    let (tail, headers) = match tail.split_once('?') {
        Some((t, h)) => (t, Some(h.to_string())),
        None => (tail, None),
    };
    let cut = tail.find(';').unwrap_or(tail.len());
    let (host, port) = host_port(&tail[..cut]).ok_or(BadUri::Syntax)?;
    Ok(SipUri { scheme, user, host, port, params: tail[cut..].to_string(), headers })
}

/// Reads `host`, `host:port`, `[v6]`, `[v6]:port`. An IPv6 address without brackets is refused.
pub(super) fn host_port(text: &str) -> Option<(Host, Option<u16>)> {
    let (host, port) = if let Some(v6) = text.strip_prefix('[') {
        let (addr, after) = v6.split_once(']')?;
        let host = Host::Ip(IpAddr::V6(addr.parse::<Ipv6Addr>().ok()?));
        match after.strip_prefix(':') {
            Some(p) => (host, Some(p)),
            None if after.is_empty() => (host, None),
            None => return None,
        }
    } else {
        let (name, port) = match text.split_once(':') {
            Some((n, p)) => (n, Some(p)),
            None => (text, None),
        };
        let name_ok = !name.is_empty() && name.len() <= 255;
        if !name_ok || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
            return None;
        }
        match name.parse::<Ipv4Addr>() {
            Ok(ip) => (Host::Ip(IpAddr::V4(ip)), port),
            Err(_) => (Host::Name(name.to_ascii_lowercase()), port),
        }
    };
    let port = match port {
        Some(p) if p.bytes().all(|b| b.is_ascii_digit()) => Some(p.parse::<u16>().ok().filter(|p| *p > 0)?),
        Some(_) => return None,
        None => None,
    };
    Some((host, port))
}

/// Resolves `%xx`; `None` for a bad escape. A decoded NUL or line break stays escaped: no name ends early.
pub(super) fn unescape(text: &str) -> Option<String> {
    unescape_with(text, |v| v < 0x20 || v == 0x7f)
}

fn unescape_with(text: &str, stays: impl Fn(u8) -> bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let (h, l) = (bytes.next()?, bytes.next()?);
        let v = u8::from_str_radix(std::str::from_utf8(&[h, l]).ok()?, 16).ok()?;
        if stays(v) {
            out.extend([b'%', h.to_ascii_uppercase(), l.to_ascii_uppercase()]);
        } else {
            out.push(v);
        }
    }
    String::from_utf8(out).ok()
}

/// Escapes a user part for a URI: what [`unescape`] reads back as `text`.
pub(super) fn escape_user(text: &str) -> String {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().fold(String::new(), |mut s, (i, b)| {
        let stays_escaped = || bytes.get(i..i + 3).and_then(|e| std::str::from_utf8(e).ok()).is_some_and(left_escaped);
        if b.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(b) || *b == b'%' && stays_escaped() {
            s.push(*b as char);
        } else {
            s.push_str(&format!("%{b:02X}"));
        }
        s
    })
}

/// Whether [`unescape`] leaves this `%XX` as it is.
fn left_escaped(escape: &str) -> bool {
    unescape(escape).as_deref() == Some(escape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_needs_its_brackets_and_a_port_stands_outside_them() {
        assert_eq!(SipUri::parse("sip:2001:db8::10"), Err(BadUri::Syntax));
        assert_eq!(SipUri::parse("sip:[2001:db8::10]:5070").unwrap().port, Some(5070));
        assert_eq!(SipUri::parse("sip:[2001:db8::10:5070]").unwrap().port, None);
        assert!(SipUri::parse("sip:user@[2001:db8:::192.0.2.1]").is_err());
        assert!(SipUri::parse("sip:user@[2001:db8::192.0.2.1]").is_ok());
    }

    #[test]
    fn what_was_escaped_in_the_user_never_becomes_structure() {
        let u = SipUri::parse("sip:user;par=u%40example.net@example.com").unwrap();
        assert_eq!(u.user.as_deref(), Some("user;par=u@example.net"));
        assert_eq!(u.host, Host::Name("example.com".into()));
        let u = SipUri::parse("sip:null-%00-null@example.com").unwrap();
        assert_eq!(u.user.as_deref(), Some("null-%00-null"));
    }

    proptest::proptest! {
        #[test]
        fn an_escaped_user_is_read_back(user in "[a-z0-9%:@ 电话]{1,12}|(%00|%0D|%7F|%25|%41|x){1,5}") {
            let uri = format!("sip:{}@h", escape_user(&user));
            proptest::prop_assert_eq!(SipUri::parse(&uri).unwrap().user, Some(user));
        }
    }

    #[test]
    fn blanks_brackets_and_unknown_schemes_are_told_apart() {
        assert_eq!(SipUri::parse("sip:user@example.com; lr"), Err(BadUri::Syntax));
        assert_eq!(SipUri::parse("<sip:user@example.com>"), Err(BadUri::Syntax));
        assert_eq!(SipUri::parse("soap.beep://192.0.2.103:3002"), Err(BadUri::Scheme));
        assert_eq!(SipUri::parse("tel:+8613800138000").unwrap().user.as_deref(), Some("+8613800138000"));
        assert_eq!(SipUri::parse("sip:a@b:0"), Err(BadUri::Syntax));
        assert_eq!(SipUri::parse("sip:a@b:70000"), Err(BadUri::Syntax));
    }
}
