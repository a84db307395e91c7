//! Accounts and devices. What is written is each store's own affair (`add_device`, `devices_seen`).

/// Implements `AccountStore`. `$read` bounds a read in time.
macro_rules! account_store {
    ($store:ty, $read:ident) => {
        impl $store {
            /// `None` as a version: the user has no log yet.
            async fn read_account(
                &self,
                user: UserId,
            ) -> Result<Option<(AccountRecord, Option<i64>)>, StoreError> {
                type Line = (Uuid, String, String, String, i64, i64, i64, bool, Option<i64>);
                let read = sqlx::query_as(
                    "SELECT u.id, u.name, u.nickname, u.avatar, CAST(u.privacy_messages AS bigint), \
                            CAST(u.privacy_groups AS bigint), CAST(u.privacy_presence AS bigint), \
                            u.password IS NOT NULL, c.rights_version \
                     FROM user_account u LEFT JOIN conversation c ON c.id = $2 WHERE u.id = $1",
                )
                .bind(Uuid::from(user))
                .bind(Uuid::from(ConversationId::of_user(user)))
                .fetch_optional(&self.pool);
                let Some(line): Option<Line> = self.$read(read).await? else {
                    return Ok(None);
                };
                let (id, name, nickname, avatar, messages, groups, presence, has_password, version) =
                    line;
                let settings = sqlx::query_as(
                    "SELECT key, value FROM user_setting WHERE user_id = $1 ORDER BY key",
                )
                .bind(Uuid::from(user))
                .fetch_all(&self.pool);
                let settings: Vec<(String, Vec<u8>)> = self.$read(settings).await?;
                let record = AccountRecord {
                    user: row::user((id, name, nickname, avatar)),
                    privacy: Privacy {
                        messages: row::audience(messages),
                        groups: row::audience(groups),
                        presence: row::audience(presence),
                    },
                    has_password,
                    version: RightsVersion(unsigned(version.unwrap_or(0))),
                    settings: settings.into_iter().map(|(k, v)| (k, v.into())).collect(),
                };
                Ok(Some((record, version)))
            }
        }

        #[async_trait]
        impl AccountStore for $store {
            async fn account(&self, user: UserId) -> Result<Option<AccountRecord>, StoreError> {
                match self.read_account(user).await? {
                    Some((record, Some(_))) => Ok(Some(record)),
                    Some((_, None)) => {
                        self.ensure_log(user).await?;
                        Ok(self.read_account(user).await?.map(|(record, _)| record))
                    }
                    None => Ok(None),
                }
            }

            async fn password(&self, name: &str) -> Result<Option<PasswordRecord>, StoreError> {
                type Line = (Uuid, String, String, String, String);
                let read = sqlx::query_as(
                    "SELECT id, name, nickname, avatar, password FROM user_account \
                     WHERE name = $1 AND password IS NOT NULL",
                )
                .bind(name)
                .fetch_optional(&self.pool);
                let found: Option<Line> = self.$read(read).await?;
                Ok(found.map(|(id, name, nickname, avatar, password)| PasswordRecord {
                    user: row::user((id, name, nickname, avatar)),
                    password,
                }))
            }

            async fn users_after(
                &self,
                name: &str,
                limit: usize,
            ) -> Result<Vec<User>, StoreError> {
                let read = sqlx::query_as(
                    "SELECT id, name, nickname, avatar FROM user_account WHERE name > $1 \
                     ORDER BY name LIMIT $2",
                )
                .bind(name)
                .bind(size(limit))
                .fetch_all(&self.pool);
                let users: Vec<row::UserRow> = self.$read(read).await?;
                Ok(users.into_iter().map(row::user).collect())
            }

            async fn outside(
                &self,
                issuer: &str,
                subject: &str,
            ) -> Result<Option<User>, StoreError> {
                let read = sqlx::query_as(
                    "SELECT u.id, u.name, u.nickname, u.avatar \
                     FROM outside_identity o JOIN user_account u ON u.id = o.user_id \
                     WHERE o.issuer = $1 AND o.subject = $2",
                )
                .bind(issuer)
                .bind(subject)
                .fetch_optional(&self.pool);
                let found: Option<row::UserRow> = self.$read(read).await?;
                Ok(found.map(row::user))
            }

            async fn add_device(
                &self,
                device: &NewDevice,
                devices_max: usize,
            ) -> Result<bool, StoreError> {
                self.write_device(device, devices_max).await
            }

            async fn devices(&self, user: UserId) -> Result<Vec<DeviceLine>, StoreError> {
                let read = sqlx::query_as(
                    "SELECT id, label, created_ms, seen_ms FROM device \
                     WHERE user_id = $1 AND revoked_ms IS NULL ORDER BY created_ms, id",
                )
                .bind(Uuid::from(user))
                .fetch_all(&self.pool);
                let lines: Vec<(Uuid, String, i64, i64)> = self.$read(read).await?;
                let line = |(id, label, created_ms, seen_ms): (Uuid, String, i64, i64)| DeviceLine {
                    device: id.into(),
                    label,
                    created_ms: unsigned(created_ms),
                    seen_ms: unsigned(seen_ms),
                };
                Ok(lines.into_iter().map(line).collect())
            }

            async fn devices_seen(&self, seen: &[(DeviceId, u64)]) -> Result<(), StoreError> {
                self.write_seen(seen).await
            }

            async fn last_seen(&self, users: &[UserId]) -> Result<Vec<(UserId, u64)>, StoreError> {
                if users.is_empty() {
                    return Ok(Vec::new());
                }
                let found = self.$read(last_seen_rows(&self.pool, users)).await?;
                let seen: rustc_hash::FxHashMap<UserId, i64> =
                    found.into_iter().map(|(id, ms)| (id.into(), ms)).collect();
                let of = |user: &UserId| (*user, unsigned(seen.get(user).copied().unwrap_or(0)));
                Ok(users.iter().map(of).collect())
            }

            async fn revoked_since(
                &self,
                since_ms: u64,
                limit: usize,
            ) -> Result<Vec<(DeviceId, u64)>, StoreError> {
                let read = sqlx::query_as(
                    "SELECT id, revoked_ms FROM device WHERE revoked_ms >= $1 \
                     ORDER BY revoked_ms, id LIMIT $2",
                )
                .bind(signed(since_ms))
                .bind(size(limit))
                .fetch_all(&self.pool);
                let found: Vec<(Uuid, i64)> = self.$read(read).await?;
                Ok(found.into_iter().map(|(id, ms)| (id.into(), unsigned(ms))).collect())
            }

            async fn member_settings(
                &self,
                user: UserId,
                conversation: ConversationId,
            ) -> Result<MemberSettings, StoreError> {
                let read = sqlx::query_as(
                    "SELECT silenced_until_ms, pinned_ms, archived FROM member_setting \
                     WHERE user_id = $1 AND conversation_id = $2",
                )
                .bind(Uuid::from(user))
                .bind(Uuid::from(conversation))
                .fetch_optional(&self.pool);
                let found: Option<(i64, i64, bool)> = self.$read(read).await?;
                Ok(found.map_or_else(MemberSettings::default, |(silenced, pinned, archived)| {
                    MemberSettings {
                        silenced_until_ms: unsigned(silenced),
                        pinned_ms: unsigned(pinned),
                        archived,
                    }
                }))
            }
        }
    };
}
pub(crate) use account_store;
