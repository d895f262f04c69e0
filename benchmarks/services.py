"""A Kafka and a PostgreSQL for a benchmark: those named in the environment, else a stack of its own."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from kafka import KafkaAdminClient
from sqlalchemy import make_url

from reviewloop.local.stack import Stack

_KAFKA = "REVIEWLOOP_KAFKA__BOOTSTRAP_SERVERS"
_DATABASE = "REVIEWLOOP_DATABASE__URL"


@dataclass(frozen=True)
class Services:
    """Where they are.

    Attributes:
        bootstrap_servers: Of Kafka.
        url: Of PostgreSQL, for a user who may create databases, as SQLAlchemy takes it.
    """

    bootstrap_servers: str
    url: str

    @contextmanager
    def topic(self, partitions: int = 4) -> Iterator[str]:
        """An empty topic, deleted at the end."""
        name = f"bench-{secrets.token_hex(6)}"
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        try:
            admin.create_topics(
                {name: {"num_partitions": partitions, "replication_factor": 1}}, wait_for_metadata=True
            )
            yield name
            admin.delete_topics([name])
        finally:
            admin.close()

    @contextmanager
    def database(self, like: str | None = None) -> Iterator[str]:
        """The URL of a database, dropped at the end.

        Args:
            like: The URL of one on the same server that it is a copy of, to which nobody is connected; unset,
                it is empty.
        """
        name = f"bench_{secrets.token_hex(6)}"
        copied = f" TEMPLATE {make_url(like).database} STRATEGY file_copy" if like else ""
        with connect(self.url) as admin:
            admin.execute(f"CREATE DATABASE {name}{copied}")
            try:
                yield make_url(self.url).set(database=name).render_as_string(hide_password=False)
            finally:
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def connect(url: str) -> "psycopg.Connection[tuple[object, ...]]":
    """A connection past the product's own, without transactions."""
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(address, autocommit=True, options="-c TimeZone=UTC")


@contextmanager
def open_services() -> Iterator[Services]:
    """The services of the environment, else a local stack in a temporary folder, removed at the end."""
    named = os.environ.get(_KAFKA), os.environ.get(_DATABASE)
    if named[0] and named[1]:
        yield Services(named[0], named[1])
        return
    folder = Path(tempfile.mkdtemp(prefix="reviewloop-bench-"))
    folder.chmod(0o755)  # as root, PostgreSQL runs as another user who has to get in
    stack = Stack(folder / ".reviewloop")
    try:
        status = stack.up()
        yield Services(status.kafka.bootstrap_servers, status.postgres.url)
    finally:
        stack.delete()
        folder.rmdir()
