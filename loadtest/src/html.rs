//! The report for browsers: one file that needs nothing else, neither script nor network.
//! Made from the JSON alone, so that old runs can be shown and compared.
//!
//! `view` reads the JSON, `markup` writes elements and escapes, `plot` draws axes and
//! lines, `chart` says what is drawn, `table` what is told in rows, `words` the verdict; `sweep` is the
//! page of many links.

mod chart;
mod markup;
mod plot;
mod sweep;
mod table;
mod view;
mod words;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Parser;

use markup::Markup;
pub use sweep::sweep;
pub use view::Run;

/// Reports in one comparison, at the most: as many as there are colours and dashes to tell apart.
pub const RUNS_MAX: usize = 8;
/// Bytes of one JSON report that is read.
const JSON_BYTES_MAX: u64 = 64 << 20;

/// `petrel-loadtest report`: shows reports that exist, side by side.
#[derive(Clone, Debug, Parser)]
#[command(name = "petrel-loadtest report", about, max_term_width = 100)]
pub struct ReportOptions {
    /// Writes the page there.
    #[arg(long, value_name = "FILE")]
    pub html: PathBuf,
    /// Reports as --json wrote them; the first is what the others are compared with.
    #[arg(required = true, value_name = "JSON")]
    pub files: Vec<PathBuf>,
}

/// Reads the reports and writes the page.
///
/// # Errors
/// Too many files, or one that cannot be read or is no report; the text names it.
pub fn report(options: &ReportOptions) -> anyhow::Result<()> {
    let count = options.files.len();
    ensure!(count <= RUNS_MAX, "{count} reports; at most {RUNS_MAX} on one page");
    let runs: Vec<Run> = options.files.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
    write(&options.html, &runs)
}

/// Writes the page of these runs.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, runs: &[Run]) -> anyhow::Result<()> {
    std::fs::write(path, page(runs)).with_context(|| format!("--html {}", path.display()))
}

fn read(path: &Path) -> anyhow::Result<Run> {
    let named = || path.display().to_string();
    let len = std::fs::metadata(path).with_context(named)?.len();
    ensure!(len <= JSON_BYTES_MAX, "{}: {len} bytes; at most {JSON_BYTES_MAX}", named());
    let text = std::fs::read_to_string(path).with_context(named)?;
    let json = serde_json::from_str(&text).with_context(named)?;
    let name = path.file_stem().map_or_else(named, |stem| stem.to_string_lossy().into_owned());
    Run::read(&name, json).with_context(named)
}

/// The page.
pub fn page(runs: &[Run]) -> String {
    let title = match runs {
        [run] => format!("Load test: {}", run.report.scenario),
        _ => format!("Load tests: {} runs compared", runs.len()),
    };
    document(&title, |m| {
        words::verdicts(m, runs);
        section(m, "Percentiles", |m| {
            chart::percentiles(m, runs);
            table::percentiles(m, runs);
        });
        if runs.len() > 1 {
            section(m, "Comparison", |m| table::comparison(m, runs));
        }
        if runs.iter().any(|run| !run.report.steps.is_empty()) {
            section(m, "Rate and latency", |m| {
                chart::steps(m, runs);
                table::steps(m, runs);
            });
        }
        section(m, "Second by second", |m| chart::seconds(m, runs));
        section(m, "Distribution", |m| chart::distribution(m, runs));
        section(m, "Cost", |m| table::cost(m, runs));
        section(m, "Environment", |m| table::environment(m, runs));
    })
}

fn document(title: &str, content: impl FnOnce(&mut Markup)) -> String {
    let mut m = Markup::default();
    m.raw("<!DOCTYPE html>\n");
    m.open("html", &[("lang", "en"), ("xmlns", "http://www.w3.org/1999/xhtml")]);
    m.open("head", &[]);
    m.empty("meta", &[("charset", "utf-8")]);
    m.empty("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
    // Nothing may be fetched or run, whatever got into a report.
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    m.empty("meta", &[("http-equiv", "Content-Security-Policy"), ("content", policy)]);
    m.element("title", &[], title);
    m.open("style", &[]);
    m.raw(include_str!("html/style.css"));
    m.close("style");
    m.close("head");
    m.open("body", &[]);
    m.open("main", &[]);
    m.element("h1", &[], title);
    content(&mut m);
    m.close("main");
    m.close("body");
    m.close("html");
    m.finish()
}

fn section(m: &mut Markup, heading: &str, content: impl FnOnce(&mut Markup)) {
    m.open("section", &[]);
    m.element("h2", &[], heading);
    content(m);
    m.close("section");
}

#[cfg(test)]
mod tests;
