"""Rows a second from a local database into Parquet files, beside a plain client that does the same.

The client is psycopg with a server-side cursor in binary format, whose rows PyArrow makes columns of: what
people write who need such files. Both read the same columns of the same rows and compress them alike.
"""

import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pyarrow as pa
from pyarrow import parquet
from sqlalchemy import make_url

from benchmarks.figures import report, report_machine
from benchmarks.million import fill_database
from benchmarks.services import connect, open_services
from benchmarks.stream import environment, open_database, prepare
from reviewloop.export.data_sets import PREDICTIONS, REVIEWS, DataSet
from reviewloop.export.settings import ExportSettings
from reviewloop.export.wiring import export_data_sets

REVIEWS_STORED = 1_000_000
DAYS = 2  # in four partitions: twelve files or less, as one is made a day and partition
PEER_ROWS = 200_000
REPETITIONS = 3
_CHUNK = 20_000
_PEER_QUERIES = {
    "reviews": "SELECT r.record, s.topic, s.partition, r.record & 1099511627775, review_id, text, product, "
    "source, coalesce(stars_given, stars), published_at, stated_published_at, received_at, "
    "to_timestamp(nullif(timestamp_ms, -1) / 1000.0){attributes} FROM review r "
    "JOIN stream_partition s ON s.id = r.record >> 40 ORDER BY record LIMIT %s",
    "predictions": "SELECT record, p.task, a.version, label, confidence, a.labels, probabilities, margin, "
    "entropy, truncated, scored_at, rescore_job_id FROM prediction p JOIN adapter a ON a.id = adapter_id "
    "ORDER BY record LIMIT %s",
}


def main(_data: Path | None = None) -> None:
    report_machine()
    with open_services() as services, services.database() as url:
        prepare(url)
        with connect(url) as connection:
            fill_database(connection, REVIEWS_STORED, days=DAYS)
        for data_set in (REVIEWS, PREDICTIONS):
            ours, peers = [], []
            for _ in range(REPETITIONS):
                ours.append(_rate(lambda folder, name=data_set.name: _export(url, folder, name)))
                peers.append(_rate(lambda folder, its=data_set: _by_client(url, folder, its)))
            report(f"export {data_set.name}", ours, "rows/s")
            report(f"export {data_set.name} by a plain client", peers, "rows/s")
            report(f"export {data_set.name} ratio", [a / b for a, b in zip(ours, peers, strict=True)], "")
        report("export peak memory of the command", [_memory(url)], "MB")


def _rate(work: Callable[[Path], int]) -> float:
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        rows = work(Path(folder))
        return rows / (time.perf_counter() - started)


def _export(url: str, folder: Path, name: str) -> int:
    settings = ExportSettings(target=str(folder), data_sets=(name,))
    with closing(open_database(url)) as database:
        return sum(
            done.rows for done in export_data_sets(settings, database, threading.Event(), lambda _: None)
        )


def _by_client(url: str, folder: Path, data_set: DataSet) -> int:
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    attributes = ", attributes::text" if "attributes" in data_set.schema.names else ""
    query = _PEER_QUERIES[data_set.name].format(attributes=attributes)
    rows = 0
    with (
        psycopg.connect(address) as connection,
        connection.cursor("peer", binary=True) as cursor,
        parquet.ParquetWriter(folder / "rows.parquet", data_set.schema, compression="zstd") as writer,
    ):
        cursor.execute(query, (PEER_ROWS,))
        while chunk := cursor.fetchmany(_CHUNK):
            columns = zip(*chunk, strict=True)
            arrays = [
                pa.array(column, field.type) for column, field in zip(columns, data_set.schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=data_set.schema))
            rows += len(chunk)
    return rows


def _memory(url: str) -> float:
    """Of a process that exports everything."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "reviewloop", "export", folder]
        subprocess.run(command, check=True, capture_output=True, env=environment("none", url, "none", "none"))
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


if __name__ == "__main__":
    main()
