//! Who calls, as far as a message says it: asserted numbers, and whom the call was meant for before.

use super::uri::SipUri;
use super::wire::{NameAddr, Wire, split_outside};

/// Forwardings kept of one call.
const MAX_DIVERSIONS: usize = 10;

/// A call's forwarding (RFC 5806, RFC 7044).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diversion {
    /// The number that was dialled and forwarded.
    pub number: String,
    /// `unconditional`, `user-busy`, `no-answer` and the like, as it was given.
    pub reason: Option<String>,
}

/// What a call says of its origin. Only a trunk's word is taken for the first three; from anybody else they are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Name of the trunk it came by.
    pub trunk: Option<String>,
    /// P-Asserted-Identity (RFC 3325): the caller's number as the carrier vouches for it.
    pub asserted: Option<String>,
    /// Latest forwarding first.
    pub diversions: Vec<Diversion>,
    /// The caller asks that the number be shown to nobody (RFC 3323).
    pub private: bool,
}

impl Identity {
    /// Of an INVITE that came by `trunk`.
    pub(super) fn of(wire: &Wire, trunk: Option<String>) -> Identity {
        let private =
            wire.all("privacy").any(|v| v.split([';', ',']).any(|p| matches!(p.trim(), "id" | "user" | "header")));
        if trunk.is_none() {
            return Identity { private, ..Identity::default() };
        }
        let mut diversions: Vec<Diversion> = values(wire, "diversion").filter_map(diversion).collect();
        if diversions.is_empty() {
            diversions = values(wire, "history-info").filter_map(history).collect();
            diversions.reverse(); // History-Info tells the first one first
        }
        diversions.truncate(MAX_DIVERSIONS);
        let asserted = values(wire, "p-asserted-identity").find_map(|v| number(&NameAddr::parse(v)?.uri));
        Identity { trunk, asserted, diversions, private }
    }
}

fn values<'w>(wire: &'w Wire, name: &'static str) -> impl Iterator<Item = &'w str> {
    wire.all(name).filter_map(|header| split_outside(header, b',')).flatten().map(str::trim)
}

/// User part of a SIP address, or the number of a `tel:` one.
fn number(uri: &str) -> Option<String> {
    SipUri::parse(uri).ok()?.user.filter(|u| !u.is_empty())
}

fn diversion(value: &str) -> Option<Diversion> {
    let address = NameAddr::parse(value)?;
    let reason = address.param("reason").map(|r| r.trim_matches('"').to_string());
    Some(Diversion { number: number(&address.uri)?, reason })
}

/// An entry of History-Info that says it was retargeted: it carries a Reason of a SIP cause inside its address.
fn history(value: &str) -> Option<Diversion> {
    let address = NameAddr::parse(value)?;
    let uri = SipUri::parse(&address.uri).ok()?;
    let embedded = uri.headers.as_deref().and_then(|h| {
        h.split('&').find_map(|pair| pair.split_once('=').filter(|(n, _)| n.eq_ignore_ascii_case("reason")))
    });
    let reason = match (embedded, uri.param("cause")) {
        (Some((_, text)), _) => Some(text.replace("%3B", ";").replace("%3D", "=").replace("%20", " ")),
        (None, Some(cause)) => Some(format!("cause={cause}")),
        (None, None) => return None,
    };
    Some(Diversion { number: uri.user.filter(|u| !u.is_empty())?, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(headers: &str, trunk: Option<&str>) -> Identity {
        let text = format!("INVITE sip:400@h SIP/2.0\r\n{headers}\r\n");
        Identity::of(&Wire::parse(text.as_bytes()).unwrap(), trunk.map(String::from))
    }

    const CLAIMS: &str = "P-Asserted-Identity: \"Zhang\" <sip:+8613800138000@carrier;user=phone>, <tel:+8613800138000>\r\n\
        Diversion: <sip:4001@h>;reason=no-answer;counter=1, <sip:4000@h>;reason=\"user-busy\"\r\n";

    #[test]
    fn what_a_trunk_asserts_is_taken_and_what_anybody_else_asserts_is_not() {
        let told = identity(CLAIMS, Some("carrier"));
        assert_eq!(told.asserted.as_deref(), Some("+8613800138000"));
        let of = |number: &str, reason: &str| Diversion { number: number.into(), reason: Some(reason.into()) };
        assert_eq!(told.diversions, [of("4001", "no-answer"), of("4000", "user-busy")]);
        assert_eq!(identity(CLAIMS, None), Identity::default());
    }

    #[test]
    fn a_forwarding_is_read_from_history_info_too_and_the_last_comes_first() {
        let told = identity(
            "History-Info: <sip:4000@h?Reason=SIP%3Bcause%3D302>;index=1, <sip:4001@h;cause=486>;index=1.1,\r\n \
             <sip:400@h>;index=1.2\r\nPrivacy: id;critical\r\n",
            Some("carrier"),
        );
        let numbers: Vec<&str> = told.diversions.iter().map(|d| d.number.as_str()).collect();
        assert_eq!(numbers, ["4001", "4000"]);
        assert_eq!(told.diversions[1].reason.as_deref(), Some("SIP;cause=302"));
        assert!(told.private);
    }
}
