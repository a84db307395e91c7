//! The one thread that changes the database, fed by a bounded channel.
//!
//! | queue | bound | when it is full |
//! |---|---|---|
//! | jobs | [`JOBS_MAX`] | the caller waits, at the most its deadline, then `Transient` |

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use petrel_core::store::{Durability, StoreError};
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use crate::OpenError;

/// Jobs that wait for the thread, at the most.
const JOBS_MAX: usize = 256;
/// Pages of WAL (4 KiB each) at which SQLite writes them back into the database.
const CHECKPOINT_PAGES: u32 = 4_000;
/// Bytes to which a WAL that grew beyond them is cut back.
const WAL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Prepared statements that are kept.
const STATEMENTS_MAX: usize = 128;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The thread, as its callers hold it. When the last of them drops it, the
/// thread does what is queued, closes the database, and gives up its lock.
#[derive(Debug)]
pub(super) struct WriterThread {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<std::thread::JoinHandle<()>>,
    deadline: Duration,
}

impl WriterThread {
    /// Opens the connection and starts the thread, which keeps `lock`.
    pub(super) fn start(path: &Path, lock: File, deadline: Duration) -> Result<Self, OpenError> {
        let unusable = |problem: String| OpenError::Database { path: path.to_owned(), problem };
        let mut connection =
            connect(path, deadline).map_err(|error| unusable(error.to_string()))?;
        let (jobs, mut waiting) = mpsc::channel::<Job>(JOBS_MAX);
        let thread = std::thread::Builder::new()
            .name("petrel-sqlite".to_owned())
            .spawn(move || {
                while let Some(job) = waiting.blocking_recv() {
                    job(&mut connection);
                }
                drop(connection);
                drop(lock);
            })
            .map_err(|error| unusable(format!("no thread for writing: {error}")))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), deadline })
    }

    /// Does `work` on the thread. If nobody waits for its answer any more by
    /// its turn, it is left undone.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let ended = || StoreError::Transient("the thread that writes has ended".to_owned());
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        let (answer, wait) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            if answer.is_closed() {
                return;
            }
            if answer.send(work(connection)).is_err() {
                tracing::debug!("nobody waited for this change any more");
            }
        });
        let whole = async {
            jobs.send(job).await.map_err(|_| ended())?;
            wait.await.map_err(|_| ended())?.map_err(|error| classify(&error))
        };
        tokio::time::timeout(self.deadline, whole).await.unwrap_or_else(|_| {
            Err(StoreError::Transient(format!(
                "SQLite did not finish within {:?}; the outcome is unknown",
                self.deadline
            )))
        })
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes to SQLite had panicked");
        }
    }
}

fn connect(path: &Path, deadline: Duration) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(deadline / 2)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(
        None,
        "journal_size_limit",
        i64::try_from(WAL_BYTES_MAX).unwrap_or(i64::MAX),
    )?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

pub(super) fn durability(connection: &mut Connection) -> Result<Durability, rusqlite::Error> {
    let journal_mode: String =
        connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
    let word = match synchronous {
        0 => "off",
        1 => "normal",
        2 => "full",
        _ => "extra",
    };
    Ok(Durability {
        durable: synchronous >= 2 && journal_mode != "off" && journal_mode != "memory",
        settings: vec![
            ("journal_mode".to_owned(), journal_mode),
            ("synchronous".to_owned(), word.to_owned()),
        ],
    })
}

/// Permanent is what the data is to blame for; a full disk, a failing one, and
/// a lock of somebody else's (a backup's) may pass.
fn classify(error: &rusqlite::Error) -> StoreError {
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) => {
            StoreError::Permanent(text)
        }
        Some(ErrorCode::DiskFull) => {
            StoreError::Transient(format!("{text}: no space is left for the database"))
        }
        _ => StoreError::Transient(text),
    }
}
