"""Answers of two adapters that have other names and mean the same, after the labels of a task changed."""

from typing import Any

from sqlalchemy import Connection, text

from reviews.label_set import same_pairs
from storage.labels.vocabulary import read_label_sets

_SERVED = text("""
SELECT DISTINCT a.id, a.labels
  FROM (SELECT adapter_id FROM adapter_activation WHERE task = :task ORDER BY id DESC LIMIT :most) latest
  JOIN adapter a ON a.id = latest.adapter_id
""")
_TRIED = text("""
SELECT DISTINCT a.id, a.labels
  FROM (SELECT adapter_id FROM adapter_shadow WHERE task = :task ORDER BY id DESC LIMIT :most) latest
  JOIN adapter a ON a.id = latest.adapter_id
""")
_MOST = 50
SAYS_THE_SAME = """(p.label = h.label OR EXISTS (
    SELECT FROM unnest(CAST(:same_served AS integer[]), CAST(:same_labels AS text[]),
                       CAST(:same_tried AS integer[]), CAST(:same_tried_labels AS text[]))
                AS same (served, label, tried, tried_label)
     WHERE same.served = p.adapter_id AND same.label = p.label
       AND same.tried = h.adapter_id AND same.tried_label = h.label))"""
"""SQL that is true where a prediction p and what an adapter on trial said, h, mean the same; it takes what
:func:`same_answers` returns."""


def same_answers(connection: Connection, task: str) -> dict[str, list[Any]]:
    """Which labels of an adapter that served mean the same as which of one that was on trial.

    Of the latest adapters of a task; nothing where no change of its labels was declared.
    """
    label_set = read_label_sets(connection, task).get(task)
    pairs: list[tuple[int, str, int, str]] = []
    if label_set is not None:
        served, tried = (
            connection.execute(query, {"task": task, "most": _MOST}).all() for query in (_SERVED, _TRIED)
        )
        pairs = [
            (one.id, label, other.id, tried_label)
            for one in served
            for other in tried
            for label, tried_label in same_pairs(one.labels, other.labels, label_set)
        ]
    columns = list(zip(*pairs, strict=True)) or [(), (), (), ()]
    names = ("same_served", "same_labels", "same_tried", "same_tried_labels")
    return {name: list(column) for name, column in zip(names, columns, strict=True)}
