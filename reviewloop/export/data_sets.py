"""The data sets and their columns: what the database sends becomes the record batches of a file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from reviews.export import DataSetName, ExportedAdapter, StreamEnd
from reviews.record_id import MAX_OFFSET

_TIME = pa.timestamp("us", tz="UTC")
_PLACE = (
    ("record", pa.int64()),
    ("kafka_topic", pa.string()),
    ("kafka_partition", pa.int32()),
    ("kafka_offset", pa.int64()),
)


@dataclass(frozen=True, slots=True)
class DataSet:
    """One table of an export.

    Attributes:
        name: Its name.
        schema: Its columns.
        day: The column whose day (UTC) decides in which folder a row is.
        repeating: Columns with few values, which a file keeps as numbers of a dictionary.
    """

    name: DataSetName
    schema: pa.Schema
    day: str
    repeating: tuple[str, ...]


REVIEWS = DataSet(
    "reviews",
    pa.schema(
        [
            *_PLACE,
            ("review_id", pa.string()),
            ("text", pa.string()),
            ("product", pa.string()),
            ("source", pa.string()),
            ("stars", pa.float64()),
            ("published_at", _TIME),
            ("stated_published_at", _TIME),
            ("received_at", _TIME),
            ("kafka_timestamp", _TIME),
            ("attributes", pa.string()),
        ]
    ),
    "received_at",
    ("kafka_topic", "kafka_partition", "product", "source", "stars"),
)
PREDICTIONS = DataSet(
    "predictions",
    pa.schema(
        [
            ("record", pa.int64()),
            ("task", pa.string()),
            ("adapter_version", pa.string()),
            ("label", pa.string()),
            ("confidence", pa.float32()),
            ("labels", pa.list_(pa.string())),
            ("probabilities", pa.list_(pa.float32())),
            ("margin", pa.float32()),
            ("entropy", pa.float32()),
            ("truncated", pa.bool_()),
            ("scored_at", _TIME),
            ("rescore_job", pa.int32()),
        ]
    ),
    "scored_at",
    ("task", "adapter_version", "label", "labels.list.element", "rescore_job"),
)
LABELS = DataSet(
    "labels",
    pa.schema(
        [
            ("label_id", pa.int64()),
            ("record", pa.int64()),
            ("review_id", pa.string()),
            ("task", pa.string()),
            ("label", pa.string()),
            ("annotator", pa.string()),
            ("source", pa.string()),
            ("labelled_at", _TIME),
            ("received_at", _TIME),
            ("seconds", pa.float32()),
        ]
    ),
    "received_at",
    ("task", "label", "annotator", "source"),
)
WITHDRAWALS = DataSet(
    "withdrawals",
    pa.schema(
        [
            *_PLACE,
            ("review_id", pa.string()),
            ("kind", pa.string()),
            ("received_at", _TIME),
            ("kafka_timestamp", _TIME),
        ]
    ),
    "received_at",
    ("kafka_topic", "kafka_partition", "kind"),
)

ALL = {one.name: one for one in (REVIEWS, PREDICTIONS, LABELS, WITHDRAWALS)}


def in_columns_of(data_set: DataSet, batch: Any, **more: Any) -> Any:
    """A record batch with exactly the columns of a data set.

    Args:
        data_set: Which.
        batch: The columns as the database sent them.
        more: Further columns, by name: arrays, or one value for every row.
    """
    columns = []
    for field in data_set.schema:
        column = more[field.name] if field.name in more else batch.column(field.name)
        if not isinstance(column, pa.Array):
            column = pa.repeat(pa.scalar(column, field.type), batch.num_rows)
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=data_set.schema)


def placed(stream: StreamEnd, batch: Any) -> dict[str, Any]:
    """The columns that say where in Kafka records of one partition were."""
    offsets = np.bitwise_and(records_of(batch), MAX_OFFSET)
    return {
        "kafka_topic": stream.topic,
        "kafka_partition": stream.partition,
        "kafka_offset": pa.array(offsets, pa.int64()),
    }


def records_of(batch: Any) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """int64 (rows): the records of a batch."""
    records: np.ndarray[Any, np.dtype[np.int64]] = batch.column("record").to_numpy()
    return records


class AdapterColumns:
    """Versions and labels of adapters, in the place of their numbers.

    Args:
        read: Reads every adapter.
    """

    def __init__(self, read: Callable[[], Sequence[ExportedAdapter]]) -> None:
        self._read = read
        self._ids = np.empty(0, np.int64)
        self._versions: Any = None
        self._labels: Any = None

    def of(self, batch: Any) -> dict[str, Any]:
        """The columns ``adapter_version`` and ``labels`` of a batch with ``adapter_id``."""
        ids = batch.column("adapter_id").to_numpy()
        if not np.isin(ids, self._ids).all():
            self._load()
        places = pa.array(np.searchsorted(self._ids, ids))
        return {"adapter_version": self._versions.take(places), "labels": self._labels.take(places)}

    def _load(self) -> None:
        """Those that were registered meanwhile have a prediction, and so are committed."""
        adapters = self._read()
        self._ids = np.array([adapter.id for adapter in adapters], np.int64)
        self._versions = pa.array([adapter.version for adapter in adapters], pa.string())
        self._labels = pa.array([adapter.labels for adapter in adapters], pa.list_(pa.string()))
