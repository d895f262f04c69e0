"""The README's own commands, run as they stand, in a folder with a local stack of its own."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.integration.system import make_environment

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    """The code blocks of the README that are marked for a test of this kind."""
    return re.findall(rf"<!-- test: {kind} -->\n```\w+\n(.*?)```", README, re.DOTALL)


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


def _run(command: list[str], folder: Path, **settings: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=_environment(**settings),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_readmes_commands_publish_score_and_query_reviews(folder: Path) -> None:
    (shell,) = blocks("shell")
    producer, classifier = blocks("python")
    (sql,) = blocks("sql")

    printed = _run(["bash", "-euo", "pipefail", "-c", shell], folder)
    last = [json.loads(line) for line in printed.splitlines() if line.startswith('{"review_id"')]
    assert len(last) == 5
    assert all(row["label"] == "negative" and row["confidence"] >= 0.6 for row in last)

    stack = json.loads(_run(["reviewloop", "local", "status", "--format", "json"], folder))
    _run([sys.executable, "-c", producer], folder, KAFKA=stack["kafka"]["bootstrap_servers"])
    _run(["reviewloop", "consume", "--until-idle", "2"], folder)
    found = json.loads(_run(["reviewloop", "query", "--id", "r-1", "--format", "jsonl"], folder))
    assert found["product"] == "linen-shirt"

    labels = {line.split()[0] for line in _run([sys.executable, "-c", classifier], folder).splitlines()}
    assert labels <= {"negative", "neutral", "positive"}

    with psycopg.connect(stack["postgres"]["url"].replace("+psycopg", "")) as connection:
        rows = connection.execute(sql).fetchall()
        columns = {
            column.name for column in connection.execute("SELECT * FROM scored_reviews LIMIT 0").description
        }
    assert len(rows) == 5
    table = README.split("### In SQL")[1].split("## Your own adapter")[0]
    named = {
        name for cell in re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE) for name in cell.split(", ")
    }
    assert named == columns


def test_the_readme_names_only_commands_and_options_that_exist() -> None:
    for line in "".join(blocks("help")).splitlines():
        words = line.split("#")[0].split()
        path = words[1:3] if words[1] in {"adapters", "data", "drift", "label", "trainer"} else words[1:2]
        shown = _run([*words[:1], *path, "--help"], ROOT, COLUMNS="200")
        for option in (word for word in words if word.startswith("--")):
            assert option in shown, f"{option} of: {line}"


def test_the_readme_names_only_settings_that_exist() -> None:
    shown = json.loads(_run(["reviewloop", "config", "show", "--format", "json"], ROOT))
    table = README.split("## Settings")[1].split("```toml")[0]
    named = {
        name
        for cell in re.findall(r"^\| (`[^|]+`) \|", table, re.MULTILINE)
        for name in re.findall(r"`([a-z]+\.[a-z_*]+)`", cell)
    }
    assert len(named) >= 10
    for name in named:
        pattern = re.escape(name).replace(r"\*", ".*")
        assert any(re.fullmatch(pattern, known) for known in shown), name


def test_the_demos_night_turns_the_loop_once_and_shows_the_gates_report_and_the_swap(folder: Path) -> None:
    printed = _run(["reviewloop", "demo", "--night"], folder)
    state = re.search(r"The night, run \d+, after 150 answers: (promoted|kept)", printed)
    assert state, printed
    assert re.search(r"(pass|FAIL)  improvement", printed), printed
    rows = dict(re.findall(r"(\d+) rows by (first-night-\w+)", printed))
    # 342 in the evening, and after the night the 192 that nobody was asked about.
    assert sum(map(int, rows)) == 342 + 192
    assert len(rows) == (2 if state[1] == "promoted" else 1), printed
