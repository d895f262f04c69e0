"""docs/operations.md names commands, settings, metrics and files that exist."""

import re
import shlex
from pathlib import Path

import pytest

from reviewloop.settings import Settings
from tests.unit.deploy.parsing import parse

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "operations.md"
TEXT = PAGE.read_text()


@pytest.mark.parametrize("line", re.findall(r"^reviewloop .*$", TEXT, re.MULTILINE))
def test_every_command_line_is_one_that_parses(line: str):
    parse(shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize("name", re.findall(r"`(kafka|database|classifier|consumer|metrics)\.(\w+)`", TEXT))
def test_every_setting_exists(name: tuple[str, str]):
    section, setting = name
    assert setting in Settings.model_fields[section].annotation.model_fields


def test_every_linked_file_is_there():
    for target in re.findall(r"\]\(([^)#]+)", TEXT):
        assert (PAGE.parent / target).exists(), target
