"""How an adapter came to be: fitted to labelled reviews, or made from descriptions of its labels.

A program of the version before registers trained adapters only and does not write the column.
"""

from alembic import op

revision = "0033"
down_revision = "0032"

_COLUMN = """
ALTER TABLE adapter ADD COLUMN origin text NOT NULL DEFAULT 'trained'
    CONSTRAINT adapter_origin_check CHECK (origin IN ('trained', 'zero-shot'));
"""


def upgrade() -> None:
    """Add the column: every adapter that is registered by now was trained."""
    op.execute(_COLUMN)
