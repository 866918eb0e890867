//! SRTP between two ends, and forgeries.

use super::super::identity::tests::identity;
use super::*;

fn pair(profile: ProtectionProfile) -> (Srtp, Srtp) {
    let identity = identity();
    let key = |n: u8| (vec![n; profile.key_len()], vec![n + 1; profile.salt_len()]);
    let a = Srtp::new(identity.clone(), profile, key(1), key(7)).unwrap();
    let b = Srtp::new(identity, profile, key(7), key(1)).unwrap();
    (a, b)
}

fn packet(sequence: u16, ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 8];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(&[0x55; 160]);
    packet
}

const ALL: [ProtectionProfile; 3] =
    [ProtectionProfile::AeadAes128Gcm, ProtectionProfile::AeadAes256Gcm, ProtectionProfile::Aes128CmHmacSha1_80];

#[test]
fn what_one_end_seals_the_other_opens_past_the_end_of_sequence_numbers() {
    for profile in ALL {
        let (mut a, mut b) = pair(profile);
        let (mut sealed, mut plain) = (Vec::new(), Vec::new());
        for n in 65_000..66_500u32 {
            let packet = packet(n as u16, 5);
            assert!(a.seal(&packet, false, &mut sealed) && sealed != packet);
            assert!(b.open(&sealed, false, &mut plain), "{n}");
            assert_eq!(plain, packet);
        }
    }
}

#[test]
fn a_replay_and_a_changed_packet_are_refused_and_the_next_good_one_is_not() {
    for profile in ALL {
        let (mut a, mut b) = pair(profile);
        let (mut sealed, mut plain) = (Vec::new(), Vec::new());
        a.seal(&packet(1, 5), false, &mut sealed);
        assert!(b.open(&sealed, false, &mut plain));
        assert!(!b.open(&sealed, false, &mut plain), "a replay");
        a.seal(&packet(2, 5), false, &mut sealed);
        for place in [1, 2, 8, 20, sealed.len() - 1] {
            let mut forged = sealed.clone();
            forged[place] ^= 1;
            assert!(!b.open(&forged, false, &mut plain), "{place}");
            assert!(plain.is_empty());
        }
        assert!(b.open(&sealed, false, &mut plain));
    }
}

#[test]
fn made_up_sources_take_no_memory_and_shut_nobody_out() {
    let (mut a, mut b) = pair(ProtectionProfile::AeadAes128Gcm);
    let (mut sealed, mut plain) = (Vec::new(), Vec::new());
    for ssrc in 0..10_000 {
        assert!(!b.open(&packet(1, ssrc), false, &mut plain));
    }
    assert!(b.inbound.sources.is_empty() && b.inbound.trials <= TRIALS);
    a.seal(&packet(9, 77), false, &mut sealed);
    assert!(b.open(&sealed, false, &mut plain));
    let report = [vec![0x80, 201, 0, 1], 77u32.to_be_bytes().to_vec()].concat();
    assert!(a.seal(&report, true, &mut sealed));
    assert!(b.open(&sealed, true, &mut plain));
    assert_eq!(plain, report);
}

#[test]
fn a_report_that_says_it_is_in_clear_is_not_believed() {
    for profile in ALL {
        let (_, mut b) = pair(profile);
        let mut plain = Vec::new();
        // A goodbye of a source that is known or not, with an index whose E bit is clear and any tag.
        let goodbye = [[0x81, 203, 0, 1, 0, 0, 0, 5].as_slice(), &[0, 0, 0, 1], &[0; 26]].concat();
        for cut in 12..=goodbye.len() {
            assert!(!b.open(&goodbye[..cut], true, &mut plain), "{cut}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_packet_breaks_it(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..120), rtcp: bool) {
        let (mut a, mut b) = pair(ProtectionProfile::Aes128CmHmacSha1_80);
        let mut out = Vec::new();
        proptest::prop_assert!(!b.open(&bytes, rtcp, &mut out));
        let _may_be_no_packet = a.seal(&bytes, rtcp, &mut out);
    }
}
