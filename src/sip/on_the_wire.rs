//! How requests of ours inside a leg look on the wire where the SIP library believes otherwise: their numbers, once we
//! have sent a PRACK of our own, and the target of the ACK of a 2xx.

/// Branches of a forked call whose targets are remembered, ACKs, and INVITEs.
const MOST: usize = 8;

/// What an ACK should have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mended {
    pub target: Option<String>,
    pub number: u32,
}

/// Of one leg.
#[derive(Debug, Default)]
pub(super) struct OnTheWire {
    /// Remote target as the 2xx of each branch wrote it, where the library would escape it twice; by To-tag.
    targets: Vec<(String, String)>,
    /// Requests of ours that the library does not know of (PRACK), and the INVITE's number: what it sends after that
    /// has a higher number on the wire than it thinks.
    shift: u32,
    base: u32,
    /// Branches of the last ACKs that were mended: the library keeps an ACK and sends it again.
    mended: Vec<String>,
    /// Branches of the last INVITEs: the ACK of one that was refused has its INVITE's, and its target.
    invites: Vec<String>,
}

impl OnTheWire {
    /// Whether anything differs at all.
    fn differs(&self) -> bool {
        self.shift > 0 || !self.targets.is_empty()
    }

    /// An INVITE goes out; `first`: it begins a dialog, and whatever an earlier one of the leg led to is over.
    pub fn inviting(&mut self, branch: &str, first: bool) {
        if self.invites.iter().any(|b| b == branch) {
            return; // it is repeated
        }
        if first {
            *self = OnTheWire::default();
        }
        note(&mut self.invites, branch);
    }

    /// A number for a PRACK of ours; `invite` is the INVITE's.
    pub fn number_for_prack(&mut self, invite: u32) -> u32 {
        if self.shift == 0 {
            self.base = invite;
        }
        self.shift += 1;
        self.base + self.shift
    }

    /// The number of a request that the library gives `number`; `None` where they are the same.
    pub fn number(&self, number: u32) -> Option<u32> {
        (self.shift > 0).then(|| self.shifted(number))
    }

    fn shifted(&self, number: u32) -> u32 {
        if number > self.base { number + self.shift } else { number }
    }

    /// The number that the library knows a request by whose answer has `number`; `None` where they are the same.
    pub fn in_the_library(&self, number: u32) -> Option<u32> {
        (self.shift > 0 && number > self.base + self.shift).then(|| number - self.shift)
    }

    /// A 2xx of the branch `to_tag` names its Contact. Only one with escapes need be known, and takes back what was.
    pub fn aim(&mut self, to_tag: &str, contact: &str) {
        self.targets.retain(|(tag, _)| tag != to_tag);
        if contact.contains('%') && self.targets.len() < MOST {
            self.targets.push((to_tag.to_string(), contact.to_string()));
        }
    }

    /// What the library writes wrongly in an ACK. Once for each ACK's branch.
    pub fn ack(&mut self, to_tag: &str, branch: &str, number: u32) -> Option<Mended> {
        if !self.differs() || self.mended.iter().any(|b| b == branch) {
            return None;
        }
        note(&mut self.mended, branch);
        let refused = self.invites.iter().any(|b| b == branch);
        let target = self.targets.iter().find(|(t, _)| !refused && t == to_tag).map(|(_, contact)| contact.clone());
        Some(Mended { target, number: self.shifted(number) })
    }
}

fn note(list: &mut Vec<String>, branch: &str) {
    if list.len() >= MOST {
        list.remove(0);
    }
    list.push(branch.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_sends_after_a_prack_of_ours_has_the_next_number() {
        let mut leg = OnTheWire::default();
        assert_eq!((leg.number(6), leg.in_the_library(6)), (None, None));
        assert_eq!((leg.number_for_prack(5), leg.number_for_prack(5)), (6, 7));
        assert_eq!((leg.number(5), leg.number(6)), (Some(5), Some(8)));
        assert_eq!((leg.in_the_library(8), leg.in_the_library(5)), (Some(6), None));
        assert_eq!(leg.ack("x", "b1", 6), Some(Mended { target: None, number: 8 }));
        assert_eq!(leg.ack("x", "b1", 8), None, "an ACK that is sent again stays as it is");
    }

    #[test]
    fn the_target_of_an_ack_is_that_of_the_last_2xx_and_none_for_an_invite_that_was_refused() {
        let mut leg = OnTheWire::default();
        leg.inviting("i1", true);
        leg.aim("x", "sip:a%40b@192.0.2.1");
        assert_eq!(leg.ack("x", "b1", 5).unwrap().target.as_deref(), Some("sip:a%40b@192.0.2.1"));
        leg.inviting("i2", false);
        assert_eq!(leg.ack("x", "i2", 6).unwrap().target, None, "488 to a re-INVITE: its ACK goes where it went");
        leg.aim("x", "sip:plain@192.0.2.2");
        assert_eq!(leg.ack("x", "b2", 7), None, "the library can write that one");
    }

    #[test]
    fn an_invite_that_begins_anew_forgets_the_pracks_of_the_one_before_it() {
        let mut leg = OnTheWire::default();
        leg.inviting("i1", true);
        assert_eq!(leg.number_for_prack(5), 6);
        leg.inviting("i1", true);
        assert_eq!(leg.number(6), Some(7), "a repeated one is no new one");
        leg.inviting("i2", true); // after a 407 or 422
        assert_eq!((leg.number(6), leg.ack("x", "b1", 6)), (None, None));
        assert_eq!(leg.number_for_prack(6), 7);
    }
}
