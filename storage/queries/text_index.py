"""An optional index on texts, which finds parts of them by a plain server's own means.

It has every three letters in a row. It changes no answer, only how soon it comes: a text that contains the
asked-for part contains all of the part's trigrams, and what the index finds is compared as before. It is made
on request, because each new review then costs the server several times as much.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import ColumnElement, Connection, Text, func, literal, text
from sqlalchemy.dialects.postgresql import ARRAY

from reviews.errors import ReviewLoopError
from storage.database import Database, without_transaction
from storage.schema.views import scored_reviews

INDEX = "review_text_idx"
SHORTEST_CHARACTERS = 3
# Distinct trigrams in small letters; NULL, which no index holds, where there are fewer than three letters.
_FUNCTION = """
CREATE OR REPLACE FUNCTION review_trigrams(content text) RETURNS text[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT array_agg(DISTINCT first || second || third)
      FROM (SELECT letter AS first, lead(letter) OVER following AS second,
                   lead(letter, 2) OVER following AS third
              FROM string_to_table(lower(content), NULL) WITH ORDINALITY AS letters (letter, place)
            WINDOW following AS (ORDER BY place)) AS triples
     WHERE third IS NOT NULL
$$
"""
# Beside running workers: the index is built without stopping their transactions.
_CREATE = f"CREATE INDEX CONCURRENTLY {INDEX} ON review USING gin (review_trigrams(text))"
_DROP = f"DROP INDEX CONCURRENTLY IF EXISTS {INDEX}"
_LEFT = (
    f"The index on texts was not finished ({{reason}}). What is there of it, {INDEX}, makes new reviews as "
    "slow as all of it would: remove it with 'reviewloop db index-text --drop'."
)
_IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"


def create_text_index(database: Database) -> bool:
    """Make the index where there is none; whether it was made now. Takes minutes per million reviews.

    It waits for every transaction that began before, however long that lasts.

    Raises:
        ReviewLoopError: If the schema is missing, or the user may not do this; if part of an index is left.
    """
    with without_transaction(database, waits=True) as connection:
        if has_text_index(connection):
            return False
        connection.execute(text(_DROP))  # what a killed attempt left
        connection.execute(text(_FUNCTION))
    with _finished_or_removed(database), without_transaction(database, waits=True) as connection:
        connection.execute(text(_CREATE))
        connection.execute(text("ANALYZE review"))
    return True


def drop_text_index(database: Database) -> None:
    """Remove the index, or what an attempt left of it; harmless where there is none."""
    with without_transaction(database, waits=True) as connection:
        connection.execute(text(_DROP))


def has_text_index(connection: Connection) -> bool:
    """Whether the index is there and complete."""
    return bool(connection.execute(text(_IS_VALID), {"name": INDEX}).scalar())


def holds_trigrams(part: str) -> ColumnElement[bool]:
    """That a text has every trigram of this part, which has to have three letters at least."""
    trigrams = func.review_trigrams(scored_reviews.c.text, type_=ARRAY(Text))
    return trigrams.contains(func.review_trigrams(literal(part, Text), type_=ARRAY(Text)))


@contextmanager
def _finished_or_removed(database: Database) -> Iterator[None]:
    """Leave nothing where the block fails: PostgreSQL keeps what it has of an index, at its full price."""
    try:
        yield
    except BaseException as err:  # an interrupt too
        try:
            with without_transaction(database, waits=False) as connection:
                if not has_text_index(connection):
                    connection.execute(text(_DROP))
        except ReviewLoopError:
            reason = str(err).rstrip(".") or "interrupted"
            raise ReviewLoopError(_LEFT.format(reason=reason)) from err
        raise
