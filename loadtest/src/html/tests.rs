#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::process::Command;

use serde_json::{Value, json};

use super::*;
use crate::latency::Series;
use crate::report::{Report, StepReport};

/// What an option, an error code or a finding could hold at the worst.
const HOSTILE: &str =
    "</script><script>alert(1)</script>\"' onload='x' &amp; ]]> <!-- \u{1b}[31m \u{0} \u{202e}txt";

fn series(scale: u64) -> Series {
    let series = Series::default();
    for n in 1..=2_000u64 {
        series.record(n * n * scale);
    }
    series
}

fn a_report(scale: u64) -> Report {
    let mut report = Report::new("one-to-one");
    let series = series(scale);
    (report.delivery_ms, report.ack_ms) = (series.quantiles(), series.quantiles());
    report.draw("delivery_ms", &series);
    report.draw("ack_ms", &series);
    report.offered_per_s = 500.0;
    report.achieved_per_s = 499.5;
    report.connections = 200;
    report.environment = json!({ "commit": "abc", "options": { "seed": 7, "storage": null } });
    report.judge();
    report
}

fn step(rate: f64, held: bool) -> StepReport {
    let ack_ms = series(1).quantiles();
    StepReport {
        offered_per_s: rate,
        achieved_per_s: rate,
        delivered_per_s: rate,
        ack_ms,
        delivery_ms: ack_ms,
        slip_p99_ms: 0.1,
        unanswered: 0,
        cpu_s_per_100k: None,
        held,
    }
}

fn run(name: &str, report: &Report) -> Run {
    Run::read(name, report.json().unwrap()).unwrap()
}

/// Elements by name, and the texts of all cells, as a parser of XML that is not ours finds them.
fn parsed(page: &str) -> Value {
    const SCRIPT: &str = "
import json, sys, xml.etree.ElementTree as tree
root = tree.fromstring(sys.stdin.buffer.read())
names, cells, ids, refs = {}, [], [], []
for e in root.iter():
    name = e.tag.split('}')[-1]
    names[name] = names.get(name, 0) + 1
    if name in ('td', 'th'):
        cells.append(''.join(e.itertext()))
    if 'id' in e.attrib:
        ids.append(e.attrib['id'])
    refs += e.attrib.get('aria-labelledby', '').split()
    for key in e.attrib:
        assert not key.startswith('on') and key not in ('src', 'href'), key
print(json.dumps({'names': names, 'cells': cells, 'ids': ids, 'refs': refs}))
";
    use std::io::Write as _;
    use std::process::Stdio;
    let mut child = Command::new("python3")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn cells(found: &Value) -> Vec<&str> {
    found["cells"].as_array().unwrap().iter().map(|cell| cell.as_str().unwrap()).collect()
}

#[test]
fn a_page_is_well_formed_and_has_its_parts() {
    let mut report = a_report(5_000);
    report.steps = vec![step(1_000.0, true), step(2_000.0, false), step(1_500.0, true)];
    report.max_sustainable_per_s = Some(1_500.0);
    let page = page(&[run("one-to-one", &report)]);
    let found = parsed(&page);
    // Percentiles, steps, rate and latency by the second, distribution; legends have theirs.
    assert_eq!(found["names"]["figure"], 5, "{}", found["names"]);
    assert_eq!(found["names"]["desc"], 5);
    assert_eq!(found["names"]["table"], 4);
    assert_eq!(found["names"]["h2"], 6);
    // Every picture is named, by ids that there are, once each.
    let ids = found["ids"].as_array().unwrap();
    let mut unique: Vec<&str> = ids.iter().map(|id| id.as_str().unwrap()).collect();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), ids.len());
    assert_eq!(found["refs"].as_array().unwrap().len(), 10);
    assert!(found["refs"].as_array().unwrap().iter().all(|id| ids.contains(id)));
    for outside in ["http://", "https://", "@import", "url("] {
        let allowed = page.matches(outside).count();
        let ours = page.matches("xmlns=\"http://www.w3.org/").count();
        assert!(allowed == if outside == "http://" { ours } else { 0 }, "{outside}");
    }
    assert!(page.contains("prefers-color-scheme: dark"));
    assert!(page.contains("The highest rate that held: 1500 a second."));
}

#[test]
fn figures_stand_as_in_the_json() {
    let report = a_report(3_000);
    let json = report.json().unwrap();
    let found = parsed(&page(&[run("a", &report)]));
    let cells = cells(&found);
    let from = cells.iter().position(|cell| *cell == "delivery").unwrap();
    for (n, part) in ["count", "p50", "p90", "p99", "p999", "max"].iter().enumerate() {
        assert_eq!(cells[from + 1 + n], json["delivery_ms"][part].to_string(), "{part}");
    }
    let rate = cells.iter().position(|cell| *cell == "achieved a second").unwrap();
    assert_eq!(cells[rate + 1], json["achieved_per_s"].to_string());
    let seed = cells.iter().position(|cell| *cell == "options.seed").unwrap();
    assert_eq!(cells[seed + 1], "7");
}

#[test]
fn runs_are_told_side_by_side_with_what_differs() {
    let (first, mut second) = (a_report(1_000), a_report(2_000));
    second.environment["options"]["seed"] = json!(8);
    let page = page(&[run("before", &first), run("after", &second)]);
    let found = parsed(&page);
    assert!(page.contains("2 runs compared"));
    assert!(page.contains("The runs differ in: options.seed."), "{page}");
    let cells = cells(&found);
    let at = cells.iter().position(|cell| *cell == "delivery p50, ms").unwrap();
    let (one, two) = (first.delivery_ms.p50, second.delivery_ms.p50);
    assert_eq!(cells[at + 1], one.to_string());
    assert_eq!(cells[at + 2], format!("{two} ({:.2})", two / one));
}

#[test]
fn hostile_strings_stay_text() {
    let mut report = a_report(1_000);
    report.scenario = HOSTILE.to_owned();
    report.findings = vec![HOSTILE.to_owned()];
    report.invalid_because = vec![HOSTILE.to_owned()];
    report.valid = false;
    report.errors.insert(HOSTILE.to_owned(), 3);
    report.environment = json!({ HOSTILE: HOSTILE, "options": { "server": HOSTILE } });
    let page = page(&[run(HOSTILE, &report), run(HOSTILE, &report)]);
    let found = parsed(&page);
    assert!(found["names"].get("script").is_none());
    for raw in ["<script", "onload='", "\u{1b}", "\u{0}", "\u{202e}", "<!--"] {
        assert!(!page.contains(raw), "{raw:?}");
    }
    assert!(cells(&found).iter().any(|cell| cell.starts_with("</script><script>alert(1)")));
    assert!(page.contains("Not valid: the figures are not to be believed."));
}

#[test]
fn a_report_without_anything_or_of_an_older_version_is_shown_too() {
    let empty = Report::new("connect").json().unwrap();
    let mut older = a_report(1_000).json().unwrap();
    for gained in ["spectrum", "per_second"] {
        older.as_object_mut().unwrap().remove(gained);
    }
    let runs = [Run::read("empty", empty).unwrap(), Run::read("older", older).unwrap()];
    for shown in [&runs[..1], &runs[1..], &runs[..]] {
        parsed(&page(shown));
    }
    for wrong in
        [json!({}), json!({ "schema": 2 }), json!([1]), json!({ "schema": 1, "lost": "x" })]
    {
        assert!(Run::read("x", wrong.clone()).is_err(), "{wrong}");
    }
}
