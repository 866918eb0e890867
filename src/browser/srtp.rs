//! SRTP and SRTCP of a leg (RFC 3711), keyed by its DTLS association (RFC 5764).

use rtc::crypto::RTCCrypto;
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::dtls::state::State;
use rtc::srtp::config::{Config, LABEL_EXTRACTOR_DTLS_SRTP};
use rtc::srtp::context::Context;
use rtc::srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use rtc::srtp::protection_profile::ProtectionProfile;
use std::sync::Arc;

use super::identity::Identity;

/// What we take, the cheapest that is safe first. RFC 8827 asks for `AES128_CM_SHA1_80` at least.
pub(super) const PROFILES: [SrtpProtectionProfile; 3] = [
    SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
    SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
    SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
];
/// Packets that may come out of order before an older one counts as a replay.
const WINDOW: usize = 128;
/// Sources one peer may use in the life of its keys.
const MAX_SOURCES: usize = 32;
/// Unknown sources tried before what the trial has learned is forgotten.
const TRIALS: u32 = 64;

/// Both directions.
pub(super) struct Srtp {
    outbound: Context,
    inbound: Inbound,
}

/// The library keeps a state for each source before it has authenticated a packet of it, so that forged ones would fill
/// the memory: an unknown source goes through a context that is thrown away first.
struct Inbound {
    identity: Arc<Identity>,
    profile: ProtectionProfile,
    key: Vec<u8>,
    salt: Vec<u8>,
    known: Context,
    trial: Context,
    trials: u32,
    sources: Vec<(u32, bool)>,
}

impl std::fmt::Debug for Srtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Srtp({} sources)", self.inbound.sources.len())
    }
}

impl Srtp {
    /// From a finished handshake; none when it agreed on no profile of ours.
    pub fn from_handshake(state: &State, identity: Arc<Identity>) -> Option<Srtp> {
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => ProtectionProfile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm => ProtectionProfile::AeadAes256Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
            _ => return None,
        };
        let mut config = Config { profile, ..Config::default() };
        let length = config.keying_material_len();
        let material = state.export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], length).ok()?;
        config.set_session_keys_from_keying_material(material.as_ref(), state.is_client()).ok()?;
        let keys = config.keys;
        Srtp::new(
            identity,
            profile,
            (keys.local_master_key, keys.local_master_salt),
            (keys.remote_master_key, keys.remote_master_salt),
        )
    }

    fn new(
        identity: Arc<Identity>,
        profile: ProtectionProfile,
        ours: (Vec<u8>, Vec<u8>),
        theirs: (Vec<u8>, Vec<u8>),
    ) -> Option<Srtp> {
        let crypto = identity.crypto.clone();
        let outbound = Context::new(&ours.0, &ours.1, profile, None, None, crypto.crypto()).ok()?;
        let (key, salt) = theirs;
        let fresh = || context(&key, &salt, profile, crypto.crypto());
        let (known, trial) = (fresh()?, fresh()?);
        let inbound = Inbound { identity, profile, key, salt, known, trial, trials: 0, sources: Vec::new() };
        Some(Srtp { outbound, inbound })
    }

    /// Encrypts a packet; `is_rtcp` says which kind it is.
    pub fn seal(&mut self, packet: &[u8], is_rtcp: bool, out: &mut Vec<u8>) -> bool {
        let sealed = match is_rtcp {
            true => self.outbound.encrypt_rtcp(packet),
            false => self.outbound.encrypt_rtp(packet),
        };
        out.clear();
        sealed.map(|s| out.extend_from_slice(&s)).is_ok()
    }

    /// Decrypts a packet that is authentic and no replay; else false, and nothing has changed.
    pub fn open(&mut self, packet: &[u8], is_rtcp: bool, out: &mut Vec<u8>) -> bool {
        out.clear();
        self.inbound.open(packet, is_rtcp).map(|plain| out.extend_from_slice(&plain)).is_some()
    }
}

fn context(key: &[u8], salt: &[u8], profile: ProtectionProfile, crypto: &dyn RTCCrypto) -> Option<Context> {
    let (rtp, rtcp) = (srtp_replay_protection(WINDOW), srtcp_replay_protection(WINDOW));
    Context::new(key, salt, profile, Some(rtp), Some(rtcp), crypto).ok()
}

fn decrypt(context: &mut Context, packet: &[u8], is_rtcp: bool) -> Option<impl AsRef<[u8]> + use<>> {
    if is_rtcp { context.decrypt_rtcp(packet).ok() } else { context.decrypt_rtp(packet).ok() }
}

impl Inbound {
    /// The E bit of SRTCP (RFC 3711, 3.4). Where it is not set the library takes the packet unauthenticated; in DTLS-SRTP it
    /// always is.
    fn is_encrypted(&self, packet: &[u8]) -> bool {
        let index = packet.len().checked_sub(4 + self.profile.rtcp_auth_tag_len());
        index.and_then(|i| packet.get(i)).is_some_and(|byte| byte & 0x80 != 0)
    }

    fn open(&mut self, packet: &[u8], is_rtcp: bool) -> Option<Vec<u8>> {
        if is_rtcp && !self.is_encrypted(packet) {
            return None;
        }
        let at = if is_rtcp { 4 } else { 8 };
        let ssrc = u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?);
        if !self.sources.contains(&(ssrc, is_rtcp)) {
            if self.sources.len() >= MAX_SOURCES {
                return None;
            }
            self.trials += 1;
            if self.trials > TRIALS {
                self.trials = 0;
                self.trial = context(&self.key, &self.salt, self.profile, self.identity.crypto.crypto())?;
            }
            decrypt(&mut self.trial, packet, is_rtcp)?;
            self.sources.push((ssrc, is_rtcp));
        }
        decrypt(&mut self.known, packet, is_rtcp).map(|p| p.as_ref().to_vec())
    }
}

#[cfg(test)]
#[path = "srtp_tests.rs"]
mod tests;
