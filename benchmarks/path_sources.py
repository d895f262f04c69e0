"""Topic to committed rows for topics of other shapes, beside plain reviews, with the null classifier.

In each repetition one worker process after the other reads as many reviews with the same texts: plain ones,
ones whose source maps foreign JSON, and the same with two attributes kept. From the first delivery to the
last commit.
"""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.figures import report, report_machine
from benchmarks.made_up import made_up_messages
from benchmarks.services import Services, open_services
from benchmarks.stream import environment, fill, prepare, run_null_worker
from reviews.fields import read_moment

REVIEWS = 120_000
REPETITIONS = 5
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


def main(_data: Path | None = None) -> None:
    report_machine()
    rates: dict[str, list[float]] = {"plain": [], "mapped": [], "mapped, attributes": []}
    with open_services() as services, services.topic() as plain, services.topic() as other:
        fill(services.bootstrap_servers, plain, made_up_messages(REVIEWS))
        fill(services.bootstrap_servers, other, foreign(REVIEWS))
        for _ in range(REPETITIONS):
            rates["plain"].append(_rate(services, {"topic": plain}))
            rates["mapped"].append(_rate(services, {"topic": other, **MAPPED}))
            rates["mapped, attributes"].append(_rate(services, {"topic": other, **KEPT}))
    for name, found in rates.items():
        report(f"path_sources {name}", found, "reviews/s")
    for name in ("mapped", "mapped, attributes"):
        ratios = [a / b for a, b in zip(rates[name], rates["plain"], strict=True)]
        report(f"path_sources {name} to plain", ratios, "ratio")


def _rate(services: Services, source: dict[str, Any]) -> float:
    with services.database() as url:
        prepare(url)
        settings = environment(services.bootstrap_servers, url, "unused", secrets.token_hex(4))
        settings["REVIEWLOOP_SOURCES"] = json.dumps([source])
        found = run_null_worker(settings, REVIEWS)
    if found["reviews"] < REVIEWS:
        raise RuntimeError(f"Only {found['reviews']} of {REVIEWS} reviews were stored.")
    return float(found["reviews"] / found["seconds"])


if __name__ == "__main__":
    main()
