"""Answers of models count apart from those of people, and answers say how long they took.

A model's answer (``annotator`` "model:NAME") has no vote in ``label_consensus``. Columns are added, and no
column of a view changes: the version before goes on working on this schema.
"""

from alembic import op

revision = "0032"
down_revision = "0031"

_CONSENSUS = """
CREATE OR REPLACE VIEW {view} AS
WITH answer AS (
    SELECT DISTINCT ON (record, task, annotator) record, task, annotator, label, labelled_at, source
      FROM label
     WHERE {condition}
     ORDER BY record, task, annotator, labelled_at DESC, id DESC
), vote AS (
    SELECT record, task, label, count(*) AS answers, max(labelled_at) AS labelled_at
      FROM answer
     WHERE source <> 'undo'
     GROUP BY record, task, label
), tally AS (
    SELECT record, task,
           array_agg(label ORDER BY answers DESC, label) FILTER (WHERE label IS NOT NULL) AS labels,
           array_agg(answers ORDER BY answers DESC, label) FILTER (WHERE label IS NOT NULL) AS votes,
           sum(answers)::bigint AS answers,
           max(labelled_at) AS labelled_at
      FROM vote
     GROUP BY record, task
)
SELECT record, task,
       CASE WHEN votes[1] > coalesce(votes[2], 0) THEN labels[1] END AS label,
       coalesce(votes[1], 0) AS agreeing,
       answers,
       labelled_at
  FROM tally;
COMMENT ON VIEW {view} IS '{comment}';
"""


def upgrade() -> None:
    """Change the view, and add another one, columns and indexes."""
    by_model = "starts_with(annotator, 'model:')"
    for table in ("label", "waiting_label"):
        op.execute(f"ALTER TABLE {table} ADD COLUMN seconds real")
    op.execute(f"CREATE INDEX label_people_idx ON label (task, received_at) WHERE NOT {by_model}")
    op.execute(f"CREATE INDEX label_models_idx ON label (task, received_at) WHERE {by_model}")
    people = (
        "What the people who judged a record agree on: the latest answer of each counts once, unsure does "
        "not vote, the most votes win, a tie is no consensus, and models have no vote"
    )
    models = (
        "The same of the models that answered about a record (annotator model:NAME); it is nobody''s truth"
    )
    for view, condition, comment in (
        ("label_consensus", f"NOT {by_model}", people),
        ("model_consensus", by_model, models),
    ):
        op.execute(_CONSENSUS.format(view=view, condition=condition, comment=comment))
