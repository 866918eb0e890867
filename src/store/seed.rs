//! Demonstration customers and orders: three that the demo calls as, and a crowd from a fixed seed.

use super::{Store, StoreError};
use crate::clock::UtcMs;
use crate::crm::OrderStatus;
use crate::crm::calendar::{DAY_MS, date_compact, date_dashed};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sqlx::SqliteConnection;
use ulid::Ulid;

/// Rows of the demonstration carry ids of this moment (2026-01-01 UTC), so they are found again.
const BIRTH_MS: u64 = 1_767_225_600_000;

const CROWD: u32 = 20;

struct Person {
    n: u32,
    phone: String,
    name: String,
    vip: bool,
    elder: bool,
    addresses: Vec<(&'static str, String)>,
    orders: Vec<Bought>,
}

struct Bought {
    tail: u32,
    item: &'static str,
    cents: i64,
    status: OrderStatus,
    /// Days ago.
    ago: i64,
    /// Days from now to the expected delivery; may be past.
    due: i64,
}

impl Store {
    /// Puts the demonstration's customers and orders in where they are missing; what is there stays as it is.
    pub async fn seed_demo(&self, now: UtcMs) -> Result<(), StoreError> {
        self.seed(now, false).await
    }

    /// As [`Store::seed_demo`], and brings the demonstration's orders back to their first state and to today's dates.
    /// Their history stays.
    pub async fn reset_demo(&self, now: UtcMs) -> Result<(), StoreError> {
        self.seed(now, true).await
    }

    async fn seed(&self, now: UtcMs, reset: bool) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for person in heroes().into_iter().chain(crowd()) {
            put(&mut tx, &person, now, reset).await?;
        }
        Ok(tx.commit().await?)
    }
}

fn bought(tail: u32, item: &'static str, yuan: i64, status: OrderStatus, ago: i64, due: i64) -> Bought {
    Bought { tail, item, cents: yuan * 100, status, ago, due }
}

fn heroes() -> Vec<Person> {
    use OrderStatus::{Packing, Shipped, Signed};
    let home = |a: &str| vec![("家里", a.to_string())];
    vec![
        Person {
            n: 1,
            phone: "13800138000".into(),
            name: "王小明".into(),
            vip: false,
            elder: false,
            addresses: vec![
                ("家里", "北京市海淀区中关村大街五号".into()),
                ("公司", "北京市朝阳区建国路八十八号".into()),
            ],
            orders: vec![bought(3826, "冰箱", 2899, Packing, 1, 2)],
        },
        Person {
            n: 2,
            phone: "13900139000".into(),
            name: "李丽".into(),
            vip: true,
            elder: false,
            addresses: vec![
                ("家里", "上海市浦东新区世纪大道一百号".into()),
                ("公司", "上海市静安区南京西路一千二百号".into()),
            ],
            orders: vec![
                bought(5170, "洗衣机", 1999, Packing, 1, 3),
                bought(2093, "电饭煲", 399, Shipped, 3, 1),
                bought(7748, "吸尘器", 1299, Signed, 12, -8),
            ],
        },
        Person {
            n: 3,
            phone: "13700137000".into(),
            name: "张伟".into(),
            vip: false,
            elder: true,
            addresses: home("广州市天河区体育西路三十号"),
            orders: vec![bought(6451, "血压计", 259, Shipped, 2, 1)],
        },
    ]
}

fn crowd() -> Vec<Person> {
    const SURNAMES: [&str; 12] = ["陈", "杨", "赵", "黄", "周", "吴", "徐", "孙", "胡", "朱", "高", "林"];
    const GIVEN: [&str; 10] = ["建国", "秀英", "志强", "敏", "静", "磊", "洋", "艳", "勇", "晓燕"];
    const ITEMS: [(&str, i64); 8] = [
        ("电视机", 3299),
        ("空调", 2599),
        ("微波炉", 499),
        ("热水器", 1799),
        ("手机", 4999),
        ("台灯", 129),
        ("电风扇", 199),
        ("净水器", 899),
    ];
    const STREETS: [&str; 5] = [
        "成都市武侯区人民南路",
        "武汉市江汉区解放大道",
        "杭州市西湖区文三路",
        "南京市鼓楼区中山北路",
        "西安市雁塔区长安南路",
    ];
    const NUMBERS: [&str; 6] = ["十二号", "二十六号", "五十八号", "九十号", "一百零三号", "二百一十号"];
    let mut rng = ChaCha8Rng::seed_from_u64(0x5EED);
    let mut pick = move |n: usize| rng.random_range(0..n);
    (0..CROWD)
        .map(|i| {
            let (item, yuan) = ITEMS[pick(ITEMS.len())];
            let status = OrderStatus::ALL[pick(OrderStatus::ALL.len())];
            let (ago, due) = if status.may_be_urged() { (pick(3) as i64, 1 + pick(4) as i64) } else { (9, -3) };
            Person {
                n: 100 + i,
                phone: format!("1360000{:04}", 1000 + i),
                name: format!("{}{}", SURNAMES[pick(SURNAMES.len())], GIVEN[pick(GIVEN.len())]),
                vip: pick(8) == 0,
                elder: pick(6) == 0,
                addresses: vec![("家里", format!("{}{}", STREETS[pick(STREETS.len())], NUMBERS[pick(NUMBERS.len())]))],
                orders: vec![bought(1000 + 10 * i + pick(10) as u32, item, yuan, status, ago, due)],
            }
        })
        .collect()
}

/// The id of a person's n-th row of a kind.
fn fixed_id(kind: u8, person: u32, n: usize) -> String {
    Ulid::from_parts(BIRTH_MS, (u128::from(kind) << 64) | (u128::from(person) << 16) | n as u128).to_string()
}

async fn put(c: &mut SqliteConnection, p: &Person, now: UtcMs, reset: bool) -> Result<(), StoreError> {
    let id = fixed_id(1, p.n, 0);
    let owner: Option<String> =
        sqlx::query_scalar("SELECT customer_id FROM contact_point WHERE kind = 'phone' AND value = ?")
            .bind(&p.phone)
            .fetch_optional(&mut *c)
            .await?;
    if owner.is_some_and(|o| o != id) {
        return Ok(()); // a real customer has this number
    }
    sqlx::query(
        "INSERT INTO customer (id, name, vip, elder, created_at) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(&id)
    .bind(&p.name)
    .bind(p.vip)
    .bind(p.elder)
    .bind(now.0)
    .execute(&mut *c)
    .await?;
    sqlx::query(
        "INSERT INTO contact_point (id, customer_id, kind, value) VALUES (?, ?, 'phone', ?) ON CONFLICT DO NOTHING",
    )
    .bind(fixed_id(2, p.n, 0))
    .bind(&id)
    .bind(&p.phone)
    .execute(&mut *c)
    .await?;
    for (i, (label, text)) in p.addresses.iter().enumerate() {
        sqlx::query("INSERT INTO address (id, customer_id, label, text) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(fixed_id(3, p.n, i))
            .bind(&id)
            .bind(label)
            .bind(text)
            .execute(&mut *c)
            .await?;
    }
    for (i, o) in p.orders.iter().enumerate() {
        put_order(c, p, o, &fixed_id(4, p.n, i), now, reset).await?;
    }
    Ok(())
}

async fn put_order(
    c: &mut SqliteConnection,
    p: &Person,
    o: &Bought,
    id: &str,
    now: UtcMs,
    reset: bool,
) -> Result<(), StoreError> {
    let placed = UtcMs(now.0 - o.ago * DAY_MS);
    if reset {
        // The row keeps its id, its number and its history.
        sqlx::query(
            "UPDATE orders SET status = ?, eta = ?, address = ?, receiver = ?, placed_at = ?, urged = 0 WHERE id = ?",
        )
        .bind(o.status.name())
        .bind(date_dashed(UtcMs(now.0 + o.due * DAY_MS)))
        .bind(&p.addresses[0].1)
        .bind(&p.name)
        .bind(placed.0)
        .bind(id)
        .execute(&mut *c)
        .await?;
    }
    sqlx::query(
        "INSERT INTO orders (id, customer_id, no, item, amount_cents, status, eta, address, receiver, buyer_phone, placed_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(id)
    .bind(fixed_id(1, p.n, 0))
    .bind(format!("{}{:02}{:04}", date_compact(placed), p.n % 100, o.tail))
    .bind(o.item)
    .bind(o.cents)
    .bind(o.status.name())
    .bind(date_dashed(UtcMs(now.0 + o.due * DAY_MS)))
    .bind(&p.addresses[0].1)
    .bind(&p.name)
    .bind(&p.phone)
    .bind(placed.0)
    .execute(&mut *c)
    .await?;
    Ok(())
}
