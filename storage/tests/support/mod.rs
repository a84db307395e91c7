//! A store under test, and the little that every story needs of it.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use petrel_core::entry::{Entry, EntryKind};
use petrel_core::id::{
    ClientMessageId, ContentDigest, ConversationId, DeviceId, RightsVersion, Seq, UserId,
};
use petrel_core::store::{
    Append, AppendOutcome, Appender, ListPage, NewAccount, Page, Receipt, Store, StoreError, User,
};
use petrel_storage::StoreOptions;
use petrel_storage::testing::PrivatePostgres;
use tempfile::TempDir;

pub(crate) struct World {
    pub(crate) name: &'static str,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) appender: Box<dyn Appender>,
    next: AtomicU64,
    _files: Option<TempDir>,
    _server: Option<PrivatePostgres>,
}

/// Both stores, empty.
pub(crate) async fn worlds() -> Vec<World> {
    let files = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", files.path().join("petrel.db").display());
    let mut sqlite = World::open("sqlite", &url).await;
    sqlite._files = Some(files);
    let server = PrivatePostgres::start().unwrap();
    let url = server.create_database("petrel").unwrap();
    let mut postgres = World::open("postgres", &url).await;
    postgres._server = Some(server);
    vec![sqlite, postgres]
}

impl World {
    pub(crate) async fn open(name: &'static str, url: &str) -> Self {
        let store = petrel_storage::open(url, StoreOptions::default()).await.unwrap();
        let appender = store.appender();
        Self { name, store, appender, next: AtomicU64::new(1), _files: None, _server: None }
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn account(&self, name: &str) -> NewAccount {
        let number = self.number();
        NewAccount {
            user: User::named(UserId(bytes(1, number)), name.to_owned()),
            device: DeviceId(bytes(2, number)),
            device_label: "a device".to_owned(),
            secret_hash: [7; 32],
            created_ms: 1_700_000_000_000,
            password: None,
            outside: None,
        }
    }

    pub(crate) async fn user(&self) -> UserId {
        let account = self.account(&format!("user{}", self.number()));
        assert!(self.store.register(&account).await.unwrap());
        account.user.id
    }

    /// Two users and their conversation.
    pub(crate) async fn pair(&self) -> (UserId, UserId, ConversationId) {
        let (a, b) = (self.user().await, self.user().await);
        assert!(self.store.ensure_pair(a, b).await.unwrap());
        (a, b, ConversationId::of_pair(a, b))
    }

    pub(crate) async fn append(
        &mut self,
        batch: &[Append],
    ) -> Result<Vec<AppendOutcome>, StoreError> {
        self.appender.append(batch).await
    }

    /// One letter for each answer (n new, d duplicate, s stale, c id conflict, x conflict), with its seq.
    pub(crate) async fn answers(&mut self, batch: &[Append]) -> String {
        let outcomes = self.append(batch).await.unwrap();
        outcomes
            .iter()
            .map(|outcome| match outcome {
                AppendOutcome::New(placed) => format!("n{}", placed.seq),
                AppendOutcome::Duplicate(placed) => format!("d{}", placed.seq),
                AppendOutcome::Stale => "s".to_owned(),
                AppendOutcome::IdConflict => "c".to_owned(),
                AppendOutcome::Conflict => "x".to_owned(),
            })
            .collect::<Vec<_>>()
            .join(" ")
    }

    pub(crate) async fn all(&self, conversation: ConversationId) -> Vec<Entry> {
        self.store
            .entries(
                conversation,
                None,
                Page {
                    from: Seq(0),
                    to: Seq(u64::MAX),
                    entries_max: usize::MAX,
                    bytes_max: usize::MAX,
                    newest: false,
                },
            )
            .await
            .unwrap()
    }

    /// The log is dense, its counts are right, its ids unique, and the row agrees with it.
    pub(crate) async fn check(&self, conversation: ConversationId) {
        let entries = self.all(conversation).await;
        for (index, entry) in (1..).zip(&entries) {
            assert_eq!(entry.placed.seq, Seq(index), "{}: a hole", self.name);
            assert_eq!(entry.placed.count, index, "{}: all countable", self.name);
            assert!(entry.placed.time_ms > 1_600_000_000_000);
        }
        let mut ids: Vec<_> = entries.iter().map(|e| (e.sender, e.id)).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), entries.len(), "{}: an id twice", self.name);
        let record = self.store.conversation(conversation).await.unwrap().unwrap();
        assert_eq!(record.head.0, entries.len() as u64);
        assert_eq!(record.count, record.head.0);
        let last = entries.last().map(|entry| (entry.id, entry.placed.time_ms));
        assert_eq!(record.head_entry, last);
    }
}

pub(crate) fn bytes(kind: u64, number: u64) -> [u8; 16] {
    ((u128::from(kind) << 64) | u128::from(number)).to_be_bytes()
}

/// A message; `admitted_by` 0 stands for "only look it up".
pub(crate) fn message(
    conversation: ConversationId,
    sender: UserId,
    admitted_by: u64,
    id: u64,
    text: &str,
) -> Append {
    Append {
        conversation,
        admitted_by: (admitted_by > 0).then_some(RightsVersion(admitted_by)),
        sender,
        id: ClientMessageId(bytes(3, id)),
        kind: EntryKind::Text,
        encoding: 0,
        body: text.as_bytes().to_vec().into(),
        digest: ContentDigest::of(EntryKind::Text, 0, text.as_bytes()),
        target: None,
        revision: None,
        mentions: Vec::new(),
    }
}

/// The first page of a list.
pub(crate) fn first(limit: usize) -> ListPage {
    ListPage { after: None, since_ms: 0, limit }
}

pub(crate) fn receipt(delivered: u64, read: u64) -> Receipt {
    Receipt { delivered: Seq(delivered), read: Seq(read) }
}
