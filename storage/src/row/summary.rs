//! The statement behind a user's list of conversations, and its lines.

/// user, position's time, position's id, limit, since, everybody's id. From the user's memberships to their
/// conversations by key, then a sort by what stands in those two rows alone: an index by last
/// activity would have to change with every send. All else is read for the lines of the page.
pub(crate) const LIST: &str = concat!(
    "WITH line AS MATERIALIZED ( \
       SELECT c.id, c.kind, c.head, c.countable, c.last_at_ms, m.from_seq, m.role \
       FROM member m JOIN conversation c ON c.id = m.conversation_id \
       WHERE m.user_id = $1 AND m.until_seq IS NULL AND c.kind <> 3 AND c.head > 0 \
         AND c.last_at_ms >= $5 AND (c.last_at_ms, c.id) < ($2, $3) \
       ORDER BY c.last_at_ms DESC, c.id DESC LIMIT $4 \
     ), told AS MATERIALIZED ( \
       SELECT line.*, coalesce(r.delivered_seq, 0) AS own_delivered, coalesce(r.read_seq, 0) AS own_read, \
              CASE WHEN r.read_seq >= line.from_seq THEN r.read_seq ELSE line.from_seq - 1 END AS since \
       FROM line LEFT JOIN receipt r ON r.conversation_id = line.id AND r.user_id = $1 \
     ) \
     SELECT told.id, told.last_at_ms, told.own_delivered, told.own_read, CAST(told.role AS bigint) AS role, \
            coalesce(pr.delivered_seq, 0) AS peer_delivered, coalesce(pr.read_seq, 0) AS peer_read, \
            told.countable \
            - coalesce((SELECT s.count FROM entry s WHERE s.conversation_id = told.id \
                        AND s.seq <= told.since ORDER BY s.seq DESC LIMIT 1), 0) \
            - (SELECT count(*) FROM entry o WHERE o.conversation_id = told.id \
               AND o.seq > told.since AND o.sender = $1 AND o.countable) AS unread, \
            (SELECT count(DISTINCT x.seq) FROM mention x WHERE x.conversation_id = told.id \
               AND x.user_id IN ($1, $6) AND x.seq > told.since AND x.sender <> $1) AS mentioned, \
            u.id AS peer_id, u.name AS peer_name, u.nickname AS peer_nickname, u.avatar AS peer_avatar, \
            g.name AS group_name, g.avatar AS group_avatar, CAST(g.joins AS bigint) AS joins, \
            g.members_invite, g.whole_history, g.muted, g.created_ms, g.members, \
            coalesce(t.silenced_until_ms, 0) AS silenced_until_ms, coalesce(t.pinned_ms, 0) AS pinned_ms, \
            coalesce(t.archived, false) AS archived, \
            EXISTS (SELECT 1 FROM hidden_entry h WHERE h.user_id = $1 AND h.conversation_id = told.id \
                    AND h.seq = told.head) AS hidden, ",
    crate::row::entry_columns!(),
    " FROM told \
     LEFT JOIN member p ON p.conversation_id = told.id AND p.user_id <> $1 AND told.kind = 1 \
     LEFT JOIN user_account u ON u.id = p.user_id \
     LEFT JOIN receipt pr ON pr.conversation_id = told.id AND pr.user_id = p.user_id \
     LEFT JOIN group_profile g ON g.conversation_id = told.id \
     LEFT JOIN member_setting t ON t.user_id = $1 AND t.conversation_id = told.id \
     LEFT JOIN entry e ON e.conversation_id = told.id AND e.seq = told.head \
     ORDER BY told.last_at_ms DESC, told.id DESC"
);

/// Reads a line of the list by the names of its columns; for both kinds of row.
macro_rules! summary {
    ($row:expr) => {{
        let row = $row;
        let id = ConversationId::from(row.try_get::<Uuid, _>("id")?);
        let number = |name: &str| -> Result<u64, sqlx::Error> {
            Ok(crate::row::unsigned(row.try_get::<i64, _>(name)?))
        };
        let cursor = |name: &str| Ok::<_, sqlx::Error>(petrel_core::id::Seq(number(name)?));
        let peer = match row.try_get::<Option<Uuid>, _>("peer_id")? {
            Some(peer) => Some(crate::row::user((
                peer,
                row.try_get("peer_name")?,
                row.try_get("peer_nickname")?,
                row.try_get("peer_avatar")?,
            ))),
            None => None,
        };
        let group = match row.try_get::<Option<String>, _>("group_name")? {
            Some(name) => Some(petrel_core::store::GroupSummary {
                profile: petrel_core::change::GroupProfile {
                    name,
                    avatar: row.try_get("group_avatar")?,
                    joins: crate::row::joins(row.try_get("joins")?),
                    members_invite: row.try_get("members_invite")?,
                    whole_history: row.try_get("whole_history")?,
                    muted: row.try_get("muted")?,
                    created_ms: number("created_ms")?,
                },
                role: crate::row::role(row.try_get("role")?),
                members: number("members")?,
            }),
            None => None,
        };
        let last = match row.try_get::<Option<i64>, _>("seq")? {
            Some(_) => Some(crate::row::entry!(row, id)),
            None => None,
        };
        Ok(petrel_core::store::ConversationSummary {
            id,
            peer,
            last,
            unread: number("unread")?,
            own: Receipt { delivered: cursor("own_delivered")?, read: cursor("own_read")? },
            peer_receipt: Receipt {
                delivered: cursor("peer_delivered")?,
                read: cursor("peer_read")?,
            },
            group,
            mentions: number("mentioned")?,
            settings: petrel_core::change::MemberSettings {
                silenced_until_ms: number("silenced_until_ms")?,
                pinned_ms: number("pinned_ms")?,
                archived: row.try_get("archived")?,
            },
            last_activity_ms: number("last_at_ms")?,
        })
    }};
}
pub(crate) use summary;
