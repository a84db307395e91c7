//! What the page reads of a report. Fields that an older report lacks are empty.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::battery::Battery;
use crate::latency::{Quantiles, Second, Spectrum};
use crate::report::{Report, SCHEMA};

/// The series in the order in which they are shown: key in the JSON, and name.
pub(super) const SERIES: [(&str, &str); 7] = [
    ("delivery_ms", "delivery"),
    ("ack_ms", "ack"),
    ("first_sight_ms", "first sight"),
    ("slip_ms", "slip"),
    ("connect_ms", "connect"),
    ("resume_ms", "resume"),
    ("list_ms", "list"),
];

/// One run.
#[derive(Clone, Debug)]
pub struct Run {
    /// What it is called on the page.
    pub(super) name: String,
    pub(super) report: View,
    /// The whole report, for figures that are only told.
    pub(super) json: Value,
}

/// One step of a search.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StepView {
    pub(super) offered_per_s: f64,
    pub(super) achieved_per_s: f64,
    pub(super) delivery_ms: Quantiles,
    pub(super) ack_ms: Quantiles,
    pub(super) unanswered: u64,
    pub(super) held: bool,
}

/// How a storm went.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StormView {
    pub(super) sessions: u64,
    pub(super) storm_s: f64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct View {
    pub(super) scenario: String,
    pub(super) valid: bool,
    pub(super) invalid_because: Vec<String>,
    pub(super) offered_per_s: f64,
    pub(super) achieved_per_s: f64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) reordered: u64,
    pub(super) gaps: u64,
    pub(super) altered: u64,
    pub(super) findings: Vec<String>,
    pub(super) histories_judged: u64,
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) max_sustainable_per_s: Option<f64>,
    pub(super) steps: Vec<StepView>,
    pub(super) storm: Option<StormView>,
    pub(super) battery: Option<Battery>,
    pub(super) connections: usize,
    pub(super) spectrum: BTreeMap<String, Spectrum>,
    pub(super) per_second: BTreeMap<String, Vec<Second>>,
    pub(super) environment: Value,
}

impl Run {
    /// Reads a report's JSON.
    ///
    /// # Errors
    /// It is no report of this schema.
    pub fn read(name: &str, json: Value) -> anyhow::Result<Self> {
        let schema = json.get("schema").and_then(Value::as_u64);
        ensure!(schema == Some(u64::from(SCHEMA)), "no report of schema {SCHEMA}: {schema:?}");
        let report = View::deserialize(&json).context("no report")?;
        Ok(Self { name: name.to_owned(), report, json })
    }

    /// The run that has just ended.
    ///
    /// # Errors
    /// As [`Report::json`].
    pub fn of(report: &Report) -> anyhow::Result<Self> {
        Self::read(&report.scenario, report.json()?)
    }

    /// A series' quantiles, if anything was measured.
    pub(super) fn quantiles(&self, key: &str) -> Option<Quantiles> {
        let quantiles = Quantiles::deserialize(self.json.get(key)?).ok()?;
        (quantiles.count > 0).then_some(quantiles)
    }

    /// Points of (quantile, milliseconds) by rising quantile; none in an older report.
    pub(super) fn curve(&self, key: &str) -> Vec<(f64, f64)> {
        let spectrum = self.report.spectrum.get(key);
        spectrum.map(|s| s.quantiles.iter().map(|[q, ms]| (*q, *ms)).collect()).unwrap_or_default()
    }

    pub(super) fn seconds(&self, key: &str) -> &[Second] {
        self.report.per_second.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// What the run is about: deliveries, or connections where nothing was said.
    pub(super) fn main_series(&self) -> (&'static str, &'static str) {
        let measured = SERIES.iter().find(|(key, _)| self.quantiles(key).is_some());
        *measured.unwrap_or(&SERIES[0])
    }
}
