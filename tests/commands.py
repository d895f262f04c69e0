"""The real commands, each in a process of its own, forked from one that has imported the libraries already.

PyTorch, transformers and peft take five seconds of processor time to import, a fork some milliseconds. The
first command of a session starts the process that is forked; it has one thread, and nothing but imports has
run in it.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
FORKS = hasattr(os, "pidfd_open")  # Linux; elsewhere each command is a new interpreter

_LIBRARIES = (
    "peft",
    "safetensors.torch",
    "sklearn.linear_model",
    "sklearn.metrics",
    "scipy.stats",
    "transformers.models.bert.modeling_bert",
    "transformers.models.roberta.modeling_roberta",
)
_LENGTH = struct.Struct(">I")
_STARTING = threading.Lock()


class Command:
    """A running command, to be used as a `subprocess.Popen`.

    Args:
        arguments: Behind ``reviewloop``.
        env: Its whole environment.
        cwd: Its working directory.
        files: Standard input, output and error.
    """

    def __init__(
        self, arguments: Sequence[object], env: Mapping[str, str], cwd: Path, files: Sequence[IO[Any]]
    ) -> None:
        self.arguments = ["reviewloop", *map(str, arguments)]
        self.returncode: int | None = None
        request = json.dumps([self.arguments, dict(env), str(cwd)]).encode()
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(_address())
        socket.send_fds(self._connection, [_LENGTH.pack(len(request))], [file.fileno() for file in files])
        self._connection.sendall(request)
        (self.pid,) = _LENGTH.unpack(_receive(self._connection, _LENGTH.size))

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        try:
            return self.wait(timeout=0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, negative for a signal."""
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._connection, selectors.EVENT_READ)
                if not selector.select(timeout):
                    raise subprocess.TimeoutExpired(self.arguments, timeout or 0)
            status = _LENGTH.unpack(_receive(self._connection, _LENGTH.size))[0]
            self.returncode = os.waitstatus_to_exitcode(status)
            self._connection.close()
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Running = Command | subprocess.Popen[bytes]


def start(
    *arguments: object,
    env: Mapping[str, str],
    cwd: Path | None = None,
    stdin: IO[Any] | None = None,
    stdout: IO[Any] | None = None,
    stderr: IO[Any] | None = None,
) -> Running:
    """A command that runs beside the test.

    Without other files it reads nothing, and standard error goes where standard output goes: to nobody.
    """
    with Path(os.devnull).open("r+b") as nothing:
        files = (stdin or nothing, stdout or nothing, stderr or stdout or nothing)
        if FORKS:
            return Command(arguments, env, cwd or Path.cwd(), files)
        given, out, err = files
        return subprocess.Popen(command(*arguments), env=env, cwd=cwd, stdin=given, stdout=out, stderr=err)


def run(
    *arguments: object,
    env: Mapping[str, str],
    cwd: Path | None = None,
    input_text: str = "",
    timeout: float = 180,
) -> "subprocess.CompletedProcess[str]":
    """A command that has ended, with all that it printed."""
    new = tempfile.TemporaryFile
    with new() as given, new() as stdout, new() as stderr:
        given.write(input_text.encode())
        given.seek(0)
        process = start(*arguments, env=env, cwd=cwd, stdin=given, stdout=stdout, stderr=stderr)
        try:
            code = process.wait(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        printed = []
        for file in (stdout, stderr):
            file.seek(0)
            printed.append(file.read().decode())
    return subprocess.CompletedProcess(command(*arguments), code, *printed)


def command(*arguments: object) -> list[str]:
    """The command line of a new interpreter."""
    return [sys.executable, "-W", "ignore", "-m", "reviewloop", *map(str, arguments)]


def _address() -> str:
    """Where the process listens that commands are forked from; the first to ask starts it."""
    with _STARTING:
        return _start_server()


@functools.cache
def _start_server() -> str:
    address = str(Path(tempfile.mkdtemp(prefix="reviewloop-commands-")) / "socket")
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.commands", address],
        env={**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    atexit.register(_end_of_session, process)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return address


def _end_of_session(process: "subprocess.Popen[bytes]") -> None:
    process.communicate()  # it ends with its standard input


def _receive(connection: socket.socket, count: int) -> bytes:
    content = b""
    while len(content) < count:
        part = connection.recv(count - len(content))
        if not part:
            raise ConnectionError("the process that commands are forked from has ended")
        content += part
    return content


def _serve(address: str) -> tuple[list[str], dict[str, str], str]:
    """Fork for every request; returns it, in the new process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which then ends this process
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    selector = selectors.DefaultSelector()
    for source in (listener, sys.stdin):
        selector.register(source, selectors.EVENT_READ)
    os.write(1, b"ready\n")
    while True:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                Path(address).unlink()
                Path(address).parent.rmdir()
                os._exit(0)
            elif key.fileobj is listener:
                connection, _ = listener.accept()
                length, files, _, _ = socket.recv_fds(connection, _LENGTH.size, 3)
                request = json.loads(_receive(connection, *_LENGTH.unpack(length)))
                pid = os.fork()
                if pid == 0:
                    _become(files)
                    return request
                for file in files:
                    os.close(file)
                connection.sendall(_LENGTH.pack(pid))
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, connection))
            else:
                pid, connection = key.data
                _, status = os.waitpid(pid, 0)
                selector.unregister(key.fileobj)
                os.close(key.fd)
                with contextlib.suppress(BrokenPipeError):  # a test that did not wait for it
                    connection.sendall(_LENGTH.pack(status))
                connection.close()


def _become(files: Sequence[int]) -> None:
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.closerange(3, 1024)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _import_everything() -> None:
    from reviewloop import cli

    for name in _LIBRARIES:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(cli.__path__, "reviewloop.cli."):
        importlib.import_module(module.name)


def _end(error: BaseException | None) -> None:
    """End as an interpreter does, but leave the memory to the system: tearing it down takes a second."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    _import_everything()
    gc.collect()
    gc.freeze()  # else each command's collections would copy all of it
    sys.argv, environment, folder = _serve(sys.argv[1])
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    from reviewloop.cli import main

    try:
        main()
    except BaseException as err:  # noqa: BLE001  the last thing that happens
        _end(err)
    _end(None)
