//! Two whole transports on a pretended network, in virtual time: one answers, the other offers.

use super::super::description::Negotiator;
use super::super::identity::tests::{caps, identity};
use super::*;
use crate::sdp;
use std::time::Duration;

const A: &str = "192.0.2.1:4000";
const B: &str = "198.51.100.2:5000";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn without_ice(offer: sdp::Session) -> sdp::Session {
    let of_ice = ["a=ice", "a=candidate", "a=end-of"];
    let kept = offer.to_string();
    let kept = kept.lines().filter(|l| !of_ice.iter().any(|start| l.starts_with(start)));
    let text: String = kept.map(|l| format!("{l}\r\n")).collect();
    sdp::parse(text.as_bytes()).unwrap()
}

struct Net {
    ends: [Transport; 2],
    places: [SocketAddr; 2],
    sides: [Negotiator; 2],
    /// What they agreed on at first.
    agreed: [Agreed; 2],
    now: Mono,
    /// What each end got of the other's media.
    got: [Vec<Vec<u8>>; 2],
    /// Of 100 datagrams so many are lost.
    lost: u64,
    dice: u64,
}

impl Net {
    fn new() -> Net {
        Net::of(|offer| offer)
    }

    /// Two ends that do no ICE.
    fn of_phones() -> Net {
        Net::of(without_ice)
    }

    fn of(change: impl Fn(sdp::Session) -> sdp::Session) -> Net {
        let mut net = Net::unconfirmed(change);
        net.ends.iter_mut().for_each(|end| end.confirm(net.now));
        net
    }

    fn unconfirmed(change: impl Fn(sdp::Session) -> sdp::Session) -> Net {
        let places = [at(A), at(B)];
        let mut sides = places.map(|p| Negotiator::new(&identity(), vec![p]));
        let now = Mono::from_ms(200_000);
        let offer = change(sides[0].offer(sdp::offer(&caps(places[0]))));
        let (answer, _, b) = sides[1].answer(&offer, &caps(places[1])).unwrap();
        let (_, a) = sides[0].accept(&offer, &answer).unwrap();
        let agreed = [a, b];
        let ends = agreed.clone().map(|agreed| Transport::new(agreed, now).unwrap());
        Net { ends, places, sides, agreed, now, got: Default::default(), lost: 0, dice: 1 }
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms / 20 {
            self.now = self.now + Duration::from_millis(20);
            for end in &mut self.ends {
                end.timeout(self.now);
            }
            self.carry();
        }
    }

    fn carry(&mut self) {
        for _ in 0..20 {
            let mut quiet = true;
            for from in 0..2 {
                while let Some((to, datagram)) = self.ends[from].poll(self.now) {
                    quiet = false;
                    self.deliver(from, to, &datagram);
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn deliver(&mut self, from: usize, to: SocketAddr, datagram: &[u8]) {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut plain = Vec::new();
        let source = self.places[from];
        if (self.dice >> 33) % 100 >= self.lost
            && to == self.places[1 - from]
            && self.ends[1 - from].receive(self.now, source, datagram, &mut plain) == Arrived::Media
        {
            self.got[1 - from].push(plain);
        }
    }

    /// One end says something; whether the other heard it.
    fn says(&mut self, from: usize, sequence: u8) -> bool {
        let packet = [0x80, 8, 0, sequence, 0, 0, 0, 0, 0, 0, 0, from as u8, 1, 2, 3, 4];
        let mut sealed = Vec::new();
        let Some(to) = self.ends[from].seal(self.now, &packet, &mut sealed) else { return false };
        let before = self.got[1 - from].len();
        self.deliver(from, to, &sealed);
        self.got[1 - from].get(before).is_some_and(|p| p == &packet)
    }
}

#[test]
fn two_ends_agree_on_keys_and_hear_each_other() {
    let mut net = Net::new();
    net.run(1_500);
    let stats = net.ends[0].stats(net.now);
    assert!(stats.secured && stats.consented, "{:?}", net.ends);
    assert!(net.says(0, 1) && net.says(1, 1));
}

#[test]
fn two_ends_without_ice_find_each_other_where_their_descriptions_say() {
    let mut net = Net::of_phones();
    net.run(1_500);
    assert!(net.ends.iter().all(|e| e.stats(net.now).secured), "{:?}", net.ends);
    assert!(net.says(0, 1) && net.says(1, 1));
    // The port of one is translated anew: what is authentic says so.
    net.places[0] = at("192.0.2.1:4999");
    assert!(net.says(0, 2) && net.says(1, 2), "{:?}", net.ends);
    assert_eq!(net.ends[1].stats(net.now).moves, 1);
    // Neither a stranger's hello nor a forged packet from the right host moves it.
    let sound = [0x80, 8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 9, 1, 2, 3, 4];
    let hello = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    let (mut plain, now) = (Vec::new(), net.now);
    let mut says = |from: &str, bytes: &[u8]| net.ends[1].receive(now, at(from), bytes, &mut plain);
    assert_eq!(says("203.0.113.9:9", &hello), Arrived::Dropped(Dropped::Stranger));
    assert_eq!(says("192.0.2.1:9", &sound), Arrived::Dropped(Dropped::Forged));
    assert_eq!(says("192.0.2.1:4999", &[0, 1, 0, 0]), Arrived::Dropped(Dropped::Unproven));
    assert!(net.says(1, 3));
}

/// What one end sends to the other in so long, while the other is silent.
fn sent_in(net: &mut Net, end: usize, ms: u64) -> Vec<SocketAddr> {
    let mut sent = Vec::new();
    for _ in 0..ms / 20 {
        net.now = net.now + Duration::from_millis(20);
        net.ends[end].timeout(net.now);
        sent.extend(std::iter::from_fn(|| net.ends[end].poll(net.now)).map(|(to, _)| to));
    }
    sent
}

#[test]
fn nobody_is_sent_anything_at_the_word_of_a_description_that_is_not_confirmed() {
    for change in [without_ice as fn(sdp::Session) -> sdp::Session, |offer| offer] {
        let mut net = Net::unconfirmed(change);
        for end in [0, 1] {
            let sent = sent_in(&mut net, end, 40_000);
            assert!(sent.is_empty(), "{sent:?}");
        }
        net.ends.iter_mut().for_each(|end| end.confirm(net.now));
        net.run(1_500);
        assert!(net.says(0, 1) && net.says(1, 1), "{:?}", net.ends);
    }
}

#[test]
fn before_the_call_is_confirmed_the_signalling_host_and_who_knows_our_password_are_answered() {
    for known in [true, false] {
        let mut net = Net::unconfirmed(without_ice);
        let offer = without_ice(net.sides[1].offer(sdp::offer(&caps(at(B)))));
        let passive = sdp::parse(offer.to_string().replace("actpass", "passive").as_bytes()).unwrap();
        let side = Negotiator::new(&identity(), vec![at(A)]);
        let mut side = side.signalled_from(if known { "203.0.113.9" } else { "198.51.100.2" }.parse().unwrap());
        let (_, _, agreed) = side.answer(&passive, &caps(at(A))).unwrap();
        let agreed = if known { agreed.known() } else { agreed };
        net.ends[0] = Transport::new(agreed, net.now).unwrap();
        let sent = sent_in(&mut net, 0, 100);
        assert!(!sent.is_empty() && sent.iter().all(|to| *to == at(B)), "{sent:?}");
    }
    // By ICE: one end asks, and is answered by the other, which was told nothing.
    let mut net = Net::unconfirmed(|offer| offer);
    let now = net.now;
    net.ends[0].confirm(now);
    net.run(2_000);
    assert!(net.says(0, 1) && net.says(1, 1), "{:?}", net.ends);
}

#[test]
fn a_farewell_in_the_clear_ends_no_handshake() {
    let farewell = [21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0];
    let data = [23, 254, 253, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 1, 0];
    let mut net = Net::of_phones();
    let forge = |net: &mut Net| {
        for (end, from) in [(1, "192.0.2.1:9"), (0, "198.51.100.2:9")] {
            for record in [farewell, data] {
                let got = net.ends[end].receive(net.now, at(from), &record, &mut Vec::new());
                assert!(matches!(got, Arrived::Dropped(Dropped::Handshake | Dropped::Stranger)), "{got:?}");
            }
        }
    };
    (0..8).for_each(|_| forge(&mut net));
    // In the middle of it, too: each after a datagram or two.
    for _ in 0..20 {
        net.run(20);
        forge(&mut net);
    }
    net.run(1_600);
    assert!(net.ends.iter().all(|e| e.stats(net.now).secured), "{:?}", net.ends);
    assert!(net.says(0, 1) && net.says(1, 1));
}

#[test]
fn our_handshake_is_not_led_away_by_what_is_no_hello() {
    let mut net = Net::of_phones();
    let junk: [&[u8]; 3] = [&[22], &[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 7, 0, 1, 0], &[20, 254, 253, 0, 0, 0, 0]];
    for _ in 0..50 {
        for (end, from) in [(1, "192.0.2.1:9"), (0, "198.51.100.2:9")] {
            net.ends[end].timeout(net.now); // it has something to say, and has not said it
            for bytes in junk {
                let _counted = net.ends[end].receive(net.now, at(from), bytes, &mut Vec::new());
            }
        }
        net.carry();
        net.now = net.now + Duration::from_millis(20);
    }
    assert!(net.ends.iter().all(|e| e.stats(net.now).secured), "{:?}", net.ends);
    assert!(net.says(0, 1) && net.says(1, 1));
}

#[test]
fn a_flood_from_elsewhere_on_the_peers_host_wears_out_no_handshake_that_it_began() {
    let mut net = Net::of_phones();
    // Pieces of a certificate that is never whole.
    let piece =
        [&[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 7, 0, 16, 11, 0, 4, 0, 0, 1, 0, 0, 0, 0, 0, 4][..], &[1; 4]].concat();
    net.ends[0].timeout(net.now);
    let (_, hello) = net.ends[0].poll(net.now).expect("the client begins");
    assert_eq!(net.ends[1].receive(net.now, at(A), &hello, &mut Vec::new()), Arrived::Handled);
    for _ in 0..1_000 {
        let got = net.ends[1].receive(net.now, at("192.0.2.1:9"), &piece, &mut Vec::new());
        assert_eq!(got, Arrived::Dropped(Dropped::Stranger));
    }
    net.run(1_000);
    assert!(net.says(0, 1) && net.says(1, 1), "{:?}", net.ends);
}

#[test]
fn a_hello_that_is_repeated_from_elsewhere_on_its_host_costs_time_and_no_call() {
    let mut net = Net::of_phones();
    net.ends[0].timeout(net.now);
    let (_, hello) = net.ends[0].poll(net.now).expect("the client begins");
    let (mut plain, now) = (Vec::new(), net.now);
    assert_eq!(net.ends[1].receive(now, at("192.0.2.1:9"), &hello, &mut plain), Arrived::Handled);
    assert_eq!(net.ends[1].stats(now).selected, Some(at("192.0.2.1:9")), "the way may be translated");
    net.run(15_000);
    assert!(net.says(0, 1) && net.says(1, 1), "{:?}", net.ends);
}

#[test]
fn a_peer_that_says_it_has_another_port_is_sent_to_there() {
    let mut net = Net::of_phones();
    net.run(1_500);
    assert!(net.says(0, 1) && net.says(1, 1));
    // The port of the second is translated; it describes itself as before: what was learnt holds.
    net.places[1] = at("198.51.100.2:5999");
    assert!(net.says(1, 2) && net.says(0, 2));
    let same = without_ice(net.sides[1].offer(sdp::offer(&caps(at(B)))));
    let (_, _, again) = net.sides[0].answer(&same, &caps(at(A))).unwrap();
    let now = net.now;
    net.ends[0].agree(again, now);
    assert!(net.says(0, 3), "{:?}", net.ends);
    // Another port of that host, and another certificate: a relay has put another engine in its place.
    net.places[1] = at("198.51.100.2:6000");
    net.sides[1] = Negotiator::new(&identity(), vec![net.places[1]]);
    let offer = without_ice(net.sides[1].offer(sdp::offer(&caps(net.places[1]))));
    let (answer, _, a) = net.sides[0].answer(&offer, &caps(at(A))).unwrap();
    let (_, b) = net.sides[1].accept(&offer, &answer).unwrap();
    net.ends[0].agree(a, now);
    net.ends[1] = Transport::new(b.known(), now).unwrap();
    net.run(1_500);
    assert!(net.says(0, 4) && net.says(1, 4), "{:?}", net.ends);
}

#[test]
fn keys_come_through_a_network_that_loses_a_third() {
    let mut net = Net::new();
    net.lost = 33;
    net.run(20_000);
    net.lost = 0;
    net.run(1_000);
    assert!(net.says(0, 1) && net.says(1, 1), "{:?}", net.ends);
}

#[test]
fn strangers_and_forgeries_are_counted_and_change_nothing() {
    let mut net = Net::new();
    let stranger = at("203.0.113.9:9");
    let mut plain = Vec::new();
    // A hello in the race before the real one, sound without keys, and noise of every kind.
    let hello = [22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    let sound = [0x80, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 1, 2, 3, 4];
    for first in 0..=255u8 {
        let noise = [[first].as_slice(), &[0; 40]].concat();
        for datagram in [hello.as_slice(), &sound, &noise] {
            let end = &mut net.ends[1];
            assert!(matches!(end.receive(net.now, stranger, datagram, &mut plain), Arrived::Dropped(_)));
        }
    }
    net.run(1_500);
    assert!(net.says(0, 1) && net.says(1, 1));
    for _ in 0..100 {
        let (place, now) = (net.places[0], net.now);
        let forged = net.ends[1].receive(now, place, &sound, &mut plain);
        assert_eq!(forged, Arrived::Dropped(Dropped::Forged), "from the peer's own address");
        let _noise_of_a_handshake = net.ends[1].receive(now, place, &hello, &mut plain);
    }
    assert!(net.says(0, 2) && net.says(1, 2));
    let stats = net.ends[1].stats(net.now);
    assert!(stats.dropped(Dropped::Stranger) >= 512 && stats.dropped(Dropped::Forged) == 100, "{stats:?}");
}

/// The first end has moved and says so to the second in a check of its own, without a new description.
fn nominates(net: &mut Net, from: &str) {
    net.places[0] = at(from);
    let both = &net.agreed[0].both;
    let username = format!("{}:{}", both.remote.ufrag, both.local.ufrag);
    let (id, priority, role) = ([9; 12], 1 << 30, crate::browser::stun::Role::Controlling);
    let check = crate::browser::stun::Check {
        id,
        username,
        pwd: &both.remote.pwd,
        priority,
        role,
        tie: 0,
        use_candidate: true,
    };
    let check = check.write(net.agreed[0].identity.crypto.crypto());
    let got = net.ends[1].receive(net.now, at(from), &check, &mut Vec::new());
    assert_eq!(got, Arrived::Handled);
}

#[test]
fn a_browser_that_changes_its_address_without_a_restart_goes_on_hearing() {
    for talks in [true, false] {
        let mut net = Net::new();
        net.run(1_500);
        assert!(net.says(0, 1) && net.says(1, 1));
        nominates(&mut net, "203.0.113.77:7777");
        let since = net.now;
        for sequence in 2..250 {
            net.run(100);
            let _heard_once_it_is_proven = talks && net.says(0, sequence);
            if net.says(1, sequence) {
                break;
            }
        }
        // Who is silent there is believed to have left the old address when that has been quiet for 7 s.
        let deaf = net.now.ms_since(since);
        assert!(deaf <= if talks { 500 } else { 7_500 }, "talks {talks}: deaf for {deaf} ms");
        let stats = net.ends[1].stats(net.now);
        assert_eq!((stats.selected, stats.moves), (Some(net.places[0]), 1));
    }
}

#[test]
fn a_restart_by_a_new_offer_changes_the_pair_and_keeps_the_keys() {
    let mut net = Net::new();
    net.run(1_500);
    // The second end offers anew from another network, with other credentials.
    net.places[1] = at("203.0.113.7:7000");
    let other = Negotiator::new(&identity(), vec![net.places[1]]);
    let fresh = other.offer(sdp::offer(&caps(net.places[1]))).to_string();
    let (old, mine) = (fingerprint(&fresh), fingerprint(&net.sides[1].offer(sdp::offer(&caps(at(B)))).to_string()));
    let offer = sdp::parse(fresh.replace(&old, &mine).as_bytes()).unwrap();
    let (answer, _, a) = net.sides[0].answer(&offer, &caps(at(A))).unwrap();
    assert!(a.restarted);
    let mut b = a.clone();
    b.both = crate::browser::ice::Generation { local: a.both.remote.clone(), remote: a.both.local.clone() };
    b.role = crate::browser::stun::Role::Controlling;
    (b.is_client, b.fingerprints) = (!a.is_client, net.ends[1].peer.0.clone());
    b.remotes = vec![crate::browser::ice::Remote { addr: at(A), priority: 1 }];
    assert!(answer.media[0].port != 0);
    let now = net.now;
    net.ends[0].agree(a, now);
    net.ends[1].agree(b, now);
    assert!(net.ends[0].stats(now).secured, "one association as long as the peer is the same");
    net.run(3_000);
    assert!(net.says(0, 3) && net.says(1, 3), "{:?}", net.ends);
    assert_eq!(net.ends[0].stats(net.now).selected, Some(net.places[1]));
}

fn fingerprint(description: &str) -> String {
    let line = description.lines().find(|l| l.starts_with("a=fingerprint:sha-256 ")).unwrap();
    line["a=fingerprint:sha-256 ".len()..].trim().to_owned()
}

#[test]
fn a_certificate_that_was_not_described_gets_no_keys() {
    let mut net = Net::new();
    let peer = (vec!["00:11".to_owned()], net.ends[0].peer.1);
    net.ends[0].dtls = Dtls::new(net.ends[0].identity.clone(), peer.1, &peer.0).unwrap();
    net.run(8_000);
    assert!(!net.ends[0].stats(net.now).secured);
    assert!(!net.says(0, 1));
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]

    /// Records from the peer's own address, as one on the way could write them, in the middle of a handshake.
    #[test]
    fn no_dtls_record_breaks_an_end(kind in 20u8..=23, epoch in 0u8..3, bytes in proptest::collection::vec(proptest::num::u8::ANY, 1..300)) {
        let mut net = Net::new();
        net.run(200);
        let mut record = vec![kind, 254, 253, 0, epoch, 0, 0, 0, 0, 0, 9];
        record.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
        record.extend_from_slice(&bytes);
        let mut plain = Vec::new();
        let (now, place) = (net.now, net.places[0]);
        let _counted_or_not = net.ends[1].receive(now, place, &record, &mut plain);
        net.run(100);
    }
}
