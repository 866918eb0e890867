//! Trunks: does each server answer an OPTIONS, and what does the running hotline say of its registrations?

use super::finding::{Finding, words};
use crate::config::Config;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What became of asking a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Its answer, and milliseconds.
    Answered(u16, u64),
    /// Nothing came.
    Silent,
    /// It is reached another way (TCP, TLS) than the question goes.
    OtherTransport,
    /// No address is known for it.
    Unknown,
}

/// Servers of all trunks: `sip:host:port…`.
pub fn servers(config: &Config) -> Vec<(String, String)> {
    config.trunks.iter().flat_map(|t| t.servers.iter().map(|s| (t.line.name.clone(), s.clone()))).collect()
}

/// What that says.
pub fn finding(name: &str, server: &str, asked: &Asked) -> Finding {
    const CHECK: &str = "trunk";
    match asked {
        Asked::Answered(code @ (408 | 500..=599), _) => Finding::error(
            CHECK,
            words!(
                "中继 {name} 的 {server} 对 OPTIONS 回答 {code}",
                "{server} of trunk {name} answers OPTIONS with {code}"
            ),
            words!("它现在不接电话;总机会走别的中继", "it takes no calls now; the hotline goes by others"),
            words!("问运营商", "ask the carrier"),
        ),
        Asked::Answered(code, ms) => Finding::ok(
            CHECK,
            words!(
                "中继 {name} 的 {server} 在 {ms} 毫秒后对 OPTIONS 回答 {code}",
                "{server} of trunk {name} answers OPTIONS with {code} after {ms} ms"
            ),
        ),
        Asked::Silent => Finding::error(
            CHECK,
            words!(
                "中继 {name} 的 {server} 对 OPTIONS 没有回答",
                "{server} of trunk {name} gives no answer to OPTIONS"
            ),
            words!("打不出去,也多半打不进来", "no call goes out by it, and most likely none comes in"),
            words!(
                "核对地址和端口;请运营商放行本机地址;看防火墙。有的运营商不答 OPTIONS:那就用 --peer 拨一个号码",
                "check address and port; have the carrier allow this machine's address; look at the firewall. Some carriers never answer OPTIONS: then call a number with --peer"
            ),
        ),
        Asked::OtherTransport => Finding::ok(
            CHECK,
            words!(
                "中继 {name} 的 {server} 走 TCP 或 TLS:由运行中的总机检查(见 health)",
                "{server} of trunk {name} is reached by TCP or TLS: the running hotline looks after it (see health)"
            ),
        ),
        Asked::Unknown => Finding::error(
            CHECK,
            words!("中继 {name} 的 {server} 查不到地址", "no address is known for {server} of trunk {name}"),
            words!("打不出去", "no call goes out by it"),
            words!("核对主机名和 DNS", "check the host name and the DNS"),
        ),
    }
}

/// The `problems` of a running hotline's health page; none when it cannot be had.
pub fn health(http: SocketAddr) -> Option<Vec<String>> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&http, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    stream.write_all(format!("GET /health HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut page = Vec::new();
    stream.take(256 * 1024).read_to_end(&mut page).ok()?;
    let text = String::from_utf8_lossy(&page).into_owned();
    let (_, body) = text.split_once("\r\n\r\n")?;
    let value: serde_json::Value = serde_json::from_str(body).ok()?;
    Some(value["problems"].as_array()?.iter().filter_map(|p| p.as_str().map(str::to_owned)).collect())
}

/// What the running hotline says of itself; its sentences are English.
pub fn of_health(problems: Option<Vec<String>>) -> Vec<Finding> {
    let Some(problems) = problems else { return Vec::new() };
    if problems.is_empty() {
        return vec![Finding::ok(
            "health",
            words!(
                "运行中的总机没有报告问题(包括中继注册)",
                "the running hotline reports no problem (registrations of trunks among them)"
            ),
        )];
    }
    let tell = |p: String| {
        Finding::warn(
            "health",
            words!("运行中的总机报告:{p}", "the running hotline says: {p}"),
            Default::default(),
            Default::default(),
        )
    };
    problems.into_iter().map(tell).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_server_that_answers_anything_but_a_failure_is_there() {
        let level = |asked| finding("east", "sip:192.0.2.1", &asked).level;
        assert_eq!(level(Asked::Answered(200, 20)), Level::Ok);
        assert_eq!(level(Asked::Answered(404, 20)), Level::Ok, "it is there, it only knows no such user");
        for asked in [Asked::Answered(503, 20), Asked::Silent, Asked::Unknown] {
            assert_eq!(level(asked), Level::Error);
        }
    }

    #[test]
    fn a_health_page_is_read_and_its_absence_is_no_finding() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let _read = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n{\"problems\":[\"x is down\"]}").unwrap();
        });
        let told = of_health(health(at));
        server.join().unwrap();
        assert!(told.len() == 1 && told[0].seen.zh.contains("x is down"), "{told:?}");
        assert!(of_health(health(at)).is_empty(), "nobody listens there any more");
    }
}
