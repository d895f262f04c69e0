"""A whole system for one test: its own database and topic, a tiny model, and the real commands."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from kafka import KafkaProducer

from tests import commands


@dataclass(frozen=True)
class System:
    """What a person with these services and settings can do."""

    environment: dict[str, str]
    topic: str
    folder: Path

    @property
    def bootstrap_servers(self) -> str:
        return self.environment["REVIEWLOOP_KAFKA__BOOTSTRAP_SERVERS"]

    def run(self, *arguments: object, code: int = 0, input_text: str = "") -> str:
        """Standard output of one command; fails the test when it ends with another exit code."""
        done = commands.run(*arguments, env=self.environment, cwd=self.folder, input_text=input_text)
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if code == 0 else done.stderr

    def start(self, *arguments: object, **environment: str) -> commands.Running:
        """A command in the background; its log is worker.log."""
        settings = {**self.environment, **environment}
        with (self.folder / "worker.log").open("a") as log:
            return commands.start(*arguments, env=settings, cwd=self.folder, stdout=log)

    def publish(self, messages: list[dict[str, Any] | bytes]) -> list[tuple[int, int]]:
        """Publish with plain kafka-python; the (partition, offset) of each message."""
        producer = KafkaProducer(bootstrap_servers=self.bootstrap_servers, acks="all")
        try:
            raws = [item if isinstance(item, bytes) else json.dumps(item).encode() for item in messages]
            futures = [producer.send(self.topic, raw) for raw in raws]
            producer.flush()
            return [(future.get().partition, future.get().offset) for future in futures]
        finally:
            producer.close()

    def sql(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of a query, straight from PostgreSQL."""
        url = self.environment["REVIEWLOOP_DATABASE__URL"].replace("postgresql+psycopg", "postgresql")
        with psycopg.connect(url) as connection:
            return connection.execute(query, parameters).fetchall()


def make_environment(**settings: str) -> dict[str, str]:
    """The environment of the commands: this one, with these settings and no hub."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REVIEWLOOP_")}
    return {**kept, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", **settings}
