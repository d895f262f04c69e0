"""The local stack: a real Kafka and a real PostgreSQL that start, survive, recover and stop."""

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic
from sqlalchemy import make_url

from broker.formats.registry import SchemaRegistry
from broker.formats.settings import RegistrySettings
from reviewloop.cli.local import as_text
from reviewloop.local import jars as jars_module
from reviewloop.local import postgres as postgres_module
from reviewloop.local import stack as stack_module
from reviewloop.local.places import StackError
from reviewloop.local.postgres import Postgres
from reviewloop.local.process import Process, command_of, running, service_account, stop
from reviewloop.local.stack import Stack, StackStatus, start_services
from reviewloop.local.state import ServiceState, StackState
from tests.conftest import TopicFactory, folder_for_a_stack
from tests.schema_registry import register


def _quietly(_: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder for this module's own stack."""
    with folder_for_a_stack() as folder:
        yield folder


@pytest.fixture
def stack(folder: Path) -> Stack:
    """A stack of this module's own, stopped."""
    stack = Stack(folder / ".reviewloop")
    stack.down()
    return stack


@pytest.fixture(scope="module")
def database_server(folder: Path) -> Postgres:
    """A PostgreSQL beside the stack, stopped."""
    home = folder / "beside"
    home.mkdir()
    home.chmod(0o711)
    return Postgres(home / "postgres", home / "log", "hush", service_account())


def _up_alone(server: Postgres) -> Process:
    """Start `server` and wait until it is ready, as a start of the stack does."""
    states = [StackState(ServiceState((0, 0), "kafka"), ServiceState((0,), "postgres"), "hush")]
    state = start_services({"postgres": server}, states[0], states.append, _quietly)
    assert state.postgres.process
    return state.postgres.process


def _connect(url: str) -> "psycopg.Connection[tuple[object, ...]]":
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(address, autocommit=True)


def _remember(status: StackStatus) -> str:
    """Leave a row and a record behind, under the name that is returned."""
    name = f"kept_{secrets.token_hex(4)}"
    with _connect(status.postgres.url) as connection:
        connection.execute(f"CREATE TABLE {name} AS SELECT 7")
    admin = KafkaAdminClient(bootstrap_servers=status.kafka.bootstrap_servers)
    admin.create_topics([NewTopic(name, 1, 1)])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=status.kafka.bootstrap_servers, acks="all")
    producer.send(name, b"seven").get(timeout=60)
    producer.close()
    return name


def _remembers(status: StackStatus, name: str) -> bool:
    with _connect(status.postgres.url) as connection:
        row = connection.execute(f"SELECT * FROM {name}").fetchone()
    consumer = KafkaConsumer(
        name,
        bootstrap_servers=status.kafka.bootstrap_servers,
        auto_offset_reset="earliest",
        consumer_timeout_ms=60_000,
    )
    value = next(consumer).value
    consumer.close()
    return (row, value) == ((7,), b"seven")


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 60
    while running(pid).is_alive():
        assert time.monotonic() < deadline, f"process {pid} still lives"
        time.sleep(0.02)


_UP = "import pathlib, reviewloop.local.stack as s, sys; s.Stack(pathlib.Path(sys.argv[1])).up(print)"
_KILLED_BEFORE_SAVING = f"""
import os, signal, reviewloop.local.stack as stack
write = stack.write_state

def killed(directory, state):
    if state.postgres.process:
        os.kill(os.getpid(), signal.SIGKILL)
    write(directory, state)

stack.write_state = killed
{_UP}
"""


def _servers_on(folder: Path) -> list[str]:
    """The commands of Java and PostgreSQL processes whose arguments or working directory are in `folder`."""
    found = []
    for pid in psutil.pids():
        command = command_of(pid)
        is_server = re.match(r"(\S*/java|(\S*/)?postgres:?) ", command)
        if is_server and (str(folder) in command or _works_in(pid, folder)):
            found.append(command)
    return found


def _works_in(pid: int, folder: Path) -> bool:
    """Whether a process works inside `folder`: Kafka's command line does not name it."""
    try:
        return Path(psutil.Process(pid).cwd()).is_relative_to(folder)
    except psutil.Error:
        return False


@contextlib.contextmanager
def _program_of(uid: int) -> Iterator[int]:
    """The pid of a running program that is no server, and belongs to `uid`."""
    as_user = {"user": uid} if os.geteuid() == 0 else {}
    with subprocess.Popen(["/bin/sleep", "600"], **as_user) as program:
        yield program.pid
        program.kill()


def _up_elsewhere(folder: Path) -> "subprocess.Popen[str]":
    return _start(_UP, folder)


def _start(code: str, folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-u", "-c", code, str(folder / ".reviewloop")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _read_until(starter: "subprocess.Popen[str]", text: str) -> None:
    assert starter.stdout
    for line in starter.stdout:
        if text in line:
            return
    pytest.fail(f"it ended without saying {text!r}")


def test_three_megabytes_published_come_back(kafka_bootstrap: str, topic: TopicFactory):
    name = topic(partitions=2)
    payload = bytes(range(256)) * 12_000
    producer = KafkaProducer(bootstrap_servers=kafka_bootstrap, max_request_size=4_000_000)
    producer.send(name, payload).get(timeout=60)
    producer.close()
    consumer = KafkaConsumer(
        name,
        bootstrap_servers=kafka_bootstrap,
        auto_offset_reset="earliest",
        group_id=f"group-of-{name}",
        consumer_timeout_ms=60_000,
    )
    assert next(consumer).value == payload
    consumer.close()


def test_a_test_may_delete_its_topic_itself(topic: TopicFactory, kafka_admin: KafkaAdminClient):
    name = topic()
    kafka_admin.delete_topics([name])
    deadline = time.monotonic() + 60
    while name in kafka_admin.list_topics():  # a broker learns of it a moment later
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_each_test_has_a_database_of_its_own_migrated_or_empty(
    database: str, empty_database: str, database_url: str
):
    assert len({make_url(url).database for url in (database, empty_database, database_url)}) == 3
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    with _connect(empty_database) as empty, _connect(database) as migrated:
        assert empty.execute(tables).fetchone() == (0,)
        assert migrated.execute("SELECT count(*) FROM scored_reviews").fetchone() == (0,)


def test_a_wrong_password_is_refused(local_stack: StackStatus):
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        _connect(
            make_url(local_stack.postgres.url).set(password="guess").render_as_string(hide_password=False)
        )


def test_postgres_keeps_what_it_acknowledged(local_stack: StackStatus):
    with _connect(local_stack.postgres.url) as connection:
        for setting, value in (
            ("fsync", "on"),
            ("synchronous_commit", "on"),
            ("listen_addresses", "127.0.0.1"),
        ):
            assert connection.execute(f"SHOW {setting}").fetchone() == (value,)


def test_an_interrupted_start_leaves_nothing_running(folder: Path, stack: Stack):
    starter = _up_elsewhere(folder)
    _read_until(starter, "Starting PostgreSQL")
    starter.send_signal(signal.SIGINT)
    starter.communicate(timeout=180)
    assert (stack.status().kafka.pid, stack.status().postgres.pid) == (None, None)
    assert _servers_on(folder) == []


def test_an_interrupt_before_a_process_is_known_leaves_nothing_running(
    folder: Path, stack: Stack, monkeypatch: pytest.MonkeyPatch
):
    write, interrupts = stack_module.write_state, list[StackState]()

    def interrupted(directory: Path, state: StackState) -> None:
        if state.postgres.process and not interrupts:
            interrupts.append(state)
            raise KeyboardInterrupt
        write(directory, state)

    monkeypatch.setattr(stack_module, "write_state", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stack.up()
    assert interrupts
    assert _servers_on(folder) == []


def test_a_start_killed_before_a_process_is_known_does_not_hinder_the_next(folder: Path, stack: Stack):
    starter = _start(_KILLED_BEFORE_SAVING, folder)
    starter.communicate(timeout=180)
    assert starter.returncode == -signal.SIGKILL
    assert not any("/postgres " in command for command in _servers_on(folder))
    assert stack.up().running


def test_a_server_that_nobody_knows_is_stopped_by_the_next_start(database_server: Postgres):
    unknown, known = (_up_alone(database_server) for _ in range(2))
    assert not unknown.is_alive()
    assert known.is_alive()
    stop(known, database_server.stop_signals, grace_seconds=database_server.stop_seconds)


def test_a_lock_file_that_names_another_program_does_not_hinder_a_start(database_server: Postgres):
    killed = _up_alone(database_server)
    lock_file = database_server.lock_file
    lines = lock_file.read_text().splitlines(keepends=True)
    stop(killed, [], grace_seconds=0)
    with _program_of(lock_file.stat().st_uid) as other:
        lock_file.write_text("".join([f"{other}\n", *lines[1:]]))
        again = _up_alone(database_server)
        os.kill(other, 0)
    stop(again, database_server.stop_signals, grace_seconds=database_server.stop_seconds)


def test_a_start_that_was_killed_is_taken_over_by_the_next(folder: Path, stack: Stack):
    starter = _up_elsewhere(folder)
    _read_until(starter, "Starting PostgreSQL")
    # A shell that is recorded becomes the server when the starter says so; without it, it ends.
    while (pid := (left := stack.status()).postgres.pid) is None or command_of(pid).startswith("/bin/sh"):
        assert starter.poll() is None
    starter.kill()
    starter.communicate()
    taken_over = stack.up()
    assert taken_over.running
    assert (taken_over.kafka.pid, taken_over.postgres.pid) == (left.kafka.pid, left.postgres.pid)


def test_two_at_once_start_one_stack_that_outlives_both(folder: Path, stack: Stack):
    starters = [_up_elsewhere(folder) for _ in range(2)]
    said = [starter.communicate(timeout=300)[0] for starter in starters]
    assert [starter.returncode for starter in starters] == [0, 0], said
    assert sum("Starting Apache Kafka" in text for text in said) == 1
    assert stack.status().running
    assert os.getsid(stack.status().kafka.pid or 0) != os.getsid(0)


def test_up_twice_is_harmless_and_down_keeps_data_and_ports(stack: Stack):
    first = stack.up()
    kept = _remember(first)
    assert stack.up() == first
    down = stack.down()
    assert (down.running, down.kafka.pid, down.postgres.pid) == (False, None, None)
    assert stack.down() == down
    again = stack.up()
    assert again.kafka.bootstrap_servers == first.kafka.bootstrap_servers
    assert again.postgres.url == first.postgres.url
    assert _remembers(again, kept)


def test_a_schema_registry_is_started_when_asked_for_and_stays(stack: Stack):
    plain = stack.up()
    assert plain.registry is None
    first = stack.up(with_registry=True)
    assert first.registry
    assert first.kafka == plain.kafka
    number = register(first.registry.url, "kept", '"string"')
    assert SchemaRegistry(RegistrySettings(url=first.registry.url)).by_id(number).text == '"string"'
    assert stack.up() == first
    down = stack.down()
    assert down.registry
    assert (down.registry.running, down.registry.url) == (False, first.registry.url)
    stack.delete()  # or each start of the tests after this one would be that of a registry, too


def test_services_killed_at_work_are_started_again_on_their_data(stack: Stack):
    first = stack.up()
    kept = _remember(first)
    with _connect(first.postgres.url) as busy:
        busy.execute("CREATE TEMPORARY TABLE work AS SELECT generate_series(1, 1000)")
        for pid in (first.kafka.pid, first.postgres.pid):
            assert pid
            os.kill(pid, signal.SIGKILL)
            _wait_until_gone(pid)
            seen = stack.status()
            assert pid not in (seen.kafka.pid, seen.postgres.pid)
            assert not seen.running
        assert _remembers(stack.up(), kept)


def test_taken_ports_are_left_to_their_owner_and_the_data_is_still_there(stack: Stack):
    first = stack.up()
    kept = _remember(first)
    stack.down()
    said: list[str] = []
    with socket.socket() as kafka, socket.socket() as postgres:
        for taken in (kafka, postgres):
            # Closed connections of the stopped services may still hold the port for a minute.
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kafka.bind(("127.0.0.1", int(first.kafka.bootstrap_servers.rpartition(":")[2])))
        postgres.bind(("127.0.0.1", make_url(first.postgres.url).port))
        kafka.listen()
        postgres.listen()
        moved = stack.up(said.append)
    assert moved.kafka.bootstrap_servers != first.kafka.bootstrap_servers
    assert sum("is taken by another program" in text for text in said) == 2
    assert _remembers(moved, kept)
    assert stack.status() == moved


def test_nobody_else_can_read_data_logs_or_the_password(local_stack: StackStatus):
    for path in local_stack.directory.iterdir():
        if path.name != "lock":
            assert path.stat().st_mode & 0o077 == 0, path


def test_when_kafka_cannot_start_postgres_is_stopped_and_kafkas_words_are_told(stack: Stack, folder: Path):
    properties = folder / ".reviewloop" / "kafka" / "data" / "meta.properties"
    if not properties.exists():  # where no test before this one has made it
        stack.up()
        stack.down()
    right = properties.read_text()
    properties.write_text(right.replace("node.id=1", "node.id=9"))
    with pytest.raises(StackError, match=r"Apache Kafka ended while it started(?s:.*)node id 9"):
        stack.up()
    assert (stack.status().kafka.pid, stack.status().postgres.pid) == (None, None)
    properties.write_text(right)


def test_half_made_data_is_made_anew_and_delete_leaves_no_process_and_no_file(
    stack: Stack, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    stack.delete()
    run = postgres_module.Postgres._run

    def killed(self: postgres_module.Postgres, program: str, *arguments: str, given: str = "") -> None:
        if program == "postgres":
            raise KeyboardInterrupt
        run(self, program, *arguments, given=given)

    with monkeypatch.context() as patch:
        patch.setattr(postgres_module.Postgres, "_run", killed)
        with pytest.raises(KeyboardInterrupt):
            stack.up()
    status = stack.up()
    assert status.running
    stack.delete()
    for pid in (status.kafka.pid, status.postgres.pid):
        assert pid
        _wait_until_gone(pid)
    assert not (folder / ".reviewloop").exists()


def test_a_damaged_jar_is_found_before_kafka_is_started_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    jars = jars_module.kafka_jars(_quietly)
    repository = tmp_path / "maven"
    for pin, path in zip(jars_module.pinned_jars(), jars, strict=True):
        place = repository.joinpath(*pin.group.split("."), pin.name, pin.version)
        place.mkdir(parents=True)
        shutil.copy(path, place)
    monkeypatch.setenv("M2_REPO", str(repository))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copies = jars_module.kafka_jars(_quietly)
    with copies[3].open("r+b") as jar:
        jar.seek(100)
        jar.write(b"\0\0\0\0")
    said: list[str] = []
    assert jars_module.kafka_jars(said.append)[3].read_bytes() == jars[3].read_bytes()
    assert "1 of" in said[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts PostgreSQL as somebody else")
def test_as_root_in_a_closed_home_postgres_has_data_and_programs_where_it_can_reach_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    installations = postgres_module.packaged_installations()
    newest = max(installations)
    home = folder / "home"
    home.mkdir(mode=0o700)
    package = installations[newest].parent
    hidden = home / package.name / installations[newest].name
    shutil.copytree(installations[newest], hidden, symlinks=True)
    libraries = package.with_name(package.name + ".libs")
    shutil.copytree(libraries, home / libraries.name)
    monkeypatch.setattr(postgres_module, "packaged_installations", lambda: {newest: hidden})
    stack = Stack(home / ".reviewloop")
    try:
        status = stack.up()
        arguments = Path(f"/proc/{status.postgres.pid}/cmdline").read_text().split("\0")
        data = Path(arguments[arguments.index("-D") + 1])
        assert not data.is_relative_to(home)
        assert not Path(arguments[0]).is_relative_to(home)
        assert Path(f"/proc/{status.postgres.pid}").stat().st_uid == data.stat().st_uid != 0
        assert _remembers(status, _remember(status))
    finally:
        stack.delete()
    assert not data.parent.exists()


def test_people_see_how_to_open_psql_and_no_password(local_stack: StackStatus):
    shown = as_text(local_stack)
    assert str(make_url(local_stack.postgres.url).password) not in shown
    (command,) = [line.removeprefix("  psql     ") for line in shown.splitlines() if "psql " in line]
    typed = ["sh", "-c", f"{command} -Atc 'SELECT current_user'"]
    asked = subprocess.run(typed, capture_output=True, text=True, check=False)
    assert asked.stdout == "reviewloop\n", asked.stderr
    file = local_stack.postgres.service_file
    assert file is not None
    assert file.stat().st_mode & 0o777 == 0o600
