//! What is told in rows. Figures stand as they are in the JSON.

use serde_json::Value;

use super::markup::Markup;
use super::view::{Run, SERIES};

const PARTS: [&str; 6] = ["count", "p50", "p90", "p99", "p999", "max"];
/// Rows of one environment, at the most.
const ROWS_MAX: usize = 400;
/// Figures that are compared: path in the JSON, and name.
const COMPARED: [(&str, &str); 16] = [
    ("achieved_per_s", "achieved a second"),
    ("max_sustainable_per_s", "highest rate that held"),
    ("delivery_ms.p50", "delivery p50, ms"),
    ("delivery_ms.p99", "delivery p99, ms"),
    ("delivery_ms.p999", "delivery p99.9, ms"),
    ("ack_ms.p50", "ack p50, ms"),
    ("ack_ms.p99", "ack p99, ms"),
    ("connect_ms.p99", "connect p99, ms"),
    ("resume_ms.p99", "resume p99, ms"),
    ("storm.storm_s", "until all are back, s"),
    ("visit.wire_bytes_resumed", "bytes of a visit"),
    ("battery.background.idle.packets_up", "packets up, an idle hour in the background"),
    ("battery.background.idle.packets_down", "packets down, an idle hour in the background"),
    ("group.cpu_s_per_100k_deliveries", "server CPU s for 100,000 deliveries"),
    ("server.cpu_s_per_100k", "server CPU s for 100,000"),
    ("wire_bytes_per_message", "bytes a message on the wire"),
];
/// Figures of cost: path in the JSON, and name.
const COST: [(&str, &str); 43] = [
    ("connections", "connections"),
    ("offered_per_s", "offered a second"),
    ("achieved_per_s", "achieved a second"),
    ("delivered_per_s", "delivered a second"),
    ("handshakes_per_s", "handshakes a second"),
    ("server.cpu_s", "server CPU s"),
    ("server.cpu_s_per_100k", "server CPU s for 100,000"),
    ("server.postgres_cpu_s_per_100k", "PostgreSQL CPU s for 100,000"),
    ("server.rss_bytes", "server memory, bytes"),
    ("server.rss_bytes_per_connection", "server memory of a connection, bytes"),
    ("client.cpu_s", "harness CPU s"),
    ("client.resends", "messages sent again"),
    ("wire_bytes_per_message", "bytes a message on the wire"),
    ("overhead_bytes_per_message", "of which are not the body"),
    ("group.groups", "groups"),
    ("group.members", "members of a group"),
    ("group.cpu_s_per_100k_deliveries", "server CPU s for 100,000 deliveries"),
    ("group.wire_bytes_per_delivery", "bytes a delivery on the wire"),
    ("storm.sessions", "sessions that came back"),
    ("storm.storm_s", "until all are back, s"),
    ("storm.missed", "messages that they had missed"),
    ("storm.tries_again", "tries again"),
    ("storm.calm_delivery_ms.p99", "delivery p99 before, ms"),
    ("visit.conversations", "conversations of the account"),
    ("visit.missed", "messages that a visit finds"),
    ("visit.round_trips", "round trips of a visit"),
    ("visit.wire_bytes_resumed", "bytes of a visit"),
    ("visit.wire_bytes_full", "bytes of a first visit"),
    ("battery.background.idle.packets_up", "packets up, an idle hour in the background"),
    ("battery.background.idle.packets_down", "packets down, an idle hour in the background"),
    ("battery.background.idle.bytes_up", "bytes up, an idle hour in the background"),
    ("battery.background.idle.bytes_down", "bytes down, an idle hour in the background"),
    ("battery.background.trickle.bytes_per_message", "bytes a message to the background"),
    ("battery.background.trickle.packets_per_message", "packets a message to the background"),
    ("battery.foreground.idle.packets_up", "packets up, an idle hour in the foreground"),
    ("battery.foreground.idle.packets_down", "packets down, an idle hour in the foreground"),
    ("battery.foreground.idle.bytes_up", "bytes up, an idle hour in the foreground"),
    ("battery.foreground.idle.bytes_down", "bytes down, an idle hour in the foreground"),
    ("battery.foreground.trickle.bytes_per_message", "bytes a message to the foreground"),
    ("battery.foreground.trickle.packets_per_message", "packets a message to the foreground"),
    ("visit.first_missed_ms", "until the first missed message with early data, ms"),
    ("visit.first_missed_full_ms", "the same after a full handshake, ms"),
    ("visit.early_accepted", "visits whose early data was taken"),
];

/// Quantiles of every series of every run, in milliseconds.
pub(super) fn percentiles(m: &mut Markup, runs: &[Run]) {
    table(m, "Milliseconds; count is the number of samples.", |m| {
        row(m, &["run", "series", "count", "p50", "p90", "p99", "p99.9", "max"], true, 2);
        for run in runs {
            for (key, name) in SERIES {
                if run.quantiles(key).is_none() {
                    continue;
                }
                let of_part = |part| figure(run.json.get(key).and_then(|series| series.get(part)));
                let figures = PARTS.map(of_part);
                let cells: Vec<&str> = [&*run.name, name]
                    .into_iter()
                    .chain(figures.iter().map(String::as_str))
                    .collect();
                row(m, &cells, false, 2);
            }
        }
    });
}

/// Each figure that all runs have, beside the first run's.
pub(super) fn comparison(m: &mut Markup, runs: &[Run]) {
    let Some(first) = runs.first() else { return };
    table(m, "In parentheses: as a multiple of the first run.", |m| {
        let names: Vec<&str> =
            std::iter::once("figure").chain(runs.iter().map(|run| &*run.name)).collect();
        row(m, &names, true, 1);
        for (path, name) in COMPARED {
            let values: Vec<Option<&Value>> = runs.iter().map(|run| at(&run.json, path)).collect();
            let number = |value: Option<&Value>| value.and_then(Value::as_f64).filter(|v| *v > 0.0);
            let Some(base) = number(at(&first.json, path)) else { continue };
            let cells: Vec<String> = values
                .iter()
                .enumerate()
                .map(|(n, value)| match number(*value) {
                    Some(found) if n > 0 => format!("{} ({:.2})", figure(*value), found / base),
                    _ => figure(*value),
                })
                .collect();
            let cells: Vec<&str> =
                std::iter::once(name).chain(cells.iter().map(String::as_str)).collect();
            row(m, &cells, false, 1);
        }
    });
    let differing = differences(runs);
    if !differing.is_empty() {
        let text = format!("The runs differ in: {}.", differing.join(", "));
        m.element("p", &[], &text);
    }
}

/// Keys of the environment whose values differ, but for those that always do.
fn differences(runs: &[Run]) -> Vec<String> {
    let flat: Vec<Vec<(String, String)>> =
        runs.iter().map(|run| flattened(&run.report.environment)).collect();
    let mut keys: Vec<&String> = flat.iter().flatten().map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys.dedup();
    let always = ["started_unix_s", "load_before", "options.json", "options.html"];
    let value = |rows: &'_ [(String, String)], key: &str| {
        rows.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone())
    };
    keys.into_iter()
        .filter(|key| !always.contains(&key.as_str()))
        .filter(|key| {
            let first = flat.first().map(|rows| value(rows, key));
            flat.iter().any(|rows| Some(value(rows, key)) != first)
        })
        .cloned()
        .collect()
}

/// Each step of `--find-max`.
pub(super) fn steps(m: &mut Markup, runs: &[Run]) {
    table(m, "Each rate that was tried, in its order; latencies in milliseconds.", |m| {
        let names = [
            "run",
            "held",
            "offered",
            "achieved",
            "delivery p50",
            "delivery p99",
            "ack p99",
            "unanswered",
        ];
        row(m, &names, true, 2);
        for run in runs {
            for step in &run.report.steps {
                let figures = [
                    format!("{:.0}", step.offered_per_s),
                    format!("{:.0}", step.achieved_per_s),
                    step.delivery_ms.p50.to_string(),
                    step.delivery_ms.p99.to_string(),
                    step.ack_ms.p99.to_string(),
                    step.unanswered.to_string(),
                ];
                let held = if step.held { "yes" } else { "no" };
                let cells: Vec<&str> = [&*run.name, held]
                    .into_iter()
                    .chain(figures.iter().map(String::as_str))
                    .collect();
                row(m, &cells, false, 2);
            }
        }
    });
}

/// What it took.
pub(super) fn cost(m: &mut Markup, runs: &[Run]) {
    table(m, "Null: not measured in this run.", |m| {
        let names: Vec<&str> =
            std::iter::once("figure").chain(runs.iter().map(|run| &*run.name)).collect();
        row(m, &names, true, 1);
        for (path, name) in COST {
            let cells: Vec<String> = runs.iter().map(|run| figure(at(&run.json, path))).collect();
            if cells.iter().all(|cell| cell == "null") {
                continue;
            }
            let cells: Vec<&str> =
                std::iter::once(name).chain(cells.iter().map(String::as_str)).collect();
            row(m, &cells, false, 1);
        }
    });
}

/// Where and how each run took place.
pub(super) fn environment(m: &mut Markup, runs: &[Run]) {
    for run in runs {
        tree(m, &run.name, &run.report.environment);
    }
}

/// Everything in a value, a row for each.
pub(super) fn tree(m: &mut Markup, caption: &str, value: &Value) {
    table(m, caption, |m| {
        for (key, value) in flattened(value) {
            m.open("tr", &[]);
            m.element("th", &[("scope", "row")], &key);
            m.element("td", &[("class", "text")], &value);
            m.close("tr");
        }
    });
}

/// A value's parts as paths and values, by path.
fn flattened(value: &Value) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    flatten("", value, &mut rows);
    rows.sort_unstable();
    rows
}

fn flatten(path: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    if rows.len() >= ROWS_MAX {
        return;
    }
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&inner, value, rows);
            }
        }
        Value::Null => {}
        Value::Array(items) if items.is_empty() => {}
        Value::String(text) => rows.push((path.to_owned(), text.clone())),
        other => rows.push((path.to_owned(), other.to_string())),
    }
}

fn at<'a>(json: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(json, |value, part| value.get(part))
}

/// A figure as the JSON has it.
fn figure(value: Option<&Value>) -> String {
    value.map_or_else(|| "null".to_owned(), Value::to_string)
}

pub(super) fn table(m: &mut Markup, caption: &str, rows: impl FnOnce(&mut Markup)) {
    m.open("div", &[("class", "wide"), ("role", "group"), ("tabindex", "0")]);
    m.open("table", &[]);
    m.element("caption", &[], caption);
    rows(m);
    m.close("table");
    m.close("div");
}

/// A row whose first cells are text, the others figures.
pub(super) fn row(m: &mut Markup, cells: &[&str], is_head: bool, texts: usize) {
    m.open("tr", &[]);
    for (n, cell) in cells.iter().enumerate() {
        match (is_head, n) {
            (true, n) if n < texts => m.element("th", &[("scope", "col"), ("class", "text")], cell),
            (true, _) => m.element("th", &[("scope", "col")], cell),
            (false, 0) => m.element("th", &[("scope", "row")], cell),
            (false, n) if n < texts => m.element("td", &[("class", "text")], cell),
            (false, _) => m.element("td", &[], cell),
        }
    }
    m.close("tr");
}
