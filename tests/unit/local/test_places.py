import os
from pathlib import Path

import pytest

from reviewloop.local.places import STACK_FOLDER, STATE_FILE, StackError, cache_directory, stack_directory


def _stack_in(folder: Path) -> Path:
    (folder / STACK_FOLDER).mkdir(parents=True)
    (folder / STACK_FOLDER / STATE_FILE).touch()
    return folder / STACK_FOLDER


def test_the_stack_of_the_nearest_parent_is_used(tmp_path: Path):
    _stack_in(tmp_path)
    nearer = _stack_in(tmp_path / "project")
    deep = tmp_path / "project" / "a" / "b"
    deep.mkdir(parents=True)
    assert stack_directory(deep) == nearer


def test_without_any_the_stack_goes_into_the_folder_itself(tmp_path: Path):
    assert stack_directory() == tmp_path / STACK_FOLDER


def test_a_folder_of_that_name_without_a_stack_does_not_count(tmp_path: Path):
    (tmp_path / STACK_FOLDER).mkdir()
    (tmp_path / "project").mkdir()
    assert stack_directory(tmp_path / "project") == tmp_path / "project" / STACK_FOLDER


def test_the_stack_of_another_user_in_a_parent_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _stack_in(tmp_path)
    (tmp_path / "project").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 54_321)
    assert stack_directory(tmp_path / "project") == tmp_path / "project" / STACK_FOLDER


def test_the_cache_follows_the_variable_for_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "reviewloop"


@pytest.mark.parametrize(("platform", "place"), [("linux", ".cache"), ("darwin", "Library/Caches")])
def test_without_it_the_cache_is_where_the_platform_keeps_caches(
    platform: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", platform)
    assert cache_directory() == tmp_path / place / "reviewloop"


def test_an_unknown_home_is_named(monkeypatch: pytest.MonkeyPatch):
    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", unknown)
    with pytest.raises(StackError, match="HOME"):
        cache_directory()
