//! sipp, the field's own test caller, against the running hotline.

use crate::common::relays::tied;
use crate::common::sound::{callers_side, share};
use crate::common::{self, root, skipped};
use std::fmt::Write;
use std::path::Path;
use tokio::process::Command;

/// Runs sipp, which looks for a port itself; none, with a word, where it is not installed.
async fn sipp(args: &[&str], target: &str) -> Option<std::process::Output> {
    let folder = tempfile::tempdir().expect("a folder");
    let run = Command::from(tied("sipp", "sip-tester")?)
        .args(args)
        .args(["-s", "400", "-i", "127.0.0.1", "-nostdin", "-timeout", "60", "-timeout_error", target])
        .current_dir(folder.path())
        .kill_on_drop(true)
        .output();
    let done = tokio::time::timeout(std::time::Duration::from_secs(90), run).await;
    Some(done.expect("sipp ends").expect("it is installed"))
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

/// Fills in what messages of a scenario share: INSIDE is the head of one within the call, SOUND2 the second description.
fn filled(text: &str) -> String {
    let text = text.replace(
        "INSIDE",
        "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
    From: <sip:13511112222@[local_ip]:[local_port]>;tag=[pid]p[call_number]
    To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
    Call-ID: [call_id]
    Contact: <sip:caller@[local_ip]:[local_port]>
    Max-Forwards: 70",
    );
    let sound = |version: u32| {
        format!(
            "Content-Type: application/sdp
    Content-Length: [len]

    v=0
    o=- 1 {version} IN IP4 [local_ip]
    s=-
    c=IN IP4 [media_ip]
    t=0 0
    m=audio [rtpstream_audio_port] RTP/AVP 8
    a=rtpmap:8 PCMA/8000"
        )
    };
    (1..=3).fold(text, |text, n| text.replace(&format!("SOUND{n}"), &sound(n)))
}

/// A caller who insists on reliable answers (RFC 3262), plays a file of sound, holds by re-INVITE, resumes by UPDATE (RFC
/// 3311) and hangs up.
const BUSY_CALL: &str = r#"<?xml version="1.0" encoding="UTF-8" ?>
<scenario name="prack, sound, re-INVITE, UPDATE">
  <send retrans="500"><![CDATA[
    INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
    Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
    From: <sip:13511112222@[local_ip]:[local_port]>;tag=[pid]p[call_number]
    To: <sip:[service]@[remote_ip]:[remote_port]>
    Call-ID: [call_id]
    CSeq: 1 INVITE
    Contact: <sip:caller@[local_ip]:[local_port]>
    Max-Forwards: 70
    Require: 100rel
    SOUND1
  ]]></send>
  <recv response="100" optional="true"></recv>
  <recv response="180">
    <action><ereg regexp="[0-9]+" search_in="hdr" header="RSeq:" assign_to="rseq"/></action>
  </recv>
  <send retrans="500"><![CDATA[
    PRACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0
    INSIDE
    CSeq: 2 PRACK
    RAck: [$rseq] 1 INVITE
    Content-Length: 0

  ]]></send>
  <recv response="200" rtd="true"></recv>
  <recv response="200"></recv>
  <send><![CDATA[
    ACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0
    INSIDE
    CSeq: 1 ACK
    Content-Length: 0

  ]]></send>
  <nop><action><exec rtp_stream="TONE,1,8,PCMA/8000"/></action></nop>
  <pause milliseconds="2500"/>
  <send retrans="500"><![CDATA[
    INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
    INSIDE
    CSeq: 3 INVITE
    SOUND2
    a=sendonly
  ]]></send>
  <recv response="100" optional="true"></recv>
  <recv response="200">
    <action><ereg regexp="a=recvonly" search_in="body" check_it="true" assign_to="held"/></action>
  </recv>
  <send><![CDATA[
    ACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0
    INSIDE
    CSeq: 3 ACK
    Content-Length: 0

  ]]></send>
  <pause milliseconds="300"/>
  <send retrans="500"><![CDATA[
    UPDATE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
    INSIDE
    CSeq: 4 UPDATE
    SOUND3
    a=sendrecv
  ]]></send>
  <recv response="200">
    <action><ereg regexp="m=audio [1-9][0-9]* RTP/AVP 8" search_in="body" check_it="true" assign_to="back"/></action>
  </recv>
  <pause milliseconds="300"/>
  <send retrans="500"><![CDATA[
    BYE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
    INSIDE
    CSeq: 5 BYE
    Content-Length: 0

  ]]></send>
  <recv response="200"></recv>
  <Reference variables="held,back"/>
</scenario>
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_with_reliable_answers_sound_a_re_invite_and_an_update_is_served_and_heard() {
    let running = common::start(|_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let (sound, scenario) = (folder.path().join("tone.al"), folder.path().join("busy.xml"));
    let mut coded = Vec::new();
    zongji::audio::Law::A.encode(&common::tone(700.0, 2), &mut coded);
    std::fs::write(&sound, coded).unwrap();
    std::fs::write(&scenario, filled(BUSY_CALL).replace("TONE", &path(&sound))).unwrap();
    let Some(output) = sipp(&["-sf", &path(&scenario), "-m", "1"], &running.sip.to_string()).await else { return };
    assert!(output.status.success(), "{}", shown(&output));
    running.settle().await;
    let call = running.hotline.store().calls(1).await.unwrap().remove(0);
    let share = share(&callers_side(call.recording.expect("a recording")), 700.0);
    assert!(share > 0.9, "{share} is what sipp played");
}

/// A caller who plays the captures named in the place of KEYS.
const DIGIT_CALL: &str = r#"<?xml version="1.0" encoding="UTF-8" ?>
<scenario name="digits">
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
KEYS  <pause milliseconds="2500"/>
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

/// Sipp plays a capture through a raw socket, which not everybody may open.
fn may_open_raw_sockets() -> bool {
    const CAP_NET_RAW: u64 = 1 << 13;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let held = status.lines().find_map(|l| l.strip_prefix("CapEff:")).map(str::trim);
    held.and_then(|h| u64::from_str_radix(h, 16).ok()).is_some_and(|h| h & CAP_NET_RAW != 0)
}

/// The scenario that plays these keys, a pause after each; none when the captures are not there.
fn scenario_of(keys: &[(char, u32)]) -> Option<String> {
    let mut steps = String::new();
    for (key, pause_ms) in keys {
        let name = if *key == '#' { "pound".into() } else { key.to_string() };
        let pcap = root().join(format!("../shared/data/calls/pcap/sipp_dtmf_2833_{name}.pcap"));
        let Ok(absolute) = std::fs::canonicalize(&pcap) else {
            skipped(format_args!("{} is absent", pcap.display()));
            return None;
        };
        writeln!(
            steps,
            "  <nop><action><exec play_pcap_audio=\"{}\"/></action></nop>\n  <pause milliseconds=\"{pause_ms}\"/>",
            absolute.display()
        )
        .expect("a string takes everything");
    }
    Some(DIGIT_CALL.replace("KEYS", &steps))
}

/// Rows of digits are masked in the record: their number is what it tells.
/// The captures come from one stream: within a call the keys must rise, or they would be old packets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn captured_digits_are_understood() {
    if !may_open_raw_sockets() {
        return skipped("sipp needs a raw socket to play a capture (root, or CAP_NET_RAW)");
    }
    let number = |keys: &str| -> Vec<(char, u32)> {
        std::iter::once(('1', 2500)).chain(keys.chars().map(|k| (k, 500))).collect()
    };
    let calls =
        [(number("3689#"), vec!["1", "****"]), (number("2457#"), vec!["1", "****"]), (vec![('0', 500)], vec!["0"])];
    let running = common::start(|_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    for (n, (keys, wanted)) in calls.into_iter().enumerate() {
        let Some(text) = scenario_of(&keys) else { return };
        let scenario = folder.path().join(format!("digits-{n}.xml"));
        std::fs::write(&scenario, text).unwrap();
        let Some(output) = sipp(&["-sf", &path(&scenario), "-m", "1"], &running.sip.to_string()).await else { return };
        assert!(output.status.success(), "{}", shown(&output));
        running.settle().await;
        let store = running.hotline.store();
        let call = store.calls(1).await.unwrap().remove(0);
        let turns = store.turns(call.id.parse().unwrap()).await.unwrap();
        let heard: Vec<&str> = turns.iter().filter(|t| t.by_keys).map(|t| t.heard.trim_end_matches('#')).collect();
        assert_eq!(heard, wanted, "{turns:?}");
    }
}

fn path(p: &Path) -> String {
    p.display().to_string()
}
