"""The bundled reviews keep the promises of their README."""

import json
import re
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path

import reviewloop
from reviews.message import parse_review

FOLDER = Path(reviewloop.__file__).parent / "demo"
LINES = (FOLDER / "reviews.jsonl").read_bytes().splitlines()
SAMPLE = [json.loads(line) for line in LINES]
README = (FOLDER / "README.md").read_text(encoding="utf-8")

LABEL_OF_STARS = {1: "negative", 2: "negative", 3: "neutral", 4: "positive", 5: "positive"}


def normalised(text):
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def words(text):
    return re.findall(r"\w+", text.lower())


def table(heading):
    """Name and count of each row of the README's table whose first column has this heading."""
    rows = README.split(f"| {heading} | reviews |", 1)[1].split("\n\n", 1)[0]
    return {name: int(count) for name, count in re.findall(r"^\| `([\w:]+)` \| (\d+) \|", rows, re.MULTILINE)}


def count_of(field):
    return Counter(review[field] for review in SAMPLE)


def test_the_sample_holds_at_least_300_reviews():
    assert len(SAMPLE) >= 300


def test_every_line_is_a_review_by_the_publishing_contract():
    contract = ("id", "text", "product", "source", "stars")
    parsed = [parse_review(line).model_dump(include=set(contract)) for line in LINES]
    assert parsed == [{name: review[name] for name in contract} for review in SAMPLE]


def test_every_review_has_exactly_the_fields_of_the_readme():
    fields = set(re.findall(r"^\| `(\w+)` \|", README.split("## Counts")[0], re.MULTILINE))
    assert {frozenset(review) for review in SAMPLE} == {frozenset(fields)}


def test_ids_count_up_without_a_gap():
    assert [review["id"] for review in SAMPLE] == [f"sample-{n:04d}" for n in range(1, len(SAMPLE) + 1)]


def test_every_label_follows_from_the_stars():
    assert [review["label"] for review in SAMPLE] == [LABEL_OF_STARS[review["stars"]] for review in SAMPLE]


def test_every_source_is_one_of_four():
    assert set(count_of("source")) == {"web", "app", "email", "store"}


def test_no_two_texts_are_the_same_after_normalisation():
    counts = Counter(normalised(review["text"]) for review in SAMPLE)
    assert [text for text, count in counts.items() if count > 1] == []


def test_no_six_words_in_a_row_stand_in_two_reviews():
    holders = defaultdict(set)
    for review in SAMPLE:
        spoken = words(review["text"])
        for start in range(len(spoken) - 5):
            holders[" ".join(spoken[start : start + 6])].add(review["id"])
    assert {run: ids for run, ids in holders.items() if len(ids) > 1} == {}


def test_the_readme_counts_every_label():
    assert table("label") == count_of("label")
    assert len(table("label")) == 3


def test_the_readme_counts_every_trait_and_language():
    assert table("trait") == count_of("trait")


def test_the_readme_counts_reviews_and_products():
    assert f"holds {len(SAMPLE)} product reviews" in README
    assert f"`sample-0001` to `{SAMPLE[-1]['id']}`" in README
    assert f"{len(count_of('product'))} different ones" in README


def test_the_readme_counts_clothing_and_shoes():
    paragraph = README.split("Clothing and shoes make up ", 1)[1].split("\n\n", 1)[0]
    inside, outside = (int(number) for number in re.findall(r"\d+", paragraph)[:2])
    clothing = set(re.findall(r"`([\w-]+)`", paragraph))
    counted = sum(review["product"] in clothing for review in SAMPLE)
    assert (inside, outside) == (counted, len(SAMPLE) - counted)
    assert clothing <= set(count_of("product"))


def test_long_reviews_have_700_words_and_more():
    long = [review for review in SAMPLE if review["trait"] == "long"]
    assert len(long) >= 6
    assert min(len(review["text"].split()) for review in long) >= 700
