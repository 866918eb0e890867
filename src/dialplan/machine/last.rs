//! The last resort: when a flow breaks, a person; when none can be had, a call-back ticket; when that fails, honesty.

use super::super::prompt::Template;
use super::super::reply::{Await, Outcome, Prompt, TransferOrder, TransferResult};
use super::super::value::Value;
use super::{Next, Out, Run, Wait};

impl Run {
    pub(super) fn last_resort(&mut self, why: &str, out: &mut Out) -> Next {
        self.trouble(why);
        self.stack.clear();
        if matches!(self.wait, Wait::LastTransfer | Wait::LastTicket | Wait::Done) {
            self.speak_hotline(|h| &h.texts.failed, out);
            return Next::Wait(Wait::Done, Await::Hangup(Outcome::Failed));
        }
        self.speak_hotline(|h| &h.texts.handover, out);
        let briefing = self.default_briefing("热线");
        let hotline = self.set.hotline();
        let (queue, skill) = hotline.person.clone();
        let (queue, skill) = (queue.text, skill.map(|s| s.text));
        let order = TransferOrder { queue, skill, warm: true, briefing, ring_ms: hotline.ring_ms };
        Next::Wait(Wait::LastTransfer, Await::Transfer(order))
    }

    pub(super) fn last_transfer_ended(&mut self, result: TransferResult, out: &mut Out) -> Next {
        if result == TransferResult::Connected {
            return Next::Wait(Wait::Done, Await::Hangup(Outcome::Transferred));
        }
        if result != TransferResult::Cancelled {
            self.speak_hotline(|h| &h.texts.no_seat, out);
        }
        let draft = self.draft("回拨".into(), "P2".into(), "首响2h/闭环24h".into(), "转人工未接通,请回拨".into());
        Next::Wait(Wait::LastTicket, Await::Ticket(draft))
    }

    pub(super) fn last_ticket_ended(&mut self, ticket: Option<Value>, out: &mut Out) -> Next {
        let Some(ticket) = ticket else {
            self.speak_hotline(|h| &h.texts.failed, out);
            return Next::Wait(Wait::Done, Await::Hangup(Outcome::Failed));
        };
        self.facts.tickets += 1;
        self.scope.insert("ticket".into(), ticket);
        self.speak_hotline(|h| &h.texts.callback, out);
        Next::Wait(Wait::Done, Await::Hangup(Outcome::Ticketed))
    }

    /// What a seat hears when the flow wrote no briefing: facts, one sentence.
    pub(super) fn default_briefing(&mut self, title: &str) -> Prompt {
        let business = self.scope.get("session").map_or(&Value::Null, |s| s.get("intent"));
        let business = match business.as_text().and_then(|i| self.set.intent_spoken(i)) {
            Some(spoken) => spoken.to_string(),
            None => title.to_string(),
        };
        let emotion = if self.mood.angry { ",客户情绪不好" } else { "" };
        let known = if self.level() >= super::Level::L1 { "已核身" } else { "未核身" };
        let text = format!("客户要办{business},{known}{emotion}。");
        self.render(&Template::plain(&text.replace(['{', '}'], "")), false)
    }
}
