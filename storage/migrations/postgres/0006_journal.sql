-- Several gateways on one database: who they are, and a journal of what each has committed, so that
-- every one learns of what the others stored even if nobody told it.

-- Gateways, one row for each run of one. Times are the database's.
CREATE TABLE node (
  id          uuid PRIMARY KEY,
  name        text NOT NULL,
  address     text NOT NULL,          -- where its peers reach it, HOST:PORT
  clients     text NOT NULL,          -- where clients reach it itself; empty: by a balancer alone
  version     text NOT NULL,          -- of the program
  started_ms  bigint NOT NULL,
  seen_ms     bigint NOT NULL,        -- its last heartbeat
  is_draining boolean NOT NULL,
  left_ms     bigint                  -- when it said good-bye
);

-- One row for each transaction that moved heads. A lane is what commits one transaction after the other: a writer, or a
-- place for changes. So a lane's numbers rise in the order of its commits, and whoever has read up to one never
-- skips a later commit. The newest row of a lane stays while its node lives.
CREATE TABLE journal (
  node          uuid NOT NULL,
  lane          integer NOT NULL,
  n             bigint NOT NULL,
  at_ms         bigint NOT NULL,
  conversations uuid[] NOT NULL,
  heads         bigint[] NOT NULL,
  PRIMARY KEY (node, lane, n)
);

-- Writes a row for what a transaction stored, under the locks that it holds. p_n: the lane's last number, as its owner knows it. If he
-- does not, because the outcome of an earlier transaction is unknown, it is -1 less the highest that he knows, and the last is looked up
-- by a statement later than the locks, whose snapshot sees all that the lane has committed. Should that earlier
-- transaction still be under way (its connection was given up), both choose the same number, and the key lets one of
-- them through; the other one is tried again. Numbers never go back, even if the database did.
CREATE FUNCTION write_journal(p_node uuid, p_lane integer, p_n bigint, p_conversations uuid[], p_heads bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
SET jit = off
AS $f$
DECLARE
  last bigint := p_n;
  conversations uuid[] := p_conversations;
  heads bigint[] := p_heads;
BEGIN
  IF p_n < 0 THEN
    -- Without a row, because all were forgotten, numbers go on far above those that readers know.
    SELECT greatest(coalesce(max(j.n), floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint), -1 - p_n) INTO last
      FROM journal j WHERE j.node = p_node AND j.lane = p_lane;
  END IF;
  IF cardinality(p_heads) > 1 THEN
    SELECT array_agg(t.conv), array_agg(t.head) INTO conversations, heads
    FROM (SELECT u.conv, max(u.head) AS head FROM unnest(p_conversations, p_heads) AS u (conv, head) GROUP BY u.conv) t;
  END IF;
  INSERT INTO journal (node, lane, n, at_ms, conversations, heads)
  VALUES (p_node, p_lane, last + 1, floor(extract(epoch FROM clock_timestamp()) * 1000), conversations, heads);
END $f$;

-- append_messages (migration 5), and its row of the journal.
CREATE FUNCTION append_and_journal(
  p_node uuid, p_lane integer, p_n bigint,
  p_conversation uuid[], p_admitted_by bigint[], p_sender uuid[], p_id uuid[],
  p_kind integer[], p_countable boolean[], p_encoding bigint[], p_body bytea[], p_digest bytea[],
  p_target bigint[], p_revision bigint[], p_mentions bytea[], p_careful uuid[], p_emojis_max bigint
) RETURNS TABLE (idx integer, outcome smallint, seq bigint, count bigint, committed_ms bigint, rights_version bigint)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET jit = off
AS $f$
#variable_conflict use_column
DECLARE
  line record;
  conversations uuid[] := '{}';
  heads bigint[] := '{}';
BEGIN
  FOR line IN
    SELECT * FROM append_messages(p_conversation, p_admitted_by, p_sender, p_id, p_kind, p_countable, p_encoding,
      p_body, p_digest, p_target, p_revision, p_mentions, p_careful, p_emojis_max)
  LOOP
    idx := line.idx;
    outcome := line.outcome;
    seq := line.seq;
    count := line.count;
    committed_ms := line.committed_ms;
    rights_version := line.rights_version;
    IF line.outcome = 0 THEN
      conversations := conversations || p_conversation[line.idx];
      heads := heads || line.seq;
    END IF;
    RETURN NEXT;
  END LOOP;
  IF cardinality(conversations) > 0 THEN
    PERFORM write_journal(p_node, p_lane, p_n, conversations, heads);
  END IF;
END $f$;

-- apply_change (migration 4), and its row of the journal.
CREATE FUNCTION apply_and_journal(
  p_node uuid, p_lane integer, p_n bigint,
  p_guard uuid[], p_version bigint[], p_locked uuid[], p_bumped uuid[], p_made uuid[],
  p_written uuid[], p_joining uuid[], p_private uuid[], p_rows jsonb,
  p_conversation uuid[], p_id uuid[], p_sender uuid[], p_kind integer[], p_countable boolean[],
  p_body bytea[], p_digest bytea[]
) RETURNS TABLE (outcome smallint, seq bigint, count bigint, committed_ms bigint, rights_version bigint)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET jit = off
AS $f$
#variable_conflict use_column
DECLARE
  line record;
  conversations uuid[] := '{}';
  heads bigint[] := '{}';
BEGIN
  -- It answers with a line for each entry, in their order, if it did anything.
  FOR line IN
    SELECT * FROM apply_change(p_guard, p_version, p_locked, p_bumped, p_made, p_written, p_joining, p_private,
      p_rows, p_conversation, p_id, p_sender, p_kind, p_countable, p_body, p_digest)
  LOOP
    outcome := line.outcome;
    seq := line.seq;
    count := line.count;
    committed_ms := line.committed_ms;
    rights_version := line.rights_version;
    IF line.outcome = 0 THEN
      heads := heads || line.seq;
      conversations := conversations || p_conversation[cardinality(heads)];
    END IF;
    RETURN NEXT;
  END LOOP;
  IF cardinality(conversations) > 0 THEN
    PERFORM write_journal(p_node, p_lane, p_n, conversations, heads);
  END IF;
END $f$;
