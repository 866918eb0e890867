//! sipp, the field's own test caller, against the running hotline.

use crate::common::{self, root};
use std::path::Path;
use tokio::process::Command;

/// A UDP port that was free a moment ago.
fn free_port() -> u16 {
    std::net::UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr()).expect("a port").port()
}

async fn sipp(args: &[&str], target: &str) -> Option<std::process::Output> {
    let port = free_port().to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let run = Command::new("sipp")
        .args(args)
        .args(["-s", "400", "-i", "127.0.0.1", "-p", &port, "-nostdin", "-timeout", "60", "-timeout_error", target])
        .current_dir(folder.path())
        .output();
    match tokio::time::timeout(std::time::Duration::from_secs(90), run).await {
        Ok(Ok(output)) => Some(output),
        Ok(Err(e)) => {
            eprintln!("SKIPPED: sipp cannot be run ({e}); install Debian's sip-tester");
            None
        }
        Err(_) => panic!("sipp did not end"),
    }
}

fn shown(output: &std::process::Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let tail = text.len().saturating_sub(3000);
    format!(
        "{}\n{}\n{}",
        output.status,
        &text[text.ceil_char_boundary(tail)..],
        String::from_utf8_lossy(&output.stderr)
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_built_in_caller_is_answered_twenty_times_over_udp_and_tcp() {
    let running = common::start(|_| {}).await;
    let target = running.sip.to_string();
    for transport in ["u1", "t1"] {
        let args = ["-sn", "uac", "-m", "10", "-r", "10", "-d", "300", "-t", transport];
        let Some(output) = sipp(&args, &target).await else { return };
        assert!(output.status.success(), "{transport}: {}", shown(&output));
    }
    running.settle().await;
    let calls = running.hotline.store().calls(100).await.unwrap();
    assert_eq!(calls.len(), 20);
    assert!(calls.iter().all(|c| c.outcome.is_some()));
}

const DIGIT_CALL: &str = r#"<?xml version="1.0" encoding="UTF-8" ?>
<scenario name="one digit">
  <send retrans="500"><![CDATA[
    INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
    Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
    From: <sip:13511112222@[local_ip]:[local_port]>;tag=[pid]d[call_number]
    To: <sip:[service]@[remote_ip]:[remote_port]>
    Call-ID: [call_id]
    CSeq: 1 INVITE
    Contact: <sip:caller@[local_ip]:[local_port]>
    Max-Forwards: 70
    Content-Type: application/sdp
    Content-Length: [len]

    v=0
    o=- 1 1 IN IP4 [local_ip]
    s=-
    c=IN IP4 [media_ip]
    t=0 0
    m=audio [auto_media_port] RTP/AVP 8 101
    a=rtpmap:8 PCMA/8000
    a=rtpmap:101 telephone-event/8000
    a=fmtp:101 0-15
  ]]></send>
  <recv response="100" optional="true"></recv>
  <recv response="180" optional="true"></recv>
  <recv response="200" rtd="true"></recv>
  <send><![CDATA[
    ACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0
    Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
    From: <sip:13511112222@[local_ip]:[local_port]>;tag=[pid]d[call_number]
    To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
    Call-ID: [call_id]
    CSeq: 1 ACK
    Max-Forwards: 70
    Content-Length: 0

  ]]></send>
  <pause milliseconds="1500"/>
  <nop><action><exec play_pcap_audio="PCAP"/></action></nop>
  <pause milliseconds="2500"/>
  <send retrans="500"><![CDATA[
    BYE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
    Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
    From: <sip:13511112222@[local_ip]:[local_port]>;tag=[pid]d[call_number]
    To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
    Call-ID: [call_id]
    CSeq: 2 BYE
    Max-Forwards: 70
    Content-Length: 0

  ]]></send>
  <recv response="200"></recv>
</scenario>
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_captured_digit_is_understood() {
    let pcap = root().join("../shared/data/calls/pcap/sipp_dtmf_2833_1.pcap");
    if !pcap.exists() {
        eprintln!("SKIPPED: {} is absent", pcap.display());
        return;
    }
    let running = common::start(|_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("digit.xml");
    let absolute = std::fs::canonicalize(&pcap).unwrap();
    std::fs::write(&scenario, DIGIT_CALL.replace("PCAP", &path(&absolute))).unwrap();
    let Some(output) = sipp(&["-sf", &path(&scenario), "-m", "1"], &running.sip.to_string()).await else { return };
    assert!(output.status.success(), "{}", shown(&output));
    running.settle().await;
    let store = running.hotline.store();
    let call = store.calls(1).await.unwrap().remove(0);
    let turns = store.turns(call.id.parse().unwrap()).await.unwrap();
    assert_eq!(turns.first().map(|t| (t.heard.as_str(), t.by_keys)), Some(("1", true)), "{turns:?}");
}

fn path(p: &Path) -> String {
    p.display().to_string()
}
