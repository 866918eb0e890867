use super::*;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

#[derive(Default)]
struct Fake {
    closed: AtomicBool,
}

impl Status for Fake {
    fn health(&self) -> Health {
        Health {
            status: if self.closed.load(Ordering::Relaxed) { HealthState::Closed } else { HealthState::Degraded },
            version: "0.1.0".into(),
            uptime_s: 5,
            calls_now: 2,
            calls_max: 200,
            flow_set: "abc".into(),
            engines: vec![EngineHealth { role: "recogniser".into(), name: "bundled".into(), ready: false }],
            problems: vec!["models/am.onnx is missing: run make setup".into()],
        }
    }

    fn metrics(&self) -> String {
        "# TYPE zongji_calls gauge\nzongji_calls 2\n".into()
    }

    fn ice_servers(&self, authorization: Option<&str>, source: IpAddr) -> Option<Relayed> {
        assert!(source.is_loopback());
        match authorization {
            None => Some(Relayed::Challenge("Digest realm=\"r\"".into())),
            Some("Digest guess") => Some(Relayed::Banned),
            Some(_) => {
                let (stun, login) = (vec!["stun:h".into()], Some(("5:8001".into(), "pw".into())));
                let server = |urls, login| crate::server::relays::IceServer { urls, login };
                Some(Relayed::Servers(vec![server(stun, None), server(vec!["turn:h".into()], login)], 60))
            }
        }
    }
}

struct Running {
    addr: SocketAddr,
    state: Arc<Fake>,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), WebError>>,
}

async fn running() -> Running {
    running_with(PATIENCE).await
}

async fn running_with(patience: Patience) -> Running {
    let mut web = Web::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
    web.patience = patience;
    let addr = web.local_addr().expect("bound");
    let state = Arc::new(Fake::default());
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(web.run(state.clone(), async {
        let _ = stopped.await;
    }));
    Running { addr, state, stop, task }
}

async fn ask(addr: SocketAddr, request: &str) -> String {
    let mut c = TcpStream::connect(addr).await.expect("it listens");
    c.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    c.read_to_string(&mut answer).await.expect("it answers");
    answer
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn health_says_what_is_wrong_in_json() {
    let r = running().await;
    let answer = ask(r.addr, &get("/health")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let json: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").expect("a body").1).expect("JSON");
    assert_eq!(json["status"], "degraded");
    assert_eq!(json["calls_now"], 2);
    assert_eq!(json["flow_set"], "abc");
    assert_eq!(json["engines"][0]["ready"], false);
    assert!(json["problems"][0].as_str().expect("a sentence").contains("am.onnx"));
    r.state.closed.store(true, Ordering::Relaxed);
    assert!(ask(r.addr, &get("/health")).await.starts_with("HTTP/1.1 503"), "a closed hotline is out of balance");
}

#[tokio::test]
async fn a_seats_page_is_challenged_told_the_servers_or_refused() {
    let r = running().await;
    let with = |proof: &str| get("/ice-servers").replace("Host: x", &format!("Host: x\r\nAuthorization: {proof}"));
    let challenge = ask(r.addr, &get("/ice-servers")).await;
    assert!(challenge.starts_with("HTTP/1.1 401") && challenge.contains("www-authenticate: Digest realm=\"r\""));
    assert!(challenge.contains("access-control-expose-headers: WWW-Authenticate"), "{challenge}");
    let answer = ask(r.addr, &with("Digest right")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("cache-control: no-store"), "{answer}");
    assert!(answer.ends_with(
        r#"{"iceServers":[{"urls":["stun:h"]},{"urls":["turn:h"],"username":"5:8001","credential":"pw"}],"ttl":60}"#
    ));
    assert!(ask(r.addr, &with("Digest guess")).await.starts_with("HTTP/1.1 403"));
    let preflight = ask(r.addr, &get("/ice-servers").replace("GET", "OPTIONS")).await;
    assert!(preflight.contains("access-control-allow-headers: Authorization"), "{preflight}");
}

#[tokio::test]
async fn metrics_are_plain_text_and_unknown_paths_are_404() {
    let r = running().await;
    let answer = ask(r.addr, &get("/metrics")).await;
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.ends_with("zongji_calls 2\n"), "{answer}");
    assert!(ask(r.addr, &get("/orders")).await.starts_with("HTTP/1.1 404"));
    assert!(ask(r.addr, &get("/health").replace("GET", "DELETE")).await.starts_with("HTTP/1.1 405"));
    assert!(ask(r.addr, "\u{0}\u{1}bad\r\n\r\n").await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn a_taken_address_is_named_with_what_to_do() {
    let r = running().await;
    let e = serve(r.addr, r.state.clone(), async {}).await.expect_err("taken");
    assert!(matches!(e, WebError::Taken(a) if a == r.addr));
    assert!(e.to_string().contains("[http] bind"));
    let e = Web::bind("203.0.113.1:0".parse().expect("an address")).await.err().expect("not ours");
    assert!(matches!(e, WebError::Refused(..)));
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_client_that_hangs() {
    let r = running_with(Patience { last_answers: Duration::from_millis(20), ..PATIENCE }).await;
    let mut hanging = TcpStream::connect(r.addr).await.expect("it listens");
    hanging.write_all(b"GET /health HTTP/1.1\r\n").await.expect("half a request");
    r.stop.send(()).expect("it runs");
    let ended = tokio::time::timeout(Duration::from_secs(20), r.task).await.expect("it ends");
    ended.expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn a_client_that_says_nothing_is_cut_off() {
    let r = running_with(Patience { life: Duration::from_millis(50), ..PATIENCE }).await;
    let mut silent = TcpStream::connect(r.addr).await.expect("it listens");
    let mut nothing = [0; 1];
    let cut = tokio::time::timeout(Duration::from_secs(20), silent.read(&mut nothing)).await;
    assert!(matches!(cut, Ok(Ok(0) | Err(_))), "the server ends the connection by itself");
}
