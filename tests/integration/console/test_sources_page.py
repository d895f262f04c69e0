"""The page Sources: what the settings have, and a trial of other settings on live records."""

import json
from collections.abc import Callable
from typing import Any

from kafka import KafkaConsumer, KafkaProducer

from reviews.account import Role
from reviews.sources.settings import SourceSettings
from tests.conftest import TopicFactory
from tests.integration.console.conftest import Site


def _publish(bootstrap: str, topic: str, values: list[Any]) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all")
    try:
        for value in values:
            producer.send(topic, value if isinstance(value, bytes) else json.dumps(value).encode())
        producer.flush()
    finally:
        producer.close()


def test_a_trial_proposes_a_section_that_reads_the_records_when_it_is_tried(
    make_site: Callable[..., Site], topic: TopicFactory, kafka_bootstrap: str
) -> None:
    name = topic()
    hostile = "<script>alert(1)</script>"
    _publish(kafka_bootstrap, name, [{"nr": n, "body": f"It fits {n} times. {hostile}"} for n in range(5)])
    site = make_site(sources=(SourceSettings(topic="other", preset="debezium"),))
    client = site.client(Role.OPERATOR)

    assert "debezium" in client.get("/sources").text
    first = client.post("/sources/try", data={"topic": name})
    assert first.status_code == 200
    assert "5 dead letter" in first.text
    section = f'[[sources]]\ntopic = "{name}"\n\n[sources.fields]\nid = "nr"\ntext = "body"\n'
    second = client.post("/sources/try", data={"topic": name, "section": section})
    assert "5 review" in second.text
    assert hostile not in second.text


def test_a_section_that_cannot_be_used_is_refused_in_words(
    make_site: Callable[..., Site], topic: TopicFactory
) -> None:
    client, name = make_site().client(Role.OPERATOR), topic()
    refused = {
        "no toml": "not TOML",
        "[kafka]": "Give one section",
        '[[sources]]\ntopic = "a"\npreset = "b"': "not valid",
        '[[sources]]\ntopic = "a"\nformat = "avro"\nschema_file = "/etc/passwd"': "no file of this machine",
    }
    for section, said in refused.items():
        answer = client.post("/sources/try", data={"topic": name, "section": section})
        assert answer.status_code == 422
        assert said in answer.text
    assert "does not exist" in client.post("/sources/try", data={"topic": "no-such-topic"}).text


def test_a_tried_text_is_published_where_reviews_of_the_plain_format_are_read(
    make_site: Callable[..., Site], topic: TopicFactory, kafka_bootstrap: str
) -> None:
    """Not where workers do not read, nor where the same bytes would become a dead letter."""
    plain = topic()
    sources = (
        SourceSettings(topic="reviews", preset="debezium"),
        SourceSettings(topic="elsewhere", preset="text"),
        SourceSettings(topic=plain),
    )
    client = make_site(sources=sources).client(Role.OPERATOR)
    shown = client.post("/try", data={"text": "It fits.", "task": "sentiment"}).text
    assert plain in shown
    answer = client.post("/try/publish", data={"text": "It fits.", "task": "sentiment"})
    assert answer.status_code == 200
    assert f"on the topic {plain}" in answer.text
    reader = KafkaConsumer(plain, bootstrap_servers=kafka_bootstrap, auto_offset_reset="earliest")
    try:
        (records,) = reader.poll(30_000, max_records=1).values()
    finally:
        reader.close()
    assert json.loads(records[0].value)["text"] == "It fits."


def test_where_every_topic_has_another_format_the_page_says_so_instead_of_a_form(
    make_site: Callable[..., Site],
) -> None:
    sources = (SourceSettings(topic="reviews", preset="debezium"), SourceSettings(topic="b", preset="text"))
    client = make_site(sources=sources).client(Role.OPERATOR)
    shown = client.post("/try", data={"text": "It fits.", "task": "sentiment"}).text
    assert "no topic in the message format of reviews" in shown
    assert "reviews, b" in shown
    assert 'action="/try/publish"' not in shown
    answer = client.post("/try/publish", data={"text": "It fits.", "task": "sentiment"})
    assert answer.status_code == 422
    assert "nothing can be published from here" in answer.text
