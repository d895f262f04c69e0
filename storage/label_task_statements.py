"""The statements behind `LabelTaskStore`; all times are by the database's clock."""

from sqlalchemy import text

from reviews.label_task import ASKED_AGAIN, AUDIT, TERMINAL_SOURCE, UNDO_SOURCE
from storage.label_answers import ANSWERS, HAS_ANSWERED
from storage.versions import is_superseded

_REASONS = ", ".join(f"'{reason}'" for reason in ASKED_AGAIN)
_IS_FREE = "(q.lease_expires_at IS NULL OR q.lease_expires_at <= clock_timestamp())"
_IS_OFFERED = f"""
    NOT EXISTS (SELECT FROM label_skip s
                 WHERE s.record = q.record AND s.task = q.task AND s.annotator = :annotator)
    AND NOT {HAS_ANSWERED}"""
_TAKE = """
    holder = :annotator,
    lease_token = q.lease_token + 1,
    lease_expires_at = clock_timestamp() + make_interval(secs => :seconds)"""
_GIVES_WAY = f"(q.state <> 'open' OR excluded.priority > q.priority AND q.reason <> '{AUDIT}')"
_ITEM = "q.record = :record AND q.task = :task"

# An open item gives way to a greater priority; a settled one is opened anew, as if it were new, but for its
# token, which may never become smaller. What the audit drew gives way to nothing: answered sooner for a
# reason, it would be random no more.
ADD = text(f"""
INSERT INTO label_task AS q (record, task, reason, strategy, priority, wanted_answers, training_run_id)
SELECT record, task, reason, strategy, priority, wanted, :run_id
  FROM unnest(CAST(:records AS bigint[]), CAST(:tasks AS text[]), CAST(:reasons AS text[]),
              CAST(:strategies AS text[]), CAST(:priorities AS real[]), CAST(:wanted AS smallint[]))
       AS new (record, task, reason, strategy, priority, wanted)
 ORDER BY record, task
ON CONFLICT (record, task) DO UPDATE SET
    state = 'open',
    reason = CASE WHEN {_GIVES_WAY} THEN excluded.reason ELSE q.reason END,
    strategy = CASE WHEN {_GIVES_WAY} THEN excluded.strategy ELSE q.strategy END,
    training_run_id = CASE WHEN {_GIVES_WAY} THEN excluded.training_run_id ELSE q.training_run_id END,
    priority = CASE WHEN {_GIVES_WAY} THEN excluded.priority ELSE q.priority END,
    wanted_answers = CASE WHEN q.state = 'open'
                          THEN greatest(q.wanted_answers, excluded.wanted_answers)
                          ELSE excluded.wanted_answers END,
    queued_at = CASE WHEN q.state = 'open' THEN q.queued_at ELSE now() END,
    state_changed_at = CASE WHEN q.state = 'open' THEN q.state_changed_at ELSE now() END
WHERE CASE q.state
      WHEN 'open' THEN {_GIVES_WAY} OR excluded.wanted_answers > q.wanted_answers
      WHEN 'expired' THEN true
      ELSE excluded.reason IN ({_REASONS}) END
RETURNING q.record
""")  # noqa: S608  nothing but the constants above

LEASE = text(f"""
WITH chosen AS (
    SELECT q.record FROM label_task q
     WHERE q.task = :task AND q.state = 'open' AND {_IS_FREE}
       AND EXISTS (SELECT FROM review r WHERE r.record = q.record)
       AND {_IS_OFFERED}
     ORDER BY q.priority DESC, q.record
     LIMIT 1 FOR UPDATE OF q SKIP LOCKED)
UPDATE label_task q SET {_TAKE} FROM chosen WHERE q.record = chosen.record AND q.task = :task
RETURNING q.record
""")  # noqa: S608  nothing but the constants above

TAKE_BACK = text(f"UPDATE label_task q SET {_TAKE} WHERE {_ITEM} AND {_IS_FREE} RETURNING q.record")  # noqa: S608

SHOW = text(f"""
SELECT q.record, q.task, q.lease_token, q.lease_expires_at, q.reason,
       r.review_id, r.text, r.product, r.source, r.published_at,
       {is_superseded("r")},
       p.label, p.confidence, a.version
  FROM label_task q
  JOIN review r ON r.record = q.record
  LEFT JOIN prediction p ON p.record = q.record AND p.task = q.task
  LEFT JOIN adapter a ON a.id = p.adapter_id
 WHERE {_ITEM}
""")  # noqa: S608  nothing but the constants above

LOCK = text(f"""
SELECT q.lease_token = :token AND NOT {_IS_FREE} FROM label_task q WHERE {_ITEM} FOR UPDATE
""")  # noqa: S608  nothing but the constants above

# Neither is earlier than what the annotator said before, also where a label from elsewhere bears a time to
# come: of one moment, the later row counts.
WRITE_ANSWER = text(f"""
INSERT INTO label (record, task, label, annotator, source, labelled_at)
VALUES (:record, :task, :label, :annotator, '{TERMINAL_SOURCE}', greatest(clock_timestamp(), (
    SELECT max(labelled_at) FROM label
     WHERE record = :record AND task = :task AND annotator = :annotator)))
""")  # noqa: S608  nothing but the constant above
WITHDRAW_ANSWER = text(f"""
INSERT INTO label (record, task, label, annotator, source, labelled_at)
SELECT record, task, NULL, annotator, '{UNDO_SOURCE}', greatest(clock_timestamp(), labelled_at)
  FROM (SELECT record, task, annotator, source, labelled_at FROM label
         WHERE record = :record AND task = :task AND annotator = :annotator
         ORDER BY labelled_at DESC, id DESC LIMIT 1) latest
 WHERE source <> '{UNDO_SOURCE}'
RETURNING id
""")  # noqa: S608  nothing but the constant above

WRITE_SKIP = text("""
INSERT INTO label_skip (record, task, annotator) VALUES (:record, :task, :annotator) ON CONFLICT DO NOTHING
""")
WITHDRAW_SKIP = text("""
DELETE FROM label_skip WHERE record = :record AND task = :task AND annotator = :annotator RETURNING record
""")

CLOSE_SKIPPED = text(f"""
UPDATE label_task q SET state = 'skipped', state_changed_at = clock_timestamp()
 WHERE {_ITEM} AND q.state = 'open'
   AND :skips <= (SELECT count(*) FROM label_skip s WHERE s.record = q.record AND s.task = q.task)
""")  # noqa: S608  nothing but the constants above
REOPEN = text(f"""
UPDATE label_task q SET state = 'open', state_changed_at = clock_timestamp()
 WHERE {_ITEM} AND q.state <> 'open'
""")  # noqa: S608  nothing but the constants above

GIVE_BACK = text(f"""
UPDATE label_task q SET holder = NULL, lease_expires_at = NULL WHERE {_ITEM} AND q.lease_token = :token
""")  # noqa: S608  nothing but the constants above
RELEASE = text("""
UPDATE label_task q SET holder = NULL, lease_expires_at = NULL WHERE q.holder = :holder RETURNING q.record
""")
EXPIRE = text(f"""
UPDATE label_task q SET state = 'expired', state_changed_at = clock_timestamp()
 WHERE q.task = :task AND q.state = 'open' AND {_IS_FREE}
   AND q.state_changed_at < now() - make_interval(secs => :seconds)
RETURNING q.record
""")  # noqa: S608  nothing but the constants above

COUNTS = text(f"""
SELECT q.reason, q.state, count(*), count(*) FILTER (WHERE NOT {_IS_FREE})
  FROM label_task q WHERE q.task = :task GROUP BY q.reason, q.state
 ORDER BY q.state = 'open' DESC, q.state, count(*) DESC, q.reason
""")  # noqa: S608  nothing but the constants above
LEFT_FOR = text(f"""
SELECT count(*) FROM label_task q
 WHERE q.task = :task AND q.state = 'open' AND {_IS_OFFERED}
""")  # noqa: S608  nothing but the constants above
TOP = text(f"""
SELECT q.record, r.review_id, q.reason, q.strategy, q.priority, {ANSWERS}, q.wanted_answers,
       CASE WHEN {_IS_FREE} THEN NULL ELSE q.holder END, q.queued_at, r.text
  FROM label_task q JOIN review r ON r.record = q.record
 WHERE q.task = :task AND q.state = 'open'
 ORDER BY q.priority DESC, q.record LIMIT :limit
""")  # noqa: S608  nothing but the constants above
