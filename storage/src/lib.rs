//! Petrel's stores: SQLite (the embedded default) and PostgreSQL, behind the
//! ports of `petrel_core::store`. [`open`] chooses by URL.
//!
//! **Invariant:** a place in a log is given only inside a transaction that
//! holds the conversation's lock, and answered only after its commit. Nothing
//! here decides what may be said; SQL is text in this crate's source, values
//! are bound.

pub mod budget;
mod change;
pub mod inspect;
mod migrate;
mod ports;
pub mod postgres;
pub mod redis;
mod row;
pub mod sqlite;
#[cfg(feature = "testing")]
pub mod testing;
pub mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use petrel_core::id::NodeId;
use petrel_core::store::Store;

/// How a store is opened. All waits are bounded by these.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Writers that PostgreSQL gets, each with a connection of its own. SQLite always has one.
    pub writers: usize,
    /// Connections for everything but batches, at the most.
    pub pool_connections: u32,
    /// How long making a connection may take.
    pub connect_timeout: Duration,
    /// How long a call may wait for a connection of the pool.
    pub acquire_timeout: Duration,
    /// How long the server waits for a lock before it gives up (PostgreSQL).
    pub lock_timeout: Duration,
    /// How long the server works on one statement before it gives up (PostgreSQL).
    pub statement_timeout: Duration,
    /// How long we wait for any answer. Above `statement_timeout`, so that a
    /// server that is alive says itself what was wrong. A connection on which
    /// this fires is closed.
    pub deadline: Duration,
    /// Under whose name what is committed is written to the journal, for other gateways on the same
    /// PostgreSQL database; `None`: there are no others.
    pub node: Option<NodeId>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            writers: 2,
            pool_connections: 8,
            connect_timeout: Duration::from_secs(3),
            acquire_timeout: Duration::from_secs(2),
            lock_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(4),
            deadline: Duration::from_secs(5),
            node: None,
        }
    }
}

/// Why a store could not be opened: what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names no store that we know.
    #[error(
        "storage.url: neither `sqlite:PATH` nor `postgres://USER@HOST/DATABASE` (it starts with {start:?})"
    )]
    Url {
        /// What stands before the first colon.
        start: String,
    },
    /// The URL names a store, but cannot be read.
    #[error("storage.url: {problem}")]
    UrlInvalid {
        /// What is wrong with it.
        problem: String,
    },
    /// A directory or file of the database cannot be made or opened.
    #[error("{}: {source}; the directory must exist or be creatable, and the file writable, by the user that runs the gateway", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another gateway has this SQLite database open.
    #[error("{}: another process has this database open; stop it, or give this gateway another path (several gateways need PostgreSQL)", lock_file.display())]
    InUse {
        /// The file whose lock the other process holds.
        lock_file: PathBuf,
    },
    /// The database does not answer, or not as it should.
    #[error(
        "{place}: {problem}; see that the server runs, that user, password and database of storage.url are right, and that it is not read-only"
    )]
    Connect {
        /// Host, port and database; never a password.
        place: String,
        /// What happened.
        problem: String,
    },
    /// The SQLite file cannot be used as a database.
    #[error("{}: {problem}", path.display())]
    Database {
        /// Which file.
        path: PathBuf,
        /// What happened.
        problem: String,
    },
    /// The tables cannot be brought to this version.
    #[error("{place}: {problem}")]
    Migrate {
        /// Which database.
        place: String,
        /// What happened, and what to do.
        problem: String,
    },
}

/// Opens the store that `url` names, brings its tables to this version, and
/// starts what it needs. `sqlite:PATH` makes the file and its directory (mode
/// 0700) if they are missing; `postgres://...` needs a database that exists.
///
/// # Errors
/// See [`OpenError`].
pub async fn open(url: &str, options: StoreOptions) -> Result<Arc<dyn Store>, OpenError> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return Ok(Arc::new(sqlite::SqliteStore::open(path, options).await?));
    }
    if url.starts_with("postgres:") || url.starts_with("postgresql:") {
        return Ok(Arc::new(postgres::PostgresStore::open(url, options).await?));
    }
    Err(OpenError::Url {
        start: url.split(':').next().unwrap_or_default().chars().take(20).collect(),
    })
}
