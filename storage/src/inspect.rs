//! A look at a store without changing it: for `petrel doctor`.

use std::path::Path;

use petrel_core::store::Durability;

use crate::{OpenError, StoreOptions, postgres, sqlite};

/// How far a database's tables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// There are none yet; the first start makes them.
    Missing,
    /// The next start brings them to this version.
    Older {
        /// How many migrations are missing.
        missing: usize,
    },
    /// As this version wants them.
    Current,
    /// Of a newer version, which this one cannot use.
    Newer {
        /// A migration that is unknown here.
        version: i64,
    },
    /// A migration was applied in another form.
    Changed {
        /// Which.
        version: i64,
    },
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Host, port and database, or the file; never a password.
    pub place: String,
    /// Name and version of the database.
    pub version: String,
    /// Whether commits survive a power cut.
    pub durability: Durability,
    /// The tables.
    pub tables: Tables,
    /// How far the database's clock is ahead of ours, in milliseconds, if it has one of its own.
    pub clock_ahead_ms: Option<i64>,
    /// Connections that the server takes, all clients together, if it has such a bound.
    pub connections_max: Option<i64>,
}

/// Looks at the store that `url` names. Nothing is made or changed.
///
/// # Errors
/// As [`crate::open`].
pub async fn inspect(url: &str) -> Result<Inspection, OpenError> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        return sqlite::inspect(Path::new(path.strip_prefix("//").unwrap_or(path)));
    }
    if url.starts_with("postgres:") || url.starts_with("postgresql:") {
        return postgres::inspect(url, StoreOptions::default()).await;
    }
    Err(OpenError::Url {
        start: url.split(':').next().unwrap_or_default().chars().take(20).collect(),
    })
}
