import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from reviews.durable import create_directory, remove_directory, replace_directory, replacing, write_file

OLD, NEW = {"a": b"old", "b": b"old"}, {"a": b"new", "deep/c": b"new"}

_KILLED = """
import os, signal, sys
from pathlib import Path
from reviews.durable import replace_directory, write_file

left = int(sys.argv[1])

def counted(step):
    def stepped(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*arguments, **options)
    return stepped

os.fsync = counted(os.fsync)
Path.rename, Path.replace = counted(Path.rename), counted(Path.replace)
write_file(Path("file"), b"new")
replace_directory(Path("folder"), {"a": b"new", "deep/c": b"new"})
"""


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if not path.is_dir()
    }


def _full(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_file_is_replaced_and_its_folders_are_made(tmp_path: Path):
    path = tmp_path / "a" / "b"
    for content in (b"one", b"two"):
        write_file(path, content)
        assert path.read_bytes() == content
    assert _files(tmp_path) == {"a/b": b"two"}


def test_a_secret_is_its_owners_alone_whatever_was_there(tmp_path: Path):
    path = tmp_path / "secret"
    path.touch(mode=0o644)
    write_file(path, b"hush", secret=True)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("write", [write_file, create_directory, replace_directory])
def test_a_full_disk_leaves_what_was_there_and_no_rest(tmp_path: Path, monkeypatch, write):
    (tmp_path / "file").write_bytes(b"old")
    replace_directory(tmp_path / "folder", OLD)
    before = _files(tmp_path)
    monkeypatch.setattr("os.fsync", _full)
    name = {write_file: "file", replace_directory: "folder"}.get(write, "another")
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / name, b"new" if write is write_file else NEW)
    assert _files(tmp_path) == before
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc which file a descriptor is of")
def test_files_and_the_folders_that_name_them_are_on_the_disk(tmp_path: Path, monkeypatch):
    synced = list[str]()
    sync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name.partition(".folder.")[0])
        sync(descriptor)

    monkeypatch.setattr("os.fsync", noted)
    replace_directory(tmp_path / "folder", NEW)
    assert {"a", "c", "deep", ""} <= set(synced)  # the last is the staging folder itself
    assert synced[-1] == tmp_path.name


def test_a_directory_that_exists_is_not_created_again(tmp_path: Path):
    create_directory(tmp_path / "folder", OLD)
    create_directory(tmp_path / "folder", NEW)
    assert _files(tmp_path / "folder") == OLD


def test_many_who_create_one_directory_at_once_make_one(tmp_path: Path):
    start, failures = threading.Barrier(8), list[Exception]()

    def create() -> None:
        start.wait()
        try:
            create_directory(tmp_path / "folder", OLD)
        except OSError as err:
            failures.append(err)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert _files(tmp_path) == {f"folder/{name}": content for name, content in OLD.items()}


def test_a_replaced_directory_has_exactly_the_new_files(tmp_path: Path):
    replace_directory(tmp_path / "folder", OLD)
    replace_directory(tmp_path / "folder", NEW)
    assert _files(tmp_path) == {f"folder/{name}": content for name, content in NEW.items()}


def test_a_directory_is_put_back_when_the_new_one_cannot_take_its_name(tmp_path: Path, monkeypatch):
    replace_directory(tmp_path / "folder", OLD)
    rename, calls = Path.rename, list[Path]()

    def second_fails(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == 2:
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(PermissionError):
        replace_directory(tmp_path / "folder", NEW)
    assert _files(tmp_path) == {f"folder/{name}": content for name, content in OLD.items()}


def test_a_removed_directory_frees_its_name_and_open_files_stay_readable(tmp_path: Path):
    create_directory(tmp_path / "folder", OLD)
    with (tmp_path / "folder" / "a").open("rb") as reading:
        remove_directory(tmp_path / "folder")
        assert reading.read() == b"old"
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_a_file_is_made_leaves_the_one_before(tmp_path: Path):
    write_file(tmp_path / "file", b"old")

    def interrupted() -> None:
        with replacing(tmp_path / "file") as staging:
            staging.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert _files(tmp_path) == {"file": b"old"}


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_process_killed_at_any_step_leaves_a_file_whole_and_a_directory_never_mixed(tmp_path: Path):
    root, states = Path(__file__).parents[3], list[str]()
    for step in range(50):
        place = tmp_path / str(step)
        write_file(place / "file", b"old")
        replace_directory(place / "folder", OLD)
        done = subprocess.run(
            [sys.executable, "-c", _KILLED, str(step)], cwd=place, env={"PYTHONPATH": str(root)}, check=False
        )
        file, folder = (place / "file").read_bytes(), place / "folder"
        assert file in {b"old", b"new"}
        # Between two renames the directory is away, complete, under the name of the one that is discarded.
        shown = folder if folder.exists() else next(path for path in place.iterdir() if _files(path) == OLD)
        assert _files(shown) in (OLD, NEW)
        states.append(f"{file.decode()} {'away' if not folder.exists() else _files(folder)['a'].decode()}")
        if done.returncode != -signal.SIGKILL:
            break
    assert done.returncode == 0
    assert list(dict.fromkeys(states)) == ["old old", "new old", "new away", "new new"]
