#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
use super::*;
use jsonwebtoken::EncodingKey;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::json;

use crate::clock::unix_ms;

const NAME: &str = "https://id.example.com";

/// A key of the issuer, with its private half.
struct Pair {
    id: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
    /// The public half as a file, which an attacker has too.
    public: Vec<u8>,
    jwk: Jwk,
}

impl Pair {
    fn new(id: &'static str, algorithm: Algorithm) -> Self {
        let pair = match algorithm {
            Algorithm::EdDSA => KeyPair::generate_for(&PKCS_ED25519),
            Algorithm::ES256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            _ => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        }
        .unwrap();
        let pem = pair.serialize_pem();
        let key = match algorithm {
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        }
        .unwrap();
        let mut jwk = match algorithm {
            Algorithm::EdDSA => {
                let public = DecodingKey::from_ed_der(pair.public_key_raw());
                Jwk::from_decoding_key(&public, Some(algorithm))
            }
            _ => Jwk::from_encoding_key(&key, algorithm),
        }
        .unwrap();
        jwk.common.key_id = Some(id.to_owned());
        Self { id, algorithm, key, public: pair.public_key_pem().into_bytes(), jwk }
    }

    fn jwk(&self) -> Value {
        serde_json::to_value(&self.jwk).unwrap()
    }

    fn header(&self) -> Header {
        Header { kid: Some(self.id.to_owned()), ..Header::new(self.algorithm) }
    }

    fn sign(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.key).unwrap()
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&self.header(), claims)
    }
}

fn now_s() -> u64 {
    unix_ms() / 1000
}

/// Good claims, with these in their place; `null` takes one away.
fn claims(other: Value) -> Value {
    let mut claims = json!({
        "iss": NAME, "aud": ["other", "petrel"], "sub": "4711", "exp": now_s() + 60,
        "preferred_username": "alice",
    });
    for (name, value) in other.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

struct World {
    dir: tempfile::TempDir,
    issuer: Issuer,
}

impl World {
    fn new(keys: &[Value]) -> Self {
        Self::open(keys, Settings::default()).unwrap()
    }

    fn open(keys: &[Value], settings: Settings) -> Result<Self> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jwks.json");
        std::fs::write(&path, json!({ "keys": keys }).to_string()).unwrap();
        let settings = Settings {
            name: Some(NAME.to_owned()),
            audience: Some("petrel".to_owned()),
            jwks: Some(path),
            ..settings
        };
        Ok(Self { dir, issuer: Issuer::open(&settings)?.unwrap() })
    }

    fn write(&self, text: &str) {
        std::fs::write(self.dir.path().join("jwks.json"), text).unwrap();
    }

    fn problem(&self, token: &str) -> String {
        match self.issuer.verify(token).unwrap_err() {
            Rejection::TokenInvalid { problem } => problem.to_owned(),
            other => format!("{other:?}"),
        }
    }
}

#[test]
fn a_token_of_each_algorithm_says_whom_it_speaks_for() {
    let pairs = [
        Pair::new("a", Algorithm::EdDSA),
        Pair::new("b", Algorithm::ES256),
        Pair::new("c", Algorithm::RS256),
    ];
    let world = World::new(&pairs.each_ref().map(Pair::jwk));
    for pair in &pairs {
        let who = world.issuer.verify(&pair.token(&claims(json!({})))).unwrap();
        assert_eq!(who.subject, "4711");
        assert_eq!(who.preferred_name.as_deref(), Some("alice"));
        // The only key of its algorithm needs not be named.
        let unnamed = pair.sign(&Header::new(pair.algorithm), &claims(json!({})));
        assert!(world.issuer.verify(&unnamed).is_ok());
    }
    let odd = pairs[0].token(&claims(json!({ "preferred_username": 5 })));
    assert_eq!(world.issuer.verify(&odd).unwrap().preferred_name, None);
}

#[test]
fn what_a_token_says_of_itself_is_checked() {
    let pair = Pair::new("a", Algorithm::EdDSA);
    let world = World::new(&[pair.jwk()]);
    for (other, problem) in [
        (json!({ "exp": now_s() - 120 }), "Reauthenticate"),
        (json!({ "exp": null }), "one of exp, sub, aud, iss is missing"),
        (json!({ "aud": null }), "one of exp, sub, aud, iss is missing"),
        (json!({ "iss": null }), "one of exp, sub, aud, iss is missing"),
        (json!({ "nbf": now_s() + 120 }), "it is not valid yet"),
        (json!({ "aud": "another" }), "it is for another service"),
        (json!({ "iss": "https://evil.example" }), "it is of another issuer"),
        (json!({ "sub": "" }), "its subject is empty, too long or has control characters"),
        (json!({ "sub": "a\u{0}" }), "its subject is empty, too long or has control characters"),
        (
            json!({ "sub": "s".repeat(256) }),
            "its subject is empty, too long or has control characters",
        ),
    ] {
        assert_eq!(world.problem(&pair.token(&claims(other.clone()))), problem, "{other}");
    }
    // Clocks differ by a little.
    for other in [json!({ "exp": now_s() - 10 }), json!({ "nbf": now_s() + 10 })] {
        assert!(world.issuer.verify(&pair.token(&claims(other))).is_ok());
    }
    assert!(world.issuer.verify(&pair.token(&claims(json!({ "sub": "s".repeat(255) })))).is_ok());
    let long = claims(json!({ "roles": "r".repeat(OUTSIDE_TOKEN_BYTES_MAX) }));
    assert_eq!(world.problem(&pair.token(&long)), "too long");
    assert!(world.problem("gibberish").contains("no signed token"));
}

#[test]
fn a_signature_counts_by_the_issuer_s_key_alone() {
    let (ours, rsa) = (Pair::new("a", Algorithm::EdDSA), Pair::new("c", Algorithm::RS256));
    let world = World::new(&[ours.jwk(), rsa.jwk()]);
    let good = claims(json!({}));
    // Somebody else's key under the same id.
    assert_eq!(
        world.problem(&Pair::new("a", Algorithm::EdDSA).token(&good)),
        "the signature is wrong"
    );
    // No signature at all.
    let body = ours.token(&good).split('.').nth(1).unwrap().to_owned();
    assert!(world.problem(&format!("eyJhbGciOiJub25lIn0.{body}.")).contains("not known"));
    // A public key taken for a shared secret.
    for pair in [&ours, &rsa] {
        let header = Header { kid: Some(pair.id.to_owned()), ..Header::new(Algorithm::HS256) };
        let secret = EncodingKey::from_secret(&pair.public);
        let token = jsonwebtoken::encode(&header, &good, &secret).unwrap();
        assert!(world.problem(&token).contains("none of those that are believed"));
    }
    // The right key by another algorithm, or under the id of a key of another type.
    let header = Header { kid: Some("c".to_owned()), ..Header::new(Algorithm::RS384) };
    assert!(world.problem(&rsa.sign(&header, &good)).contains("none of those"));
    let header = Header { kid: Some("c".to_owned()), ..Header::new(Algorithm::EdDSA) };
    assert!(world.problem(&ours.sign(&header, &good)).contains("no key of its key id"));
    // A key that the token brings along.
    let stranger = Pair::new("x", Algorithm::EdDSA);
    let brought = serde_json::from_value(stranger.jwk()).unwrap();
    let header = Header { jwk: Some(brought), ..stranger.header() };
    assert!(world.problem(&stranger.sign(&header, &good)).contains("no key of its key id"));
    let header = Header { crit: Some(vec!["exp".to_owned()]), ..ours.header() };
    assert!(world.problem(&ours.sign(&header, &good)).contains("crit"));
}

#[test]
fn an_algorithm_that_is_not_allowed_is_refused_and_so_is_a_file_without_others() {
    let (ed, ec) = (Pair::new("a", Algorithm::EdDSA), Pair::new("b", Algorithm::ES256));
    let only = |algorithms| Settings { algorithms, ..Settings::default() };
    let world = World::open(&[ed.jwk(), ec.jwk()], only(vec![IssuerAlgorithm::ES256])).unwrap();
    assert!(world.issuer.verify(&ec.token(&claims(json!({})))).is_ok());
    assert!(world.problem(&ed.token(&claims(json!({})))).contains("none of those"));
    let error = World::open(&[ed.jwk()], only(vec![IssuerAlgorithm::RS256])).map(drop).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("auth.issuer.jwks") && text.contains("RS256"), "{text}");
}

#[test]
fn a_token_that_names_no_key_is_refused_where_there_are_two() {
    let (old, new) = (Pair::new("1", Algorithm::ES256), Pair::new("2", Algorithm::ES256));
    let world = World::new(&[old.jwk(), new.jwk()]);
    let unnamed = new.sign(&Header::new(Algorithm::ES256), &claims(json!({})));
    assert!(world.problem(&unnamed).contains("names no key"));
    assert!(world.issuer.verify(&new.token(&claims(json!({})))).is_ok());
}

#[test]
fn keys_change_with_the_file_and_stay_when_it_is_broken() {
    let (old, new) = (Pair::new("1", Algorithm::EdDSA), Pair::new("2", Algorithm::EdDSA));
    let world = World::new(&[old.jwk()]);
    let (of_old, of_new) = (old.token(&claims(json!({}))), new.token(&claims(json!({}))));
    assert_eq!(world.issuer.read_again().unwrap(), None);
    assert!(world.issuer.verify(&of_new).is_err());

    world.write(&json!({ "keys": [old.jwk(), new.jwk()] }).to_string());
    assert_eq!(world.issuer.read_again().unwrap(), Some(2));
    assert!(world.issuer.verify(&of_old).is_ok() && world.issuer.verify(&of_new).is_ok());

    for broken in ["{\"keys\": [", "{\"keys\": []}", "{\"keys\": 5, \"more\": 5}", ""] {
        world.write(broken);
        assert!(world.issuer.read_again().is_err(), "{broken}");
        assert!(world.issuer.verify(&of_old).is_ok());
    }
    world.write(&json!({ "keys": [new.jwk()] }).to_string());
    assert_eq!(world.issuer.read_again().unwrap(), Some(1));
    assert!(world.issuer.verify(&of_old).is_err() && world.issuer.verify(&of_new).is_ok());
}

#[test]
fn keys_that_are_for_something_else_are_left_out() {
    let pair = Pair::new("a", Algorithm::EdDSA);
    let with = |name: &str, value: Value| {
        let mut jwk = pair.jwk();
        jwk[name] = value;
        jwk
    };
    let shared = json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "a" });
    let unknown = json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA" });
    let broken = json!("no key at all");
    for jwk in [
        with("use", json!("enc")),
        with("key_ops", json!(["sign"])),
        with("alg", json!("ES256")),
        shared,
        unknown,
        broken,
    ] {
        assert!(World::open(std::slice::from_ref(&jwk), Settings::default()).is_err(), "{jwk}");
        let world = World::new(&[jwk.clone(), pair.jwk()]);
        assert!(world.issuer.verify(&pair.token(&claims(json!({})))).is_ok(), "{jwk}");
    }
    let good = with("key_ops", json!(["verify"]));
    assert!(World::open(&[good, with("use", json!("sig"))], Settings::default()).is_ok());
    let many = vec![pair.jwk(); KEYS_MAX + 1];
    assert!(World::open(&many, Settings::default()).is_err());
}
