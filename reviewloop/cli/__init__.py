"""The command line: one command a file, each importing what it needs when it runs."""

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

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


def _say_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"reviewloop {version('reviewloop')}\n")
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
    try:
        app()
    except ReviewLoopError as err:
        if os.environ.get(_DEBUG_VARIABLE):
            raise
        sys.stderr.write(f"Error: {err}\n")
        sys.exit(2 if isinstance(err, WrongUse) else 1)
    except BrokenPipeError:
        # Whoever read our output has seen enough; without this, the interpreter complains at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
