//! What a bridge of two legs with the same codec adds to the way of a packet.

use crate::common::sip::{ANSWER, Side, settings};
use crate::common::wire::Caller;
use crate::common::{self, ONE_ORDER};
use std::time::Duration;
use tokio::net::UdpSocket;
use zongji::rtp::RtpView;
use zongji::server::routes::RouteKind;
use zongji::server::time::now;
use zongji::sip::SipEvent;

/// Takes the call and keeps it.
async fn answer(side: &mut Side, port: u16) {
    loop {
        if let SipEvent::Invite { dialog, .. } = side.next().await {
            side.agent.answer(dialog, ANSWER.replace("40002", &port.to_string())).await;
            return;
        }
    }
}

/// The delays of so many packets of one call, in microseconds, from before `sendto` to after `recvfrom`.
async fn delays(packets: u16) -> Vec<u64> {
    let mut seat = Side::new(settings()).await;
    let target = format!("sip:seat@{}", seat.agent.local_addr());
    let running = common::start(|s| {
        s.numbers = vec!["499".into()];
        s.routes = vec![common::route("400", RouteKind::Bridge, &target)];
    })
    .await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let mut caller = Caller::new(running.sip, ONE_ORDER).await;
    caller.establish().await;
    answer(&mut seat, socket.local_addr().expect("its address").port()).await;
    // The bridge stands when the first packet comes through.
    let arrivals = tokio::spawn(async move {
        let (mut seen, mut buffer) = (vec![None; usize::from(packets)], [0u8; 2048]);
        while let Ok(Ok(len)) = tokio::time::timeout(Duration::from_secs(2), socket.recv(&mut buffer)).await {
            let at = now();
            if let Ok(view) = RtpView::parse(&buffer[..len])
                && let [high, low, ..] = *view.payload()
                && let Some(slot) = seen.get_mut(usize::from(u16::from_be_bytes([high, low])))
            {
                *slot = Some(at);
            }
        }
        seen
    });
    let mut clock = tokio::time::interval(Duration::from_millis(20));
    let mut sent = Vec::new();
    for n in 0..packets {
        clock.tick().await;
        sent.push(caller.beat(n).await);
    }
    let seen = arrivals.await.expect("it does not break");
    caller.bye().await;
    sent.iter().zip(seen).filter_map(|(s, a)| Some(a?.since(*s).as_micros() as u64)).collect()
}

fn report(mut all: Vec<u64>) -> (usize, u64, u64) {
    all.sort_unstable();
    let at = |share: f64| all.get((all.len() as f64 * share) as usize).copied().unwrap_or(u64::MAX);
    (all.len(), at(0.5), at(0.99))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_pass_a_bridge_as_they_come_and_not_with_the_tick() {
    let (count, p50, p99) = report(delays(150).await);
    eprintln!("relayed bridge: {count} of 150 packets, p50 {p50} us, p99 {p99} us");
    // With the tick it would be 20 ms and a jitter buffer; a busy machine is given much more than it needs.
    assert!(count > 100 && p50 < 8_000, "p50 {p50} us of {count}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "soak: a minute of one call, to be run on a quiet machine"]
async fn soak_delay_of_a_relayed_bridge() {
    let (count, p50, p99) = report(delays(3000).await);
    eprintln!("relayed bridge: {count} of 3000 packets, p50 {p50} us, p99 {p99} us");
    assert!(count > 2900 && p50 < 1000, "p50 {p50} us of {count}");
}
