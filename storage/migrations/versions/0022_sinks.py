"""Sinks: topics that scored rows are published to, how far each one is, and which rows changed since.

Labels come from many hands: workers, the console, annotators at a terminal, imports, and programs of the
version before this one. A trigger marks their rows, so that none of them can forget to. It runs as the owner
of the tables, so that nobody needs a right for it. Without a sink it finds nothing to do.
"""

from alembic import op

revision = "0022"
down_revision = "0021"

_TABLES = """
CREATE TABLE sink (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL UNIQUE,
    is_open boolean NOT NULL DEFAULT false, -- whether all transactions have ended that did not know of it
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE sink_position (
    sink_id integer NOT NULL REFERENCES sink (id) ON DELETE CASCADE,
    stream_partition_id integer NOT NULL REFERENCES stream_partition (id),
    next_record bigint NOT NULL, -- everything before it is published
    moved_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sink_id, stream_partition_id)
);
CREATE TABLE sink_change (
    sink_id integer NOT NULL REFERENCES sink (id) ON DELETE CASCADE,
    record bigint NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    task text NOT NULL,
    reason text NOT NULL,
    review_id text, -- of an erased review, whose row is gone
    PRIMARY KEY (sink_id, record, id),
    CONSTRAINT sink_change_reason_check CHECK (reason IN ('labelled', 'rescored', 'erased'))
);
"""
_TRIGGER = """
CREATE FUNCTION {schema}.mark_labelled_for_sinks() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO {schema}.sink_change (sink_id, record, task, reason)
    SELECT DISTINCT s.id, a.record, a.task, 'labelled' FROM added a CROSS JOIN {schema}.sink s;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION {schema}.mark_labelled_for_sinks() IS
    'Lets every sink publish the rows again that somebody labelled';
CREATE TRIGGER label_marked_for_sinks AFTER INSERT ON label REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.mark_labelled_for_sinks();
"""


def upgrade() -> None:
    """Make the tables and the trigger."""
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    for statements in (_TABLES, _TRIGGER.format(schema=schema)):
        op.execute(statements)
