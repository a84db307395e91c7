//! What two users are to each other, as both stores read it.

use petrel_core::change::{Audience, Contact, Friendship};

use super::unsigned;

/// The end of the statement that reads relations, after `own` (id, log) and `wanted` (id, log,
/// pair), which each store makes its way: one statement, so one snapshot.
macro_rules! relations {
    () => {
        "SELECT wanted.id, a.rights_version AS own_version, b.rights_version AS other_version, \
       CAST(coalesce(x.friendship, 0) AS bigint) AS own_friendship, coalesce(x.follows, false) AS own_follows, \
       coalesce(x.remark, '') AS own_remark, coalesce(x.text, '') AS own_text, \
       coalesce(x.changed_ms, 0) AS own_changed_ms, \
       CAST(coalesce(y.friendship, 0) AS bigint) AS other_friendship, coalesce(y.follows, false) AS other_follows, \
       coalesce(y.remark, '') AS other_remark, coalesce(y.text, '') AS other_text, \
       coalesce(y.changed_ms, 0) AS other_changed_ms, \
       coalesce(m.blocks, false) AS blocks, coalesce(n.blocks, false) AS is_blocked, \
       CAST(u.privacy_messages AS bigint) AS messages, CAST(u.privacy_groups AS bigint) AS groups, \
       CAST(u.privacy_presence AS bigint) AS presence, \
       (SELECT count(*) FROM contact k WHERE k.owner = own.id) AS own_contacts, \
       (SELECT count(*) FROM contact k WHERE k.owner = wanted.id) AS other_contacts \
FROM own JOIN conversation a ON a.id = own.log \
CROSS JOIN wanted \
JOIN conversation b ON b.id = wanted.log \
JOIN user_account u ON u.id = wanted.id \
LEFT JOIN contact x ON x.owner = own.id AND x.other = wanted.id \
LEFT JOIN contact y ON y.owner = wanted.id AND y.other = own.id \
LEFT JOIN member m ON m.conversation_id = wanted.pair AND m.user_id = own.id \
LEFT JOIN member n ON n.conversation_id = wanted.pair AND n.user_id = wanted.id"
    };
}
pub(crate) use relations;

/// Reads a line of [`relations!`] by the names of its columns; for both kinds of row.
macro_rules! relation {
    ($row:expr) => {{
        let row = $row;
        let number = |name: &str| -> Result<u64, sqlx::Error> {
            Ok(crate::row::unsigned(row.try_get::<i64, _>(name)?))
        };
        let version =
            |name: &str| Ok::<_, sqlx::Error>(petrel_core::id::RightsVersion(number(name)?));
        Ok((
            UserId::from(row.try_get::<Uuid, _>("id")?),
            petrel_core::store::RelationRecord {
                own_version: version("own_version")?,
                other_version: version("other_version")?,
                own: crate::row::contact((
                    row.try_get("own_friendship")?,
                    row.try_get("own_follows")?,
                    row.try_get("own_remark")?,
                    row.try_get("own_text")?,
                    row.try_get("own_changed_ms")?,
                )),
                other: crate::row::contact((
                    row.try_get("other_friendship")?,
                    row.try_get("other_follows")?,
                    row.try_get("other_remark")?,
                    row.try_get("other_text")?,
                    row.try_get("other_changed_ms")?,
                )),
                blocks: row.try_get("blocks")?,
                is_blocked: row.try_get("is_blocked")?,
                privacy: petrel_core::change::Privacy {
                    messages: crate::row::audience(row.try_get("messages")?),
                    groups: crate::row::audience(row.try_get("groups")?),
                    presence: crate::row::audience(row.try_get("presence")?),
                },
                own_contacts: number("own_contacts")?,
                other_contacts: number("other_contacts")?,
            },
        ))
    }};
}
pub(crate) use relation;

/// friendship, follows, remark, text, changed_ms
pub(crate) type ContactRow = (i64, bool, String, String, i64);

pub(crate) fn contact((friendship, follows, remark, text, changed_ms): ContactRow) -> Contact {
    Contact {
        friendship: Friendship::from_number(unsigned(friendship)).unwrap_or_default(),
        follows,
        remark,
        text,
        changed_ms: unsigned(changed_ms),
    }
}

/// From its column; what a newer version wrote lets nobody in here.
pub(crate) fn audience(number: i64) -> Audience {
    Audience::from_number(unsigned(number)).unwrap_or(Audience::Nobody)
}

/// The end of the statement that reads whose presence may be seen, after `watcher` (id) and
/// `wanted` (id, pair).
macro_rules! visible {
    () => {
        "SELECT u.id FROM watcher CROSS JOIN wanted JOIN user_account u ON u.id = wanted.id \
LEFT JOIN contact x ON x.owner = watcher.id AND x.other = u.id \
LEFT JOIN contact y ON y.owner = u.id AND y.other = watcher.id \
WHERE u.id = watcher.id OR (u.privacy_presence = 1 OR (u.privacy_presence = 2 \
        AND (coalesce(x.friendship = 3 AND y.friendship = 3, false) \
             OR coalesce(x.follows AND y.follows, false)))) \
  AND NOT EXISTS (SELECT 1 FROM member m WHERE m.conversation_id = wanted.pair AND m.blocks)"
    };
}
pub(crate) use visible;
