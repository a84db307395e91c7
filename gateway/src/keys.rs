//! What the data directory keeps: the development certificate and the key that
//! signs tokens. Made at the first start; private files have mode 0600.

pub(crate) mod validity;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use aws_lc_rs::{hkdf, hmac};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

pub use validity::valid_until;

/// A certificate chain with its key, and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    /// For rustls.
    pub key: Arc<CertifiedKey>,
    /// SHA-256 of the leaf, for pinning.
    pub fingerprint: [u8; 32],
    /// When the leaf ends, in seconds since 1970, if it says so legibly.
    pub valid_until_s: Option<u64>,
}

/// The provider of cryptography for the whole process: aws-lc-rs, X25519
/// before the larger post-quantum exchange, so that a ClientHello fits into one packet.
pub(crate) fn provider() -> CryptoProvider {
    use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
    CryptoProvider {
        kx_groups: vec![kx_group::X25519, kx_group::X25519MLKEM768, kx_group::SECP256R1],
        ..default_provider()
    }
}

/// Makes the data directory (mode 0700) if it is missing.
///
/// # Errors
/// If it cannot be made.
pub fn make_data_dir(dir: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("data_dir: cannot make {}", dir.display()))
}

/// Reads a certificate chain and its key from PEM files.
///
/// # Errors
/// If one cannot be read, has nothing in it, or they do not belong together;
/// the text names the setting and the file.
pub(crate) fn read_certificate(chain: &Path, key: &Path) -> Result<Certificate> {
    let in_chain = || format!("tls.certificate: {}", chain.display());
    let certs: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(chain)
        .with_context(in_chain)?
        .collect::<Result<_, _>>()
        .with_context(in_chain)?;
    let Some(leaf) = certs.first() else {
        bail!("tls.certificate: {} has no certificate in it", chain.display());
    };
    let fingerprint = Sha256::digest(leaf).into();
    let valid_until_s = valid_until(leaf);
    let in_key = || format!("tls.key: {}", key.display());
    let private = PrivateKeyDer::from_pem_file(key).with_context(in_key)?;
    let key = CertifiedKey::from_der(certs, private, &provider())
        .with_context(|| format!("{} does not belong to {}", in_key(), chain.display()))?;
    Ok(Certificate { key: Arc::new(key), fingerprint, valid_until_s })
}

/// The files of the development certificate.
pub(crate) fn development_files(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join("certificate.pem"), dir.join("certificate.key"))
}

/// Reads the development certificate; makes it at the first start.
///
/// # Errors
/// If it can neither be read nor made.
pub(crate) fn development_certificate(dir: &Path) -> Result<Certificate> {
    let (chain, key) = development_files(dir);
    if !chain.exists() {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
            .context("cannot make a key for the development certificate")?;
        let cert = rcgen::CertificateParams::new(names)
            .and_then(|params| params.self_signed(&pair))
            .context("cannot make the development certificate")?;
        write_private(&key, pair.serialize_pem().as_bytes())?;
        write_private(&chain, cert.pem().as_bytes())?;
    }
    read_certificate(&chain, &key)
}

/// SHA-256 of the development certificate, for a client that runs beside the gateway.
///
/// # Errors
/// If there is none, or it cannot be read.
pub fn development_fingerprint(dir: &Path) -> Result<[u8; 32]> {
    let (chain, _) = development_files(dir);
    let leaf = CertificateDer::from_pem_file(&chain)
        .with_context(|| format!("cannot read {}", chain.display()))?;
    Ok(Sha256::digest(&leaf).into())
}

/// Reads the PEM of the key that signs tokens; makes it at the first start.
///
/// # Errors
/// If it can neither be read nor made.
pub(crate) fn token_key_pem(configured: Option<&Path>, dir: &Path) -> Result<String> {
    let path = configured.map_or_else(|| dir.join("token.key"), Path::to_owned);
    if configured.is_none() && !path.exists() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)
            .context("cannot make a key for tokens")?;
        write_private(&path, pair.serialize_pem().as_bytes())?;
    }
    fs::read_to_string(&path).with_context(|| format!("auth.key: cannot read {}", path.display()))
}

/// What makes a gateway that was started again on the same address tell its former clients at
/// once (by a stateless reset) that it does not know them any more, and know their addresses again.
pub(crate) struct ResetKeys {
    /// Authenticates resets.
    pub resets: hmac::Key,
    /// Signs our connection ids.
    pub ids: hmac::Key,
    /// Encrypts the tokens by which the address of a client that comes back is known.
    pub tokens: hkdf::Prk,
}

/// Reads the secret of resets; makes it at the first start. Gateways that share a data
/// directory have keys of their own, by their address: a reset of one means nothing at another. The
/// key of tokens is the same for all of them.
///
/// # Errors
/// If it can neither be read nor made.
pub(crate) fn reset_keys(dir: &Path, listen: SocketAddr) -> Result<ResetKeys> {
    let path = dir.join("reset.key");
    if !path.exists() {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret)
            .map_err(|_| anyhow::anyhow!("cannot make a key for resets"))?;
        write_private(&path, hex(&secret).as_bytes())?;
    }
    let secret =
        fs::read(&path).with_context(|| format!("data_dir: cannot read {}", path.display()))?;
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    let derived = |purpose: &str| hmac::sign(&secret, format!("{purpose} {listen}").as_bytes());
    let key = |purpose| hmac::Key::new(hmac::HMAC_SHA256, derived(purpose).as_ref());
    let tokens = hmac::sign(&secret, b"address tokens");
    let tokens = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(tokens.as_ref());
    Ok(ResetKeys { resets: key("resets"), ids: key("connection ids"), tokens })
}

/// Writes a file that only we may read, whole or not at all.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> io::Result<()> {
        let unfinished = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        // Writing to a String cannot fail.
        write!(out, "{b:02x}").ok();
        out
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use quinn_proto::crypto::HandshakeTokenKey as _;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn keys_are_private_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let first = development_certificate(dir.path()).unwrap();
        let again = development_certificate(dir.path()).unwrap();
        assert_eq!(first.fingerprint, again.fingerprint);
        let token = token_key_pem(None, dir.path()).unwrap();
        assert_eq!(token, token_key_pem(None, dir.path()).unwrap());
        for name in ["certificate.key", "token.key"] {
            let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn keys_of_resets_are_kept_and_differ_by_address() {
        let dir = tempfile::tempdir().unwrap();
        let keys = |port| {
            let keys = reset_keys(dir.path(), SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
            [keys.resets, keys.ids].map(|key| hmac::sign(&key, b"id").as_ref().to_vec())
        };
        let token_key = |port| {
            let keys = reset_keys(dir.path(), SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
            keys.tokens.aead_from_hkdf(b"nonce")
        };
        let mut token = b"address".to_vec();
        token_key(4433).seal(&mut token, &[]).unwrap();
        assert_eq!(token_key(4434).open(&mut token, &[]).unwrap(), b"address");
        assert_eq!(keys(4433), keys(4433));
        assert_ne!(keys(4433)[0], keys(4434)[0]);
        assert_ne!(keys(4433)[1], keys(4434)[1]);
        let mode = fs::metadata(dir.path().join("reset.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn an_unreadable_certificate_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing.pem");
        let error = format!("{:#}", read_certificate(&missing, &missing).unwrap_err());
        assert!(error.contains("tls.certificate") && error.contains("missing.pem"), "{error}");
        let empty = dir.path().join("empty.pem");
        fs::write(&empty, "").unwrap();
        let error = format!("{:#}", read_certificate(&empty, &empty).unwrap_err());
        assert!(error.contains("no certificate"), "{error}");
    }
}
