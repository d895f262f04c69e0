"""Structured logs on standard error: readable on a terminal, JSON lines elsewhere."""

import json
import logging
import os
import sys
from pathlib import Path

import structlog
from structlog.typing import EventDict, Processor

from reviewloop import DEBUG_VARIABLE
from reviewloop.local.process import last_lines
from reviews.sanitise import sanitise


def configure_logging(*, quiet: bool = False, worker: str | None = None) -> None:
    """Set up logging for a long-running command. Events never hold review texts or secrets.

    Args:
        quiet: Log only warnings and errors.
        worker: Which of several workers this process is; each of its events says so.
    """
    debug = bool(os.environ.get(DEBUG_VARIABLE))
    level = logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _naming(worker),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *_renderers(is_terminal=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Asked for with each event, so that a replaced stderr is followed.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # kafka-python repeats a lost connection many times a second; the worker logs what matters of it.
    logging.getLogger("kafka").setLevel(logging.DEBUG if debug else logging.CRITICAL)


def keep_logs_out_of_output() -> None:
    """Warnings to standard error, unless logging is set up: structlog alone prints to the output."""
    if not structlog.is_configured():
        configure_logging(quiet=True)


def _naming(worker: str | None) -> Processor:
    """Adds the worker to events of every thread; context variables would reach the first one alone."""

    def name(_logger: object, _method: str, event: EventDict) -> EventDict:
        return event if worker is None else {**event, "worker": worker}

    return name


def _renderers(*, is_terminal: bool) -> list[Processor]:
    if is_terminal:
        return [_make_visible, structlog.dev.ConsoleRenderer()]
    return [structlog.processors.JSONRenderer()]


def _make_visible(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Errors of services and names from messages reach the log: on a terminal they are sanitised."""
    return {name: sanitise(value) if isinstance(value, str) else value for name, value in event.items()}


def last_entries(log_file: Path) -> str:
    """The end of a log as people read it: events as words, whatever else was written as it is; indented."""
    return "\n".join(f"  {_in_words(line.strip())}" for line in last_lines(log_file).splitlines())


def _in_words(line: str) -> str:
    try:
        event = json.loads(line)
        name, level, moment = event.pop("event"), event.pop("level"), event.pop("timestamp")
    except (ValueError, KeyError, AttributeError, TypeError):
        return line
    return " ".join([moment[11:19], level, name, *(f"{key}={value}" for key, value in event.items())])
