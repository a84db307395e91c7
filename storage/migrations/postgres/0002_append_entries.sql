-- The batch transaction, as one call: all of it is at the server before it
-- starts, so that a gateway that stops in the middle holds no lock.
--
-- Statement 1 locks the conversations in the order of their ids (no deadlock
-- between batches). Statement 2 has, under READ COMMITTED in a VOLATILE
-- function, a snapshot of its own that is newer than the locks: it sees every
-- entry that an earlier holder of the lock committed, and nobody can add one
-- before we commit. So the look-up of ids is exact, and head + 1, 2, 3, ... has
-- no holes. Written as one statement, it would miss what was committed while it
-- waited for the lock.
--
-- Each argument holds one column of the batch; p_admitted_by is the rights
-- version that admitted the message, null for a message that is only looked up.
-- Outcomes: 0 new, 1 duplicate (place of the stored entry), 2 stale, 3 the id
-- stands for other content. What is stored is found before anything is judged
-- stale. A message that was admitted by another version than the row's makes
-- what its sender put after it into the same conversation stale as well, so
-- that nothing overtakes it.
--
-- The settings keep plans that were made while the table was small and empty
-- from scanning it when it is large, and save planning for small batches.
CREATE FUNCTION append_entries(
  p_conversation uuid[], p_admitted_by bigint[], p_sender uuid[], p_id uuid[],
  p_kind integer[], p_countable boolean[], p_encoding bigint[], p_body bytea[], p_digest bytea[]
) RETURNS TABLE (idx integer, outcome smallint, seq bigint, count bigint, committed_ms bigint, rights_version bigint)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
SET jit = off
AS $f$
#variable_conflict use_column
DECLARE
  now_ms bigint;
  log record;
  old record;
BEGIN
  IF cardinality(p_conversation) = 1 THEN
    -- What follows, for a batch of one: most batches are, while there is little to do.
    SELECT c.head, c.countable, c.rights_version INTO log
      FROM conversation c WHERE c.id = p_conversation[1] FOR NO KEY UPDATE;
    now_ms := floor(extract(epoch FROM clock_timestamp()) * 1000);
    idx := 1;
    SELECT e.seq, e.count, e.committed_ms, e.rights_version, e.digest INTO old FROM entry e
     WHERE e.conversation_id = p_conversation[1] AND e.sender = p_sender[1] AND e.client_msg_id = p_id[1];
    IF FOUND THEN
      outcome := CASE WHEN old.digest = p_digest[1] THEN 1 ELSE 3 END;
      seq := old.seq;
      count := old.count;
      committed_ms := old.committed_ms;
      rights_version := old.rights_version;
    ELSE
      committed_ms := now_ms;
      rights_version := log.rights_version;
      IF log.rights_version = p_admitted_by[1] THEN
        outcome := 0;
        seq := log.head + 1;
        count := log.countable + p_countable[1]::integer;
        INSERT INTO entry (conversation_id, seq, count, committed_ms, rights_version, encoding, sender,
                           client_msg_id, kind, countable, digest, body)
        VALUES (p_conversation[1], log.head + 1, log.countable + p_countable[1]::integer, now_ms,
                log.rights_version, p_encoding[1], p_sender[1], p_id[1], p_kind[1], p_countable[1],
                p_digest[1], p_body[1]);
        UPDATE conversation c
           SET head = log.head + 1, countable = log.countable + p_countable[1]::integer, last_at_ms = now_ms
         WHERE c.id = p_conversation[1];
      ELSE
        outcome := 2;
      END IF;
    END IF;
    RETURN NEXT;
    RETURN;
  END IF;
  PERFORM 1 FROM conversation c WHERE c.id = ANY (p_conversation) ORDER BY c.id FOR NO KEY UPDATE;
  now_ms := floor(extract(epoch FROM clock_timestamp()) * 1000);
  RETURN QUERY
WITH item AS MATERIALIZED (      -- the message, its conversation, and what is stored under its id
  SELECT u.ord, u.conv, u.sender, u.id, u.kind, u.countable, u.encoding, u.digest,
         c.head, c.countable AS counted, c.rights_version AS version,
         old.seq AS old_seq, old.count AS old_count, old.committed_ms AS old_ms,
         old.rights_version AS old_version, old.digest AS old_digest,
         old.seq IS NULL AND u.admitted_by IS NOT NULL AS wanted,
         u.admitted_by IS NOT NULL AND c.rights_version IS NOT DISTINCT FROM u.admitted_by AS current
  FROM unnest(p_conversation, p_admitted_by, p_sender, p_id, p_kind, p_countable, p_encoding, p_digest)
       WITH ORDINALITY AS u (conv, admitted_by, sender, id, kind, countable, encoding, digest, ord)
  LEFT JOIN conversation c ON c.id = u.conv
  LEFT JOIN LATERAL (            -- LIMIT keeps it a look-up by key for each message
    SELECT e.seq, e.count, e.committed_ms, e.rights_version, e.digest FROM entry e
    WHERE e.conversation_id = u.conv AND e.sender = u.sender AND e.client_msg_id = u.id LIMIT 1
  ) old ON true
), judged AS (                   -- a message with a current one of its id before it is stored by then
  SELECT item.*, wanted AND NOT bool_or(current) OVER same_id AS breaks
  FROM item WINDOW same_id AS (PARTITION BY conv, sender, id ORDER BY ord ROWS UNBOUNDED PRECEDING)
), admitted AS (
  SELECT judged.*, wanted AND current AND NOT bool_or(breaks) OVER same_sender AS ok
  FROM judged WINDOW same_sender AS (PARTITION BY conv, sender ORDER BY ord ROWS UNBOUNDED PRECEDING)
), first_of_id AS (
  SELECT admitted.*, ok AND row_number() OVER (PARTITION BY conv, sender, id, ok ORDER BY ord) = 1 AS fresh
  FROM admitted
), numbered AS (
  SELECT first_of_id.*,
         CASE WHEN fresh THEN head + count(*) FILTER (WHERE fresh) OVER log END AS new_seq,
         counted + count(*) FILTER (WHERE fresh AND countable) OVER log AS new_count
  FROM first_of_id WINDOW log AS (PARTITION BY conv ORDER BY ord ROWS UNBOUNDED PRECEDING)
), answer AS MATERIALIZED (      -- batch_*: the new entry of this id at or before this message
  SELECT numbered.*,
         max(new_seq) OVER same_id AS batch_seq,
         max(new_count) FILTER (WHERE fresh) OVER same_id AS batch_count,
         max(ord) FILTER (WHERE fresh) OVER same_id AS batch_ord
  FROM numbered WINDOW same_id AS (PARTITION BY conv, sender, id ORDER BY ord ROWS UNBOUNDED PRECEDING)
), stored AS (
  INSERT INTO entry (conversation_id, seq, count, committed_ms, rights_version, encoding, sender,
                     client_msg_id, kind, countable, digest, body)
  SELECT conv, new_seq, new_count, now_ms, version, encoding, sender, id, kind, countable, digest, p_body[ord]
  FROM answer WHERE fresh
), moved AS (
  UPDATE conversation c SET head = t.head, countable = t.counted, last_at_ms = now_ms
  FROM (SELECT conv, max(new_seq) AS head, max(new_count) AS counted FROM answer WHERE fresh GROUP BY conv) t
  WHERE c.id = t.conv
)
SELECT ord::integer,
       (CASE WHEN fresh THEN 0
             WHEN old_seq IS NOT NULL THEN CASE WHEN old_digest = digest THEN 1 ELSE 3 END
             WHEN batch_seq IS NOT NULL THEN CASE WHEN p_digest[batch_ord] = digest THEN 1 ELSE 3 END
             ELSE 2 END)::smallint,
       coalesce(old_seq, batch_seq),
       coalesce(old_count, batch_count),
       coalesce(old_ms, now_ms),
       coalesce(old_version, version)
FROM answer;
END $f$;

-- Sets or lifts the block of one member of a pair; true if that changed
-- anything. Takes the conversation's lock first, so that every batch is wholly
-- before or wholly after the change.
CREATE FUNCTION set_block(p_conversation uuid, p_blocker uuid, p_blocks boolean) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $f$
BEGIN
  PERFORM 1 FROM conversation c WHERE c.id = p_conversation FOR NO KEY UPDATE;
  UPDATE member m SET blocks = p_blocks
   WHERE m.conversation_id = p_conversation AND m.user_id = p_blocker AND m.blocks <> p_blocks;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  UPDATE conversation c SET rights_version = c.rights_version + 1 WHERE c.id = p_conversation;
  RETURN true;
END $f$;
