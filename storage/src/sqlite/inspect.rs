//! A look at a SQLite database.

use std::path::Path;

use petrel_core::store::Durability;
use rusqlite::{Connection, OpenFlags};

use crate::inspect::{Inspection, Tables};
use crate::{OpenError, migrate};

/// The file is read only; a gateway may have it open meanwhile.
pub(crate) fn inspect(path: &Path) -> Result<Inspection, OpenError> {
    let file_error = |source| OpenError::File { path: path.to_owned(), source };
    let mut found = Inspection {
        place: path.display().to_string(),
        version: format!("SQLite {}", rusqlite::version()),
        // Every connection of ours sets it; see `sqlite/thread.rs`.
        durability: Durability {
            durable: true,
            settings: vec![("synchronous".to_owned(), "full".to_owned())],
        },
        tables: Tables::Missing,
        clock_ahead_ms: None,
        connections_max: None,
    };
    if !path.try_exists().map_err(file_error)? {
        return Ok(found);
    }
    std::fs::OpenOptions::new().read(true).write(true).open(path).map_err(file_error)?;
    let look = || -> Result<Vec<(i64, Vec<u8>)>, rusqlite::Error> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let there: bool = connection.query_row(
            "SELECT count(*) > 0 FROM sqlite_master WHERE name = '_sqlx_migrations'",
            [],
            |row| row.get(0),
        )?;
        if !there {
            return Ok(Vec::new());
        }
        let mut statement = connection
            .prepare("SELECT version, checksum FROM _sqlx_migrations ORDER BY version")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect()
    };
    let applied = look().map_err(|error| OpenError::Database {
        path: path.to_owned(),
        problem: error.to_string(),
    })?;
    found.tables = migrate::judge(false, &applied);
    Ok(found)
}
