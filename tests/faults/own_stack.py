"""A Kafka and a PostgreSQL that a test may kill."""

import os
import secrets
import signal
import tempfile
import time
from contextlib import closing
from pathlib import Path

import psycopg
from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from pydantic import SecretStr
from sqlalchemy import make_url

from reviewloop.local.stack import Stack
from storage.database import Database
from storage.migrate import upgrade
from storage.settings import DatabaseSettings
from tests.faults.scene import Scene


class OwnStack:
    """A local stack whose services are killed with SIGKILL and started again on their data and ports."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="reviewloop-faults-"))
        self._folder.chmod(0o755)  # as root, PostgreSQL runs as another user who has to get in
        self._stack = Stack(self._folder / ".reviewloop")
        self.start()

    def start(self) -> None:
        """Start what does not run."""
        status = self._stack.up()
        self.bootstrap = status.kafka.bootstrap_servers
        self.url = status.postgres.url

    def kill_kafka(self) -> None:
        os.kill(self._stack.status().kafka.pid, signal.SIGKILL)
        while self._stack.status().kafka.pid is not None:
            time.sleep(0.01)

    def kill_postgres(self) -> None:
        """Kill the postmaster; its children end when they notice."""
        os.kill(self._stack.status().postgres.pid, signal.SIGKILL)
        while self._stack.status().postgres.pid is not None:
            time.sleep(0.01)

    def scene(self, folder: Path, partitions: int = 3) -> Scene:
        """A stream with a topic and a database of its own here."""
        topic = f"killed-{secrets.token_hex(4)}"
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            admin.create_topics([NewTopic(topic, partitions, 1)])
        finally:
            admin.close()
        url = make_url(self.url)
        name = topic.replace("-", "_")
        address = url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        own = url.set(database=name).render_as_string(hide_password=False)
        with closing(Database(DatabaseSettings(url=SecretStr(own)))) as database:
            upgrade(database)
        return Scene(self.bootstrap, own, topic, folder)

    def delete(self) -> None:
        """Stop and remove everything; Kafka's orderly end would take seconds and serve nobody."""
        if self._stack.status().kafka.pid is not None:
            self.kill_kafka()
        self._stack.delete()
        self._folder.rmdir()
