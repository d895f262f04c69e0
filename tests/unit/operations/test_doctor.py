"""The doctor where nothing is set up: it says so at once, and looks for nothing that nobody asked for."""

import os

import pytest
import typer

from reviewloop.cli.doctor import doctor
from reviewloop.operations.doctor import examine_all
from reviewloop.settings import load_settings
from reviews.errors import ModelError


@pytest.fixture
def located(monkeypatch, tmp_path) -> list[str]:
    """The base models that were looked for, in a fresh folder without any setting."""
    asked: list[str] = []

    def locate(name: str, _revision: str | None = None):
        asked.append(name)
        raise ModelError(f"{name} is not here.")

    monkeypatch.setattr("reviewloop.operations.doctor.locate", locate)
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("REVIEWLOOP_"):
            monkeypatch.delenv(name)
    return asked


def test_without_a_configured_base_none_is_looked_for(located):
    found = {finding.check: finding for finding in examine_all(load_settings())}
    assert located == []
    assert found["base model"].level == "ok"
    assert "none is configured" in found["base model"].found
    assert found["kafka"].level == found["database"].level == "fail"


def test_a_configured_base_is_looked_for_once(located, monkeypatch):
    monkeypatch.setenv("REVIEWLOOP_CLASSIFIER__BASE_MODEL", "someone/model")
    found = {finding.check: finding for finding in examine_all(load_settings())}
    assert located == ["someone/model"]
    assert found["base model"].level == "fail"


def test_what_is_printed_begins_with_its_level_and_holds_no_visible_escape(located, capsys):
    with pytest.raises(typer.Exit):
        doctor("text")
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("ok  ", "warn", "fail", " ")) for line in lines), lines
