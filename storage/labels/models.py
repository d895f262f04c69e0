"""Answers of models beside those of people: how often a model says what people agree on."""

from typing import NamedTuple

from sqlalchemy import text

from reviews.queue_item import UNDO_SOURCE
from storage.database import Database
from storage.plans import BY_INDEX
from storage.schema.labels import BY_MODELS

NEWEST_ANSWERS = 100_000
"""So many of the latest answers of models are looked at."""

# The latest answer of each model about a record, beside what people agree on there.
_AGREEMENT = text(f"""
SELECT said.annotator, count(said.label), count(*) FILTER (WHERE said.label IS NULL),
       count(*) FILTER (WHERE said.label IS NOT NULL AND said.human_label IS NOT NULL),
       count(*) FILTER (WHERE said.label = said.human_label)
  FROM (SELECT latest.annotator, latest.label,
               (SELECT c.label FROM label_consensus c
                 WHERE c.record = latest.record AND c.task = :task) AS human_label
          FROM (SELECT DISTINCT ON (record, annotator) record, annotator, label, source
                  FROM (SELECT * FROM label WHERE task = :task AND {BY_MODELS}
                         ORDER BY received_at DESC LIMIT {NEWEST_ANSWERS}) newest
                 ORDER BY record, annotator, labelled_at DESC, id DESC) latest
         WHERE latest.source <> '{UNDO_SOURCE}') said
 GROUP BY said.annotator ORDER BY said.annotator
""")  # noqa: S608  the constants above


class ModelAgreement(NamedTuple):
    """How a model compares with people.

    Attributes:
        model: Its name, with the prefix.
        answers: How many labels it gave.
        unsure: How often it could not tell.
        compared: How many of its labels are about records on which people agree on a label.
        agreeing: How many of those are that label.
    """

    model: str
    answers: int
    unsure: int
    compared: int
    agreeing: int

    @property
    def share(self) -> float | None:
        """How many of those that were compared agree, in [0, 1]; None before any was."""
        return self.agreeing / self.compared if self.compared else None


def model_agreement(database: Database, task: str) -> list[ModelAgreement]:
    """Each model beside what people agree on, by name."""
    with database.begin() as connection:
        connection.execute(BY_INDEX)
        return [ModelAgreement(*row) for row in connection.execute(_AGREEMENT, {"task": task})]
