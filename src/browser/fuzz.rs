//! STUN of ICE and DTLS under damage: nothing is read that was not there, and nobody is believed who does not know the
//! password, or has not the key of the certificate.

use super::description::{Agreed, Negotiator};
use super::identity::tests::{caps, identity};
use super::stun::{Check, Kind, Role, Stun, role_conflict, success};
use super::transport::Transport;
use super::{Arrived, TransportStats};
use crate::clock::Mono;
use crate::fuzz::harness::{fuzz, fuzz_living};
use crate::sdp;
use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

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

/// Longest datagram of a handshake of ours.
const LONGEST: usize = 1200;
/// Most that one datagram may make an end say: a flight with a certificate, and what waited.
const MOST: usize = 16;

/// What two ends that do no ICE have agreed on; the first says hello.
fn agreed(places: [SocketAddr; 2]) -> [Agreed; 2] {
    let mut sides = places.map(|p| Negotiator::new(&identity(), vec![p]));
    let offer = sides[0].offer(sdp::offer(&caps(places[0]))).to_string();
    let kept = offer.lines().filter(|l| !["a=ice", "a=candidate", "a=end-of"].iter().any(|s| l.starts_with(s)));
    let offer = sdp::parse(kept.map(|l| format!("{l}\r\n")).collect::<String>().as_bytes()).expect("an offer");
    let (answer, _, theirs) = sides[1].answer(&offer, &caps(places[1])).expect("it is answered");
    let (_, ours) = sides[0].accept(&offer, &answer).expect("and taken");
    [ours, theirs].map(Agreed::known)
}

/// Two ends in the middle of their handshake.
struct Ends {
    ends: [Transport; 2],
    places: [SocketAddr; 2],
    /// What each has said that has not been carried over.
    said: [VecDeque<Vec<u8>>; 2],
    now: Mono,
    sequence: u8,
}

impl Ends {
    fn new(agreed: &[Agreed; 2], places: [SocketAddr; 2]) -> Ends {
        let now = Mono::from_ms(200_000);
        let ends = agreed.clone().map(|a| Transport::new(a, now).expect("a cipher"));
        Ends { ends, places, said: Default::default(), now, sequence: 0 }
    }

    /// 20 ms go by, and so many datagrams arrive; those are given.
    fn carry(&mut self, count: usize) -> Vec<(usize, Vec<u8>)> {
        self.now = self.now + Duration::from_millis(20);
        self.ends.iter_mut().for_each(|end| end.timeout(self.now));
        let mut carried = Vec::new();
        while carried.len() < count {
            self.listen();
            let Some(from) = [0, 1].into_iter().find(|from| !self.said[*from].is_empty()) else { break };
            let Some(datagram) = self.said[from].pop_front() else { break };
            assert_ne!(self.arrives(1 - from, &datagram), Arrived::Media);
            carried.push((from, datagram));
        }
        carried
    }

    fn arrives(&mut self, end: usize, datagram: &[u8]) -> Arrived {
        self.ends[end].receive(self.now, self.places[1 - end], datagram, &mut Vec::new())
    }

    /// What they say now; how much it is.
    fn listen(&mut self) -> usize {
        let mut count = 0;
        for end in [0, 1] {
            while let Some((to, datagram)) = self.ends[end].poll(self.now) {
                assert_eq!(to, self.places[1 - end], "it goes to its peer");
                assert!(datagram.len() <= LONGEST, "{} bytes", datagram.len());
                self.said[end].push_back(datagram.to_vec());
                count += 1;
            }
        }
        count
    }

    fn stats(&self) -> [TransportStats; 2] {
        [self.ends[0].stats(self.now), self.ends[1].stats(self.now)]
    }

    /// Whether the second end hears the first.
    fn hears(&mut self) -> bool {
        self.sequence += 1;
        let sound = [0x80, 8, 0, self.sequence, 0, 0, 0, 0, 0, 0, 0, 7, 1, 2, 3, 4];
        let (mut sealed, mut plain) = (Vec::new(), Vec::new());
        self.ends[0].seal(self.now, &sound, &mut sealed).is_some()
            && self.ends[1].receive(self.now, self.places[0], &sealed, &mut plain) == Arrived::Media
            && plain == sound
    }
}

/// In the middle of a handshake one end gets a damaged datagram from its peer's address: the first byte of an input says
/// which end, and how many of the genuine ones arrive before.
#[test]
fn fuzz_dtls() {
    let places = ["192.0.2.1:4000", "198.51.100.2:5000"].map(|p| p.parse().expect("an address"));
    let agreed = agreed(places);
    let mut whole = Ends::new(&agreed, places);
    let recorded: Vec<_> = (0..50).flat_map(|_| whole.carry(4)).collect();
    assert!(recorded.len() > 4 && whole.stats().iter().all(|s| s.secured) && whole.hears(), "{} seen", recorded.len());
    let seed = |(from, datagram): &(usize, Vec<u8>)| -> Vec<Vec<u8>> {
        let first = |genuine: u8| vec![(1 - *from) as u8 | genuine << 1];
        (0..3).map(|genuine| [first(genuine), datagram.clone()].concat()).collect()
    };
    let seeds = recorded.iter().flat_map(seed).collect();
    let words: &[&[u8]] = &[
        &[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 9, 0, 40],
        &[20, 254, 253, 0, 0, 0, 0, 0, 0, 0, 8, 0, 1, 1],
        &[21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 7, 0, 2, 1, 0],
        &[22, 254, 253, 0, 1, 0, 0, 0, 0, 0, 1, 0, 48],
        &[1, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0, 44],
        &[11, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0],
        &[0, 14, 0, 5],
    ];
    fuzz_living("dtls", seeds, words, 12, || {
        let mut ends = Ends::new(&agreed, places);
        move |bytes: &[u8]| {
            let Some((first, datagram)) = bytes.split_first() else { return 0 };
            let (end, genuine) = (usize::from(first & 1), usize::from(first >> 1 & 3));
            ends.carry(genuine);
            ends.listen();
            let got = ends.arrives(end, datagram);
            assert_ne!(got, Arrived::Media, "nobody has said anything");
            let said = ends.listen();
            assert!(said <= MOST, "{said} datagrams to answer one");
            let secured = ends.stats().map(|s| s.secured);
            assert!(secured != [true; 2] || ends.hears(), "two ends with keys have the same");
            let flags = [got == Arrived::Handled, secured[0], secured[1], end == 1];
            let flags = flags.iter().fold(0, |all, f| all << 1 | u64::from(*f));
            flags << 16 | (said as u64) << 8 | (genuine as u64) << 4 | u64::from(datagram.first().map_or(0, |b| b % 16))
        }
    });
}
