-- append_entries (migration 2) with what a message refers to. Its proof stands there; new is:
--
-- p_careful names the conversations in which some message of this batch changes
-- an entry (kinds 32 to 35) or mentions somebody. Their messages go one after
-- the other (append_carefully), because each is judged by what those before it
-- left; all others go as a set, as before. A reply is an ordinary message with a target.
-- Outcome 4: the target was edited or recalled meanwhile, or is not there.

CREATE FUNCTION append_messages(
  p_conversation uuid[], p_admitted_by bigint[], p_sender uuid[], p_id uuid[],
  p_kind integer[], p_countable boolean[], p_encoding bigint[], p_body bytea[], p_digest bytea[],
  p_target bigint[], p_revision bigint[], p_mentions bytea[], p_careful uuid[], p_emojis_max bigint
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
  IF cardinality(p_conversation) = 1 AND cardinality(p_careful) = 0 THEN
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
                           client_msg_id, kind, countable, digest, body, target)
        VALUES (p_conversation[1], log.head + 1, log.countable + p_countable[1]::integer, now_ms,
                log.rights_version, p_encoding[1], p_sender[1], p_id[1], p_kind[1], p_countable[1],
                p_digest[1], p_body[1], p_target[1]);
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
  IF cardinality(p_careful) > 0 THEN
    RETURN QUERY SELECT * FROM append_carefully(now_ms, p_conversation, p_admitted_by, p_sender, p_id, p_kind, p_countable,
      p_encoding, p_body, p_digest, p_target, p_revision, p_mentions, p_careful, p_emojis_max);
  END IF;
  RETURN QUERY
WITH item AS MATERIALIZED (      -- the message, its conversation, and what is stored under its id
  SELECT u.ord, u.conv, u.sender, u.id, u.kind, u.countable, u.encoding, u.digest, u.target,
         c.head, c.countable AS counted, c.rights_version AS version,
         old.seq AS old_seq, old.count AS old_count, old.committed_ms AS old_ms,
         old.rights_version AS old_version, old.digest AS old_digest,
         old.seq IS NULL AND u.admitted_by IS NOT NULL AS wanted,
         u.admitted_by IS NOT NULL AND c.rights_version IS NOT DISTINCT FROM u.admitted_by AS current
  FROM unnest(p_conversation, p_admitted_by, p_sender, p_id, p_kind, p_countable, p_encoding, p_digest,
              p_target)
       WITH ORDINALITY AS u (conv, admitted_by, sender, id, kind, countable, encoding, digest, target, ord)
  LEFT JOIN conversation c ON c.id = u.conv
  LEFT JOIN LATERAL (            -- LIMIT keeps it a look-up by key for each message
    SELECT e.seq, e.count, e.committed_ms, e.rights_version, e.digest FROM entry e
    WHERE e.conversation_id = u.conv AND e.sender = u.sender AND e.client_msg_id = u.id LIMIT 1
  ) old ON true
  WHERE u.conv <> ALL (p_careful)
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
                     client_msg_id, kind, countable, digest, body, target)
  SELECT conv, new_seq, new_count, now_ms, version, encoding, sender, id, kind, countable, digest, p_body[ord], target
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

-- The messages of p_careful, one after the other, under the locks of append_messages. A target has to be older
-- than the batch: nobody can know of one that is not. Kinds: 32 edit, 33 recall, 34 react, 35 take a reaction back.
CREATE FUNCTION append_carefully(
  now_ms bigint,
  p_conversation uuid[], p_admitted_by bigint[], p_sender uuid[], p_id uuid[],
  p_kind integer[], p_countable boolean[], p_encoding bigint[], p_body bytea[], p_digest bytea[],
  p_target bigint[], p_revision bigint[], p_mentions bytea[], p_careful uuid[], p_emojis_max bigint
) RETURNS TABLE (idx integer, outcome smallint, seq bigint, count bigint, committed_ms bigint, rights_version bigint)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
SET jit = off
AS $f$
#variable_conflict use_column
DECLARE
  m record;
  log record;
  old record;
  conv uuid;
  at bigint;        -- head of conv, as the batch leaves it
  counted bigint;
  late uuid[];      -- senders one of whose messages was stale
BEGIN
  FOR m IN
    SELECT u.* FROM unnest(p_conversation, p_admitted_by, p_sender, p_id, p_kind, p_countable, p_encoding, p_body,
                           p_digest, p_target, p_revision, p_mentions)
           WITH ORDINALITY AS u (conv, admitted_by, sender, id, kind, countable, encoding, body,
                                 digest, target, revision, mentions, ord)
    WHERE u.conv = ANY (p_careful) ORDER BY u.conv, u.ord
  LOOP
    IF conv IS DISTINCT FROM m.conv THEN
      UPDATE conversation c SET head = at, countable = counted, last_at_ms = now_ms WHERE c.id = conv AND c.head < at;
      SELECT c.head, c.countable, c.rights_version INTO log FROM conversation c WHERE c.id = m.conv;
      conv := m.conv;
      at := log.head;
      counted := log.countable;
      late := '{}';
    END IF;
    idx := m.ord;
    SELECT e.seq, e.count, e.committed_ms, e.rights_version, e.digest INTO old FROM entry e
     WHERE e.conversation_id = conv AND e.sender = m.sender AND e.client_msg_id = m.id;
    IF FOUND THEN
      outcome := CASE WHEN old.digest = m.digest THEN 1 ELSE 3 END;
      seq := old.seq;
      count := old.count;
      committed_ms := old.committed_ms;
      rights_version := old.rights_version;
    ELSIF NOT coalesce(m.admitted_by = log.rights_version, false) OR m.sender = ANY (late) THEN
      outcome := 2;
      IF m.admitted_by IS NOT NULL THEN
        late := late || m.sender;
      END IF;
    ELSIF m.kind BETWEEN 32 AND 35
      AND NOT change_target(conv, log.head, at + 1, m.kind, m.sender, m.target, m.revision, m.encoding, m.body,
                            p_emojis_max) THEN
      outcome := 4;
    ELSE
      at := at + 1;
      counted := counted + m.countable::integer;
      outcome := 0;
      seq := at;
      count := counted;
      committed_ms := now_ms;
      rights_version := log.rights_version;
      INSERT INTO entry (conversation_id, seq, count, committed_ms, rights_version, encoding, sender,
                         client_msg_id, kind, countable, digest, body, target, mentions)
      VALUES (conv, at, counted, now_ms, log.rights_version, m.encoding, m.sender, m.id, m.kind, m.countable,
              m.digest, m.body, m.target, m.mentions);
      IF m.mentions IS NOT NULL THEN
        INSERT INTO mention (conversation_id, user_id, seq, sender)
        SELECT DISTINCT conv, u.id, at, m.sender FROM mentioned(m.mentions) AS u (id);
      END IF;
    END IF;
    RETURN NEXT;
  END LOOP;
  UPDATE conversation c SET head = at, countable = counted, last_at_ms = now_ms WHERE c.id = conv AND c.head < at;
END $f$;

-- The users of a column of mentions.
CREATE FUNCTION mentioned(p_mentions bytea) RETURNS SETOF uuid
LANGUAGE sql IMMUTABLE AS $f$
  SELECT encode(substring(p_mentions FROM n FOR 16), 'hex')::uuid
  FROM generate_series(1, octet_length(p_mentions) - 15, 16) AS n
$f$;

-- Applies a change that will stand at p_seq to its target, at most at p_newest; false, and nothing is done, if it cannot be.
CREATE FUNCTION change_target(
  p_conversation uuid, p_newest bigint, p_seq bigint, p_kind integer, p_sender uuid,
  p_target bigint, p_revision bigint, p_encoding bigint, p_body bytea, p_emojis_max bigint
) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $f$
DECLARE
  old record;
BEGIN
  SELECT e.revision, e.recalled, e.mentions INTO old FROM entry e
   WHERE e.conversation_id = p_conversation AND e.seq = p_target AND e.seq <= p_newest;
  IF NOT FOUND OR old.recalled THEN
    RETURN false;
  END IF;
  CASE p_kind
  WHEN 32 THEN
    IF p_revision IS DISTINCT FROM old.revision THEN
      RETURN false;
    END IF;
    UPDATE entry e SET body = p_body, encoding = p_encoding, revision = e.revision + 1, changed_seq = p_seq
     WHERE e.conversation_id = p_conversation AND e.seq = p_target;
  WHEN 33 THEN
    UPDATE entry e SET body = '', encoding = 0, recalled = true, revision = e.revision + 1, changed_seq = p_seq
     WHERE e.conversation_id = p_conversation AND e.seq = p_target;
    UPDATE entry e SET body = '', encoding = 0
     WHERE e.conversation_id = p_conversation AND e.target = p_target AND e.kind = 32;
    DELETE FROM mention x USING mentioned(old.mentions) AS u (id)
     WHERE x.conversation_id = p_conversation AND x.user_id = u.id AND x.seq = p_target;
  WHEN 34 THEN
    IF NOT EXISTS (SELECT FROM reaction r WHERE r.conversation_id = p_conversation AND r.seq = p_target AND r.emoji = p_body) THEN
      IF (SELECT count(DISTINCT r.emoji) FROM reaction r
          WHERE r.conversation_id = p_conversation AND r.seq = p_target) >= p_emojis_max THEN
        RETURN false;
      END IF;
    END IF;
    INSERT INTO reaction (conversation_id, seq, emoji, user_id) VALUES (p_conversation, p_target, p_body, p_sender)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
      RETURN false;
    END IF;
    UPDATE entry e SET changed_seq = p_seq WHERE e.conversation_id = p_conversation AND e.seq = p_target;
  WHEN 35 THEN
    DELETE FROM reaction r WHERE r.conversation_id = p_conversation AND r.seq = p_target AND r.emoji = p_body
       AND r.user_id = p_sender;
    IF NOT FOUND THEN
      RETURN false;
    END IF;
    UPDATE entry e SET changed_seq = p_seq WHERE e.conversation_id = p_conversation AND e.seq = p_target;
  END CASE;
  RETURN true;
END $f$;
