"""How far the data sets of an export were written, so that each row is exported once."""

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict

DataSetName = Literal["reviews", "predictions", "labels", "withdrawals"]
DATA_SETS: tuple[DataSetName, ...] = get_args(DataSetName)
"""In the order in which they are exported."""


class ExportPosition(BaseModel):
    """How far one data set was written to a target.

    Positions are those of the records, never clock times: a partition's rows become visible in the order of
    their offsets, whatever times they carry.

    Attributes:
        version: Of this form.
        database: The identity of the database that the rows came from.
        streams: By the stored id of a partition, the first offset that was not written.
        jobs: Ended rescoring jobs whose predictions were written.
        transaction: Labels: the transaction of the last one that was written.
        label: Labels: its id.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1] = 1
    database: str
    streams: Mapping[int, int] = {}
    jobs: tuple[int, ...] = ()
    transaction: int = 0
    label: int = 0

    def behind(self, partition_id: int, offset: int) -> "ExportPosition":
        """The position once a partition was written up to an offset."""
        return self.model_copy(update={"streams": {**self.streams, partition_id: offset}})


class StreamEnd(NamedTuple):
    """What a partition has to export.

    Attributes:
        partition_id: Its stored id.
        topic: The topic's name.
        partition: The number of the partition.
        start_offset: Where reading began.
        next_offset: Everything before it is stored, and stays.
    """

    partition_id: int
    topic: str
    partition: int
    start_offset: int
    next_offset: int


class ExportedAdapter(NamedTuple):
    """An adapter as predictions name it.

    Attributes:
        id: Its number in the database.
        version: Its version.
        labels: In the order of its probabilities.
    """

    id: int
    version: str
    labels: tuple[str, ...]
