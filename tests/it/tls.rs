//! TLS on the server's own sockets: what is spoken, how long a handshake may take, and how the certificate is renewed.

use crate::harness::Answer;
use crate::harness::Client;
use crate::harness::Folder;
use crate::harness::PATIENCE;
use crate::harness::Server;
use crate::harness::command;
use crate::harness::eventually;
use crate::sockets::LONG;
use crate::sockets::SHORT;
use crate::sockets::ask;
use crate::sockets::ask_http2;
use crate::sockets::patient;
use crate::sockets::read_to_close;
use crate::sockets::start;
use rcgen::CertifiedKey;
use rcgen::generate_simple_self_signed;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::SupportedProtocolVersion;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::version::TLS12;
use rustls::version::TLS13;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use vexil::http::Sockets;
use vexil::http::Tls;

/// A certificate in a folder, which vouches for itself.
struct Certificate {
    folder: Folder,
    der: CertificateDer<'static>,
    pem: String,
}

impl Certificate {
    fn new() -> Self {
        let mut made = Self {
            folder: Folder::new(),
            der: CertificateDer::from(Vec::new()),
            pem: String::new(),
        };
        made.renew();
        made
    }

    fn files(&self) -> (PathBuf, PathBuf) {
        (self.folder.path().join("cert.pem"), self.folder.path().join("key.pem"))
    }

    /// Puts another certificate in the place of this one.
    fn renew(&mut self) {
        let names = vec!["localhost".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        let (cert_file, key_file) = self.files();
        std::fs::write(cert_file, cert.pem()).unwrap();
        std::fs::write(key_file, signing_key.serialize_pem()).unwrap();
        (self.der, self.pem) = (cert.der().clone(), cert.pem());
    }

    fn tls(&self) -> Tls {
        let (cert_file, key_file) = self.files();
        Tls::new(cert_file, key_file).unwrap()
    }

    async fn server(&self) -> Server {
        let (cert_file, key_file) = self.files();
        let (cert_file, key_file) = (cert_file.to_str().unwrap(), key_file.to_str().unwrap());
        let args = ["--tls-cert", cert_file, "--tls-key", key_file];
        Server::spawn(self.folder.path(), None, &args).await
    }

    /// Connects as someone who trusts this certificate only.
    async fn connect(
        &self,
        address: SocketAddr,
        version: &'static SupportedProtocolVersion,
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let socket = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, socket).await
    }
}

fn address_of(server: &Server) -> SocketAddr {
    server.url.strip_prefix("http://").unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_server_with_a_certificate_answers_over_tls() {
    let certificate = Certificate::new();
    let server = certificate.server().await;
    let root = reqwest::Certificate::from_pem(certificate.pem.as_bytes()).unwrap();
    let http = reqwest::Client::builder().tls_certs_only([root]).build().unwrap();
    let url = format!("https://localhost:{}", address_of(&server).port());
    let admin = Client { http, url, ..server.admin.clone() };
    eventually("the server is ready", || async { admin.get("/readyz").await.status == 200 }).await;
    let answer: Answer = admin.get("/api/v1/projects").await;
    assert_eq!(answer.status, 200);
    // Nothing is answered without.
    server.admin.http.get(format!("{}/livez", server.url)).send().await.unwrap_err();
}

#[tokio::test]
async fn tls_1_2_and_1_3_offer_both_protocols() {
    let certificate = Certificate::new();
    let server = start(Sockets { tls: Some(Arc::new(certificate.tls())), ..patient() }).await;
    for version in [&TLS12, &TLS13] {
        for protocols in [&["http/1.1"][..], &[]] {
            let mut socket = certificate.connect(server.address, version, protocols).await.unwrap();
            ask(&mut socket).await;
            ask(&mut socket).await;
        }
        let both = ["h2", "http/1.1"];
        let mut socket = certificate.connect(server.address, version, &both).await.unwrap();
        assert_eq!(socket.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(socket.get_ref().1.protocol_version(), Some(version.version));
        ask_http2(&mut socket).await;
    }
}

#[tokio::test]
async fn a_handshake_is_not_waited_for() {
    let certificate = Certificate::new();
    let tls = || Some(Arc::new(certificate.tls()));
    // Nothing at all.
    let server = start(Sockets { tls: tls(), first_byte_timeout: SHORT, ..patient() }).await;
    let opened = Instant::now();
    read_to_close(&mut server.connect().await).await;
    assert!(opened.elapsed() >= SHORT);
    // A whole handshake and then nothing.
    let mut silent = certificate.connect(server.address, &TLS13, &[]).await.unwrap();
    read_to_close(&mut silent).await;
    // The first bytes of a handshake.
    let server = start(Sockets { tls: tls(), handshake_timeout: SHORT, ..patient() }).await;
    let opened = Instant::now();
    let mut begun = server.send(&[0x16, 0x03, 0x01, 0x02]).await;
    read_to_close(&mut begun).await;
    assert!(opened.elapsed() >= SHORT);
    // Something else.
    let server = start(Sockets { tls: tls(), handshake_timeout: LONG, ..patient() }).await;
    let mut plain = server.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(!read_to_close(&mut plain).await.starts_with(b"HTTP/1.1"));
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_replaces_none() {
    let mut certificate = Certificate::new();
    let tls = Arc::new(certificate.tls());
    let server = start(Sockets { tls: Some(Arc::clone(&tls)), ..patient() }).await;
    assert!(!tls.reload().unwrap(), "nothing has changed");

    let (cert_file, key_file) = certificate.files();
    let good_key = std::fs::read(&key_file).unwrap();
    let foreign_key = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    for bad_key in ["", "no key", &foreign_key.signing_key.serialize_pem()] {
        std::fs::write(&key_file, bad_key).unwrap();
        tls.reload().unwrap_err();
        certificate.connect(server.address, &TLS13, &[]).await.unwrap();
    }
    std::fs::write(&key_file, &good_key).unwrap();
    for bad_certificate in ["", "no certificate"] {
        std::fs::write(&cert_file, bad_certificate).unwrap();
        tls.reload().unwrap_err();
    }
    std::fs::remove_file(&cert_file).unwrap();
    tls.reload().unwrap_err();
    let mut before = certificate.connect(server.address, &TLS13, &[]).await.unwrap();

    certificate.renew();
    assert!(tls.reload().unwrap());
    certificate.connect(server.address, &TLS13, &[]).await.unwrap();
    // A connection that is open goes on.
    ask(&mut before).await;
}

#[tokio::test]
async fn a_hangup_renews_the_certificate() {
    let mut certificate = Certificate::new();
    let server = certificate.server().await;
    let address = address_of(&server);
    certificate.connect(address, &TLS13, &[]).await.unwrap();
    certificate.renew();
    // Whoever trusts only the new one cannot connect yet.
    certificate.connect(address, &TLS13, &[]).await.unwrap_err();
    server.signal("HUP").await;
    let connect = || async { certificate.connect(address, &TLS13, &[]).await.is_ok() };
    eventually("the new certificate is served", connect).await;
}

#[tokio::test]
async fn a_server_does_not_start_without_its_certificate() {
    let certificate = Certificate::new();
    let (cert_file, key_file) = certificate.files();
    let missing = certificate.folder.path().join("missing.pem");
    for (cert, key) in [
        (Some(&cert_file), None),
        (None, Some(&key_file)),
        (Some(&missing), Some(&key_file)),
        (Some(&key_file), Some(&key_file)),
    ] {
        let mut command = command();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
        command.arg(certificate.folder.path().join("data"));
        for (flag, file) in [("--tls-cert", cert), ("--tls-key", key)] {
            if let Some(file) = file {
                command.arg(flag).arg(file);
            }
        }
        let output = tokio::time::timeout(PATIENCE, command.output());
        let output = output.await.expect("the server runs").unwrap();
        assert!(!output.status.success());
    }
}
