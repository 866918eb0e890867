//! STUN of ICE under damage: nothing is read that was not there, and nobody is believed who does not know the password.

use super::identity::tests::identity;
use super::stun::{Check, Kind, Role, Stun, role_conflict, success};
use crate::fuzz::harness::fuzz;
use std::collections::HashSet;

const PWD: &str = "the password of this leg";

#[test]
fn fuzz_stun_of_ice() {
    let identity = identity();
    let crypto = identity.crypto.crypto();
    let check = |use_candidate, role| {
        let username = "ours0123:peer4567".to_owned();
        Check { id: [7; 12], username, pwd: PWD, priority: 9, role, tie: 5, use_candidate }.write(crypto)
    };
    let at = "192.0.2.7:4000".parse().expect("an address");
    let seeds = vec![
        check(true, Role::Controlling),
        check(false, Role::Controlled),
        success([7; 12], at, PWD, crypto),
        role_conflict([7; 12], PWD, crypto),
    ];
    let genuine: HashSet<Vec<u8>> = seeds.iter().cloned().collect();
    let words: &[&[u8]] = &[&[0, 8, 0, 20], &[0x80, 0x28, 0, 4], &[0, 6, 0, 1], &[0, 9, 0, 4, 0, 0, 4, 87]];
    fuzz("stun-ice", seeds, words, |bytes| {
        let Some(mut stun) = Stun::parse(bytes) else { return (bytes.len() / 16) as u64 };
        assert!(stun.username.len() <= bytes.len());
        assert!(!stun.is_by("another password", crypto));
        let proven = stun.is_by(PWD, crypto);
        assert!(!proven || genuine.contains(bytes), "a forged message was believed");
        let kind = [Kind::Request, Kind::Success, Kind::Error].iter().position(|k| *k == stun.kind).unwrap_or(9);
        1_000_000 + (kind * 4 + usize::from(proven) * 2 + usize::from(stun.use_candidate)) as u64
    });
}
