"""A tracking server of MLflow by its REST interface, as far as a mirror needs it.

Source: MLflow, REST API 2.0. Everything here can be done again after it was done: what is there is found by
its tag, parameters may be set to the same value, and a metric with the same time and value is the same one.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from reviewloop.integrations.settings import MlflowSettings
from reviewloop.integrations.web_api import WebApi, WebRefusal

_API = "/api/2.0/mlflow"
_FILES = "/api/2.0/mlflow-artifacts/artifacts"
_EXISTS = "RESOURCE_ALREADY_EXISTS"
_MISSING = "RESOURCE_DOES_NOT_EXIST"
_MOST_PARAMS, _MOST_METRICS, _MOST_TAGS = 100, 1_000, 100
_LONGEST_KEY, _LONGEST_PARAM, _LONGEST_TAG = 250, 6_000, 5_000
_NOT_IN_KEYS = re.compile(r"[^\w\-. /]", re.ASCII)


class ServerRun(NamedTuple):
    """A run on the server.

    Attributes:
        id: Its id.
        files: The address of its files.
    """

    id: str
    files: str


class MlflowServer:
    """One tracking server.

    Raises:
        WebRefusal: From every method, if the server refuses.
        Unavailable: From every method, if it does not answer.
    """

    def __init__(self, settings: MlflowSettings) -> None:
        if settings.tracking_uri is None:
            raise ValueError("No tracking server is configured.")
        headers = _log_in(settings)
        self.url = settings.tracking_uri
        self._api = WebApi("MLflow", settings.tracking_uri, lambda: headers, settings.timeout_seconds)

    def experiment(self, name: str) -> str:
        """The id of an experiment, which is made where it is missing."""
        try:
            found = self._api.get(f"{_API}/experiments/get-by-name", experiment_name=name)
            return str(found["experiment"]["experiment_id"])
        except WebRefusal as err:
            if err.code != _MISSING:
                raise
        return str(self._api.post(f"{_API}/experiments/create", {"name": name})["experiment_id"])

    def run(self, experiment: str, tag: tuple[str, str], name: str, start_ms: int) -> ServerRun:
        """The run with a tag, which is begun where it is missing."""
        key, value = tag
        quoted = value.replace("'", "")
        wanted = {
            "experiment_ids": [experiment],
            "filter": f"tags.`{key}` = '{quoted}'",
            "max_results": 1,
        }
        found = self._api.post(f"{_API}/runs/search", wanted).get("runs") or []
        if not found:
            new = {
                "experiment_id": experiment,
                "run_name": name,
                "start_time": start_ms,
                "tags": [{"key": key, "value": quoted}],
            }
            found = [self._api.post(f"{_API}/runs/create", new)["run"]]
        info = found[0]["info"]
        return ServerRun(str(info["run_id"]), str(info["artifact_uri"]))

    def find_run(self, run: str) -> ServerRun:
        """A run by its id."""
        info = self._api.get(f"{_API}/runs/get", run_id=run)["run"]["info"]
        return ServerRun(str(info["run_id"]), str(info["artifact_uri"]))

    def log(
        self,
        run: str,
        *,
        params: Mapping[str, str],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        at_ms: int,
    ) -> None:
        """Log parameters, metrics and tags, in as many requests as it takes."""
        given: dict[str, list[dict[str, Any]]] = {
            "params": [{"key": _key(key), "value": text[:_LONGEST_PARAM]} for key, text in params.items()],
            "metrics": [
                {"key": _key(key), "value": value, "timestamp": at_ms, "step": 0}
                for key, value in metrics.items()
            ],
            "tags": [{"key": _key(key), "value": text[:_LONGEST_TAG]} for key, text in tags.items()],
        }
        sizes = {"params": _MOST_PARAMS, "metrics": _MOST_METRICS, "tags": _MOST_TAGS}
        for kind, entries in given.items():
            for some in _pieces(entries, sizes[kind]):
                self._api.post(f"{_API}/runs/log-batch", {"run_id": run, kind: some})

    def end(self, run: str, *, has_failed: bool, end_ms: int) -> None:
        """Mark a run as ended."""
        status = "FAILED" if has_failed else "FINISHED"
        self._api.post(f"{_API}/runs/update", {"run_id": run, "status": status, "end_time": end_ms})

    def upload(self, run: ServerRun, folder: str, files: Mapping[str, bytes]) -> bool:
        """Store files with a run; False where the server does not take files for its store."""
        place = urlsplit(run.files)
        if place.scheme != "mlflow-artifacts":
            return False
        for path, content in files.items():
            target = quote(f"{place.path.strip('/')}/{folder}/{path}")
            self._api.call("PUT", f"{_FILES}/{target}", content, "application/octet-stream")
        return True

    def model_version(self, model: str, run: ServerRun, folder: str, tags: Mapping[str, str]) -> str:
        """The number of the model version that a run's files are; it is made where it is missing."""
        try:
            self._api.post(f"{_API}/registered-models/create", {"name": model})
        except WebRefusal as err:
            if err.code != _EXISTS:
                raise
        found = self._api.get(
            f"{_API}/model-versions/search", filter=f"name='{model}' and run_id='{run.id}'", max_results=1
        )
        if versions := (found or {}).get("model_versions"):
            return str(versions[0]["version"])
        new = {
            "name": model,
            "run_id": run.id,
            "source": f"{run.files}/{folder}",
            "tags": [{"key": key, "value": text[:_LONGEST_TAG]} for key, text in tags.items()],
        }
        return str(self._api.post(f"{_API}/model-versions/create", new)["model_version"]["version"])

    def set_alias(self, model: str, alias: str, number: str) -> None:
        """Let an alias name a model version."""
        self._api.post(f"{_API}/registered-models/alias", {"name": model, "alias": alias, "version": number})


def _log_in(settings: MlflowSettings) -> dict[str, str]:
    if settings.token is not None:
        return {"Authorization": f"Bearer {settings.token.get_secret_value()}"}
    if settings.username is not None and settings.password is not None:
        pair = f"{settings.username}:{settings.password.get_secret_value()}".encode()
        return {"Authorization": f"Basic {b64encode(pair).decode()}"}
    return {}


def _key(name: str) -> str:
    """A name as MLflow takes it: some characters, and no longer than that."""
    return _NOT_IN_KEYS.sub("_", name)[:_LONGEST_KEY]


def _pieces(entries: Sequence[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(entries)
    while some := list(islice(rest, size)):
        yield some


def flat(values: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """The single values of nested ones, with dotted names."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from flat(value, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(values, list | tuple) and any(isinstance(one, Mapping) for one in values):
        for number, value in enumerate(values):
            name = value.get("name", number) if isinstance(value, Mapping) else number
            yield from flat(value, f"{prefix}.{name}")
    else:
        yield prefix, values
