//! After the commit: entries to the members' sessions here, answers to the
//! senders. Each entry is encoded once; its bytes are shared.

pub(crate) mod large;
mod repair;

use std::cell::LazyCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use petrel_core::conversation::{Conversation, Ready};
use petrel_core::entry::{Changes, EVERYBODY, Entry, EntryKind};
use petrel_core::error::Rejection;
use petrel_core::event::Event;
use petrel_core::id::{RightsVersion, Seq};
use petrel_core::limits;
use petrel_core::store::Append;
use petrel_proto::code::Code;
use petrel_storage::writer::{Commits, Pending, Settled};

use crate::clock;
use crate::conversation_table::Cell;
use crate::gateway::Gateway;
use crate::send_order::SendOrder;
use crate::send_queue::{Delivery, Put};
use crate::session::Session;
use crate::{metrics, translate};

/// Where a send came from, and so where its answer goes.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The session.
    pub session: Arc<Session>,
    /// Which of its streams in that conversation.
    pub generation: u64,
    /// The send's number there.
    pub number: u64,
    /// The stream's order of sends.
    pub order: Arc<SendOrder>,
    /// When the send was decoded.
    pub began: Instant,
}

/// What travels with a message through the writer.
#[derive(Clone, Debug)]
pub(crate) struct Tag {
    /// The conversation; kept in memory while a message is under way.
    pub cell: Arc<Cell>,
}

/// How long loading a conversation again may take before its messages are refused as retryable.
const JUDGE_TIMEOUT: Duration = Duration::from_secs(2);
/// What a packet may take on its way, and a send to its admission, at the most.
const LATE_PACKETS: Duration = Duration::from_secs(60);
/// Who has left so many entries ago is not told of new ones. One of these was that he left.
const JUST_LEFT: u64 = 50;

/// The gateway's side of the writers.
#[derive(Debug)]
pub(crate) struct Fanout {
    gateway: std::sync::Weak<Gateway>,
}

impl Fanout {
    /// Of this gateway.
    pub(crate) fn new(gateway: std::sync::Weak<Gateway>) -> Self {
        Self { gateway }
    }
}

#[async_trait]
impl Commits<Tag> for Fanout {
    fn preview(&self, append: &Append, tag: &Tag) {
        if let Some(gateway) = self.gateway.upgrade() {
            gateway.preview(append, &tag.cell);
        }
    }

    fn settled(&self, settled: std::vec::Drain<'_, Settled<Tag>>) {
        let Some(gateway) = self.gateway.upgrade() else { return };
        for one in settled {
            gateway.settle(one);
        }
    }

    async fn judge_again(&self, stale: &[Pending<Tag>]) -> Vec<Result<RightsVersion, Rejection>> {
        let Some(gateway) = self.gateway.upgrade() else {
            return stale.iter().map(|_| Err(Rejection::GoingAway)).collect();
        };
        let mut reloaded: Vec<(&Arc<Cell>, bool)> = Vec::new();
        let mut judged = Vec::with_capacity(stale.len());
        for pending in stale {
            let cell = &pending.tag.cell;
            let known = reloaded.iter().find(|(c, _)| c.id() == cell.id()).map(|(_, ok)| *ok);
            let fresh = match known {
                Some(fresh) => fresh,
                None => {
                    let loading = gateway.reload(cell);
                    let fresh = tokio::time::timeout(JUDGE_TIMEOUT, loading).await.unwrap_or(false);
                    reloaded.push((cell, fresh));
                    fresh
                }
            };
            judged.push(if fresh {
                let Append { sender, id, digest, .. } = pending.append;
                let refused = cell.with(|c| c.refused_before(sender, id, digest).cloned());
                match refused.flatten() {
                    Some(refusal) => Err(refusal),
                    None => gateway.judge(cell, &pending.append).await,
                }
            } else {
                Err(Rejection::Unavailable)
            });
        }
        judged
    }
}

impl Gateway {
    /// Takes the answer to one message.
    fn settle(self: &Arc<Self>, settled: Settled<Tag>) {
        let Settled { append, tag, outcome } = settled;
        let cell = tag.cell;
        let stored = match outcome {
            Ok(stored) => stored,
            Err(rejection) => {
                let now_s = clock::coarse_s();
                let until_s = now_s.saturating_add(self.refused_kept_s());
                let message = (append.sender, append.id);
                let ended = cell.with(|c| {
                    let origins = c.end(append.sender, append.id);
                    (origins, c.refuse(message, append.digest, rejection, now_s, until_s))
                });
                let Some((origins, rejection)) = ended else { return };
                for origin in &origins {
                    origin.refuse(cell.id(), &rejection);
                }
                return;
            }
        };
        let entry = Entry {
            conversation: append.conversation,
            placed: stored.placed,
            id: append.id,
            sender: append.sender,
            kind: append.kind.number(),
            encoding: append.encoding,
            body: append.body,
            target: append.target,
            mentions: append.mentions,
            changes: Changes::default(),
            hidden: false,
        };
        let mut locked = cell.lock();
        let Some(conversation) = locked.as_mut() else { return };
        let origins = conversation.end(append.sender, append.id);
        if stored.new {
            self.forward(&cell, conversation, &entry);
        }
        let offered = conversation.offer(entry, origins);
        if let Some(answered) = offered.answered {
            for origin in &answered.origins {
                let ack = origin.ack(&answered.entry);
                origin.session.queue().put_beside(cell.id(), origin.generation, ack);
            }
        }
        self.hand_out(&cell, conversation, offered.ready);
        drop(locked);
        if offered.repair {
            self.spawn_repair(cell);
        }
    }

    /// How long an older copy of a refused message may still come, in seconds: until the
    /// connection that it is on is known to be dead.
    fn refused_kept_s(&self) -> u32 {
        let kept = self.config.gateway.idle_timeout.duration() + LATE_PACKETS;
        u32::try_from(kept.as_secs()).unwrap_or(u32::MAX)
    }

    /// Gives entries whose turn has come to the members' sessions, in order. The conversation is locked.
    fn hand_out(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        conversation: &Conversation<Origin>,
        ready: Vec<Ready<Origin>>,
    ) {
        if !ready.is_empty() && self.is_large(cell, conversation) {
            return self.queue_up(cell, conversation, ready);
        }
        let now_s = clock::coarse_s();
        for Ready { entry, mut origins, .. } in ready {
            let seq = entry.placed.seq;
            // In a pair the peer needs no sender's name; the sender's other devices do.
            let peer = conversation.peer_of(entry.sender);
            let named = LazyCell::new(|| translate::push(&entry));
            let short = LazyCell::new(|| translate::push_to_peer(&entry));
            let mut delivered = 0u64;
            for user in conversation.readers(seq) {
                let calls = entry.mentions.iter().any(|id| *id == user || *id == EVERYBODY);
                self.sessions.for_each(user, |session| {
                    let own = origins.iter().position(|o| Arc::ptr_eq(&o.session, session));
                    let ack = own.map(|own| {
                        let origin = origins.swap_remove(own);
                        (origin.generation, origin.ack(&entry))
                    });
                    let push = if peer == Some(user) { &*short } else { &*named };
                    let conversation_id = entry.conversation;
                    let delivery =
                        Delivery { conversation: conversation_id, seq, push, ack, calls };
                    let put = session.queue().deliver(delivery, now_s, |after| {
                        self.attach_frame(conversation, session, after)
                    });
                    if put == Put::Hint {
                        self.send_hint(session, conversation);
                    }
                    delivered += 1;
                });
            }
            // A sender whose handshake is not done is in no table; he is answered all the same.
            for origin in origins {
                let ack = (origin.generation, origin.ack(&entry));
                let none_between = |from| (from == seq).then(Vec::new);
                origin.session.queue().answer(cell.id(), ack, seq, none_between);
            }
            metrics::get().deliveries.increment(delivered);
            if entry.kind == EntryKind::Group.number() {
                self.dismiss(conversation, seq);
            }
        }
    }

    /// Whose membership ended with this entry is told so, once he has it, and his streams end.
    fn dismiss(&self, conversation: &Conversation<Origin>, seq: Seq) {
        let frame = translate::refusal(&Rejection::NotFound, 0);
        for user in conversation.leavers(seq) {
            self.sessions.for_each(user, |session| {
                session.queue().put_end(conversation.id(), frame.clone());
            });
        }
    }

    /// Hands out an entry that a request has written, with what it did to the group, if anything; to the other
    /// gateways too.
    pub(crate) fn offer(self: &Arc<Self>, cell: &Arc<Cell>, entry: Entry, event: Option<Event>) {
        let mut locked = cell.lock();
        let Some(conversation) = locked.as_mut() else { return };
        // Whoever joins with it is a reader once it is taken over, and whoever leaves is one of it still.
        let forwarded = self.cluster.is_linked().then(|| entry.clone());
        let offered = match event {
            Some(event) => conversation.offer_event(entry, event),
            None => conversation.offer(entry, Vec::new()),
        };
        if let Some(entry) = forwarded {
            self.forward(cell, conversation, &entry);
        }
        self.hand_out(cell, conversation, offered.ready);
        drop(locked);
        if offered.repair {
            self.spawn_repair(Arc::clone(cell));
        }
    }

    /// Hands out an entry that another gateway has committed.
    pub(crate) fn offer_from_peer(self: &Arc<Self>, cell: &Arc<Cell>, entry: Entry) {
        let repair = cell.with(|conversation| {
            if conversation.take_unseen(entry.placed.seq) {
                self.hint_readers(conversation);
                return false;
            }
            let offered = conversation.offer(entry, Vec::new());
            self.hand_out(cell, conversation, offered.ready);
            offered.repair
        });
        if repair == Some(true) {
            self.spawn_repair(Arc::clone(cell));
        }
    }

    /// Tells all readers here that there is something in a conversation, also who has just ceased to be one; `false` if
    /// there is none of them.
    pub(crate) fn hint_readers(&self, conversation: &Conversation<Origin>) -> bool {
        let mut told = false;
        let (head, _) = conversation.head();
        for user in conversation.known() {
            if self.sessions.count(user) == 0 {
                continue;
            }
            let until = conversation.last_seen_by(user).unwrap_or_default();
            if until.is_some_and(|until| until.0 + JUST_LEFT < head.0) {
                continue;
            }
            let last = until.map_or(head, |until| head.min(until));
            let frame = translate::hint(conversation.id(), last, conversation.peer_of(user));
            self.sessions.for_each(user, |session| {
                if !session.queue().put_control_later(frame.clone(), clock::coarse_s()) {
                    // Nothing else tells him; his list does, when he comes back.
                    session.queue().end(Code::GoingAway);
                }
                told = true;
            });
        }
        told
    }

    /// Hands out the first entry of a log that was not in memory when it was written; if there is
    /// more by now, its readers are told to look.
    pub(crate) fn hand_out_first(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        conversation: &Conversation<Origin>,
        entry: Entry,
    ) {
        if conversation.next() == entry.placed.seq.next() {
            let ready = Ready { entry, event: None, origins: Vec::new() };
            return self.hand_out(cell, conversation, vec![ready]);
        }
        for user in conversation.readers(entry.placed.seq) {
            self.sessions.for_each(user, |session| self.send_hint(session, conversation));
        }
    }

    /// Hands out entries that were read from the store.
    pub(crate) fn offer_read(self: &Arc<Self>, cell: &Arc<Cell>, entries: Vec<Entry>) {
        cell.with(|conversation| {
            for entry in entries {
                let offered = conversation.offer(entry, Vec::new());
                self.hand_out(cell, conversation, offered.ready);
            }
        });
    }

    fn preview(&self, append: &Append, cell: &Arc<Cell>) {
        let locked = cell.lock();
        let Some(conversation) = locked.as_ref() else { return };
        let frame = translate::preview(append);
        let own = conversation.origins(append.sender, append.id);
        if self.show_preview_to(cell, conversation, own, &frame) {
            self.forward_preview(conversation, append.sender, &frame);
        }
    }

    /// Shows the preview of a message that another gateway is storing.
    pub(crate) fn show_preview(&self, cell: &Cell, rights: RightsVersion, frame: &Bytes) {
        cell.with(|conversation| {
            // Who has left since may be on an older list.
            if conversation.rights_version() >= rights {
                self.show_preview_to(cell, conversation, &[], frame);
            }
        });
    }

    /// Shows a preview to all but the sessions that sent the message. `false` if they are too many.
    fn show_preview_to(
        &self,
        cell: &Cell,
        conversation: &Conversation<Origin>,
        own: &[Origin],
        frame: &Bytes,
    ) -> bool {
        let handles: usize = conversation.members().map(|u| self.sessions.count(u)).sum();
        if handles > limits::PREVIEW_HANDLES_MAX {
            return false;
        }
        let (now_s, next) = (clock::coarse_s(), conversation.next());
        // A stream that is opened now would begin behind the entries that wait.
        let opens = !cell.large().is_busy();
        for user in conversation.members() {
            self.sessions.for_each(user, |session| {
                let is_origin = own.iter().any(|o| Arc::ptr_eq(&o.session, session));
                if session.wants_previews() && !is_origin {
                    let attach = |after| self.attach_frame(conversation, session, after);
                    let opening = opens.then_some((next, attach));
                    session.queue().put_ephemeral(cell.id(), frame, now_s, opening);
                }
            });
        }
        metrics::get().previews.increment(1);
        true
    }

    /// The first frame of a stream that the server opens.
    fn attach_frame(
        &self,
        conversation: &Conversation<Origin>,
        session: &Session,
        after: Seq,
    ) -> Bytes {
        let (head, count) = conversation.head();
        translate::attach(&translate::AttachAnswer {
            conversation: conversation.id(),
            peer: conversation.peer_of(session.user()),
            after,
            head,
            count,
            receipts: conversation.receipts_for(session.user()),
        })
    }

    /// Tells a session for which no stream can be opened that there is something in a conversation.
    pub(crate) fn hint(&self, session: &Session, id: petrel_core::id::ConversationId) {
        if let Some(cell) = self.conversations.cached(id) {
            cell.with(|conversation| {
                session.queue().put_control(hint_frame(session, conversation));
            });
        }
    }

    fn send_hint(&self, session: &Session, conversation: &Conversation<Origin>) {
        let frame = hint_frame(session, conversation);
        session.queue().put_control_later(frame, clock::coarse_s());
    }
}

fn hint_frame(session: &Session, conversation: &Conversation<Origin>) -> Bytes {
    let (head, _) = conversation.head();
    translate::hint(conversation.id(), head, conversation.peer_of(session.user()))
}

impl Origin {
    fn ack(&self, entry: &Entry) -> Bytes {
        metrics::get().send_to_ack.record(self.began.elapsed());
        translate::ack(self.number, entry)
    }

    /// Answers a send that is not stored.
    fn refuse(&self, conversation: petrel_core::id::ConversationId, rejection: &Rejection) {
        let code = translate::code(rejection);
        metrics::refused(code);
        if code.is_retryable() {
            self.order.expect_again(self.number);
        }
        let frame = translate::refusal(rejection, self.number);
        self.session.queue().put_beside(conversation, self.generation, frame);
    }
}
