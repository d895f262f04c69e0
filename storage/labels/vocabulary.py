"""The labels of tasks as messages, files and people may name them, after all that was declared about them."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, text

from reviews.errors import WrongUse
from reviews.label import Vocabulary
from reviews.label_set import LabelChange, LabelSet

_LABEL_SETS = text("""
SELECT task, labels, kind, sources, targets FROM label_set
 WHERE CAST(:task AS text) IS NULL OR task = :task ORDER BY task, version
""")
# The adapter that decides the order comes last.
_ADAPTERS = text("""
SELECT a.task, a.labels, active.adapter_id = a.id AS is_active
  FROM adapter a LEFT JOIN active_adapter active ON active.task = a.task
 WHERE (CAST(:task AS text) IS NULL OR a.task = :task) AND a.state <> 'rejected'
 ORDER BY a.task, is_active NULLS FIRST, a.id
""")


class LabelRetired(WrongUse):
    """The label was split since the annotator saw it: nothing was stored; look at the labels anew."""


def read_label_sets(connection: Connection, task: str | None = None) -> dict[str, LabelSet]:
    """The declared labels of each task, or of one; tasks of which nothing was declared are left out."""
    found: dict[str, LabelSet] = {}
    for name, labels, kind, sources, targets in connection.execute(_LABEL_SETS, {"task": task}):
        before = found.get(name)
        if before is None:
            found[name] = LabelSet(tuple(labels), first=tuple(labels))
        else:
            change = LabelChange(kind, tuple(sources), tuple(targets))
            found[name] = LabelSet(tuple(labels), (*before.changes, change), before.first)
    return found


def read_vocabularies(connection: Connection, task: str | None = None) -> dict[str, Vocabulary]:
    """The labels of each task that has an adapter or declared labels, or of one such task."""
    label_sets = read_label_sets(connection, task)
    of_adapters: dict[str, list[list[str]]] = {name: [] for name in label_sets}
    for name, labels, _ in connection.execute(_ADAPTERS, {"task": task}):
        of_adapters.setdefault(name, []).append(labels)
    return {name: _vocabulary(lists, label_sets.get(name)) for name, lists in of_adapters.items()}


def label_now(connection: Connection, task: str, label: str | None) -> str | None:
    """The label that an annotator's choice is now: a session may have begun before the labels changed.

    Raises:
        LabelRetired: If it was split.
    """
    label_set = None if label is None else read_label_sets(connection, task).get(task)
    if label is None or label_set is None:
        return label
    names = label_set.now(label)
    if len(names) > 1:
        change = label_set.ended_by(label)
        raise LabelRetired(
            f"The answer was not stored: {change.sentence if change else label}. Begin again, to see the "
            "labels of now."
        )
    return names[0]


def meanings(label_set: LabelSet) -> dict[str, str | None]:
    """What became of each retired name: the label of now; None where people have to choose one of several."""
    found = {name: label_set.now(name) for name in label_set.retired}
    return {name: names[0] if len(names) == 1 else None for name, names in found.items()}


def _vocabulary(lists: Sequence[Sequence[str]], label_set: LabelSet | None) -> Vocabulary:
    """From the labels of every adapter, the one that decides the order last, and those that were declared."""
    of_adapters = frozenset(name for labels in lists for name in labels)
    if label_set is None:
        ordered = tuple(lists[-1])
        return Vocabulary(ordered, of_adapters - set(ordered))
    became = meanings(label_set)
    return Vocabulary(
        label_set.labels,
        of_adapters - set(label_set.labels) - set(became),
        {name: label for name, label in became.items() if label is not None},
        _split(label_set, became),
        label_set.numbered,
    )


def _split(label_set: LabelSet, became: Mapping[str, str | None]) -> dict[str, str]:
    changes = {name: label_set.ended_by(name) for name, label in became.items() if label is None}
    return {name: change.sentence for name, change in changes.items() if change is not None}
