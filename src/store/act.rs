//! The actions a flow may call by name. A failure is an outcome: the flow decides what the caller hears.

use super::orders::{Change, MOST_ORDERS, order_value};
use super::{Store, StoreError};
use crate::clock::UtcMs;
use crate::crm::{Order, normalise_phone, phone_tail};
use crate::dialplan::{Level, Value, actions};
use crate::ids::CallId;
use crate::pii::Pii;
use std::collections::BTreeMap;

/// What an action answers.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionOutcome {
    /// One of the outcomes its [`ActionSpec`] declares.
    pub outcome: String,
    /// Fields that `save:` takes from.
    pub data: Value,
}

type Args = BTreeMap<String, Value>;

impl Store {
    /// Runs an action. Whatever it changes is on disk when this returns.
    ///
    /// * `orders.recent` {phone, limit}: the newest orders of that number.
    /// * `orders.get` {ref, phone, phone_tail}: one of the caller's own orders by number, last digits, item, a map with
    ///   `id` or `no`, or "最近一单"; without `ref` the newest. Somebody else's comes with `mine` false, for the flow to
    ///   verify before a word of it is spoken, and only when its digits fit one buyer; a `phone_tail` must match his.
    /// * `orders.change_address` {order, address, receiver}: `address` a map with `text`, a saved label, or the text;
    ///   `conflict` once it has left the warehouse. `phone`, when given, must be the buyer's.
    /// * `orders.urge` {order}: counted once a call; `conflict` when there is nothing left to hurry.
    ///
    /// `denied` when less was `proved` for the order than the action demands: the flow's machine has asked already, but
    /// nothing is changed on its word alone.
    pub async fn act(&self, name: &str, args: &Args, proved: Level, call: CallId, now: UtcMs) -> ActionOutcome {
        if actions::find(name).is_some_and(|a| a.subject.is_some() && proved < a.level) {
            tracing::warn!(call = %call, action = name, "refused: the caller has not proved enough");
            return outcome("denied", []);
        }
        let done = match name {
            "orders.recent" => self.recent(args).await,
            "orders.get" => self.get(args).await,
            "orders.change_address" => self.change(args, call, now).await,
            "orders.urge" => self.hurry(args, call, now).await,
            _ => Ok(outcome("error", [("reason", Value::Text(format!("there is no action '{name}'")))])),
        };
        done.unwrap_or_else(|e| {
            tracing::warn!(call = %call, action = name, error = %e, "an action failed");
            outcome("error", [("reason", Value::Text(e.to_string()))])
        })
    }

    async fn recent(&self, args: &Args) -> Result<ActionOutcome, StoreError> {
        let limit = arg(args, "limit").as_int().unwrap_or(MOST_ORDERS);
        let orders = self.orders_of(&phone(args), limit).await?;
        if orders.is_empty() {
            return Ok(outcome("empty", [("items", Value::List(vec![])), ("n", Value::Int(0))]));
        }
        let count = Value::Int(orders.len() as i64);
        Ok(outcome("ok", [("items", Value::List(orders.iter().map(order_value).collect())), ("n", count)]))
    }

    async fn get(&self, args: &Args) -> Result<ActionOutcome, StoreError> {
        let wanted = reference(arg(args, "ref"));
        let mut own = self.orders_of(&phone(args), 100).await?;
        let found = match own.iter().position(|o| o.is_meant_by(&wanted)) {
            Some(i) => Some(own.swap_remove(i)),
            None if means_newest(&wanted) => (!own.is_empty()).then(|| own.swap_remove(0)),
            None => self.of_somebody_else(&wanted, args).await?,
        };
        Ok(match found {
            Some(o) => {
                let mine = normalise_phone(o.phone.expose()) == phone(args);
                let mut order = order_value(&o);
                if let Value::Map(fields) = &mut order {
                    fields.insert("mine".into(), Value::Bool(mine));
                }
                outcome("ok", [("order", order)])
            }
            None => outcome("empty", [("order", Value::Null)]),
        })
    }

    async fn of_somebody_else(&self, ending: &str, args: &Args) -> Result<Option<Order>, StoreError> {
        let tail = digits(arg(args, "phone_tail"), 4);
        if ending.len() < 4 || !ending.chars().all(|c| c.is_ascii_digit()) {
            return Ok(None);
        }
        let mut fitting = self.orders_by_ending(ending).await?;
        fitting.retain(|o| arg(args, "phone_tail").is_null() || phone_tail(o.phone.expose()) == tail);
        // Two people's orders end alike: better ask again than tell one the other's.
        let one_buyer = fitting.windows(2).all(|w| w[0].phone == w[1].phone);
        Ok(fitting.into_iter().next().filter(|_| one_buyer))
    }

    async fn change(&self, args: &Args, call: CallId, now: UtcMs) -> Result<ActionOutcome, StoreError> {
        let Some(order) = self.order_meant(args).await? else { return Ok(no_such_order()) };
        let said = match arg(args, "address") {
            Value::Text(s) => s.trim(),
            map => map.get("text").as_text().or_else(|| map.get("label").as_text()).unwrap_or("").trim(),
        };
        if said.is_empty() {
            return Ok(outcome("error", [("reason", Value::text("no address was given"))]));
        }
        let saved = self.saved_address(order.phone.expose(), said).await?;
        // A bare label that nobody saved ("公司" of a caller without one) is no place a parcel can go to.
        if saved.is_none() && said.chars().count() < 6 {
            return Ok(outcome("error", [("reason", Value::Text(format!("no saved address is called '{said}'")))]));
        }
        let address = saved.map_or_else(|| Pii::new(said), |a| a.text);
        let receiver = arg(args, "receiver").as_text().map(str::trim).filter(|r| !r.is_empty()).map(Pii::new);
        let done = self.change_address(&order.id, &address, receiver.as_ref(), call, now).await?;
        Ok(changed(done, |order, first| vec![("order", order_value(order)), ("changed", Value::Bool(first))]))
    }

    async fn hurry(&self, args: &Args, call: CallId, now: UtcMs) -> Result<ActionOutcome, StoreError> {
        let Some(order) = self.order_meant(args).await? else { return Ok(no_such_order()) };
        let done = self.urge(&order.id, call, now).await?;
        Ok(changed(done, |order, first| {
            vec![("order", order_value(order)), ("count", Value::Int(order.urged)), ("first", Value::Bool(first))]
        }))
    }

    /// The order an earlier `orders.get` gave: by id or number only, and the caller's own where a phone is named.
    async fn order_meant(&self, args: &Args) -> Result<Option<Order>, StoreError> {
        let key = reference(arg(args, "order"));
        let row = sqlx::query("SELECT * FROM orders WHERE id = ? OR no = ?")
            .bind(&key)
            .bind(&key)
            .fetch_optional(&self.read)
            .await?;
        let order = row.as_ref().map(super::orders::order).transpose()?;
        let owner = phone(args);
        Ok(order.filter(|o| owner.is_empty() || o.phone.expose() == owner))
    }
}

fn outcome<const N: usize>(name: &str, data: [(&str, Value); N]) -> ActionOutcome {
    ActionOutcome { outcome: name.into(), data: Value::map(data) }
}

fn no_such_order() -> ActionOutcome {
    outcome("error", [("reason", Value::text("there is no such order"))])
}

fn changed(change: Change, data: impl Fn(&Order, bool) -> Vec<(&'static str, Value)>) -> ActionOutcome {
    match change {
        Change::Done { order, first } => ActionOutcome { outcome: "ok".into(), data: Value::map(data(&order, first)) },
        Change::TooLate(order) => outcome("conflict", [("order", order_value(&order))]),
        Change::NoSuchOrder => no_such_order(),
    }
}

fn arg<'a>(args: &'a Args, name: &str) -> &'a Value {
    args.get(name).unwrap_or(&Value::Null)
}

fn phone(args: &Args) -> String {
    normalise_phone(&digits(arg(args, "phone"), 1))
}

/// Text, or a whole number written with at least so many digits (a tail of `0826` may arrive as 826).
fn digits(value: &Value, least: usize) -> String {
    match value {
        Value::Text(s) => s.trim().to_string(),
        Value::Int(n) if *n >= 0 => format!("{n:0least$}"),
        _ => String::new(),
    }
}

/// The words or digits by which an order is meant; empty when none are given.
fn reference(value: &Value) -> String {
    match value {
        Value::Map(_) => ["id", "no", "tail", "item", "value"]
            .iter()
            .find_map(|k| value.get(k).as_text())
            .unwrap_or_default()
            .to_string(),
        other => digits(other, 4),
    }
}

fn means_newest(reference: &str) -> bool {
    let words = ["最近", "最新", "刚才", "刚买", "上一单", "最后一单", "latest", "last"];
    reference.is_empty() || words.iter().any(|w| reference.contains(w))
}
