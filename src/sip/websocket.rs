//! SIP over WebSocket (RFC 7118): one message a frame, sub-protocol `sip`.

use super::counters::bump;
use super::hub::Hub;
use super::stream::{Came, Outlet, open};
use super::transport::Transport;
use super::wire::MAX_HEAD;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// Longest message taken: head and body.
const LONGEST: usize = 2 * MAX_HEAD;
/// Name of the sub-protocol.
const PROTOCOL: &str = "sip";

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Outlet for SplitSink<WebSocketStream<S>, Message> {
    async fn put(&mut self, message: Vec<u8>) -> bool {
        // Text where it is text: a browser's softphone expects strings.
        let frame = match String::from_utf8(message) {
            Ok(text) => Message::text(text),
            Err(bytes) => Message::Binary(Bytes::from(bytes.into_bytes())),
        };
        self.send(frame).await.is_ok()
    }

    async fn finish(&mut self) {
        self.close().await.ok();
    }
}

/// Shakes hands and reads messages until the end.
pub(super) async fn serve<S>(hub: Arc<Hub>, stream: S, came: Came, transport: Transport)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = WebSocketConfig::default()
        .max_message_size(Some(LONGEST))
        .max_frame_size(Some(LONGEST))
        .max_write_buffer_size(4 * LONGEST);
    let shaking = tokio_tungstenite::accept_hdr_async_with_config(stream, agree, Some(limits));
    let shaken = tokio::time::timeout(hub.gate.settings.tcp_message_limit, shaking).await;
    let Ok(Ok(socket)) = shaken else {
        bump(&hub.gate.counters.tcp_refused);
        return;
    };
    let (outlet, mut frames) = socket.split();
    let open = open(&hub, outlet, came, transport);
    loop {
        let next = tokio::time::timeout(hub.gate.settings.tcp_idle_limit, frames.next());
        let frame = tokio::select! {
            () = open.token.cancelled() => return,
            frame = next => frame,
        };
        let data = match frame {
            Ok(Some(Ok(Message::Text(text)))) => Bytes::from(text),
            Ok(Some(Ok(Message::Binary(bytes)))) => bytes,
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)))) => continue,
            Ok(Some(Ok(Message::Close(_))) | None) | Err(_) => return,
            Ok(Some(Err(_))) => {
                bump(&hub.gate.counters.tcp_refused);
                return;
            }
        };
        let answer = match &data[..] {
            // A softphone's keep-alive (RFC 5626 section 3.5.1).
            b"\r\n\r\n" => Some(super::hub::Answer { bytes: b"\r\n".to_vec(), close: false }),
            blank if blank.iter().all(u8::is_ascii_whitespace) => None,
            message => hub.received(message, open.flow.hop),
        };
        let close = answer.as_ref().is_some_and(|a| a.close);
        answer.filter(|a| !a.bytes.is_empty()).into_iter().for_each(|a| open.flow.post(a.bytes));
        if close {
            return;
        }
    }
}

/// Takes who speaks SIP; to others the answer says what is spoken here.
#[allow(clippy::result_large_err)] // the library's own type
fn agree(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let offered = request.headers().get_all("Sec-WebSocket-Protocol");
    let sip = offered.iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    if !sip.into_iter().any(|p| p.trim().eq_ignore_ascii_case(PROTOCOL)) {
        let mut refusal =
            ErrorResponse::new(Some("This is SIP over WebSocket: ask for the sub-protocol `sip`.\n".into()));
        *refusal.status_mut() = StatusCode::BAD_REQUEST;
        return Err(refusal);
    }
    response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(PROTOCOL));
    Ok(response)
}
