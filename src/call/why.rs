//! Why a call, or a leg of it, failed: one sentence that a telephone administrator understands, in English and Chinese,
//! with the cause of ITU-T Q.850. One table, so that records, traces and the log say the same.

use super::{EndReason, HungUpBy};

/// Why a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// The caller hung up before the answer.
    GaveUp,
    /// The caller hung up.
    CallerLeft,
    /// The caller's dialog broke off.
    Lost,
    /// The hotline stops.
    Stopping,
    /// Nobody took the offer in time.
    NotTaken,
    /// The 200 was never acknowledged.
    NoAck,
    /// All was said.
    Said,
    /// The last words took too long.
    LastWords,
    /// Caller and seat reached the limit.
    BridgeLimit,
    /// The caller's sound stopped.
    NoMedia,
    /// The caller held us too long.
    HeldTooLong,
    /// A person or the program's end ended it.
    Terminated,
    /// The caller's trunk took the caller to a person by itself.
    TakenOver,
    /// The trunk accepted to do so, told no result and hung up.
    TakenOverUntold,
    /// The longest time with us.
    TimeLimit,
    /// The flow went round and round.
    FlowCircle,
    /// A fax machine called.
    FaxCalling,
    /// A fax machine or modem answers.
    FaxAnswering,
    /// The trunk takes calls out only.
    OutOnly,
    /// The call had no offer, so that no notice could be heard before an answer.
    NoticeWithoutOffer,
    /// The caller's description wants the notice somewhere else than the call comes from.
    NoticeElsewhere,
    /// Nothing showed in time that the caller is where the notice goes.
    NoticeUnproved,
    /// The caller gave up before the call's machine began.
    GaveUpEarly,
    /// Signalling broke off before the call's machine began.
    LostEarly,
    /// Ended by us before the call's machine began.
    EndedEarly,
    /// No codec in common.
    NoCodec,
    /// The offer cannot be read.
    BadOffer,
    /// All lines are taken.
    LinesFull,
    /// No RTP port is free.
    NoPort,
    /// Records wait for the disk.
    DiskSlow,
    /// No media thread takes it.
    NoMediaThread,
    /// The media thread could not take up its sockets.
    NoSocket,
    /// The ACK brought no answer to our offer.
    BadAck,
    /// A fault of the program.
    Broke,
    /// The process was killed or stopped.
    ProgramStopped,
    /// A leg that we called failed.
    Leg,
    /// Something else, said elsewhere.
    Other,
}

/// What a sentence names, where it is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Our own address as the other side was told it (Contact).
    pub contact: Option<String>,
    /// Where sound should have come from (the other side's description).
    pub media: Option<String>,
    /// For how many seconds none came.
    pub silent_s: u64,
    /// Codecs the other side offered.
    pub offered: String,
    /// Codecs we can do.
    pub ours: String,
    /// A limit that was reached.
    pub limit: u64,
}

/// A status of SIP as an administrator reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Q.850 cause (RFC 3398 section 8.2.6.1).
    pub cause: u16,
    /// Its name.
    pub phrase: &'static str,
    /// What it means here and what to look at, in English.
    pub english: &'static str,
    /// The same in Chinese.
    pub chinese: &'static str,
}

const fn status(cause: u16, phrase: &'static str, english: &'static str, chinese: &'static str) -> Status {
    Status { cause, phrase, english, chinese }
}

/// What a final status means.
pub const fn of_status(code: u16) -> Status {
    match code {
        400 => status(41, "Bad Request", "the other side could not read our request", "对方无法解析本机请求"),
        401 | 407 => status(
            21,
            "Unauthorized",
            "it wants another user name or password: check the account",
            "用户名或密码不被接受：请检查账号",
        ),
        403 => status(
            21,
            "Forbidden",
            "it does not allow this call: check the account's rights and caller number",
            "对方不允许此呼叫：请检查账号权限和主叫号码",
        ),
        404 | 604 => status(1, "Not Found", "it does not know that number", "对方没有这个号码"),
        405 => status(63, "Method Not Allowed", "it does not serve that request", "对方不支持该请求"),
        408 => status(
            102,
            "Request Timeout",
            "nothing answered in time: check address, network and firewall",
            "超时无应答：请检查地址、网络和防火墙",
        ),
        410 => status(22, "Gone", "that number is no longer in use", "该号码已停用"),
        413 => status(127, "Request Entity Too Large", "our request is too large for it", "本机请求过大，对方不收"),
        415 | 416 | 420 | 421 => {
            status(127, "Unsupported", "it lacks something that our request needs", "对方不支持请求所需的功能")
        }
        480 => status(
            18,
            "Temporarily Unavailable",
            "the phone is not reachable now, or nobody picked up",
            "话机暂时无法接通或无人接听",
        ),
        481 => status(41, "Call Does Not Exist", "it no longer knows this call", "对方已没有这通电话"),
        482 | 483 => {
            status(25, "Loop Detected", "the call went round in a circle: check the routes", "呼叫形成环路：请检查路由")
        }
        484 => status(28, "Address Incomplete", "the number is too short", "号码不完整"),
        485 => status(1, "Ambiguous", "the number fits more than one address", "号码对应多个地址"),
        486 | 600 => status(17, "Busy Here", "the line is busy", "线路忙"),
        487 => status(31, "Request Terminated", "the call was given up before an answer", "应答前呼叫已取消"),
        488 | 606 => status(
            65,
            "Not Acceptable Here",
            "no codec or transport in common: compare the offer in the trace",
            "编码或传输方式不一致：请对照信令跟踪中的 SDP",
        ),
        491 => status(41, "Request Pending", "both sides changed the call at once", "双方同时修改通话"),
        500 => status(41, "Server Internal Error", "a fault on the other side", "对方内部故障"),
        501 => status(79, "Not Implemented", "it does not know that request", "对方不支持该请求"),
        502 => status(38, "Bad Gateway", "the network behind it is out of order", "对方后端网络故障"),
        503 => status(
            41,
            "Service Unavailable",
            "it is overloaded or stopping, or all its lines are taken",
            "对方过载、正在停止或线路已满",
        ),
        504 => status(102, "Server Time-out", "the network behind it did not answer in time", "对方后端超时"),
        505 => status(127, "Version Not Supported", "it speaks another version of SIP", "对方不支持该 SIP 版本"),
        513 => status(127, "Message Too Large", "our request is too large for it", "本机请求过大，对方不收"),
        603 => status(21, "Decline", "the person declined the call", "对方拒接"),
        300..=399 => status(
            23,
            "Moved",
            "it wants us to call another address, which is not done",
            "对方要求改呼其他地址，本机不跟随",
        ),
        402..=499 => status(127, "Request Failure", "it refused our request", "对方拒绝请求"),
        _ => status(31, "Failure", "it failed", "呼叫失败"),
    }
}

impl EndReason {
    /// The reason of a call's end, with what is known.
    pub fn of(why: Why, facts: &Facts) -> EndReason {
        let (cause, by) = cause_of(why);
        let (english, chinese) = words(why, facts);
        EndReason { cause, by, sentence: english, zh: chinese, why }
    }

    /// A reason that has a sentence of its own.
    pub fn other(cause: u16, by: HungUpBy, english: &str, chinese: &str) -> EndReason {
        EndReason { cause, by, sentence: english.into(), zh: chinese.into(), why: Why::Other }
    }

    /// Why a leg that we called failed: `who` is a seat, a trunk, a number (masked).
    pub fn of_leg(who: &str, code: u16) -> EndReason {
        let Status { cause, phrase, english, chinese } = of_status(code);
        EndReason {
            cause,
            by: HungUpBy::Us,
            sentence: format!("{who} did not take the call ({code} {phrase}): {english}"),
            zh: format!("{who} 未接通（{code} {phrase}）：{chinese}"),
            why: Why::Leg,
        }
    }

    /// The same for a leg on which only a tone was heard, of a busy line or of a network without a way through; before
    /// an answer or after one.
    pub fn of_tone(who: &str, busy: bool, answered: bool) -> EndReason {
        let (cause, english, chinese) = match busy {
            true => (17, "a busy tone was heard: that line is engaged", "听到忙音，对方占线"),
            false => (42, "a congestion tone was heard: the network had no way through", "听到拥塞音，网络无法接通"),
        };
        let (before, zh_before) = match answered {
            true => ("answered, but nobody was there: ", "已应答但无人通话："),
            false => ("did not take the call: ", "未接通："),
        };
        EndReason {
            cause,
            by: HungUpBy::Us,
            sentence: format!("{who} {before}{english}"),
            zh: format!("{who} {zh_before}{chinese}"),
            why: Why::Leg,
        }
    }
}

const fn cause_of(why: Why) -> (u16, HungUpBy) {
    use HungUpBy::{Caller, Us};
    match why {
        Why::GaveUp | Why::CallerLeft | Why::GaveUpEarly | Why::TakenOverUntold => (16, Caller),
        Why::Said | Why::TakenOver => (16, Us),
        Why::Lost | Why::LostEarly => (27, Us),
        Why::LinesFull | Why::NoPort | Why::NoSocket => (34, Us),
        Why::DiskSlow => (42, Us),
        Why::NoCodec => (65, Us),
        Why::FaxCalling | Why::FaxAnswering => (88, Us),
        Why::OutOnly => (21, Us),
        Why::NoticeWithoutOffer | Why::NoticeElsewhere | Why::NoticeUnproved => (31, Us),
        Why::Terminated | Why::EndedEarly | Why::Other => (31, Us),
        Why::NotTaken | Why::NoAck | Why::LastWords | Why::BridgeLimit | Why::HeldTooLong | Why::TimeLimit => (102, Us),
        Why::BadOffer | Why::BadAck => (100, Us),
        Why::Stopping
        | Why::NoMedia
        | Why::FlowCircle
        | Why::NoMediaThread
        | Why::Broke
        | Why::ProgramStopped
        | Why::Leg => (41, Us),
    }
}

/// The status that refuses a call for this reason, before anything ran on it.
pub const fn refusal_of(why: Why) -> u16 {
    match why {
        Why::NoticeWithoutOffer | Why::NoticeElsewhere | Why::NoticeUnproved => 480,
        Why::OutOnly => 403,
        Why::NoCodec => 488,
        Why::BadOffer => 400,
        Why::GaveUp | Why::GaveUpEarly => 487,
        _ => 503,
    }
}

/// ` NAME`, or nothing.
fn named(what: &str, name: Option<&String>) -> String {
    name.map(|n| format!("{what}{n}")).unwrap_or_default()
}

fn words(why: Why, f: &Facts) -> (String, String) {
    match why {
        Why::NoAck => (
            format!(
                "our answer was not confirmed: the ACK did not reach us; check NAT, the firewall and the Contact address{}",
                named(" ", f.contact.as_ref())
            ),
            format!(
                "我方应答未得到确认：没有收到 ACK；请检查 NAT、防火墙以及 Contact 地址{}",
                named(" ", f.contact.as_ref())
            ),
        ),
        Why::NoMedia => (
            format!(
                "no sound arrived{}{}: one-way audio or a dead network; check the firewall and the address in the SDP",
                named(" from ", f.media.as_ref()),
                if f.silent_s > 0 { format!(" for {} s", f.silent_s) } else { String::new() }
            ),
            format!(
                "{}没有收到{}语音：单向通话或网络中断；请检查防火墙和 SDP 中的地址",
                if f.silent_s > 0 { format!("{} 秒内", f.silent_s) } else { String::new() },
                f.media.as_ref().map(|m| format!("来自 {m} 的")).unwrap_or_default()
            ),
        ),
        Why::NoCodec => (
            format!("refused with 488, no codec in common: offered were {}; we can do {}", f.offered, f.ours),
            format!("以 488 拒绝，没有共同的语音编码：对方提供 {}；本机支持 {}", f.offered, f.ours),
        ),
        Why::LinesFull => (
            format!("refused with 503: all {} lines were taken ([sip] max_calls)", f.limit),
            format!("以 503 拒绝：{} 条线路已全部占用（[sip] max_calls）", f.limit),
        ),
        fixed => {
            let (english, chinese) = fixed_words(fixed);
            (english.into(), chinese.into())
        }
    }
}

const fn fixed_words(why: Why) -> (&'static str, &'static str) {
    match why {
        Why::GaveUp => ("the caller hung up before the answer", "主叫在应答前挂机"),
        Why::CallerLeft => ("the caller hung up", "主叫挂机"),
        Why::Lost => ("the caller's signalling broke off: look for a lost connection", "主叫信令中断：请检查网络连接"),
        Why::Stopping => ("the call was refused: the hotline is stopping", "总机正在停止，呼叫被拒绝"),
        Why::NotTaken => ("the call was not taken in time", "呼叫未能及时受理"),
        Why::Said => ("the flow came to its end", "流程正常结束"),
        Why::LastWords => ("the last words took too long", "结束语超时"),
        Why::BridgeLimit => ("caller and seat reached the longest time allowed", "主叫与坐席通话达到最长时限"),
        Why::HeldTooLong => ("the caller held the call too long", "主叫保持通话过久"),
        Why::Terminated => ("the call was ended by the operator or the program's end", "通话由管理员或程序退出结束"),
        Why::TakenOver => (
            "the caller's trunk took the caller to the number asked for (REFER)",
            "主叫所在中继已按 REFER 将主叫直接转接到目标号码",
        ),
        Why::TakenOverUntold => (
            "the caller's trunk hung up during the transfer that it had accepted (REFER) and told no result: it counts as done",
            "主叫所在中继接受 REFER 后未告知结果即挂机，按转接成功处理",
        ),
        Why::TimeLimit => ("the call reached its time limit", "通话达到最长时限"),
        Why::FlowCircle => {
            ("the flow runs in a circle: see the nodes it went through", "流程陷入循环：请查看经过的节点")
        }
        Why::FaxCalling => (
            "a fax machine called (its 1100 Hz tone was heard): this number takes voice only",
            "来电为传真机（检测到 1100 Hz）：本号码只接语音",
        ),
        Why::FaxAnswering => (
            "a fax machine or modem was on the line (2100 Hz was heard): this number takes voice only",
            "线路上是传真机或调制解调器（检测到 2100 Hz）：本号码只接语音",
        ),
        Why::Broke => {
            ("the call broke on our side: look for the panic in the log", "本机程序故障导致通话中断：请查看日志")
        }
        Why::ProgramStopped => ("the program was stopped", "程序被停止"),
        Why::Leg => ("a leg that we called failed", "呼出的一方失败"),
        Why::OutOnly
        | Why::NoticeWithoutOffer
        | Why::NoticeElsewhere
        | Why::NoticeUnproved
        | Why::GaveUpEarly
        | Why::LostEarly
        | Why::EndedEarly
        | Why::BadOffer
        | Why::NoPort
        | Why::DiskSlow
        | Why::NoMediaThread
        | Why::NoSocket
        | Why::BadAck => early_words(why),
        Why::NoAck | Why::NoMedia | Why::NoCodec | Why::LinesFull | Why::Other => ("", ""),
    }
}

/// Of calls on which nothing has run yet.
const fn early_words(why: Why) -> (&'static str, &'static str) {
    match why {
        Why::OutOnly => (
            "refused with 403: the trunk it came by takes calls out only ([[trunk]] direction)",
            "以 403 拒绝：该中继只用于呼出（[[trunk]] direction）",
        ),
        Why::NoticeWithoutOffer => (
            "refused with 480: the notice can only be played to a call with an offer, and the INVITE had none ([[notice]])",
            "以 480 拒绝：INVITE 中没有 SDP，无法播放通知（[[notice]]）",
        ),
        Why::NoticeElsewhere => (
            "refused with 480, the notice was not played: the caller's SDP wants it at another address than the call came \
             from ([[notice]])",
            "以 480 拒绝，未播放通知：主叫 SDP 中的地址与信令来源不一致（[[notice]]）",
        ),
        Why::NoticeUnproved => (
            "refused with 480, the notice was cut off: neither RTP nor a PRACK came from where it was sent to ([[notice]])",
            "以 480 拒绝，通知未播完：通知发往的地址没有 RTP 或 PRACK 返回（[[notice]]）",
        ),
        Why::GaveUpEarly => ("the caller gave up before the call began", "主叫在通话开始前放弃"),
        Why::LostEarly => ("the caller's signalling broke off before the call began", "通话开始前主叫信令中断"),
        Why::EndedEarly => ("the call was ended before it began", "通话在开始前被结束"),
        Why::BadOffer => {
            ("refused with 400: the caller's session description cannot be read", "以 400 拒绝：主叫的 SDP 无法解析")
        }
        Why::NoPort => (
            "refused with 503: no RTP port was free; widen [rtp] ports",
            "以 503 拒绝：没有空闲的 RTP 端口，请扩大 [rtp] ports",
        ),
        Why::DiskSlow => (
            "refused with 503: the disk is too slow for the records there are; look at the data folder's disk",
            "以 503 拒绝：磁盘写入过慢，请检查数据目录所在磁盘",
        ),
        Why::NoMediaThread => {
            ("refused with 503: the media thread does not take the call", "以 503 拒绝：媒体线程未受理")
        }
        Why::NoSocket => (
            "refused with 503: the caller's RTP sockets could not be taken up; raise the limit of open files (see the log)",
            "以 503 拒绝：无法使用主叫的 RTP 套接字，请提高打开文件数上限（见日志）",
        ),
        Why::BadAck => ("the ACK had no usable answer to our offer", "ACK 中没有可用的 SDP 应答"),
        _ => ("", ""), // said above
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Why; 37] = [
        Why::GaveUp,
        Why::CallerLeft,
        Why::Lost,
        Why::Stopping,
        Why::NotTaken,
        Why::NoAck,
        Why::Said,
        Why::LastWords,
        Why::BridgeLimit,
        Why::NoMedia,
        Why::HeldTooLong,
        Why::Terminated,
        Why::TakenOver,
        Why::TakenOverUntold,
        Why::TimeLimit,
        Why::FlowCircle,
        Why::FaxCalling,
        Why::FaxAnswering,
        Why::OutOnly,
        Why::NoticeWithoutOffer,
        Why::NoticeElsewhere,
        Why::NoticeUnproved,
        Why::GaveUpEarly,
        Why::LostEarly,
        Why::EndedEarly,
        Why::NoCodec,
        Why::BadOffer,
        Why::LinesFull,
        Why::NoPort,
        Why::DiskSlow,
        Why::NoMediaThread,
        Why::NoSocket,
        Why::BadAck,
        Why::Broke,
        Why::ProgramStopped,
        Why::Leg,
        Why::Other,
    ];

    #[test]
    fn every_end_has_a_sentence_in_both_languages_and_a_cause() {
        for why in ALL.into_iter().filter(|w| *w != Why::Other) {
            let reason = EndReason::of(why, &Facts::default());
            assert!(reason.sentence.len() > 10 && !reason.sentence.contains("  "), "{why:?}: {}", reason.sentence);
            assert!(reason.zh.chars().any(|c| c > '\u{2e80}'), "{why:?}: {}", reason.zh);
            assert!((1..=127).contains(&reason.cause));
        }
    }

    #[test]
    fn a_sentence_names_the_addresses_and_codecs_to_look_at() {
        let facts = Facts {
            contact: Some("10.0.0.5:5060".into()),
            media: Some("203.0.113.7:40000".into()),
            silent_s: 30,
            offered: "G729, H264".into(),
            ours: "PCMA, PCMU".into(),
            limit: 200,
        };
        let says = |why| EndReason::of(why, &facts);
        assert_eq!(
            says(Why::NoMedia).sentence,
            "no sound arrived from 203.0.113.7:40000 for 30 s: one-way audio or a dead network; check the firewall and \
             the address in the SDP"
        );
        assert!(says(Why::NoMedia).zh.starts_with("30 秒内没有收到来自 203.0.113.7:40000 的语音"));
        assert!(says(Why::NoAck).sentence.ends_with("the Contact address 10.0.0.5:5060"));
        let codec = says(Why::NoCodec);
        assert!(codec.sentence.contains("offered were G729, H264; we can do PCMA, PCMU") && codec.cause == 65);
        assert!(says(Why::LinesFull).zh.contains("200 条线路") && says(Why::LinesFull).cause == 34);
    }

    #[test]
    fn each_status_has_the_cause_that_rfc_3398_gives_it() {
        for (code, cause) in [
            (400, 41),
            (403, 21),
            (404, 1),
            (408, 102),
            (410, 22),
            (480, 18),
            (483, 25),
            (484, 28),
            (486, 17),
            (500, 41),
            (501, 79),
            (502, 38),
            (503, 41),
            (504, 102),
            (600, 17),
            (603, 21),
            (604, 1),
        ] {
            assert_eq!(of_status(code).cause, cause, "{code}");
        }
        let busy = EndReason::of_leg("seat 8001", 486);
        assert_eq!(busy.sentence, "seat 8001 did not take the call (486 Busy Here): the line is busy");
        assert_eq!((busy.zh.as_str(), busy.cause), ("seat 8001 未接通（486 Busy Here）：线路忙", 17));
        for code in 300..700 {
            let s = of_status(code);
            assert!(!s.english.is_empty() && !s.chinese.is_empty() && (1..=127).contains(&s.cause));
        }
    }
}
