"""A source that reads as a group of one."""

import pytest

from consumer.source import Source
from tests.unit.consumer.scripted_group import Group, Positions, source_of


@pytest.fixture
def group() -> Group:
    return Group()


@pytest.fixture
def positions() -> Positions:
    return Positions()


@pytest.fixture
def source(group, positions) -> Source:
    return source_of(group, positions)
