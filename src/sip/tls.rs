//! TLS: our certificate, read again when its files change, and whom we trust when we connect.

use super::counters::bump;
use super::event::SipError;
use super::gate::lock;
use super::hub::Hub;
use super::settings::TlsFiles;
use super::stream::Came;
use super::transport::Transport;
use super::{stream, websocket};
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;
use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// Where Debian and its kin, and Red Hat and its kin, keep the certificates that everybody trusts.
const SYSTEM: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// The certificate in force.
#[derive(Debug)]
struct Current {
    files: TlsFiles,
    key: Mutex<(Arc<CertifiedKey>, Stamp)>,
}

type Stamp = [Option<SystemTime>; 2];

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(lock(&self.key).0.clone())
    }
}

/// Both roles of TLS.
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    accepts: Option<(TlsAcceptor, Arc<Current>)>,
    /// File of certificates trusted besides the system's.
    trust: Option<PathBuf>,
}

impl Tls {
    /// Reads the files, if there are any.
    pub fn new(files: Option<&TlsFiles>) -> Result<Tls, SipError> {
        let provider = Arc::new(ring::default_provider());
        let accepts = match files {
            None => None,
            Some(files) => {
                let key = certified(files, &provider)?;
                let current = Arc::new(Current { key: Mutex::new((key, stamp(files))), files: files.clone() });
                let config = ServerConfig::builder_with_provider(provider.clone())
                    .with_safe_default_protocol_versions()
                    .map_err(|e| SipError::Tls(e.to_string()))?
                    .with_no_client_auth()
                    .with_cert_resolver(current.clone());
                Some((TlsAcceptor::from(Arc::new(config)), current))
            }
        };
        Ok(Tls { provider, accepts, trust: files.and_then(|f| f.trust.clone()) })
    }

    /// Shakes hands with who connected.
    async fn accept(&self, stream: TcpStream) -> std::io::Result<server::TlsStream<TcpStream>> {
        match &self.accepts {
            Some((acceptor, _)) => acceptor.accept(stream).await,
            None => Err(Error::other("no certificate is configured")),
        }
    }

    /// Shakes hands with a server whose certificate must be for `name` and come from someone we trust.
    pub async fn connect(&self, name: &str, stream: TcpStream) -> std::io::Result<client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        for path in SYSTEM.iter().map(Path::new).chain(self.trust.as_deref()) {
            let Ok(certificates) = CertificateDer::pem_file_iter(path) else { continue };
            roots.add_parsable_certificates(certificates.filter_map(Result::ok));
        }
        let config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.trim_matches(['[', ']']).to_string())
            .map_err(|_| Error::new(ErrorKind::InvalidInput, format!("`{name}` is no name of a server")))?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Takes the certificate anew if its files changed; an unusable one is complained of and the old one stays.
    fn renew(&self) {
        let Some((_, current)) = &self.accepts else { return };
        let now = stamp(&current.files);
        if lock(&current.key).1 == now {
            return;
        }
        let read = certified(&current.files, &self.provider);
        let mut held = lock(&current.key);
        held.1 = now;
        match read {
            Ok(key) => {
                held.0 = key;
                tracing::info!(file = %current.files.certificate.display(), "the TLS certificate was read again");
            }
            Err(error) => tracing::error!(%error, "the new TLS certificate cannot be used; the old one stays in use"),
        }
    }
}

fn stamp(files: &TlsFiles) -> Stamp {
    let changed = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    [changed(&files.certificate), changed(&files.key)]
}

/// Reads certificate and key, and sees that they belong together.
fn certified(files: &TlsFiles, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, SipError> {
    let bad = |path: &Path, why: String| SipError::Certificate(path.to_path_buf(), why);
    let read = |path: &Path| std::fs::read(path).map_err(|e| bad(path, e.to_string()));
    let pem = read(&files.certificate)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.ok().filter(|c| !c.is_empty());
    let chain = chain.ok_or_else(|| bad(&files.certificate, "no certificate in PEM form is in it".into()))?;
    let pem = read(&files.key)?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| bad(&files.key, "no private key in PEM form is in it (one without a password)".into()))?;
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|e| bad(&files.key, e.to_string()))?;
    Ok(Arc::new(certified))
}

/// Looks at the files again and again until the agent stops.
pub(super) async fn watch(hub: Arc<Hub>) {
    loop {
        tokio::select! {
            () = hub.token.cancelled() => return,
            () = tokio::time::sleep(hub.gate.settings.certificate_look) => {}
        }
        let hub = hub.clone();
        tokio::task::spawn_blocking(move || hub.tls.renew()).await.ok();
    }
}

/// A connection to the port of SIP over TLS, or of secure WebSocket.
pub(super) async fn serve(hub: Arc<Hub>, stream: TcpStream, came: Came, transport: Transport) {
    let shaken = tokio::time::timeout(hub.gate.settings.tcp_message_limit, hub.tls.accept(stream)).await;
    let Ok(Ok(stream)) = shaken else {
        bump(&hub.gate.counters.tls_failed);
        return;
    };
    match transport {
        Transport::Wss => websocket::serve(hub, stream, came, transport).await,
        _ => stream::serve(hub, stream, came, transport, None).await,
    }
}
