"""Apicurio Registry: a schema registry with Confluent's API, on the JDK of a wheel."""

import http.client
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from signal import SIGTERM, Signals

from reviewloop.local.jars import Jar, fetch
from reviewloop.local.kafka import java_program
from reviewloop.local.places import HOST, cache_directory
from reviewloop.local.process import Process, Record, Say, launch
from reviewloop.local.state import REGISTRY_PATH

REGISTRY_VERSION = "3.3.3"
ARCHIVE = Jar(
    "io.apicurio",
    "apicurio-registry-app",
    REGISTRY_VERSION,
    "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63",
    classifier="all",
    packaging="tar.gz",
)
_JVM = (
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "-Djava.io.tmpdir=tmp",
)
_ANSWER_SECONDS = 2.0
_HTTP_OK = 200


def registry_program(say: Say) -> Path:
    """The folder of the registry's program in the user's cache; fetched and unpacked where it is missing.

    Raises:
        StackError: It cannot be fetched: no network, a full disk, other content than pinned.
    """
    folder = cache_directory() / f"registry-{REGISTRY_VERSION}"
    program = folder / "program"
    if program.exists():
        return program
    say(f"Fetching Apicurio Registry {REGISTRY_VERSION} into {folder}, once")
    fetch([ARCHIVE], folder, f"Apicurio Registry {REGISTRY_VERSION} (159 MB)")
    archive = folder / ARCHIVE.file_name
    with tempfile.TemporaryDirectory(dir=folder, prefix="unpacking-") as scratch:
        with tarfile.open(archive) as packed:
            packed.extractall(scratch, filter="data")
        Path(scratch).rename(program)  # another command may have been faster
    archive.unlink()
    return program


class Registry:
    """The schema registry of one stack, its data in `directory`, its output in the file `log`."""

    name = "Apicurio Registry"
    stop_signals: Sequence[Signals] = (SIGTERM,)
    stop_seconds = 15.0

    def __init__(self, directory: Path, log: Path) -> None:
        self._directory = directory
        self.log = log

    def prepare(self, say: Say) -> None:
        """Fetch the program where it is missing, and make the folder of the data.

        Raises:
            StackError: The program cannot be fetched.
        """
        java_program()
        registry_program(say)
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(self._directory / "tmp", ignore_errors=True)
        (self._directory / "tmp").mkdir()

    def launch(self, ports: Sequence[int], record: Record) -> Process:
        """Start the registry on `ports`: clients', its own administration's."""
        return launch(
            [str(java_program()), *_JVM, "-jar", str(registry_program(lambda _: None) / "quarkus-run.jar")],
            record,
            cwd=self._directory,
            log=self.log,
            environment={
                "QUARKUS_HTTP_HOST": HOST,
                "QUARKUS_HTTP_PORT": str(ports[0]),
                "QUARKUS_MANAGEMENT_HOST": HOST,
                "QUARKUS_MANAGEMENT_PORT": str(ports[1]),
                "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",
                "APICURIO_STORAGE_SQL_KIND": "h2",
                # By itself, H2 writes commits half a second later: a schema and its id could be lost.
                "APICURIO_DATASOURCE_URL": "jdbc:h2:file:./data/registry;WRITE_DELAY=0",
            },
        )

    def is_ready(self, ports: Sequence[int], process: Process) -> bool:  # noqa: ARG002 -- asked over the network
        """Whether the registry answers as clients ask it."""
        connection = http.client.HTTPConnection(HOST, ports[0], timeout=_ANSWER_SECONDS)
        try:
            connection.request("GET", f"{REGISTRY_PATH}/schemas/types")
            return connection.getresponse().status == _HTTP_OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
