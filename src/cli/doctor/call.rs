//! What one call says of the line: pure, from what the probe saw.

use super::finding::{Finding, Level, Words, words};
use crate::rtp::Stats;
use crate::sdp::MediaPlan;
use crate::server::probe::measure::mos;
use crate::server::probe::{KeySeen, LineSeen};

/// Whom the call went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Far {
    /// A line route: it sounds a tone, sends ours back and answers keys.
    Line,
    /// The hotline itself, which speaks its own.
    Hotline,
    /// Somebody else.
    Peer,
}

/// A tone counts as heard from this share of the time on.
const HEARD: f32 = 0.5;

/// All that a call tells. `name` is whom it went to.
pub fn findings(seen: &LineSeen, far: Far, name: &str) -> Vec<Finding> {
    let mut found = vec![set_up(seen, name)];
    found.extend(via(seen, far));
    if seen.answered_ms.is_none() {
        return found;
    }
    found.push(ack(seen, far));
    found.extend(options(seen));
    let plan = match &seen.plan {
        Some(Ok(plan)) => plan,
        Some(Err(why)) => {
            found.push(Finding::error(
                "sdp",
                words!("{name} 的 SDP 不能用:{why}", "the SDP of {name} is of no use: {why}"),
                words!("没有可用的声音", "there is no sound"),
                words!("让对方开放 PCMA 或 PCMU", "have the other side offer PCMA or PCMU"),
            ));
            return found;
        }
        None => return found,
    };
    found.push(agreed(seen, plan));
    found.push(inwards(seen, plan, far));
    found.push(outwards(seen, far));
    found.extend(source(seen, plan));
    if seen.media.packets > 100 {
        found.push(quality(seen));
        found.extend(drift(seen));
        found.push(evenness(seen));
    }
    if far == Far::Line {
        found.push(keys("dtmf-rfc4733", "RFC 4733", &seen.rtp_keys));
        found.push(keys("dtmf-info", "SIP INFO", &seen.info_keys));
    }
    found.extend(ending(seen, far));
    found
}

fn set_up(seen: &LineSeen, name: &str) -> Finding {
    const CHECK: &str = "call";
    let why = seen.why.as_ref().map_or(String::new(), |w| format!(" ({w})"));
    match (seen.code, seen.answered_ms) {
        (Some(_), Some(ms)) => Finding::ok(CHECK, words!("{name} 在 {ms} 毫秒后接听", "{name} answered after {ms} ms")),
        (Some(code), None) => {
            let (means, todo) = refusal(code);
            Finding::error(
                CHECK,
                words!("{name} 拒绝了呼叫:{code}{why}", "{name} refused the call: {code}{why}"),
                means,
                todo,
            )
        }
        (None, _) if seen.first_ms.is_some() => Finding::error(
            CHECK,
            words!("{name} 有回应,但没有接听", "{name} gave signs, but nobody answered"),
            words!("电话在响,或对方还在找人", "it rings, or the other side still looks for somebody"),
            words!("换一个会自动接听的号码再试", "try a number that answers by itself"),
        ),
        (None, _) => Finding::error(
            CHECK,
            words!("{name} 对 INVITE 毫无回应", "{name} gave no sign to the INVITE"),
            words!(
                "地址或端口不对,防火墙挡住了,或对方不认识我们的地址而不作答",
                "the address or port is wrong, a firewall is between, or the other side ignores addresses it does not know"
            ),
            words!(
                "核对地址;在两端用 tcpdump -n udp port 5060 看包是否到达",
                "check the address; look with  tcpdump -n udp port 5060  on both ends whether packets arrive"
            ),
        ),
    }
}

fn refusal(code: u16) -> (Words, Words) {
    match code {
        401 | 407 => (
            words!("对方要密码,或密码不对", "the other side wants a password, or it was wrong"),
            words!("用 --user 和 --password", "give --user and --password"),
        ),
        403 => (
            words!("对方不让这个号码或地址呼叫", "the other side does not let this number or address call"),
            words!(
                "请运营商放行本机地址,或换主叫号码(--from)",
                "ask the carrier to allow this address, or call as another number (--from)"
            ),
        ),
        404 | 484 | 604 => (
            words!("对方没有这个号码", "the other side has no such number"),
            words!("核对号码的写法(区号、前缀、+86)", "check how the number is written (area code, prefix, +86)"),
        ),
        480 | 486 | 600 | 603 => (
            words!("线路是通的,只是被叫忙或不在", "the line is fine; the one called is busy or away"),
            words!("换一个号码再试", "try another number"),
        ),
        488 | 606 => (
            words!("没有共同的编码", "there is no codec in common"),
            words!("让对方开放 PCMA 或 PCMU", "have the other side allow PCMA or PCMU"),
        ),
        500..600 => (
            words!("对方现在接不了", "the other side cannot take it now"),
            words!("稍后再试;若是中继,问运营商", "try later; if it is a trunk, ask the carrier"),
        ),
        _ => (words!("对方拒绝了", "the other side refused"), words!("问对方的管理员", "ask its administrator")),
    }
}

/// What the other side wrote back into our Via.
fn via(seen: &LineSeen, far: Far) -> Option<Finding> {
    let (said, as_seen) = (seen.said?, seen.reflexive?);
    if far != Far::Peer || said.ip() == as_seen.ip() {
        return None;
    }
    Some(Finding::error(
        "via-address",
        words!("我们自称 {said},对方看到的是 {as_seen}", "we called ourselves {said}, the other side saw {as_seen}"),
        words!(
            "中间有 NAT,而 Contact 和 SDP 里是它够不到的地址",
            "there is a NAT between, and Contact and SDP name an address it cannot reach"
        ),
        {
            let ip = as_seen.ip();
            words!(
                "在 zongji.toml 的 [sip] 下写 public_address = \"{ip}\",并转发端口",
                "in zongji.toml under [sip] put  public_address = \"{ip}\"  and forward the ports"
            )
        },
    ))
}

fn ack(seen: &LineSeen, far: Far) -> Finding {
    const CHECK: &str = "ack";
    let contact = seen.contact.clone().unwrap_or_else(|| "?".into());
    if let Some(host) = &seen.lost_host {
        return Finding::error(
            CHECK,
            words!(
                "Contact {contact} 里的 {host} 查不到地址",
                "no address is known for {host} in the Contact {contact}"
            ),
            words!(
                "ACK 送不到:通话约 32 秒后掉线,对方也收不到挂机",
                "the ACK cannot be sent: the call drops after 32 s, and a BYE does not arrive either"
            ),
            words!(
                "在对方设备上把 Contact 改成可达的地址",
                "have the other side put an address that can be reached into its Contact"
            ),
        );
    }
    let repeats = seen.ack.repeats;
    if repeats == 0 {
        return Finding::ok(
            CHECK,
            words!("ACK 按 Contact {contact} 送到了", "the ACK arrives by the Contact {contact}"),
        );
    }
    let by_source = if seen.ack.by_source {
        words!(";改发到应答的来源地址后才停", "; it stopped once the ACK went to where the answer came from")
    } else {
        Words::default()
    };
    let (zh, en) = (by_source.zh, by_source.en);
    Finding::error(
        CHECK,
        words!(
            "ACK 发到 Contact {contact} 之后,200 又来了 {repeats} 次{zh}",
            "after the ACK to the Contact {contact} the 200 came {repeats} more time(s){en}"
        ),
        words!(
            "ACK 没有到达:这就是通话约 32 秒后自己掉线的原因",
            "the ACK does not arrive: this is why calls drop by themselves after about 32 s"
        ),
        match far {
            Far::Peer => words!(
                "对方的 Contact 不可达:请对方在设备上写公网地址,或打开 NAT 修正",
                "the other side's Contact cannot be reached: have it set its public address, or its NAT traversal"
            ),
            Far::Line | Far::Hotline => words!(
                "核对 [sip] public_address 和防火墙;若在 NAT 后面而路由器不支持回流(hairpin),请从外网用 --peer 复查",
                "check [sip] public_address and the firewall; behind a NAT whose router does not hairpin, check again from outside with --peer"
            ),
        },
    )
}

fn options(seen: &LineSeen) -> Option<Finding> {
    if !seen.options_asked || seen.ack.repeats > 0 || seen.lost_host.is_some() {
        return None; // the ACK has said it
    }
    Some(match seen.options {
        Some(code) => {
            Finding::ok("in-call", words!("通话中的 OPTIONS 得到 {code}", "an OPTIONS within the call got {code}"))
        }
        None => Finding::warn(
            "in-call",
            words!("通话中的 OPTIONS 没有回答", "an OPTIONS within the call got no answer"),
            words!(
                "对方不支持,或经 Contact 到不了它:保持、转接和挂机可能丢失",
                "the other side does not know it, or is not reached by its Contact: hold, transfer and BYE may get lost"
            ),
            words!("看挂机(bye)一项是否得到回答", "see whether the BYE below was answered"),
        ),
    })
}

fn agreed(seen: &LineSeen, plan: &MediaPlan) -> Finding {
    let codec = plan.codec.name();
    let asked = plan.ptime_ms;
    let got = if seen.media.packets > 0 { format!(" ({} ms)", seen.media.packet_ms) } else { String::new() };
    let info = seen.info_allowed == Some(true);
    let dtmf = match (plan.dtmf_pt, info) {
        (Some(pt), true) => format!("RFC 4733 (payload type {pt}), INFO"),
        (Some(pt), false) => format!("RFC 4733 (payload type {pt})"),
        (None, true) => "INFO".into(),
        (None, false) => String::new(),
    };
    let seen_words = |dtmf: &str| {
        words!(
            "编码 {codec},每包 {asked} 毫秒{got},按键 {dtmf}",
            "codec {codec}, {asked} ms a packet{got}, keys by {dtmf}"
        )
    };
    match plan.dtmf_pt {
        Some(_) => Finding::ok("media", seen_words(&dtmf)),
        None => {
            let name = if info { "INFO" } else { "in-band" };
            Finding::warn(
                "media",
                seen_words(name),
                words!(
                    "对方没有提供 RFC 4733:按键只能靠 INFO 或声音本身,容易丢失或重复",
                    "the other side offers no RFC 4733: keys go by INFO or as sound, and get lost or doubled easily"
                ),
                words!(
                    "让对方打开 telephone-event(RFC 4733/2833)",
                    "have the other side switch telephone-event (RFC 4733/2833) on"
                ),
            )
        }
    }
}

fn inwards(seen: &LineSeen, plan: &MediaPlan, far: Far) -> Finding {
    const CHECK: &str = "audio-in";
    let (m, remote) = (&seen.media, plan.remote);
    let packets = m.packets;
    if packets == 0 {
        return Finding::error(
            CHECK,
            words!("对方({remote})没有发来一个声音包", "not one packet of sound came from the other side ({remote})"),
            words!(
                "单向无声:这边听不到。对方发往我们在 SDP 里给的地址,没有到",
                "one-way audio: nothing is heard here. What the other side sends to the address in our SDP does not arrive"
            ),
            words!(
                "核对 public_address,在防火墙上放行 [rtp] ports(UDP)",
                "check public_address, and let [rtp] ports (UDP) through the firewall"
            ),
        );
    }
    let first = m.first_ms.unwrap_or(0);
    let heard = match far {
        Far::Line => m.their_tone,
        Far::Hotline | Far::Peer => m.sound,
    };
    let percent = (heard * 100.0).round();
    let all = words!(
        "收到 {packets} 个声音包,第一个在接听后 {first} 毫秒;有声时间 {percent}%",
        "{packets} packets of sound came, the first {first} ms after the answer; sound in {percent}% of the time"
    );
    if far == Far::Line && heard < HEARD {
        return Finding::error(
            CHECK,
            all,
            words!("包到了,里面的测试音却没有", "packets come, but the test tone in them is not there"),
            words!(
                "看有没有改写媒体的设备(SBC、ALG)在中间;关掉路由器的 SIP ALG",
                "see whether something between rewrites media (an SBC, an ALG); switch the router's SIP ALG off"
            ),
        );
    }
    if heard == 0.0 {
        return Finding::warn(
            CHECK,
            all,
            words!("路是通的,但对方一直静音", "the way is open, but the other side was silent all the time"),
            words!("拨一个会说话的号码再试", "try a number that speaks"),
        );
    }
    Finding::ok(CHECK, all)
}

fn outwards(seen: &LineSeen, far: Far) -> Finding {
    const CHECK: &str = "audio-out";
    let (m, sent) = (&seen.media, seen.media.sent);
    let back = (m.our_tone * 100.0).round();
    if m.our_tone >= HEARD {
        return Finding::ok(
            CHECK,
            words!(
                "我们发了 {sent} 个包,测试音在 {back}% 的时间里回来了",
                "{sent} packets sent; our tone came back in {back}% of the time"
            ),
        );
    }
    if far == Far::Line {
        return Finding::error(
            CHECK,
            words!(
                "我们发了 {sent} 个包,测试音只在 {back}% 的时间里回来",
                "{sent} packets sent, but our tone came back in only {back}% of the time"
            ),
            words!(
                "单向无声:来电者说的话到不了总机。总机在 SDP 里给的地址不可达",
                "one-way audio: what callers say does not reach the hotline. The address in the hotline's SDP is not reached"
            ),
            words!(
                "核对 [sip]/[rtp] public_address 和 [rtp] bind,在防火墙上放行 [rtp] ports(UDP)",
                "check public_address in [sip] and [rtp] and [rtp] bind, and let [rtp] ports (UDP) through the firewall"
            ),
        );
    }
    match m.stats.remote_loss {
        Some(loss) => {
            let percent = f64::from(loss * 1000.0).round() / 10.0;
            Finding::ok(
                CHECK,
                words!(
                    "我们发了 {sent} 个包;对方的 RTCP 报告收到了,丢 {percent}%",
                    "{sent} packets sent; the other side's RTCP says it gets them, {percent}% lost"
                ),
            )
        }
        None => Finding::warn(
            CHECK,
            words!(
                "我们发了 {sent} 个包,没有任何迹象表明对方收到",
                "{sent} packets sent, and no sign that the other side gets them"
            ),
            words!(
                "对方不发 RTCP 报告,或真的听不到我们(单向无声)",
                "it sends no RTCP reports, or it really does not hear us (one-way audio)"
            ),
            words!(
                "在对方听一听有没有 1800 Hz 的测试音;没有就检查它的防火墙和 SDP 地址",
                "listen at the other side for the test tone of 1800 Hz; without it check its firewall and the address in its SDP"
            ),
        ),
    }
}

fn source(seen: &LineSeen, plan: &MediaPlan) -> Option<Finding> {
    let (from, _) = seen.media.sources.iter().max_by_key(|(_, n)| **n)?;
    let described = plan.remote;
    if *from == described {
        return None;
    }
    Some(Finding::warn(
        "audio-source",
        words!(
            "SDP 说声音来自 {described},实际来自 {from}",
            "the SDP says sound comes from {described}, it comes from {from}"
        ),
        words!(
            "对方在 NAT 后面或写错了地址;不跟随来源的设备会单向无声",
            "the other side is behind a NAT or gives a wrong address; equipment that does not follow the source has one-way audio"
        ),
        words!(
            "总机会跟随来源;最好让对方写上公网地址",
            "the hotline follows the source; better have the other side set its public address"
        ),
    ))
}

fn quality(seen: &LineSeen) -> Finding {
    let s = &seen.media.stats;
    let expected = s.packets_in + s.lost;
    let share = s.lost as f64 / expected.max(1) as f64;
    let delay = f64::from(s.rtt_ms.unwrap_or(0.0)) / 2.0 + f64::from(s.delay_ms) + 20.0;
    let score = mos(delay, share);
    let (loss, jitter, mos) = (format!("{:.2}", share * 100.0), format!("{:.1}", s.jitter_ms), format!("{score:.2}"));
    let rtt = rtt(s);
    let all = words!(
        "丢包 {loss}%,抖动 {jitter} 毫秒{rtt},MOS 约 {mos}",
        "loss {loss}%, jitter {jitter} ms{rtt}, MOS about {mos}"
    );
    let level = if score < 3.1 {
        Level::Error
    } else if score < 3.8 || share > 0.01 {
        Level::Warn
    } else {
        Level::Ok
    };
    if level == Level::Ok {
        return Finding::ok("quality", all);
    }
    let means = words!("声音断续,识别也会变差", "the sound breaks up, and recognition suffers");
    let todo = words!(
        "在沿途找拥塞:给语音打优先级(DSCP EF),换有线,问运营商",
        "look for congestion on the way: priority for voice (DSCP EF), a wire instead of radio, ask the carrier"
    );
    Finding { level, ..Finding::warn("quality", all, means, todo) }
}

fn rtt(s: &Stats) -> String {
    s.rtt_ms.map_or(String::new(), |ms| format!(", RTT {ms:.1} ms"))
}

fn drift(seen: &LineSeen) -> Option<Finding> {
    const CHECK: &str = "clock-drift";
    let d = seen.media.drift?;
    let (ppm, error, seconds) = (format!("{:+.0}", d.ppm), format!("{:.0}", d.error_ppm), format!("{:.0}", d.seconds));
    let all = words!(
        "对方的采样时钟与本机相差 {ppm} ± {error} ppm(看了 {seconds} 秒)",
        "the other side's sampling clock differs from ours by {ppm} ± {error} ppm (over {seconds} s)"
    );
    if d.ppm.abs() < 200.0 + 3.0 * d.error_ppm {
        return Some(Finding::ok(CHECK, all));
    }
    let per = format!("{:.0}", 20_000.0 / d.ppm.abs());
    Some(Finding::warn(
        CHECK,
        all,
        words!(
            "每 {per} 秒多出或少掉一个 20 毫秒的包:长通话会有咔嗒声,延时慢慢变大",
            "every {per} s there is one packet of 20 ms too many or too few: clicks in long calls, and a delay that grows"
        ),
        words!(
            "检查对方网关的时钟源;若在虚拟机里,检查宿主机的时间同步",
            "check the clock source of the other side's gateway; in a virtual machine, the host's time keeping"
        ),
    ))
}

fn evenness(seen: &LineSeen) -> Finding {
    let [p50, p99, most] = seen.media.unevenness.map(|ms| format!("{ms:.1}"));
    let all = words!(
        "到达间隔的偏差:中位 {p50} 毫秒,99% 在 {p99} 毫秒内,最大 {most} 毫秒",
        "packets off their time: median {p50} ms, 99% within {p99} ms, most {most} ms"
    );
    if seen.media.unevenness[1] < 30.0 {
        return Finding::ok("pacing", all);
    }
    Finding::warn(
        "pacing",
        all,
        words!("抖动缓冲要加大,对话会有迟滞", "the jitter buffer must grow, and talk becomes slow"),
        words!(
            "看机器是否太忙(tick-lateness 一项),或网络是否拥塞",
            "see whether the machine is too busy (tick-lateness), or the network congested"
        ),
    )
}

/// Each key that came as it was pressed, or those that did not.
fn keys(check: &'static str, way: &str, keys: &[KeySeen]) -> Finding {
    let wrong: Vec<String> = keys
        .iter()
        .filter(|k| k.answered != Some(k.key))
        .map(|k| k.answered.map_or(k.key.to_string(), |a| format!("{} → {a}", k.key)))
        .collect();
    let count = keys.len();
    if wrong.is_empty() && count == 16 {
        return Finding::ok(check, words!("{way}:16 个按键全部收到", "{way}: all 16 keys arrived"));
    }
    let (bad, list) = (wrong.len() + 16usize.saturating_sub(count), wrong.join(" "));
    Finding::error(
        check,
        words!("{way}:16 个按键中 {bad} 个没有正确到达:{list}", "{way}: {bad} of 16 keys did not arrive right: {list}"),
        words!("来电者的按键会丢失或按错", "callers' keys get lost or change"),
        words!(
            "若 audio-out 也有故障,先修它;否则检查中间设备对 telephone-event / INFO 的处理",
            "if audio-out is bad too, mend that first; else check what devices between do to telephone-event and INFO"
        ),
    )
}

fn ending(seen: &LineSeen, far: Far) -> Option<Finding> {
    if seen.hung_up {
        return Some(match far {
            Far::Peer => Finding::ok("bye", words!("对方先挂机", "the other side hung up first")),
            Far::Line | Far::Hotline => Finding::warn(
                "bye",
                words!("总机在测试结束前挂机", "the hotline hung up before the check was over"),
                words!(
                    "它认为来电者已经不在(没有收到声音),或通话太长",
                    "it believes the caller has gone (no sound came), or the call was too long"
                ),
                words!("先处理上面的故障", "mend what is said above first"),
            ),
        });
    }
    if seen.bye.is_some() {
        return Some(Finding::ok("bye", words!("挂机得到确认", "the BYE was confirmed")));
    }
    Some(Finding::error(
        "bye",
        words!("BYE 按 Contact 发出后没有回答", "the BYE sent by the Contact got no answer"),
        words!(
            "对方不知道通话已结束:线路会一直占着,直到它自己发现",
            "the other side does not know that the call is over: the line stays taken until it notices"
        ),
        words!("同 ack 一项", "as for the ACK"),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::finding::level_of;
    use super::*;
    use crate::sdp::{Codec, accept, answer, offer};
    use crate::server::phone::capabilities;
    use crate::server::probe::measure::Drift;
    use crate::server::probe::{Ack, MediaSeen};
    use std::net::SocketAddr;

    fn agreed_with(remote: SocketAddr) -> MediaPlan {
        let codecs = || vec![Codec::Pcma];
        let ours = offer(&capabilities([10, 0, 0, 5].into(), 30_000, codecs()));
        let (theirs, _) = answer(&ours, &capabilities(remote.ip(), remote.port(), codecs())).unwrap();
        accept(&ours, &theirs).unwrap()
    }

    fn good() -> LineSeen {
        let remote: SocketAddr = "10.0.0.9:20000".parse().unwrap();
        let keys = |pad: &str| pad.chars().map(|key| KeySeen { key, answered: Some(key) }).collect::<Vec<_>>();
        LineSeen {
            code: Some(200),
            first_ms: Some(3),
            answered_ms: Some(8),
            contact: Some("sip:h@10.0.0.9:5060".into()),
            said: Some("10.0.0.5:5070".parse().unwrap()),
            reflexive: Some("10.0.0.5:5070".parse().unwrap()),
            options: Some(200),
            options_asked: true,
            bye: Some(200),
            info_allowed: Some(true),
            plan: Some(Ok(agreed_with(remote))),
            media: MediaSeen {
                packets: 600,
                sent: 600,
                sources: [(remote, 600)].into(),
                first_ms: Some(12),
                stats: Stats { packets_in: 600, jitter_ms: 1.0, delay_ms: 40, ..Stats::default() },
                drift: Some(Drift { ppm: 20.0, error_ppm: 8.0, seconds: 12.0 }),
                unevenness: [0.2, 1.5, 4.0],
                packet_ms: 20,
                sound: 1.0,
                their_tone: 1.0,
                our_tone: 1.0,
            },
            rtp_keys: keys("0123456789*#ABCD"),
            info_keys: keys("0123456789*#ABCD"),
            ..LineSeen::default()
        }
    }

    fn level(seen: &LineSeen, far: Far, check: &str) -> Level {
        level_of(&findings(seen, far, "x"), check)
    }

    #[test]
    fn a_good_line_has_nothing_to_mend() {
        let found = findings(&good(), Far::Line, "x");
        assert!(found.iter().all(|f| f.level == Level::Ok), "{found:#?}");
        assert!(found.len() >= 11, "{}", found.len());
    }

    #[test]
    fn an_ack_that_does_not_arrive_explains_the_drop_after_32_s() {
        let seen = LineSeen { ack: Ack { repeats: 2, by_source: true }, options: None, ..good() };
        for far in [Far::Line, Far::Peer] {
            let found = findings(&seen, far, "x");
            let ack = found.iter().find(|f| f.check == "ack").unwrap();
            assert!(ack.level == Level::Error && ack.means.en.contains("32 s") && ack.means.zh.contains("32 秒"));
            assert!(ack.seen.en.contains("where the answer came from"), "{}", ack.seen.en);
            assert!(!found.iter().any(|f| f.check == "in-call"), "said once");
        }
        assert_eq!(level(&LineSeen { lost_host: Some("pbx.local".into()), ..good() }, Far::Peer, "ack"), Level::Error);
    }

    #[test]
    fn each_way_of_the_sound_is_judged_by_itself() {
        let deaf = LineSeen { media: MediaSeen { our_tone: 0.0, ..good().media }, ..good() };
        assert_eq!(
            (level(&deaf, Far::Line, "audio-in"), level(&deaf, Far::Line, "audio-out")),
            (Level::Ok, Level::Error)
        );
        let mute = LineSeen { media: MediaSeen { sent: 600, ..MediaSeen::default() }, ..good() };
        assert_eq!(level(&mute, Far::Line, "audio-in"), Level::Error);
        assert_eq!(level(&deaf, Far::Peer, "audio-out"), Level::Warn, "no report, no tone: not known");
        let mut reported = deaf;
        reported.media.stats.remote_loss = Some(0.0);
        assert_eq!(level(&reported, Far::Peer, "audio-out"), Level::Ok);
    }

    #[test]
    fn sound_from_elsewhere_than_described_is_told() {
        let mut seen = good();
        seen.media.sources = [("10.0.0.9:20002".parse().unwrap(), 600)].into();
        assert_eq!(level(&seen, Far::Peer, "audio-source"), Level::Warn);
    }

    #[test]
    fn keys_that_are_lost_or_changed_are_named() {
        let mut seen = good();
        seen.rtp_keys[5].answered = None;
        seen.rtp_keys[10].answered = Some('#');
        let found = findings(&seen, Far::Line, "x");
        let keys = found.iter().find(|f| f.check == "dtmf-rfc4733").unwrap();
        assert!(
            keys.level == Level::Error && keys.seen.en.contains("2 of 16") && keys.seen.en.contains("* → #"),
            "{keys:?}"
        );
        seen.info_keys.clear();
        assert_eq!(level(&seen, Far::Line, "dtmf-info"), Level::Error, "none tried is none arrived");
    }

    #[test]
    fn a_drifting_clock_a_lossy_line_and_a_missing_key_mode_are_told() {
        let mut seen = good();
        seen.media.drift = Some(Drift { ppm: -900.0, error_ppm: 20.0, seconds: 12.0 });
        seen.media.stats.lost = 60;
        if let Some(Ok(plan)) = &mut seen.plan {
            plan.dtmf_pt = None;
        }
        assert_eq!(level(&seen, Far::Peer, "clock-drift"), Level::Warn);
        assert_ne!(level(&seen, Far::Peer, "quality"), Level::Ok);
        assert_eq!(level(&seen, Far::Peer, "media"), Level::Warn);
    }

    #[test]
    fn a_call_that_was_not_answered_says_why_and_no_more() {
        for (code, word) in [(403, "carrier"), (404, "number"), (407, "--password"), (488, "PCMA"), (503, "later")] {
            let seen = LineSeen { code: Some(code), first_ms: Some(5), answered_ms: None, ..LineSeen::default() };
            let found = findings(&seen, Far::Peer, "x");
            assert!(found.len() == 1 && found[0].todo.en.contains(word), "{code}: {found:?}");
        }
        assert_eq!(level(&LineSeen::default(), Far::Peer, "call"), Level::Error);
    }

    #[test]
    fn a_nat_on_the_way_to_a_peer_names_the_line_to_add() {
        let seen = LineSeen { reflexive: Some("203.0.113.7:4".parse().unwrap()), ..good() };
        let found = findings(&seen, Far::Peer, "x");
        let via = found.iter().find(|f| f.check == "via-address").unwrap();
        assert!(via.todo.zh.contains("public_address = \"203.0.113.7\""), "{via:?}");
    }
}
