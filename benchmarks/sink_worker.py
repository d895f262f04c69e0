"""One forwarder, wired as the product wires it, until it has published so many rows; prints what it saw.

``python -m benchmarks.sink_worker COUNT`` with the product's settings in the environment. It runs at the
priority of ``reviewloop sink run``.
"""

import json
import os
import sys
import threading
import time
from contextlib import closing

from consumer.sinks import SinkMeasures
from reviewloop.cli.sink import NICENESS
from reviewloop.operations.logs import configure_logging
from reviewloop.settings import load_settings
from reviewloop.wiring.sinks import make_forwarder
from reviewloop.wiring.workers import rare_collections
from storage.database import Database


def run(count: int) -> dict[str, float]:
    settings = load_settings()
    (sink,) = settings.sinks
    measures, stopping = SinkMeasures(sink.topic), threading.Event()
    with closing(Database(settings.database)) as database, rare_collections():
        forwarder = make_forwarder(settings, sink, database, stopping, measures)
        thread = threading.Thread(target=forwarder.run)
        thread.start()
        while not measures.published:
            time.sleep(0.001)
        first, started, used = sum(measures.published.values()), time.monotonic(), time.process_time()
        while (rows := sum(measures.published.values())) < count:
            time.sleep(0.005)
        seconds, used = time.monotonic() - started, time.process_time() - used
        stopping.set()
        thread.join()
    return {"rows": rows - first, "seconds": seconds, "cpu_seconds": used}


if __name__ == "__main__":
    configure_logging()
    os.nice(NICENESS)
    print(json.dumps(run(int(sys.argv[1]))))
