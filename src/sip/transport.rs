//! The transports of SIP (RFC 3261 section 18, RFC 7118).

use std::net::SocketAddr;

/// What a message travels by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Transport {
    /// Datagrams.
    #[default]
    Udp,
    /// A connection in clear.
    Tcp,
    /// A connection under TLS.
    Tls,
    /// WebSocket in clear.
    Ws,
    /// WebSocket under TLS.
    Wss,
}

impl Transport {
    /// All of them.
    pub const ALL: [Transport; 5] = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];

    /// Its name as in `;transport=` and in Via.
    pub const fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Ws => "ws",
            Transport::Wss => "wss",
        }
    }

    /// From the name of a parameter.
    pub fn from_name(name: &str) -> Option<Transport> {
        Transport::ALL.into_iter().find(|t| t.name().eq_ignore_ascii_case(name))
    }

    /// Whether it is a connection.
    pub const fn is_stream(self) -> bool {
        !matches!(self, Transport::Udp)
    }

    /// Whether nobody on the way can read it.
    pub const fn is_secure(self) -> bool {
        matches!(self, Transport::Tls | Transport::Wss)
    }

    /// Whether a browser speaks it.
    pub const fn is_web(self) -> bool {
        matches!(self, Transport::Ws | Transport::Wss)
    }

    /// Port where nothing else is said (RFC 3261 section 19.1.2, RFC 7118 section 5).
    pub const fn default_port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp => 5060,
            Transport::Tls => 5061,
            Transport::Ws => 80,
            Transport::Wss => 443,
        }
    }

    /// What a URI of ours needs to be reached this way; nothing for UDP. Both kinds of WebSocket are `ws` in a URI
    /// (RFC 7118 section 5.2.1).
    pub(super) const fn param(self) -> &'static str {
        match self {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
            Transport::Tls => ";transport=tls",
            Transport::Ws | Transport::Wss => ";transport=ws",
        }
    }
}

/// Where a message goes or came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Hop {
    pub transport: Transport,
    pub at: SocketAddr,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
