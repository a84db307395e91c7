-- Groups, contacts, accounts, and what changes an entry. The reasons stand in
-- migrations/postgres/0003_people.sql.

ALTER TABLE user_account ADD COLUMN nickname TEXT NOT NULL DEFAULT '';
ALTER TABLE user_account ADD COLUMN avatar TEXT NOT NULL DEFAULT '';
ALTER TABLE user_account ADD COLUMN password TEXT;
ALTER TABLE user_account ADD COLUMN privacy_messages INTEGER NOT NULL DEFAULT 1;
ALTER TABLE user_account ADD COLUMN privacy_groups INTEGER NOT NULL DEFAULT 1;
ALTER TABLE user_account ADD COLUMN privacy_presence INTEGER NOT NULL DEFAULT 1;

ALTER TABLE device ADD COLUMN seen_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE device ADD COLUMN revoked_ms INTEGER;
CREATE INDEX device_revoked ON device (revoked_ms) WHERE revoked_ms IS NOT NULL;

CREATE TABLE outside_identity (
  issuer  TEXT NOT NULL,
  subject TEXT NOT NULL,
  user_id BLOB NOT NULL REFERENCES user_account (id),
  PRIMARY KEY (issuer, subject)
) WITHOUT ROWID;

CREATE TABLE user_setting (
  user_id BLOB NOT NULL,
  key     TEXT NOT NULL,
  value   BLOB NOT NULL,
  PRIMARY KEY (user_id, key)
) WITHOUT ROWID;

CREATE TABLE contact (
  owner      BLOB NOT NULL,
  other      BLOB NOT NULL,
  friendship INTEGER NOT NULL,                   -- 0 none, 1 asked, 2 invited, 3 friends
  follows    INTEGER NOT NULL,
  remark     TEXT NOT NULL,
  text       TEXT NOT NULL,
  changed_ms INTEGER NOT NULL,
  PRIMARY KEY (owner, other)
) WITHOUT ROWID;

ALTER TABLE member ADD COLUMN muted_until_ms INTEGER NOT NULL DEFAULT 0;
CREATE INDEX member_blocks ON member (user_id) WHERE blocks;

CREATE TABLE group_profile (
  conversation_id BLOB NOT NULL PRIMARY KEY REFERENCES conversation (id),
  name            TEXT NOT NULL,
  avatar          TEXT NOT NULL,
  joins           INTEGER NOT NULL,              -- 1 closed, 2 by request, 3 open
  members_invite  INTEGER NOT NULL,
  whole_history   INTEGER NOT NULL,
  muted           INTEGER NOT NULL,
  created_ms      INTEGER NOT NULL,
  members         INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE join_link (
  hash            BLOB NOT NULL PRIMARY KEY,
  conversation_id BLOB NOT NULL,
  made_by         BLOB NOT NULL,
  expires_ms      INTEGER NOT NULL,
  uses_max        INTEGER NOT NULL,
  uses            INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX join_link_by_group ON join_link (conversation_id, expires_ms);

CREATE TABLE join_request (
  conversation_id BLOB NOT NULL,
  user_id         BLOB NOT NULL,
  text            TEXT NOT NULL,
  asked_ms        INTEGER NOT NULL,
  PRIMARY KEY (conversation_id, user_id)
) WITHOUT ROWID;

CREATE TABLE member_setting (
  user_id           BLOB NOT NULL,
  conversation_id   BLOB NOT NULL,
  silenced_until_ms INTEGER NOT NULL,
  pinned_ms         INTEGER NOT NULL,
  archived          INTEGER NOT NULL,
  PRIMARY KEY (user_id, conversation_id)
) WITHOUT ROWID;

CREATE TABLE hidden_entry (
  user_id         BLOB NOT NULL,
  conversation_id BLOB NOT NULL,
  seq             INTEGER NOT NULL,
  PRIMARY KEY (user_id, conversation_id, seq)
) WITHOUT ROWID;

ALTER TABLE entry ADD COLUMN target INTEGER;
ALTER TABLE entry ADD COLUMN mentions BLOB;
ALTER TABLE entry ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entry ADD COLUMN recalled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entry ADD COLUMN changed_seq INTEGER NOT NULL DEFAULT 0;
CREATE INDEX entry_edit ON entry (conversation_id, target) WHERE kind = 32;

CREATE TABLE reaction (
  conversation_id BLOB NOT NULL,
  seq             INTEGER NOT NULL,
  emoji           BLOB NOT NULL,
  user_id         BLOB NOT NULL,
  PRIMARY KEY (conversation_id, seq, emoji, user_id)
) WITHOUT ROWID;

CREATE TABLE mention (
  conversation_id BLOB NOT NULL,
  user_id         BLOB NOT NULL,                 -- zeros: everybody
  seq             INTEGER NOT NULL,
  sender          BLOB NOT NULL,
  PRIMARY KEY (conversation_id, user_id, seq)
) WITHOUT ROWID;
