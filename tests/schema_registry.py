"""A real schema registry for tests: one that a test run shares, and one that a test may kill."""

import json
import os
import shutil
import signal
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import psutil
from filelock import FileLock

from reviewloop.local.registry import Registry
from reviewloop.local.stack import start_services, stop_services
from reviewloop.local.state import REGISTRY_PATH, ServiceState, StackState, read_state, write_state

PREFIX = "reviewloop-registry-"
_NEW = StackState(ServiceState((0, 0), ""), ServiceState((0,), ""), "", ServiceState((0, 0), "registry"))


class OwnRegistry:
    """A registry in a folder; its process may be killed, and starts again on its data and ports."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._services = {"registry": Registry(folder / "registry", folder / "registry.log")}

    @property
    def url(self) -> str:
        """Of Confluent's API."""
        return f"http://{self._state().service('registry').address}{REGISTRY_PATH}"

    def start(self) -> None:
        """Start it where it does not run."""
        start_services(self._services, self._state(), self._save, lambda _: None)

    def kill(self) -> None:
        """End it without a chance to say anything."""
        pid = self._state().service("registry").pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        while self._state().service("registry").pid is not None:
            time.sleep(0.01)

    def delete(self) -> None:
        """Stop it and remove its folder."""
        stop_services(self._services, self._state(), self._save)
        shutil.rmtree(self._folder)

    def _state(self) -> StackState:
        return read_state(self._folder) or _NEW

    def _save(self, state: StackState) -> None:
        write_state(self._folder, state)


@contextmanager
def shared_registry(run: str) -> Iterator[str]:
    """The URL of the registry of a test run: the first process to need it starts it, the last one stops it.

    Args:
        run: The same for all processes of a run.
    """
    folder = Path(tempfile.gettempdir()) / f"{PREFIX}{run}"
    lock = FileLock(Path(tempfile.gettempdir()) / "reviewloop-registries.lock")
    own = folder / "users" / str(os.getpid())
    with lock:
        _remove_forgotten(folder)
        own.parent.mkdir(parents=True, exist_ok=True)
        own.touch()
        registry = OwnRegistry(folder)
        registry.start()
    try:
        yield registry.url
    finally:
        with lock:
            own.unlink()
            if not _users(folder):
                registry.delete()


def _remove_forgotten(current: Path) -> None:
    """Stop the registries whose users were all killed before they could do so."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        is_own = folder.is_dir() and folder.stat().st_uid == os.geteuid()
        if is_own and folder != current and not _users(folder):
            OwnRegistry(folder).delete()


def _users(folder: Path) -> list[str]:
    users = folder / "users"
    return (
        [path.name for path in users.iterdir() if psutil.pid_exists(int(path.name))] if users.exists() else []
    )


def register(
    url: str, subject: str, schema: Any, kind: str = "AVRO", references: Sequence[dict[str, Any]] = ()
) -> int:
    """Register a schema; its id.

    Args:
        url: Of the registry.
        subject: Its subject.
        schema: A text, or what becomes JSON.
        kind: ``AVRO``, ``PROTOBUF`` or ``JSON``.
        references: Name, subject and version of each schema that it uses.
    """
    text = schema if isinstance(schema, str) else json.dumps(schema)
    body = {"schema": text, "schemaType": kind, "references": list(references)}
    request = Request(  # noqa: S310  the registry of the test
        f"{url}/subjects/{quote(subject, safe='')}/versions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
        method="POST",
    )
    with urlopen(request, timeout=60) as answer:  # noqa: S310  the same
        return int(json.loads(answer.read())["id"])


def base64_of(serialised: bytes) -> str:
    """A serialised file as Confluent's Python client registers it."""
    return b64encode(serialised).decode("ascii")
