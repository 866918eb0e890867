//! Which calls are ours: the list every message is held against.

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
    In { peer_tag: String, cseq: u32, dialled: String, identity: Box<Identity>, counted: Option<IpAddr>, adopted: bool },
    /// A call we placed.
    Out,
    /// A registration of ours elsewhere.
    Register,
}

/// The seat at the other end of a leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SeatEnd {
    pub user: String,
    /// It answered our challenge in this dialog; before that we only called its phone.
    pub proved: bool,
}

#[derive(Debug)]
struct Leg {
    id: DialogId,
    kind: Kind,
    our_tag: String,
    pin: Option<Pin>,
    seat: Option<SeatEnd>,
    /// It has been answered: what we send now is inside a dialog.
    confirmed: bool,
    ended: Option<Mono>,
}

/// Legs by Call-ID. An ended one stays for `linger`, so that late retransmissions find their answers.
#[derive(Debug)]
pub(super) struct Calls {
    legs: HashMap<String, Vec<Leg>>,
    names: HashMap<DialogId, String>,
    active: usize,
    /// Calls right now of addresses that are counted.
    crowds: HashMap<IpAddr, usize>,
    next: u64,
    linger: Duration,
}

impl Calls {
    pub fn new(linger: Duration) -> Calls {
        Calls { legs: HashMap::new(), names: HashMap::new(), active: 0, crowds: HashMap::new(), next: 1, linger }
    }

    /// Calls right now.
    pub fn active(&self) -> usize {
        self.active
    }

    /// Calls right now of an address that is counted.
    pub fn of_source(&self, source: IpAddr) -> usize {
        self.crowds.get(&source).copied().unwrap_or(0)
    }

    /// Notes a leg.
    pub fn add(&mut self, call_id: &str, kind: Kind, pin: Option<Pin>) -> DialogId {
        let id = DialogId(self.next);
        self.next += 1;
        self.active += usize::from(kind != Kind::Register);
        if let Kind::In { counted: Some(source), .. } = &kind {
            *self.crowds.entry(*source).or_default() += 1;
        }
        let our_tag = String::new();
        let leg = Leg { id, kind, our_tag, pin, seat: None, confirmed: false, ended: None };
        self.legs.entry(call_id.to_string()).or_default().push(leg);
        self.names.insert(id, call_id.to_string());
        id
    }

    /// Call-ID of a leg, until it is forgotten.
    pub fn call_id(&self, id: DialogId) -> Option<String> {
        self.names.get(&id).cloned()
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

    /// Notes which seat is at the other end.
    pub fn set_seat(&mut self, id: DialogId, seat: SeatEnd) {
        if let Some(leg) = self.leg(id) {
            leg.seat = Some(seat);
        }
    }

    /// The seat at the other end, if one is.
    pub fn seat(&mut self, id: DialogId) -> Option<SeatEnd> {
        self.leg(id)?.seat.clone()
    }

    /// A call of ours was answered.
    pub fn confirm(&mut self, id: DialogId) {
        if let Some(leg) = self.leg(id) {
            leg.confirmed = true;
        }
    }

    /// Whether a request of ours with this Call-ID is one inside a dialog, whatever its method.
    pub fn is_inside(&self, call_id: &str) -> bool {
        let inside = |l: &Leg| l.confirmed || matches!(l.kind, Kind::In { .. });
        self.legs.get(call_id).is_some_and(|legs| legs.iter().any(inside))
    }

    /// Marks a leg as over; its slot is free from now on. Twice does no harm.
    pub fn end(&mut self, id: DialogId, now: Mono) {
        let Some(leg) = self.leg(id).filter(|l| l.ended.is_none()) else { return };
        leg.ended = Some(now);
        let counted = match &leg.kind {
            Kind::In { counted, .. } => *counted,
            Kind::Out | Kind::Register => None,
        };
        self.active -= usize::from(leg_counts(&leg.kind));
        if let Some(source) = counted
            && let Some(count) = self.crowds.get_mut(&source)
        {
            *count -= 1;
            if *count == 0 {
                self.crowds.remove(&source);
            }
        }
    }

    /// Whether an INVITE with this From-tag and number was let in already.
    pub fn has_incoming(&self, call_id: &str, from_tag: &str, number: u32) -> bool {
        let this =
            |l: &Leg| matches!(&l.kind, Kind::In { peer_tag, cseq, .. } if peer_tag == from_tag && *cseq == number);
        self.legs.get(call_id).is_some_and(|legs| legs.iter().any(this))
    }

    /// Takes up a leg that was let in, with the number dialled; `None` when that happened before.
    pub fn adopt(&mut self, id: DialogId) -> Option<(String, Identity)> {
        match &mut self.leg(id)?.kind {
            Kind::In { dialled, identity, adopted, .. } if !*adopted => {
                *adopted = true;
                Some((std::mem::take(dialled), std::mem::take(&mut **identity)))
            }
            _ => None,
        }
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
        Kind::In {
            peer_tag: "f".into(),
            cseq: 1,
            dialled: "400".into(),
            identity: Box::default(),
            counted: Some([192, 0, 2, 1].into()),
            adopted: false,
        }
    }

    #[test]
    fn an_invite_is_adopted_once_and_its_slot_is_freed_once() {
        let mut c = Calls::new(Duration::from_secs(32));
        let id = c.add("call", incoming(), None);
        assert!(c.has_incoming("call", "f", 1) && !c.has_incoming("call", "f", 2));
        assert_eq!((c.adopt(id), c.adopt(id)), (Some(("400".to_string(), Identity::default())), None));
        c.set_tag(id, "t");
        assert!(c.has_dialog("call", "t") && !c.has_dialog("call", ""));
        c.end(id, Mono::from_ms(0));
        c.end(id, Mono::from_ms(0));
        assert_eq!((c.active(), c.of_source([192, 0, 2, 1].into()), c.crowds.len()), (0, 0, 0));
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
