//! A certificate of one's own is replaced without a restart.

use std::path::Path;

use anyhow::{Context as _, Result};
use petrel_client::{ClientOptions, Dialer, Trust};
use petrel_tests::cluster::{PATIENCE, Stage, eventually};
use petrel_tests::on_both_stores;
use petrel_tests::raw::{Raw, RawOptions};

on_both_stores!(a_new_certificate_is_used_for_new_connections_and_the_old_ones_live);

type Authority = rcgen::Issuer<'static, rcgen::KeyPair>;

fn authority() -> Result<(Authority, String)> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key)?.pem();
    Ok((rcgen::Issuer::new(params, key), pem))
}

/// Puts a new certificate in place and gives its DER bytes.
fn issue(authority: &Authority, dir: &Path) -> Result<Vec<u8>> {
    let key = rcgen::KeyPair::generate()?;
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?;
    let leaf = params.signed_by(&key, authority)?;
    for (name, text) in [("own.key", key.serialize_pem()), ("own.pem", leaf.pem())] {
        let new = dir.join(format!("{name}.new"));
        std::fs::write(&new, text)?;
        std::fs::rename(new, dir.join(name))?;
    }
    Ok(leaf.der().to_vec())
}

async fn a_new_certificate_is_used_for_new_connections_and_the_old_ones_live(
    stage: Stage,
) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (authority, ca) = authority()?;
    let first = issue(&authority, dir.path())?;
    let chain = format!("tls.certificate={}", dir.path().join("own.pem").display());
    let key = format!("tls.key={}", dir.path().join("own.key").display());
    let gateway = stage.gateway(&[&chain, &key]).await?;
    let mut options = gateway.dialer_options()?;
    options.trust = Trust::CaPem(ca.into_bytes());
    let dialer = Dialer::new(options)?;
    let mut people = Vec::new();
    for name in ["alice", "bob"] {
        let identity = dialer.register(name, "test").await?;
        people.push(stage.device_with(ClientOptions::new(dialer.clone(), identity)).await?);
    }
    let (alice, bob) = (&people[0], &people[1]);
    let pair = alice.with(bob);
    alice.say(&pair, "before").await?;
    let old = Raw::dial(&gateway, &RawOptions::default()).await?;
    assert_eq!(old.certificate().context("no certificate")?, first);

    let second = issue(&authority, dir.path())?;
    let renewed = || async {
        let raw = Raw::dial(&gateway, &RawOptions::default()).await?;
        let seen = raw.certificate().context("no certificate")?;
        assert!(seen == first || seen == second);
        Ok((seen == second).then_some(()))
    };
    eventually(PATIENCE, "the new certificate", renewed).await?;
    assert_eq!(alice.say(&pair, "after").await?, 2);
    bob.has(pair.id, 2).await?;
    for person in &people {
        assert_eq!(person.seen(|s| s.sign_ins), 1, "its connection lived");
    }
    stage.device_with(ClientOptions::new(dialer.clone(), alice.identity.clone())).await?;

    // One that cannot be used changes nothing.
    std::fs::write(dir.path().join("own.pem"), "nonsense")?;
    let told = || async {
        let output = gateway.output();
        Ok(output.iter().any(|line| line.contains("the old one stays")).then_some(()))
    };
    eventually(PATIENCE, "an error in the log", told).await?;
    let raw = Raw::dial(&gateway, &RawOptions::default()).await?;
    assert_eq!(raw.certificate().context("no certificate")?, second);
    Ok(())
}
