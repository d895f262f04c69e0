"""What exports go by: the transaction of a label, and the rescoring job of a prediction.

Ids of labels are given before they commit, so that a row may appear behind one with a greater id. The
transaction tells what is settled: rows of transactions older than every one in progress are all there.
Predictions of the stream have no job; the column is written by rescoring alone.
"""

from alembic import op

revision = "0028"
down_revision = "0027"

_LABELS = """
ALTER TABLE label ADD COLUMN transaction_id bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint;
CREATE INDEX label_transaction_idx ON label (transaction_id, id);
"""
_PREDICTIONS = "ALTER TABLE prediction ADD COLUMN rescore_job_id integer;"


def upgrade() -> None:
    """Add the columns and the index."""
    for statements in (_LABELS, _PREDICTIONS):
        op.execute(statements)
