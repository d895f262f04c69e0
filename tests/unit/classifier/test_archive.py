"""Adapters in zip files: a good one is read; bombs, paths, links and pickles are refused in clear words."""

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from classifier.adapters import archive
from classifier.adapters.archive import MAX_ENTRIES, read_archive
from classifier.adapters.manifest import CONFIG, MANIFEST, WEIGHTS, read_files
from reviews.errors import AdapterError
from tests.tiny import tiny_peft_model


@pytest.fixture(scope="module")
def files(adapter: Path) -> dict[str, bytes]:
    return read_files(adapter)[1]


def _zip(files: Mapping[str, bytes], folder: str = "", method: int = zipfile.ZIP_DEFLATED) -> io.BytesIO:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as writer:
        for name, content in files.items():
            writer.writestr(folder + name, content)
    return packed


def _refusal(packed: io.BytesIO) -> str:
    with pytest.raises(AdapterError) as refused:
        read_archive(packed, "mine.zip", "sentiment")
    return str(refused.value)


@pytest.mark.parametrize("folder", ["", "adapter/", "./a/b/"])
def test_an_adapter_is_read_from_the_top_or_from_one_folder(files: dict[str, bytes], folder: str):
    manifest, read = read_archive(_zip(files, folder), "mine.zip", "sentiment")
    assert read == files
    assert manifest.version.startswith("sentiment-")


def test_a_plain_peft_directory_gets_the_task_that_is_given(base: Path, tmp_path: Path):
    tiny_peft_model(base, num_labels=2).save_pretrained(tmp_path)
    packed = _zip({path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()})
    manifest, _ = read_archive(packed, "mine.zip", "tone")
    assert (manifest.task, manifest.labels) == ("tone", ("class_0", "class_1"))


@pytest.mark.parametrize("content", [b"", b"PK", b"GIF89a" * 100, b"PK\x03\x04" + bytes(100), bytes(10**5)])
def test_what_is_no_zip_file_is_refused(content: bytes):
    assert "is no readable zip file" in _refusal(io.BytesIO(content))


def test_a_cut_or_altered_file_is_refused(files: dict[str, bytes]):
    whole = _zip(files).getvalue()
    assert "is no readable zip file" in _refusal(io.BytesIO(whole[: len(whole) // 2]))
    place = whole.index(b"PK\x01\x02") // 2
    altered = whole[:place] + bytes(64) + whole[place + 64 :]
    assert "is no readable zip file" in _refusal(io.BytesIO(altered))


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "a/../../b", "..\\evil", "C:\\evil", "c:evil", "a/b\\..\\c"]
)
def test_a_path_that_leads_outside_is_refused_and_named(files: dict[str, bytes], name: str):
    assert "a path that leads outside" in _refusal(_zip({**files, name: b"x"}))


def test_a_link_is_refused(files: dict[str, bytes]):
    packed = _zip(files)
    link = zipfile.ZipInfo("link")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(packed, "a") as writer:
        writer.writestr(link, "/etc/passwd")
    assert "holds the link 'link'" in _refusal(packed)


def test_files_in_several_folders_are_no_adapter(files: dict[str, bytes]):
    assert "in several folders" in _refusal(_zip({**files, "other/README.md": b"x"}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused(files: dict[str, bytes]):
    packed = _zip(files)
    with zipfile.ZipFile(packed, "a") as writer:
        writer.writestr(CONFIG, b"{}")
    assert "two files of one name" in _refusal(packed)


@pytest.mark.parametrize("name", ["adapter_model.bin", "weights.PT", "optimizer.pkl", "x.npy"])
def test_a_pickle_is_refused_by_its_name_before_it_is_read(files: dict[str, bytes], name: str):
    said = _refusal(_zip({**files, name: b"\x80\x04."}))
    assert name in said
    assert "can run code when it is loaded" in said


def test_a_pickle_under_the_name_of_safetensors_is_refused(files: dict[str, bytes]):
    disguised = pickle.dumps({"weight": [1.0]})
    plain = {CONFIG: files[CONFIG], WEIGHTS: disguised}
    assert "is not a safetensors file" in _refusal(_zip(plain))
    assert "does not match its hash" in _refusal(_zip({**files, WEIGHTS: disguised}))


def test_a_bomb_is_refused_by_what_it_says(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 10**6)
    assert "unpacks to 5,0" in _refusal(_zip({**files, "zeros.txt": bytes(5 * 10**6)}))


def test_a_bomb_that_lies_about_its_size_is_read_no_further_than_it_says(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 10**6)
    packed = _zip({**files, "zeros.txt": bytes(50 * 10**6)}).getvalue()
    lying = packed.replace(struct.pack("<L", 50 * 10**6), struct.pack("<L", 100))
    assert lying != packed
    assert "is no readable zip file" in _refusal(io.BytesIO(lying))


def test_what_is_read_is_bounded_whatever_the_table_says(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
):
    packed = _zip(files)
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", sum(map(len, files.values())) - 1)
    monkeypatch.setattr(archive, "_entries", lambda opened, _: {e.filename: e for e in opened.infolist()})
    assert "unpacks to more than" in _refusal(packed)


def test_many_entries_are_refused_before_their_table_is_read(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
):
    assert "at most" in _refusal(_zip({**files, **{f"{number}.txt": b"" for number in range(MAX_ENTRIES)}}))
    many = _zip({f"a-rather-long-name-{number:020}": b"" for number in range(2_000)})
    monkeypatch.setattr(archive.zipfile, "ZipFile", None)  # not reached
    assert "too many entries" in _refusal(many)


def test_an_encrypted_file_or_a_rare_compression_is_refused(files: dict[str, bytes]):
    assert "in a rare way" in _refusal(_zip(files, method=zipfile.ZIP_LZMA))
    packed = bytearray(_zip({MANIFEST: b"{}"}).getvalue())
    packed[packed.index(b"PK\x01\x02") + 8] |= 1
    assert "is encrypted" in _refusal(io.BytesIO(bytes(packed)))
