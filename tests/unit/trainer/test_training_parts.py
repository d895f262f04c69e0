import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score

from drift.audited import AuditAnswers, audited_performance
from drift.performance import performance
from reviews.errors import WrongUse
from trainer.data.dataset import class_counts, read_dataset
from trainer.fitting.loop import length_grouped_batches
from trainer.gate.statistics import score, tallies
from trainer.metrics import confusion, evaluate, f1_scores, metric_intervals


@pytest.fixture
def csv(tmp_path):
    def write(content: str):
        path = tmp_path / "rows.csv"
        path.write_text(content, encoding="utf-8")
        return path

    return write


def test_labels_may_be_names_or_indices(csv):
    names = ("negative", "neutral", "positive")
    rows = read_dataset(csv('id,text,label\n1,"a, b",2\n2,c,negative\n3,d,2\n'), names=names)
    assert rows.texts == ("a, b", "c", "d")
    assert rows.labels == (2, 0, 2)
    assert class_counts(rows) == {"negative": 1, "neutral": 0, "positive": 2}


def test_numbers_without_names_are_called_class_0_and_so_on(csv):
    assert read_dataset(csv("text,label\na,0\nb,2\nc,2\n")).names == ("class_0", "class_1", "class_2")


def test_a_packed_file_has_the_hash_of_its_content(csv, tmp_path):
    plain = csv("text,label\na,x\nb,y\n")
    packed = tmp_path / "rows.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_dataset(packed) == read_dataset(plain)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na,0\n ,1\nb,7\n", r"line 3: The text is not valid.*\n  line 4: The label '7'"),
        ("body,label\na,0\n", r"no column 'text' \(it has: body, label\)"),
        ("text,label\na,0\nb,0\n", r"1 class\(es\) in 2 row"),
        ("text,label\n", r"0 class\(es\) in 0 row"),
        (
            "text,label\na\nb,\n",
            "line 2: The row has 1 cells.*\n  line 3: The label is empty",
        ),
    ],
)
def test_rows_that_cannot_be_used_are_named(csv, content, message):
    with pytest.raises(WrongUse, match=message):
        read_dataset(csv(content), names=("no", "yes"))


def test_a_missing_file_is_wrong_use(tmp_path):
    with pytest.raises(WrongUse, match="cannot be read: No such file"):
        read_dataset(tmp_path / "none.csv")


@given(st.lists(st.integers(1, 300), max_size=300), st.integers(1, 20), st.integers(0, 3))
def test_an_epoch_holds_every_row_once(lengths, batch_size, epoch):
    batches = length_grouped_batches(np.array(lengths, int), batch_size, seed=0, epoch=epoch)
    assert sorted(int(index) for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) <= batch_size for batch in batches)


def test_order_follows_seed_and_epoch_alone():
    lengths = np.arange(200) % 37

    def order(seed, epoch):
        return np.concatenate(length_grouped_batches(lengths, 8, seed, epoch)).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_grouping_by_length_needs_less_padding_than_chance():
    lengths = np.random.default_rng(0).integers(5, 200, 2000)

    def padded(batches):
        return sum(len(batch) * lengths[batch].max() for batch in batches)

    by_chance = [np.arange(start, start + 16) for start in range(0, 2000, 16)]
    assert padded(length_grouped_batches(lengths, 16, 0, 0)) < 0.7 * padded(by_chance)


def test_macro_f1_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    truth, predicted = random.integers(0, 4, 500), random.integers(0, 3, 500)
    ours = f1_scores(confusion(truth, predicted, 4)).mean()
    assert ours == pytest.approx(
        f1_score(truth, predicted, average="macro", labels=range(4), zero_division=0)
    )


@pytest.mark.parametrize("classes", [3, 6])
def test_classes_without_a_row_count_in_no_mean(classes):
    random = np.random.default_rng(0)
    truth, predicted = random.integers(1, 3, 200), random.integers(0, 3, 200)
    metrics = evaluate(np.eye(classes)[predicted], truth)
    present = np.unique(truth)
    told = {"average": "macro", "labels": present, "zero_division": 0}
    assert metrics["macro_f1"] == pytest.approx(f1_score(truth, predicted, **told))
    assert metrics["macro_precision"] == pytest.approx(precision_score(truth, predicted, **told))
    assert metrics["macro_recall"] == pytest.approx(recall_score(truth, predicted, **told))


def test_a_perfect_answer_is_perfect_to_everybody_who_measures_it_without_a_row_of_one_class():
    truth = np.repeat(np.arange(1, 6), 40)
    right = np.eye(6)[truth]
    assert evaluate(right, truth)["macro_f1"] == 1
    assert metric_intervals(right, truth)["macro_f1"] == (1, 1)
    sums = tallies(truth, truth, 6).sum(axis=0)
    assert score(sums, len(truth), "macro_f1") == 1
    counts = confusion(truth, truth, 6).astype(float)
    assert performance(counts).macro_f1 == 1
    answers = AuditAnswers(truth, truth, right, np.ones(len(truth)))
    assert audited_performance(answers).macro_f1.value == pytest.approx(1)


def test_metrics_of_no_rows_are_zero():
    assert evaluate(np.empty((0, 3)), np.empty(0, np.int64))["macro_f1"] == 0


def test_a_perfect_answer_has_perfect_metrics():
    truth = np.array([0, 1, 2, 1])
    metrics = evaluate(np.eye(3)[truth], truth)
    assert metrics == {
        "accuracy": 1, "macro_f1": 1, "macro_precision": 1, "macro_recall": 1, "calibration_error": 0,
    }  # fmt: skip
