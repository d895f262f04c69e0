"""Which key means what: the labels' own keys, and those of the commands beside them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from string import ascii_lowercase

from reviews.errors import WrongUse


class Command(Enum):
    """What can be done with an item beside giving it a label; the value is the key."""

    unsure = "u"
    skip = "s"
    undo = "z"
    more = "m"
    help = "?"
    quit = "q"


_DIGITS = "123456789"


@dataclass(frozen=True, slots=True)
class Choices:
    """The labels of a task with their keys.

    Attributes:
        labels: In the adapter's order.
        keys: Each label's keys, a digit first where it has one.
    """

    labels: tuple[str, ...]
    keys: Mapping[str, tuple[str, ...]]

    def meaning(self, typed: str) -> str | Command | None:
        """The label or command of a key, or of its whole name; None if it means nothing."""
        word = typed.lower()
        for label in self.labels:
            if word in (*self.keys[label], label.lower()):
                return label
        return next((command for command in Command if word in (command.value, command.name)), None)


def make_choices(labels: Sequence[str]) -> Choices:
    """Keys for labels: 1 to 9 in their order, and the first letter where it belongs to one label alone.

    Further labels get a letter of their name, or any that is left.

    Raises:
        WrongUse: If there are more labels than keys.
    """
    initials = Counter(label[:1].lower() for label in labels)
    taken = {command.value for command in Command}
    keys: dict[str, tuple[str, ...]] = {}
    for digit, label in zip(_DIGITS.ljust(len(labels)), labels, strict=False):
        initial = label[:1].lower()
        is_free = initial.isalpha() and initials[initial] == 1 and initial not in taken
        keys[label] = tuple(key for key in (digit.strip(), initial if is_free else "") if key)
        taken.update(keys[label])
    for label in labels:
        if not keys[label]:
            keys[label] = (_free_letter(label, taken),)
            taken.update(keys[label])
    return Choices(tuple(labels), keys)


def _free_letter(label: str, taken: set[str]) -> str:
    for letter in label.lower() + ascii_lowercase:
        if letter.isalpha() and letter not in taken:
            return letter
    raise WrongUse(f"There is no key left for the label '{label}': use 'reviewloop label import' instead.")
