//! Reading a description: strict about what is needed, patient about the rest.

use super::session::{Attribute, Connection, Media, Origin, Session};

/// Most bytes read.
pub const MAX_BYTES: usize = 64 * 1024;
/// Most lines read.
pub const MAX_LINES: usize = 1000;

/// Why a body is not a session description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// Over [`MAX_BYTES`].
    #[error("the session description has {0} bytes, more than the {MAX_BYTES} allowed")]
    TooLong(usize),
    /// Over [`MAX_LINES`].
    #[error("the session description has more than {MAX_LINES} lines")]
    TooManyLines,
    /// It does not begin with `v=0`.
    #[error("the session description does not begin with v=0")]
    Version,
    /// A line that cannot be understood.
    #[error("line {line} of the session description is malformed: {why}")]
    Line {
        /// From 1.
        line: usize,
        /// What was expected.
        why: &'static str,
    },
    /// No `o=` line.
    #[error("the session description has no o= line")]
    NoOrigin,
}

/// Reads a description. Lines may end in CRLF, LF or CR; empty lines are read over; bytes that are no UTF-8 are replaced.
pub fn parse(body: &[u8]) -> Result<Session, SdpError> {
    if body.len() > MAX_BYTES {
        return Err(SdpError::TooLong(body.len()));
    }
    let text = String::from_utf8_lossy(body);
    let lines = text.split(['\r', '\n']).map(|l| l.trim_end_matches([' ', '\t']));
    let mut lines = lines.enumerate().filter(|(_, l)| !l.is_empty());
    if lines.next().map(|(_, first)| first.trim_start_matches('\u{feff}')) != Some("v=0") {
        return Err(SdpError::Version);
    }
    let mut builder = Builder::default();
    for (count, (_, line)) in lines.enumerate() {
        // Counted without empty lines: the halves of CRLF are no lines of their own. The first one was v=0.
        let number = count + 2;
        if number > MAX_LINES {
            return Err(SdpError::TooManyLines);
        }
        builder.line(line).map_err(|why| SdpError::Line { line: number, why })?;
    }
    let origin = builder.origin.ok_or(SdpError::NoOrigin)?;
    Ok(Session {
        origin,
        name: if builder.name.is_empty() { "-".into() } else { builder.name },
        connection: builder.connection,
        times: if builder.times.is_empty() { vec!["0 0".into()] } else { builder.times },
        attributes: builder.attributes,
        media: builder.media,
    })
}

#[derive(Default)]
struct Builder {
    origin: Option<Origin>,
    name: String,
    connection: Option<Connection>,
    times: Vec<String>,
    attributes: Vec<Attribute>,
    media: Vec<Media>,
}

impl Builder {
    fn line(&mut self, line: &str) -> Result<(), &'static str> {
        if line.bytes().any(|b| b.is_ascii_control() && b != b'\t') {
            return Err("control characters are not allowed");
        }
        let (kind, value) = line.split_once('=').ok_or("a letter, an equals sign and a value are expected")?;
        match (kind, self.media.last_mut()) {
            ("o", None) => self.origin = Some(origin(value)?),
            ("s", None) => self.name = value.into(),
            ("t", None) => self.times.push(value.into()),
            ("c", None) => self.connection = Some(connection(value)?),
            ("c", Some(media)) => media.connection = Some(connection(value)?),
            ("a", None) => self.attributes.push(attribute(value)?),
            ("a", Some(media)) => media.attributes.push(attribute(value)?),
            ("m", _) => self.media.push(media(value)?),
            (kind, _) if kind.len() == 1 => {}
            _ => return Err("the type before the equals sign must be one letter"),
        }
        Ok(())
    }
}

fn origin(value: &str) -> Result<Origin, &'static str> {
    let fields: Vec<&str> = value.split_ascii_whitespace().collect();
    // A user name with blanks in it is wrong, but seen: the last five fields are what counts.
    let [username @ .., session_id, version, net, kind, address] = &fields[..] else {
        return Err("o= needs a user, a session id, a version and an address");
    };
    if !net.eq_ignore_ascii_case("IN") {
        return Err("the network type must be IN");
    }
    Ok(Origin {
        username: if username.is_empty() { "-".into() } else { username.join("_") },
        session_id: (*session_id).into(),
        version: (*version).into(),
        address: format!("{kind} {address}"),
    })
}

fn connection(value: &str) -> Result<Connection, &'static str> {
    let mut fields = value.split_ascii_whitespace();
    let (Some(net), Some(kind), Some(address)) = (fields.next(), fields.next(), fields.next()) else {
        return Err("c= needs IN, IP4 or IP6, and an address");
    };
    if !net.eq_ignore_ascii_case("IN") {
        return Err("the network type must be IN");
    }
    let kind = kind.to_ascii_uppercase();
    if kind != "IP4" && kind != "IP6" {
        return Err("the address type must be IP4 or IP6");
    }
    Ok(Connection { kind, address: address.into() })
}

fn attribute(value: &str) -> Result<Attribute, &'static str> {
    let (name, value) = match value.split_once(':') {
        Some((name, value)) => (name, Some(value)),
        None => (value, None),
    };
    if name.is_empty() {
        return Err("an attribute needs a name");
    }
    Ok(Attribute { name: name.into(), value: value.map(Into::into) })
}

fn media(value: &str) -> Result<Media, &'static str> {
    let mut fields = value.split_ascii_whitespace();
    let (Some(kind), Some(port), Some(protocol)) = (fields.next(), fields.next(), fields.next()) else {
        return Err("m= needs a kind, a port, a protocol and formats");
    };
    let (port, ports) = match port.split_once('/') {
        Some((port, ports)) => (port, Some(ports.parse().map_err(|_| "the number of ports must be 0 to 65535")?)),
        None => (port, None),
    };
    let port = port.parse().map_err(|_| "the port must be 0 to 65535")?;
    let formats = fields.map(Into::into).collect();
    Ok(Media {
        kind: kind.into(),
        port,
        ports,
        protocol: protocol.into(),
        formats,
        connection: None,
        attributes: vec![],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::Direction;
    use proptest::prelude::*;

    const PLAIN: &str = "v=0\r\no=alice 2890844526 99999999999999999999999 IN IP4 host.example\r\ns=a call\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\na=sendonly\r\nm=audio 49170 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\nm=video 0 RTP/AVP 96\r\nc=IN IP6 2001:db8::1\r\n";

    #[test]
    fn an_ordinary_description_is_read_whatever_its_line_ends() {
        let session = parse(PLAIN.as_bytes()).unwrap();
        assert_eq!(session.origin.version, "99999999999999999999999");
        assert_eq!(session.media.len(), 2);
        assert_eq!(session.direction_of(&session.media[0]), Direction::SendOnly);
        assert_eq!(session.media[0].formats, ["8", "0", "101"]);
        assert_eq!(session.connection_of(&session.media[1]).unwrap().ip(), "2001:db8::1".parse().ok());
        for end in ["\n", "\r"] {
            assert_eq!(parse(PLAIN.replace("\r\n", end).as_bytes()).unwrap(), session);
        }
    }

    #[test]
    fn an_error_names_the_line() {
        let broken = PLAIN.replace("49170", "70000");
        let why = "the port must be 0 to 65535";
        assert_eq!(parse(broken.as_bytes()), Err(SdpError::Line { line: 7, why }));
        assert_eq!(parse(b""), Err(SdpError::Version));
        assert_eq!(parse(b"v=0\r\ns=-\r\n"), Err(SdpError::NoOrigin));
    }

    #[test]
    fn size_and_lines_have_a_limit() {
        let long = format!("{PLAIN}{}", "a=x\r\n".repeat(1000));
        assert_eq!(parse(long.as_bytes()), Err(SdpError::TooManyLines));
        assert_eq!(parse(&vec![b'a'; MAX_BYTES + 1]), Err(SdpError::TooLong(MAX_BYTES + 1)));
        let just = format!("{PLAIN}{}", "a=x\r\n".repeat(MAX_LINES - 10));
        assert!(parse(just.as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_lines_make_it_panic_and_what_is_read_can_be_written(
            lines in proptest::collection::vec("[vosctmabkz]=[ -~]{0,40}", 0..30)
        ) {
            let body = format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n{}\r\n", lines.join("\r\n"));
            if let Ok(session) = parse(body.as_bytes()) {
                prop_assert_eq!(parse(session.to_string().as_bytes()), Ok(session));
            }
        }
    }
}
