//! Logs: text on a terminal's error stream or JSON; a panic is counted and logged.

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use crate::config::Log;
use crate::metrics;

/// Sets logging up for the whole process. Bodies and secrets are never logged;
/// text that comes from outside is escaped by the formatter.
///
/// # Errors
/// If the filter cannot be read.
pub fn install(log: &Log) -> Result<()> {
    let filter = EnvFilter::try_new(&log.filter)
        .with_context(|| format!("log.filter: {:?} is not a filter", log.filter))?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if log.json {
        subscriber.json().init();
    } else {
        subscriber.init();
    }
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        metrics::panicked();
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "a task panicked");
        default(panic);
    }));
    Ok(())
}
