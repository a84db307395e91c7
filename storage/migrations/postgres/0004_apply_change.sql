-- A decision of the rules, carried out as one call: all of it is at the server
-- before it starts, so that a gateway that stops in the middle holds no lock.
--
-- Locks, in this order, so that nobody waits in a circle: users whose own row
-- is written (which keeps out new pairs of theirs while their privacy changes),
-- users who become members (the foreign key would ask for it later), then
-- conversations in the order of their ids. What is read after that is read by
-- later statements, whose snapshots are newer than the locks.
--
-- p_rows is an array of objects, one a row change, named by `op`. Ids stand in it as
-- text, bytes in hexadecimal. p_made: groups that this change makes. p_bumped: conversations that get their next
-- rights version; so do all pairs of p_private.
--
-- Outcomes: 0 done (a line for each entry), 1 done before (the first entry's
-- place), 2 a version has moved, or a log is unknown: nothing was done.
CREATE FUNCTION apply_change(
  p_guard uuid[], p_version bigint[], p_locked uuid[], p_bumped uuid[], p_made uuid[],
  p_written uuid[], p_joining uuid[], p_private uuid[], p_rows jsonb,
  p_conversation uuid[], p_id uuid[], p_sender uuid[], p_kind integer[], p_countable boolean[],
  p_body bytea[], p_digest bytea[]
) RETURNS TABLE (outcome smallint, seq bigint, count bigint, committed_ms bigint, rights_version bigint)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
SET jit = off
AS $f$
#variable_conflict use_column
DECLARE
  now_ms bigint;
  bumped uuid[] := p_bumped;
  r jsonb;
BEGIN
  PERFORM 1 FROM user_account u WHERE u.id = ANY (p_written) ORDER BY u.id FOR UPDATE;
  PERFORM 1 FROM user_account u WHERE u.id = ANY (p_joining) ORDER BY u.id FOR KEY SHARE;
  IF cardinality(p_private) > 0 THEN
    bumped := bumped || ARRAY(
      SELECT c.id FROM member m JOIN conversation c ON c.id = m.conversation_id
      WHERE m.user_id = ANY (p_private) AND c.kind = 1);
  END IF;
  PERFORM 1 FROM conversation c WHERE c.id = ANY (p_locked || bumped) ORDER BY c.id FOR NO KEY UPDATE;
  now_ms := floor(extract(epoch FROM clock_timestamp()) * 1000);

  IF cardinality(p_id) > 0 THEN
    RETURN QUERY
      SELECT 1::smallint, e.seq, e.count, e.committed_ms, e.rights_version FROM entry e
      WHERE e.conversation_id = p_conversation[1] AND e.sender = p_sender[1] AND e.client_msg_id = p_id[1];
    IF FOUND THEN
      RETURN;
    END IF;
  END IF;
  IF EXISTS (SELECT FROM unnest(p_guard, p_version) AS g (id, version)
             LEFT JOIN conversation c ON c.id = g.id
             WHERE c.rights_version IS DISTINCT FROM g.version)
     OR EXISTS (SELECT FROM unnest(p_conversation) AS e (id) LEFT JOIN conversation c ON c.id = e.id
                WHERE c.id IS NULL AND e.id <> ALL (p_made)) THEN
    outcome := 2;
    RETURN NEXT;
    RETURN;
  END IF;
  UPDATE conversation c SET rights_version = c.rights_version + 1 WHERE c.id = ANY (bumped);

  FOR r IN SELECT a.value FROM jsonb_array_elements(p_rows) WITH ORDINALITY AS a (value, place) ORDER BY a.place LOOP
    PERFORM apply_row(r, p_conversation);
  END LOOP;

  RETURN QUERY
WITH item AS MATERIALIZED (
  SELECT u.ord, u.conv, u.id, u.sender, u.kind, u.countable, u.digest, c.rights_version AS version,
         c.head + row_number() OVER log AS new_seq,
         c.countable + count(*) FILTER (WHERE u.countable) OVER log AS new_count
  FROM unnest(p_conversation, p_id, p_sender, p_kind, p_countable, p_digest)
       WITH ORDINALITY AS u (conv, id, sender, kind, countable, digest, ord)
  JOIN conversation c ON c.id = u.conv
  WINDOW log AS (PARTITION BY u.conv ORDER BY u.ord ROWS UNBOUNDED PRECEDING)
), stored AS (
  INSERT INTO entry (conversation_id, seq, count, committed_ms, rights_version, encoding, sender,
                     client_msg_id, kind, countable, digest, body)
  SELECT conv, new_seq, new_count, now_ms, version, 0, sender, id, kind, countable, digest, p_body[ord]
  FROM item
), moved AS (
  UPDATE conversation c SET head = t.head, countable = t.counted, last_at_ms = now_ms
  FROM (SELECT conv, max(new_seq) AS head, max(new_count) AS counted FROM item GROUP BY conv) t
  WHERE c.id = t.conv
)
SELECT 0::smallint, new_seq, new_count, now_ms, version FROM item ORDER BY ord;
END $f$;

-- One row change, under the locks of apply_change. p_conversation: the logs of
-- the change's entries, which are numbered after this: the last one of a log
-- will stand at its head plus their number.
CREATE FUNCTION apply_row(r jsonb, p_conversation uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE AS $f$
DECLARE
  conv   uuid := (r->>'conversation')::uuid;
  who    uuid := (r->>'user')::uuid;
  last   bigint;
  first  bigint;
BEGIN
  CASE r->>'op'
  WHEN 'group' THEN
    INSERT INTO conversation (id, kind) VALUES (conv, 2) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
      -- Another gateway made it meanwhile: tried again, this is a duplicate.
      RAISE EXCEPTION 'the group was made meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
    INSERT INTO group_profile (conversation_id, name, avatar, joins, members_invite, whole_history, muted, created_ms)
    VALUES (conv, r->>'name', r->>'avatar', (r->>'joins')::smallint, (r->>'members_invite')::boolean,
            (r->>'whole_history')::boolean, (r->>'muted')::boolean, (r->>'created_ms')::bigint);
  WHEN 'profile' THEN
    UPDATE group_profile g
       SET name = r->>'name', avatar = r->>'avatar', joins = (r->>'joins')::smallint,
           members_invite = (r->>'members_invite')::boolean, whole_history = (r->>'whole_history')::boolean,
           muted = (r->>'muted')::boolean
     WHERE g.conversation_id = conv;
  WHEN 'join' THEN
    SELECT c.head + coalesce(cardinality(array_positions(p_conversation, c.id)), 0) INTO last
      FROM conversation c WHERE c.id = conv;
    IF NOT conv = ANY (p_conversation) THEN
      last := last + 1;
    END IF;
    first := CASE WHEN (r->>'whole_history')::boolean THEN 1 ELSE last END;
    -- A mute outlives leaving; an interval that begins at the same place is opened again.
    IF NOT EXISTS (SELECT FROM member m WHERE m.conversation_id = conv AND m.user_id = who AND m.until_seq IS NULL) THEN
      INSERT INTO member AS old (conversation_id, user_id, from_seq, role, muted_until_ms)
      VALUES (conv, who, first, (r->>'role')::smallint,
              (SELECT coalesce(max(m.muted_until_ms), 0) FROM member m WHERE m.conversation_id = conv AND m.user_id = who))
      ON CONFLICT (conversation_id, user_id, from_seq) DO UPDATE
        SET until_seq = NULL, role = excluded.role, muted_until_ms = excluded.muted_until_ms;
      UPDATE group_profile g SET members = g.members + 1 WHERE g.conversation_id = conv;
    END IF;
  WHEN 'leave' THEN
    SELECT c.head + coalesce(cardinality(array_positions(p_conversation, c.id)), 0) INTO last
      FROM conversation c WHERE c.id = conv;
    UPDATE member m SET until_seq = last
     WHERE m.conversation_id = conv AND m.user_id = who AND m.until_seq IS NULL;
    IF FOUND THEN
      UPDATE group_profile g SET members = g.members - 1 WHERE g.conversation_id = conv;
    END IF;
  WHEN 'role' THEN
    UPDATE member m SET role = (r->>'role')::smallint
     WHERE m.conversation_id = conv AND m.user_id = who AND m.until_seq IS NULL;
  WHEN 'mute' THEN
    UPDATE member m SET muted_until_ms = (r->>'until_ms')::bigint
     WHERE m.conversation_id = conv AND m.user_id = who AND m.until_seq IS NULL;
  WHEN 'block' THEN
    UPDATE member m SET blocks = (r->>'blocks')::boolean WHERE m.conversation_id = conv AND m.user_id = who;
  WHEN 'ask_to_join' THEN
    INSERT INTO join_request (conversation_id, user_id, text, asked_ms)
    VALUES (conv, who, r->>'text', (r->>'at_ms')::bigint)
    ON CONFLICT (conversation_id, user_id) DO UPDATE SET text = excluded.text, asked_ms = excluded.asked_ms;
  WHEN 'join_answered' THEN
    DELETE FROM join_request j WHERE j.conversation_id = conv AND j.user_id = who;
  WHEN 'link_made' THEN
    INSERT INTO join_link (hash, conversation_id, made_by, expires_ms, uses_max, uses)
    VALUES (decode(r->>'hash', 'hex'), conv, who, (r->>'expires_ms')::bigint, (r->>'uses_max')::bigint,
            (r->>'uses')::bigint);
  WHEN 'link_used' THEN
    UPDATE join_link l SET uses = l.uses + 1 WHERE l.hash = decode(r->>'hash', 'hex');
  WHEN 'link_revoked' THEN
    DELETE FROM join_link l WHERE l.hash = decode(r->>'hash', 'hex');
  WHEN 'contact' THEN
    INSERT INTO contact (owner, other, friendship, follows, remark, text, changed_ms)
    VALUES (who, (r->>'other')::uuid, (r->>'friendship')::smallint, (r->>'follows')::boolean, r->>'remark',
            r->>'text', (r->>'changed_ms')::bigint)
    ON CONFLICT (owner, other) DO UPDATE
      SET friendship = excluded.friendship, follows = excluded.follows, remark = excluded.remark,
          text = excluded.text, changed_ms = excluded.changed_ms;
  WHEN 'no_contact' THEN
    DELETE FROM contact k WHERE k.owner = who AND k.other = (r->>'other')::uuid;
  WHEN 'person' THEN
    UPDATE user_account u SET nickname = r->>'nickname', avatar = r->>'avatar' WHERE u.id = who;
  WHEN 'privacy' THEN
    UPDATE user_account u
       SET privacy_messages = (r->>'messages')::smallint, privacy_groups = (r->>'groups')::smallint,
           privacy_presence = (r->>'presence')::smallint
     WHERE u.id = who;
  WHEN 'password' THEN
    UPDATE user_account u SET password = r->>'password' WHERE u.id = who;
  WHEN 'setting' THEN
    INSERT INTO user_setting (user_id, key, value) VALUES (who, r->>'key', decode(r->>'value', 'hex'))
    ON CONFLICT (user_id, key) DO UPDATE SET value = excluded.value;
  WHEN 'no_setting' THEN
    DELETE FROM user_setting s WHERE s.user_id = who AND s.key = r->>'key';
  WHEN 'member_settings' THEN
    INSERT INTO member_setting (user_id, conversation_id, silenced_until_ms, pinned_ms, archived)
    VALUES (who, conv, (r->>'silenced_until_ms')::bigint, (r->>'pinned_ms')::bigint, (r->>'archived')::boolean)
    ON CONFLICT (user_id, conversation_id) DO UPDATE
      SET silenced_until_ms = excluded.silenced_until_ms, pinned_ms = excluded.pinned_ms,
          archived = excluded.archived;
  WHEN 'hide' THEN
    INSERT INTO hidden_entry (user_id, conversation_id, seq)
    SELECT who, conv, h.value::bigint FROM jsonb_array_elements_text(r->'seqs') AS h (value) ORDER BY 3
    ON CONFLICT DO NOTHING;
  WHEN 'revoke' THEN
    -- In the order of their ids, as those who note when devices were seen.
    PERFORM 1 FROM device d
      WHERE d.user_id = who AND d.revoked_ms IS NULL
        AND (r->>'one' IS NULL OR d.id = (r->>'one')::uuid)
        AND (r->>'all_but' IS NULL OR d.id <> (r->>'all_but')::uuid)
      ORDER BY d.id FOR NO KEY UPDATE;
    UPDATE device d SET revoked_ms = (r->>'at_ms')::bigint
     WHERE d.user_id = who AND d.revoked_ms IS NULL
       AND (r->>'one' IS NULL OR d.id = (r->>'one')::uuid)
       AND (r->>'all_but' IS NULL OR d.id <> (r->>'all_but')::uuid);
  END CASE;
END $f$;

-- Adds a device unless the user has p_max already; true if it is there. The
-- user's row is locked so that two devices are counted one after the other.
CREATE FUNCTION add_device(
  p_id uuid, p_user uuid, p_label text, p_secret_hash bytea, p_created_ms bigint, p_max bigint
) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $f$
BEGIN
  PERFORM 1 FROM user_account u WHERE u.id = p_user FOR NO KEY UPDATE;
  IF EXISTS (SELECT FROM device d WHERE d.id = p_id AND d.user_id = p_user) THEN
    RETURN true;
  END IF;
  IF (SELECT count(*) FROM device d WHERE d.user_id = p_user AND d.revoked_ms IS NULL) >= p_max THEN
    RETURN false;
  END IF;
  INSERT INTO device (id, user_id, label, secret_hash, created_ms)
  VALUES (p_id, p_user, p_label, p_secret_hash, p_created_ms);
  RETURN true;
END $f$;
