//! The page of a sweep: latency by loss for each delay, by delay for bursts, and a row for each run.

use super::markup::Markup;
use super::plot::{Axis, Caption, Line, Scale, lines, short};
use super::{document, section, table};
use crate::latency::Quantiles;
use crate::sweep::{Loss, Outcome, Sweep, Way};

/// A figure of a series of samples.
type Part = fn(&Quantiles) -> f64;

/// What is drawn.
const DRAWN: [(&str, Part); 3] = [("p50", |q| q.p50), ("p99", |q| q.p99), ("p99.9", |q| q.p999)];

/// The page.
pub fn sweep(sweep: &Sweep) -> String {
    document("Load tests: a sweep over links", |m| {
        let bad: Vec<String> = sweep.runs.iter().filter_map(fault).collect();
        let verdict = match bad.len() {
            0 => format!(
                "All {} runs are valid: nothing lost, doubled, reordered or altered.",
                sweep.runs.len()
            ),
            count => format!("{count} of {} runs are not valid:", sweep.runs.len()),
        };
        m.element("p", &[], &verdict);
        list(m, &bad);
        let mut delays: Vec<u32> = sweep.runs.iter().map(|run| run.cell.delay_ms).collect();
        delays.sort_unstable();
        delays.dedup();
        for delay in delays {
            section(m, &format!("Delivery, {delay} ms one way"), |m| by_loss(m, sweep, delay));
        }
        if sweep.runs.iter().any(|run| run.cell.loss == Loss::Burst) {
            section(m, "Delivery, bursts", |m| by_delay(m, sweep));
        }
        section(m, "All runs", |m| rows(m, sweep));
        section(m, "Environment", |m| table::tree(m, "Where and how", &sweep.environment));
    })
}

fn fault(run: &Outcome) -> Option<String> {
    let because = run.found.invalid_because.join("; ");
    (!run.found.valid).then(|| format!("{}: not valid: {because}", run.cell.name()))
}

fn list(m: &mut Markup, items: &[String]) {
    if !items.is_empty() {
        m.open("ul", &[]);
        for item in items {
            m.element("li", &[], item);
        }
        m.close("ul");
    }
}

fn by_loss(m: &mut Markup, sweep: &Sweep, delay_ms: u32) {
    for (name, of) in DRAWN {
        let drawn = each_way(
            sweep,
            |run| match run.cell.loss {
                Loss::Percent(percent) if run.cell.delay_ms == delay_ms => Some(percent),
                _ => None,
            },
            of,
        );
        let title = format!("Delivery {name}, {delay_ms} ms one way");
        plot(m, &title, "percent of packets lost", &drawn);
    }
}

fn by_delay(m: &mut Markup, sweep: &Sweep) {
    for (name, of) in DRAWN {
        let is_burst = |run: &Outcome| run.cell.loss == Loss::Burst;
        let drawn = each_way(sweep, |run| is_burst(run).then(|| f64::from(run.cell.delay_ms)), of);
        let title = format!("Delivery {name}, bursts of 150 ms");
        plot(m, &title, "milliseconds one way", &drawn);
    }
}

/// A line for each way that has points; what is not valid is marked with a cross.
fn each_way(sweep: &Sweep, place: impl Fn(&Outcome) -> Option<f64>, value: Part) -> Vec<Line> {
    let of = |(style, way): (usize, Way)| {
        let mut marks: Vec<(f64, f64, bool)> = sweep
            .runs
            .iter()
            .filter(|run| run.cell.series == way)
            .filter_map(|run| Some((place(run)?, value(&run.found.delivery_ms), run.found.valid)))
            .collect();
        marks.sort_by(|a, b| a.0.total_cmp(&b.0));
        let points = marks.iter().map(|(x, y, _)| (*x, *y)).collect();
        Line { name: way.title().to_owned(), style, points, marks }
    };
    let all = Way::ALL.into_iter().enumerate().map(of);
    all.filter(|line| !line.points.is_empty()).collect()
}

fn plot(m: &mut Markup, title: &str, unit: &'static str, drawn: &[Line]) {
    if drawn.is_empty() {
        return;
    }
    let points = || drawn.iter().flat_map(|line| line.points.iter());
    let x = Axis::around(unit, Scale::Linear, points().map(|p| p.0));
    let y = Axis::around("milliseconds", Scale::Log, points().map(|p| p.1));
    let told = |line: &Line| {
        let all: Vec<String> =
            line.points.iter().map(|(x, y)| format!("{} at {}", short(*y), short(*x))).collect();
        format!("{}: {}.", line.name, all.join(", "))
    };
    let told: Vec<String> = drawn.iter().map(told).collect();
    lines(m, &Caption { title, told: &told.join(" ") }, &x, &y, drawn);
}

fn rows(m: &mut Markup, sweep: &Sweep) {
    table::table(m, "Delivery in milliseconds; packets and bytes are those of both links.", |m| {
        let names = [
            "way",
            "loss",
            "ms one way",
            "verdict",
            "messages",
            "p50",
            "p99",
            "p99.9",
            "max",
            "ack p99",
            "packets a message",
            "bytes a message",
        ];
        table::row(m, &names, true, 4);
        for run in &sweep.runs {
            let (d, cell, found) = (&run.found.delivery_ms, &run.cell, &run.found);
            let optional = |value: Option<f64>| value.map_or_else(String::new, short);
            let cells = [
                cell.series.title().to_owned(),
                cell.loss.to_string(),
                cell.delay_ms.to_string(),
                if found.valid { "valid" } else { "not valid" }.to_owned(),
                d.count.to_string(),
                short(d.p50),
                short(d.p99),
                short(d.p999),
                short(d.max),
                short(found.ack_ms.p99),
                optional(run.packets_per_message),
                optional(found.wire_bytes_per_message),
            ];
            table::row(m, &cells.each_ref().map(String::as_str), false, 4);
        }
    });
}
