//! Directories and files: who may read them, and what is in them.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::{Finding, x509};
use crate::admin::read_token;
use crate::auth::Tokens;
use crate::config::Config;
use crate::issuer::Issuer;
use crate::keys;

/// A certificate that ends within so many days is warned of.
const EXPIRY_WARNING_DAYS: u64 = 14;
const DAY_S: u64 = 86_400;

/// The data directory: ours alone, and writable.
pub(super) fn data_dir(path: &Path) -> Finding {
    const CHECK: &str = "data directory";
    let place = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Finding::ok(CHECK, format!("{place} is made at the first start"));
        }
        Err(error) => {
            return Finding::fail(
                CHECK,
                format!("{place}: {error}"),
                "give the user that runs petrel the right to it, or set data_dir",
            );
        }
    };
    let mode = metadata.permissions().mode() & 0o777;
    let me = fs::metadata("/proc/self").map(|me| me.uid()).unwrap_or_default();
    if !metadata.is_dir() || metadata.permissions().readonly() || !may_write(&metadata, me) {
        return Finding::fail(
            CHECK,
            format!("{place} is no directory that this user may write to (mode {mode:04o})"),
            format!("chown it to the user that runs petrel, and chmod 700 {place}"),
        );
    }
    if mode & 0o077 != 0 {
        return Finding::warn(
            CHECK,
            format!("{place} has mode {mode:04o}: others may look into it"),
            format!("chmod 700 {place}"),
        );
    }
    Finding::ok(CHECK, format!("{place}, mode {mode:04o}"))
}

fn may_write(metadata: &fs::Metadata, me: u32) -> bool {
    let mode = metadata.permissions().mode();
    me == 0 || (metadata.uid() == me && mode & 0o300 == 0o300) || mode & 0o003 == 0o003
}

/// The key that signs tokens: whoever reads it can be anybody.
pub(super) fn token_key(config: &Config) -> Finding {
    const CHECK: &str = "token key";
    let configured = config.auth.key.as_deref();
    let path = configured.map_or_else(|| config.data_dir.join("token.key"), Path::to_owned);
    let place = path.display();
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(_) if configured.is_none() => {
            return Finding::ok(CHECK, format!("{place} is made at the first start"));
        }
        Err(error) => {
            return Finding::fail(CHECK, format!("auth.key: {place}: {error}"), "see auth.key");
        }
    };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Finding::fail(
            CHECK,
            format!("{place} has mode {mode:04o}: who reads it can sign in as anybody"),
            format!("chmod 600 {place}, and replace the key if others could read it"),
        );
    }
    let usable = fs::read_to_string(&path).map_err(anyhow::Error::from).and_then(|pem| {
        Tokens::new(&pem, &config.auth.audience, config.auth.token_life.0).map(drop)
    });
    match usable {
        Ok(()) => Finding::ok(CHECK, format!("{place}, mode {mode:04o}")),
        Err(error) => Finding::fail(
            CHECK,
            format!("{place}: {error:#}"),
            "it has to be an Ed25519 key in PKCS#8 PEM (openssl genpkey -algorithm ed25519)",
        ),
    }
}

/// The token of the admin API: whoever reads it can do everything.
pub(super) fn admin_token(config: &Config) -> Finding {
    const CHECK: &str = "admin token";
    let path = config.data_dir.join("admin.token");
    if config.admin.token.is_none() && !path.exists() {
        return Finding::ok(CHECK, format!("{} is made at the first start", path.display()));
    }
    match read_token(config) {
        Ok(_) if config.admin.token.is_some() => Finding::ok(CHECK, "admin.token is set"),
        Ok(_) => Finding::ok(CHECK, format!("{}, for its owner alone", path.display())),
        Err(error) => Finding::fail(
            CHECK,
            format!("{error:#}"),
            "remove the file, and the gateway makes another at its start; or set admin.token",
        ),
    }
}

/// The public keys of an outside issuer, if the settings name one.
pub(super) fn issuer(config: &Config) -> Option<Finding> {
    const CHECK: &str = "outside issuer";
    match Issuer::open(&config.auth_issuer) {
        Ok(None) => None,
        Ok(Some(issuer)) => Some(Finding::ok(CHECK, format!("keys of {}", issuer.name()))),
        Err(error) => Some(Finding::fail(
            CHECK,
            format!("{error:#}"),
            "fetch the issuer's JWKS (its jwks_uri) into auth.issuer.jwks",
        )),
    }
}

/// The certificate: readable, with its key, valid now, with names that clients can use.
pub(super) fn certificate(config: &Config) -> Finding {
    const CHECK: &str = "certificate";
    let development = keys::development_files(&config.data_dir);
    let (chain, key) = match (&config.tls.certificate, &config.tls.key) {
        (Some(chain), Some(key)) => (chain, key),
        _ if !development.0.exists() => {
            return Finding::ok(CHECK, "a self-signed one for development is made at the start");
        }
        _ => (&development.0, &development.1),
    };
    if let Err(error) = keys::read_certificate(chain, key) {
        return Finding::fail(
            CHECK,
            format!("{error:#}"),
            "tls.certificate is the PEM chain, leaf first; tls.key its private key",
        );
    }
    let leaf = CertificateDer::from_pem_file(chain).ok();
    let Some(facts) = leaf.as_ref().and_then(|leaf| x509::read(leaf)) else {
        return Finding::warn(
            CHECK,
            format!("{}: its dates and names cannot be read", chain.display()),
            "look at it with: openssl x509 -noout -dates -ext subjectAltName",
        );
    };
    judge(config, &chain.display().to_string(), &facts)
}

fn judge(config: &Config, place: &str, facts: &x509::Facts) -> Finding {
    const CHECK: &str = "certificate";
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let days = facts.not_after_s.abs_diff(now) / DAY_S;
    let names = facts.names.join(", ");
    let renew = "renew it; a changed file is used without a restart";
    if facts.not_after_s <= now {
        return Finding::fail(CHECK, format!("{place} has expired {days} days ago"), renew);
    }
    if facts.not_before_s > now {
        let advice = "see the clock, or wait";
        return Finding::fail(CHECK, format!("{place} is not valid yet"), advice);
    }
    let is_local = |name: &String| ["localhost", "127.0.0.1", "::1"].contains(&name.as_str());
    if !config.gateway.listen.ip().is_loopback() && facts.names.iter().all(is_local) {
        return Finding::fail(
            CHECK,
            format!(
                "{place} names only {names}: a development certificate, and gateway.listen is reachable from outside"
            ),
            "set tls.certificate and tls.key to a certificate with the name that clients dial",
        );
    }
    if days < EXPIRY_WARNING_DAYS {
        return Finding::warn(CHECK, format!("{place} ends in {days} days"), renew);
    }
    Finding::ok(CHECK, format!("{place} for {names}, good for {days} days"))
}
