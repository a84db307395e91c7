//! Small runs against a real gateway: the program is beside this one (`cargo build -p
//! petrel-gateway`), or named in `PETREL_BIN`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::process::Command;

use serde_json::Value;

/// Runs it; the status and the report.
fn run(arguments: &str) -> (i32, Value) {
    let (status, report, said) = try_run(arguments);
    (status, report.unwrap_or_else(|| panic!("no report; it said: {said}")))
}

/// The same; the report, if there is one, and what it said.
fn try_run(arguments: &str) -> (i32, Option<Value>, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_petrel-loadtest"))
        .args(arguments.split_ascii_whitespace())
        .arg("--json")
        .arg(file.path())
        .output()
        .unwrap();
    let text = std::fs::read_to_string(file.path()).unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    (out.status.code().unwrap(), serde_json::from_str(&text).ok(), said)
}

/// Nothing may be wrong but that a machine which is busy with other things lets the generator slip.
fn assert_clean(report: &Value) {
    let reasons = report["invalid_because"].as_array().unwrap();
    let slipped = |reason: &Value| reason.as_str().unwrap().contains("slipped");
    assert!(reasons.iter().all(slipped), "{reasons:?}: {}", report["findings"]);
    for field in ["lost", "duplicated", "reordered", "gaps", "altered"] {
        assert_eq!(report[field], 0, "{field}: {}", report["findings"]);
    }
    assert_eq!(report["errors"], serde_json::json!({}));
}

#[test]
fn every_member_of_every_group_gets_every_message() {
    // Above and below the number of handles up to which the fan-out is direct; users in two groups.
    let (_, report) =
        run("group --members 40 --groups 2 --users 60 --rate 60 --seconds 2 --warmup 0.5");
    assert_clean(&report);
    let messages = report["messages"].as_u64().unwrap();
    assert!(messages > 60, "{messages}");
    assert_eq!(report["ack_ms"]["count"].as_u64(), Some(messages));
    assert_eq!(report["delivery_ms"]["count"].as_u64(), Some(messages * 39));
    assert_eq!((&report["histories_judged"], &report["connections"]), (&2.into(), &60.into()));
    let group = &report["group"];
    assert_eq!((&group["groups"], &group["members"]), (&2.into(), &40.into()));
    assert!(group["wire_bytes_per_delivery"].as_f64().unwrap() > 50.0, "{group}");
}

#[test]
fn a_member_whose_deliveries_go_wrong_turns_the_run_red() {
    for (fault, counts) in
        [("drop", &["lost", "gaps"][..]), ("double", &["duplicated"]), ("alter", &["altered"])]
    {
        let options = "group --members 5 --rate 100 --seconds 1 --warmup 0.2 --fault";
        let (status, report) = run(&format!("{options} {fault}"));
        assert_eq!((status, &report["valid"]), (4, &false.into()), "{fault}: {report}");
        for count in counts {
            assert!(report[count].as_u64().unwrap() > 0, "{fault} {count}: {report}");
        }
    }
}

#[test]
fn sessions_that_lost_their_connections_come_back_beside_chat() {
    let (_, report) = run(
        "resume --users 120 --missed 2 --rate 50 --seconds 1 --warmup 0.5 --goal storm.storm_s<=60",
    );
    assert_clean(&report);
    let storm = &report["storm"];
    assert_eq!((&storm["sessions"], &storm["missed"]), (&120.into(), &240.into()), "{storm}");
    assert_eq!(report["resume_ms"]["count"], 120);
    assert!(report["delivery_ms"]["count"].as_u64().unwrap() > 0);
    assert!(report["histories_judged"].as_u64().unwrap() > 0);
}

#[test]
fn a_visit_finds_what_was_missed_and_takes_two_round_trips_of_a_link_at_least() {
    let visits = "login --conversations 30 --changed 10 --missed 2 --seconds 1";
    let (_, report) = run(&format!("{visits} --link delay=10ms"));
    assert_clean(&report);
    let visit = &report["visit"];
    assert!(visit["round_trips"].as_f64().unwrap() >= 2.0, "{visit}");
    assert_eq!(visit["missed"], 20, "{visit}");
    let bytes = |name: &str| visit[name].as_f64().unwrap();
    assert!(bytes("wire_bytes_resumed") > bytes("wire_bytes_handshake"), "{visit}");
    assert!(bytes("wire_bytes_handshake") > 1_200.0, "{visit}");
    assert_eq!(report["list_ms"]["count"], 300);
    assert!(visit["early_visits"].as_u64().unwrap() > 0, "{visit}");
    assert_eq!(visit["early_accepted"], visit["early_visits"], "{visit}");
    assert!(bytes("missed_bytes") > 0.0, "{visit}");
    // The handshake and two more round trips, or one with all.
    assert!(bytes("first_missed_full_ms") >= 60.0 && bytes("first_missed_ms") >= 20.0, "{visit}");
}

#[test]
fn chat_beside_hostile_connections_stays_whole() {
    let (status, report) =
        run("hostile --users 4 --conversations 2 --rate 20 --seconds 3 --warmup 0.5 --hostile 12");
    assert_clean(&report);
    assert!(status == 0 || status == 4, "{status}");
    let hostile = &report["hostile"];
    assert_eq!(hostile["connections"], 12);
    for counted in ["half_handshakes", "streams_reset", "closed"] {
        assert!(hostile[counted].as_u64().unwrap() > 0, "{hostile}");
    }
    assert!(hostile["calm_delivery_ms"]["count"].as_u64().unwrap() > 0, "{hostile}");
}

/// Where a network device can be made; elsewhere the error says what it takes.
#[test]
fn tcp_over_a_lossy_link_loses_ip_packets_and_no_message() {
    let arguments = "one-to-one --transport tcp --link delay=2ms,loss=5% --users 6 --conversations 2 \
                     --rate 60 --seconds 3 --warmup 0.5";
    let (_, report, said) = try_run(arguments);
    let Some(report) = report else {
        return assert!(said.contains("CAP_NET_ADMIN"), "{said}");
    };
    assert_clean(&report);
    for direction in ["up", "down"] {
        let counts = &report["link"][direction];
        assert!(counts["lost"].as_u64().unwrap() > 0, "{direction}: {counts}");
        assert_eq!(counts["failed"], 0, "{direction}: {counts}");
    }
    assert!(report["delivery_ms"]["max"].as_f64().unwrap() > 100.0, "{}", report["delivery_ms"]);
}
