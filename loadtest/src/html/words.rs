//! The verdict in words: whether the figures may be believed, and what went wrong.

use super::markup::Markup;
use super::view::Run;

pub(super) fn verdicts(m: &mut Markup, runs: &[Run]) {
    for run in runs {
        m.open("section", &[]);
        if runs.len() > 1 {
            m.element("h3", &[], &run.name);
        }
        verdict(m, run);
        m.close("section");
    }
}

fn verdict(m: &mut Markup, run: &Run) {
    let report = &run.report;
    let class = if report.valid { "good" } else { "bad" };
    let believed = if report.valid {
        "Valid: the harness kept up, and nothing went wrong. The figures may be believed."
    } else {
        "Not valid: the figures are not to be believed."
    };
    m.open("p", &[]);
    m.element("strong", &[("class", class)], believed);
    m.close("p");
    for reason in &report.invalid_because {
        m.element("p", &[("class", "bad")], reason);
    }
    let mut sentences = vec![format!(
        "Scenario {}: {:.0} connections, {:.0} messages or handshakes a second offered, {:.0} achieved.",
        report.scenario, report.connections as f64, report.offered_per_s, report.achieved_per_s
    )];
    if let Some(max) = report.max_sustainable_per_s {
        sentences.push(format!("The highest rate that held: {max:.0} a second."));
    }
    if let Some(storm) = report.storm.as_ref() {
        sentences.push(format!(
            "{} sessions lost their connections at once; the last was back after {:.1} s.",
            storm.sessions, storm.storm_s
        ));
    }
    if let Some(battery) = report.battery.as_ref() {
        sentences.push(format!("Per session and hour, extrapolated: {}.", battery.summary()));
    }
    let wrong = [
        (report.lost, "lost"),
        (report.duplicated, "duplicated"),
        (report.reordered, "out of order"),
        (report.gaps, "places missing"),
        (report.altered, "altered"),
    ];
    let counted: Vec<String> = wrong
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    sentences.push(if counted.is_empty() {
        "No message was lost, duplicated, out of order or altered, and no place was missing."
            .to_owned()
    } else {
        format!("Messages went wrong: {}.", counted.join(", "))
    });
    if report.histories_judged > 0 {
        sentences.push(format!(
            "{} histories were read by fresh connections at the end and compared with what was sent.",
            report.histories_judged
        ));
    }
    let errors: Vec<String> =
        report.errors.iter().map(|(code, count)| format!("{code} {count} times")).collect();
    sentences.push(if errors.is_empty() {
        "No errors.".to_owned()
    } else {
        format!("Errors: {}.", errors.join(", "))
    });
    m.element("p", &[], &sentences.join(" "));
    if !report.findings.is_empty() {
        m.element("p", &[], "The first findings:");
        m.open("ul", &[]);
        for finding in &report.findings {
            m.element("li", &[], finding);
        }
        m.close("ul");
    }
}
