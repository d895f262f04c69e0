"""The memory of one worker process over 1,000,000 reviews, beside any model."""

import secrets
from pathlib import Path

from benchmarks.figures import report, report_machine
from benchmarks.made_up import made_up_messages
from benchmarks.services import open_services
from benchmarks.stream import environment, fill, prepare, run_null_worker

REVIEWS = 1_000_000


def main(_data: Path | None = None) -> None:
    report_machine()
    with open_services() as services, services.topic() as topic, services.database() as url:
        fill(services.bootstrap_servers, topic, made_up_messages(REVIEWS))
        prepare(url)
        settings = environment(services.bootstrap_servers, url, topic, secrets.token_hex(4))
        memory = run_null_worker(settings, REVIEWS)["memory"]
    early = [megabytes for reviews, megabytes in memory if reviews <= REVIEWS // 2]
    late = [megabytes for reviews, megabytes in memory if reviews > REVIEWS // 2]
    report("path_memory first half", early, "MB")
    report("path_memory second half", late, "MB")


if __name__ == "__main__":
    main()
