//! Brings a database's tables to this version: `migrations/*/NNNN_what.sql`, in
//! order, each in one transaction with the note that it was applied. A
//! migration that was released is never changed.

use crate::inspect::Tables;
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{SqlSafeStr as _, SqliteConnection, postgres::PgConnection};

/// `beside N` in a name: programs that know migrations up to N go on working on these tables, so that a newer one may
/// be started beside them.
const POSTGRES: &[(i64, &str, &str)] = &[
    (1, "schema", include_str!("../migrations/postgres/0001_schema.sql")),
    (2, "append entries", include_str!("../migrations/postgres/0002_append_entries.sql")),
    (3, "people", include_str!("../migrations/postgres/0003_people.sql")),
    (4, "apply change", include_str!("../migrations/postgres/0004_apply_change.sql")),
    (5, "append messages", include_str!("../migrations/postgres/0005_append_messages.sql")),
    (6, "journal, beside 5", include_str!("../migrations/postgres/0006_journal.sql")),
];

const SQLITE: &[(i64, &str, &str)] = &[
    (1, "schema", include_str!("../migrations/sqlite/0001_schema.sql")),
    (3, "people", include_str!("../migrations/sqlite/0003_people.sql")),
];

/// PostgreSQL: under sqlx's advisory lock, so that gateways which start at once
/// wait for the first. A database that is at this version already is not
/// written to, so that a role without the right to make tables can run on it.
pub(crate) async fn postgres(connection: &mut PgConnection) -> Result<(), String> {
    let migrator = migrator(POSTGRES);
    if is_current(connection, &migrator).await {
        return Ok(());
    }
    migrator.run_direct(None, connection, false).await.map_err(|error| explain(&error))
}

/// SQLite: the caller holds the database's lock file.
pub(crate) async fn sqlite(connection: &mut SqliteConnection) -> Result<(), String> {
    migrator(SQLITE).run_direct(None, connection, false).await.map_err(|error| explain(&error))
}

/// How far a database's tables are, judged by what it says was applied: version and checksum.
pub(crate) fn judge(is_postgres: bool, applied: &[(i64, Vec<u8>)]) -> Tables {
    let migrator = migrator(if is_postgres { POSTGRES } else { SQLITE });
    let known: Vec<_> = migrator.iter().collect();
    for (version, checksum) in applied {
        match known.iter().find(|migration| migration.version == *version) {
            None => return Tables::Newer { version: *version },
            Some(migration) if migration.checksum.as_ref() != checksum.as_slice() => {
                return Tables::Changed { version: *version };
            }
            Some(_) => {}
        }
    }
    match known.len() - applied.len() {
        0 => Tables::Current,
        _ if applied.is_empty() => Tables::Missing,
        missing => Tables::Older { missing },
    }
}

fn migrator(files: &[(i64, &'static str, &'static str)]) -> Migrator {
    Migrator::with_migrations(
        files
            .iter()
            .map(|&(version, what, sql)| {
                Migration::new(
                    version,
                    what.into(),
                    MigrationType::Simple,
                    sql.into_sql_str(),
                    false,
                )
            })
            .collect(),
    )
}

/// Whether our migrations are applied, and beside them only newer ones on whose tables this version works. Any doubt is
/// "no": the migrator says what is wrong.
async fn is_current(connection: &mut PgConnection, migrator: &Migrator) -> bool {
    let Ok(applied) = connection.list_applied_migrations(&migrator.table_name).await else {
        return false;
    };
    let ours: Vec<_> = migrator.iter().collect();
    let is_ours = applied.len() >= ours.len()
        && applied
            .iter()
            .zip(&ours)
            .all(|(have, want)| have.version == want.version && have.checksum == want.checksum);
    let Some(newest) = ours.last().map(|migration| migration.version).filter(|_| is_ours) else {
        return false;
    };
    let names: Result<Vec<String>, _> =
        sqlx::query_scalar("SELECT description FROM _sqlx_migrations WHERE version > $1")
            .bind(newest)
            .fetch_all(connection)
            .await;
    names.is_ok_and(|names| names.iter().all(|name| is_beside(name, newest)))
}

/// Whether a program whose newest migration is `newest` works on tables to which a later one of this name was applied.
fn is_beside(name: &str, newest: i64) -> bool {
    let named = name.rsplit_once("beside ").and_then(|(_, version)| version.parse::<i64>().ok());
    named.is_some_and(|version| version <= newest)
}

fn explain(error: &MigrateError) -> String {
    match error {
        MigrateError::VersionMissing(version) => format!(
            "its tables are of a newer Petrel (migration {version} is unknown here); start that version, or restore a backup"
        ),
        MigrateError::VersionMismatch(version) => format!(
            "migration {version} was applied in another form than this version knows; use the version that made the database"
        ),
        other => format!("its tables cannot be brought to this version: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_migration_says_which_programs_go_on_beside_it() {
        assert!(is_beside("journal, beside 5", 5) && is_beside("journal, beside 5", 6));
        assert!(!is_beside("journal, beside 5", 4), "too old");
        assert!(!is_beside("something else", 5) && !is_beside("beside nothing", 5));
    }
}
