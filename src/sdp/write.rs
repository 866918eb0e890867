//! Writing a description: `to_string()`, lines ended by CRLF, in the order RFC 8866 asks for.

use super::session::{Attribute, Connection, Media, Session};
use std::fmt;

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let o = &self.origin;
        write!(f, "v=0\r\no={} {} {} IN {}\r\n", o.username, o.session_id, o.version, o.address)?;
        write!(f, "s={}\r\n", self.name)?;
        if let Some(connection) = &self.connection {
            write!(f, "{connection}")?;
        }
        for time in &self.times {
            write!(f, "t={time}\r\n")?;
        }
        self.attributes.iter().try_for_each(|a| write!(f, "{a}"))?;
        self.media.iter().try_for_each(|m| write!(f, "{m}"))
    }
}

impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m={} {}", self.kind, self.port)?;
        if let Some(ports) = self.ports {
            write!(f, "/{ports}")?;
        }
        write!(f, " {}", self.protocol)?;
        self.formats.iter().try_for_each(|format| write!(f, " {format}"))?;
        f.write_str("\r\n")?;
        if let Some(connection) = &self.connection {
            write!(f, "{connection}")?;
        }
        self.attributes.iter().try_for_each(|a| write!(f, "{a}"))
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c=IN {} {}\r\n", self.kind, self.address)
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "a={}:{value}\r\n", self.name),
            None => write!(f, "a={}\r\n", self.name),
        }
    }
}
