//! Certificates of our own, TLS that trusts them, and a softphone over WebSocket.

use super::sip::LIMIT;
use futures_util::{SinkExt, StreamExt};
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use zongji::sip::TlsFiles;

/// A certificate for loopback that it signed itself.
pub fn certificate(dir: &Path) -> TlsFiles {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
    let files = TlsFiles { certificate: dir.join("cert.pem"), key: dir.join("key.pem"), trust: None };
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    files
}

/// TLS to a server that has this certificate.
pub async fn trusting(files: &TlsFiles, stream: TcpStream) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.certificate).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// A browser's softphone: SIP in WebSocket frames.
pub struct Web<S> {
    pub socket: WebSocketStream<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Web<S> {
    pub async fn over(stream: S) -> Web<S> {
        // TLS, where there is any, is the stream's business.
        let mut request = "ws://localhost/".into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", "sip".parse().unwrap());
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.expect("a WebSocket");
        Web { socket }
    }

    pub async fn send(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub async fn hear(&mut self) -> String {
        loop {
            let got = tokio::time::timeout(LIMIT, self.socket.next()).await.expect("a frame in time");
            match got.expect("an open socket").unwrap() {
                Message::Text(text) => return text.to_string(),
                Message::Binary(bytes) => return String::from_utf8(bytes.to_vec()).unwrap(),
                _ => {}
            }
        }
    }

    pub async fn until(&mut self, start: &str) -> String {
        loop {
            let text = self.hear().await;
            if text.starts_with(start) {
                return text;
            }
        }
    }
}
