"""Progress elsewhere than on a terminal: lines or events, never two bars over each other."""

import sys

import pytest
from structlog.testing import capture_logs

from reviewloop.cli import running
from reviewloop.cli.running import show_progress


@pytest.fixture(autouse=True)
def _each_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_FIRST_LINE_SECONDS", 0.0)


def test_a_line_says_what_else_there_is_to_know(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress("scoring reviews", 2_000) as progress:
        progress(1_500, dead_letters=1_200, others=0)
    assert "scoring reviews: 1,500 of 2,000 (1,200 dead letters) after" in capsys.readouterr().err


def test_a_command_that_logs_writes_events_and_nothing_between_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with capture_logs() as logs, show_progress("scoring reviews", is_logged=True) as progress:
        progress(7, dead_letters=2)
    assert capsys.readouterr().err == ""
    assert [(entry["event"], entry["step"], entry["done"]) for entry in logs] == [
        ("progress", "scoring reviews", 0),
        ("progress", "scoring reviews", 7),
    ]
    assert logs[1]["dead_letters"] == 2


def test_one_of_several_workers_draws_no_bar_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with capture_logs() as logs, show_progress("scoring", is_logged=True, worker="2") as progress:
        progress(7)
    assert capsys.readouterr().err == ""
    assert [entry["done"] for entry in logs] == [0, 7]


def test_a_silent_worker_leaves_the_progress_to_another_process(capsys: pytest.CaptureFixture[str]) -> None:
    with capture_logs() as logs, show_progress("rescoring", is_silent=True) as progress:
        progress(7, refused=1)
    assert (capsys.readouterr().err, logs) == ("", [])
