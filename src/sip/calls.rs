//! Which calls are ours: the list every message is held against before the SIP library sees it.

use super::event::DialogId;
use super::identity::Identity;
use crate::clock::Mono;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// To whom a password may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pin {
    /// The server the request went to.
    pub server: IpAddr,
    /// Its realm, when configured.
    pub realm: Option<String>,
    /// False: we have no password for it at all.
    pub secret: bool,
}

/// What a leg is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A call that came in: the caller's From-tag, the INVITE's CSeq, the number dialled and who calls; adopted once a
    /// dialog stands.
    In { peer_tag: String, cseq: u32, dialled: String, identity: Box<Identity>, adopted: bool },
    /// A call we placed.
    Out,
    /// A registration of ours elsewhere.
    Register,
}

#[derive(Debug)]
struct Leg {
    id: DialogId,
    kind: Kind,
    our_tag: String,
    pin: Option<Pin>,
    ended: Option<Mono>,
}

/// Legs by Call-ID. An ended one stays for `linger`, so that late retransmissions find their answers.
#[derive(Debug)]
pub(super) struct Calls {
    legs: HashMap<String, Vec<Leg>>,
    names: HashMap<DialogId, String>,
    active: usize,
    next: u64,
    linger: Duration,
}

impl Calls {
    pub fn new(linger: Duration) -> Calls {
        Calls { legs: HashMap::new(), names: HashMap::new(), active: 0, next: 1, linger }
    }

    /// Calls right now.
    pub fn active(&self) -> usize {
        self.active
    }

    /// Notes a leg.
    pub fn add(&mut self, call_id: &str, kind: Kind, pin: Option<Pin>) -> DialogId {
        let id = DialogId(self.next);
        self.next += 1;
        self.active += usize::from(kind != Kind::Register);
        let leg = Leg { id, kind, our_tag: String::new(), pin, ended: None };
        self.legs.entry(call_id.to_string()).or_default().push(leg);
        self.names.insert(id, call_id.to_string());
        id
    }

    fn leg(&mut self, id: DialogId) -> Option<&mut Leg> {
        let name = self.names.get(&id)?;
        self.legs.get_mut(name)?.iter_mut().find(|l| l.id == id)
    }

    /// Our tag of the dialog, once known.
    pub fn set_tag(&mut self, id: DialogId, tag: &str) {
        if let Some(leg) = self.leg(id) {
            leg.our_tag = tag.to_string();
        }
    }

    /// Marks a leg as over; its slot is free from now on. Twice does no harm.
    pub fn end(&mut self, id: DialogId, now: Mono) {
        let Some(leg) = self.leg(id).filter(|l| l.ended.is_none()) else { return };
        leg.ended = Some(now);
        self.active -= usize::from(leg_counts(&leg.kind));
    }

    /// Whether an INVITE with this From-tag and number was let in already.
    pub fn has_incoming(&self, call_id: &str, from_tag: &str, number: u32) -> bool {
        let this =
            |l: &Leg| matches!(&l.kind, Kind::In { peer_tag, cseq, .. } if peer_tag == from_tag && *cseq == number);
        self.legs.get(call_id).is_some_and(|legs| legs.iter().any(this))
    }

    /// Takes up the leg that was let in for this INVITE, with the number dialled; `None` when that happened before (a
    /// merged request). The SIP library writes an escaped user anew, so the number is the one that was let in.
    pub fn adopt(&mut self, call_id: &str, from_tag: &str, number: u32) -> Option<(DialogId, String, Identity)> {
        self.legs.get_mut(call_id)?.iter_mut().find_map(|l| match &mut l.kind {
            Kind::In { peer_tag, cseq, dialled, identity, adopted }
                if peer_tag == from_tag && *cseq == number && !*adopted =>
            {
                *adopted = true;
                Some((l.id, std::mem::take(dialled), std::mem::take(&mut **identity)))
            }
            _ => None,
        })
    }

    /// Our tag of the call whose first INVITE has this From-tag and number.
    pub fn tag_of(&self, call_id: &str, from_tag: &str, number: u32) -> Option<String> {
        let legs = self.legs.get(call_id)?.iter();
        let mut of = legs
            .filter(|l| matches!(&l.kind, Kind::In { peer_tag, cseq, .. } if peer_tag == from_tag && *cseq == number));
        of.next().map(|l| l.our_tag.clone()).filter(|t| !t.is_empty())
    }

    /// The dialog a request with this To-tag is inside of.
    pub fn find(&self, call_id: &str, our_tag: &str) -> Option<DialogId> {
        self.legs.get(call_id)?.iter().find(|l| !our_tag.is_empty() && l.our_tag == our_tag).map(|l| l.id)
    }

    /// Whether a request inside a dialog (its To-tag is ours) belongs to us.
    pub fn has_dialog(&self, call_id: &str, our_tag: &str) -> bool {
        self.find(call_id, our_tag).is_some()
    }

    /// Whether anything of ours has this Call-ID: what a response must have.
    pub fn knows(&self, call_id: &str) -> bool {
        self.legs.contains_key(call_id)
    }

    /// Whether a challenge from `source` with these realms may be answered.
    pub fn may_answer(&self, call_id: &str, source: SocketAddr, realms: &[String]) -> bool {
        let pins = self.legs.get(call_id).into_iter().flatten().filter_map(|l| l.pin.as_ref());
        pins.into_iter().any(|p| {
            let realm_fits = p.realm.as_ref().is_none_or(|r| realms.iter().all(|x| x == r));
            p.secret && p.server == source.ip() && realm_fits
        })
    }

    /// Forgets legs that ended long enough ago.
    pub fn tidy(&mut self, now: Mono) {
        let linger = self.linger;
        let names = &mut self.names;
        self.legs.retain(|_, legs| {
            legs.retain(|l| {
                let stays = l.ended.is_none_or(|at| now.since(at) < linger);
                if !stays {
                    names.remove(&l.id);
                }
                stays
            });
            !legs.is_empty()
        });
    }
}

fn leg_counts(kind: &Kind) -> bool {
    *kind != Kind::Register
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming() -> Kind {
        Kind::In { peer_tag: "f".into(), cseq: 1, dialled: "400".into(), identity: Box::default(), adopted: false }
    }

    #[test]
    fn an_invite_is_adopted_once_and_its_slot_is_freed_once() {
        let mut c = Calls::new(Duration::from_secs(32));
        let id = c.add("call", incoming(), None);
        assert!(c.has_incoming("call", "f", 1) && !c.has_incoming("call", "f", 2));
        assert_eq!(
            (c.adopt("call", "f", 1), c.adopt("call", "f", 1)),
            (Some((id, "400".to_string(), Identity::default())), None)
        );
        c.set_tag(id, "t");
        assert!(c.has_dialog("call", "t") && !c.has_dialog("call", ""));
        c.end(id, Mono::from_ms(0));
        c.end(id, Mono::from_ms(0));
        assert_eq!(c.active(), 0);
        c.tidy(Mono::from_ms(31_000));
        assert!(c.knows("call"), "late retransmissions still find it");
        c.tidy(Mono::from_ms(33_000));
        assert!(!c.knows("call") && c.names.is_empty());
    }

    #[test]
    fn a_challenge_is_answered_only_to_the_pinned_server_and_realm() {
        let mut c = Calls::new(Duration::from_secs(32));
        let pin = |realm: Option<&str>, secret| {
            Some(Pin { server: "192.0.2.1".parse().unwrap(), realm: realm.map(String::from), secret })
        };
        c.add("a", Kind::Out, pin(Some("gw"), true));
        c.add("b", Kind::Out, pin(None, true));
        c.add("c", Kind::Out, pin(None, false));
        let (gw, rogue) = ("192.0.2.1:5060".parse().unwrap(), "192.0.2.66:5060".parse().unwrap());
        assert!(c.may_answer("a", gw, &["gw".into()]) && !c.may_answer("a", gw, &["other".into()]));
        assert!(!c.may_answer("a", rogue, &["gw".into()]));
        assert!(c.may_answer("b", gw, &["any".into()]) && !c.may_answer("b", rogue, &["any".into()]));
        assert!(!c.may_answer("c", gw, &["gw".into()]) && !c.may_answer("nope", gw, &[]));
    }
}
