"""From publishing a review to its committed row, at a tenth of what one worker can do.

Once with the classifier that takes no time, once with the demo's model on real reviews. Reviews are published
evenly by the product's own publisher; the medians are those of five stretches of the same length.
"""

import secrets
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.classifier_data import read
from benchmarks.figures import percentile, report, report_machine
from benchmarks.made_up import made_up_messages
from benchmarks.path_model import as_messages, model_settings, text_file
from benchmarks.services import Services, open_services
from benchmarks.stream import environment, fill, finish, prepare, run_null_worker, start_worker
from broker.publisher import OutgoingRecord, publish
from broker.settings import KafkaSettings

STRETCHES = 5
STRETCH_SECONDS = 8
CAPACITY_REVIEWS = 60_000
CAPACITY_TEXTS = 1_000
WARM = 200


def main(data: Path | None = None) -> None:
    report_machine()
    texts = [row["text"] for row in read(data, "clothing_stream", 10_000)]
    with open_services() as services:
        _null(services)
        _model(services, texts)


def _null(services: Services) -> None:
    with services.topic() as topic, services.database() as url:
        fill(services.bootstrap_servers, topic, made_up_messages(CAPACITY_REVIEWS))
        prepare(url)
        settings = environment(services.bootstrap_servers, url, topic, secrets.token_hex(4))
        found = run_null_worker(settings, CAPACITY_REVIEWS)
    rate = found["reviews"] / found["seconds"] / 10
    count = int(rate * STRETCH_SECONDS * STRETCHES)
    with services.topic() as topic, services.database() as url:
        prepare(url)
        settings = environment(
            services.bootstrap_servers, url, topic, secrets.token_hex(4), REVIEWLOOP_BENCH_LATENCY="1"
        )
        worker = start_worker(settings, "benchmarks.null_worker", count)
        _publish(services, topic, made_up_messages(count), rate, worker)
        _report("null classifier", rate, finish(worker)["milliseconds"])


def _model(services: Services, texts: Sequence[str]) -> None:
    with services.topic() as topic, text_file(texts[:CAPACITY_TEXTS]) as file:
        fill(services.bootstrap_servers, topic, as_messages(texts[:CAPACITY_TEXTS]))
        with model_settings(services, topic) as settings:
            found = finish(start_worker(settings, "benchmarks.model_worker", file, WARM))
        rate = found["reviews"] / found["seconds"] / 10
        count = int(rate * STRETCH_SECONDS * STRETCHES)
        with services.topic() as fresh, model_settings(services, fresh) as settings:
            settings["REVIEWLOOP_BENCH_LATENCY"] = "1"
            worker = start_worker(settings, "benchmarks.model_worker", file, WARM, count)
            _publish(services, fresh, as_messages(texts[:count]), rate, worker)
            _report("MiniLM", rate, finish(worker)["milliseconds"])


def _publish(
    services: Services,
    topic: str,
    messages: Iterable[tuple[bytes, bytes]],
    rate: float,
    worker: "subprocess.Popen[bytes]",
) -> None:
    """Publish evenly, once the worker has had time to load and to join."""
    time.sleep(20)
    if worker.poll() is not None:
        raise RuntimeError("The worker ended before anything was published.")
    kafka = KafkaSettings(bootstrap_servers=services.bootstrap_servers)
    publish(kafka, topic, (OutgoingRecord(key, value) for key, value in messages), rate=rate)


def _report(name: str, rate: float, milliseconds: Sequence[float]) -> None:
    report(f"path_latency {name}, rate", [rate], "reviews/s")
    length = len(milliseconds) // STRETCHES
    stretches = [milliseconds[first : first + length] for first in range(0, length * STRETCHES, length)]
    for share in (0.5, 0.99):
        values = [percentile(stretch, share) for stretch in stretches]
        report(f"path_latency {name}, p{share * 100:.0f}", values, "ms")


if __name__ == "__main__":
    main()
