import errno
import hashlib
import re
from pathlib import Path

import pytest

from reviewloop.local import jars as jars_module
from reviewloop.local.jars import KAFKA_VERSION, Jar, is_intact, kafka_jars, pinned_jars
from reviewloop.local.places import StackError

CONTENT = b"the one true jar"
JAR = Jar("org.example", "thing", "1.0", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local Maven repository with the one pinned jar, no network, and an empty cache."""
    monkeypatch.setattr(jars_module, "pinned_jars", lambda: [JAR])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("M2_REPO", str(tmp_path / "maven"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # that does not exist
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    jar = tmp_path / "maven/org/example/thing/1.0/thing-1.0.jar"
    jar.parent.mkdir(parents=True)
    jar.write_bytes(CONTENT)
    return jar


def _fetch() -> Path:
    (path,) = kafka_jars(lambda _: None)
    return path


def test_every_pin_is_a_coordinate_and_a_sha256_of_its_own():
    pins = pinned_jars()
    assert all(re.fullmatch("[0-9a-f]{64}", pin.sha256) for pin in pins)
    assert len({pin.file_name for pin in pins}) == len({pin.sha256 for pin in pins}) == len(pins)


def test_every_jar_of_kafka_itself_has_the_pinned_version():
    versions = {pin.version for pin in pinned_jars() if pin.group == "org.apache.kafka"}
    assert versions == {KAFKA_VERSION}


def test_jars_of_a_local_maven_repository_fill_the_cache_without_network(repository: Path):
    path = _fetch()
    assert path.read_bytes() == CONTENT
    assert [found.name for found in path.parent.iterdir()] == ["thing-1.0.jar"]


def test_a_filled_cache_asks_nobody(repository: Path):
    _fetch()
    repository.unlink()
    said: list[str] = []
    kafka_jars(said.append)
    assert said == []


def test_a_damaged_jar_in_the_cache_is_replaced(repository: Path):
    _fetch().write_bytes(CONTENT[:-1])
    assert _fetch().read_bytes() == CONTENT


def test_without_network_the_error_says_what_is_needed(repository: Path):
    repository.unlink()
    with pytest.raises(StackError, match=r"thing-1\.0\.jar could not be fetched .* needs the network once"):
        _fetch()


def test_a_jar_with_other_content_never_reaches_the_cache(repository: Path, monkeypatch: pytest.MonkeyPatch):
    from jgo.maven import Artifact

    def forged(artifact: Artifact) -> Path:
        path = artifact.cached_path
        path.parent.mkdir(parents=True)
        path.write_bytes(b"another jar")
        return path

    repository.unlink()
    monkeypatch.setattr(Artifact, "resolve", forged)
    with pytest.raises(StackError, match="other content than the pinned one"):
        _fetch()
    assert list((Path(jars_module.cache_directory()) / f"kafka-{KAFKA_VERSION}").iterdir()) == []


def test_a_torn_download_is_tried_again_from_its_start(repository: Path, monkeypatch: pytest.MonkeyPatch):
    import requests
    from jgo.maven import PythonResolver

    attempts = []

    def download(resolver, artifact) -> Path:
        attempts.append(artifact)
        artifact.cached_path.parent.mkdir(parents=True, exist_ok=True)
        artifact.cached_path.write_bytes(CONTENT[: 3 if len(attempts) == 1 else None])
        if len(attempts) == 1:
            raise requests.ConnectionError("reset")
        return artifact.cached_path

    repository.unlink()
    monkeypatch.setattr(PythonResolver, "download", download)
    assert _fetch().read_bytes() == CONTENT
    assert len(attempts) == 2


def test_a_full_disk_is_named(repository: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(jars_module.shutil, "copy", full)
    with pytest.raises(StackError, match="the disk is full"):
        _fetch()


def test_a_missing_file_is_not_intact(tmp_path: Path):
    assert not is_intact(tmp_path / "thing-1.0.jar", JAR)
