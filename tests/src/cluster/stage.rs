//! One run: a store, the record of what happened, the people in it, the verdict.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use anyhow::{Context as _, Result, ensure};
use parking_lot::{Mutex, ReentrantMutex};
use petrel_client::{ClientOptions, Code, ConversationId, Identity, PageRequest, UserId};
use petrel_storage::testing::PrivatePostgres;

use super::gateway::{Gateway, Storage};
use super::person::{self, Person, Watcher};
use crate::checker::event::What;
use crate::checker::{Expectations, History, Recorder, Verdict, check};

/// Events of one run, at the most.
const EVENTS_MAX: usize = 4_000_000;
/// Entries of one page of history.
const PAGE: u32 = 200;

/// What a run stores its messages in.
#[derive(Debug)]
pub enum Store {
    /// Each gateway has its own SQLite file.
    Sqlite,
    /// A private PostgreSQL server.
    Postgres(Box<PrivatePostgres>),
}

/// One run.
#[derive(Debug)]
pub struct Stage {
    /// Where messages are kept; a PostgreSQL server may be stopped and started here.
    pub store: Store,
    record: Arc<Record>,
}

/// What happened so far.
#[derive(Debug)]
pub(super) struct Record {
    recorder: Recorder,
    /// Held while something is recorded, and by a send from before it leaves.
    gate: ReentrantMutex<()>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    sessions: u64,
    identities: HashMap<UserId, Identity>,
    pairs: HashMap<ConversationId, [UserId; 2]>,
    watchers: Vec<Weak<Watcher>>,
}

impl Record {
    pub(super) fn put(&self, what: What) {
        let _gate = self.gate.lock();
        self.recorder.record(what);
    }

    pub(super) fn atomically<T>(&self, act: impl FnOnce(&Self) -> T) -> T {
        let _gate = self.gate.lock();
        act(self)
    }

    pub(super) fn new_session(&self) -> u64 {
        let mut known = self.known.lock();
        known.sessions += 1;
        known.sessions
    }

    pub(super) fn meet(&self, identity: &Identity, watcher: &Arc<Watcher>) {
        let mut known = self.known.lock();
        known.identities.insert(identity.user, identity.clone());
        known.watchers.push(Arc::downgrade(watcher));
    }

    pub(super) fn know_pair(&self, id: ConversationId, one: UserId, other: UserId) {
        if self.known.lock().pairs.insert(id, [one, other]).is_none() {
            for user in [one, other] {
                let (user, conversation) = (user.0.into(), id.0.into());
                self.put(What::Join { user, conversation, seq: 1 });
            }
        }
    }
}

impl Stage {
    /// A run on SQLite.
    ///
    /// # Errors
    /// None for now.
    pub fn sqlite() -> Result<Self> {
        Ok(Self::on(Store::Sqlite))
    }

    /// A run on a private PostgreSQL, which is started here.
    ///
    /// # Errors
    /// It does not start; the text says what to install.
    pub async fn postgres() -> Result<Self> {
        let server = tokio::task::spawn_blocking(PrivatePostgres::start).await??;
        Ok(Self::on(Store::Postgres(Box::new(server))))
    }

    /// A run on this store.
    #[must_use]
    pub fn on(store: Store) -> Self {
        let record = Record {
            recorder: Recorder::new(1, EVENTS_MAX),
            gate: ReentrantMutex::new(()),
            known: Mutex::default(),
        };
        Self { store, record: Arc::new(record) }
    }

    /// Starts a gateway on a new database of the run's store.
    ///
    /// # Errors
    /// As [`Gateway::start`].
    pub async fn gateway(&self, settings: &[&str]) -> Result<Gateway> {
        Gateway::start(self.storage(), settings).await
    }

    /// For a gateway's start.
    #[must_use]
    pub fn storage(&self) -> Storage<'_> {
        match &self.store {
            Store::Sqlite => Storage::Sqlite,
            Store::Postgres(server) => Storage::Postgres(server),
        }
    }

    /// The PostgreSQL server, if the run has one.
    pub fn postgres_server(&mut self) -> Option<&mut PrivatePostgres> {
        match &mut self.store {
            Store::Sqlite => None,
            Store::Postgres(server) => Some(server),
        }
    }

    /// Registers somebody and starts a client, which is online when this returns.
    ///
    /// # Errors
    /// Either is refused.
    pub async fn person(&self, gateway: &Gateway, name: &str) -> Result<Person> {
        let identity = gateway.dialer()?.register(name, "test").await?;
        self.device(gateway, &identity).await
    }

    /// Starts another client of somebody, which is online when this returns.
    ///
    /// # Errors
    /// It cannot sign in.
    pub async fn device(&self, gateway: &Gateway, identity: &Identity) -> Result<Person> {
        self.device_with(ClientOptions::new(gateway.dialer()?, identity.clone())).await
    }

    /// The same with options of one's own.
    ///
    /// # Errors
    /// It cannot sign in.
    pub async fn device_with(&self, mut options: ClientOptions) -> Result<Person> {
        options.backoff_max = options.backoff_max.min(std::time::Duration::from_secs(1));
        let person = Person::start(&self.record, options).await?;
        person.online().await?;
        Ok(person)
    }

    /// Records what is no client's: a fault, its end.
    pub fn record(&self, what: What) {
        self.record.put(what);
    }

    /// The record so far.
    #[must_use]
    pub fn history(&self) -> History {
        self.record.recorder.history()
    }

    /// Reads the final logs with fresh clients, waits until everybody who is online has caught
    /// up, and checks the whole run.
    ///
    /// # Errors
    /// A log cannot be read, or a promise was broken; the text is the verdict.
    pub async fn judge(&self, gateway: &Gateway, expectations: &Expectations) -> Result<Verdict> {
        let (pairs, identities, watchers) = {
            let known = self.record.known.lock();
            (known.pairs.clone(), known.identities.clone(), known.watchers.clone())
        };
        for (conversation, members) in pairs {
            let identity = members.iter().find_map(|user| identities.get(user));
            let identity = identity.context("a conversation of strangers")?;
            let entries = final_log(gateway, identity, conversation).await?;
            let head = entries.last().map_or(0, |entry| entry.seq);
            self.record(What::FinalLog { conversation: conversation.0.into(), entries });
            for watcher in watchers.iter().filter_map(Weak::upgrade) {
                watcher.has_up_to(conversation, head).await;
            }
        }
        let verdict = check(&self.history(), expectations);
        ensure!(verdict.is_green(), "{verdict}");
        Ok(verdict)
    }
}

/// A whole log as a fresh client reads it.
async fn final_log(
    gateway: &Gateway,
    identity: &Identity,
    conversation: ConversationId,
) -> Result<Vec<crate::checker::event::LogEntry>> {
    let options = ClientOptions::new(gateway.dialer()?, identity.clone());
    let (client, events) = petrel_client::Client::start(options).await?;
    drop(events);
    let mut entries = Vec::new();
    let mut from = 1;
    loop {
        let request = PageRequest { conversation, from, to: 0, limit: PAGE, newest: false };
        let page = match client.history(request).await {
            Ok(page) => page,
            // A pair that never spoke.
            Err(error) if error.code() == Some(Code::NotFound) => break,
            Err(error) => return Err(error).context("reading a final log"),
        };
        entries.extend(page.entries.iter().map(person::logged));
        let Some(last) = page.entries.last() else { break };
        if last.seq >= page.head {
            break;
        }
        from = last.seq + 1;
    }
    client.close().await;
    Ok(entries)
}
