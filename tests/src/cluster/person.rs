//! A client whose every event is recorded, and what it has seen so far.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use parking_lot::Mutex;
use petrel_client::{
    Client, ClientOptions, Code, ConversationId, ConversationRef, Cursor, Entry, Event, GapReason,
    Identity, MessageId, Observer, Page, PageRequest, Refused, UserId, kind,
};
use tokio::sync::watch;

use super::PATIENCE;
use super::seen::Seen;
use super::stage::Record;
use crate::checker::event::{self, Body, Way, What};

/// A signed-in client. Its session ends when it is dropped.
#[derive(Debug)]
pub struct Person {
    /// The client itself. Send through [`Person::send`], so that it is recorded.
    pub client: Client,
    /// Who it is.
    pub identity: Identity,
    watcher: Arc<Watcher>,
}

/// Takes a client's events down.
#[derive(Debug)]
pub(super) struct Watcher {
    record: Arc<Record>,
    session: u64,
    seen: Mutex<Seen>,
    /// Rises with every event.
    changes: watch::Sender<u64>,
    gone: Mutex<bool>,
}

impl Observer for Watcher {
    fn event(&self, event: Event) {
        {
            let gone = self.gone.lock();
            if *gone {
                return;
            }
            let mut seen = self.seen.lock();
            self.note(&seen, &event);
            if let Event::Attached { conversation, .. } = &event {
                let position = seen.position.get(conversation).copied().unwrap_or(0);
                let is_back = seen.sign_ins > 1 || (seen.sign_ins == 1 && !seen.is_online);
                if is_back && seen.resumed.insert(*conversation, position).is_none() {
                    self.put(What::Resume {
                        session: self.session,
                        conversation: conversation.0.into(),
                        from: position,
                    });
                }
            }
            seen.take(&event);
        }
        self.changes.send_modify(|changes| *changes += 1);
    }
}

impl Watcher {
    fn put(&self, what: What) {
        self.record.put(what);
    }

    /// Records what the checker wants to know of.
    fn note(&self, _seen: &Seen, event: &Event) {
        let session = self.session;
        match event {
            // A user's own log: the service writes it, and no send is to be found in it.
            Event::Entry(entry) if entry.kind >= OWN_LOG_KIND_MIN => {}
            Event::Entry(entry) => self.put(delivered(session, entry, Way::Live)),
            Event::Preview(preview) => self.put(What::Preview {
                session,
                conversation: preview.conversation.0.into(),
                sender: preview.sender.0.into(),
                id: preview.id.0.into(),
                body: fingerprint(&preview.body),
            }),
            Event::Acked(acked) => self.put(What::AckSend {
                session,
                conversation: acked.conversation.0.into(),
                id: acked.id.0.into(),
                seq: acked.seq,
            }),
            Event::Refused(refused) => self.put(What::FailSend {
                session,
                conversation: refused.conversation.0.into(),
                id: refused.id.0.into(),
                code: refused.code.to_string(),
                definite: refused.code != Code::TooOld,
            }),
            Event::Receipts { conversation, members } => {
                for receipt in members {
                    self.put(What::Receipt {
                        session,
                        user: receipt.user.0.into(),
                        conversation: conversation.0.into(),
                        delivered: receipt.delivered,
                        read: receipt.read,
                    });
                }
            }
            Event::Gap { conversation, from, to, reason } => self.put(What::Gap {
                session,
                conversation: conversation.0.into(),
                from: *from,
                to: *to,
                reason: match reason {
                    GapReason::Skipped => event::GapReason::TooMany,
                    GapReason::NotAMember => event::GapReason::NotMember,
                    GapReason::Retention => event::GapReason::Expired,
                },
            }),
            Event::Reset { conversation, to } => {
                self.put(What::Reset { session, conversation: conversation.0.into(), to: *to });
            }
            _ => {}
        }
    }

    fn leave(&self) {
        let mut gone = self.gone.lock();
        if !*gone {
            *gone = true;
            self.put(What::SignOut { session: self.session });
        }
    }

    /// Waits, at the most so long, until this session has everything up to `head`.
    pub(super) async fn has_up_to(&self, conversation: ConversationId, head: u64) -> bool {
        let caught_up = |seen: &Seen| {
            let position = seen.position.get(&conversation);
            position.is_none_or(|p| *p >= head).then_some(())
        };
        *self.gone.lock() || self.until(PATIENCE, "", caught_up).await.is_ok()
    }

    async fn until<T>(
        &self,
        patience: Duration,
        what: &str,
        mut look: impl FnMut(&Seen) -> Option<T>,
    ) -> Result<T> {
        let mut changes = self.changes.subscribe();
        let looking = async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = look(&self.seen.lock()) {
                    return Ok(found);
                }
                changes.changed().await.context("the client is gone")?;
            }
        };
        match tokio::time::timeout(patience, looking).await {
            Ok(found) => found,
            Err(_) => {
                let seen = self.seen.lock();
                bail!(
                    "session {} waited {patience:?} in vain for: {what}; it has positions {:?}, {} acks, \
                     refusals {:?}, is online: {}, was offline: {:?}",
                    self.session,
                    seen.position,
                    seen.acked.len(),
                    seen.refused.values(),
                    seen.is_online,
                    seen.offline
                )
            }
        }
    }
}

impl Person {
    pub(super) async fn start(record: &Arc<Record>, options: ClientOptions) -> Result<Self> {
        let identity = options.identity.clone();
        let session = record.new_session();
        let watcher = Arc::new(Watcher {
            record: Arc::clone(record),
            session,
            seen: Mutex::default(),
            changes: watch::Sender::new(0),
            gone: Mutex::new(false),
        });
        record.put(What::SignIn { session, user: identity.user.0.into() });
        record.meet(&identity, &watcher);
        let observer: Arc<dyn Observer> = Arc::<Watcher>::clone(&watcher);
        let client = Client::start_with_observer(options, observer).await?;
        Ok(Self { client, identity, watcher })
    }

    /// Whose client this is.
    #[must_use]
    pub fn user(&self) -> UserId {
        self.identity.user
    }

    /// Its number in the record.
    #[must_use]
    pub fn session(&self) -> u64 {
        self.watcher.session
    }

    /// The conversation with another user.
    #[must_use]
    pub fn with(&self, peer: &Self) -> ConversationRef {
        self.with_user(peer.user())
    }

    /// The same by the user's id.
    #[must_use]
    pub fn with_user(&self, peer: UserId) -> ConversationRef {
        let pair = self.client.pair(peer);
        self.watcher.record.know_pair(pair.id, self.user(), peer);
        pair
    }

    /// Sends a text; what becomes of it is in [`Person::seen`].
    ///
    /// # Errors
    /// It does not go into the outbox.
    pub fn send(&self, to: &ConversationRef, text: impl Into<String>) -> Result<MessageId> {
        self.send_body(to, text.into().into_bytes())
    }

    /// The same with any body.
    ///
    /// # Errors
    /// It does not go into the outbox.
    pub fn send_body(&self, to: &ConversationRef, body: impl Into<Bytes>) -> Result<MessageId> {
        let body = body.into();
        // Nothing is recorded between the sending and its being recorded.
        self.watcher.record.atomically(|record| {
            let id = self.client.send(to, kind::TEXT, body.clone())?;
            record.put(What::InvokeSend {
                session: self.watcher.session,
                sender: self.user().0.into(),
                conversation: to.id.0.into(),
                id: id.0.into(),
                body: Body::of(&body),
            });
            Ok(id)
        })
    }

    /// Sends a text and waits for its place.
    ///
    /// # Errors
    /// It is refused, or there is no answer in time.
    pub async fn say(&self, to: &ConversationRef, text: impl Into<String>) -> Result<u64> {
        let id = self.send(to, text)?;
        self.placed(id).await
    }

    /// Waits for the place of a message.
    ///
    /// # Errors
    /// It is refused, or there is no answer in time.
    pub async fn placed(&self, id: MessageId) -> Result<u64> {
        let outcome = self
            .until("the answer to a message", |seen| {
                let acked = seen.acked.get(&id).map(|acked| Ok(acked.seq));
                acked.or_else(|| seen.refused.get(&id).map(|refused| Err(refused.clone())))
            })
            .await?;
        outcome.map_err(|refused| anyhow::anyhow!("refused: {}: {}", refused.code, refused.text))
    }

    /// Waits for the refusal of a message.
    ///
    /// # Errors
    /// It is stored, or there is no answer in time.
    pub async fn refused(&self, id: MessageId) -> Result<Refused> {
        let outcome = self
            .until("the refusal of a message", |seen| {
                let refused = seen.refused.get(&id).map(|refused| Ok(refused.clone()));
                refused.or_else(|| seen.acked.get(&id).map(|acked| Err(*acked)))
            })
            .await?;
        outcome.map_err(|acked| anyhow::anyhow!("it is stored, at {}", acked.seq))
    }

    /// Shows a conversation live, from a cursor or from what was handed out last.
    ///
    /// # Errors
    /// Too many conversations.
    pub fn attach(&self, to: &ConversationRef, from: Option<Cursor>) -> Result<()> {
        if let Some(cursor) = from {
            self.put(What::Resume {
                session: self.watcher.session,
                conversation: to.id.0.into(),
                from: cursor.seq,
            });
        }
        Ok(self.client.attach(to, from)?)
    }

    /// One page of history, recorded.
    ///
    /// # Errors
    /// What the request meets.
    pub async fn history(&self, request: PageRequest) -> Result<Page> {
        let page = self.client.history(request).await?;
        for entry in &page.entries {
            self.put(delivered(self.watcher.session, entry, Way::Page));
        }
        Ok(page)
    }

    fn put(&self, what: What) {
        self.watcher.put(what);
    }

    /// What it has seen so far.
    pub fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.watcher.seen.lock())
    }

    /// Waits until what it has seen satisfies `look`.
    ///
    /// # Errors
    /// It does not in time; the text says `what` was waited for.
    pub async fn until<T>(&self, what: &str, look: impl FnMut(&Seen) -> Option<T>) -> Result<T> {
        self.watcher.until(PATIENCE, what, look).await
    }

    /// Waits until it has been handed out so many entries of a conversation.
    ///
    /// # Errors
    /// Not in time.
    pub async fn has(&self, conversation: ConversationId, entries: usize) -> Result<()> {
        self.until(&format!("{entries} entries"), |seen| {
            (seen.count(conversation) >= entries).then_some(())
        })
        .await
    }

    /// Waits until it is online.
    ///
    /// # Errors
    /// Not in time.
    pub async fn online(&self) -> Result<()> {
        self.until("being online", |seen| seen.is_online.then_some(())).await
    }

    /// Ends its session in good order.
    pub async fn leave(self) {
        self.client.clone().close().await;
        self.watcher.leave();
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        self.watcher.leave();
    }
}

fn fingerprint<E>(body: &Result<Bytes, E>) -> Body {
    body.as_ref().map_or(Body(0), |body| Body::of(body))
}

/// The first kind of the entries of own logs.
const OWN_LOG_KIND_MIN: u16 = 64;

fn delivered(session: u64, entry: &Entry, way: Way) -> What {
    What::Deliver {
        session,
        conversation: entry.conversation.0.into(),
        seq: entry.seq,
        sender: Some(entry.sender.0.into()),
        id: entry.id.0.into(),
        body: fingerprint(&entry.body),
        way,
    }
}

/// An entry as the final log has it.
pub(super) fn logged(entry: &Entry) -> event::LogEntry {
    event::LogEntry {
        seq: entry.seq,
        sender: Some(entry.sender.0.into()),
        id: entry.id.0.into(),
        body: fingerprint(&entry.body),
    }
}
