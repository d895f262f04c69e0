"""Iceberg tables, one a data set, whose snapshots carry the position of their rows.

Data files are written first and belong to no table. One commit of the catalogue adds them and the position,
in the summary of the snapshot: whether an export was committed is read from the table. A table that is rolled
back to an earlier snapshot goes back to its position as well, and the next export writes the rest again.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.table import TableProperties
from pyiceberg.transforms import DayTransform

from reviewloop.export.data_sets import ALL
from reviewloop.export.places import described
from reviewloop.export.settings import ExportSettings
from reviews.errors import ReviewLoopError, WrongUse
from reviews.export import DataSetName, ExportPosition
from storage.errors import describe_catalog_errors

CATALOG = "reviewloop"
"""The catalogue's name, which is a part of its tables' names in the database."""
POSITION = "reviewloop.position"
"""The property of snapshots and tables with the position, as JSON."""

_ATTEMPTS = 3


class IcebergTarget:
    """Tables of a catalogue.

    Args:
        catalog: The catalogue.
        namespace: Of the tables; made if it is not there.
        target: The warehouse, for errors.
    """

    files_a_commit = 100
    has_columns = True

    def __init__(self, catalog: Any, namespace: str, target: str) -> None:
        self._catalog = catalog
        self._namespace = namespace
        self._target = target
        # What a killed export wrote belongs to nothing, and must not be written over once it does.
        self._token = secrets.token_hex(4)
        self._tables: dict[DataSetName, Any] = {}
        self._known: dict[DataSetName, ExportPosition | None] = {}

    def position(self, data_set: DataSetName) -> ExportPosition | None:
        """How far a table is written; None: it has no rows of an export."""
        with self._described():
            self._tables[data_set] = table = self._open(data_set)
            self._known[data_set] = _position(table)
        return self._known[data_set]

    @contextmanager
    def writing(self, data_set: DataSetName, path: str) -> Iterator[Any]:
        """A stream into a data file that belongs to no table yet."""
        output = self._tables[data_set].io.new_output(self._location(data_set, path))
        with described(self._target), output.create(overwrite=True) as stream:
            yield stream

    def commit(self, data_set: DataSetName, files: Sequence[str], position: ExportPosition) -> None:
        """Add files to the table and move its position, in one snapshot; without files, nothing is written.

        Others may commit meanwhile, such as a compaction: it is tried again if the position is the same.

        Raises:
            ReviewLoopError: If another export moved the position, or others commit all the time.
        """
        if not files:
            return
        table = self._tables[data_set]
        paths = [self._location(data_set, path) for path in files]
        for _ in range(_ATTEMPTS):
            with self._described():
                table.refresh()
                # In this process only: PyIceberg would try again beside whatever was committed meanwhile, be
                # it the same rows.
                table.metadata.properties[TableProperties.COMMIT_NUM_RETRIES] = "0"
                found = _position(table)
                # The attempt before may have been committed although its answer was lost.
                if found == position or (
                    found == self._known[data_set] and _try_commit(table, paths, position)
                ):
                    self._known[data_set] = position
                    return
        raise ReviewLoopError(
            f"The table {self._namespace}.{data_set} was changed by others while files were to be added to "
            "it: nothing was added."
        )

    def _open(self, data_set: DataSetName) -> Any:
        name = f"{self._namespace}.{data_set}"
        try:
            table = self._catalog.load_table(name)
        except NoSuchTableError:
            return self._create(data_set, name)
        with table.update_schema() as change:
            change.union_by_name(ALL[data_set].schema)  # columns that a later version adds
        return table

    def _create(self, data_set: DataSetName, name: str) -> Any:
        self._catalog.create_namespace_if_not_exists(self._namespace)
        kind = ALL[data_set]
        table = self._catalog.create_table(name, kind.schema)
        with table.update_spec() as spec:
            spec.add_field(kind.day, DayTransform(), f"{kind.day}_day")
        return table

    def _location(self, data_set: DataSetName, path: str) -> str:
        return (
            f"{self._tables[data_set].location()}/data/{path.removesuffix('.parquet')}-{self._token}.parquet"
        )

    @contextmanager
    def _described(self) -> Iterator[None]:
        with described(self._target), describe_catalog_errors():
            yield


@contextmanager
def open_tables(settings: ExportSettings, target: str) -> Iterator[IcebergTarget]:
    """The tables of the configured catalogue, which is closed at the end.

    Args:
        settings: With the catalogue.
        target: The warehouse: a folder or an address.

    Raises:
        WrongUse: If there is no catalogue for this target.
    """
    warehouse = target
    if "://" not in target:
        folder = Path(target).expanduser().absolute()
        folder.mkdir(parents=True, exist_ok=True)
        warehouse = folder.as_uri()
    if settings.catalog is not None:
        uri = settings.catalog.get_secret_value()
    elif warehouse.startswith("file:"):
        uri = f"sqlite:///{folder / 'catalog.db'}"
    else:
        raise WrongUse("Iceberg in an object store needs a catalogue: set export.catalog.")
    with describe_catalog_errors():
        catalog = load_catalog(CATALOG, uri=_with_driver(uri), warehouse=warehouse)
    with closing(catalog):
        yield IcebergTarget(catalog, settings.namespace, target)


def _with_driver(uri: str) -> str:
    """SQLAlchemy's name of the driver that is installed here, where the URI leaves it open."""
    scheme, separator, rest = uri.partition("://")
    return f"postgresql+psycopg://{rest}" if separator and scheme in {"postgresql", "postgres"} else uri


def _try_commit(table: Any, paths: list[str], position: ExportPosition) -> bool:
    properties = {POSITION: position.model_dump_json()}
    try:
        with table.transaction() as transaction:
            transaction.add_files(paths, snapshot_properties=properties, check_duplicate_files=False)
            transaction.set_properties(properties)
    except CommitFailedException:
        return False
    return True


def _position(table: Any) -> ExportPosition | None:
    """That of the newest snapshot that has one; of the table, where such snapshots are expired."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return None
    found = None
    while found is None and snapshot is not None:
        summary = snapshot.summary
        found = None if summary is None else summary.additional_properties.get(POSITION)
        parent = snapshot.parent_snapshot_id
        snapshot = None if parent is None else table.snapshot_by_id(parent)
    found = found or table.properties.get(POSITION)
    if found is None:
        raise WrongUse(
            f"The table {'.'.join(table.name())} has rows that no export wrote: choose a namespace."
        )
    return ExportPosition.model_validate_json(found)
