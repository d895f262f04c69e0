"""Topic to committed rows for topics of other shapes, beside plain reviews, with the null classifier.

In each repetition one worker process after the other reads as many reviews with the same texts: plain ones,
ones whose source maps foreign JSON, the same with two attributes kept, and ones in Avro with a schema
registry. From the first delivery to the last commit.
"""

import json
import secrets
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from benchmarks.figures import report, report_machine
from benchmarks.made_up import made_up_messages
from benchmarks.services import Services, open_services
from benchmarks.stream import environment, fill, prepare, run_null_worker
from reviews.fields import read_moment
from tests.schema_registry import register, shared_registry

REVIEWS = 120_000
REPETITIONS = 8
MAPPED: dict[str, Any] = {
    "fields": {
        "id": "review.uuid",
        "text": "review.body",
        "product": "item.asin",
        "source": "channel",
        "published_at": {"path": "created", "unit": "millis"},
        "stars": {"path": "rating", "scale": [1, 10]},
    }
}
KEPT: dict[str, Any] = {**MAPPED, "attributes": {"market": "market", "verified": "verified"}}
AVRO: dict[str, Any] = {
    "type": "record",
    "name": "Review",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "text", "type": "string"},
        {"name": "product", "type": ["null", "string"], "default": None},
        {"name": "source", "type": ["null", "string"], "default": None},
        {
            "name": "published_at",
            "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}],
            "default": None,
        },
        {"name": "stars", "type": ["null", "double"], "default": None},
    ],
}
MARKETS = ("de", "fr", "us", "uk", "jp")


def foreign(count: int) -> Iterator[tuple[bytes, bytes]]:
    """The made-up reviews in the shape of another publisher."""
    for number, (key, value) in enumerate(made_up_messages(count)):
        review = json.loads(value)
        published = read_moment(review["published_at"])
        message = {
            "review": {"uuid": review["id"], "body": review["text"]},
            "item": {"asin": review["product"]},
            "channel": review["source"],
            "created": int(published.timestamp() * 1000) if published else None,
            "rating": number % 10 + 1,
            "market": MARKETS[number % len(MARKETS)],
            "verified": number % 2 == 0,
        }
        yield key, json.dumps(message).encode()


def in_avro(count: int, schema_id: int) -> Iterator[tuple[bytes, bytes]]:
    """The made-up reviews as Confluent's serialiser writes them."""
    from fastavro import parse_schema, schemaless_writer

    schema = parse_schema(AVRO)
    for key, value in made_up_messages(count):
        review = json.loads(value)
        out = BytesIO()
        schemaless_writer(out, schema, {**review, "published_at": read_moment(review["published_at"])})
        yield key, b"\x00" + schema_id.to_bytes(4, "big") + out.getvalue()


def main(_data: Path | None = None) -> None:
    report_machine()
    rates: dict[str, list[float]] = {"plain": [], "mapped": [], "mapped, attributes": [], "avro": []}
    with (
        shared_registry("benchmark") as registry,
        open_services() as services,
        services.topic() as plain,
        services.topic() as other,
        services.topic() as avro,
    ):
        fill(services.bootstrap_servers, plain, made_up_messages(REVIEWS))
        fill(services.bootstrap_servers, other, foreign(REVIEWS))
        fill(services.bootstrap_servers, avro, in_avro(REVIEWS, register(registry, "benchmark", AVRO)))
        sources: dict[str, dict[str, Any]] = {
            "plain": {"topic": plain},
            "mapped": {"topic": other, **MAPPED},
            "mapped, attributes": {"topic": other, **KEPT},
            "avro": {"topic": avro, "format": "avro"},
        }
        for repetition in range(REPETITIONS):
            # Each begins in turn, so that none always runs after the same other one.
            names = [*sources][repetition % len(sources) :] + [*sources][: repetition % len(sources)]
            for name in names:
                rates[name].append(_rate(services, sources[name], registry))
    for name, found in rates.items():
        report(f"path_sources {name}", found, "reviews/s")
    for name in ("mapped", "mapped, attributes", "avro"):
        ratios = [a / b for a, b in zip(rates[name], rates["plain"], strict=True)]
        report(f"path_sources {name} to plain", ratios, "ratio")


def _rate(services: Services, source: dict[str, Any], registry: str) -> float:
    with services.database() as url:
        prepare(url)
        settings = environment(services.bootstrap_servers, url, "unused", secrets.token_hex(4))
        settings["REVIEWLOOP_SOURCES"] = json.dumps([source])
        settings["REVIEWLOOP_REGISTRY__URL"] = registry
        found = run_null_worker(settings, REVIEWS)
    if found["reviews"] < REVIEWS:
        raise RuntimeError(f"Only {found['reviews']} of {REVIEWS} reviews were stored.")
    return float(found["reviews"] / found["seconds"])


if __name__ == "__main__":
    main()
