"""Topic to committed rows with the demo's model, beside the bare classifier's predict() on the same texts.

In each repetition one process loads the model once, predicts all texts bare, then works as a worker on a
topic with the same texts. Answers are not remembered: every text is scored each time.
"""

import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.classifier_data import ADAPTER, BASE, read
from benchmarks.figures import report, report_machine
from benchmarks.services import Services, open_services
from benchmarks.stream import environment, fill, finish, run_command, start_worker

TEXTS = 2_000
WARM = 200
REPETITIONS = 5


def main(data: Path | None = None) -> None:
    report_machine()
    texts = [row["text"] for row in read(data, "clothing_stream", TEXTS)]
    bare: list[float] = []
    path: list[float] = []
    with open_services() as services, services.topic() as topic, text_file(texts) as file:
        fill(services.bootstrap_servers, topic, as_messages(texts))
        for _ in range(REPETITIONS):
            with model_settings(services, topic) as settings:
                found = finish(start_worker(settings, "benchmarks.model_worker", file, WARM))
            bare.append(len(texts) / found["bare_seconds"])
            path.append(found["reviews"] / found["seconds"])
    report("path_model bare predict()", bare, "reviews/s")
    report("path_model topic to rows", path, "reviews/s")
    report("path_model to bare predict()", [a / b for a, b in zip(path, bare, strict=True)], "ratio")


@contextmanager
def model_settings(services: Services, topic: str) -> Iterator[dict[str, str]]:
    """The settings of a worker with the demo's adapter and a database of its own."""
    with services.database() as url:
        group = secrets.token_hex(4)
        settings = environment(
            services.bootstrap_servers,
            url,
            topic,
            group,
            REVIEWLOOP_CLASSIFIER__BASE_MODEL=BASE,
            REVIEWLOOP_CLASSIFIER__CACHE_TEXTS="0",
            HF_HUB_OFFLINE="1",
        )
        run_command(settings, "db", "upgrade")
        run_command(settings, "adapters", "add", ADAPTER, "--activate")
        yield settings


@contextmanager
def text_file(texts: Sequence[str]) -> Iterator[Path]:
    """The texts in a file that a worker reads."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "texts.json"
        file.write_text(json.dumps(texts), encoding="utf-8")
        yield file


def as_messages(texts: Sequence[str]) -> list[tuple[bytes, bytes]]:
    """Key and value of a review for each text."""
    return [
        (f"r{number}".encode(), json.dumps({"id": f"r{number}", "text": text}).encode())
        for number, text in enumerate(texts)
    ]


if __name__ == "__main__":
    main()
