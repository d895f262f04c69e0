"""Breaks an invariant on purpose, in a copy of the tree, and shows that the test meant for it turns red.

    python -m tests.mutants [NAME …]

Each test first has to be green on the copy as it is. A mutant whose text is not in the code any more is an
error: whoever moves the code moves the mutant.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reviewloop.local.stack import Stack
from tests.conftest import DATABASE_VARIABLE, KAFKA_VARIABLE
from tests.mutants.mutant import Mutant
from tests.mutants.mutants import MUTANTS

ROOT = Path(__file__).parents[2]
PYTEST_FAILED = 1  # pytest's exit code when tests ran and some failed


def main(names: list[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    if unknown := set(names) - {mutant.name for mutant in MUTANTS}:
        raise SystemExit(f"There are no mutants {sorted(unknown)}: {[mutant.name for mutant in MUTANTS]}.")
    with _services() as environment, _copy_of_the_tree() as tree:
        for mutant in chosen:  # before anything takes time
            mutant.check(tree)
        results = [_try(mutant, tree, environment) for mutant in chosen]
    return 0 if all(results) else 1


def _try(mutant: Mutant, tree: Path, environment: dict[str, str]) -> bool:
    started = time.monotonic()
    code_without, said_without = _run_test(mutant, tree, environment)
    with mutant.applied(tree):
        code_with, said_with = _run_test(mutant, tree, environment)
    killed = code_without == 0 and code_with == PYTEST_FAILED
    result = {
        "mutant": mutant.name,
        "invariant": mutant.invariant,
        "test": mutant.test,
        "without": _word(code_without),
        "with": _word(code_with),
        "killed": killed,
        "because": next((line[1:].strip() for line in said_with.splitlines() if line.startswith("E ")), "")[
            :300
        ],
        "seconds": round(time.monotonic() - started, 1),
    }
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    if not killed:
        sys.stderr.write((said_without if code_without else said_with)[-3000:] + "\n")
    return killed


def _word(code: int) -> str:
    return {0: "green", PYTEST_FAILED: "red"}.get(code, f"pytest ended with {code}")


def _run_test(mutant: Mutant, tree: Path, environment: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", mutant.test],
        cwd=tree,
        env={**os.environ, **environment, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@contextmanager
def _copy_of_the_tree() -> Iterator[Path]:
    """The Python files as they are now, committed or not."""
    with tempfile.TemporaryDirectory(prefix="reviewloop-mutants-") as folder:
        tree = Path(folder) / "tree"
        ignored = shutil.ignore_patterns(".*", "__pycache__", "benchmarks", "docs", "build", "dist")
        shutil.copytree(ROOT, tree, ignore=ignored)
        Path(folder).chmod(0o755)
        yield tree


@contextmanager
def _services() -> Iterator[dict[str, str]]:
    """Kafka and PostgreSQL: the ones named in the environment, else a stack for this run."""
    if KAFKA_VARIABLE in os.environ and DATABASE_VARIABLE in os.environ:
        yield {}
        return
    folder = Path(tempfile.mkdtemp(prefix="reviewloop-mutants-stack-"))
    folder.chmod(0o755)  # as root, PostgreSQL runs as another user who has to get in
    stack = Stack(folder / ".reviewloop")
    try:
        status = stack.up()
        yield {KAFKA_VARIABLE: status.kafka.bootstrap_servers, DATABASE_VARIABLE: status.postgres.url}
    finally:
        stack.delete()
        folder.rmdir()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
