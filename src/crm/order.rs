//! Orders: their states, how these are said, and what may still be changed.

use crate::clock::UtcMs;
use crate::pii::Pii;

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OrderStatus {
    /// Paid, not yet touched by the warehouse.
    Paid,
    /// Being packed.
    Packing,
    /// Handed to the carrier.
    Shipped,
    /// Signed for.
    Signed,
    /// Done with.
    Closed,
    /// Cancelled.
    Cancelled,
}

impl OrderStatus {
    /// All of them, in the order an order goes through them.
    pub const ALL: [OrderStatus; 6] = [
        OrderStatus::Paid,
        OrderStatus::Packing,
        OrderStatus::Shipped,
        OrderStatus::Signed,
        OrderStatus::Closed,
        OrderStatus::Cancelled,
    ];

    /// The name in records and dialplan conditions.
    pub const fn name(self) -> &'static str {
        match self {
            OrderStatus::Paid => "paid",
            OrderStatus::Packing => "packing",
            OrderStatus::Shipped => "shipped",
            OrderStatus::Signed => "signed",
            OrderStatus::Closed => "closed",
            OrderStatus::Cancelled => "cancelled",
        }
    }

    /// From its name.
    pub fn from_name(name: &str) -> Option<Self> {
        OrderStatus::ALL.into_iter().find(|s| s.name() == name)
    }

    /// As said to the caller, fitting into "您的冰箱…".
    pub const fn status_text(self) -> &'static str {
        match self {
            OrderStatus::Paid => "已经付款,正在等待配货",
            OrderStatus::Packing => "正在打包",
            OrderStatus::Shipped => "已经发货",
            OrderStatus::Signed => "已经签收",
            OrderStatus::Closed => "已经完成",
            OrderStatus::Cancelled => "已经取消",
        }
    }

    /// Whether the delivery address may still be changed by us: only before the parcel leaves the warehouse.
    pub const fn address_may_change(self) -> bool {
        matches!(self, OrderStatus::Paid | OrderStatus::Packing)
    }

    /// Whether there is anything left to hurry.
    pub const fn may_be_urged(self) -> bool {
        matches!(self, OrderStatus::Paid | OrderStatus::Packing | OrderStatus::Shipped)
    }
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// ULID text.
    pub id: String,
    /// The number customers know, 12-18 digits.
    pub no: String,
    /// What was bought.
    pub item: String,
    /// In cents (分).
    pub amount_cents: i64,
    /// Where it stands.
    pub status: OrderStatus,
    /// Expected day of delivery, `2026-11-22`.
    pub eta: String,
    /// Delivery address.
    pub address: Pii,
    /// Who receives it.
    pub receiver: Pii,
    /// Number it was ordered with, normalised.
    pub phone: Pii,
    /// When it was ordered.
    pub placed_at: UtcMs,
    /// How often its owner hurried us.
    pub urged: i64,
}

impl Order {
    /// The last four characters of the number, as callers know it.
    pub fn tail(&self) -> &str {
        let cut = self.no.char_indices().rev().nth(3).map_or(0, |(i, _)| i);
        &self.no[cut..]
    }

    /// Whether a caller's words or keys mean this order: its id, its number, four digits and more of the number's end,
    /// or its item by name. Reads no meaning into "the last one": that is the caller's list, not this order.
    pub fn is_meant_by(&self, reference: &str) -> bool {
        let reference = reference.trim();
        if reference.is_empty() {
            return false;
        }
        if reference == self.id || reference == self.no {
            return true;
        }
        if reference.chars().all(|c| c.is_ascii_digit()) {
            return reference.len() >= 4 && self.no.ends_with(reference);
        }
        reference.chars().count() >= 2 && (self.item.contains(reference) || reference.contains(&self.item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Order {
        Order {
            id: "01J0000000000000000000000A".into(),
            no: "20261118003826".into(),
            item: "冰箱".into(),
            amount_cents: 289_900,
            status: OrderStatus::Packing,
            eta: "2026-11-22".into(),
            address: Pii::new("北京市海淀区中关村大街五号"),
            receiver: Pii::new("王小明"),
            phone: Pii::new("13800138000"),
            placed_at: UtcMs(0),
            urged: 0,
        }
    }

    #[test]
    fn names_go_there_and_back_and_every_state_can_be_said() {
        for s in OrderStatus::ALL {
            assert_eq!(OrderStatus::from_name(s.name()), Some(s));
            assert!(s.status_text().chars().count() >= 4);
        }
        assert_eq!(OrderStatus::from_name("lost"), None);
    }

    #[test]
    fn an_address_changes_only_before_the_parcel_leaves() {
        let may: Vec<_> = OrderStatus::ALL.into_iter().filter(|s| s.address_may_change()).collect();
        assert_eq!(may, [OrderStatus::Paid, OrderStatus::Packing]);
        assert!(!OrderStatus::Signed.may_be_urged());
    }

    #[test]
    fn an_order_is_meant_by_number_tail_or_item() {
        let o = order();
        for r in ["20261118003826", "3826", "003826", "冰箱", "我的冰箱", " 3826 ", "01J0000000000000000000000A"]
        {
            assert!(o.is_meant_by(r), "{r}");
        }
        for r in ["", "826", "3827", "洗衣机", "箱", "9920261118003826"] {
            assert!(!o.is_meant_by(r), "{r}");
        }
        assert_eq!(o.tail(), "3826");
    }
}
