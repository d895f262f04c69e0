"""The local stack: a real Kafka and a real PostgreSQL that start, survive, recover and stop."""

import psycopg
from kafka import KafkaConsumer, KafkaProducer
from sqlalchemy import make_url

from tests.conftest import TopicFactory


def test_three_megabytes_published_come_back(kafka_bootstrap: str, topic: TopicFactory):
    name = topic(partitions=2)
    payload = bytes(range(256)) * 12_000
    producer = KafkaProducer(bootstrap_servers=kafka_bootstrap, max_request_size=4_000_000)
    producer.send(name, payload).get(timeout=20)
    producer.close()
    consumer = KafkaConsumer(
        name,
        bootstrap_servers=kafka_bootstrap,
        auto_offset_reset="earliest",
        group_id=f"group-of-{name}",
        consumer_timeout_ms=20_000,
    )
    assert next(consumer).value == payload
    consumer.close()


def test_each_test_has_an_empty_database_of_its_own(database: str, database_url: str):
    assert make_url(database).database != make_url(database_url).database
    address = make_url(database).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address) as connection:
        assert connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchone() == (0,)
