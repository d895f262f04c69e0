"""How much each item of the audit counts, where some were drawn with greater chances than others."""

from alembic import op

revision = "0034"
down_revision = "0033"

_WEIGHT = """
ALTER TABLE label_task ADD COLUMN draw_weight real
      CONSTRAINT label_task_draw_weight_check CHECK (draw_weight > 0 AND draw_weight <= 1);
"""


def upgrade() -> None:
    """Add the column; what was drawn before had even chances."""
    op.execute(_WEIGHT)
