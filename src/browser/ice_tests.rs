//! Two agents on a pretended network, in virtual time.

use super::super::identity::tests::identity;
use super::*;

const A: &str = "192.0.2.1:1000";
const B: &str = "198.51.100.2:2000";
/// Where B's datagrams seem to come from when it is behind address translation, or has moved.
const B_MOVED: &str = "203.0.113.3:3000";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

struct Net {
    a: Agent,
    b: Agent,
    /// B's address as A sees it.
    b_at: SocketAddr,
    now: Mono,
    /// Whether datagrams to A's peer arrive at all.
    up: bool,
    refused: usize,
}

impl Net {
    fn new(role_a: Role, role_b: Role, a_knows: &[&str], b_knows: &[&str]) -> Net {
        let identity = identity();
        let (ours, theirs) = (identity.credentials(), identity.credentials());
        let now = Mono::from_ms(200_000);
        let side = |local: &Credentials, remote: &Credentials, role, knows: &[&str]| {
            let remotes: Vec<Remote> = knows.iter().map(|k| Remote { addr: at(k), priority: HOST_PRIORITY }).collect();
            let both = Generation { local: local.clone(), remote: remote.clone() };
            Agent::new(identity.clone(), role, both, &remotes, now)
        };
        let a = side(&ours, &theirs, role_a, a_knows);
        let b = side(&theirs, &ours, role_b, b_knows);
        Net { a, b, b_at: at(B), now, up: true, refused: 0 }
    }

    /// Runs for so long.
    fn run(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.now = self.now + Duration::from_millis(10);
            self.a.timeout(self.now);
            self.b.timeout(self.now);
            while let Some((to, datagram)) = self.a.poll() {
                if self.up && to == self.b_at {
                    self.refused += usize::from(self.b.receive(self.now, at(A), &datagram).is_err());
                }
            }
            while let Some((to, datagram)) = self.b.poll() {
                if self.up && to == at(A) {
                    self.refused += usize::from(self.a.receive(self.now, self.b_at, &datagram).is_err());
                }
            }
        }
    }

    fn joined(&self) -> bool {
        self.a.destination(self.now) == Some(self.b_at) && self.b.destination(self.now) == Some(at(A))
    }
}

#[test]
fn two_sides_find_each_other_in_either_role() {
    for (a, b) in [(Role::Controlling, Role::Controlled), (Role::Controlled, Role::Controlling)] {
        let mut net = Net::new(a, b, &[B], &[A]);
        net.run(1_000);
        assert!(net.joined(), "{a:?}");
        assert_eq!(net.refused, 0);
    }
}

#[test]
fn a_side_that_hides_its_addresses_is_found_by_its_checks() {
    for role in [Role::Controlling, Role::Controlled] {
        let other = if role == Role::Controlling { Role::Controlled } else { Role::Controlling };
        let mut net = Net::new(role, other, &[], &[A]);
        net.run(1_500);
        assert!(net.joined(), "{role:?}");
    }
}

#[test]
fn both_in_one_role_is_put_right_by_tie_breaker() {
    for role in [Role::Controlling, Role::Controlled] {
        let mut net = Net::new(role, role, &[B], &[A]);
        net.run(3_000);
        assert!(net.joined(), "{role:?}");
        assert_ne!(net.a.role, net.b.role);
    }
}

#[test]
fn the_pair_follows_a_peer_that_moves_without_a_new_offer() {
    for role in [Role::Controlling, Role::Controlled] {
        let other = if role == Role::Controlling { Role::Controlled } else { Role::Controlling };
        let mut net = Net::new(role, other, &[B], &[A]);
        net.run(1_000);
        assert!(net.joined());
        // Its packets come from elsewhere from now on, and so do its consent checks.
        net.b_at = at(B_MOVED);
        for _ in 0..40 {
            net.run(250);
            if net.a.admits(net.b_at) {
                net.a.media(net.now, net.b_at);
            }
        }
        assert!(net.joined(), "{role:?}: {:?}", net.a.selected());
        assert_eq!(net.a.moves(), 1);
    }
}

#[test]
fn consent_is_lost_after_thirty_seconds_of_silence_and_comes_back_with_an_answer() {
    let mut net = Net::new(Role::Controlled, Role::Controlling, &[B], &[A]);
    net.run(1_000);
    net.up = false;
    net.run(24_000);
    assert!(net.joined(), "an answer is at most six seconds old when the network goes");
    net.run(8_000);
    assert_eq!(net.a.destination(net.now), None);
    net.up = true;
    net.run(8_000);
    assert!(net.joined());
}

#[test]
fn after_a_restart_the_old_pair_carries_on_until_the_new_one_is_there() {
    let mut net = Net::new(Role::Controlled, Role::Controlling, &[B], &[A]);
    net.run(1_000);
    let identity = net.a.identity.clone();
    let (ours, theirs) = (identity.credentials(), identity.credentials());
    let remote = |addr: &str| [Remote { addr: at(addr), priority: HOST_PRIORITY }];
    let a = Generation { local: ours.clone(), remote: theirs.clone() };
    net.a.restart(a, Role::Controlled, &remote(B_MOVED), net.now);
    assert!(net.joined(), "nothing is interrupted");
    net.run(500);
    assert!(net.joined());
    // Now the other side takes it over, on its new address.
    let b = Generation { local: theirs, remote: ours };
    net.b.restart(b, Role::Controlling, &remote(A), net.now);
    net.b_at = at(B_MOVED);
    net.run(2_000);
    assert!(net.joined(), "{:?}", net.a.selected());
    assert_eq!((net.a.generation, net.a.previous.is_none()), (1, true));
}

#[test]
fn who_does_not_know_the_password_learns_and_changes_nothing() {
    let mut net = Net::new(Role::Controlled, Role::Controlling, &[B], &[A]);
    net.run(1_000);
    let crypto = net.a.identity.crypto.clone();
    let stranger = at("203.0.113.66:6666");
    let username = format!("{}:{}", net.a.current.local.ufrag, net.a.current.remote.ufrag);
    for (name, pwd) in [(username.as_str(), "not-the-password-of-this-one"), ("other:names", "x")] {
        let check = Check {
            id: [7; 12],
            username: name.into(),
            pwd,
            priority: u32::MAX,
            role: Role::Controlled,
            tie: 0,
            use_candidate: true,
        };
        let datagram = check.write(crypto.crypto());
        assert_eq!(net.a.receive(net.now, stranger, &datagram), Err(Dropped::Unproven));
    }
    assert_eq!(net.a.role, Role::Controlled, "a role is no stranger's to change");
    assert!(net.a.poll().is_none() && !net.a.admits(stranger) && net.joined());
}

#[test]
fn addresses_that_are_nobodys_are_not_checked_and_there_are_never_many() {
    let mut net = Net::new(Role::Controlled, Role::Controlling, &[], &[]);
    let bad = ["0.0.0.0:5", "224.0.0.1:5", "255.255.255.255:5", "192.0.2.9:0"];
    let many = (1..100).map(|n| Remote { addr: SocketAddr::from(([192, 0, 2, 9], n)), priority: 1 });
    let remotes: Vec<Remote> = bad.iter().map(|b| Remote { addr: at(b), priority: 1 }).collect();
    net.a.add(&remotes, net.now);
    assert!(net.a.pairs.is_empty());
    net.a.add(&many.collect::<Vec<_>>(), net.now);
    assert_eq!(net.a.pairs.len(), MAX_REMOTE);
    net.a.timeout(net.now);
    assert_eq!(std::iter::from_fn(|| net.a.poll()).count(), 1, "one check in 50 ms");
}

proptest::proptest! {
    #[test]
    fn no_datagram_breaks_an_agent(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), real: bool) {
        let mut net = Net::new(Role::Controlled, Role::Controlling, &[B], &[A]);
        if real && bytes.len() >= 20 {
            // The head of a binding request, so that the attributes are read.
            let length = (bytes.len() - 20) as u16;
            bytes[..8].copy_from_slice(&[0, 1, (length >> 8) as u8, length as u8, 0x21, 0x12, 0xa4, 0x42]);
        }
        proptest::prop_assert!(net.a.receive(net.now, at(B), &bytes).is_err());
    }

    #[test]
    fn a_check_changed_in_any_byte_is_refused(place in 0usize..100, bit in 0u8..8) {
        let mut net = Net::new(Role::Controlled, Role::Controlling, &[], &[A]);
        net.b.timeout(net.now + Duration::from_millis(100));
        let (_, mut datagram) = net.b.poll().expect("a check");
        let place = place % datagram.len();
        datagram[place] ^= 1 << bit;
        proptest::prop_assert!(net.a.receive(net.now, at(B), &datagram).is_err());
        proptest::prop_assert!(!net.a.admits(at(B)));
    }
}
