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
            &["petrel.toml:3", "message.preview_after", "0ms to 1m"],
        ),
        ("[gateway]\nlisten = \"somewhere\"", &["petrel.toml:2", "gateway.listen"]),
        ("[gateway\n", &["petrel.toml:1"]),
        ("[gateway]\nlog_json = true", &["petrel.toml:2:1", "gateway.log_json", "no such setting"]),
        ("[gatewai]\nlisten = \"[::1]:1\"", &["gatewai.listen", "did you mean gateway.listen?"]),
        (
            "[gateway]\nsends_per_s = 5",
            &["gateway.sends_per_s", "did you mean message.sends_per_s?"],
        ),
        ("[nothing]", &["petrel.toml:1:2", "nothing"]),
        ("gateway = 5", &["petrel.toml:1:1", "gateway"]),
        ("[gateway.listen]\nport = 5", &["petrel.toml:1", "gateway.listen"]),
        ("[redis]\nurl = \"http://h\"", &["petrel.toml:2:7", "redis.url", "rediss://"]),
        ("[redis]\nurl = \"redis://h:port\"", &["petrel.toml:2:7", "redis.url"]),
        ("[gateway]\nsend_queue = 65536", &["gateway.send_queue", "is not allowed", "KiB"]),
        ("[gateway]\nsend_queue = \"1KiB\"", &["gateway.send_queue", "64KiB to 64MiB"]),
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
    let error = load("", &["gateway.listen_tcp=0.0.0.0:4433"]).unwrap_err();
    assert!(error.contains("gateway.listen_tcp") && error.contains("tls.certificate"), "{error}");
    let error = load("", &["gateway.listen_tcp=on"]).unwrap_err();
    assert!(error.contains("\"same\", \"off\""), "{error}");
    let config = load("", &["gateway.listen_tcp=off"]).unwrap();
    assert_eq!(config.listen_tcp(), None);
    let error = load("", &["admin.listen=0.0.0.0:4480"]).unwrap_err();
    assert!(error.contains("admin.listen"), "{error}");
    let error = load("[tls]\ncertificate = \"a.pem\"", &[]).unwrap_err();
    assert!(error.contains("tls.key"), "{error}");
}

#[test]
fn an_issuer_is_set_whole_or_not_at_all() {
    let whole = [
        "auth.issuer.name=https://id.example.com",
        "auth.issuer.audience=petrel",
        "auth.issuer.jwks=/etc/petrel/jwks.json",
    ];
    let config = load("[auth]\naudience = \"chat\"", &whole).unwrap();
    assert_eq!(config.auth_issuer.name.as_deref(), Some("https://id.example.com"));
    assert_eq!(config.auth.audience, "chat");
    for missing in 0..3 {
        let mut some = whole.to_vec();
        some.remove(missing);
        assert!(load("", &some).unwrap_err().contains("is missing; set all three, or none"));
    }
    let in_file = "[auth.issuer]\nalgorithms = [\"ES256\"]\nleeway = \"5s\"";
    let config = load(in_file, &whole).unwrap();
    assert_eq!(config.auth_issuer.algorithms, [IssuerAlgorithm::ES256]);
    for (text, wanted) in [
        ("[auth.issuer]\nalgorithms = [\"HS256\"]", "auth.issuer.algorithms"),
        ("[auth.issuer]\nalgorithms = []", "auth.issuer.algorithms"),
        ("[auth.issuer]\nalgorithm = \"ES256\"", "did you mean auth.issuer.algorithms?"),
        ("[auth.issuer]\nname = \"\"", "auth.issuer.name"),
        ("[auth.issuers]\nname = \"x\"", "auth.issuers.name"),
    ] {
        let error =
            load(text, if text.contains("name") { &whole[1..] } else { &whole }).unwrap_err();
        assert!(error.contains(wanted), "{error:?} lacks {wanted:?}");
    }
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

#[test]
fn all_problems_are_told_at_once() {
    let text = "[gateway]\nthreads = -1\nlisten = 5\n[log]\njason = true\n";
    let error = load(text, &["message.sends_per_s=0", "nothing"]).unwrap_err();
    let places: Vec<&str> = error.lines().filter_map(|line| line.split(": ").next()).collect();
    assert_eq!(places.len(), 5, "{error}");
    for (place, wanted) in
        places.iter().zip(["toml:2:11", "toml:3:10", "toml:5:1", "--set message", "--set nothing"])
    {
        assert!(place.contains(wanted), "{place} is not {wanted}");
    }
}

#[test]
fn no_error_and_no_listing_tells_a_secret() {
    let error = load("[storage]\nurl = 12345", &[]).unwrap_err();
    assert!(!error.contains("12345"), "{error}");
    let error = load("[redis]\nurl = \"http://u:hunter2@h\"", &[]).unwrap_err();
    assert!(!error.contains("hunter2"), "{error}");
    let config = load("[redis]\nurl = \"redis://u:hunter2@h\"", &[]).unwrap();
    assert!(!format!("{config:?} {:?}", config.shown()).contains("hunter2"));
}

#[test]
fn the_origin_of_each_value_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("petrel.toml");
    std::fs::write(&path, "\n[message]\nsends_per_s = 1\nsends_burst = 1").unwrap();
    let env = [("PETREL__MESSAGE__SENDS_BURST".to_owned(), "2".to_owned())];
    let flags = ["auth.audience=123".to_owned()];
    let loaded = Loaded::load(Some(&path), env.into_iter(), &flags).unwrap();
    assert_eq!(loaded.config.auth.audience, "123");
    let origin = |key: &str| loaded.origin(key).to_string();
    assert!(origin("message.sends_per_s").ends_with("petrel.toml:3:15"));
    assert_eq!(origin("message.sends_burst"), "PETREL__MESSAGE__SENDS_BURST");
    assert_eq!(origin("auth.audience"), "--set auth.audience");
    assert_eq!(origin("auth.key"), "default");
    let text = render::shown(&loaded, true);
    assert!(text.contains("sends_burst = 2  # PETREL__MESSAGE__SENDS_BURST"), "{text}");
}

#[test]
fn the_example_file_sets_every_default() {
    let defaults = Config::default().shown();
    // Every line with a value, without its '#'; certificates and addresses of examples aside.
    let mut text = String::new();
    for line in render::example().lines() {
        match line.strip_prefix('#') {
            Some(set) if !set.starts_with(' ') && set.contains(" = ") => text.push_str(set),
            Some(_) => continue,
            None => text.push_str(line),
        }
        text.push('\n');
    }
    let config = load(&text, &[]).unwrap();
    for ((key, default), (_, value)) in defaults.iter().zip(config.shown()) {
        match default {
            Some(default) => assert_eq!(Some(default), value.as_ref(), "{key}"),
            None => assert!(value.is_some(), "{key} is missing in the example"),
        }
    }
}

#[test]
fn what_is_checked_in_is_what_the_table_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (file, text, option) in [
        ("deploy/petrel.example.toml", render::example(), ""),
        ("docs/configuration.md", render::page(), " --format markdown"),
    ] {
        let is = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        assert!(is == text, "{file} is out of date: petrel config default{option} > {file}");
    }
}

#[test]
fn every_default_is_allowed() {
    for setting in Config::sections().into_iter().flat_map(|section| section.settings) {
        assert!(!setting.about.is_empty() && !setting.allowed.is_empty(), "{setting:?}");
        let text = setting.default.clone().or(setting.example.map(|e| format!("'{e}'"))).unwrap();
        let value = format!("v = {text}").parse::<toml::Table>().unwrap().remove("v").unwrap();
        setting.check(value).unwrap();
    }
}
