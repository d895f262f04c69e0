"""Iceberg tables, one a data set, whose snapshots carry the position of their rows.

Data files are written first and belong to no table. One commit of the catalogue adds them and the position,
in the summary of the snapshot: whether an export was committed is read from the table. A table that is rolled
back to an earlier snapshot goes back to its position as well, and the next export writes the rest again.
"""

import re
import secrets
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, ValidationException
from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.table import TableProperties
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.transforms import DayTransform

from reviewloop.export.data_sets import ALL
from reviewloop.export.folder import applied_erasures, set_applied_erasures
from reviewloop.export.places import FilePlace, described, open_place
from reviewloop.export.settings import ExportSettings
from reviews.errors import ReviewLoopError, WrongUse
from reviews.export import DataSetName, ExportPosition
from storage.errors import describe_catalog_errors

CATALOG = "reviewloop"
"""The catalogue's name, which is a part of its tables' names in the database."""
POSITION = "reviewloop.position"
"""The property of snapshots and tables with the position, as JSON."""

_ATTEMPTS = 3
_EPOCH = date(1970, 1, 1)
_WRITTEN_BY_EXPORTS = re.compile(r"-[0-9a-f]{8}\.parquet$")
# Bounds of a column in the metadata would hold the beginnings of texts and ids.
_WITHOUT_BOUNDS = {
    f"{TableProperties.METRICS_MODE_COLUMN_CONF_PREFIX}.{column}": "none"
    for column in ("text", "review_id", "attributes")
}


class IcebergTarget:
    """Tables of a catalogue.

    Args:
        catalog: The catalogue.
        namespace: Of the tables; made if it is not there.
        target: The warehouse, for errors.
        place: The same place, for what no table has.
    """

    files_a_commit = 100
    has_columns = True

    def __init__(self, catalog: Any, namespace: str, target: str, place: FilePlace) -> None:
        self._catalog = catalog
        self._namespace = namespace
        self._target = target
        # What a killed export wrote belongs to nothing, and must not be written over once it does.
        self._token = secrets.token_hex(4)
        self._place = place
        self._tables: dict[DataSetName, Any] = {}
        self._files: dict[str, Any] = {}
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

    def has(self, data_set: DataSetName) -> bool:
        """Whether there is such a table."""
        with self._described():
            return bool(self._catalog.table_exists(f"{self._namespace}.{data_set}"))

    def applied(self) -> frozenset[datetime]:
        """The erasures that the tables have had."""
        return applied_erasures(self._place)

    def set_applied(self, erasures: frozenset[datetime]) -> None:
        """Remember them."""
        set_applied_erasures(self._place, erasures)

    def days(self, data_set: DataSetName) -> Iterator[tuple[str, list[str]]]:
        """The data files of each day in the current snapshot.

        Raises:
            ReviewLoopError: If others deleted rows without writing the files anew.
        """
        found = defaultdict(list)
        with self._described():
            for task in self._tables[data_set].scan().plan_files():
                if task.delete_files:
                    raise ReviewLoopError(
                        f"Rows of {self._namespace}.{data_set} were deleted by delete files: compact the "
                        "table, then run 'reviewloop export --erase' again."
                    )
                self._files[task.file.file_path] = task.file
                found[_day(task.file)].append(task.file.file_path)
        yield from sorted(found.items())

    @contextmanager
    def reading(self, data_set: DataSetName, path: str) -> Iterator[Any]:
        """A stream from a data file."""
        with described(self._target), self._tables[data_set].io.new_input(path).open() as stream:
            yield stream

    def rewriting(self, data_set: DataSetName, path: str) -> Any:
        """A stream into the data file that is to replace another."""
        return self.writing(data_set, _rewritten(path))

    def replace(self, data_set: DataSetName, path: str) -> None:
        """Put what was written in the place of a data file, in one snapshot that keeps the position.

        Raises:
            ReviewLoopError: If others replaced the file meanwhile.
        """
        table, known = self._tables[data_set], self._known[data_set]
        properties = {} if known is None else {POSITION: known.model_dump_json()}
        new = self._location(data_set, _rewritten(path))
        with self._described():
            table.refresh()
            try:
                with (
                    table.transaction() as transaction,
                    transaction.update_snapshot(snapshot_properties=properties).overwrite() as change,
                ):
                    file = parquet_file_to_data_file(table.io, table.metadata, new)
                    if file.record_count:
                        change.append_data_file(file)
                    change.delete_data_file(self._files[path])
            except (CommitFailedException, ValidationException) as err:
                raise ReviewLoopError(
                    f"{self._namespace}.{data_set} was changed by others meanwhile: run it again."
                ) from err

    def purge(self, data_set: DataSetName) -> None:
        """Delete what only earlier snapshots have, and files that a killed export left; then expire those.

        Raises:
            ReviewLoopError: If a tag or a branch keeps an earlier snapshot.
        """
        table = self._tables[data_set]
        with self._described():
            table.refresh()
            if others := sorted(set(table.metadata.refs) - {MAIN_BRANCH}):
                raise ReviewLoopError(
                    f"{self._namespace}.{data_set}: {', '.join(others)} may keep erased reviews: drop these "
                    "tags and branches, then run 'reviewloop export --erase' again."
                )
            current = table.current_snapshot()
            if current is None:
                return
            with (  # which leaves the list of the files behind that the last one deleted
                table.transaction() as transaction,
                transaction.update_snapshot(snapshot_properties=_summary_of(current)).fast_append(),
            ):
                pass
            table.refresh()
            current = table.current_snapshot()
            earlier = [one for one in table.snapshots() if one.snapshot_id != current.snapshot_id]
            kept = set(_files_of(table, current))
            for snapshot in earlier:
                for path in _files_of(table, snapshot):
                    if path not in kept:
                        with suppress(FileNotFoundError):
                            table.io.delete(path)
            self._remove_unfinished(data_set, kept)
            table.maintenance.expire_snapshots().by_ids([one.snapshot_id for one in earlier]).commit()

    def _remove_unfinished(self, data_set: DataSetName, kept: set[str]) -> None:
        """Data files of exports that were killed before they added them."""
        names = {path.rpartition("/")[2] for path in kept}
        for path in self._place.files(f"{self._namespace}/{data_set}/data"):
            name = path.rpartition("/")[2]
            if _WRITTEN_BY_EXPORTS.search(name) and name not in names:
                self._place.remove(path)

    def _open(self, data_set: DataSetName) -> Any:
        name = f"{self._namespace}.{data_set}"
        try:
            table = self._catalog.load_table(name)
        except NoSuchTableError:
            return self._create(data_set, name)
        with table.update_schema() as change:
            change.union_by_name(ALL[data_set].schema)  # columns that a later version adds
        if not _WITHOUT_BOUNDS.items() <= table.properties.items():
            with table.transaction() as transaction:
                transaction.set_properties(_WITHOUT_BOUNDS)
        return table

    def _create(self, data_set: DataSetName, name: str) -> Any:
        self._catalog.create_namespace_if_not_exists(self._namespace)
        kind = ALL[data_set]
        table = self._catalog.create_table(name, kind.schema, properties=_WITHOUT_BOUNDS)
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
        yield IcebergTarget(catalog, settings.namespace, target, open_place(target))


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


def _summary_of(snapshot: Any) -> dict[str, str]:
    found = None if snapshot.summary is None else snapshot.summary.additional_properties.get(POSITION)
    return {} if found is None else {POSITION: found}


def _files_of(table: Any, snapshot: Any) -> Iterator[str]:
    """Data files, manifests and the list of a snapshot, in an order in which they may be deleted."""
    manifests = []
    with suppress(FileNotFoundError):  # another run was killed while it deleted them
        manifests = snapshot.manifests(table.io)
    for manifest in manifests:
        with suppress(FileNotFoundError):
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
                yield entry.data_file.file_path
    for manifest in manifests:
        yield manifest.manifest_path
    yield snapshot.manifest_list


def _day(file: Any) -> str:
    value = file.partition[0] if len(file.partition) else None
    if value is None:
        return "day=all"
    return f"day={(value if isinstance(value, date) else _EPOCH + timedelta(days=value)).isoformat()}"


def _rewritten(path: str) -> str:
    """A name in the table's folder for what is to replace a file."""
    folder, _, name = path.rpartition("/")
    return f"{folder.rpartition('/')[2]}/{name.removesuffix('.parquet')}"
