//! Trunks: who is believed, which server a call goes to, and what may not go out.

use crate::common::far;
use crate::common::sip::{Client, LIMIT, OFFER, Side, header, settings};
use crate::common::{self, Running};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};
use zongji::sdp::Codec;
use zongji::server::hotline::HotlineSettings;
use zongji::server::outbound::Role;
use zongji::server::routes::RouteKind;
use zongji::server::trunks::{Server, Trunk};
use zongji::sip::{Account, Credential, Names, Naptr, Resolver, SipEvent, SipSettings, Srv, TrunkPeer};

/// A carrier's own address on loopback.
const CARRIER: &str = "127.0.0.2";

async fn from(address: &str, to: SocketAddr) -> Client {
    Client { socket: UdpSocket::bind((address, 0)).await.unwrap(), to }
}

fn only_from_a_trunk() -> SipSettings {
    let carrier = TrunkPeer { name: "carrier".into(), networks: vec![CARRIER.parse().unwrap()] };
    SipSettings { trunks: vec![carrier], open: false, ..settings() }
}

const CLAIM: &str =
    "P-Asserted-Identity: <sip:13800138000@carrier>\r\nDiversion: <sip:4009@carrier>;reason=no-answer\r\n";

#[tokio::test]
async fn a_trunk_is_believed_about_its_callers_and_nobody_else_is() {
    let mut hotline = Side::new(only_from_a_trunk()).await;
    let at = hotline.agent.local_addr();
    for (address, believed) in [(CARRIER, true), ("127.0.0.1", false)] {
        let caller = from(address, at).await;
        let id = format!("pai{believed}");
        caller.send(&caller.request("INVITE", "400", &id, 1, "", CLAIM, OFFER)).await;
        let SipEvent::Invite { identity, from_user, .. } = hotline.next().await else { panic!("no call") };
        assert_eq!(from_user, "c");
        assert_eq!(identity.asserted.as_deref(), believed.then_some("13800138000"), "from {address}");
        assert_eq!(identity.trunk.as_deref(), believed.then_some("carrier"));
        assert_eq!(identity.diversions.len(), usize::from(believed));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forwarded_or_hidden_caller_is_so_in_the_record() {
    let carrier = UdpSocket::bind((CARRIER, 0)).await.unwrap();
    let at = carrier.local_addr().unwrap();
    let hotline = common::start(|s| s.trunks = vec![trunk("carrier", at, 1)]).await;
    let caller = Client { socket: carrier, to: hotline.sip };
    for (id, more) in [("forwarded", ""), ("hidden", "Privacy: id\r\n")] {
        caller.send(&caller.request("INVITE", "400", id, 1, "", &format!("{CLAIM}{more}"), OFFER)).await;
        let tag = common::sip::tag_of(&caller.final_answer().await);
        caller.send(&caller.request("ACK", "400", id, 1, &tag, "", "")).await;
        caller.send(&caller.request("BYE", "400", id, 2, &tag, "", "")).await;
        assert!(caller.final_answer().await.starts_with("SIP/2.0 200"));
        hotline.settle().await;
    }
    let calls = hotline.hotline.store().calls(9).await.unwrap();
    let of = |id: &str| calls.iter().find(|c| c.sip_call_id == id).unwrap();
    let (forwarded, hidden) = (of("forwarded"), of("hidden"));
    assert_eq!((forwarded.from.expose(), forwarded.private), ("13800138000", false));
    let diverted =
        |c: &zongji::store::CallRow| (c.diverted_from.as_ref().map(|n| n.expose().to_string()), c.diverted_why.clone());
    assert_eq!(diverted(forwarded), (Some("4009".into()), Some("no-answer".into())));
    assert_eq!((hidden.from.expose(), hidden.private, hidden.direction.as_str()), ("anonymous", true, "in"));
    assert_eq!(hidden.customer, None, "nobody is looked up by a number that is hidden");
}

#[tokio::test]
async fn where_only_trunks_may_call_a_stranger_is_refused_and_counted() {
    let Some(away) = common::outside() else { return common::skipped("this machine has no address but loopback") };
    let hotline = Side::new(SipSettings { bind: "0.0.0.0:0".parse().unwrap(), ..only_from_a_trunk() }).await;
    let to = SocketAddr::new(away, hotline.agent.local_addr().port());
    let stranger = from(&away.to_string(), to).await;
    stranger.send(&stranger.request("INVITE", "400", "stranger", 1, "", CLAIM, OFFER)).await;
    assert!(stranger.final_answer().await.starts_with("SIP/2.0 403"));
    assert_eq!(hotline.agent.counters().strangers, 1);
}

fn trunk(name: &str, server: SocketAddr, priority: u16) -> Trunk {
    let called_out = vec!["010 -> 8610".parse().unwrap()];
    Trunk { priority, max_out: 10, give_up_ms: 1000, called_out, ..far::trunk(name, server) }
}

fn calls_out(settings: &mut HotlineSettings, trunks: Vec<Trunk>) {
    settings.trunks = trunks;
    settings.outbound = far::may_call_out(Role::Flow, 1);
    settings.routes = [("out", "tel:+861012345678"), ("premium", "tel:+1900123456")]
        .map(|(user, target)| common::route(user, RouteKind::Bridge, target))
        .into();
}

/// When the first call comes to each of these, in their order, by a clock that runs while the test does other things:
/// between two of them lies what the hotline decided, and not what this machine was busy with before.
fn first_calls(servers: &[&Arc<UdpSocket>]) -> Vec<tokio::task::JoinHandle<(Instant, String)>> {
    let waits = |socket: Arc<UdpSocket>| async move {
        let mut buffer = vec![0; 65_536];
        loop {
            let (len, _) = timeout(LIMIT, socket.recv_from(&mut buffer)).await.expect("a call in time").unwrap();
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if text.starts_with("INVITE ") {
                return (Instant::now(), text);
            }
        }
    };
    servers.iter().map(|socket| tokio::spawn(waits((*socket).clone()))).collect()
}

/// Whether a call other than the one of this INVITE has come to a server.
fn was_called_again(socket: &UdpSocket, first: &str) -> bool {
    let mut buffer = vec![0; 65_536];
    std::iter::from_fn(|| socket.try_recv(&mut buffer).ok().map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned()))
        .any(|text| text.starts_with("INVITE ") && header(&text, "Call-ID") != header(first, "Call-ID"))
}

/// Somebody calls the route that calls out, and holds the line.
async fn call_out(hotline: &Running, user: &str, id: &str) -> Client {
    let caller = Client::new(hotline.sip).await;
    let offer = OFFER.replace("40000", "41000");
    caller.send(&caller.request("INVITE", user, id, 1, "", "", &offer)).await;
    let ok = caller.final_answer().await;
    assert!(ok.starts_with("SIP/2.0 200"), "{ok}");
    caller.send(&caller.request("ACK", user, id, 1, &common::sip::tag_of(&ok), "", "")).await;
    caller
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_by_the_next_trunk_within_two_seconds_when_the_first_one_is_silent() {
    let silent = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let mut second = Side::new(settings()).await;
    let trunks = vec![
        trunk("silent", silent.local_addr().unwrap(), 1),
        Trunk { codecs: vec![Codec::Pcmu], ..trunk("second", second.agent.local_addr(), 2) },
    ];
    let hotline = common::start(|s| calls_out(s, trunks)).await;
    let first = first_calls(&[&silent]).remove(0);
    let caller = call_out(&hotline, "out", "failover").await;
    let SipEvent::Invite { dialog, to_user, from_user, sdp, .. } = second.next().await else { panic!("no call") };
    let came = Instant::now();
    let (began, first) = first.await.unwrap();
    assert!(came - began < Duration::from_secs(2), "{:?}", came - began);
    assert_eq!((to_user.as_str(), from_user.as_str()), ("861012345678", "4001234567"));
    let sdp = sdp.unwrap_or_default();
    assert!(sdp.contains("PCMU") && !sdp.contains("PCMA"), "the trunk's own codecs: {sdp}");
    assert!(first.starts_with("INVITE sip:861012345678@"), "{first}");
    assert!(header(&first, "X-Zongji-Call").is_empty(), "our name of the call is no business of a carrier");
    second.agent.reject(dialog, 486, None).await;
    assert!(caller.request_heard().await.starts_with("BYE"), "busy is busy: no other way is tried");
    // The one that failed is passed over now.
    let _caller = call_out(&hotline, "out", "again").await;
    while !matches!(second.next().await, SipEvent::Invite { .. }) {}
    assert!(!was_called_again(&silent, &first), "the silent one was asked first again");
    assert!(hotline.hotline.problems_now().iter().any(|p| p.contains("trunk silent")));
}

/// A zone of one domain with three servers.
struct Zone {
    servers: Vec<SocketAddr>,
    asked: AtomicUsize,
}

#[async_trait::async_trait]
impl Names for Zone {
    async fn naptr(&self, _: &str) -> Vec<Naptr> {
        Vec::new()
    }

    async fn srv(&self, name: &str) -> Vec<Srv> {
        let record = |(n, at): (usize, &SocketAddr)| Srv {
            priority: 10 * n as u16,
            weight: 1,
            target: format!("host{n}.gw.test"),
            port: at.port(),
        };
        if name == "_sip._udp.gw.test" { self.servers.iter().enumerate().map(record).collect() } else { Vec::new() }
    }

    async fn addresses(&self, host: &str) -> Vec<IpAddr> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let n = host.strip_prefix("host").and_then(|h| h.split('.').next()?.parse::<usize>().ok());
        n.and_then(|n| self.servers.get(n)).map(SocketAddr::ip).into_iter().collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_server_of_a_name_is_tried_in_its_order_and_the_third_within_two_seconds() {
    let bind = async |ip: &str| Arc::new(UdpSocket::bind((ip, 0)).await.unwrap());
    let silent = [bind("127.0.0.3").await, bind("127.0.0.4").await];
    let mut third = Side::new(settings()).await;
    let at = |socket: &UdpSocket| socket.local_addr().unwrap();
    let servers = vec![at(&silent[0]), at(&silent[1]), third.agent.local_addr()];
    let zone = Arc::new(Zone { servers, asked: AtomicUsize::new(0) });
    let names = zone.clone();
    let hotline = common::start(|s| {
        s.names = Resolver::new(names);
        let gw = Server { address: "sip:gw.test".into(), priority: 0, weight: 1 };
        calls_out(
            s,
            vec![Trunk { servers: vec![gw], give_up_ms: 1500, ..trunk("named", ([127, 0, 0, 1], 9).into(), 1) }],
        );
    })
    .await;
    common::until("the name is looked up", || zone.asked.load(Ordering::Relaxed) >= 3).await;
    let mut firsts = first_calls(&[&silent[0], &silent[1]]);
    let caller = call_out(&hotline, "out", "srv").await;
    let SipEvent::Invite { dialog, .. } = third.next().await else { panic!("no call") };
    let came = Instant::now();
    let (second, first) = (firsts.remove(1).await.unwrap().1, firsts.remove(0).await.unwrap());
    let (began, first) = first;
    eprintln!("two silent servers were passed over in {:?}", came - began);
    assert!(came - began < Duration::from_secs(2), "{:?}", came - began);
    for one in [&first, &second] {
        assert!(one.starts_with("INVITE sip:861012345678@gw.test"), "asked by the name: {one}");
    }
    third.agent.reject(dialog, 486, None).await;
    assert!(caller.request_heard().await.starts_with("BYE"));
    let problems = hotline.hotline.problems_now();
    let names = |c: &UdpSocket| problems.iter().any(|p| p.contains(&format!("sip:gw.test ({})", at(c))));
    assert!(names(&silent[0]) && names(&silent[1]), "{problems:?}");
    // Those that failed come last now: the one that is well is called before them.
    let _caller = call_out(&hotline, "out", "srv2").await;
    while !matches!(third.next().await, SipEvent::Invite { .. }) {}
    for (socket, call) in silent.iter().zip([&first, &second]) {
        assert!(!was_called_again(socket, call), "a silent one was asked first again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_rule_allows_does_not_leave_and_raises_the_alarm() {
    let carrier = Client::new(([127, 0, 0, 1], 9).into()).await;
    let hotline =
        common::start(|s| calls_out(s, vec![trunk("carrier", carrier.socket.local_addr().unwrap(), 1)])).await;
    let caller = call_out(&hotline, "premium", "fraud").await;
    assert!(caller.request_heard().await.starts_with("BYE"));
    assert!(carrier.hears_nothing(300).await, "nothing may leave");
    let problems = hotline.hotline.problems_now();
    assert!(problems.iter().any(|p| p.contains("[[outbound]]")), "{problems:?}");
    assert!(hotline.hotline.metrics().contains("zongji_outbound_refused_total 1"));
    // One call at once: the second one trips the cap.
    let _first = call_out(&hotline, "out", "one").await;
    assert!(carrier.request_heard().await.starts_with("INVITE"));
    let second = call_out(&hotline, "out", "two").await;
    assert!(second.request_heard().await.starts_with("BYE"));
    assert!(hotline.hotline.metrics().contains("zongji_outbound_refused_total 2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn we_register_at_a_trunk_ask_it_how_it_does_and_say_so_when_it_is_gone() {
    let account = Account { user: "hotline".into(), password: "geheim".into() };
    let mut carrier = Side::new(SipSettings { accounts: vec![account], realm: "carrier".into(), ..settings() }).await;
    let credential = Credential { user: "hotline".into(), password: "geheim".into(), realm: None };
    let server = carrier.agent.local_addr();
    let trunk = Trunk { credential: Some(credential), register: true, options_s: 1, ..trunk("carrier", server, 1) };
    let hotline = common::start(|s| calls_out(s, vec![trunk])).await;
    let user = "hotline".to_string();
    assert_eq!(carrier.next().await, SipEvent::Registered { user, contacts: 1 });
    common::until("it is asked by OPTIONS", || carrier.agent.counters().options >= 2).await;
    assert!(hotline.hotline.problems_now().iter().all(|p| !p.contains("trunk carrier")));
    carrier.agent.drain();
    let is_told = || hotline.hotline.problems_now().iter().any(|p| p.contains("its last answer was 503"));
    common::until("it is said that it is gone", is_told).await;
}
