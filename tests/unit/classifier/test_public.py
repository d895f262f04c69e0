"""What programs build on: the short API, several tasks, ensembles, streams."""

import json
import subprocess
import sys
import threading

import numpy as np
import pytest

from classifier import Ensemble, PEFTClassifier, TaskClassifiers, load
from classifier.adapters.manifest import WEIGHTS
from reviews.errors import AdapterError, WrongUse
from tests.tiny import SENTIMENTS, save_adapter, tiny_adapter, tiny_base, tiny_peft_model

TEXTS = ["Good.", "A rather long sentence about a kettle.", "x", "meh " * 12]


def _chances(predictions):
    return np.array([said.probabilities for said in predictions])


def test_importing_the_package_imports_no_torch():
    code = (
        "import sys, classifier; from classifier import ClassifierSettings; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_short_api_answers_with_label_and_confidence(base, adapter, settings):
    short = PEFTClassifier(str(base), str(adapter), settings)
    label, confidence = short.predict(TEXTS[0])
    said = load(str(base), adapter, settings).predict(TEXTS)
    assert (label, confidence) == pytest.approx((said[0].label, said[0].confidence))
    assert [pair[0] for pair in short.predict_batch(TEXTS)] == [one.label for one in said]
    assert short.labels == SENTIMENTS


def test_the_short_api_names_classes_itself_where_the_adapter_names_none(base, settings, tmp_path):
    tiny_peft_model(base).save_pretrained(tmp_path)
    assert PEFTClassifier(str(base), tmp_path, settings).predict("x")[0] in {"class_0", "class_1", "class_2"}


@pytest.fixture(scope="module")
def one(base, adapter, settings):
    return load(str(base), adapter, settings)


@pytest.fixture(
    scope="module",
    params=["predict", "predict_batch", "predict_stream", "ensemble", "task", "all tasks"],
)
def ask(request, base, adapter, settings, one):
    """Each public way to hand over texts."""
    short = PEFTClassifier(base, adapter, settings)
    tasks = TaskClassifiers(base, settings)
    tasks.add_adapter("sentiment", str(adapter))
    return {
        "predict": one.predict,
        "predict_batch": short.predict_batch,
        "predict_stream": lambda texts: list(one.predict_stream(texts)),
        "ensemble": Ensemble([one]).predict,
        "task": lambda texts: tasks.predict(texts, "sentiment"),
        "all tasks": lambda texts: tasks.predict_all(texts)["sentiment"],
    }[request.param]


@pytest.mark.parametrize("texts", ["Good.", b"Good.", {"Good.": 1}, None, 3], ids=repr)
def test_what_is_no_list_of_texts_is_refused_by_its_kind(ask, texts):
    with pytest.raises(WrongUse, match=r"texts is .*; hand over a list of texts, or \[text\] for one"):
        ask(texts)


@pytest.mark.parametrize(("text", "reason"), [
    ("", "is blank"), (" \n\t", "is blank"), ("\u200b", "is blank"), (None, "is None, not a str"),
    (7, "of the type int"), (b"Good.", "of the type bytes"), (["Good."], "of the type list"),
])  # fmt: skip
def test_what_is_no_text_is_refused_at_its_place_and_gets_no_label(ask, text, reason):
    with pytest.raises(WrongUse, match=rf"texts\[1\] .*{reason}|texts\[1\] {reason}"):
        ask(["Good.", text])


def test_texts_may_be_any_iterable(ask, one):
    expected = _chances(one.predict(TEXTS)).argmax(axis=1)
    for texts in (tuple(TEXTS), iter(TEXTS), np.array(TEXTS), dict.fromkeys(TEXTS).keys()):
        said = [getattr(answer, "label", answer[0]) for answer in ask(texts)]
        assert said == [SENTIMENTS[index] for index in expected]
    assert list(ask([])) == []


def test_one_text_is_one_text(base, adapter, settings):
    short = PEFTClassifier(base, adapter, settings)
    for wrong in (["Good."], None, ""):
        with pytest.raises(WrongUse, match="text is"):
            short.predict(wrong)


def test_a_stream_is_checked_before_it_is_begun(one):
    with pytest.raises(WrongUse, match="texts is of the type str"):
        one.predict_stream("Good.")
    for wrong in (0, -1, 2.5, True, None):
        with pytest.raises(WrongUse, match=r"window_texts is .* whole number from 1"):
            one.predict_stream(TEXTS, window_texts=wrong)


def test_paths_may_be_str_or_path_and_settings_may_be_left_out(base, adapter, one):
    for base_model, directory in ((str(base), str(adapter)), (base, adapter)):
        said = load(base_model, directory).predict(TEXTS)
        assert [answer.label for answer in said] == [answer.label for answer in one.predict(TEXTS)]


def test_arguments_of_another_kind_are_refused_by_name(base, adapter, settings, one):
    for call, reason in (
        (lambda: load(None, adapter, settings), "base_model is None"),
        (lambda: load("", adapter, settings), "base_model is an empty str"),
        (lambda: load(str(base), 3, settings), "adapter_directory is of the type int"),
        (lambda: load(str(base), "", settings), "adapter_directory is an empty str"),
        (lambda: load(str(base), adapter, {"device": "cpu"}), "settings is of the type dict"),
        (lambda: PEFTClassifier(str(base), None), "adapter_directory is None"),
        (lambda: TaskClassifiers(3), "base_model is of the type int"),
        (lambda: TaskClassifiers(base, settings).add_adapter(None, adapter), "task is None"),
        (lambda: TaskClassifiers(base, settings).add_adapter("t", None), "directory is None"),
        (lambda: Ensemble(one), "made of a list of classifiers"),
        (lambda: Ensemble([one, "x"]), "of the type str"),
        (lambda: one.encode("Good."), "texts is of the type str"),
        (lambda: Ensemble([one]).encode("Good."), "texts is of the type str"),
    ):
        with pytest.raises(WrongUse, match=reason):
            call()
    with pytest.raises(AdapterError, match="is not a directory"):
        load(str(base), "nowhere", settings)


def test_members_of_an_ensemble_read_the_same_tokens(one, settings, tmp_path):
    base = tiny_base(tmp_path / "base", "qwen2")
    tiny_peft_model(base).save_pretrained(tmp_path / "plain")
    (tmp_path / "plain" / "config.json").write_text(json.dumps({"id2label": dict(enumerate(SENTIMENTS))}))
    with pytest.raises(WrongUse, match="read texts as other tokens"):
        Ensemble([one, load(base, tmp_path / "plain", settings)])


def test_a_stream_gives_the_predictions_of_its_texts_in_order(base, adapter, settings):
    classifier = load(str(base), adapter, settings)
    texts = [f"text number {number} " * (number % 3 + 1) for number in range(50)]
    streamed = list(classifier.predict_stream(iter(texts), window_texts=7))
    np.testing.assert_allclose(_chances(streamed), _chances(classifier.predict(texts)), atol=1e-5)


def test_a_stream_reads_no_further_ahead_than_two_windows(base, adapter, settings):
    classifier = load(str(base), adapter, settings)
    taken = []

    def source():
        for number in range(1000):
            taken.append(number)
            yield f"text {number}"

    stream = classifier.predict_stream(source(), window_texts=10)
    next(stream)
    assert len(taken) <= 20
    stream.close()


@pytest.fixture(scope="module")
def other(base, tmp_path_factory):
    root = tmp_path_factory.mktemp("other")
    return tiny_adapter(base, root, labels=("rude", "polite"), task="toxicity", seed=9)


@pytest.mark.parametrize("mode", ["merged", "shared"])
def test_several_tasks_answer_as_each_alone(base, adapter, other, settings, mode):
    together = TaskClassifiers(str(base), settings.model_copy(update={"adapters": mode}))
    together.add_adapter("sentiment", adapter)
    together.add_adapter("toxicity", other)
    said = together.predict_all(TEXTS)
    assert list(said) == ["sentiment", "toxicity"]
    for task, directory in (("sentiment", adapter), ("toxicity", other)):
        alone = load(str(base), directory, settings).predict(TEXTS)
        np.testing.assert_allclose(_chances(said[task]), _chances(alone), atol=1e-5)
        assert {one.label for one in said[task]} <= set(together.classifier(task).labels)


def test_two_tasks_in_shared_mode_have_one_base_in_memory(base, adapter, other, settings):
    together = TaskClassifiers(str(base), settings.model_copy(update={"adapters": "shared"}))
    first, second = (
        together.add_adapter(task, directory).answering.engine.encoder
        for task, directory in (("sentiment", adapter), ("toxicity", other))
    )
    assert first.tables is second.tables
    for one, two in zip(first.layers, second.layers, strict=True):
        assert one.wide is two.wide  # adapted by neither
        assert one.attended is not two.attended
        assert one.attended.shared is two.attended.shared


def test_an_adapter_that_cannot_be_shared_is_merged_instead(base, settings, tmp_path):
    from peft import LoraConfig, TaskType, get_peft_model

    from classifier.base_model import locate, quiet_transformers
    from classifier.model import load_base

    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=2, target_modules=["query"], use_dora=True)
    with quiet_transformers():
        model = get_peft_model(load_base(locate(str(base)), 3), config)
    directory = save_adapter(model, tmp_path, {"task": "sentiment", "labels": SENTIMENTS})
    shared = load(str(base), directory, settings.model_copy(update={"adapters": "shared"}))
    merged = load(str(base), directory, settings)
    np.testing.assert_allclose(_chances(shared.predict(TEXTS)), _chances(merged.predict(TEXTS)), atol=1e-5)


def test_an_adapter_for_another_task_is_refused(base, other, settings):
    with pytest.raises(WrongUse, match="for the task 'toxicity', not 'sentiment'"):
        TaskClassifiers(str(base), settings).add_adapter("sentiment", other)


def test_a_task_that_is_not_served_is_wrong_use(base, adapter, settings):
    together = TaskClassifiers(str(base), settings)
    together.add_adapter("sentiment", adapter)
    together.remove_adapter("sentiment")
    with pytest.raises(WrongUse, match="there are: none"):
        together.predict(TEXTS, "sentiment")
    assert together.predict_all(TEXTS) == {}


def test_a_broken_adapter_leaves_the_old_one_serving(base, adapter, settings, tmp_path):
    together = TaskClassifiers(str(base), settings)
    serving = together.add_adapter("sentiment", adapter)
    broken = tiny_adapter(base, tmp_path, seed=3)
    (broken / WEIGHTS).write_bytes(b"rubbish")
    with pytest.raises(AdapterError):
        together.add_adapter("sentiment", broken)
    assert together.classifier("sentiment") is serving


def test_every_row_scored_during_exchanges_reproduces_under_the_adapter_it_names(
    base, adapter, settings, tmp_path
):
    directories = [adapter, tiny_adapter(base, tmp_path, seed=3)]
    together = TaskClassifiers(str(base), settings)
    references = {}
    for directory in directories:
        one = together.add_adapter("sentiment", directory)
        references[one.adapter_version] = _chances(one.predict(TEXTS))
    finished = threading.Event()
    seen = []

    def score():
        while not finished.is_set():
            seen.append(together.predict(TEXTS, "sentiment"))

    thread = threading.Thread(target=score)
    thread.start()
    for turn in range(6):
        together.add_adapter("sentiment", directories[turn % 2])
    finished.set()
    thread.join()
    assert {said[0].adapter_version for said in seen} == set(references)
    for said in seen:
        assert len({one.adapter_version for one in said}) == 1
        np.testing.assert_allclose(_chances(said), references[said[0].adapter_version], atol=1e-5)


def test_an_ensemble_of_different_questions_is_refused(base, adapter, other, settings):
    with pytest.raises(WrongUse, match="differ in task or labels"):
        Ensemble([load(str(base), directory, settings) for directory in (adapter, other)])
    with pytest.raises(WrongUse, match="at least one"):
        Ensemble([])


def test_another_base_of_the_same_shape_shows_in_the_probes_even_without_a_hash(base, settings, tmp_path):
    from classifier.adapters.manifest import Probe, read_files, read_manifest
    from classifier.adapters.store import assemble, write_files

    foreign = tiny_base(tmp_path / "foreign", seed=7)
    directory = tiny_adapter(base, tmp_path)
    said = load(str(base), directory, settings).predict(["Fine, thank you."])[0]
    fields = read_manifest(directory).model_dump(exclude={"files", "base_sha256"})
    fields["probes"] = [Probe(text="Fine, thank you.", probabilities=said.probabilities)]
    probed = write_files(assemble(read_files(directory)[1], fields), tmp_path / "probed")
    load(str(base), probed, settings)
    with pytest.raises(AdapterError, match="probe 1"):
        load(str(foreign), probed, settings)
