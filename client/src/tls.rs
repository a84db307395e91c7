//! Which server certificate is believed, and the TLS settings around it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};

use crate::error::ClientError;

/// Which server certificate is believed.
#[derive(Clone, Debug)]
pub enum Trust {
    /// The one whose DER bytes have this SHA-256; names and dates don't matter.
    Fingerprint([u8; 32]),
    /// Those that lead to a certificate in this PEM file.
    CaFile(PathBuf),
    /// Those that lead to a certificate in these PEM bytes.
    CaPem(Vec<u8>),
}

impl Trust {
    /// A pinned certificate from 64 hexadecimal digits (colons are ignored).
    ///
    /// # Errors
    /// [`ClientError::Invalid`] if the text is no fingerprint.
    pub fn from_fingerprint_hex(text: &str) -> Result<Self, ClientError> {
        hex_32(&text.replace(':', "")).map(Self::Fingerprint).ok_or_else(|| {
            ClientError::Invalid("a fingerprint has 64 hexadecimal digits".to_owned())
        })
    }
}

/// 32 bytes from 64 hexadecimal digits.
pub(crate) fn hex_32(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// TLS 1.3 with X25519 first (a ClientHello in one packet), early data off until somebody has use for it, and
/// `sessions` resumption tickets kept in memory (0: every handshake is a full one).
///
/// # Errors
/// [`ClientError::Invalid`] if the authority's PEM cannot be read or holds no certificate.
pub fn client_config(trust: &Trust, sessions: usize) -> Result<ClientConfig, ClientError> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![
        aws_lc_rs::kx_group::X25519,
        aws_lc_rs::kx_group::SECP256R1,
        aws_lc_rs::kx_group::SECP384R1,
    ];
    let provider = Arc::new(provider);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| ClientError::Invalid(format!("TLS: {error}")))?;
    let mut config = match trust {
        Trust::Fingerprint(sha256) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned { sha256: *sha256, provider }))
            .with_no_client_auth(),
        Trust::CaFile(path) => {
            let pem = std::fs::read(path).map_err(|error| {
                ClientError::Invalid(format!("CA file {}: {error}", path.display()))
            })?;
            builder.with_root_certificates(roots(&pem)?).with_no_client_auth()
        }
        Trust::CaPem(pem) => builder.with_root_certificates(roots(pem)?).with_no_client_auth(),
    };
    config.alpn_protocols = vec![petrel_proto::version::ALPN.to_vec()];
    config.enable_early_data = false;
    config.resumption = match sessions {
        0 => Resumption::disabled(),
        sessions => Resumption::in_memory_sessions(sessions),
    };
    Ok(config)
}

fn roots(pem: &[u8]) -> Result<RootCertStore, ClientError> {
    let invalid = |why: String| ClientError::Invalid(format!("CA certificates: {why}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
        roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(invalid("none in the PEM".to_owned()));
    }
    Ok(roots)
}

struct Pinned {
    sha256: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pinned")
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if <[u8; 32]>::from(Sha256::digest(end_entity.as_ref())) == self.sha256 {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::InvalidCertificate(
            rustls::CertificateError::ApplicationVerificationFailure,
        ))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_with_and_without_colons() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        for text in [plain, colons] {
            assert!(matches!(
                Trust::from_fingerprint_hex(&text),
                Ok(Trust::Fingerprint(bytes)) if bytes == [0xab; 32]
            ));
        }
        for text in ["", "ab", "zz", &"g".repeat(64), &"é".repeat(32)] {
            assert!(Trust::from_fingerprint_hex(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_ca_file_without_certificates_is_refused() {
        assert!(client_config(&Trust::CaPem(b"nothing".to_vec()), 8).is_err());
        assert!(client_config(&Trust::CaFile("/nonexistent".into()), 8).is_err());
        assert!(client_config(&Trust::Fingerprint([0; 32]), 0).is_ok());
    }
}
