//! This machine: ports, limits, and how even its clock ticks.

use super::finding::{Finding, words};
use crate::config::Config;
use crate::server::probe::measure::percentile;
use crate::server::time::now;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

/// Who has the SIP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SipPort {
    /// Nobody.
    Free,
    /// A hotline of this program.
    Ours(String),
    /// Somebody else, or the address is not ours.
    Taken(String),
}

/// What is known about ports and limits.
#[derive(Debug, Clone)]
pub struct Limits {
    /// SIP address.
    pub sip: SocketAddr,
    /// Who has it.
    pub port: SipPort,
    /// Pairs in the RTP range, and how many of them can be had now; or why none can.
    pub pairs: Result<(usize, usize), String>,
    /// Calls at once.
    pub calls: usize,
    /// Open files allowed, if known.
    pub files: Option<u64>,
    /// Largest receive buffer a socket may ask for, in bytes, if known.
    pub rmem: Option<u64>,
}

/// Whether the SIP port can be bound, for UDP and TCP.
pub fn is_free(at: SocketAddr) -> Result<(), std::io::Error> {
    UdpSocket::bind(at).map(drop).and_then(|()| TcpListener::bind(at).map(drop))
}

/// Looks at the RTP range and the limits.
pub fn limits(config: &Config, port: SipPort) -> Limits {
    let (range, bind) = (config.rtp.ports.clone(), config.rtp.bind);
    let all: Vec<u16> = range.clone().filter(|p| p % 2 == 0 && *p < *range.end()).collect();
    let mut pairs = UdpSocket::bind((bind, 0)).map(|_| (all.len(), 0)).map_err(|e| e.to_string());
    if let Ok((_, free)) = &mut pairs {
        let both = |p: &&u16| UdpSocket::bind((bind, **p)).and_then(|_| UdpSocket::bind((bind, **p + 1))).is_ok();
        *free = all.iter().filter(both).count();
    }
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let rmem = std::fs::read_to_string("/proc/sys/net/core/rmem_max").ok().and_then(|t| t.trim().parse().ok());
    Limits { sip: config.sip.bind, port, pairs, calls: config.sip.max_calls as usize, files, rmem }
}

/// All that follows from it.
pub fn findings(l: &Limits) -> Vec<Finding> {
    let sip = l.sip;
    let mut found = vec![match &l.port {
        SipPort::Free => Finding::ok("sip-port", words!("{sip} 空闲(UDP 和 TCP)", "{sip} is free (UDP and TCP)")),
        SipPort::Ours(server) => {
            Finding::ok("sip-port", words!("{sip} 上正运行着 {server}", "{server} is running on {sip}"))
        }
        SipPort::Taken(why) => Finding::error(
            "sip-port",
            words!("{sip}:{why}", "{sip}: {why}"),
            words!("总机起不来,来电会到别的程序", "the hotline does not start; calls reach another program"),
            words!(
                "用 ss -lntup 找出占用者并停掉,或改 [sip] bind",
                "find what listens there with ss -lntup and stop it, or change [sip] bind"
            ),
        ),
    }];
    found.push(rtp(l));
    let (calls, wanted) = (l.calls, l.calls as u64 * 5 + 200);
    found.push(match l.files {
        Some(n) if n < wanted => Finding::warn(
            "open-files",
            words!(
                "打开文件数上限 {n},{calls} 路通话要 {wanted}",
                "{n} open files are allowed, {calls} calls want {wanted}"
            ),
            words!("忙时来电会被拒绝", "callers are refused when it is busy"),
            words!(
                "ulimit -n {wanted},或 systemd 的 LimitNOFILE={wanted}",
                "ulimit -n {wanted}, or LimitNOFILE={wanted} for systemd"
            ),
        ),
        Some(n) => Finding::ok("open-files", words!("打开文件数上限 {n}", "{n} open files are allowed")),
        None => Finding::ok("open-files", words!("打开文件数不限", "open files are not limited")),
    });
    const BUFFER: u64 = 2 << 20;
    found.extend(l.rmem.map(|bytes| match bytes {
        n if n < BUFFER => Finding::warn(
            "rcv-buffer",
            words!("net.core.rmem_max 是 {n} 字节", "net.core.rmem_max is {n} bytes"),
            words!(
                "一阵突来的 SIP 消息(数百个)会丢,来电者要等重发",
                "a burst of some hundred SIP messages is lost, and callers wait for the repeat"
            ),
            words!("sysctl -w net.core.rmem_max={BUFFER}", "sysctl -w net.core.rmem_max={BUFFER}"),
        ),
        n => Finding::ok("rcv-buffer", words!("net.core.rmem_max 是 {n} 字节", "net.core.rmem_max is {n} bytes")),
    }));
    found
}

fn rtp(l: &Limits) -> Finding {
    let calls = l.calls;
    match &l.pairs {
        Err(why) => Finding::error(
            "rtp-ports",
            words!("[rtp] bind 不能用:{why}", "[rtp] bind is of no use: {why}"),
            words!("没有声音", "there is no sound"),
            words!("改成本机网卡的地址或 0.0.0.0", "set it to an interface's address or 0.0.0.0"),
        ),
        Ok((all, free)) if *free < calls * 2 && *free < all - all / 10 => Finding::warn(
            "rtp-ports",
            words!(
                "{all} 对 RTP 端口中只有 {free} 对空闲,{calls} 路通话(各带一个坐席)要 {calls} × 2 对",
                "only {free} of {all} pairs of RTP ports are free; {calls} calls with a seat each want twice as many"
            ),
            words!(
                "别的程序也用这些端口,忙时来电会被拒绝",
                "other programs use these ports; callers are refused when it is busy"
            ),
            words!("换一段 [rtp] ports", "choose other [rtp] ports"),
        ),
        Ok((all, _)) if *all < calls * 2 => Finding::error(
            "rtp-ports",
            words!(
                "{all} 对 RTP 端口,{calls} 路通话(各带一个坐席)不够",
                "{all} pairs of RTP ports are too few for {calls} calls with a seat each"
            ),
            words!("忙时来电会被拒绝", "callers are refused when it is busy"),
            words!("加宽 [rtp] ports", "widen [rtp] ports"),
        ),
        Ok((all, free)) => Finding::ok(
            "rtp-ports",
            words!(
                "{all} 对 RTP 端口,{free} 对空闲;防火墙要放行(UDP)",
                "{all} pairs of RTP ports, {free} free; the firewall must let them in (UDP)"
            ),
        ),
    }
}

/// How late a 5 ms beat comes, and how the monotonic clock runs against the unadjusted one.
#[derive(Debug, Clone, PartialEq)]
pub struct Beat {
    /// Milliseconds late: median, 99th percentile, most.
    pub late: [f64; 3],
    /// Parts per million that the system corrects its clock by.
    pub slew_ppm: f64,
}

/// Beats for a while on a thread of its own.
pub fn beat(length: Duration) -> Beat {
    use rustix::time::{ClockId, clock_gettime};
    let read = |id| {
        let t = clock_gettime(id);
        t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
    };
    let both = || (read(ClockId::Monotonic), read(ClockId::MonotonicRaw));
    let (first, began) = (both(), now());
    let mut late = Vec::new();
    for n in 1..=length.as_millis() as u64 / 5 {
        let due = began + Duration::from_millis(5 * n);
        std::thread::sleep(due.since(now()));
        late.push(now().since(due).as_secs_f64() * 1000.0);
    }
    let last = both();
    let slew_ppm = ((last.0 - first.0) / (last.1 - first.1).max(1e-9) - 1.0) * 1e6;
    let late = [percentile(&mut late, 0.5), percentile(&mut late, 0.99), percentile(&mut late, 1.0)];
    Beat { late, slew_ppm }
}

/// What the beat says.
pub fn of_beat(b: &Beat) -> Vec<Finding> {
    let [p50, p99, most] = b.late.map(|ms| format!("{ms:.2}"));
    let all = words!(
        "5 毫秒节拍的迟到:中位 {p50} 毫秒,99% 在 {p99} 毫秒内,最大 {most} 毫秒",
        "a beat of 5 ms came late by {p50} ms (median), 99% within {p99} ms, most {most} ms"
    );
    let mut found = vec![if b.late[1] > 5.0 {
        Finding::warn(
            "tick-lateness",
            all,
            words!("声音包会不匀;来电者听到断续", "packets of sound become uneven; callers hear gaps"),
            words!(
                "机器太忙,或虚拟机被抢占:减少别的负载,给虚拟机固定的核",
                "the machine is too busy, or the virtual machine is preempted: less other load, cores of its own"
            ),
        )
    } else {
        Finding::ok("tick-lateness", all)
    }];
    let ppm = format!("{:+.1}", b.slew_ppm);
    let all = words!("系统正在以 {ppm} ppm 修正时钟", "the system corrects its clock by {ppm} ppm");
    found.push(if b.slew_ppm.abs() > 300.0 {
        Finding::warn(
            "clock-slew",
            all,
            words!(
                "我们的声音会快或慢这么多:长通话里对方会听到咔嗒声",
                "our sound runs fast or slow by as much: the other side hears clicks in long calls"
            ),
            words!(
                "检查 NTP(chronyc tracking);等它追上",
                "look at NTP (chronyc tracking); wait until it has caught up"
            ),
        )
    } else {
        Finding::ok("clock-slew", all)
    });
    found
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Level, level_of};
    use super::*;

    fn good() -> Limits {
        Limits {
            sip: ([127, 0, 0, 1], 5060).into(),
            port: SipPort::Free,
            pairs: Ok((5000, 4990)),
            calls: 200,
            files: Some(65_536),
            rmem: Some(4 << 20),
        }
    }

    #[test]
    fn limits_that_are_too_small_are_told_with_their_mend() {
        assert!(findings(&good()).iter().all(|f| f.level == Level::Ok), "{:#?}", findings(&good()));
        let files = findings(&Limits { files: Some(1024), ..good() });
        assert!(level_of(&files, "open-files") == Level::Warn && files[2].todo.en.contains("1200"));
        assert_eq!(level_of(&findings(&Limits { rmem: Some(212_992), ..good() }), "rcv-buffer"), Level::Warn);
        assert_eq!(level_of(&findings(&Limits { pairs: Ok((300, 300)), ..good() }), "rtp-ports"), Level::Error);
        assert_eq!(level_of(&findings(&Limits { pairs: Ok((5000, 100)), ..good() }), "rtp-ports"), Level::Warn);
        assert_eq!(level_of(&findings(&Limits { pairs: Err("no".into()), ..good() }), "rtp-ports"), Level::Error);
        let port = SipPort::Taken("in use".into());
        assert_eq!(level_of(&findings(&Limits { port, ..good() }), "sip-port"), Level::Error);
    }

    #[test]
    fn a_late_beat_and_a_clock_being_set_are_told() {
        let quiet = Beat { late: [0.1, 0.4, 2.0], slew_ppm: 3.0 };
        assert!(of_beat(&quiet).iter().all(|f| f.level == Level::Ok));
        assert_eq!(level_of(&of_beat(&Beat { late: [1.0, 9.0, 40.0], ..quiet.clone() }), "tick-lateness"), Level::Warn);
        assert_eq!(level_of(&of_beat(&Beat { slew_ppm: -499.0, ..quiet }), "clock-slew"), Level::Warn);
    }

    #[test]
    fn a_beat_is_measured() {
        let b = beat(Duration::from_millis(200));
        assert!(b.late[0] >= 0.0 && b.late[0] <= b.late[1] && b.late[1] <= b.late[2], "{b:?}");
        assert!(b.slew_ppm.abs() < 5000.0, "{b:?}");
    }
}
