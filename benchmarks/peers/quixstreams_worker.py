"""The same job with Quix Streams and its PostgreSQLSink; runs in the peer's own environment.

``quixstreams_worker.py BOOTSTRAP TOPIC GROUP COUNT HOST PORT DATABASE USER PASSWORD`` stores so many reviews
with a constant label and prints what it took as JSON. One table without a key or index; at least once.
"""

import json
import resource
import sys
import time

from quixstreams import Application
from quixstreams.sinks.community.postgresql import PostgreSQLSink

_ANSWER = {"label": "positive", "confidence": 0.9, "margin": 0.84, "entropy": 0.39, "truncated": False}


class TimedSink(PostgreSQLSink):
    """Notes when the first review came and when the last commit ended."""

    first = 0.0
    last = 0.0
    stored = 0

    def add(self, **item):
        self.first = self.first or time.monotonic()
        return super().add(**item)

    def write(self, batch):
        super().write(batch)
        self.stored += batch.size
        self.last = time.monotonic()


def main() -> None:
    bootstrap, topic, group, count, host, port, database, user, password = sys.argv[1:]
    sink = TimedSink(
        host=host, port=int(port), dbname=database, user=user, password=password, table_name="scored"
    )
    app = Application(bootstrap, consumer_group=group, auto_offset_reset="earliest", loglevel="WARNING")
    reviews = app.dataframe(app.topic(topic, value_deserializer="json"))
    reviews.update(lambda review: review.update(_ANSWER))
    reviews.sink(sink)
    app.run(count=int(count), timeout=60)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(json.dumps({"reviews": sink.stored, "seconds": sink.last - sink.first, "memory": memory}))


if __name__ == "__main__":
    main()
