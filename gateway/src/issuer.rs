//! Tokens of an outside issuer (OpenID Connect and the like), verified by the public keys of a
//! JWKS file (RFC 7517). Whoever runs the gateway fetches the file; it is read again when it changes.
//!
//! **Invariant:** which algorithm a signature is judged by comes from the key, never from the token:
//! a key is good for the one algorithm of its type.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use parking_lot::RwLock;
use petrel_core::error::Rejection;
use petrel_core::limits::OUTSIDE_TOKEN_BYTES_MAX;
use serde::Deserialize;
use serde_json::Value;

use crate::config::{Issuer as Settings, IssuerAlgorithm};
use crate::gateway::Gateway;

/// Between two looks at the file.
const INTERVAL: Duration = Duration::from_secs(2);
/// Bytes of a JWKS file, at the most.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Keys of a JWKS file, at the most.
const KEYS_MAX: usize = 64;
/// Bytes of a subject, at the most (as OpenID Connect has it).
const SUBJECT_BYTES_MAX: usize = 255;

/// One of the issuer's keys.
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// When a file was changed, and its length.
type Stamp = Option<(SystemTime, u64)>;

/// The file as it was last read.
#[derive(Default)]
struct Keys {
    stamp: Stamp,
    all: Vec<Key>,
}

/// Whom a verified token speaks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    /// The issuer's name for him, which never changes.
    pub subject: String,
    /// The user name that he would like.
    pub preferred_name: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    /// Whatever it is: one that is no text is as good as none.
    #[serde(default)]
    preferred_username: Value,
}

/// Verifies tokens.
pub(crate) struct Issuer {
    name: String,
    jwks: PathBuf,
    algorithms: Vec<Algorithm>,
    validation: Validation,
    keys: RwLock<Keys>,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Issuer {
    /// The one that the settings name; `None`: they name none.
    ///
    /// # Errors
    /// If its file cannot be read, or has no key of an allowed algorithm.
    pub(crate) fn open(settings: &Settings) -> Result<Option<Self>> {
        let (Some(name), Some(audience), Some(jwks)) =
            (&settings.name, &settings.audience, &settings.jwks)
        else {
            return Ok(None);
        };
        let algorithms: Vec<_> = settings.algorithms.iter().copied().map(algorithm).collect();
        // The algorithm is put in for each token.
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[name]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "sub", "aud", "iss"]);
        validation.validate_nbf = true;
        validation.leeway = settings.leeway.0 / 1000;
        let issuer = Self {
            name: name.clone(),
            jwks: jwks.clone(),
            algorithms,
            validation,
            keys: RwLock::default(),
        };
        issuer.read_again().context("auth.issuer.jwks")?;
        Ok(Some(issuer))
    }

    /// The issuer's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Reads the file again if it has changed; the number of its keys if they are used now.
    ///
    /// # Errors
    /// If it cannot be used; the keys that were stay.
    fn read_again(&self) -> Result<Option<usize>> {
        // Before the reading: what is written meanwhile is read the next time.
        let stamp = stamp_of(&self.jwks);
        if stamp.is_some() && stamp == self.keys.read().stamp {
            return Ok(None);
        }
        let all = read(&self.jwks, &self.algorithms)
            .with_context(|| format!("{}", self.jwks.display()))?;
        let count = all.len();
        *self.keys.write() = Keys { stamp, all };
        Ok(Some(count))
    }

    /// Says whom a token speaks for.
    ///
    /// # Errors
    /// [`Rejection::Reauthenticate`] if it has expired, [`Rejection::TokenInvalid`] for any other fault.
    pub(crate) fn verify(&self, token: &str) -> Result<Subject, Rejection> {
        if token.len() > OUTSIDE_TOKEN_BYTES_MAX {
            return Err(invalid("too long"));
        }
        let header = decode_header(token)
            .map_err(|_| invalid("it is no signed token, or its algorithm is not known"))?;
        if !self.algorithms.contains(&header.alg) {
            return Err(invalid("its algorithm is none of those that are believed"));
        }
        if header.crit.is_some() {
            return Err(invalid("its header asks for an extension (crit)"));
        }
        let keys = self.keys.read();
        let key = choose(&keys.all, &header)?;
        let mut validation = self.validation.clone();
        validation.algorithms = vec![key.algorithm];
        let claims = decode::<Claims>(token, &key.key, &validation)
            .map_err(|error| refusal(error.kind()))?
            .claims;
        let subject = claims.sub;
        if !(1..=SUBJECT_BYTES_MAX).contains(&subject.len()) || subject.contains(char::is_control) {
            return Err(invalid("its subject is empty, too long or has control characters"));
        }
        let preferred_name = claims.preferred_username.as_str().map(str::to_owned);
        Ok(Subject { subject, preferred_name })
    }
}

fn algorithm(allowed: IssuerAlgorithm) -> Algorithm {
    match allowed {
        IssuerAlgorithm::EdDSA => Algorithm::EdDSA,
        IssuerAlgorithm::ES256 => Algorithm::ES256,
        IssuerAlgorithm::RS256 => Algorithm::RS256,
    }
}

fn invalid(problem: &'static str) -> Rejection {
    Rejection::TokenInvalid { problem }
}

fn refusal(kind: &ErrorKind) -> Rejection {
    match kind {
        ErrorKind::ExpiredSignature => Rejection::Reauthenticate,
        ErrorKind::ImmatureSignature => invalid("it is not valid yet"),
        ErrorKind::InvalidSignature => invalid("the signature is wrong"),
        ErrorKind::InvalidAudience => invalid("it is for another service"),
        ErrorKind::InvalidIssuer => invalid("it is of another issuer"),
        ErrorKind::MissingRequiredClaim(_) => invalid("one of exp, sub, aud, iss is missing"),
        _ => invalid("it cannot be read"),
    }
}

/// The key that a token names; one that names none is judged by the only key of its algorithm.
fn choose<'a>(keys: &'a [Key], header: &Header) -> Result<&'a Key, Rejection> {
    let mut fitting = keys.iter().filter(|key| key.algorithm == header.alg);
    if header.kid.is_some() {
        return fitting
            .find(|key| key.id == header.kid)
            .ok_or_else(|| invalid("the issuer has no key of its key id and algorithm"));
    }
    match (fitting.next(), fitting.next()) {
        (Some(key), None) => Ok(key),
        (None, _) => Err(invalid("the issuer has no key of its algorithm")),
        (Some(_), Some(_)) => Err(invalid("it names no key (kid), and the issuer has several")),
    }
}

fn stamp_of(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// The keys of a file that are meant for signatures of an allowed algorithm. Others are none of our
/// business: a set may have some for encryption, or of kinds that are newer than this.
fn read(path: &Path, algorithms: &[Algorithm]) -> Result<Vec<Key>> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let mut text = String::new();
    File::open(path)
        .context("cannot be read")?
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .context("cannot be read as text")?;
    if text.len() as u64 > FILE_BYTES_MAX {
        bail!("has more than {FILE_BYTES_MAX} bytes");
    }
    let set: Set = serde_json::from_str(&text).context("is no JWKS (RFC 7517)")?;
    if set.keys.len() > KEYS_MAX {
        bail!("has {} keys; at most {KEYS_MAX}", set.keys.len());
    }
    let usable = |value| usable(value).filter(|key| algorithms.contains(&key.algorithm));
    let keys: Vec<Key> = set.keys.into_iter().filter_map(usable).collect();
    if keys.is_empty() {
        bail!("has no key for signatures of the algorithms {algorithms:?}");
    }
    Ok(keys)
}

fn usable(value: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        _ => return None,
    };
    let common = &jwk.common;
    let is_meant = common.key_algorithm.is_none_or(|named| named == algorithm.into())
        && common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature)
        && common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    let key = DecodingKey::from_jwk(&jwk).ok().filter(|_| is_meant)?;
    Some(Key { id: jwk.common.key_id, algorithm, key })
}

/// Looks at the file again and again, until the gateway stops.
pub(crate) async fn watch(gateway: Arc<Gateway>) {
    let Some(issuer) = &gateway.issuer else { return };
    let watching = async {
        loop {
            tokio::time::sleep(INTERVAL).await;
            match issuer.read_again() {
                Ok(None) => {}
                Ok(Some(keys)) => tracing::info!(keys, "the issuer's keys were read again"),
                Err(error) => tracing::error!(
                    error = format!("{error:#}"),
                    "auth.issuer.jwks has changed and cannot be used; the keys that were stay"
                ),
            }
        }
    };
    gateway.stopping.run_until_cancelled(watching).await;
}

#[cfg(test)]
#[path = "issuer/tests.rs"]
mod tests;
