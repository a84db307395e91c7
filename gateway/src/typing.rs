//! Who types: datagrams that nobody keeps. They are dropped freely: over a rate, at a full queue,
//! when they are late. Nothing waits for them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use petrel_core::change::Audience;
use petrel_core::id::{ConversationId, UserId};
use petrel_core::limits;
use petrel_core::rate::{Bucket, Rate};
use petrel_proto::wire;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use crate::conversation_table::Cell;
use crate::gateway::Gateway;
use crate::metrics::{self, Typing as Fate};
use crate::session::Session;
use crate::{clock, translate};

/// Bytes of one Typing, at the most.
const TYPING_BYTES_MAX: usize = 256;
/// What one session may say in a second, in the long run and at once.
const SESSION_RATE: (u32, u32) = (10, 32);
/// In one conversation: once in so many milliseconds, in the long run, and so often at once.
const CONVERSATION_RATE: (u64, u32) = (1_000, 4);
/// Conversations of one session whose rate is remembered; in more at once nothing is said.
const CONVERSATIONS_MAX: usize = 64;
/// Typing that waits for a look at the store, at the most; more is dropped.
pub(crate) const WAITING_MAX: usize = 256;
/// What waited so long is dropped.
const LATE: Duration = Duration::from_secs(3);

/// What waits for a look at the store: the conversation is not in memory, or it is not known to whom
/// the typist shows that he is there.
#[derive(Debug, Default)]
pub(crate) struct Typing {
    waiting: Mutex<VecDeque<Said>>,
    more: Notify,
}

/// Somebody types, or has stopped.
#[derive(Debug)]
struct Said {
    session: Arc<Session>,
    conversation: ConversationId,
    stopped: bool,
    at_ns: u64,
}

impl Typing {
    /// How much waits.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }

    fn put(&self, said: Said) {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= WAITING_MAX {
            metrics::get().typing_overflows.increment(1);
            return;
        }
        waiting.push_back(said);
        drop(waiting);
        self.more.notify_one();
    }
}

/// What one session has used of its rates.
#[derive(Debug, Default)]
pub(crate) struct Typist {
    session: Bucket,
    conversations: FxHashMap<ConversationId, Bucket>,
}

impl Typist {
    fn take_session(&mut self, now_ns: u64) -> bool {
        let (per_s, burst) = SESSION_RATE;
        self.session.take(Rate::new(per_s, burst), now_ns).is_ok()
    }

    fn take_conversation(&mut self, conversation: ConversationId, now_ns: u64) -> bool {
        let (interval_ms, burst) = CONVERSATION_RATE;
        let known = &mut self.conversations;
        if known.len() >= CONVERSATIONS_MAX && !known.contains_key(&conversation) {
            known.retain(|_, bucket| !bucket.is_full(now_ns));
            if known.len() >= CONVERSATIONS_MAX {
                return false;
            }
        }
        let bucket = known.entry(conversation).or_default();
        bucket.take(Rate::one_in(interval_ms, burst), now_ns).is_ok()
    }

    /// Reads what a signed-in client says, in a datagram of `bytes`.
    ///
    /// # Errors
    /// Why it goes no further.
    fn read(
        &mut self,
        session: &Arc<Session>,
        said: &wire::Typing,
        bytes: usize,
    ) -> Result<Said, Fate> {
        let at_ns = clock::monotonic_ns();
        if !self.take_session(at_ns) {
            return Err(Fate::Limited);
        }
        if bytes > TYPING_BYTES_MAX {
            return Err(Fate::Malformed);
        }
        let conversation = ConversationId::from_slice(&said.conversation).ok_or(Fate::Malformed)?;
        if !self.take_conversation(conversation, at_ns) {
            return Err(Fate::Limited);
        }
        if clock::unix_ms() >= session.token_expires_ms() {
            return Err(Fate::Refused);
        }
        Ok(Said { session: Arc::clone(session), conversation, stopped: said.stopped, at_ns })
    }
}

/// Tells what had to wait for the store, one after the other, until the gateway stops.
pub(crate) async fn run(gateway: Arc<Gateway>) {
    let telling = async {
        loop {
            let more = gateway.typing.more.notified();
            let next = gateway.typing.waiting.lock().pop_front();
            match next {
                Some(said) => gateway.tell_typing_later(said).await,
                None => more.await,
            }
        }
    };
    gateway.stopping.run_until_cancelled(telling).await;
}

impl Gateway {
    /// A client says, in a datagram of `bytes`, that its user types or has stopped.
    pub(crate) fn hear_typing(
        &self,
        typist: &mut Typist,
        session: &Arc<Session>,
        said: &wire::Typing,
        bytes: usize,
    ) {
        match typist.read(session, said, bytes) {
            Ok(said) => self.tell_typing(said),
            Err(fate) => metrics::typing(fate),
        }
    }

    /// Tells at once if all that is needed is in memory.
    fn tell_typing(&self, said: Said) {
        let shown = said.session.presence_shown(clock::coarse_s());
        match (self.conversations.cached(said.conversation), shown) {
            (Some(cell), Some(shown)) => metrics::typing(self.pass_typing(&said, &cell, shown)),
            _ => self.typing.put(said),
        }
    }

    async fn tell_typing_later(&self, said: Said) {
        let fate = match self.look_up_typing(&said).await {
            _ if said.is_late() => Fate::Late,
            Some((cell, shown)) => self.pass_typing(&said, &cell, shown),
            None => Fate::Refused,
        };
        metrics::typing(fate);
    }

    /// The conversation, and to whom the typist shows that he is there. `None` if there is no such
    /// conversation, or the store does not answer.
    async fn look_up_typing(&self, said: &Said) -> Option<(Arc<Cell>, Audience)> {
        let cell = self.conversation(said.conversation).await.ok()??;
        if let Some(shown) = said.session.presence_shown(clock::coarse_s()) {
            return Some((cell, shown));
        }
        let account = self.account(said.session.user()).await.ok()?;
        let shown = account.privacy.presence;
        said.session.set_presence_shown(shown, clock::coarse_s());
        Some((cell, shown))
    }

    fn pass_typing(&self, said: &Said, cell: &Cell, shown: Audience) -> Fate {
        let user = said.session.user();
        let others = cell.with(|conversation| {
            let told = conversation.told_of_typing(user, shown, clock::unix_ms());
            self.forward_typing(conversation, (user, said.stopped, shown), told)
        });
        match self.show_typing(cell, user, said.stopped, shown) || others == Some(true) {
            true => Fate::Told,
            false => Fate::Refused,
        }
    }

    /// Tells the sessions here that somebody types, wherever he is. `false` if nobody was told.
    pub(crate) fn show_typing(
        &self,
        cell: &Cell,
        user: UserId,
        stopped: bool,
        shown: Audience,
    ) -> bool {
        let now_ms = clock::unix_ms();
        let mut told: Vec<Arc<Session>> = Vec::new();
        let fits = cell.with(|conversation| {
            conversation.told_of_typing(user, shown, now_ms).all(|other| {
                self.sessions.for_each(other, |session| {
                    let hears = session.wants_typing() && session.is_attentive();
                    if hears && now_ms < session.token_expires_ms() {
                        told.push(Arc::clone(session));
                    }
                });
                told.len() <= limits::TYPING_HANDLES_MAX
            })
        });
        if fits != Some(true) || told.is_empty() {
            return false;
        }
        let datagram = translate::typing(cell.id(), user, stopped);
        for session in told {
            // Who cannot take it, or is gone, does without.
            session.connection().send_datagram(datagram.clone()).ok();
        }
        true
    }
}

impl Said {
    fn is_late(&self) -> bool {
        let waited = clock::monotonic_ns().saturating_sub(self.at_ns);
        Duration::from_nanos(waited) > LATE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn conversation(n: u64) -> ConversationId {
        ConversationId(u128::from(n).to_be_bytes())
    }

    #[test]
    fn a_session_and_each_of_its_conversations_have_rates() {
        let mut typist = Typist::default();
        let now = 1_000_000 * MS;
        let burst = CONVERSATION_RATE.1 as usize;
        let said = (0..10).filter(|_| typist.take_conversation(conversation(1), now)).count();
        assert_eq!(said, burst);
        assert!(typist.take_conversation(conversation(2), now), "another one has its own");
        assert!(typist.take_conversation(conversation(1), now + 1_000 * MS));
        assert!(!typist.take_conversation(conversation(1), now + 1_000 * MS));
        let said = (0..100).filter(|_| typist.take_session(now)).count();
        assert_eq!(said, SESSION_RATE.1 as usize);
    }

    #[test]
    fn only_so_many_conversations_are_remembered_and_those_at_rest_are_forgotten() {
        let mut typist = Typist::default();
        let now = 1_000_000 * MS;
        let max = CONVERSATIONS_MAX as u64;
        assert!((0..max).all(|n| typist.take_conversation(conversation(n), now)));
        assert!(!typist.take_conversation(conversation(max), now));
        assert!(typist.take_conversation(conversation(0), now), "known ones go on");
        let later = now + 2_500 * MS;
        assert!(typist.take_conversation(conversation(max), later));
        assert_eq!(typist.conversations.len(), 1);
    }
}
