"""Labels that came before their review: pinned when it is there, and given up at last.

A label is looked for again after an eighth of the time that it has waited. So what looking costs does not
grow with the labels whose review never comes: of a million that wait for a day or longer, all workers
together look for a hundred a second at most. What came from the labels topic becomes a dead letter after a
time, which can be replayed; an imported label has no record to go back to, and waits on.
"""

import json
from collections.abc import Sequence
from datetime import timedelta

import structlog
from sqlalchemy import Connection, text

from reviews.label import UnpinnedLabel
from storage.database import AnyRow, Database
from storage.labels.rows import add_labels

log = structlog.get_logger()

AT_ONCE = 1_000
REASON = "review_missing"
"""The reason of a dead letter whose review did not come."""
_SHORTEST_SECONDS = 1
_LONGEST_SECONDS = 86_400
_SHARE_WAITED = 1 / 8

# The number of any version of the review: a scalar, which PostgreSQL looks up for each label. For EXISTS it
# would rather read all reviews.
_LOOK = """
SELECT w.id, w.review_id, w.task, w.label, w.annotator, w.source, w.labelled_at, w.origin, w.seconds,
       (SELECT r.record FROM review r WHERE r.review_id = w.review_id LIMIT 1) IS NOT NULL AS is_there,
       w.origin > 0 AND w.received_at < now() - make_interval(secs => :patience) AS is_given_up
  FROM waiting_label w
 WHERE {condition} LIMIT :most
   FOR UPDATE OF w SKIP LOCKED
"""
_DUE = text(_LOOK.format(condition="w.look_at <= now() ORDER BY w.look_at"))
_BEHIND = text(_LOOK.format(condition="w.id > :after ORDER BY w.id"))
_TAKE = text("DELETE FROM waiting_label WHERE id = ANY(:ids)")
_LATER = text(f"""
UPDATE waiting_label
   SET look_at = now() + greatest({_SHORTEST_SECONDS} * interval '1 s',
                                  least({_LONGEST_SECONDS} * interval '1 s',
                                        (now() - received_at) * {_SHARE_WAITED}))
 WHERE id = ANY(:ids)
""")  # noqa: S608  nothing but numbers
_GIVE_UP = text("""
INSERT INTO dead_letter (record, stage, error, message, raw, received_at, to_forward)
SELECT record, 'label', :reason, :message, raw, clock_timestamp(), :forward
  FROM unnest(CAST(:records AS bigint[]), CAST(:values AS bytea[])) AS given (record, raw)
    ON CONFLICT (record) DO NOTHING
""")


def pin_waiting(
    database: Database,
    patience: timedelta | None = None,
    *,
    everything: bool = False,
    forward_dead_letters: bool = False,
) -> int:
    """Pin the waiting labels whose review has arrived meanwhile; any number of processes may do it at once.

    In steps of a thousand labels, each a transaction.

    Args:
        database: Where they are.
        patience: A label of the labels topic that has waited for longer becomes a dead letter; None: none
            does.
        everything: Look for all of them, also those that were looked for a short time ago.
        forward_dead_letters: Whether dead letters are marked to be published on their Kafka topic as well.

    Returns:
        How many wait no longer because their review is there. They count as received now, so that a nightly
        run finds them new.
    """
    seconds = timedelta.max.total_seconds() / 1_000 if patience is None else patience.total_seconds()
    given = {"most": AT_ONCE, "patience": seconds, "after": 0}
    pinned, looked_at = 0, AT_ONCE
    while looked_at == AT_ONCE:
        with database.begin() as connection:
            # The process that locks a row moves it: of several at once, only one gets it.
            rows = connection.execute(_BEHIND if everything else _DUE, given).all()
            pinned += _pin(connection, [row for row in rows if row.is_there])
            left = [row for row in rows if not row.is_there]
            _give_up(connection, [row for row in left if row.is_given_up], forward=forward_dead_letters)
            later = [row.id for row in left if not row.is_given_up]
            connection.execute(_LATER, {"ids": later})
        looked_at = len(rows)
        given["after"] = max((row.id for row in rows), default=0)
    return pinned


def _pin(connection: Connection, rows: Sequence[AnyRow]) -> int:
    if rows:
        connection.execute(_TAKE, {"ids": [row.id for row in rows]})
        add_labels(connection, [UnpinnedLabel(*row[1:9]) for row in sorted(rows, key=lambda row: row.id)])
    return len(rows)


def _give_up(connection: Connection, rows: Sequence[AnyRow], *, forward: bool) -> None:
    if not rows:
        return
    connection.execute(_TAKE, {"ids": [row.id for row in rows]})
    given = {
        "reason": REASON,
        "message": "The review of this label did not come in time (consumer.waiting_label_days): replay the "
        "label when the review is there.",
        "records": [row.origin for row in rows],
        "values": [_message(row) for row in rows],
        "forward": forward,
    }
    connection.execute(_GIVE_UP, given)
    log.warning("waiting_labels_given_up", labels=len(rows))


def _message(row: AnyRow) -> bytes:
    """The label as a message of the labels topic says it."""
    said = {
        "review_id": row.review_id,
        "task": row.task,
        "label": row.label,
        "annotator": row.annotator,
        "labelled_at": row.labelled_at.isoformat(),
        **({} if row.seconds is None else {"seconds": row.seconds}),
    }
    return json.dumps(said, ensure_ascii=False).encode()
