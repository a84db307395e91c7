-- Groups, contacts, accounts, and what changes an entry. Whatever decides who
-- may do what (members, blocks, contacts, privacy) changes under the lock of a
-- conversation's row: a pair's, a group's, or a user's own log (kind 3).

ALTER TABLE user_account
  ADD COLUMN nickname         text NOT NULL DEFAULT '',
  ADD COLUMN avatar           text NOT NULL DEFAULT '',
  ADD COLUMN password         text,                        -- a PHC string
  ADD COLUMN privacy_messages smallint NOT NULL DEFAULT 1, -- 1 everybody, 2 contacts, 3 nobody
  ADD COLUMN privacy_groups   smallint NOT NULL DEFAULT 1,
  ADD COLUMN privacy_presence smallint NOT NULL DEFAULT 1;

ALTER TABLE device
  ADD COLUMN seen_ms    bigint NOT NULL DEFAULT 0,
  ADD COLUMN revoked_ms bigint;
-- Every gateway asks for the newest of these again and again.
CREATE INDEX device_revoked ON device (revoked_ms) WHERE revoked_ms IS NOT NULL;

-- The accounts that an outside issuer speaks for.
CREATE TABLE outside_identity (
  issuer  text COLLATE "C" NOT NULL,
  subject text COLLATE "C" NOT NULL,
  user_id uuid NOT NULL REFERENCES user_account (id),
  PRIMARY KEY (issuer, subject)
);

CREATE TABLE user_setting (
  user_id uuid NOT NULL,
  key     text COLLATE "C" NOT NULL,
  value   bytea NOT NULL,
  PRIMARY KEY (user_id, key)
);

-- One side of a relation; the other side is a row of its own.
CREATE TABLE contact (
  owner      uuid NOT NULL,
  other      uuid NOT NULL,
  friendship smallint NOT NULL,                  -- 0 none, 1 asked, 2 invited, 3 friends
  follows    boolean NOT NULL,
  remark     text NOT NULL,
  text       text NOT NULL,
  changed_ms bigint NOT NULL,
  PRIMARY KEY (owner, other)
);

ALTER TABLE member ADD COLUMN muted_until_ms bigint NOT NULL DEFAULT 0;
CREATE INDEX member_blocks ON member (user_id) WHERE blocks;

-- members: how many are in it now; the list tells it, and must not count.
CREATE TABLE group_profile (
  conversation_id uuid PRIMARY KEY REFERENCES conversation (id),
  name            text NOT NULL,
  avatar          text NOT NULL,
  joins           smallint NOT NULL,             -- 1 closed, 2 by request, 3 open
  members_invite  boolean NOT NULL,
  whole_history   boolean NOT NULL,
  muted           boolean NOT NULL,
  created_ms      bigint NOT NULL,
  members         bigint NOT NULL DEFAULT 0
);

CREATE TABLE join_link (
  hash            bytea PRIMARY KEY,             -- SHA-256 of its secret
  conversation_id uuid NOT NULL,
  made_by         uuid NOT NULL,
  expires_ms      bigint NOT NULL,
  uses_max        bigint NOT NULL,               -- 0: any number of times
  uses            bigint NOT NULL
);
CREATE INDEX join_link_by_group ON join_link (conversation_id, expires_ms);

CREATE TABLE join_request (
  conversation_id uuid NOT NULL,
  user_id         uuid NOT NULL,
  text            text NOT NULL,
  asked_ms        bigint NOT NULL,
  PRIMARY KEY (conversation_id, user_id)
);

CREATE TABLE member_setting (
  user_id           uuid NOT NULL,
  conversation_id   uuid NOT NULL,
  silenced_until_ms bigint NOT NULL,
  pinned_ms         bigint NOT NULL,
  archived          boolean NOT NULL,
  PRIMARY KEY (user_id, conversation_id)
);

CREATE TABLE hidden_entry (
  user_id         uuid NOT NULL,
  conversation_id uuid NOT NULL,
  seq             bigint NOT NULL,
  PRIMARY KEY (user_id, conversation_id, seq)
);

-- The index is touched by edits alone (kind 32): a recall empties the bodies of
-- its target's edits. Plain messages write no index that they did not write before.
ALTER TABLE entry
  ADD COLUMN target      bigint,                     -- the entry that it answers or changes
  ADD COLUMN mentions    bytea,                      -- users, 16 bytes each; null: none
  ADD COLUMN revision    integer NOT NULL DEFAULT 0, -- edits and recalls of this entry so far
  ADD COLUMN recalled    boolean NOT NULL DEFAULT false,
  ADD COLUMN changed_seq bigint NOT NULL DEFAULT 0;  -- the last entry that changed this one
CREATE INDEX entry_edit ON entry (conversation_id, target) WHERE kind = 32;

CREATE TABLE reaction (
  conversation_id uuid NOT NULL,
  seq             bigint NOT NULL,               -- of the entry that it was given to
  emoji           bytea NOT NULL,
  user_id         uuid NOT NULL,
  PRIMARY KEY (conversation_id, seq, emoji, user_id)
);

CREATE TABLE mention (
  conversation_id uuid NOT NULL,
  user_id         uuid NOT NULL,                 -- zeros: everybody
  seq             bigint NOT NULL,
  sender          uuid NOT NULL,
  PRIMARY KEY (conversation_id, user_id, seq)
);
