//! A session description as a value.

use std::net::IpAddr;

/// The codecs of this hotline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// G.711 A-law, static payload type 8.
    Pcma,
    /// G.711 mu-law, static payload type 0.
    Pcmu,
    /// G.722 at 64 kbit/s, static payload type 9; its clock is 8 kHz though its sound is 16 kHz (RFC 3551, 4.5.2).
    G722,
    /// G.729, static payload type 18.
    G729,
    /// Opus (RFC 7587), no payload type of its own.
    Opus,
}

impl Codec {
    /// Every codec there is.
    pub const ALL: [Codec; 5] = [Codec::Pcma, Codec::Pcmu, Codec::G722, Codec::G729, Codec::Opus];

    /// The payload type that RFC 3551 gives it, or the one that we give it in our offers.
    pub const fn static_payload_type(self) -> u8 {
        match self {
            Codec::Pcma => 8,
            Codec::Pcmu => 0,
            Codec::G722 => 9,
            Codec::G729 => 18,
            Codec::Opus => 111,
        }
    }

    /// Whether its payload type means it without a word.
    pub const fn is_static(self) -> bool {
        !matches!(self, Codec::Opus)
    }

    /// Its RTP clock in Hz.
    pub const fn clock(self) -> u32 {
        match self {
            Codec::Pcma | Codec::Pcmu | Codec::G722 | Codec::G729 => 8000,
            Codec::Opus => 48_000,
        }
    }

    /// The codec of this name, in any case.
    pub fn named(name: &str) -> Option<Codec> {
        Codec::ALL.into_iter().find(|c| c.name().eq_ignore_ascii_case(name))
    }

    /// Its name in `a=rtpmap`.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::Pcma => "PCMA",
            Codec::Pcmu => "PCMU",
            Codec::G722 => "G722",
            Codec::G729 => "G729",
            Codec::Opus => "opus",
        }
    }
}

/// Which way media flows, seen from the one who writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// Both ways (also when nothing is said).
    #[default]
    SendRecv,
    /// The writer sends only.
    SendOnly,
    /// The writer receives only.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// From whether the writer sends and receives.
    pub const fn new(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }

    /// Whether the writer sends.
    pub const fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whether the writer receives.
    pub const fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }

    /// As the name of an attribute.
    pub const fn as_str(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    /// From the name of an attribute.
    pub fn from_attribute(name: &str) -> Option<Self> {
        match name {
            "sendrecv" => Some(Direction::SendRecv),
            "sendonly" => Some(Direction::SendOnly),
            "recvonly" => Some(Direction::RecvOnly),
            "inactive" => Some(Direction::Inactive),
            _ => None,
        }
    }
}

/// `a=name` or `a=name:value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Before the colon.
    pub name: String,
    /// After the colon, if there is one.
    pub value: Option<String>,
}

impl Attribute {
    /// `a=name`.
    pub fn flag(name: &str) -> Self {
        Attribute { name: name.into(), value: None }
    }

    /// `a=name:value`.
    pub fn new(name: &str, value: impl Into<String>) -> Self {
        Attribute { name: name.into(), value: Some(value.into()) }
    }
}

/// `o=`: who made the description, and its version. Numbers stay text: peers write more digits than 64 bits hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// User name, `-` for none.
    pub username: String,
    /// Session id, digits.
    pub session_id: String,
    /// Version, digits; rises when the description changes.
    pub version: String,
    /// Address type and address, as `IP4 192.0.2.1`.
    pub address: String,
}

/// `c=`: where media goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// `IP4` or `IP6`.
    pub kind: String,
    /// An address, a host name, or a multicast address with `/ttl`.
    pub address: String,
}

impl Connection {
    /// To an address.
    pub fn new(addr: IpAddr) -> Self {
        Connection { kind: kind_of(addr).into(), address: addr.to_string() }
    }

    /// The address, if it is a numeric one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.parse().ok()
    }
}

/// `IP4` or `IP6`.
pub(super) fn kind_of(addr: IpAddr) -> &'static str {
    if addr.is_ipv4() { "IP4" } else { "IP6" }
}

/// `m=` and the lines below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// `audio`, `video`, ...
    pub kind: String,
    /// Port; 0 refuses the stream.
    pub port: u16,
    /// Number of ports (`m=audio 4000/2`), usually absent.
    pub ports: Option<u16>,
    /// `RTP/AVP` and the like.
    pub protocol: String,
    /// Payload types or other formats, in order of preference.
    pub formats: Vec<String>,
    /// Its own `c=`.
    pub connection: Option<Connection>,
    /// Its attributes, in order.
    pub attributes: Vec<Attribute>,
}

/// A whole description. Lines nobody here acts on (`i= u= e= p= b= z= k= r=`) are read over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// `o=`.
    pub origin: Origin,
    /// `s=`; `-` for none (RFC 8866 forbids an empty one).
    pub name: String,
    /// `c=` for all media that have none.
    pub connection: Option<Connection>,
    /// `t=` lines, as written; at least one.
    pub times: Vec<String>,
    /// Attributes of the whole.
    pub attributes: Vec<Attribute>,
    /// The streams, in order.
    pub media: Vec<Media>,
}

impl Media {
    /// Value of the first attribute of this name (`Some("")` for one without a value).
    pub fn attribute(&self, name: &str) -> Option<&str> {
        find(&self.attributes, name)
    }

    /// Its direction, or none when it does not say.
    pub fn direction(&self) -> Option<Direction> {
        self.attributes.iter().find_map(|a| Direction::from_attribute(&a.name))
    }
}

impl Session {
    /// Value of the first session attribute of this name (`Some("")` for one without a value).
    pub fn attribute(&self, name: &str) -> Option<&str> {
        find(&self.attributes, name)
    }

    /// A stream's direction: its own, or the session's, or both ways.
    pub fn direction_of(&self, media: &Media) -> Direction {
        let session = || self.attributes.iter().find_map(|a| Direction::from_attribute(&a.name));
        media.direction().or_else(session).unwrap_or_default()
    }

    /// Where a stream's media goes: its own `c=`, or the session's.
    pub fn connection_of<'a>(&'a self, media: &'a Media) -> Option<&'a Connection> {
        media.connection.as_ref().or(self.connection.as_ref())
    }
}

fn find<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a str> {
    attributes.iter().find(|a| a.name.eq_ignore_ascii_case(name)).map(|a| a.value.as_deref().unwrap_or(""))
}
