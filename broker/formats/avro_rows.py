"""Rows of sinks in Avro, each behind the id of their schema in a schema registry (Confluent's framing)."""

import json
from io import BytesIO
from typing import Any

from broker.formats.registry import SchemaRegistry
from reviews.errors import WrongUse
from reviews.scored_row import ScoredRow, avro_schema


class AvroRowFormat:
    """Encodes rows; their schema is registered before the first one.

    Args:
        registry: Where.
        topic: Of the messages; the subject is named after it, as Confluent's serializers do.

    Raises:
        WrongUse: If fastavro is not installed.
    """

    content_type = "application/avro"

    def __init__(self, registry: SchemaRegistry, topic: str) -> None:
        try:
            from fastavro import parse_schema
        except ImportError as err:
            raise WrongUse(
                "A sink in Avro needs fastavro: pip install 'reviewloop[formats]' adds it."
            ) from err
        self._registry = registry
        self._subject = f"{topic}-value"
        self._schema: Any = parse_schema(json.loads(avro_schema()))
        self._frame = b""

    def encode(self, row: ScoredRow) -> bytes:
        """The frame, and the row in Avro's binary encoding.

        Raises:
            Unavailable: If the registry is asked for the first time and does not answer.
            WrongUse: If it refuses the schema.
        """
        from fastavro import schemaless_writer

        if not self._frame:
            number = self._registry.register(self._subject, avro_schema())
            self._frame = b"\x00" + number.to_bytes(4, "big")
        target = BytesIO()
        target.write(self._frame)
        values = row.__dict__
        if row.attributes is not None:
            values = {**values, "attributes": json.dumps(row.attributes, ensure_ascii=False)}
        schemaless_writer(target, self._schema, values)
        return target.getvalue()
