use super::*;
use crate::call::{CallEvent, CallRecord, EndReason, Facts, Timings, TransferStage, Turn, Why};
use crate::clock::{Mono, UtcMs};
use crate::dialplan::{Emotion, Level, Outcome, TicketDraft, TransferResult, Value};
use crate::ids::{CallId, Leg, RequestId, TurnId};
use crate::pii::Pii;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// 2026-11-20T12:00 in China.
pub(super) const NOON: UtcMs = UtcMs(1_795_147_200_000);

const WANG: &str = "13800138000";

/// The folder lives as long as the database is looked at.
pub(super) async fn fresh() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(&dir.path().join("data/zongji.db")).await.expect("it opens");
    (dir, store)
}

async fn demo() -> (tempfile::TempDir, Store) {
    let (dir, store) = fresh().await;
    store.seed_demo(NOON).await.expect("seeded");
    (dir, store)
}

pub(super) fn call_id(n: u128) -> CallId {
    CallId::new(NOON.0, n)
}

pub(super) fn new_call(id: CallId) -> NewCall {
    NewCall {
        id,
        from: Pii::new(format!("+86{WANG}")),
        to: Called::new("400", false),
        sip_call_id: format!("{id}@x"),
        at: NOON,
        origin: Box::default(),
    }
}

pub(super) fn record(outcome: Outcome) -> CallRecord {
    CallRecord {
        offered: Mono::from_ms(5_000),
        answered: Some(Mono::from_ms(5_200)),
        ended: Mono::from_ms(65_000),
        reason: EndReason::of(Why::CallerLeft, &Facts::default()),
        outcome,
        steps: 2,
        retries: 1,
        verify_questions: 0,
        turns: 4,
        flows: vec!["order_query".into(), "change_address".into()],
        bridged: false,
    }
}

pub(super) fn turn(seq: u32) -> Turn {
    Turn {
        id: TurnId(seq),
        flow: "order_query".into(),
        node: "one".into(),
        step: 1,
        heard: "我想查一下订单".into(),
        keys: false,
        confidence: 0.91,
        intent: "order_query".into(),
        score: 0.87,
        emotion: Emotion::Negative,
        barge_in: true,
        reply: "您是要查冰箱、尾号3826的订单,对吗?".into(),
        at_ms: 2_500,
        timings: Timings { endpoint: 300, recognise: 20, understand: 3, act: 11, first_audio: 14 },
    }
}

fn being_called() -> NewTransfer {
    NewTransfer {
        seq: 1,
        queue: "售后".into(),
        skill: Some("订单".into()),
        warm: true,
        briefing: "客户查询订单3826".into(),
        seat: None,
        asked_at: NOON,
        bridged_at: None,
        returned_at: None,
        result: None,
    }
}

fn draft(priority: &str, sla: &str) -> TicketDraft {
    TicketDraft {
        category: "投诉".into(),
        priority: priority.into(),
        sla: sla.into(),
        title: "投诉".into(),
        facts: Value::map([("flow", Value::text("complaint")), ("tried", Value::List(vec![Value::Int(2)]))]),
        recording_ms: Some((4_000, 31_000)),
    }
}

fn args<const N: usize>(pairs: [(&str, Value); N]) -> BTreeMap<String, Value> {
    pairs.into_iter().map(|(k, v)| (k.to_string(), v)).collect()
}

async fn get(store: &Store, pairs: &[(&str, Value)]) -> ActionOutcome {
    let args = pairs.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
    store.act("orders.get", &args, Level::L4, call_id(1), NOON).await
}

#[tokio::test]
async fn every_commit_is_flushed_and_foreign_keys_hold() {
    let (_dir, store) = fresh().await;
    let pragma = async |sql: &'static str| -> i64 { sqlx::query_scalar(sql).fetch_one(&store.write).await.expect(sql) };
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&store.write).await.expect("a mode");
    assert_eq!(mode, "wal");
    assert_eq!(pragma("PRAGMA synchronous").await, 2, "FULL");
    assert_eq!(pragma("PRAGMA foreign_keys").await, 1);
    assert_eq!(pragma("PRAGMA busy_timeout").await, 5000);
    let stray = sqlx::query("INSERT INTO ticket_event (ticket_id, at, actor, kind) VALUES ('none', 0, 'x', 'y')");
    assert!(stray.execute(&store.write).await.is_err(), "an event of no ticket");
    assert!(sqlx::query("DELETE FROM customer").execute(&store.read).await.is_err(), "readers do not write");
}

#[tokio::test]
async fn the_demo_caller_is_known_with_orders_and_ways_to_name_addresses() {
    let (_dir, store) = demo().await;
    let p = store.profile("+86 138 0013 8000").await.expect("a profile");
    assert_eq!(p.get("known"), &Value::Bool(true));
    assert_eq!(p.get("name"), &Value::text("王小明"));
    assert_eq!(p.get("phone_tail"), &Value::text("8000"));
    let addresses = p.get("addresses").as_list().expect("a list");
    let labels: Vec<_> = addresses.iter().filter_map(|a| a.get("label").as_text()).collect();
    assert_eq!(labels, ["家里", "公司"]);
    assert!(addresses[1].get("say").as_list().expect("a list").contains(&Value::text("建国路")));
    let [order] = p.get("orders").as_list().expect("a list") else { panic!("one order: {p:?}") };
    let wanted = [
        ("tail", Value::text("3826")),
        ("item", Value::text("冰箱")),
        ("status", Value::text("packing")),
        ("status_text", Value::text("正在打包")),
        ("eta", Value::text("2026-11-22")),
        ("receiver", Value::text("王小明")),
        ("phone_tail", Value::text("8000")),
        ("amount_yuan", Value::Int(2899)),
        ("address", Value::text("北京市海淀区中关村大街五号")),
    ];
    for (field, value) in wanted {
        assert_eq!(order.get(field), &value, "{field}");
    }
    assert_eq!(order.get("no").as_text().expect("text").len(), 14);

    let lili = store.profile("13900139000").await.expect("a profile");
    let statuses: Vec<_> = lili.get("orders").as_list().expect("a list").iter().map(|o| o.get("status")).collect();
    assert_eq!(statuses, [&Value::text("packing"), &Value::text("shipped"), &Value::text("signed")], "newest first");
    let elder = store.profile("13700137000").await.expect("a profile");
    assert_eq!((elder.get("elder"), elder.get("vip")), (&Value::Bool(true), &Value::Bool(false)));
}

#[tokio::test]
async fn a_stranger_and_a_hidden_number_have_an_empty_profile() {
    let (_dir, store) = demo().await;
    for who in ["18811112222", "anonymous", ""] {
        let p = store.profile(who).await.expect("a profile");
        assert_eq!((p.get("known"), p.get("name")), (&Value::Bool(false), &Value::Null), "{who}");
        assert_eq!(p.get("orders"), &Value::List(vec![]));
        assert_eq!(
            store.act("orders.recent", &args([("phone", Value::text(who))]), Level::L4, call_id(1), NOON).await.outcome,
            "empty"
        );
    }
}

#[tokio::test]
async fn seeding_again_changes_nothing_and_resetting_brings_the_start_back() {
    let (_dir, store) = demo().await;
    let before = store.orders(1000).await.expect("orders");
    assert_eq!(before.len(), 25);
    let people: i64 =
        sqlx::query_scalar("SELECT count(*) FROM customer").fetch_one(&store.read).await.expect("a count");
    assert_eq!(people, 23);
    let id = before.iter().find(|o| o.tail == "3826").expect("the fridge").id.clone();
    let change = args([("order", Value::Text(id)), ("address", Value::text("公司"))]);
    assert_eq!(store.act("orders.change_address", &change, Level::L4, call_id(1), NOON).await.outcome, "ok");
    let next_day = UtcMs(NOON.0 + 86_400_000);
    store.seed_demo(next_day).await.expect("again");
    let after = store.orders(1000).await.expect("orders");
    assert_eq!(after.len(), 25);
    let fridge = after.iter().find(|o| o.tail == "3826").expect("the fridge");
    assert_eq!(fridge.address.expose(), "北京市朝阳区建国路八十八号", "what calls did stays");
    store.reset_demo(next_day).await.expect("reset");
    let after = store.orders(1000).await.expect("orders");
    let fridge = after.iter().find(|o| o.tail == "3826").expect("the fridge");
    assert_eq!((fridge.address.expose(), fridge.eta.as_str()), ("北京市海淀区中关村大街五号", "2026-11-23"));
    assert_eq!(store.order_changes(10).await.expect("changes").len(), 1, "history stays");
}

#[tokio::test]
async fn the_demo_leaves_a_real_customer_with_the_same_number_alone() {
    let (_dir, store) = fresh().await;
    sqlx::raw_sql(
        "INSERT INTO customer VALUES ('real', '真客户', 0, 0, 0); INSERT INTO contact_point VALUES ('c', 'real', 'phone', '13800138000', 1)",
    )
    .execute(&store.write)
    .await
    .expect("a customer");
    store.reset_demo(NOON).await.expect("seeded");
    let p = store.profile(WANG).await.expect("a profile");
    assert_eq!(p.get("name"), &Value::text("真客户"));
    assert_eq!(p.get("orders"), &Value::List(vec![]));
}

#[tokio::test]
async fn an_order_is_found_by_tail_number_item_or_as_the_newest() {
    let (_dir, store) = demo().await;
    let phone = ("phone", Value::text("13900139000"));
    let full = store.orders(100).await.expect("orders").into_iter().find(|o| o.tail == "2093").expect("hers");
    let refs = [
        (Value::text("2093"), "2093"),
        (Value::Int(2093), "2093"),
        (Value::Text(full.no.clone()), "2093"),
        (Value::text("电饭煲"), "2093"),
        (Value::text("最近买的那个吸尘器"), "7748"),
        (Value::text("最近一单"), "5170"),
        (Value::Null, "5170"),
        (Value::map([("id", Value::Text(full.id.clone())), ("item", Value::text("x"))]), "2093"),
        (Value::map([("tail", Value::text("7748"))]), "7748"),
    ];
    for (r, tail) in refs {
        let got = get(&store, &[phone.clone(), ("ref", r.clone())]).await;
        assert_eq!((got.outcome.as_str(), got.data.get("order").get("tail").as_text()), ("ok", Some(tail)), "{r:?}");
    }
    let recent =
        store.act("orders.recent", &args([phone.clone(), ("limit", Value::Int(2))]), Level::L4, call_id(1), NOON).await;
    assert_eq!(recent.data.get("n"), &Value::Int(2));
    assert_eq!(recent.data.get("items").as_list().map(<[Value]>::len), Some(2));
}

#[tokio::test]
async fn anothers_order_is_marked_and_a_wrong_phone_tail_opens_nothing() {
    let (_dir, store) = demo().await;
    let stranger = ("phone", Value::text("18811112222"));
    let fridge = ("ref", Value::text("3826"));
    let unproven = get(&store, &[stranger.clone(), fridge.clone()]).await;
    assert_eq!((unproven.outcome.as_str(), unproven.data.get("order").get("mine")), ("ok", &Value::Bool(false)));
    let own = get(&store, &[("phone", Value::text(WANG)), fridge.clone()]).await;
    assert_eq!(own.data.get("order").get("mine"), &Value::Bool(true));
    let wrong = ("phone_tail", Value::text("8001"));
    assert_eq!(get(&store, &[stranger.clone(), fridge.clone(), wrong]).await.outcome, "empty");
    let right = ("phone_tail", Value::text("8000"));
    assert_eq!(get(&store, &[stranger.clone(), fridge, right.clone()]).await.outcome, "ok");
    for vague in ["", "26", "冰箱", "%826"] {
        assert_eq!(get(&store, &[stranger.clone(), ("ref", Value::text(vague)), right.clone()]).await.outcome, "empty");
    }
}

#[tokio::test]
async fn an_address_changes_once_with_history_and_not_after_shipping() {
    let (_dir, store) = demo().await;
    let order = get(&store, &[("phone", Value::text(WANG))]).await.data.get("order").clone();
    let to_office =
        args([("order", order.get("id").clone()), ("address", Value::map([("label", Value::text("公司"))]))]);
    let first = store.act("orders.change_address", &to_office, Level::L4, call_id(1), NOON).await;
    assert_eq!((first.outcome.as_str(), first.data.get("changed")), ("ok", &Value::Bool(true)));
    assert_eq!(first.data.get("order").get("address"), &Value::text("北京市朝阳区建国路八十八号"));
    let again = store.act("orders.change_address", &to_office, Level::L4, call_id(1), NOON).await;
    assert_eq!((again.outcome.as_str(), again.data.get("changed")), ("ok", &Value::Bool(false)));
    let changes = store.order_changes(10).await.expect("changes");
    assert_eq!(changes.len(), 1, "done once, noted once");
    assert_eq!(changes[0].kind, "address_changed");
    assert_eq!(changes[0].was.as_ref().map(Pii::expose), Some("北京市海淀区中关村大街五号"));
    assert_eq!(changes[0].call_id, Some(call_id(1).to_string()));

    let shipped = get(&store, &[("phone", Value::text("13700137000"))]).await.data.get("order").clone();
    let late = args([("order", shipped), ("address", Value::text("北京市西城区长安街一号"))]);
    assert_eq!(store.act("orders.change_address", &late, Level::L4, call_id(1), NOON).await.outcome, "conflict");
    assert_eq!(store.order_changes(10).await.expect("changes").len(), 1);
}

#[tokio::test]
async fn an_order_is_not_touched_by_who_has_not_proved_enough() {
    let (_dir, store) = demo().await;
    let order = get(&store, &[("phone", Value::text(WANG))]).await.data.get("order").get("id").clone();
    let change = args([("order", order.clone()), ("address", Value::text("公司"))]);
    for proved in [Level::L0, Level::L1] {
        assert_eq!(store.act("orders.change_address", &change, proved, call_id(1), NOON).await.outcome, "denied");
    }
    let urge = args([("order", order)]);
    assert_eq!(store.act("orders.urge", &urge, Level::L0, call_id(1), NOON).await.outcome, "denied");
    assert!(store.order_changes(10).await.unwrap().is_empty());
    assert_eq!(store.act("orders.urge", &urge, Level::L1, call_id(1), NOON).await.outcome, "ok");
}

#[tokio::test]
async fn a_change_that_makes_no_sense_is_an_error_with_a_reason() {
    let (_dir, store) = demo().await;
    let id = get(&store, &[("phone", Value::text("13900139000"))]).await.data.get("order").get("id").clone();
    let order = ("order", id);
    let cases = [
        args([order.clone()]),
        args([order.clone(), ("address", Value::text("别墅"))]), // she saved no such place
        args([("order", Value::text("01ARZ3NDEKTSV4RRFFQ69G5FAV")), ("address", Value::text("家里"))]),
        args([("address", Value::text("家里"))]),
        args([order.clone(), ("address", Value::text("家里")), ("phone", Value::text(WANG))]), // not his order
    ];
    for a in cases {
        let done = store.act("orders.change_address", &a, Level::L4, call_id(1), NOON).await;
        assert_eq!(done.outcome, "error", "{a:?}");
        assert!(done.data.get("reason").as_text().is_some_and(|r| !r.is_empty()));
    }
    assert_eq!(store.act("orders.burn", &args([]), Level::L4, call_id(1), NOON).await.outcome, "error");
    assert!(store.order_changes(10).await.expect("changes").is_empty());
    let receiver = args([order, ("address", Value::text("家里")), ("receiver", Value::text("李明"))]);
    let done = store.act("orders.change_address", &receiver, Level::L4, call_id(1), NOON).await;
    assert_eq!(done.data.get("order").get("receiver"), &Value::text("李明"));
}

#[tokio::test]
async fn urging_counts_once_a_call() {
    let (_dir, store) = demo().await;
    let order = get(&store, &[("phone", Value::text(WANG))]).await.data.get("order").clone();
    let a = args([("order", order)]);
    let mut counts = Vec::new();
    for call in [1, 1, 2] {
        let done = store.act("orders.urge", &a, Level::L4, call_id(call), NOON).await;
        assert_eq!(done.outcome, "ok");
        counts.push((done.data.get("count").as_int(), done.data.get("first").clone()));
    }
    assert_eq!(counts, [(Some(1), Value::Bool(true)), (Some(1), Value::Bool(false)), (Some(2), Value::Bool(true))]);
    let signed = get(&store, &[("phone", Value::text("13900139000")), ("ref", Value::text("7748"))]).await;
    let a = args([("order", signed.data.get("order").get("id").clone())]);
    assert_eq!(store.act("orders.urge", &a, Level::L4, call_id(1), NOON).await.outcome, "conflict");
}

#[tokio::test]
async fn actions_answer_only_what_they_declare() {
    let (_dir, store) = demo().await;
    for spec in crate::dialplan::actions::ACTIONS {
        for a in [
            args([]),
            args([("phone", Value::text(WANG))]),
            args([("phone", Value::Bool(true)), ("order", Value::Num(0.5))]),
        ] {
            let done = store.act(spec.name, &a, Level::L4, call_id(1), NOON).await;
            assert!(spec.outcomes.contains(&done.outcome.as_str()), "{} gave {}", spec.name, done.outcome);
            let why = done.data.get("reason").as_text().unwrap_or_default();
            assert!(!why.contains("there is no action"), "{}: {why}", spec.name);
            if done.outcome == "ok" {
                assert!(spec.outputs.iter().all(|f| !done.data.get(f).is_null()), "{} lacks a field", spec.name);
            }
        }
    }
}

#[tokio::test]
async fn a_ticket_carries_caller_promise_facts_and_recording() {
    let (_dir, store) = demo().await;
    let id = call_id(1);
    store.begin_call(&new_call(id)).await.expect("begun");
    let told = store.make_ticket(&draft("P1", ""), id, &Pii::new(WANG), RequestId(3), NOON).await.expect("written");
    assert_eq!(told.get("no"), &Value::text("20261120-0001"));
    assert_eq!(told.get("tail"), &Value::text("0001"));
    let extras = CallExtras { recording: Some(("rec/a.wav".into(), 59_800)), ..CallExtras::default() };
    store.end_call(id, &record(Outcome::Ticketed), &extras).await.expect("ended");
    let [t] = &store.tickets(10).await.expect("tickets")[..] else { panic!("one ticket") };
    assert_eq!(Value::text(&t.id), *told.get("id"));
    assert_eq!((t.category.as_str(), t.priority.as_str(), t.state.as_str()), ("投诉", "P1", "new"));
    assert_eq!(t.customer.as_ref().map(Pii::expose), Some("王小明"));
    assert_eq!(t.contact.expose(), WANG);
    assert_eq!((t.first_due - NOON.0, t.resolve_due - NOON.0), (2 * 3_600_000, 24 * 3_600_000));
    assert_eq!(
        (t.recording.as_deref(), t.recording_from_ms, t.recording_to_ms),
        (Some("rec/a.wav"), Some(4_000), Some(31_000))
    );
    assert_eq!(t.facts["tried"][0], 2);
    let odd = store.make_ticket(&draft("urgent", "首响30分钟/闭环4h"), id, &Pii::new(""), RequestId(4), NOON).await;
    assert_eq!(odd.expect("still written").get("no"), &Value::text("20261120-0002"));
    let newest = &store.tickets(1).await.expect("tickets")[0];
    assert_eq!((newest.priority.as_str(), newest.first_due - NOON.0, newest.customer.clone()), ("P2", 1_800_000, None));
}

#[tokio::test]
async fn many_calls_at_once_get_tickets_with_numbers_of_their_own() {
    let (_dir, store) = fresh().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..60u128 {
        let store = store.clone();
        // Every wish is made three times at once, as a retry after a lost answer would.
        tasks.spawn(async move {
            let who = Pii::new(WANG);
            store.make_ticket(&draft("P1", ""), call_id(n / 3), &who, RequestId(1), NOON).await.expect("written")
        });
    }
    let mut told = BTreeMap::new();
    for v in tasks.join_all().await {
        *told.entry(v.get("no").as_text().expect("a number").to_string()).or_insert(0) += 1;
    }
    assert_eq!(told.len(), 20);
    assert!(told.values().all(|&n| n == 3), "{told:?}");
    let numbers: BTreeSet<String> = (1..=20).map(|n| crate::crm::ticket_number(NOON, n)).collect();
    assert_eq!(told.into_keys().collect::<BTreeSet<_>>(), numbers, "no gaps");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn wishes_in_any_order_make_one_ticket_each(wishes in prop::collection::vec((0u128..4, 0u32..4, 0i64..3), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (_dir, store) = fresh().await;
            let mut first: BTreeMap<(u128, u32), Value> = BTreeMap::new();
            for &(call, request, day) in &wishes {
                let at = UtcMs(NOON.0 + day * 86_400_000);
                let told = store
                    .make_ticket(&draft("P1", ""), call_id(call), &Pii::new(WANG), RequestId(request), at)
                    .await
                    .expect("written");
                let known = first.entry((call, request)).or_insert_with(|| told.clone());
                assert_eq!(*known, told, "the same wish, the same ticket");
            }
            let tickets = store.tickets(1000).await.expect("tickets");
            let numbers: BTreeSet<_> = tickets.iter().map(|t| &t.no).collect();
            assert_eq!((tickets.len(), numbers.len()), (first.len(), first.len()));
        });
    }
}

#[tokio::test]
async fn a_call_has_exactly_one_record() {
    let (_dir, store) = demo().await;
    let id = call_id(7);
    store.begin_call(&new_call(id)).await.expect("begun");
    assert_eq!(store.open_calls().await.expect("a count"), 1);
    let heard = crate::rtp::Quality::new(crate::sdp::Codec::Pcma, 0.01, 1.0, 60.0);
    let stats = crate::rtp::Stats { lost: 3, jitter_ms: 7.5, heard: Some(heard), ..crate::rtp::Stats::default() };
    let media = crate::store::CallMedia { codec: "PCMA", caller: Box::new(stats), seat: Some(Box::new(stats)) };
    let extras =
        CallExtras { flow_set: Some("ab12".into()), recording: Some(("r.wav".into(), 1)), media: Some(media.clone()) };
    assert!(store.end_call(id, &record(Outcome::Resolved), &extras).await.expect("ended"));
    assert!(!store.end_call(id, &record(Outcome::Failed), &CallExtras::default()).await.expect("no error"));
    store.begin_call(&new_call(id)).await.expect("a late beginning");
    let row = store.call(id).await.expect("readable").expect("there");
    assert_eq!(
        (row.outcome.as_deref(), row.cause, row.hung_up_by.as_deref()),
        (Some("resolved"), Some(16), Some("caller"))
    );
    assert_eq!((row.started_at, row.answered_at, row.ended_at), (NOON.0, Some(NOON.0 + 200), Some(NOON.0 + 60_000)));
    assert_eq!(row.flows, ["order_query", "change_address"]);
    assert_eq!((row.steps, row.retries, row.turns), (2, 1, 4));
    assert_eq!(row.customer.as_ref().map(Pii::expose), Some("王小明"), "found with +86 before the number");
    assert_eq!((row.flow_set.as_deref(), row.recording.as_deref()), (Some("ab12"), Some("r.wav")));
    let rtp = row.rtp.expect("figures");
    assert_eq!((&rtp["lost"], &rtp["heard"]["loss"], &rtp["seat"]["lost"]), (&3.into(), &0.01.into(), &3.into()));
    assert_eq!((row.codec.as_deref(), row.loss_pct, row.jitter_ms), (Some("PCMA"), Some(1.0), Some(7.5)));
    assert!(row.mos.is_some_and(|m| (4.2..4.4).contains(&m)), "{:?}", row.mos);
    assert_eq!(store.calls(10).await.expect("calls").len(), 1);
    assert_eq!(store.open_calls().await.expect("a count"), 0);
    assert_eq!(store.call(call_id(8)).await.expect("readable"), None);
}

#[tokio::test]
async fn turns_keep_their_timings_and_the_last_writing_wins() {
    let (_dir, store) = fresh().await;
    let id = call_id(1);
    store.write_turn(id, &turn(2)).await.expect("written");
    store.write_turn(id, &Turn { confidence: f32::NAN, ..turn(1) }).await.expect("written");
    let mut late = turn(2);
    late.timings.first_audio = 99;
    store.write_turn(id, &late).await.expect("written again");
    let rows = store.turns(id).await.expect("turns");
    assert_eq!(rows.iter().map(|t| t.seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((rows[1].endpoint_ms, rows[1].recognise_ms, rows[1].understand_ms, rows[1].act_ms), (300, 20, 3, 11));
    assert_eq!((rows[1].first_audio_ms, rows[1].total_ms()), (99, 433));
    assert_eq!(
        (rows[1].heard.as_str(), rows[1].barge_in, rows[1].emotion.as_str()),
        ("我想查一下订单", true, "negative")
    );
    assert_eq!((rows[0].confidence, rows[1].confidence), (0.0, 0.91));
}

#[tokio::test]
async fn every_kind_of_event_is_written_under_its_own_word() {
    let (_dir, store) = fresh().await;
    let id = call_id(1);
    let events = [
        CallEvent::Offered,
        CallEvent::Answered,
        CallEvent::Node { flow: "f".into(), node: "n".into(), step: 1 },
        CallEvent::PromptStarted { shown: "您好".into() },
        CallEvent::PromptEnded { played_ms: 20, interrupted: true },
        CallEvent::SpeechStarted,
        CallEvent::SpeechEnded { speech_ms: 900 },
        CallEvent::Ignored { heard: "嗯".into() },
        CallEvent::NoInput,
        CallEvent::Key('*'),
        CallEvent::TurnDone(Box::new(turn(1))),
        CallEvent::Action { name: "orders.get".into(), outcome: "ok".into(), ms: 3 },
        CallEvent::Ticket { no: "20261120-0001".into(), category: "投诉".into() },
        CallEvent::Transfer { stage: TransferStage::Bridged, ms: 900 },
        CallEvent::Hold { leg: Leg::Seat, held: true },
        CallEvent::Trouble("no voice".into()),
        CallEvent::Ended(record(Outcome::Resolved).reason),
        CallEvent::Recording { on: false, by: None, at_ms: 4020 },
    ];
    for (i, e) in events.iter().enumerate() {
        store.write_event(id, 20 * i as u64, e).await.expect("written");
    }
    let rows = store.events(id).await.expect("events");
    assert_eq!(rows.len(), events.len());
    assert_eq!(rows.iter().map(|r| &r.kind).collect::<BTreeSet<_>>().len(), events.len(), "no word twice");
    assert!(rows.windows(2).all(|w| w[0].at_ms < w[1].at_ms), "in order");
    assert_eq!(rows[13].data["stage"], "bridged");
    assert_eq!(rows[16].data["reason"], "the caller hung up");
}

#[tokio::test]
async fn a_transfer_is_written_as_it_goes_on() {
    let (_dir, store) = fresh().await;
    let mut t = being_called();
    store.write_transfer(call_id(1), &t).await.expect("written");
    t.seat = Some("8001".into());
    t.bridged_at = Some(UtcMs(NOON.0 + 4_000));
    t.result = Some(TransferResult::Connected);
    store.write_transfer(call_id(1), &t).await.expect("written");
    let [row] = &store.transfers(10).await.expect("transfers")[..] else { panic!("one transfer") };
    assert_eq!((row.seat.as_deref(), row.result.as_deref()), (Some("8001"), Some("connected")));
    assert_eq!((row.asked_at, row.bridged_at), (NOON.0, Some(NOON.0 + 4_000)));
    for result in [TransferResult::Busy, TransferResult::Timeout, TransferResult::Closed, TransferResult::Cancelled] {
        t.result = Some(result);
        store.write_transfer(call_id(1), &t).await.expect("every end of a transfer can be written");
    }
}

#[tokio::test]
async fn recovering_closes_what_a_killed_process_left_open() {
    let (_dir, store) = fresh().await;
    store.begin_call(&new_call(call_id(1))).await.expect("begun");
    store.end_call(call_id(1), &record(Outcome::Resolved), &CallExtras::default()).await.expect("ended");
    store.begin_call(&new_call(call_id(2))).await.expect("begun");
    store.write_event(call_id(2), 7_300, &CallEvent::Answered).await.expect("written");
    store.write_turn(call_id(2), &turn(1)).await.expect("written");
    store.begin_call(&new_call(call_id(3))).await.expect("begun");
    for (call, bridged_at) in [(call_id(2), Some(NOON)), (call_id(3), None)] {
        store.write_transfer(call, &NewTransfer { bridged_at, ..being_called() }).await.expect("written");
    }
    assert_eq!(store.recover().await.expect("recovered"), 2);
    let ends: Vec<_> = store.transfers(10).await.expect("transfers").into_iter().map(|t| t.result).collect();
    assert_eq!(ends, [Some("cancelled".into()), Some("connected".into())], "the newest call first");
    assert_eq!(store.recover().await.expect("again"), 0);
    let cut = store.call(call_id(2)).await.expect("readable").expect("there");
    assert_eq!((cut.outcome.as_deref(), cut.reason.as_deref()), (Some("failed"), Some("the program was stopped")));
    assert_eq!((cut.ended_at, cut.turns, cut.cause), (Some(NOON.0 + 7_300), 1, Some(41)));
    let whole = store.call(call_id(1)).await.expect("readable").expect("there");
    assert_eq!(whole.outcome.as_deref(), Some("resolved"));
}

#[tokio::test]
async fn what_is_known_of_a_call_is_there_before_its_end() {
    let (_dir, store) = fresh().await;
    let id = call_id(1);
    store.begin_call(&new_call(id)).await.expect("begun");
    store.write_recording(id, "r.wav").await.expect("written");
    store.write_event(id, 900, &CallEvent::Answered).await.expect("written");
    for (at, flow) in [(1_000, "order_query"), (2_000, "order_query"), (3_000, "complaint"), (4_000, "order_query")] {
        let node = CallEvent::Node { flow: flow.into(), node: "n".into(), step: 1 };
        store.write_event(id, at, &node).await.expect("written");
    }
    store.make_ticket(&draft("P1", ""), id, &Pii::new(WANG), RequestId(1), NOON).await.expect("written");
    let shown = || async {
        let (call, ticket) = (store.call(id).await.expect("readable").expect("there"), store.tickets(1).await);
        let ticket = ticket.expect("readable").remove(0);
        (call.answered_at, call.flows.join(" "), call.recording, call.recording_ms, ticket.recording)
    };
    let path = Some("r.wav".to_string());
    let flows = "order_query complaint order_query".to_string();
    assert_eq!(shown().await, (Some(NOON.0 + 900), flows.clone(), path.clone(), None, path.clone()));
    store.recover().await.expect("recovered");
    assert_eq!(shown().await, (Some(NOON.0 + 900), flows.clone(), path.clone(), Some(4_000), path.clone()));
    store.write_event(id, 5_000, &CallEvent::Answered).await.expect("written");
    assert_eq!(shown().await.0, Some(NOON.0 + 900), "a late event changes no finished record");
}

#[tokio::test]
async fn the_end_gives_the_recording_its_length() {
    let (_dir, store) = fresh().await;
    let id = call_id(1);
    store.write_recording(id, "r.wav").await.expect("written");
    let extras = CallExtras { recording: Some(("r.wav".into(), 61_000)), ..CallExtras::default() };
    store.end_call(id, &record(Outcome::Resolved), &extras).await.expect("ended");
    assert_eq!(store.call(id).await.expect("readable").expect("there").recording_ms, Some(61_000));
}

#[tokio::test]
async fn rows_are_printed_with_personal_data_masked() {
    let (_dir, store) = demo().await;
    store.begin_call(&new_call(call_id(1))).await.expect("begun");
    let address = Value::map([("receiver", Value::text("王小明")), ("text", Value::text("中关村大街五号"))]);
    let slots = Value::map([("address", address), ("call_back", Value::Int(13_900_139_000))]);
    let facts = [("flow", Value::text("complaint")), ("caller", Value::text(WANG)), ("slots", slots)];
    let personal = TicketDraft { facts: Value::map(facts), ..draft("P1", "") };
    store.make_ticket(&personal, call_id(1), &Pii::new(WANG), RequestId(1), NOON).await.expect("written");
    let office = args([
        ("order", get(&store, &[("phone", Value::text(WANG))]).await.data.get("order").clone()),
        ("address", Value::text("公司")),
    ]);
    store.act("orders.change_address", &office, Level::L4, call_id(1), NOON).await;
    let json = serde_json::json!([
        store.calls(10).await.expect("calls"),
        store.tickets(10).await.expect("tickets"),
        store.orders(100).await.expect("orders"),
        store.order_changes(10).await.expect("changes"),
    ]);
    let shown = format!("{json} {:?} {:?}", new_call(call_id(1)), store.calls(10).await.expect("calls"));
    for secret in [WANG, "王小明", "13900139000", "中关村大街五号", "建国路八十八号"] {
        assert!(!shown.contains(secret), "{secret} is shown");
    }
    assert!(shown.contains("138****8000"));
    let tickets = serde_json::json!(store.tickets(10).await.expect("tickets"));
    assert_eq!(
        (&tickets[0]["facts"]["flow"], &tickets[0]["facts"]["slots"]["call_back"]),
        (&"complaint".into(), &"139****9000".into())
    );
}

#[tokio::test]
async fn a_second_process_is_told_that_the_file_is_in_use() {
    let (_dir, store) = fresh().await;
    let e = Store::open(store.path()).await.expect_err("in use");
    assert!(matches!(e, StoreError::Locked(_)) && e.to_string().contains("in use by another zongji"), "{e}");
    store.begin_call(&new_call(call_id(1))).await.expect("begun");
    let looking = Store::open_to_read(store.path()).await.expect("looking is allowed");
    assert_eq!(looking.calls(10).await.expect("calls").len(), 1);
    assert!(looking.begin_call(&new_call(call_id(2))).await.is_err(), "writing is not");
    looking.close().await;
    let path = store.path().to_path_buf();
    store.close().await;
    drop(store);
    Store::open(&path).await.expect("free again");
}

#[tokio::test]
async fn nobody_else_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, store) = demo().await;
    let folder = store.path().parent().expect("a folder");
    let mode = |p: &std::path::Path| p.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(folder), 0o700);
    for file in std::fs::read_dir(folder).expect("readable") {
        let file = file.expect("an entry").path();
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_of_ours_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let text = dir.path().join("a.db");
    std::fs::write(&text, "this is not a database, only some long line of text\n".repeat(100)).expect("written");
    let e = Store::open(&text).await.expect_err("text");
    assert!(matches!(e, StoreError::NotADatabase(_)), "{e:?}");
    assert!(e.to_string().contains("a.db is not a zongji database"));
    let theirs = dir.path().join("theirs.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&theirs).create_if_missing(true);
    let other = sqlx::sqlite::SqlitePoolOptions::new().connect_with(options).await.expect("a database");
    sqlx::query("CREATE TABLE album (title TEXT)").execute(&other).await.expect("a table");
    other.close().await;
    let e = Store::open(&theirs).await.expect_err("somebody else's");
    assert!(matches!(e, StoreError::NotADatabase(_)), "{e:?}");
    let e = Store::open(dir.path()).await.expect_err("a folder");
    assert!(e.to_string().contains("it is a folder"), "{e}");
    let e = Store::open(&text.join("sub/z.db")).await.expect_err("a file as folder");
    assert!(matches!(e, StoreError::NoAccess { .. }), "{e:?}");
    let e = Store::open_to_read(&dir.path().join("none.db")).await.expect_err("missing");
    assert!(e.to_string().contains("no such file"), "{e}");
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_left_alone() {
    let (_dir, store) = fresh().await;
    let sql = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'x', 1, x'00', 0)";
    sqlx::query(sql).execute(&store.write).await.expect("pretended");
    let path = store.path().to_path_buf();
    store.close().await;
    drop(store);
    let e = Store::open(&path).await.expect_err("newer");
    assert!(matches!(e, StoreError::Newer(_)), "{e:?}");
}

#[tokio::test]
async fn a_damaged_database_is_found_and_nothing_panics() {
    let (_dir, store) = demo().await;
    let path = store.path().to_path_buf();
    store.close().await;
    drop(store);
    let mut bytes = std::fs::read(&path).expect("readable");
    let pages = bytes.len() / 4096;
    for page in 1..pages {
        bytes[page * 4096..page * 4096 + 64].fill(0xA5);
    }
    std::fs::write(&path, bytes).expect("written");
    let broken = match Store::open(&path).await {
        Err(e) => e,
        Ok(store) => store.profile(WANG).await.expect_err("it cannot be read"),
    };
    assert!(matches!(broken, StoreError::Corrupt(_)), "{broken:?}");
    assert!(broken.to_string().contains("last backup"));
}

#[tokio::test]
async fn damage_in_one_page_is_found_by_looking_at_all() {
    let (_dir, store) = demo().await;
    store.check().await.expect("sound");
    let path = store.path().to_path_buf();
    store.close().await;
    drop(store);
    let mut bytes = std::fs::read(&path).expect("readable");
    let last = bytes.len() - 4096;
    bytes[last..last + 64].fill(0xA5);
    std::fs::write(&path, bytes).expect("written");
    let store = Store::open_to_read(&path).await.expect("its first page is sound");
    let e = store.check().await.expect_err("damaged");
    assert!(matches!(e, StoreError::Corrupt(_)), "{e:?}");
}

#[tokio::test]
async fn a_foreign_lock_is_waited_for_and_then_named() {
    let (_dir, store) = fresh().await;
    let path = store.path().to_path_buf();
    store.close().await;
    drop(store);
    let store = Store::open_waiting(&path, Duration::from_millis(50)).await.expect("it opens");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let other = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect_with(options).await.expect("a shell");
    let lock = other.begin_with("BEGIN IMMEDIATE").await.expect("locked");
    let e = store.begin_call(&new_call(call_id(1))).await.expect_err("locked");
    assert!(matches!(e, StoreError::Busy) && e.is_passing(), "{e:?}");
    store.profile(WANG).await.expect("reading goes on");
    lock.rollback().await.expect("let go");
    store.begin_call(&new_call(call_id(1))).await.expect("free");
}

#[tokio::test]
async fn the_number_that_a_seat_called_is_shown_masked_and_ours_is_not() {
    let (_dir, store) = fresh().await;
    let ours = NewCall { to: Called::new("4001234567", false), ..new_call(call_id(1)) };
    let origin = Box::new(Origin { outward: true, ..Origin::default() });
    let theirs = NewCall { from: Pii::new("8001"), to: Called::new(WANG, true), origin, ..new_call(call_id(2)) };
    assert!(!format!("{theirs:?}").contains(WANG) && format!("{ours:?}").contains("4001234567"));
    store.begin_call(&ours).await.unwrap();
    store.begin_call(&theirs).await.unwrap();
    let calls = store.calls(9).await.unwrap();
    for (call, to, shown) in [(&calls[0], WANG, "138****8000"), (&calls[1], "4001234567", "4001234567")] {
        let text = serde_json::to_string(call).unwrap();
        assert!(text.contains(&format!("\"to\":\"{shown}\"")) && !format!("{call:?}{text}").contains(WANG), "{text}");
        assert_eq!(call.to.expose(), to);
    }
}
