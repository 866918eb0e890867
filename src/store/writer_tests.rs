use super::tests::{NOON, call_id, fresh, new_call, record, turn};
use super::*;
use crate::call::CallEvent;
use crate::clock::Mono;
use crate::dialplan::Outcome;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

fn event(n: u64) -> WriteJob {
    WriteJob::Event(call_id(1), n, CallEvent::SpeechStarted)
}

/// Holds the database as another program would.
struct Shell {
    _pool: sqlx::SqlitePool,
    lock: sqlx::Transaction<'static, sqlx::Sqlite>,
}

async fn lock(store: &Store) -> Shell {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(store.path());
    let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect_with(options).await.expect("a shell");
    let lock = pool.begin_with("BEGIN IMMEDIATE").await.expect("locked");
    Shell { _pool: pool, lock }
}

#[tokio::test]
async fn a_whole_call_goes_through_in_order() {
    let (_dir, store) = fresh().await;
    let writer = Writer::spawn(store.clone(), 100);
    let id = call_id(1);
    writer.try_send(WriteJob::Begin(new_call(id))).expect("taken");
    writer.try_send(event(0)).expect("taken");
    writer.try_send(WriteJob::of_event(id, 5, CallEvent::TurnDone(Box::new(turn(1))))).expect("taken");
    writer.try_send(WriteJob::End(id, Box::new(record(Outcome::Resolved)), CallExtras::default())).expect("taken");
    writer.flush(LONG).await.expect("all on disk");
    let row = store.call(id).await.expect("readable").expect("there");
    assert_eq!((row.outcome.as_deref(), row.started_at), (Some("resolved"), NOON.0));
    assert_eq!(store.turns(id).await.expect("turns").len(), 1);
    assert_eq!(store.events(id).await.expect("events").len(), 1);
    assert_eq!(writer.stats(), WriterStats { written: 4, ..WriterStats::default() });
}

#[tokio::test]
async fn an_answer_is_kept_when_events_are_dropped() {
    let (_dir, store) = fresh().await;
    let writer = Writer::spawn(store.clone(), 10);
    let id = call_id(1);
    writer.try_send(WriteJob::Begin(new_call(id))).expect("taken");
    writer.try_send(WriteJob::of_event(id, 700, CallEvent::Answered)).expect("taken");
    for n in 0..100 {
        writer.try_send(event(n)).expect("events are always taken");
    }
    writer.flush(LONG).await.expect("all on disk");
    assert!(writer.stats().events_dropped > 0, "the queue was full");
    assert_eq!(store.call(id).await.expect("readable").expect("there").answered_at, Some(NOON.0 + 700));
}

#[tokio::test]
async fn a_locked_database_delays_nobody_and_loses_no_record() {
    let (_dir, store) = fresh().await;
    let path = store.path().to_path_buf();
    store.close().await;
    drop(store);
    let store = Store::open_waiting(&path, Duration::from_millis(10)).await.expect("it opens");
    let shell = lock(&store).await;
    let writer = Writer::spawn(store.clone(), 200);
    let started = tokio::time::Instant::now();
    for n in 0..300u64 {
        writer.try_send(event(n)).expect("events are always taken");
    }
    for seq in 0..200 {
        writer.try_send(WriteJob::Turn(call_id(1), Box::new(turn(seq)))).expect("room for records");
    }
    // Nothing above awaited, so the task has not run yet: exactly the queue's length is kept.
    let full = WriteJob::Begin(new_call(call_id(2)));
    assert_eq!(writer.try_send(full.clone()), Err(full), "handed back, not lost");
    assert!(started.elapsed() < Duration::from_secs(1), "sending never waits for the disk");
    assert!(writer.is_behind());
    assert_eq!((writer.stats().events_dropped, writer.stats().records_refused), (100, 1));
    let left = writer.flush(Duration::from_millis(200)).await.expect_err("locked");
    assert_eq!(left, 400);
    assert!(writer.stats().retries > 0);
    shell.lock.rollback().await.expect("let go");
    writer.flush(LONG).await.expect("all on disk");
    assert_eq!(store.turns(call_id(1)).await.expect("turns").len(), 200);
    let events = store.events(call_id(1)).await.expect("events");
    assert_eq!(
        events.iter().map(|e| e.at_ms).collect::<Vec<_>>(),
        (100..300).collect::<Vec<i64>>(),
        "the newest, in order"
    );
    assert!(!writer.is_behind());
}

#[tokio::test]
async fn one_record_the_database_refuses_does_not_take_others_with_it() {
    let (_dir, store) = fresh().await;
    let writer = Writer::spawn(store.clone(), 100);
    // A record nobody can write: a trigger that says no to one call's turns.
    sqlx::raw_sql("CREATE TRIGGER no BEFORE INSERT ON turn WHEN NEW.seq = 2 BEGIN SELECT raise(ABORT, 'no'); END")
        .execute(&store.write)
        .await
        .expect("a trigger");
    for seq in 1..=3 {
        writer.try_send(WriteJob::Turn(call_id(1), Box::new(turn(seq)))).expect("taken");
    }
    writer.flush(LONG).await.expect("done with all");
    assert_eq!(store.turns(call_id(1)).await.expect("turns").iter().map(|t| t.seq).collect::<Vec<_>>(), [1, 3]);
    assert_eq!((writer.stats().written, writer.stats().rejected), (2, 1));
}

#[tokio::test]
async fn dropping_the_last_handle_still_writes_what_was_sent() {
    let (_dir, store) = fresh().await;
    let writer = Writer::spawn(store.clone(), 1000);
    let other = writer.clone();
    for n in 0..50 {
        other.try_send(event(n)).expect("taken");
    }
    drop((writer, other));
    let all_there = async {
        while store.events(call_id(1)).await.expect("events").len() < 50 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, all_there).await.expect("written after the last handle is gone");
}

#[tokio::test]
async fn ten_thousand_records_are_written_in_seconds() {
    let (_dir, store) = fresh().await;
    let writer = Writer::spawn(store.clone(), 10_000);
    let started = tokio::time::Instant::now();
    for n in 0..10_000u32 {
        let id = call_id(u128::from(n / 10));
        let job = match n % 10 {
            0 => WriteJob::Begin(new_call(id)),
            9 => {
                let mut r = record(Outcome::Resolved);
                r.ended = Mono::from_ms(65_000 + u64::from(n));
                WriteJob::End(id, Box::new(r), CallExtras::default())
            }
            seq => WriteJob::Turn(id, Box::new(turn(seq))),
        };
        writer.try_send(job).expect("room for all");
    }
    writer.flush(LONG).await.expect("within a minute even on a slow disk");
    eprintln!("10,000 records in {:?}", started.elapsed());
    assert_eq!(store.calls(10_000).await.expect("calls").len(), 1000);
    assert_eq!(store.open_calls().await.expect("a count"), 0);
    assert_eq!(store.turns(call_id(999)).await.expect("turns").len(), 8);
}
