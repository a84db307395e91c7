//! Where and how a run took place, so that its figures can be compared.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};

use crate::admin;
use crate::options::{Options, Scenario};
use crate::sweep::SweepOptions;

/// The commit of the tree that this binary was built from, as it is now; with a mark if it was changed.
pub fn commit() -> String {
    let dirty = git(&["status", "--porcelain"]).is_none_or(|changes| !changes.is_empty());
    git(&["rev-parse", "HEAD"]).unwrap_or_default() + if dirty { "+" } else { "" }
}

/// The stamp of a sweep.
pub fn of_sweep(options: &SweepOptions) -> Value {
    json!({
        "commit": commit(),
        "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
        "kernel": first_line("/proc/sys/kernel/osrelease"),
        "cores": std::thread::available_parallelism().map(std::num::NonZero::get).ok(),
        "cpu": cpu_model(),
        "load_at_end": first_line("/proc/loadavg"),
        "options": options,
    })
}

/// Collects the stamp. What cannot be found out is null.
pub fn stamp(options: &Options, admin_port: Option<SocketAddr>) -> Value {
    let ready: Option<Value> = admin_port
        .and_then(|port| admin::get(port, "/readyz").ok())
        .and_then(|body| serde_json::from_str(&body).ok());
    // The tree that this binary was built from, as it is now.
    let commit = git(&["rev-parse", "HEAD"]);
    let dirty = git(&["status", "--porcelain"]).map(|changes| !changes.is_empty());
    json!({
        "commit": commit,
        "dirty": dirty,
        "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
        "kernel": first_line("/proc/sys/kernel/osrelease"),
        "cores": std::thread::available_parallelism().map(std::num::NonZero::get).ok(),
        "cpu": cpu_model(),
        "load_before": first_line("/proc/loadavg"),
        "udp_rmem_max": first_line("/proc/sys/net/core/rmem_max"),
        "shared_cores": options.server_cpus.is_none() || options.client_cpus.is_none(),
        "started_unix_s": std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH).map(|d| d.as_secs()).ok(),
        "storage": storage(options),
        "durability": ready.as_ref().and_then(|ready| ready.get("storage")),
        "seed": options.seed,
        "options": options,
    })
}

/// What the load was stored in, as far as the harness knows.
fn storage(options: &Options) -> Option<String> {
    match (options.scenario, &options.storage, &options.server) {
        (Scenario::Relay | Scenario::RelayServer, ..) => Some("none".to_owned()),
        (_, Some(url), _) => Some(masked(url)),
        (_, None, Some(_)) => None,
        (_, None, None) => Some("sqlite, in a directory of the run".to_owned()),
    }
}

/// A storage URL without its password.
pub fn masked(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    match rest.split_once('@') {
        Some((account, place)) => {
            let user = account.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:***@{place}")
        }
        None => url.to_owned(),
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let out = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR")])
        .args(arguments)
        .output()
        .ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

fn first_line(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.lines().next()?.to_owned())
}

fn cpu_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_do_not_reach_the_report() {
        for (url, want) in [
            ("postgres://me:secret@host/db", "postgres://me:***@host/db"),
            ("postgres://me@host/db", "postgres://me:***@host/db"),
            ("postgres://host/db", "postgres://host/db"),
            ("sqlite:/tmp/x", "sqlite:/tmp/x"),
        ] {
            assert_eq!(masked(url), want);
        }
    }
}
