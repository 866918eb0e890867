//! Which address we tell others to use, and whether it leads to us.

use super::finding::{Finding, words};
use std::net::{IpAddr, SocketAddr};

/// What is known about addresses.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// `[sip] public_address` and `[rtp] public_address`.
    pub configured: (Option<IpAddr>, Option<IpAddr>),
    /// What callers outside are told: in Contact and in SDP.
    pub advertised: Option<IpAddr>,
    /// The address of the interface that leads outside.
    pub interface: Option<IpAddr>,
    /// Whether the advertised address is one of this machine's own.
    pub is_ours: bool,
    /// What STUN servers saw: which, and as what.
    pub reflexive: Vec<(String, Result<SocketAddr, String>)>,
    /// Trunks, `--trunk` and `--peer` outside of this network.
    pub far: Vec<String>,
}

/// No way leads to it from the Internet.
pub fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && (64..128).contains(&v4.octets()[1]); // RFC 6598, carriers' NAT
            v4.is_private() || v4.is_link_local() || v4.is_loopback() || shared
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

/// All that follows from it.
pub fn findings(a: &Addresses) -> Vec<Finding> {
    let mut found = Vec::new();
    let seen_as = a.reflexive.iter().find_map(|(_, r)| r.as_ref().ok()).map(SocketAddr::ip);
    if let Some(ip) = a.advertised {
        found.push(advertised(a, ip, seen_as));
    }
    if let (Some(sip), Some(rtp)) = (a.configured.0, a.configured.1)
        && sip != rtp
    {
        found.push(Finding::warn(
            "address-pair",
            words!(
                "[rtp] public_address 是 {rtp},[sip] public_address 是 {sip},两者不同",
                "[rtp] public_address is {rtp}, [sip] public_address is {sip}: they differ"
            ),
            words!("现在 Contact 和 SDP 里写的都是 {rtp}", "Contact and SDP both name {rtp}"),
            words!("如果不是有意为之,删去一行", "remove one of them unless it is meant"),
        ));
    }
    found.extend(nat(a));
    found
}

fn advertised(a: &Addresses, ip: IpAddr, seen_as: Option<IpAddr>) -> Finding {
    const CHECK: &str = "sdp-address";
    let by_config = a.configured.0.or(a.configured.1).is_some();
    let far = a.far.first();
    match (seen_as, far) {
        (Some(public), _) if public == ip => Finding::ok(
            CHECK,
            words!("告诉对方的地址是 {ip},外面看到的也是它", "others are told {ip}, and that is how the world sees us"),
        ),
        (Some(public), _) if is_private(ip) || by_config => Finding::error(
            CHECK,
            words!(
                "告诉对方的地址是 {ip},外面看到的却是 {public}",
                "others are told {ip}, but the world sees us as {public}"
            ),
            words!(
                "对方的声音、ACK 和挂机都会发到 {ip},到不了这里:单向无声,约 32 秒后掉线",
                "sound, ACK and BYE of callers outside go to {ip} and never come: one-way audio, and the call drops after 32 s"
            ),
            words!(
                "在 zongji.toml 的 [sip] 下写 public_address = \"{public}\",并在路由器上把 SIP 端口和 [rtp] ports 转到本机",
                "in zongji.toml under [sip] put  public_address = \"{public}\"  and have the router forward the SIP port and [rtp] ports to this machine"
            ),
        ),
        _ if ip.is_loopback() => Finding::warn(
            CHECK,
            words!("告诉对方的地址是 {ip}", "others are told {ip}"),
            words!("只有本机上的电话能听到声音", "only phones on this machine can be heard"),
            words!(
                "把 [sip] bind 和 [rtp] bind 改成网卡的地址或 0.0.0.0",
                "set [sip] bind and [rtp] bind to an interface's address or 0.0.0.0"
            ),
        ),
        (None, Some(peer)) if is_private(ip) => Finding::error(
            CHECK,
            words!(
                "告诉对方的地址是内网地址 {ip},而对端 {peer} 在外网",
                "others are told the private address {ip}, but {peer} is outside"
            ),
            words!(
                "对端把声音和 ACK 发到 {ip},到不了这里:单向无声,约 32 秒后掉线",
                "{peer} sends sound and ACK to {ip}, which leads nowhere from there: one-way audio, and the call drops after 32 s"
            ),
            words!(
                "用 --stun 服务器:端口 查出公网地址,在 zongji.toml 的 [sip] 下写 public_address = \"公网地址\"",
                "find the public address with --stun HOST:PORT, then in zongji.toml under [sip] put  public_address = \"THAT ADDRESS\""
            ),
        ),
        _ => unproved(a, ip, by_config && seen_as.is_none()),
    }
}

/// What can be said of an address that nobody outside was asked about.
fn unproved(a: &Addresses, ip: IpAddr, by_config: bool) -> Finding {
    const CHECK: &str = "sdp-address";
    match ip {
        _ if by_config && !a.is_ours => Finding::warn(
            CHECK,
            words!(
                "配置的 public_address {ip} 不是本机任何网卡的地址,也没有经 STUN 核对",
                "the configured public_address {ip} is on no interface of this machine, and no STUN server was asked"
            ),
            words!(
                "在 NAT 后面这是对的;若已过期或写错,电话会单向无声、约 32 秒后掉线",
                "behind NAT that is right; if it is old or mistyped, calls have one-way audio and drop after 32 s"
            ),
            words!("用 --stun 服务器:端口 核对", "check it with --stun HOST:PORT"),
        ),
        _ if is_private(ip) => Finding::warn(
            CHECK,
            words!("告诉对方的地址是内网地址 {ip}", "others are told the private address {ip}"),
            words!(
                "内网里的电话没有问题;外网的电话听不到",
                "phones inside this network are fine; those outside are not heard"
            ),
            words!(
                "若有外网来电,用 --stun 服务器:端口 查公网地址,写进 [sip] public_address",
                "for callers outside find the public address with --stun HOST:PORT and put it into [sip] public_address"
            ),
        ),
        _ => Finding::ok(CHECK, words!("告诉对方的地址是 {ip}", "others are told {ip}")),
    }
}

/// One socket asked two servers: a NAT that gives each its own port cannot be told of by one address.
fn nat(a: &Addresses) -> Vec<Finding> {
    let mut found = Vec::new();
    for (server, answer) in &a.reflexive {
        if let Err(why) = answer {
            found.push(Finding::warn(
                "stun",
                words!("STUN 服务器 {server} 没有回答:{why}", "the STUN server {server} gave no answer: {why}"),
                words!("公网地址没有查到", "the public address is not known"),
                words!(
                    "检查名字和端口(通常 3478),以及防火墙是否放行 UDP",
                    "check its name and port (usually 3478), and whether the firewall lets UDP out"
                ),
            ));
        }
    }
    let seen: Vec<SocketAddr> = a.reflexive.iter().filter_map(|(_, r)| r.as_ref().ok().copied()).collect();
    let Some(&first) = seen.first() else { return found };
    let same = seen.iter().all(|s| *s == first);
    found.push(if seen.len() < 2 {
        Finding::ok(
            "nat",
            words!(
                "外面看到 {first};再给一个 --stun 才能判断 NAT 的类型",
                "seen from outside as {first}; a second --stun would tell the kind of NAT"
            ),
        )
    } else if same && a.interface == Some(first.ip()) {
        Finding::ok(
            "nat",
            words!("没有 NAT,外面看到的就是网卡地址 {first}", "no NAT: the world sees the interface's own {first}"),
        )
    } else if same {
        Finding::ok(
            "nat",
            words!(
                "NAT 对不同服务器用同一个外部地址 {first}(非对称)",
                "the NAT shows every server the same {first} (not symmetric)"
            ),
        )
    } else {
        let second = seen.iter().find(|s| **s != first).copied().unwrap_or(first);
        Finding::warn(
            "nat",
            words!(
                "同一个端口,两台服务器看到的不同:{first} 和 {second}(对称 NAT)",
                "one socket, two servers, two addresses: {first} and {second} (symmetric NAT)"
            ),
            words!(
                "对方按 SDP 发来的声音会被 NAT 丢掉,除非它跟随来源地址",
                "sound sent to what SDP says is dropped by the NAT, unless the other side follows where ours comes from"
            ),
            words!(
                "在路由器上把 SIP 端口和 [rtp] ports 按原端口转到本机",
                "have the router forward the SIP port and [rtp] ports to this machine, port for port"
            ),
        )
    });
    found
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Level, level_of};
    use super::*;

    fn behind_nat() -> Addresses {
        let ip: IpAddr = "192.168.1.10".parse().unwrap();
        Addresses { advertised: Some(ip), interface: Some(ip), is_ours: true, ..Addresses::default() }
    }

    fn seen(addresses: &[&str]) -> Vec<(String, Result<SocketAddr, String>)> {
        addresses.iter().map(|a| ("stun.example:3478".to_string(), Ok(a.parse().unwrap()))).collect()
    }

    #[test]
    fn a_private_address_given_to_a_public_peer_names_the_line_to_add() {
        let a = Addresses { reflexive: seen(&["203.0.113.7:40000"]), ..behind_nat() };
        let found = findings(&a);
        assert_eq!(level_of(&found, "sdp-address"), Level::Error);
        for words in [&found[0].todo.zh, &found[0].todo.en] {
            assert!(words.contains("public_address = \"203.0.113.7\""), "{words}");
        }
        assert!(found[0].means.en.contains("32 s") && found[0].means.zh.contains("32"));
    }

    #[test]
    fn a_private_address_is_wrong_for_a_trunk_outside_and_right_within() {
        let a = Addresses { far: vec!["trunk 198.51.100.1".into()], ..behind_nat() };
        assert_eq!(level_of(&findings(&a), "sdp-address"), Level::Error);
        assert_eq!(level_of(&findings(&behind_nat()), "sdp-address"), Level::Warn);
    }

    #[test]
    fn an_old_public_address_is_found_by_stun_and_a_right_one_passes() {
        let public = |ip: &str| {
            let ip: IpAddr = ip.parse().unwrap();
            let reflexive = seen(&["203.0.113.7:40000", "203.0.113.7:40000"]);
            Addresses { configured: (Some(ip), None), advertised: Some(ip), is_ours: false, reflexive, ..behind_nat() }
        };
        assert_eq!(level_of(&findings(&public("203.0.113.9")), "sdp-address"), Level::Error);
        let right = findings(&public("203.0.113.7"));
        assert!(right.iter().all(|f| f.level == Level::Ok), "{right:#?}");
        let unasked = Addresses { reflexive: Vec::new(), ..public("203.0.113.9") };
        assert_eq!(level_of(&findings(&unasked), "sdp-address"), Level::Warn);
    }

    #[test]
    fn a_symmetric_nat_is_told_from_a_plain_one() {
        let a = Addresses { reflexive: seen(&["203.0.113.7:40000", "203.0.113.7:40017"]), ..behind_nat() };
        assert_eq!(level_of(&findings(&a), "nat"), Level::Warn);
        let plain = Addresses { reflexive: seen(&["203.0.113.7:4", "203.0.113.7:4"]), ..behind_nat() };
        assert_eq!(level_of(&findings(&plain), "nat"), Level::Ok);
        let silent = Addresses { reflexive: vec![("x:1".into(), Err("no answer".into()))], ..behind_nat() };
        assert_eq!(level_of(&findings(&silent), "stun"), Level::Warn);
    }

    #[test]
    fn addresses_of_carriers_nat_and_of_ipv6_sites_are_private() {
        for ip in ["10.1.2.3", "172.31.0.1", "100.64.0.9", "169.254.1.1", "fd00::1", "fe80::1", "127.0.0.1"] {
            assert!(is_private(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["100.128.0.1", "172.32.0.1", "8.8.8.8", "2001:db8::1"] {
            assert!(!is_private(ip.parse().unwrap()), "{ip}");
        }
    }
}
