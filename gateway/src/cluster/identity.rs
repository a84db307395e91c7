//! By what gateways know each other: certificates that the cluster's authority has signed, and that carry their names.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::RootCertStore;
use rustls::client::verify_server_name;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::keys;

/// Of the links, not of clients.
const ALPN: &[u8] = b"petrel-node/1";

/// A certificate that the cluster's authority has signed, and the authority.
#[derive(Debug)]
pub(crate) struct Identity {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads the files of `cluster.ca`, `cluster.certificate` and `cluster.key`, and sees that the
    /// certificate is this node's.
    ///
    /// # Errors
    /// Names the setting and what is wrong with its file.
    pub(crate) fn read(ca: &Path, certificate: &Path, key: &Path, name: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for root in certificates(ca).context("cluster.ca")? {
            roots.add(root).with_context(|| format!("cluster.ca: {}", ca.display()))?;
        }
        let chain = certificates(certificate).context("cluster.certificate")?;
        let key = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| anyhow::anyhow!("cluster.key: {}: {error}", key.display()))?;
        let is_own = chain.first().is_some_and(|own| is_of(own, name));
        anyhow::ensure!(
            is_own,
            "cluster.certificate: {} is not a certificate of {name:?} (cluster.name); make one with `petrel cluster certificates`",
            certificate.display()
        );
        Ok(Self { roots: Arc::new(roots), chain, key })
    }

    /// For links that are accepted.
    pub(super) fn server(&self) -> Result<QuicServerConfig> {
        let provider = Arc::new(keys::provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::clone(&self.roots),
            Arc::clone(&provider),
        )
        .build()
        .context("cluster.ca")?;
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context("TLS 1.3 is not available")?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .context("cluster.certificate and cluster.key")?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        QuicServerConfig::try_from(tls).context("TLS for QUIC is not available")
    }

    /// For links that are dialed.
    pub(super) fn client(&self) -> Result<QuicClientConfig> {
        let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(keys::provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context("TLS 1.3 is not available")?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .context("cluster.certificate and cluster.key")?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        QuicClientConfig::try_from(tls).context("TLS for QUIC is not available")
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = |error: &dyn std::fmt::Display| anyhow::anyhow!("{}: {error}", path.display());
    let found = CertificateDer::pem_file_iter(path).map_err(|error| read(&error))?;
    let found: Result<Vec<_>, _> = found.collect();
    let found = found.map_err(|error| read(&error))?;
    anyhow::ensure!(!found.is_empty(), "{}: no certificate in it", path.display());
    Ok(found)
}

/// Whether a certificate names this node (subjectAltName, RFC 9525).
pub(super) fn is_of(certificate: &CertificateDer<'_>, name: &str) -> bool {
    let Ok(name) = ServerName::try_from(name) else { return false };
    ParsedCertificate::try_from(certificate)
        .is_ok_and(|parsed| verify_server_name(&parsed, &name).is_ok())
}
