"""The page on which annotators label, and the guidelines that its owner edits."""

import json
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import Response

from console.access import Actor, Annotator, Operator, Owner, Parts, log_of
from console.api.annotator_help import MOST_LEFT
from console.api.labelling import LEASE_SECONDS, LONGEST_NAME, task_of
from console.guidelines import LONGEST_CHARACTERS, check_guidelines, to_html
from console.labelling import HELP, PAGE_KEYS, Choices, Command, labels_of, make_choices
from console.parts import ConsoleParts
from console.rendering import done, page
from reviews.account import Role
from reviews.errors import WrongUse
from storage.labels.guidelines import Guideline, GuidelineChanged, GuidelineStore
from storage.labels.models import model_agreement
from storage.labels.time_spent import NEWEST_ANSWERS, time_spent

router = APIRouter()

Task = Annotated[str | None, Query(max_length=LONGEST_NAME)]
_NOTHING = {
    "all": "Nothing is left for you to label. New reviews appear here by themselves.",
    "ties": "Annotators disagree on nothing that you could decide.",
}
# Those that the page has: it is left by its navigation.
_COMMANDS = (Command.unsure, Command.skip, Command.undo, Command.more, Command.guidelines)


class _Html:
    """Text that is HTML already, or JSON between tags."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __html__(self) -> str:
        return self._text


@router.get("/label")
def show_label_page(
    request: Request, parts: Parts, who: Annotator, task: Task = None, queue: Literal["all", "ties"] = "all"
) -> Response:
    """The page; its script leases reviews and sends answers by ``/api/v1``."""
    wanted = task_of(parts, task)
    values: dict[str, Any] = {"task": wanted, "labels": [], "key_help": [], "config": None, "problem": ""}
    try:
        choices = make_choices(labels_of(parts.database, wanted))
    except WrongUse as err:
        values["problem"] = str(err)
    else:
        values |= _of_choices(choices) | {"config": _config(choices, who, wanted, queue)}
    guideline = GuidelineStore(parts.database).current(wanted)
    address = _address(wanted, queue)
    values |= {
        "guideline": guideline,
        "guidelines": _prose(guideline),
        "editor": f"/label/guidelines?{urlencode({'task': wanted})}",
        "log_in": f"/log-in?{urlencode({'next': address})}",
        "views": _views(parts, who, wanted),
        "here_view": address,
    }
    return page(request, "label.html", values)


@router.get("/label/answers")
def show_answers(request: Request, parts: Parts, who: Operator, task: Task = None) -> Response:
    """What people's answers took, and how models compare with people."""
    wanted = task_of(parts, task)
    values = {
        "task": wanted,
        "people": time_spent(parts.database, wanted),
        "models": model_agreement(parts.database, wanted),
        "newest": NEWEST_ANSWERS,
        "views": _views(parts, who, wanted),
        "here_view": _answers_of(wanted),
    }
    return page(request, "label_answers.html", values)


@router.get("/label/guidelines")
def show_guidelines(request: Request, parts: Parts, _who: Owner, task: Task = None) -> Response:
    """The guidelines of a task, to be edited, with their versions."""
    return _editor(request, parts, task_of(parts, task))


@router.post("/label/guidelines")
def write_guidelines(
    request: Request,
    parts: Parts,
    who: Owner,
    *,
    markdown: Annotated[str, Form(max_length=4 * LONGEST_CHARACTERS)],
    replaces: Annotated[int, Form(ge=0, le=2**31 - 2)],
    task: Task = None,
) -> Response:
    """Store a new version; where somebody was faster, both are shown and nothing is lost."""
    wanted = task_of(parts, task)
    try:
        text = check_guidelines(markdown)
        with log_of(parts).decision(who.name, "guidelines.write", wanted, address=who.address):
            GuidelineStore(parts.database).write(wanted, text, who.name, replaces=replaces)
    except (GuidelineChanged, WrongUse) as err:
        status = 409 if isinstance(err, GuidelineChanged) else 422
        return _editor(request, parts, wanted, markdown, str(err), status)
    return done(_address(wanted, "all"), f"The guidelines are version {replaces + 1} now.")


def _editor(  # noqa: PLR0917  the last three belong to a refused edit
    request: Request,
    parts: ConsoleParts,
    task: str,
    markdown: str = "",
    conflict: str = "",
    status: int = 200,
) -> Response:
    store = GuidelineStore(parts.database)
    history = store.history(task)
    current = history[0] if history else None
    values = {
        "task": task,
        "version": current.version if current else 0,
        "markdown": _Html(_escaped(markdown or (current.text if current else ""))),
        "guidelines": _prose(current),
        "history": history,
        "conflict": conflict,
        "longest": LONGEST_CHARACTERS,
        "action": f"/label/guidelines?{urlencode({'task': task})}",
        "back": _address(task, "all"),
    }
    return page(request, "guidelines.html", values, status=status)


def _escaped(text: str) -> str:
    """Text as it is, for an input: what is edited must not be shortened or changed."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _prose(guideline: Guideline | None) -> _Html:
    nothing = "<p>This task has no guidelines yet.</p>"
    return _Html(to_html(guideline.text) if guideline else nothing)


def _views(parts: ConsoleParts, who: Actor, task: str) -> list[tuple[str, str]]:
    """The tasks, and for those who decide ties, the disagreements of this one."""
    views = [
        (f"Queue of {one}" if len(parts.tasks) > 1 else "Queue", _address(one, "all")) for one in parts.tasks
    ]
    if who.role.covers(Role.OPERATOR):
        views.append(("Disagreements", _address(task, "ties")))
        views.append(("Answers", _answers_of(task)))
    return views


def _answers_of(task: str) -> str:
    return f"/label/answers?{urlencode({'task': task})}"


def _address(task: str, queue: str) -> str:
    return "/label?" + urlencode({"task": task} | ({"queue": queue} if queue != "all" else {}))


def _of_choices(choices: Choices) -> dict[str, Any]:
    return {
        "labels": [(label, choices.keys[label]) for label in choices.labels],
        "key_help": [((one.value,), f"{one.name.capitalize()}: {HELP[one]}") for one in _COMMANDS]
        + [((key,), meaning.capitalize()) for key, meaning in PAGE_KEYS.items()],
    }


def _config(choices: Choices, who: Actor, task: str, queue: str) -> _Html:
    """What the script has to know, as JSON that ends no element."""
    config = {
        "task": task,
        "annotator": who.name,
        "queue": queue,
        "labels": [{"label": label, "keys": choices.keys[label]} for label in choices.labels],
        "commands": {one.name: one.value for one in _COMMANDS} | {"highlight": "h", "similar": "l"},
        "leaseSeconds": LEASE_SECONDS,
        "mostLeft": MOST_LEFT,
        "nothing": _NOTHING[queue],
    }
    return _Html(json.dumps(config).replace("<", "\\u003c"))
