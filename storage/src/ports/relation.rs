//! Contacts. How many users go into one statement is each store's own affair
//! (`relation_rows`, `visible_rows`).

/// Implements `RelationStore`. `$read` bounds a read in time.
macro_rules! relation_store {
    ($store:ty, $read:ident) => {
        #[async_trait]
        impl RelationStore for $store {
            async fn relation(
                &self,
                own: UserId,
                other: UserId,
            ) -> Result<Option<RelationRecord>, StoreError> {
                Ok(self.relations(own, &[other]).await?.pop().map(|(_, record)| record))
            }

            async fn relations(
                &self,
                own: UserId,
                others: &[UserId],
            ) -> Result<Vec<(UserId, RelationRecord)>, StoreError> {
                if others.is_empty() {
                    return Ok(Vec::new());
                }
                let mut wanted = others.to_vec();
                wanted.sort_unstable();
                wanted.dedup();
                let found = self.$read(relation_rows(&self.pool, own, &wanted)).await?;
                if found.len() == wanted.len() {
                    return Ok(found);
                }
                // Somebody has no log yet, or is nobody.
                self.ensure_logs([&[own], &wanted[..]].concat()).await?;
                self.$read(relation_rows(&self.pool, own, &wanted)).await
            }

            async fn contacts(
                &self,
                owner: UserId,
                after: Option<UserId>,
                limit: usize,
            ) -> Result<Vec<ContactLine>, StoreError> {
                type Line =
                    (Uuid, String, String, String, i64, bool, String, String, i64, bool, bool);
                let read = sqlx::query_as(
                    "WITH blocked AS ( \
                       SELECT o.user_id AS id FROM member m \
                       JOIN member o ON o.conversation_id = m.conversation_id AND o.user_id <> m.user_id \
                       WHERE m.user_id = $1 AND m.blocks \
                     ), line AS ( \
                       SELECT k.id FROM (SELECT other AS id FROM contact \
                                         WHERE owner = $1 AND other > $2 ORDER BY other LIMIT $3) k \
                       UNION \
                       SELECT b.id FROM (SELECT id FROM blocked WHERE id > $2 ORDER BY id LIMIT $3) b \
                     ) \
                     SELECT u.id, u.name, u.nickname, u.avatar, \
                            CAST(coalesce(x.friendship, 0) AS bigint), coalesce(x.follows, false), \
                            coalesce(x.remark, ''), coalesce(x.text, ''), coalesce(x.changed_ms, 0), \
                            coalesce(y.follows, false), blocked.id IS NOT NULL \
                     FROM line JOIN user_account u ON u.id = line.id \
                     LEFT JOIN contact x ON x.owner = $1 AND x.other = line.id \
                     LEFT JOIN contact y ON y.owner = line.id AND y.other = $1 \
                     LEFT JOIN blocked ON blocked.id = line.id \
                     ORDER BY u.id LIMIT $3",
                )
                .bind(Uuid::from(owner))
                .bind(after.map_or(Uuid::nil(), Uuid::from))
                .bind(size(limit))
                .fetch_all(&self.pool);
                let lines: Vec<Line> = self.$read(read).await?;
                let line = |l: Line| ContactLine {
                    user: row::user((l.0, l.1, l.2, l.3)),
                    contact: row::contact((l.4, l.5, l.6, l.7, l.8)),
                    is_followed: l.9,
                    blocks: l.10,
                };
                Ok(lines.into_iter().map(line).collect())
            }

            async fn visible_presence(
                &self,
                watcher: UserId,
                users: &[UserId],
            ) -> Result<Vec<UserId>, StoreError> {
                if users.is_empty() {
                    return Ok(Vec::new());
                }
                let mut wanted = users.to_vec();
                wanted.sort_unstable();
                wanted.dedup();
                let found = self.$read(visible_rows(&self.pool, watcher, &wanted)).await?;
                Ok(found.into_iter().map(UserId::from).collect())
            }
        }
    };
}
pub(crate) use relation_store;
