"""Where the stack of a folder lives, and where downloads are kept for all stacks of a user."""

import os
import sys
from pathlib import Path

from reviewloop.local.errors import StackError

STACK_FOLDER = ".reviewloop"
STATE_FILE = "stack.json"


def stack_directory(start: Path | None = None) -> Path:
    """The stack's folder for `start`: that of the nearest parent that has one, else a new one in `start`.

    Args:
        start: Where to look first; the current folder by default.
    """
    start = (start or Path.cwd()).resolve()
    return existing_stack_directory(start) or start / STACK_FOLDER


def existing_stack_directory(start: Path) -> Path | None:
    """The nearest stack's folder in `start` or above it that belongs to this user; None where there is none.

    A state file names a database that commands connect to, so one that another user planted in a
    shared parent such as ``/tmp`` must not be followed.
    """
    for folder in (start, *start.parents):
        candidate = folder / STACK_FOLDER
        try:
            owner = (candidate / STATE_FILE).stat().st_uid
        except OSError:
            continue
        if owner == os.geteuid():
            return candidate
    return None


def cache_directory() -> Path:
    """The user's cache folder for ReviewLoop (it may not exist yet).

    Raises:
        StackError: The home directory is not known.
    """
    configured = os.environ.get("XDG_CACHE_HOME", "")
    if configured and Path(configured).is_absolute():
        return Path(configured) / "reviewloop"
    try:
        home = Path.home()
    except RuntimeError as err:
        raise StackError("The home directory is not known: set HOME or XDG_CACHE_HOME to a folder.") from err
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "reviewloop"
