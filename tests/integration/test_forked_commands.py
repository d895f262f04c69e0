"""The commands that tests fork do what those of a new interpreter do."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests import commands


@pytest.mark.parametrize(
    "arguments", [("--version",), ("query", "--no-such-option"), ("data", "stats", "no.csv")]
)
def test_a_forked_command_prints_and_ends_as_one_of_a_new_interpreter(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    new = subprocess.run(
        commands.command(*arguments), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    forked = commands.run(*arguments, env=os.environ, cwd=tmp_path)
    assert (forked.returncode, forked.stdout, forked.stderr) == (new.returncode, new.stdout, new.stderr)


def test_a_forked_command_has_its_own_environment_and_folder_and_dies_of_a_signal(tmp_path: Path) -> None:
    (tmp_path / "reviewloop.toml").write_text("[consumer]\nmax_batch_reviews = 7\n")
    environment = {**os.environ, "REVIEWLOOP_CONSUMER__MAX_WAIT_SECONDS": "0.25"}
    printed = commands.run("config", "show", "--format", "json", env=environment, cwd=tmp_path).stdout
    shown = json.loads(printed)
    assert int(shown["consumer.max_batch_reviews"]["value"]) == 7
    assert float(shown["consumer.max_wait_seconds"]["value"]) == 0.25

    read_end, write_end = os.pipe()
    with os.fdopen(read_end) as endless, os.fdopen(write_end, "w"):
        waiting = commands.start("data", "validate", "-", env=os.environ, cwd=tmp_path, stdin=endless)
        assert waiting.poll() is None
        waiting.send_signal(signal.SIGKILL)
        assert waiting.wait(60) == -signal.SIGKILL
