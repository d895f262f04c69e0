import json
import shutil
import subprocess
import sys

import pytest
import torch
from peft import IA3Config, PeftModel, PromptTuningConfig, TaskType, get_peft_model

from classifier.adapters.manifest import CARD, CONFIG, MANIFEST, WEIGHTS, read_files, read_manifest
from classifier.adapters.store import assemble, peft_files, verify, write_files
from classifier.base_model import locate, quiet_transformers
from classifier.model import load_base, merge
from reviews.errors import AdapterError
from tests.tiny import SENTIMENTS, tiny_adapter, tiny_peft_model


@pytest.fixture
def copy(adapter, tmp_path):
    return shutil.copytree(adapter, tmp_path / "copy")


def test_the_version_is_the_task_and_the_beginning_of_the_directory_s_name(adapter):
    manifest = read_manifest(adapter)
    assert manifest.version == f"sentiment-{adapter.name[:12]}"
    assert adapter.name == manifest.content_hash
    assert manifest.labels == SENTIMENTS


def test_the_same_weights_give_the_same_directory(base, adapter, tmp_path):
    assert tiny_adapter(base, tmp_path).name == adapter.name


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
@pytest.mark.parametrize("place", [0.1, 0.5, 0.99])
def test_one_flipped_bit_in_a_file_is_refused(copy, name, place):
    content = bytearray((copy / name).read_bytes())
    content[int(len(content) * place)] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(AdapterError, match=r"does not match its hash|is not JSON"):
        verify(copy)


def test_an_altered_manifest_is_refused(copy):
    raw = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps(raw | {"temperature": 9.0}))
    with pytest.raises(AdapterError, match="does not match its own hash"):
        verify(copy)


def test_another_adapter_than_the_one_asked_for_is_refused(adapter):
    with pytest.raises(AdapterError, match="not the one asked for"):
        verify(adapter, "0" * 64)


@pytest.mark.parametrize("name", ["adapter_model.bin", "training_args.bin", "state.PT", "x.pkl"])
def test_a_file_that_would_be_unpickled_is_refused(copy, name):
    (copy / name).write_bytes(b"")
    with pytest.raises(AdapterError, match="can run code"):
        read_manifest(copy)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(AdapterError, match=name):
        read_manifest(copy)


def test_a_mended_card_leaves_the_version_as_it_was(copy, adapter):
    (copy / CARD).write_text("Now with the licence of the data.")
    assert verify(copy).version == read_manifest(adapter).version


@pytest.fixture
def prompted(base, tmp_path):
    """An adapter as plain peft writes it, of virtual words in front of every text."""
    config = PromptTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=2)
    with quiet_transformers():
        model = get_peft_model(load_base(locate(str(base)), 3), config)
        model.save_pretrained(tmp_path / "prompted", save_embedding_layers=False)
    return tmp_path / "prompted"


def test_an_adapter_of_a_method_that_is_not_run_here_is_refused_with_those_that_are(prompted):
    with pytest.raises(AdapterError, match=r"the peft type PROMPT_TUNING, which .* one of LORA, IA3"):
        read_manifest(prompted)
    raw = json.loads((prompted / CONFIG).read_text())
    del raw["peft_type"]
    (prompted / CONFIG).write_text(json.dumps(raw))
    with pytest.raises(AdapterError, match="the peft type None"):
        read_manifest(prompted)


def test_what_cannot_be_merged_is_an_error_of_the_adapter(base, tmp_path):
    config = IA3Config(
        task_type=TaskType.SEQ_CLS, target_modules=["query", "classifier.dense"], feedforward_modules=[]
    )
    with quiet_transformers():
        get_peft_model(load_base(locate(str(base)), 3), config).save_pretrained(tmp_path)
    with pytest.raises(AdapterError, match="cannot be merged"):
        merge(load_base(locate(str(base)), 3), tmp_path, read_manifest(tmp_path))


def test_a_configuration_that_names_a_module_to_import_is_refused(copy):
    raw = json.loads((copy / CONFIG).read_text())
    (copy / CONFIG).write_text(json.dumps(raw | {"megatron_config": {"a": 1}, "megatron_core": "os"}))
    with pytest.raises(AdapterError, match="Megatron"):
        read_manifest(copy)


def test_files_carried_elsewhere_make_the_same_adapter(adapter, tmp_path):
    manifest, files = read_files(adapter)
    there = write_files(files, tmp_path)
    assert there == tmp_path / manifest.content_hash
    assert read_files(there)[1] == files


def test_a_damaged_cache_is_written_again(adapter, tmp_path):
    files = read_files(adapter)[1]
    there = write_files(files, tmp_path)
    (there / WEIGHTS).write_bytes(b"rubbish")
    assert write_files(files, tmp_path) == there
    verify(there)
    assert [path.name for path in tmp_path.iterdir()] == [there.name]


def test_carried_files_that_were_altered_are_not_written(adapter, tmp_path):
    files = read_files(adapter)[1] | {WEIGHTS: b"rubbish"}
    with pytest.raises(AdapterError, match="does not match its hash"):
        write_files(files, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../escape", "a/b", "", ".hidden", ".."])
def test_a_file_name_that_leaves_the_directory_is_refused(adapter, tmp_path, name):
    files = read_files(adapter)[1]
    files = assemble(
        {CONFIG: files[CONFIG], WEIGHTS: files[WEIGHTS], name: b""}, {"task": "t", "labels": ("a", "b")}
    )
    with pytest.raises(AdapterError, match="cannot hold a file named"):
        write_files(files, tmp_path)


def test_a_plain_peft_directory_has_made_up_labels(base, tmp_path):
    tiny_peft_model(base).save_pretrained(tmp_path)
    manifest = read_manifest(tmp_path)
    assert manifest.labels == ("class_0", "class_1", "class_2")
    assert not manifest.has_manifest
    files = read_files(tmp_path)[1]
    there = write_files(files, tmp_path / "cache")
    assert read_manifest(there).version == manifest.version


def test_a_plain_peft_directory_takes_the_labels_of_its_config(base, tmp_path):
    tiny_peft_model(base).save_pretrained(tmp_path)
    names = dict(enumerate(SENTIMENTS))
    (tmp_path / "config.json").write_text(json.dumps({"id2label": names}))
    assert read_manifest(tmp_path).labels == SENTIMENTS


BAD_LABELS = {
    "twice the same": (("good", "good"), "there twice"),
    "twice the same letter, written in two ways": (("caf\u00e9", "cafe\u0301"), "there twice"),
    "the answer of those who cannot tell": (("good", "unsure"), "the answer of people who cannot tell"),
    "NUL": (("good", "b\x00ad"), "cannot be printed or stored"),
    "a terminal's escape": (("good", "\x1b[2Jbad"), "cannot be printed or stored"),
    "half a surrogate pair": (("good", "\ud800"), "cannot be printed or stored"),
    "a line end": (("good", "b\nad"), "cannot be printed or stored"),
    "what turns the text around it": (("good", "\u202ebad"), "cannot be printed or stored"),
    "more than an index holds": (("good", "\u8a55" * 2_000), "2,000 characters; at most 256"),
    "nothing to see": (("good", "\u200b"), "no visible character"),
    "an empty one": (("good", ""), "no visible character"),
    "outer blanks": (("good", " bad"), "begins or ends with blanks"),
    "more than a task has": (tuple(f"n{number}" for number in range(1_001)), "1,001 labels"),
    "one alone": (("good",), "at least two"),
    "none": ((), "at least two"),
}


@pytest.mark.parametrize(("labels", "reason"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_an_adapter_whose_labels_are_not_fit_to_be_stored_and_chosen_is_refused(adapter, labels, reason):
    files = read_files(adapter)[1]
    fields = {"task": "t", "labels": labels, "base_model": "x"}
    with pytest.raises(AdapterError, match=reason):
        assemble({CONFIG: files[CONFIG], WEIGHTS: files[WEIGHTS]}, fields)


@pytest.mark.parametrize(
    "name",
    ["two words", "\u8a55" * 256, "\u0628\u06cc\u200c\u0637\u0631\u0641", "0", "\U0001f469\u200d\U0001f467"],
)
def test_a_label_may_have_any_script_joiners_and_256_characters(adapter, name):
    files = read_files(adapter)[1]
    made = assemble({CONFIG: files[CONFIG], WEIGHTS: files[WEIGHTS]}, {"task": "t", "labels": ("good", name)})
    assert json.loads(made[MANIFEST])["labels"] == ["good", name]


@pytest.mark.parametrize(
    "field",
    [
        {"task": "a\x00b"},
        {"task": "a\n"},
        {"base_model": "a\x00b"},
        {"parent": "\x00"},
        {"metrics": {"a\x00": 1.0}},
        {"metrics": {"f1": float("nan")}},
        {"temperature": 0.0},
    ],
    ids=str,
)
def test_a_manifest_holds_nothing_that_the_database_cannot_store(adapter, field):
    files = read_files(adapter)[1]
    fields = {"task": "t", "labels": ("a", "b")} | field
    with pytest.raises(AdapterError, match=next(iter(field))):
        assemble({CONFIG: files[CONFIG], WEIGHTS: files[WEIGHTS]}, fields)


@pytest.mark.parametrize("names", [["bad", "bad", "good"], ["bad", "unsure", "good"], ["a", "b\x00", "c"]])
def test_the_labels_of_a_plain_peft_directory_are_checked_as_well(base, tmp_path, names):
    tiny_peft_model(base).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"id2label": dict(enumerate(names))}))
    with pytest.raises(AdapterError, match="labels: "):
        read_manifest(tmp_path)


@pytest.mark.parametrize("problem", ["regression", "multi_label_classification"])
def test_a_model_that_does_not_choose_one_label_of_several_is_refused(base, tmp_path, problem):
    tiny_peft_model(base).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"problem_type": problem}))
    with pytest.raises(AdapterError, match=f"problem_type {problem}; this classifier chooses one label"):
        read_manifest(tmp_path)


def test_an_adapter_with_a_manifest_that_answers_each_label_with_yes_or_no_is_refused_too(base, tmp_path):
    directory = tiny_adapter(base, tmp_path)
    (directory / "config.json").write_text(json.dumps({"problem_type": "multi_label_classification"}))
    with pytest.raises(AdapterError, match="problem_type multi_label_classification"):
        read_manifest(directory)


def test_a_head_of_one_output_is_refused_in_a_line(base, tmp_path):
    tiny_peft_model(base, num_labels=1).save_pretrained(tmp_path)
    with pytest.raises(AdapterError, match=r"a head of one output.* one label of several") as caught:
        read_manifest(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_configuration_nested_beyond_all_measure_is_refused(base, tmp_path):
    tiny_peft_model(base).save_pretrained(tmp_path)
    (tmp_path / CONFIG).write_text("[" * 200_000)
    with pytest.raises(AdapterError, match="is not JSON"):
        read_manifest(tmp_path)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's own use of it
def test_plain_peft_loads_a_saved_adapter_and_answers_the_same(base, adapter):
    fitted = tiny_peft_model(base)
    loaded = PeftModel.from_pretrained(load_base(locate(str(base)), 3), adapter).eval()
    ids = torch.arange(5, 25)[None]
    with torch.inference_mode():
        torch.testing.assert_close(loaded(ids).logits, fitted(ids).logits)


def test_narrower_weights_halve_the_file(base):
    model = tiny_peft_model(base)
    wide, narrow = peft_files(model, "x")[WEIGHTS], peft_files(model, "x", torch.bfloat16)[WEIGHTS]
    assert len(narrow) < 0.75 * len(wide)  # headers do not shrink


def test_reading_adapters_imports_no_torch():
    modules = "classifier.adapters.manifest, classifier.adapters.store, classifier.settings"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
