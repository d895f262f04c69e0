from collections.abc import Iterator

import pytest

from tests.unit.broker.formats.served import Served, serving


@pytest.fixture
def served() -> Iterator[Served]:
    """A registry that says what the test wants."""
    with serving() as found:
        yield found
