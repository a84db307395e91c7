-- Petrel's tables on PostgreSQL. Ids are UUIDs, times are Unix milliseconds,
-- places in a log are bigint (core keeps them below 2^63).

CREATE TABLE user_account (
  id         uuid PRIMARY KEY,
  name       text COLLATE "C" NOT NULL UNIQUE,
  created_ms bigint NOT NULL
);

CREATE TABLE device (
  id          uuid PRIMARY KEY,
  user_id     uuid NOT NULL REFERENCES user_account (id),
  label       text NOT NULL,
  secret_hash bytea NOT NULL,
  created_ms  bigint NOT NULL
);
CREATE INDEX device_by_user ON device (user_id);

-- One row a conversation. Its lock orders the log: whoever adds entries, or
-- changes who may add them, holds it until the commit. No index may name a
-- column that a send changes (head, countable, last_at_ms): then every update
-- stays within its page (HOT), for which the fill factor leaves room. The list
-- of a user's conversations therefore goes member -> conversation by key and
-- sorts; it is bounded by the number of conversations of one user.
CREATE TABLE conversation (
  id             uuid PRIMARY KEY,
  head           bigint NOT NULL DEFAULT 0,      -- place of the last entry
  countable      bigint NOT NULL DEFAULT 0,      -- countable entries up to head
  rights_version bigint NOT NULL DEFAULT 1,      -- changes of members, roles, mutes, blocks
  floor          bigint NOT NULL DEFAULT 0,      -- entries up to here are gone (retention)
  last_at_ms     bigint NOT NULL DEFAULT 0,      -- time of the last entry
  kind           smallint NOT NULL,              -- 1 pair, 2 group
  CHECK (head >= countable AND countable >= 0 AND floor >= 0)
) WITH (fillfactor = 70);

-- An interval of somebody's membership: entries from_seq..until_seq are his to
-- see, without end while until_seq is null. Who comes back gets another row.
CREATE TABLE member (
  conversation_id uuid NOT NULL REFERENCES conversation (id),
  user_id         uuid NOT NULL REFERENCES user_account (id),
  from_seq        bigint NOT NULL DEFAULT 1,
  until_seq       bigint,
  role            smallint NOT NULL DEFAULT 1,   -- 1 member; groups add theirs
  blocks          boolean NOT NULL DEFAULT false,-- has blocked the other one (pairs)
  PRIMARY KEY (conversation_id, user_id, from_seq)
);
CREATE INDEX member_by_user ON member (user_id, conversation_id);

-- The log. No foreign keys: the lock on the conversation's row proves that it
-- is there, and a check for each row would cost more than the row. The second
-- key is the promise that one id of one sender is stored once; ids begin
-- with a time, so with them in front all that is new goes to the same few pages.
CREATE TABLE entry (
  conversation_id uuid NOT NULL,
  seq             bigint NOT NULL,
  count           bigint NOT NULL,               -- countable entries up to and with this one
  committed_ms    bigint NOT NULL,               -- read after the lock was taken
  rights_version  bigint NOT NULL,               -- the conversation's, at the commit
  encoding        bigint NOT NULL,
  sender          uuid NOT NULL,
  client_msg_id   uuid NOT NULL,                 -- the entry's id
  kind            integer NOT NULL,
  countable       boolean NOT NULL,              -- whether it counts towards unread
  digest          bytea NOT NULL,                -- of kind, encoding and body as sent; never changes
  body            bytea NOT NULL,
  CONSTRAINT entry_place PRIMARY KEY (conversation_id, seq),
  CONSTRAINT entry_id UNIQUE (client_msg_id, conversation_id, sender)
);
-- Bodies arrive compressed: trying again would only cost time.
ALTER TABLE entry ALTER COLUMN body SET STORAGE EXTERNAL;

-- How far each member got. Cursors only rise.
CREATE TABLE receipt (
  conversation_id uuid NOT NULL,
  user_id         uuid NOT NULL,
  delivered_seq   bigint NOT NULL DEFAULT 0,
  read_seq        bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (conversation_id, user_id)
) WITH (fillfactor = 70);
