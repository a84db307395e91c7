//! The sure way: what other gateways have committed, read from the journal once a second. In health everything has come over
//! a link by then, and nothing is left to do. What has not (a stale route, a lost frame, a link that broke, a
//! gateway that died between its commit and its push) is read from the store and handed out, or hinted at. What
//! cannot be done now is done with the next reading.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use petrel_core::conversation::Conversation;
use petrel_core::id::{ConversationId, NodeId, Seq, UserId};
use petrel_core::limits;
use petrel_core::store::{Journal, JournalMark, LANES_MAX, StoreError};
use petrel_proto::code::Code;
use rustc_hash::FxHashMap;
use tokio::time::timeout;

use crate::conversation_table::Cell;
use crate::fanout::Origin;
use crate::gateway::Gateway;
use crate::{metrics, translate};

/// Between two readings.
const INTERVAL: Duration = Duration::from_secs(1);
/// What was just committed may be on its way over a link.
const ON_ITS_WAY: Duration = Duration::from_millis(250);
/// Rows of one lane that are read at once, and of all of them.
const LANE_ROWS_MAX: usize = 500;
const ROWS_MAX: usize = 5_000;
/// Conversations whose members are looked up at once.
const LOOKED_UP_AT_ONCE: usize = 2_000;
/// Conversations that are looked at side by side, and for how long each.
const LOOKS_AT_ONCE: usize = 8;
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// Members that are looked up of one conversation; of a larger one all are loaded.
const MEMBERS_MAX: usize = 64;
/// Conversations that are known to have no reader here, at the most; further ones are looked up each time,
const ELSEWHERE_MAX: usize = 65_536;
/// as is each one after so long.
const ELSEWHERE_FOR: Duration = Duration::from_secs(60);
/// Conversations that are looked at again as the store did not answer; with more, everybody signs in anew.
const AGAIN_MAX: usize = 65_536;
/// Rows are kept for so long.
const KEPT: Duration = Duration::from_secs(300);
/// Between two times that old rows are forgotten.
const TRIM: Duration = Duration::from_secs(30);
/// When rows were forgotten before they were read, clients sign in anew within this time, in milliseconds.
const ANEW_WITHIN_MS: u32 = 10_000;

/// How far the journal was read.
#[derive(Debug)]
struct Reader {
    marks: FxHashMap<(NodeId, u32), u64>,
    /// Conversations without a reader here: their members, and until when that is believed.
    elsewhere: FxHashMap<ConversationId, (Instant, Vec<UserId>)>,
    /// Conversations that could not be looked at.
    again: FxHashMap<ConversationId, Head>,
}

/// Where a log was left.
#[derive(Clone, Copy, Debug)]
struct Head {
    seq: Seq,
    /// By a change, which may have moved members.
    is_change: bool,
}

/// What a reading brought.
#[derive(Debug, Default)]
struct News {
    heads: FxHashMap<ConversationId, Head>,
    /// Rows were forgotten before they were read.
    has_gap: bool,
    /// There may be more.
    is_full: bool,
}

impl News {
    fn add(&mut self, conversation: ConversationId, head: Head) {
        let known = self.heads.entry(conversation).or_insert(head);
        known.seq = head.seq.max(known.seq);
        known.is_change |= head.is_change;
    }
}

impl Reader {
    fn new(marks: FxHashMap<(NodeId, u32), u64>) -> Self {
        Self { marks, elsewhere: FxHashMap::default(), again: FxHashMap::default() }
    }

    async fn read(&mut self, gateway: &Gateway, journal: &dyn Journal) -> Result<News, StoreError> {
        let mut news = News::default();
        let nodes = gateway.cluster.view.journals(gateway.cluster.own().id);
        self.marks.retain(|(node, _), _| nodes.contains(node));
        if !nodes.is_empty() {
            let mark = |(&(node, lane), &number)| JournalMark { node, lane, number };
            let marks: Vec<_> = self.marks.iter().map(mark).collect();
            let rows = journal.read(&nodes, &marks, (LANE_ROWS_MAX, ROWS_MAX)).await?;
            metrics::cluster::journal_read(rows.len() as u64);
            news.is_full = rows.len() >= ROWS_MAX;
            let mut of_lane: FxHashMap<(NodeId, u32), usize> = FxHashMap::default();
            for row in rows {
                let lane = (row.mark.node, row.mark.lane);
                let count = of_lane.entry(lane).or_default();
                *count += 1;
                news.is_full |= *count >= LANE_ROWS_MAX;
                let before = self.marks.insert(lane, row.mark.number);
                news.has_gap |= before.is_some_and(|before| row.mark.number > before + 1);
                let is_change = row.mark.lane >= LANES_MAX / 2;
                for (conversation, seq) in row.heads {
                    news.add(conversation, Head { seq, is_change });
                }
            }
        }
        for (conversation, head) in std::mem::take(&mut self.again) {
            news.add(conversation, head);
        }
        for conversation in std::mem::take(&mut *gateway.cluster.doubtful.lock()) {
            news.add(conversation, Head { seq: Seq(limits::TIME_MS_MAX), is_change: true });
        }
        Ok(news)
    }

    /// Has a conversation looked at again with the next reading.
    fn again(&mut self, conversation: ConversationId, head: Head) {
        metrics::cluster::journal_failed();
        if self.again.len() < AGAIN_MAX {
            self.again.insert(conversation, head);
        }
    }

    /// Whether it is known that nobody of these reads a conversation here.
    fn is_elsewhere(&self, conversation: ConversationId, is_here: impl Fn(UserId) -> bool) -> bool {
        self.elsewhere.get(&conversation).is_some_and(|(until, members)| {
            Instant::now() < *until && !members.iter().any(|user| is_here(*user))
        })
    }

    fn note_elsewhere(&mut self, conversation: ConversationId, members: Vec<UserId>) {
        let now = Instant::now();
        if self.elsewhere.len() >= ELSEWHERE_MAX {
            self.elsewhere.retain(|_, (until, _)| now < *until);
        }
        if self.elsewhere.len() < ELSEWHERE_MAX {
            self.elsewhere.insert(conversation, (now + ELSEWHERE_FOR, members));
        }
    }
}

/// Forgets the own rows that are old enough, and those of gateways that are long gone, until this one stops. Apart from the
/// reader, which waits for none of it.
pub(super) async fn trim(gateway: Arc<Gateway>) {
    let Some(journal) = gateway.store.journal() else { return };
    // Where the own lanes stood, and when: the oldest first.
    let mut stood: VecDeque<(Instant, Vec<JournalMark>)> = VecDeque::new();
    let trimming = async {
        loop {
            tokio::time::sleep(TRIM).await;
            if let Err(error) = trim_round(&gateway, journal, &mut stood).await {
                tracing::warn!(%error, "old rows of the journal stay");
            }
        }
    };
    gateway.cluster.closing.run_until_cancelled(trimming).await;
}

async fn trim_round(
    gateway: &Gateway,
    journal: &dyn Journal,
    stood: &mut VecDeque<(Instant, Vec<JournalMark>)>,
) -> Result<(), StoreError> {
    let now = Instant::now();
    stood.push_back((now, journal.marks(&[gateway.cluster.own().id]).await?));
    while let Some((at, marks)) = stood.front()
        && *at + KEPT <= now
    {
        journal.trim(marks).await?;
        stood.pop_front();
    }
    journal.forget_gone().await
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
pub(super) struct Marks(FxHashMap<(NodeId, u32), u64>);

/// Reads until the gateway stops.
pub(super) async fn run(gateway: Arc<Gateway>, Marks(marks): Marks) {
    let Some(journal) = gateway.store.journal() else { return };
    let mut reader = Reader::new(marks);
    let reading = async {
        loop {
            tokio::time::sleep(INTERVAL - ON_ITS_WAY).await;
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
        }
    };
    gateway.cluster.closing.run_until_cancelled(reading).await;
}

impl Gateway {
    /// Sees that readers here have what was committed elsewhere.
    async fn follow(self: &Arc<Self>, reader: &mut Reader, journal: &dyn Journal, news: News) {
        if news.has_gap {
            self.have_all_sign_in_anew();
        }
        if news.heads.is_empty() {
            return;
        }
        tokio::time::sleep(ON_ITS_WAY).await;
        let is_here = |user: UserId| self.sessions.count(user) > 0;
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for (conversation, head) in news.heads {
            match self.conversations.cached(conversation) {
                Some(cell) => known.push((cell, head)),
                None if !head.is_change && reader.is_elsewhere(conversation, is_here) => {}
                None => unknown.push((conversation, head)),
            }
        }
        let looking = known.into_iter().map(|(cell, head)| async move {
            let done = timeout(LOOK_TIMEOUT, self.catch_up_with(&cell, head)).await;
            (cell.id(), head, matches!(done, Ok(Ok(()))))
        });
        let mut looks = stream::iter(looking).buffer_unordered(LOOKS_AT_ONCE);
        while let Some((conversation, head, is_done)) = looks.next().await {
            if !is_done {
                reader.again(conversation, head);
            }
        }
        for some in unknown.chunks(LOOKED_UP_AT_ONCE) {
            if let Err(error) = self.hint_at(reader, journal, some).await {
                tracing::debug!(%error, "members of conversations cannot be read");
                some.iter().for_each(|(conversation, head)| reader.again(*conversation, *head));
            }
        }
        if reader.again.len() >= AGAIN_MAX {
            reader.again = FxHashMap::default();
            self.have_all_sign_in_anew();
        }
    }

    /// What was missed is not known: all clients sign in anew, and find it by their lists and cursors.
    fn have_all_sign_in_anew(&self) {
        metrics::cluster::journal_gap();
        tracing::warn!("the journal was read too late; all clients sign in anew");
        let frame = translate::go_away((0, ANEW_WITHIN_MS), Vec::new());
        for session in self.sessions.all() {
            if !session.queue().put_control(frame.clone()) {
                session.queue().end(Code::GoingAway);
            }
        }
    }

    /// Reads on in a conversation that is in memory, if it stands behind this place and somebody here reads it.
    async fn catch_up_with(self: &Arc<Self>, cell: &Arc<Cell>, head: Head) -> Result<(), ()> {
        let stands = |c: &mut Conversation<Origin>| (c.next() <= head.seq, c.take_unseen(head.seq));
        let (is_behind, is_unseen) = cell.with(stands).unwrap_or_default();
        if is_unseen && cell.with(|conversation| self.hint_readers(conversation)) == Some(true) {
            metrics::cluster::journal_repaired("hints");
        }
        if !is_behind {
            return Ok(());
        }
        if head.is_change && !self.reload(cell).await {
            return Err(());
        }
        let is_read =
            |c: &mut Conversation<Origin>| c.known().any(|member| self.sessions.count(member) > 0);
        if cell.with(is_read) != Some(true) {
            return Ok(());
        }
        let standing = self.store.standing(cell.id(), &[]).await;
        let Some(standing) = standing.map_err(|_| ())? else { return Ok(()) };
        let is_behind = cell.with(|c| c.next() <= standing.head) == Some(true);
        if is_behind {
            self.learn(cell, &standing).await.map_err(|_| ())?;
            metrics::cluster::journal_repaired("entries");
        }
        Ok(())
    }

    /// Tells readers here of conversations that are not in memory.
    async fn hint_at(
        self: &Arc<Self>,
        reader: &mut Reader,
        journal: &dyn Journal,
        conversations: &[(ConversationId, Head)],
    ) -> Result<(), StoreError> {
        let ids: Vec<_> = conversations.iter().map(|(conversation, _)| *conversation).collect();
        let lines = journal.members(&ids, MEMBERS_MAX + 1).await?;
        let mut members: FxHashMap<ConversationId, Vec<UserId>> = FxHashMap::default();
        for (conversation, user) in lines {
            members.entry(conversation).or_default().push(user);
        }
        let mut read_here = Vec::new();
        for (conversation, head) in conversations {
            let members = members.remove(conversation).unwrap_or_default();
            let is_large = members.len() > MEMBERS_MAX;
            if is_large || members.iter().any(|user| self.sessions.count(*user) > 0) {
                read_here.push((*conversation, *head));
            } else {
                reader.note_elsewhere(*conversation, members);
            }
        }
        let hinting = read_here.into_iter().map(|(conversation, head)| async move {
            let done = timeout(LOOK_TIMEOUT, self.load_and_hint(conversation, head)).await;
            (conversation, head, matches!(done, Ok(Ok(()))))
        });
        let mut hints = stream::iter(hinting).buffer_unordered(LOOKS_AT_ONCE);
        while let Some((conversation, head, is_done)) = hints.next().await {
            if !is_done {
                reader.again(conversation, head);
            }
        }
        Ok(())
    }

    /// Tells readers here of a conversation that was not in memory. A large one stays there for a while, so that its
    /// members are looked through there next time.
    async fn load_and_hint(
        self: &Arc<Self>,
        conversation: ConversationId,
        head: Head,
    ) -> Result<(), ()> {
        let Some(cell) = self.conversation(conversation).await.map_err(|_| ())? else {
            return Ok(());
        };
        // Somebody else's load may have begun before the commit.
        if cell.with(|c| c.next() <= head.seq) == Some(true) {
            self.catch_up_with(&cell, head).await?;
        }
        let told = cell.with(|c| {
            c.take_unseen(head.seq);
            self.hint_readers(c)
        });
        if told == Some(true) {
            metrics::cluster::journal_repaired("hints");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_elsewhere_until_a_member_comes_or_time_is_over() {
        let mut reader = Reader::new(FxHashMap::default());
        let (conversation, member) = (ConversationId([1; 16]), UserId([2; 16]));
        assert!(!reader.is_elsewhere(conversation, |_| false));
        reader.note_elsewhere(conversation, vec![member]);
        assert!(reader.is_elsewhere(conversation, |_| false));
        assert!(!reader.is_elsewhere(conversation, |user| user == member), "he has come");
        if let Some((until, _)) = reader.elsewhere.get_mut(&conversation) {
            *until = Instant::now();
        }
        assert!(!reader.is_elsewhere(conversation, |_| false));
    }

    #[test]
    fn news_keep_the_highest_head_and_that_there_was_a_change() {
        let mut news = News::default();
        let conversation = ConversationId([1; 16]);
        for (seq, is_change) in [(3, false), (5, true), (4, false)] {
            news.add(conversation, Head { seq: Seq(seq), is_change });
        }
        let head = news.heads.get(&conversation).map(|head| (head.seq.0, head.is_change));
        assert_eq!(head, Some((5, true)));
    }
}
