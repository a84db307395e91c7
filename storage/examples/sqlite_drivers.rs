//! The same transaction on SQLite through both drivers: rusqlite, whose
//! statements are function calls, and sqlx, which hands each one to a thread.
//! Figures and decision: docs/decisions/0002-rusqlite-in-the-sqlite-writer.md.
//!
//! `cargo run --release -p petrel-storage --example sqlite_drivers [SECONDS]`

#![allow(clippy::print_stdout, reason = "it is a program that prints a table")]

use std::path::Path;
use std::time::{Duration, Instant};

use rand::Rng as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use uuid::Uuid;

const CONVERSATIONS: i64 = 10_000;
const BATCHES: [usize; 3] = [1, 16, 64];
const TABLES: &str = "PRAGMA journal_mode = WAL; \
    CREATE TABLE conversation (id INTEGER PRIMARY KEY, head INTEGER NOT NULL); \
    CREATE TABLE entry (conversation_id INTEGER NOT NULL, seq INTEGER NOT NULL, id BLOB NOT NULL, \
      body BLOB NOT NULL, PRIMARY KEY (conversation_id, seq), UNIQUE (conversation_id, id)); \
    WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 9999) \
    INSERT INTO conversation SELECT i, 0 FROM n;";
const HEAD: &str = "SELECT head FROM conversation WHERE id = ?1";
const INSERT: &str = "INSERT INTO entry VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
const MOVE: &str = "UPDATE conversation SET head = ?2 WHERE id = ?1";
const BODY: [u8; 120] = [b'x'; 120];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(2.0), |text| text.parse())?;
    let duration = Duration::from_secs_f64(seconds);
    println!("batch   rusqlite rows/s   sqlx rows/s   ratio");
    for batch in BATCHES {
        let directory = tempfile::tempdir_in(".")?;
        let one = through_rusqlite(&directory.path().join("one.db"), batch, duration)?;
        let other = through_sqlx(&directory.path().join("other.db"), batch, duration).await?;
        println!("{batch:5} {one:17.0} {other:13.0} {:7.1}", one / other);
    }
    Ok(())
}

fn through_rusqlite(path: &Path, batch: usize, duration: Duration) -> anyhow::Result<f64> {
    let mut connection = rusqlite::Connection::open(path)?;
    connection.execute_batch(TABLES)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let (begun, mut rows) = (Instant::now(), 0);
    while begun.elapsed() < duration {
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for _ in 0..batch {
            let c = rand::rng().random_range(0..CONVERSATIONS);
            let head: i64 = transaction.prepare_cached(HEAD)?.query_row([c], |row| row.get(0))?;
            transaction.prepare_cached(INSERT)?.execute(rusqlite::params![
                c,
                head + 1,
                Uuid::now_v7().into_bytes(),
                BODY
            ])?;
            transaction.prepare_cached(MOVE)?.execute([c, head + 1])?;
            rows += 1;
        }
        transaction.commit()?;
    }
    Ok(f64::from(rows) / begun.elapsed().as_secs_f64())
}

async fn through_sqlx(path: &Path, batch: usize, duration: Duration) -> anyhow::Result<f64> {
    let settings = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .disable_statement_logging();
    let mut connection = SqliteConnection::connect_with(&settings).await?;
    sqlx::raw_sql(TABLES).execute(&mut connection).await?;
    let (begun, mut rows) = (Instant::now(), 0);
    while begun.elapsed() < duration {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        for _ in 0..batch {
            let c = rand::rng().random_range(0..CONVERSATIONS);
            let head: i64 = sqlx::query_scalar(HEAD).bind(c).fetch_one(&mut *transaction).await?;
            sqlx::query(INSERT)
                .bind(c)
                .bind(head + 1)
                .bind(Uuid::now_v7())
                .bind(&BODY[..])
                .execute(&mut *transaction)
                .await?;
            sqlx::query(MOVE).bind(c).bind(head + 1).execute(&mut *transaction).await?;
            rows += 1;
        }
        transaction.commit().await?;
    }
    Ok(f64::from(rows) / begun.elapsed().as_secs_f64())
}
