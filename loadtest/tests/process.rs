//! The binary as others call it: exit statuses, the JSON file, and whole runs
//! against the bare relay, an honest one and ones that are not.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::process::{Command, Output};

use serde_json::Value;

const SMALL: &str = "relay --users 10 --conversations 2 --seconds 1 --warmup 0.3";

fn loadtest(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_petrel-loadtest"))
        .args(arguments.split_ascii_whitespace())
        .output()
        .unwrap()
}

/// Runs the small load with more options; its status and its report.
fn small(more: &str) -> (i32, Value) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let out = loadtest(&format!("{SMALL} {more} --json {}", file.path().display()));
    let text = std::fs::read_to_string(file.path()).unwrap();
    let report = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic_with(&String::from_utf8_lossy(&out.stderr)));
    (out.status.code().unwrap(), report)
}

#[allow(clippy::panic, reason = "tests fail by panicking")]
fn panic_with(said: &str) -> Value {
    panic!("no report; it said: {said}")
}

#[test]
fn bad_arguments_exit_with_2_and_name_the_option() {
    for (arguments, named) in [
        ("one-to-one --users 1", "--users"),
        ("one-to-one --server nowhere:1", "--fingerprint"),
        ("one-to-one --goal p99", "delivery_ms.p99<=1.2"),
    ] {
        let out = loadtest(arguments);
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{arguments}: {said}");
        assert!(said.contains(named), "{arguments}: {said}");
    }
}

#[test]
fn a_run_without_a_gateway_fails_and_says_so() {
    let out = Command::new(env!("CARGO_BIN_EXE_petrel-loadtest"))
        .arg("one-to-one")
        .env("PETREL_BIN", "/nonexistent/petrel")
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("PETREL_BIN"));
}

#[test]
fn an_honest_relay_is_clean_and_goals_decide_the_status() {
    let (status, report) = small("--rate 400 --goal lost==0 --goal errors.none<=0");
    // A machine that is busy with other things may let the generator slip; nothing else may be wrong.
    let reasons = report["invalid_because"].as_array().unwrap();
    let slipped = |reason: &Value| reason.as_str().unwrap().contains("slipped");
    assert!(reasons.iter().all(slipped), "{report}");
    assert_eq!(status, if reasons.is_empty() { 3 } else { 4 }, "{report}");
    assert_eq!(report["schema"], 1);
    assert_eq!(report["scenario"], "relay");
    assert_eq!(report["errors"], serde_json::json!({}));
    for field in ["lost", "duplicated", "reordered", "gaps", "altered"] {
        assert_eq!(report[field], 0, "{field}");
    }
    let offered = report["offered_per_s"].as_f64().unwrap();
    assert!((250.0..550.0).contains(&offered), "{offered}");
    let sent = report["slip_ms"]["count"].as_u64().unwrap();
    for series in ["ack_ms", "delivery_ms", "first_sight_ms"] {
        assert_eq!(report[series]["count"].as_u64(), Some(sent), "{series}");
    }
    assert!(report["server"]["cpu_s"].as_f64().unwrap() >= 0.0);
    assert!(report["wire_bytes_per_message"].as_f64().unwrap() > 200.0);
    assert_eq!(report["environment"]["options"]["users"], 10);
}

#[test]
fn a_relay_that_drops_doubles_swaps_or_alters_turns_the_run_red() {
    for (fault, count) in
        [("drop", "lost"), ("double", "duplicated"), ("swap", "reordered"), ("alter", "altered")]
    {
        let (status, report) = small(&format!("--rate 3000 --fault {fault}"));
        assert_eq!(status, 4, "{fault}: {report}");
        assert_eq!(report["valid"], false, "{fault}");
        assert!(report[count].as_u64().unwrap() > 0, "{fault}: {report}");
    }
}

#[test]
fn a_relay_that_delays_misses_the_goal() {
    let (status, report) = small("--rate 3000 --fault delay --goal delivery_ms.p99<=300");
    // The clean verdict holds; a slow machine may make the run invalid besides.
    assert!(status == 3 || status == 4, "{report}");
    assert!(report["delivery_ms"]["p99"].as_f64().unwrap() > 300.0);
    assert_eq!(report["lost"], 0);
}

#[test]
fn a_run_writes_a_page_and_reports_are_compared_on_another() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (json, page, both) = (at("a.json"), at("a.html"), at("both.html"));
    loadtest(&format!("{SMALL} --rate 300 --json {json} --html {page}"));
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let text = std::fs::read_to_string(&page).unwrap();
    for part in ["p50", "p99", "max"] {
        let figure = report["delivery_ms"][part].to_string();
        assert!(text.contains(&format!("<td>{figure}</td>")), "{part} {figure}");
    }
    let seconds = report["per_second"]["delivery_ms"].as_array().unwrap();
    let counted: u64 = seconds.iter().map(|s| s["count"].as_u64().unwrap()).sum();
    assert_eq!(Some(counted), report["delivery_ms"]["count"].as_u64());
    let out = loadtest(&format!("report --html {both} {json} {json}"));
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    assert!(std::fs::read_to_string(&both).unwrap().contains("2 runs compared"));
}

#[test]
fn a_report_that_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other.json");
    std::fs::write(&other, "{\"schema\": 9}").unwrap();
    let page = dir.path().join("page.html");
    let out = loadtest(&format!("report --html {} {}", page.display(), other.display()));
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    assert!(String::from_utf8_lossy(&out.stderr).contains("other.json"), "{out:?}");
    let out = loadtest("report --html x.html");
    assert_eq!(out.status.code(), Some(2), "{out:?}");
}
