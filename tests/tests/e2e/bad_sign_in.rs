//! Tokens, protocols and silences that no decent client signs in with.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use petrel_core::limits;
use petrel_proto::code::Code;
use petrel_proto::frame::bare;
use petrel_proto::wire::{self, frame::What};
use petrel_tests::cluster::Stage;
use petrel_tests::on_both_stores;
use petrel_tests::raw::{self, Raw, RawOptions};

use crate::witness::Witness;

on_both_stores!(
    tokens_that_are_not_ours_are_refused,
    the_wrong_protocol_and_silence_end_the_connection,
);

async fn tokens_that_are_not_ours_are_refused(stage: Stage) -> Result<()> {
    let mut witness = Witness::new(&stage, &[]).await?;
    let pem = std::fs::read_to_string(witness.gateway.data_dir().join("token.key"))?;
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?.serialize_pem();
    let now_s = raw::now_ms() / 1_000;
    let claims = |audience: &str, exp: u64| {
        serde_json::json!({
            "sub": witness.alice.user.to_string(),
            "did": witness.alice.device.to_string(),
            "aud": audience,
            "iat": now_s - 100,
            "exp": exp,
            "jti": witness.alice.device.to_string(),
        })
    };
    let sign = |pem: &str, claims: &serde_json::Value| {
        let key = EncodingKey::from_ed_pem(pem.as_bytes())?;
        anyhow::Ok(jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &key)?)
    };
    let good = sign(&pem, &claims("petrel", now_s + 60))?;
    let payload = good.split('.').nth(1).context("no claims")?;
    let mut cut = good.clone();
    cut.truncate(good.len() - 4);
    let cases = [
        (sign(&pem, &claims("petrel", now_s - 5))?, Code::Reauthenticate, "expired"),
        (sign(&other, &claims("petrel", now_s + 60))?, Code::TokenInvalid, "signature"),
        (sign(&pem, &claims("another", now_s + 60))?, Code::TokenInvalid, "another service"),
        // {"alg":"none"}
        (format!("eyJhbGciOiJub25lIn0.{payload}."), Code::TokenInvalid, "token"),
        // {"alg":"HS256"}
        (format!("eyJhbGciOiJIUzI1NiJ9.{payload}.AAAA"), Code::TokenInvalid, "token"),
        (cut, Code::TokenInvalid, "token"),
        (String::new(), Code::TokenInvalid, "token"),
        ("x".repeat(limits::TOKEN_BYTES_MAX + 1), Code::TokenInvalid, "too long"),
    ];
    let raw = Raw::dial(&witness.gateway, &RawOptions::default()).await?;
    let (_bob, mut control) = Raw::sign_in(&witness.gateway, &witness.bob).await?;
    for (token, code, text) in cases {
        let mut stream = raw.open().await?;
        stream.write(bare(What::Hello(raw::hello(&token)))).await?;
        let refused = stream.refusal().await?;
        assert_eq!(refused.code, code, "{refused:?}");
        assert!(refused.text.contains(text), "{refused:?}");
        // The same on a live session: it goes on with the token that it has.
        control.write(bare(What::Refresh(wire::Refresh { token }))).await?;
        assert_eq!(control.refusal().await?.code, code);
    }
    // Another user's good token does not change whose session it is.
    control.write(bare(What::Refresh(wire::Refresh { token: good.clone() }))).await?;
    assert_eq!(control.refusal().await?.code, Code::TokenInvalid);
    // And after all that the connection may still sign in.
    let mut stream = raw.open().await?;
    stream.write(bare(What::Hello(raw::hello(&good)))).await?;
    let Some((_, What::Welcome(_))) = stream.next().await? else { bail!("no Welcome") };
    witness.is_well().await
}

async fn the_wrong_protocol_and_silence_end_the_connection(stage: Stage) -> Result<()> {
    let mut witness = Witness::new(&stage, &["gateway.sign_in_timeout=500ms"]).await?;
    for alpn in [&b"petrel/2"[..], b"h3", b"x"] {
        let options = RawOptions { alpn: alpn.to_vec(), ..RawOptions::default() };
        let refused = Raw::dial(&witness.gateway, &options).await;
        assert!(refused.is_err(), "{alpn:?} was accepted");
    }
    let silent = Raw::dial(&witness.gateway, &RawOptions::default()).await?;
    assert_eq!(silent.closed_with().await?, Code::SignInTimeout);
    // More streams than there may be before sign-in: there is no credit for them.
    let greedy = Raw::dial(&witness.gateway, &RawOptions::default()).await?;
    let mut held = Vec::new();
    while let Ok(stream) =
        tokio::time::timeout(Duration::from_millis(200), greedy.connection.open_bi()).await
    {
        match stream {
            Ok(stream) => held.push(stream),
            Err(_) => break,
        }
        assert!(held.len() <= 64, "no bound on streams before sign-in");
    }
    assert_eq!(greedy.closed_with().await?, Code::SignInTimeout);
    witness.is_well().await
}
