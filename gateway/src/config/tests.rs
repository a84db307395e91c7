#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
use super::*;

fn load(text: &str, flags: &[&str]) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("petrel.toml");
    std::fs::write(&path, text).unwrap();
    let flags: Vec<String> = flags.iter().map(|f| (*f).to_owned()).collect();
    Config::load(Some(&path), std::iter::empty(), &flags).map_err(|e| e.to_string())
}

#[test]
fn nothing_set_is_a_gateway_on_loopback_with_sqlite() {
    let config = load("", &[]).unwrap();
    assert!(config.gateway.listen.ip().is_loopback());
    assert_eq!(config.storage_url(), "sqlite:petrel-data/petrel.db");
}

#[test]
fn errors_name_the_place_the_key_and_the_range() {
    for (text, wanted) in [
        (
            "[gateway]\nconections_max = 5",
            &["petrel.toml:2:1", "conections_max", "connections_max"][..],
        ),
        (
            "[gateway]\nconnections_max = 0",
            &["petrel.toml:2:19", "gateway.connections_max", "1 to 1000000"],
        ),
        (
            "\n[message]\npreview_after = \"70s\"",
            &["petrel.toml:3", "message.preview_after", "0ms to 60000ms"],
        ),
        ("[gateway]\nlisten = \"somewhere\"", &["petrel.toml:2", "gateway.listen"]),
        ("[gateway\n", &["petrel.toml:1"]),
        ("[gateway]\nsend_queue = 65536", &["gateway.send_queue", "is not allowed", "KiB"]),
        ("[gateway]\nsend_queue = \"1KiB\"", &["gateway.send_queue", "65536 to"]),
    ] {
        let error = load(text, &[]).unwrap_err();
        for part in wanted {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    }
}

#[test]
fn beyond_loopback_wants_a_certificate() {
    let error = load("", &["gateway.listen=0.0.0.0:4433"]).unwrap_err();
    assert!(error.contains("tls.certificate"), "{error}");
    let error = load("", &["admin.listen=0.0.0.0:4480"]).unwrap_err();
    assert!(error.contains("admin.listen"), "{error}");
    let error = load("[tls]\ncertificate = \"a.pem\"", &[]).unwrap_err();
    assert!(error.contains("tls.key"), "{error}");
}

#[test]
fn connections_have_to_fit_into_the_memory_budget() {
    let error = load("[gateway]\nmemory_budget = \"16MiB\"", &[]).unwrap_err();
    assert!(
        error.contains("gateway.memory_budget") && error.contains("connections fit"),
        "{error}"
    );
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("petrel.toml");
    std::fs::write(&path, "[message]\nsends_per_s = 1\nsends_burst = 1\nrequests_burst = 1")
        .unwrap();
    let env = [
        ("PETREL__MESSAGE__SENDS_PER_S".to_owned(), "2".to_owned()),
        ("PETREL__MESSAGE__SENDS_BURST".to_owned(), "2".to_owned()),
    ];
    let flags = ["message.sends_per_s=3".to_owned()];
    let config = Config::load(Some(&path), env.into_iter(), &flags).unwrap();
    let m = config.message;
    assert_eq!((m.sends_per_s.0, m.sends_burst.0, m.requests_burst.0), (3, 2, 1));
    let bad = ["message.sends_per_s=many".to_owned()];
    let error = Config::load(None, std::iter::empty(), &bad).unwrap_err().to_string();
    assert!(error.contains("--set message.sends_per_s"), "{error}");
}

#[test]
fn a_secret_is_not_printed() {
    let config = load("[storage]\nurl = \"postgres://u:hunter2@h/db\"", &[]).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}
