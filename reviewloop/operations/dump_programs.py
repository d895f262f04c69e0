"""PostgreSQL's own ``pg_dump`` and ``pg_restore``: where they are, and how they are run."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from reviewloop.local.places import StackError
from reviewloop.local.postgres import packaged_installations
from reviewloop.terminal import one_line
from reviews.errors import ReviewLoopError, WrongUse, describe_exit
from storage.backup import DumpAddress

_ELSEWHERE = ("/usr/lib/postgresql", "/usr/local/pgsql", "/opt/homebrew/opt")
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
_ANSWER_SECONDS = 30
_MOST_SAID = 500


class DumpPrograms(NamedTuple):
    """The two programs of one PostgreSQL.

    Attributes:
        major: Its major version.
        folder: Where they are.
    """

    major: int
    folder: Path


def find_programs(server: int) -> DumpPrograms:
    """The oldest programs that know this server: newer ones write what an older server does not take.

    They are looked for on PATH, where Linux distributions and Homebrew put them, and in the package of the
    local stack.

    Args:
        server: PostgreSQL's major version there.

    Raises:
        WrongUse: If there are none, or all are older than the server.
    """
    found = {folder: major for folder in _folders() if (major := _major_of(folder)) is not None}
    fitting = [DumpPrograms(major, folder) for folder, major in found.items() if major >= server]
    if fitting:
        return min(fitting, key=lambda one: one.major)
    there = ", ".join(str(major) for major in sorted(set(found.values())))
    raise WrongUse(
        f"This needs pg_dump and pg_restore of PostgreSQL {server} or newer; "
        + (f"here is {there} alone" if there else "there are none on PATH")
        + f": install PostgreSQL's client programs (on Debian: postgresql-client-{server})."
    )


def _folders() -> Iterator[Path]:
    on_path = shutil.which("pg_dump")
    if on_path is not None:
        yield Path(on_path).parent
    for place in map(Path, _ELSEWHERE):
        yield from (program.parent for program in sorted(place.glob("**/bin/pg_dump")))
    try:
        yield from (folder / "bin" for folder in packaged_installations().values())
    except StackError:  # the extra is not installed
        return


def _major_of(folder: Path) -> int | None:
    """Their major version; None where not both are there and run."""
    try:
        said = [
            subprocess.run(
                [str(folder / name), "--version"],
                capture_output=True,
                text=True,
                timeout=_ANSWER_SECONDS,
                check=True,
            ).stdout
            for name in ("pg_dump", "pg_restore")
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    majors = {int(match[1]) for one in said if (match := _VERSION.search(one))}
    return majors.pop() if len(majors) == 1 else None


def dump(programs: DumpPrograms, address: DumpAddress, snapshot: str, file: Path) -> None:
    """Write all of a database to a file in PostgreSQL's custom format, compressed.

    Args:
        programs: What runs.
        address: The server that has the snapshot.
        snapshot: What is written is as of this.
        file: Which; it must not exist.

    Raises:
        ReviewLoopError: If the program fails, with what it said.
    """
    options = ["--format=custom", f"--snapshot={snapshot}", "--no-password", f"--file={file}"]
    _run(programs.folder / "pg_dump", options, address)


def load(programs: DumpPrograms, address: DumpAddress, file: Path) -> None:
    """Restore a dump into an empty database, all of it or nothing.

    Owners and privileges are left out: roles may be others here.

    Raises:
        ReviewLoopError: If the program fails, with what it said; the database is as empty as before.
    """
    options = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", "--no-password"]
    _run(programs.folder / "pg_restore", [*options, str(file)], address)


def list_dump(programs: DumpPrograms, file: Path) -> None:
    """Read a dump's table of contents.

    Raises:
        ReviewLoopError: If it has none that these programs can read.
    """
    _require_done(programs.folder / "pg_restore", ["--list", f"--file={os.devnull}", str(file)], {})


def _run(program: Path, options: Sequence[str], address: DumpAddress) -> None:
    # The password is not in the arguments, which other users of the machine can see.
    secret = {"PGPASSWORD": address.password} if address.password else {}
    _require_done(program, [f"--dbname={address.conninfo}", *options], secret)


def _require_done(program: Path, arguments: Sequence[str], secret: dict[str, str]) -> None:
    done = subprocess.run(
        [str(program), *arguments],
        env={**os.environ, "LC_ALL": "C", **secret},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        said = one_line(done.stderr.decode("utf-8", "replace"))[:_MOST_SAID]
        raise ReviewLoopError(
            f"{program.name} failed ({describe_exit(done.returncode)}): {said or 'it said nothing'}."
        )
