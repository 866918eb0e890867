//! A pretended back office: a customer, his orders and addresses, and what actions answer. Pure and the same every time;
//! the tests inside flows and the simulator play with it.

use super::machine::Session;
use super::reply::{ActionCall, TransferResult};
use super::value::Value;
use crate::speech::Lang;

/// The pretended back office of one call.
///
/// `given:` of a test describes it: `caller` (number), `orders` (how many of the demo orders are the caller's, 0..=3),
/// `status` (of all orders), `voiceprint: pass`, `name`, `lang` (`zh` or `en`), `elder`, `angry`, `addresses` (labels; default 公司, 家里),
/// `seats` (`connected`, `busy`, `timeout`, `closed`), `tickets` (`false`: they cannot be written), `fail`
/// (`{orders.get: timeout}`), `recording_ms` (length of a recording, default 6000).
#[derive(Debug)]
pub struct Office {
    caller: String,
    lang: Lang,
    profile: Value,
    orders: Vec<Value>,
    own: usize,
    /// How every transfer ends.
    pub seats: TransferResult,
    tickets: bool,
    fail: Value,
    /// How long every recording is, in milliseconds.
    pub recording_ms: u64,
}

impl Office {
    /// The world that `given:` describes.
    pub fn new(given: &Value) -> Office {
        let text = |key: &str, default: &str| given.get(key).as_text().unwrap_or(default).to_string();
        let number = |key: &str, default: i64| given.get(key).as_int().unwrap_or(default);
        let caller = text("caller", "13800138000");
        let own = number("orders", 0).clamp(0, 3) as usize;
        let status = text("status", "packing");
        let orders = demo_orders(&status, &caller, own);
        let labels: Vec<String> = match given.get("addresses").as_list() {
            Some(list) => list.iter().filter_map(|l| l.as_text().map(str::to_string)).collect(),
            None => vec!["公司".into(), "家里".into()],
        };
        let addresses = labels.iter().map(|label| demo_address(label)).collect();
        let mut profile = vec![
            ("name", Value::Text(text("name", "张小明"))),
            ("phone_tail", Value::text(tail(&caller))),
            ("addresses", Value::List(addresses)),
            ("orders", Value::List(orders.iter().take(own).cloned().collect())),
        ];
        for key in ["voiceprint", "elder", "angry", "vip"] {
            profile.push((key, given.get(key).clone()));
        }
        let results =
            [TransferResult::Connected, TransferResult::Busy, TransferResult::Timeout, TransferResult::Closed];
        let seats = results.into_iter().find(|r| given.get("seats").as_text() == Some(r.name()));
        Office {
            caller,
            lang: if given.get("lang").as_text() == Some("en") { Lang::En } else { Lang::Zh },
            profile: Value::map(profile),
            orders,
            own,
            seats: seats.unwrap_or(TransferResult::Connected),
            tickets: given.get("tickets") != &Value::Bool(false),
            fail: given.get("fail").clone(),
            recording_ms: number("recording_ms", 6000).max(0) as u64,
        }
    }

    /// Who calls.
    pub fn session(&self) -> Session {
        Session { caller: self.caller.clone(), profile: self.profile.clone(), today: (2026, 11, 20), lang: self.lang }
    }

    /// The ticket after `n` others, if tickets can be written.
    pub fn ticket(&self, n: usize) -> Option<Value> {
        let no = format!("2026112000{:02}", n + 1);
        let tail = tail(&no).to_string();
        self.tickets.then(|| Value::map([("no", Value::Text(no)), ("tail", Value::Text(tail))]))
    }

    /// What an action answers: outcome and data.
    pub fn act(&self, call: &ActionCall) -> (String, Value) {
        if let Some(outcome) = self.fail.get(&call.name).as_text() {
            return (outcome.to_string(), Value::Null);
        }
        let ok = |data: Value| ("ok".to_string(), data);
        match call.name.as_str() {
            "orders.recent" if self.own == 0 => ("empty".into(), Value::Null),
            "orders.recent" => {
                let items: Vec<Value> = self.orders.iter().take(self.own).cloned().collect();
                ok(Value::map([("n", Value::Int(items.len() as i64)), ("items", Value::List(items))]))
            }
            "orders.get" => {
                let wanted = call.args.get("ref").and_then(Value::as_text).unwrap_or("").to_string();
                let hit = |o: &&Value| {
                    let field = |key: &str| o.get(key).as_text().unwrap_or("");
                    wanted.len() >= 4 && (field("no").ends_with(&wanted) || field("id") == wanted)
                };
                match self.orders.iter().find(hit) {
                    Some(order) => ok(Value::map([("order", order.clone())])),
                    None => ("empty".into(), Value::Null),
                }
            }
            "orders.change_address" => {
                let id = call.args.get("order").cloned().unwrap_or_default();
                let order = self.orders.iter().find(|o| o.get("id") == &id);
                let open = order.is_some_and(|o| ["paid", "packing"].map(Some).contains(&o.get("status").as_text()));
                if open { ok(Value::Null) } else { ("conflict".into(), Value::Null) }
            }
            _ => ok(Value::Null),
        }
    }
}

fn tail(digits: &str) -> &str {
    digits.get(digits.len().saturating_sub(4)..).unwrap_or(digits)
}

fn demo_address(label: &str) -> Value {
    let text = match label {
        "公司" => "北京市朝阳区建国路88号国贸大厦15层",
        "家里" => "北京市海淀区中关村南大街5号院3号楼602室",
        other => {
            return Value::map([("label", Value::text(other)), ("text", Value::text("上海市浦东新区世纪大道100号"))]);
        }
    };
    Value::map([("label", Value::text(label)), ("text", Value::text(text))])
}

fn demo_orders(status: &str, caller: &str, own: usize) -> Vec<Value> {
    let status_text = match status {
        "paid" => "已付款,等待配货",
        "packing" => "正在配货",
        "shipped" => "已发货",
        "signed" => "已签收",
        "closed" => "已关闭",
        _ => "已取消",
    };
    let rows = [
        ("o1", "202611180000003826", "双门冰箱", "2026-11-22", 4299),
        ("o2", "202611150000005190", "电饭煲", "2026-11-21", 399),
        ("o3", "202611100000007742", "蓝牙耳机", "2026-11-20", 259),
    ];
    let order = |(i, (id, no, item, eta, amount)): (usize, (&str, &str, &str, &str, i64))| {
        let phone_tail = if i < own { tail(caller) } else { "8000" };
        Value::map([
            ("id", Value::text(id)),
            ("no", Value::text(no)),
            ("tail", Value::text(tail(no))),
            ("item", Value::text(item)),
            ("status", Value::text(status)),
            ("status_text", Value::text(status_text)),
            ("eta", Value::text(eta)),
            ("receiver", Value::text("张小明")),
            ("phone_tail", Value::text(phone_tail)),
            ("amount", Value::Int(amount * 100)),
            ("amount_yuan", Value::Int(amount)),
            ("address", Value::text("北京市海淀区中关村南大街5号院3号楼602室")),
            ("mine", Value::Bool(i < own)),
        ])
    };
    rows.into_iter().enumerate().map(order).collect()
}
