import threading
from pathlib import Path

import pytest

from reviewloop.local.places import STATE_FILE, StackError
from reviewloop.local.process import Process
from reviewloop.local.stack import Stack, locked
from reviewloop.local.state import ServiceState, StackState, read_state, write_state

STATE = StackState(
    kafka=ServiceState(ports=(20_001, 20_002), directory="kafka", process=Process(7, "noon"), ready=True),
    postgres=ServiceState(ports=(20_003,), directory="/elsewhere/postgres"),
    password="hush",
)


def test_what_is_written_is_read_back(tmp_path: Path):
    write_state(tmp_path, STATE)
    assert read_state(tmp_path) == STATE


def test_the_state_file_is_readable_by_its_owner_alone(tmp_path: Path):
    write_state(tmp_path, STATE)
    assert (tmp_path / STATE_FILE).stat().st_mode & 0o777 == 0o600


def test_a_failed_write_leaves_the_old_state_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_state(tmp_path, STATE)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_state(tmp_path, STATE.with_service("postgres", ServiceState((1,), "other")))
    assert read_state(tmp_path) == STATE
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


def test_no_state_is_not_an_error(tmp_path: Path):
    assert read_state(tmp_path / "missing") is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format": 1}', '{"format": 1, "kafka": 3, "postgres": {}}']
)
def test_a_damaged_state_file_is_named(tmp_path: Path, content: str):
    (tmp_path / STATE_FILE).write_text(content)
    with pytest.raises(StackError, match="damaged"):
        read_state(tmp_path)


def test_the_state_of_another_version_is_not_guessed_at(tmp_path: Path):
    (tmp_path / STATE_FILE).write_text('{"format": 2}')
    with pytest.raises(StackError, match="another version"):
        read_state(tmp_path)


def test_the_password_does_not_show_when_the_state_is_printed():
    assert "hush" not in repr(STATE)


def test_the_second_to_take_the_lock_says_so_and_waits_for_the_first(tmp_path: Path):
    order, waits = [], threading.Event()

    def second() -> None:
        with locked(tmp_path, waits.set):
            order.append("second")

    with locked(tmp_path, lambda: None):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_the_lock_holds_a_new_file_when_its_folder_was_removed_meanwhile(tmp_path: Path):
    folder, waits, held = tmp_path / "stack", threading.Event(), []

    def second() -> None:
        with locked(folder, waits.set):
            held.append((folder / "lock").exists())

    with locked(folder, lambda: None):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(10)
        (folder / "lock").unlink()
        folder.rmdir()
    thread.join(10)
    assert held == [True]


def test_a_command_that_waits_while_the_stack_is_deleted_keeps_what_it_makes_then(tmp_path: Path):
    folder, waits, kept = tmp_path / "stack", threading.Event(), []

    def second() -> None:
        with locked(folder, waits.set):
            (folder / "made").touch()
            kept.append((folder / "made").exists())

    _fill(folder)
    with locked(folder, lambda: None):
        threads = [threading.Thread(target=second), threading.Thread(target=Stack(folder).delete)]
        for thread in threads:
            thread.start()
        assert waits.wait(10)
    for thread in threads:
        thread.join(10)
    assert kept == [True]
    assert not folder.exists() or {path.name for path in folder.iterdir()} == {"lock", "made"}


def _fill(folder: Path) -> None:
    for number in range(100):
        (folder / "data" / str(number)).mkdir(parents=True)
