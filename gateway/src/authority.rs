//! Certificates by which the gateways of a cluster know each other, and the authority that signs them: for
//! operators who have none of their own for it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::keys::{make_data_dir, write_private};

/// The authority's files in its directory. No gateway needs the key.
const CA: (&str, &str) = ("ca.pem", "ca.key");
/// Names of one call, at the most.
const NAMES_MAX: usize = 1_000;
/// Bytes of a name, at the most.
const NAME_BYTES_MAX: usize = 200;

/// Makes a certificate and a key (`NAME.pem`, `NAME.key`) for each of these gateways in a directory, and the authority if
/// there is none there yet. What exists is kept. Gives the files that were made.
///
/// # Errors
/// A name cannot be a DNS name, or a file can be neither read nor written.
pub fn make(dir: &Path, names: &[String]) -> Result<Vec<PathBuf>> {
    ensure!(names.len() <= NAMES_MAX, "at most {NAMES_MAX} names at once");
    make_data_dir(dir)?;
    let mut made = Vec::new();
    let authority = authority(dir, &mut made)?;
    for name in names {
        let (certificate, key) = (file(dir, name, "pem")?, file(dir, name, "key")?);
        if certificate.exists() {
            continue;
        }
        let pair = new_key()?;
        let mut params = CertificateParams::new(vec![name.clone()])
            .with_context(|| format!("{name:?} cannot be a DNS name"))?;
        params.distinguished_name.push(DnType::CommonName, name.as_str());
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let signed = params.signed_by(&pair, &authority).context("cannot sign")?;
        write_private(&key, pair.serialize_pem().as_bytes())?;
        write_private(&certificate, signed.pem().as_bytes())?;
        made.push(certificate);
    }
    Ok(made)
}

/// Reads the authority's key, or makes it with its certificate. What the certificate says follows from the key.
fn authority(dir: &Path, made: &mut Vec<PathBuf>) -> Result<Issuer<'static, KeyPair>> {
    let (certificate, key) = (dir.join(CA.0), dir.join(CA.1));
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Petrel cluster");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    if !certificate.exists() {
        let pair = new_key()?;
        let signed = params.self_signed(&pair).context("cannot make the authority")?;
        write_private(&key, pair.serialize_pem().as_bytes())?;
        write_private(&certificate, signed.pem().as_bytes())?;
        made.push(certificate);
    }
    let text =
        fs::read_to_string(&key).with_context(|| format!("cannot read {}", key.display()))?;
    let pair = KeyPair::from_pem(&text).with_context(|| format!("{}: not a key", key.display()))?;
    Ok(Issuer::new(params, pair))
}

fn new_key() -> Result<KeyPair> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).context("cannot make a key")
}

fn file(dir: &Path, name: &str, extension: &str) -> Result<PathBuf> {
    let is_plain = (1..=NAME_BYTES_MAX).contains(&name.len())
        && format!("{name}.pem") != CA.0
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
        && !name.starts_with(['.', '-']);
    ensure!(is_plain, "{name:?} cannot be a gateway's name: letters, digits, - and .");
    Ok(dir.join(format!("{name}.{extension}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::cluster::identity::Identity;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn certificates_name_their_gateway_and_later_ones_are_signed_by_the_same_authority() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(make(dir.path(), &names(&["gw-1"])).unwrap().len(), 2);
        assert_eq!(make(dir.path(), &names(&["gw-1", "gw-2"])).unwrap().len(), 1);
        let at = |name: &str| dir.path().join(name);
        let read = |file: &str, name: &str| {
            let (chain, key) = (at(&format!("{file}.pem")), at(&format!("{file}.key")));
            Identity::read(&at("ca.pem"), &chain, &key, name)
        };
        assert!(read("gw-1", "gw-1").is_ok() && read("gw-2", "gw-2").is_ok());
        let error = format!("{:#}", read("gw-2", "gw-1").unwrap_err());
        assert!(error.contains("cluster.certificate") && error.contains("gw-1"), "{error}");
    }

    #[test]
    fn names_that_are_no_file_or_no_host_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["", "ca", "../x", "a b", ".x"] {
            assert!(make(dir.path(), &names(&[name])).is_err(), "{name}");
        }
    }
}
