//! The program as its operator meets it: what is wrong is refused at the start, with the
//! place, the key and what is allowed; nothing listens then, and nothing is made.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::process::{Command, Output};

fn petrel(arguments: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_petrel"))
        .args(arguments)
        .current_dir(dir.path())
        .env_clear()
        .output()
        .unwrap();
    let made: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert!(made.is_empty(), "{arguments:?} made {made:?}");
    ran
}

/// Runs it with a setting that it must refuse; gives back what it says.
fn refused(setting: &str) -> String {
    let ran = petrel(&["--set", setting]);
    assert_eq!(ran.status.code(), Some(1), "{setting}: {ran:?}");
    assert!(ran.stdout.is_empty(), "{setting}: {ran:?}");
    String::from_utf8(ran.stderr).unwrap()
}

#[test]
fn a_setting_that_is_wrong_is_named_with_what_is_allowed() {
    for (setting, said) in [
        ("gateway.streams_max=3", &["gateway.streams_max", "4", "1024"][..]),
        ("gateway.stream_max=8", &["stream_max"]),
        ("gateway.listen=0.0.0.0:4433", &["gateway.listen", "tls.certificate"]),
        ("admin.listen=0.0.0.0:4480", &["admin.listen", "loopback"]),
        ("admin.listen=0.0.0.0:4480", &["admin.metrics_listen"]),
        ("admin.metrics_listen=4481", &["admin.metrics_listen"]),
        ("message.dictionary=missing.dict", &["message.dictionary: missing.dict"]),
        ("message.dictionaries_kept=[\"missing.dict\"]", &["message.dictionaries_kept"]),
        ("tls.key=key.pem", &["tls.certificate", "tls.key"]),
        ("gateway.memory_budget=16MiB", &["gateway.connections_max", "gateway.memory_budget"]),
    ] {
        let text = refused(setting);
        for word in said {
            assert!(text.contains(word), "{setting}: {text}");
        }
    }
}

#[test]
fn health_of_a_gateway_that_is_not_there_is_a_failure() {
    // Nobody listens on port 1 of loopback.
    let ran = petrel(&["health", "--set", "admin.listen=127.0.0.1:1"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(String::from_utf8_lossy(&ran.stderr).contains("no answer from 127.0.0.1:1"), "{ran:?}");
}

#[test]
fn arguments_that_are_wrong_exit_with_2() {
    for arguments in [&["--no-such-flag"][..], &["no-such-command"], &["admin", "seed"]] {
        let ran = petrel(arguments);
        assert_eq!(ran.status.code(), Some(2), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn a_configuration_file_that_cannot_be_read_is_named() {
    let ran = petrel(&["--config", "no-such-file.toml"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(String::from_utf8_lossy(&ran.stderr).contains("no-such-file.toml"), "{ran:?}");
}
