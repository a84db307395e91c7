//! What a client has seen.

use std::collections::HashMap;

use petrel_client::{
    Acked, Code, ConversationId, Entry, Event, GapReason, MessageId, OfflineReason, Preview,
    Refused, UserId,
};

/// What a client has seen so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Entries, by conversation, in the order in which they were handed out.
    pub entries: HashMap<ConversationId, Vec<Entry>>,
    /// Own messages that are stored.
    pub acked: HashMap<MessageId, Acked>,
    /// Own messages that will not be stored.
    pub refused: HashMap<MessageId, Refused>,
    /// Others' receipts: delivered and read.
    pub receipts: HashMap<(ConversationId, UserId), (u64, u64)>,
    /// Previews, in order.
    pub previews: Vec<Preview>,
    /// Announced gaps: from, to, why.
    pub gaps: Vec<(ConversationId, u64, u64, GapReason)>,
    /// Announced resets.
    pub resets: Vec<(ConversationId, u64)>,
    /// Hints: where, and the head.
    pub hints: Vec<(ConversationId, u64)>,
    /// What concerns no log of a conversation: the own log, typing, presence.
    pub others: Vec<Event>,
    /// The newest answer to an Attach: the head. A refusal removes it.
    pub attached: HashMap<ConversationId, u64>,
    /// Refused Attaches.
    pub attach_refused: Vec<(ConversationId, Code, String)>,
    /// How often it came online.
    pub sign_ins: u64,
    /// The session that it was told of last.
    session: Option<[u8; 16]>,
    /// Whether it is online.
    pub is_online: bool,
    /// Why it went offline, each time.
    pub offline: Vec<OfflineReason>,
    /// The last position handed out in each conversation: entries, gaps and resets.
    pub position: HashMap<ConversationId, u64>,
    /// Conversations to which it has come back since it was last online.
    pub(super) resumed: HashMap<ConversationId, u64>,
}

impl Seen {
    /// The texts of a conversation, in order.
    #[must_use]
    pub fn texts(&self, conversation: ConversationId) -> Vec<String> {
        let text = |entry: &Entry| match &entry.body {
            Ok(body) => String::from_utf8_lossy(body).into_owned(),
            Err(error) => format!("<{error:?}>"),
        };
        self.entries.get(&conversation).into_iter().flatten().map(text).collect()
    }

    /// Whether it was ever told that somebody is there, or is not.
    #[must_use]
    pub fn was_told_presence(&self, of: UserId, is_there: bool) -> bool {
        self.times_told_presence(of, is_there) > 0
    }

    /// How often it was told that somebody is there, or is not.
    #[must_use]
    pub fn times_told_presence(&self, of: UserId, is_there: bool) -> usize {
        let told = self.others.iter().filter(|event| {
            matches!(event, Event::Presence { user, online, .. } if (*user, *online) == (of, is_there))
        });
        told.count()
    }

    /// Whether it was ever told that somebody types, or types no more.
    #[must_use]
    pub fn was_told_typing(&self, of: UserId, types: bool) -> bool {
        self.others.iter().any(|event| {
            matches!(event, Event::Typing { user, typing, .. } if (*user, *typing) == (of, types))
        })
    }

    /// The seqs of a conversation, in order.
    #[must_use]
    pub fn seqs(&self, conversation: ConversationId) -> Vec<u64> {
        self.entries.get(&conversation).into_iter().flatten().map(|entry| entry.seq).collect()
    }

    /// How many entries of a conversation were handed out.
    #[must_use]
    pub fn count(&self, conversation: ConversationId) -> usize {
        self.entries.get(&conversation).map_or(0, Vec::len)
    }

    pub(super) fn take(&mut self, event: &Event) {
        match event {
            Event::Online { session, .. } => {
                self.is_online = true;
                // The same one: it was only silent for a while.
                if self.session.replace(*session) != Some(*session) {
                    self.sign_ins += 1;
                    self.resumed.clear();
                }
            }
            Event::Offline { why, .. } => {
                self.is_online = false;
                self.offline.push(why.clone());
            }
            Event::Entry(entry) => {
                self.position.insert(entry.conversation, entry.seq);
                self.entries.entry(entry.conversation).or_default().push(entry.clone());
            }
            Event::Preview(preview) => self.previews.push(preview.clone()),
            Event::Acked(acked) => {
                self.acked.insert(acked.id, *acked);
            }
            Event::Refused(refused) => {
                self.refused.insert(refused.id, refused.clone());
            }
            Event::Receipts { conversation, members } => {
                for m in members {
                    self.receipts.insert((*conversation, m.user), (m.delivered, m.read));
                }
            }
            Event::Gap { conversation, from, to, reason } => {
                self.position.insert(*conversation, *to);
                self.gaps.push((*conversation, *from, *to, *reason));
            }
            Event::Reset { conversation, to } => {
                self.position.insert(*conversation, *to);
                self.resets.push((*conversation, *to));
            }
            Event::Attached { conversation, head, .. } => {
                self.attached.insert(*conversation, *head);
            }
            Event::AttachRefused { conversation, code, text } => {
                self.attached.remove(conversation);
                self.attach_refused.push((*conversation, *code, text.clone()));
            }
            Event::Hint { conversation, head, .. } => self.hints.push((*conversation, *head)),
            other => self.others.push(other.clone()),
        }
    }
}
