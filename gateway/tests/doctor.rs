//! `petrel doctor` and `petrel config` as an operator runs them, against good and broken set-ups.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use petrel_storage::redis::testing::PrivateRedis;
use petrel_storage::testing::PrivatePostgres;
use serde_json::Value;

/// A directory with settings in it; ports are free ones.
struct Place {
    dir: tempfile::TempDir,
    settings: Vec<String>,
}

impl Place {
    fn new() -> Self {
        let quic = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let settings = vec![format!("gateway.listen={quic}"), format!("admin.listen={admin}")];
        Self { dir: tempfile::tempdir().unwrap(), settings }
    }

    fn set(mut self, setting: impl Into<String>) -> Self {
        self.settings.push(setting.into());
        self
    }

    fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("petrel-data")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_petrel"));
        command.args(arguments).current_dir(self.dir.path()).env_clear().stdin(Stdio::null());
        for setting in &self.settings {
            command.arg("--set").arg(setting);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Exit status and the checks.
    fn doctor(&self) -> (i32, Vec<Value>) {
        let ran = self.run(&["doctor", "--json"]);
        let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
        (ran.status.code().unwrap(), told["checks"].as_array().unwrap().clone())
    }

    /// Level and words of one check; every failure must come with advice.
    fn check(&self, name: &str) -> (String, String) {
        let (status, checks) = self.doctor();
        let failed = checks.iter().any(|check| check["level"] == "fail");
        assert_eq!(status, i32::from(failed), "{checks:?}");
        assert!(checks.iter().all(|c| (c["level"] == "ok") == c["advice"].is_null()), "{checks:?}");
        let check = checks.iter().find(|check| check["check"] == name).unwrap_or(&Value::Null);
        (check["level"].as_str().unwrap_or_default().to_owned(), check.to_string())
    }

    fn expect(&self, name: &str, level: &str, words: &[&str]) {
        let (is, text) = self.check(name);
        assert_eq!(is, level, "{name}: {text}");
        for word in words {
            assert!(text.contains(word), "{name}: {text} lacks {word}");
        }
    }

    /// A gateway that serves; killed when dropped.
    fn serve(&self) -> Running {
        let mut child = self.command(&["serve"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        while !out.next().unwrap().unwrap().starts_with("certificate") {}
        Running { child, _out: out }
    }
}

/// What it says further has to find somebody who listens.
struct Running {
    child: Child,
    _out: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn before_the_first_start_all_is_well_and_nothing_is_made() {
    let place = Place::new();
    let (status, checks) = place.doctor();
    assert_eq!(status, 0, "{checks:?}");
    assert_eq!(checks.len(), 15, "{checks:?}");
    assert!(!place.data().exists());
    let ran = place.run(&["doctor"]);
    let text = String::from_utf8(ran.stdout).unwrap();
    assert!(text.contains("ok    clock: "), "{text}");
}

#[test]
fn beside_a_running_gateway_ports_are_its_own_and_it_answers() {
    let place = Place::new();
    let running = place.serve();
    place.expect("admin port", "ok", &["ready"]);
    place.expect("quic port", "ok", &["running gateway"]);
    place.expect("tcp port", "ok", &["running gateway"]);
    place.expect("udp loopback", "ok", &["answers QUIC"]);
    place.expect("tables", "ok", &["of this version"]);
    place.expect("certificate", "ok", &["localhost"]);
    place.expect("token key", "ok", &["0600"]);
    place.expect("data directory", "ok", &["0700"]);
    drop(running);
    let key = place.data().join("token.key");
    mode(&key, 0o644);
    place.expect("token key", "fail", &["0644", "chmod 600"]);
    mode(&key, 0o600);
    std::fs::write(&key, "nonsense").unwrap();
    place.expect("token key", "fail", &["token.key", "ed25519"]);
    let token = place.data().join("admin.token");
    place.expect("admin token", "ok", &["admin.token"]);
    mode(&token, 0o644);
    place.expect("admin token", "fail", &["admin.token", "chmod 600"]);
    mode(&place.data(), 0o755);
    place.expect("data directory", "warn", &["0755", "chmod 700"]);
}

#[test]
fn the_keys_of_an_outside_issuer_are_looked_at() {
    let place = Place::new();
    let file = place.dir.path().join("jwks.json");
    let place = place
        .set("auth.issuer.name=https://id.example.com")
        .set("auth.issuer.audience=petrel")
        .set(format!("auth.issuer.jwks={}", file.display()));
    place.expect("outside issuer", "fail", &["jwks.json", "cannot be read"]);
    std::fs::write(&file, "{\"keys\": []}").unwrap();
    place.expect("outside issuer", "fail", &["no key for signatures"]);
    // The key of RFC 8037, appendix A.2.
    let key = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    std::fs::write(&file, format!("{{\"keys\": [{key}]}}")).unwrap();
    place.expect("outside issuer", "ok", &["id.example.com"]);
}

#[test]
fn ports_of_other_programs_are_named() {
    let admin = TcpListener::bind("127.0.0.1:0").unwrap();
    let quic = UdpSocket::bind("127.0.0.1:0").unwrap();
    // It takes connections and says nothing.
    let place = Place::new()
        .set(format!("admin.listen={}", admin.local_addr().unwrap()))
        .set(format!("gateway.listen={}", quic.local_addr().unwrap()));
    place.expect("admin port", "fail", &["another program", "admin.listen"]);
    place.expect("quic port", "fail", &["cannot be used", "gateway.listen"]);
}

fn certificate(dir: &Path, name: &str, years: std::ops::Range<i32>) -> [String; 2] {
    let mut wanted = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    wanted.not_before = rcgen::date_time_ymd(years.start, 1, 1);
    wanted.not_after = rcgen::date_time_ymd(years.end, 1, 1);
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let files = ["pem", "key"].map(|end| dir.join(format!("{name}-{}.{end}", years.end)));
    std::fs::write(&files[0], wanted.self_signed(&pair).unwrap().pem()).unwrap();
    std::fs::write(&files[1], pair.serialize_pem()).unwrap();
    files.map(|file| file.display().to_string())
}

#[test]
fn a_certificate_that_clients_cannot_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let good = certificate(dir.path(), "chat.example", 2024..2090);
    let old = certificate(dir.path(), "chat.example", 2020..2021);
    let early = certificate(dir.path(), "chat.example", 2089..2091);
    let local = certificate(dir.path(), "localhost", 2024..2092);
    for (pem, key, level, words) in [
        (&good[0], &good[1], "ok", &["chat.example", "days"][..]),
        (&old[0], &old[1], "fail", &["expired"]),
        (&early[0], &early[1], "fail", &["not valid yet"]),
        (&local[0], &local[1], "fail", &["development certificate"]),
        (&good[0], &old[1], "fail", &["does not belong"]),
        (&good[1], &good[1], "fail", &["tls.certificate"]),
    ] {
        let place = Place::new()
            .set("gateway.listen=0.0.0.0:0")
            .set(format!("tls.certificate={pem}"))
            .set(format!("tls.key={key}"));
        place.expect("certificate", level, words);
    }
}

#[test]
fn a_database_is_judged_by_what_it_says() {
    let mut postgres = PrivatePostgres::start().unwrap();
    let url = postgres.create_database("doctor").unwrap();
    let place = Place::new().set(format!("storage.url={url}"));
    place.expect("tables", "ok", &["none yet"]);
    place.expect("database", "ok", &["PostgreSQL"]);
    place.expect("durability", "ok", &["fsync=on", "synchronous_commit=on"]);
    place.expect("database clock", "ok", &["ms ahead"]);
    drop(place.serve());
    place.expect("tables", "ok", &["of this version"]);
    postgres.sql("doctor", "ALTER DATABASE doctor SET synchronous_commit = off").unwrap();
    place.expect("durability", "fail", &["synchronous_commit=off", "lose"]);
    postgres.sql("doctor", "UPDATE _sqlx_migrations SET checksum = 'x' WHERE version = 1").unwrap();
    place.expect("tables", "fail", &["migration 1", "another form"]);
    postgres.sql("doctor", "UPDATE _sqlx_migrations SET version = 999 WHERE version = 1").unwrap();
    place.expect("tables", "fail", &["999", "newer"]);
    postgres.stop(petrel_storage::testing::Stop::Fast).unwrap();
    place.expect("database", "fail", &["doctor", "storage.url"]);
    let nonsense = Place::new().set("storage.url=sqlite:nonsense.db");
    std::fs::write(nonsense.dir.path().join("nonsense.db"), "nonsense".repeat(200)).unwrap();
    nonsense.expect("database", "fail", &["nonsense.db"]);
}

#[test]
fn redis_is_judged_by_what_it_says() {
    let mut redis = PrivateRedis::start_with(Some("right")).unwrap();
    let good = Place::new().set(format!("redis.url={}", redis.url()));
    good.expect("redis", "ok", &["version"]);
    redis.ask(&["CONFIG", "SET", "maxmemory", "100mb"]).unwrap();
    redis.ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).unwrap();
    good.expect("redis", "warn", &["allkeys-lru", "noeviction"]);
    let wrong = Place::new().set(format!("redis.url=redis://:hunter2@127.0.0.1:{}", redis.port()));
    wrong.expect("redis", "fail", &["password"]);
    assert!(!wrong.check("redis").1.contains("hunter2"));
    redis.stop().unwrap();
    good.expect("redis", "fail", &["does not answer"]);
}

#[test]
fn too_few_descriptors_are_named() {
    let place = Place::new();
    let program = env!("CARGO_BIN_EXE_petrel");
    let ran = Command::new("sh")
        .args(["-c", &format!("ulimit -n 64; exec {program} doctor")])
        .current_dir(place.dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8(ran.stdout).unwrap();
    assert!(text.contains("fail  open files: 64 allowed"), "{text}");
    assert_eq!(ran.status.code(), Some(1));
}

#[test]
fn a_refused_configuration_fails_check_with_2_and_doctor_with_1() {
    let place = Place::new().set("gateway.stream_max=8");
    let ran = place.run(&["config", "check"]);
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    let text = String::from_utf8(ran.stderr).unwrap();
    assert!(text.contains("did you mean gateway.streams_max?"), "{text}");
    let (status, checks) = place.doctor();
    assert_eq!((status, &checks[0]["check"]), (1, &Value::from("configuration")));
    let ran = Place::new().run(&["config", "check"]);
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let ran = Place::new().set("redis.url=redis://:hunter2@h").run(&["config", "show", "--origin"]);
    let text = String::from_utf8(ran.stdout).unwrap();
    assert!(text.contains("url = \"***\"  # --set redis.url"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    let missing = Place::new().run(&["--config", "none.toml", "config", "check"]);
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
}
