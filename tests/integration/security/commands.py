"""The real commands, with everything that they print."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.commands import start
from tests.integration.system import make_environment


class Outcome(NamedTuple):
    """How a command ended, and all that it printed."""

    code: int
    printed: str


def command(folder: Path, settings: Mapping[str, str], *arguments: str) -> Outcome:
    """Run one command with these settings alone."""
    with tempfile.TemporaryFile() as printed:
        process = start(*arguments, env=make_environment(**settings), cwd=folder, stdout=printed)
        code = process.wait(timeout=180)
        printed.seek(0)
        return Outcome(code, printed.read().decode())


def sasl_ssl(servers: str, password: str, authority: Path) -> dict[str, str]:
    """The settings of a client with everything right."""
    return {
        "REVIEWLOOP_KAFKA__BOOTSTRAP_SERVERS": servers,
        "REVIEWLOOP_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "REVIEWLOOP_KAFKA__SASL_MECHANISM": "SCRAM-SHA-512",
        "REVIEWLOOP_KAFKA__SASL_USERNAME": "scorer",
        "REVIEWLOOP_KAFKA__SASL_PASSWORD": password,
        "REVIEWLOOP_KAFKA__SSL_CAFILE": str(authority),
    }
