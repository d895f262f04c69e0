"""What the tables share: their metadata, and the columns that several of them have."""

from typing import Any

from sqlalchemy import ARRAY, REAL, BigInteger, Boolean, Column, DateTime, MetaData, Text, func

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)
TIME = DateTime(timezone=True)


def moment(name: str, *, now: bool = False) -> Column[object]:
    """A time that each row has; ``now``: by default that of the transaction which inserts it."""
    return Column(name, TIME, nullable=False, server_default=func.now() if now else None)


def lease_columns() -> tuple[Column[Any], ...]:
    """The holder of a row, until when by the database's clock, and the fencing token."""
    return (
        Column("holder", Text),
        Column("lease_token", BigInteger, nullable=False, server_default="0"),
        Column("lease_expires_at", TIME),
    )


def score_columns() -> tuple[Column[Any], ...]:
    """What an adapter said of a record."""
    return (
        Column("label", Text, nullable=False),
        Column("confidence", REAL, nullable=False),
        Column("probabilities", ARRAY(REAL), nullable=False),
        Column("margin", REAL, nullable=False),
        Column("entropy", REAL, nullable=False),
        Column("truncated", Boolean, nullable=False),
        moment("scored_at"),
    )
