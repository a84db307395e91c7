//! What `deploy/` ships for monitoring fits the gateway that is here: rules and dashboards ask
//! only for metrics that there are, in queries that Prometheus understands, and each alert is
//! tested and explained.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use petrel_storage::redis::testing::PrivateRedis;
use petrel_tests::cluster::{PATIENCE, Stage, eventually};
use serde_json::{Value, json};

/// Where Grafana replaces something before it asks Prometheus.
const REPLACED: [(&str, &str); 2] = [("$instance", ".*"), ("$__rate_interval", "5m")];

fn deploy() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn read(path: &str) -> Result<String> {
    let path = deploy().join(path);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// The dashboards by file name.
fn dashboards() -> Result<BTreeMap<String, Value>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(deploy().join("grafana/dashboards"))? {
        let path = entry?.path();
        let name = path.file_name().context("a name")?.to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path)?;
        found.insert(name.clone(), serde_json::from_str(&text).context(name)?);
    }
    ensure!(found.len() >= 6, "{:?}", found.keys());
    Ok(found)
}

/// All queries of a dashboard, with its panels' titles.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().cloned().unwrap_or_default();
    let of_panel = |panel: &Value| {
        let title = panel["title"].as_str().unwrap_or_default().to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(move |target| {
            (title.clone(), target["expr"].as_str().unwrap_or_default().to_owned())
        })
    };
    panels.iter().flat_map(of_panel).collect()
}

/// Names of our metrics in a text, as the scrape has them in `# TYPE`: without the suffixes of
/// a histogram's parts.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = text.split(|c| !is_name(c)).filter(|word| word.starts_with("petrel_"));
    words
        .map(|word| {
            let part = ["_bucket", "_sum", "_count"].iter().find_map(|s| word.strip_suffix(s));
            part.unwrap_or(word).to_owned()
        })
        .collect()
}

fn promtool(arguments: &[&str], dir: &std::path::Path) -> Result<()> {
    let ran = Command::new("promtool")
        .args(arguments)
        .current_dir(dir)
        .output()
        .context("promtool is missing; install it: apt-get install prometheus")?;
    let said = [ran.stdout, ran.stderr].concat();
    ensure!(ran.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&said));
    Ok(())
}

#[test]
fn rules_and_their_tests_pass_promtool() -> Result<()> {
    let dir = deploy().join("prometheus");
    promtool(&["check", "config", "prometheus.yml"], &dir)?;
    promtool(&["check", "rules", "petrel.rules.yml"], &dir)?;
    promtool(&["test", "rules", "petrel.rules.test.yml"], &dir)
}

#[test]
fn each_alert_is_tested_both_ways_and_explained() -> Result<()> {
    let rules = read("prometheus/petrel.rules.yml")?;
    let tests = read("prometheus/petrel.rules.test.yml")?;
    let explained = read("../docs/operations.md")?;
    let headings: BTreeSet<String> = explained
        .lines()
        .filter_map(|line| {
            Some(line.trim_start_matches('#').trim()).filter(|_| line.starts_with('#'))
        })
        .map(str::to_lowercase)
        .collect();
    let blocks: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    ensure!(blocks.len() >= 20, "{} alerts", blocks.len());
    for block in blocks {
        let name = block.lines().next().context("a name")?.trim();
        for part in ["severity: ", "summary: ", "description: "] {
            ensure!(block.contains(part), "{name} has no {part}");
        }
        let runbook = block.lines().find_map(|line| line.trim().strip_prefix("runbook_url: "));
        let anchor = runbook.and_then(|url| url.strip_prefix("docs/operations.md#"));
        let anchor = anchor.with_context(|| format!("{name}: runbook_url {runbook:?}"))?;
        ensure!(headings.contains(anchor), "{name}: docs/operations.md has no heading {anchor}");
        ensure!(tests.contains(&format!("alertname: {name}\n")), "{name}: no test that it fires");
        let quiet = format!("alertname=\"{name}\", alertstate=\"firing\"");
        ensure!(tests.contains(&quiet), "{name}: no test that it stays quiet");
    }
    Ok(())
}

#[test]
fn dashboards_are_whole() -> Result<()> {
    let mut uids = BTreeSet::new();
    for (file, board) in dashboards()? {
        ensure!(uids.insert(board["uid"].to_string()), "{file}: a uid that another has");
        let variables = board["templating"]["list"].as_array().context("no variables")?;
        let kind =
            |name: &str| variables.iter().find(|v| v["name"] == name).map(|v| v["type"].clone());
        ensure!(kind("datasource") == Some("datasource".into()), "{file}: no datasource variable");
        ensure!(kind("instance") == Some("query".into()), "{file}: no instance variable");
        let panels = board["panels"].as_array().context("no panels")?;
        let mut ids = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for panel in panels {
            let title = format!("{file}, panel {}", panel["title"]);
            ensure!(panel["title"].as_str().is_some_and(|t| !t.is_empty()), "{file}: no title");
            ensure!(ids.insert(panel["id"].as_u64().context("no id")?), "{title}: its id is taken");
            let at = |side: &str| panel["gridPos"][side].as_u64().context("no place");
            ensure!(at("x")? + at("w")? <= 24, "{title}: too wide");
            for x in at("x")?..at("x")? + at("w")? {
                for y in at("y")?..at("y")? + at("h")? {
                    ensure!(taken.insert((x, y)), "{title}: lies over another");
                }
            }
            if panel["type"] == "row" {
                continue;
            }
            let targets = panel["targets"].as_array().context("no targets")?;
            ensure!(!targets.is_empty(), "{title}: asks nothing");
            for asked in targets.iter().chain([panel]) {
                ensure!(asked["datasource"]["uid"] == "${datasource}", "{title}: another source");
            }
        }
        ensure!(!queries(&board).is_empty(), "{file}: asks nothing");
    }
    Ok(())
}

#[test]
fn the_queries_of_dashboards_are_promql() -> Result<()> {
    let mut rules = Vec::new();
    for (file, board) in dashboards()? {
        for (panel, mut query) in queries(&board) {
            for (from, to) in REPLACED {
                query = query.replace(from, to);
            }
            ensure!(!query.contains('$'), "{file}, {panel}: {query} has an unknown variable");
            // Names that differ, so that promtool finds no two rules alike.
            rules.push(json!({ "record": format!("q:{}", rules.len()), "expr": query }));
        }
    }
    let dir = tempfile::tempdir()?;
    // JSON is YAML.
    let file = json!({ "groups": [{ "name": "dashboards", "rules": rules }] });
    std::fs::write(dir.path().join("queries.yml"), file.to_string())?;
    promtool(&["check", "rules", "queries.yml"], dir.path())
}

#[tokio::test]
async fn each_metric_of_rules_and_dashboards_is_scraped() -> Result<()> {
    let stage = Stage::sqlite()?;
    let redis = tokio::task::spawn_blocking(PrivateRedis::start).await??;
    let url = format!("redis.url={}", redis.url());
    let gateway = stage.gateway(&["message.preview_after=0ms", &url]).await?;
    let alice = stage.person(&gateway, "alice").await?;
    let bob = stage.person(&gateway, "bob").await?;
    let pair = alice.with(&bob);
    for n in 0..5 {
        alice.say(&pair, format!("message {n}")).await?;
    }
    bob.has(pair.id, 5).await?;

    let mut wanted = BTreeMap::<String, String>::new();
    let mut want = |from: &str, text: &str| {
        for name in metrics_in(text) {
            wanted.entry(name).or_insert_with(|| from.to_owned());
        }
    };
    for file in ["prometheus/petrel.rules.yml", "prometheus/petrel.rules.test.yml"] {
        want(file, &read(file)?);
    }
    for (file, board) in dashboards()? {
        for (panel, query) in queries(&board) {
            want(&format!("{file}, {panel}"), &query);
        }
        let variables = &board["templating"]["list"];
        want(&file, &variables.to_string());
    }
    ensure!(wanted.len() >= 40, "{} metrics", wanted.len());
    let scraped = || async {
        let scrape = gateway.scrape().await?;
        Ok((scrape.sum("petrel_quic_rtt_seconds_count", "") > 0.0).then_some(scrape))
    };
    let scrape = eventually(PATIENCE, "a scrape with samples of connections", scraped).await?;
    let types = scrape.text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let there: BTreeSet<&str> = types.filter_map(|line| line.split(' ').next()).collect();
    let missing: Vec<_> =
        wanted.iter().filter(|(name, _)| !there.contains(name.as_str())).collect();
    ensure!(missing.is_empty(), "no gateway has {missing:?}");
    Ok(())
}
