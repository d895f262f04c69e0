"""What is stored with a time to come gets the time of its receipt, as what comes from now on does.

Until that time a review stayed the current version, and a label beat every correction. What a review stated
is kept beside it. Nothing else changes: the version before reads and writes these rows as all others.
"""

from alembic import op

revision = "0013"
down_revision = "0012"

_REVIEWS = """
UPDATE review SET stated_published_at = published_at, published_at = received_at
 WHERE published_at > received_at + interval '5 minutes'
"""
_LABELS = """
UPDATE label SET labelled_at = received_at WHERE labelled_at > received_at + interval '5 minutes';
UPDATE waiting_label SET labelled_at = received_at WHERE labelled_at > received_at + interval '5 minutes';
"""


def upgrade() -> None:
    """Bound the times."""
    op.execute(_REVIEWS)
    op.execute(_LABELS)
