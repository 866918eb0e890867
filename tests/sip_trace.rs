//! What SIP said in a call is kept, masked, with all its legs; what was refused says why; and a record says why a call failed.

use crate::common::sip::{Client, OFFER, header};
use crate::common::wire::Caller;
use crate::common::{self, ONE_ORDER, Running, STRANGER, until};
use zongji::sip::trace::{Shelf, Trace, Way};
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
