//! TLS: the certificate and how it is kept current, and handshakes within bounds.
//!
//! Which files it is read from is configured; what is spoken inside is decided in `connection`.

use anyhow::Context;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use sha2::Digest;
use sha2::Sha256;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing::warn;

/// Handshakes at once: each costs the processor a signature, and requests must not wait for thousands of them.
const HANDSHAKES_MAX: usize = 512;
/// How often the files are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(60);
/// What is offered inside TLS, the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The certificate that connections are served with.
#[derive(Debug)]
pub struct Tls {
    certificate_file: PathBuf,
    key_file: PathBuf,
    served: ArcSwap<Served>,
    handshakes: Semaphore,
}

#[derive(Debug)]
struct Served {
    config: Arc<ServerConfig>,
    /// Of both files, to see whether they have changed.
    digest: [u8; 32],
}

impl Tls {
    /// Reads the certificate, with those that it was signed by behind it, and its key from PEM files.
    ///
    /// # Errors
    ///
    /// A file cannot be read or holds something else, or the key is that of another certificate.
    pub fn new(certificate_file: PathBuf, key_file: PathBuf) -> anyhow::Result<Self> {
        let (digest, certificate, key) = read(&certificate_file, &key_file)?;
        let served = ArcSwap::from_pointee(Served { config: config(&certificate, &key)?, digest });
        let handshakes = Semaphore::new(HANDSHAKES_MAX);
        Ok(Self { certificate_file, key_file, served, handshakes })
    }

    /// Reads the files again and, if they have changed, serves new connections with what is in them; returns whether it does.
    ///
    /// # Errors
    ///
    /// As [`Tls::new`]; then what was served goes on being served.
    pub fn reload(&self) -> anyhow::Result<bool> {
        let (digest, certificate, key) = read(&self.certificate_file, &self.key_file)?;
        if digest == self.served.load().digest {
            return Ok(false);
        }
        self.served.store(Arc::new(Served { config: config(&certificate, &key)?, digest }));
        Ok(true)
    }

    /// Reads the files again once a minute and on SIGHUP, until it is told to stop.
    pub async fn keep_current(self: Arc<Self>, stop: CancellationToken) {
        let mut hangups = match signal(SignalKind::hangup()) {
            Ok(hangups) => Some(hangups),
            Err(error) => {
                warn!(%error, "cannot hear SIGHUP");
                None
            }
        };
        loop {
            let hangup = async {
                match &mut hangups {
                    Some(hangups) => hangups.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RELOAD_INTERVAL) => {}
                _ = hangup => {}
            }
            let this = Arc::clone(&self);
            // The files may lie on a disk of the network, which must hold up no request.
            match tokio::task::spawn_blocking(move || this.reload()).await {
                Ok(Ok(true)) => info!("serving with the new certificate"),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    let error = format!("{error:#}");
                    warn!(error, "cannot use the new certificate; the one before stays");
                }
                Err(error) => warn!(%error, "reading the certificate failed"),
            }
        }
    }

    /// Makes a connection of a socket that has something to read.
    pub(super) async fn accept(
        &self,
        socket: TcpStream,
        handshake_timeout: Duration,
    ) -> io::Result<TlsStream<TcpStream>> {
        let handshake = async {
            // Never closed, so there is always one in the end.
            let _permit = self.handshakes.acquire().await;
            TlsAcceptor::from(Arc::clone(&self.served.load().config)).accept(socket).await
        };
        timeout(handshake_timeout, handshake).await?
    }
}

fn read(
    certificate_file: &PathBuf,
    key_file: &PathBuf,
) -> anyhow::Result<([u8; 32], Vec<u8>, Vec<u8>)> {
    let text = |file: &PathBuf| {
        std::fs::read(file).with_context(|| format!("could not read the file {}", file.display()))
    };
    let (certificate, key) = (text(certificate_file)?, text(key_file)?);
    let digest = Sha256::new().chain_update(&certificate).chain_update(&key).finalize();
    Ok((digest.into(), certificate, key))
}

/// TLS 1.2 and 1.3.
fn config(certificate: &[u8], key: &[u8]) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
    let chain = chain.context("could not understand the file of VEXIL_TLS_CERT")?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .context("could not understand the file of VEXIL_TLS_KEY")?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("the certificate and the key do not make a pair")?;
    config.alpn_protocols = PROTOCOLS.iter().map(|protocol| protocol.to_vec()).collect();
    // Clients that all come back at once need no new signatures.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}
