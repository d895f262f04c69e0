"""The committed description of the API is the one of this code, and complete."""

import json
from pathlib import Path
from typing import Any

from console.app import API_PREFIX, describe_api, route_table

FILE = Path(__file__).resolve().parents[3] / "docs" / "console-openapi.json"


def test_the_committed_description_of_the_api_is_current() -> None:
    written = json.loads(FILE.read_text("utf-8"))
    assert written == describe_api(), "run 'reviewloop console openapi > docs/console-openapi.json'"


def test_every_operation_has_a_summary_a_role_and_a_schema_of_what_it_answers() -> None:
    described = describe_api()
    paths = {path for path, _ in route_table() if path.startswith(API_PREFIX)}
    assert described["paths"].keys() == paths - {f"{API_PREFIX}/openapi.json"}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            place = f"{method} {path}"
            assert operation["description"], place
            assert operation["x-least-role"] in {"viewer", "annotator", "operator", "owner"}, place
            assert "application/problem+json" in operation["responses"]["default"]["content"], place
            answers = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
            assert answers, place
            for content in answers[0].get("content", {}).values():
                assert content["schema"] != {}, f"{place} returns no model"


def test_all_parts_of_the_api_keep_to_the_same_rules() -> None:
    described = describe_api()
    schemas, names = described["components"]["schemas"], []
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            place = f"{method} {path}"
            names.append(operation["operationId"])
            assert method in {"get", "post", "put", "delete"}, place
            assert operation["tags"], place
            assert path == path.lower().replace("_", "-") or "{" in path, place
            given = {one["name"] for one in operation.get("parameters", ())}
            if "cursor" in given or "next" in _answer(operation, schemas):
                assert {"cursor", "limit"} <= given, place
                assert {"items", "next"} <= _answer(operation, schemas), place
            for body in operation.get("requestBody", {}).get("content", {}).values():
                if path.startswith(f"{API_PREFIX}/label-studio/"):
                    continue  # its protocol is another program's, which sends more than is read
                model = schemas[body["schema"]["$ref"].rpartition("/")[2]]
                assert model.get("additionalProperties") is False, (
                    f"{place} takes fields that it does not know"
                )
    assert len(names) == len(set(names)), "a client has one function for each operation"


def _answer(operation: Any, schemas: Any) -> set[str]:
    """The fields of what an operation answers."""
    (answer,) = [one for status, one in operation["responses"].items() if status.startswith("2")]
    for content in answer.get("content", {}).values():
        reference = content["schema"].get("$ref", "")
        return set(schemas.get(reference.rpartition("/")[2], {}).get("properties", ()))
    return set()
