-- Petrel's tables on SQLite: those of PostgreSQL, with ids as blobs of 16
-- bytes. The reasons stand in migrations/postgres/0001_schema.sql. One thread
-- writes, so that BEGIN IMMEDIATE stands for the lock on a conversation's row.

CREATE TABLE user_account (
  id         BLOB NOT NULL PRIMARY KEY,
  name       TEXT NOT NULL UNIQUE,
  created_ms INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE device (
  id          BLOB NOT NULL PRIMARY KEY,
  user_id     BLOB NOT NULL REFERENCES user_account (id),
  label       TEXT NOT NULL,
  secret_hash BLOB NOT NULL,
  created_ms  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX device_by_user ON device (user_id);

CREATE TABLE conversation (
  id             BLOB NOT NULL PRIMARY KEY,
  head           INTEGER NOT NULL DEFAULT 0,
  countable      INTEGER NOT NULL DEFAULT 0,
  rights_version INTEGER NOT NULL DEFAULT 1,
  floor          INTEGER NOT NULL DEFAULT 0,
  last_at_ms     INTEGER NOT NULL DEFAULT 0,
  kind           INTEGER NOT NULL,               -- 1 pair, 2 group
  CHECK (head >= countable AND countable >= 0 AND floor >= 0)
) WITHOUT ROWID;

CREATE TABLE member (
  conversation_id BLOB NOT NULL REFERENCES conversation (id),
  user_id         BLOB NOT NULL REFERENCES user_account (id),
  from_seq        INTEGER NOT NULL DEFAULT 1,
  until_seq       INTEGER,
  role            INTEGER NOT NULL DEFAULT 1,    -- 1 member; groups add theirs
  blocks          INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (conversation_id, user_id, from_seq)
) WITHOUT ROWID;
CREATE INDEX member_by_user ON member (user_id, conversation_id);

-- With a rowid: bodies make rows too long for the inner pages of a WITHOUT
-- ROWID tree, which was measured slower (docs/decisions/0007).
CREATE TABLE entry (
  conversation_id BLOB NOT NULL,
  seq             INTEGER NOT NULL,
  count           INTEGER NOT NULL,
  committed_ms    INTEGER NOT NULL,
  rights_version  INTEGER NOT NULL,
  encoding        INTEGER NOT NULL,
  sender          BLOB NOT NULL,
  client_msg_id   BLOB NOT NULL,
  kind            INTEGER NOT NULL,
  countable       INTEGER NOT NULL,
  digest          BLOB NOT NULL,
  body            BLOB NOT NULL,
  PRIMARY KEY (conversation_id, seq),
  UNIQUE (client_msg_id, conversation_id, sender)
);

CREATE TABLE receipt (
  conversation_id BLOB NOT NULL,
  user_id         BLOB NOT NULL,
  delivered_seq   INTEGER NOT NULL DEFAULT 0,
  read_seq        INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (conversation_id, user_id)
) WITHOUT ROWID;
