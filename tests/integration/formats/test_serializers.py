"""What Confluent's own serialisers write is read by our decoders, through a real broker and registry."""

import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.message_factory import GetMessageClass
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from broker.formats.decoding import RecordFormat, open_decoder
from broker.formats.proto_files import compile_schemas
from broker.formats.registry import SchemaRegistry
from broker.formats.settings import RegistrySettings
from reviews.errors import InvalidMessage
from tests.conftest import TopicFactory
from tests.schema_registry import register

AVRO = """
{"type": "record", "name": "Review", "namespace": "com.shop", "fields": [
  {"name": "id", "type": "string"},
  {"name": "text", "type": ["null", "string"], "default": null},
  {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
  {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
  {"name": "tags", "type": {"type": "array", "items": "string"}}
]}
"""
PROTO = """
syntax = "proto3";
package com.shop;
import "google/protobuf/timestamp.proto";
message Other { string name = 1; }
message Review {
  string id = 1; optional string text = 2; int32 rating = 3; google.protobuf.Timestamp at = 4;
}
"""
JSON_SCHEMA = '{"type": "object", "title": "Review", "properties": {"id": {"type": "string"}}}'
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
REVIEW = {"id": "r1", "text": "Gut 👍", "price": Decimal("12.50"), "at": NOON, "tags": ["a"]}


@pytest.fixture
def client(schema_registry: str) -> Iterator[SchemaRegistryClient]:
    """Confluent's own client."""
    with SchemaRegistryClient({"url": schema_registry}) as opened:
        yield opened


@pytest.fixture
def registry(schema_registry: str) -> SchemaRegistry:
    """Our client."""
    return SchemaRegistry(RegistrySettings(url=schema_registry))


class Stream:
    """A topic that records go through."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.topic = topic
        self._bootstrap = bootstrap

    def through(self, records: Sequence[tuple[bytes, list[tuple[str, bytes]]]]) -> list[Any]:
        """The records, as they are delivered."""
        producer = KafkaProducer(bootstrap_servers=self._bootstrap, acks="all")
        for value, headers in records:
            producer.send(self.topic, value, headers=headers)
        producer.flush()
        producer.close()
        consumer = KafkaConsumer(bootstrap_servers=self._bootstrap, consumer_timeout_ms=60_000)
        place = TopicPartition(self.topic, 0)
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        found = [next(consumer) for _ in records]
        consumer.close()
        return found

    def context(self, headers: list[tuple[str, bytes]] | None = None) -> SerializationContext:
        """What a serialiser wants to know."""
        return SerializationContext(self.topic, MessageField.VALUE, headers)


@pytest.fixture
def stream(kafka_bootstrap: str, topic: TopicFactory) -> Stream:
    """A topic of the test's own."""
    return Stream(kafka_bootstrap, topic())


def test_avro_of_confluents_serialiser_is_read(client, registry: SchemaRegistry, stream: Stream):
    write = AvroSerializer(client, AVRO)
    (record,) = stream.through([(write(REVIEW, stream.context()), [])])
    assert open_decoder(RecordFormat("avro"), registry)(record.value, record.headers) == REVIEW


def test_protobuf_of_confluents_serialiser_is_read(
    client, registry: SchemaRegistry, schema_registry: str, stream: Stream
):
    number = register(schema_registry, f"{stream.topic}-text", PROTO, "PROTOBUF")
    review = GetMessageClass(compile_schemas(PROTO, {}).message_types_by_name["Review"])
    message = review(id="r1", text="Gut 👍", rating=5)
    message.at.FromDatetime(NOON)
    written = ProtobufSerializer(review, client, {"skip.known.types": True})(message, stream.context())
    # The serialiser registers serialised files, most publishers texts: the same frame with the text's id.
    (record,) = stream.through([(b"\x00" + number.to_bytes(4, "big") + written[5:], [])])
    decoded = open_decoder(RecordFormat("protobuf"), registry)(record.value, record.headers)
    assert decoded == {"id": "r1", "text": "Gut 👍", "rating": 5, "at": NOON}


def test_protobuf_that_the_serialiser_registered_by_itself_is_read(
    client, registry: SchemaRegistry, stream: Stream
):
    review = GetMessageClass(compile_schemas(PROTO, {}).message_types_by_name["Review"])
    write = ProtobufSerializer(review, client, {"skip.known.types": True})
    (record,) = stream.through([(write(review(id="r1"), stream.context()), [])])
    decoded = open_decoder(RecordFormat("protobuf"), registry)(record.value, record.headers)
    assert decoded == {"id": "r1", "rating": 0}


def test_json_of_confluents_serialiser_is_read(client, stream: Stream):
    write = JSONSerializer(JSON_SCHEMA, client)
    (record,) = stream.through([(write({"id": "r1"}, stream.context()), [])])
    assert open_decoder(RecordFormat("json-schema"))(record.value, record.headers) == b'{"id":"r1"}'


def test_references_are_resolved_by_the_registry(registry: SchemaRegistry, schema_registry: str):
    name = f"com.shop.P{secrets.token_hex(4)}"
    product = {"type": "record", "name": name, "fields": [{"name": "sku", "type": "string"}]}
    review = {"type": "record", "name": "R", "fields": [{"name": "product", "type": name}]}
    register(schema_registry, name, product)
    number = register(
        schema_registry, f"{name}-review", review, references=[{"name": name, "subject": name, "version": 1}]
    )
    frame = b"\x00" + number.to_bytes(4, "big") + b"\x04ab"
    assert open_decoder(RecordFormat("avro"), registry)(frame, ()) == {"product": {"sku": "ab"}}


def test_imports_are_resolved_by_the_registry(registry: SchemaRegistry, schema_registry: str):
    name = f"shop/p{secrets.token_hex(4)}.proto"
    register(
        schema_registry, name, 'syntax = "proto3"; package p; message Product { string sku = 1; }', "PROTOBUF"
    )
    number = register(
        schema_registry,
        f"{name}-review",
        f'syntax = "proto3"; import "{name}"; message R {{ p.Product product = 1; }}',
        "PROTOBUF",
        [{"name": name, "subject": name, "version": 1}],
    )
    frame = b"\x00" + number.to_bytes(4, "big") + b"\x00\x0a\x04\x0a\x02ab"
    assert open_decoder(RecordFormat("protobuf"), registry)(frame, ()) == {"product": {"sku": "ab"}}


def test_an_id_that_the_registry_does_not_have_is_unknown(registry: SchemaRegistry):
    for name in ("avro", "protobuf"):
        with pytest.raises(InvalidMessage) as raised:
            open_decoder(RecordFormat(name), registry)(b"\x00\x7f\xff\xff\xff\x00x", ())
        assert raised.value.reason == "unknown_schema"


def test_the_registry_answers_a_check(registry: SchemaRegistry):
    registry.check()
