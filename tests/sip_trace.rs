//! What SIP said in a call is kept, masked, with all its legs; what was refused says why; and a record says why a call failed.

use crate::common::sip::{Client, OFFER, Side, header};
use crate::common::wire::Caller;
use crate::common::{self, ONE_ORDER, Running, STRANGER, keys, until};
use std::process::Command;
use std::time::Duration;
use zongji::ids::CallId;
use zongji::server::phone::{Act, Step, When};
use zongji::sip::Credential;
use zongji::sip::trace::{Role, Shelf, Trace, Way};
use zongji::store::CallRow;

/// Waits for a trace that is as wanted, with its messages.
async fn traced(running: &Running, what: &str, wanted: impl Fn(&Trace) -> bool) -> Trace {
    let shelf = Shelf::new(running.data().join("traces"));
    let read = || {
        let found = shelf.list().expect("the folder");
        found.iter().map(|f| Shelf::read(f).unwrap().unwrap()).find(&wanted)
    };
    until(what, || read().is_some()).await;
    read().unwrap()
}

/// First lines of a trace's messages, with their way.
fn lines(trace: &Trace) -> Vec<String> {
    let line = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_string();
    let way = |way| if way == Way::In { "<" } else { ">" };
    trace.messages.iter().map(|m| format!("{} {}", way(m.way), line(&m.bytes))).collect()
}

fn zongji(args: &[&str]) -> (bool, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_zongji")).args(args).current_dir(common::root()).output().unwrap();
    let said = [run.stdout.clone(), run.stderr.clone()].concat();
    (run.status.success(), String::from_utf8_lossy(&said).into_owned())
}

async fn record(running: &Running, sip_call_id: &str) -> CallRow {
    running.settle().await;
    let calls = running.hotline.store().calls(100).await.unwrap();
    calls.into_iter().find(|c| c.sip_call_id == sip_call_id).unwrap_or_else(|| panic!("no record of {sip_call_id}"))
}

fn refused(running: &Running, reason: &str) -> u64 {
    let wanted = format!("zongji_sip_refused_total{{reason=\"{reason}\"}} ");
    let metrics = running.hotline.metrics();
    metrics.lines().find_map(|l| l.strip_prefix(&wanted)).expect("every reason is listed").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transferred_call_leaves_one_masked_trace_with_all_its_legs() {
    let running = common::start(|_| {}).await;
    let mut seat = common::seat(&running).await;
    let script = vec![Step { when: When::After(1500), act: Act::HangUp }];
    let answering = tokio::spawn(async move { seat.answer(Duration::from_secs(30), 200, script, &mut |_| {}).await });
    running.call(ONE_ORDER, vec![keys("4")]).await;
    answering.await.unwrap().unwrap().expect("the seat was called");
    running.settle().await;
    let trace = traced(&running, "a trace with both goodbyes", |t| {
        lines(t).iter().filter(|l| l.contains(" BYE ")).count() == 2
    })
    .await;
    let roles: Vec<Role> = trace.legs.iter().map(|l| l.role).collect();
    assert_eq!(roles, [Role::Caller, Role::Seat]);
    let said = lines(&trace);
    let count = |start: &str| said.iter().filter(|l| l.starts_with(start)).count();
    assert_eq!((count("< INVITE"), count("> INVITE"), count("< ACK"), count("> ACK")), (1, 1, 1, 1), "{said:#?}");
    assert_eq!(said.iter().filter(|l| l.contains("SIP/2.0 200")).count(), 4, "two INVITEs, two BYEs: {said:#?}");
    assert!(trace.messages.is_sorted_by_key(|m| m.at) && trace.lost == 0);
    assert!(trace.messages.iter().all(|m| m.remote.port() != 0 && m.local == running.sip), "{:?}", trace.messages);
    assert_eq!((trace.ending.from.as_str(), trace.ending.to.as_str()), ("138****8000", "400"));
    let row = running.hotline.store().calls(1).await.unwrap().remove(0);
    assert_eq!((row.id.as_str(), row.reason.as_deref()), (trace.id.as_str(), Some(trace.ending.why.as_str())));
    assert_eq!(row.reason_zh.as_deref(), Some(trace.ending.why_zh.as_str()));
    for file in std::fs::read_dir(running.data().join("traces")).unwrap() {
        let text = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains(ONE_ORDER), "a number in clear on disk");
    }
    shown_by_the_command_line(&running, &trace, &row.sip_call_id);
}

fn shown_by_the_command_line(running: &Running, trace: &Trace, sip_call_id: &str) {
    let data = running.data().display().to_string();
    let (ok, listed) = zongji(&["trace", "--data", &data]);
    assert!(ok && listed.contains(&trace.id) && listed.contains("138****8000 > 400"), "{listed}");
    let (ok, drawn) = zongji(&["trace", &trace.id[..12], "--data", &data]);
    assert!(ok && drawn.contains("INVITE ") && drawn.contains("caller") && drawn.contains("seat"), "{drawn}");
    assert!(drawn.lines().all(|l| l.chars().count() <= 100), "{drawn}");
    let (ok, chinese) = zongji(&["trace", sip_call_id, "--lang", "zh", "--data", &data]);
    assert!(ok && chinese.contains("坐席") && chinese.contains(&trace.ending.why_zh), "{chinese}");
    let (ok, full) = zongji(&["trace", &trace.id, "--full", "--data", &data]);
    assert!(ok && full.contains("User-Agent: ") && full.contains("CSeq: "), "{full}");
    let (ok, json) = zongji(&["trace", &trace.id, "--json", "--data", &data]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(ok && json["messages"].as_array().unwrap().len() == trace.messages.len());
    let file = running.data().join("call.pcap");
    let (ok, said) = zongji(&["trace", &trace.id, "--pcap", &file.display().to_string(), "--data", &data]);
    assert!(ok && said.contains(&format!("{} messages", trace.messages.len())), "{said}");
    let capture = std::fs::read(&file).unwrap();
    assert_eq!(payloads(&capture), trace.messages.iter().map(|m| m.bytes.clone()).collect::<Vec<_>>());
    let (ok, said) = zongji(&["trace", "01NOSUCH", "--data", &data]);
    assert!(!ok && said.contains("no traced call begins with \"01NOSUCH\""), "{said}");
    let (ok, said) = zongji(&["trace", "x", "--lang", "fr", "--data", &data]);
    assert!(!ok && said.contains("[possible values: en, zh]"), "{said}");
}

/// UDP payloads of a capture of IPv4.
fn payloads(capture: &[u8]) -> Vec<Vec<u8>> {
    let (mut at, mut all) = (24, Vec::new());
    while at < capture.len() {
        let length = u32::from_le_bytes(capture[at + 8..at + 12].try_into().unwrap()) as usize;
        let frame = &capture[at + 16..at + 16 + length];
        assert_eq!((frame[12], frame[13], frame[23]), (8, 0, 17), "IPv4 and UDP");
        all.push(frame[14 + 20 + 8..].to_vec());
        at += 16 + length;
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_call_leaves_a_trace_a_count_and_its_reason() {
    let running = common::start(|s| s.max_calls = 1).await;
    let client = Client::new(running.sip).await;
    let from = |text: String| text.replace("<sip:c@", &format!("\"{STRANGER}\" <sip:{STRANGER}@"));
    let ask = async |user: &str, id: &str, sdp: &str| {
        let invite = from(client.request("INVITE", user, id, 1, "", "", sdp));
        client.send(&invite).await;
        let answer = client.final_answer().await;
        let tag = common::sip::tag_of(&answer);
        client.send(&from(client.request("ACK", user, id, 1, &tag, "", "")).replace("ACK1", "INVITE1")).await;
        header(&answer, "CSeq").to_string() + " " + &answer[8..11]
    };
    assert_eq!(ask("nobody", "wrong-number", OFFER).await, "1 INVITE 404");
    let foreign = OFFER.replace("RTP/AVP 8", "RTP/AVP 96") + "a=rtpmap:96 AMR/8000\r\n";
    assert_eq!(ask("400", "wrong-codec", &foreign).await, "1 INVITE 488");
    let mut first = Caller::new(running.sip, ONE_ORDER).await;
    first.establish().await;
    assert_eq!(ask("400", "one-too-many", OFFER).await, "1 INVITE 503");
    first.bye().await;
    let counted = ["unknown_number", "no_codec", "full", "limited"].map(|r| refused(&running, r));
    assert_eq!(counted, [1, 1, 1, 0]);
    for (id, cause, why) in [
        ("wrong-number", 1, "refused with 404: the number dialled is not one of [sip] numbers"),
        ("wrong-codec", 65, "refused with 488, no codec in common: offered were audio AMR; we can do "),
        ("one-too-many", 34, "refused with 503: all 1 lines were taken ([sip] max_calls)"),
    ] {
        let trace = traced(&running, id, |t| t.legs.iter().any(|l| l.call_id == id)).await;
        assert!(trace.ending.why.starts_with(why) && trace.ending.cause == cause, "{:?}", trace.ending);
        assert_eq!(trace.ending.from, "135****2222");
        let said = lines(&trace);
        assert!(said[0].starts_with("< INVITE") && said.iter().any(|l| l.starts_with("> SIP/2.0 ")), "{said:?}");
        assert!(trace.messages.iter().all(|m| !String::from_utf8_lossy(&m.bytes).contains(STRANGER)));
        if id != "wrong-number" {
            let row = record(&running, id).await;
            assert_eq!((row.outcome.as_deref(), row.cause), (Some("failed"), Some(cause)));
            assert_eq!(row.reason.as_deref(), Some(trace.ending.why.as_str()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_sound_says_from_where_it_was_missed() {
    let running = common::start(|s| s.dead_after_s = 2).await;
    let mut caller = Caller::new(running.sip, ONE_ORDER).await;
    caller.establish().await;
    until("the hotline gives up", || running.hotline.calls() == 0).await;
    running.settle().await;
    let row = running.hotline.store().calls(1).await.unwrap().remove(0);
    let reason = row.reason.unwrap();
    assert!(reason.starts_with("no sound arrived from 127.0.0.1:") && reason.contains(" for 2 s: "), "{reason}");
    assert!(row.reason_zh.unwrap().starts_with("2 秒内没有收到来自 127.0.0.1:"));
    assert_eq!(row.cause, Some(41));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seat_that_refuses_is_told_in_the_calls_events() {
    let running = common::start(|_| {}).await;
    let mut phone = Side::new(common::sip::settings()).await;
    let credential =
        Credential { user: common::SEAT.0.into(), password: common::SEAT.1.into(), realm: Some("zongji".into()) };
    phone.agent.register(running.sip, &credential, 300).await.expect("it registers");
    let caller = async { running.call(ONE_ORDER, vec![keys("4"), common::hang_up(3000)]).await };
    let refuses = async {
        let dialog = phone.called().await;
        phone.agent.reject(dialog, 486, None).await;
    };
    tokio::join!(caller, refuses);
    running.settle().await;
    let row = running.hotline.store().calls(1).await.unwrap().remove(0);
    let id: CallId = row.id.parse().unwrap();
    let events = running.hotline.store().events(id).await.unwrap();
    let failed = events.iter().find(|e| e.kind == "leg_failed").expect("the leg's failure is told");
    assert_eq!(failed.data["reason"], "seat 8001 did not take the call (486 Busy Here): the line is busy");
    assert_eq!(
        (&failed.data["cause"], &failed.data["reason_zh"]),
        (&17.into(), &"seat 8001 未接通（486 Busy Here）：线路忙".into())
    );
}
