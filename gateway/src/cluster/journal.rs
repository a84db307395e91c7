//! The sure way: what other gateways have committed, read from the journal once a second. In health everything has come over
//! a link by then, and nothing is left to do. What has not (a stale route, a lost frame, a link that broke, a
//! gateway that died between its commit and its push) is read from the store and handed out, or hinted at.

use std::sync::Arc;
use std::time::Duration;

use petrel_core::conversation::Conversation;
use petrel_core::id::{ConversationId, Seq, UserId};
use petrel_core::store::{Journal, JournalMark, StoreError};
use rustc_hash::FxHashMap;

use crate::conversation_table::Cell;
use crate::fanout::Origin;
use crate::gateway::Gateway;
use crate::metrics;

/// Between two readings.
const INTERVAL: Duration = Duration::from_secs(1);
/// What was just committed may be on its way over a link.
const ON_ITS_WAY: Duration = Duration::from_millis(250);
/// Rows of one lane that are read at once.
const ROWS_MAX: usize = 1_000;
/// Conversations whose members are looked up at once.
const LOOKED_UP_AT_ONCE: usize = 2_000;
/// Members that are looked up of one conversation; of a larger one all are loaded.
const MEMBERS_MAX: usize = 64;
/// Conversations that are known to have no reader here, at the most; then all are forgotten.
const ELSEWHERE_MAX: usize = 65_536;
/// ... and for how many readings.
const ELSEWHERE_ROUNDS: u32 = 60;
/// Rows are kept for so long.
const KEPT: Duration = Duration::from_secs(300);
/// Between two times that old rows are forgotten.
const TRIM_ROUNDS: u32 = 30;

/// How far the journal was read.
#[derive(Debug, Default)]
struct Reader {
    marks: FxHashMap<(petrel_core::id::NodeId, u32), u64>,
    /// Conversations without a reader here, their members, and in which round they are looked up again.
    elsewhere: FxHashMap<ConversationId, (u32, Vec<UserId>)>,
    round: u32,
}

/// What a reading brought.
#[derive(Debug, Default)]
struct News {
    heads: FxHashMap<ConversationId, Seq>,
    /// Rows were forgotten before they were read.
    has_gap: bool,
    /// There may be more.
    is_full: bool,
}

impl Reader {
    async fn read(&mut self, gateway: &Gateway, journal: &dyn Journal) -> Result<News, StoreError> {
        let nodes = gateway.cluster.view.journals(gateway.cluster.own().id);
        if nodes.is_empty() {
            return Ok(News::default());
        }
        self.marks.retain(|(node, _), _| nodes.contains(node));
        let mark = |(&(node, lane), &number)| JournalMark { node, lane, number };
        let marks: Vec<_> = self.marks.iter().map(mark).collect();
        let rows = journal.read(&nodes, &marks, ROWS_MAX).await?;
        metrics::cluster::journal_read(rows.len() as u64);
        let mut news = News { is_full: rows.len() >= ROWS_MAX, ..News::default() };
        for row in rows {
            let read = self.marks.entry((row.mark.node, row.mark.lane)).or_default();
            news.has_gap |= row.mark.number > *read + 1;
            *read = row.mark.number.max(*read);
            for (conversation, head) in row.heads {
                let known = news.heads.entry(conversation).or_default();
                *known = head.max(*known);
            }
        }
        Ok(news)
    }

    /// Whether it is known that nobody of these reads a conversation here.
    fn is_elsewhere(&self, conversation: ConversationId, is_here: impl Fn(UserId) -> bool) -> bool {
        self.elsewhere.get(&conversation).is_some_and(|(until, members)| {
            self.round < *until && !members.iter().any(|user| is_here(*user))
        })
    }

    fn note_elsewhere(&mut self, conversation: ConversationId, members: Vec<UserId>) {
        if self.elsewhere.len() >= ELSEWHERE_MAX {
            self.elsewhere = FxHashMap::default();
        }
        self.elsewhere.insert(conversation, (self.round + ELSEWHERE_ROUNDS, members));
    }
}

/// Notes where the journals stand before anybody is signed in here: all up to there is in the store, and is read from
/// it.
///
/// # Errors
/// The store does not answer.
pub(super) async fn begin(gateway: &Gateway) -> Result<Marks, StoreError> {
    let Some(journal) = gateway.store.journal() else { return Ok(Marks::default()) };
    let nodes = gateway.cluster.view.journals(gateway.cluster.own().id);
    let marks = journal.marks(&nodes).await?;
    Ok(Marks(marks.into_iter().map(|m| ((m.node, m.lane), m.number)).collect()))
}

/// Where a reader begins.
#[derive(Debug, Default)]
pub(super) struct Marks(FxHashMap<(petrel_core::id::NodeId, u32), u64>);

/// Reads until the gateway stops.
pub(super) async fn run(gateway: Arc<Gateway>, Marks(marks): Marks) {
    let Some(journal) = gateway.store.journal() else { return };
    let mut reader = Reader { marks, ..Reader::default() };
    let reading = async {
        loop {
            tokio::time::sleep(INTERVAL - ON_ITS_WAY).await;
            reader.round = reader.round.wrapping_add(1);
            loop {
                let is_full = match reader.read(&gateway, journal).await {
                    Ok(news) => {
                        let is_full = news.is_full;
                        gateway.follow(&mut reader, journal, news).await;
                        is_full
                    }
                    Err(error) => {
                        metrics::cluster::journal_failed();
                        tracing::debug!(%error, "the journal cannot be read");
                        false
                    }
                };
                if !is_full {
                    break;
                }
            }
            if reader.round.is_multiple_of(TRIM_ROUNDS)
                && let Err(error) = journal.trim(KEPT).await
            {
                tracing::debug!(%error, "old rows of the journal stay");
            }
        }
    };
    gateway.cluster.closing.run_until_cancelled(reading).await;
}

impl Gateway {
    /// Sees that readers here have what was committed elsewhere.
    async fn follow(self: &Arc<Self>, reader: &mut Reader, journal: &dyn Journal, news: News) {
        if news.heads.is_empty() && !news.has_gap {
            return;
        }
        tokio::time::sleep(ON_ITS_WAY).await;
        if news.has_gap {
            metrics::cluster::journal_gap();
            tracing::warn!(
                "the journal was read too late; everything in memory is looked at again"
            );
            for cell in self.conversations.all() {
                self.catch_up_with(&cell, Seq(u64::MAX)).await;
            }
        }
        let mut unknown = Vec::new();
        for (conversation, head) in news.heads {
            match self.conversations.cached(conversation) {
                Some(cell) => self.catch_up_with(&cell, head).await,
                None if reader.is_elsewhere(conversation, |user| self.sessions.count(user) > 0) => {
                }
                None => unknown.push(conversation),
            }
        }
        for some in unknown.chunks(LOOKED_UP_AT_ONCE) {
            if let Err(error) = self.hint_at(reader, journal, some).await {
                // They are told of with the next entry, and by their list.
                metrics::cluster::journal_failed();
                tracing::warn!(%error, "members of conversations cannot be read");
            }
        }
    }

    /// Reads on in a conversation that is in memory, if it stands behind this place and somebody here reads it.
    async fn catch_up_with(self: &Arc<Self>, cell: &Arc<Cell>, head: Seq) {
        let is_read = |c: &mut Conversation<Origin>| {
            c.next() <= head && c.members().any(|member| self.sessions.count(member) > 0)
        };
        if cell.with(is_read) != Some(true) {
            return;
        }
        let standing = match self.store.standing(cell.id(), &[]).await {
            Ok(Some(standing)) => standing,
            Ok(None) => return,
            Err(error) => {
                metrics::cluster::journal_failed();
                tracing::debug!(%error, "a conversation's standing cannot be read");
                return;
            }
        };
        let is_behind = cell.with(|c| c.next() <= standing.head) == Some(true);
        if is_behind && self.learn(cell, &standing).await.is_ok() {
            metrics::cluster::journal_repaired("entries");
        }
    }

    /// Tells readers here of conversations that are not in memory.
    async fn hint_at(
        self: &Arc<Self>,
        reader: &mut Reader,
        journal: &dyn Journal,
        conversations: &[ConversationId],
    ) -> Result<(), StoreError> {
        let lines = journal.members(conversations, MEMBERS_MAX + 1).await?;
        let mut members: FxHashMap<ConversationId, Vec<UserId>> = FxHashMap::default();
        for (conversation, user) in lines {
            members.entry(conversation).or_default().push(user);
        }
        for conversation in conversations {
            let members = members.remove(conversation).unwrap_or_default();
            let is_large = members.len() > MEMBERS_MAX;
            if !is_large && !members.iter().any(|user| self.sessions.count(*user) > 0) {
                reader.note_elsewhere(*conversation, members);
                continue;
            }
            // A large one stays in memory for a while, so that its members are looked through there next time.
            let Ok(Some(cell)) = self.conversation(*conversation).await else { continue };
            if self.hint_readers(&cell) {
                metrics::cluster::journal_repaired("hints");
            }
        }
        Ok(())
    }
}
