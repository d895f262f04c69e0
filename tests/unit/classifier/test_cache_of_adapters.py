"""Adapters on this machine: fetched when they are not there, hashed once when they are."""

from collections import Counter
from pathlib import Path

import pytest

import classifier.adapters.manifest
from classifier.adapters.manifest import CONFIG, MANIFEST, WEIGHTS, read_files
from classifier.adapters.store import cached
from classifier.host import Hosts
from reviews.errors import AdapterError


class Registry:
    """The files of one adapter, and how often they were fetched."""

    def __init__(self, directory: Path) -> None:
        self.manifest, self.files = read_files(directory)
        self.fetched = 0

    def fetch(self) -> dict[str, bytes]:
        self.fetched += 1
        return self.files

    def open(self, cache: Path):
        return cached(self.manifest.content_hash, cache, self.fetch)


@pytest.fixture
def registry(adapter) -> Registry:
    return Registry(adapter)


def test_what_is_in_the_cache_is_not_fetched_again(registry, tmp_path):
    first = registry.open(tmp_path)
    assert registry.fetched == 1
    again = registry.open(tmp_path)
    assert (again.directory, again.manifest, registry.fetched) == (first.directory, first.manifest, 1)


def test_each_file_of_a_cached_adapter_is_hashed_once_until_it_serves(
    registry, base, settings, tmp_path, monkeypatch
):
    registry.open(tmp_path)
    hashed: Counter[bytes] = Counter()
    real = classifier.adapters.manifest.sha256_hex

    def counted(content: bytes) -> str:
        hashed[content] += 1
        return real(content)

    monkeypatch.setattr(classifier.adapters.manifest, "sha256_hex", counted)
    directory, manifest = registry.open(tmp_path)
    assert Hosts(settings).load(str(base), directory, manifest=manifest).predict(["Good."])
    assert [hashed[registry.files[name]] for name in (CONFIG, WEIGHTS)] == [1, 1]


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, MANIFEST])
@pytest.mark.parametrize("damage", ["cut", "gone", "flipped"])
def test_what_is_damaged_in_the_cache_is_fetched_again_and_whole(registry, tmp_path, name, damage):
    path = registry.open(tmp_path).directory / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-7] if damage == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    directory, _ = registry.open(tmp_path)
    assert registry.fetched == 2
    assert (directory / name).read_bytes() == content


def test_files_of_another_adapter_are_refused(registry, tmp_path):
    with pytest.raises(AdapterError, match="not of the adapter 000000000000"):
        cached("0" * 64, tmp_path, registry.fetch)
    assert not list(tmp_path.iterdir())
