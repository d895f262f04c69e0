"""Everything for one machine in one command: rows appear, a dead part comes back, Ctrl-C leaves nothing."""

import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import psutil
import psycopg
import pytest

from reviewloop.local.places import free_port
from reviewloop.local.state import find_running, read_state
from tests import commands
from tests.conftest import folder_for_a_stack

_PATIENCE_SECONDS = 180
_LINK = re.compile(r"^(http://\S+/link/\S+)$", re.MULTILINE)


class Up:
    """A ``reviewloop up`` in a folder of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self._log = folder / "said"
        with self._log.open("w") as said:
            self.process = commands.start(
                "up", "--port", str(free_port()), *arguments, cwd=folder, stdout=said, env=os.environ
            )

    @property
    def said(self) -> str:
        """What it printed so far."""
        return self._log.read_text()

    def wait_for(self, is_so: Callable[[], object]) -> None:
        """Wait until something is so; fails where the command ends before."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not is_so():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.1)

    def parts(self) -> dict[str, psutil.Process]:
        """Its child processes by the command that they run."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            line = child.cmdline()
            found[line[line.index("reviewloop") + 1]] = child
        return found

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Its exit code after a signal."""
        self.process.send_signal(number)
        return self.process.wait(timeout=_PATIENCE_SECONDS)


@pytest.fixture
def folder() -> Iterator[Path]:
    with folder_for_a_stack() as made:
        yield made


def _rows(folder: Path) -> int:
    stack = find_running(folder)
    if stack is None or not stack.postgres.running:
        return 0
    with psycopg.connect(stack.postgres.url.replace("+psycopg", "")) as connection:
        (count,) = connection.execute("SELECT count(*) FROM scored_reviews").fetchone() or (0,)
        return int(count)


def test_up_in_an_empty_folder_scores_published_reviews_and_leaves_nothing_running(folder: Path) -> None:
    up = Up(folder, "--demo")
    try:
        up.wait_for(lambda: _LINK.search(up.said))
        link = _LINK.search(up.said)
        assert link is not None
        assert "Everything runs; Ctrl-C stops it." in up.said
        with httpx2.Client(follow_redirects=True) as browser:
            assert "<h1" in browser.get(link[1]).raise_for_status().text
        up.wait_for(lambda: _rows(folder) >= 3)
        parts = up.parts()
        assert parts.keys() == {"consume", "trainer", "drift", "console", "publish"}

        second = commands.run("up", cwd=folder, env=os.environ)
        assert second.returncode == 1
        assert f"runs here already (process {up.process.pid}), its console is at http" in second.stderr

        parts["drift"].kill()
        up.wait_for(lambda: "Drift watch  is started again" in up.said)
        assert "Drift watch  died (SIGKILL" in up.said
        assert up.parts()["drift"].pid != parts["drift"].pid

        services = [
            read_state(folder / ".reviewloop").kafka.pid,
            read_state(folder / ".reviewloop").postgres.pid,
        ]
        children = [*up.parts().values()]
        assert up.end() == 0, up.said
        for word in ("Worker       has ended", "Console      has ended", "are stopped; their data stays"):
            assert word in up.said
        assert not [child for child in children if child.is_running()]
        assert not [pid for pid in services if psutil.pid_exists(pid)]
        assert find_running(folder) is None
    finally:
        up.process.kill()
        up.process.wait()


def test_without_an_adapter_up_says_what_to_do_and_a_second_signal_does_not_wait(folder: Path) -> None:
    (folder / "reviewloop.toml").write_text('[consumer]\ntasks = ["topic"]\n', encoding="utf-8")
    up = Up(folder)
    try:
        up.wait_for(lambda: "Everything runs" in up.said)
        assert "no zero-shot adapter was made for 'topic'. Nothing says which labels the task" in up.said
        assert "no adapter is active for 'topic': 'reviewloop adapters add DIR --activate'" in up.said
        assert "Worker       waits for an adapter" in up.said
        assert "consume" not in up.parts()
        up.parts()["trainer"].suspend()  # it would never end by itself
        children = [*up.parts().values()]
        up.process.send_signal(signal.SIGTERM)
        up.wait_for(lambda: "Stopping: what is in hand is finished" in up.said)
        assert up.end(signal.SIGTERM) == 0, up.said
        assert not [child for child in children if child.is_running()]
    finally:
        up.process.kill()
        up.process.wait()


def test_a_port_that_is_taken_is_said_before_anything_starts(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = commands.run("up", "--port", str(port), cwd=folder, env=os.environ)
    assert done.returncode == 2
    assert f"Port {port} is in use by another program" in done.stderr
    assert read_state(folder / ".reviewloop") is None
