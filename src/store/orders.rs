//! Customers and their orders: what a flow may know of them, and the two things it may do to an order.

use super::{Store, StoreError, calls};
use crate::clock::UtcMs;
use crate::crm::{Address, Customer, Order, OrderStatus, normalise_phone, phone_tail};
use crate::dialplan::Value;
use crate::ids::CallId;
use crate::pii::Pii;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite};

/// How many orders a flow is told of at most, unless it asks for fewer.
pub(super) const MOST_ORDERS: i64 = 3;

impl Store {
    /// What a flow may know of the one who calls from `phone`: `known`, `name`, `vip`, `elder`, `phone_tail`,
    /// `addresses` (`label`, `text`, `say`: ways to name it) and the newest `orders`, at most three. An unknown number
    /// gives the same fields, empty.
    pub async fn profile(&self, phone: &str) -> Result<Value, StoreError> {
        let number = normalise_phone(phone);
        let customer = self.customer(&number).await?;
        let (mut addresses, mut orders) = (Vec::new(), Vec::new());
        if let Some(c) = &customer {
            addresses = self.addresses(&c.id).await?.iter().map(address_value).collect();
            orders = self.orders_of(&number, MOST_ORDERS).await?.iter().map(order_value).collect();
        }
        let name = customer.as_ref().map_or(Value::Null, |c| Value::text(c.name.expose()));
        Ok(Value::map([
            ("known", Value::Bool(customer.is_some())),
            ("name", name),
            ("vip", Value::Bool(customer.as_ref().is_some_and(|c| c.vip))),
            ("elder", Value::Bool(customer.as_ref().is_some_and(|c| c.elder))),
            ("phone_tail", Value::Text(phone_tail(&number))),
            ("addresses", Value::List(addresses)),
            ("orders", Value::List(orders)),
        ]))
    }

    async fn customer(&self, number: &str) -> Result<Option<Customer>, StoreError> {
        let row = sqlx::query(
            "SELECT c.id, c.name, c.vip, c.elder FROM customer c JOIN contact_point p ON p.customer_id = c.id
             WHERE p.kind = 'phone' AND p.value = ?",
        )
        .bind(number)
        .fetch_optional(&self.read)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let name: String = row.try_get("name")?;
        let (vip, elder) = (row.try_get("vip")?, row.try_get("elder")?);
        Ok(Some(Customer { id: row.try_get("id")?, name: Pii::new(name), vip, elder }))
    }

    async fn addresses(&self, customer: &str) -> Result<Vec<Address>, StoreError> {
        let rows = sqlx::query("SELECT label, text FROM address WHERE customer_id = ? ORDER BY id")
            .bind(customer)
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(|r| Ok(Address { label: r.try_get("label")?, text: pii(r, "text")? })).collect()
    }

    /// The address a caller means by a label, or by the address itself.
    pub(super) async fn saved_address(&self, phone: &str, said: &str) -> Result<Option<Address>, StoreError> {
        let Some(customer) = self.customer(&normalise_phone(phone)).await? else { return Ok(None) };
        let saved = self.addresses(&customer.id).await?;
        Ok(saved.into_iter().find(|a| a.text.expose() == said || a.ways_to_say().iter().any(|w| w == said)))
    }

    /// Orders placed from a (normalised) number, newest first.
    pub(super) async fn orders_of(&self, number: &str, limit: i64) -> Result<Vec<Order>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM orders WHERE buyer_phone = ? AND ? <> '' ORDER BY placed_at DESC, no DESC LIMIT ?",
        )
        .bind(number)
        .bind(number)
        .bind(limit.clamp(0, 100))
        .fetch_all(&self.read)
        .await?;
        rows.iter().map(order).collect()
    }

    /// Orders by number or by the end of it, whosever they are; for callers who prove themselves another way.
    pub(super) async fn orders_by_ending(&self, ending: &str) -> Result<Vec<Order>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM orders WHERE substr(no, -length(?)) = ? ORDER BY placed_at DESC LIMIT 50")
                .bind(ending)
                .bind(ending)
                .fetch_all(&self.read)
                .await?;
        rows.iter().map(order).collect()
    }

    /// Sends an order to another address, unless it has left the warehouse. Told twice, it is done once.
    pub(super) async fn change_address(
        &self,
        id: &str,
        address: &Pii,
        receiver: Option<&Pii>,
        call: CallId,
        now: UtcMs,
    ) -> Result<Change, StoreError> {
        let mut tx = self.begin().await?;
        let Some(mut order) = find(&mut *tx, id).await? else { return Ok(Change::NoSuchOrder) };
        let receiver = receiver.unwrap_or(&order.receiver).clone();
        if order.address == *address && order.receiver == receiver {
            return Ok(Change::Done { order, first: false });
        }
        if !order.status.address_may_change() {
            return Ok(Change::TooLate(order));
        }
        calls::ensure(&mut tx, call).await?;
        sqlx::query("UPDATE orders SET address = ?, receiver = ? WHERE id = ?")
            .bind(address.expose())
            .bind(receiver.expose())
            .bind(id)
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "INSERT INTO order_event (order_id, call_id, at, kind, was, became) VALUES (?, ?, ?, 'address_changed', ?, ?)",
        )
        .bind(id)
        .bind(call.to_string())
        .bind(now.0)
        .bind(order.address.expose())
        .bind(address.expose())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        (order.address, order.receiver) = (address.clone(), receiver);
        Ok(Change::Done { order, first: true })
    }

    /// Notes that the owner hurries us; once a call.
    pub(super) async fn urge(&self, id: &str, call: CallId, now: UtcMs) -> Result<Change, StoreError> {
        let mut tx = self.begin().await?;
        let Some(mut order) = find(&mut *tx, id).await? else { return Ok(Change::NoSuchOrder) };
        if !order.status.may_be_urged() {
            return Ok(Change::TooLate(order));
        }
        calls::ensure(&mut tx, call).await?;
        let noted = sqlx::query(
            "INSERT INTO order_event (order_id, call_id, at, kind) VALUES (?, ?, ?, 'urged')
             ON CONFLICT (order_id, call_id) WHERE kind = 'urged' DO NOTHING",
        )
        .bind(id)
        .bind(call.to_string())
        .bind(now.0)
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if noted == 0 {
            return Ok(Change::Done { order, first: false });
        }
        sqlx::query("UPDATE orders SET urged = urged + 1 WHERE id = ?").bind(id).execute(&mut *tx).await?;
        tx.commit().await?;
        order.urged += 1;
        Ok(Change::Done { order, first: true })
    }
}

/// What became of a wish to change an order.
#[derive(Debug)]
pub(super) enum Change {
    /// It is so now. `first`: because of this wish, not of an earlier one.
    Done { order: Order, first: bool },
    /// The order is past that.
    TooLate(Order),
    /// There is none.
    NoSuchOrder,
}

async fn find<'e>(e: impl sqlx::Executor<'e, Database = Sqlite>, id: &str) -> Result<Option<Order>, StoreError> {
    let row = sqlx::query("SELECT * FROM orders WHERE id = ?").bind(id).fetch_optional(e).await?;
    row.as_ref().map(order).transpose()
}

fn pii(row: &SqliteRow, column: &str) -> Result<Pii, StoreError> {
    Ok(Pii::new(row.try_get::<String, _>(column)?))
}

pub(super) fn order(row: &SqliteRow) -> Result<Order, StoreError> {
    let status: String = row.try_get("status")?;
    let status = OrderStatus::from_name(&status)
        .ok_or_else(|| StoreError::Corrupt(format!("an order has the unknown state '{status}'")))?;
    Ok(Order {
        id: row.try_get("id")?,
        no: row.try_get("no")?,
        item: row.try_get("item")?,
        amount_cents: row.try_get("amount_cents")?,
        status,
        eta: row.try_get("eta")?,
        address: pii(row, "address")?,
        receiver: pii(row, "receiver")?,
        phone: pii(row, "buyer_phone")?,
        placed_at: UtcMs(row.try_get("placed_at")?),
        urged: row.try_get("urged")?,
    })
}

/// An order as flows see it.
pub(super) fn order_value(o: &Order) -> Value {
    Value::map([
        ("id", Value::text(&o.id)),
        ("no", Value::text(&o.no)),
        ("tail", Value::text(o.tail())),
        ("item", Value::text(&o.item)),
        ("status", Value::text(o.status.name())),
        ("status_text", Value::text(o.status.status_text())),
        ("eta", Value::text(&o.eta)),
        ("receiver", Value::text(o.receiver.expose())),
        ("phone_tail", Value::Text(phone_tail(o.phone.expose()))),
        ("amount", Value::Int(o.amount_cents)),
        ("amount_yuan", Value::Int(o.amount_cents / 100)),
        ("address", Value::text(o.address.expose())),
    ])
}

fn address_value(a: &Address) -> Value {
    Value::map([
        ("label", Value::text(&a.label)),
        ("text", Value::text(a.text.expose())),
        ("say", Value::List(a.ways_to_say().into_iter().map(Value::Text).collect())),
    ])
}
