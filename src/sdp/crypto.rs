//! Keys of SRTP in a description (`a=crypto`, RFC 4568).
//!
//! A key here is as secret as the signalling that carries it: over SIP without TLS everybody on the way reads it.

use super::session::{Attribute, Media};
use std::fmt::{self, Write};

/// Bytes of a master key and its salt, as both suites have them.
pub const KEY_BYTES: usize = 30;
/// Longest master key identifier (RFC 4568, 6.1).
const MKI_MOST: u8 = 128;
/// Largest tag: nine digits (RFC 4568, 9.1).
const TAG_MOST: u32 = 999_999_999;

/// What protects the packets (RFC 4568, 6.2): AES in counter mode, HMAC-SHA1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// With a tag of 80 bits on each packet.
    AesCm80,
    /// With a tag of 32 bits on RTP; reports (RTCP) have 80 all the same.
    AesCm32,
}

impl Suite {
    /// Both, the stronger one first.
    pub const ALL: [Suite; 2] = [Suite::AesCm80, Suite::AesCm32];

    /// Its name in `a=crypto`.
    pub const fn name(self) -> &'static str {
        match self {
            Suite::AesCm80 => "AES_CM_128_HMAC_SHA1_80",
            Suite::AesCm32 => "AES_CM_128_HMAC_SHA1_32",
        }
    }

    fn of(name: &str) -> Option<Suite> {
        Suite::ALL.into_iter().find(|s| s.name().eq_ignore_ascii_case(name))
    }

    const fn index(self) -> usize {
        self as usize
    }
}

/// A master key (16 bytes) with its salt (14). Printed, it shows nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key(pub [u8; KEY_BYTES]);

impl Key {
    /// The key proper.
    pub fn master(&self) -> &[u8] {
        &self.0[..16]
    }

    /// The salt.
    pub fn salt(&self) -> &[u8] {
        &self.0[16..]
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// How both directions of a stream are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protection {
    /// The suite, the same both ways.
    pub suite: Suite,
    /// Of what we send.
    pub ours: Key,
    /// Of what we receive.
    pub theirs: Key,
    /// Bytes of the key identifier (MKI) before the tag of each packet we receive; 0 for none.
    pub their_mki: u8,
}

/// Whether calls are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SrtpPolicy {
    /// Never: offers of nothing else are refused.
    Off,
    /// When the peer offers it; our own offers are plain.
    #[default]
    Optional,
    /// Always: plain offers are refused, and ours are not plain.
    Required,
}

/// What one side of a dialog does about SRTP, and its keys. All randomness comes from the caller and must be of
/// cryptographic quality.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Srtp {
    policy: SrtpPolicy,
    /// Ours, by suite.
    keys: [Key; 2],
    /// Ours for when the peer changes its own.
    spare: [Key; 2],
    /// The peer's, once agreed.
    theirs: Option<Key>,
}

impl Srtp {
    /// No encryption at all.
    pub fn off() -> Self {
        let none = [Key([0; KEY_BYTES]); 2];
        Srtp { policy: SrtpPolicy::Off, keys: none, spare: none, theirs: None }
    }

    /// With fresh keys, drawn from `fill` (which fills a slice with secure random bytes).
    pub fn new(policy: SrtpPolicy, mut fill: impl FnMut(&mut [u8])) -> Self {
        let mut srtp = Srtp { policy, ..Srtp::off() };
        for key in srtp.keys.iter_mut().chain(&mut srtp.spare) {
            fill(&mut key.0);
        }
        srtp
    }

    /// The policy.
    pub fn policy(&self) -> SrtpPolicy {
        self.policy
    }

    /// To be called when an offer and its answer agreed: from now on this is what a new key of the peer is told from.
    /// Spare keys that came into use are replaced from `fill`.
    pub fn agreed(&mut self, protection: Option<&Protection>, mut fill: impl FnMut(&mut [u8])) {
        let Some(p) = protection else { return };
        self.theirs = Some(p.theirs);
        if p.ours == self.spare[p.suite.index()] {
            self.keys = self.spare;
            for key in &mut self.spare {
                fill(&mut key.0);
            }
        }
    }

    /// Nothing plain from here on: an encrypted dialog stays encrypted when we offer anew.
    pub fn insist(&mut self) {
        self.policy = SrtpPolicy::Required;
    }

    /// Our key for an answer. A peer that keeps its key (hold, a session refresh) is answered with ours of before: the
    /// streams go on. A new one means a new context at the peer, perhaps on another machine, whose packet counters
    /// begin anew; under a key of before that would repeat or lose the key stream (RFC 3711, 9.1).
    fn key_for(&self, theirs: &Key, suite: Suite) -> Key {
        let kept = self.theirs.is_none_or(|t| t == *theirs);
        if kept { self.keys[suite.index()] } else { self.spare[suite.index()] }
    }

    /// The lines of our own offer, one for each suite.
    pub(super) fn lines(&self) -> Vec<Attribute> {
        let line = |(n, suite): (usize, Suite)| written(n as u32 + 1, suite, &self.keys[suite.index()]);
        Suite::ALL.into_iter().enumerate().map(line).collect()
    }
}

/// One `a=crypto` line that we can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crypto {
    /// Names it within the description.
    pub tag: u32,
    /// The suite.
    pub suite: Suite,
    /// The sender's key.
    pub key: Key,
    /// Bytes of the key identifier in each of the sender's packets; 0 for none.
    pub mki: u8,
}

/// Why an `a=crypto` line is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// A part is missing or no number.
    #[error("the crypto line is not as RFC 4568 writes it")]
    Form,
    /// Not one of ours.
    #[error("the suite {0} is not known here")]
    Suite(String),
    /// Not 30 bytes of base64 after `inline:`.
    #[error("the key is not 30 bytes of base64 after inline:")]
    Key,
    /// More keys than one.
    #[error("several keys in a crypto line are not supported")]
    ManyKeys,
    /// A lifetime that is none.
    #[error("the key's lifetime is not understood")]
    Lifetime,
    /// A key identifier that is none.
    #[error("the key's identifier (MKI) is not understood")]
    Mki,
    /// A session parameter that changes how packets are protected.
    #[error("the session parameter {0} is not supported")]
    Parameter(String),
}

/// Reads the value of an `a=crypto`.
///
/// A lifetime is read over: every one a peer may write lasts longer than a call (and its own packets are the peer's to
/// count). A window size (`WSH`) is a hint, and parameters marked `-` may be read over (RFC 4568, 6.3).
pub fn parse(value: &str) -> Result<Crypto, CryptoError> {
    let mut fields = value.split_ascii_whitespace();
    let (Some(tag), Some(suite), Some(keys)) = (fields.next(), fields.next(), fields.next()) else {
        return Err(CryptoError::Form);
    };
    let tag = tag.parse().ok().filter(|t| *t <= TAG_MOST).ok_or(CryptoError::Form)?;
    let suite = Suite::of(suite).ok_or_else(|| CryptoError::Suite(shortened(suite)))?;
    if keys.contains(';') {
        return Err(CryptoError::ManyKeys);
    }
    let (method, info) = keys.split_once(':').ok_or(CryptoError::Key)?;
    if !method.eq_ignore_ascii_case("inline") {
        return Err(CryptoError::Key);
    }
    let mut parts = info.split('|');
    let key = parts.next().and_then(decoded).ok_or(CryptoError::Key)?;
    let mut mki = 0;
    for part in parts {
        match part.split_once(':') {
            Some((value, length)) => mki = identifier(value, length).ok_or(CryptoError::Mki)?,
            None => lifetime(part).ok_or(CryptoError::Lifetime)?,
        }
    }
    for parameter in fields {
        let harmless = parameter.starts_with('-') || parameter.to_ascii_uppercase().starts_with("WSH=");
        if !harmless {
            return Err(CryptoError::Parameter(shortened(parameter)));
        }
    }
    Ok(Crypto { tag, suite, key: Key(key), mki })
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

/// `2^20` or a decimal number, at least one packet.
fn lifetime(text: &str) -> Option<()> {
    let good = match text.strip_prefix("2^") {
        Some(power) => power.parse::<u8>().is_ok_and(|p| p <= 48),
        None => text.parse::<u64>().is_ok_and(|n| (1..=1 << 48).contains(&n)),
    };
    good.then_some(())
}

/// Bytes of a master key identifier.
fn identifier(value: &str, length: &str) -> Option<u8> {
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    length.parse().ok().filter(|n| digits && (1..=MKI_MOST).contains(n))
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encoded(key: &Key) -> String {
    let mut text = String::with_capacity(KEY_BYTES / 3 * 4);
    for three in key.0.as_chunks::<3>().0 {
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for shift in [18, 12, 6, 0] {
            text.push(char::from(BASE64[(bits >> shift) as usize & 63]));
        }
    }
    text
}

/// Thirty bytes are forty characters without padding.
fn decoded(text: &str) -> Option<[u8; KEY_BYTES]> {
    let (fours, rest) = text.as_bytes().as_chunks::<4>();
    if !rest.is_empty() || fours.len() != KEY_BYTES / 3 {
        return None;
    }
    let mut key = [0; KEY_BYTES];
    for (four, three) in fours.iter().zip(key.as_chunks_mut::<3>().0) {
        let mut bits = 0u32;
        for c in four {
            bits = bits << 6 | BASE64.iter().position(|b| b == c)? as u32;
        }
        three.copy_from_slice(&bits.to_be_bytes()[1..]);
    }
    Some(key)
}

fn written(tag: u32, suite: Suite, key: &Key) -> Attribute {
    let mut value = String::new();
    let _into_a_string = write!(value, "{tag} {} inline:{}", suite.name(), encoded(key));
    Attribute::new("crypto", value)
}

/// Whether a stream's transport says that it is encrypted with keys of its description.
pub(super) fn is_secure(protocol: &str) -> bool {
    matches!(protocol, "RTP/SAVP" | "RTP/SAVPF")
}

fn lines(media: &Media) -> impl Iterator<Item = &str> {
    let crypto = media.attributes.iter().filter(|a| a.name.eq_ignore_ascii_case("crypto"));
    crypto.filter_map(|a| a.value.as_deref())
}

/// The `a=crypto` of a stream of ours, to be repeated in the next offer of the same dialog: hold keeps its keys.
pub(super) fn kept(media: &Media) -> Vec<Attribute> {
    media.attributes.iter().filter(|a| a.name == "crypto").cloned().collect()
}

/// What an offered stream and we agree on, and the line of our answer. Or why the stream cannot be had.
pub(super) fn answer(media: &Media, ours: &Srtp) -> Result<Option<(Protection, Attribute)>, String> {
    let secure = is_secure(&media.protocol);
    if ours.policy == SrtpPolicy::Off {
        return if secure { Err(format!("transport {} is not supported here", media.protocol)) } else { Ok(None) };
    }
    let mut why = String::from("it has no a=crypto line");
    for line in lines(media) {
        match parse(line) {
            Ok(c) => {
                let key = ours.key_for(&c.key, c.suite);
                let protection = Protection { suite: c.suite, ours: key, theirs: c.key, their_mki: c.mki };
                return Ok(Some((protection, written(c.tag, c.suite, &key))));
            }
            Err(e) => why = e.to_string(),
        }
    }
    match (secure, ours.policy) {
        (true, _) => Err(format!("{} without a key we can use: {why}", media.protocol)),
        (false, SrtpPolicy::Required) => Err(format!("only encrypted calls are taken: {why}")),
        // Keys beside a plain transport are an invitation, not a condition.
        (false, _) => Ok(None),
    }
}

/// What the answer to our offered stream agrees on.
pub(super) fn accept(offered: &Media, answered: &Media) -> Result<Option<Protection>, String> {
    let wanted: Vec<Crypto> = lines(offered).filter_map(|l| parse(l).ok()).collect();
    if wanted.is_empty() {
        return if is_secure(&answered.protocol) { Err("encryption was not offered".into()) } else { Ok(None) };
    }
    let mut theirs = lines(answered);
    match (theirs.next(), theirs.next()) {
        (None, _) if is_secure(&offered.protocol) => Err("the answer has no key".into()),
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err("the answer has several crypto lines".into()),
        (Some(line), None) => {
            let line = parse(line).map_err(|e| e.to_string())?;
            let ours = wanted.iter().find(|w| w.tag == line.tag && w.suite == line.suite);
            let ours = ours.ok_or("the answer's crypto line is none of those offered")?;
            let (suite, their_mki) = (line.suite, line.mki);
            Ok(Some(Protection { suite, ours: ours.key, theirs: line.key, their_mki }))
        }
    }
}

#[cfg(test)]
#[path = "crypto_tests.rs"]
mod tests;
