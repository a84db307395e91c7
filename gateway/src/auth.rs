//! Tokens: short-lived, signed with Ed25519 (JWT, RFC 7519 and RFC 8037). Who
//! somebody is comes from here alone.

use anyhow::{Context, Result};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use petrel_core::error::Rejection;
use petrel_core::id::{DeviceId, UserId};
use petrel_core::limits::TOKEN_BYTES_MAX;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A verified identity. Only [`Tokens::verify`] makes one, so whoever holds it was signed in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    user: UserId,
    device: DeviceId,
    expires_ms: u64,
}

impl Identity {
    /// Whose the token is.
    pub(crate) fn user(&self) -> UserId {
        self.user
    }

    /// The device it was given to.
    pub(crate) fn device(&self) -> DeviceId {
        self.device
    }

    /// When it ends: Unix milliseconds.
    pub(crate) fn expires_ms(&self) -> u64 {
        self.expires_ms
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    did: String,
    aud: String,
    iat: u64,
    exp: u64,
    jti: String,
}

/// Signs and verifies tokens.
pub(crate) struct Tokens {
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
    header: Header,
    audience: String,
    life_ms: u64,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("audience", &self.audience).finish_non_exhaustive()
    }
}

impl Tokens {
    /// From the PEM of an Ed25519 private key.
    ///
    /// # Errors
    /// If the PEM holds no such key.
    pub(crate) fn new(pem: &str, audience: &str, life_ms: u64) -> Result<Self> {
        let pair = rcgen::KeyPair::from_pem(pem).context("auth.key: not a private key in PEM")?;
        if pair.algorithm() != &rcgen::PKCS_ED25519 {
            anyhow::bail!("auth.key: not an Ed25519 key");
        }
        let signing = EncodingKey::from_ed_pem(pem.as_bytes())
            .context("auth.key: not an Ed25519 private key in PKCS #8 PEM")?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "sub", "aud"]);
        validation.leeway = 0;
        Ok(Self {
            signing,
            verifying: DecodingKey::from_ed_der(pair.public_key_raw()),
            validation,
            header: Header::new(Algorithm::EdDSA),
            audience: audience.to_owned(),
            life_ms,
        })
    }

    /// Makes a token, good from `now_ms` (Unix milliseconds) on. Its end is in whole seconds.
    ///
    /// # Errors
    /// [`Rejection::Internal`] if it cannot be signed.
    pub(crate) fn issue(
        &self,
        user: UserId,
        device: DeviceId,
        now_ms: u64,
    ) -> Result<(String, u64), Rejection> {
        let exp = (now_ms + self.life_ms) / 1000;
        let claims = Claims {
            sub: user.to_string(),
            did: device.to_string(),
            aud: self.audience.clone(),
            iat: now_ms / 1000,
            exp,
            jti: Uuid::now_v7().to_string(),
        };
        jsonwebtoken::encode(&self.header, &claims, &self.signing)
            .map(|token| (token, exp * 1000))
            .map_err(|error| {
                tracing::error!(%error, "a token cannot be signed");
                Rejection::Internal
            })
    }

    /// Says whose a token is.
    ///
    /// # Errors
    /// [`Rejection::Reauthenticate`] if it has expired, [`Rejection::TokenInvalid`] for any other fault.
    pub(crate) fn verify(&self, token: &str) -> Result<Identity, Rejection> {
        let invalid = |problem| Rejection::TokenInvalid { problem };
        if token.len() > TOKEN_BYTES_MAX {
            return Err(invalid("too long"));
        }
        let data = jsonwebtoken::decode::<Claims>(token, &self.verifying, &self.validation)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => Rejection::Reauthenticate,
                ErrorKind::InvalidSignature => invalid("the signature is wrong"),
                ErrorKind::InvalidAudience => invalid("it is for another service"),
                ErrorKind::InvalidAlgorithm => invalid("the algorithm is not EdDSA"),
                _ => invalid("it cannot be read"),
            })?;
        let id = |text: &str| Uuid::try_parse(text).map_err(|_| invalid("it cannot be read"));
        Ok(Identity {
            user: id(&data.claims.sub)?.into(),
            device: id(&data.claims.did)?.into(),
            expires_ms: data.claims.exp.saturating_mul(1000),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use crate::clock::unix_ms;

    fn tokens(audience: &str) -> Tokens {
        let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
        Tokens::new(&pem, audience, 60_000).unwrap()
    }

    #[test]
    fn a_token_says_who_it_is_for() {
        let tokens = tokens("petrel");
        let (user, device) = (UserId([1; 16]), DeviceId([2; 16]));
        let (token, expires_ms) = tokens.issue(user, device, unix_ms()).unwrap();
        let identity = tokens.verify(&token).unwrap();
        assert_eq!((identity.user(), identity.device()), (user, device));
        assert_eq!(identity.expires_ms(), expires_ms);
    }

    #[test]
    fn expired_forged_foreign_and_unsigned_tokens_are_told_apart() {
        let ours = tokens("petrel");
        let (user, device) = (UserId([1; 16]), DeviceId([2; 16]));
        let (old, _) = ours.issue(user, device, unix_ms() - 120_000).unwrap();
        assert_eq!(ours.verify(&old).unwrap_err(), Rejection::Reauthenticate);

        let invalid = |token: &str| match ours.verify(token).unwrap_err() {
            Rejection::TokenInvalid { problem } => problem,
            other => format!("{other:?}").leak(),
        };
        let (forged, _) = tokens("petrel").issue(user, device, unix_ms()).unwrap();
        assert_eq!(invalid(&forged), "the signature is wrong");

        let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
        let (one, other) = (
            Tokens::new(&pem, "petrel", 60_000).unwrap(),
            Tokens::new(&pem, "another", 60_000).unwrap(),
        );
        let (foreign, _) = other.issue(user, device, unix_ms()).unwrap();
        assert_eq!(
            one.verify(&foreign).unwrap_err(),
            Rejection::TokenInvalid { problem: "it is for another service" }
        );

        // {"alg":"none"} and an HMAC header over the same claims.
        let (good, _) = ours.issue(user, device, unix_ms()).unwrap();
        let claims = good.split('.').nth(1).unwrap();
        for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJIUzI1NiJ9"] {
            assert!(ours.verify(&format!("{header}.{claims}.")).is_err());
        }
        assert_eq!(invalid(&"x".repeat(TOKEN_BYTES_MAX + 1)), "too long");
        assert_eq!(invalid("gibberish"), "it cannot be read");
    }
}
