//! The outbox's file: unacknowledged messages and cursors of one device, in
//! SQLite, written in batches by a thread of its own.
//!
//! **Invariant:** what waits for the thread is bounded by the outbox's own bound: a message is
//! put once, and removed only after the put was committed.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, params};

use crate::cursor::{Cursor, CursorTrail};
use crate::draft::Content;
use crate::error::ClientError;
use crate::id::{ConversationId, DeviceId, MessageId, UserId};

/// How long the thread waits after the file could not be written.
const RETRY: Duration = Duration::from_secs(1);

/// A change of the file.
#[derive(Debug)]
enum Change {
    Put(Stored),
    Remove(MessageId),
}

/// A message as the file keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stored {
    pub(crate) conversation: ConversationId,
    pub(crate) peer: Option<UserId>,
    pub(crate) id: MessageId,
    pub(crate) content: Content,
}

/// What a file held when it was opened.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Oldest first.
    pub(crate) messages: Vec<Stored>,
    pub(crate) cursors: Vec<(ConversationId, CursorTrail)>,
}

#[derive(Debug, Default)]
struct Pending {
    changes: Vec<Change>,
    cursors: HashMap<ConversationId, CursorTrail>,
    /// How many changes were ever asked for.
    asked: u64,
    closing: bool,
}

#[derive(Debug, Default)]
struct Desk {
    pending: Mutex<Pending>,
    changed: Condvar,
}

/// A handle on the file. Its thread ends with [`OutboxFile::close`] or when it is dropped.
#[derive(Debug)]
pub(crate) struct OutboxFile {
    desk: Arc<Desk>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Told by the file's thread.
pub(crate) trait FileWatcher: Send + 'static {
    /// Everything asked for up to this number is committed.
    fn durable(&self, upto: u64);
    /// The file could not be written; it is tried again.
    fn failed(&self, why: String);
}

impl OutboxFile {
    /// Opens or makes the file. Nothing is written until [`OutboxFile::start`].
    pub(crate) fn open(
        path: &Path,
        device: DeviceId,
    ) -> Result<(Connection, Contents), ClientError> {
        let invalid =
            |why: String| ClientError::Invalid(format!("outbox file {}: {why}", path.display()));
        make_private(path).map_err(|error| invalid(error.to_string()))?;
        let mut db = Connection::open(path).map_err(|error| invalid(error.to_string()))?;
        prepare(&mut db).map_err(|error| invalid(error.to_string()))?;
        let owner = claim(&db, device).map_err(|error| invalid(error.to_string()))?;
        if owner != device.0 {
            return Err(invalid("it belongs to another device".to_owned()));
        }
        let contents = read(&db).map_err(|error| invalid(error.to_string()))?;
        Ok((db, contents))
    }

    /// Starts the thread that writes.
    pub(crate) fn start(db: Connection, watcher: impl FileWatcher) -> Result<Self, ClientError> {
        let desk = Arc::new(Desk::default());
        let at_work = Arc::clone(&desk);
        let thread = std::thread::Builder::new()
            .name("petrel-outbox".to_owned())
            .spawn(move || run(db, &at_work, &watcher))
            .map_err(|error| ClientError::Invalid(format!("outbox thread: {error}")))?;
        Ok(Self { desk, thread: Mutex::new(Some(thread)) })
    }

    /// Puts a message in; the answer is the number that [`FileWatcher::durable`] will reach.
    pub(crate) fn put(&self, message: Stored) -> u64 {
        self.ask(|pending| pending.changes.push(Change::Put(message)))
    }

    pub(crate) fn remove(&self, id: MessageId) {
        self.ask(|pending| pending.changes.push(Change::Remove(id)));
    }

    /// Keeps a conversation's cursors; only the newest trail asked for is written.
    pub(crate) fn keep_cursors(&self, conversation: ConversationId, trail: CursorTrail) {
        self.ask(|pending| drop(pending.cursors.insert(conversation, trail)));
    }

    fn ask(&self, change: impl FnOnce(&mut Pending)) -> u64 {
        let mut pending = self.desk.pending.lock();
        change(&mut pending);
        pending.asked += 1;
        let asked = pending.asked;
        drop(pending);
        self.desk.changed.notify_one();
        asked
    }

    /// Writes what is left and waits for the thread. Blocks.
    pub(crate) fn close(&self) {
        self.desk.pending.lock().closing = true;
        self.desk.changed.notify_one();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the outbox's thread panicked");
        }
    }
}

impl Drop for OutboxFile {
    fn drop(&mut self) {
        self.desk.pending.lock().closing = true;
        self.desk.changed.notify_one();
    }
}

fn run(mut db: Connection, desk: &Desk, watcher: &impl FileWatcher) {
    loop {
        let (batch, last) = {
            let mut pending = desk.pending.lock();
            while pending.changes.is_empty() && pending.cursors.is_empty() && !pending.closing {
                desk.changed.wait(&mut pending);
            }
            let batch = Pending {
                changes: std::mem::take(&mut pending.changes),
                cursors: std::mem::take(&mut pending.cursors),
                asked: pending.asked,
                closing: false,
            };
            (batch, pending.closing)
        };
        while let Err(error) = write(&mut db, &batch) {
            watcher.failed(error.to_string());
            if last {
                tracing::error!(%error, "the outbox's file could not be written at the end");
                return;
            }
            std::thread::sleep(RETRY);
        }
        watcher.durable(batch.asked);
        if last {
            return;
        }
    }
}

fn write(db: &mut Connection, batch: &Pending) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    {
        let mut put = transaction.prepare_cached(
            "INSERT OR IGNORE INTO message
                 (id, conversation, peer, kind, encoding, body, target, mentions, revision)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        let mut remove = transaction.prepare_cached("DELETE FROM message WHERE id = ?1")?;
        for change in &batch.changes {
            match change {
                Change::Put(message) => put.execute(params![
                    message.id.0,
                    message.conversation.0,
                    message.peer.map(|peer| peer.0),
                    message.content.kind,
                    message.content.encoding,
                    message.content.body.as_ref(),
                    message.content.target.map(u64::cast_signed),
                    mention_bytes(&message.content.mentions),
                    message.content.revision,
                ])?,
                Change::Remove(id) => remove.execute([id.0])?,
            };
        }
        let mut keep = transaction.prepare_cached(
            "INSERT INTO cursor (conversation, trail) VALUES (?1, ?2)
             ON CONFLICT (conversation) DO UPDATE SET trail = excluded.trail",
        )?;
        for (conversation, trail) in &batch.cursors {
            keep.execute(params![conversation.0, trail_bytes(trail)])?;
        }
    }
    transaction.commit()
}

fn prepare(db: &mut Connection) -> rusqlite::Result<()> {
    db.busy_timeout(Duration::from_secs(2))?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.execute_batch(
        "CREATE TABLE IF NOT EXISTS device (only INTEGER PRIMARY KEY CHECK (only = 1), id BLOB NOT NULL);
         CREATE TABLE IF NOT EXISTS message (
             place INTEGER PRIMARY KEY AUTOINCREMENT,
             id BLOB NOT NULL UNIQUE,
             conversation BLOB NOT NULL,
             peer BLOB,
             kind INTEGER NOT NULL,
             encoding INTEGER NOT NULL,
             body BLOB NOT NULL
         );
         CREATE TABLE IF NOT EXISTS cursor (conversation BLOB PRIMARY KEY, trail BLOB NOT NULL) WITHOUT ROWID;",
    )?;
    migrate(db)
}

/// Brings a file of an earlier version to this one. A file's version is SQLite's `user_version`.
fn migrate(db: &mut Connection) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version < 1 {
        transaction.execute_batch(
            "ALTER TABLE message ADD COLUMN target INTEGER;
             ALTER TABLE message ADD COLUMN mentions BLOB NOT NULL DEFAULT x'';
             ALTER TABLE message ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;",
        )?;
        transaction.pragma_update(None, "user_version", 1)?;
    }
    transaction.commit()
}

/// The mentioned users' ids, one after the other.
fn mention_bytes(mentions: &[UserId]) -> Vec<u8> {
    mentions.iter().flat_map(|user| user.0).collect()
}

fn mentions_from_bytes(bytes: &[u8]) -> Arc<[UserId]> {
    let (users, _) = bytes.as_chunks::<16>();
    users.iter().copied().map(UserId).collect()
}

fn claim(db: &Connection, device: DeviceId) -> rusqlite::Result<Vec<u8>> {
    db.execute("INSERT OR IGNORE INTO device (only, id) VALUES (1, ?1)", [device.0])?;
    db.query_row("SELECT id FROM device", [], |row| row.get(0))
}

fn read(db: &Connection) -> rusqlite::Result<Contents> {
    let mut messages = db.prepare(
        "SELECT conversation, peer, id, kind, encoding, body, target, mentions, revision
         FROM message ORDER BY place",
    )?;
    let messages = messages
        .query_map([], |row| {
            Ok(Stored {
                conversation: ConversationId(row.get(0)?),
                peer: row.get::<_, Option<[u8; 16]>>(1)?.map(UserId),
                id: MessageId(row.get(2)?),
                content: Content {
                    kind: row.get(3)?,
                    encoding: row.get(4)?,
                    body: row.get::<_, Vec<u8>>(5)?.into(),
                    target: row.get::<_, Option<i64>>(6)?.map(i64::cast_unsigned),
                    mentions: mentions_from_bytes(&row.get::<_, Vec<u8>>(7)?),
                    revision: row.get(8)?,
                },
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut cursors = db.prepare("SELECT conversation, trail FROM cursor")?;
    let cursors = cursors
        .query_map([], |row| {
            let trail: Vec<u8> = row.get(1)?;
            Ok((ConversationId(row.get(0)?), trail_from_bytes(&trail)))
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Contents { messages, cursors })
}

/// Each cursor is its seq (8 bytes, big-endian) and its tail (8 bytes), newest first.
fn trail_bytes(trail: &CursorTrail) -> Vec<u8> {
    let mut bytes = Vec::new();
    for cursor in trail.newest().iter().chain(trail.older()) {
        bytes.extend_from_slice(&cursor.seq.to_be_bytes());
        bytes.extend_from_slice(&cursor.tail);
    }
    bytes
}

fn trail_from_bytes(bytes: &[u8]) -> CursorTrail {
    let (cursors, _) = bytes.as_chunks::<16>();
    CursorTrail::from_cursors(cursors.iter().map(|cursor| {
        let value = u128::from_be_bytes(*cursor);
        let mut tail = [0; 8];
        tail.copy_from_slice(&cursor[8..]);
        Cursor { seq: u64::try_from(value >> 64).unwrap_or(0), tail }
    }))
}

fn make_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;
    use bytes::Bytes;
    use std::sync::mpsc;

    struct Watcher(mpsc::SyncSender<u64>);

    impl FileWatcher for Watcher {
        fn durable(&self, upto: u64) {
            self.0.send(upto).unwrap();
        }
        fn failed(&self, why: String) {
            unreachable!("{why}");
        }
    }

    fn message(id: u8) -> Stored {
        Stored {
            conversation: ConversationId([1; 16]),
            peer: id.is_multiple_of(2).then_some(UserId([9; 16])),
            id: MessageId([id; 16]),
            content: Content {
                target: id.is_multiple_of(4).then_some(u64::from(id) << 40),
                mentions: (0..id % 3).map(|n| UserId([n; 16])).collect(),
                revision: id.into(),
                ..Content::plain(1, 17, Bytes::from(vec![id; 3]))
            },
        }
    }

    fn trail(seq: u64) -> CursorTrail {
        CursorTrail::from_cursors(
            [seq, seq - 1, seq / 2].map(|seq| Cursor { seq, tail: seq.to_le_bytes() }),
        )
    }

    #[test]
    fn messages_and_cursors_survive_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outbox.sqlite");
        let device = DeviceId([7; 16]);
        let (told, durable) = mpsc::sync_channel(100);

        let (db, contents) = OutboxFile::open(&path, device).unwrap();
        assert!(contents.messages.is_empty());
        let file = OutboxFile::start(db, Watcher(told.clone())).unwrap();
        // Not in the order of their ids.
        for id in [5, 2, 8, 4] {
            file.put(message(id));
        }
        file.remove(MessageId([8; 16]));
        file.keep_cursors(ConversationId([1; 16]), trail(10));
        let last = file.put(message(1));
        while durable.recv().unwrap() < last {}
        file.keep_cursors(ConversationId([1; 16]), trail(20));
        file.close();

        assert!(OutboxFile::open(&path, DeviceId([8; 16])).is_err());
        let (db, contents) = OutboxFile::open(&path, device).unwrap();
        assert_eq!(contents.messages, [5, 2, 4, 1].map(message));
        assert_eq!(contents.cursors, [(ConversationId([1; 16]), trail(20))]);
        let file = OutboxFile::start(db, Watcher(told)).unwrap();
        file.put(message(3));
        file.remove(MessageId([5; 16]));
        drop(file);
    }

    #[test]
    fn a_file_of_the_first_version_keeps_its_messages() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outbox.sqlite");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(
            "CREATE TABLE device (only INTEGER PRIMARY KEY CHECK (only = 1), id BLOB NOT NULL);
             INSERT INTO device VALUES (1, x'07070707070707070707070707070707');
             CREATE TABLE message (
                 place INTEGER PRIMARY KEY AUTOINCREMENT,
                 id BLOB NOT NULL UNIQUE,
                 conversation BLOB NOT NULL,
                 peer BLOB,
                 kind INTEGER NOT NULL,
                 encoding INTEGER NOT NULL,
                 body BLOB NOT NULL
             );
             INSERT INTO message VALUES (3, x'02020202020202020202020202020202',
                 x'01010101010101010101010101010101', NULL, 1, 17, x'020202');",
        )
        .unwrap();
        drop(old);
        for _ in 0..2 {
            let (_, contents) = OutboxFile::open(&path, DeviceId([7; 16])).unwrap();
            let [message] = contents.messages.as_slice() else { unreachable!() };
            assert_eq!(message.id, MessageId([2; 16]));
            assert_eq!(message.content, Content::plain(1, 17, Bytes::from_static(&[2; 3])));
        }
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let error = OutboxFile::open(Path::new("/nonexistent/outbox"), DeviceId([0; 16]));
        assert!(error.is_err_and(|error| error.to_string().contains("/nonexistent/outbox")));
    }
}
