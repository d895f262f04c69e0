"""``reviewloop up``: everything for one machine in one terminal, until Ctrl-C."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from reviewloop.cli.consume import stop_seconds
from reviewloop.cli.running import on_signals
from reviewloop.demo.run import activate_demo_adapter
from reviewloop.local.places import stack_directory
from reviewloop.local.stack import Stack
from reviewloop.operations.logs import configure_logging, last_entries
from reviewloop.operations.one_machine import (
    MachinePart,
    MachineParts,
    alone,
    begin_with_zero_shot,
    prepare,
    require_free_port,
    tasks_without_adapter,
)
from reviewloop.operations.supervisor import Child, Notices, Supervisor
from reviewloop.settings import Overrides, Settings, load_settings, origins
from reviewloop.terminal import folded
from reviewloop.wiring.console import local_link
from reviewloop.wiring.registry import open_database
from reviews.errors import ReviewLoopError
from reviews.sanitise import sanitise
from storage.adapters.registry import AdapterStore

_TITLE_WIDTH = 13
_NO_ADAPTER = (
    "no adapter is active for {tasks}: 'reviewloop adapters add DIR --activate' brings one; "
    "'reviewloop up --demo' begins with the bundled one"
)


def up(
    *,
    demo: Annotated[
        bool,
        typer.Option(
            "--demo", help="Begin with the bundled adapter, and publish the bundled reviews, one a second."
        ),
    ] = False,
    port: Annotated[int | None, typer.Option(help="Of the console; unset, console.port.")] = None,
) -> None:
    """Run everything for one machine, in one terminal, until Ctrl-C.

    That is a worker, the schedule of training runs, the drift watch, the console, and the configured sinks.
    A task without an adapter begins with a zero-shot one, made from descriptions of its labels.
    Where no services are configured, a local Kafka and PostgreSQL are started, and stopped at the end; their
    data stays. A part that dies is started again. Ctrl-C finishes what is in hand; a second one does not wait
    for it.
    """
    configure_logging(quiet=True)
    given: Overrides = {"console": {"port": port}}
    directory, screen, settings = stack_directory(), _Screen(), load_settings(given)
    try:
        with (
            _terminated_like_interrupted(),
            alone(directory, settings.console.url),
            screen,
            _services(settings, given, directory, screen) as (found, is_local),
        ):
            _run(found, directory, screen, demo=demo, is_local=is_local)
    except KeyboardInterrupt:
        raise ReviewLoopError("Interrupted at the start: what had been started is stopped again.") from None


def _run(settings: Settings, directory: Path, screen: "_Screen", *, demo: bool, is_local: bool) -> None:
    with open_database(settings) as database:
        screen.wait_for("the schema and the topics")
        screen.line("Schema", f"revision {prepare(settings, database, is_local=is_local)}")
        store = AdapterStore(database)
        if demo:
            activate_demo_adapter(settings, store, lambda text: screen.line("", text))
        for task in tasks_without_adapter(settings, store):
            screen.wait_for(f"the zero-shot adapter of the task '{task}'")
            screen.line("Adapter", begin_with_zero_shot(task))
        _show_adapters(settings, store, screen)
        logs = directory / "logs"
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = MachineParts(settings, store, logs)
        console = made.console()
        if console is None:
            screen.line("Console", "is not installed: pip install 'reviewloop[console]' adds it")
        parts = [
            console,
            made.schedule(),
            *made.drift_watches(),
            made.worker(),
            made.sink(),
            made.demo() if demo else None,
        ]
        watch = _Watch([part for part in parts if part is not None], screen, logs)
        if console is not None:
            # Made at the end: the console, as it starts, makes a link as well, and only the latest one works.
            watch.address = lambda: settings.console.url + (local_link(database) or "/")
        _supervise(settings, watch)


def _supervise(settings: Settings, watch: "_Watch") -> None:
    stopping, at_once = threading.Event(), threading.Event()
    supervisor = Supervisor(
        [part.child for part in watch.parts],
        stopping,
        stop_seconds=stop_seconds(settings),
        look=watch.look,
        at_once=at_once,
        notices=watch,
    )
    with on_signals(stopping, at_once, also=(signal.SIGHUP,)):
        supervisor.run()


def _show_adapters(settings: Settings, store: AdapterStore, screen: "_Screen") -> None:
    for task in settings.consumer.tasks:
        active = store.active(task)
        if active is not None:
            screen.line(
                "Adapter", f"{active.version} is active since {active.activated_at:%Y-%m-%d %H:%M} UTC"
            )
    if missing := tasks_without_adapter(settings, store):
        screen.line("Adapter", _NO_ADAPTER.format(tasks=", ".join(f"'{task}'" for task in missing)))


@contextmanager
def _services(
    settings: Settings, given: Overrides, directory: Path, screen: "_Screen"
) -> Iterator[tuple[Settings, bool]]:
    """The settings in effect, and whether their services are the local stack's.

    Where none are configured the stack is started, and stopped at the end unless it ran before.
    """
    require_free_port(settings)
    stack = Stack(directory)
    if settings.kafka.bootstrap_servers and settings.database.url:
        is_local = origins().get(("kafka", "bootstrap_servers")) == "local stack"
        screen.line("Kafka", f"{settings.kafka.bootstrap_servers}{' (ran already)' if is_local else ''}")
        yield settings, is_local
        return
    before = stack.status()
    try:
        status = stack.up(screen.wait_for)
        screen.line("Kafka", f"{status.kafka.bootstrap_servers} (local, log {_near(status.kafka.log)})")
        screen.line("PostgreSQL", f"{status.postgres.address} (log {_near(status.postgres.log)})")
        yield load_settings(given), True
    finally:
        if not (before.kafka.running or before.postgres.running):
            screen.wait_for("Kafka and PostgreSQL to stop")
            with _undisturbed():
                stack.down()
            screen.line("", f"Kafka and PostgreSQL are stopped; their data stays in {_near(directory)}.")


class _Watch(Notices):
    """Shows what becomes of the parts: a line when one is ready, when one dies, and when it has ended.

    Args:
        parts: All of them.
        screen: Where to.
        logs: The folder of their logs.

    Attributes:
        parts: All of them.
        address: Says where the console is to be opened, asked at the end; None without a console.
    """

    def __init__(self, parts: Sequence[MachinePart], screen: "_Screen", logs: Path) -> None:
        self.parts = parts
        self.address: Callable[[], str] | None = None
        self._screen = screen
        self._logs = logs
        self._coming = {part.child.name: part for part in parts}
        self._started: set[str] = set()
        self._is_complete = False
        self._is_stopping = False

    def look(self) -> None:
        """A line for each part that got ready since the last look; in the end for those that wait."""
        ready = [part for name, part in self._coming.items() if name in self._started and part.is_ready()]
        for part in ready:
            del self._coming[part.child.name]
            self._screen.line(part.child.name, part.does)
        starting = [part for name, part in self._coming.items() if name in self._started or not part.held]
        if starting:
            self._screen.wait_for(f"the {starting[0].child.name.lower()}")
        elif not self._is_complete:
            self._is_complete = True
            self._complete()

    def _complete(self) -> None:
        self._screen.rest()
        for name, part in self._coming.items():
            self._screen.line(name, part.held)
        self._screen.line("Logs", f"{_near(self._logs)}/*.log")
        self._screen.line("", "\nEverything runs; Ctrl-C stops it.")
        if self.address is not None:
            address = self.address()
            once = " (this link logs you in, once, within an hour)" if "/link/" in address else ""
            self._screen.line("", f"The console{once}:\n{address}")

    def started(self, child: Child, pid: int) -> None:
        """Say that a part runs again that had died."""
        if child.name in self._started:
            self._screen.line(child.name, f"is started again, process {pid}")
        self._started.add(child.name)

    def died(self, child: Child, cause: str, deaths: int, pause: float) -> None:
        """Say why, with the end of its log."""
        times = "" if deaths == 1 else f", {deaths} times in a row"
        self._screen.line(child.name, f"died ({cause}{times}); next start in {pause:.0f} s", is_bad=True)
        if child.log is not None:
            self._screen.line("", f"the end of {_near(child.log)}:\n{last_entries(child.log)}")

    def stopping(self) -> None:
        """Say that all parts were told to end."""
        self._is_stopping = True
        self._screen.rest()
        self._screen.line("", "Stopping: what is in hand is finished. Ctrl-C again does not wait for it.")

    def killed(self, child: Child) -> None:
        """Say that a part did not end in time."""
        self._screen.line(child.name, "did not end in time and was killed", is_bad=True)

    def ended(self, child: Child) -> None:
        """Say what ended well: a part that was told to stop, or whose work is done."""
        self._screen.line(child.name, "has ended" if self._is_stopping else "is done")


class _Screen:
    """Lines on standard error, each with a title; on a terminal also what is waited for."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._status = self._console.status("") if self._console.is_terminal else None

    def __enter__(self) -> "_Screen":
        return self

    def __exit__(self, *_: object) -> None:
        self.rest()

    def line(self, title: str, text: str, *, is_bad: bool = False) -> None:
        """Print a line; a closed terminal gets none, and nothing else ends for that."""
        head = (f"{sanitise(title):<{_TITLE_WIDTH}}", "bold red" if is_bad else "bold")
        with suppress(OSError):
            width = self._console.width if self._console.is_terminal else None
            shown = folded(sanitise(text), _TITLE_WIDTH, width) if title else sanitise(text)
            self._console.print(Text.assemble(head, shown) if title else Text(shown))

    def wait_for(self, what: str) -> None:
        """Show what is waited for, on a terminal."""
        if self._status is not None:
            with suppress(OSError):
                self._status.update(f"Waiting for {sanitise(what)} …")
                self._status.start()

    def rest(self) -> None:
        """Nothing is waited for any more."""
        if self._status is not None:
            with suppress(OSError):
                self._status.stop()


def _terminated_like_interrupted() -> AbstractContextManager[None]:
    """Let SIGTERM and a closed terminal end the start as Ctrl-C does: what was started is stopped again."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    return _handled((signal.SIGTERM, signal.SIGHUP), interrupt)


def _undisturbed() -> AbstractContextManager[None]:
    """Let no signal cut the end of the services short, which takes seconds and has limits of its own."""
    return _handled((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN)


@contextmanager
def _handled(numbers: Sequence[signal.Signals], handler: Any) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _near(path: Path) -> Path:
    """The path as a person in this folder would write it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
