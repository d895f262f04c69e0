"""A mutant: what it changes in the code, which invariant that breaks, and the test that must notice."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Change:
    """One piece of text in one file and what takes its place."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """One way to break one invariant.

    Attributes:
        name: For the command line.
        invariant: What it breaks.
        test: The test meant for it, as pytest names it.
        changes: To the code.
    """

    name: str
    invariant: str
    test: str
    changes: tuple[Change, ...]

    def check(self, tree: Path) -> None:
        """Make sure that it applies.

        Raises:
            SystemExit: If the text of a change is not in the code exactly once.
        """
        for change in self.changes:
            found = (tree / change.path).read_text().count(change.old)
            if found != 1:
                raise SystemExit(
                    f"The mutant '{self.name}' does not apply: {change.path} holds its text {found} times. "
                    f"Move the mutant with the code (tests/mutants):\n{change.old}"
                )

    @contextmanager
    def applied(self, tree: Path) -> Iterator[None]:
        """Change the code for as long as the block runs."""
        before = {change.path: (tree / change.path).read_text() for change in self.changes}
        try:
            for change in self.changes:
                path = tree / change.path
                path.write_text(path.read_text().replace(change.old, change.new))
            yield
        finally:
            for name, text in before.items():
                (tree / name).write_text(text)
