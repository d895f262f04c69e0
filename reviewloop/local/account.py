"""Whom the services run as when root starts the stack: PostgreSQL refuses root."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reviewloop.local.errors import StackError

UNPRIVILEGED_USER = "nobody"


@dataclass(frozen=True)
class Account:
    """A user that processes can be started as."""

    uid: int
    gid: int


def service_account() -> Account | None:
    """The account for services that refuse root; None when the calling user is not root.

    Raises:
        StackError: Root calls, and there is no unprivileged user.
    """
    if os.geteuid() != 0:
        return None
    import pwd

    try:
        entry = pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError as err:
        raise StackError(
            f"PostgreSQL refuses to run as root, and this system has no user {UNPRIVILEGED_USER!r} "
            "to run it as: start the stack as an ordinary user."
        ) from err
    return Account(entry.pw_uid, entry.pw_gid)


def require_named_user() -> None:
    """Refuse a calling user that the system has no name for.

    Raises:
        StackError: There is no name, as in a container that was started with a bare user number.
    """
    import pwd

    try:
        pwd.getpwuid(os.geteuid())
    except KeyError as err:
        raise StackError(
            f"PostgreSQL needs a user with a name, and there is none for user number {os.geteuid()} here: "
            "use a named user, or add a line for it to /etc/passwd."
        ) from err


def run_as(account: Account | None) -> dict[str, Any]:
    """Arguments for `subprocess.run` that start a child as `account`; none for the calling user."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def can_enter(account: Account | None, folder: Path) -> bool:
    """Whether `account` may pass through `folder`, which exists: asked of the system, so ACLs count."""
    probe = ["/bin/sh", "-c", 'test -x "$1"', "sh", str(folder)]
    return subprocess.run(probe, check=False, cwd="/", **run_as(account)).returncode == 0


def give(account: Account | None, *paths: Path) -> None:
    """Make `account` the owner of `paths`; nothing for the calling user's own.

    Raises:
        StackError: The system does not let root give files away, as in some containers.
    """
    if account is None:
        return
    for path in paths:
        try:
            os.chown(path, account.uid, account.gid)
        except OSError as err:
            raise StackError(
                f"Root may not hand {path} to the user {UNPRIVILEGED_USER!r} here ({err.strerror}): "
                "start the stack as an ordinary user."
            ) from err
