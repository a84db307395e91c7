//! SQLite's write lock, held by somebody else than the gateway.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, Error};

/// How long the lock is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The write lock of a database: whoever wants to write waits, reading goes on. Given back when
/// this is dropped.
#[derive(Debug)]
pub struct WriteLock {
    _connection: Connection,
}

impl WriteLock {
    /// Takes it.
    ///
    /// # Errors
    /// There is no such database, or somebody else keeps the lock.
    pub fn take(path: &Path) -> Result<Self, Error> {
        let connection =
            Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(PATIENCE)?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        Ok(Self { _connection: connection })
    }
}
