"""The outbox of MLflow's mirror: which runs, adapters and activations a server has not had yet.

What was mirrored is a row, not a position: adapters and runs commit in another order than they are numbered.
"""

from typing import Literal, NamedTuple

from sqlalchemy import select, text

from reviews.training_run import TrainingRun
from storage.database import Database
from storage.schema.learning import training_run

Kind = Literal["run", "adapter", "activation"]

_NOT_MIRRORED = """NOT EXISTS (
    SELECT FROM mlflow_mirror m WHERE m.server = :server AND m.kind = '{kind}' AND m.subject = {subject})"""
_RUNS = text(f"""
SELECT t.id FROM training_run t
 WHERE t.finished_at IS NOT NULL AND {_NOT_MIRRORED.format(kind="run", subject="t.id::text")}
 ORDER BY t.id LIMIT :most
""")  # noqa: S608  nothing but the constant above
# An adapter goes where its run is and waits for it. A rejected one waits for a person to promote it.
_ADAPTERS = text(f"""
SELECT a.version, made.mlflow_id FROM adapter a
  LEFT JOIN LATERAL (
        SELECT t.id FROM training_run t WHERE t.candidate_adapter = a.version ORDER BY t.id LIMIT 1) maker
       ON true
  LEFT JOIN mlflow_mirror made
       ON made.server = :server AND made.kind = 'run' AND made.subject = maker.id::text
 WHERE (maker.id IS NULL OR made.mlflow_id IS NOT NULL) AND a.state <> 'rejected'
   AND {_NOT_MIRRORED.format(kind="adapter", subject="a.version")}
 ORDER BY a.id LIMIT :most
""")  # noqa: S608  the same
# The latest activation of each task, once its adapter is there.
_ACTIVATIONS = text(f"""
SELECT latest.id, latest.task, a.version, there.mlflow_id
  FROM (SELECT DISTINCT ON (task) id, task, adapter_id FROM adapter_activation ORDER BY task, id DESC) latest
  JOIN adapter a ON a.id = latest.adapter_id
  JOIN mlflow_mirror there ON there.server = :server AND there.kind = 'adapter' AND there.subject = a.version
 WHERE {_NOT_MIRRORED.format(kind="activation", subject="latest.id::text")}
 ORDER BY latest.task
""")  # noqa: S608  the same
_NOTE = text("""
INSERT INTO mlflow_mirror (server, kind, subject, mlflow_id) VALUES (:server, :kind, :subject, :mlflow_id)
ON CONFLICT DO NOTHING
""")
_RUN_COLUMNS = [training_run.c[name] for name in TrainingRun.__dataclass_fields__]


class AdapterToMirror(NamedTuple):
    """An adapter that the server has not had.

    Attributes:
        version: Its version.
        run: MLflow's id of the run that made it; None where no run of ours did.
    """

    version: str
    run: str | None


class ActivationToMirror(NamedTuple):
    """An activation that the server does not know.

    Attributes:
        id: Of the activation.
        task: The task.
        version: The active adapter.
        number: MLflow's number of that model version.
    """

    id: int
    task: str
    version: str
    number: str


class MlflowOutbox:
    """What one server has not had yet.

    Args:
        database: Where it is.
        server: The server's address: another one gets everything from the beginning.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database, server: str) -> None:
        self._database = database
        self._server = server

    def runs(self, most: int) -> list[TrainingRun]:
        """Runs that have ended, the oldest first."""
        numbers = self._database.fetch_values(_RUNS, {"server": self._server, "most": most})
        query = select(*_RUN_COLUMNS).where(training_run.c.id.in_(list(numbers))).order_by(training_run.c.id)
        return [TrainingRun(*row) for row in self._database.fetch(query)]

    def adapters(self, most: int) -> list[AdapterToMirror]:
        """Adapters whose run the server has, and those that no run made, the oldest first."""
        rows = self._database.fetch(_ADAPTERS, {"server": self._server, "most": most})
        return [AdapterToMirror(*row) for row in rows]

    def activations(self) -> list[ActivationToMirror]:
        """The latest activation of each task, if the server has its adapter and does not know of it."""
        rows = self._database.fetch(_ACTIVATIONS, {"server": self._server})
        return [ActivationToMirror(*row) for row in rows]

    def note(self, kind: Kind, subject: str, mlflow_id: str) -> None:
        """Remember that the server has something.

        Args:
            kind: What it is.
            subject: The run's number, the adapter's version, or the activation's number.
            mlflow_id: The id of the run, or the number of the model version.
        """
        given = {"server": self._server, "kind": kind, "subject": subject, "mlflow_id": mlflow_id}
        self._database.execute(_NOTE, given)
