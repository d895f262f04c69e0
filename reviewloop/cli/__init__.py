"""The command line: one command a file, each importing what it needs when it runs."""

import errno
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from traceback import format_exception
from types import TracebackType
from typing import Annotated, ClassVar, NoReturn

import typer

from reviewloop import DEBUG_VARIABLE
from reviewloop.cli.lazy import LazyGroup
from reviewloop.terminal import one_line, say
from reviews.errors import ReviewLoopError, WrongUse

_SUMMARY = "Reviews from Kafka, scored by a LoRA-adapted transformer, as rows in PostgreSQL."


class _Commands(LazyGroup):
    package = "reviewloop.cli"
    logs = "reviewloop.operations.logs"
    summaries: ClassVar = {
        "demo": "Publish, score and query the bundled reviews on a local Kafka and PostgreSQL.",
        "up": "Run everything for one machine, in one terminal, until Ctrl-C.",
        "local": "A real Kafka and PostgreSQL for this folder, without Docker.",
        "db": "The schema of the database, and who may do what with it.",
        "topics": "The topics that the system reads and writes.",
        "sources": "Topics of other shapes: what is read from their records.",
        "publish": "Publish reviews from a file.",
        "consume": "Score reviews as they are published, and take labels in.",
        "query": "Look at scored reviews: the current version of each, the latest scored first.",
        "forget": "Erase reviews and every copy in the database, and show the receipts.",
        "export": "Write what is new of reviews, predictions, labels and withdrawals to a data lake.",
        "backup": "Write all of the database into a directory, with a manifest to check it by.",
        "restore": "Restore a backup into an empty database, and erase again what was erased since.",
        "rescore": "Score stored reviews with another adapter, without disturbing the live stream.",
        "predict": "Label texts: label, confidence and the probability of each class.",
        "init": "Make a project: settings, a recipe, and the bundled reviews, split.",
        "data": "Labelled rows in files, and how long stored data is kept.",
        "train": "Fit an adapter on labelled texts.",
        "sweep": "Fit every combination of options.",
        "compare": "Fit an adapter, the whole model and a linear model on the same rows.",
        "simulate": "Replay labelled files as a stream: learning curves, labels saved, drift alarms.",
        "adapters": "The registry of adapters, and their activations.",
        "label": "What people say of reviews. Without a command: label at the terminal, key by key.",
        "task": "The labels of a task, and how they change.",
        "label-studio": "Label Studio: predictions and reviews there, annotations back.",
        "trainer": "Labels in, better adapters out: every night, or now.",
        "mlflow": "Mirror runs and adapters to MLflow now; 'trainer schedule' does it by itself.",
        "dead-letters": "Records that could not become reviews or labels, and why.",
        "offsets": "The stored offset of each partition.",
        "sink": "Scored rows, published to topics of their own.",
        "drift": "Whether the stream is still what the adapter was promoted for.",
        "console": "The console: pages for browsers over the same tables. Without a command: serve it.",
        "config": "The settings in effect, and what each of them does.",
        "doctor": "Is everything there that a worker needs?",
    }


app = typer.Typer(
    name="reviewloop",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # `--train_file` is `--train-file`: scripts around Hugging Face write underscores. Help shows dashes.
    context_settings={"token_normalize_func": lambda token: token.replace("_", "-")},
    help=_SUMMARY,
)

_FULL = {errno.ENOSPC, errno.EDQUOT}


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # noqa: PLC0415  a fifth of the time of --help

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
        os.environ[DEBUG_VARIABLE] = "1"


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
        if os.environ.get(DEBUG_VARIABLE):
            raise
        _fail(str(err), 2 if isinstance(err, WrongUse) else 1)
    except BrokenPipeError:
        # The reader of our output has seen enough.
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
    """An unexpected error; its message may hold text from outside."""
    say("".join(format_exception(kind, error, traceback)).rstrip("\n"), err=True)
