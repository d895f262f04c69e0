"""Try it: a text, and what the serving adapter makes of it; it can be published as a review."""

import json
import secrets
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import Response

from broker.publisher import OutgoingRecord, publish
from console.access import Operator, Parts, Viewer, log_of
from console.parts import ConsoleParts
from console.rendering import fragment, page
from console.scorer import ConsoleScorer, ScorerState
from reviews.errors import ModelError, Unavailable, WrongUse
from reviews.message import parse_review

router = APIRouter()

LONGEST_TEXT = 10_000
_LONGEST_TASK = 256
_SOURCE = "console"

TriedText = Annotated[str, Form(max_length=LONGEST_TEXT)]
TaskName = Annotated[str, Form(max_length=_LONGEST_TASK)]


@router.get("/try")
def show_try_it(request: Request, parts: Parts, _who: Viewer) -> Response:
    """The form; asking for it begins to load the adapter."""
    return page(request, "try_it.html", _values(parts, parts.tasks[0]))


@router.get("/try/state")
def show_state(request: Request, parts: Parts, _who: Viewer, task: str = "") -> Response:
    """How far the adapter is."""
    return fragment(request, "try_it_state.html", _values(parts, task or parts.tasks[0]))


@router.post("/try")
def try_text(
    request: Request, parts: Parts, _who: Viewer, text: TriedText = "", task: TaskName = ""
) -> Response:
    """What the serving adapter says of a text, and which tokens it read."""
    task = task or parts.tasks[0]
    values = _values(parts, task) | {"text": text}
    try:
        values |= _answer(scorer_of(parts), task, text)
    except Unavailable as err:
        return page(request, "try_it.html", values | {"error": str(err)}, status=503)
    except (ModelError, WrongUse) as err:
        return page(request, "try_it.html", values | {"error": str(err)}, status=422)
    return page(request, "try_it.html", values)


@router.post("/try/publish")
def publish_text(
    request: Request,
    parts: Parts,
    who: Operator,
    *,
    text: TriedText = "",
    product: Annotated[str, Form(max_length=512)] = "",
    task: TaskName = "",
) -> Response:
    """Publish a text as a review, through a topic that reviews come from."""
    review_id = f"console-{secrets.token_hex(8)}"
    message = {"id": review_id, "text": text, "source": _SOURCE} | ({"product": product} if product else {})
    value = json.dumps(message, ensure_ascii=False).encode(errors="replace")
    parse_review(value, parts.max_message_bytes)
    topic = publishing_topic(parts)
    if topic is None:
        raise WrongUse(
            "Workers read no topic in the message format of reviews, so nothing can be published from here."
        )
    with log_of(parts).decision(who.name, "review.publish", review_id, address=who.address):
        publish(parts.kafka, topic, [OutgoingRecord(review_id.encode(), value)])
    values = _values(parts, task or parts.tasks[0]) | {"text": text, "published": review_id, "topic": topic}
    return page(request, "try_it.html", values)


def publishing_topic(parts: ConsoleParts) -> str | None:
    """The topic for a review in the message format of reviews; None where every topic has another one.

    It is ``kafka.reviews_topic`` where workers read that so, else the first source that names one.
    """
    read = [one for one in (parts.kafka.reviews_topic, *parts.topics.names) if parts.topics.includes(one)]
    return next((one for one in read if parts.mappings.of(one) is None), None)


def scorer_of(parts: ConsoleParts) -> ConsoleScorer:
    """The scorer of the console.

    Raises:
        WrongUse: If trying texts is switched off.
    """
    if parts.scorer is None:
        raise WrongUse("Trying texts is switched off here (console.try_it).")
    return parts.scorer


def _answer(scorer: ConsoleScorer, task: str, text: str) -> dict[str, object]:
    if not text.strip():
        raise WrongUse("Write a text first.")
    classifier, prediction = scorer.predict(task, [text])
    shares = zip(classifier.labels, prediction[0].probabilities, strict=True)
    return {
        "prediction": prediction[0],
        "shares": sorted(shares, key=lambda pair: -pair[1]),
        "rows": classifier.tokeniser.tokens(text),
        "longest": classifier.tokeniser.max_length_tokens,
    }


def _values(parts: ConsoleParts, task: str) -> dict[str, object]:
    """What the page shows beside an answer; asking for it begins to load the adapter."""
    if task not in parts.tasks:
        raise WrongUse(f"There is no task '{task}'; there are: {', '.join(parts.tasks)}.")
    return {
        "task": task,
        "tasks": parts.tasks,
        "is_on": parts.scorer is not None,
        "state": parts.scorer.state(task) if parts.scorer else ScorerState(None),
        "text": "",
        "error": "",
        "prediction": None,
        "published": "",
        "topic": publishing_topic(parts),
        "read_topics": str(parts.topics),
        "longest_text": LONGEST_TEXT,
    }
