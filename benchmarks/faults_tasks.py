"""Resident memory of a worker that scores for one task and for three on one base, and at an exchange.

A worker of the product's own parts scores made-up reviews; then another adapter of the first task is
activated. MiniLM with the demo's adapter, and random weights in the shape of RoBERTa base.
"""

import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.classifier_data import ADAPTER, BASE
from benchmarks.figures import report, report_machine
from benchmarks.made_up import made_up_messages
from benchmarks.null_worker import Watch, resident_megabytes
from benchmarks.roberta_shape import make
from benchmarks.services import Services, open_services
from benchmarks.stream import environment, fill, finish, run_command, start_worker
from classifier.adapters.manifest import Probe, read_files
from classifier.adapters.store import assemble, write_files
from classifier.interface import load
from classifier.settings import ClassifierSettings
from reviewloop.operations.logs import configure_logging
from reviewloop.settings import load_settings
from reviewloop.wiring.registry import open_database
from reviewloop.wiring.workers import open_worker
from storage.adapters.registry import AdapterStore

REVIEWS = 200
TASKS = ("sentiment", "tone", "topic")
CANDIDATE = "REVIEWLOOP_BENCH_CANDIDATE"
_CANDIDATE = "candidate"


def main(_data: Path | None = None) -> None:
    report_machine()
    with open_services() as services, services.topic() as topic, TemporaryDirectory() as name:
        fill(services.bootstrap_servers, topic, made_up_messages(REVIEWS))
        models = {"minilm": (BASE, ADAPTER), "roberta_shape": make(Path(name))}
        for model, (base, adapter) in models.items():
            for mode in ("shared", "merged"):
                found = {}
                for count in (1, 3):
                    folder = Path(name, f"{model}_{mode}_{count}")
                    adapters = make_adapters(folder, base, adapter, count)
                    with worker_settings(services, topic, base, mode) as settings:
                        found[count] = measure(settings, folder / "cache", adapters)
                figure = f"faults.tasks.{model}.{mode}"
                report(f"{figure}.one_task", [found[1]["resident"]], "MB")
                report(f"{figure}.three_tasks", [found[3]["resident"]], "MB")
                report(f"{figure}.three_over_one", [found[3]["resident"] / found[1]["resident"]], "times")
                report(f"{figure}.three_tasks_after_an_exchange", [found[3]["exchanged"]], "MB")
                report(f"{figure}.seconds_until_the_exchange", [found[3]["seconds"]], "s")
                report(f"{figure}.three_tasks_peak_of_the_exchange", [found[3]["peak"]], "MB")


def measure(settings: dict[str, str], cache: Path, adapters: dict[str, Path]) -> dict[str, float]:
    """What one worker process held, with a task for each adapter but the candidate."""
    tasks = [task for task in adapters if task != _CANDIDATE]
    settings |= {
        "REVIEWLOOP_CONSUMER__TASKS": json.dumps(tasks),
        "REVIEWLOOP_CONSUMER__ADAPTER_CACHE": str(cache),
        CANDIDATE: f"{TASKS[0]}-{adapters[_CANDIDATE].name[:12]}",
    }
    run_command(settings, "db", "upgrade")
    for task, directory in adapters.items():
        run_command(settings, "adapters", "add", directory, *(["--activate"] if task in tasks else []))
    return finish(start_worker(settings, "benchmarks.faults_tasks"))


@contextmanager
def worker_settings(services: Services, topic: str, base: str, mode: str) -> Iterator[dict[str, str]]:
    """The settings of a worker with a database of its own."""
    with services.database() as url:
        yield environment(
            services.bootstrap_servers,
            url,
            topic,
            secrets.token_hex(4),
            REVIEWLOOP_CLASSIFIER__BASE_MODEL=base,
            REVIEWLOOP_CLASSIFIER__ADAPTERS=mode,
            REVIEWLOOP_CLASSIFIER__PRECISION="fp32",
            REVIEWLOOP_CLASSIFIER__THREADS="1",
            REVIEWLOOP_CONSUMER__ADAPTER_POLL_SECONDS="0.2",
            HF_HUB_OFFLINE="1",
        )


def make_adapters(folder: Path, base: str, adapter: Path, count: int) -> dict[str, Path]:
    """The adapter for so many tasks, and a candidate for the first, with answers to be proven by."""
    texts = ["Good.", "It broke after two days and nobody answers my mails."]
    options = ClassifierSettings(precision="fp32", threads=1, cache_texts=0)
    said = load(base, adapter, options).predict(texts)
    probes = [
        Probe(text=text, probabilities=one.probabilities) for text, one in zip(texts, said, strict=True)
    ]
    manifest, files = read_files(adapter)
    made = {}
    for name in (*TASKS[:count], _CANDIDATE):
        task = TASKS[0] if name == _CANDIDATE else name
        own = {"task": task, "parent": f"{name} of a benchmark", "probes": probes}
        fields = manifest.model_dump(exclude={"files"}) | own
        made[name] = write_files(assemble(files, fields), folder / "adapters")
    return made


def work() -> dict[str, float]:
    """Score the topic, then exchange an adapter."""
    settings, watch = load_settings(), Watch(count=2 * REVIEWS)  # it does not stop by itself
    with (
        open_database(settings) as database,
        open_worker(settings, watch.stopping, watch.progress, watch) as worker,
    ):
        running = threading.Thread(target=worker.run)
        running.start()
        wait_until(lambda: bool(watch.commits) and watch.commits[-1][1] >= REVIEWS)
        resident = resident_megabytes()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
        store = AdapterStore(database)
        candidate, began = store.find(os.environ[CANDIDATE]), time.monotonic()
        active = store.active(candidate.task)
        store.activate(candidate, expected=active, decided_by="benchmark", reason="exchange")
        wait_until(lambda: watch.adapters[candidate.task] == candidate.version)
        seconds = time.monotonic() - began
        time.sleep(1)  # the thread that built it ends
        found = {"resident": resident, "exchanged": resident_megabytes(), "seconds": seconds, "peak": peak()}
        watch.stopping.set()
        running.join()
    return found


def wait_until(is_done: Callable[[], bool]) -> None:
    while not is_done():
        time.sleep(0.02)


def peak() -> float:
    """The most that was resident at once, in MB."""
    with Path("/proc/self/status").open(encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


if __name__ == "__main__":
    configure_logging()
    print(json.dumps(work()))
