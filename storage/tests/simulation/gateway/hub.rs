//! What all streams of a gateway share: rights, what was refused, handing out, the journal, and the writers' answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::vec;

use async_trait::async_trait;
use petrel_core::entry::Cursor;
use petrel_core::error::Rejection;
use petrel_core::id::{ConversationId, RightsVersion};
use petrel_core::store::Append;
use petrel_storage::budget::Share;
use petrel_storage::writer::{Commits, Pending, Settled};
use tokio::time::sleep;

use super::{Hub, JOURNAL_EVERY, Stream, Tag, Told, judge};
use crate::statement::entry_of;
use crate::store::Rights;
use crate::world::Sabotage;

impl Hub {
    pub(super) fn share(&self, id: ConversationId) -> Share {
        self.conversations.lock()[&id].share.clone()
    }

    /// What was refused for good stays so, while an older copy may come.
    pub(super) fn refused_before(&self, append: &Append) -> Option<Rejection> {
        let conversations = self.conversations.lock();
        let refused = &conversations[&append.conversation].refused;
        let found = refused.of(append.sender, append.id, append.digest).cloned();
        self.world.count(|counters| counters.refused_again += u64::from(found.is_some()));
        found
    }

    fn refuse(&self, append: &Append, rejection: &Rejection) {
        if rejection.is_retryable() || self.world.sabotage == Sabotage::NoTombstones {
            return;
        }
        if let Some(local) = self.conversations.lock().get_mut(&append.conversation) {
            let message = (append.sender, append.id);
            let kept = local.refused.keep(message, append.digest, rejection, 0, 1);
            assert!(kept, "a run has less messages than are remembered");
        }
    }

    pub(super) fn streams(&self, id: ConversationId) -> Vec<Arc<Stream>> {
        self.conversations.lock()[&id].streams.clone()
    }

    pub(super) async fn rights(&self, id: ConversationId) -> Rights {
        let cached = self.conversations.lock()[&id].rights;
        match cached {
            Some(rights) => rights,
            None => self.load_rights(id).await,
        }
    }

    pub(super) async fn load_rights(&self, id: ConversationId) -> Rights {
        let rights = self.store.rights(id).await;
        if let Some(local) = self.conversations.lock().get_mut(&id) {
            local.rights = Some(rights);
        }
        rights
    }

    pub(super) async fn splice(self: Arc<Self>, stream: Arc<Stream>, cursors: Vec<Cursor>) {
        let id = stream.conversation;
        let claimed = cursors.iter().map(|cursor| cursor.seq.0).max().unwrap_or(0);
        let from = self.store.match_cursor(id, &cursors).await;
        if from < claimed {
            stream.state.lock().tell(Told::Reset { to: from });
        }
        let missed = self.store.entries(id, from + 1, usize::MAX).await;
        let mut state = stream.state.lock();
        state.next = Some(from + 1);
        for entry in missed {
            state.offer(entry);
        }
    }

    pub(super) async fn read_journal(self: Arc<Self>) {
        loop {
            sleep(JOURNAL_EVERY).await;
            let ids: Vec<_> = self.conversations.lock().keys().copied().collect();
            for id in ids {
                let streams = self.streams(id);
                let next = streams.iter().filter_map(|stream| stream.state.lock().next).min();
                let Some(next) = next else { continue };
                self.load_rights(id).await;
                for entry in self.store.entries(id, next, 64).await {
                    for stream in &streams {
                        stream.state.lock().offer(entry.clone());
                    }
                }
            }
        }
    }

    fn answer(&self, settled: Settled<Tag>) {
        let Settled { append, tag, outcome } = settled;
        match outcome {
            Ok(stored) => {
                let seq = stored.placed.seq.0;
                let entry = entry_of(&append, stored.placed);
                for stream in self.streams(append.conversation) {
                    stream.state.lock().offer(entry.clone());
                }
                // If it goes out later, the entry itself is the ack.
                let state = tag.stream.state.lock();
                if state.next.is_some_and(|next| seq < next) {
                    state.tell(Told::Ack { id: append.id, seq });
                }
            }
            Err(rejection) => {
                self.refuse(&append, &rejection);
                let mut state = tag.stream.state.lock();
                let is_latest = state.submissions.get(&tag.number) == Some(&tag.submission);
                if !is_latest || state.expected <= tag.number {
                    // It comes again, or came already: that submission's answer counts.
                    return;
                }
                match rejection.is_retryable() {
                    true => state.expected = state.expected.min(tag.number),
                    false => {
                        self.world.history.lock().turned_away.insert(append.id);
                    }
                }
                state.tell(Told::Refused { number: tag.number, id: append.id, rejection });
            }
        }
    }
}

#[async_trait]
impl Commits<Tag> for Hub {
    fn preview(&self, append: &Append, tag: &Tag) {
        self.world.count(|counters| counters.previews += 1);
        if append.admitted_by.is_none() {
            let what = format!("a look-up of {} was previewed", tag.number);
            self.world.violation(what);
        }
    }

    fn settled(&self, settled: vec::Drain<'_, Settled<Tag>>) {
        if !self.lives.load(Ordering::Relaxed) {
            self.world.count(|counters| counters.died_before_push += 1);
            return;
        }
        for one in settled {
            self.answer(one);
        }
    }

    async fn judge_again(&self, stale: &[Pending<Tag>]) -> Vec<Result<RightsVersion, Rejection>> {
        let mut verdicts = Vec::new();
        let mut loaded = BTreeMap::new();
        for pending in stale {
            let id = pending.append.conversation;
            let rights = match loaded.get(&id) {
                Some(rights) => *rights,
                None => self.load_rights(id).await,
            };
            loaded.insert(id, rights);
            verdicts.push(match pending.tag.stream.state.lock().gone {
                // Nobody waits for it: who comes again is judged there.
                true => Err(Rejection::Unavailable),
                false => match self.refused_before(&pending.append) {
                    Some(refusal) => Err(refusal),
                    None => judge(rights),
                },
            });
        }
        let admitted = verdicts.iter().filter(|verdict| verdict.is_ok()).count();
        self.world.count(|counters| counters.readmitted += admitted as u64);
        verdicts
    }
}
