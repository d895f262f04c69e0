import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reviews.errors import WrongUse
from trainer.data.dataset import class_names, own_names, read_dataset, read_labelled, with_classes
from trainer.data.inspection import contradictions, straddling
from trainer.data.near_duplicates import THRESHOLD, duplicate_groups, jaccard, word_pairs, words
from trainer.data.splitting import stratified_split

_ROWS = [("good, really", 2), ("bad", 0), ("so so", 1), ("a\nb", 2)]


def test_csv_json_lines_and_parquet_hold_the_same_rows(tmp_path):
    (tmp_path / "r.csv").write_text('text,label\n"good, really",2\nbad,0\nso so,1\n"a\nb",2\n')
    (tmp_path / "r.jsonl").write_text("\n".join(json.dumps({"text": t, "label": y}) for t, y in _ROWS))
    columns = {"text": [text for text, _ in _ROWS], "label": [label for _, label in _ROWS]}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "r.parquet")
    for name in ("r.csv", "r.jsonl", "r.parquet"):
        rows = read_dataset(tmp_path / name)
        assert list(zip(rows.texts, rows.labels, strict=True)) == _ROWS


def test_every_bad_row_is_listed_by_the_line_it_begins_on(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text('text,label\n"a\nb",0\n,1\nc,9\nd,1,extra\ne,\nf,1\n')
    rows, problems = with_classes(read_labelled(path), ("no", "yes"))
    assert [row.text for row, _ in rows] == ["a\nb", "f"]
    assert [problem.place for problem in problems] == ["line 4", "line 5", "line 6", "line 7"]
    assert "There is no text in 'text'" in str(problems[0])
    assert "'9' is none of no, yes" in str(problems[1])
    assert "3 cells and the header 2" in str(problems[2])
    assert "The label is empty" in str(problems[3])


def test_bad_json_lines_are_listed_too(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text(
        '{"text": "a", "label": 0}\nnot json\n[1]\n{"text": "\\ud800", "label": 1}\n{"text": 5, "label": 1}'
    )
    reasons = [str(problem) for problem in read_labelled(path).mistakes]
    assert [reason.split(":")[0] for reason in reasons] == ["line 2", "line 3", "line 4", "line 5"]
    assert "surrogate" in reasons[2]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.csv.gz", b"nothing packed", "cannot be read"),
        ("r.parquet", b"PAR1", "no Parquet file that can be read"),
        ("r.csv", b"text,label\na,0\nb,1\n", "2 rows for 3 classes"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WrongUse, match=message):
        read_dataset(tmp_path / name, num_labels=3)


def test_three_numbers_of_the_sentiment_task_have_names():
    assert class_names(["2", "0"], task="sentiment") == ("negative", "neutral", "positive")
    assert class_names(["1", "0"], task="sentiment") == ("class_0", "class_1")
    assert class_names(["b", "a"]) == ("a", "b")
    with pytest.raises(WrongUse, match=r"2 labels \(a, b\), not 3"):
        class_names(["a", "b"], num_labels=3)


@pytest.mark.parametrize("label", ["20000000", "9" * 5000])
def test_a_number_far_beyond_the_count_of_labels_is_no_class(label):
    with pytest.raises(WrongUse, match=rf"one of the 3 different labels is {label[:30]}; correct it"):
        class_names(["0", "1", label])
    assert len(class_names([str(number) for number in range(0, 101, 10)])) == 101
    assert len(class_names(["1", "5"])) == 6


@pytest.mark.parametrize("label", ["unsure", "b\x1b[2J", "\u8a55" * 300, "\u202ebad"])
def test_a_class_that_cannot_be_a_label_is_refused_before_anything_is_fitted(tmp_path, label):
    (tmp_path / "r.csv").write_text(f"text,label\na,{label}\nb,good\n")
    with pytest.raises(WrongUse, match="cannot be the labels of an adapter: label "):
        read_dataset(tmp_path / "r.csv")
    with pytest.raises(WrongUse, match="cannot be the labels"):
        with_classes(read_labelled(tmp_path / "r.csv"), ("good", label))
    with pytest.raises(WrongUse, match="'good' is there twice"):
        with_classes(read_labelled(tmp_path / "r.csv"), ("good", "good"))


@pytest.mark.parametrize("several", ["price;delivery", "delivery, price", "price|price"])
def test_several_labels_in_one_are_refused_and_become_no_class_of_their_own(tmp_path, several):
    for names in (own_names, class_names):
        with pytest.raises(WrongUse, match=r"is several labels in one\. .*make each label a task of its own"):
            names(["delivery", "price", several])
        assert names(["price", "quality, not price"]) == ("price", "quality, not price")
    rows = [{"text": "Late, and dear.", "label": ["price", "delivery"]}, {"text": "Dear.", "label": "price"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(WrongUse, match=r"line 1: The label must be one label, not a list\. Each review has"):
        read_dataset(tmp_path / "rows.jsonl")


def test_labels_by_their_own_names_are_sorted_and_numbers_by_size():
    assert own_names(["b", "a", "b"]) == ("a", "b")
    assert own_names(["10", "9", "1"]) == ("1", "9", "10")
    assert own_names(["10", "9", "x"]) == ("10", "9", "x")
    assert own_names([]) == ()


_TEXTS = st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=9).map(" ".join), max_size=25)


@given(_TEXTS)
@settings(deadline=None)
def test_no_pair_of_near_duplicates_is_missed(texts):
    groups = duplicate_groups(texts)
    sets = [word_pairs(words(text)) for text in texts]
    for one in range(len(texts)):
        for other in range(one):
            if jaccard(sets[one], sets[other]) >= THRESHOLD:
                assert groups[one] == groups[other]


def test_texts_that_merely_share_words_are_no_near_duplicates():
    texts = [
        "I love this dress, it fits perfectly and the colour is great on me.",
        "i LOVE this dress - it fits perfectly and the color is great on me!",
        "This dress fits me perfectly but I do not love the colour.",
        "全く同じ文章です", "全く同じ文章です。",
    ]  # fmt: skip
    assert duplicate_groups(texts) == [0, 0, 2, 3, 3]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), min_size=1, max_size=120), st.integers(0, 3)
)
@settings(deadline=None)
def test_a_group_never_straddles_a_split(rows, seed):
    labels, groups = [label for label, _ in rows], [group for _, group in rows]
    parts = stratified_split(labels, groups, seed)
    for group in set(groups):
        assert len({part for part, its in zip(parts, groups, strict=True) if its == group}) == 1


def test_a_split_is_80_10_10_in_every_class_and_follows_the_seed():
    labels = [0] * 200 + [1] * 100 + [2] * 50
    groups = [index // 2 if index < 60 else index for index in range(350)]
    parts = np.array(stratified_split(labels, groups, seed=3))
    for label, count in ((0, 200), (1, 100), (2, 50)):
        sizes = [int((parts[np.array(labels) == label] == part).sum()) for part in range(3)]
        assert np.abs(np.array(sizes) - np.array([0.8, 0.1, 0.1]) * count).max() <= 1
    assert parts.tolist() == stratified_split(labels, groups, seed=3)
    assert parts.tolist() != stratified_split(labels, groups, seed=4)


def test_contradictions_and_straddling_texts_are_told(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("text,label\nvery good indeed,1\nother words here,0\nVery good indeed!,0\n")
    rows, _ = with_classes(read_labelled(path), ("no", "yes"))
    found = contradictions(rows, duplicate_groups([row.text for row, _ in rows]))
    assert [str(one) for one in found] == ["line 4: nearly the text of line 2, with another label"]
    seen = straddling([("train", ["one two three", "x"]), ("test", ["One, two, three"]), ("val", ["y"])])
    assert [str(one) for one in seen] == ["test and train: 1 text(s) stand nearly alike in each"]
