//! The one statement that reads a conversation, and its lines.

use petrel_core::change::{GroupProfile, JoinPolicy, Role};
use petrel_core::id::{ConversationId, RightsVersion, Seq};
use petrel_core::store::{ConversationKind, ConversationRecord, Member, Receipt};
use sqlx::types::Uuid;

use super::unsigned;

/// One statement, so that version and members are of one snapshot; both stores understand it.
///
/// Lines are: 0 the conversation, 1 a member, 2 a receipt, 3 a group's profile. A member's flags:
/// 1 blocks, 2 accepts, 4 is a contact, 8 has written; the last three are asked for pairs alone.
/// Whether somebody has written is looked for among the newest and the oldest thousand entries:
/// who wrote in between alone counts as silent.
pub(crate) const LOAD: &str = "\
SELECT CAST(0 AS bigint), c.rights_version, c.head, c.countable, c.floor, CAST(c.kind AS bigint), \
       e.client_msg_id, e.committed_ms, CAST(NULL AS text), CAST(NULL AS text) \
FROM conversation c LEFT JOIN entry e ON e.conversation_id = c.id AND e.seq = c.head \
WHERE c.id = $1 \
UNION ALL \
SELECT 1, m.from_seq, m.until_seq, CAST(m.role AS bigint), m.muted_until_ms, \
       CAST(CASE WHEN m.blocks THEN 1 ELSE 0 END + CASE WHEN c.kind <> 1 THEN 2 ELSE coalesce(( \
         SELECT CASE WHEN u.privacy_messages = 1 OR (u.privacy_messages = 2 AND near.contacts) \
                THEN 2 ELSE 0 END + CASE WHEN near.contacts THEN 4 ELSE 0 END \
         FROM (SELECT coalesce(x.friendship = 3 AND y.friendship = 3, false) \
                      OR coalesce(x.follows AND y.follows, false) AS contacts \
               FROM member o \
               LEFT JOIN contact x ON x.owner = m.user_id AND x.other = o.user_id \
               LEFT JOIN contact y ON y.owner = o.user_id AND y.other = m.user_id \
               WHERE o.conversation_id = $1 AND o.user_id <> m.user_id LIMIT 1) near \
         JOIN user_account u ON u.id = m.user_id), 2) \
         + CASE WHEN EXISTS (SELECT 1 FROM (SELECT w.sender FROM entry w \
                  WHERE w.conversation_id = $1 ORDER BY w.seq DESC LIMIT 1000) new \
                  WHERE new.sender = m.user_id) \
             OR EXISTS (SELECT 1 FROM (SELECT w.sender FROM entry w \
                  WHERE w.conversation_id = $1 ORDER BY w.seq LIMIT 1000) old \
                  WHERE old.sender = m.user_id) THEN 8 ELSE 0 END \
       END AS bigint), \
       m.user_id, NULL, NULL, NULL \
FROM conversation c JOIN member m ON m.conversation_id = c.id WHERE c.id = $1 \
UNION ALL \
SELECT 2, r.delivered_seq, r.read_seq, 0, 0, 0, r.user_id, NULL, NULL, NULL \
FROM receipt r WHERE r.conversation_id = $1 \
UNION ALL \
SELECT 3, CAST(g.joins AS bigint), NULL, CASE WHEN g.members_invite THEN 1 ELSE 0 END, \
       CASE WHEN g.whole_history THEN 1 ELSE 0 END, CASE WHEN g.muted THEN 1 ELSE 0 END, \
       NULL, g.created_ms, g.name, g.avatar \
FROM group_profile g WHERE g.conversation_id = $1 \
ORDER BY 1, 7, 2";

/// A line of [`LOAD`]. 0: rights_version, head, countable, floor, kind, the head's id and time.
/// 1: from_seq, until_seq, role, muted_until_ms, flags, user. 2: delivered_seq, read_seq, user.
/// 3: joins, members_invite, whole_history, muted, created_ms, name, avatar.
pub(crate) type ConversationPart = (
    i64,
    i64,
    Option<i64>,
    i64,
    i64,
    i64,
    Option<Uuid>,
    Option<i64>,
    Option<String>,
    Option<String>,
);

pub(crate) fn conversation(
    id: ConversationId,
    parts: Vec<ConversationPart>,
) -> Option<ConversationRecord> {
    let mut record = None;
    let mut profile = GroupProfile::default();
    let mut members = Vec::with_capacity(parts.len());
    let mut receipts = Vec::new();
    for (part, n1, n2, n3, n4, n5, about, ms, name, avatar) in parts {
        match (part, about) {
            (0, head_id) => {
                record = Some(ConversationRecord {
                    id,
                    kind: match n5 {
                        2 => ConversationKind::Group(GroupProfile::default()),
                        3 => ConversationKind::Own,
                        _ => ConversationKind::Pair,
                    },
                    rights_version: RightsVersion(unsigned(n1)),
                    members: Vec::new(),
                    head: Seq(unsigned(n2.unwrap_or(0))),
                    head_entry: head_id.zip(ms).map(|(id, ms)| (id.into(), unsigned(ms))),
                    count: unsigned(n3),
                    floor: Seq(unsigned(n4)),
                    receipts: Vec::new(),
                });
            }
            (1, Some(user)) => members.push(Member {
                until: n2.map(|seq| Seq(unsigned(seq))),
                role: role(n3),
                muted_until_ms: unsigned(n4),
                blocks: n5 & 1 != 0,
                accepts: n5 & 2 != 0,
                is_contact: n5 & 4 != 0,
                has_written: n5 & 8 != 0,
                ..Member::new(user.into(), Seq(unsigned(n1)))
            }),
            (2, Some(user)) => receipts.push((
                user.into(),
                Receipt { delivered: Seq(unsigned(n1)), read: Seq(unsigned(n2.unwrap_or(0))) },
            )),
            (3, _) => {
                profile = GroupProfile {
                    name: name.unwrap_or_default(),
                    avatar: avatar.unwrap_or_default(),
                    joins: joins(n1),
                    members_invite: n3 != 0,
                    whole_history: n4 != 0,
                    muted: n5 != 0,
                    created_ms: unsigned(ms.unwrap_or(0)),
                };
            }
            _ => {}
        }
    }
    let mut record = record?;
    if matches!(record.kind, ConversationKind::Group(_)) {
        record.kind = ConversationKind::Group(profile);
    }
    Some(ConversationRecord { members, receipts, ..record })
}

/// A role from its column; what a newer version wrote is the least one here.
pub(crate) fn role(number: i64) -> Role {
    Role::from_number(unsigned(number)).unwrap_or_default()
}

/// How people come in, from its column; what a newer version wrote is closed here.
pub(crate) fn joins(number: i64) -> JoinPolicy {
    JoinPolicy::from_number(unsigned(number)).unwrap_or_default()
}
