"""The command line: one command a file, each importing what it needs when it runs."""

import errno
import os
import sys
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from traceback import format_exception
from types import TracebackType
from typing import Annotated, NoReturn

import typer

from reviewloop.cli import (
    adapters,
    config,
    consume,
    data,
    db,
    dead_letters,
    demo,
    doctor,
    drift,
    label,
    local,
    offsets,
    publish,
    query,
    topics,
)
from reviewloop.cli.compare import compare
from reviewloop.cli.flags import EITHER
from reviewloop.cli.init import init
from reviewloop.cli.predict import predict
from reviewloop.cli.rescore import rescore
from reviewloop.cli.simulate import simulate
from reviewloop.cli.sweep import sweep
from reviewloop.cli.train import train
from reviewloop.cli.trainer import app as trainer_app
from reviewloop.visible import one_line, say
from reviews.errors import ReviewLoopError, WrongUse

app = typer.Typer(
    name="reviewloop",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Reviews from Kafka, scored by a LoRA-adapted transformer, as rows in PostgreSQL.",
)
app.command()(demo.demo)
app.add_typer(local.app, name="local")
app.add_typer(db.app, name="db")
app.add_typer(topics.app, name="topics")
app.command()(publish.publish)
app.command()(consume.consume)
app.command()(query.query)
app.command()(rescore)
app.command()(predict)
app.command()(init)
app.add_typer(data.app, name="data", context_settings=EITHER)
app.command(context_settings=EITHER)(train)
app.command(context_settings=EITHER)(sweep)
app.command(context_settings=EITHER)(compare)
app.command(context_settings=EITHER)(simulate)
app.add_typer(adapters.app, name="adapters")
app.add_typer(label.app, name="label")
app.add_typer(trainer_app, name="trainer")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(offsets.app, name="offsets")
app.add_typer(drift.app, name="drift")
app.add_typer(config.app, name="config")
app.command()(doctor.doctor)

_DEBUG_VARIABLE = "REVIEWLOOP_DEBUG"
_FULL = {errno.ENOSPC, errno.EDQUOT}


def _say_version(asked: bool) -> None:
    if asked:
        say(f"reviewloop {version('reviewloop')}")
        raise typer.Exit


@app.callback()
def options(
    *,
    config_file: Annotated[
        Path | None, typer.Option("--config", help="Settings file; unset, reviewloop.toml of this folder.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and detailed logs.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Reviews from Kafka, scored by a LoRA-adapted transformer, as rows in PostgreSQL."""
    # Through the environment, so that worker processes inherit both.
    if config_file is not None:
        os.environ["REVIEWLOOP_CONFIG"] = str(config_file)
    if debug:
        os.environ[_DEBUG_VARIABLE] = "1"


def main() -> None:
    """Run one command: exit code 0 done, 1 failed, 2 wrong use; errors are one line, no traceback."""
    sys.excepthook = _print_traceback
    _prepare_streams()
    try:
        code = app(prog_name="reviewloop", standalone_mode=False)
        sys.stdout.flush()
    except typer.Abort:
        _fail("Nothing was done: the question was not answered.", 1)
    except typer.TyperException as err:
        _fail(_in_one_line(err), err.exit_code)
    except ReviewLoopError as err:
        if os.environ.get(_DEBUG_VARIABLE):
            raise
        _fail(str(err), 2 if isinstance(err, WrongUse) else 1)
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        _forget_output()
        sys.exit(1)
    except OSError as err:
        if err.errno not in _FULL:
            raise
        _forget_output()
        _fail(f"{err.filename or 'The output'} cannot be written: {err.strerror}.", 1)
    sys.exit(code)


def _prepare_streams() -> None:
    """Make sure that whatever is said can be written.

    A terminal keeps its encoding, and what that lacks becomes an escape; what is not a terminal gets UTF-8,
    as JSON is, whatever the locale. A stream that was closed before we came takes everything.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  to the end
        elif isinstance(stream, TextIOWrapper):
            encoding = stream.encoding if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


def _forget_output() -> None:
    """Drop what is still to be written; without this, the interpreter complains at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> NoReturn:
    if message:
        say(f"Error: {message}", err=True)
    sys.exit(code)


def _in_one_line(err: typer.TyperException) -> str:
    """What was wrong with the command line, and where its help is; nothing where help was printed instead."""
    message = one_line(err.format_message()).replace("Value error, ", "", 1)  # pydantic's word, of enums
    if not message:
        return ""
    context = getattr(err, "ctx", None)
    more = f" See '{context.command_path} --help'." if context is not None else ""
    return message + ("" if message.endswith((".", "?")) else ".") + more


def _print_traceback(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """An error that nobody foresaw; its message may hold a stranger's text."""
    say("".join(format_exception(kind, error, traceback)).rstrip("\n"), err=True)
