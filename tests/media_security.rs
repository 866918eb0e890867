//! Strangers at a call's media: they are not heard, and nothing is sent to them.

use crate::common::wire::Caller;
use crate::common::{self, ONE_ORDER, tone};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::UdpSocket;
use zongji::audio::Law;
use zongji::audio::detect::tone_power;

/// What the caller says and what the strangers send, in Hz.
const CALLER: f32 = 500.0;
const STRANGER: f32 = 1300.0;

/// Somebody else on the network who sends well-formed sound.
struct Stranger {
    socket: UdpSocket,
    packet: u32,
}

impl Stranger {
    async fn at(address: &str) -> Stranger {
        Stranger { socket: UdpSocket::bind(address).await.expect("loopback has many addresses"), packet: 0 }
    }

    async fn send(&mut self, to: SocketAddr, packets: usize) {
        let sound = tone(STRANGER, 1);
        for _ in 0..packets {
            self.packet += 1;
            let mut packet = vec![0x80, 8];
            packet.extend_from_slice(&(self.packet as u16).to_be_bytes());
            packet.extend_from_slice(&(self.packet * 160).to_be_bytes());
            packet.extend_from_slice(&[9, 9, 9, 9]);
            Law::A.encode(&sound[..160], &mut packet);
            self.socket.send_to(&packet, to).await.expect("sent");
        }
    }

    fn heard_nothing(&self) -> bool {
        self.socket.try_recv(&mut [0; 64]).is_err()
    }
}

/// The caller's side of a recording.
fn callers_side(path: &str) -> Vec<i16> {
    let mut wav = hound::WavReader::open(path).expect("a recording");
    wav.samples::<i16>().step_by(2).map(|s| s.expect("a sample")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sprays_a_calls_port_is_neither_heard_nor_sent_anything() {
    let running = common::start(|_| {}).await;
    for burst in [1, 5, 50] {
        let mut caller = Caller::new(running.sip, ONE_ORDER).await;
        caller.invite("sendrecv").await;
        caller.expect("INVITE", 200).await;
        let port = caller.remote.expect("it said where");
        // From another host at once, before the caller's first packet; from the caller's own host as soon as he is known.
        let (mut far, mut near) = (Stranger::at("127.0.0.2:0").await, Stranger::at("127.0.0.1:0").await);
        far.send(port, burst).await;
        far.send(SocketAddr::new(port.ip(), port.port() + 1), burst).await;
        caller.ack().await;
        let sound = tone(CALLER, 2);
        caller.say(&sound[..800]).await;
        tokio::join!(caller.say(&sound), async {
            let mut clock = tokio::time::interval(Duration::from_millis(100));
            for _ in 0..15 {
                clock.tick().await;
                far.send(port, burst).await;
                near.send(port, burst).await;
            }
        });
        assert!(far.heard_nothing() && near.heard_nothing(), "{burst}: something was sent to a stranger");
        caller.bye().await;
        running.settle().await;
        let call = running.hotline.store().calls(1).await.unwrap().remove(0);
        let heard = callers_side(&call.recording.expect("it is recorded"));
        let (own, foreign) = (tone_power(&heard, CALLER), tone_power(&heard, STRANGER));
        assert!(own > 0.0 && foreign < own / 1000.0, "{burst}: {foreign} of a stranger beside {own} of the caller");
    }
    assert!(running.hotline.metrics().lines().any(|l| {
        l.strip_prefix("zongji_rtp_ignored_total ").is_some_and(|n| n.parse::<u64>().is_ok_and(|n| n > 500))
    }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_to_an_address_before_its_owner_confirmed_the_call() {
    let running = common::start(|_| {}).await;
    let mut caller = Caller::new(running.sip, ONE_ORDER).await;
    caller.invite("sendrecv").await;
    caller.expect("INVITE", 200).await;
    assert_eq!(caller.packets(Duration::from_millis(700)).await, 0);
    caller.ack().await;
    assert!(caller.packets(Duration::from_millis(700)).await > 10);
    caller.bye().await;
}
