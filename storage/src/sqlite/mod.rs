//! The store on SQLite: the embedded default, for one gateway.
//!
//! One thread makes every change ([`thread`]), through rusqlite
//! (docs/decisions/0002); reads go through a pool of their own, which WAL mode
//! lets run beside it. A lock file keeps a second gateway out.

mod account;
mod append;
mod change;
mod change_row;
mod conversation;
mod inspect;
mod log;
mod people;
mod target;
#[cfg(test)]
mod tests;
mod thread;

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use petrel_core::entry::{Cursor, Entry};
use petrel_core::id::{ConversationId, DeviceId, UserId};
use petrel_core::store::{
    Appender, ConversationRecord, ConversationSummary, DeviceRecord, Durability, Journal, ListPage,
    NewAccount, Page, Receipt, Standing, Store, StoreError, User,
};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, SqlitePool};

use crate::{OpenError, StoreOptions, migrate};
pub(crate) use inspect::inspect;
use thread::WriterThread;

/// Connections for reading, at the most: each is a thread of sqlx's.
const READERS_MAX: u32 = 4;

/// Everything that one gateway keeps, in one file.
#[derive(Debug)]
pub struct SqliteStore {
    pool: SqlitePool,
    writer: Arc<WriterThread>,
    options: StoreOptions,
}

impl SqliteStore {
    /// Opens the database at `path`, which is made (mode 0600, its directory
    /// 0700) if it is missing.
    ///
    /// # Errors
    /// See [`OpenError`]; [`OpenError::InUse`] if another process has it open.
    pub async fn open(path: impl AsRef<Path>, options: StoreOptions) -> Result<Self, OpenError> {
        let path = path.as_ref();
        if path.as_os_str().is_empty() || path.as_os_str() == ":memory:" {
            return Err(OpenError::UrlInvalid {
                problem: "`sqlite:` needs the path of a file".to_owned(),
            });
        }
        let lock = lock(path)?;
        migrate_file(path, &options).await?;
        let writer = WriterThread::start(path, lock, options.deadline)?;
        let readers = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .busy_timeout(options.lock_timeout)
            .disable_statement_logging();
        let pool = SqlitePoolOptions::new()
            .max_connections(options.pool_connections.clamp(1, READERS_MAX))
            .acquire_timeout(options.acquire_timeout)
            .test_before_acquire(false)
            .connect_lazy_with(readers);
        Ok(Self { pool, writer: Arc::new(writer), options })
    }

    async fn read<T>(
        &self,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.options.deadline, work).await {
            Ok(answer) => answer.map_err(|error| StoreError::Transient(error.to_string())),
            Err(_) => Err(StoreError::Transient(format!(
                "SQLite did not answer within {:?}",
                self.options.deadline
            ))),
        }
    }
}

/// Makes directory and file, and takes the database's own lock: one gateway a
/// database. Not SQLite's exclusive locking mode, which would shut out a backup
/// or a look with `sqlite3` as well.
fn lock(path: &Path) -> Result<File, OpenError> {
    let file_error = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::File { path, source }
    };
    if let Some(directory) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(file_error(directory))?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_file = PathBuf::from(name);
    let open = |path: &Path| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(file_error(path))
    };
    let lock = open(&lock_file)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { lock_file }),
        Err(TryLockError::Error(source)) => {
            return Err(OpenError::File { path: lock_file, source });
        }
    }
    // SQLite gives its other files the mode of this one.
    open(path)?;
    Ok(lock)
}

async fn migrate_file(path: &Path, options: &StoreOptions) -> Result<(), OpenError> {
    let unusable = |error: sqlx::Error| OpenError::Database {
        path: path.to_owned(),
        problem: format!("not usable as a database: {error}"),
    };
    let settings = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(options.lock_timeout)
        .disable_statement_logging();
    let mut connection = SqliteConnection::connect_with(&settings).await.map_err(unusable)?;
    let migrated = migrate::sqlite(&mut connection).await;
    connection.close().await.map_err(unusable)?;
    migrated.map_err(|problem| OpenError::Migrate { place: path.display().to_string(), problem })
}

#[async_trait]
impl Store for SqliteStore {
    async fn register(&self, account: &NewAccount) -> Result<bool, StoreError> {
        let account = account.clone();
        self.writer.run(move |connection| account::register(connection, &account)).await
    }

    async fn register_many(&self, accounts: &[NewAccount]) -> Result<(), StoreError> {
        for part in accounts.chunks(1_000) {
            let part = part.to_vec();
            self.writer.run(move |connection| account::register_many(connection, &part)).await?;
        }
        Ok(())
    }

    async fn users_by_name(&self, names: &[String]) -> Result<Vec<User>, StoreError> {
        self.read(account::users_by_name(&self.pool, names)).await
    }

    async fn users(&self, ids: &[UserId]) -> Result<Vec<User>, StoreError> {
        self.read(account::users(&self.pool, ids)).await
    }

    async fn device(&self, device: DeviceId) -> Result<Option<DeviceRecord>, StoreError> {
        self.read(account::device(&self.pool, device)).await
    }

    async fn ensure_pair(&self, a: UserId, b: UserId) -> Result<bool, StoreError> {
        self.writer.run(move |connection| conversation::ensure_pair(connection, a, b)).await
    }

    async fn conversation(
        &self,
        id: ConversationId,
    ) -> Result<Option<ConversationRecord>, StoreError> {
        self.read(conversation::load(&self.pool, id)).await
    }

    async fn set_block(
        &self,
        blocker: UserId,
        blocked: UserId,
        blocks: bool,
    ) -> Result<bool, StoreError> {
        self.writer
            .run(move |connection| conversation::set_block(connection, blocker, blocked, blocks))
            .await
    }

    async fn entries(
        &self,
        conversation: ConversationId,
        reader: Option<UserId>,
        page: Page,
    ) -> Result<Vec<Entry>, StoreError> {
        self.read(log::entries(&self.pool, conversation, reader, page)).await
    }

    async fn standing(
        &self,
        conversation: ConversationId,
        cursors: &[Cursor],
    ) -> Result<Option<Standing>, StoreError> {
        self.read(log::standing(&self.pool, conversation, cursors)).await
    }

    async fn list(
        &self,
        user: UserId,
        page: ListPage,
    ) -> Result<Vec<ConversationSummary>, StoreError> {
        self.read(conversation::list(&self.pool, user, page)).await
    }

    async fn raise_receipts(
        &self,
        receipts: &[(ConversationId, UserId, Receipt)],
    ) -> Result<(), StoreError> {
        let receipts = receipts.to_vec();
        self.writer.run(move |connection| conversation::raise_receipts(connection, &receipts)).await
    }

    async fn durability(&self) -> Result<Durability, StoreError> {
        self.writer.run(thread::durability).await
    }

    fn appender(&self) -> Box<dyn Appender> {
        Box::new(append::SqliteAppender::new(Arc::clone(&self.writer)))
    }

    fn writers(&self) -> usize {
        1
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn journal(&self) -> Option<&dyn Journal> {
        None
    }
}
