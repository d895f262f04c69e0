"""In which order xdist's workers get the test files, and which of them go to one worker."""

import pytest
from xdist.scheduler import LoadFileScheduling

# By measured time. A worker that got one of these last would end minutes after the others.
_LONGEST_FIRST = (
    "tests/integration/test_readme.py",
    "tests/integration/security/",
    "tests/integration/test_loop.py",
    "tests/integration/test_main_path.py",
    "tests/integration/test_local_stack.py",
    "tests/integration/trainer/test_sweep_and_compare.py",
    "tests/integration/trainer/test_resuming.py",
    "tests/integration/trainer/",
    "tests/integration/test_metrics.py",
    "tests/integration/test_label_terminal.py",
    "tests/integration/",
)
_TOGETHER = "tests/integration/security/"  # its Kafka and PostgreSQL are started once


class ByFile(LoadFileScheduling):
    """The tests of a file go to one worker, those of the security folder as well."""

    def _split_scope(self, nodeid: str) -> str:
        return _TOGETHER if nodeid.startswith(_TOGETHER) else super()._split_scope(nodeid)


def longest_first(items: list[pytest.Item]) -> None:
    """Sort tests by the time that their files take."""
    items.sort(key=lambda item: _rank(item.nodeid))


def _rank(nodeid: str) -> int:
    return next((rank for rank, start in enumerate(_LONGEST_FIRST) if nodeid.startswith(start)), 99)
