"""The ML backend by its protocol: what Label Studio asks, and what it tells of annotations."""

from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from reviewloop.files.label_studio import to_config
from reviews.errors import Unavailable
from reviews.label import Label
from reviews.slices import SliceShares, slice_of
from storage.accounts.sessions import TokenStore
from storage.labels.store import LabelStore
from tests.integration.console.conftest import HOUR, Site
from tests.integration.queued_reviews import LABELS, answers, queue_reviews, rows, states, store_reviews

PATH = "/api/v1/label-studio"
CONFIG = to_config("sentiment", [*LABELS, "unsure"])
PROJECT = {"id": 3, "created_at": "2026-01-01T10:00:00.123456Z", "label_config": CONFIG, "title": "Reviews"}
T0 = datetime(2026, 2, 1, 12, tzinfo=UTC)
VERSION = "sentiment-0123456789ab"


@pytest.fixture
def studio(site: Site) -> TestClient:
    """A client that shows a token of an annotator, as a webhook's header does."""
    return site.program("annotator")


def annotated(
    record: int, label: str | None = "negative", number: int = 1, minute: int = 0, user: Any = 7, **more: Any
) -> dict[str, Any]:
    """A message of Label Studio about an annotation that was made or changed."""
    choices = {
        "from_name": "sentiment",
        "to_name": "text",
        "type": "choices",
        "value": {"choices": [label]},
    }
    return {
        "action": "ANNOTATION_CREATED",
        "project": PROJECT,
        "task": {"id": 100 + number, "data": {"record": str(record), "text": "Fine."}, "project": 3},
        "annotation": {
            "id": number,
            "result": [] if label is None else [choices],
            "completed_by": user,
            "created_at": T0.isoformat(),
            "updated_at": (T0 + timedelta(minutes=minute)).isoformat(),
            "was_cancelled": False,
            "lead_time": 3.2,
            **more,
        },
    }


def deleted(*numbers: int) -> dict[str, Any]:
    """A message that annotations were deleted: it has their numbers alone."""
    return {
        "action": "ANNOTATIONS_DELETED",
        "project": PROJECT,
        "annotations": [{"id": number} for number in numbers],
    }


def tell(client: TestClient, message: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(f"{PATH}/webhook", json=message)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_an_annotation_is_an_answer_with_its_annotator_and_time_and_closes_the_item(
    site: Site, studio: TestClient
) -> None:
    (record,) = queue_reviews(site.admin, 1)
    assert tell(studio, annotated(record)) == {"stored": 1, "known": 0, "ignored": []}
    assert answers(site.admin) == [(record, "negative", "label-studio:7", "label-studio")]
    assert rows(site.admin, "SELECT labelled_at FROM label") == [(T0,)]
    assert states(site.admin) == ["done"]


def test_messages_that_come_twice_or_late_change_nothing(site: Site, studio: TestClient) -> None:
    (record,) = queue_reviews(site.admin, 1)
    first, second = annotated(record), annotated(record, "positive", minute=5)
    for message in (first, first, second, first, second):
        tell(studio, message)
    assert [row[1] for row in answers(site.admin)] == ["negative", "positive"]
    assert tell(studio, first) == {"stored": 0, "known": 1, "ignored": []}


def test_a_deleted_annotation_is_taken_back_and_its_item_asked_again(site: Site, studio: TestClient) -> None:
    (record,) = queue_reviews(site.admin, 1)
    tell(studio, annotated(record))
    assert tell(studio, deleted(1))["stored"] == 1
    assert tell(studio, deleted(1))["known"] == 1
    assert [row[1:] for row in answers(site.admin)] == [
        ("negative", "label-studio:7", "label-studio"),
        (None, "label-studio:7", "undo"),
    ]
    assert states(site.admin) == ["open"]
    assert LabelStore(site.admin).consensus("sentiment", [record]) == {}
    late = tell(studio, annotated(record, "positive", minute=9))
    assert late["known"] == 1, "a deleted annotation does not come back"
    assert len(answers(site.admin)) == 2


def test_a_deletion_that_comes_before_its_annotation_holds(site: Site, studio: TestClient) -> None:
    (record,) = queue_reviews(site.admin, 1)
    tell(studio, deleted(1))
    tell(studio, annotated(record))
    assert answers(site.admin) == []


def test_a_deletion_takes_back_no_answer_that_was_given_elsewhere_since(
    site: Site, studio: TestClient
) -> None:
    (record,) = queue_reviews(site.admin, 1)
    tell(studio, annotated(record, user={"id": 7, "email": "ann@example.org"}))
    LabelStore(site.admin).add(
        [Label(record, "sentiment", "neutral", "ann@example.org", "console", T0 + HOUR)]
    )
    tell(studio, deleted(1))
    assert LabelStore(site.admin).consensus("sentiment", [record]) == {record: "neutral"}


def test_of_two_annotations_of_one_person_the_other_counts_again(site: Site, studio: TestClient) -> None:
    (record,) = queue_reviews(site.admin, 1)
    tell(studio, annotated(record, "negative", number=1))
    tell(studio, annotated(record, "positive", number=2, minute=1))
    tell(studio, deleted(2))
    assert LabelStore(site.admin).consensus("sentiment", [record]) == {record: "negative"}
    tell(studio, deleted(1))
    assert LabelStore(site.admin).consensus("sentiment", [record]) == {}


def test_a_skip_in_label_studio_is_a_skip_and_takes_an_earlier_answer_back(
    site: Site, studio: TestClient
) -> None:
    (record,) = queue_reviews(site.admin, 1)
    tell(studio, annotated(record))
    tell(studio, annotated(record, minute=1, was_cancelled=True))
    assert [row[1] for row in answers(site.admin)] == ["negative", None]
    assert rows(site.admin, "SELECT annotator FROM label_skip") == [("label-studio:7",)]


def test_annotations_of_an_import_come_together(site: Site, studio: TestClient) -> None:
    records = queue_reviews(site.admin, 2)
    one, two = (annotated(record, number=number) for number, record in enumerate(records, start=1))
    for message in (one, two):
        message["annotation"]["task"] = message["task"]["id"]
    together = {
        "action": "ANNOTATIONS_CREATED",
        "project": PROJECT,
        "annotation": [two["annotation"], one["annotation"]],
        "task": [one["task"], two["task"]],
    }
    assert tell(studio, together)["stored"] == 2
    assert [row[0] for row in answers(site.admin)] == [records[1], records[0]]


def test_unsure_is_an_answer(site: Site, studio: TestClient) -> None:
    (record,) = queue_reviews(site.admin, 1)
    tell(studio, annotated(record, "unsure"))
    assert answers(site.admin) == [(record, None, "label-studio:7", "label-studio")]


def test_a_time_in_the_future_counts_as_now(site: Site, studio: TestClient) -> None:
    (record,) = queue_reviews(site.admin, 1)
    tell(studio, annotated(record, minute=60 * 24 * 365 * 50))
    assert rows(site.admin, "SELECT labelled_at <= clock_timestamp() FROM label") == [(True,)]


def test_the_annotators_name_is_the_one_that_label_studio_says(make_site: Callable[..., Site]) -> None:
    site = make_site()
    object.__setattr__(site.parts, "annotator_of", {7: "ann@example.org"}.__getitem__)
    (record,) = queue_reviews(site.admin, 1)
    tell(site.program("annotator"), annotated(record))
    assert answers(site.admin) == [(record, "negative", "ann@example.org", "label-studio")]


def test_while_the_name_cannot_be_asked_for_nothing_is_stored(make_site: Callable[..., Site]) -> None:
    def away(number: int) -> str:
        raise Unavailable("Label Studio does not answer.")

    site = make_site()
    object.__setattr__(site.parts, "annotator_of", away)
    (record,) = queue_reviews(site.admin, 1)
    client = site.program("annotator")
    assert client.post(f"{PATH}/webhook", json=annotated(record)).status_code == 503
    object.__setattr__(site.parts, "annotator_of", None)
    assert tell(client, annotated(record))["stored"] == 1, "the same message can come again"


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"record": 99}, "name no stored review"),
        ({"label": "no such label"}, "none of its task's"),
        ({"user": None}, "does not say who made it"),
        ({"updated_at": "yesterday"}, "updated_at"),
        ({"updated_at": "2026-01-01T00:00:00"}, "updated_at"),
        ({"result": [{"type": "choices", "from_name": "sentiment", "value": {}}]}, "0 choices"),
        ({"result": "text"}, "result"),
        ({"id": 2**64}, "id"),
    ],
)
def test_what_is_no_answer_is_ignored_with_its_reason(
    site: Site, studio: TestClient, broken: dict[str, Any], why: str
) -> None:
    (record,) = queue_reviews(site.admin, 1)
    (reason,) = tell(studio, annotated(**{"record": record, **broken}))["ignored"]
    assert why in reason
    assert answers(site.admin) == []


@pytest.mark.parametrize(
    "message",
    [
        {"action": "ANNOTATION_CREATED"},
        {"action": "ANNOTATION_CREATED", "project": {"id": 1}},
        {"action": "ANNOTATIONS_DELETED", "project": PROJECT, "annotations": [{"id": "x"}]},
        {"action": "ANNOTATIONS_DELETED", "project": PROJECT, "annotations": 5},
        {"action": "START_TRAINING", "project": PROJECT},
        {**annotated(1), "project": {**PROJECT, "label_config": "<View/>"}},
        {**annotated(1), "project": {**PROJECT, "label_config": "<View"}},
        {**annotated(1), "project": {**PROJECT, "label_config": '<!DOCTYPE a [<!ENTITY b "c">]><View/>'}},
        {**annotated(1), "task": None},
        {**annotated(1), "annotation": [[]]},
    ],
)
def test_other_messages_are_ignored_with_a_reason(studio: TestClient, message: dict[str, Any]) -> None:
    assert len(tell(studio, message)["ignored"]) == 1


def test_a_task_without_a_record_is_found_by_the_reviews_id(site: Site, studio: TestClient) -> None:
    (record,) = store_reviews(site.admin, ["Fine."], ["r 1"])
    message = annotated(0)
    message["task"]["data"] = {"review_id": "r 1", "text": "Fine."}
    assert tell(studio, message)["stored"] == 1
    assert [row[0] for row in answers(site.admin)] == [record]


def test_the_token_may_be_the_password_of_basic_authentication_here_and_nowhere_else(site: Site) -> None:
    secret = TokenStore(site.admin).add("studio", site.user("owner"), "annotator", HOUR)
    client = site.client()
    client.headers["authorization"] = f"Basic {b64encode(f'label-studio:{secret}'.encode()).decode()}"
    assert client.get(f"{PATH}/health").json()["status"] == "UP"
    assert client.get("/api/v1/me").status_code == 401
    for wrong in ("Basic x", "Basic !!!", f"Basic {b64encode(b'label-studio:rlt_x').decode()}", "Basic "):
        assert client.get(f"{PATH}/health", headers={"authorization": wrong}).status_code == 401


def test_a_persons_session_writes_no_answers_in_the_names_of_others(site: Site) -> None:
    (record,) = queue_reviews(site.admin, 1)
    answer = site.client("owner").post(f"{PATH}/webhook", json=annotated(record))
    assert answer.status_code == 403
    assert answers(site.admin) == []


def test_a_project_is_set_up_if_its_configuration_asks_for_a_task_with_its_labels(
    site: Site, studio: TestClient
) -> None:
    store_reviews(site.admin, ["Fine."])

    def set_up(config: str) -> Any:
        return studio.post(
            f"{PATH}/setup",
            json={"project": "3.1", "schema": config, "hostname": "http://evil.example", "access_token": "x"},
        )

    assert set_up(CONFIG).json() == {"model_version": VERSION}
    assert set_up(to_config("another name", list(LABELS))).status_code == 200, "the only tag"
    for config, why in (
        ("<View></View>", "No Choices tag"),
        (to_config("sentiment", ["negative", "positive"]), "lacks neutral"),
        ("no xml", "not XML"),
    ):
        answer = set_up(config)
        assert answer.status_code == 422
        assert why in answer.json()["detail"]


def test_before_an_adapter_is_active_the_setup_says_so(studio: TestClient) -> None:
    answer = studio.post(f"{PATH}/setup", json={"schema": CONFIG})
    assert answer.status_code == 422
    assert "No adapter is active" in answer.json()["detail"]


def predict(client: TestClient, *data: dict[str, Any]) -> Any:
    tasks = [{"id": number, "data": one} for number, one in enumerate(data)]
    return client.post(f"{PATH}/predict", json={"tasks": tasks, "label_config": CONFIG, "params": {}})


def test_a_prediction_is_what_the_worker_stored_and_the_audit_slice_has_none(
    site: Site, studio: TestClient
) -> None:
    ids = [f"r-{number}" for number in range(200)]
    in_audit = [one for one in ids if slice_of(one, SliceShares()) == "audit"]
    chosen = [next(one for one in ids if one not in in_audit), in_audit[0]]
    records = store_reviews(site.admin, ["Fine.", "Bad."], chosen)
    data = [
        {"record": str(record), "review_id": one, "text": "Fine."}
        for record, one in zip(records, chosen, strict=True)
    ]
    told = predict(studio, *data).json()
    assert told["model_version"] == VERSION
    shown, hidden = told["results"]
    assert hidden == [], "people who see the guess tend to agree with it"
    (prediction,) = shown
    assert prediction["model_version"] == VERSION
    assert prediction["score"] == pytest.approx(0.61)
    assert prediction["result"] == [
        {"from_name": "sentiment", "to_name": "text", "type": "choices", "value": {"choices": ["positive"]}}
    ]


def test_predictions_can_be_switched_off(make_site: Callable[..., Site]) -> None:
    site = make_site()
    (record,) = store_reviews(site.admin, ["Fine."])
    off = site.parts.label_studio.model_copy(update={"predictions": False})
    object.__setattr__(site.parts, "label_studio", off)
    told = predict(site.program("annotator"), {"record": str(record), "text": "Fine."}).json()
    assert told["results"] == [[]]


def test_too_many_tasks_and_too_large_bodies_are_refused(site: Site, studio: TestClient) -> None:
    store_reviews(site.admin, ["Fine."])
    assert predict(studio, *[{"text": "x"}] * 1_001).status_code == 422
    assert predict(studio, {"text": "x" * 3_000_000}).status_code == 413


def test_the_annotations_of_another_installation_are_others(site: Site, studio: TestClient) -> None:
    (record,) = queue_reviews(site.admin, 1, wanted_answers=3)
    elsewhere = {
        **annotated(record, "positive", user=8),
        "project": {**PROJECT, "created_at": "2025-01-01T00:00:00Z"},
    }
    tell(studio, annotated(record))
    assert tell(studio, elsewhere)["stored"] == 1
    tell(studio, deleted(1))
    assert LabelStore(site.admin).consensus("sentiment", [record]) == {record: "positive"}
