//! What the configuration makes: the key of the audit log, the socket, its certificate, the limits, the tokens.

use crate::auth;
use crate::auth::HeadSigner;
use crate::clock::Ids;
use crate::config::Config;
use crate::http::BoundSettings;
use crate::http::LimitSetting;
use crate::http::LimitSettings;
use crate::http::Tls;
use crate::model::token::Digest;
use crate::model::token::Grant;
use crate::model::token::Holder;
use crate::model::token::Role;
use crate::model::token::Scope;
use crate::model::token::TokenKind;
use crate::snapshot::ReplicaName;
use crate::store::StoreError;
use crate::store::lock_folder;
use anyhow::Context;
use secrecy::ExposeSecret;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use tokio::net::TcpListener;
use tracing::warn;

/// The file in the data directory with the key that signs the end of the audit log.
const AUDIT_KEY_FILE: &str = "audit.key";
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 4_096;

/// Says whether the key that signs the end of the audit log can be used, without making one.
///
/// # Errors
///
/// It is there and is no key, or it cannot be read.
pub fn check_audit_key(config: &Config) -> anyhow::Result<&'static str> {
    let own = config.data_dir.join(AUDIT_KEY_FILE);
    let path = config.audit_key.as_ref().unwrap_or(&own);
    if !path.exists() {
        return Ok("it is made at the first start");
    }
    HeadSigner::open(path).with_context(|| format!("could not use the key {}", path.display()))?;
    Ok("it can be read")
}

/// The key that signs the end of the audit log: the one that is configured, or one of the data directory.
pub(super) fn head_signer(config: &Config) -> anyhow::Result<HeadSigner> {
    if let Some(path) = &config.audit_key {
        let cannot = || format!("could not use the key {}", path.display());
        return HeadSigner::open(path).with_context(cannot);
    }
    let path = config.data_dir.join(AUDIT_KEY_FILE);
    match HeadSigner::open(&path) {
        Ok(signer) => Ok(signer),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(error.into()),
        Err(error) => {
            // Replicas over PostgreSQL need no folder that can be written.
            warn!(%error, "cannot keep a key for the audit log; its end is signed with one that ends with the process");
            Ok(HeadSigner::ephemeral()?)
        }
    }
}

/// Keeps other processes from the data directory; `None` if it cannot be written, for then this process keeps
/// nothing there, and only reads what an earlier one kept.
pub(super) fn lock_data_dir(data_dir: &Path) -> Result<Option<File>, StoreError> {
    match lock_folder(data_dir) {
        Ok(lock) => Ok(Some(lock)),
        Err(error @ StoreError::Locked(_)) => Err(error),
        Err(error) => {
            warn!(%error, "cannot keep anything in the data directory");
            Ok(None)
        }
    }
}

/// How other replicas call this process: the machine and the port.
pub(super) fn replica_name(listener: &TcpListener) -> ReplicaName {
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_string_lossy().into_owned();
    let port = listener.local_addr().map_or(0, |address| address.port());
    ReplicaName { id: Ids.next(), name: format!("{machine}:{port}") }
}

pub(super) fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        tokio::net::TcpSocket::new_v4()?
    } else {
        tokio::net::TcpSocket::new_v6()?
    };
    // So that a restart does not wait for connections of the process before it.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

pub(super) fn tls(config: &Config) -> anyhow::Result<Option<Tls>> {
    let Some((certificate, key)) = &config.tls else { return Ok(None) };
    Ok(Some(Tls::new(certificate.clone(), key.clone())?))
}

pub(super) fn limit_settings(config: &Config) -> LimitSettings {
    let limit = |rps, is_shadow| LimitSetting { rps, is_shadow };
    let shadow = config.limit_shadow;
    LimitSettings {
        replica: limit(config.limit_replica_rps, shadow.replica),
        client_address: limit(config.limit_client_address_rps, shadow.client_address),
        server_token: limit(config.limit_server_token_rps, shadow.server_token),
        admin_token: limit(config.limit_admin_token_rps, shadow.admin_token),
        triggers_are_shadow: shadow.trigger,
        bounds: BoundSettings {
            body_is_shadow: shadow.body,
            headers_are_shadow: shadow.headers,
            context_is_shadow: shadow.context,
        },
        trusted_proxies: config.trusted_proxies.0.clone(),
    }
}

pub(super) fn configured_tokens(config: &Config) -> Vec<(Digest, Grant)> {
    let grant = || Grant {
        id: "configured".to_owned(),
        name: "VEXIL_ADMIN_TOKEN".to_owned(),
        kind: TokenKind::Admin,
        role: Some(Role::Administrator),
        scope: Scope::All,
        holder: Some(Holder::Service),
        expires_at: None,
        signing: None,
    };
    let token = config.admin_token.iter();
    token.map(|token| (auth::digest(token.expose_secret()), grant())).collect()
}
