#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use petrel_core::entry::EntryKind;
use petrel_core::id::{ClientMessageId, ContentDigest, RightsVersion, Seq};
use petrel_core::store::{Append, AppendOutcome};

use super::*;

async fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, StoreOptions::default()).await.unwrap()
}

async fn pair(store: &SqliteStore) -> (UserId, ConversationId) {
    let (a, b) = (UserId([1; 16]), UserId([2; 16]));
    for (id, name) in [(a, "ada"), (b, "bob")] {
        let account = NewAccount {
            user: User::named(id, name.to_owned()),
            device: DeviceId(id.0),
            device_label: String::new(),
            secret_hash: [0; 32],
            created_ms: 0,
            password: None,
            outside: None,
        };
        assert!(store.register(&account).await.unwrap());
    }
    assert!(store.ensure_pair(a, b).await.unwrap());
    (a, ConversationId::of_pair(a, b))
}

fn message(conversation: ConversationId, sender: UserId, id: u8) -> Append {
    let body = vec![id; 20_000];
    Append {
        conversation,
        admitted_by: Some(RightsVersion(1)),
        sender,
        id: ClientMessageId([id; 16]),
        kind: EntryKind::Text,
        encoding: 0,
        digest: ContentDigest::of(EntryKind::Text, 0, &body),
        target: None,
        revision: None,
        mentions: Vec::new(),
        body: body.into(),
    }
}

fn everything() -> Page {
    Page {
        from: Seq(1),
        to: Seq(u64::MAX),
        entries_max: 1_000,
        bytes_max: usize::MAX,
        newest: false,
    }
}

/// A full disk, as SQLite knows it: no page more than now.
async fn set_pages_max(store: &SqliteStore, pages: Option<i64>) {
    store
        .writer
        .run(move |connection| {
            let now: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
            connection.pragma_update(None, "max_page_count", pages.map_or(now, |more| now + more))
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_whole_batches_and_leaves_no_trace_when_there_is_room_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("petrel.db")).await;
    let (a, c) = pair(&store).await;
    let mut appender = store.appender();
    let first = appender.append(&[message(c, a, 1)]).await.unwrap();
    assert!(matches!(first[..], [AppendOutcome::New(_)]));

    set_pages_max(&store, None).await;
    let batch = [message(c, a, 2), message(c, a, 3)];
    let error = appender.append(&batch).await.unwrap_err();
    assert!(matches!(error, StoreError::Transient(_)), "{error}");
    assert!(error.to_string().contains("no space is left"), "{error}");
    let stored = store.entries(c, None, everything()).await.unwrap();
    assert_eq!(stored.len(), 1);

    set_pages_max(&store, Some(1_000)).await;
    let outcomes = appender.append(&batch).await.unwrap();
    for (outcome, seq) in outcomes.iter().zip(2..) {
        assert!(matches!(outcome, AppendOutcome::New(placed) if placed.seq == Seq(seq)));
    }
}

#[tokio::test]
async fn what_was_answered_is_in_the_files_as_they_are_at_that_moment() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("petrel.db");
    let store = open(&path).await;
    let (a, c) = pair(&store).await;
    let mut appender = store.appender();
    for id in 1..=20 {
        appender.append(&[message(c, a, id)]).await.unwrap();
        // What a kill here would leave: database and log, no shared memory.
        let copy = tempfile::tempdir().unwrap();
        for name in ["petrel.db", "petrel.db-wal"] {
            std::fs::copy(directory.path().join(name), copy.path().join(name)).unwrap();
        }
        let after = open(&copy.path().join("petrel.db")).await;
        let stored = after.entries(c, None, everything()).await.unwrap();
        assert_eq!(stored.len(), usize::from(id));
        let record = after.conversation(c).await.unwrap().unwrap();
        assert_eq!(record.head, Seq(u64::from(id)));
    }
}
