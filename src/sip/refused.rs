//! Why a message was refused: one word for each reason, counted; the log hears of each a few times a minute.

use crate::clock::Mono;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Lines of the log for one reason in a minute. A flood must not write the log full.
const LINES_A_MINUTE: u64 = 5;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident: $label:literal, $english:literal, $chinese:literal;)*) => {
        /// Why a message was refused or dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum RefusedFor { $($(#[$doc])* $name,)* }

        impl RefusedFor {
            /// All of them, in order.
            pub const ALL: &[RefusedFor] = &[$(RefusedFor::$name,)*];

            /// The word that metrics and traces use.
            pub const fn label(self) -> &'static str {
                match self { $(RefusedFor::$name => $label,)* }
            }

            /// A sentence for an administrator: English, Chinese.
            pub const fn sentences(self) -> (&'static str, &'static str) {
                match self { $(RefusedFor::$name => ($english, $chinese),)* }
            }
        }
    };
}

reasons! {
    /// The bytes are no SIP message.
    NotSip: "not_sip", "the bytes are no SIP message", "收到的不是 SIP 消息";
    /// A broken ACK or response: these are never answered.
    Broken: "broken", "a broken ACK or response, which is never answered", "ACK 或应答格式有误，按规定不作回应";
    /// An ACK or response of no call of ours.
    Stray: "stray", "an ACK or response of no call of ours", "不属于本机任何通话的 ACK 或应答";
    /// The source asked too often.
    Limited: "limited", "the sender asked too often", "该来源请求过于频繁";
    /// The Request-URI is wrong.
    RequestUri: "request_uri", "the address called is no SIP address", "被叫地址不是有效的 SIP 地址";
    /// `sips:`, or something that cannot be called.
    Scheme: "scheme", "only sip: and tel: addresses can be called here", "只接受 sip: 和 tel: 地址";
    /// Not SIP/2.0.
    Version: "version", "a version of SIP that is not 2.0", "SIP 版本不是 2.0";
    /// Content-Length and body do not fit.
    ContentLength: "content_length", "Content-Length does not fit the body", "Content-Length 与消息体不符";
    /// Any other fault of form.
    Malformed: "malformed", "a header is missing, doubled or malformed", "消息头缺失、重复或格式有误";
    /// Requires an extension we have not.
    Extension: "extension", "the sender requires a SIP extension that is not served here", "对方要求的 SIP 扩展本机不支持";
    /// A method we do not serve.
    Method: "method", "a SIP method that is not served here", "本机不支持该 SIP 方法";
    /// A body we cannot read, or an answer it would not take.
    MediaType: "media_type", "a body that is no session description", "消息体不是 SDP";
    /// No codec in common.
    NoCodec: "no_codec", "no codec in common", "双方没有共同的语音编码";
    /// All lines are taken.
    Full: "full", "all lines are taken", "线路已满";
    /// The hotline is stopping.
    Draining: "draining", "the hotline is stopping and takes no new calls", "总机正在停止，不再接新电话";
    /// Events wait unread.
    Behind: "behind", "the hotline is too far behind to take a call", "总机处理不过来，暂不接新电话";
    /// The number dialled is not served.
    UnknownNumber: "unknown_number", "the number dialled is not one of [sip] numbers", "所拨号码不在 [sip] numbers 之内";
    /// No such dialog.
    NoDialog: "no_dialog", "a request inside a call that is not there", "请求所指的通话不存在";
    /// The same request by another road.
    Loop: "loop", "the same request came by two ways", "同一请求经两条路径到达（环路）";
    /// No trunk has that address, and `[sip] open` is off.
    Stranger: "stranger", "no trunk and no phone of ours has that address", "来源既不是中继也不是已注册话机";
    /// More calls a second than are taken.
    TooFast: "too_fast", "more calls a second than are taken", "每秒呼叫数超过限制";
    /// Too many calls at once of one stranger.
    Crowded: "crowded", "too many calls at once from one address", "同一来源的并发呼叫过多";
    /// A wrong user or password.
    WrongPassword: "wrong_password", "a wrong user name or password", "用户名或密码错误";
    /// Too many wrong passwords.
    Banned: "banned", "too many wrong passwords: refused for five minutes", "密码错误次数过多，暂停五分钟";
    /// Not the sender's to use or change.
    Forbidden: "forbidden", "the sender may not do that", "对方无权这样做";
    /// A registration or session for too short a time.
    TooBrief: "too_brief", "a registration or session timer that is too short", "注册有效期或会话定时器过短";
    /// CSeq did not rise.
    OldRequest: "old_request", "an old request came after a newer one", "旧请求晚于新请求到达";
    /// Both sides change the call at once.
    Glare: "glare", "both sides changed the call at once", "双方同时修改通话";
    /// Inside a call that is not answered yet.
    Early: "early", "a request that came before the call was answered", "应答前收到通话内请求";
    /// News of something that nobody asked for.
    Unasked: "unasked", "news that nobody here asked for", "收到未订阅的通知";
    /// Refused by the flow, a person, or for a reason that has no word.
    Other: "other", "refused", "被拒绝";
}

impl RefusedFor {
    /// The reason that a status stands for, where nobody said more; `None`: that status refuses nothing.
    pub const fn of_status(code: u16) -> Option<RefusedFor> {
        Some(match code {
            0..=399 | 401 | 407 => return None,
            400 => RefusedFor::Malformed,
            403 => RefusedFor::Forbidden,
            404 => RefusedFor::UnknownNumber,
            405 | 501 => RefusedFor::Method,
            406 | 415 => RefusedFor::MediaType,
            416 => RefusedFor::Scheme,
            420 | 421 => RefusedFor::Extension,
            422 | 423 => RefusedFor::TooBrief,
            481 => RefusedFor::NoDialog,
            482 | 483 => RefusedFor::Loop,
            488 | 606 => RefusedFor::NoCodec,
            489 => RefusedFor::Unasked,
            491 => RefusedFor::Glare,
            503 => RefusedFor::Full,
            505 => RefusedFor::Version,
            _ => RefusedFor::Other,
        })
    }

    /// Garbage comes to every open port all day: only who asks for more detail hears of it.
    const fn is_noise(self) -> bool {
        matches!(self, RefusedFor::NotSip | RefusedFor::Broken | RefusedFor::Stray)
    }
}

const REASONS: usize = RefusedFor::ALL.len();

/// How often each reason was met, and how often the log heard of it lately.
#[derive(Debug)]
pub(super) struct Refusals {
    counts: [AtomicU64; REASONS],
    /// Minute and lines told in it, in one word: `minute << 8 | lines`.
    told: [AtomicU64; REASONS],
}

impl Default for Refusals {
    fn default() -> Self {
        Refusals { counts: [const { AtomicU64::new(0) }; REASONS], told: [const { AtomicU64::new(0) }; REASONS] }
    }
}

impl Refusals {
    /// Counts one, and tells the log if it has not heard of that reason too often.
    pub fn note(&self, reason: RefusedFor, source: IpAddr, detail: &str, now: Mono) {
        if let Some(count) = self.counts.get(reason as usize) {
            count.fetch_add(1, Relaxed);
        }
        if !self.may_tell(reason, now) {
            return;
        }
        let (label, (sentence, _)) = (reason.label(), reason.sentences());
        if reason.is_noise() {
            tracing::info!(%source, reason = label, "SIP refused: {sentence} ({detail})");
        } else {
            tracing::warn!(%source, reason = label, "SIP refused: {sentence} ({detail})");
        }
    }

    fn may_tell(&self, reason: RefusedFor, now: Mono) -> bool {
        let minute = now.0 / 60_000_000;
        let next = |v: u64| match (v >> 8 == minute, v & 0xff) {
            (false, _) => Some(minute << 8 | 1),
            (true, lines) if lines < LINES_A_MINUTE => Some(v + 1),
            (true, _) => None,
        };
        self.told.get(reason as usize).is_some_and(|told| told.fetch_update(Relaxed, Relaxed, next).is_ok())
    }

    /// The counts by label.
    pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
        RefusedFor::ALL.iter().zip(&self.counts).map(|(r, n)| (r.label(), n.load(Relaxed))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_place_and_word() {
        let labels: std::collections::HashSet<_> = RefusedFor::ALL.iter().map(|r| r.label()).collect();
        assert_eq!(labels.len(), REASONS);
        for (n, reason) in RefusedFor::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, n);
        }
    }

    #[test]
    fn a_flood_is_counted_whole_and_told_five_times_a_minute() {
        let refusals = Refusals::default();
        let source = IpAddr::from([192, 0, 2, 1]);
        let told = |now| (0..100).filter(|_| refusals.may_tell(RefusedFor::Limited, now)).count();
        assert_eq!((told(Mono::from_ms(0)), told(Mono::from_ms(59_999))), (5, 0));
        assert_eq!(told(Mono::from_ms(60_000)), 5);
        assert!(refusals.may_tell(RefusedFor::Full, Mono::from_ms(1)), "another reason has lines of its own");
        for _ in 0..100 {
            refusals.note(RefusedFor::Limited, source, "test", Mono::from_ms(60_001));
        }
        let counted: Vec<_> = refusals.snapshot().into_iter().filter(|(_, n)| *n > 0).collect();
        assert_eq!(counted, [("limited", 100)]);
    }

    #[test]
    fn a_challenge_and_a_success_refuse_nothing() {
        for code in [100, 200, 302, 401, 407] {
            assert_eq!(RefusedFor::of_status(code), None, "{code}");
        }
        assert_eq!(RefusedFor::of_status(488), Some(RefusedFor::NoCodec));
        assert_eq!(RefusedFor::of_status(699), Some(RefusedFor::Other));
    }
}
