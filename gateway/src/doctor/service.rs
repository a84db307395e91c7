//! Database and Redis: reachable, and as they have to be.

use std::time::Duration;

use petrel_core::id::NodeId;
use petrel_storage::inspect::{Inspection, Tables, inspect};
use petrel_storage::redis::{Directory, DirectoryError, ServerFacts};
use petrel_storage::{OpenError, StoreOptions};

use super::{Finding, Level};
use crate::config::Config;

/// Beyond it the times of messages differ visibly between gateway and database.
const CLOCK_OFFSET_WARN_MS: u64 = 1_000;
/// Beyond it something is badly wrong.
const CLOCK_OFFSET_FAIL_MS: u64 = 60_000;

/// Several findings: reachable, durable, tables, clock, connections.
pub(super) async fn database(config: &Config) -> Vec<Finding> {
    match inspect(&config.storage_url()).await {
        Ok(seen) => {
            let mut found = vec![
                Finding::ok("database", format!("{}, {}", seen.place, seen.version)),
                durability(&seen),
                tables(seen.tables),
            ];
            found.extend(seen.clock_ahead_ms.map(clock));
            found.extend(seen.connections_max.map(connections));
            found
        }
        Err(error) => vec![Finding::fail("database", error.to_string(), advice(&error))],
    }
}

fn advice(error: &OpenError) -> &'static str {
    match error {
        OpenError::Url { .. } | OpenError::UrlInvalid { .. } => "correct storage.url",
        OpenError::File { .. } | OpenError::Database { .. } => {
            "see the owner and mode of the file, and that it is a database of Petrel"
        }
        _ => {
            "start the database, and see that storage.url names it with the right user and password"
        }
    }
}

fn durability(seen: &Inspection) -> Finding {
    const CHECK: &str = "durability";
    let settings: Vec<String> =
        seen.durability.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let settings = settings.join(", ");
    if seen.durability.durable {
        return Finding::ok(CHECK, settings);
    }
    Finding::fail(
        CHECK,
        format!("a crash of the database can lose acknowledged messages: {settings}"),
        "set fsync=on and synchronous_commit=on in the database, for this role and database too",
    )
}

fn tables(tables: Tables) -> Finding {
    const CHECK: &str = "tables";
    match tables {
        Tables::Current => Finding::ok(CHECK, "of this version"),
        Tables::Missing => Finding::ok(CHECK, "none yet; the first start makes them"),
        Tables::Older { missing } => Finding::warn(
            CHECK,
            format!("of an older version; the next start applies {missing} migrations"),
            "make a backup before you start this version",
        ),
        Tables::Newer { version } => Finding::fail(
            CHECK,
            format!("of a newer version: migration {version} is unknown here"),
            "start that version, or restore a backup",
        ),
        Tables::Changed { version } => Finding::fail(
            CHECK,
            format!("migration {version} was applied in another form than this version knows"),
            "use the version that made the database",
        ),
    }
}

fn clock(ahead_ms: i64) -> Finding {
    let found = format!("the database's clock is {ahead_ms} ms ahead of this machine's");
    let level = match ahead_ms.unsigned_abs() {
        CLOCK_OFFSET_FAIL_MS.. => Level::Fail,
        CLOCK_OFFSET_WARN_MS.. => Level::Warn,
        _ => Level::Ok,
    };
    let advice = "run a time service on both machines".to_owned();
    let advice = (level != Level::Ok).then_some(advice);
    Finding { check: "database clock", level, found, advice }
}

fn connections(max: i64) -> Finding {
    const CHECK: &str = "database connections";
    let options = StoreOptions::default();
    let ours = i64::from(options.pool_connections) + i64::try_from(options.writers).unwrap_or(0);
    if max < ours + 5 {
        return Finding::warn(
            CHECK,
            format!("the server takes {max}, one gateway uses up to {ours}"),
            "raise max_connections",
        );
    }
    Finding::ok(CHECK, format!("the server takes {max}, one gateway uses up to {ours}"))
}

/// Reachable, the right password, and no eviction.
pub(super) async fn redis(config: &Config) -> Finding {
    const CHECK: &str = "redis";
    let Some(url) = &config.redis.url else {
        return Finding::ok(CHECK, "not set; there is no mirror");
    };
    let asking = async {
        let node = NodeId([0; 16]);
        let directory = Directory::new(url.expose(), "doctor", node, Duration::from_secs(1))?;
        directory.connect().await?.facts().await
    };
    let asked: Result<ServerFacts, DirectoryError> = asking.await;
    match asked {
        Ok(ServerFacts { version, evicts_by: None }) => {
            Finding::ok(CHECK, format!("reachable, version {version}"))
        }
        Ok(ServerFacts { evicts_by: Some(policy), .. }) => Finding::warn(
            CHECK,
            format!(
                "when its memory is full it evicts by {policy}: users are not found for minutes"
            ),
            "set maxmemory-policy noeviction, or give it a Redis of its own",
        ),
        Err(error) => Finding::fail(
            CHECK,
            error.to_string(),
            "a gateway serves without it; several gateways find each other's users late",
        ),
    }
}
