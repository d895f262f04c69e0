"""The real commands, with everything that they print."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.integration.system import System, make_environment


class Outcome(NamedTuple):
    """How a command ended, and all that it printed."""

    code: int
    printed: str


def command(folder: Path, settings: Mapping[str, str], *arguments: str) -> Outcome:
    """Run one command with these settings alone."""
    done = subprocess.run(
        System.command(*arguments),
        env=make_environment(**settings),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
        check=False,
    )
    return Outcome(done.returncode, done.stdout)


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
