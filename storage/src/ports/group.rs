//! Groups: members, requests to join, links.

/// Implements `GroupStore`. `$read` bounds a read in time. How many users go into one statement is the
/// store's own affair (`group_counts`).
macro_rules! group_store {
    ($store:ty, $read:ident) => {
        #[async_trait]
        impl GroupStore for $store {
            async fn members(
                &self,
                group: ConversationId,
                after: Option<UserId>,
                limit: usize,
            ) -> Result<Vec<MemberLine>, StoreError> {
                type Line = (Uuid, String, String, String, i64, i64);
                let read = sqlx::query_as(
                    "SELECT u.id, u.name, u.nickname, u.avatar, CAST(m.role AS bigint), m.muted_until_ms \
                     FROM member m JOIN user_account u ON u.id = m.user_id \
                     WHERE m.conversation_id = $1 AND m.user_id > $2 AND m.until_seq IS NULL \
                     ORDER BY m.user_id LIMIT $3",
                )
                .bind(Uuid::from(group))
                .bind(after.map_or(Uuid::nil(), Uuid::from))
                .bind(size(limit))
                .fetch_all(&self.pool);
                let lines: Vec<Line> = self.$read(read).await?;
                let line = |(id, name, nickname, avatar, role, muted_until_ms): Line| MemberLine {
                    user: row::user((id, name, nickname, avatar)),
                    role: row::role(role),
                    muted_until_ms: unsigned(muted_until_ms),
                };
                Ok(lines.into_iter().map(line).collect())
            }

            async fn groups_of(&self, users: &[UserId]) -> Result<Vec<(UserId, u64)>, StoreError> {
                if users.is_empty() {
                    return Ok(Vec::new());
                }
                let found = self.$read(group_counts(&self.pool, users)).await?;
                Ok(found.into_iter().map(|(id, count)| (id.into(), unsigned(count))).collect())
            }

            async fn join_requests(
                &self,
                group: ConversationId,
                after: Option<UserId>,
                limit: usize,
            ) -> Result<Vec<JoinRequest>, StoreError> {
                type Line = (Uuid, String, String, String, String, i64);
                let read = sqlx::query_as(
                    "SELECT u.id, u.name, u.nickname, u.avatar, j.text, j.asked_ms \
                     FROM join_request j JOIN user_account u ON u.id = j.user_id \
                     WHERE j.conversation_id = $1 AND j.user_id > $2 ORDER BY j.user_id LIMIT $3",
                )
                .bind(Uuid::from(group))
                .bind(after.map_or(Uuid::nil(), Uuid::from))
                .bind(size(limit))
                .fetch_all(&self.pool);
                let lines: Vec<Line> = self.$read(read).await?;
                let line = |(id, name, nickname, avatar, text, asked_ms): Line| JoinRequest {
                    user: row::user((id, name, nickname, avatar)),
                    text,
                    asked_ms: unsigned(asked_ms),
                };
                Ok(lines.into_iter().map(line).collect())
            }

            async fn asks_to_join(
                &self,
                group: ConversationId,
                user: UserId,
            ) -> Result<(bool, u64), StoreError> {
                let read = sqlx::query_as(
                    "SELECT EXISTS (SELECT 1 FROM join_request j \
                                    WHERE j.conversation_id = $1 AND j.user_id = $2), \
                            (SELECT count(*) FROM join_request j WHERE j.conversation_id = $1)",
                )
                .bind(Uuid::from(group))
                .bind(Uuid::from(user))
                .fetch_one(&self.pool);
                let (asks, open): (bool, i64) = self.$read(read).await?;
                Ok((asks, unsigned(open)))
            }

            async fn link(&self, hash: [u8; 32]) -> Result<Option<JoinLink>, StoreError> {
                let read = sqlx::query_as(
                    "SELECT hash, conversation_id, made_by, expires_ms, uses_max, uses \
                     FROM join_link WHERE hash = $1",
                )
                .bind(hash.to_vec())
                .fetch_optional(&self.pool);
                let found: Option<row::LinkRow> = self.$read(read).await?;
                Ok(found.and_then(row::link))
            }

            async fn links(
                &self,
                group: ConversationId,
                now_ms: u64,
                limit: usize,
            ) -> Result<Vec<JoinLink>, StoreError> {
                let read = sqlx::query_as(
                    "SELECT hash, conversation_id, made_by, expires_ms, uses_max, uses \
                     FROM join_link WHERE conversation_id = $1 AND expires_ms > $2 \
                     ORDER BY expires_ms, hash LIMIT $3",
                )
                .bind(Uuid::from(group))
                .bind(signed(now_ms))
                .bind(size(limit))
                .fetch_all(&self.pool);
                let found: Vec<row::LinkRow> = self.$read(read).await?;
                Ok(found.into_iter().filter_map(row::link).collect())
            }

            async fn read_by(
                &self,
                group: ConversationId,
                seq: Seq,
                limit: usize,
            ) -> Result<Vec<UserId>, StoreError> {
                let read = sqlx::query_scalar(
                    "SELECT r.user_id FROM receipt r \
                     WHERE r.conversation_id = $1 AND r.read_seq >= $2 \
                       AND EXISTS (SELECT 1 FROM member m WHERE m.conversation_id = $1 \
                                   AND m.user_id = r.user_id AND m.until_seq IS NULL) LIMIT $3",
                )
                .bind(Uuid::from(group))
                .bind(signed(seq.0))
                .bind(size(limit))
                .fetch_all(&self.pool);
                let found: Vec<Uuid> = self.$read(read).await?;
                Ok(found.into_iter().map(UserId::from).collect())
            }
        }
    };
}
pub(crate) use group_store;
