"""Which topics a choice of names and patterns takes."""

import re

from broker.topics import TopicChoice

TOPICS = ("reviews", "reviews2", "shop.toys", "shop.books", "shopXtoys", "shop.dead-letters", "labels")
CHOICE = TopicChoice(("labels", "shop.dead-letters"), (r"shop\..*", "reviews|x"), frozenset({"shop.books"}))


def test_names_are_taken_whole_and_patterns_match_whole_names_but_for_what_is_excluded():
    assert CHOICE.among(TOPICS) == ["labels", "reviews", "shop.dead-letters", "shop.toys"]


def test_a_choice_of_names_alone_takes_these_alone():
    choice = TopicChoice(("shop.toys",))
    assert choice.among(TOPICS) == ["shop.toys"]
    assert choice.expression is None


def test_kafka_python_which_matches_beginnings_takes_the_same_topics():
    expression = CHOICE.expression
    assert expression is not None
    assert [topic for topic in sorted(TOPICS) if re.compile(expression).match(topic)] == CHOICE.among(TOPICS)


def test_what_is_missing_is_named_a_pattern_too():
    choice = TopicChoice(("reviews", "gone"), (r"shop\..*", "none.*"))
    assert choice.missing_among(TOPICS) == ["gone", "/none.*/"]
    excluded = TopicChoice((), ("labels",), frozenset({"labels"}))
    assert excluded.missing_among(TOPICS) == ["/labels/"], "what is excluded is no match"
