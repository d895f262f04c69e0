"""Labelling over HTTP: what the page and programs send, and what they see before and after an answer."""

from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from storage.labels.store import LabelStore
from tests.integration.console.conftest import Site
from tests.integration.queued_reviews import (
    LABELS,
    answers,
    queue_reviews,
    rows,
    states,
    store_reviews,
)


def lease(client: TestClient, most: int = 1, **more: Any) -> list[dict[str, Any]]:
    answer = client.post("/api/v1/queue/leases", json={"most": most, **more})
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def action(item: dict[str, Any], label: str | None = "negative", **more: Any) -> dict[str, Any]:
    made = {"id": str(uuid4()), "record": item["record"], "token": item["token"], "label": label}
    return {**made, "seconds": 1.5, **more}


def undo_of(done: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": str(uuid4()), "kind": "undo", "record": done["record"], "undoes": done["id"], **more}


def send(client: TestClient, *actions: dict[str, Any]) -> list[dict[str, Any]]:
    answer = client.post("/api/v1/labels", json={"actions": list(actions)})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def test_what_the_model_and_others_say_is_nowhere_before_the_own_answer_and_there_after_it(
    site: Site,
) -> None:
    queue_reviews(site.admin, 1, wanted_answers=2)
    bob, ann = site.client("annotator", "bob"), site.client("annotator", "ann")
    send(bob, action(lease(bob)[0], "neutral"))
    seen = [
        ann.get("/label").text,
        ann.post("/api/v1/queue/leases", json={}).text,
        ann.get("/api/v1/queue").text,
        ann.get("/api/v1/labels/progress").text,
        ann.get("/api/v1/labels/similar", params={"record": 1 << 40}).text,
    ]
    for hidden in ("0.61", "bob", '"guess":{', "sentiment-0123456789ab"):
        assert [text for text in seen if hidden in text] == [], hidden
    (held,) = site.sql("SELECT record, lease_token AS token FROM label_task")
    (told,) = send(ann, action(held._asdict(), "negative"))
    assert told["state"] == "done"
    assert told["guess"]["label"] == "positive"
    assert told["guess"]["confidence"] == pytest.approx(0.61)
    assert told["others"] == [{"annotator": "bob", "label": "neutral"}]


def test_a_request_that_is_sent_again_stores_nothing_again_and_tells_the_same(site: Site) -> None:
    queue_reviews(site.admin, 3)
    client = site.client("annotator", "ann")
    first, second, third = lease(client, 3)
    sent = [action(first), action(second, kind="skip", label=None), action(third, None)]
    before = send(client, *sent)
    again = send(client, *sent)
    assert [one["state"] for one in before] == ["done"] * 3
    assert [one["state"] for one in again] == ["known"] * 3
    assert [one["guess"] for one in again] == [one["guess"] for one in before]
    assert answers(site.admin) == [
        (first["record"], "negative", "ann", "console"), (third["record"], None, "ann", "console"),
    ]  # fmt: skip
    assert states(site.admin) == ["done", "open", "done"]


def test_an_undo_brings_the_item_back_also_when_it_is_sent_again(site: Site) -> None:
    queue_reviews(site.admin, 1)
    client = site.client("annotator", "ann")
    answer = action(lease(client)[0])
    send(client, answer)
    undo = undo_of(answer)
    (first,), (again,) = send(client, undo), send(client, undo)
    assert (first["state"], again["state"]) == ("done", "known")
    assert first["item"] == again["item"]
    assert first["item"]["text"] == "Text number 0."
    assert first["guess"] is None
    send(client, action(first["item"], "positive"))
    assert [row[1] for row in answers(site.admin)] == ["negative", None, "positive"]
    (nothing,) = send(client, undo_of(answer, undoes=None))
    assert nothing["state"] == "done"  # the answer that was given anew
    (refused,) = send(client, undo_of(answer, undoes=None))
    assert refused["state"] == "refused"
    assert "no answer" in refused["detail"]


def test_an_undo_while_somebody_else_has_the_item_takes_the_answer_back_all_the_same(site: Site) -> None:
    queue_reviews(site.admin, 1, wanted_answers=2)
    ann, bob = site.client("annotator", "ann"), site.client("annotator", "bob")
    answer = action(lease(ann)[0])
    send(ann, answer)
    assert lease(bob)
    (result,) = send(ann, undo_of(answer))
    assert (result["state"], result["item"]) == ("done", None)
    assert [row[1] for row in answers(site.admin)] == ["negative", None]
    assert rows(site.admin, "SELECT holder FROM label_task") == [("bob",)]


def test_what_cannot_be_done_is_refused_and_the_rest_is_done(site: Site) -> None:
    queue_reviews(site.admin, 1)
    client = site.client("annotator", "ann")
    (item,) = lease(client)
    results = send(client, action(item, "no such label"), action({"record": 99, "token": 0}), action(item))
    assert [one["state"] for one in results] == ["refused", "refused", "done"]
    assert "none of its task's" in results[0]["detail"]
    assert "No review is stored" in results[1]["detail"]
    assert len(answers(site.admin)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"actions": [{"id": "no uuid", "record": 1}]},
        {"actions": [{"id": str(uuid4()), "record": 2**70}]},
        {"actions": [{"id": str(uuid4()), "record": 1, "seconds": -1}]},
        {"actions": [{"id": str(uuid4()), "record": 1, "kind": "delete"}]},
        {"actions": [{"id": str(uuid4()), "record": 1, "annotator": "somebody else"}]},
        {"actions": [{"id": str(uuid4()), "record": 1}] * 51},
        {},
    ],
)
def test_requests_out_of_bounds_are_refused_whole(site: Site, wrong: dict[str, Any]) -> None:
    answer = site.client("annotator").post("/api/v1/labels", json=wrong)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answers(site.admin) == []


def test_two_annotators_never_get_one_item_until_it_is_given_back(site: Site) -> None:
    records = queue_reviews(site.admin, 6)
    ann, bob = site.client("annotator", "ann"), site.client("annotator", "bob")
    ours, theirs = lease(ann, 4), lease(bob, 4)
    assert [item["record"] for item in ours + theirs] == records
    held = [{"record": item["record"], "token": item["token"]} for item in ours]
    assert ann.post("/api/v1/queue/leases/renew", json={"leases": held}).json() == {"records": records[:4]}
    assert bob.post("/api/v1/queue/leases/renew", json={"leases": held}).json() == {"records": []}
    assert ann.post("/api/v1/queue/leases/return", json={"leases": held}).status_code == 204
    assert [item["record"] for item in lease(bob, 8)] == records[:4]


def test_an_answer_after_the_lease_is_stored_and_the_annotator_is_told(site: Site) -> None:
    queue_reviews(site.admin, 1)
    client = site.client("annotator", "ann")
    (item,) = lease(client)
    site.sql("UPDATE label_task SET lease_expires_at = now() - interval '1 second'")
    (result,) = send(client, action(item))
    assert "longer than the lease" in result["detail"]
    assert len(answers(site.admin)) == 1


def test_progress_says_what_was_done_what_is_left_and_what_can_be_taken_back(site: Site) -> None:
    queue_reviews(site.admin, 4)
    client = site.client("annotator", "ann")
    first, second = lease(client, 2)
    sent = [action(first), action(second, kind="skip", label=None)]
    send(client, *sent)
    found = client.get("/api/v1/labels/progress").json()
    assert (found["today"], found["left"], found["repeated"], found["same"]) == (1, 2, 0, 0)
    assert [(one["id"], one["kind"]) for one in found["done"]] == [
        (sent[0]["id"], "answer"), (sent[1]["id"], "skip"),
    ]  # fmt: skip
    assert site.client("annotator", "bob").get("/api/v1/labels/progress").json()["done"] == []


def test_what_is_lacking_counts_the_held_out_reviews_that_people_agree_on(site: Site) -> None:
    store_reviews(site.admin, [f"t{number}" for number in range(60)])
    client = site.client("annotator", "ann")
    (need,) = client.get("/api/v1/labels/needs").json()
    assert need == {"purpose": "to judge by", "more": 10, "classes": dict.fromkeys(LABELS, 2)}


def test_disagreements_are_for_operators_who_decide_them(site: Site) -> None:
    (record,) = store_reviews(site.admin, ["Tied."], ids=["a"])
    for name, label in (("ann", "negative"), ("bob", "positive")):
        LabelStore(site.admin).answer("a", "sentiment", label, name)
    refused = site.client("annotator").post("/api/v1/queue/leases", json={"queue": "ties"})
    assert refused.status_code == 403
    operator = site.client("operator", "olga")
    (item,) = lease(operator, queue="ties")
    assert item["why"] == "Annotators do not agree about it."
    (told,) = send(operator, action(item, "positive"))
    assert told["others"] == [
        {"annotator": "ann", "label": "negative"}, {"annotator": "bob", "label": "positive"},
    ]  # fmt: skip
    assert LabelStore(site.admin).consensus("sentiment", [record]) == {record: "positive"}
    assert lease(operator, queue="ties") == []


def test_words_speak_for_labels_and_the_queue_lists_what_comes_next(site: Site) -> None:
    queue_reviews(site.admin, 2)
    client = site.client("viewer")
    assert client.get("/api/v1/labels/words").status_code == 403
    assert site.client("annotator").get("/api/v1/labels/words").json() == {"positive": []}
    state = client.get("/api/v1/queue", params={"limit": 1}).json()
    assert state["counts"] == [{"reason": "uncertain", "state": "open", "items": 2, "leased": 0}]
    assert [one["text"] for one in state["top"]] == ["Text number 0."]


def test_a_program_labels_under_the_name_of_its_token(site: Site) -> None:
    queue_reviews(site.admin, 1)
    program = site.program("annotator")
    send(program, action(lease(program)[0]))
    ((_, label, annotator, source),) = answers(site.admin)
    assert (label, source) == ("negative", "console")
    assert annotator.startswith("token ")


def test_seconds_are_kept_with_the_answer_and_no_answer_has_more_than_ten_minutes(site: Site) -> None:
    queue_reviews(site.admin, 3)
    ann = site.client("annotator", "ann")
    took = [2.0, 4.0, 3_000.0]
    for seconds in took:
        send(ann, action(lease(ann)[0], seconds=seconds))
    kept = [row.seconds for row in site.sql("SELECT seconds FROM label ORDER BY id")]
    assert kept == [2.0, 4.0, 600.0]
    assert ann.get("/api/v1/labels/progress").json()["median_seconds"] == 4.0
    shown = site.client("operator").get("/label/answers").text
    assert "<bdi>ann</bdi>" in shown
    assert "4.0" in shown
    assert ann.get("/label/answers").status_code == 403


def test_a_program_brings_the_answers_of_a_model_which_are_nobodys(site: Site) -> None:
    queue_reviews(site.admin, 2)
    moment = "2026-03-01T12:00:00Z"
    records = [row.record for row in site.sql("SELECT record FROM label_task ORDER BY record")]
    said = [
        {"record": records[0], "label": "negative", "labelled_at": moment, "seconds": 0.5},
        {"review_id": "not-there-yet", "label": "neutral"},
        {"record": records[1], "label": "great"},
        {"label": "neutral"},
        {"record": records[1], "label": None, "labelled_at": "2999-01-01T00:00:00Z"},
    ]
    body = {"model": "gpt", "answers": said}
    assert site.program("annotator").post("/api/v1/labels/of-models", json=body).status_code == 403
    told = site.program("operator").post("/api/v1/labels/of-models", json=body).json()
    assert (told["annotator"], told["added"], told["waiting"], told["known"]) == ("model:gpt", 1, 1, 0)
    assert [one["number"] for one in told["refused"]] == [2, 3, 4]
    again = site.client("operator").post(
        "/api/v1/labels/of-models", json={"model": "gpt", "answers": said[:1]}
    )
    assert (again.json()["added"], again.json()["known"]) == (0, 1)
    assert site.sql("SELECT DISTINCT state FROM label_task") == [("open",)]
    assert site.sql("SELECT record FROM label_consensus") == []
    ann = site.client("annotator", "ann")
    send(ann, action(lease(ann)[0]))
    shown = site.client("operator").get("/label/answers").text
    assert "<bdi>model:gpt</bdi>" in shown
    assert "100" in shown
    for name in (" ", "\u2800"):
        answer = site.client("operator").post("/api/v1/labels/of-models", json={"model": name, "answers": []})
        assert answer.status_code == 422


def test_an_unknown_task_is_named(site: Site) -> None:
    answer = site.client("annotator").get("/api/v1/labels/progress", params={"task": "tone"})
    assert answer.status_code == 404
    assert "'tone'" in answer.json()["detail"]


def test_owners_write_guidelines_that_annotators_read_and_the_slower_author_loses_no_word(site: Site) -> None:
    queue_reviews(site.admin, 1)
    owner, address = site.client("owner"), "/label/guidelines"
    first = {"markdown": "# Irony\n\n<script>alert(1)</script> [x](javascript:alert(1))", "replaces": "0"}
    assert owner.post(address, data=first).status_code == 303
    page = site.client("annotator").get("/label").text
    assert "<h3>Irony</h3>" in page
    assert "<script>alert" not in page
    assert 'href="javascript' not in page
    slower = owner.post(address, data={"markdown": "My <textarea> & words", "replaces": "0"})
    assert slower.status_code == 409
    assert "My &lt;textarea> &amp; words</textarea>" in slower.text
    assert "Somebody else changed the guidelines" in slower.text
    assert owner.post(address, data={"markdown": " ", "replaces": "1"}).status_code == 422
    assert site.client("annotator").get(address).status_code == 403
    ((actor, subject, outcome),) = site.sql(
        "SELECT actor, subject, outcome FROM audit_log WHERE action = 'guidelines.write' AND outcome = 'done'"
    )
    assert (actor, subject, outcome) == ("owner of the tests", "sentiment", "done")


def test_a_hostile_review_and_a_hostile_label_run_nothing(site: Site) -> None:
    hostile = '</script><script>alert(1)</script>\x1b[31m\u202e"onload='
    queue_reviews(site.admin, 1)
    site.sql("UPDATE review SET text = :text, product = :text", text=hostile)
    site.sql("UPDATE adapter SET labels = ARRAY['</script><script>alert(2)</script>', '\"x', 'positive']")
    client = site.client("annotator")
    page = client.get("/label").text
    assert "<script>alert" not in page
    (item,) = lease(client)
    assert "\x1b" not in item["text"]
    assert "\u202e" not in item["text"]


def test_without_an_active_adapter_the_page_says_what_to_do(site: Site) -> None:
    answer = site.client("annotator").get("/label")
    assert answer.status_code == 200
    assert "has no active adapter" in answer.text
