"""The ``export`` section of the settings."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from reviews.errors import WrongUse
from reviews.export import DATA_SETS, DataSetName

TableFormat = Literal["parquet", "iceberg"]


class ExportSettings(BaseModel):
    """The ``export`` section of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str | None = Field(
        default=None,
        description="A folder, or an object store's address such as s3://BUCKET/FOLDER. Credentials come "
        "from the environment, as that store's own tools read them.",
    )
    table_format: TableFormat = Field(
        default="parquet", description="parquet: files in folders by day; iceberg: tables in a catalogue."
    )
    data_sets: tuple[DataSetName, ...] = Field(
        default=DATA_SETS, min_length=1, description="Which of reviews, predictions, labels and withdrawals."
    )
    catalog: SecretStr | None = Field(
        default=None,
        description="Iceberg: the catalogue's database, such as postgresql://USER:PASSWORD@HOST/NAME; unset, "
        "the file catalog.db in the target, which has to be a folder then.",
    )
    cron: str | None = Field(
        default=None,
        description="When 'trainer schedule' exports: minute, hour, day, month, weekday; in UTC. "
        "Unset, never.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="The database as the role of 'db roles --exporter', for the exports of 'trainer "
        "schedule'; unset, database.url.",
    )
    namespace: str = Field(
        default="reviewloop",
        pattern=r"^[a-z][a-z0-9_]{0,62}$",
        description="Iceberg: the tables' namespace.",
    )

    @field_validator("target")
    @classmethod
    def _have_no_credentials(cls, value: str | None) -> str | None:
        scheme, separator, rest = (value or "").partition("://")
        if separator and ("@" in rest.partition("?")[0] or scheme == "file"):
            raise ValueError("must be a folder, or an address without user and password")
        return value


def target_name(settings: ExportSettings) -> str:
    """The target as locks and receipts name it.

    Raises:
        WrongUse: If there is none.
    """
    if settings.target is None:
        raise WrongUse("Where to? Name a folder or an address: 'reviewloop export TARGET', or export.target.")
    if "://" in settings.target:
        return settings.target
    return str(Path(settings.target).expanduser().absolute())
