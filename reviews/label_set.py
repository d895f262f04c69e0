"""The labels of a task through its changes: what a name of any time means now, and what adapters both know.

People rename, merge, split and add labels. Answers, messages and adapters of before have the old names. A
name means one thing: a retired name comes back only where all that it became takes it again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from reviews.errors import WrongUse
from reviews.label import check_label_names

ChangeKind = Literal["rename", "merge", "split", "add"]
MAX_CHANGES = 1_000
_LEAST = 2
ANOTHER_LABEL = "(another label)"
"""The column of probabilities of labels that the other adapter does not know."""


class LabelChange(NamedTuple):
    """One declared change.

    Attributes:
        kind: What was done.
        sources: Labels that end with it; none are ended by ``add``. A merge may go on under a name of its own
            sources.
        targets: Labels that are there after it.
    """

    kind: ChangeKind
    sources: tuple[str, ...]
    targets: tuple[str, ...]

    @property
    def retired(self) -> tuple[str, ...]:
        """The names that are no labels after it."""
        return tuple(name for name in self.sources if name not in self.targets)

    @property
    def sentence(self) -> str:
        """The change, for people."""
        old, new = ", ".join(map(repr, self.sources)), ", ".join(map(repr, self.targets))
        return {
            "rename": f"{old} was renamed to {new}",
            "merge": f"{old} were merged into {new}",
            "split": f"{old} was split into {new}",
            "add": f"{new} was added",
        }[self.kind]


@dataclass(frozen=True, slots=True)
class LabelSet:
    """The labels of a task now, and all that was changed about them.

    Attributes:
        labels: In order: what adapters are trained for from now on.
        changes: The oldest first.
        first: The labels before the first change.
    """

    labels: tuple[str, ...]
    changes: tuple[LabelChange, ...] = ()
    first: tuple[str, ...] = ()

    @property
    def version(self) -> int:
        """1 before the first change."""
        return 1 + len(self.changes)

    @property
    def numbered(self) -> tuple[str, ...]:
        """Every name in the order in which it came, so that a number goes on to mean what it meant."""
        names = [*(self.first or self.labels), *(name for change in self.changes for name in change.targets)]
        return tuple(dict.fromkeys(names))

    @property
    def retired(self) -> tuple[str, ...]:
        """Names that were labels once, in the order in which they came."""
        return tuple(name for name in self.numbered if name not in self.labels)

    def now(self, name: str) -> tuple[str, ...]:
        """What a name means now: itself, the one label that it became, or those that it was split into.

        A name that was never a label of the task means itself.
        """
        ended = self.ended_by(name)
        if ended is None:
            return (name,)
        # What it became was there after that change: only later ones can have ended that.
        place = max(number for number, change in enumerate(self.changes) if change is ended)
        names = ended.targets
        for change in self.changes[place + 1 :]:
            became = (change.targets if one in change.retired else (one,) for one in names)
            names = tuple(dict.fromkeys(label for some in became for label in some))
        return names

    def ended_by(self, name: str) -> LabelChange | None:
        """The latest change that retired a name; None for labels of now, and for unknown names."""
        if name in self.labels:
            return None
        return next((change for change in reversed(self.changes) if name in change.retired), None)

    def changed(self, change: LabelChange) -> "LabelSet":
        """The labels after a change; new ones take the place of the first that they came from.

        Raises:
            WrongUse: If the change cannot be made; says why.
        """
        self._require_possible(change)
        place = min((self.labels.index(name) for name in change.sources), default=len(self.labels))
        kept = [name for name in self.labels if name not in change.sources]
        kept[place:place] = change.targets
        try:
            check_label_names(kept)
        except ValueError as err:
            raise WrongUse(f"These cannot be the labels of a task: {err}.") from err
        first = self.first or self.labels
        return replace(self, labels=tuple(kept), changes=(*self.changes, change), first=first)

    def _require_possible(self, change: LabelChange) -> None:
        kind, sources, targets = change
        for name in sources:
            if name not in self.labels:
                became = self.ended_by(name)
                why = f" ({became.sentence})" if became else ""
                raise WrongUse(f"'{name}' is no label of this task{why}; it has {', '.join(self.labels)}.")
        if len(set(sources)) < len(sources) or len(set(targets)) < len(targets):
            raise WrongUse("A label was named twice: name each once.")
        if kind == "merge" and len(sources) < _LEAST:
            raise WrongUse("A merge needs two labels or more: to give one another name, rename it.")
        if kind == "split" and len(targets) < _LEAST:
            raise WrongUse("A split needs two new labels or more: to give a label another name, rename it.")
        if len(self.changes) >= MAX_CHANGES:
            raise WrongUse(f"The labels of this task were changed {MAX_CHANGES:,} times: more is not kept.")
        for name in targets:
            self._require_free(name, change)
        if len(self.labels) - len(sources) + len(targets) < _LEAST:
            raise WrongUse("One label would be left: a task needs two, to choose between them.")

    def _require_free(self, name: str, change: LabelChange) -> None:
        """A name of one meaning stays with it: another label would be taken for it in old answers."""
        if name in change.sources and change.kind == "merge":
            return
        if name in self.labels:
            hint = {
                "rename": f"to give the answers of both one name, merge '{name}' with it",
                "merge": f"name '{name}' among those that are merged",
                "split": "give new names; to keep the old one for a part, add the other part as a label "
                "and ask again",
                "add": "there is nothing to do",
            }[change.kind]
            raise WrongUse(f"'{name}' is a label of this task already: {hint}.")
        if name in self.retired and not set(self.now(name)) <= set(change.sources):
            raise WrongUse(
                f"'{name}' was a label of this task before ({_sentence(self.ended_by(name))}), and old "
                "answers and adapters go on to name it: choose a name that was never used."
            )


def _sentence(change: LabelChange | None) -> str:
    return change.sentence if change is not None else "another adapter has it"


@dataclass(frozen=True, slots=True)
class CommonLabels:
    """The finest classes that two adapters both know, whatever names they have for them.

    Attributes:
        names: Of the classes; where one of the adapters does not tell several labels apart, they share a
            class. The last one is :data:`ANOTHER_LABEL` where an adapter has labels that the other does not
            know.
        known: How many of these are classes that both know.
        first: For each label of the first adapter its class.
        second: The same of the second.
        class_of: The class of each name that people may give as truth, of those that both know.
    """

    names: tuple[str, ...]
    known: int
    first: tuple[int, ...]
    second: tuple[int, ...]
    class_of: Mapping[str, int]

    @property
    def is_comparable(self) -> bool:
        """Whether there is anything to choose between."""
        return self.known >= _LEAST


def common_labels(
    first: Sequence[str], second: Sequence[str], label_set: LabelSet | None, *, with_truth: bool = True
) -> CommonLabels:
    """The finest classes that two adapters both know.

    Labels are one class if one of them means the other, as far as anybody declared: renamed, merged, split.

    Args:
        first: The labels of an adapter.
        second: Those of another one.
        label_set: The task's; None: nothing was declared, and equal names mean the same.
        with_truth: Whether people's answers, which have the names of now, are compared with both; two
            adapters of the same old labels are else compared label by label.
    """
    if not with_truth and set(first) == set(second):
        label_set = None
    groups = _groups([*first, *second], label_set)
    index_of = {name: number for number, group in enumerate(groups) for name in group}
    both = [number for number, group in enumerate(groups) if group & set(first) and group & set(second)]
    place = {number: new for new, number in enumerate(both)}
    current = label_set.labels if label_set is not None else tuple(first)
    names = [_class_name(groups[number], current, first) for number in both]
    if len(both) < len(groups):
        names.append(ANOTHER_LABEL)
    other = len(both)
    return CommonLabels(
        tuple(names),
        len(both),
        tuple(place.get(index_of[name], other) for name in first),
        tuple(place.get(index_of[name], other) for name in second),
        {name: place[number] for name, number in index_of.items() if number in place},
    )


def _groups(names: Sequence[str], label_set: LabelSet | None) -> list[set[str]]:
    """The names and what they mean now, in groups of which no two have a name in common; in order."""
    groups: list[set[str]] = []
    for name in dict.fromkeys(names):
        group = {name, *(label_set.now(name) if label_set is not None else ())}
        place = len(groups)
        for number, other in reversed(list(enumerate(groups))):
            if other & group:
                group |= other
                place = number
                del groups[number]
        groups.insert(place, group)
    return groups


def _class_name(group: set[str], current: Sequence[str], first: Sequence[str]) -> str:
    """The labels of now that are one class, as people read them."""
    shown = [name for name in current if name in group] or [name for name in first if name in group]
    return " or ".join(shown)


def same_pairs(
    first: Sequence[str], second: Sequence[str], label_set: LabelSet | None
) -> list[tuple[str, str]]:
    """Pairs of different names that two adapters have for the same: the first's, the second's."""
    if set(first) == set(second):
        return []
    common = common_labels(first, second, label_set, with_truth=False)
    return [
        (one, other)
        for one, of_one in zip(first, common.first, strict=True)
        for other, of_other in zip(second, common.second, strict=True)
        if one != other and of_one == of_other < common.known
    ]


def called_now(labels: Sequence[str], label_set: LabelSet | None) -> tuple[str, ...]:
    """What an adapter's labels are called now; a split one keeps its name, and merged ones share one."""
    if label_set is None:
        return tuple(labels)
    found = (label_set.now(label) for label in labels)
    return tuple(names[0] if len(names) == 1 else label for label, names in zip(labels, found, strict=True))
