"""Database roles with minimal privileges, one for each kind of program, and one for readers."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from sqlalchemy import Connection, text

from reviews.errors import WrongUse
from storage.database import Database
from storage.migrate import UPGRADE_LOCK

MAX_NAME_BYTES = 63  # PostgreSQL cuts longer names without a word

_LOOK = ("SELECT",)
_MAINTAIN = "MAINTAIN"
_FIRST_WITH_MAINTAIN = 17  # before, only the owner can vacuum, and autovacuum does
WRITER_GRANTS: Mapping[str, tuple[str, ...]] = {
    "stream_partition": ("SELECT", "INSERT", "UPDATE"),
    "stream_gap": ("SELECT", "INSERT"),
    "review": ("SELECT", "INSERT"),  # a label finds the version that it judged
    "withdrawal": ("INSERT",),
    "prediction": ("INSERT",),
    "dead_letter": ("SELECT", "INSERT", "UPDATE"),
    "adapter": _LOOK,
    "adapter_file": _LOOK,
    "adapter_activation": _LOOK,
    "alembic_version": _LOOK,
    "scored_reviews": (),
    "dead_letters": (),
    "active_adapter": _LOOK,  # decides the order of a task's labels
    "current_review": (),
    "published_review": (),
    "label_consensus": _LOOK,  # a tie keeps an item in the queue
    "model_consensus": (),
    "label": ("SELECT", "INSERT"),
    "label_set": _LOOK,  # a label of before counts under the name of now
    "waiting_label": ("SELECT", "INSERT", "UPDATE (look_at)", "DELETE"),
    "label_task": ("SELECT", "INSERT", "UPDATE"),
    "label_skip": ("SELECT", "INSERT"),
    "label_action": (),
    "label_studio_annotation": (),
    "guideline": (),
    "embedding": ("INSERT",),
    "prediction_history": ("INSERT",),
    "adapter_shadow": _LOOK,
    "rescore_job": (),
    "rescore_range": (),
    "sink": (),
    "sink_position": (),
    "sink_change": (),  # the trigger that marks labelled rows has the rights of the tables' owner
    "lease": (),
    "training_run": (),
    "run_request": (),
    "mlflow_mirror": (),
    "training_item": (),
    "drift_report": (),
    "erasure": _LOOK,  # what was erased does not come back
    "erasure_review": _LOOK,
    "erasure_position": _LOOK,
    "erasure_record": (),
    "erasure_finding": (),
    "erasure_run": (),
    "erasure_adapter": (),
    "console_user": (),
    "console_session": (),
    "console_link": (),
    "console_token": (),
    "log_in_attempt": (),
    "audit_log": (),
}
"""What a worker does with each table and view; a test holds that none is left out."""
RESCORER_GRANTS: Mapping[str, tuple[str, ...]] = {
    "review": _LOOK,
    "published_review": _LOOK,
    "prediction": ("SELECT", "INSERT", "DELETE"),
    "prediction_history": ("SELECT", "INSERT", "UPDATE"),
    "embedding": ("SELECT", "INSERT", "UPDATE"),
    "stream_partition": _LOOK,
    "adapter": _LOOK,
    "adapter_file": _LOOK,
    "adapter_activation": _LOOK,
    "alembic_version": _LOOK,
    "rescore_job": ("SELECT", "INSERT", "UPDATE"),
    "rescore_range": ("SELECT", "INSERT", "UPDATE"),
    "sink": _LOOK,
    "sink_change": ("INSERT",),
}
"""What 'rescore' does. No live worker may take a prediction away, so it is a role of its own."""
TRAINER_GRANTS: Mapping[str, tuple[str, ...]] = {
    "stream_partition": _LOOK,
    "review": _LOOK,
    "prediction": _LOOK,
    "prediction_history": _LOOK,
    "embedding": _LOOK,
    "adapter": ("SELECT", "INSERT", "UPDATE (state)", "DELETE"),  # those that the gate rejected
    "adapter_file": ("SELECT", "INSERT", "DELETE"),
    "adapter_activation": ("SELECT", "INSERT"),
    "active_adapter": _LOOK,
    "current_review": _LOOK,
    "published_review": _LOOK,
    "alembic_version": _LOOK,
    "label": ("SELECT", "INSERT"),
    "label_set": ("SELECT", "INSERT"),  # every version is kept
    "label_consensus": _LOOK,
    "model_consensus": _LOOK,
    "waiting_label": ("SELECT", "INSERT", "UPDATE (look_at)", "DELETE"),
    "label_task": ("SELECT", "INSERT", "UPDATE"),
    "label_skip": ("SELECT", "INSERT", "DELETE"),  # a skip can be taken back
    "label_studio_annotation": ("SELECT", "INSERT", "UPDATE"),
    "guideline": _LOOK,  # annotators at the terminal read them
    "lease": ("SELECT", "INSERT", "UPDATE"),
    "training_run": ("SELECT", "INSERT", "UPDATE"),
    "run_request": ("SELECT", "UPDATE"),  # people ask by the console; the schedule takes what they ask for
    "training_item": ("SELECT", "INSERT"),
    "mlflow_mirror": ("SELECT", "INSERT"),
    "drift_report": ("SELECT", "INSERT", "UPDATE"),
    "adapter_shadow": _LOOK,
    "rescore_job": _LOOK,  # what is rescored with a rejected adapter keeps it
    "audit_log": ("SELECT", "INSERT", "UPDATE (outcome, message)"),
    "erasure_record": _LOOK,
    "erasure_run": _LOOK,
    "erasure_adapter": _LOOK,
}
"""What training runs, labelling and the drift watch do: they take in no reviews, and change none."""
CONSOLE_GRANTS: Mapping[str, tuple[str, ...]] = {
    "alembic_version": _LOOK,
    "console_user": ("SELECT", "INSERT", "UPDATE (role, password_hash, disabled_at)"),
    "console_session": ("SELECT", "INSERT", "DELETE"),
    "console_link": ("SELECT", "INSERT", "DELETE"),
    "console_token": ("SELECT", "INSERT", "UPDATE (revoked_at, last_used_at)"),
    "log_in_attempt": ("SELECT", "INSERT", "DELETE"),
    "audit_log": ("SELECT", "INSERT", "UPDATE (outcome, message)"),  # what was decided cannot be rewritten
    "stream_partition": _LOOK,
    "stream_gap": _LOOK,
    "review": _LOOK,
    "withdrawal": _LOOK,
    "prediction": _LOOK,
    "prediction_history": _LOOK,
    "embedding": _LOOK,
    "dead_letter": ("SELECT", "UPDATE (state, state_reason, state_changed_at)"),
    "adapter": ("SELECT", "INSERT", "UPDATE (state)"),
    "adapter_file": ("SELECT", "INSERT"),
    "adapter_activation": ("SELECT", "INSERT"),
    "adapter_shadow": ("SELECT", "INSERT", "UPDATE (ended_at, ended_by, end_reason)"),
    "scored_reviews": _LOOK,
    "dead_letters": _LOOK,
    "active_adapter": _LOOK,
    "current_review": _LOOK,
    "published_review": _LOOK,
    "label": ("SELECT", "INSERT"),
    "label_set": _LOOK,
    "label_consensus": _LOOK,
    "waiting_label": ("SELECT", "INSERT"),  # a model's answer to a review that is not stored yet
    "label_task": ("SELECT", "INSERT", "UPDATE"),
    "label_skip": ("SELECT", "INSERT", "DELETE"),
    "label_action": ("SELECT", "INSERT"),
    "label_studio_annotation": ("SELECT", "INSERT", "UPDATE"),
    "guideline": ("SELECT", "INSERT"),  # every version is kept
    "lease": _LOOK,
    "training_run": _LOOK,
    "run_request": ("SELECT", "INSERT", "UPDATE (closed_at, error)"),
    "drift_report": _LOOK,
    "sink": _LOOK,
    "sink_position": _LOOK,
    "sink_change": _LOOK,
    "erasure": _LOOK,
    "erasure_review": _LOOK,
    "erasure_record": _LOOK,
    "erasure_finding": _LOOK,
    "erasure_run": _LOOK,
    "erasure_adapter": _LOOK,
}
"""What the console does: it looks at everything, and writes what people decide there."""
_AGED = ("SELECT", "DELETE", _MAINTAIN)  # the last one to vacuum it
KEEPER_GRANTS: Mapping[str, tuple[str, ...]] = {
    "alembic_version": _LOOK,
    "stream_partition": ("SELECT", "UPDATE (erased_until)"),
    "adapter": ("SELECT", "UPDATE (metrics)"),
    "adapter_file": ("SELECT", "DELETE"),
    "active_adapter": _LOOK,
    "training_run": ("SELECT", "UPDATE (error, config, manifest, metrics, verdict)"),
    "lease": ("SELECT", "INSERT", "UPDATE"),
    "review": _AGED,
    "withdrawal": _AGED,
    "prediction": _AGED,
    "prediction_history": _AGED,
    "embedding": _AGED,
    "dead_letter": _AGED,
    "label": _AGED,
    "waiting_label": ("SELECT", "DELETE"),
    "label_task": _AGED,
    "label_skip": _AGED,
    "label_action": _AGED,
    "label_studio_annotation": _AGED,
    "training_item": _AGED,
    "drift_report": (*_AGED, "UPDATE (measures, attribution)"),
    "audit_log": (*_AGED, "UPDATE (subject, reason, message)"),  # an erased text is not kept by who quoted it
    "adapter_activation": ("SELECT", "UPDATE (reason)"),
    "adapter_shadow": ("SELECT", "UPDATE (reason, end_reason)"),
    "guideline": ("SELECT", "UPDATE (text)"),
    "run_request": ("SELECT", "UPDATE (reason, error)"),
    "stream_gap": ("SELECT", "UPDATE (reason)"),
    "erasure": ("SELECT", "INSERT", "UPDATE"),
    "erasure_review": ("SELECT", "INSERT", "UPDATE"),
    "erasure_position": ("SELECT", "INSERT"),
    "erasure_record": ("SELECT", "INSERT"),
    "erasure_finding": ("SELECT", "INSERT", "UPDATE"),
    "erasure_run": ("SELECT", "INSERT"),
    "erasure_adapter": ("SELECT", "INSERT"),
    "sink": _LOOK,
    "sink_position": _LOOK,
    "sink_change": ("INSERT",),  # a tombstone is sent
}
"""What 'data retain' and 'forget' do: they delete, and change what quotes an erased review."""
SINK_GRANTS: Mapping[str, tuple[str, ...]] = {
    "alembic_version": _LOOK,
    "stream_partition": _LOOK,
    "review": _LOOK,
    "published_review": _LOOK,
    "withdrawal": _LOOK,
    "prediction": _LOOK,
    "adapter": _LOOK,
    "label": _LOOK,
    "label_consensus": _LOOK,
    "sink": ("SELECT", "INSERT", "UPDATE (is_open)", "DELETE"),
    "sink_position": ("SELECT", "INSERT", "UPDATE (next_record, moved_at)"),
    "sink_change": ("SELECT", "DELETE"),
}
"""What 'sink' does: it reads rows, and moves the positions of sinks."""
EXPORTER_GRANTS: Mapping[str, tuple[str, ...]] = {
    "stream_partition": _LOOK,
    "review": _LOOK,
    "prediction": _LOOK,
    "withdrawal": _LOOK,
    "label": _LOOK,
    "adapter": _LOOK,
    "rescore_job": _LOOK,
    "erasure": _LOOK,
    "erasure_review": _LOOK,
    "erasure_record": _LOOK,
    "erasure_position": _LOOK,
    "erasure_finding": ("SELECT", "INSERT", "UPDATE (rows, state, detail)"),
}
"""What 'export' does: it reads rows that the views do not show, such as old versions, and notes on receipts
of erasures what left its files. It changes nothing else."""
READER_GRANTS: Mapping[str, tuple[str, ...]] = {
    "scored_reviews": _LOOK,
    "dead_letters": _LOOK,
    "adapter": _LOOK,  # 'query --task' and '--adapter' look their numbers up
}
"""What a person or a tool may look at: the public contract, and which adapters there are."""


# Whether a role owns the tables or is a superuser, so that privileges mean nothing to it.
_MAY_EVERYTHING = text("""
SELECT rolsuper OR EXISTS (SELECT FROM pg_class c
                            WHERE c.oid = to_regclass('review') AND pg_has_role(r.oid, c.relowner, 'MEMBER'))
  FROM pg_roles r WHERE rolname = :name
""")
_CAN_LOG_IN = text("SELECT rolcanlogin FROM pg_roles WHERE rolname = :name")
_SCHEMA = text("SELECT current_schema()")
_LOCK = text("SELECT pg_advisory_xact_lock(:lock)")
# Privileges that the configured user lacks on tables that are there, or on a column of theirs.
_LACKING = text("""
SELECT needed.name, needed.privilege || coalesce(' (' || needed.column_name || ')', '')
  FROM unnest(CAST(:tables AS text[]), CAST(:privileges AS text[]), CAST(:columns AS text[])) WITH ORDINALITY
       AS needed (name, privilege, column_name, place)
 WHERE NOT CASE WHEN needed.column_name IS NULL
                THEN has_table_privilege(to_regclass(needed.name), needed.privilege)
                ELSE has_column_privilege(to_regclass(needed.name), needed.column_name, needed.privilege) END
 ORDER BY needed.place
""")


class DatabaseRole(NamedTuple):
    """A role to be created or changed.

    Attributes:
        name: As it is, with whatever letters.
        grants: Privileges by table or view.
        password: Lets it log in with this; None leaves its login as it is, and a new role without one.
    """

    name: str
    grants: Mapping[str, tuple[str, ...]]
    password: str | None = None


class RoleState(NamedTuple):
    """What became of a role.

    Attributes:
        is_new: Whether it was made now.
        can_log_in: Whether it may log in; one that cannot is of use to the roles that it is granted to.
    """

    is_new: bool
    can_log_in: bool


def set_up_roles(database: Database, roles: list[DatabaseRole]) -> dict[str, RoleState]:
    """Make roles where they are missing, and give them these privileges and no others; safe to repeat.

    Args:
        database: Its configured user has to own the tables and may create roles.
        roles: Which.

    Returns:
        What became of each, by name.

    Raises:
        WrongUse: If a name cannot be one, or belongs to somebody who may everything anyway.
        ReviewLoopError: If the configured user may not do this, or the schema is not there yet.
    """
    made: dict[str, RoleState] = {}
    with database.begin() as connection:
        connection.execute(_LOCK, {"lock": UPGRADE_LOCK})
        for role in roles:
            _require_possible(connection, role.name)
            is_new = _can_log_in(connection, role.name) is None
            for statement in _statements(connection, role, is_new=is_new):
                _driver(connection).execute(statement)
            made[role.name] = RoleState(is_new, bool(_can_log_in(connection, role.name)))
    return made


def missing_privileges(
    database: Database, grants: Mapping[str, tuple[str, ...]] = WRITER_GRANTS
) -> list[str]:
    """What the configured user lacks for this, by default to run a worker, such as ``INSERT on review``."""
    needed = [
        (table, *one) for table, privileges in grants.items() for given in privileges for one in _each(given)
    ]
    tables, privileges, columns = map(list, zip(*needed, strict=True))
    given = {"tables": tables, "privileges": privileges, "columns": columns}
    return [f"{privilege} on {table}" for table, privilege in database.fetch(_LACKING, given)]


def _each(privilege: str) -> list[tuple[str, str | None]]:
    """A privilege with its column, once for each of its columns; None: it is on the whole table."""
    name, _, columns = privilege.removesuffix(")").partition(" (")
    return [(name, column.strip()) for column in columns.split(",")] if columns else [(name, None)]


def _statements(connection: Connection, role: DatabaseRole, *, is_new: bool) -> Iterator[sql.Composed]:
    name = sql.Identifier(role.name)
    schema = sql.Identifier(connection.execute(_SCHEMA).scalar_one())
    if is_new:
        yield sql.SQL("CREATE ROLE {} NOLOGIN").format(name)
    if role.password is not None:
        # Hashed here: the password itself never travels, and no log of the server can hold it.
        hashed = _driver(connection).pgconn.encrypt_password(
            role.password.encode(), role.name.encode(), b"scram-sha-256"
        )
        yield sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(name, sql.Literal(hashed.decode()))
    yield sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA {} FROM {}").format(schema, name)
    yield sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, name)
    for table, privileges in role.grants.items():
        known = [one for one in privileges if one != _MAINTAIN or _knows_maintain(connection)]
        if known:
            granted = sql.SQL(", ").join(map(sql.SQL, known))
            yield sql.SQL("GRANT {} ON {} TO {}").format(granted, sql.Identifier(table), name)


def _knows_maintain(connection: Connection) -> bool:
    version = connection.dialect.server_version_info or (0,)
    return int(version[0]) >= _FIRST_WITH_MAINTAIN


def _require_possible(connection: Connection, name: str) -> None:
    if not name or "\x00" in name or len(name.encode()) > MAX_NAME_BYTES or name.startswith("pg_"):
        raise WrongUse(
            f"A role cannot be called '{name}': PostgreSQL takes 1 to {MAX_NAME_BYTES} bytes, and keeps "
            "names that begin with pg_ for itself."
        )
    if connection.execute(_MAY_EVERYTHING, {"name": name}).scalar():
        raise WrongUse(f"The role '{name}' owns the tables or is a superuser: choose another name.")


def _can_log_in(connection: Connection, name: str) -> bool | None:
    """Whether a role may log in; None where there is none of this name."""
    found: bool | None = connection.execute(_CAN_LOG_IN, {"name": name}).scalar()
    return found


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    return driver
