//! STUN messages of ICE (RFC 8489, RFC 8445): what we read from one, and the four we write.

use rtc::crypto::RTCCrypto;
use rtc::stun::attributes::{
    ATTR_FINGERPRINT, ATTR_ICE_CONTROLLED, ATTR_ICE_CONTROLLING, ATTR_MESSAGE_INTEGRITY, ATTR_PRIORITY,
    ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType,
};
use rtc::stun::error_code::{CODE_ROLE_CONFLICT, ErrorCodeAttribute};
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{
    BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, CLASS_ERROR_RESPONSE, CLASS_REQUEST, CLASS_SUCCESS_RESPONSE,
    Getter, METHOD_BINDING, Message, Setter, TransactionId,
};
use rtc::stun::xoraddr::XorMappedAddress;
use std::net::SocketAddr;

/// Bytes of a SHA-1 HMAC.
const INTEGRITY_LEN: usize = 20;

/// Pairs an answer with its request.
pub(super) type Id = [u8; 12];

/// What kind of message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Success,
    Error,
}

/// Who decides which pair is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Controlling,
    Controlled,
}

/// A binding message. What it says is the peer's word only after [`Stun::is_by`].
#[derive(Debug)]
pub(super) struct Stun {
    pub kind: Kind,
    pub id: Id,
    /// Of the request, `receiver:sender`.
    pub username: String,
    pub priority: u32,
    pub use_candidate: bool,
    /// The role its sender takes, with its tie-breaker.
    pub role: Option<(Role, u64)>,
    /// 487 and the like, of an error.
    pub error: u16,
    message: Message,
}

impl Stun {
    /// Reads a whole datagram. None for what is no binding message, has no valid FINGERPRINT (RFC 8445, 7: every message
    /// of ICE has one), or is an indication, which asks for nothing.
    pub fn parse(datagram: &[u8]) -> Option<Stun> {
        let mut message = Message { raw: datagram.to_vec(), ..Message::default() };
        message.decode().ok()?;
        let whole = message.raw.len() == 20 + message.length as usize;
        if !whole || message.typ.method != METHOD_BINDING || !has_fingerprint(&message) {
            return None;
        }
        let kind = match message.typ.class {
            CLASS_REQUEST => Kind::Request,
            CLASS_SUCCESS_RESPONSE => Kind::Success,
            CLASS_ERROR_RESPONSE => Kind::Error,
            _ => return None,
        };
        let mut stun = Stun {
            kind,
            id: message.transaction_id.0,
            username: String::new(),
            priority: 0,
            use_candidate: false,
            role: None,
            error: 0,
            message: Message::default(),
        };
        // What stands after the integrity is nobody's word.
        for attribute in message.attributes.0.iter().take_while(|a| a.typ != ATTR_MESSAGE_INTEGRITY) {
            let value = attribute.value.as_slice();
            match attribute.typ {
                ATTR_USERNAME => stun.username = String::from_utf8_lossy(value).into_owned(),
                ATTR_PRIORITY => stun.priority = u32::from_be_bytes(value.try_into().ok()?),
                ATTR_USE_CANDIDATE => stun.use_candidate = true,
                ATTR_ICE_CONTROLLED => stun.role = Some((Role::Controlled, u64::from_be_bytes(value.try_into().ok()?))),
                ATTR_ICE_CONTROLLING => {
                    stun.role = Some((Role::Controlling, u64::from_be_bytes(value.try_into().ok()?)))
                }
                _ => {}
            }
        }
        let mut error = ErrorCodeAttribute::default();
        if kind == Kind::Error && error.get_from(&message).is_ok() {
            stun.error = error.code.0;
        }
        stun.message = message;
        Some(stun)
    }

    /// Whether it was written by one who knows this password.
    pub fn is_by(&mut self, pwd: &str, crypto: &dyn RTCCrypto) -> bool {
        let integrity = self.message.attributes.0.iter().find(|a| a.typ == ATTR_MESSAGE_INTEGRITY);
        integrity.is_some_and(|a| a.value.len() == INTEGRITY_LEN)
            && MessageIntegrity::check(&mut self.message, pwd.as_bytes(), crypto).is_ok()
    }
}

/// Whether a message ends with a fingerprint, and the right one.
fn has_fingerprint(message: &Message) -> bool {
    message.attributes.0.last().is_some_and(|a| a.typ == ATTR_FINGERPRINT && a.value.len() == 4)
        && FINGERPRINT.check(message).is_ok()
}

/// An attribute as bytes.
struct Raw(AttrType, Vec<u8>);

impl Setter for Raw {
    fn add_to(&self, message: &mut Message) -> Result<(), rtc::shared::error::Error> {
        message.add(self.0, &self.1);
        Ok(())
    }
}

fn build(setters: &[Box<dyn Setter + '_>]) -> Vec<u8> {
    let mut message = Message::new();
    match message.build(setters) {
        Ok(()) => message.raw,
        Err(_) => Vec::new(), // of fixed size throughout: it always fits
    }
}

/// A connectivity or consent check.
pub(super) struct Check<'a> {
    pub id: Id,
    /// `peer:ours`.
    pub username: String,
    /// The peer's password.
    pub pwd: &'a str,
    /// What the peer shall take a candidate learned from this check for.
    pub priority: u32,
    pub role: Role,
    pub tie: u64,
    pub use_candidate: bool,
}

impl Check<'_> {
    /// As bytes.
    pub fn write(&self, crypto: &dyn RTCCrypto) -> Vec<u8> {
        let role = match self.role {
            Role::Controlling => ATTR_ICE_CONTROLLING,
            Role::Controlled => ATTR_ICE_CONTROLLED,
        };
        let mut setters: Vec<Box<dyn Setter + '_>> = vec![
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId(self.id)),
            Box::new(Raw(ATTR_USERNAME, self.username.clone().into_bytes())),
            Box::new(Raw(ATTR_PRIORITY, self.priority.to_be_bytes().to_vec())),
            Box::new(Raw(role, self.tie.to_be_bytes().to_vec())),
        ];
        if self.use_candidate {
            setters.push(Box::new(Raw(ATTR_USE_CANDIDATE, Vec::new())));
        }
        setters.push(integrity(self.pwd, crypto));
        setters.push(Box::new(FINGERPRINT));
        build(&setters)
    }
}

fn integrity<'a>(pwd: &str, crypto: &'a dyn RTCCrypto) -> Box<MessageIntegrity<'a>> {
    Box::new(MessageIntegrity::new_short_term_integrity_with_provider(pwd.to_owned(), crypto))
}

/// Our answer to a check that came from there.
pub(super) fn success(id: Id, from: SocketAddr, pwd: &str, crypto: &dyn RTCCrypto) -> Vec<u8> {
    build(&[
        Box::new(BINDING_SUCCESS),
        Box::new(TransactionId(id)),
        Box::new(XorMappedAddress { ip: from.ip(), port: from.port() }),
        integrity(pwd, crypto),
        Box::new(FINGERPRINT),
    ])
}

/// Our answer to a check whose sender takes the role that is ours.
pub(super) fn role_conflict(id: Id, pwd: &str, crypto: &dyn RTCCrypto) -> Vec<u8> {
    build(&[
        Box::new(BINDING_ERROR),
        Box::new(TransactionId(id)),
        Box::new(CODE_ROLE_CONFLICT),
        integrity(pwd, crypto),
        Box::new(FINGERPRINT),
    ])
}
