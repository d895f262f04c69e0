"""``reviewloop label`` as people meet it: on a terminal, through a pipe, and its list of the queue."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from reviewloop.cli import app
from reviews.errors import WrongUse
from storage.database import Database
from storage.labels.annotation_queue import AnnotationQueue
from storage.labels.queue_contents import QueueContents
from storage.settings import DatabaseSettings
from tests.integration.queued_reviews import (
    TASK,
    answers,
    execute,
    queue_reviews,
    rows,
    states,
    store_reviews,
    wanted,
)
from tests.integration.system import make_environment

_PATIENCE_SECONDS = 60
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def store(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A migrated database, which the commands of the test use as well."""
    monkeypatch.setenv("REVIEWLOOP_DATABASE__URL", database)
    opened = Database(DatabaseSettings(url=SecretStr(database)))
    yield opened
    opened.close()


@pytest.fixture
def label() -> Callable[..., Result]:
    """Runs ``reviewloop label`` with lines as its input."""

    def run(*arguments: object, typed: str = "") -> Result:
        result = CliRunner().invoke(app, ["label", *map(str, arguments)], input=typed)
        if result.exception is not None:
            raise result.exception
        return result

    return run


class Terminal:
    """A command on a pseudo-terminal of 80 columns.

    Args:
        arguments: Of ``reviewloop``.
        database: The URL of the database that it uses.
    """

    def __init__(self, arguments: list[str], database: str) -> None:
        self.hand, screen = pty.openpty()
        termios.tcsetwinsize(screen, (24, 80))
        self.before = termios.tcgetattr(screen)
        self.screen = screen
        environment = make_environment(
            REVIEWLOOP_DATABASE__URL=database, TERM="xterm-256color", COLUMNS="80", LINES="24"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", "reviewloop", *arguments],
            stdin=screen, stdout=screen, stderr=screen, env=environment, start_new_session=True,
        )  # fmt: skip
        self._shown = ""

    def wait_for(self, words: str) -> str:
        """What was shown since the last call, up to these words."""
        while words not in (shown := _COLOURS.sub("", self._shown)):
            ready, _, _ = select.select([self.hand], [], [], _PATIENCE_SECONDS)
            assert ready, f"{words!r} is not shown: {shown!r}"
            self._shown += os.read(self.hand, 65_536).decode()
        self._shown = shown[shown.index(words) + len(words) :]
        return shown

    def press(self, keys: str) -> None:
        os.write(self.hand, keys.encode())

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        code = self._process.wait(timeout=_PATIENCE_SECONDS)
        os.close(self.hand)
        os.close(self.screen)
        return code


@pytest.fixture
def terminal(store: Database, database: str) -> Iterator[Callable[..., Terminal]]:
    """Opens ``reviewloop label`` on a pseudo-terminal; killed in the end where the test did not end it."""
    opened: list[Terminal] = []

    def open_one(*arguments: str) -> Terminal:
        opened.append(Terminal(["label", *arguments], database))
        return opened[-1]

    yield open_one
    for one in opened:
        if one._process.poll() is None:
            one._process.kill()
            one.end()


def test_on_a_terminal_one_keypress_answers_and_the_guess_comes_after_it(store, terminal):
    store_reviews(store, ["\x1b[2J\x1b[31mHostile [red]text[/red].", "Second text."], product="boots")
    records = [record for (record,) in rows(store, "SELECT record FROM review ORDER BY record")]
    QueueContents(store).add([wanted(record, -number) for number, record in enumerate(records)])
    window = terminal("--annotator", "ann")

    first = window.wait_for("help")
    assert "␛[2J␛[31mHostile [red]text[/red]." in first
    assert "0 answered, 2 left" in first
    assert "1 negative   2 neutral   3 positive (p)" in first
    assert "0.61" not in first
    window.press("1")
    second = window.wait_for("help")
    assert "→ negative   the model: positive (0.61)" in second
    assert "1 answered, 1 left" in second
    window.press("\x1b[A")  # an arrow: no label begins with A, and none is chosen
    window.press("z")
    window.wait_for("Hostile")
    window.wait_for("help")
    window.press("p")
    window.wait_for("help")
    window.press("u")
    window.wait_for("any other key")
    window.press("q")
    window.wait_for("2 answered, 1 of them unsure; 0 skipped.")
    assert termios.tcgetattr(window.screen) == window.before
    assert window.end() == 0
    assert [row[1:] for row in answers(store)] == [
        ("negative", "ann", "terminal"), (None, "ann", "undo"), ("positive", "ann", "terminal"),
        (None, "ann", "terminal"),
    ]  # fmt: skip
    assert states(store) == ["done", "done"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_or_a_closed_window_gives_the_review_back_and_the_terminal_its_mode(store, terminal, number):
    queue_reviews(store, 1)
    window = terminal("--annotator", "ann")
    window.wait_for("help")
    window.send(number)
    window.wait_for("0 answered")
    assert termios.tcgetattr(window.screen) == window.before
    assert window.end() == 0
    assert rows(store, "SELECT holder, lease_token FROM label_task") == [(None, 1)]


def test_two_windows_of_two_annotators_show_different_reviews(store, terminal):
    queue_reviews(store, 2)
    ann, bob = terminal("--annotator", "ann"), terminal("--annotator", "bob")
    shown = [re.findall(r"Text number \d", window.wait_for("help")) for window in (ann, bob)]
    assert sorted(shown) == [["Text number 0"], ["Text number 1"]]
    for window in (ann, bob):
        window.press("1")
        window.wait_for("any other key")
        window.press("q")
        assert window.end() == 0
    assert states(store) == ["done", "done"]


def test_lines_of_a_pipe_are_answers_until_it_ends(store, label):
    queue_reviews(store, 5)
    result = label("--annotator", "ann", typed="positive\n2\nskip\nunsure\n")
    assert [row[1] for row in answers(store)] == ["positive", "neutral", None]
    assert rows(store, "SELECT annotator FROM label_skip") == [("ann",)]
    assert states(store) == ["done", "done", "open", "done", "open"]
    assert rows(store, "SELECT count(*) FROM label_task WHERE holder IS NOT NULL") == [(0,)]
    assert "3 answered, 1 of them unsure; 1 skipped." in result.stderr
    assert "\x1b" not in result.stdout


def test_the_guess_stays_hidden_where_never_is_asked_for_and_the_limit_holds(store, label):
    queue_reviews(store, 3)
    result = label("--annotator", "ann", "--limit", 2, "--reveal-guess", "never", typed="1\n1\n")
    assert len(answers(store)) == 2
    assert "0.61" not in result.stdout


def test_an_answer_after_the_lease_is_stored_and_both_annotators_are_heard(store, label, monkeypatch):
    queue_reviews(store, 1, wanted_answers=2)
    lease = AnnotationQueue.lease_several

    def lease_that_ends_and_goes_to_bob(self, task, annotator, *limits):
        items = lease(self, task, annotator, *limits)
        if items and annotator == "ann":
            execute(store, "UPDATE label_task SET lease_expires_at = now() - interval '1 second'")
            assert lease(self, task, "bob", 600, 1)
        return items

    monkeypatch.setattr(AnnotationQueue, "lease_several", lease_that_ends_and_goes_to_bob)
    result = label("--annotator", "ann", typed="1\n")
    assert "longer than the lease" in " ".join(result.stdout.split())
    assert [row[1:] for row in answers(store)] == [("negative", "ann", "terminal")]
    assert rows(store, "SELECT holder, state FROM label_task") == [("bob", "open")]


def test_a_task_without_an_adapter_has_no_labels_to_choose_from(store, label):
    with pytest.raises(WrongUse, match="adapters add"):
        label("--task", "tone")


@pytest.mark.parametrize("name", ["", "  ", "x" * 257])
def test_a_name_that_is_none_is_refused(store, label, name):
    with pytest.raises(WrongUse, match="--annotator"):
        label("--annotator", name)


def test_options_of_the_terminal_before_another_command_are_refused(store, label):
    with pytest.raises(WrongUse, match="--task belongs to labelling"):
        label("--task", "tone", "queue")


def _queue(label: Callable[..., Result], *arguments: object) -> Any:
    return json.loads(label("queue", "--format", "json", *arguments).stdout)


def test_the_queue_is_listed_by_state_and_reason_with_what_comes_next(store, label):
    records = queue_reviews(store, 3)
    QueueContents(store).add([wanted(records[2], 5.0, reason="audit", strategy="hash")])
    label("--annotator", "ann", "--limit", 1, typed="1\n")
    found = _queue(label, "--limit", 1)
    assert found["counts"] == [
        {"reason": "uncertain", "state": "open", "items": 2, "leased": 0},
        {"reason": "audit", "state": "done", "items": 1, "leased": 0},
    ]
    assert [(item["record"], item["review_id"], item["answers"]) for item in found["top"]] == [
        (records[0], "review-0", 0)
    ]
    with pytest.raises(WrongUse, match="There is no task 'tone': there is sentiment"):
        _queue(label, "--task", "tone")


def test_the_queue_is_filled_as_a_night_would_without_a_night(store, label):
    ids = [f"r{number}" for number in range(400)]
    store_reviews(store, [f"Number {number} is fine." for number in range(400)], ids=ids)
    shown = [json.loads(line) for line in label("queue", "fill", "--dry-run").stdout.splitlines()]
    assert states(store) == []
    assert label("queue", "fill").stdout == f"Queued {len(shown)} reviews.\n"
    queued = rows(store, "SELECT q.record, q.reason, r.text FROM label_task q JOIN review r USING (record)")
    assert sorted(queued) == sorted((row["record"], row["reason"], row["text"]) for row in shown)
    assert {reason for _, reason, _ in queued} == {"uncertain"}, "audit items are of the last days"
    assert rows(store, "SELECT DISTINCT training_run_id FROM label_task") == [(None,)]
    assert label("queue", "fill", "--dry-run").stderr == "150 reviews would be queued.\n"


def test_options_of_the_queues_list_before_another_command_are_refused(store, label):
    with pytest.raises(WrongUse, match="--format belongs to the list of the queue"):
        label("queue", "--format", "json", "fill")


def test_the_table_of_the_queue_shows_texts_that_command_nothing(store, label):
    (record,) = store_reviews(store, ["\x1b[2JGone? [bold]No[/bold]."])
    QueueContents(store).add([wanted(record)])
    shown = label("queue", "--format", "table").stdout
    assert "\x1b" not in shown
    assert "[bold]No" in shown
    assert TASK in shown
