"""Ensembles: the mean of calibrated probabilities, one name whatever the order, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from classifier import Ensemble, load
from classifier.adapters.manifest import describe_adapter, read_manifest
from classifier.ensemble import ENSEMBLE, describe_ensemble, member_versions
from classifier.host import Hosts
from reviewloop.cli import app
from reviews.errors import AdapterError, WrongUse
from tests.tiny import tiny_adapter, tiny_base

TEXTS = ["Great, and it works.", "It is far too small.", "x"]


@pytest.fixture(scope="module")
def directories(base, tmp_path_factory):
    root = tmp_path_factory.mktemp("members")
    return [tiny_adapter(base, root, seed=seed, temperature=0.5 + seed) for seed in (1, 2, 3)]


@pytest.fixture
def versions(directories):
    return [describe_adapter(read_manifest(directory)) for directory in directories]


def test_an_ensemble_averages_the_calibrated_probabilities(base, directories, settings):
    members = [load(base, directory, settings) for directory in directories]
    each = [[one.probabilities for one in member.predict(TEXTS)] for member in members]
    ensemble = Ensemble(members)
    found = ensemble.predict(TEXTS)
    np.testing.assert_allclose([one.probabilities for one in found], np.mean(each, axis=0), atol=1e-6)
    assert {one.adapter_version for one in found} == {ensemble.adapter_version}


def test_the_members_in_any_order_are_one_ensemble_in_memory_and_in_the_registry(
    base, directories, settings, versions
):
    hosts = Hosts(settings)
    members = [hosts.load(str(base), directory) for directory in directories]
    described, files = describe_ensemble(versions)
    again = describe_ensemble(versions[::-1])
    assert again == (described, files)
    assert Ensemble(members).adapter_version == described.version
    assert Ensemble(members[::-1]).adapter_version == described.version
    assert set(member_versions(files[ENSEMBLE])) == {one.version for one in versions}
    assert (described.task, described.labels, described.metrics) == ("sentiment", versions[0].labels, {})


def test_classifiers_that_share_a_tokeniser_share_it_with_their_ensemble(base, directories, settings):
    hosts = Hosts(settings)
    members = [hosts.load(str(base), directory) for directory in directories[:2]]
    assert Ensemble(members).tokeniser is members[1].tokeniser


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"task": "tone"}, "task"),
        ({"labels": ("a", "b", "c")}, "labels"),
        ({"base_model": "roberta-base"}, "base model"),
    ],
)
def test_adapters_that_answer_other_questions_or_are_on_another_base_are_not_combined(
    versions, changed, reason
):
    with pytest.raises(WrongUse, match=f"differ in {reason}"):
        describe_ensemble([versions[0], replace(versions[1], **changed)])


def test_an_ensemble_has_two_different_members_and_none_of_them_is_an_ensemble(versions):
    for few in ([], versions[:1], [versions[0], versions[0]]):
        with pytest.raises(WrongUse, match="two different"):
            describe_ensemble(few)
    with pytest.raises(WrongUse, match="is an ensemble itself"):
        describe_ensemble([versions[0], describe_ensemble(versions[1:])[0]])


@pytest.mark.parametrize("content", [b"", b"[]", b'{"members": [{}]}', b'{"members": 1}'])
def test_a_damaged_file_of_an_ensemble_is_refused(content):
    with pytest.raises(AdapterError, match="cannot be read"):
        member_versions(content)


def test_predict_answers_with_the_ensemble_of_all_adapters_that_are_named(base, directories, monkeypatch):
    monkeypatch.setenv("REVIEWLOOP_CLASSIFIER__DEVICE", "cpu")
    monkeypatch.setenv("REVIEWLOOP_CLASSIFIER__PRECISION", "fp32")

    def said(*chosen):
        named = [part for directory in chosen for part in ("--adapter", str(directory))]
        result = CliRunner().invoke(app, ["predict", *named, *TEXTS, "--format", "jsonl"])
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.output.splitlines()]

    both, one, other = said(*directories[:2]), said(directories[0]), said(directories[1])
    for label in both[0]["probabilities"]:
        mean = [
            (a["probabilities"][label] + b["probabilities"][label]) / 2
            for a, b in zip(one, other, strict=True)
        ]
        np.testing.assert_allclose([row["probabilities"][label] for row in both], mean, atol=2e-6)
    assert both[0]["adapter_version"].startswith("sentiment-ensemble-")


def test_predict_refuses_adapters_of_different_questions(base, directories, tmp_path):
    other = tiny_adapter(base, tmp_path, labels=("no", "yes"), task="intent")
    with pytest.raises(WrongUse, match="differ in task or labels"):
        _raised("predict", "--adapter", directories[0], "--adapter", other, "Good.")


def test_predict_refuses_an_adapter_of_another_base(directories, tmp_path):
    foreign = tiny_adapter(tiny_base(tmp_path / "base", seed=9), tmp_path / "adapters")
    with pytest.raises(AdapterError, match="was fitted on"):
        _raised("predict", "--adapter", directories[0], "--adapter", foreign, "Good.")


def _raised(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception is not None:
        raise result.exception
    raise AssertionError(result.output)
