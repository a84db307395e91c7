//! Log-in with tokens of an outside issuer, whose public keys are in a file.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use petrel_client::{ClientError, ClientOptions, Code, Identity, Token};
use petrel_tests::cluster::{Gateway, PATIENCE, Stage, eventually};
use petrel_tests::on_both_stores;
use petrel_tests::raw;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use serde_json::{Value, json};

use crate::somebody::Somebody;

on_both_stores!(
    an_outside_token_makes_an_account_once_and_a_device_each_time,
    a_token_that_is_not_believed_makes_nothing,
    many_first_log_ins_at_once_are_one_account,
    the_keys_of_the_issuer_change_without_a_restart,
);

const NAME: &str = "https://id.example.com";

struct Key {
    id: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
    jwk: Jwk,
}

impl Key {
    fn new(id: &'static str, algorithm: Algorithm) -> Result<Self> {
        let (key, mut jwk) = if algorithm == Algorithm::EdDSA {
            let pair = KeyPair::generate_for(&PKCS_ED25519)?;
            let public = DecodingKey::from_ed_der(pair.public_key_raw());
            let key = EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes())?;
            (key, Jwk::from_decoding_key(&public, Some(algorithm))?)
        } else {
            let pem = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?.serialize_pem();
            let key = EncodingKey::from_ec_pem(pem.as_bytes())?;
            let jwk = Jwk::from_encoding_key(&key, algorithm)?;
            (key, jwk)
        };
        jwk.common.key_id = Some(id.to_owned());
        Ok(Self { id, algorithm, key, jwk })
    }

    fn token(&self, claims: &Value) -> Result<String> {
        let header = Header { kid: Some(self.id.to_owned()), ..Header::new(self.algorithm) };
        Ok(jsonwebtoken::encode(&header, claims, &self.key)?)
    }
}

/// The issuer: a directory with its file.
struct Issuer {
    dir: tempfile::TempDir,
}

impl Issuer {
    fn new(keys: &[&Key]) -> Result<Self> {
        let issuer = Self { dir: tempfile::tempdir()? };
        issuer.publish(keys)?;
        Ok(issuer)
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("jwks.json")
    }

    /// As people do it who know that somebody may be reading.
    fn publish(&self, keys: &[&Key]) -> Result<()> {
        let keys: Vec<&Jwk> = keys.iter().map(|key| &key.jwk).collect();
        let unfinished = self.dir.path().join("new");
        std::fs::write(&unfinished, json!({ "keys": keys }).to_string())?;
        Ok(std::fs::rename(unfinished, self.file())?)
    }

    async fn gateway(&self, stage: &Stage) -> Result<Gateway> {
        let jwks = format!("auth.issuer.jwks={}", self.file().display());
        let name = format!("auth.issuer.name={NAME}");
        stage.gateway(&[&name, "auth.issuer.audience=petrel", &jwks]).await
    }
}

fn claims(subject: &str, wanted: Option<&str>) -> Value {
    let exp = raw::now_ms() / 1000 + 600;
    json!({ "iss": NAME, "aud": "petrel", "sub": subject, "exp": exp, "preferred_username": wanted })
}

async fn log_in(gateway: &Gateway, token: &str) -> Result<(Identity, Token), ClientError> {
    let dialer = gateway.dialer().map_err(|error| ClientError::Protocol(error.to_string()))?;
    dialer.log_in_with_token(token, "phone").await
}

async fn refused(gateway: &Gateway, token: &str) -> Result<(Code, String)> {
    match log_in(gateway, token).await {
        Err(ClientError::Refused { code, text, .. }) => Ok((code, text)),
        other => bail!("instead of a refusal: {other:?}"),
    }
}

/// Signs in with what a log-in gave; the user's name.
async fn name_of(gateway: &Gateway, (identity, token): (Identity, Token)) -> Result<String> {
    let mut options = ClientOptions::new(gateway.dialer()?, identity);
    options.token = Some(token);
    let (client, _events) = petrel_client::Client::start(options).await?;
    let account = client.account().await?;
    client.close().await;
    Ok(account.user.name)
}

async fn an_outside_token_makes_an_account_once_and_a_device_each_time(stage: Stage) -> Result<()> {
    let key = Key::new("1", Algorithm::EdDSA)?;
    let issuer = Issuer::new(&[&key])?;
    let gateway = issuer.gateway(&stage).await?;
    let taken = Somebody::new(&gateway, "bob").await?;

    let token = key.token(&claims("4711", Some("Alice@example.com")))?;
    let (first, second) = (log_in(&gateway, &token).await?, log_in(&gateway, &token).await?);
    assert_eq!(first.0.user, second.0.user);
    assert_ne!(first.0.device, second.0.device);
    assert_eq!(name_of(&gateway, first).await?, "alice");
    // Later names change nothing.
    let renamed = log_in(&gateway, &key.token(&claims("4711", Some("carol")))?).await?;
    assert_eq!(renamed.0.user, second.0.user);
    assert_eq!(name_of(&gateway, second).await?, "alice");

    // A name is nobody's proof: who has it already keeps it, and his account.
    let other = log_in(&gateway, &key.token(&claims("4712", Some("bob")))?).await?;
    assert_ne!(other.0.user, taken.user());
    let name = name_of(&gateway, other).await?;
    assert!(name.starts_with("bob-"), "{name}");
    let nameless = log_in(&gateway, &key.token(&claims("4713", Some("\u{738b}")))?).await?;
    let name = name_of(&gateway, nameless).await?;
    assert!(name.starts_with("user-"), "{name}");
    let labels = r#"method="token",result="ok""#;
    assert!(gateway.metric("petrel_gateway_log_ins_total", labels).await? >= 5.0);
    Ok(())
}

async fn a_token_that_is_not_believed_makes_nothing(stage: Stage) -> Result<()> {
    let (key, forged) = (Key::new("1", Algorithm::ES256)?, Key::new("1", Algorithm::ES256)?);
    let issuer = Issuer::new(&[&key])?;
    let gateway = issuer.gateway(&stage).await?;
    let good = claims("4711", Some("alice"));
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        key.token(&claims)
    };
    let unsigned = {
        let token = key.token(&good)?;
        let body = token.split('.').nth(1).context("no claims")?;
        format!("eyJhbGciOiJub25lIn0.{body}.")
    };
    // The public key as everybody can read it, taken for a shared secret.
    let confused = {
        let header = Header { kid: Some("1".to_owned()), ..Header::new(Algorithm::HS256) };
        let public = std::fs::read(issuer.file())?;
        jsonwebtoken::encode(&header, &good, &EncodingKey::from_secret(&public))?
    };
    for (token, code, text) in [
        (with("exp", json!(raw::now_ms() / 1000 - 600))?, Code::Reauthenticate, "expired"),
        (with("aud", json!("another"))?, Code::TokenInvalid, "another service"),
        (with("iss", json!("https://evil.example"))?, Code::TokenInvalid, "another issuer"),
        (with("sub", json!("a\u{0}b"))?, Code::TokenInvalid, "subject"),
        (forged.token(&good)?, Code::TokenInvalid, "signature"),
        (unsigned, Code::TokenInvalid, "no signed token"),
        (confused, Code::TokenInvalid, "algorithm"),
        (String::new(), Code::TokenInvalid, "no signed token"),
        ("x".repeat(9_000), Code::TokenInvalid, "too long"),
    ] {
        let (is, said) = refused(&gateway, &token).await?;
        assert!(is == code && said.contains(text), "{is}: {said}, not {code}: {text}");
    }
    let long = gateway.dialer()?.log_in_with_token(&key.token(&good)?, &"l".repeat(65)).await;
    assert_eq!(long.map(drop).map_err(|error| error.code()), Err(Some(Code::Invalid)));

    // The name that all of them wanted is free, and a gateway without an issuer says so.
    Somebody::new(&gateway, "alice").await?;
    let without = stage.gateway(&[]).await?;
    assert_eq!(refused(&without, &key.token(&good)?).await?.0, Code::Forbidden);
    Ok(())
}

async fn many_first_log_ins_at_once_are_one_account(stage: Stage) -> Result<()> {
    let key = Key::new("1", Algorithm::EdDSA)?;
    let issuer = Issuer::new(&[&key])?;
    let gateway = issuer.gateway(&stage).await?;
    let token = key.token(&claims("4711", Some("alice")))?;
    let entering = (0..8).map(|_| log_in(&gateway, &token));
    let entered = futures_util::future::try_join_all(entering).await?;
    let mut users: Vec<_> = entered.iter().map(|(identity, _)| identity.user.0).collect();
    let mut devices: Vec<_> = entered.iter().map(|(identity, _)| identity.device.0).collect();
    users.sort_unstable();
    users.dedup();
    devices.sort_unstable();
    devices.dedup();
    assert_eq!((users.len(), devices.len()), (1, 8));
    Ok(())
}

async fn the_keys_of_the_issuer_change_without_a_restart(stage: Stage) -> Result<()> {
    let (old, new) = (Key::new("old", Algorithm::EdDSA)?, Key::new("new", Algorithm::ES256)?);
    let issuer = Issuer::new(&[&old])?;
    let gateway = issuer.gateway(&stage).await?;
    let (by_old, by_new) =
        (old.token(&claims("4711", Some("alice")))?, new.token(&claims("4711", None))?);
    let first = log_in(&gateway, &by_old).await?;
    assert_eq!(refused(&gateway, &by_new).await?.0, Code::TokenInvalid);

    issuer.publish(&[&old, &new])?;
    let gateway = &gateway;
    let entered = eventually(PATIENCE, "the new key is believed", || async {
        Ok(log_in(gateway, &by_new).await.ok())
    });
    assert_eq!(entered.await?.0.user, first.0.user);
    assert_eq!(log_in(gateway, &by_old).await?.0.user, first.0.user);

    // What cannot be read changes nothing.
    std::fs::write(issuer.file(), "{")?;
    let complained = eventually(PATIENCE, "the file is complained of", || async {
        Ok(gateway.output().iter().any(|line| line.contains("auth.issuer.jwks")).then_some(()))
    });
    complained.await?;
    assert_eq!(log_in(gateway, &by_new).await?.0.user, first.0.user);

    issuer.publish(&[&new])?;
    // Until then each log-in makes a device, or finds that there are too many.
    let gone = eventually(PATIENCE, "the old key is believed no more", || async {
        let code = log_in(gateway, &by_old).await.err().and_then(|error| error.code());
        Ok(code.filter(|code| *code == Code::TokenInvalid).map(drop))
    });
    gone.await
}
