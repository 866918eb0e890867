//! What the description of a browser, or of a phone with DTLS-SRTP, says beside its codecs, and what ours answers: ICE
//! (RFC 8839), DTLS (RFC 8842, 8122), one port for all (RFC 5761, 8843). Codecs and directions are left to [`crate::sdp`],
//! to which such a stream is shown as a plain one.

use super::ice::{Generation, HOST_PRIORITY, MAX_REMOTE, Remote};
use super::identity::{Credentials, Identity};
use super::stun::Role;
use super::{Obstacle, THROUGH, runs_over_dtls, stream};
use crate::sdp::{self, Attribute, Capabilities, Connection, Media, MediaPlan, NegotiationError, Session, Srtp};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Protocol of the streams we offer.
const PROTOCOL: &str = "UDP/TLS/RTP/SAVPF";
/// Priority of an address a STUN server told us (RFC 8445, 5.1.2.1).
const MAPPED_PRIORITY: u32 = (100 << 24) | (65_535 << 8) | 255;
/// Longest name and password of ICE that count (RFC 8839, 5.4).
const CREDENTIAL_LENGTHS: (std::ops::RangeInclusive<usize>, std::ops::RangeInclusive<usize>) = (4..=256, 22..=256);

/// What a transport needs to know of an agreement.
#[derive(Debug, Clone)]
pub struct Agreed {
    pub(super) identity: Arc<Identity>,
    pub(super) both: Generation,
    pub(super) role: Role,
    pub(super) remotes: Vec<Remote>,
    /// Where the peer is, of one that does no ICE.
    pub(super) described: Option<SocketAddr>,
    /// Where its signalling comes from.
    pub(super) signalling: Option<IpAddr>,
    /// We say hello (RFC 8842, 5.3).
    pub(super) is_client: bool,
    pub(super) fingerprints: Vec<String>,
    /// Both sides have new credentials.
    pub(super) restarted: bool,
    /// See [`Agreed::known`].
    pub(super) known: bool,
}

impl Agreed {
    /// The same, of a peer who is known to be where it says: it is sent to before it has confirmed the call.
    pub fn known(self) -> Agreed {
        Agreed { known: true, ..self }
    }
}

/// One leg's side of its descriptions, for the life of its dialog.
#[derive(Debug)]
pub struct Negotiator {
    identity: Arc<Identity>,
    /// Where our socket is reached, the best address first.
    addresses: Vec<SocketAddr>,
    /// Where a STUN server saw it.
    mapped: Option<SocketAddr>,
    local: Credentials,
    /// As they were last agreed on.
    remote: Option<Credentials>,
    role: Option<Role>,
    is_client: Option<bool>,
    /// The peer does ICE, as far as we know.
    ice: bool,
    signalling: Option<IpAddr>,
}

fn refuse<T>(why: impl Into<String>) -> Result<T, NegotiationError> {
    Err(NegotiationError::NotAcceptable(why.into()))
}

impl Negotiator {
    /// For a leg whose socket is reached at these addresses.
    pub fn new(identity: &Arc<Identity>, addresses: Vec<SocketAddr>) -> Negotiator {
        let (identity, local) = (identity.clone(), identity.credentials());
        Negotiator {
            identity,
            addresses,
            mapped: None,
            local,
            remote: None,
            role: None,
            is_client: None,
            ice: true,
            signalling: None,
        }
    }

    /// The same, of a peer whose signalling comes from there. One without ICE may be there, too: what it says of its own
    /// address is often not what others see (as with plain RTP).
    pub fn signalled_from(mut self, source: IpAddr) -> Negotiator {
        self.signalling = Some(source.to_canonical());
        self
    }

    /// Whether our descriptions name addresses, as far as we know: the peer does ICE.
    pub fn does_ice(&self) -> bool {
        self.ice
    }

    /// A STUN server saw our socket there: later descriptions say so.
    pub fn mapped(&mut self, at: SocketAddr) {
        self.mapped = Some(at);
    }

    /// Makes a plain offer of ours one to a browser.
    pub fn offer(&self, mut offer: Session) -> Session {
        if let Some(media) = offer.media.iter_mut().find(|m| m.kind == "audio" && m.port != 0) {
            let mid = media.attribute("mid").map_or_else(|| "0".to_owned(), str::to_owned);
            media.attributes.retain(|a| a.name != "mid");
            media.attributes.push(Attribute::new("mid", mid.clone()));
            self.describe(media, PROTOCOL, "actpass");
            offer.attributes.push(Attribute::new("group", format!("BUNDLE {mid}")));
        }
        offer
    }

    /// Answers a browser's offer.
    ///
    /// # Errors
    ///
    /// [`NegotiationError`] when codecs or transport cannot be agreed on: answer 488.
    pub fn answer(
        &mut self,
        offer: &Session,
        ours: &Capabilities,
    ) -> Result<(Session, MediaPlan, Agreed), NegotiationError> {
        let Some(index) = stream(offer) else { return refuse("no audio stream over DTLS-SRTP is offered") };
        let theirs = Theirs::of(offer, index)?;
        let is_client = theirs.wants_a_client()?.unwrap_or_else(|| self.is_client.unwrap_or(false));
        // Keys come from the handshake, whatever the policy for keys in descriptions.
        let ours = Capabilities { srtp: Srtp::off(), ..ours.clone() };
        let (mut answer, plan) = sdp::answer(&shown_plain(offer, index), &ours)?;
        let agreed = self.agree(theirs, is_client, Role::Controlled);
        let Some(media) = answer.media.get_mut(index).filter(|m| m.port != 0) else {
            return refuse("the stream over DTLS-SRTP is not the one that was taken");
        };
        let mid = media.attribute("mid").map(str::to_owned);
        let protocol = offer.media.get(index).map_or(PROTOCOL, |m| m.protocol.as_str());
        self.describe(media, protocol, if is_client { "active" } else { "passive" });
        if let Some(mid) = mid.filter(|mid| is_bundled(offer, mid)) {
            answer.attributes.push(Attribute::new("group", format!("BUNDLE {mid}")));
        }
        Ok((answer, plan, agreed))
    }

    /// What the browser's answer to our offer agrees on.
    ///
    /// # Errors
    ///
    /// [`NegotiationError`] when it is no usable answer.
    pub fn accept(&mut self, ours: &Session, answer: &Session) -> Result<(MediaPlan, Agreed), NegotiationError> {
        let Some(index) = stream(ours) else { return refuse("our offer has no audio stream over DTLS-SRTP") };
        let dtls = answer.media.get(index).is_some_and(|m| m.port != 0 && runs_over_dtls(answer, m));
        if !dtls {
            return refuse("the answer takes no audio stream over DTLS-SRTP");
        }
        let theirs = Theirs::of(answer, index)?;
        let is_client = match theirs.setup.as_str() {
            "passive" => true,
            "active" => false,
            other => return refuse(format!("a=setup:{other} is no answer to actpass")),
        };
        let plan = sdp::accept(&shown_plain(ours, index), &shown_plain(answer, index))?;
        Ok((plan, self.agree(theirs, is_client, Role::Controlling)))
    }

    /// Takes over what the peer says. `role` is ours if roles are decided now: whoever offers decides (RFC 8445, 6.1.1).
    fn agree(&mut self, theirs: Theirs, is_client: bool, role: Role) -> Agreed {
        let begun = self.remote.is_some();
        self.ice = theirs.described.is_none();
        let restarted = begun && self.remote.as_ref() != Some(&theirs.credentials);
        if restarted {
            self.local = self.identity.credentials();
        }
        if restarted || !begun {
            self.role = Some(if theirs.is_lite { Role::Controlling } else { role });
        }
        self.remote = Some(theirs.credentials.clone());
        self.is_client = Some(is_client);
        Agreed {
            identity: self.identity.clone(),
            both: Generation { local: self.local.clone(), remote: theirs.credentials },
            role: self.role.unwrap_or(role),
            remotes: theirs.candidates,
            described: theirs.described,
            signalling: self.signalling,
            is_client,
            fingerprints: theirs.fingerprints,
            restarted,
            known: false,
        }
    }

    /// Writes our transport into a stream of ours.
    fn describe(&self, media: &mut Media, protocol: &str, setup: &str) {
        media.protocol = protocol.to_owned();
        media.attributes.retain(|a| a.name != "rtcp" && a.name != "crypto");
        let mut add = |name: &str, value: String| media.attributes.push(Attribute::new(name, value));
        if self.ice {
            add("ice-ufrag", self.local.ufrag.clone());
            add("ice-pwd", self.local.pwd.clone());
        }
        add("fingerprint", format!("sha-256 {}", self.identity.fingerprint));
        add("setup", setup.to_owned());
        // Scripts look for the track's stream by this name (RFC 8830).
        add("msid", "zongji voice".to_owned());
        for (i, addr) in self.addresses.iter().enumerate().filter(|_| self.ice) {
            let priority = HOST_PRIORITY - ((i as u32) << 8);
            add("candidate", format!("{} 1 UDP {priority} {} {} typ host", i + 1, addr.ip(), addr.port()));
        }
        let mapped = self.mapped.filter(|at| self.ice && !self.addresses.contains(at));
        if let (Some(mapped), Some(base)) = (mapped, self.addresses.first()) {
            add("candidate", reflexive(mapped, *base));
        }
        media.attributes.push(Attribute::flag("rtcp-mux"));
        if self.ice {
            media.attributes.push(Attribute::flag("end-of-candidates"));
        }
    }
}

/// The address at which a STUN server saw our socket, as a candidate.
fn reflexive(mapped: SocketAddr, base: SocketAddr) -> String {
    let (ip, port, from) = (mapped.ip(), mapped.port(), base.ip());
    format!("99 1 UDP {MAPPED_PRIORITY} {ip} {port} typ srflx raddr {from} rport {}", base.port())
}

/// Adds the address at which a STUN server saw our socket to a description of ours, where it does ICE.
pub fn with_mapped(described: &str, mapped: SocketAddr) -> String {
    let Ok(mut session) = sdp::parse(described.as_bytes()) else { return described.to_owned() };
    let Some(media) = stream(&session).and_then(|i| session.media.get_mut(i)) else { return described.to_owned() };
    let own = |a: &Attribute| a.name == "candidate";
    let base = media.attributes.iter().find(|a| own(a)).and_then(|a| candidate(a.value.as_deref()?));
    let known = media.attributes.iter().filter(|a| own(a)).filter_map(|a| candidate(a.value.as_deref()?));
    let (Some(base), false) = (base, known.into_iter().any(|c| c.addr == mapped)) else { return described.to_owned() };
    let last = media.attributes.iter().rposition(own).map_or(0, |i| i + 1);
    media.attributes.insert(last, Attribute::new("candidate", reflexive(mapped, base.addr)));
    session.to_string()
}

/// What the peer's description says of the transport of one stream.
struct Theirs {
    credentials: Credentials,
    candidates: Vec<Remote>,
    /// Of a peer that does no ICE: the address its stream names.
    described: Option<SocketAddr>,
    fingerprints: Vec<String>,
    setup: String,
    is_lite: bool,
}

impl Theirs {
    fn of(session: &Session, index: usize) -> Result<Theirs, Obstacle> {
        let Some(media) = session.media.get(index) else { return Err(Obstacle::NoPlace) };
        let value = |name: &str| media.attribute(name).or_else(|| session.attribute(name));
        let (ufrag, pwd, described) = match (value("ice-ufrag"), value("ice-pwd")) {
            (Some(ufrag), Some(pwd)) => {
                if !CREDENTIAL_LENGTHS.0.contains(&ufrag.len()) || !CREDENTIAL_LENGTHS.1.contains(&pwd.len()) {
                    return Err(Obstacle::BadIce);
                }
                (ufrag, pwd, None)
            }
            (None, None) => {
                let place = media.connection.as_ref().or(session.connection.as_ref()).and_then(Connection::ip);
                let ip = place.ok_or(Obstacle::NoPlace)?;
                ("", "", Some(SocketAddr::new(ip, media.port)))
            }
            _ => return Err(Obstacle::BadIce),
        };
        if media.attribute("rtcp-mux").is_none() {
            return Err(Obstacle::NoMux);
        }
        let fingerprints = fingerprints(media, session);
        if fingerprints.is_empty() {
            return Err(Obstacle::NoFingerprint);
        }
        let candidates = media.attributes.iter().filter(|a| a.name.eq_ignore_ascii_case("candidate"));
        Ok(Theirs {
            credentials: Credentials { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() },
            candidates: candidates.filter_map(|a| candidate(a.value.as_deref()?)).take(MAX_REMOTE).collect(),
            described,
            fingerprints,
            // RFC 4145, 4: without one it connects.
            setup: value("setup").unwrap_or("active").trim().to_ascii_lowercase(),
            is_lite: session.attribute("ice-lite").is_some(),
        })
    }

    /// Of an offer: whether we shall say hello; none leaves it to us.
    fn wants_a_client(&self) -> Result<Option<bool>, Obstacle> {
        match self.setup.as_str() {
            "passive" => Ok(Some(true)),
            "active" => Ok(Some(false)),
            "actpass" => Ok(None),
            _ => Err(Obstacle::BadSetup),
        }
    }
}

/// What keeps us from taking an offer over DTLS-SRTP, codecs aside; none of any other offer.
pub fn obstacle(offer: &Session) -> Option<Obstacle> {
    Theirs::of(offer, stream(offer)?).and_then(|theirs| theirs.wants_a_client()).err()
}

/// Of the stream, or of the whole.
fn fingerprints(media: &Media, session: &Session) -> Vec<String> {
    let of = |attributes: &[Attribute]| -> Vec<String> {
        let named = attributes.iter().filter(|a| a.name.eq_ignore_ascii_case("fingerprint"));
        let values = named.filter_map(|a| a.value.as_deref()?.trim().split_once(' '));
        let sha256 = values.filter(|(hash, _)| hash.eq_ignore_ascii_case("sha-256"));
        sha256.map(|(_, value)| value.trim().to_ascii_uppercase()).take(4).collect()
    };
    let own = of(&media.attributes);
    if own.is_empty() { of(&session.attributes) } else { own }
}

/// A candidate we can check: the first component, over UDP, by number. Names (`x.local`, with which browsers hide their
/// addresses) are not looked up: their checks tell where they are.
fn candidate(value: &str) -> Option<Remote> {
    let mut fields = value.split_ascii_whitespace();
    let (_foundation, component, transport) = (fields.next()?, fields.next()?, fields.next()?);
    let (priority, ip, port) = (fields.next()?, fields.next()?, fields.next()?);
    let ip: IpAddr = ip.parse().ok()?;
    let udp = component == "1" && transport.eq_ignore_ascii_case("udp");
    udp.then_some(Remote { addr: SocketAddr::new(ip, port.parse().ok()?), priority: priority.parse().ok()? })
}

/// A description in which one stream is a plain one: what [`crate::sdp`] agrees on then is sent through the transport.
fn shown_plain(session: &Session, index: usize) -> Session {
    let mut plain = session.clone();
    if let Some(media) = plain.media.get_mut(index) {
        media.protocol = "RTP/AVPF".to_owned();
        media.port = THROUGH.port();
        media.connection = Some(Connection::new(THROUGH.ip()));
        media.attributes.retain(|a| !a.name.eq_ignore_ascii_case("rtcp") && !a.name.eq_ignore_ascii_case("crypto"));
    }
    plain
}

fn is_bundled(offer: &Session, mid: &str) -> bool {
    let groups = offer.attributes.iter().filter(|a| a.name.eq_ignore_ascii_case("group"));
    groups.filter_map(|a| a.value.as_deref()).any(|g| {
        let mut words = g.split_ascii_whitespace();
        words.next().is_some_and(|w| w.eq_ignore_ascii_case("bundle")) && words.any(|w| w == mid)
    })
}

#[cfg(test)]
#[path = "description_tests.rs"]
mod tests;
