//! A headless Chromium, told what to do by its DevTools protocol.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Longest wait for its start and for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A browser with one page.
pub struct Page {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: String,
    asked: u64,
    /// Names of the events so far.
    told: Vec<String>,
    /// Ends with the page.
    _browser: Child,
    _profile: tempfile::TempDir,
}

/// Whether there is a Chromium here.
pub fn is_installed() -> bool {
    std::process::Command::new("chromium").arg("--version").output().is_ok_and(|o| o.status.success())
}

impl Page {
    /// Opens a file.
    pub async fn open(file: &Path) -> Page {
        let profile = tempfile::tempdir().expect("a folder");
        let mut browser = Command::new("chromium")
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--mute-audio"])
            .args(["--autoplay-policy=no-user-gesture-required", "--disable-dev-shm-usage", "--no-first-run"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(browser.stderr.take().expect("its words")).lines();
        let address = tokio::time::timeout(PATIENCE, async {
            loop {
                let line = lines.next_line().await.expect("readable").expect("it lives");
                if let Some((_, address)) = line.split_once("DevTools listening on ") {
                    return address.trim().to_owned();
                }
            }
        });
        let address = address.await.expect("it starts in time");
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let (socket, _) = tokio_tungstenite::connect_async(address).await.expect("DevTools");
        let (session, told) = (String::new(), Vec::new());
        let mut page = Page { socket, session, asked: 0, told, _browser: browser, _profile: profile };
        let target = page.ask("Target.createTarget", json!({ "url": "about:blank" })).await["targetId"].clone();
        let attach = json!({ "targetId": target, "flatten": true });
        page.session = page.ask("Target.attachToTarget", attach).await["sessionId"].as_str().expect("a session").into();
        page.ask("Page.enable", json!({})).await;
        page.told.clear();
        page.ask("Page.navigate", json!({ "url": format!("file://{}", file.display()) })).await;
        while !page.told.iter().any(|event| event == "Page.loadEventFired") {
            page.next().await;
        }
        page
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let mut message = json!({ "id": self.asked, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        self.socket.send(Message::text(message.to_string())).await.expect("sent");
        loop {
            let value = self.next().await;
            if value["id"] == self.asked {
                assert!(value["error"].is_null(), "{method}: {value}");
                return value["result"].clone();
            }
        }
    }

    /// The next message; the name of an event is kept.
    async fn next(&mut self) -> Value {
        loop {
            let got = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("a message in time");
            let Message::Text(text) = got.expect("it lives").expect("readable") else { continue };
            let value: Value = serde_json::from_str(&text).expect("JSON");
            self.told.extend(value["method"].as_str().map(str::to_owned));
            return value;
        }
    }

    /// What an expression gives, waited for if it is a promise.
    pub async fn run(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let got = self.ask("Runtime.evaluate", params).await;
        assert!(got["exceptionDetails"].is_null(), "{expression}: {got}");
        got["result"]["value"].clone()
    }

    /// Waits until an expression is true: the page itself looks, and says so at once.
    pub async fn until(&mut self, expression: &str) {
        let limit = PATIENCE.as_millis() / 2;
        let watch = format!(
            "new Promise(done => {{ const end = Date.now() + {limit}, look = () => {{ \
             if ({expression}) done(true); else if (Date.now() > end) done(false); else setTimeout(look, 20); }}; look(); }})"
        );
        if self.run(&watch).await == Value::Bool(true) {
            return;
        }
        let seat = self.run("window.seat ? JSON.stringify([seat.state, seat.connected, seat.log]) : ''").await;
        panic!("never came true: {expression}; {seat}");
    }
}
